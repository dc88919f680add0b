/* http_client - one blocking HTTP/1.1 request, for the command-line tool and for tests.  Not for servers: it waits.
 *
 * Owns nothing after the call.  No loop.
 * Bounds: head 64 KiB; lines of a streamed body 16 MiB; timeout_ns between two arrivals of bytes. */
#ifndef NET_HTTP_CLIENT_H
#define NET_HTTP_CLIENT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/why.h"
#include "net/http.h"

struct http_client_request {
	const char *host; /* name or address */
	const char *ca_file; /* TLS, and the server's certificate is signed by this CA; NULL: plain */
	uint16_t port;
	const char *method;
	const char *path;                /* with query */
	const struct http_field *fields; /* ends with a NULL name; may be NULL */
	const void *body;
	size_t body_length;
	uint64_t timeout_ns; /* 0: 600 s */
	/* The lines of a good reply (status below 400) as they come, without CR and LF; false ends the request.  NULL:
	 * the body goes to the reply. */
	bool (*on_line)(void *context, const char *line, size_t length);
	void *context;
};
struct http_client_reply {
	int status;
	struct buf body; /* whole, where on_line did not take it; set body.limit before; buf_fini() after */
};
/* ERR_UNAVAILABLE (cannot connect), ERR_PEER_GONE (ended before its end), ERR_DEADLINE, ERR_PROTOCOL, ERR_TOO_LARGE. */
MUST_USE enum err http_client_call(const struct http_client_request *request, struct http_client_reply *ret_reply,
                                   struct why *why);
/* The same over a nonblocking connection that is open already; it is closed. */
MUST_USE enum err http_client_exchange(int fd, const struct http_client_request *request,
                                       struct http_client_reply *ret_reply, struct why *why);
#endif
