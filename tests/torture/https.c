/* The HTTP server with a request of each kind, and the client against a server of the test's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"
#include "net/http.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "torture.h"

struct world {
	struct loop *loop;
	struct http_server *server;
	struct http_request *open;
	struct loop_timer *timer;
	int fd;
	char got[4096];
	size_t length;
	bool ended;
};

static void echo(struct http_request *request, void *context)
{
	size_t length = 0;
	const char *body = http_body(request, &length);
	http_reply(request, 200, NULL, body, length);
}

static void on_gone(struct http_request *request, void *context)
{
	struct world *w = context;
	w->open = NULL;
	http_abort(request);
}

static void stream(struct http_request *request, void *context)
{
	static const struct http_field fields[] = {{"Content-Type", "text/event-stream"}, {NULL, NULL}};
	struct world *w = context;
	w->open = request;
	http_on_gone(request, on_gone, w);
	http_stream_start(request, 200, fields);
	loop_timer_arm(w->timer, 1000000);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct world *w = arg;
	if (!w->open)
		return;
	http_stream_write(w->open, "data: 1\n\n", 9);
	http_stream_end(w->open);
	w->open = NULL;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Takes what is there.  The calls are the test's own. */
static void hear(struct world *w)
{
	fail_pause();
	ssize_t n = recv(w->fd, w->got + w->length, sizeof(w->got) - 1 - w->length, MSG_DONTWAIT);
	if (n > 0)
		w->length += (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		w->ended = true;
	w->got[w->length] = 0;
	fail_resume();
}

static enum err hear_until(struct world *w, const char *wanted, struct why *why)
{
	uint64_t start_ns = now_ns();
	while (!strstr(w->got, wanted)) {
		loop_turn(w->loop, 1000000);
		hear(w);
		if (w->ended || now_ns() - start_ns > torture_patience_ns())
			return why_set(why, ERR_PEER_GONE, "no '%s' in the answer", wanted);
	}
	w->length = 0;
	w->got[0] = 0;
	return ERR_OK;
}

static void say(struct world *w, const char *text)
{
	fail_pause();
	ssize_t n = send(w->fd, text, strlen(text), MSG_NOSIGNAL);
	(void)n; /* a connection that is closed shows when it is heard */
	fail_resume();
}

static void dial(struct world *w)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_server_port(w->server))};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fail_pause();
	w->fd = socket(AF_INET, SOCK_STREAM, 0);
	torture_check(connect(w->fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	fail_resume();
}

static enum err requests(struct world *w, struct why *why)
{
	dial(w);
	say(w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
	enum err e = hear_until(w, "hello", why);
	if (e != ERR_OK)
		return e;
	say(w, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nagain\r\n0\r\n\r\n");
	e = hear_until(w, "again", why);
	if (e != ERR_OK)
		return e;
	say(w, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
	e = hear_until(w, "\"error\"", why);
	if (e != ERR_OK)
		return e;
	say(w, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	return hear_until(w, "0\r\n\r\n", why);
}

static enum err server(struct why *why)
{
	struct world w = {.fd = -1};
	struct http_options options = {.header_max = 4096, .body_max = 100000};
	enum err e = loop_create(&w.loop);
	if (e == ERR_OK)
		e = loop_timer_create(w.loop, on_timer, &w, &w.timer);
	if (e == ERR_OK)
		e = http_server_create(w.loop, &options, &w.server, why);
	if (e == ERR_OK)
		e = http_route(w.server, "POST", "/echo", echo, &w);
	if (e == ERR_OK)
		e = http_route(w.server, "GET", "/stream", stream, &w);
	if (e == ERR_OK)
		e = requests(&w, why);
	if (w.fd >= 0)
		close(w.fd);
	if (w.open)
		http_abort(w.open);
	if (w.server)
		torture_check(http_server_requests_open(w.server) == 0);
	http_server_destroy(w.server);
	loop_timer_destroy(w.timer);
	loop_destroy(w.loop);
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "HTTP server");
}

/* ---- the client */

struct answerer {
	int fd;
	uint16_t port;
};

static void *answer(void *arg)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\none\ntwo\n\r\n0\r\n\r\n";
	const struct answerer *a = arg;
	char got[1024];
	fail_pause();
	int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0) {
		if (recv(fd, got, sizeof(got), 0) > 0 && send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL) > 0)
			(void)!recv(fd, got, sizeof(got), 0); /* until the other side closes */
		close(fd);
	}
	return NULL;
}

static bool on_line(void *context, const char *line, size_t length)
{
	int *lines = context;
	torture_check(strcmp(line, *lines == 0 ? "one" : "two") == 0);
	++*lines;
	return true;
}

static enum err client(struct why *why)
{
	struct answerer a;
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	pthread_t thread;
	int lines = 0;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fail_pause();
	a.fd = socket(AF_INET, SOCK_STREAM, 0);
	torture_check(bind(a.fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(a.fd, 4) == 0);
	torture_check(getsockname(a.fd, (struct sockaddr *)&address, &length) == 0);
	a.port = ntohs(address.sin_port);
	torture_check(pthread_create(&thread, NULL, answer, &a) == 0);
	fail_resume();
	struct http_client_request request = {.host = "127.0.0.1", .port = a.port, .method = "POST", .path = "/x",
					      .body = "b", .body_length = 1, .timeout_ns = 5000000000, .on_line = on_line,
					      .context = &lines};
	struct http_client_reply reply = {0};
	enum err e = http_client_call(&request, &reply, why);
	torture_check(e != ERR_OK || (reply.status == 200 && lines == 2));
	fail_pause();
	shutdown(a.fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	close(a.fd);
	fail_resume();
	buf_fini(&reply.body);
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "HTTP client");
}

const struct scenario http_scenarios[] = {
	{"HTTP server", server, NULL, 32, true},
	{"HTTP client", client, NULL, 32, true},
	{0},
};
