#include "net/stream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/stream_impl.h"

/* Most that is received of one stream before the others have their turn. */
static const size_t receive_budget = 256 << 10;
/* A queue that was larger gives its memory back when it is empty, and was not as large for a while: one that is filled with large
 * frames again and again would fault its pages in each time. */
static const size_t out_kept_bytes = 256 << 10;

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

static void on_reap(void *arg)
{
	struct stream *stream = arg;
	loop_timer_destroy(stream->finish_timer);
	buf_fini(&stream->out);
	free(stream->frame);
	free(stream->buffer);
	free(stream);
}

/* Takes the connection down: when it returns, nothing will touch the stream any more but its reaping. */
static void shut(struct stream *stream)
{
	assert(stream->state != STREAM_ENDED);
	stream->state = STREAM_ENDED;
	dialer_cancel(stream->dialer);
	loop_watch_destroy(stream->watch);
	channel_close(stream->channel);
	stream->dialer = NULL;
	stream->watch = NULL;
	stream->channel = NULL;
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

void stream_end(struct stream *stream, enum err e)
{
	end(stream, e, err_text(e));
}

void stream_close(struct stream *stream)
{
	if (stream && stream->state != STREAM_ENDED)
		shut(stream);
}

/* Both directions are told to be over, or the other side hung up as it was asked to. */
static void on_connection_error(struct stream *stream, enum err e)
{
	bool said_end = stream->finishing && stream->out_sent == stream->out.length;
	if (said_end)
		end(stream, ERR_OK, "");
	else
		end(stream, e, e == ERR_DENIED ? "it does not accept our certificate" : err_text(e));
}

/* What the descriptor is watched for: bytes to come, and room for those that wait. */
static bool watch_right(struct stream *stream)
{
	bool blocked = stream->out_sent < stream->out.length || channel_wants_write(stream->channel);
	unsigned wanted = LOOP_READ | (blocked ? LOOP_WRITE : 0u);
	if (wanted == stream->watched)
		return true;
	stream->watched = wanted;
	enum err e = loop_watch_set(stream->watch, wanted);
	if (e != ERR_OK)
		end(stream, e, err_text(e));
	return e == ERR_OK;
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
	if (!stream->finishing || stream->out_sent == stream->out.length)
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

/* The bytes belong to a large frame under way, or to the buffer. */
static bool account_received(struct stream *stream, size_t count)
{
	if (!stream->frame) {
		stream->filled += count;
		return parse(stream);
	}
	stream->frame_filled += count;
	if (stream->frame_filled < stream->frame_length)
		return true;
	uint8_t *frame = stream->frame;
	stream->frame = NULL;
	deliver(stream, frame, stream->frame_length);
	free(frame);
	return stream->state != STREAM_ENDED;
}

/* False: the stream ended. */
static bool receive(struct stream *stream)
{
	for (size_t taken = 0; taken < receive_budget;) {
		uint8_t *at = stream->frame ? stream->frame + stream->frame_filled : stream->buffer + stream->filled;
		size_t room = stream->frame ? stream->frame_length - stream->frame_filled
					    : STREAM_RECEIVE_BYTES - stream->filled;
		size_t count = 0;
		enum err e = channel_read(stream->channel, at, room, &count);
		if (e == ERR_AGAIN)
			return true;
		if (e != ERR_OK) {
			on_connection_error(stream, e);
			return false;
		}
		if (!account_received(stream, count))
			return false;
		if (count < room && !channel_pending(stream->channel))
			return true; /* all that was there; the watch tells of more */
		taken += count;
	}
	/* Fairness.  What OpenSSL holds makes no descriptor ready. */
	if (channel_pending(stream->channel))
		loop_post(stream->loop, &stream->receive_task);
	return true;
}

/* ---- sending ---- */

/* What the kernel took leaves the queue. */
static void account_sent(struct stream *stream, size_t count)
{
	struct stream_counts *counts = tally(stream);
	struct buf *out = &stream->out;
	if (counts)
		counts->bytes_out += count;
	stream->out_sent += count;
	if (stream->out_sent == out->length) {
		size_t limit = out->limit;
		stream->out_peak -= stream->out_peak / 8;
		stream->out_peak = out->length > stream->out_peak ? out->length : stream->out_peak;
		if (out->capacity > out_kept_bytes && out->capacity / 4 > stream->out_peak)
			buf_fini(out);
		buf_clear(out);
		out->limit = limit;
		stream->out_sent = 0;
	} else if (stream->out_sent > out->length / 2 && stream->out_sent >= 65536) {
		memmove(out->data, out->data + stream->out_sent, out->length - stream->out_sent);
		out->length -= stream->out_sent;
		stream->out_sent = 0;
	}
}

static enum err flush(struct stream *stream)
{
	enum err e = ERR_OK;
	while (e == ERR_OK && stream->out_sent < stream->out.length) {
		size_t count = 0;
		e = channel_write(stream->channel, stream->out.data + stream->out_sent, stream->out.length - stream->out_sent,
				  &count);
		if (e == ERR_OK)
			account_sent(stream, count);
	}
	return e == ERR_AGAIN ? ERR_OK : e;
}

static void tell_room(struct stream *stream)
{
	if (!stream->room_wanted || stream_queued_bytes(stream) > stream->queue_bytes_max / 2)
		return;
	stream->room_wanted = false;
	if (stream->callbacks.on_room && !stream->finishing)
		stream->callbacks.on_room(stream, stream->arg);
}

/* False: the stream ended. */
static bool send_queued(struct stream *stream)
{
	enum err e = flush(stream);
	if (e == ERR_OK) {
		tell_room(stream);
		return stream->state != STREAM_ENDED;
	}
	/* The other side is gone; what it said before comes first. */
	if (receive(stream))
		on_connection_error(stream, e);
	return false;
}

static void on_send(void *arg)
{
	struct stream *stream = arg;
	if (stream->watch && send_queued(stream))
		watch_right(stream);
}

static void on_receive(void *arg)
{
	struct stream *stream = arg;
	if (receive(stream))
		watch_right(stream);
}

/* Both directions, whatever it is ready for: see net/channel.h, rule 2. */
static void on_ready(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct stream *stream = arg;
	if (ready & LOOP_WRITE && !send_queued(stream))
		return;
	if (receive(stream))
		watch_right(stream);
}

/* One frame of a head and a tail; tail may be empty. */
static enum err enqueue(struct stream *stream, uint32_t length_field, const void *head, size_t head_length,
			const void *tail, size_t tail_length)
{
	uint8_t header[STREAM_HEADER_BYTES];
	enum err e = buf_reserve(&stream->out, sizeof(header) + head_length + tail_length);
	if (e != ERR_OK)
		return ERR_NOMEM;
	length_put(header, length_field);
	/* There is room: these cannot fail. */
	e = buf_append(&stream->out, header, sizeof(header));
	if (e == ERR_OK && head_length)
		e = buf_append(&stream->out, head, head_length);
	if (e == ERR_OK && tail_length)
		e = buf_append(&stream->out, tail, tail_length);
	assert(e == ERR_OK);
	loop_post(stream->loop, &stream->send_task);
	return e;
}

/* May a frame of that length be queued now? */
static enum err admit(struct stream *stream, size_t length)
{
	if (stream->state == STREAM_ENDED || stream->finishing)
		return ERR_PEER_GONE;
	if (stream_queued_bytes(stream) + STREAM_HEADER_BYTES + length <= stream->queue_bytes_max)
		return ERR_OK;
	stream->room_wanted = true;
	return ERR_AGAIN;
}

static void count_out(struct stream *stream)
{
	struct stream_counts *counts = tally(stream);
	if (counts)
		counts->frames_out++;
}

enum err stream_send2(struct stream *stream, const void *head, size_t head_length, const void *tail,
		      size_t tail_length)
{
	if (head_length > stream->frame_bytes_max || tail_length > stream->frame_bytes_max - head_length)
		return stream->state == STREAM_ENDED || stream->finishing ? ERR_PEER_GONE : ERR_TOO_LARGE;
	size_t length = head_length + tail_length;
	enum err e = admit(stream, length);
	if (e == ERR_OK)
		e = enqueue(stream, (uint32_t)length, head, head_length, tail, tail_length);
	if (e == ERR_OK)
		count_out(stream);
	return e;
}

enum err stream_send_in_place(struct stream *stream, size_t length, uint8_t **ret_payload)
{
	if (length > stream->frame_bytes_max)
		return stream->state == STREAM_ENDED || stream->finishing ? ERR_PEER_GONE : ERR_TOO_LARGE;
	enum err e = admit(stream, length);
	struct buf *out = &stream->out;
	if (e == ERR_OK && buf_reserve(out, STREAM_HEADER_BYTES + length) != ERR_OK)
		e = ERR_NOMEM;
	if (e == ERR_OK)
		e = enqueue(stream, (uint32_t)length, NULL, 0, NULL, 0);
	if (e != ERR_OK)
		return e;
	*ret_payload = (uint8_t *)out->data + out->length;
	out->length += length;
	out->data[out->length] = 0;
	count_out(stream);
	return ERR_OK;
}

/* What goes wrong here goes wrong again with the send task, which tells. */
void stream_push(struct stream *stream)
{
	if (stream->state == STREAM_OPEN)
		(void)!flush(stream);
}

enum err stream_send(struct stream *stream, const void *payload, size_t length)
{
	return stream_send2(stream, payload, length, NULL, 0);
}

size_t stream_queued_bytes(const struct stream *stream)
{
	return stream->out.length - stream->out_sent;
}

const char *stream_peer(const struct stream *stream)
{
	return stream->peer;
}

const struct identity *stream_identity(const struct stream *stream)
{
	return stream->channel ? channel_identity(stream->channel) : NULL;
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

/* Where a dialled stream really leads. */
static void peer_text(struct stream *stream)
{
	struct address address = {.length = sizeof(address.any)};
	char text[STREAM_PEER_BYTES];
	if (getpeername(channel_fd(stream->channel), (struct sockaddr *)&address.any, &address.length) != 0)
		return;
	address_text(&address, text, sizeof(text));
	if (text[0])
		memcpy(stream->peer, text, sizeof(text));
}

enum err stream_connected(struct stream *stream, struct channel *channel)
{
	stream->state = STREAM_OPEN;
	stream->channel = channel;
	stream->watched = LOOP_READ;
	enum err e = loop_watch_create(stream->loop, channel_fd(channel), LOOP_READ, on_ready, stream, &stream->watch);
	if (e != ERR_OK)
		return e;
	peer_text(stream);
	loop_post(stream->loop, &stream->send_task);
	/* A frame that came right behind the handshake may be in OpenSSL already. */
	if (channel_pending(channel))
		loop_post(stream->loop, &stream->receive_task);
	return ERR_OK;
}

static void on_dialed(void *arg, enum err e, const char *text, struct channel *channel)
{
	struct stream *stream = arg;
	stream->dialer = NULL;
	if (e == ERR_OK)
		e = stream_connected(stream, channel);
	if (e != ERR_OK)
		end(stream, e, text[0] ? text : err_text(e));
	else if (stream->callbacks.on_open)
		stream->callbacks.on_open(stream, stream->arg);
}

enum err stream_create(struct loop *loop, const struct stream_options *options, struct stream **ret_stream)
{
	assert(options->frame_bytes_max < STREAM_LENGTH_END);
	struct stream *stream = calloc(1, sizeof(*stream));
	if (!stream)
		return ERR_NOMEM;
	stream->loop = loop;
	stream->frame_bytes_max = options->frame_bytes_max ? options->frame_bytes_max : 16u << 20;
	stream->queue_bytes_max = options->queue_bytes_max ? options->queue_bytes_max : (size_t)64 << 20;
	/* What was sent is moved out of the way when it is half of it; and a farewell. */
	stream->out.limit = 2 * stream->queue_bytes_max + (128 << 10);
	loop_task_init(&stream->receive_task, on_receive, stream);
	loop_task_init(&stream->send_task, on_send, stream);
	loop_task_init(&stream->reap_task, on_reap, stream);
	stream->buffer = malloc(STREAM_RECEIVE_BYTES);
	if (!stream->buffer) {
		free(stream);
		return ERR_NOMEM;
	}
	*ret_stream = stream;
	return ERR_OK;
}

enum err stream_dial(struct loop *loop, const char *url, uint64_t timeout_ns,
		     const struct stream_options *options, const struct stream_callbacks *callbacks,
		     void *arg, struct stream **ret_stream, struct why *why)
{
	static const struct stream_options defaults;
	assert(callbacks && callbacks->on_frame && callbacks->on_close);
	struct stream *stream;
	options = options ? options : &defaults;
	enum err e = stream_create(loop, options, &stream);
	if (e != ERR_OK)
		return e;
	stream->callbacks = *callbacks;
	stream->arg = arg;
	snprintf(stream->peer, sizeof(stream->peer), "%s", url);
	struct dialer_options dial = {
		.timeout_ns = timeout_ns,
		.tls = options->tls,
		.purpose = TLS_CONTROL,
		.expect_node = options->expect_node,
	};
	e = dialer_start(loop, url, &dial, on_dialed, stream, &stream->dialer, why);
	if (e != ERR_OK) {
		on_reap(stream);
		return e;
	}
	*ret_stream = stream;
	return ERR_OK;
}
