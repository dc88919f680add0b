/* Listening: takes one connection after the other, up to a number, and counts what they do. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/acceptor.h"
#include "net/stream.h"
#include "net/stream_impl.h"

struct stream_listener {
	struct loop *loop;
	stream_accept_fn *on_accept;
	void *arg;
	struct acceptor *acceptor; /* NULL: closed */
	struct loop_task reap_task;
	struct stream_options options;
	struct stream_counts counts;
	bool closed;
};

struct stream_counts *stream_listener_tally(struct stream_listener *listener)
{
	return &listener->counts;
}

static void pause_right(struct stream_listener *listener)
{
	if (!listener->closed)
		acceptor_pause(listener->acceptor, listener->counts.open >= listener->options.connection_max);
}

static void on_reap(void *arg)
{
	free(arg);
}

void stream_listener_forget(struct stream_listener *listener)
{
	assert(listener->counts.open > 0);
	listener->counts.open--;
	pause_right(listener);
	if (listener->closed && listener->counts.open == 0)
		loop_post(listener->loop, &listener->reap_task);
}

static void on_failed(void *arg)
{
	((struct stream_listener *)arg)->counts.accept_failed++;
}

static void on_accepted(void *arg, struct channel *channel, const char *peer)
{
	struct stream_listener *listener = arg;
	struct stream *stream;
	/* Handshakes that were under way when the last place went. */
	if (listener->counts.open >= listener->options.connection_max ||
	    stream_create(listener->loop, &listener->options, &stream) != ERR_OK) {
		listener->counts.accept_failed++;
		channel_close(channel);
		return;
	}
	stream->listener = listener;
	listener->counts.open++;
	listener->counts.accepted++;
	pause_right(listener);
	snprintf(stream->peer, sizeof(stream->peer), "%s", peer);
	stream->state = STREAM_OPEN;
	stream->channel = channel;
	listener->on_accept(listener, stream, listener->arg);
	if (stream->state == STREAM_ENDED)
		return;
	if (!stream->accepted) {
		stream_close(stream);
		return;
	}
	enum err e = stream_connected(stream, channel);
	if (e != ERR_OK)
		stream_end(stream, e);
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
	if (!listener->options.connection_max)
		listener->options.connection_max = 1024;
	loop_task_init(&listener->reap_task, on_reap, listener);
	struct acceptor_options accept = {
		.tls = listener->options.tls,
		.purpose = TLS_CONTROL,
		.arg = listener,
		.accepted = on_accepted,
		.failed = on_failed,
	};
	enum err e = acceptor_create(loop, url, &accept, &listener->acceptor, why);
	if (e != ERR_OK) {
		free(listener);
		return e;
	}
	*ret_listener = listener;
	return ERR_OK;
}

uint16_t stream_listener_port(const struct stream_listener *listener)
{
	return acceptor_port(listener->acceptor);
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
	acceptor_destroy(listener->acceptor);
	listener->acceptor = NULL;
	if (listener->counts.open == 0)
		loop_post(listener->loop, &listener->reap_task);
}
