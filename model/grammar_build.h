/* grammar_build - a grammar being made: nodes, edges between them, rules; then determinized and trimmed.
 *
 * A maker is given the node it starts from and the node it must reach: bytes, calls and skips between them in any order
 * and number, ambiguous ones too.  The first failure is kept, and everything after it does nothing: makers are straight
 * lines with one check at the end (grammar_build()).
 *
 * Owns:   all until grammar_build() gives the grammar away.
 * Bounds: BUILD_*_MAX before determinizing, those of grammar.h after; every call counts its steps.
 * Thread: one. */
#ifndef MODEL_GRAMMAR_BUILD_H
#define MODEL_GRAMMAR_BUILD_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "model/grammar.h"

enum { BUILD_NODES_MAX = 1 << 17, BUILD_EDGES_MAX = 1 << 18 };

enum build_kind { BUILD_BYTES, BUILD_SKIP, BUILD_CALL };

struct build_edge {
	enum build_kind kind;
	uint8_t low, high;
	uint32_t rule;
	uint32_t to;
	uint32_t next; /* of the same node; 0: none */
};

struct build_rule {
	uint32_t start, end;
};

struct grammar_builder {
	const uint8_t *usable; /* [256] bytes that may occur, 0 or 1; NULL: all */
	struct why *why;
	enum err e;
	uint32_t steps;
	uint32_t *heads;           /* [node_count] first edge of each node; node 0 is nobody's */
	uint32_t node_count, node_capacity;
	struct build_edge *edges;  /* [edge_count]; edge 0 is nobody's */
	uint32_t edge_count, edge_capacity;
	uint32_t text_tail; /* of the grammar */
	struct build_rule *rules;
	uint32_t rule_count, rule_capacity;
};

void grammar_builder_init(struct grammar_builder *builder, const uint8_t *usable, struct why *why);
void grammar_builder_fini(struct grammar_builder *builder);

uint32_t build_node(struct grammar_builder *builder);
uint32_t build_rule(struct grammar_builder *builder);
void build_bytes(struct grammar_builder *builder, uint32_t from, uint8_t low, uint8_t high, uint32_t to);
void build_text(struct grammar_builder *builder, uint32_t from, const char *text, size_t length, uint32_t to);
void build_skip(struct grammar_builder *builder, uint32_t from, uint32_t to);
void build_call(struct grammar_builder *builder, uint32_t from, uint32_t rule, uint32_t to);
/* The characters low..high, surrogates left out, as UTF-8. */
void build_chars(struct grammar_builder *builder, uint32_t from, uint32_t low, uint32_t high, uint32_t to);
/* Work done outside, counted here. */
void build_count(struct grammar_builder *builder, uint32_t steps);
void build_refuse(struct grammar_builder *builder, enum err e, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ERR_TOO_LARGE over a bound; ERR_INVALID: the language is empty, or a rule begins with itself. */
MUST_USE enum err grammar_build(struct grammar_builder *builder, uint32_t root, struct grammar **ret_grammar);
#endif
