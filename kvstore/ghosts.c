#include "kvstore/ghosts.h"

#include "kvstore/evict_impl.h"

#define NONE 0 /* ghosts are numbered from 1, so that fresh memory is empty buckets */

struct ghost {
	uint64_t hash;
	uint64_t serial; /* of its list: how many came before */
	uint32_t list;
	uint32_t older, newer; /* in its list */
	uint32_t next;         /* in its bucket, or in the free list */
};

struct ghost_list {
	uint64_t serial;
	uint32_t oldest, newest;
	uint32_t count;
};

struct ghosts {
	uint32_t ghost_max, list_max;
	uint32_t fresh; /* from here on no ghost was ever used */
	uint32_t free_first;
	uint32_t mask;
	struct ghost_list *lists; /* [list_max] */
	uint32_t *buckets;        /* [mask + 1] */
	struct ghost *ghosts;     /* [ghost_max + 1] */
};

static size_t lay_out(uint8_t *memory, uint32_t ghost_max, uint32_t list_max, struct ghosts *ret_ghosts)
{
	size_t used = 0;
	uint32_t buckets = 16;
	while (buckets < ghost_max)
		buckets *= 2;
	evict_cut(memory, &used, sizeof(struct ghosts));
	*ret_ghosts = (struct ghosts){.ghost_max = ghost_max, .list_max = list_max, .fresh = 1, .free_first = NONE, .mask = buckets - 1};
	ret_ghosts->lists = evict_cut(memory, &used, list_max * sizeof(struct ghost_list));
	ret_ghosts->buckets = evict_cut(memory, &used, buckets * sizeof(uint32_t));
	ret_ghosts->ghosts = evict_cut(memory, &used, ((size_t)ghost_max + 1) * sizeof(struct ghost));
	return used;
}

size_t ghosts_bytes(uint32_t ghost_max, uint32_t list_max)
{
	struct ghosts parts;
	return lay_out(NULL, ghost_max, list_max, &parts);
}

struct ghosts *ghosts_init(void *memory, uint32_t ghost_max, uint32_t list_max)
{
	struct ghosts *g = memory;
	struct ghosts parts;
	lay_out(memory, ghost_max, list_max, &parts);
	*g = parts;
	for (uint32_t i = 0; i < list_max; i++)
		g->lists[i] = (struct ghost_list){.oldest = NONE, .newest = NONE};
	return g;
}

static uint32_t *bucket(struct ghosts *g, uint64_t hash)
{
	return &g->buckets[(hash >> 32) & g->mask];
}

static void unlink_list(struct ghosts *g, const struct ghost *ghost)
{
	struct ghost_list *list = &g->lists[ghost->list];
	*(ghost->older == NONE ? &list->oldest : &g->ghosts[ghost->older].newer) = ghost->newer;
	*(ghost->newer == NONE ? &list->newest : &g->ghosts[ghost->newer].older) = ghost->older;
	list->count--;
}

static void forget(struct ghosts *g, uint32_t index)
{
	struct ghost *ghost = &g->ghosts[index];
	uint32_t *at = bucket(g, ghost->hash);
	while (*at != index)
		at = &g->ghosts[*at].next;
	*at = ghost->next;
	unlink_list(g, ghost);
	ghost->next = g->free_first;
	g->free_first = index;
}

static uint32_t find(struct ghosts *g, uint64_t hash)
{
	uint32_t index = *bucket(g, hash);
	while (index != NONE && g->ghosts[index].hash != hash)
		index = g->ghosts[index].next;
	return index;
}

static uint32_t take_free(struct ghosts *g)
{
	if (g->free_first == NONE && g->fresh <= g->ghost_max)
		return g->fresh++;
	if (g->free_first == NONE) {
		uint32_t longest = 0;
		for (uint32_t i = 1; i < g->list_max; i++)
			if (g->lists[i].count > g->lists[longest].count)
				longest = i;
		forget(g, g->lists[longest].oldest);
	}
	uint32_t index = g->free_first;
	g->free_first = g->ghosts[index].next;
	return index;
}

void ghosts_put(struct ghosts *g, uint32_t list_index, uint64_t hash, uint32_t limit)
{
	assert(list_index < g->list_max);
	struct ghost_list *list = &g->lists[list_index];
	uint32_t old = find(g, hash);
	if (old != NONE)
		forget(g, old);
	if (limit == 0)
		return;
	while (list->count >= limit)
		forget(g, list->oldest);
	uint32_t index = take_free(g);
	uint32_t *at = bucket(g, hash);
	g->ghosts[index] = (struct ghost){.hash = hash, .serial = list->serial++, .list = list_index,
					  .older = list->newest, .newer = NONE, .next = *at};
	*at = index;
	*(list->newest == NONE ? &list->oldest : &g->ghosts[list->newest].newer) = index;
	list->newest = index;
	list->count++;
}

bool ghosts_take(struct ghosts *g, uint64_t hash, uint32_t *ret_list, uint64_t *ret_age)
{
	uint32_t index = find(g, hash);
	if (index == NONE)
		return false;
	*ret_list = g->ghosts[index].list;
	*ret_age = g->lists[*ret_list].serial - 1 - g->ghosts[index].serial;
	forget(g, index);
	return true;
}

uint32_t ghosts_count(const struct ghosts *g, uint32_t list)
{
	return g->lists[list].count;
}
