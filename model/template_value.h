/* template_value - what an expression of a chat template is worth, and the arena it lives in.
 *
 * Values are small and copied; texts, lists and maps point into the arena or into the caller's input.
 * Only this room.  Bounds: the arena's limit; texts and lists come from nowhere else. */
#ifndef MODEL_TEMPLATE_VALUE_H
#define MODEL_TEMPLATE_VALUE_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/buf.h"
#include "base/err.h"

/* Memory that is given back all at once. */
struct arena {
	struct arena_chunk *chunks;
	uint64_t used; /* bytes of all chunks */
	uint64_t limit;
	const char *top; /* where the text that came last ends, if it may grow */
};
/* Zeroed memory; NULL over the limit or without memory. */
void *arena_take(struct arena *arena, size_t length);
/* The same for a text that may grow: with as much room again behind it. */
char *arena_take_text(struct arena *arena, size_t length);
/* Makes room for `more` bytes behind the text that ends at `end`; false: it is not the last one, or there is none. */
bool arena_extend(struct arena *arena, const char *end, size_t more);
void arena_fini(struct arena *arena);

struct text {
	const char *data; /* UTF-8, not 0-terminated */
	size_t length;
};
static inline bool text_is(struct text text, const char *other)
{
	return text.length == strlen(other) && memcmp(text.data, other, text.length) == 0;
}
static inline bool text_equal(struct text a, struct text b)
{
	return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

enum value_kind {
	VALUE_UNDEFINED,
	VALUE_NONE,
	VALUE_BOOL,
	VALUE_INT,
	VALUE_FLOAT,
	VALUE_TEXT,
	VALUE_LIST,
	VALUE_MAP,
	VALUE_FUNCTION, /* text is its name */
	VALUE_METHOD,   /* text is its name: of a text, list or map, not called */
	VALUE_MACRO,
};

struct value {
	enum value_kind kind;
	union {
		bool boolean;
		int64_t integer;
		double number;
		struct text text; /* UNDEFINED: the name that was asked for */
		struct value_list *list;
		struct value_map *map;
		const struct macro *macro; /* template_eval.h */
	};
};

struct value_list {
	struct value *items; /* [count] */
	size_t count;
	size_t capacity;
	bool is_tuple; /* Python prints it otherwise */
};

struct value_map {
	struct value_pair {
		struct text key;
		struct value value;
	} *pairs; /* [count], in order of insertion */
	size_t count;
	size_t capacity;
	bool is_namespace; /* {% set ns.x = ... %} may write to it */
	bool is_loop;      /* what "loop" is */
};

struct value value_text(const char *text);
struct value value_int(int64_t integer);
struct value value_bool(bool boolean);

/* ERR_TOO_LARGE when the arena is full. */
MUST_USE enum err value_list_new(struct arena *arena, struct value *ret_list);
MUST_USE enum err value_list_add(struct arena *arena, struct value_list *list, struct value item);
MUST_USE enum err value_map_new(struct arena *arena, struct value *ret_map);
MUST_USE enum err value_map_set(struct arena *arena, struct value_map *map, struct text key, struct value value);
/* NULL: there is none. */
const struct value *value_map_get(const struct value_map *map, struct text key);
/* Copies bytes into the arena as a text. */
MUST_USE enum err value_copy_text(struct arena *arena, const char *data, size_t length, struct value *ret_text);

/* A value as deep as the JSON; strings are borrowed. */
MUST_USE enum err value_from_json(struct arena *arena, const json_t *json, int depth, struct value *ret_value);

bool value_is_number(const struct value *value);
double value_number(const struct value *value);
bool value_truth(const struct value *value);
/* As Python's ==.  Takes what it costs from *steps; at 0 it is not known. */
bool value_equal(const struct value *a, const struct value *b, int depth, uint64_t *steps);
const char *value_kind_name(const struct value *value);

/* What it costs to print, from *steps; false: there are not so many left.  A value that holds another twice is counted as often
 * as it is printed. */
bool value_charge(const struct value *value, int depth, uint64_t *steps);

/* As Python's str(): what {{ }} prints. */
MUST_USE enum err value_print(struct buf *out, const struct value *value);

/* As the arguments of Python's json.dumps(). */
struct json_style {
	int indent; /* < 0: on one line */
	struct text item_separator, key_separator;
	bool ascii;
	bool sorted;
};
/* ERR_INVALID: a value that JSON has not. */
MUST_USE enum err value_print_json(struct buf *out, const struct value *value, const struct json_style *style, int depth);
MUST_USE enum err value_print_integer(struct buf *out, int64_t integer);
/* The shortest decimal that reads back the same, as Python writes it. */
MUST_USE enum err value_print_float(struct buf *out, double number, const char *infinity, const char *nan);
#endif
