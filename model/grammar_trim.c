/* grammar_trim - what a grammar must know of its nodes before it runs: which can end, how deep that needs the stack to
 * be, and what a rule may begin with. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/grammar_impl.h"

enum { NEED_NONE = UINT8_MAX };

/* Who leads to whom, backwards: lists[first[x]] .. lists[first[x + 1]]. */
struct reverse {
	uint32_t *first;
	uint32_t *list;
};

struct trim {
	struct grammar_builder *builder;
	struct grammar *grammar;
	uint32_t *edge_owners;       /* [edge_count] node */
	uint32_t *call_owners;       /* [call_count] */
	struct reverse edges;        /* by target */
	struct reverse calls;        /* by target */
	struct reverse callers;      /* by the rule's start */
	uint32_t *queue;             /* [node_count] */
	uint32_t queued;
	uint64_t (*firsts)[4];       /* [node_count] bytes that a node may go on with */
	uint32_t *paths;             /* [node_count] 0: not known yet */
};

/* ---- need: frames that the shortest way to the end pushes */

static void mark(struct trim *t, uint32_t node, uint32_t level)
{
	if (t->grammar->nodes[node].need != NEED_NONE)
		return;
	t->grammar->nodes[node].need = (uint8_t)level;
	t->queue[t->queued++] = node;
}

static uint32_t call_need(const struct grammar *g, const struct grammar_call *call)
{
	const struct grammar_node *target = &g->nodes[call->target];
	uint32_t start = g->nodes[g->rules[call->rule].start].need;
	if (target->need == NEED_NONE || start == NEED_NONE)
		return NEED_NONE;
	uint32_t inside = start + !grammar_is_tail(target);
	return inside > target->need ? inside : target->need;
}

static void look_at_call(struct trim *t, uint32_t call, uint32_t level)
{
	if (call_need(t->grammar, &t->grammar->calls[call]) <= level)
		mark(t, t->call_owners[call], level);
}

static void spread(struct trim *t, uint32_t node, uint32_t level)
{
	for (uint32_t i = t->edges.first[node]; i < t->edges.first[node + 1]; i++)
		mark(t, t->edge_owners[t->edges.list[i]], level);
	for (uint32_t i = t->calls.first[node]; i < t->calls.first[node + 1]; i++)
		look_at_call(t, t->calls.list[i], level);
	for (uint32_t i = t->callers.first[node]; i < t->callers.first[node + 1]; i++)
		look_at_call(t, t->callers.list[i], level);
	build_count(t->builder, 1);
}

static void find_needs(struct trim *t)
{
	struct grammar *g = t->grammar;
	for (uint32_t i = 0; i < g->node_count; i++)
		g->nodes[i].need = NEED_NONE;
	for (uint32_t i = 0; i < g->node_count; i++)
		if (g->nodes[i].final)
			mark(t, i, 0);
	uint32_t done = 0;
	for (uint32_t level = 0; level < GRAMMAR_DEPTH_MAX && (level == 0 || done < t->queued); level++) {
		while (done < t->queued)
			spread(t, t->queue[done++], level);
		for (uint32_t i = 0; i < g->call_count; i++)
			look_at_call(t, i, level + 1);
		build_count(t->builder, g->call_count / 8);
	}
}

/* ---- leaving out */

static bool call_lives(const struct grammar *g, const struct grammar_call *call)
{
	return call_need(g, call) <= GRAMMAR_DEPTH_MAX;
}

static void drop_dead(struct grammar *g)
{
	uint32_t edges = 0, calls = 0;
	for (uint32_t i = 0; i < g->node_count; i++) {
		struct grammar_node *node = &g->nodes[i];
		struct grammar_node old = *node;
		node->edge_first = edges;
		node->call_first = calls;
		for (uint32_t k = old.edge_first; k < old.edge_first + old.edge_count; k++)
			if (g->nodes[g->edges[k].target].need != NEED_NONE)
				g->edges[edges++] = g->edges[k];
		for (uint32_t k = old.call_first; k < old.call_first + old.call_count; k++)
			if (call_lives(g, &g->calls[k]))
				g->calls[calls++] = g->calls[k];
		node->edge_count = (uint16_t)(edges - node->edge_first);
		node->call_count = (uint16_t)(calls - node->call_first);
	}
	g->edge_count = edges;
	g->call_count = calls;
}

/* ---- what may read nothing */

static bool ends_by_call(const struct grammar *g, const struct grammar_node *node)
{
	for (uint32_t i = 0; i < node->call_count; i++) {
		const struct grammar_call *call = &g->calls[node->call_first + i];
		if (g->nodes[g->rules[call->rule].start].final && g->nodes[call->target].final)
			return true;
	}
	return false;
}

static void find_nullable(struct trim *t)
{
	struct grammar *g = t->grammar;
	for (bool more = true; more && t->builder->e == ERR_OK;) {
		more = false;
		for (uint32_t i = 0; i < g->node_count; i++)
			if (!g->nodes[i].final && ends_by_call(g, &g->nodes[i]))
				more = g->nodes[i].final = true;
		build_count(t->builder, g->call_count + g->node_count / 16);
	}
	for (uint32_t i = 0; i < g->rule_count; i++)
		g->rules[i].nullable = g->nodes[g->rules[i].start].final;
}

/* ---- what may come first, and how many ways lead there */

enum { PATHS_UNKNOWN = 0, PATHS_PENDING = UINT32_MAX };

static void add_first(struct trim *t, uint32_t node, uint32_t from)
{
	for (int i = 0; i < 4; i++)
		t->firsts[node][i] |= t->firsts[from][i];
}

static void add_bytes(struct trim *t, uint32_t node)
{
	const struct grammar_node *n = &t->grammar->nodes[node];
	for (uint32_t i = 0; i < n->edge_count; i++) {
		const struct grammar_edge *edge = &t->grammar->edges[n->edge_first + i];
		for (uint32_t byte = edge->low; byte <= edge->high; byte++)
			t->firsts[node][byte / 64] |= UINT64_C(1) << byte % 64;
	}
}

static uint32_t visit(struct trim *t, uint32_t node, uint32_t depth)
{
	struct grammar *g = t->grammar;
	const struct grammar_node *n = &g->nodes[node];
	if (t->paths[node] == PATHS_PENDING)
		build_refuse(t->builder, ERR_INVALID, "it refers to itself with nothing between");
	else if (depth > GRAMMAR_PATHS_MAX)
		build_refuse(t->builder, ERR_TOO_LARGE, "it has too many alternatives");
	if (t->builder->e != ERR_OK)
		return 1;
	if (t->paths[node] != PATHS_UNKNOWN)
		return t->paths[node];
	t->paths[node] = PATHS_PENDING;
	uint64_t paths = 1;
	memset(t->firsts[node], 0, sizeof(t->firsts[node]));
	add_bytes(t, node);
	for (uint32_t i = 0; i < n->call_count && t->builder->e == ERR_OK; i++) {
		const struct grammar_call *call = &g->calls[n->call_first + i];
		paths += visit(t, g->rules[call->rule].start, depth + 1);
		add_first(t, node, g->rules[call->rule].start);
		if (!g->rules[call->rule].nullable)
			continue;
		paths += visit(t, call->target, depth + 1);
		add_first(t, node, call->target);
	}
	if (paths > GRAMMAR_PATHS_MAX)
		build_refuse(t->builder, ERR_TOO_LARGE, "it has too many alternatives");
	return t->paths[node] = (uint32_t)paths;
}

static void find_firsts(struct trim *t)
{
	struct grammar *g = t->grammar;
	for (uint32_t i = 0; i < g->node_count && t->builder->e == ERR_OK; i++)
		if (g->nodes[i].call_count > 0)
			(void)visit(t, i, 0);
	for (uint32_t i = 0; i < g->rule_count && t->builder->e == ERR_OK; i++) {
		(void)visit(t, g->rules[i].start, 0);
		memcpy(g->rules[i].first, t->firsts[g->rules[i].start], sizeof(g->rules[i].first));
	}
}

/* ---- memory */

static uint32_t *numbers(uint32_t count)
{
	return calloc(count + 1u, sizeof(uint32_t));
}

static uint32_t edge_key(const struct grammar *g, uint32_t i)
{
	return g->edges[i].target;
}

static uint32_t call_key(const struct grammar *g, uint32_t i)
{
	return g->calls[i].target;
}

static uint32_t caller_key(const struct grammar *g, uint32_t i)
{
	return g->rules[g->calls[i].rule].start;
}

/* Sorts 0..count by key. */
static bool reverse_init(struct reverse *r, const struct grammar *g, uint32_t count,
			 uint32_t (*key)(const struct grammar *, uint32_t))
{
	r->first = numbers(g->node_count + 1);
	r->list = numbers(count);
	if (!r->first || !r->list)
		return false;
	for (uint32_t i = 0; i < count; i++)
		r->first[key(g, i) + 2]++;
	for (uint32_t i = 2; i < g->node_count + 2; i++)
		r->first[i] += r->first[i - 1];
	for (uint32_t i = 0; i < count; i++)
		r->list[r->first[key(g, i) + 1]++] = i;
	return true;
}

static void reverse_fini(struct reverse *r)
{
	free(r->first);
	free(r->list);
}

static bool trim_init(struct trim *t)
{
	const struct grammar *g = t->grammar;
	t->edge_owners = numbers(g->edge_count);
	t->call_owners = numbers(g->call_count);
	t->queue = numbers(g->node_count);
	t->paths = numbers(g->node_count);
	t->firsts = malloc((g->node_count + 1u) * sizeof(*t->firsts));
	if (!t->edge_owners || !t->call_owners || !t->queue || !t->paths || !t->firsts)
		return false;
	for (uint32_t i = 0; i < g->node_count; i++) {
		for (uint32_t k = 0; k < g->nodes[i].edge_count; k++)
			t->edge_owners[g->nodes[i].edge_first + k] = i;
		for (uint32_t k = 0; k < g->nodes[i].call_count; k++)
			t->call_owners[g->nodes[i].call_first + k] = i;
	}
	return reverse_init(&t->edges, g, g->edge_count, edge_key) &&
	       reverse_init(&t->calls, g, g->call_count, call_key) &&
	       reverse_init(&t->callers, g, g->call_count, caller_key);
}

static void trim_fini(struct trim *t)
{
	free(t->edge_owners);
	free(t->call_owners);
	free(t->queue);
	free(t->paths);
	free(t->firsts);
	reverse_fini(&t->edges);
	reverse_fini(&t->calls);
	reverse_fini(&t->callers);
}

void grammar_trim(struct grammar_builder *b, struct grammar *g)
{
	struct trim t = {.builder = b, .grammar = g};
	if (trim_init(&t)) {
		find_needs(&t);
		if (g->nodes[g->rules[g->root].start].need == NEED_NONE)
			build_refuse(b, ERR_INVALID, "nothing can match it, or nothing less than %d levels deep",
				     GRAMMAR_DEPTH_MAX);
		drop_dead(g);
		find_nullable(&t);
		find_firsts(&t);
	} else {
		build_refuse(b, ERR_NOMEM, "no memory for a grammar");
	}
	trim_fini(&t);
}
