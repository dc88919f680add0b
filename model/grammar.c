#include "model/grammar.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "model/grammar_impl.h"

static bool allocate(struct grammar *g, uint32_t rule_count)
{
	g->nodes = malloc(GRAMMAR_NODES_MAX * sizeof(*g->nodes));
	g->edges = malloc(GRAMMAR_EDGES_MAX * sizeof(*g->edges));
	g->calls = malloc(GRAMMAR_EDGES_MAX * sizeof(*g->calls));
	g->rules = calloc(rule_count, sizeof(*g->rules));
	return g->nodes && g->edges && g->calls && g->rules;
}

/* Gives back what was not used; a failure keeps the larger piece. */
static void *fit(void *items, size_t bytes)
{
	void *less = realloc(items, bytes ? bytes : 1);
	return less ? less : items;
}

static void shrink(struct grammar *g)
{
	g->nodes = fit(g->nodes, g->node_count * sizeof(*g->nodes));
	g->edges = fit(g->edges, g->edge_count * sizeof(*g->edges));
	g->calls = fit(g->calls, g->call_count * sizeof(*g->calls));
}

enum err grammar_build(struct grammar_builder *b, uint32_t root, struct grammar **ret_grammar)
{
	static atomic_uint_fast64_t serials;
	struct grammar *g = b->e == ERR_OK ? calloc(1, sizeof(*g)) : NULL;
	if (!g || !allocate(g, b->rule_count)) {
		build_refuse(b, ERR_NOMEM, "no memory for a grammar");
		grammar_destroy(g);
		return b->e;
	}
	g->root = root;
	g->text_tail = b->text_tail;
	grammar_determinize(b, g);
	if (b->e == ERR_OK)
		grammar_trim(b, g);
	if (b->e != ERR_OK) {
		grammar_destroy(g);
		return b->e;
	}
	shrink(g);
	g->serial = atomic_fetch_add(&serials, 1) + 1;
	g->steps = b->steps;
	*ret_grammar = g;
	return ERR_OK;
}

void grammar_destroy(struct grammar *g)
{
	if (!g)
		return;
	free(g->nodes);
	free(g->edges);
	free(g->calls);
	free(g->rules);
	free(g);
}
