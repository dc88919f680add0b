#include "net/dialer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/loop.h"
#include "net/resolve.h"

struct dialer {
	struct loop *loop;
	struct dialer_options options;
	dialer_fn *done;
	void *arg;
	struct url url;
	char text[280]; /* the URL, for messages */
	struct resolve *resolve;
	struct address addresses[RESOLVE_MAX];
	size_t count, at;
	int fd;              /* connecting; -1: none */
	struct channel *channel;
	struct loop_watch *watch;
	struct loop_timer *timer;
	struct loop_task task; /* the first step, or the report of a failure */
};

static void free_dialer(struct dialer *dialer)
{
	resolve_cancel(dialer->resolve);
	loop_watch_destroy(dialer->watch);
	loop_timer_destroy(dialer->timer);
	loop_task_cancel(dialer->loop, &dialer->task);
	channel_close(dialer->channel);
	if (dialer->fd >= 0)
		close(dialer->fd);
	free(dialer);
}

static void finish(struct dialer *dialer, enum err e, const char *text)
{
	dialer_fn *done = dialer->done;
	void *arg = dialer->arg;
	struct channel *channel = e == ERR_OK ? dialer->channel : NULL;
	char copy[256];
	snprintf(copy, sizeof(copy), "%s", text);
	if (channel)
		dialer->channel = NULL;
	free_dialer(dialer);
	done(arg, e, copy, channel);
}

static void on_handshake(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct dialer *dialer = arg;
	enum err e = channel_handshake(dialer->channel, dialer->text);
	if (e == ERR_AGAIN)
		e = loop_watch_set(dialer->watch, channel_wants_write(dialer->channel) ? LOOP_WRITE : LOOP_READ);
	else {
		finish(dialer, e, e == ERR_OK ? "" : channel_refusal(dialer->channel));
		return;
	}
	if (e != ERR_OK)
		finish(dialer, e, err_text(e));
}

static void connected(struct dialer *dialer)
{
	struct channel_options options = {
		.tls = dialer->options.tls,
		.purpose = dialer->options.purpose,
		.expect_node = dialer->options.expect_node,
	};
	loop_watch_destroy(dialer->watch);
	dialer->watch = NULL;
	enum err e = channel_create(dialer->fd, &options, &dialer->channel);
	if (e == ERR_OK) {
		dialer->fd = -1;
		e = loop_watch_create(dialer->loop, channel_fd(dialer->channel), LOOP_READ, on_handshake, dialer,
				      &dialer->watch);
	}
	if (e != ERR_OK)
		finish(dialer, e, err_text(e));
	else
		on_handshake(dialer->watch, 0, dialer);
}

static void try_next(struct dialer *dialer, int error);

static void on_connect(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct dialer *dialer = arg;
	int error = 0;
	socklen_t length = sizeof(error);
	if (getsockopt(dialer->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
		error = errno;
	if (error)
		try_next(dialer, error);
	else
		connected(dialer);
}

/* The next address; with none left the last error is the answer. */
static void try_next(struct dialer *dialer, int error)
{
	loop_watch_destroy(dialer->watch);
	dialer->watch = NULL;
	while (dialer->at < dialer->count) {
		const struct address *address = &dialer->addresses[dialer->at++];
		if (dialer->fd >= 0)
			close(dialer->fd);
		dialer->fd = -1;
		if (address_socket(address, &dialer->fd) != ERR_OK) {
			error = errno;
			continue;
		}
		if (connect(dialer->fd, (const struct sockaddr *)&address->any, address->length) == 0) {
			connected(dialer);
			return;
		}
		error = errno;
		if (error == EINPROGRESS && loop_watch_create(dialer->loop, dialer->fd, LOOP_WRITE, on_connect, dialer,
							      &dialer->watch) == ERR_OK)
			return;
	}
	finish(dialer, ERR_PEER_GONE, strerror(error));
}

static void on_resolved(void *arg, const struct address *addresses, size_t count, const char *error)
{
	struct dialer *dialer = arg;
	dialer->resolve = NULL;
	memcpy(dialer->addresses, addresses, count * sizeof(*addresses));
	dialer->count = count;
	if (count)
		try_next(dialer, 0);
	else
		finish(dialer, ERR_PEER_GONE, error);
}

static void begin(void *arg)
{
	struct dialer *dialer = arg;
	dialer->count = 1;
	if (url_address(&dialer->url, &dialer->addresses[0]) == ERR_OK) {
		try_next(dialer, 0);
		return;
	}
	enum err e = resolve_start(dialer->loop, dialer->url.host, dialer->url.port, on_resolved, dialer, &dialer->resolve);
	if (e != ERR_OK)
		finish(dialer, e, err_text(e));
}

static void on_timeout(struct loop_timer *timer, void *arg)
{
	struct dialer *dialer = arg;
	if (dialer->channel)
		channel_refuse(dialer->channel, REFUSAL_TIMEOUT, dialer->text, "it did not answer the handshake in time");
	finish(dialer, ERR_DEADLINE, "not connected in time");
}

enum err dialer_check_url(const char *text, bool has_tls, struct why *why, struct url *ret_url)
{
	enum err e = url_parse(text, why, ret_url);
	if (e != ERR_OK)
		return e;
	if (ret_url->is_tls && !has_tls)
		return why_set(why, ERR_INVALID, "%s: needs certificates", text);
	if (!ret_url->is_tls && has_tls)
		return why_set(why, ERR_INVALID, "%s: certificates given, but it is not tls", text);
	return ERR_OK;
}

enum err dialer_start(struct loop *loop, const char *url, const struct dialer_options *options, dialer_fn *done, void *arg,
		      struct dialer **ret_dialer, struct why *why)
{
	struct url parsed;
	enum err e = dialer_check_url(url, options->tls != NULL, why, &parsed);
	if (e != ERR_OK)
		return e;
	struct dialer *dialer = calloc(1, sizeof(*dialer));
	if (!dialer)
		return ERR_NOMEM;
	*dialer = (struct dialer){.loop = loop, .options = *options, .done = done, .arg = arg, .url = parsed, .fd = -1};
	snprintf(dialer->text, sizeof(dialer->text), "%s", url);
	loop_task_init(&dialer->task, begin, dialer);
	e = loop_timer_create(loop, on_timeout, dialer, &dialer->timer);
	if (e != ERR_OK) {
		free_dialer(dialer);
		return e;
	}
	loop_timer_arm(dialer->timer, options->timeout_ns);
	loop_post(loop, &dialer->task);
	*ret_dialer = dialer;
	return ERR_OK;
}

void dialer_cancel(struct dialer *dialer)
{
	if (dialer)
		free_dialer(dialer);
}
