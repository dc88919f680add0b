#include "net/stream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/stream_impl.h"

static void start_receive(struct stream *stream);
static void start_send(struct stream *stream);

static uint32_t length_get(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void length_put(uint8_t *bytes, uint32_t length)
{
	for (int i = 0; i < STREAM_HEADER_BYTES; i++)
		bytes[i] = (uint8_t)(length >> (8 * i));
}

static struct stream_counts *tally(struct stream *stream)
{
	return stream->listener ? stream_listener_tally(stream->listener) : NULL;
}

/* ---- the end ---- */

static void free_queue(struct stream *stream)
{
	while (stream->out_head) {
		struct stream_out *out = stream->out_head;
		stream->out_head = out->next;
		free(out);
	}
}

static void on_reap(void *arg)
{
	struct stream *stream = arg;
	nng_aio_free(stream->dial_aio);
	nng_aio_free(stream->receive_aio);
	nng_aio_free(stream->send_aio);
	loop_timer_destroy(stream->finish_timer);
	free_queue(stream);
	free(stream->frame);
	free(stream->buffer);
	free(stream);
}

/* Takes the connection down: when it returns, nothing of NNG's will touch the stream any more. */
static void shut(struct stream *stream)
{
	assert(stream->state != STREAM_ENDED);
	bool dialing = stream->state == STREAM_DIALING;
	stream->state = STREAM_ENDED;
	if (stream->dialer)
		nng_stream_dialer_close(stream->dialer);
	if (stream->nng)
		nng_stream_close(stream->nng);
	nng_aio_stop(stream->dial_aio);
	nng_aio_stop(stream->receive_aio);
	nng_aio_stop(stream->send_aio);
	/* The dial may have succeeded just before it was stopped. */
	if (dialing && stream->dialer && nng_aio_result(stream->dial_aio) == 0)
		nng_stream_free(nng_aio_get_output(stream->dial_aio, 0));
	nng_stream_dialer_free(stream->dialer);
	nng_stream_free(stream->nng);
	loop_task_cancel(stream->loop, &stream->dial_task);
	loop_task_cancel(stream->loop, &stream->receive_task);
	loop_task_cancel(stream->loop, &stream->send_task);
	if (stream->finish_timer)
		loop_timer_cancel(stream->finish_timer);
	if (stream->listener)
		stream_listener_forget(stream->listener);
	loop_post(stream->loop, &stream->reap_task);
}

/* The connection ended by itself: the owner is told. */
static void end(struct stream *stream, enum err e, const char *text)
{
	struct stream_counts *counts = tally(stream);
	if (counts && e == ERR_TOO_LARGE)
		counts->closed_too_large++;
	if (counts && e == ERR_PEER_GONE)
		counts->closed_gone++;
	shut(stream);
	if (stream->callbacks.on_close)
		stream->callbacks.on_close(stream, e, text, stream->arg);
}

void stream_close(struct stream *stream)
{
	if (stream && stream->state != STREAM_ENDED)
		shut(stream);
}

/* Both directions are told to be over, or the other side hung up as it was asked to. */
static void on_connection_error(struct stream *stream, int nng_error)
{
	bool said_end = stream->finishing && !stream->out_head;
	if (said_end)
		end(stream, ERR_OK, "");
	else
		end(stream, stream_error(nng_error), nng_strerror(nng_error));
}

/* ---- receiving ---- */

static void deliver(struct stream *stream, const uint8_t *data, size_t length)
{
	struct stream_counts *counts = tally(stream);
	if (counts) {
		counts->frames_in++;
		counts->bytes_in += STREAM_HEADER_BYTES + length;
	}
	stream->callbacks.on_frame(stream, data, length, stream->arg);
}

static void on_peer_finished(struct stream *stream)
{
	stream->peer_finished = true;
	/* If we are finishing as well, what we still have goes out first; then the other side closes. */
	if (!stream->finishing || !stream->out_head)
		end(stream, ERR_OK, "");
}

/* A frame that the buffer cannot hold: its own memory, and the rest is received right into it. */
static void begin_large(struct stream *stream, const uint8_t *have, size_t have_length, uint32_t length)
{
	stream->frame = malloc(length);
	if (!stream->frame) {
		end(stream, ERR_NOMEM, "no memory for a frame");
		return;
	}
	stream->frame_length = length;
	stream->frame_filled = have_length;
	memcpy(stream->frame, have, have_length);
}

/* Hands over every whole frame in the buffer; false when the stream ended on the way. */
static bool parse(struct stream *stream)
{
	size_t at = 0;
	while (stream->filled - at >= STREAM_HEADER_BYTES && !stream->peer_finished) {
		uint32_t length = length_get(stream->buffer + at);
		const uint8_t *payload = stream->buffer + at + STREAM_HEADER_BYTES;
		size_t have = stream->filled - at - STREAM_HEADER_BYTES;
		if (length == STREAM_LENGTH_END) {
			on_peer_finished(stream);
		} else if (length > stream->frame_bytes_max) {
			char text[96];
			snprintf(text, sizeof(text), "a frame of %u bytes, at most %u are accepted", length,
				 stream->frame_bytes_max);
			end(stream, ERR_TOO_LARGE, text);
		} else if (have >= length) {
			at += STREAM_HEADER_BYTES + length;
			deliver(stream, payload, length);
		} else if (STREAM_HEADER_BYTES + length > STREAM_RECEIVE_BYTES) {
			at = stream->filled;
			begin_large(stream, payload, have, length);
		} else {
			break;
		}
		if (stream->state == STREAM_ENDED)
			return false;
	}
	if (stream->peer_finished)
		at = stream->filled;
	stream->filled -= at;
	memmove(stream->buffer, stream->buffer + at, stream->filled);
	return true;
}

/* The first bytes belong to a large frame under way, the others to the buffer. */
static bool account_received(struct stream *stream, size_t count)
{
	if (stream->frame) {
		size_t lacking = stream->frame_length - stream->frame_filled;
		size_t taken = count < lacking ? count : lacking;
		stream->frame_filled += taken;
		count -= taken;
		stream->filled += count;
		if (taken < lacking)
			return true;
		uint8_t *frame = stream->frame;
		stream->frame = NULL;
		deliver(stream, frame, stream->frame_length);
		free(frame);
		if (stream->state == STREAM_ENDED)
			return false;
	} else {
		stream->filled += count;
	}
	return parse(stream);
}

static void on_received(void *arg)
{
	struct stream *stream = arg;
	int result = nng_aio_result(stream->receive_aio);
	if (result != 0)
		on_connection_error(stream, result);
	else if (account_received(stream, nng_aio_count(stream->receive_aio)))
		start_receive(stream);
}

static void start_receive(struct stream *stream)
{
	nng_iov iov[2];
	unsigned iov_count = 0;
	if (stream->frame)
		iov[iov_count++] = (nng_iov){stream->frame + stream->frame_filled,
					     stream->frame_length - stream->frame_filled};
	iov[iov_count++] =
		(nng_iov){stream->buffer + stream->filled, STREAM_RECEIVE_BYTES - stream->filled};
	nng_aio_set_iov(stream->receive_aio, iov_count, iov);
	nng_stream_recv(stream->nng, stream->receive_aio);
}

/* ---- sending ---- */

/* What the kernel took leaves the queue. */
static void account_sent(struct stream *stream, size_t count)
{
	struct stream_counts *counts = tally(stream);
	if (counts)
		counts->bytes_out += count;
	stream->queued_bytes -= count;
	stream->out_sent += count;
	while (stream->out_head && stream->out_sent >= stream->out_head->length) {
		struct stream_out *out = stream->out_head;
		stream->out_sent -= out->length;
		stream->out_head = out->next;
		free(out);
	}
	if (!stream->out_head)
		stream->out_tail = &stream->out_head;
}

static void on_sent(void *arg)
{
	struct stream *stream = arg;
	stream->sending = false;
	int result = nng_aio_result(stream->send_aio);
	if (result != 0) {
		on_connection_error(stream, result);
		return;
	}
	account_sent(stream, nng_aio_count(stream->send_aio));
	start_send(stream);
	if (!stream->room_wanted || stream->queued_bytes > stream->queue_bytes_max / 2)
		return;
	stream->room_wanted = false;
	if (stream->callbacks.on_room && !stream->finishing)
		stream->callbacks.on_room(stream, stream->arg);
}

static void start_send(struct stream *stream)
{
	if (stream->sending || !stream->out_head || stream->state != STREAM_OPEN)
		return;
	nng_iov iov[STREAM_IOV_MAX];
	unsigned iov_count = 0;
	size_t skip = stream->out_sent;
	for (struct stream_out *out = stream->out_head; out && iov_count < STREAM_IOV_MAX; out = out->next) {
		iov[iov_count++] = (nng_iov){out->bytes + skip, out->length - skip};
		skip = 0;
	}
	stream->sending = true;
	nng_aio_set_iov(stream->send_aio, iov_count, iov);
	nng_stream_send(stream->nng, stream->send_aio);
}

/* One frame of a head and a tail; tail may be empty. */
static enum err enqueue(struct stream *stream, uint32_t length_field, const void *head, size_t head_length,
			const void *tail, size_t tail_length)
{
	size_t length = STREAM_HEADER_BYTES + head_length + tail_length;
	struct stream_out *out = malloc(sizeof(*out) + length);
	if (!out)
		return ERR_NOMEM;
	out->next = NULL;
	out->length = length;
	length_put(out->bytes, length_field);
	if (head_length)
		memcpy(out->bytes + STREAM_HEADER_BYTES, head, head_length);
	if (tail_length)
		memcpy(out->bytes + STREAM_HEADER_BYTES + head_length, tail, tail_length);
	*stream->out_tail = out;
	stream->out_tail = &out->next;
	stream->queued_bytes += length;
	start_send(stream);
	return ERR_OK;
}

enum err stream_send2(struct stream *stream, const void *head, size_t head_length, const void *tail,
		      size_t tail_length)
{
	if (stream->state == STREAM_ENDED || stream->finishing)
		return ERR_PEER_GONE;
	if (head_length > stream->frame_bytes_max || tail_length > stream->frame_bytes_max - head_length)
		return ERR_TOO_LARGE;
	size_t length = head_length + tail_length;
	if (stream->queued_bytes + STREAM_HEADER_BYTES + length > stream->queue_bytes_max) {
		stream->room_wanted = true;
		return ERR_AGAIN;
	}
	enum err e = enqueue(stream, (uint32_t)length, head, head_length, tail, tail_length);
	struct stream_counts *counts = tally(stream);
	if (e == ERR_OK && counts)
		counts->frames_out++;
	return e;
}

enum err stream_send(struct stream *stream, const void *payload, size_t length)
{
	return stream_send2(stream, payload, length, NULL, 0);
}

size_t stream_queued_bytes(const struct stream *stream)
{
	return stream->queued_bytes;
}

const char *stream_peer(const struct stream *stream)
{
	return stream->peer;
}

static void on_finish_timeout(struct loop_timer *timer, void *arg)
{
	end(arg, ERR_DEADLINE, "the peer did not take what was queued and close in time");
}

/* Without memory for the farewell the stream still ends, by its timer or at the peer's. */
void stream_finish(struct stream *stream, uint64_t timeout_ns)
{
	if (stream->state == STREAM_ENDED || stream->finishing)
		return;
	if (loop_timer_create(stream->loop, on_finish_timeout, stream, &stream->finish_timer) == ERR_OK)
		loop_timer_arm(stream->finish_timer, timeout_ns);
	if (enqueue(stream, STREAM_LENGTH_END, NULL, 0, NULL, 0) != ERR_OK && stream->finish_timer)
		loop_timer_arm(stream->finish_timer, 0);
	stream->finishing = true;
}

/* ---- the beginning ---- */

/* NNG's threads: nothing but the post. */
static void dialed_in_nng(void *arg)
{
	struct stream *stream = arg;
	loop_post(stream->loop, &stream->dial_task);
}

static void received_in_nng(void *arg)
{
	struct stream *stream = arg;
	loop_post(stream->loop, &stream->receive_task);
}

static void sent_in_nng(void *arg)
{
	struct stream *stream = arg;
	loop_post(stream->loop, &stream->send_task);
}

void stream_connected(struct stream *stream, nng_stream *nng)
{
	stream->nng = nng;
	stream->state = STREAM_OPEN;
	stream_peer_text(stream);
	start_receive(stream);
	start_send(stream);
}

static void on_dialed(void *arg)
{
	struct stream *stream = arg;
	int result = nng_aio_result(stream->dial_aio);
	if (result != 0) {
		end(stream, stream_error(result), nng_strerror(result));
		return;
	}
	stream_connected(stream, nng_aio_get_output(stream->dial_aio, 0));
	if (stream->callbacks.on_open)
		stream->callbacks.on_open(stream, stream->arg);
}

enum err stream_create(struct loop *loop, const struct stream_options *options, struct stream **ret_stream)
{
	static const struct stream_options defaults;
	if (!options)
		options = &defaults;
	assert(options->frame_bytes_max < STREAM_LENGTH_END);
	struct stream *stream = calloc(1, sizeof(*stream));
	if (!stream)
		return ERR_NOMEM;
	stream->loop = loop;
	stream->out_tail = &stream->out_head;
	stream->frame_bytes_max = options->frame_bytes_max ? options->frame_bytes_max : 16u << 20;
	stream->queue_bytes_max = options->queue_bytes_max ? options->queue_bytes_max : (size_t)64 << 20;
	loop_task_init(&stream->dial_task, on_dialed, stream);
	loop_task_init(&stream->receive_task, on_received, stream);
	loop_task_init(&stream->send_task, on_sent, stream);
	loop_task_init(&stream->reap_task, on_reap, stream);
	stream->buffer = malloc(STREAM_RECEIVE_BYTES);
	if (!stream->buffer || nng_aio_alloc(&stream->dial_aio, dialed_in_nng, stream) != 0 ||
	    nng_aio_alloc(&stream->receive_aio, received_in_nng, stream) != 0 ||
	    nng_aio_alloc(&stream->send_aio, sent_in_nng, stream) != 0) {
		on_reap(stream);
		return ERR_NOMEM;
	}
	nng_aio_set_timeout(stream->receive_aio, NNG_DURATION_INFINITE);
	nng_aio_set_timeout(stream->send_aio, NNG_DURATION_INFINITE);
	*ret_stream = stream;
	return ERR_OK;
}

/* Before any operation was started. */
void stream_free(struct stream *stream)
{
	nng_stream_dialer_free(stream->dialer);
	on_reap(stream);
}

enum err stream_dial(struct loop *loop, const char *url, uint64_t timeout_ns,
		     const struct stream_options *options, const struct stream_callbacks *callbacks,
		     void *arg, struct stream **ret_stream, struct why *why)
{
	assert(callbacks && callbacks->on_frame && callbacks->on_close);
	struct stream *stream;
	enum err e = stream_create(loop, options, &stream);
	if (e != ERR_OK)
		return e;
	stream->callbacks = *callbacks;
	stream->arg = arg;
	e = stream_dialer_make(url, options, &stream->dialer, why);
	if (e != ERR_OK) {
		stream_free(stream);
		return e;
	}
	snprintf(stream->peer, sizeof(stream->peer), "%s", url);
	uint64_t timeout_ms = timeout_ns / 1000000 + 1;
	nng_aio_set_timeout(stream->dial_aio, timeout_ms < 1u << 30 ? (nng_duration)timeout_ms : 1 << 30);
	nng_stream_dialer_dial(stream->dialer, stream->dial_aio);
	*ret_stream = stream;
	return ERR_OK;
}
