/* The server: listener, routes, and what a handler may ask of a request. */
#include "net/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http_impl.h"

#define BACKLOG 1024
#define ACCEPT_AGAIN_NS ((uint64_t)100000000)

void http_server_accept(struct http_server *server, bool accepting)
{
	if (server->fd < 0 || server->accepting == accepting)
		return;
	if (loop_watch_set(server->watch, accepting ? LOOP_READ : 0) == ERR_OK)
		server->accepting = accepting;
}

static void describe_peer(struct http_connection *connection, const struct sockaddr_storage *address, socklen_t length)
{
	char host[48], port[8];
	if (getnameinfo((const struct sockaddr *)address, length, host, sizeof(host), port, sizeof(port),
	                NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(connection->peer_address, sizeof(connection->peer_address), "%s:%s", host, port);
}

/* Of those that only wait for a next request, the one that came first; false: there is none. */
static bool make_room(struct http_server *server)
{
	struct http_connection *oldest = NULL;
	for (struct http_connection *connection = server->connections; connection; connection = connection->next)
		if (connection->state == CONNECTION_HEAD && connection->in.length == 0 && connection->out.length == 0)
			oldest = connection;
	if (oldest)
		http_connection_free(oldest);
	return oldest;
}

static void on_accept_timer(struct loop_timer *timer, void *arg)
{
	(void)timer;
	http_server_accept(arg, true);
}

/* Without a descriptor the backlog stays readable: looking again at once would be all that this loop does. */
static void accept_later(struct http_server *server)
{
	http_server_accept(server, false);
	loop_timer_arm(server->accept_timer, ACCEPT_AGAIN_NS);
}

static void on_accept(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct http_server *server = arg;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	int one = 1;
	if (server->connection_count >= server->options.connections_max && !make_room(server)) {
		http_server_accept(server, false);
		return;
	}
	int fd = accept4(server->fd, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) && !make_room(server))
		accept_later(server);
	if (fd < 0)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (server->options.send_buffer)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &server->options.send_buffer, sizeof(int));
	struct http_connection *connection = NULL;
	if (http_connection_open(server, fd, &connection) != ERR_OK) {
		close(fd);
		return;
	}
	describe_peer(connection, &address, length);
}

/* ---- routes ---- */

static bool path_matches(const struct http_route *route, const char *path)
{
	return route->prefix_length ? strncmp(path, route->path, route->prefix_length) == 0 : strcmp(path, route->path) == 0;
}

static bool method_matches(const struct http_route *route, const char *method)
{
	return strcmp(route->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

/* Exact before prefix, longer before shorter. */
const struct http_route *http_route_find(const struct http_server *server, const struct http_head *head)
{
	const struct http_route *best = NULL;
	for (size_t i = 0; i < server->route_count; i++) {
		const struct http_route *route = &server->routes[i];
		if (!path_matches(route, head->path) || !method_matches(route, head->method))
			continue;
		if (!best || (best->prefix_length && (!route->prefix_length || route->prefix_length > best->prefix_length)))
			best = route;
	}
	return best;
}

static void add_method(char allow[HTTP_ALLOW_MAX], const char *method)
{
	size_t length = strlen(allow);
	snprintf(allow + length, HTTP_ALLOW_MAX - length, "%s%s", length ? ", " : "", method);
}

void http_route_methods(const struct http_server *server, const char *path, char ret_allow[HTTP_ALLOW_MAX])
{
	ret_allow[0] = 0;
	for (size_t i = 0; i < server->route_count; i++) {
		const struct http_route *route = &server->routes[i];
		if (!path_matches(route, path) || strstr(ret_allow, route->method))
			continue;
		add_method(ret_allow, route->method);
		if (strcmp(route->method, "GET") == 0)
			add_method(ret_allow, "HEAD");
	}
	if (ret_allow[0])
		add_method(ret_allow, "OPTIONS");
}

enum err http_route(struct http_server *server, const char *method, const char *path, http_handler *handler,
                    void *context)
{
	size_t length = strlen(path);
	if (server->route_count == HTTP_ROUTES_MAX)
		return ERR_TOO_LARGE;
	struct http_route route = {
		.method = strdup(method),
		.path = strdup(path),
		.prefix_length = length >= 2 && strcmp(path + length - 2, "/*") == 0 ? length - 1 : 0,
		.handler = handler,
		.context = context,
	};
	if (!route.method || !route.path) {
		free(route.method);
		free(route.path);
		return ERR_NOMEM;
	}
	server->routes[server->route_count++] = route;
	return ERR_OK;
}

/* ---- the server ---- */

static enum err bind_address(struct http_server *server, struct why *why)
{
	const struct http_options *options = &server->options;
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE};
	struct addrinfo *info = NULL;
	char port[8];
	int one = 1;
	snprintf(port, sizeof(port), "%u", options->port);
	if (getaddrinfo(options->address, port, &hints, &info) != 0)
		return why_set(why, ERR_INVALID, "HTTP address '%s': expected an IPv4 or IPv6 address", options->address);
	enum err e = ERR_OK;
	server->fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->fd < 0 || setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(server->fd, info->ai_addr, info->ai_addrlen) < 0 || listen(server->fd, BACKLOG) < 0)
		e = why_set(why, errno == EADDRINUSE ? ERR_BUSY : ERR_IO, "HTTP on %s port %u: %s", options->address,
		            options->port, strerror(errno));
	freeaddrinfo(info);
	if (e != ERR_OK && server->fd >= 0)
		close(server->fd);
	return e;
}

static enum err find_port(struct http_server *server, struct why *why)
{
	struct sockaddr_storage address = {0};
	socklen_t length = sizeof(address);
	if (getsockname(server->fd, (struct sockaddr *)&address, &length) < 0)
		return why_set(why, ERR_IO, "the port that was bound: %s", strerror(errno));
	server->port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
	                                                   : ((struct sockaddr_in *)&address)->sin_port);
	return ERR_OK;
}

enum err http_server_create(struct loop *loop, const struct http_options *options, struct http_server **ret_server,
                            struct why *why)
{
	struct http_server *server = calloc(1, sizeof(*server));
	if (!server)
		return ERR_NOMEM;
	server->loop = loop;
	server->options = *options;
	struct http_options *o = &server->options;
	o->address = o->address ? o->address : "127.0.0.1";
	o->header_max = o->header_max ? o->header_max : 64 << 10;
	o->body_max = o->body_max ? o->body_max : 32 << 20;
	o->connections_max = o->connections_max ? o->connections_max : 4096;
	o->idle_timeout_ns = o->idle_timeout_ns ? o->idle_timeout_ns : (uint64_t)120 * 1000000000;
	o->bodies_max = o->bodies_max ? o->bodies_max : (size_t)256 << 20;
	o->header_timeout_ns = o->header_timeout_ns ? o->header_timeout_ns : (uint64_t)10 * 1000000000;
	o->receive_timeout_ns = o->receive_timeout_ns ? o->receive_timeout_ns : (uint64_t)30 * 1000000000;
	o->write_timeout_ns = o->write_timeout_ns ? o->write_timeout_ns : (uint64_t)30 * 1000000000;
	enum err e = bind_address(server, why);
	if (e != ERR_OK)
		goto free_server;
	e = find_port(server, why);
	if (e != ERR_OK)
		goto close_fd;
	e = loop_watch_create(loop, server->fd, LOOP_READ, on_accept, server, &server->watch);
	if (e == ERR_OK)
		e = loop_timer_create(loop, on_accept_timer, server, &server->accept_timer);
	if (e != ERR_OK)
		goto close_fd;
	server->accepting = true;
	*ret_server = server;
	return ERR_OK;

close_fd:
	loop_watch_destroy(server->watch);
	close(server->fd);
free_server:
	free(server);
	return e;
}

void http_server_drain(struct http_server *server)
{
	if (server->fd < 0)
		return;
	server->draining = true;
	loop_watch_destroy(server->watch);
	close(server->fd);
	server->fd = -1;
	for (struct http_connection *connection = server->connections, *next; connection; connection = next) {
		next = connection->next;
		if (connection->state == CONNECTION_HEAD && connection->in.length == 0)
			http_connection_free(connection);
	}
}

void http_server_destroy(struct http_server *server)
{
	if (!server)
		return;
	http_server_drain(server);
	while (server->connections) {
		struct http_connection *connection = server->connections;
		if (connection->fd >= 0 && connection->request && connection->request->handled)
			http_connection_lost(connection);
		assert(!connection->request || !connection->request->handled); /* its owner ends it first */
		http_connection_free(connection);
	}
	loop_timer_destroy(server->accept_timer);
	for (size_t i = 0; i < server->route_count; i++) {
		free(server->routes[i].method);
		free(server->routes[i].path);
	}
	free(server);
}

uint16_t http_server_port(const struct http_server *server)
{
	return server->port;
}

uint64_t http_server_stalled(const struct http_server *server)
{
	return server->stalled;
}

uint32_t http_server_requests_open(const struct http_server *server)
{
	return server->requests_open;
}

/* ---- the request ---- */

const char *http_method(const struct http_request *request)
{
	return request->head.method;
}

const char *http_path(const struct http_request *request)
{
	return request->head.path;
}

const char *http_query(const struct http_request *request, const char *name)
{
	for (size_t i = 0; i < request->head.query_count; i++)
		if (strcmp(request->head.query[i].name, name) == 0)
			return request->head.query[i].value;
	return NULL;
}

const char *http_header(const struct http_request *request, const char *name)
{
	return http_head_field(&request->head, name);
}

const char *http_body(const struct http_request *request, size_t *ret_length)
{
	*ret_length = request->body.length;
	return request->body.data ? request->body.data : "";
}

void http_drop_body(struct http_request *request)
{
	request->connection->server->bodies -= request->body.length;
	buf_fini(&request->body);
}

const char *http_request_id(const struct http_request *request)
{
	return request->id;
}

const char *http_peer_address(const struct http_request *request)
{
	return request->connection->peer_address;
}

void http_on_gone(struct http_request *request, http_handler *gone, void *context)
{
	request->on_gone = gone;
	request->gone_context = context;
}
