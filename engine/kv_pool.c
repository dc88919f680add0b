#include "engine/kv_pool.h"

#include <assert.h>

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

struct kv_pool {
	uint32_t block_count;
	uint32_t counts[3]; /* [block_state] */
	uint32_t free_first;
	uint32_t lru_first;
	uint32_t lru_last;
	uint32_t event_max;
	uint32_t event_head; /* events ever recorded, modulo 2^32 */
	uint32_t event_tail; /* events ever fetched */
	bool events_lost;
	uint64_t *generations;
	struct block *blocks;         /* [block_count] */
	struct kv_pool_event *events; /* [event_max], a ring */
	struct map keys;              /* key -> block */
};

enum { ALIGN = 16 };

static size_t align_up(size_t bytes)
{
	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

size_t kv_pool_bytes(const struct kv_pool_options *options)
{
	return align_up(sizeof(struct kv_pool)) + align_up(options->block_count * sizeof(struct block)) +
	       align_up(options->event_max * sizeof(struct kv_pool_event)) + map_bytes(options->block_count);
}

struct kv_pool *kv_pool_init(void *memory, const struct kv_pool_options *options)
{
	assert(options->block_count > 0 && options->block_count < KV_BLOCK_NONE);
	assert(options->event_max > 0 && (options->event_max & (options->event_max - 1)) == 0);

	uint8_t *at = memory;
	struct kv_pool *pool = memory;
	*pool = (struct kv_pool){.block_count = options->block_count, .event_max = options->event_max,
				 .generations = options->generations, .free_first = 0,
				 .lru_first = KV_BLOCK_NONE, .lru_last = KV_BLOCK_NONE};
	pool->counts[BLOCK_FREE] = options->block_count;
	pool->blocks = (void *)(at += align_up(sizeof(*pool)));
	pool->events = (void *)(at += align_up(options->block_count * sizeof(struct block)));
	map_init(&pool->keys, at + align_up(options->event_max * sizeof(struct kv_pool_event)),
		 options->block_count);
	for (uint32_t i = 0; i < options->block_count; i++) {
		uint32_t next = i + 1 < options->block_count ? i + 1 : KV_BLOCK_NONE;
		pool->blocks[i] = (struct block){.state = BLOCK_FREE, .prev = KV_BLOCK_NONE, .next = next};
	}
	return pool;
}

static void set_state(struct kv_pool *pool, struct block *block, enum block_state state)
{
	pool->counts[block->state]--;
	pool->counts[state]++;
	block->state = (uint8_t)state;
}

static void free_push(struct kv_pool *pool, uint32_t index)
{
	struct block *block = &pool->blocks[index];
	block->next = pool->free_first;
	pool->free_first = index;
	set_state(pool, block, BLOCK_FREE);
}

static uint32_t free_pop(struct kv_pool *pool)
{
	uint32_t index = pool->free_first;
	pool->free_first = pool->blocks[index].next;
	return index;
}

static void lru_push(struct kv_pool *pool, uint32_t index)
{
	struct block *block = &pool->blocks[index];
	block->prev = pool->lru_last;
	block->next = KV_BLOCK_NONE;
	if (pool->lru_last == KV_BLOCK_NONE)
		pool->lru_first = index;
	else
		pool->blocks[pool->lru_last].next = index;
	pool->lru_last = index;
	set_state(pool, block, BLOCK_CACHED);
}

static void lru_remove(struct kv_pool *pool, uint32_t index)
{
	const struct block *block = &pool->blocks[index];
	if (block->prev == KV_BLOCK_NONE)
		pool->lru_first = block->next;
	else
		pool->blocks[block->prev].next = block->next;
	if (block->next == KV_BLOCK_NONE)
		pool->lru_last = block->prev;
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

enum err kv_pool_take(struct kv_pool *pool, uint32_t *ret_block)
{
	uint32_t index;
	if (pool->free_first != KV_BLOCK_NONE) {
		index = free_pop(pool);
	} else if (pool->lru_first != KV_BLOCK_NONE) {
		index = pool->lru_first;
		lru_remove(pool, index);
		unseal(pool, index);
	} else {
		return ERR_AGAIN;
	}
	struct block *block = &pool->blocks[index];
	assert(block->refs == 0 && !block->sealed);
	block->refs = 1;
	set_state(pool, block, BLOCK_USED);
	/* Acquire: what is written into the block stays after the new generation, for readers of shared memory. */
	__atomic_fetch_add(&pool->generations[index], !planted(GENERATION_NOT_GROWN), __ATOMIC_ACQ_REL);
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
		set_state(pool, block, BLOCK_USED);
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
	return __atomic_load_n(&pool->generations[block], __ATOMIC_ACQUIRE);
}

bool kv_pool_sealed(const struct kv_pool *pool, uint32_t block, struct id128 *ret_key)
{
	assert(block < pool->block_count);
	if (pool->blocks[block].sealed && ret_key)
		*ret_key = pool->blocks[block].key;
	return pool->blocks[block].sealed;
}

uint32_t kv_pool_free(const struct kv_pool *pool)
{
	return pool->counts[BLOCK_FREE];
}

uint32_t kv_pool_cached(const struct kv_pool *pool)
{
	return pool->counts[BLOCK_CACHED];
}

uint32_t kv_pool_used(const struct kv_pool *pool)
{
	return pool->counts[BLOCK_USED];
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

void kv_pool_check(const struct kv_pool *pool)
{
	uint32_t sealed = 0;
	uint32_t counts[3] = {0};
	for (uint32_t i = 0; i < pool->block_count; i++) {
		check_block(pool, i);
		sealed += pool->blocks[i].sealed;
		counts[pool->blocks[i].state]++;
	}
	assert(sealed == pool->keys.count);
	for (int s = 0; s < 3; s++)
		assert(counts[s] == pool->counts[s]);

	uint32_t seen = 0;
	for (uint32_t i = pool->free_first; i != KV_BLOCK_NONE; i = pool->blocks[i].next, seen++)
		assert(pool->blocks[i].state == BLOCK_FREE && seen < pool->block_count);
	assert(seen == counts[BLOCK_FREE]);
	seen = 0;
	uint32_t prev = KV_BLOCK_NONE;
	for (uint32_t i = pool->lru_first; i != KV_BLOCK_NONE; prev = i, i = pool->blocks[i].next, seen++)
		assert(pool->blocks[i].state == BLOCK_CACHED && pool->blocks[i].prev == prev &&
		       seen < pool->block_count);
	assert(seen == counts[BLOCK_CACHED] && prev == pool->lru_last);
}
