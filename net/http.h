/* http - an HTTP/1.1 server: routes, whole replies, streamed replies.  The library behind it does not show.
 *
 * Closed by default: what no route names is 404, a known path with another method 405 with Allow, both with a JSON body
 * in OpenAI's shape, {"error":{"message","type","param","code"}}.  Every reply, also of our own errors, has an
 * x-request-id: the client's where it is printable and short, else one of ours.  OPTIONS of a known path says what it
 * takes; other origins' pages may read replies only where `origins` names them.
 *
 * Owns:   its listening socket, connections and requests.
 * Loop:   touch only from the loop given at create; handlers and callbacks run there.
 * Bounds: header_max and body_max bytes per request, bodies_max of all together (over it: 503), connections_max connections;
 *         what a slow reader has not taken is bounded by the caller, who asks http_queued_bytes(), and in time by
 *         write_timeout_ns without a byte taken.  Whoever dribbles a head or a body is answered 408.
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
	size_t bodies_max;        /* bytes of all requests that are open; 0: 256 MiB */
	uint32_t connections_max; /* 0: 4096; over it the longest idle one makes room, or new ones wait in the backlog */
	uint64_t idle_timeout_ns; /* of a kept-alive connection; 0: 120 s */
	struct tls *tls;          /* server only (net/tls.h), outlives the server; NULL: plain */
	uint64_t header_timeout_ns;  /* of a whole head, from its first byte; 0: 10 s; over it: 408 */
	uint64_t receive_timeout_ns; /* of a whole body, and a second for each HTTP_BODY_RATE bytes that came; 0: 30 s; 408 */
	uint64_t write_timeout_ns;   /* without a byte of a reply taken; 0: 30 s; over it the connection is reset */
	int send_buffer;             /* bytes that the kernel may keep of a connection's replies; 0: its own choice */
	const char *const *origins; /* [origin_count] of pages that may read replies (CORS), "*": any; outlive the server */
	size_t origin_count;
};

enum { HTTP_ID_MAX = 127, HTTP_BODY_RATE = 16384 };

/* ERR_BUSY (address in use), ERR_INVALID (address), ERR_IO. */
MUST_USE enum err http_server_create(struct loop *loop, const struct http_options *options,
                                     struct http_server **ret_server, struct why *why);
/* Closes listener and connections; open requests get on_gone, and must still be ended by their owners first
 * or from that callback. */
void http_server_destroy(struct http_server *server);
/* Stops accepting; open requests go on, and connections close after them (drain). */
void http_server_drain(struct http_server *server);
uint16_t http_server_port(const struct http_server *server);
/* Connections that were reset because nothing was taken of their replies. */
uint64_t http_server_stalled(const struct http_server *server);
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
/* It was read: its memory is free, and http_body() is empty. */
void http_drop_body(struct http_request *request);
const char *http_peer_address(const struct http_request *request);
const char *http_request_id(const struct http_request *request);

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
