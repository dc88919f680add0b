/* regex_rewrite - from Oniguruma's Ruby dialect to PCRE2's.  Pure; only for regex.c. */
#ifndef MODEL_REGEX_REWRITE_H
#define MODEL_REGEX_REWRITE_H
#include "base/buf.h"
#include "base/why.h"

#define REGEX_PATTERN_MAX ((size_t)64 << 10)

/* ERR_UNSUPPORTED, with the construct, for what has no equal. */
MUST_USE enum err regex_rewrite(const char *pattern, size_t length, struct why *why, struct buf *out);
#endif
