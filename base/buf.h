/* buf - a growing run of bytes with a hard limit.
 *
 * Owns its memory.  Zeroed memory is an empty buffer with no limit set: set `limit` before use where
 * the bytes come from outside.  The content is kept 0-terminated, so that text may be read in place. */
#ifndef BASE_BUF_H
#define BASE_BUF_H
#include <stddef.h>
#include "base/err.h"

struct buf {
	char *data;
	size_t length;
	size_t capacity;
	size_t limit; /* bytes; 0: 1 GiB */
};

/* ERR_TOO_LARGE over the limit, ERR_NOMEM; the buffer is unchanged then. */
MUST_USE enum err buf_append(struct buf *buf, const void *data, size_t length);
MUST_USE enum err buf_text(struct buf *buf, const char *text);
MUST_USE enum err buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for `more` further bytes at data + length; does not change length. */
MUST_USE enum err buf_reserve(struct buf *buf, size_t more);
void buf_clear(struct buf *buf); /* keeps the memory */
void buf_fini(struct buf *buf);
#endif
