#include "net/acceptor.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/dialer.h"
#include "net/loop.h"

enum { BACKLOG = 1024, PEER_BYTES = 128 };
/* After a failed accept (no descriptors left, say): soon enough to be unnoticed, rare enough to cost nothing. */
static const uint64_t RETRY_NS = 100000000;

struct handshake {
	struct acceptor *acceptor;
	struct handshake *prev, *next;
	struct channel *channel;
	struct loop_watch *watch;
	struct loop_timer *timer;
	char peer[PEER_BYTES];
};

struct acceptor {
	struct loop *loop;
	struct acceptor_options options;
	struct url url;
	char text[280];
	int fd;
	uint16_t port;
	struct loop_watch *watch;
	struct loop_timer *retry_timer;
	bool is_paused, is_resting, is_bound;
	struct handshake *oldest, *newest;
	uint32_t handshake_count;
};

/* ---- handshakes ---- */

static void handshake_free(struct handshake *handshake)
{
	struct acceptor *acceptor = handshake->acceptor;
	if (handshake->prev)
		handshake->prev->next = handshake->next;
	else
		acceptor->oldest = handshake->next;
	if (handshake->next)
		handshake->next->prev = handshake->prev;
	else
		acceptor->newest = handshake->prev;
	acceptor->handshake_count--;
	loop_watch_destroy(handshake->watch);
	loop_timer_destroy(handshake->timer);
	channel_close(handshake->channel);
	free(handshake);
}

static void on_handshake(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct handshake *handshake = arg;
	struct acceptor *acceptor = handshake->acceptor;
	enum err e = channel_handshake(handshake->channel, handshake->peer);
	if (e == ERR_AGAIN)
		e = loop_watch_set(handshake->watch, channel_wants_write(handshake->channel) ? LOOP_WRITE : LOOP_READ);
	else if (e == ERR_OK) {
		struct channel *channel = handshake->channel;
		char peer[PEER_BYTES];
		memcpy(peer, handshake->peer, sizeof(peer));
		handshake->channel = NULL;
		handshake_free(handshake);
		acceptor->options.accepted(acceptor->options.arg, channel, peer);
		return;
	}
	if (e != ERR_OK)
		handshake_free(handshake);
}

static void on_timeout(struct loop_timer *timer, void *arg)
{
	struct handshake *handshake = arg;
	channel_refuse(handshake->channel, REFUSAL_TIMEOUT, handshake->peer, "no handshake in time");
	handshake_free(handshake);
}

static void add_handshake(struct acceptor *acceptor, struct handshake *handshake)
{
	handshake->prev = acceptor->newest;
	if (acceptor->newest)
		acceptor->newest->next = handshake;
	else
		acceptor->oldest = handshake;
	acceptor->newest = handshake;
	acceptor->handshake_count++;
}

static enum err handshake_start(struct acceptor *acceptor, struct channel *channel, const char *peer)
{
	struct handshake *handshake = calloc(1, sizeof(*handshake));
	if (!handshake)
		return ERR_NOMEM;
	handshake->acceptor = acceptor;
	snprintf(handshake->peer, sizeof(handshake->peer), "%s", peer);
	enum err e = loop_timer_create(acceptor->loop, on_timeout, handshake, &handshake->timer);
	if (e == ERR_OK)
		e = loop_watch_create(acceptor->loop, channel_fd(channel), LOOP_READ, on_handshake, handshake,
				      &handshake->watch);
	if (e != ERR_OK) {
		loop_timer_destroy(handshake->timer);
		free(handshake);
		return e;
	}
	handshake->channel = channel;
	loop_timer_arm(handshake->timer, acceptor->options.handshake_timeout_ns);
	if (acceptor->handshake_count == acceptor->options.handshakes_max) {
		channel_refuse(acceptor->oldest->channel, REFUSAL_CROWDED, acceptor->oldest->peer,
			       "the oldest of too many unfinished handshakes");
		handshake_free(acceptor->oldest);
	}
	add_handshake(acceptor, handshake);
	return ERR_OK;
}

/* ---- accepting ---- */

static enum err take(struct acceptor *acceptor, int fd, const struct address *address)
{
	struct channel_options options = {.tls = acceptor->options.tls, .purpose = acceptor->options.purpose, .server = true};
	struct channel *channel = NULL;
	char peer[PEER_BYTES];
	address_text(address, peer, sizeof(peer));
	if (!peer[0])
		snprintf(peer, sizeof(peer), "%.120s", acceptor->text);
	address_tune(fd);
	enum err e = channel_create(fd, &options, &channel);
	if (e != ERR_OK) {
		close(fd);
		return e;
	}
	if (!options.tls) {
		acceptor->options.accepted(acceptor->options.arg, channel, peer);
		return ERR_OK;
	}
	e = handshake_start(acceptor, channel, peer);
	if (e != ERR_OK)
		channel_close(channel);
	return e;
}

static void rest(struct acceptor *acceptor)
{
	acceptor->is_resting = true;
	enum err e = loop_watch_set(acceptor->watch, 0);
	assert(e == ERR_OK); /* asking for nothing takes nothing */
	(void)e;
	loop_timer_arm(acceptor->retry_timer, RETRY_NS);
}

static void on_ready(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct acceptor *acceptor = arg;
	struct address address = {.length = sizeof(address.any)};
	int fd = accept4(acceptor->fd, (struct sockaddr *)&address.any, &address.length, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd >= 0 && take(acceptor, fd, &address) == ERR_OK)
		return;
	if (acceptor->options.failed)
		acceptor->options.failed(acceptor->options.arg);
	rest(acceptor);
}

static void on_retry(struct loop_timer *timer, void *arg)
{
	struct acceptor *acceptor = arg;
	acceptor->is_resting = false;
	acceptor_pause(acceptor, acceptor->is_paused);
}

void acceptor_pause(struct acceptor *acceptor, bool paused)
{
	acceptor->is_paused = paused;
	if (acceptor->is_resting)
		return;
	if (loop_watch_set(acceptor->watch, paused ? 0 : LOOP_READ) != ERR_OK)
		rest(acceptor);
}

/* ---- life ---- */

static enum err bind_socket(struct acceptor *acceptor, const struct address *address, struct why *why)
{
	int one = 1;
	if (address_socket(address, &acceptor->fd) != ERR_OK)
		return why_set(why, ERR_IO, "%s: %m", acceptor->text);
	(void)setsockopt(acceptor->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Only our user may open a unix socket: the mask is the process's, so the mode is set on what was made. */
	acceptor->is_bound = bind(acceptor->fd, (const struct sockaddr *)&address->any, address->length) == 0;
	if (!acceptor->is_bound || (acceptor->url.is_ipc && chmod(acceptor->url.path, 0600) != 0) ||
	    listen(acceptor->fd, BACKLOG) != 0)
		return why_set(why, errno == EADDRINUSE ? ERR_BUSY : ERR_IO, "%s: %m", acceptor->text);
	struct address bound = {.length = sizeof(bound.any)};
	if (getsockname(acceptor->fd, (struct sockaddr *)&bound.any, &bound.length) == 0)
		acceptor->port = address_port(&bound);
	return ERR_OK;
}

/* A unix socket outlives its process; one that nobody answers at may be taken over. */
static void unlink_stale(const struct url *url, const struct address *address)
{
	struct stat status;
	int fd;
	if (!url->is_ipc || lstat(url->path, &status) != 0 || !S_ISSOCK(status.st_mode) ||
	    address_socket(address, &fd) != ERR_OK)
		return;
	if (connect(fd, (const struct sockaddr *)&address->any, address->length) != 0 && errno == ECONNREFUSED)
		unlink(url->path);
	close(fd);
}

enum err acceptor_create(struct loop *loop, const char *url, const struct acceptor_options *options,
			 struct acceptor **ret_acceptor, struct why *why)
{
	struct acceptor *acceptor = calloc(1, sizeof(*acceptor));
	struct address address;
	if (!acceptor)
		return ERR_NOMEM;
	*acceptor = (struct acceptor){.loop = loop, .options = *options, .fd = -1};
	if (!acceptor->options.handshakes_max)
		acceptor->options.handshakes_max = 128;
	if (!acceptor->options.handshake_timeout_ns)
		acceptor->options.handshake_timeout_ns = 2000000000;
	snprintf(acceptor->text, sizeof(acceptor->text), "%s", url);
	enum err e = dialer_check_url(url, options->tls != NULL, why, &acceptor->url);
	if (e == ERR_OK && url_address(&acceptor->url, &address) != ERR_OK)
		e = why_set(why, ERR_INVALID, "%s: expected an IPv4 or IPv6 address to listen at", url);
	if (e == ERR_OK) {
		unlink_stale(&acceptor->url, &address);
		e = bind_socket(acceptor, &address, why);
	}
	if (e == ERR_OK)
		e = loop_timer_create(loop, on_retry, acceptor, &acceptor->retry_timer);
	if (e == ERR_OK)
		e = loop_watch_create(loop, acceptor->fd, LOOP_READ, on_ready, acceptor, &acceptor->watch);
	if (e != ERR_OK) {
		acceptor_destroy(acceptor);
		return e;
	}
	*ret_acceptor = acceptor;
	return ERR_OK;
}

uint16_t acceptor_port(const struct acceptor *acceptor)
{
	return acceptor->port;
}

void acceptor_destroy(struct acceptor *acceptor)
{
	if (!acceptor)
		return;
	while (acceptor->oldest)
		handshake_free(acceptor->oldest);
	loop_watch_destroy(acceptor->watch);
	loop_timer_destroy(acceptor->retry_timer);
	if (acceptor->fd >= 0)
		close(acceptor->fd);
	if (acceptor->is_bound && acceptor->url.is_ipc)
		unlink(acceptor->url.path);
	free(acceptor);
}
