/* The life of a connection (drawing in http_impl.h): bytes in, requests out of them, and the ends of both. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http_impl.h"

#define READ_BYTES 65536
#define PIPELINED_MAX 65536 /* beside an open request; more waits in the socket */
#define OUT_PIPELINED_MAX ((size_t)1 << 20)
#define RECEIVE_NS ((uint64_t)60000000000) /* a whole request, from its first byte */
#define HANDSHAKE_NS ((uint64_t)10000000000)
#define LINGER_NS ((uint64_t)2000000000)

static void connection_run(struct http_connection *connection);

/* ---- connections: end ---- */

static void socket_close(struct http_connection *connection)
{
	loop_watch_destroy(connection->watch);
	connection->watch = NULL;
	channel_close(connection->channel);
	connection->channel = NULL;
	connection->fd = -1;
}

static void request_free(struct http_request *request)
{
	if (request->handled)
		request->connection->server->requests_open--;
	request->connection->request = NULL;
	buf_fini(&request->body);
	free(request->head_text);
	free(request);
}

void http_connection_free(struct http_connection *connection)
{
	struct http_server *server = connection->server;
	if (connection->request)
		request_free(connection->request);
	socket_close(connection);
	loop_task_cancel(server->loop, &connection->task);
	loop_task_cancel(server->loop, &connection->read_task);
	loop_timer_destroy(connection->timer);
	buf_fini(&connection->in);
	buf_fini(&connection->out);
	if (connection->prev)
		connection->prev->next = connection->next;
	else
		server->connections = connection->next;
	if (connection->next)
		connection->next->prev = connection->prev;
	server->connection_count--;
	free(connection);
	if (!server->draining)
		http_server_accept(server, true);
}

/* The client is gone: the handler's owner is told once, and the connection waits for it to end the request. */
void http_connection_lost(struct http_connection *connection)
{
	struct http_request *request = connection->request;
	if (!request || !request->handled) {
		http_connection_free(connection);
		return;
	}
	socket_close(connection);
	buf_clear(&connection->out);
	connection->out_sent = 0;
	http_handler *gone = request->on_gone;
	request->on_gone = NULL;
	if (gone)
		gone(request, request->gone_context);
}

void http_connection_break(struct http_connection *connection)
{
	connection->broken = true;
	loop_post(connection->server->loop, &connection->task);
}

/* The ended request's reply is in `out`; what comes next must not run inside the owner's call. */
void http_request_end(struct http_request *request)
{
	struct http_connection *connection = request->connection;
	http_connection_flush(connection);
	request_free(request);
	loop_post(connection->server->loop, &connection->task);
}

static void linger(struct http_connection *connection)
{
	connection->state = CONNECTION_LINGER;
	if (connection->out.length == 0)
		channel_end_sending(connection->channel);
	loop_timer_arm(connection->timer, connection->out.length ? connection->server->options.idle_timeout_ns : LINGER_NS);
}

static void on_task(void *arg)
{
	struct http_connection *connection = arg;
	if (connection->fd < 0 && connection->request)
		return; /* told already; its owner will end it */
	if (connection->broken || connection->fd < 0) {
		http_connection_lost(connection);
		return;
	}
	if (connection->state != CONNECTION_HANDLING || connection->request)
		return;
	if (connection->close_after) {
		linger(connection);
		return;
	}
	/* Who asks on without reading the answers waits; on_ready() comes back here. */
	if (connection->out.length > OUT_PIPELINED_MAX)
		return;
	connection->state = CONNECTION_HEAD;
	loop_timer_arm(connection->timer, connection->server->options.idle_timeout_ns);
	connection_run(connection);
}

/* ---- requests ---- */

static void refuse(struct http_connection *connection, int status, const char *message)
{
	static char method[] = "GET";
	if (!connection->request) {
		connection->request = calloc(1, sizeof(*connection->request));
		if (!connection->request) {
			connection->broken = true;
			loop_post(connection->server->loop, &connection->task);
			return;
		}
		connection->request->connection = connection;
	}
	/* Where the next request begins is not known. */
	connection->close_after = true;
	connection->state = CONNECTION_HANDLING;
	loop_timer_cancel(connection->timer);
	connection->request->head.method = method;
	http_reply_error(connection->request, status, "invalid_request_error", NULL, NULL, message, NULL);
}

static void dispatch(struct http_connection *connection)
{
	struct http_request *request = connection->request;
	bool path_known = false;
	const struct http_route *route = http_route_find(connection->server, &request->head, &path_known);
	connection->state = CONNECTION_HANDLING;
	loop_timer_cancel(connection->timer);
	request->handled = true;
	connection->server->requests_open++;
	if (route)
		route->handler(request, route->context);
	else if (path_known)
		http_reply_error(request, 405, "invalid_request_error", "method_not_allowed", NULL,
		                 "This path does not take this method.", NULL);
	else
		http_reply_error(request, 404, "invalid_request_error", "not_found", NULL, "There is no such path.", NULL);
}

static void begin_body(struct http_connection *connection)
{
	struct http_request *request = connection->request;
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	request->body.limit = connection->server->options.body_max;
	if (request->head.body_length > connection->server->options.body_max) {
		refuse(connection, 413, "The request's body is too large.");
		return;
	}
	connection->state = CONNECTION_BODY;
	connection->chunks = (struct http_chunks){0};
	if (request->head.expects_continue && (request->head.chunked || request->head.body_length)) {
		http_connection_write(connection, go_on, sizeof(go_on) - 1);
		http_connection_flush(connection);
	}
}

static void parse_head(struct http_connection *connection, size_t length)
{
	struct http_request *request = calloc(1, sizeof(*request));
	char *text = request ? malloc(length + 1) : NULL;
	if (!text) {
		free(request);
		http_connection_break(connection);
		return;
	}
	memcpy(text, connection->in.data + connection->in_taken, length);
	text[length] = 0;
	connection->in_taken += length;
	request->connection = connection;
	request->head_text = text;
	connection->request = request;
	enum err e = http_head_parse(text, length, &request->head);
	if (e == ERR_OK)
		begin_body(connection);
	else if (e == ERR_TOO_LARGE)
		refuse(connection, 431, "The request has too many header fields.");
	else if (e == ERR_UNSUPPORTED)
		refuse(connection, 501, "HTTP version or transfer encoding is not supported.");
	else
		refuse(connection, 400, "The request's head is malformed.");
}

static bool take_head(struct http_connection *connection)
{
	const char *data = connection->in.data ? connection->in.data + connection->in_taken : "";
	size_t have = connection->in.length - connection->in_taken;
	size_t header_max = connection->server->options.header_max;
	/* Empty lines before a request line are skipped, as RFC 9112 asks. */
	if (have >= 2 && data[0] == '\r' && data[1] == '\n') {
		connection->in_taken += 2;
		return true;
	}
	size_t length = http_head_length(data, have < header_max ? have : header_max);
	if (length) {
		parse_head(connection, length);
		return true;
	}
	if (have >= header_max)
		refuse(connection, 431, "The request's header fields are too large.");
	return false;
}

static bool take_chunked(struct http_connection *connection)
{
	struct http_request *request = connection->request;
	size_t consumed = 0, from = 0, length = 0;
	bool end = false;
	const char *data = connection->in.data + connection->in_taken;
	enum err e = http_chunks_feed(&connection->chunks, data, connection->in.length - connection->in_taken, &consumed,
	                              &from, &length, &end);
	if (e == ERR_INVALID) {
		refuse(connection, 400, "The request's chunked body is malformed.");
		return false;
	}
	if (length && buf_append(&request->body, data + from, length) != ERR_OK) {
		refuse(connection, 413, "The request's body is too large.");
		return false;
	}
	connection->in_taken += consumed;
	if (end)
		dispatch(connection);
	return e == ERR_OK;
}

static bool take_body(struct http_connection *connection)
{
	struct http_request *request = connection->request;
	if (request->head.chunked)
		return connection->in.length > connection->in_taken && take_chunked(connection);
	size_t have = connection->in.length - connection->in_taken;
	size_t missing = (size_t)request->head.body_length - request->body.length;
	size_t part = have < missing ? have : missing;
	if (part && buf_append(&request->body, connection->in.data + connection->in_taken, part) != ERR_OK) {
		refuse(connection, 413, "The request's body is too large.");
		return false;
	}
	connection->in_taken += part;
	if (part < missing)
		return false;
	dispatch(connection);
	return true;
}

static void set_reading(struct http_connection *connection, bool reading)
{
	if (connection->fd < 0 || connection->reading == reading)
		return;
	connection->reading = reading;
	unsigned events = (reading ? LOOP_READ : 0) | (connection->writing ? LOOP_WRITE : 0);
	if (loop_watch_set(connection->watch, events) != ERR_OK)
		http_connection_break(connection);
	if (reading && channel_pending(connection->channel))
		loop_post(connection->server->loop, &connection->read_task);
}

/* As far as what has come goes.  A handler that replied at once is followed up from the task. */
static void connection_run(struct http_connection *connection)
{
	bool moved = true;
	while (moved && !connection->broken) {
		switch (connection->state) {
		case CONNECTION_HEAD:
			moved = take_head(connection);
			break;
		case CONNECTION_BODY:
			moved = take_body(connection);
			break;
		case CONNECTION_HANDLING:
		case CONNECTION_LINGER:
			moved = false;
			break;
		}
	}
	size_t left = connection->in.length - connection->in_taken;
	if (left)
		memmove(connection->in.data, connection->in.data + connection->in_taken, left);
	connection->in.length = left;
	connection->in_taken = 0;
	set_reading(connection, connection->state != CONNECTION_HANDLING || left < PIPELINED_MAX);
}

/* ---- connections: events ---- */

static void read_some(struct http_connection *connection)
{
	if (buf_reserve(&connection->in, READ_BYTES) != ERR_OK) {
		http_connection_lost(connection);
		return;
	}
	size_t n = 0;
	enum err e = channel_read(connection->channel, connection->in.data + connection->in.length, READ_BYTES, &n);
	if (e == ERR_AGAIN)
		return;
	if (e != ERR_OK) {
		http_connection_lost(connection);
		return;
	}
	if (channel_pending(connection->channel))
		loop_post(connection->server->loop, &connection->read_task);
	if (connection->state == CONNECTION_LINGER)
		return; /* thrown away: in.length stays */
	bool first = connection->state == CONNECTION_HEAD && connection->in.length == 0;
	connection->in.length += n;
	if (first)
		loop_timer_arm(connection->timer, RECEIVE_NS);
	connection_run(connection);
}

static void on_read_task(void *arg)
{
	struct http_connection *connection = arg;
	if (connection->fd >= 0 && connection->reading && !connection->broken)
		read_some(connection);
}

/* False: not yet, or the connection is gone. */
static bool shake(struct http_connection *connection)
{
	if (connection->is_shaken)
		return true;
	enum err e = channel_handshake(connection->channel, connection->peer_address);
	if (e == ERR_AGAIN)
		e = loop_watch_set(connection->watch, channel_wants_write(connection->channel) ? LOOP_WRITE : LOOP_READ);
	else if (e == ERR_OK) {
		connection->is_shaken = true;
		loop_timer_arm(connection->timer, connection->server->options.idle_timeout_ns);
		e = loop_watch_set(connection->watch, LOOP_READ);
		if (channel_pending(connection->channel))
			loop_post(connection->server->loop, &connection->read_task);
	}
	if (e != ERR_OK)
		http_connection_free(connection);
	return e == ERR_OK && connection->is_shaken;
}

static void on_ready(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct http_connection *connection = arg;
	if (!shake(connection))
		return;
	if (ready & LOOP_WRITE) {
		http_connection_flush(connection);
		if (connection->state == CONNECTION_LINGER && connection->out.length == 0)
			linger(connection);
		else if (connection->state == CONNECTION_HANDLING && !connection->request)
			loop_post(connection->server->loop, &connection->task);
	}
	if (ready & LOOP_READ && !connection->broken)
		read_some(connection);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct http_connection *connection = arg;
	if (!connection->is_shaken)
		channel_refuse(connection->channel, REFUSAL_TIMEOUT, connection->peer_address, "no handshake in time");
	http_connection_lost(arg);
}

enum err http_connection_open(struct http_server *server, int fd, struct http_connection **ret_connection)
{
	struct http_connection *connection = calloc(1, sizeof(*connection));
	if (!connection)
		return ERR_NOMEM;
	connection->server = server;
	connection->fd = fd;
	connection->is_shaken = !server->options.tls;
	connection->reading = true;
	/* One receive beyond a head or what is pipelined. */
	connection->in.limit = server->options.header_max + PIPELINED_MAX + 2 * READ_BYTES;
	loop_task_init(&connection->task, on_task, connection);
	loop_task_init(&connection->read_task, on_read_task, connection);
	enum err e = loop_timer_create(server->loop, on_timer, connection, &connection->timer);
	if (e == ERR_OK)
		e = loop_watch_create(server->loop, fd, LOOP_READ, on_ready, connection, &connection->watch);
	struct channel_options options = {.tls = server->options.tls, .purpose = TLS_API, .server = true};
	if (e == ERR_OK)
		e = channel_create(fd, &options, &connection->channel);
	if (e != ERR_OK) {
		loop_watch_destroy(connection->watch);
		loop_timer_destroy(connection->timer);
		free(connection);
		return e;
	}
	loop_timer_arm(connection->timer, connection->is_shaken ? server->options.idle_timeout_ns : HANDSHAKE_NS);
	connection->next = server->connections;
	if (server->connections)
		server->connections->prev = connection;
	server->connections = connection;
	server->connection_count++;
	*ret_connection = connection;
	return ERR_OK;
}
