/* json_rules - the parts of JSON that every schema shares, as rules of a grammar: white space, texts, any value.
 *
 * What they allow is RFC 8259 with the ends that a model could miss tied up: white space is one space, or one line break
 * and an indentation of at most JSON_INDENT_MAX; none stands before a comma or a colon; numbers are of bounded length and
 * finite (number_range.h).  A text's bytes are UTF-8, and escaped surrogates come in pairs. */
#ifndef MODEL_JSON_RULES_H
#define MODEL_JSON_RULES_H
#include <stddef.h>
#include <stdint.h>
#include "model/grammar_build.h"

enum { JSON_INDENT_MAX = 64 };

/* Made when they are first asked for. */
enum json_rule {
	RULE_SPACE, RULE_TAIL, RULE_STRING, RULE_NUMBER, RULE_INTEGER, RULE_VALUE, RULE_OBJECT, RULE_ARRAY,
	RULE_COUNT
};

struct json_rules {
	struct grammar_builder *builder;
	uint32_t made[RULE_COUNT]; /* rule + 1; 0: not yet */
};

/* RULE_TAIL: one character of a text that is no plain ASCII: of several bytes, or escaped. */
void json_rule_call(struct json_rules *rules, enum json_rule rule, uint32_t from, uint32_t to);
/* White space or none. */
void json_space(struct json_rules *rules, uint32_t from, uint32_t to);
/* One character of a text, in any spelling. */
void json_char(struct json_rules *rules, uint32_t from, uint32_t to);
/* The inside of a text, in its shortest spelling. */
void json_text(struct json_rules *rules, const char *text, size_t length, uint32_t from, uint32_t to);
void json_quoted(struct json_rules *rules, const char *text, size_t length, uint32_t from, uint32_t to);
#endif
