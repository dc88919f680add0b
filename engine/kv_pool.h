/* kv_pool - the block memory of one node as a ledger: who uses which block, and which key it holds.  Pure.
 *
 * Blocks belong to a layer group (layers with the same kind of attention), and each group has blocks of its own.  They
 * are numbered through: those of group 0, then those of group 1; so a number says the group, and keys never collide.
 *
 * A block is free, used (references > 0) or cached (no reference, but sealed under a key: evicted least
 * recently used first, when room is needed).  The bytes are elsewhere (a link region, device memory).
 *
 * Rules: 1 a block's generation grows whenever it is taken, before anything is written into it;
 *        2 a block is evicted only at reference count 0;
 *        3 a key is held by at most one block; what is sealed is never written again.
 *
 * Memory: the caller's; `generations` may lie in shared memory, where readers on this host check it.
 * Loop: the node's.  Bounds: block_count blocks a group, event_max events not yet fetched. */
#ifndef ENGINE_KV_POOL_H
#define ENGINE_KV_POOL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "base/layer_groups.h"

#define KV_BLOCK_NONE UINT32_MAX

struct kv_pool_group {
	uint32_t block_count;
	uint64_t *generations; /* [block_count], the caller's; survives kv_pool_init(): continues from there */
};

struct kv_pool_options {
	uint32_t group_count;
	struct kv_pool_group groups[LAYER_GROUPS_MAX];
	uint32_t event_max; /* power of two */
};

struct kv_pool;

/* What happened to keys, in order, for whoever keeps an index of this pool. */
struct kv_pool_event {
	struct id128 key;
	bool added; /* else removed */
};

size_t kv_pool_bytes(const struct kv_pool_options *options);
struct kv_pool *kv_pool_init(void *memory, const struct kv_pool_options *options);

/* Takes a free block of the group, or evicts its least recently used cached one; reference count 1, no key, a new
 * generation.  ERR_AGAIN when every block of the group is referenced. */
MUST_USE enum err kv_pool_take(struct kv_pool *pool, uint32_t group, uint32_t *ret_block);
void kv_pool_ref(struct kv_pool *pool, uint32_t block);
/* At count 0 a sealed block becomes the most recently used cached one, another becomes free. */
void kv_pool_unref(struct kv_pool *pool, uint32_t block);

/* Makes a used block findable under the key.  ERR_EXISTS when another block holds the key already: the
 * block stays unsealed.  Sealing again under the same key does nothing. */
MUST_USE enum err kv_pool_seal(struct kv_pool *pool, uint32_t block, const struct id128 *key);
/* The block that holds the key (no reference taken), or KV_BLOCK_NONE. */
uint32_t kv_pool_find(const struct kv_pool *pool, const struct id128 *key);
/* Takes the key away from a block that turned out to be wrong; a cached one becomes free. */
void kv_pool_forget(struct kv_pool *pool, uint32_t block);

uint64_t kv_pool_generation(const struct kv_pool *pool, uint32_t block);
bool kv_pool_sealed(const struct kv_pool *pool, uint32_t block, struct id128 *ret_key /* or NULL */);
uint32_t kv_pool_free(const struct kv_pool *pool, uint32_t group); /* neither used nor cached */
uint32_t kv_pool_cached(const struct kv_pool *pool, uint32_t group);
uint32_t kv_pool_used(const struct kv_pool *pool, uint32_t group);
uint32_t kv_pool_total(const struct kv_pool *pool); /* of all groups: numbers are below it */

/* Moves up to max events out, oldest first.  When events were dropped since the last call, sets *ret_lost,
 * returns 0 and starts over: the index is rebuilt from kv_pool_sealed() of every block, before the pool
 * changes again. */
uint32_t kv_pool_events(struct kv_pool *pool, struct kv_pool_event *out, uint32_t max, bool *ret_lost);
/* Asserts every invariant above; for tests and simulation. */
void kv_pool_check(const struct kv_pool *pool);
#endif
