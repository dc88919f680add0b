/* normalize - Unicode's normal forms and lower case, in linear time on any input.  Pure; only this room. */
#ifndef MODEL_NORMALIZE_H
#define MODEL_NORMALIZE_H
#include "base/buf.h"

enum normal_form { NORMAL_FORM_C, NORMAL_FORM_D, NORMAL_FORM_KC, NORMAL_FORM_KD };

/* Each appends what it makes of the text, which must be valid UTF-8. */
MUST_USE enum err normalize(struct buf *out, enum normal_form form, const char *text, size_t length);
MUST_USE enum err normalize_lowercase(struct buf *out, const char *text, size_t length);
/* Without marks (categories Mn, Mc, Me). */
MUST_USE enum err normalize_strip_marks(struct buf *out, const char *text, size_t length);
#endif
