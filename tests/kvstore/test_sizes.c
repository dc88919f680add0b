/* Blocks of several sizes in one store: whose the slabs are, against stores with fixed shares. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sizes_store.h"

static void a_size_that_nobody_uses_any_more_gives_all_its_room(void **state)
{
	(void)state;
	struct sizes_store *shared = sizes_store_create(SLABS, &evict_lru), *alone = sizes_store_create(SLABS, &evict_lru);
	struct rng rng = {.seed = 1};
	for (uint32_t i = 0; i < 6000; i++)
		use(shared, 0, draw(&rng, 1500));
	assert_int_equal(slabs_of(shared, 0), SLABS);
	uint32_t hits = 0, hits_alone = 0;
	for (uint32_t i = 0; i < 12000; i++) {
		uint32_t key = draw(&rng, 400);
		bool hit = use(shared, 1, key), hit_alone = use(alone, 1, key);
		hits += hit && i >= 8000;
		hits_alone += hit_alone && i >= 8000;
	}
	assert_int_equal(slabs_of(shared, 1), SLABS);
	assert_true(hits_alone > 2000 && hits_alone < 4000);
	assert_int_equal(hits, hits_alone);
	sizes_store_destroy(shared);
	sizes_store_destroy(alone);
}

/* Both at once, the first has had all the room: in the end each finds all it uses, since there is room for both. */
static void sizes_that_fit_together_end_with_what_each_needs(void **state)
{
	(void)state;
	for (int first = 0; first < SIZES; first++) {
		struct sizes_store *s = sizes_store_create(SLABS, evict_policies[0]);
		const uint32_t used[SIZES] = {6 * 60 - 8, 9 * 12 - 2}; /* 15 slabs */
		struct rng rng = {.seed = 2};
		for (uint32_t i = 0; i < 4000; i++)
			use(s, first, 2000 + i % 2000);
		uint32_t missed = 0;
		for (uint32_t i = 0; i < 40000; i++) {
			int size = (int)rng_below(&rng, SIZES);
			missed += !use(s, size, (uint32_t)rng_below(&rng, used[size])) && i >= 20000;
		}
		assert_int_equal(missed, 0);
		assert_true(slabs_of(s, 0) >= 6 && slabs_of(s, 1) >= 9);
		sizes_store_destroy(s);
	}
}

static void what_is_read_once_gets_one_slab(void **state)
{
	(void)state;
	struct sizes_store *s = sizes_store_create(SLABS, evict_policies[0]);
	struct rng rng = {.seed = 3};
	for (uint32_t i = 0; i < 4000; i++)
		use(s, 0, (uint32_t)rng_below(&rng, 15 * 60));
	for (uint32_t i = 0; i < 200; i++)
		use(s, 0, 2000 + i); /* takes what is left */
	assert_int_equal(slabs_of(s, 0), SLABS);
	uint32_t missed = 0;
	for (uint32_t i = 0; i < 20000; i++) {
		if (i % 8 == 0)
			use(s, 1, i);
		missed += !use(s, 0, (uint32_t)rng_below(&rng, 13 * 60)) && i > 10000;
	}
	assert_int_equal(slabs_of(s, 1), 1);
	assert_int_equal(missed, 0);
	sizes_store_destroy(s);
}

struct mix {
	uint32_t small_parts; /* of 8 uses, by bytes */
	uint32_t keys[SIZES];
};

/* Bytes found in the second half; slabs: fixed shares of so many for the small ones, or SLABS: one store. */
static uint64_t run_mix(const struct mix *mix, const struct evict_policy *policy, uint32_t slabs, uint32_t *ret_small)
{
	struct sizes_store *stores[SIZES] = {sizes_store_create(slabs, policy), slabs < SLABS ? sizes_store_create(SLABS - slabs, policy) : NULL};
	struct rng rng = {.seed = 4};
	uint64_t found = 0;
	for (uint32_t i = 0; i < 2000; i++) /* it has had all the room */
		use(stores[0], 0, i % 1000);
	enum { USES = 60000 };
	for (uint32_t i = 0; i < USES; i++) {
		uint32_t small = mix->small_parts * LARGE, large = (8 - mix->small_parts) * SMALL;
		int size = rng_below(&rng, small + large) < large;
		bool hit = use(stores[slabs < SLABS ? size : 0], size, draw(&rng, mix->keys[size]));
		found += hit && i >= USES / 2 ? block_bytes[size] : 0;
	}
	*ret_small = slabs_of(stores[0], 0);
	for (int i = 0; i < SIZES; i++)
		if (stores[i])
			sizes_store_destroy(stores[i]);
	return found;
}

/* As good as the best fixed share, whoever uses more. */
static void shares_follow_use(void **state)
{
	(void)state;
	static const struct mix mixes[] = {
		{4, {1920, 384}}, {6, {1920, 384}}, {2, {1920, 384}}, {4, {960, 768}}, {4, {3840, 192}}, {7, {3840, 384}},
	};
	const struct evict_policy *policies[] = {&evict_lru, evict_policies[0]};
	for (uint32_t p = 0; p < 2; p++)
		for (uint32_t m = 0; m < sizeof(mixes) / sizeof(mixes[0]); m++) {
			uint32_t best_small = 0, small;
			uint64_t best = 0;
			for (uint32_t slabs = 1; slabs < SLABS; slabs++) {
				uint64_t found = run_mix(&mixes[m], policies[p], slabs, &small);
				if (found > best) {
					best = found;
					best_small = slabs;
				}
			}
			uint64_t found = run_mix(&mixes[m], policies[p], SLABS, &small);
			if (found < best * 97 / 100)
				fail_msg("%s, mix %u: %llu bytes found with %u slabs for small blocks, %llu with %u always", policies[p]->name,
					 m, (unsigned long long)found, small, (unsigned long long)best, best_small);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_size_that_nobody_uses_any_more_gives_all_its_room),
		cmocka_unit_test(sizes_that_fit_together_end_with_what_each_needs),
		cmocka_unit_test(what_is_read_once_gets_one_slab),
		cmocka_unit_test(shares_follow_use),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
