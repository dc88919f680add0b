/* normalize - Unicode normal form C, in linear time on any input.  Pure; only this room. */
#ifndef MODEL_NORMALIZE_H
#define MODEL_NORMALIZE_H
#include "base/buf.h"

/* Appends the text, which must be valid UTF-8, in form C. */
MUST_USE enum err normalize_nfc(struct buf *out, const char *text, size_t length);
#endif
