/* index - which node holds which blocks: a hint, kept from the nodes' sequenced events.  Pure.
 *
 * key -> a small set of nodes: up to seven in the slot itself (32 bytes), more in a bit set.  A look-up walks the
 * keys of a chain and keeps the nodes that hold every one so far: the longest leading prefix of each node.  Of a layer
 * group with a window a beginning needs its last blocks only: so it walks that group's chain back from the end and counts
 * the blocks that each node holds without a gap (kvstore/prefix.h).
 *
 * Every snapshot and every session of a node gets a fresh *number*, and the sets hold numbers.  So all that a node
 * held is forgotten at once (its number is no longer live), and index_sweep() takes the dead numbers out of the
 * table little by little.
 *
 * Rules: 1 an event whose sequence is not the next one is not applied, nor any after it, until a reset; one that was
 *          heard before (a reset too) changes nothing;
 *        2 a number is given again only after a whole sweep that began when it was dead already;
 *        3 what does not fit (blocks_max keys, or bit sets) is ignored and counted: the index forgets, it never lies
 *          about more than a node's own removals in flight.
 * Memory: the caller's.  Loop: the owner's.  Bounds: blocks_max keys, nodes_max nodes. */
#ifndef COORDINATOR_INDEX_H
#define COORDINATOR_INDEX_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"

struct index_options {
	uint32_t nodes_max;
	uint32_t blocks_max;
};

struct block_index;

struct index_events {
	uint64_t sequence;
	bool reset;
	const uint8_t *added;   /* [added_count][16] */
	const uint8_t *removed; /* applied before added */
	uint32_t added_count;
	uint32_t removed_count;
};

struct index_match {
	uint32_t node;
	uint32_t depth; /* leading blocks of the chain that it holds, >= 1 */
};

struct index_counters {
	uint32_t blocks; /* keys in the table */
	uint64_t added, removed, ignored, gaps, drops;
};

size_t index_bytes(const struct index_options *options);
struct block_index *index_init(void *memory, const struct index_options *options);

/* A session with this node began: nothing is known until its first reset. */
void index_node_up(struct block_index *index, uint32_t node);
/* It ended: the node holds nothing. */
void index_node_down(struct block_index *index, uint32_t node);
/* ERR_STALE: a gap; the caller asks the node for a snapshot (KvResync), and says so only once. */
MUST_USE enum err index_events(struct block_index *index, uint32_t node, const struct index_events *events);
bool index_synced(const struct block_index *index, uint32_t node);

/* Who holds how much of the chain; returns the count.  out: [nodes_max]. */
uint32_t index_match(const struct block_index *index, const struct id128 *keys, uint32_t key_count,
		     struct index_match *out);

/* The chain of one layer group, and how many of the last blocks of a beginning are needed of it. */
struct index_chain {
	const struct id128 *keys; /* [key_count] */
	uint32_t keep;            /* KV_KEEP_ALL: all of them */
};

/* Who holds what the longest beginning needs of every group: depth is its blocks. */
uint32_t index_match_groups(struct block_index *index, const struct index_chain *chains, uint32_t chain_count,
			    uint32_t key_count, struct index_match *out);
/* Blocks known of one node. */
uint32_t index_held(const struct block_index *index, uint32_t node);

/* Cleans up to slot_count slots of the table; call it from the tick. */
void index_sweep(struct block_index *index, uint32_t slot_count);
void index_counters(const struct block_index *index, struct index_counters *ret_counters);
/* Asserts every invariant; for tests. */
void index_check(const struct block_index *index);
#endif
