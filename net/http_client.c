#include "net/http_client.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/channel.h"
#include "net/http_parse.h"

#define HEAD_MAX 65536
#define LINE_MAX_BYTES ((size_t)16 << 20)
#define READ_BYTES 65536

struct call {
	const struct http_client_request *request;
	struct http_client_reply *reply;
	struct why *why;
	struct tls *tls; /* NULL: plain */
	struct channel *channel;
	int timeout_ms;  /* between two arrivals */
	struct buf in;   /* what came and is not used yet */
	struct buf line; /* an unfinished line */
	bool chunked;
	bool has_length;
	uint64_t left; /* with has_length */
	struct http_chunks chunks;
	bool stopped; /* on_line said enough */
};

static enum err wait(struct call *call, int fd, short events)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};
	int ready;
	do {
		ready = poll(&poll_fd, 1, call->timeout_ms);
	} while (ready < 0 && errno == EINTR);
	return ready > 0 ? ERR_OK : ERR_DEADLINE;
}

/* A nonblocking socket, connected; -1: errno says why. */
static int connect_to(struct call *call, const struct addrinfo *at)
{
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
	socklen_t length = sizeof(error);
	if (fd < 0)
		return -1;
	if (connect(fd, at->ai_addr, at->ai_addrlen) == 0)
		return fd;
	error = errno;
	if (error == EINPROGRESS) {
		error = ETIMEDOUT;
		if (wait(call, fd, POLLOUT) == ERR_OK && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0)
			return fd;
	}
	close(fd);
	errno = error;
	return -1;
}

static enum err shake(struct call *call)
{
	enum err e;
	while ((e = channel_handshake(call->channel, call->request->host)) == ERR_AGAIN) {
		short events = channel_wants_write(call->channel) ? POLLOUT : POLLIN;
		if (wait(call, channel_fd(call->channel), events) != ERR_OK)
			return why_set(call->why, ERR_DEADLINE, "no TLS handshake with %s in time", call->request->host);
	}
	return e == ERR_OK ? ERR_OK : why_set(call->why, e, "TLS with %s port %u: %s", call->request->host, call->request->port,
					      channel_refusal(call->channel));
}

static enum err open_channel(struct call *call, int fd)
{
	const char *ca_file = call->request->ca_file;
	enum err e = ca_file ? tls_create(&(struct tls_options){.ca_file = ca_file}, &call->tls, call->why) : ERR_OK;
	struct channel_options options = {.tls = call->tls, .purpose = TLS_API, .expect_host = call->request->host};
	if (e == ERR_OK)
		e = channel_create(fd, &options, &call->channel);
	if (e != ERR_OK) {
		close(fd);
		return e;
	}
	return shake(call);
}

static enum err dial(struct call *call)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
	char port[8];
	int fd = -1;
	snprintf(port, sizeof(port), "%u", call->request->port);
	if (getaddrinfo(call->request->host, port, &hints, &list) != 0)
		return why_set(call->why, ERR_UNAVAILABLE, "host '%s' is not known", call->request->host);
	for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
		fd = connect_to(call, at);
	int error = errno;
	freeaddrinfo(list);
	if (fd >= 0)
		return open_channel(call, fd);
	return why_set(call->why, ERR_UNAVAILABLE, "connecting to %s port %u: %s", call->request->host,
	               call->request->port, strerror(error));
}

static enum err send_all(struct call *call, const char *data, size_t length)
{
	for (size_t at = 0; at < length;) {
		size_t n = 0;
		enum err e = channel_write(call->channel, data + at, length - at, &n);
		if (e == ERR_AGAIN)
			e = wait(call, channel_fd(call->channel), POLLOUT);
		if (e != ERR_OK)
			return why_set(call->why, e, "sending the request: %s", err_text(e));
		at += n;
	}
	return ERR_OK;
}

static enum err send_request(struct call *call)
{
	const struct http_client_request *request = call->request;
	struct buf head = {.limit = HEAD_MAX};
	enum err e = buf_printf(&head, "%s %s HTTP/1.1\r\nHost: %s:%u\r\nConnection: close\r\n", request->method,
	                        request->path, request->host, request->port);
	for (const struct http_field *field = request->fields; e == ERR_OK && field && field->name; field++)
		e = buf_printf(&head, "%s: %s\r\n", field->name, field->value);
	if (e == ERR_OK && (request->body_length || strcmp(request->method, "POST") == 0))
		e = buf_printf(&head, "Content-Length: %zu\r\n", request->body_length);
	if (e == ERR_OK)
		e = buf_text(&head, "\r\n");
	if (e == ERR_OK)
		e = send_all(call, head.data, head.length);
	if (e == ERR_OK)
		e = send_all(call, request->body, request->body_length);
	buf_fini(&head);
	return e;
}

/* ERR_NOT_FOUND: the stream ended. */
static enum err receive(struct call *call)
{
	enum err e = buf_reserve(&call->in, READ_BYTES);
	if (e != ERR_OK)
		return e;
	size_t n = 0;
	while ((e = channel_read(call->channel, call->in.data + call->in.length, READ_BYTES, &n)) == ERR_AGAIN)
		if (wait(call, channel_fd(call->channel), POLLIN) != ERR_OK)
			return why_set(call->why, ERR_DEADLINE, "waiting for the reply: nothing came in time");
	call->in.length += n;
	return e == ERR_PEER_GONE ? ERR_NOT_FOUND : e;
}

static void drop(struct buf *buf, size_t length)
{
	memmove(buf->data, buf->data + length, buf->length - length);
	buf->length -= length;
}

static enum err parse_head(struct call *call, char *text)
{
	char *next = strstr(text, "\r\n");
	if (!next || sscanf(text, "HTTP/1.%*1[01] %3d", &call->reply->status) != 1 || call->reply->status < 100)
		return why_set(call->why, ERR_PROTOCOL, "reply of %s is not HTTP/1.1", call->request->host);
	for (char *line = next + 2; *line && *line != '\r'; line = next + 2) {
		next = strstr(line, "\r\n");
		if (!next)
			return why_set(call->why, ERR_PROTOCOL, "a line of the reply's head does not end with CR LF");
		*next = 0;
		if (strncasecmp(line, "content-length:", 15) == 0) {
			call->has_length = true;
			call->left = strtoull(line + 15, NULL, 10);
		}
		if (strncasecmp(line, "transfer-encoding:", 18) == 0 && strcasestr(line, "chunked"))
			call->chunked = true;
	}
	return ERR_OK;
}

static enum err receive_head(struct call *call)
{
	size_t length = 0;
	while (!(length = call->in.data ? http_head_length(call->in.data, call->in.length) : 0)) {
		enum err e = call->in.length > HEAD_MAX ? ERR_TOO_LARGE : receive(call);
		if (e == ERR_NOT_FOUND)
			return why_set(call->why, ERR_PEER_GONE, "connection ended before a reply");
		if (e != ERR_OK)
			return e;
	}
	call->in.data[length - 1] = 0; /* of the empty line */
	enum err e = parse_head(call, call->in.data);
	drop(&call->in, length);
	bool interim = e == ERR_OK && call->reply->status == 100;
	return interim ? receive_head(call) : e;
}

/* ---- the body ---- */

static enum err take_lines(struct call *call, const char *data, size_t length)
{
	while (length && !call->stopped) {
		const char *end = memchr(data, '\n', length);
		size_t part = end ? (size_t)(end - data) : length;
		enum err e = buf_append(&call->line, data, part);
		if (e != ERR_OK)
			return e;
		data += part + (end ? 1 : 0);
		length -= part + (end ? 1 : 0);
		if (!end)
			break;
		if (call->line.length && call->line.data[call->line.length - 1] == '\r')
			call->line.data[--call->line.length] = 0;
		call->stopped = !call->request->on_line(call->request->context, call->line.data ? call->line.data : "",
		                                        call->line.length);
		buf_clear(&call->line);
	}
	return ERR_OK;
}

static enum err take(struct call *call, const char *data, size_t length)
{
	if (call->request->on_line && call->reply->status < 400)
		return take_lines(call, data, length);
	return buf_append(&call->reply->body, data, length);
}

/* *ret_end: all of the body was there. */
static enum err take_arrived(struct call *call, bool *ret_end)
{
	size_t consumed = 0, from = 0, length = 0;
	enum err e = ERR_OK, more = ERR_OK;
	while (call->chunked && e == ERR_OK && more == ERR_OK && call->in.length && !*ret_end) {
		more = http_chunks_feed(&call->chunks, call->in.data, call->in.length, &consumed, &from, &length, ret_end);
		if (more == ERR_INVALID)
			return why_set(call->why, ERR_PROTOCOL, "malformed chunk in the reply");
		e = length ? take(call, call->in.data + from, length) : ERR_OK;
		drop(&call->in, consumed);
	}
	if (call->chunked)
		return e;
	length = call->has_length && call->left < call->in.length ? (size_t)call->left : call->in.length;
	e = length ? take(call, call->in.data, length) : ERR_OK;
	call->left -= call->has_length ? length : 0;
	buf_clear(&call->in);
	*ret_end = call->has_length && call->left == 0;
	return e;
}

static enum err receive_body(struct call *call)
{
	for (bool end = false;;) {
		enum err e = take_arrived(call, &end);
		if (e != ERR_OK || call->stopped || end)
			return e;
		e = receive(call);
		if (e == ERR_NOT_FOUND && !call->chunked && !call->has_length)
			return ERR_OK;
		if (e == ERR_NOT_FOUND)
			return why_set(call->why, ERR_PEER_GONE, "connection ended in the middle of the reply");
		if (e != ERR_OK)
			return e;
	}
}

/* fd: -1: it dials. */
static enum err run(int fd, const struct http_client_request *request, struct http_client_reply *ret_reply,
                    struct why *why)
{
	struct call call = {.request = request, .reply = ret_reply, .why = why};
	uint64_t ns = request->timeout_ns ? request->timeout_ns : (uint64_t)600 * 1000000000;
	call.timeout_ms = ns / 1000000 < 1u << 30 ? (int)(ns / 1000000) : 1 << 30;
	call.in.limit = HEAD_MAX + 2 * READ_BYTES;
	call.line.limit = LINE_MAX_BYTES;
	enum err e = fd < 0 ? dial(&call) : open_channel(&call, fd);
	if (e == ERR_OK)
		e = send_request(&call);
	if (e == ERR_OK)
		e = receive_head(&call);
	if (e == ERR_OK && strcmp(request->method, "HEAD") != 0)
		e = receive_body(&call);
	channel_close(call.channel);
	tls_destroy(call.tls);
	buf_fini(&call.in);
	buf_fini(&call.line);
	return e;
}

enum err http_client_call(const struct http_client_request *request, struct http_client_reply *ret_reply,
                          struct why *why)
{
	return run(-1, request, ret_reply, why);
}

enum err http_client_exchange(int fd, const struct http_client_request *request, struct http_client_reply *ret_reply,
                              struct why *why)
{
	return run(fd, request, ret_reply, why);
}
