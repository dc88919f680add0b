#include <assert.h>

#include "kvstore/evict.h"

/* One ring per class through a sentinel: next of the sentinel is the least recently used entry. */
struct lru {
	uint32_t entry_max;
	uint32_t class_max;
	struct {
		uint32_t prev, next;
	} links[]; /* [entry_max] entries, then [class_max] sentinels */
};

static size_t lru_bytes(uint32_t entry_max, uint32_t class_max)
{
	return sizeof(struct lru) + ((size_t)entry_max + class_max) * 2 * sizeof(uint32_t);
}

static void lru_init(void *state, uint32_t entry_max, uint32_t class_max)
{
	struct lru *lru = state;
	lru->entry_max = entry_max;
	lru->class_max = class_max;
	for (uint32_t i = 0; i < entry_max + class_max; i++)
		lru->links[i].prev = lru->links[i].next = i;
}

static void lru_add(void *state, uint32_t entry, uint32_t class_index)
{
	struct lru *lru = state;
	assert(entry < lru->entry_max && class_index < lru->class_max && lru->links[entry].next == entry);
	uint32_t sentinel = lru->entry_max + class_index;
	uint32_t last = lru->links[sentinel].prev;
	lru->links[entry].prev = last;
	lru->links[entry].next = sentinel;
	lru->links[last].next = entry;
	lru->links[sentinel].prev = entry;
}

static void lru_remove(void *state, uint32_t entry, uint32_t class_index)
{
	struct lru *lru = state;
	(void)class_index;
	assert(entry < lru->entry_max && lru->links[entry].next != entry);
	uint32_t prev = lru->links[entry].prev, next = lru->links[entry].next;
	lru->links[prev].next = next;
	lru->links[next].prev = prev;
	lru->links[entry].prev = lru->links[entry].next = entry;
}

static uint32_t lru_victim(const void *state, uint32_t class_index)
{
	const struct lru *lru = state;
	uint32_t first = lru->links[lru->entry_max + class_index].next;
	return first < lru->entry_max ? first : EVICT_NONE;
}

const struct evict_policy evict_lru = {
	.name = "lru",
	.bytes = lru_bytes,
	.init = lru_init,
	.add = lru_add,
	.remove = lru_remove,
	.victim = lru_victim,
};
