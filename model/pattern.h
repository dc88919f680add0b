/* pattern - what tokenizer.json looks for in a text: a string as it stands, or a regular expression.
 *
 * Only this room.  Read-only after loading. */
#ifndef MODEL_PATTERN_H
#define MODEL_PATTERN_H
#include "model/json_in.h"
#include "model/regex.h"

struct pattern {
	char *literal; /* of `length` bytes; NULL: the regex */
	size_t length;
	struct regex *regex;
};

/* The value of "pattern": {"String": …} or {"Regex": …}.  The reason is in `in`. */
void pattern_load(struct pattern *pattern, struct json_in *in);
/* A regular expression of our own. */
void pattern_set_regex(struct pattern *pattern, struct json_in *in, const char *regex);
void pattern_set_literal(struct pattern *pattern, struct json_in *in, const char *text);
bool pattern_is_set(const struct pattern *pattern);
void pattern_fini(struct pattern *pattern);

/* Matches from left to right, as Oniguruma's iterator gives them. */
struct pattern_search {
	const struct pattern *pattern;
	struct regex_scratch *scratch;
	const char *text; /* valid UTF-8 */
	size_t length;
	size_t at;        /* where the search goes on */
	size_t match_end; /* of the match before; SIZE_MAX: there was none */
};
void pattern_search_init(struct pattern_search *search, const struct pattern *pattern,
			 struct regex_scratch *scratch, const char *text, size_t length);
/* ERR_NOT_FOUND: no more; ERR_UNSUPPORTED: the match limit was reached. */
MUST_USE enum err pattern_next(struct pattern_search *search, size_t *ret_begin, size_t *ret_end);
#endif
