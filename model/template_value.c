#include "model/template_value.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DEPTH_MAX   64
#define CHUNK_BYTES ((size_t)32 << 10)

struct arena_chunk {
	struct arena_chunk *next;
	size_t used;
	size_t capacity;
	_Alignas(16) char data[];
};

static void *take(struct arena *arena, size_t length, size_t room)
{
	length = (length + 15) & ~(size_t)15;
	struct arena_chunk *chunk = arena->chunks;
	if (!chunk || chunk->capacity - chunk->used < length) {
		size_t capacity = length + room > CHUNK_BYTES ? length + room : CHUNK_BYTES;
		if (capacity < length || capacity > arena->limit - arena->used)
			return NULL;
		chunk = calloc(1, sizeof(*chunk) + capacity);
		if (!chunk)
			return NULL;
		chunk->capacity = capacity;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
		arena->used += capacity;
	}
	void *memory = chunk->data + chunk->used;
	chunk->used += length;
	return memory;
}

void *arena_take(struct arena *arena, size_t length)
{
	arena->top = NULL;
	return length < SIZE_MAX / 4 ? take(arena, length, 0) : NULL;
}

char *arena_take_text(struct arena *arena, size_t length)
{
	char *text = length < SIZE_MAX / 4 ? take(arena, length, length) : NULL;
	arena->top = text ? text + length : NULL;
	return text;
}

bool arena_extend(struct arena *arena, const char *end, size_t more)
{
	struct arena_chunk *chunk = arena->chunks;
	if (!chunk || end != arena->top || more > chunk->capacity - (size_t)(end - chunk->data))
		return false;
	size_t used = ((size_t)(end - chunk->data) + more + 15) & ~(size_t)15;
	chunk->used = used < chunk->capacity ? used : chunk->capacity;
	arena->top = end + more;
	return true;
}

void arena_fini(struct arena *arena)
{
	while (arena->chunks) {
		struct arena_chunk *next = arena->chunks->next;
		free(arena->chunks);
		arena->chunks = next;
	}
	arena->used = 0;
	arena->top = NULL;
}

struct value value_text(const char *text)
{
	return (struct value){.kind = VALUE_TEXT, .text = {text, strlen(text)}};
}

struct value value_int(int64_t integer)
{
	return (struct value){.kind = VALUE_INT, .integer = integer};
}

struct value value_bool(bool boolean)
{
	return (struct value){.kind = VALUE_BOOL, .boolean = boolean};
}

enum err value_list_new(struct arena *arena, struct value *ret_list)
{
	*ret_list = (struct value){.kind = VALUE_LIST, .list = arena_take(arena, sizeof(struct value_list))};
	return ret_list->list ? ERR_OK : ERR_TOO_LARGE;
}

/* Doubles an array that lives in the arena; the old one stays there until the end. */
static void *regrow(struct arena *arena, const void *old, size_t count, size_t *capacity, size_t item_bytes)
{
	size_t more = *capacity ? *capacity * 2 : 4;
	void *fresh = more < SIZE_MAX / item_bytes / 2 ? arena_take(arena, more * item_bytes) : NULL;
	if (!fresh)
		return NULL;
	if (count)
		memcpy(fresh, old, count * item_bytes);
	*capacity = more;
	return fresh;
}

enum err value_list_add(struct arena *arena, struct value_list *list, struct value item)
{
	if (list->count == list->capacity) {
		void *items = regrow(arena, list->items, list->count, &list->capacity, sizeof(*list->items));
		if (!items)
			return ERR_TOO_LARGE;
		list->items = items;
	}
	list->items[list->count++] = item;
	return ERR_OK;
}

enum err value_map_new(struct arena *arena, struct value *ret_map)
{
	*ret_map = (struct value){.kind = VALUE_MAP, .map = arena_take(arena, sizeof(struct value_map))};
	return ret_map->map ? ERR_OK : ERR_TOO_LARGE;
}

enum err value_map_set(struct arena *arena, struct value_map *map, struct text key, struct value value)
{
	struct value *there = (struct value *)value_map_get(map, key);
	if (there) {
		*there = value;
		return ERR_OK;
	}
	if (map->count == map->capacity) {
		void *pairs = regrow(arena, map->pairs, map->count, &map->capacity, sizeof(*map->pairs));
		if (!pairs)
			return ERR_TOO_LARGE;
		map->pairs = pairs;
	}
	map->pairs[map->count++] = (struct value_pair){key, value};
	return ERR_OK;
}

const struct value *value_map_get(const struct value_map *map, struct text key)
{
	for (size_t i = 0; i < map->count; i++)
		if (text_equal(map->pairs[i].key, key))
			return &map->pairs[i].value;
	return NULL;
}

enum err value_copy_text(struct arena *arena, const char *data, size_t length, struct value *ret_text)
{
	char *copy = arena_take(arena, length + 1);
	if (!copy)
		return ERR_TOO_LARGE;
	if (length)
		memcpy(copy, data, length);
	*ret_text = (struct value){.kind = VALUE_TEXT, .text = {copy, length}};
	return ERR_OK;
}

static enum err list_from_json(struct arena *arena, const json_t *json, int depth, struct value *ret_value)
{
	struct value list, item;
	enum err e = value_list_new(arena, &list);
	for (size_t i = 0; e == ERR_OK && i < json_array_size(json); i++) {
		e = value_from_json(arena, json_array_get(json, i), depth + 1, &item);
		if (e == ERR_OK)
			e = value_list_add(arena, list.list, item);
	}
	*ret_value = list;
	return e;
}

/* The keys of a JSON object differ, so that nothing is looked up: linear. */
static enum err map_from_json(struct arena *arena, const json_t *json, int depth, struct value *ret_value)
{
	struct value map;
	enum err e = value_map_new(arena, &map);
	if (e != ERR_OK)
		return e;
	size_t count = json_object_size(json);
	map.map->pairs = arena_take(arena, (count + 1) * sizeof(*map.map->pairs));
	if (!map.map->pairs)
		return ERR_TOO_LARGE;
	map.map->capacity = count + 1;
	const char *key;
	json_t *entry;
	json_object_foreach((json_t *)json, key, entry) {
		struct value_pair *pair = &map.map->pairs[map.map->count++];
		pair->key = (struct text){key, strlen(key)};
		e = value_from_json(arena, entry, depth + 1, &pair->value);
		if (e != ERR_OK)
			return e;
	}
	*ret_value = map;
	return ERR_OK;
}

enum err value_from_json(struct arena *arena, const json_t *json, int depth, struct value *ret_value)
{
	if (depth > DEPTH_MAX)
		return ERR_TOO_LARGE;
	switch (json ? json_typeof(json) : JSON_NULL) {
	case JSON_OBJECT:
		return map_from_json(arena, json, depth, ret_value);
	case JSON_ARRAY:
		return list_from_json(arena, json, depth, ret_value);
	case JSON_STRING:
		*ret_value = (struct value){.kind = VALUE_TEXT,
					    .text = {json_string_value(json), json_string_length(json)}};
		break;
	case JSON_INTEGER:
		*ret_value = value_int(json_integer_value(json));
		break;
	case JSON_REAL:
		*ret_value = (struct value){.kind = VALUE_FLOAT, .number = json_real_value(json)};
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		*ret_value = value_bool(json_is_true(json));
		break;
	default:
		*ret_value = (struct value){.kind = VALUE_NONE};
	}
	return ERR_OK;
}

bool value_is_number(const struct value *value)
{
	return value->kind == VALUE_INT || value->kind == VALUE_FLOAT || value->kind == VALUE_BOOL;
}

double value_number(const struct value *value)
{
	return value->kind == VALUE_FLOAT ? value->number
	       : value->kind == VALUE_INT ? (double)value->integer
					  : (double)value->boolean;
}

bool value_truth(const struct value *value)
{
	switch (value->kind) {
	case VALUE_UNDEFINED:
	case VALUE_NONE:
		return false;
	case VALUE_BOOL:
	case VALUE_INT:
	case VALUE_FLOAT:
		return value_number(value) != 0;
	case VALUE_TEXT:
		return value->text.length > 0;
	case VALUE_LIST:
		return value->list->count > 0;
	case VALUE_MAP:
		return value->map->count > 0 || value->map->is_namespace;
	case VALUE_FUNCTION:
	case VALUE_METHOD:
	case VALUE_MACRO:
		break;
	}
	return true;
}

/* False: there are not so many left. */
static bool take_steps(uint64_t *steps, uint64_t count)
{
	*steps -= count < *steps ? count : *steps;
	return *steps > 0;
}

static bool maps_equal(const struct value_map *a, const struct value_map *b, int depth, uint64_t *steps)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		struct text key = a->pairs[i].key;
		bool same_place = text_equal(key, b->pairs[i].key);
		if (!take_steps(steps, 1 + (same_place ? 0 : b->count / 8)))
			return false;
		const struct value *other = same_place ? &b->pairs[i].value : value_map_get(b, key);
		if (!other || !value_equal(&a->pairs[i].value, other, depth + 1, steps))
			return false;
	}
	return true;
}

static bool lists_equal(const struct value_list *a, const struct value_list *b, int depth, uint64_t *steps)
{
	if (a->count != b->count || a->is_tuple != b->is_tuple)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (!value_equal(&a->items[i], &b->items[i], depth + 1, steps))
			return false;
	return true;
}

bool value_equal(const struct value *a, const struct value *b, int depth, uint64_t *steps)
{
	if (!take_steps(steps, 1))
		return false;
	if (value_is_number(a) && value_is_number(b))
		return a->kind == VALUE_INT && b->kind == VALUE_INT ? a->integer == b->integer
								    : value_number(a) == value_number(b);
	if (a->kind != b->kind || depth > DEPTH_MAX)
		return false;
	switch (a->kind) {
	case VALUE_TEXT:
		return take_steps(steps, a->text.length == b->text.length ? a->text.length / 64 : 0) &&
		       text_equal(a->text, b->text);
	case VALUE_FUNCTION:
	case VALUE_METHOD:
		return text_equal(a->text, b->text);
	case VALUE_MACRO:
		return a->macro == b->macro;
	case VALUE_MAP:
		return a->map == b->map || maps_equal(a->map, b->map, depth, steps);
	case VALUE_LIST:
		return a->list == b->list || lists_equal(a->list, b->list, depth, steps);
	default:
		return true;
	}
}

bool value_charge(const struct value *value, int depth, uint64_t *steps)
{
	if (depth > DEPTH_MAX)
		return true; /* printing ends there */
	size_t count = value->kind == VALUE_LIST ? value->list->count : value->kind == VALUE_MAP ? value->map->count : 0;
	uint64_t own = value->kind == VALUE_FLOAT ? 64 : value->kind == VALUE_TEXT ? 2 + value->text.length / 16 : 2;
	bool good = take_steps(steps, own);
	for (size_t i = 0; good && i < count; i++) {
		bool is_list = value->kind == VALUE_LIST;
		good = (is_list || take_steps(steps, 2 + value->map->pairs[i].key.length / 16)) &&
		       value_charge(is_list ? &value->list->items[i] : &value->map->pairs[i].value, depth + 1, steps);
	}
	return good;
}

const char *value_kind_name(const struct value *value)
{
	static const char *const names[] = {"undefined", "none", "boolean", "integer", "float",
					    "string",    "list", "mapping", "function", "method", "macro"};
	return names[value->kind];
}

enum err value_print_float(struct buf *out, double number, const char *infinity, const char *nan)
{
	char text[40];
	if (isnan(number) || isinf(number))
		return buf_printf(out, "%s%s", number < 0 ? "-" : "", isnan(number) ? nan : infinity);
	/* Fifteen digits are exact either way: without the zeros at their end they are the shortest.  The smallest have fewer. */
	int digits = fabs(number) < DBL_MIN ? 1 : 15;
	do
		snprintf(text, sizeof(text), "%.*e", digits - 1, number);
	while (strtod(text, NULL) != number && digits++ < 17);
	for (const char *last = strchr(text, 'e') - 1; digits > 1 && *last == '0'; last--)
		digits--;
	int exponent = atoi(strchr(text, 'e') + 1);
	if (exponent >= -4 && exponent < 16) {
		int behind = digits - 1 - exponent;
		snprintf(text, sizeof(text), "%.*f", behind > 1 ? behind : 1, number);
		return buf_text(out, text);
	}
	snprintf(text, sizeof(text), "%.*e", digits - 1, number);
	return buf_text(out, text);
}

enum err value_print_integer(struct buf *out, int64_t integer)
{
	char text[24];
	size_t at = sizeof(text);
	uint64_t rest = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
	do
		text[--at] = (char)('0' + rest % 10);
	while (rest /= 10);
	if (integer < 0)
		text[--at] = '-';
	return buf_append(out, text + at, sizeof(text) - at);
}

/* Python's repr of a string, for strings inside printed lists. */
static enum err print_quoted(struct buf *out, struct text text)
{
	bool has_single = memchr(text.data, '\'', text.length), has_double = memchr(text.data, '"', text.length);
	char quote = has_single && !has_double ? '"' : '\'';
	enum err e = buf_append(out, &quote, 1);
	size_t plain = 0; /* bytes that go as they are */
	for (size_t i = 0; i < text.length && e == ERR_OK; i++) {
		unsigned char c = (unsigned char)text.data[i];
		if (c >= 0x20 && c != 0x7f && c != '\\' && c != (unsigned char)quote)
			continue;
		e = buf_append(out, text.data + plain, i - plain);
		plain = i + 1;
		if (e != ERR_OK)
			break;
		if (c == '\n' || c == '\r' || c == '\t')
			e = buf_text(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
		else
			e = c == '\\' || c == (unsigned char)quote ? buf_printf(out, "\\%c", c) : buf_printf(out, "\\x%02x", c);
	}
	if (e == ERR_OK)
		e = buf_append(out, text.data + plain, text.length - plain);
	return e == ERR_OK ? buf_append(out, &quote, 1) : e;
}

static enum err print_nested(struct buf *out, const struct value *value, int depth)
{
	if (depth > DEPTH_MAX)
		return ERR_TOO_LARGE;
	if (value->kind == VALUE_TEXT)
		return print_quoted(out, value->text);
	bool is_list = value->kind == VALUE_LIST, is_tuple = is_list && value->list->is_tuple;
	if (!is_list && value->kind != VALUE_MAP)
		return value_print(out, value);
	size_t count = is_list ? value->list->count : value->map->count;
	enum err e = buf_text(out, is_tuple ? "(" : is_list ? "[" : "{");
	for (size_t i = 0; i < count && e == ERR_OK; i++) {
		if (i)
			e = buf_text(out, ", ");
		if (e == ERR_OK && !is_list)
			e = print_quoted(out, value->map->pairs[i].key);
		if (e == ERR_OK && !is_list)
			e = buf_text(out, ": ");
		if (e == ERR_OK)
			e = print_nested(out, is_list ? &value->list->items[i] : &value->map->pairs[i].value,
					 depth + 1);
	}
	if (e == ERR_OK && is_tuple && count == 1)
		e = buf_text(out, ",");
	return e == ERR_OK ? buf_text(out, is_tuple ? ")" : is_list ? "]" : "}") : e;
}

enum err value_print(struct buf *out, const struct value *value)
{
	switch (value->kind) {
	case VALUE_UNDEFINED:
		return ERR_OK;
	case VALUE_NONE:
		return buf_text(out, "None");
	case VALUE_BOOL:
		return buf_text(out, value->boolean ? "True" : "False");
	case VALUE_INT:
		return value_print_integer(out, value->integer);
	case VALUE_FLOAT:
		return value_print_float(out, value->number, "inf", "nan");
	case VALUE_TEXT:
		return buf_append(out, value->text.data, value->text.length);
	case VALUE_FUNCTION:
	case VALUE_METHOD:
	case VALUE_MACRO:
		return buf_printf(out, "<%s>", value_kind_name(value));
	default:
		return print_nested(out, value, 0);
	}
}
