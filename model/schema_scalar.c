/* schema_scalar - texts, numbers and constants. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/number_range.h"
#include "model/expression.h"
#include "model/schema_impl.h"

/* ---- texts */

#define DAY     "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
#define DATE    "[1-9][0-9]{3}-" DAY
#define TIME    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL   "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
#define BYTE    "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define H16     "[0-9a-fA-F]{1,4}"
#define WORD    "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"
#define DOMAIN  "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"

/* What a format stands for; NULL: nothing that could be said of a text's characters.  The 29th of February is left out. */
static const struct {
	const char *name, *pattern;
} formats[] = {
	{"date", "^" DATE "$"},
	{"time", "^" TIME "$"},
	{"date-time", "^" DATE "T" TIME "$"},
	{"duration", "^P(?:[0-9]{1,9}W|(?:[0-9]{1,9}Y)?(?:[0-9]{1,9}M)?[0-9]{1,9}D(?:T(?:[0-9]{1,9}H)?(?:[0-9]{1,9}M)?[0-9]{1,9}S)?"
		     "|T(?:[0-9]{1,9}H)?(?:[0-9]{1,9}M)?[0-9]{1,9}S)$"},
	{"email", "^" WORD "(?:\\." WORD ")*@" DOMAIN "(?:\\." DOMAIN ")+$"},
	{"hostname", "^" LABEL "(?:\\." LABEL "){0,3}$"},
	{"ipv4", "^" BYTE "(?:\\." BYTE "){3}$"},
	{"ipv6", "^(?:(?:" H16 ":){7}" H16 "|(?:" H16 ":){1,6}:" H16 "|::(?:" H16 ":){0,5}" H16 "|::)$"},
	{"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
	{"uuid4", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"},
	{"uri", "^[a-zA-Z][a-zA-Z0-9+.-]{0,15}:(?://" LABEL "(?:\\." LABEL "){0,3}(?::[0-9]{1,5})?)?(?:/[a-zA-Z0-9._~-]{0,64}){0,8}"
		"(?:\\?[a-zA-Z0-9._~=&-]{0,128})?(?:#[a-zA-Z0-9._~-]{0,64})?$"},
	{"binary", NULL},
	{"directory-path", NULL},
	{"file-path", NULL},
	{"password", NULL},
	{"path", NULL},
};

static const char *format_pattern(struct schema *s, const char *name)
{
	for (size_t i = 0; name && i < sizeof(formats) / sizeof(formats[0]); i++)
		if (strcmp(formats[i].name, name) == 0)
			return formats[i].pattern;
	if (name)
		schema_refuse(s, ERR_UNSUPPORTED, "\"format\": \"%.60s\" is not supported", name);
	return NULL;
}

/* So many characters, each a node: a schema with a large bound costs as many states. */
static void lengths(struct schema *s, uint32_t min, uint32_t max, uint32_t from, uint32_t to)
{
	uint32_t count = max == UINT32_MAX ? min : max, at = build_node(s->builder), end = build_node(s->builder);
	build_skip(s->builder, from, at);
	build_skip(s->builder, end, to);
	if (max < min)
		return;
	for (uint32_t i = 0; i < count && s->builder->e == ERR_OK; i++) {
		uint32_t next = build_node(s->builder);
		if (i >= min)
			build_skip(s->builder, at, end);
		json_char(s->rules, at, next);
		at = next;
	}
	if (max == UINT32_MAX)
		json_char(s->rules, at, at);
	build_skip(s->builder, at, end);
}

void schema_text(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	struct grammar_builder *b = s->builder;
	const char *pattern = json_string_value(schema_get(schema, "pattern"));
	const char *format = format_pattern(s, json_string_value(schema_get(schema, "format")));
	uint32_t min = schema_count(s, schema, "minLength", 0), max = schema_count(s, schema, "maxLength", UINT32_MAX);
	bool counted = min > 0 || max != UINT32_MAX;
	if (pattern && format)
		schema_refuse(s, ERR_UNSUPPORTED, "\"pattern\" beside \"format\" is not supported");
	else if ((pattern || format) && counted)
		schema_refuse(s, ERR_UNSUPPORTED, "\"minLength\" and \"maxLength\" beside \"%s\" are not supported",
			      pattern ? "pattern" : "format");
	if (b->e != ERR_OK)
		return;
	if (counted) {
		lengths(s, min, max, from, to);
	} else if (!pattern && !format) {
		lengths(s, 0, UINT32_MAX, from, to);
	} else {
		expression_build(b, EXPRESSION_STRING, pattern ? pattern : format, strlen(pattern ? pattern : format), from, to);
		if (b->e != ERR_OK && b->why)
			why_prefix(b->why, "schema, at %.200s", s->path);
	}
}

static bool is_any_text(const json_t *schema)
{
	static const char *const keys[] = {"pattern", "format", "minLength", "maxLength"};
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (schema_get(schema, keys[i]))
			return false;
	return true;
}

void schema_string(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	struct grammar_builder *b = s->builder;
	if (is_any_text(schema)) {
		json_rule_call(s->rules, RULE_STRING, from, to);
		return;
	}
	uint32_t begin = build_node(b), end = build_node(b);
	build_bytes(b, from, '"', '"', begin);
	schema_text(s, schema, begin, end);
	build_bytes(b, end, '"', '"', to);
}

/* ---- numbers */

static void bound(struct schema *s, const json_t *schema, const char *key, struct number_range *range, bool low, bool open)
{
	const json_t *value = schema_get(schema, key);
	struct decimal decimal;
	if (!value)
		return;
	if (json_is_boolean(value) || decimal_of(value, &decimal) != ERR_OK)
		schema_refuse(s, ERR_INVALID, "\"%s\" is expected to be a number", key);
	else if (low)
		number_range_from(range, &decimal, open);
	else
		number_range_to(range, &decimal, open);
}

void schema_number(struct schema *s, const json_t *schema, bool integer, uint32_t from, uint32_t to)
{
	struct number_range range = {.integer = integer};
	bound(s, schema, "minimum", &range, true, false);
	bound(s, schema, "exclusiveMinimum", &range, true, true);
	bound(s, schema, "maximum", &range, false, false);
	bound(s, schema, "exclusiveMaximum", &range, false, true);
	if (range.has_low || range.has_high)
		number_range_build(s->builder, &range, from, to);
	else
		json_rule_call(s->rules, integer ? RULE_INTEGER : RULE_NUMBER, from, to);
}

/* ---- constants */

static void number_constant(struct schema *s, const json_t *value, uint32_t from, uint32_t to)
{
	char text[64];
	snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
	for (int precision = 1; json_is_real(value) && precision <= 17; precision++) {
		snprintf(text, sizeof(text), "%.*g", precision, json_real_value(value));
		if (strtod(text, NULL) == json_real_value(value))
			break;
	}
	if (json_is_real(value) && !strpbrk(text, ".e"))
		strcat(text, ".0");
	build_text(s->builder, from, text, strlen(text), to);
}

static void list_constant(struct schema *s, const json_t *value, uint32_t from, uint32_t to)
{
	struct grammar_builder *b = s->builder;
	bool object = json_is_object(value);
	uint32_t at = build_node(b), close = build_node(b);
	build_bytes(b, from, object ? '{' : '[', object ? '{' : '[', at);
	void *member = json_object_iter((json_t *)value);
	size_t count = object ? json_object_size(value) : json_array_size(value);
	for (size_t i = 0; i < count && b->e == ERR_OK; i++) {
		uint32_t start = build_node(b), end = build_node(b), comma = build_node(b);
		if (i > 0)
			build_bytes(b, at, ',', ',', comma);
		json_space(s->rules, i > 0 ? comma : at, start);
		if (object) {
			const char *key = json_object_iter_key(member);
			uint32_t key_end = build_node(b), colon = build_node(b), begin = build_node(b);
			json_quoted(s->rules, key, strlen(key), start, key_end);
			build_bytes(b, key_end, ':', ':', colon);
			json_space(s->rules, colon, begin);
			schema_constant(s, json_object_iter_value(member), begin, end);
			member = json_object_iter_next((json_t *)value, member);
		} else {
			schema_constant(s, json_array_get(value, i), start, end);
		}
		at = end;
	}
	build_skip(b, at, close);
	if (count > 0)
		json_space(s->rules, at, close);
	build_bytes(b, close, object ? '}' : ']', object ? '}' : ']', to);
}

void schema_constant(struct schema *s, const json_t *value, uint32_t from, uint32_t to)
{
	if (s->builder->e != ERR_OK)
		return;
	if (json_is_string(value))
		json_quoted(s->rules, json_string_value(value), json_string_length(value), from, to);
	else if (json_is_number(value))
		number_constant(s, value, from, to);
	else if (json_is_object(value) || json_is_array(value))
		list_constant(s, value, from, to);
	else
		build_text(s->builder, from, json_is_null(value) ? "null" : json_is_true(value) ? "true" : "false",
			   json_is_false(value) ? 5 : 4, to);
}
