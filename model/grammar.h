/* grammar - a language of bytes, compiled: an automaton with calls, which a stack of bounded depth runs.
 *
 * A node goes on by bytes (no two edges of a node share one), or by calling a rule and going on at another node when the
 * rule is over.  So arrays of objects of arrays need no more nodes than they have kinds, and a schema may recur.
 *
 * Owns:   its arrays.  Read-only once made: any thread.
 * Bounds: GRAMMAR_*_MAX; making one takes at most GRAMMAR_STEPS_MAX counted steps, whatever the text asked for.
 * Rules:  1 every node can end its rule, with `need` more frames at most: what was begun can always be finished;
 *         2 a rule never calls itself before a byte is read;
 *         3 a node's calls begin at most GRAMMAR_PATHS_MAX ways, so a byte costs a bounded time. */
#ifndef MODEL_GRAMMAR_H
#define MODEL_GRAMMAR_H
#include <stdbool.h>
#include <stdint.h>

enum {
	GRAMMAR_DEPTH_MAX = 64,          /* frames of a stack: nesting of a document */
	GRAMMAR_RULES_MAX = 1 << 12,
	GRAMMAR_NODES_MAX = 1 << 16,
	GRAMMAR_EDGES_MAX = 1 << 18,
	GRAMMAR_PATHS_MAX = 1 << 9,
	GRAMMAR_STEPS_MAX = 2000000, /* of making one: some 20 ms */
};

struct grammar_edge {
	uint8_t low, high;
	uint32_t target;
};

struct grammar_call {
	uint32_t rule;
	uint32_t target; /* where it goes on */
};

struct grammar_node {
	uint32_t edge_first;
	uint32_t call_first;
	uint16_t edge_count; /* by byte */
	uint16_t call_count;
	uint8_t need;        /* frames that the shortest way to the end pushes at once */
	bool final;          /* the rule may end here */
};

struct grammar_rule {
	uint32_t start;
	bool nullable;     /* it may read nothing */
	uint64_t first[4]; /* bytes that it may begin with, one bit each */
};

struct grammar {
	uint64_t serial;   /* no other grammar of the process has it */
	struct grammar_node *nodes;
	struct grammar_edge *edges;
	struct grammar_call *calls;
	struct grammar_rule *rules;
	uint32_t node_count, edge_count, call_count, rule_count;
	uint32_t root;      /* rule */
	uint32_t text_tail; /* rule that reads any one character that is no ASCII; UINT32_MAX: there is none */
	uint32_t steps;    /* that it took to make */
};

void grammar_destroy(struct grammar *grammar);

/* After a call to here nothing is left to do but to return: no frame is needed. */
static inline bool grammar_is_tail(const struct grammar_node *node)
{
	return node->final && node->edge_count == 0 && node->call_count == 0;
}

static inline bool grammar_begins(const struct grammar_rule *rule, uint8_t byte)
{
	return rule->first[byte / 64] >> byte % 64 & 1;
}
#endif
