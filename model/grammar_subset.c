/* grammar_subset - the subset construction, rule by rule; a call is one more letter of the alphabet. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "model/grammar_impl.h"

enum { SUBSET_MEMBERS_MAX = 1 << 19 };

/* A set of the builder's nodes, sorted: one node of the grammar. */
struct subset {
	uint32_t first, count; /* in members */
};

struct subsets {
	struct grammar_builder *builder;
	struct grammar *grammar;
	struct subset *sets; /* [grammar->node_count] */
	uint32_t *members;   /* [member_count] */
	uint32_t member_count;
	uint32_t *slots;     /* [SLOTS] by hash: set + 1; 0: free */
	uint32_t *marks;     /* [builder->node_count] the round that last met the node */
	uint32_t round;
	uint32_t *stack;     /* [builder->node_count] */
	uint32_t *seeds;     /* [builder->edge_count] */
	uint32_t *edges;     /* [builder->edge_count] of the set being worked on */
};

enum { SLOTS = GRAMMAR_NODES_MAX * 2 };

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static bool counts(const struct grammar_builder *b, uint32_t node, uint32_t rule_end)
{
	if (node == rule_end)
		return true;
	for (uint32_t i = b->heads[node]; i; i = b->edges[i].next)
		if (b->edges[i].kind != BUILD_SKIP)
			return true;
	return false;
}

static void push(struct subsets *s, uint32_t node, uint32_t *depth)
{
	if (s->marks[node] == s->round)
		return;
	s->marks[node] = s->round;
	s->stack[(*depth)++] = node;
}

/* Appends to members what the seeds reach without reading, where that matters; returns how many, sorted. */
static uint32_t close_over(struct subsets *s, const uint32_t *seeds, uint32_t seed_count, uint32_t rule_end)
{
	struct grammar_builder *b = s->builder;
	uint32_t depth = 0, count = 0, *out = s->members + s->member_count;
	s->round++;
	for (uint32_t i = 0; i < seed_count; i++)
		push(s, seeds[i], &depth);
	while (depth > 0) {
		uint32_t node = s->stack[--depth], work = 1;
		if (counts(b, node, rule_end)) {
			if (s->member_count + count == SUBSET_MEMBERS_MAX) {
				build_refuse(b, ERR_TOO_LARGE, "its alternatives overlap too much");
				return 0;
			}
			out[count++] = node;
		}
		for (uint32_t i = b->heads[node]; i; i = b->edges[i].next, work++)
			if (b->edges[i].kind == BUILD_SKIP)
				push(s, b->edges[i].to, &depth);
		build_count(b, work);
	}
	qsort(out, count, sizeof(*out), by_number);
	return count;
}

static uint32_t *find_slot(struct subsets *s, const uint32_t *members, uint32_t count)
{
	uint32_t at = (uint32_t)hash_xxh3(members, count * sizeof(*members), 0) % SLOTS;
	for (;; at = (at + 1) % SLOTS) {
		if (!s->slots[at])
			return &s->slots[at];
		const struct subset *set = &s->sets[s->slots[at] - 1];
		if (set->count == count && memcmp(s->members + set->first, members, count * sizeof(*members)) == 0)
			return &s->slots[at];
	}
}

/* The node that stands for what the seeds reach. */
static uint32_t node_of(struct subsets *s, const uint32_t *seeds, uint32_t seed_count, uint32_t rule_end)
{
	struct grammar *g = s->grammar;
	uint32_t count = close_over(s, seeds, seed_count, rule_end);
	uint32_t *slot = find_slot(s, s->members + s->member_count, count);
	if (*slot)
		return *slot - 1;
	if (g->node_count == GRAMMAR_NODES_MAX) {
		build_refuse(s->builder, ERR_TOO_LARGE, "it needs more than %d states", GRAMMAR_NODES_MAX);
		return 0;
	}
	s->sets[g->node_count] = (struct subset){s->member_count, count};
	g->nodes[g->node_count] = (struct grammar_node){0};
	for (uint32_t i = 0; i < count; i++)
		g->nodes[g->node_count].final |= s->members[s->member_count + i] == rule_end;
	s->member_count += count;
	*slot = ++g->node_count;
	return g->node_count - 1;
}

static uint32_t list_edges(struct subsets *s, const struct subset *set, enum build_kind kind)
{
	const struct grammar_builder *b = s->builder;
	uint32_t count = 0;
	for (uint32_t i = 0; i < set->count; i++)
		for (uint32_t k = b->heads[s->members[set->first + i]]; k; k = b->edges[k].next)
			if (b->edges[k].kind == kind)
				s->edges[count++] = k;
	return count;
}

static void put_edge(struct subsets *s, struct grammar_node *node, uint32_t low, uint32_t high, uint32_t target)
{
	struct grammar *g = s->grammar;
	struct grammar_edge *last = node->edge_count ? &g->edges[g->edge_count - 1] : NULL;
	if (last && last->high + 1u == low && last->target == target) {
		last->high = (uint8_t)high;
		return;
	}
	if (g->edge_count == GRAMMAR_EDGES_MAX) {
		build_refuse(s->builder, ERR_TOO_LARGE, "it needs more than %d edges", GRAMMAR_EDGES_MAX);
		return;
	}
	g->edges[g->edge_count++] = (struct grammar_edge){(uint8_t)low, (uint8_t)high, target};
	node->edge_count++;
}

static void put_bytes(struct subsets *s, uint32_t index, uint32_t rule_end)
{
	struct grammar_builder *b = s->builder;
	struct subset set = s->sets[index];
	uint32_t count = list_edges(s, &set, BUILD_BYTES);
	bool cut[257] = {0};
	for (uint32_t i = 0; i < count; i++)
		cut[b->edges[s->edges[i]].low] = cut[b->edges[s->edges[i]].high + 1] = true;
	s->grammar->nodes[index].edge_first = s->grammar->edge_count;
	for (uint32_t low = 0, high; low < 256 && count > 0 && b->e == ERR_OK; low = high + 1) {
		for (high = low; high < 255 && !cut[high + 1];)
			high++;
		uint32_t seeds = 0;
		for (uint32_t i = 0; i < count; i++) {
			const struct build_edge *edge = &b->edges[s->edges[i]];
			if (edge->low <= low && edge->high >= high)
				s->seeds[seeds++] = edge->to;
		}
		build_count(b, count / 4);
		if (seeds > 0)
			put_edge(s, &s->grammar->nodes[index], low, high, node_of(s, s->seeds, seeds, rule_end));
	}
}

static void put_call(struct subsets *s, uint32_t index, uint32_t rule, uint32_t target)
{
	struct grammar *g = s->grammar;
	if (g->call_count == GRAMMAR_EDGES_MAX || g->nodes[index].call_count == GRAMMAR_PATHS_MAX) {
		build_refuse(s->builder, ERR_TOO_LARGE, "it has too many alternatives");
		return;
	}
	g->calls[g->call_count++] = (struct grammar_call){rule, target};
	g->nodes[index].call_count++;
}

static void put_calls(struct subsets *s, uint32_t index, uint32_t rule_end)
{
	struct grammar_builder *b = s->builder;
	struct subset set = s->sets[index];
	uint32_t count = list_edges(s, &set, BUILD_CALL);
	s->grammar->nodes[index].call_first = s->grammar->call_count;
	for (uint32_t i = 0; i < count && b->e == ERR_OK; i++) {
		uint32_t rule = b->edges[s->edges[i]].rule, seeds = 0;
		bool first = true;
		for (uint32_t k = 0; k < count; k++) {
			if (b->edges[s->edges[k]].rule != rule)
				continue;
			first &= k >= i;
			s->seeds[seeds++] = b->edges[s->edges[k]].to;
		}
		build_count(b, count / 4);
		if (first)
			put_call(s, index, rule, node_of(s, s->seeds, seeds, rule_end));
	}
}

static void put_rule(struct subsets *s, uint32_t rule)
{
	struct grammar_builder *b = s->builder;
	uint32_t at = s->grammar->node_count, end = b->rules[rule].end;
	s->grammar->rules[rule].start = node_of(s, &b->rules[rule].start, 1, end);
	for (; at < s->grammar->node_count && b->e == ERR_OK; at++) {
		put_bytes(s, at, end);
		put_calls(s, at, end);
	}
}

static bool allocate(struct subsets *s)
{
	const struct grammar_builder *b = s->builder;
	s->sets = malloc(GRAMMAR_NODES_MAX * sizeof(*s->sets));
	s->members = malloc(SUBSET_MEMBERS_MAX * sizeof(*s->members));
	s->slots = calloc(SLOTS, sizeof(*s->slots));
	s->marks = calloc(b->node_count, sizeof(*s->marks));
	s->stack = malloc(b->node_count * sizeof(*s->stack));
	s->seeds = malloc(b->edge_count * sizeof(*s->seeds));
	s->edges = malloc(b->edge_count * sizeof(*s->edges));
	return s->sets && s->members && s->slots && s->marks && s->stack && s->seeds && s->edges;
}

void grammar_determinize(struct grammar_builder *b, struct grammar *grammar)
{
	struct subsets s = {.builder = b, .grammar = grammar};
	if (!allocate(&s))
		build_refuse(b, ERR_NOMEM, "no memory for a grammar");
	grammar->rule_count = b->rule_count;
	for (uint32_t rule = 0; rule < b->rule_count && b->e == ERR_OK; rule++)
		put_rule(&s, rule);
	free(s.sets);
	free(s.members);
	free(s.slots);
	free(s.marks);
	free(s.stack);
	free(s.seeds);
	free(s.edges);
}
