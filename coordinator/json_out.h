/* json_out - writes JSON text into a buffer, value by value, and remembers the first error.
 *
 * Faster and narrower than building a tree: one chunk of a stream is one short run of calls.  Texts that are no UTF-8
 * come out with U+FFFD, so that what we send is always JSON.
 * Owns nothing; the buffer is the caller's.  Bounds: nesting of JSON_OUT_DEPTH_MAX, the buffer's limit. */
#ifndef COORDINATOR_JSON_OUT_H
#define COORDINATOR_JSON_OUT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"

enum { JSON_OUT_DEPTH_MAX = 32 };

struct json_out {
	struct buf *buf;
	enum err e;                     /* the first one; everything after it is dropped */
	uint32_t depth;
	bool empty[JSON_OUT_DEPTH_MAX]; /* nothing was written at this depth yet */
	bool keyed;                     /* a key waits for its value */
};

void json_out_init(struct json_out *out, struct buf *buf);
void json_out_open(struct json_out *out, char bracket); /* '{' or '[' */
void json_out_close(struct json_out *out, char bracket);
void json_out_key(struct json_out *out, const char *key);
void json_out_text(struct json_out *out, const char *text, size_t length);
/* The text just written is a key. */
void json_out_keyed(struct json_out *out);
void json_out_integer(struct json_out *out, int64_t value);
void json_out_unsigned(struct json_out *out, uint64_t value);
void json_out_bool(struct json_out *out, bool value);
void json_out_null(struct json_out *out);
/* JSON that is written already. */
void json_out_raw(struct json_out *out, const char *json, size_t length);
/* Nine significant digits: a float read back is the same float.  What JSON cannot say is clamped to +-9999. */
void json_out_float(struct json_out *out, float value);
/* With that many digits after the point. */
void json_out_fixed(struct json_out *out, double value, int digits);

/* Key and value in one. */
void json_put_text(struct json_out *out, const char *key, const char *text); /* NULL: null */
void json_put_unsigned(struct json_out *out, const char *key, uint64_t value);
void json_put_bool(struct json_out *out, const char *key, bool value);
void json_put_null(struct json_out *out, const char *key);
void json_put_open(struct json_out *out, const char *key, char bracket);
#endif
