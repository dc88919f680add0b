#include "kvstore/hold.h"

#include "base/carve.h"
#include "base/layer_groups.h"
#include "base/planted.h"
#include "proto/job.h"

struct held {
	uint32_t peer; /* PEER_NONE: free */
	uint32_t block;
	uint64_t op;
};

struct kv_hold {
	struct kv_local *local;
	uint32_t hold_max; /* of all groups */
	uint32_t count;
	uint32_t counts[LAYER_GROUPS_MAX];
	struct held *held;
	/* The answer being built. */
	Wire__FoundBlock *blocks;
	Wire__FoundBlock **block_pointers;
	Wire__Place *places;
};

static struct kv_hold *layout(struct carve *carve, const struct kv_local *local)
{
	uint32_t hold_max = 0;
	for (uint32_t g = 0; g < local->group_count; g++)
		hold_max += local->groups[g].hold_max;
	struct kv_hold *h = carve_take(carve, 1, sizeof(*h));
	struct kv_hold parts = {
		.held = carve_take(carve, hold_max, sizeof(*parts.held)),
		.blocks = carve_take(carve, hold_max, sizeof(*parts.blocks)),
		.block_pointers = carve_take(carve, hold_max, sizeof(*parts.block_pointers)),
		.places = carve_take(carve, hold_max, sizeof(*parts.places)),
		.hold_max = hold_max,
	};
	if (h)
		*h = parts;
	return h;
}

size_t kv_hold_bytes(const struct kv_local *local)
{
	struct carve carve = {0};
	layout(&carve, local);
	return carve.used;
}

struct kv_hold *kv_hold_init(void *memory, struct kv_local *local)
{
	struct carve carve = {.memory = memory};
	struct kv_hold *h = layout(&carve, local);
	h->local = local;
	for (uint32_t i = 0; i < h->hold_max; i++)
		h->held[i].peer = PEER_NONE;
	return h;
}

static void hold_block(struct kv_hold *h, uint32_t peer, uint64_t op, uint32_t block)
{
	uint32_t i = 0;
	while (h->held[i].peer != PEER_NONE)
		i++;
	h->held[i] = (struct held){.peer = peer, .block = block, .op = op};
	h->count++;
	h->counts[kv_local_group(h->local, block)]++;
	if (!planted(HELD_WITHOUT_REFERENCE))
		kv_pool_ref(h->local->pool, block);
}

static void add_found(struct kv_hold *h, Wire__Found *found, uint32_t key_index, uint32_t block)
{
	size_t n = found->n_blocks++;
	wire__found_block__init(&h->blocks[n]);
	kv_local_place(h->local, block, &h->places[n]);
	h->blocks[n].index = key_index;
	h->blocks[n].place = &h->places[n];
	h->blocks[n].n_digests = h->local->groups[kv_local_group(h->local, block)].layer_count;
	h->blocks[n].digests = kv_local_digests(h->local, block);
	h->block_pointers[n] = &h->blocks[n];
}

static bool has_room(const struct kv_hold *h, uint32_t block)
{
	uint32_t group = kv_local_group(h->local, block);
	return h->counts[group] < h->local->groups[group].hold_max;
}

void kv_hold_lookup(struct kv_hold *h, uint32_t peer, const Wire__Lookup *lookup)
{
	Wire__Found found = WIRE__FOUND__INIT;
	found.op = lookup->op;
	found.blocks = h->block_pointers;
	size_t key_count = lookup->keys.len / PROTO_KEY_BYTES;
	bool same = memcmp(lookup->compat.data, h->local->compat.bytes, PROTO_KEY_BYTES) == 0;
	for (size_t i = 0; same && i < key_count; i++) {
		struct id128 key = codec_key(&lookup->keys, i);
		uint32_t block = kv_pool_find(h->local->pool, &key);
		if (block == KV_BLOCK_NONE || !has_room(h, block))
			continue;
		hold_block(h, peer, lookup->op, block);
		add_found(h, &found, (uint32_t)i, block);
	}
	PROTO_ENVELOPE(envelope, FOUND, found, &found);
	sessions_send(h->local->sessions, peer, &envelope);
}

static void drop(struct kv_hold *h, struct held *held)
{
	if (!planted(HELD_WITHOUT_REFERENCE))
		kv_pool_unref(h->local->pool, held->block);
	held->peer = PEER_NONE;
	h->counts[kv_local_group(h->local, held->block)]--;
	h->count--;
}

void kv_hold_release(struct kv_hold *h, uint32_t peer, uint64_t op)
{
	for (uint32_t i = 0; i < h->hold_max && h->count; i++)
		if (h->held[i].peer == peer && h->held[i].op == op)
			drop(h, &h->held[i]);
}

void kv_hold_peer_down(struct kv_hold *h, uint32_t peer)
{
	for (uint32_t i = 0; i < h->hold_max && h->count; i++)
		if (h->held[i].peer == peer && !planted(RECLAIM_NEVER))
			drop(h, &h->held[i]);
}

uint32_t kv_hold_count(const struct kv_hold *h)
{
	return h->count;
}
