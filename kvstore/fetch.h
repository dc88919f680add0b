/* fetch - gets the blocks of a chain that this node lacks, from whoever has them, under a deadline.  Pure.
 *
 * Asks the owners of each key and the nodes that the coordinator hinted at, all at once and for all layer groups in one
 * message; reads what the longest beginning needs that can be had of all groups (kvstore/prefix.h), what is here already
 * among it; a block that fails (digest, generation, holder gone) is read once more from another holder; then a shorter
 * beginning has to do, and what comes after it is recomputed: waiting must never be slower than that.
 *
 *   (free) --start--> ASKING --all is found, all have answered, or half the time is over--> READING --all read, or deadline--> (free)
 *
 * A source that has some of it on disk answers first with what it has in memory, which is read meanwhile, and then once more
 * (Found.more); for that, or for one that is silent, nobody waits when all of it is here or on its way, nor longer than half the
 * time.
 *
 * It reads from the end backwards, for whose prompt it is may compute from the beginning meanwhile (prefill/prefill.h): where they
 * meet, the prompt goes over what has come.  So while more may be found, what lies behind a gap is read too.
 *
 * Memory: the caller's.  Loop: the node's.  Bounds: fetch_max at a time, block_max blocks of a group each. */
#ifndef KVSTORE_FETCH_H
#define KVSTORE_FETCH_H
#include "base/layer_groups.h"
#include "kvstore/local.h"
#include "kvstore/reads.h"

enum { KV_FETCH_SOURCES_MAX = 8, KV_FETCH_MODULE = 1 };

struct kv_fetches;

/* What came of it: causes are counted per block. */
struct kv_fetch_counts {
	uint64_t blocks_read;
	uint64_t bytes_read;
	uint32_t miss_not_found;
	uint32_t miss_deadline;
	uint32_t miss_digest;
	uint32_t miss_generation;
	uint32_t miss_gone;
};

struct kv_fetch_request {
	uint32_t cookie;              /* given back with the result */
	const struct id128 *keys[LAYER_GROUPS_MAX]; /* [key_count] of each group's chain; the caller's, until the end */
	uint32_t key_count;
	const struct kv_tenant *tenant; /* whose request it is */
	uint32_t have;                /* leading blocks that can be used already: only more is worth anything */
	const Wire__Holder *const *holders; /* hints of the coordinator */
	size_t holder_count;
	uint64_t deadline_ns;
};

struct kv_fetch_options {
	uint32_t fetch_max;
	uint32_t block_max;
	struct kv_local *local;
	void *context;
	/* What was read is in the pool under its keys, and stays at least until the call returns. */
	void (*done)(void *context, uint32_t cookie, const struct kv_fetch_counts *counts);
};

size_t kv_fetches_bytes(const struct kv_fetch_options *options);
struct kv_fetches *kv_fetches_init(void *memory, const struct kv_fetch_options *options);
/* `done` may be called before it returns, when nobody can be asked.  ERR_AGAIN: fetch_max are under way. */
MUST_USE enum err kv_fetch_start(struct kv_fetches *fetches, const struct kv_fetch_request *request);
/* The job computes beside the fetch: it has the first n blocks by itself, or soon, and they are not read any more; what of them is
 * under way comes and is the pool's.  As long as it computes it does not wait: half the time and the deadline count from now. */
void kv_fetch_advance(struct kv_fetches *fetches, uint32_t cookie, uint32_t n, uint64_t deadline_ns);
/* How long the rest may take. */
uint64_t kv_fetch_left_ns(struct kv_fetches *fetches, uint32_t cookie);
/* Ends without `done`; what it held is free. */
void kv_fetch_cancel(struct kv_fetches *fetches, uint32_t cookie, struct kv_fetch_counts *ret_counts);
void kv_fetch_found(struct kv_fetches *fetches, uint32_t peer, const Wire__Found *found);
void kv_fetch_read_done(struct kv_fetches *fetches, const struct kv_read_owner *owner, enum err verdict);
void kv_fetch_peer_down(struct kv_fetches *fetches, uint32_t peer);
void kv_fetch_tick(struct kv_fetches *fetches);
uint32_t kv_fetch_count(const struct kv_fetches *fetches);
#endif
