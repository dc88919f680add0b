/* evict_impl - what the eviction policies share; nobody else includes it.
 *
 * Queues are rings of entries through a sentinel: links[entry_max + queue].  The next of the sentinel is the first to go.
 * Memory of a policy is laid out by a function that runs over no memory to count, and over real memory to place. */
#ifndef KVSTORE_EVICT_IMPL_H
#define KVSTORE_EVICT_IMPL_H
#include <assert.h>
#include <stdbool.h>
#include "kvstore/evict.h"

struct evict_link {
	uint32_t prev, next; /* itself: in no ring */
};

static inline void *evict_cut(uint8_t *memory, size_t *used, size_t bytes)
{
	size_t start = *used;
	*used += (bytes + 15) & ~(size_t)15;
	return memory ? memory + start : NULL;
}

/* The links from `from` on are in no ring, up to `until`. */
static inline void ring_init(struct evict_link *links, uint32_t from, uint32_t until)
{
	for (uint32_t i = from; i < until; i++)
		links[i].prev = links[i].next = i;
}

/* Entries come one after another, and nothing is touched before one does: fresh is the first whose link was not made yet. */
static inline void ring_reach(struct evict_link *links, uint32_t *fresh, uint32_t entry)
{
	if (entry < *fresh)
		return;
	ring_init(links, *fresh, entry + 1);
	*fresh = entry + 1;
}

static inline void ring_push(struct evict_link *links, uint32_t sentinel, uint32_t entry)
{
	assert(links[entry].next == entry);
	uint32_t last = links[sentinel].prev;
	links[entry].prev = last;
	links[entry].next = sentinel;
	links[last].next = entry;
	links[sentinel].prev = entry;
}

static inline void ring_remove(struct evict_link *links, uint32_t entry)
{
	uint32_t prev = links[entry].prev, next = links[entry].next;
	assert(next != entry);
	links[prev].next = next;
	links[next].prev = prev;
	links[entry].prev = links[entry].next = entry;
}

/* The entry that goes first, or EVICT_NONE. */
static inline uint32_t ring_first(const struct evict_link *links, uint32_t sentinel)
{
	uint32_t first = links[sentinel].next;
	return first == sentinel ? EVICT_NONE : first;
}
#endif
