/* Listening: accepts one connection after the other, up to a number, and counts what they do. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/stream.h"
#include "net/stream_impl.h"

/* After a failed accept (no descriptors left, say): soon enough to be unnoticed, rare enough to cost nothing. */
static const uint64_t accept_retry_ns = 100000000;

struct stream_listener {
	struct loop *loop;
	stream_accept_fn *on_accept;
	void *arg;
	nng_stream_listener *nng;
	nng_aio *accept_aio;
	struct loop_task accept_task, reap_task;
	struct loop_timer *retry_timer;
	struct stream_options options;
	char url[STREAM_PEER_BYTES];
	struct stream_counts counts;
	bool accepting, closed;
};

struct stream_counts *stream_listener_tally(struct stream_listener *listener)
{
	return &listener->counts;
}

static void start_accept(struct stream_listener *listener)
{
	if (listener->accepting || listener->closed || listener->counts.open >= listener->options.connection_max)
		return;
	listener->accepting = true;
	nng_stream_listener_accept(listener->nng, listener->accept_aio);
}

static void on_reap(void *arg)
{
	struct stream_listener *listener = arg;
	nng_aio_free(listener->accept_aio);
	loop_timer_destroy(listener->retry_timer);
	free(listener);
}

void stream_listener_forget(struct stream_listener *listener)
{
	assert(listener->counts.open > 0);
	listener->counts.open--;
	if (!listener->closed)
		start_accept(listener);
	else if (listener->counts.open == 0)
		loop_post(listener->loop, &listener->reap_task);
}

static void take(struct stream_listener *listener, nng_stream *nng)
{
	struct stream *stream;
	if (stream_create(listener->loop, &listener->options, &stream) != ERR_OK) {
		listener->counts.accept_failed++;
		nng_stream_free(nng);
		return;
	}
	stream->listener = listener;
	listener->counts.open++;
	listener->counts.accepted++;
	snprintf(stream->peer, sizeof(stream->peer), "%s", listener->url);
	stream->nng = nng;
	stream->state = STREAM_OPEN;
	stream_peer_text(stream);
	listener->on_accept(listener, stream, listener->arg);
	if (stream->state == STREAM_ENDED)
		return;
	if (stream->accepted)
		stream_connected(stream, nng);
	else
		stream_close(stream);
}

static void on_accepted(void *arg)
{
	struct stream_listener *listener = arg;
	listener->accepting = false;
	if (nng_aio_result(listener->accept_aio) != 0) {
		listener->counts.accept_failed++;
		loop_timer_arm(listener->retry_timer, accept_retry_ns);
		return;
	}
	take(listener, nng_aio_get_output(listener->accept_aio, 0));
	start_accept(listener);
}

static void on_retry(struct loop_timer *timer, void *arg)
{
	start_accept(arg);
}

static void accepted_in_nng(void *arg)
{
	struct stream_listener *listener = arg;
	loop_post(listener->loop, &listener->accept_task);
}

void stream_accept(struct stream *stream, const struct stream_callbacks *callbacks, void *arg)
{
	assert(stream->listener && !stream->accepted);
	assert(callbacks && callbacks->on_frame && callbacks->on_close);
	stream->callbacks = *callbacks;
	stream->arg = arg;
	stream->accepted = true;
}

enum err stream_listen(struct loop *loop, const char *url, const struct stream_options *options,
		       stream_accept_fn *on_accept, void *arg, struct stream_listener **ret_listener,
		       struct why *why)
{
	struct stream_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return ERR_NOMEM;
	listener->loop = loop;
	listener->on_accept = on_accept;
	listener->arg = arg;
	if (options)
		listener->options = *options;
	listener->options.tls = NULL; /* the caller's, for this call only */
	if (!listener->options.connection_max)
		listener->options.connection_max = 1024;
	snprintf(listener->url, sizeof(listener->url), "%s", url);
	loop_task_init(&listener->accept_task, on_accepted, listener);
	loop_task_init(&listener->reap_task, on_reap, listener);

	enum err e = loop_timer_create(loop, on_retry, listener, &listener->retry_timer);
	if (e == ERR_OK && nng_aio_alloc(&listener->accept_aio, accepted_in_nng, listener) != 0)
		e = ERR_NOMEM;
	if (e == ERR_OK)
		e = stream_listener_make(url, options, &listener->nng, why);
	if (e != ERR_OK) {
		on_reap(listener);
		return e;
	}
	nng_aio_set_timeout(listener->accept_aio, NNG_DURATION_INFINITE);
	start_accept(listener);
	*ret_listener = listener;
	return ERR_OK;
}

uint16_t stream_listener_port(const struct stream_listener *listener)
{
	int port;
	if (nng_stream_listener_get_int(listener->nng, NNG_OPT_TCP_BOUND_PORT, &port) != 0)
		return 0;
	return (uint16_t)port;
}

void stream_listener_counts(const struct stream_listener *listener, struct stream_counts *ret_counts)
{
	*ret_counts = listener->counts;
}

void stream_listener_close(struct stream_listener *listener)
{
	if (!listener)
		return;
	assert(!listener->closed);
	listener->closed = true;
	nng_stream_listener_close(listener->nng);
	nng_aio_stop(listener->accept_aio);
	/* It may have accepted one just before. */
	if (listener->accepting && nng_aio_result(listener->accept_aio) == 0)
		nng_stream_free(nng_aio_get_output(listener->accept_aio, 0));
	loop_task_cancel(listener->loop, &listener->accept_task);
	loop_timer_cancel(listener->retry_timer);
	nng_stream_listener_free(listener->nng);
	listener->nng = NULL;
	if (listener->counts.open == 0)
		loop_post(listener->loop, &listener->reap_task);
}
