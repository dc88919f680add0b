/* replay - a trace through real ledgers: look up the chain, let go of what was found, offer the rest. */
#ifndef BENCH_KV_REPLAY_H
#define BENCH_KV_REPLAY_H
#include "bench/kv/trace.h"
#include "kvstore/evict.h"

enum { REPLAY_NODES_MAX = 64 };

struct replay_options {
	const struct evict_policy *policy;
	uint32_t capacity; /* blocks, over all nodes */
	uint32_t nodes;    /* stores; a block's owner is found by rendezvous of its key */
};

struct replay_result {
	uint64_t hits;     /* blocks found with all before them */
	uint64_t stranded; /* found behind a gap: of no use to that request */
	uint64_t refused;  /* offers that found no room */
	uint64_t cpu_ns;   /* of all operations of all ledgers */
};

MUST_USE enum err replay(const struct trace *trace, const struct replay_options *options, struct replay_result *ret_result);

/* Hits of the best that anybody could do who knows the future, with that many blocks and the right to refuse any: keep what
 * is asked for soonest.  Exact, not a bound alone: between two requests each block whose next use is kept is an interval, at
 * most `capacity` overlap, and giving up the one that ends last keeps the most of them (Belady's argument); a parent's next
 * use is never later than its child's, so with ties to the parent what is kept has no gaps, and every hit is a hit of a
 * prefix. */
MUST_USE enum err replay_optimum(const struct trace *trace, uint32_t capacity, uint64_t *ret_hits);
#endif
