/* What goes out: status lines, fields, bodies, chunks, and JSON errors. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net/http_impl.h"

/* Above it the caller has ignored http_queued_bytes(): the connection is cut. */
#define OUT_MAX ((size_t)256 << 20)
#define OUT_KEPT 16384 /* more is given back once it was taken */

static const char *reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 202: return "Accepted";
	case 204: return "No Content";
	case 301: return "Moved Permanently";
	case 302: return "Found";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 408: return "Request Timeout";
	case 409: return "Conflict";
	case 413: return "Content Too Large";
	case 415: return "Unsupported Media Type";
	case 422: return "Unprocessable Content";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	case 500: return "Internal Server Error";
	case 501: return "Not Implemented";
	case 503: return "Service Unavailable";
	case 504: return "Gateway Timeout";
	}
	return "Status";
}

/* ---- the socket ---- */

static void watch_writing(struct http_connection *connection, bool writing)
{
	if (connection->writing == writing)
		return;
	connection->writing = writing;
	http_connection_watch(connection);
}

/* A steady but slow reader frees a third of the kernel's buffer before we may write again: what it has taken of that is
 * progress too. */
bool http_connection_patience(struct http_connection *connection)
{
	int left = 0;
	bool known = ioctl(connection->fd, SIOCOUTQ, &left) == 0;
	bool progress = !known || left != connection->left;
	connection->left = left;
	loop_timer_arm(connection->write_timer, connection->server->options.write_timeout_ns);
	return progress;
}

void http_connection_flush(struct http_connection *connection)
{
	struct buf *out = &connection->out;
	size_t before = connection->out_sent;
	while (connection->fd >= 0 && !connection->broken && connection->out_sent < out->length) {
		size_t n = 0;
		enum err e = channel_write(connection->channel, out->data + connection->out_sent,
					   out->length - connection->out_sent, &n);
		if (e != ERR_OK && e != ERR_AGAIN)
			http_connection_break(connection);
		if (e != ERR_OK)
			break;
		connection->out_sent += n;
	}
	bool taken = connection->out_sent != before;
	if (connection->fd < 0 || connection->broken || connection->out_sent == out->length) {
		buf_clear(out);
		if (out->capacity > OUT_KEPT)
			buf_fini(out);
		connection->out_sent = 0;
		loop_timer_cancel(connection->write_timer);
	} else if (connection->out_sent > out->length / 2 && connection->out_sent >= 65536) {
		memmove(out->data, out->data + connection->out_sent, out->length - connection->out_sent);
		out->length -= connection->out_sent;
		connection->out_sent = 0;
	}
	if (out->length && (taken || !loop_timer_armed(connection->write_timer)))
		http_connection_patience(connection);
	if (connection->fd >= 0 && !connection->broken)
		watch_writing(connection, out->length > 0);
}

void http_connection_write(struct http_connection *connection, const void *data, size_t length)
{
	if (connection->fd < 0 || connection->broken)
		return;
	connection->out.limit = OUT_MAX;
	if (buf_append(&connection->out, data, length) != ERR_OK)
		http_connection_break(connection);
}

static void write_text(struct http_connection *connection, const char *text)
{
	http_connection_write(connection, text, strlen(text));
}

size_t http_queued_bytes(const struct http_request *request)
{
	return request->connection->out.length - request->connection->out_sent;
}

/* ---- replies ---- */

/* A CR or LF in a value would let its writer add fields of his own. */
static bool is_clean(const char *text)
{
	return text[strcspn(text, "\r\n")] == 0;
}

static void write_field(struct http_connection *connection, const char *name, const char *value)
{
	write_text(connection, name);
	write_text(connection, ": ");
	write_text(connection, value);
	write_text(connection, "\r\n");
}

/* Of every reply. */
static void write_common(struct http_request *request)
{
	const char *origin = http_request_origin(request);
	write_field(request->connection, "x-request-id", request->id);
	if (!origin)
		return;
	write_field(request->connection, "Access-Control-Allow-Origin", origin);
	write_field(request->connection, "Access-Control-Expose-Headers", "x-request-id, retry-after, retry-after-ms");
	write_field(request->connection, "Vary", "Origin");
}

static void write_head(struct http_request *request, int status, const struct http_field *fields, const char *framing)
{
	struct http_connection *connection = request->connection;
	char line[128];
	bool has_type = false;
	if (!request->head.keep_alive || connection->server->draining)
		connection->close_after = true;
	snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\n", status, reason(status));
	write_text(connection, line);
	for (const struct http_field *field = fields; field && field->name; field++) {
		assert(is_clean(field->name));
		has_type |= strcasecmp(field->name, "content-type") == 0;
		if (is_clean(field->value))
			write_field(connection, field->name, field->value);
	}
	write_common(request);
	if (!has_type && status != 204)
		write_text(connection, "Content-Type: text/plain; charset=utf-8\r\n");
	write_text(connection, framing);
	write_text(connection, connection->close_after ? "Connection: close\r\n\r\n" : "\r\n");
}

void http_reply(struct http_request *request, int status, const struct http_field *fields, const void *body,
                size_t length)
{
	assert(!request->streaming);
	char framing[64];
	snprintf(framing, sizeof(framing), "Content-Length: %zu\r\n", length);
	write_head(request, status, fields, status == 204 ? "" : framing);
	if (strcmp(request->head.method, "HEAD") != 0 && status != 204)
		http_connection_write(request->connection, body, length);
	http_request_end(request);
}

static const struct http_field json_fields[] = {{"Content-Type", "application/json"}, {NULL, NULL}};

void http_reply_json(struct http_request *request, int status, const char *json)
{
	http_reply(request, status, json_fields, json, strlen(json));
}

static enum err append_json_string(struct buf *buf, const char *text)
{
	enum err e = text ? buf_text(buf, "\"") : buf_text(buf, "null");
	for (const char *c = text; e == ERR_OK && c && *c; c++) {
		if (*c == '"' || *c == '\\')
			e = buf_printf(buf, "\\%c", *c);
		else if ((unsigned char)*c < 0x20)
			e = buf_printf(buf, "\\u%04x", (unsigned)*c);
		else
			e = buf_append(buf, c, 1);
	}
	return e == ERR_OK && text ? buf_text(buf, "\"") : e;
}

void http_reply_error(struct http_request *request, int status, const char *type, const char *code,
                      const char *param, const char *message, const struct http_field *fields)
{
	struct buf body = {.limit = 65536};
	struct http_field all[16] = {json_fields[0]};
	for (size_t i = 1; fields && fields->name && i + 1 < sizeof(all) / sizeof(*all); fields++)
		all[i++] = *fields;
	const char *names[] = {"message", "type", "param", "code"}, *values[] = {message, type, param, code};
	enum err e = buf_text(&body, "{\"error\":{");
	for (size_t i = 0; e == ERR_OK && i < 4; i++) {
		e = buf_printf(&body, "%s\"%s\":", i ? "," : "", names[i]);
		if (e == ERR_OK)
			e = append_json_string(&body, values[i]);
	}
	if (e == ERR_OK)
		e = buf_text(&body, "}}");
	if (e == ERR_OK)
		http_reply(request, status, all, body.data, body.length);
	else
		http_reply_json(request, 500, "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
		                              "\"param\":null,\"code\":null}}");
	buf_fini(&body);
}

/* ---- streams ---- */

void http_stream_start(struct http_request *request, int status, const struct http_field *fields)
{
	assert(!request->streaming);
	request->streaming = true;
	request->raw = request->head.is_http10;
	if (request->raw)
		request->connection->close_after = true;
	write_head(request, status, fields, request->raw ? "" : "Transfer-Encoding: chunked\r\n");
	http_connection_flush(request->connection);
}

void http_stream_write(struct http_request *request, const void *data, size_t length)
{
	assert(request->streaming);
	char size[32];
	if (length == 0 || strcmp(request->head.method, "HEAD") == 0)
		return;
	snprintf(size, sizeof(size), "%zx\r\n", length);
	if (!request->raw)
		write_text(request->connection, size);
	http_connection_write(request->connection, data, length);
	if (!request->raw)
		write_text(request->connection, "\r\n");
	http_connection_flush(request->connection);
}

void http_stream_end(struct http_request *request)
{
	assert(request->streaming);
	if (!request->raw && strcmp(request->head.method, "HEAD") != 0)
		write_text(request->connection, "0\r\n\r\n");
	http_request_end(request);
}

void http_abort(struct http_request *request)
{
	struct http_connection *connection = request->connection;
	/* Reset instead of an orderly end, so that nobody takes what came for the whole. */
	struct linger reset = {.l_onoff = 1};
	if (connection->fd >= 0)
		(void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	http_connection_break(connection);
	http_request_end(request);
}
