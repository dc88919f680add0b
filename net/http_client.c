#include "net/http_client.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "net/http_parse.h"

#define HEAD_MAX 65536
#define LINE_MAX_BYTES ((size_t)16 << 20)
#define READ_BYTES 65536

struct call {
	const struct http_client_request *request;
	struct http_client_reply *reply;
	struct why *why;
	int fd;
	struct buf in;   /* what came and is not used yet */
	struct buf line; /* an unfinished line */
	bool chunked;
	bool has_length;
	uint64_t left; /* with has_length */
	struct http_chunks chunks;
	bool stopped; /* on_line said enough */
};

static enum err dial(const struct http_client_request *request, int *ret_fd, struct why *why)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
	char port[8];
	snprintf(port, sizeof(port), "%u", request->port);
	if (getaddrinfo(request->host, port, &hints, &list) != 0)
		return why_set(why, ERR_UNAVAILABLE, "host '%s' is not known", request->host);
	uint64_t ns = request->timeout_ns ? request->timeout_ns : (uint64_t)600 * 1000000000;
	struct timeval wait = {(time_t)(ns / 1000000000), (suseconds_t)(ns % 1000000000 / 1000)};
	int fd = -1, error = 0;
	for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next) {
		fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0) {
			error = errno;
			continue;
		}
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
		if (connect(fd, at->ai_addr, at->ai_addrlen) == 0)
			break;
		error = errno;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	*ret_fd = fd;
	if (fd >= 0)
		return ERR_OK;
	return why_set(why, ERR_UNAVAILABLE, "connecting to %s port %u: %s", request->host, request->port,
	               strerror(error));
}

static enum err send_all(struct call *call, const char *data, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t n = send(call->fd, data + at, length - at, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return why_set(call->why, errno == EAGAIN ? ERR_DEADLINE : ERR_PEER_GONE, "sending the request: %s",
			               strerror(errno));
		at += (size_t)n;
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
	ssize_t n;
	do {
		n = recv(call->fd, call->in.data + call->in.length, READ_BYTES, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return why_set(call->why, errno == EAGAIN ? ERR_DEADLINE : ERR_PEER_GONE, "waiting for the reply: %s",
		               strerror(errno));
	call->in.length += (size_t)n;
	return n ? ERR_OK : ERR_NOT_FOUND;
}

static void drop(struct buf *buf, size_t length)
{
	memmove(buf->data, buf->data + length, buf->length - length);
	buf->length -= length;
}

static enum err parse_head(struct call *call, char *text)
{
	char *next = strstr(text, "\r\n");
	if (sscanf(text, "HTTP/1.%*1[01] %3d", &call->reply->status) != 1)
		return why_set(call->why, ERR_PROTOCOL, "reply of %s is not HTTP/1.1", call->request->host);
	for (char *line = next + 2; *line && *line != '\r'; line = next + 2) {
		next = strstr(line, "\r\n");
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

enum err http_client_exchange(int fd, const struct http_client_request *request, struct http_client_reply *ret_reply,
                              struct why *why)
{
	struct call call = {.fd = fd, .request = request, .reply = ret_reply, .why = why};
	call.in.limit = HEAD_MAX + 2 * READ_BYTES;
	call.line.limit = LINE_MAX_BYTES;
	enum err e = send_request(&call);
	if (e == ERR_OK)
		e = receive_head(&call);
	if (e == ERR_OK && strcmp(request->method, "HEAD") != 0)
		e = receive_body(&call);
	buf_fini(&call.in);
	buf_fini(&call.line);
	return e;
}

enum err http_client_call(const struct http_client_request *request, struct http_client_reply *ret_reply,
                          struct why *why)
{
	int fd = -1;
	enum err e = dial(request, &fd, why);
	if (e != ERR_OK)
		return e;
	e = http_client_exchange(fd, request, ret_reply, why);
	close(fd);
	return e;
}
