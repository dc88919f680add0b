/* local - an engine node's own KV: the block pool, its digests, and the way to peers, as the modules of an engine
 * node share them.  A plain struct that node/core.c fills in once; no functions.
 *
 * Loop: the node's.  The digests of a block are valid once its layer is computed or verified. */
#ifndef KVSTORE_LOCAL_H
#define KVSTORE_LOCAL_H
#include <stdint.h>
#include "base/id128.h"
#include "engine/kv_pool.h"
#include "net/env.h"
#include "net/session.h"

struct kv_reads;

struct kv_local {
	const struct env *env;
	struct sessions *sessions;
	struct kv_pool *pool;
	struct kv_reads *reads;
	struct id128 compat;
	uint32_t block_count;
	uint32_t block_tokens;
	uint32_t layer_count;
	uint32_t layer_bytes;
	uint32_t replicas;     /* stores that each block is offered to, and asked for */
	uint32_t block_budget;    /* blocks that jobs of both roles may reserve together */
	uint32_t blocks_reserved; /* by them: a promise, counted before blocks are taken */
	uint64_t *digests;     /* [block_count][layer_count] */
	uint64_t now_ns;       /* of the event being handled */
};

static inline uint64_t *kv_local_digests(const struct kv_local *local, uint32_t block)
{
	return local->digests + (size_t)block * local->layer_count;
}

/* Where a block of this node is, as peers are told. */
static inline void kv_local_place(const struct kv_local *local, uint32_t block, Wire__Place *ret_place)
{
	wire__place__init(ret_place);
	ret_place->offset = (uint64_t)block * local->layer_count * local->layer_bytes;
	ret_place->generation = kv_pool_generation(local->pool, block);
}
#endif
