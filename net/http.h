/* http - an HTTP/1.1 server: routes, whole replies, streamed replies.  The library behind it does not show.
 *
 * Closed by default: what no route names is 404, a known path with another method 405, both with a JSON body in
 * OpenAI's shape, {"error":{"message","type","param","code"}}.
 *
 * Owns:   its listening socket, connections and requests.
 * Loop:   touch only from the loop given at create; handlers and callbacks run there.
 * Bounds: header_max and body_max bytes per request, connections_max connections; what a slow reader has not
 *         taken is bounded by the caller, who asks http_queued_bytes().
 * Rules:  1 a request is valid until its handler's owner ends it by exactly one of http_reply(), http_reply_error(),
 *           http_stream_end(), http_abort(); also after the client went away (writes are dropped then).
 *         2 on_gone runs at most once, never after the end, and never from inside a call of the owner. */
#ifndef NET_HTTP_H
#define NET_HTTP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

struct loop;
struct http_server;
struct http_request;
struct tls;

struct http_options {
	const char *address;      /* NULL: "127.0.0.1" */
	uint16_t port;            /* 0: any free one, see http_server_port() */
	size_t header_max;        /* bytes; 0: 64 KiB; over it: 431 */
	size_t body_max;          /* bytes; 0: 32 MiB; over it: 413 */
	uint32_t connections_max; /* 0: 4096; over it new ones wait in the backlog */
	uint64_t idle_timeout_ns; /* of a kept-alive connection; 0: 120 s */
	struct tls *tls;          /* server only (net/tls.h), outlives the server; NULL: plain */
};

/* ERR_BUSY (address in use), ERR_INVALID (address), ERR_IO. */
MUST_USE enum err http_server_create(struct loop *loop, const struct http_options *options,
                                     struct http_server **ret_server, struct why *why);
/* Closes listener and connections; open requests get on_gone, and must still be ended by their owners first
 * or from that callback. */
void http_server_destroy(struct http_server *server);
/* Stops accepting; open requests go on, and connections close after them (drain). */
void http_server_drain(struct http_server *server);
uint16_t http_server_port(const struct http_server *server);
uint32_t http_server_requests_open(const struct http_server *server);

typedef void http_handler(struct http_request *request, void *context);
/* A path that ends in a slash and a star matches every path that begins as before the star; others match exactly.
 * Exact goes before prefix, a longer prefix before a shorter one.  At most 128.  HEAD is served by GET. */
MUST_USE enum err http_route(struct http_server *server, const char *method, const char *path, http_handler *handler,
                             void *context);

/* The request.  Texts live as long as the request. */
const char *http_method(const struct http_request *request);
const char *http_path(const struct http_request *request); /* decoded, without the query */
const char *http_query(const struct http_request *request, const char *name);  /* decoded; NULL if absent */
const char *http_header(const struct http_request *request, const char *name); /* any case; NULL if absent */
const char *http_body(const struct http_request *request, size_t *ret_length); /* 0-terminated besides */
const char *http_peer_address(const struct http_request *request);

/* Called once if the client goes away before the request ended. */
void http_on_gone(struct http_request *request, http_handler *gone, void *context);

struct http_field {
	const char *name;
	const char *value;
};
/* fields end with a NULL name; may be NULL.  Content-Length is added. */
void http_reply(struct http_request *request, int status, const struct http_field *fields, const void *body,
                size_t length);
void http_reply_json(struct http_request *request, int status, const char *json);
/* param and code may be NULL (null in JSON).  fields (Retry-After) may be NULL. */
void http_reply_error(struct http_request *request, int status, const char *type, const char *code,
                      const char *param, const char *message, const struct http_field *fields);

/* Chunked reply: start, then writes, then end (or abort: the client sees a broken stream, not an end). */
void http_stream_start(struct http_request *request, int status, const struct http_field *fields);
void http_stream_write(struct http_request *request, const void *data, size_t length);
void http_stream_end(struct http_request *request);
/* Closes the connection at once. */
void http_abort(struct http_request *request);
/* Bytes written that the client's socket has not taken yet. */
size_t http_queued_bytes(const struct http_request *request);
#endif
