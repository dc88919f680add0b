/* kv_ranks - the blocks of a layer group as each rank sees them.
 *
 * On a CPU a rank computes with its heads in the caller's blocks.  On GPUs it has blocks of its heads in its own memory, and of the
 * caller's a mirror (kv_mirror.h): so whoever moves or digests blocks sees whole ones, the same at every degree.
 *
 * Owns:   the mirrors.
 * Loop:   as kv_mirror.h.
 * Rules:  1 of heads that several ranks have, one brings a layer to the host, by turns;
 *         2 a layer's digest is made by one rank, which reads the others' heads; blocks take turns;
 *         3 neighbours can read the blocks of one rank alone: of several, each maps the others' memory, which is not to be had of memory
 *           that has descriptors, and no neighbour has a part to be read into. */
#ifndef ENGINE_KV_RANKS_H
#define ENGINE_KV_RANKS_H
#include <stdint.h>
#include "engine/kv_mirror.h"
#include "engine/ranks.h"

struct model_config;

struct kv_ranks {
	const struct ranks *ranks;
	struct kv_memory whole; /* the caller's */
	size_t bytes;           /* of it, pinned */
	uint32_t replicas;      /* ranks that have the same heads */
	bool pinned;
	struct kv_memory kv[DEVICES_MAX];       /* where each rank computes */
	struct kv_mirror *mirrors[DEVICES_MAX]; /* NULL on a CPU */
	struct kv_memory parts[DEVICES_MAX];    /* all heads in order, for digests */
	uint32_t part_count;
};

/* kv: the caller's blocks; config: of the whole model.  ERR_NOMEM: a device or the host has no room. */
MUST_USE enum err kv_ranks_create(struct kv_ranks *kv_ranks, const struct ranks *ranks, const struct model_config *config,
				  const struct kv_memory *kv, uint32_t block_count, uint32_t window);
void kv_ranks_destroy(struct kv_ranks *kv_ranks); /* zeroed is fine; before the devices are closed */

/* Each as kv_mirror.h has it, for every mirror there is. */
void kv_ranks_landing(struct kv_ranks *kv_ranks, uint32_t block, uint32_t layer);
void kv_ranks_copied(struct kv_ranks *kv_ranks, uint32_t from, uint32_t to);
MUST_USE enum err kv_ranks_begin(struct kv_ranks *kv_ranks, const struct kv_run *runs, uint32_t run_count);
/* Of layers first to end - 1 of the group. */
void kv_ranks_fetch(struct kv_ranks *kv_ranks, uint32_t first, uint32_t end, const struct kv_run *runs, uint32_t run_count);
/* Behind every rank's writes of a layer: op_kv_digest() of it.  runs: [ranks->count]. */
void kv_ranks_digest(const struct kv_ranks *kv_ranks, uint32_t layer, struct kv_runs *const *runs, uint64_t *ret_digests);
#endif
