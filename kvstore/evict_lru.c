#include "kvstore/evict_impl.h"

/* One ring a class. */
struct lru {
	uint32_t entry_max;
	uint32_t class_max;
	uint32_t fresh;
	struct evict_link links[]; /* [entry_max] entries, then [class_max] sentinels */
};

static size_t lru_bytes(uint32_t entry_max, uint32_t class_max)
{
	return sizeof(struct lru) + ((size_t)entry_max + class_max) * sizeof(struct evict_link);
}

static void lru_init(void *state, uint32_t entry_max, uint32_t class_max)
{
	struct lru *lru = state;
	lru->entry_max = entry_max;
	lru->class_max = class_max;
	lru->fresh = 0;
	ring_init(lru->links, entry_max, entry_max + class_max);
}

static void lru_release(void *state, uint32_t entry, uint32_t class_index)
{
	struct lru *lru = state;
	assert(entry < lru->entry_max && class_index < lru->class_max);
	ring_push(lru->links, lru->entry_max + class_index, entry);
}

static void lru_add(void *state, uint32_t entry, uint32_t class_index, uint64_t hash)
{
	struct lru *lru = state;
	(void)hash;
	ring_reach(lru->links, &lru->fresh, entry);
	lru_release(state, entry, class_index);
}

static void lru_remove(void *state, uint32_t entry, uint32_t class_index)
{
	struct lru *lru = state;
	(void)class_index;
	assert(entry < lru->entry_max);
	ring_remove(lru->links, entry);
}

static uint32_t lru_victim(void *state, uint32_t class_index)
{
	const struct lru *lru = state;
	return ring_first(lru->links, lru->entry_max + class_index);
}

const struct evict_policy evict_lru = {
	.name = "lru",
	.bytes = lru_bytes,
	.init = lru_init,
	.add = lru_add,
	.hold = lru_remove,
	.release = lru_release,
	.evict = lru_remove,
	.victim = lru_victim,
};
