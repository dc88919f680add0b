#include "kvstore/holds.h"

#include <assert.h>

#define NONE UINT32_MAX

struct lookup {
	uint64_t op;
	uint32_t peer; /* NONE: free */
	uint32_t hold_first;
	uint32_t next; /* of the same peer, or free */
};

struct hold {
	uint32_t entry;
	uint32_t next;
};

struct holds {
	struct holds_options options;
	uint32_t lookup_count, hold_count;
	uint32_t lookup_free, hold_free;
	struct lookup *lookups; /* [lookup_max] */
	struct hold *holds;     /* [hold_max] */
	uint32_t *peers;        /* [peer_max]: first look-up */
};

size_t holds_bytes(const struct holds_options *options)
{
	return sizeof(struct holds) + options->lookup_max * sizeof(struct lookup) +
	       options->hold_max * sizeof(struct hold) + options->peer_max * sizeof(uint32_t);
}

struct holds *holds_init(void *memory, const struct holds_options *options)
{
	assert(options->peer_max > 0 && options->lookup_max > 0 && options->hold_max > 0);
	struct holds *h = memory;
	*h = (struct holds){.options = *options};
	h->lookups = (struct lookup *)(h + 1);
	h->holds = (struct hold *)(h->lookups + options->lookup_max);
	h->peers = (uint32_t *)(h->holds + options->hold_max);
	for (uint32_t i = 0; i < options->lookup_max; i++)
		h->lookups[i] = (struct lookup){.peer = NONE, .next = i + 1 < options->lookup_max ? i + 1 : NONE};
	for (uint32_t i = 0; i < options->hold_max; i++)
		h->holds[i] = (struct hold){.next = i + 1 < options->hold_max ? i + 1 : NONE};
	for (uint32_t i = 0; i < options->peer_max; i++)
		h->peers[i] = NONE;
	return h;
}

enum err holds_open(struct holds *h, uint32_t peer, uint64_t op, uint32_t *ret_lookup)
{
	assert(peer < h->options.peer_max);
	uint32_t index = h->lookup_free;
	if (index == NONE)
		return ERR_AGAIN;
	h->lookup_free = h->lookups[index].next;
	h->lookups[index] = (struct lookup){.op = op, .peer = peer, .hold_first = NONE, .next = h->peers[peer]};
	h->peers[peer] = index;
	h->lookup_count++;
	*ret_lookup = index;
	return ERR_OK;
}

enum err holds_add(struct holds *h, uint32_t lookup, uint32_t entry)
{
	uint32_t index = h->hold_free;
	if (index == NONE)
		return ERR_AGAIN;
	h->hold_free = h->holds[index].next;
	h->holds[index] = (struct hold){.entry = entry, .next = h->lookups[lookup].hold_first};
	h->lookups[lookup].hold_first = index;
	h->hold_count++;
	return ERR_OK;
}

uint32_t holds_find(const struct holds *h, uint32_t peer, uint64_t op)
{
	uint32_t index = h->peers[peer];
	while (index != NONE && h->lookups[index].op != op)
		index = h->lookups[index].next;
	return index;
}

uint32_t holds_first(const struct holds *h, uint32_t peer)
{
	return h->peers[peer];
}

static void end_lookup(struct holds *h, uint32_t lookup)
{
	uint32_t *at = &h->peers[h->lookups[lookup].peer];
	while (*at != lookup)
		at = &h->lookups[*at].next;
	*at = h->lookups[lookup].next;
	h->lookups[lookup].peer = NONE;
	h->lookups[lookup].next = h->lookup_free;
	h->lookup_free = lookup;
	h->lookup_count--;
}

bool holds_pop(struct holds *h, uint32_t lookup, uint32_t *ret_entry)
{
	assert(h->lookups[lookup].peer != NONE);
	uint32_t index = h->lookups[lookup].hold_first;
	if (index == NONE) {
		end_lookup(h, lookup);
		return false;
	}
	h->lookups[lookup].hold_first = h->holds[index].next;
	*ret_entry = h->holds[index].entry;
	h->holds[index].next = h->hold_free;
	h->hold_free = index;
	h->hold_count--;
	return true;
}

uint32_t holds_lookups(const struct holds *h)
{
	return h->lookup_count;
}

uint32_t holds_count(const struct holds *h)
{
	return h->hold_count;
}

uint32_t holds_of(const struct holds *h, uint32_t peer)
{
	uint32_t count = 0;
	for (uint32_t i = h->peers[peer]; i != NONE; i = h->lookups[i].next)
		for (uint32_t j = h->lookups[i].hold_first; j != NONE; j = h->holds[j].next)
			count++;
	return count;
}
