/* http_impl - connections and requests of the HTTP server.  Only net/http*.c include it.
 *
 *   HEAD --whole head--> BODY --whole body--> HANDLING --ended, keep-alive--> HEAD
 *     |                    |                      |
 *     +---- error reply ---+                      +--ended, close--> LINGER --peer closed, 2 s--> freed
 *
 * While HANDLING what the client pipelines is kept (bounded), and an end of its stream is a client gone, also where it
 * pipelined more than is kept. */
#ifndef NET_HTTP_IMPL_H
#define NET_HTTP_IMPL_H
#include "base/buf.h"
#include "net/channel.h"
#include "net/http.h"
#include "net/http_parse.h"
#include "net/loop.h"

#define HTTP_ROUTES_MAX 128
#define HTTP_ALLOW_MAX  128 /* bytes of a path's methods */

enum connection_state { CONNECTION_HEAD, CONNECTION_BODY, CONNECTION_HANDLING, CONNECTION_LINGER };

struct http_route {
	char *method;
	char *path;
	size_t prefix_length; /* 0: exact */
	http_handler *handler;
	void *context;
};

struct http_connection {
	struct http_server *server;
	struct http_connection *prev, *next;
	int fd; /* the channel's; -1: the client is gone, the request not ended yet */
	struct channel *channel;
	bool is_shaken; /* the TLS handshake is done, or there is none */
	struct loop_watch *watch;
	struct loop_timer *timer;
	struct loop_timer *write_timer; /* armed while something waits to be taken */
	int left; /* in the kernel, when write_timer was armed */
	uint64_t body_since_ns;
	struct loop_task task; /* go on after an end, or tell of a client gone */
	struct loop_task read_task; /* what OpenSSL holds already makes no descriptor ready */
	enum connection_state state;
	bool reading, writing; /* what the watch asks for */
	bool broken;           /* the socket failed; told from the task */
	bool close_after;
	struct buf in;
	size_t in_taken;
	struct buf out;
	size_t out_sent;
	struct http_chunks chunks;
	struct http_request *request; /* from its whole head until its end */
	char peer_address[64];
};

struct http_request {
	struct http_connection *connection;
	char *head_text;
	struct http_head head;
	char id[HTTP_ID_MAX + 1];
	struct buf body;
	bool handled; /* a handler has it */
	bool streaming;
	bool raw; /* HTTP/1.0 stream: ends with the connection */
	http_handler *on_gone;
	void *gone_context;
};

struct http_server {
	struct loop *loop;
	struct http_options options;
	int fd; /* -1: drained */
	struct loop_watch *watch;
	bool accepting;
	uint16_t port;
	bool draining;
	struct http_route routes[HTTP_ROUTES_MAX];
	size_t route_count;
	struct http_connection *connections;
	uint32_t connection_count;
	struct loop_timer *accept_timer; /* armed while no descriptor is left for a new connection */
	size_t bodies; /* bytes */
	uint64_t stalled;
	uint32_t requests_open;
};

/* http.c */
void http_server_accept(struct http_server *server, bool accepting);
const struct http_route *http_route_find(const struct http_server *server, const struct http_head *head);
/* The methods that the path takes, as in Allow; "": there is no such path. */
void http_route_methods(const struct http_server *server, const char *path, char ret_allow[HTTP_ALLOW_MAX]);

/* http_dispatch.c */
/* The client's id, or a new one. */
void http_request_name(struct http_request *request);
/* To its route, or the answer that there is none. */
void http_request_dispatch(struct http_request *request);
/* The page that asks may read the reply: what to write as its origin; NULL: none asks, or it may not. */
const char *http_request_origin(const struct http_request *request);

/* http_connection.c */
/* The descriptor is the connection's if this succeeds. */
MUST_USE enum err http_connection_open(struct http_server *server, int fd, struct http_connection **ret_connection);
void http_connection_free(struct http_connection *connection);
/* The client is gone: on_gone, and freed when its request is ended. */
void http_connection_lost(struct http_connection *connection);
/* The reply is in `out`: free the request, go on with the connection (from its task). */
void http_request_end(struct http_request *request);
void http_connection_break(struct http_connection *connection);
/* Tells the loop what `reading` and `writing` say. */
void http_connection_watch(struct http_connection *connection);

/* http_reply.c */
void http_connection_write(struct http_connection *connection, const void *data, size_t length);
/* Arms write_timer; false: the client has taken nothing since that was done before. */
bool http_connection_patience(struct http_connection *connection);
void http_connection_flush(struct http_connection *connection);
#endif
