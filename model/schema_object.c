/* schema_object - objects, in the order of their properties, and arrays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/expression.h"
#include "model/schema_impl.h"
#include "model/utf8.h"

enum { NAME_BYTES_MAX = 512, ITEMS_FEW = 4 };

static uint32_t on(struct schema *s, char byte, uint32_t from)
{
	uint32_t next = build_node(s->builder);
	build_bytes(s->builder, from, (uint8_t)byte, (uint8_t)byte, next);
	return next;
}

/* ---- keys that are none of the listed ones */

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Characters that lead away from all names. */
static void leave(struct schema *s, uint32_t from, uint32_t low, uint32_t high, uint32_t away)
{
	if (low <= high)
		expression_chars(s->builder, EXPRESSION_STRING, from, low, high, away);
}

/* names: [count] sorted, alike in their first `at` bytes.  A text that ends here must be none of them. */
static void keys_but(struct schema *s, const char **names, size_t count, size_t at, uint32_t from, uint32_t away,
		     uint32_t to)
{
	uint32_t low = 0;
	build_count(s->builder, (uint32_t)count);
	if (s->builder->e != ERR_OK)
		return;
	if (names[0][at])
		build_bytes(s->builder, from, '"', '"', to);
	for (size_t i = names[0][at] ? 0 : 1, end; i < count; i = end) {
		uint32_t c = 0, next = build_node(s->builder);
		int n = utf8_step((const uint8_t *)names[i] + at, strlen(names[i] + at), &c);
		for (end = i + 1; end < count && strncmp(names[end] + at, names[i] + at, (size_t)n) == 0;)
			end++;
		if (c > 0)
			leave(s, from, low, c - 1, away);
		expression_chars(s->builder, EXPRESSION_STRING, from, c, c, next);
		keys_but(s, names + i, end - i, at + (size_t)n, next, away, to);
		low = c + 1;
	}
	leave(s, from, low, 0x10ffff, away);
}

static void other_key(struct schema *s, const json_t *properties, uint32_t from, uint32_t to)
{
	size_t count = json_object_size(properties), i = 0;
	const char *key, **names = count > 0 ? malloc(count * sizeof(*names)) : NULL;
	json_t *value;
	if (count == 0) {
		json_rule_call(s->rules, RULE_STRING, from, to);
		return;
	}
	uint32_t inside = on(s, '"', from), away = build_node(s->builder);
	if (!names) {
		schema_refuse(s, ERR_NOMEM, "no memory for %zu names", count);
		return;
	}
	json_object_foreach((json_t *)properties, key, value)
		names[i++] = key;
	qsort(names, count, sizeof(*names), by_bytes);
	expression_chars(s->builder, EXPRESSION_STRING, away, 0, 0x10ffff, away);
	build_bytes(s->builder, away, '"', '"', to);
	keys_but(s, names, count, 0, inside, away, to);
	free(names);
}

/* ---- objects */

struct object {
	struct schema *schema;
	uint32_t none; /* node: no member so far */
	uint32_t some; /* node: behind a member */
};

/* Where a member's key begins: behind the brace, or behind a comma. */
static uint32_t member_start(struct object *o)
{
	struct schema *s = o->schema;
	uint32_t key = build_node(s->builder);
	json_space(s->rules, o->none, key);
	json_space(s->rules, on(s, ',', o->some), key);
	return key;
}

static void member_value(struct schema *s, const json_t *schema, uint32_t key_end, uint32_t to)
{
	uint32_t value = build_node(s->builder);
	json_space(s->rules, on(s, ':', key_end), value);
	schema_call(s, schema, value, to);
}

static void property(struct object *o, const char *name, const json_t *schema, bool required)
{
	struct schema *s = o->schema;
	struct object after = {.schema = s, .none = build_node(s->builder), .some = build_node(s->builder)};
	size_t length = strlen(name), up = schema_enter(s, "properties");
	schema_enter(s, name);
	if (length > NAME_BYTES_MAX)
		schema_refuse(s, ERR_TOO_LARGE, "a name of %zu bytes, at most %d", length, NAME_BYTES_MAX);
	if (s->builder->e == ERR_OK) {
		uint32_t key_end = build_node(s->builder);
		json_quoted(s->rules, name, length, member_start(o), key_end);
		member_value(s, schema, key_end, after.some);
	}
	if (!required) {
		build_skip(s->builder, o->none, after.none);
		build_skip(s->builder, o->some, after.some);
	}
	s->path[up] = 0;
	*o = after;
}

static bool is_listed(const json_t *list, const char *name)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(json_string_value(json_array_get(list, i)), name) == 0)
			return true;
	return false;
}

static const json_t *required_of(struct schema *s, const json_t *schema)
{
	const json_t *required = schema_get(schema, "required");
	bool good = !required || json_is_array(required);
	for (size_t i = 0; good && i < json_array_size(required); i++)
		good = json_is_string(json_array_get(required, i));
	if (!good)
		schema_refuse(s, ERR_INVALID, "\"required\" is expected to be a list of names");
	return good ? required : NULL;
}

/* Any number of members that the schema does not name. */
static void other_members(struct object *o, const json_t *schema, const json_t *values)
{
	struct schema *s = o->schema;
	const json_t *names = schema_get(schema, "propertyNames");
	uint32_t key_end = build_node(s->builder), start = member_start(o);
	size_t up = schema_enter(s, "additionalProperties");
	if (names && json_object_size(schema_get(schema, "properties")) > 0)
		schema_refuse(s, ERR_UNSUPPORTED, "\"propertyNames\" beside \"properties\" is not supported");
	else if (names)
		schema_value(s, schema_of_text(s, names), start, key_end);
	else
		other_key(s, schema_get(schema, "properties"), start, key_end);
	member_value(s, values, key_end, o->some);
	s->path[up] = 0;
}

static void listed_members(struct object *o, const json_t *schema, const json_t *required)
{
	struct schema *s = o->schema;
	const json_t *properties = schema_get(schema, "properties");
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)properties, name, value)
	{
		build_count(s->builder, (uint32_t)json_array_size(required) / 4 + 1);
		if (s->builder->e == ERR_OK)
			property(o, name, value, is_listed(required, name));
	}
}

/* Names that are required and not described. */
static void unlisted_members(struct object *o, const json_t *schema, const json_t *required, const json_t *values)
{
	const json_t *properties = schema_get(schema, "properties");
	for (size_t i = 0; i < json_array_size(required) && o->schema->builder->e == ERR_OK; i++) {
		const char *name = json_string_value(json_array_get(required, i));
		if (!json_object_get(properties, name))
			property(o, name, values, true);
	}
}

void schema_object(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	const json_t *properties = schema_get(schema, "properties"), *values = schema_get(schema, "additionalProperties");
	const json_t *required = required_of(s, schema);
	if (properties && !json_is_object(properties))
		schema_refuse(s, ERR_INVALID, "\"properties\" is expected to be an object");
	if (s->builder->e != ERR_OK)
		return;
	const json_t *unlisted = values ? values : json_true();
	if (!values)
		values = properties ? json_false() : json_true();
	struct object o = {.schema = s, .none = on(s, '{', from), .some = build_node(s->builder)};
	listed_members(&o, schema, required);
	unlisted_members(&o, schema, required, unlisted);
	if (!json_is_false(values))
		other_members(&o, schema, values);
	uint32_t close = build_node(s->builder);
	build_bytes(s->builder, o.none, '}', '}', to);
	json_space(s->rules, o.some, close);
	build_bytes(s->builder, close, '}', '}', to);
}

/* ---- arrays */

/* One item behind `from`, where `index` stand already. */
static void item(struct schema *s, const json_t *schema, uint32_t index, uint32_t from, uint32_t to)
{
	uint32_t value = build_node(s->builder);
	json_space(s->rules, index > 0 ? on(s, ',', from) : from, value);
	if (index < ITEMS_FEW)
		schema_call(s, schema, value, to);
	else
		schema_call_rule(s, schema, value, to);
}

static void close_array(struct schema *s, uint32_t index, uint32_t from, uint32_t to)
{
	uint32_t close = build_node(s->builder);
	build_skip(s->builder, from, close);
	if (index > 0)
		json_space(s->rules, from, close);
	build_bytes(s->builder, close, ']', ']', to);
}

void schema_array(struct schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
	const json_t *first = schema_get(schema, "prefixItems"), *rest = schema_get(schema, "items");
	uint32_t min = schema_count(s, schema, "minItems", 0), max = schema_count(s, schema, "maxItems", UINT32_MAX);
	uint32_t fixed = (uint32_t)json_array_size(first);
	if (first && !json_is_array(first))
		schema_refuse(s, ERR_INVALID, "\"prefixItems\" is expected to be a list of schemas");
	if (!rest)
		rest = json_true();
	if (json_is_false(rest) && max > fixed)
		max = fixed;
	/* So many items have nodes of their own; further ones, where there may be any, go round at the last. */
	uint32_t told = min > fixed ? min : fixed, at = on(s, '[', from);
	if (told == 0)
		told = 1;
	if (max != UINT32_MAX)
		told = max;
	for (uint32_t i = 0; i < told && s->builder->e == ERR_OK; i++) {
		uint32_t next = build_node(s->builder);
		char place[32];
		snprintf(place, sizeof(place), i < fixed ? "prefixItems/%u" : "items", i);
		if (i >= min)
			close_array(s, i, at, to);
		size_t up = schema_enter(s, place);
		item(s, i < fixed ? json_array_get(first, i) : rest, i, at, next);
		s->path[up] = 0;
		at = next;
	}
	size_t up = schema_enter(s, "items");
	if (max == UINT32_MAX)
		item(s, rest, told, at, at);
	if (told >= min)
		close_array(s, told, at, to);
	s->path[up] = 0;
}
