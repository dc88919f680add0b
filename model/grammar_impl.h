/* grammar_impl - between the passes that make a grammar: subsets (grammar_subset.c), then trimming (grammar_trim.c). */
#ifndef MODEL_GRAMMAR_IMPL_H
#define MODEL_GRAMMAR_IMPL_H
#include "model/grammar_build.h"

/* Fills nodes, edges, calls and starts of rules: no two edges of a node share a byte, no two calls a rule. */
void grammar_determinize(struct grammar_builder *builder, struct grammar *grammar);
/* Leaves out what cannot end, and fills need, final, nullable and first. */
void grammar_trim(struct grammar_builder *builder, struct grammar *grammar);
#endif
