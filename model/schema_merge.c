/* schema_merge - references, and several schemas that hold at once as one schema. */
#include <stdlib.h>
#include <string.h>

#include "model/schema_impl.h"

bool schema_is_annotation(const char *key)
{
	static const char *const keys[] = {"$anchor", "$comment", "$defs", "$id", "$schema", "contentEncoding", "contentMediaType",
					   "default", "definitions", "deprecated", "description", "discriminator", "example",
					   "examples", "externalDocs", "readOnly", "title", "writeOnly", "xml"};
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return key[0] == 'x' && key[1] == '-';
}

/* ---- references */

/* One step of a JSON pointer; "~1" is a slash, "~0" a tilde. */
static const json_t *step(const json_t *at, const char *text, size_t length)
{
	char key[512];
	size_t n = 0;
	if (length >= sizeof(key))
		return NULL;
	for (size_t i = 0; i < length; i++) {
		bool escape = text[i] == '~' && i + 1 < length && (text[i + 1] == '0' || text[i + 1] == '1');
		key[n++] = !escape ? text[i] : text[++i] == '1' ? '/' : '~';
	}
	key[n] = 0;
	if (json_is_array(at))
		return json_array_get(at, strtoul(key, NULL, 10));
	return json_object_get(at, key);
}

const json_t *schema_resolve(struct schema *s, const char *reference)
{
	const json_t *at = reference[0] == '#' ? s->root : NULL;
	const char *text = reference + 1;
	while (at && *text == '/') {
		size_t length = strcspn(++text, "/");
		at = step(at, text, length);
		text += length;
		build_count(s->builder, 1);
	}
	if (at && *text == 0)
		return at;
	schema_refuse(s, ERR_INVALID, "\"$ref\": \"%.100s\" is not a place of this schema", reference);
	return NULL;
}

/* ---- several as one */

/* Kept until the schema is done. */
static json_t *own(struct schema *s, json_t *made)
{
	if (json_array_size(s->merged) >= SCHEMA_MERGES_MAX) {
		schema_refuse(s, ERR_TOO_LARGE, "too many schemas have to be merged");
		json_decref(made);
		return NULL;
	}
	if (made && json_array_append_new(s->merged, made) == 0)
		return made;
	schema_refuse(s, ERR_NOMEM, "no memory to merge schemas");
	return NULL;
}

json_t *schema_without(struct schema *s, const json_t *schema, const char *key, const char *other)
{
	json_t *copy = own(s, json_copy((json_t *)schema));
	if (copy) {
		json_object_del(copy, key);
		json_object_del(copy, other);
		build_count(s->builder, (uint32_t)json_object_size(copy));
	}
	return copy;
}

/* "allOf" is taken apart where it is used: merging goes no deeper than it has to. */
static json_t *both_of(const json_t *a, const json_t *b)
{
	return json_pack("{s:[O,O]}", "allOf", (json_t *)a, (json_t *)b);
}

static bool listed(const json_t *list, const json_t *item)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_equal(json_array_get(list, i), item))
			return true;
	return false;
}

/* What both lists have; something that is no list is a list of itself. */
static json_t *common(struct schema *s, const json_t *a, const json_t *b)
{
	json_t *wrapped = json_is_array(a) ? NULL : json_pack("[O]", (json_t *)a);
	json_t *other = json_is_array(b) ? NULL : json_pack("[O]", (json_t *)b);
	const json_t *left = wrapped ? wrapped : a, *right = other ? other : b;
	json_t *found = json_array();
	build_count(s->builder, (uint32_t)(json_array_size(left) * json_array_size(right)));
	for (size_t i = 0; s->builder->e == ERR_OK && i < json_array_size(left); i++)
		if (listed(right, json_array_get(left, i)))
			json_array_append(found, json_array_get(left, i));
	json_decref(wrapped);
	json_decref(other);
	return found;
}

static json_t *types_of_both(struct schema *s, const json_t *a, const json_t *b)
{
	const json_t *integer = json_string("integer"), *number = json_string("number");
	json_t *found = common(s, a, b);
	/* An integer is a number. */
	bool a_number = json_equal(a, number) || listed(a, number), b_number = json_equal(b, number) || listed(b, number);
	bool a_integer = json_equal(a, integer) || listed(a, integer), b_integer = json_equal(b, integer) || listed(b, integer);
	if ((a_number && b_integer) || (b_number && a_integer))
		json_array_append(found, (json_t *)integer);
	json_decref((json_t *)integer);
	json_decref((json_t *)number);
	return found;
}

static json_t *union_of(struct schema *s, const json_t *a, const json_t *b)
{
	build_count(s->builder, (uint32_t)(json_array_size(a) * json_array_size(b) / 8));
	json_t *all = json_copy((json_t *)a);
	for (size_t i = 0; i < json_array_size(b); i++)
		if (!listed(a, json_array_get(b, i)))
			json_array_append(all, json_array_get(b, i));
	return all;
}

static json_t *properties_of_both(struct schema *s, const json_t *a, const json_t *b)
{
	json_t *all = json_copy((json_t *)a);
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)b, key, value)
	{
		const json_t *have = json_object_get(a, key);
		if (!have)
			json_object_set(all, key, value);
		else if (!json_equal(have, value))
			json_object_set_new(all, key, both_of(have, value));
		build_count(s->builder, 8);
	}
	return all;
}

static json_t *extreme(const json_t *a, const json_t *b, bool least)
{
	double x = json_number_value(a), y = json_number_value(b);
	return json_incref((json_t *)((least ? x < y : x > y) ? a : b));
}

static bool one_of(const char *key, const char *const *keys)
{
	for (; *keys; keys++)
		if (strcmp(*keys, key) == 0)
			return true;
	return false;
}

/* The value of a keyword that both have, and differently; NULL: refused. */
static json_t *value_of_both(struct schema *s, const char *key, const json_t *a, const json_t *b)
{
	static const char *const lows[] = {"minimum", "exclusiveMinimum", "minLength", "minItems", NULL};
	static const char *const highs[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", NULL};
	static const char *const schemas[] = {"items", "additionalProperties", "propertyNames", NULL};
	if (strcmp(key, "type") == 0)
		return types_of_both(s, a, b);
	if (strcmp(key, "enum") == 0)
		return common(s, a, b);
	if (strcmp(key, "required") == 0 || strcmp(key, "allOf") == 0)
		return union_of(s, a, b);
	if (strcmp(key, "properties") == 0)
		return properties_of_both(s, a, b);
	if (one_of(key, lows) && json_is_number(a) && json_is_number(b))
		return extreme(a, b, false);
	if (one_of(key, highs) && json_is_number(a) && json_is_number(b))
		return extreme(a, b, true);
	if (one_of(key, schemas))
		return json_is_false(a) || json_is_false(b) ? json_false() : both_of(a, b);
	schema_refuse(s, ERR_UNSUPPORTED, "\"%.60s\" stands in two schemas that hold at once, and differs", key);
	return NULL;
}

/* A schema of keywords alone: its own reference is followed. */
static const json_t *opened(struct schema *s, const json_t *schema, uint32_t depth)
{
	const char *reference = json_string_value(schema_get(schema, "$ref"));
	if (!reference)
		return schema;
	if (depth > 32) {
		schema_refuse(s, ERR_INVALID, "\"$ref\" refers to itself with nothing between");
		return NULL;
	}
	const json_t *target = schema_resolve(s, reference);
	const json_t *rest = target ? schema_without(s, schema, "$ref", "$ref") : NULL;
	target = rest ? opened(s, target, depth + 1) : NULL;
	return target ? schema_both(s, target, rest) : NULL;
}

const json_t *schema_both(struct schema *s, const json_t *a, const json_t *b)
{
	if (json_is_true(a) || json_is_false(b))
		return b;
	if (json_is_true(b) || json_is_false(a))
		return a;
	if (!json_is_object(a) || !json_is_object(b)) {
		schema_refuse(s, ERR_INVALID, "a schema is expected: an object, true or false");
		return NULL;
	}
	a = opened(s, a, 0);
	b = a ? opened(s, b, 0) : NULL;
	json_t *all = b ? own(s, json_copy((json_t *)a)) : NULL;
	const char *key;
	json_t *value;
	if (!all)
		return NULL;
	json_object_foreach((json_t *)b, key, value)
	{
		const json_t *have = json_object_get(a, key);
		build_count(s->builder, 4);
		if (s->builder->e != ERR_OK)
			return NULL;
		if (!have || schema_is_annotation(key) || json_equal(have, value))
			json_object_set(all, key, value);
		else
			json_object_set_new(all, key, value_of_both(s, key, have, value));
	}
	return s->builder->e == ERR_OK ? all : NULL;
}

const json_t *schema_of_text(struct schema *s, const json_t *schema)
{
	const json_t *text = own(s, json_pack("{s:s}", "type", "string"));
	return text ? schema_both(s, text, schema) : NULL;
}
