/* http_parse - the head of an HTTP/1.1 request, and the framing of its body.  Pure; strict where laxness is how
 * requests are smuggled: CRLF only, no folded headers, one length, no length beside chunked.
 *
 * Owns nothing: heads are cut up in place in the caller's memory.
 * Bounds: HTTP_FIELDS_MAX fields, HTTP_QUERY_MAX query parameters. */
#ifndef NET_HTTP_PARSE_H
#define NET_HTTP_PARSE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define HTTP_FIELDS_MAX 100
#define HTTP_QUERY_MAX 32

struct http_pair {
	char *name;
	char *value;
};
struct http_head {
	char *method;
	char *path; /* percent-decoded; no 0 byte inside */
	struct http_pair fields[HTTP_FIELDS_MAX];
	size_t field_count;
	struct http_pair query[HTTP_QUERY_MAX]; /* decoded */
	size_t query_count;
	uint64_t body_length; /* without chunked */
	bool chunked;
	bool keep_alive;
	bool expects_continue;
	bool is_http10;
};

/* Bytes up to and with the empty line; 0: it is not there yet. */
size_t http_head_length(const char *data, size_t length);
/* text[length] as measured above; it is changed.  ERR_INVALID (400), ERR_UNSUPPORTED (501), ERR_TOO_LARGE (431: too
 * many fields). */
MUST_USE enum err http_head_parse(char *text, size_t length, struct http_head *ret_head);
/* NULL if absent; any case. */
const char *http_head_field(const struct http_head *head, const char *name);

/* Chunked bodies, fed as they come. */
struct http_chunks {
	int state;
	uint64_t left;      /* bytes of the chunk or of the digits */
	size_t line_length; /* of an extension or of trailers */
};
/* Consumes some of data; *ret_from, *ret_length is a run of body bytes (maybe none).  ERR_AGAIN: more must come,
 * ERR_OK: call again with the rest; *ret_end: the body is over.  ERR_INVALID: 400. */
MUST_USE enum err http_chunks_feed(struct http_chunks *chunks, const char *data, size_t length, size_t *ret_consumed,
                                   size_t *ret_from, size_t *ret_length, bool *ret_end);
#endif
