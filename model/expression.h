/* expression - a regular expression of a client becomes part of a grammar.
 *
 * ECMA-262's, as JSON Schema asks: alternatives, groups, classes, \d \w \s, counts, "." and anchors at the two ends.
 * Refused by name: look-around, back references, \b, \p, flags, an anchor in the middle.
 *
 * Bounds: what it makes is counted by the builder, so (((a{99}){99}){99} ends early; EXPRESSION_*_MAX. */
#ifndef MODEL_EXPRESSION_H
#define MODEL_EXPRESSION_H
#include <stdbool.h>
#include <stddef.h>
#include "model/grammar_build.h"

enum { EXPRESSION_BYTES_MAX = 4096, EXPRESSION_DEPTH_MAX = 32, EXPRESSION_COUNT_MAX = 10000 };

enum expression_kind {
	EXPRESSION_TEXT,  /* the whole text matches; written as it is */
	EXPRESSION_STRING /* some part matches, unless it is anchored; written as the inside of a JSON string */
};

/* One character, written as kind says: in strings in the shortest way, so that each has one. */
void expression_chars(struct grammar_builder *builder, enum expression_kind kind, uint32_t from, uint32_t low, uint32_t high,
		   uint32_t to);
/* Refuses through the builder. */
void expression_build(struct grammar_builder *builder, enum expression_kind kind, const char *pattern, size_t length,
		   uint32_t from, uint32_t to);
#endif
