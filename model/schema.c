#include "model/schema_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- where we are */

size_t schema_enter(struct schema *s, const char *key)
{
	size_t before = strlen(s->path);
	snprintf(s->path + before, sizeof(s->path) - before, "/%s", key);
	return before;
}

void schema_refuse(struct schema *s, enum err e, const char *format, ...)
{
	char text[300];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	build_refuse(s->builder, e, "schema, at %.200s: %s", s->path, text);
}

const json_t *schema_get(const json_t *schema, const char *key)
{
	return json_object_get(schema, key);
}

uint32_t schema_count(struct schema *s, const json_t *schema, const char *key, uint32_t fallback)
{
	const json_t *value = schema_get(schema, key);
	if (!value)
		return fallback;
	json_int_t count = json_is_real(value) ? (json_int_t)json_real_value(value) : json_integer_value(value);
	if (json_is_number(value) && count >= 0 && (double)count == json_number_value(value) && count < GRAMMAR_NODES_MAX)
		return (uint32_t)count;
	schema_refuse(s, ERR_INVALID, "\"%s\" is expected to be a number from 0 to %d", key, GRAMMAR_NODES_MAX - 1);
	return fallback;
}

/* ---- types */

enum kind { KIND_OBJECT = 1, KIND_ARRAY = 2, KIND_STRING = 4, KIND_NUMBER = 8, KIND_INTEGER = 16, KIND_BOOLEAN = 32,
	    KIND_NULL = 64, KIND_ALL = 111 };

static const struct {
	const char *name;
	enum kind kind;
} kinds[] = {{"object", KIND_OBJECT}, {"array", KIND_ARRAY}, {"string", KIND_STRING}, {"number", KIND_NUMBER},
	     {"integer", KIND_INTEGER}, {"boolean", KIND_BOOLEAN}, {"null", KIND_NULL}};

/* Keywords that we understand, and the type that they speak of. */
static const struct {
	const char *name;
	unsigned kinds;
} keywords[] = {
	{"$ref", 0}, {"additionalProperties", KIND_OBJECT}, {"allOf", 0}, {"anyOf", 0}, {"const", 0}, {"enum", 0},
	{"exclusiveMaximum", KIND_NUMBER}, {"exclusiveMinimum", KIND_NUMBER}, {"format", KIND_STRING}, {"items", KIND_ARRAY},
	{"maxItems", KIND_ARRAY}, {"maxLength", KIND_STRING}, {"maximum", KIND_NUMBER}, {"minItems", KIND_ARRAY},
	{"minLength", KIND_STRING}, {"minimum", KIND_NUMBER}, {"nullable", 0}, {"oneOf", 0}, {"pattern", KIND_STRING},
	{"prefixItems", KIND_ARRAY}, {"properties", KIND_OBJECT}, {"propertyNames", KIND_OBJECT}, {"required", KIND_OBJECT},
	{"type", 0},
};

enum { KEYWORDS = sizeof(keywords) / sizeof(keywords[0]), KEYWORD_NONE = -1 };

static int find_keyword(const char *name)
{
	for (int i = 0; i < KEYWORDS; i++)
		if (strcmp(keywords[i].name, name) == 0)
			return i;
	return KEYWORD_NONE;
}

/* "uniqueItems": false and its like ask for nothing. */
static bool asks_nothing(const char *key, const json_t *value)
{
	bool zero = json_is_number(value) && json_number_value(value) == 0;
	return (strcmp(key, "uniqueItems") == 0 && json_is_false(value)) || (strcmp(key, "minProperties") == 0 && zero);
}

/* Refuses keywords that we lack; returns the types that the others speak of. */
static unsigned check_keywords(struct schema *s, const json_t *schema)
{
	const char *key;
	json_t *value;
	unsigned spoken = 0;
	json_object_foreach((json_t *)schema, key, value)
	{
		int keyword = find_keyword(key);
		build_count(s->builder, 4);
		if (keyword != KEYWORD_NONE)
			spoken |= keywords[keyword].kinds;
		else if (!schema_is_annotation(key) && !asks_nothing(key, value))
			schema_refuse(s, ERR_UNSUPPORTED, "\"%.60s\" is not supported", key);
	}
	return spoken;
}

static unsigned kind_of(struct schema *s, const json_t *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (json_is_string(name) && strcmp(json_string_value(name), kinds[i].name) == 0)
			return kinds[i].kind;
	schema_refuse(s, ERR_INVALID, "\"type\" is expected to be one of object, array, string, number, integer, boolean, null, "
				      "or a list of them");
	return 0;
}

static unsigned kinds_of(struct schema *s, const json_t *schema, unsigned spoken)
{
	const json_t *type = schema_get(schema, "type");
	unsigned found = 0;
	if (!type)
		return spoken ? spoken : KIND_ALL;
	if (!json_is_array(type))
		return kind_of(s, type);
	for (size_t i = 0; i < json_array_size(type); i++)
		found |= kind_of(s, json_array_get(type, i));
	return found & KIND_NUMBER ? found & ~(unsigned)KIND_INTEGER : found;
}

static unsigned kind_of_value(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return KIND_OBJECT;
	case JSON_ARRAY:
		return KIND_ARRAY;
	case JSON_STRING:
		return KIND_STRING;
	case JSON_INTEGER:
		return KIND_INTEGER | KIND_NUMBER;
	case JSON_REAL:
		return KIND_NUMBER;
	case JSON_TRUE:
	case JSON_FALSE:
		return KIND_BOOLEAN;
	default:
		return KIND_NULL;
	}
}

/* ---- values */

static void of_kinds(struct schema *s, const json_t *schema, unsigned wanted, uint32_t from, uint32_t to)
{
	if (wanted == KIND_ALL) {
		json_rule_call(s->rules, RULE_VALUE, from, to);
		return;
	}
	if (wanted & KIND_OBJECT)
		schema_object(s, schema, from, to);
	if (wanted & KIND_ARRAY)
		schema_array(s, schema, from, to);
	if (wanted & KIND_STRING)
		schema_string(s, schema, from, to);
	if (wanted & (KIND_NUMBER | KIND_INTEGER))
		schema_number(s, schema, !(wanted & KIND_NUMBER), from, to);
	if (wanted & KIND_BOOLEAN) {
		build_text(s->builder, from, "true", 4, to);
		build_text(s->builder, from, "false", 5, to);
	}
	if (wanted & KIND_NULL)
		build_text(s->builder, from, "null", 4, to);
}

/* What stands beside a list of values would have to be tested of each; of that only the type is. */
static void constants(struct schema *s, const json_t *schema, unsigned wanted, uint32_t from, uint32_t to)
{
	const json_t *list = schema_get(schema, "enum"), *one = schema_get(schema, "const");
	const char *key;
	json_t *value;
	if (list && !json_is_array(list))
		schema_refuse(s, ERR_INVALID, "\"enum\" is expected to be a list");
	json_object_foreach((json_t *)schema, key, value)
		if (!schema_is_annotation(key) && strcmp(key, "enum") != 0 && strcmp(key, "const") != 0 &&
		    strcmp(key, "type") != 0 && strcmp(key, "nullable") != 0)
			schema_refuse(s, ERR_UNSUPPORTED, "\"%.60s\" beside \"%s\" is not supported", key, list ? "enum" : "const");
	for (size_t i = 0; i < json_array_size(list) && s->builder->e == ERR_OK; i++) {
		const json_t *item = json_array_get(list, i);
		if ((kind_of_value(item) & wanted) && (!one || json_equal(item, one)))
			schema_constant(s, item, from, to);
	}
	if (!list && (kind_of_value(one) & wanted))
		schema_constant(s, one, from, to);
}

static void alternatives(struct schema *s, const json_t *schema, const char *key, uint32_t from, uint32_t to)
{
	const json_t *list = schema_get(schema, key);
	const json_t *rest = schema_without(s, schema, key, "nullable");
	bool alone = true;
	const char *other;
	json_t *value;
	if (!json_is_array(list) || json_array_size(list) == 0)
		schema_refuse(s, ERR_INVALID, "\"%s\" is expected to be a list of schemas", key);
	json_object_foreach((json_t *)rest, other, value)
		alone &= schema_is_annotation(other);
	for (size_t i = 0; i < json_array_size(list) && s->builder->e == ERR_OK; i++) {
		char place[48];
		snprintf(place, sizeof(place), "%s/%zu", key, i);
		size_t up = schema_enter(s, place);
		const json_t *branch = json_array_get(list, i);
		if (!alone)
			branch = schema_both(s, rest, branch);
		if (branch)
			schema_call(s, branch, from, to);
		s->path[up] = 0;
	}
}

static void all_of(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	const json_t *list = schema_get(schema, "allOf");
	const json_t *all = schema_without(s, schema, "allOf", "allOf");
	if (!json_is_array(list))
		schema_refuse(s, ERR_INVALID, "\"allOf\" is expected to be a list of schemas");
	for (size_t i = 0; all && i < json_array_size(list) && s->builder->e == ERR_OK; i++)
		all = schema_both(s, all, json_array_get(list, i));
	if (all && s->builder->e == ERR_OK)
		schema_call(s, all, from, to);
}

static void reference(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	const json_t *name = schema_get(schema, "$ref");
	const json_t *target = json_is_string(name) ? schema_resolve(s, json_string_value(name)) : NULL;
	bool alone = true;
	const char *key;
	json_t *value;
	if (!target) {
		schema_refuse(s, ERR_INVALID, "\"$ref\" is expected to be a text");
		return;
	}
	json_object_foreach((json_t *)schema, key, value)
		alone &= schema_is_annotation(key) || strcmp(key, "$ref") == 0 || strcmp(key, "nullable") == 0;
	if (!alone)
		target = schema_both(s, schema_without(s, schema, "$ref", "nullable"), target);
	if (target)
		schema_call(s, target, from, to);
}

void schema_value(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	if (!schema || json_is_false(schema))
		return; /* refused already; or no way leads on */
	if (!json_is_object(schema) && !json_is_true(schema)) {
		schema_refuse(s, ERR_INVALID, "a schema is expected: an object, true or false");
		return;
	}
	unsigned wanted = kinds_of(s, schema, check_keywords(s, schema));
	if (json_is_true(schema_get(schema, "nullable")))
		build_text(s->builder, from, "null", 4, to);
	if (s->builder->e != ERR_OK)
		return;
	if (schema_get(schema, "$ref"))
		reference(s, schema, from, to);
	else if (schema_get(schema, "allOf"))
		all_of(s, schema, from, to);
	else if (schema_get(schema, "anyOf"))
		alternatives(s, schema, "anyOf", from, to);
	else if (schema_get(schema, "oneOf"))
		alternatives(s, schema, "oneOf", from, to);
	else if (schema_get(schema, "enum") || schema_get(schema, "const"))
		constants(s, schema, wanted, from, to);
	else
		of_kinds(s, schema, wanted, from, to);
}

/* ---- rules: what may recur, or is large, is made once */

static struct schema_rule *add_rule(struct schema *s, const json_t *schema)
{
	if (s->made_count == s->made_capacity) {
		uint32_t more = s->made_capacity ? s->made_capacity * 2 : 16;
		void *grown = realloc(s->made, more * sizeof(*s->made));
		if (!grown) {
			schema_refuse(s, ERR_NOMEM, "no memory for %u rules", more);
			return NULL;
		}
		s->made = grown;
		s->made_capacity = more;
	}
	struct schema_rule *rule = &s->made[s->made_count++];
	*rule = (struct schema_rule){.schema = schema, .rule = build_rule(s->builder)};
	memcpy(rule->path, s->path, sizeof(rule->path));
	return rule;
}

/* What is a few states goes in place: it costs no frame, and the tokens that end it are known. */
static bool is_small(const json_t *schema)
{
	static const char *const large[] = {"$ref", "allOf", "anyOf", "oneOf", "properties", "items", "prefixItems",
					    "additionalProperties", "enum"};
	const char *type = json_string_value(schema_get(schema, "type"));
	for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++)
		if (schema_get(schema, large[i]))
			return false;
	return !json_is_object(schema) || (type && strcmp(type, "object") != 0 && strcmp(type, "array") != 0) ||
	       schema_get(schema, "const");
}

void schema_call_rule(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	const struct schema_rule *rule = NULL;
	for (uint32_t i = 0; i < s->made_count && !rule; i++)
		if (s->made[i].schema == schema)
			rule = &s->made[i];
	build_count(s->builder, s->made_count / 8);
	if (!rule)
		rule = add_rule(s, schema);
	if (rule && s->builder->e == ERR_OK)
		build_call(s->builder, from, rule->rule, to);
}

void schema_call(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	if (is_small(schema))
		schema_value(s, schema, from, to);
	else
		schema_call_rule(s, schema, from, to);
}

static void make_rules(struct schema *s)
{
	for (; s->made_done < s->made_count && s->builder->e == ERR_OK; s->made_done++) {
		struct schema_rule rule = s->made[s->made_done];
		memcpy(s->path, rule.path, sizeof(s->path));
		schema_value(s, rule.schema, s->builder->rules[rule.rule].start, s->builder->rules[rule.rule].end);
	}
}

void schema_build(struct json_rules *rules, const json_t *schema, uint32_t from, uint32_t to)
{
	struct schema s = {.rules = rules, .builder = rules->builder, .root = schema, .merged = json_array(), .path = "#"};
	if (s.merged)
		schema_call(&s, schema, from, to);
	else
		schema_refuse(&s, ERR_NOMEM, "no memory for a schema");
	make_rules(&s);
	json_decref(s.merged);
	free(s.made);
}

void schema_build_bare(struct json_rules *rules, const json_t *schema, uint32_t from, uint32_t to)
{
	struct schema s = {.rules = rules, .builder = rules->builder, .root = schema, .path = "#"};
	schema_text(&s, schema, from, to);
}
