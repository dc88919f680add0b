/* utf8 - characters of a text, and what to do with bytes that are none.  Pure; only this room. */
#ifndef MODEL_UTF8_H
#define MODEL_UTF8_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

/* Looks at the first character; length > 0.
 *   > 0: it has that many bytes;
 *   < 0: that many bytes, negated, are a maximal subpart that nothing can make a character;
 *   = 0: all bytes given are the beginning of a character. */
int utf8_step(const uint8_t *bytes, size_t length, uint32_t *ret_char);

/* Appends 1 to 4 bytes. */
MUST_USE enum err utf8_append(struct buf *buf, uint32_t character);
bool utf8_is_valid(const char *text, size_t length);

/* Appends the text with U+FFFD in place of each maximal subpart that is no character. */
MUST_USE enum err utf8_append_lossy(struct buf *buf, const char *text, size_t length);

/* Unicode White_Space, and \w of UTS 18. */
bool utf8_is_space(uint32_t character);
bool utf8_is_word(uint32_t character);

/* The last character before `end` in a valid text; end > 0. Returns where it begins. */
size_t utf8_before(const char *text, size_t end, uint32_t *ret_char);
#endif
