#include "model/structure.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "model/grammar_build.h"
#include "model/json_in.h"
#include "model/expression.h"
#include "model/schema.h"
#include "model/tokenizer.h"

enum { REPEAT_MAX = 1024 };

struct structure {
	struct grammar_builder builder;
	struct json_rules rules;
	struct json_rules markup_rules; /* without "<" */
	struct json_rules bare_rules;   /* without "<" and escapes */
	const struct structure_tokens *tokens;
};

static void build(struct structure *s, const json_t *part, uint32_t depth, uint32_t from, uint32_t to);

static void refuse(struct structure *s, const char *what)
{
	build_refuse(&s->builder, ERR_INVALID, "structure: %s", what);
}

static void literal(struct structure *s, const json_t *text, uint32_t from, uint32_t to)
{
	if (json_is_string(text))
		build_text(&s->builder, from, json_string_value(text), json_string_length(text), to);
	else
		refuse(s, "a text is expected");
}

static void token(struct structure *s, const json_t *name, uint32_t from, uint32_t to)
{
	uint8_t spelling[TOKEN_SPELLING];
	const uint8_t *bytes = NULL;
	size_t length;
	uint32_t id;
	bool known = s->tokens && json_is_string(name) &&
		     tokenizer_find(s->tokens->tokenizer, json_string_value(name), &id) == ERR_OK &&
		     token_trie_bytes(s->tokens->tokenizer, id, spelling, &bytes, &length) == ERR_OK;
	if (!known || bytes != spelling) {
		literal(s, name, from, to);
		return;
	}
	/* The bytes of a token's number are no text: they are all usable. */
	const uint8_t *usable = s->builder.usable;
	s->builder.usable = NULL;
	build_text(&s->builder, from, (const char *)spelling, sizeof(spelling), to);
	s->builder.usable = usable;
}

/* A document of which some bytes are no part, by rules of its own. */
static void json_without(struct structure *s, struct json_rules *rules, const char *bytes, const json_t *schema,
			 uint32_t from, uint32_t to)
{
	struct grammar_builder *b = &s->builder;
	const uint8_t *usable = b->usable;
	uint8_t fewer[256];
	for (size_t i = 0; i < sizeof(fewer); i++)
		fewer[i] = (!usable || usable[i]) && (i == 0 || i > 127 || !strchr(bytes, (int)i));
	b->usable = fewer;
	if (rules == &s->bare_rules)
		schema_build_bare(rules, schema, from, to);
	else
		schema_build(rules, schema, from, to);
	b->usable = usable;
}

static void json(struct structure *s, const json_t *part, uint32_t from, uint32_t to)
{
	const json_t *schema = json_object_get(part, "json");
	if (json_is_true(json_object_get(part, "in_markup")))
		json_without(s, &s->markup_rules, "<", schema, from, to);
	else
		schema_build(&s->rules, schema, from, to);
}

static void regex(struct structure *s, const json_t *pattern, uint32_t from, uint32_t to)
{
	if (json_is_string(pattern))
		expression_build(&s->builder, EXPRESSION_TEXT, json_string_value(pattern), json_string_length(pattern), from, to);
	else
		refuse(s, "a regular expression is expected to be a text");
}

static void sequence(struct structure *s, const json_t *parts, uint32_t depth, uint32_t from, uint32_t to)
{
	for (size_t i = 0; i < json_array_size(parts); i++) {
		uint32_t next = build_node(&s->builder);
		build(s, json_array_get(parts, i), depth, from, next);
		from = next;
	}
	build_skip(&s->builder, from, to);
}

static void choice(struct structure *s, const json_t *parts, uint32_t depth, uint32_t from, uint32_t to)
{
	if (json_array_size(parts) == 0)
		refuse(s, "a choice is expected to be a list with at least one part");
	for (size_t i = 0; i < json_array_size(parts); i++)
		build(s, json_array_get(parts, i), depth, from, to);
}

static uint32_t count(struct structure *s, const json_t *part, const char *key, uint32_t fallback)
{
	const json_t *value = json_object_get(part, key);
	json_int_t number = json_integer_value(value);
	if (!value)
		return fallback;
	if (json_is_integer(value) && number >= 0 && number <= REPEAT_MAX)
		return (uint32_t)number;
	refuse(s, "a count is expected to be an integer from 0 to 1024");
	return fallback;
}

/* The part is a rule: it is made once, however often it is repeated. */
static void repeat(struct structure *s, const json_t *part, uint32_t depth, uint32_t from, uint32_t to)
{
	struct grammar_builder *b = &s->builder;
	const json_t *separator = json_object_get(part, "separator");
	uint32_t min = count(s, part, "min", 0), max = count(s, part, "max", UINT32_MAX);
	uint32_t rule = build_rule(b), told = max != UINT32_MAX ? max : min ? min : 1;
	if (b->e != ERR_OK)
		return;
	build(s, json_object_get(part, "repeat"), depth, b->rules[rule].start, b->rules[rule].end);
	for (uint32_t i = 0; i < told && b->e == ERR_OK; i++) {
		uint32_t begin = build_node(b), next = build_node(b);
		if (i >= min)
			build_skip(b, from, to);
		if (separator && i > 0)
			literal(s, separator, from, begin);
		else
			build_skip(b, from, begin);
		build_call(b, begin, rule, next);
		from = next;
	}
	uint32_t again = build_node(b);
	if (max == UINT32_MAX && separator)
		literal(s, separator, from, again);
	else if (max == UINT32_MAX)
		build_skip(b, from, again);
	if (max == UINT32_MAX)
		build_call(b, again, rule, from);
	if (min <= told)
		build_skip(b, from, to);
}

static void build(struct structure *s, const json_t *part, uint32_t depth, uint32_t from, uint32_t to)
{
	const json_t *value;
	build_count(&s->builder, 1);
	if (s->builder.e != ERR_OK)
		return;
	if (depth > STRUCTURE_DEPTH_MAX)
		refuse(s, "nested too deeply");
	else if (json_object_get(part, "json"))
		json(s, part, from, to);
	else if ((value = json_object_get(part, "bare")))
		json_without(s, &s->bare_rules, "<\\", value, from, to);
	else if ((value = json_object_get(part, "regex")))
		regex(s, value, from, to);
	else if ((value = json_object_get(part, "literal")))
		literal(s, value, from, to);
	else if ((value = json_object_get(part, "token")))
		token(s, value, from, to);
	else if ((value = json_object_get(part, "sequence")))
		sequence(s, value, depth + 1, from, to);
	else if ((value = json_object_get(part, "choice")))
		choice(s, value, depth + 1, from, to);
	else if (json_object_get(part, "repeat"))
		repeat(s, part, depth + 1, from, to);
	else
		refuse(s, "a part is expected to be json, bare, regex, literal, token, sequence, choice or repeat");
}

static enum err compile(struct structure *s, const json_t *whole, struct grammar **ret_grammar)
{
	struct grammar_builder *b = &s->builder;
	uint32_t root = build_rule(b);
	if (b->e == ERR_OK)
		build(s, whole, 0, b->rules[root].start, b->rules[root].end);
	return grammar_build(b, root, ret_grammar);
}

enum err structure_compile(const char *text, size_t length, const struct structure_tokens *tokens, struct why *why,
			   struct grammar **ret_grammar)
{
	struct structure s = {.tokens = tokens};
	json_t *whole;
	if (length > STRUCTURE_BYTES_MAX)
		return why_set(why, ERR_TOO_LARGE, "a structure of %zu bytes, at most %d", length, STRUCTURE_BYTES_MAX);
	enum err e = json_in_parse(text, length, "structure", why, &whole);
	if (e != ERR_OK)
		return e;
	grammar_builder_init(&s.builder, tokens ? tokens->trie->usable : NULL, why);
	s.rules.builder = s.markup_rules.builder = s.bare_rules.builder = &s.builder;
	e = compile(&s, whole, ret_grammar);
	grammar_builder_fini(&s.builder);
	json_decref(whole);
	return e;
}
