#include "engine/kv_pool.h"

#include <assert.h>

#include "base/layer_groups.h"
#include "base/map.h"
#include "base/planted.h"

/* Where a block is.  Moves: FREE -> USED [kv_pool_take]; USED -> FREE, CACHED [kv_pool_unref];
 * CACHED -> USED [kv_pool_ref, or kv_pool_take, which evicts]; CACHED -> FREE [kv_pool_forget]. */
enum block_state { BLOCK_FREE, BLOCK_USED, BLOCK_CACHED };

struct block {
	struct id128 key; /* while sealed */
	uint32_t refs;
	uint32_t prev; /* in the list of the cached, least recently used first */
	uint32_t next; /* there, or in the list of the free */
	uint8_t state;
	bool sealed;
};

struct group {
	uint32_t first;     /* number of its first block */
	uint32_t block_count;
	uint32_t counts[3]; /* [block_state] */
	uint32_t free_first;
	uint32_t lru_first;
	uint32_t lru_last;
	uint64_t *generations;
};

struct kv_pool {
	uint32_t block_count;
	uint32_t group_count;
	struct group groups[LAYER_GROUPS_MAX];
	uint32_t event_max;
	uint32_t event_head; /* events ever recorded, modulo 2^32 */
	uint32_t event_tail; /* events ever fetched */
	bool events_lost;
	struct block *blocks;         /* [block_count] */
	struct kv_pool_event *events; /* [event_max], a ring */
	struct map keys;              /* key -> block */
};

enum { ALIGN = 16 };

static size_t align_up(size_t bytes)
{
	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static uint32_t total_of(const struct kv_pool_options *options)
{
	uint32_t total = 0;
	for (uint32_t g = 0; g < options->group_count; g++) {
		assert(options->groups[g].block_count > 0 && options->groups[g].block_count < KV_BLOCK_NONE - total);
		total += options->groups[g].block_count;
	}
	return total;
}

size_t kv_pool_bytes(const struct kv_pool_options *options)
{
	uint32_t total = total_of(options);
	return align_up(sizeof(struct kv_pool)) + align_up(total * sizeof(struct block)) +
	       align_up(options->event_max * sizeof(struct kv_pool_event)) + map_bytes(total);
}

static void init_group(struct kv_pool *pool, struct group *group, uint32_t first, const struct kv_pool_group *options)
{
	*group = (struct group){.first = first, .block_count = options->block_count, .generations = options->generations,
				.free_first = first, .lru_first = KV_BLOCK_NONE, .lru_last = KV_BLOCK_NONE};
	group->counts[BLOCK_FREE] = options->block_count;
	uint32_t end = first + options->block_count;
	for (uint32_t i = first; i < end; i++)
		pool->blocks[i] = (struct block){.state = BLOCK_FREE, .prev = KV_BLOCK_NONE,
						 .next = i + 1 < end ? i + 1 : KV_BLOCK_NONE};
}

struct kv_pool *kv_pool_init(void *memory, const struct kv_pool_options *options)
{
	assert(options->group_count > 0 && options->group_count <= LAYER_GROUPS_MAX);
	assert(options->event_max > 0 && (options->event_max & (options->event_max - 1)) == 0);

	uint8_t *at = memory;
	struct kv_pool *pool = memory;
	uint32_t total = total_of(options), first = 0;
	*pool = (struct kv_pool){.block_count = total, .group_count = options->group_count, .event_max = options->event_max};
	pool->blocks = (void *)(at += align_up(sizeof(*pool)));
	pool->events = (void *)(at += align_up(total * sizeof(struct block)));
	map_init(&pool->keys, at + align_up(options->event_max * sizeof(struct kv_pool_event)), total);
	for (uint32_t g = 0; g < options->group_count; g++) {
		init_group(pool, &pool->groups[g], first, &options->groups[g]);
		first += options->groups[g].block_count;
	}
	return pool;
}

static struct group *group_of(struct kv_pool *pool, uint32_t index)
{
	uint32_t g = 0;
	while (index - pool->groups[g].first >= pool->groups[g].block_count)
		g++;
	return &pool->groups[g];
}

static void set_state(struct group *group, struct block *block, enum block_state state)
{
	group->counts[block->state]--;
	group->counts[state]++;
	block->state = (uint8_t)state;
}

static void free_push(struct kv_pool *pool, uint32_t index)
{
	struct block *block = &pool->blocks[index];
	struct group *group = group_of(pool, index);
	block->next = group->free_first;
	group->free_first = index;
	set_state(group, block, BLOCK_FREE);
}

static uint32_t free_pop(struct kv_pool *pool, struct group *group)
{
	uint32_t index = group->free_first;
	group->free_first = pool->blocks[index].next;
	return index;
}

static void lru_push(struct kv_pool *pool, uint32_t index)
{
	struct block *block = &pool->blocks[index];
	struct group *group = group_of(pool, index);
	block->prev = group->lru_last;
	block->next = KV_BLOCK_NONE;
	if (group->lru_last == KV_BLOCK_NONE)
		group->lru_first = index;
	else
		pool->blocks[group->lru_last].next = index;
	group->lru_last = index;
	set_state(group, block, BLOCK_CACHED);
}

static void lru_remove(struct kv_pool *pool, uint32_t index)
{
	const struct block *block = &pool->blocks[index];
	struct group *group = group_of(pool, index);
	if (block->prev == KV_BLOCK_NONE)
		group->lru_first = block->next;
	else
		pool->blocks[block->prev].next = block->next;
	if (block->next == KV_BLOCK_NONE)
		group->lru_last = block->prev;
	else
		pool->blocks[block->next].prev = block->prev;
}

/* Once one event is lost the rest say nothing: the index starts over, so none is kept until it asks. */
static void event_add(struct kv_pool *pool, const struct id128 *key, bool added)
{
	if (pool->events_lost || pool->event_head - pool->event_tail == pool->event_max) {
		pool->events_lost = true;
		return;
	}
	pool->events[pool->event_head++ & (pool->event_max - 1)] = (struct kv_pool_event){*key, added};
}

static void unseal(struct kv_pool *pool, uint32_t index)
{
	struct block *block = &pool->blocks[index];
	uint32_t held = planted(INDEX_OVER_LEDGER) ? index : map_remove(&pool->keys, &block->key);
	assert(held == index);
	(void)held;
	block->sealed = false;
	event_add(pool, &block->key, false);
}

enum err kv_pool_take(struct kv_pool *pool, uint32_t group_index, uint32_t *ret_block)
{
	assert(group_index < pool->group_count);
	struct group *group = &pool->groups[group_index];
	uint32_t index;
	if (group->free_first != KV_BLOCK_NONE) {
		index = free_pop(pool, group);
	} else if (group->lru_first != KV_BLOCK_NONE) {
		index = group->lru_first;
		lru_remove(pool, index);
		unseal(pool, index);
	} else {
		return ERR_AGAIN;
	}
	struct block *block = &pool->blocks[index];
	assert(block->refs == 0 && !block->sealed);
	block->refs = 1;
	set_state(group, block, BLOCK_USED);
	/* Acquire: what is written into the block stays after the new generation, for readers of shared memory. */
	__atomic_fetch_add(&group->generations[index - group->first], !planted(GENERATION_NOT_GROWN), __ATOMIC_ACQ_REL);
	*ret_block = index;
	return ERR_OK;
}

void kv_pool_ref(struct kv_pool *pool, uint32_t block_index)
{
	assert(block_index < pool->block_count);
	struct block *block = &pool->blocks[block_index];
	assert(block->state != BLOCK_FREE);
	if (block->state == BLOCK_CACHED) {
		lru_remove(pool, block_index);
		set_state(group_of(pool, block_index), block, BLOCK_USED);
	}
	block->refs++;
}

void kv_pool_unref(struct kv_pool *pool, uint32_t block_index)
{
	assert(block_index < pool->block_count);
	struct block *block = &pool->blocks[block_index];
	assert(block->state == BLOCK_USED && block->refs > 0);
	if (--block->refs > 0)
		return;
	if (block->sealed)
		lru_push(pool, block_index);
	else
		free_push(pool, block_index);
}

enum err kv_pool_seal(struct kv_pool *pool, uint32_t block_index, const struct id128 *key)
{
	assert(block_index < pool->block_count);
	struct block *block = &pool->blocks[block_index];
	assert(block->state == BLOCK_USED);
	uint32_t holder = map_get(&pool->keys, key);
	if (holder != MAP_NONE)
		return holder == block_index ? ERR_OK : ERR_EXISTS;
	assert(!block->sealed); /* rule 3: a sealed block is not written again, so it cannot earn another key */
	enum err e = map_put(&pool->keys, key, block_index);
	assert(e == ERR_OK); /* the map has room for one key a block */
	(void)e;
	block->key = *key;
	block->sealed = true;
	event_add(pool, key, true);
	return ERR_OK;
}

uint32_t kv_pool_find(const struct kv_pool *pool, const struct id128 *key)
{
	uint32_t index = map_get(&pool->keys, key);
	return index == MAP_NONE ? KV_BLOCK_NONE : index;
}

void kv_pool_forget(struct kv_pool *pool, uint32_t block_index)
{
	assert(block_index < pool->block_count);
	struct block *block = &pool->blocks[block_index];
	if (!block->sealed)
		return;
	unseal(pool, block_index);
	if (block->state == BLOCK_CACHED) {
		lru_remove(pool, block_index);
		free_push(pool, block_index);
	}
}

uint64_t kv_pool_generation(const struct kv_pool *pool, uint32_t block)
{
	assert(block < pool->block_count);
	uint32_t g = 0;
	while (block - pool->groups[g].first >= pool->groups[g].block_count)
		g++;
	return __atomic_load_n(&pool->groups[g].generations[block - pool->groups[g].first], __ATOMIC_ACQUIRE);
}

bool kv_pool_sealed(const struct kv_pool *pool, uint32_t block, struct id128 *ret_key)
{
	assert(block < pool->block_count);
	if (pool->blocks[block].sealed && ret_key)
		*ret_key = pool->blocks[block].key;
	return pool->blocks[block].sealed;
}

uint32_t kv_pool_free(const struct kv_pool *pool, uint32_t group)
{
	assert(group < pool->group_count);
	return pool->groups[group].counts[BLOCK_FREE];
}

uint32_t kv_pool_cached(const struct kv_pool *pool, uint32_t group)
{
	assert(group < pool->group_count);
	return pool->groups[group].counts[BLOCK_CACHED];
}

uint32_t kv_pool_used(const struct kv_pool *pool, uint32_t group)
{
	assert(group < pool->group_count);
	return pool->groups[group].counts[BLOCK_USED];
}

uint32_t kv_pool_total(const struct kv_pool *pool)
{
	return pool->block_count;
}

uint32_t kv_pool_events(struct kv_pool *pool, struct kv_pool_event *out, uint32_t max, bool *ret_lost)
{
	*ret_lost = pool->events_lost;
	if (pool->events_lost) {
		pool->events_lost = false;
		pool->event_tail = pool->event_head;
		return 0;
	}
	uint32_t count = 0;
	while (count < max && pool->event_tail != pool->event_head)
		out[count++] = pool->events[pool->event_tail++ & (pool->event_max - 1)];
	return count;
}

static void check_block(const struct kv_pool *pool, uint32_t index)
{
	const struct block *block = &pool->blocks[index];
	assert((block->refs > 0) == (block->state == BLOCK_USED));
	assert(block->state != BLOCK_FREE || !block->sealed);
	assert(block->state != BLOCK_CACHED || block->sealed);
	assert(!block->sealed || map_get(&pool->keys, &block->key) == index);
	(void)block;
}

static void check_lists(const struct kv_pool *pool, const struct group *group, const uint32_t counts[3])
{
	uint32_t seen = 0;
	for (uint32_t i = group->free_first; i != KV_BLOCK_NONE; i = pool->blocks[i].next, seen++)
		assert(pool->blocks[i].state == BLOCK_FREE && i - group->first < group->block_count &&
		       seen < group->block_count);
	assert(seen == counts[BLOCK_FREE]);
	seen = 0;
	uint32_t prev = KV_BLOCK_NONE;
	for (uint32_t i = group->lru_first; i != KV_BLOCK_NONE; prev = i, i = pool->blocks[i].next, seen++)
		assert(pool->blocks[i].state == BLOCK_CACHED && pool->blocks[i].prev == prev &&
		       i - group->first < group->block_count && seen < group->block_count);
	assert(seen == counts[BLOCK_CACHED] && prev == group->lru_last);
}

void kv_pool_check(const struct kv_pool *pool)
{
	uint32_t sealed = 0;
	for (uint32_t g = 0; g < pool->group_count; g++) {
		const struct group *group = &pool->groups[g];
		uint32_t counts[3] = {0};
		for (uint32_t i = group->first; i < group->first + group->block_count; i++) {
			check_block(pool, i);
			sealed += pool->blocks[i].sealed;
			counts[pool->blocks[i].state]++;
		}
		for (int s = 0; s < 3; s++)
			assert(counts[s] == group->counts[s]);
		check_lists(pool, group, counts);
	}
	assert(sealed == pool->keys.count);
}
