/* The life of a connection (drawing in http_impl.h): bytes in, requests out of them, and the ends of both. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http_impl.h"

#define READ_BYTES 65536
#define PIPELINED_MAX 65536 /* beside an open request; more waits in the socket */
#define OUT_PIPELINED_MAX ((size_t)1 << 20)
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
	http_drop_body(request);
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
	loop_timer_destroy(connection->write_timer);
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
	loop_timer_cancel(connection->write_timer);
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
	if (connection->state == CONNECTION_HEAD && connection->in.length)
		loop_timer_arm(connection->timer, connection->server->options.header_timeout_ns); /* it had begun already */
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
	if (!connection->request->head.method)
		connection->request->head.method = method;
	if (!connection->request->id[0])
		http_request_name(connection->request);
	http_reply_error(connection->request, status, "invalid_request_error", NULL, NULL, message, NULL);
}

static void dispatch(struct http_connection *connection)
{
	struct http_request *request = connection->request;
	connection->state = CONNECTION_HANDLING;
	loop_timer_cancel(connection->timer);
	request->handled = true;
	connection->server->requests_open++;
	http_request_dispatch(request);
}

/* Of all bodies together. */
static bool body_fits(struct http_connection *connection, uint64_t more)
{
	const struct http_server *server = connection->server;
	if (server->bodies + more <= server->options.bodies_max)
		return true;
	refuse(connection, 503, "Too many large requests are being read. Please try again.");
	return false;
}

static enum err take_bytes(struct http_connection *connection, const char *data, size_t length)
{
	struct http_request *request = connection->request;
	if (!body_fits(connection, length))
		return ERR_AGAIN;
	enum err e = buf_append(&request->body, data, length);
	if (e == ERR_OK)
		connection->server->bodies += length;
	else
		refuse(connection, 413, "The request's body is too large.");
	return e;
}

/* A body may take longer the more of it has come. */
static void extend_body_time(struct http_connection *connection)
{
	uint64_t now_ns = loop_now_ns(connection->server->loop);
	uint64_t end_ns = connection->body_since_ns + connection->server->options.receive_timeout_ns +
			  (uint64_t)connection->request->body.length * 1000000000 / HTTP_BODY_RATE;
	loop_timer_arm(connection->timer, end_ns > now_ns ? end_ns - now_ns : 0);
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
	if (!body_fits(connection, request->head.body_length))
		return;
	connection->state = CONNECTION_BODY;
	connection->body_since_ns = loop_now_ns(connection->server->loop);
	loop_timer_arm(connection->timer, connection->server->options.receive_timeout_ns);
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
	http_request_name(request);
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
	size_t consumed = 0, from = 0, length = 0;
	bool end = false;
	const char *data = connection->in.data + connection->in_taken;
	enum err e = http_chunks_feed(&connection->chunks, data, connection->in.length - connection->in_taken, &consumed,
	                              &from, &length, &end);
	if (e == ERR_INVALID) {
		refuse(connection, 400, "The request's chunked body is malformed.");
		return false;
	}
	if (length && take_bytes(connection, data + from, length) != ERR_OK)
		return false;
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
	if (part && take_bytes(connection, connection->in.data + connection->in_taken, part) != ERR_OK)
		return false;
	connection->in_taken += part;
	if (part < missing)
		return false;
	dispatch(connection);
	return true;
}

/* Where nothing is read, the end of the client's stream is still wanted. */
void http_connection_watch(struct http_connection *connection)
{
	unsigned events = (connection->reading ? LOOP_READ : LOOP_CLOSED) | (connection->writing ? LOOP_WRITE : 0);
	if (loop_watch_set(connection->watch, events) != ERR_OK)
		http_connection_break(connection);
}

static void set_reading(struct http_connection *connection, bool reading)
{
	if (connection->fd < 0 || connection->reading == reading)
		return;
	connection->reading = reading;
	http_connection_watch(connection);
	if (reading && channel_pending(connection->channel))
		loop_post(connection->server->loop, &connection->read_task);
}

static void empty(struct buf *buf)
{
	size_t limit = buf->limit;
	buf_fini(buf);
	buf->limit = limit;
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
	if (left == 0)
		empty(&connection->in); /* a connection that waits, or is answered, holds nothing */
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
		loop_timer_arm(connection->timer, connection->server->options.header_timeout_ns);
	connection_run(connection);
	if (connection->state == CONNECTION_BODY && connection->request)
		extend_body_time(connection);
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
	if (ready & LOOP_CLOSED && !connection->reading && !connection->broken)
		http_connection_lost(connection);
	else if (ready & LOOP_READ && !connection->broken)
		read_some(connection);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct http_connection *connection = arg;
	bool begun = connection->state == CONNECTION_BODY || (connection->state == CONNECTION_HEAD && connection->in.length);
	if (!connection->is_shaken)
		channel_refuse(connection->channel, REFUSAL_TIMEOUT, connection->peer_address, "no handshake in time");
	if (begun)
		refuse(connection, 408, "The request did not come whole in time.");
	else
		http_connection_lost(connection);
}

/* Nothing was taken for so long: what waits for it is thrown away, in the kernel too. */
static void on_write_timer(struct loop_timer *timer, void *arg)
{
	(void)timer;
	struct http_connection *connection = arg;
	struct linger reset = {.l_onoff = 1};
	if (http_connection_patience(connection))
		return;
	(void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	connection->server->stalled++;
	http_connection_lost(connection);
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
		e = loop_timer_create(server->loop, on_write_timer, connection, &connection->write_timer);
	if (e == ERR_OK)
		e = loop_watch_create(server->loop, fd, LOOP_READ, on_ready, connection, &connection->watch);
	struct channel_options options = {.tls = server->options.tls, .purpose = TLS_API, .server = true};
	if (e == ERR_OK)
		e = channel_create(fd, &options, &connection->channel);
	if (e != ERR_OK) {
		loop_watch_destroy(connection->watch);
		loop_timer_destroy(connection->write_timer);
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
