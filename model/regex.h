/* regex - the regular expressions of tokenizer.json, run by PCRE2.
 *
 * They are written for Oniguruma in its Ruby dialect; regex_compile() rewrites the few things that mean
 * something else there (\s \w \b \h \v, anchors) and refuses, by name, what has no equal.
 * Only this room.  A compiled regex is read-only: any thread with its own scratch. */
#ifndef MODEL_REGEX_H
#define MODEL_REGEX_H
#include <stddef.h>
#include "base/err.h"
#include "base/why.h"

struct regex;
struct regex_scratch;

MUST_USE enum err regex_compile(const char *pattern, size_t length, struct why *why, struct regex **ret_regex);
void regex_destroy(struct regex *regex);

MUST_USE enum err regex_scratch_create(struct regex_scratch **ret_scratch);
void regex_scratch_destroy(struct regex_scratch *scratch);

/* The first match at or after `start` of a text that is valid UTF-8.  ERR_NOT_FOUND: there is none;
 * ERR_UNSUPPORTED: the match limit or memory limit was reached. */
MUST_USE enum err regex_next(const struct regex *regex, struct regex_scratch *scratch, const char *text,
			     size_t length, size_t start, size_t *ret_begin, size_t *ret_end);
#endif
