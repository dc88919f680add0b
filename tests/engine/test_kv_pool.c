#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/rng.h"
#include "engine/kv_pool.h"

enum { BLOCKS = 24, KEYS = 40, EVENT_MAX = 16, STEPS = 40000, NOBODY = -1 };

static struct id128 key_of(int i)
{
	return (struct id128){.bytes = {(uint8_t)(i % 5), 0, 0, 0, 0, 0, 0, 0, (uint8_t)i}};
}

/* The pool as plain arrays: what kv_pool.h promises, with no list and no table. */
struct naive {
	int refs[BLOCKS];
	int key[BLOCKS]; /* NOBODY: unsealed */
	uint64_t cached_at[BLOCKS];
	uint64_t generation[BLOCKS];
	uint64_t now;
	bool lost;
	int event_count;
	struct kv_pool_event events[EVENT_MAX];
};

static void naive_event(struct naive *n, int key, bool added)
{
	if (n->lost || n->event_count == EVENT_MAX) {
		n->lost = true;
		return;
	}
	n->events[n->event_count++] = (struct kv_pool_event){key_of(key), added};
}

static int naive_holder(const struct naive *n, int key)
{
	for (int b = 0; b < BLOCKS; b++)
		if (n->key[b] == key)
			return b;
	return NOBODY;
}

static int naive_count(const struct naive *n, bool used, bool sealed)
{
	int count = 0;
	for (int b = 0; b < BLOCKS; b++)
		count += (n->refs[b] > 0) == used && (used || (n->key[b] != NOBODY) == sealed);
	return count;
}

static int naive_least_recent(const struct naive *n)
{
	int best = NOBODY;
	for (int b = 0; b < BLOCKS; b++)
		if (n->refs[b] == 0 && n->key[b] != NOBODY &&
		    (best == NOBODY || n->cached_at[b] < n->cached_at[best]))
			best = b;
	return best;
}

struct fixture {
	struct kv_pool *pool;
	struct naive naive;
	uint64_t generations[BLOCKS];
	struct rng rng;
};

static void do_take(struct fixture *f)
{
	struct naive *n = &f->naive;
	uint32_t block;
	enum err e = kv_pool_take(f->pool, 0, &block);
	if (naive_count(n, true, false) == BLOCKS) {
		assert_int_equal(e, ERR_AGAIN);
		return;
	}
	assert_int_equal(e, ERR_OK);
	assert_int_equal(n->refs[block], 0);
	if (naive_count(n, false, false) > 0) {
		assert_int_equal(n->key[block], NOBODY);
	} else {
		assert_int_equal(block, naive_least_recent(n));
		naive_event(n, n->key[block], false);
		n->key[block] = NOBODY;
	}
	n->refs[block] = 1;
	n->generation[block]++;
}

static void do_seal(struct fixture *f, int block, int key)
{
	struct naive *n = &f->naive;
	int holder = naive_holder(n, key);
	if (n->refs[block] == 0 || (n->key[block] != NOBODY && holder == NOBODY))
		return;
	struct id128 id = key_of(key);
	bool taken = holder != NOBODY && holder != block;
	assert_int_equal(kv_pool_seal(f->pool, (uint32_t)block, &id), taken ? ERR_EXISTS : ERR_OK);
	if (holder == NOBODY) {
		n->key[block] = key;
		naive_event(n, key, true);
	}
}

static void do_ref_or_unref(struct fixture *f, int block, bool ref)
{
	struct naive *n = &f->naive;
	if (ref && (n->refs[block] > 0 || n->key[block] != NOBODY)) {
		kv_pool_ref(f->pool, (uint32_t)block);
		n->refs[block]++;
	} else if (!ref && n->refs[block] > 0) {
		kv_pool_unref(f->pool, (uint32_t)block);
		if (--n->refs[block] == 0)
			n->cached_at[block] = ++n->now;
	}
}

static void do_events(struct fixture *f)
{
	struct naive *n = &f->naive;
	struct kv_pool_event out[EVENT_MAX];
	bool lost;
	uint32_t max = (uint32_t)rng_below(&f->rng, EVENT_MAX + 1);
	uint32_t count = kv_pool_events(f->pool, out, max, &lost);
	assert_int_equal(lost, n->lost);
	if (lost) {
		assert_int_equal(count, 0);
		n->lost = false;
		n->event_count = 0;
		return;
	}
	assert_int_equal(count, (uint32_t)n->event_count < max ? (uint32_t)n->event_count : max);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(id128_equal(&out[i].key, &n->events[i].key));
		assert_int_equal(out[i].added, n->events[i].added);
	}
	n->event_count -= (int)count;
	for (int i = 0; i < n->event_count; i++)
		n->events[i] = n->events[i + (int)count];
}

static void do_forget(struct fixture *f, int block)
{
	kv_pool_forget(f->pool, (uint32_t)block);
	if (f->naive.key[block] != NOBODY)
		naive_event(&f->naive, f->naive.key[block], false);
	f->naive.key[block] = NOBODY;
}

static void compare(const struct fixture *f)
{
	const struct naive *n = &f->naive;
	kv_pool_check(f->pool);
	assert_int_equal(kv_pool_used(f->pool, 0), naive_count(n, true, false));
	assert_int_equal(kv_pool_cached(f->pool, 0), naive_count(n, false, true));
	assert_int_equal(kv_pool_free(f->pool, 0), naive_count(n, false, false));
	for (int b = 0; b < BLOCKS; b++) {
		struct id128 key;
		assert_int_equal(kv_pool_generation(f->pool, (uint32_t)b), n->generation[b]);
		assert_int_equal(f->generations[b], n->generation[b]);
		assert_int_equal(kv_pool_sealed(f->pool, (uint32_t)b, &key), n->key[b] != NOBODY);
		struct id128 expected = key_of(n->key[b]);
		if (n->key[b] != NOBODY)
			assert_true(id128_equal(&key, &expected));
	}
	for (int k = 0; k < KEYS; k++) {
		struct id128 key = key_of(k);
		int holder = naive_holder(n, k);
		assert_int_equal(kv_pool_find(f->pool, &key), holder == NOBODY ? KV_BLOCK_NONE : (uint32_t)holder);
	}
}

static void step(struct fixture *f)
{
	int block = (int)rng_below(&f->rng, BLOCKS);
	int key = (int)rng_below(&f->rng, KEYS);
	switch (rng_below(&f->rng, 9)) {
	case 0: case 1: do_take(f); break;
	case 2: case 3: do_seal(f, block, key); break;
	case 4: do_ref_or_unref(f, block, true); break;
	case 5: case 6: do_ref_or_unref(f, block, false); break;
	case 7: do_events(f); break;
	case 8: if (rng_below(&f->rng, 8) == 0) do_forget(f, block); break;
	}
}

static void random_operations_agree_with_plain_arrays(void **state)
{
	for (uint64_t seed = 0; seed < 4; seed++) {
		struct fixture f = {.rng = {.seed = seed}};
		struct kv_pool_options options = {.group_count = 1, .groups = {{BLOCKS, f.generations}},
						  .event_max = EVENT_MAX};
		void *memory = malloc(kv_pool_bytes(&options));
		f.pool = kv_pool_init(memory, &options);
		for (int b = 0; b < BLOCKS; b++)
			f.naive.key[b] = NOBODY;
		for (int i = 0; i < STEPS; i++) {
			step(&f);
			compare(&f);
		}
		free(memory);
	}
}

static void generations_go_on_after_a_restart(void **state)
{
	uint64_t generations[2] = {41, 7};
	struct kv_pool_options options = {.group_count = 1, .groups = {{2, generations}}, .event_max = 2};
	void *memory = malloc(kv_pool_bytes(&options));
	uint32_t block;
	for (int life = 0; life < 2; life++) {
		struct kv_pool *pool = kv_pool_init(memory, &options);
		for (int i = 0; i < 2; i++)
			assert_int_equal(kv_pool_take(pool, 0, &block), ERR_OK);
		assert_int_equal(kv_pool_take(pool, 0, &block), ERR_AGAIN);
	}
	assert_int_equal(generations[0], 43);
	assert_int_equal(generations[1], 9);
	free(memory);
}

static void a_hit_makes_a_cached_block_the_last_to_be_evicted(void **state)
{
	uint64_t generations[3] = {0};
	struct kv_pool_options options = {.group_count = 1, .groups = {{3, generations}}, .event_max = 16};
	void *memory = malloc(kv_pool_bytes(&options));
	struct kv_pool *pool = kv_pool_init(memory, &options);
	uint32_t blocks[3];
	for (int i = 0; i < 3; i++) {
		struct id128 key = key_of(i);
		assert_int_equal(kv_pool_take(pool, 0, &blocks[i]), ERR_OK);
		assert_int_equal(kv_pool_seal(pool, blocks[i], &key), ERR_OK);
	}
	for (int i = 0; i < 3; i++)
		kv_pool_unref(pool, blocks[i]);
	kv_pool_ref(pool, blocks[0]);
	kv_pool_unref(pool, blocks[0]);
	uint32_t order[3];
	for (int i = 0; i < 3; i++)
		assert_int_equal(kv_pool_take(pool, 0, &order[i]), ERR_OK);
	assert_int_equal(order[0], blocks[1]);
	assert_int_equal(order[1], blocks[2]);
	assert_int_equal(order[2], blocks[0]);
	free(memory);
}

/* Each group has room of its own: what one has cached or taken is never of the other's account. */
static void groups_share_keys_and_nothing_else(void **state)
{
	uint64_t first[3] = {5}, second[2] = {0};
	struct kv_pool_options options = {.group_count = 2, .groups = {{3, first}, {2, second}}, .event_max = 16};
	void *memory = malloc(kv_pool_bytes(&options));
	struct kv_pool *pool = kv_pool_init(memory, &options);
	uint32_t blocks[5], more;
	assert_int_equal(kv_pool_total(pool), 5);
	for (uint32_t i = 0; i < 5; i++) {
		uint32_t g = i < 3 ? 0 : 1;
		struct id128 key = key_of((int)i);
		assert_int_equal(kv_pool_take(pool, g, &blocks[i]), ERR_OK);
		assert_true(g == 0 ? blocks[i] < 3 : blocks[i] >= 3 && blocks[i] < 5);
		assert_int_equal(kv_pool_seal(pool, blocks[i], &key), ERR_OK);
		assert_int_equal(kv_pool_find(pool, &key), blocks[i]);
		kv_pool_check(pool);
	}
	struct id128 key = key_of(0);
	kv_pool_unref(pool, blocks[0]);
	assert_int_equal(kv_pool_cached(pool, 0), 1);
	assert_int_equal(kv_pool_cached(pool, 1), 0);
	assert_int_equal(kv_pool_take(pool, 1, &more), ERR_AGAIN); /* what the first has cached is not for the second */
	assert_int_equal(kv_pool_find(pool, &key), blocks[0]);
	kv_pool_unref(pool, blocks[4]);
	assert_int_equal(kv_pool_take(pool, 1, &more), ERR_OK);
	assert_int_equal(more, blocks[4]); /* though the first's is older */
	assert_int_equal(kv_pool_find(pool, &key), blocks[0]);
	assert_int_equal(kv_pool_used(pool, 0), 2);
	assert_int_equal(kv_pool_used(pool, 1), 2);
	assert_int_equal(second[more - 3], 2);
	assert_int_equal(first[0] + first[1] + first[2], 5 + 3);
	kv_pool_check(pool);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_agree_with_plain_arrays),
		cmocka_unit_test(generations_go_on_after_a_restart),
		cmocka_unit_test(a_hit_makes_a_cached_block_the_last_to_be_evicted),
		cmocka_unit_test(groups_share_keys_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
