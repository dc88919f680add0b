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

static void on_accept(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct http_server *server = arg;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	int one = 1;
	int fd = accept4(server->fd, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	struct http_connection *connection = NULL;
	if (http_connection_open(server, fd, &connection) != ERR_OK) {
		close(fd);
		return;
	}
	describe_peer(connection, &address, length);
	if (server->connection_count >= server->options.connections_max)
		http_server_accept(server, false);
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

/* Exact before prefix, longer before shorter; *ret_path_known: another method would have done. */
const struct http_route *http_route_find(const struct http_server *server, const struct http_head *head,
                                         bool *ret_path_known)
{
	const struct http_route *best = NULL;
	*ret_path_known = false;
	for (size_t i = 0; i < server->route_count; i++) {
		const struct http_route *route = &server->routes[i];
		if (!path_matches(route, head->path))
			continue;
		*ret_path_known = true;
		if (!method_matches(route, head->method))
			continue;
		if (!best || (best->prefix_length && (!route->prefix_length || route->prefix_length > best->prefix_length)))
			best = route;
	}
	return best;
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
	enum err e = bind_address(server, why);
	if (e != ERR_OK)
		goto free_server;
	e = find_port(server, why);
	if (e != ERR_OK)
		goto close_fd;
	e = loop_watch_create(loop, server->fd, LOOP_READ, on_accept, server, &server->watch);
	if (e != ERR_OK)
		goto close_fd;
	server->accepting = true;
	*ret_server = server;
	return ERR_OK;

close_fd:
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

const char *http_peer_address(const struct http_request *request)
{
	return request->connection->peer_address;
}

void http_on_gone(struct http_request *request, http_handler *gone, void *context)
{
	request->on_gone = gone;
	request->gone_context = context;
}
