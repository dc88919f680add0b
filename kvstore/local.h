/* local - an engine node's own KV: the block pool, its digests, and the way to peers, as the modules of an engine
 * node share them.  A plain struct that node/core.c fills in once; no functions beyond a few look-ups.
 *
 * Everything that counts or moves blocks does so for each layer group: `for (g < local->group_count)`.  A block's number
 * says its group (engine/kv_pool.h), so who has a block needs no more.
 *
 * Loop: the node's.  The digests of a block are valid once its layer is computed or verified. */
#ifndef KVSTORE_LOCAL_H
#define KVSTORE_LOCAL_H
#include <stdint.h>
#include <string.h>
#include "base/id128.h"
#include "base/layer_groups.h"
#include "engine/kv_pool.h"
#include "kvstore/prefix.h"
#include "net/env.h"
#include "net/session.h"
#include "proto/codec.h"

struct kv_reads;

/* Layers with the same kind of attention, and the blocks that hold their KV. */
struct kv_group {
	uint32_t layer_count;
	uint32_t layer_bytes;
	uint32_t keep;        /* kvstore/prefix.h */
	uint32_t block_first; /* number of its first block */
	uint32_t block_count;
	uint32_t offer_max;   /* blocks that write-behind may pin */
	uint32_t hold_max;    /* and look-ups of peers */
	uint32_t budget;      /* blocks that jobs of both roles may reserve together: all the others */
	uint32_t reserved;    /* by them: a promise, counted before blocks are taken */
	uint64_t *digests;    /* [block_count][layer_count] */
};

/* Where a layer of the model is: its group, and its number there. */
struct kv_layer {
	uint16_t group;
	uint16_t place;
};

/* Whose blocks they are, as stores account for them: a job's, from its Reserve. */
struct kv_tenant {
	char name[PROTO_TENANT_MAX + 1]; /* "": none */
	Wire__Priority priority;
};

struct kv_local {
	const struct env *env;
	uint64_t node;
	struct sessions *sessions;
	struct kv_pool *pool;
	struct kv_reads *reads;
	struct id128 compat;
	uint32_t block_tokens;
	uint32_t group_count;
	struct kv_group groups[LAYER_GROUPS_MAX];
	uint32_t layer_count;          /* of all groups */
	const struct kv_layer *layers; /* [layer_count] */
	uint64_t now_ns;               /* of the event being handled */
};

static inline void kv_tenant_take(struct kv_tenant *tenant, const Wire__Reserve *reserve)
{
	tenant->priority = reserve->priority;
	strncpy(tenant->name, reserve->tenant, PROTO_TENANT_MAX);
	tenant->name[PROTO_TENANT_MAX] = 0;
}

static inline uint32_t kv_local_group(const struct kv_local *local, uint32_t block)
{
	return local->group_count > 1 && block >= local->groups[1].block_first ? 1 : 0;
}

static inline uint64_t *kv_local_digests(const struct kv_local *local, uint32_t block)
{
	const struct kv_group *group = &local->groups[kv_local_group(local, block)];
	return group->digests + (size_t)(block - group->block_first) * group->layer_count;
}

/* Where a block of this node is, as peers are told: each group has a region of its own. */
static inline void kv_local_place(const struct kv_local *local, uint32_t block, Wire__Place *ret_place)
{
	uint32_t g = kv_local_group(local, block);
	const struct kv_group *group = &local->groups[g];
	wire__place__init(ret_place);
	ret_place->region = g;
	ret_place->offset = (uint64_t)(block - group->block_first) * group->layer_count * group->layer_bytes;
	ret_place->generation = kv_pool_generation(local->pool, block);
}

static inline uint32_t kv_local_blocks(const struct kv_local *local, uint32_t tokens)
{
	return (tokens + local->block_tokens - 1) / local->block_tokens;
}

/* Most blocks of a group that a sequence holds whose next run has at most `tokens` (a multiple of a block, or 1), and
 * which never has more than `blocks` in all. */
static inline uint32_t kv_group_span(const struct kv_local *local, uint32_t group, uint32_t tokens, uint32_t blocks)
{
	uint64_t span = (uint64_t)local->groups[group].keep + kv_local_blocks(local, tokens);
	return span < blocks ? (uint32_t)span : blocks;
}
#endif
