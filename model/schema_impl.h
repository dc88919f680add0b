/* schema_impl - between the parts of reading a schema: schema.c (what a schema may be), schema_object.c (objects and
 * arrays), schema_scalar.c (texts, numbers, constants), schema_merge.c (references, and several schemas as one). */
#ifndef MODEL_SCHEMA_IMPL_H
#define MODEL_SCHEMA_IMPL_H
#include <stdbool.h>
#include "model/schema.h"

enum { SCHEMA_PATH_MAX = 256 };

/* A schema that is, or will be, a rule of its own. */
struct schema_rule {
	const json_t *schema;
	uint32_t rule;
	char path[SCHEMA_PATH_MAX];
};

struct schema {
	struct json_rules *rules;
	struct grammar_builder *builder;
	const json_t *root;
	struct schema_rule *made; /* [made_count] those before made_done have their body */
	uint32_t made_count, made_done, made_capacity;
	json_t *merged;           /* array: keeps what schema_merge.c made */
	char path[SCHEMA_PATH_MAX]; /* where we are */
};

/* One step down the path, and back: size_t up = schema_enter(s, "items"); …; s->path[up] = 0; */
size_t schema_enter(struct schema *s, const char *key);
void schema_refuse(struct schema *s, enum err e, const char *format, ...) __attribute__((format(printf, 3, 4)));
const json_t *schema_get(const json_t *schema, const char *key);
/* A count from a schema's key; fallback where there is none. */
uint32_t schema_count(struct schema *s, const json_t *schema, const char *key, uint32_t fallback);

/* schema.c: a value of it, in place; by a rule that all its uses share; as its size suggests. */
void schema_value(struct schema *s, const json_t *schema, uint32_t from, uint32_t to);
void schema_call_rule(struct schema *s, const json_t *schema, uint32_t from, uint32_t to);
void schema_call(struct schema *s, const json_t *schema, uint32_t from, uint32_t to);

void schema_object(struct schema *s, const json_t *schema, uint32_t from, uint32_t to);
void schema_array(struct schema *s, const json_t *schema, uint32_t from, uint32_t to);
void schema_text(struct schema *s, const json_t *schema, uint32_t from, uint32_t to); /* without quotes */
void schema_string(struct schema *s, const json_t *schema, uint32_t from, uint32_t to);
void schema_number(struct schema *s, const json_t *schema, bool integer, uint32_t from, uint32_t to);
void schema_constant(struct schema *s, const json_t *value, uint32_t from, uint32_t to);

/* Keywords that say nothing of which documents are valid. */
bool schema_is_annotation(const char *key);
/* NULL: refused.  What is returned lives as long as the schema. */
const json_t *schema_resolve(struct schema *s, const char *reference);
/* The documents valid for both. */
const json_t *schema_both(struct schema *s, const json_t *a, const json_t *b);
/* Of the documents of a schema, the texts. */
const json_t *schema_of_text(struct schema *s, const json_t *schema);
/* All keys of a schema but some. */
json_t *schema_without(struct schema *s, const json_t *schema, const char *key, const char *other);
#endif
