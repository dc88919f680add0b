/* route - which nodes should do a job: a pure score over candidates, and the record that explains it.
 *
 * Costs are in tokens of prefill.  Prefix first, then load: a prefill node costs what it must still compute, for
 * this prompt and for those before it, so a long queue outweighs a shared first block and nothing collapses onto
 * one node.  A decode node costs its sequences, its fill, and the tokens that must be moved to it.  A node that does
 * both moves nothing.
 *
 * Rules: 1 nodes to avoid (they just failed this job, or are suspect, or say they are full) come after all others,
 *          whatever they cost, but before none at all; so do pairs whose hand-over just failed;
 *        2 a pair whose link is refused is never chosen;
 *        3 equal costs: the lower load, then the one after the last chosen, in turn.
 * Memory: none.  Any loop. */
#ifndef COORDINATOR_ROUTE_H
#define COORDINATOR_ROUTE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/layer_groups.h"

#define ROUTE_NONE UINT32_MAX

enum { ROUTE_LISTED = 8 }; /* candidates of a kind in a record: the cheapest */

struct route_weights {
	float queue;    /* per token waiting at a prefill node */
	float uncached; /* per token of the context that it must compute */
	float sequence; /* per sequence at a decode node */
	float fill;     /* at a decode node whose blocks of a layer group are all in use; in proportion below */
	float transfer; /* per token to be moved from prefill to decode */
};

struct route_weights route_weights_default(void);

struct route_candidate {
	uint32_t node;      /* the caller's number */
	bool prefill;       /* may do that half */
	bool decode;
	uint32_t avoid;     /* 0: willingly; higher: later */
	uint64_t queue_tokens;
	uint32_t cached_tokens; /* of this context, held here */
	uint32_t sequences;
	uint32_t blocks_free[LAYER_GROUPS_MAX];  /* of each layer group, that a job may reserve now */
	uint32_t blocks_total[LAYER_GROUPS_MAX]; /* that jobs may reserve together; 0: unknown, or no such group */
};

/* Two nodes that could not reach each other a moment ago. */
struct route_apart {
	uint32_t prefill, decode;
};

struct route_query {
	uint32_t context;       /* tokens */
	uint32_t blocks_needed[LAYER_GROUPS_MAX]; /* at decode, when all is generated */
	uint32_t turn;          /* grows with every decision */
	const struct route_apart *apart; /* rule 1 */
	uint32_t apart_count;
	/* Can decode not read prefill (both the caller's numbers)?  NULL: everybody can read everybody.  Rule 2. */
	bool (*refused)(const void *context, uint32_t prefill, uint32_t decode);
	const void *refused_context;
};

struct route_line {
	uint32_t node;
	uint32_t avoid;
	uint32_t load;    /* prefill: queue tokens; decode: sequences */
	uint32_t cached;  /* tokens */
	float cost;
};

/* Why this pair: kept by the job, written to logs and traces. */
struct route_record {
	uint32_t prefill, decode; /* the chosen; equal: one node does both; ROUTE_NONE: no pair */
	float cost;
	uint32_t avoid;           /* of the worse half; 0: taken willingly */
	uint32_t cached;          /* tokens that the chosen prefill node holds */
	uint32_t context;
	uint32_t prefill_count, decode_count, both_count; /* candidates */
	uint32_t prefill_listed, decode_listed;
	struct route_line prefill_line[ROUTE_LISTED]; /* cheapest first */
	struct route_line decode_line[ROUTE_LISTED];
};

/* The best pair; false when there is none (the record says which half lacks). */
bool route_choose(const struct route_weights *weights, const struct route_query *query,
		  const struct route_candidate *candidates, uint32_t count, struct route_record *ret_record);
#endif
