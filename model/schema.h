/* schema - a JSON schema becomes part of a grammar: exactly the documents that are valid for it, one after the other
 * property in the order of the schema, as models are taught to write them.
 *
 * Understood: type (also a list), enum, const, anyOf, oneOf (as anyOf), allOf (merged), $ref within the schema, also in a
 * circle; properties, required, additionalProperties, propertyNames; items, prefixItems, minItems, maxItems; minLength,
 * maxLength, pattern, format; minimum, maximum and their exclusive forms; nullable.  Titles and the like are skipped.  Any
 * other keyword is refused by its name and place.
 *
 * Narrower than the letter: an object is closed where it lists properties and does not say additionalProperties; texts
 * with a pattern, a format or an enum are written in their shortest form; white space and numbers as json_rules.h says;
 * without a type, the type that the other keywords speak of.
 *
 * Bounds: all work is the builder's; nesting of merges SCHEMA_MERGES_MAX. */
#ifndef MODEL_SCHEMA_H
#define MODEL_SCHEMA_H
#include <jansson.h>
#include "model/grammar_build.h"
#include "model/json_rules.h"

enum { SCHEMA_MERGES_MAX = 4096 };

/* A document of the schema between two nodes.  Refuses through the builder, with the place: "#/properties/a". */
void schema_build(struct json_rules *rules, const json_t *schema, uint32_t from, uint32_t to);
/* A text of the schema without its quotes: {"pattern", "format", "minLength", "maxLength"}; other keywords say nothing. */
void schema_build_bare(struct json_rules *rules, const json_t *schema, uint32_t from, uint32_t to);
#endif
