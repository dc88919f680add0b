#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/rng.h"
#include "coordinator/index.h"
#include "kvstore/prefix.h"

enum { NODES = 24, KEYS = 400, BLOCKS_MAX = 300, CHAIN = 40 };

static struct block_index *make(void **ret_memory, uint32_t nodes, uint32_t blocks)
{
	struct index_options options = {nodes, blocks};
	*ret_memory = malloc(index_bytes(&options));
	return index_init(*ret_memory, &options);
}

/* Few distinct hashes, so that clusters form. */
static struct id128 key_of(uint32_t i)
{
	struct id128 key = {.bytes = {(uint8_t)(i % 61)}};
	key.bytes[8] = (uint8_t)i;
	key.bytes[9] = (uint8_t)(i >> 8);
	return key;
}

static enum err tell(struct block_index *index, uint32_t node, uint64_t sequence, bool reset, const struct id128 *added,
		     uint32_t added_count, const struct id128 *removed, uint32_t removed_count)
{
	struct index_events events = {sequence, reset, (const uint8_t *)added, (const uint8_t *)removed, added_count,
				      removed_count};
	enum err e = index_events(index, node, &events);
	index_check(index);
	return e;
}

static uint32_t depth_of(const struct block_index *index, uint32_t node, const struct id128 *keys, uint32_t count)
{
	struct index_match matches[NODES];
	uint32_t n = index_match(index, keys, count, matches), depth = 0;
	for (uint32_t i = 0; i < n; i++)
		if (matches[i].node == node) {
			assert_int_equal(depth, 0); /* named once */
			depth = matches[i].depth;
		}
	return depth;
}

static void longest_prefix_of_each_node_is_found(void **state)
{
	void *memory;
	struct block_index *index = make(&memory, NODES, BLOCKS_MAX);
	struct id128 chain[6];
	for (uint32_t i = 0; i < 6; i++)
		chain[i] = key_of(i);
	for (uint32_t node = 0; node < 4; node++)
		index_node_up(index, node);
	assert_int_equal(tell(index, 0, 1, true, chain, 6, NULL, 0), ERR_OK);
	assert_int_equal(tell(index, 1, 7, true, chain, 2, NULL, 0), ERR_OK);
	assert_int_equal(tell(index, 2, 1, true, chain + 1, 5, NULL, 0), ERR_OK); /* not the first */
	assert_int_equal(depth_of(index, 0, chain, 6), 6);
	assert_int_equal(depth_of(index, 0, chain, 4), 4);
	assert_int_equal(depth_of(index, 1, chain, 6), 2);
	assert_int_equal(depth_of(index, 2, chain, 6), 0);
	assert_int_equal(depth_of(index, 3, chain, 6), 0);
	assert_int_equal(tell(index, 0, 2, false, NULL, 0, chain + 3, 1), ERR_OK);
	assert_int_equal(depth_of(index, 0, chain, 6), 3);
	free(memory);
}

static void what_was_heard_before_changes_nothing(void **state)
{
	void *memory;
	struct block_index *index = make(&memory, NODES, BLOCKS_MAX);
	struct id128 keys[3] = {key_of(0), key_of(1), key_of(2)};
	index_node_up(index, 0);
	assert_int_equal(tell(index, 0, 4, true, keys, 1, NULL, 0), ERR_OK);
	assert_int_equal(tell(index, 0, 5, false, keys + 1, 2, NULL, 0), ERR_OK);
	assert_int_equal(tell(index, 0, 5, false, keys + 1, 2, NULL, 0), ERR_OK);
	assert_int_equal(tell(index, 0, 4, true, keys, 1, NULL, 0), ERR_OK); /* a snapshot that came again, late */
	assert_int_equal(depth_of(index, 0, keys, 3), 3);
	assert_int_equal(tell(index, 0, 6, false, NULL, 0, keys + 1, 1), ERR_OK); /* and no gap */
	assert_int_equal(depth_of(index, 0, keys, 3), 1);
	free(memory);
}

static void gap_stops_events_until_a_reset_and_is_said_once(void **state)
{
	void *memory;
	struct block_index *index = make(&memory, NODES, BLOCKS_MAX);
	struct id128 keys[3] = {key_of(0), key_of(1), key_of(2)};
	index_node_up(index, 0);
	assert_false(index_synced(index, 0));
	assert_int_equal(tell(index, 0, 4, true, keys, 1, NULL, 0), ERR_OK);
	assert_int_equal(tell(index, 0, 6, false, keys + 1, 1, NULL, 0), ERR_STALE); /* 5 is lost */
	assert_false(index_synced(index, 0));
	assert_int_equal(tell(index, 0, 7, false, keys + 2, 1, NULL, 0), ERR_OK);
	assert_int_equal(depth_of(index, 0, keys, 3), 1);
	/* A snapshot of several messages replaces all there was. */
	assert_int_equal(tell(index, 0, 8, true, keys + 1, 1, NULL, 0), ERR_OK);
	assert_int_equal(depth_of(index, 0, keys, 3), 0);
	assert_int_equal(tell(index, 0, 9, false, keys, 1, NULL, 0), ERR_OK);
	assert_int_equal(depth_of(index, 0, keys, 3), 2);
	struct index_counters counters;
	index_counters(index, &counters);
	assert_int_equal(counters.gaps, 1);
	free(memory);
}

static void node_that_goes_holds_nothing_at_once_and_again_when_it_is_back(void **state)
{
	void *memory;
	struct block_index *index = make(&memory, NODES, BLOCKS_MAX);
	struct id128 key = key_of(5);
	for (uint32_t round = 0; round < 500; round++) { /* numbers are given again only when swept */
		index_node_up(index, 3);
		assert_int_equal(depth_of(index, 3, &key, 1), 0);
		assert_int_equal(tell(index, 3, 1, true, &key, 1, NULL, 0), ERR_OK);
		assert_int_equal(depth_of(index, 3, &key, 1), 1);
		index_node_down(index, 3);
		assert_int_equal(depth_of(index, 3, &key, 1), 0);
		index_sweep(index, round % 7);
	}
	index_sweep(index, UINT32_MAX);
	index_sweep(index, UINT32_MAX);
	struct index_counters counters;
	index_counters(index, &counters);
	assert_int_equal(counters.blocks, 0);
	free(memory);
}

static void key_over_the_bound_is_ignored_and_counted(void **state)
{
	void *memory;
	struct block_index *index = make(&memory, 2, 10);
	struct id128 keys[12];
	for (uint32_t i = 0; i < 12; i++)
		keys[i] = key_of(i);
	index_node_up(index, 0);
	assert_int_equal(tell(index, 0, 1, true, keys, 12, NULL, 0), ERR_OK);
	struct index_counters counters;
	index_counters(index, &counters);
	assert_int_equal(counters.blocks, 10);
	assert_int_equal(counters.ignored, 2);
	assert_int_equal(depth_of(index, 0, keys, 12), 10);
	assert_int_equal(index_held(index, 0), 10);
	free(memory);
}

struct model {
	bool up[NODES], synced[NODES];
	uint64_t sequence[NODES];
	bool holds[NODES][KEYS];
};

static uint32_t model_depth(const struct model *model, uint32_t node, const uint32_t *chain)
{
	uint32_t depth = 0;
	while (model->up[node] && depth < CHAIN && model->holds[node][chain[depth]])
		depth++;
	return depth;
}

static void random_step(struct block_index *index, struct model *model, struct rng *rng)
{
	uint32_t node = (uint32_t)rng_below(rng, NODES), choice = (uint32_t)rng_below(rng, 40);
	if (choice == 0 && model->up[node]) {
		index_node_down(index, node);
		model->up[node] = false;
	} else if (!model->up[node]) {
		index_node_up(index, node);
		model->up[node] = true;
		model->synced[node] = false;
		memset(model->holds[node], 0, sizeof(model->holds[node]));
	}
	if (!model->up[node])
		return;
	bool reset = choice == 1 || !model->synced[node];
	if (reset)
		memset(model->holds[node], 0, sizeof(model->holds[node]));
	struct id128 added[24], removed[8];
	/* Runs of keys, so that many nodes hold the same ones: bit sets are used. */
	uint32_t first = (uint32_t)rng_below(rng, KEYS / 4), added_count = (uint32_t)rng_below(rng, 24);
	uint32_t removed_count = (uint32_t)rng_below(rng, 8);
	for (uint32_t i = 0; i < removed_count; i++) {
		uint32_t key = (uint32_t)rng_below(rng, KEYS / 2);
		removed[i] = key_of(key);
		model->holds[node][key] = false;
	}
	for (uint32_t i = 0; i < added_count; i++) {
		added[i] = key_of(first + i);
		model->holds[node][first + i] = true;
	}
	model->synced[node] = true;
	assert_int_equal(tell(index, node, ++model->sequence[node], reset, added, added_count, removed, removed_count),
			 ERR_OK);
	if (choice < 20)
		index_sweep(index, (uint32_t)rng_below(rng, 300));
}

static void random_events_agree_with_an_array(void **state)
{
	void *memory;
	struct block_index *index = make(&memory, NODES, BLOCKS_MAX);
	struct model *model = calloc(1, sizeof(*model));
	struct rng rng = {.seed = 7};
	for (int step = 0; step < 20000; step++) {
		random_step(index, model, &rng);
		uint32_t chain[CHAIN], first = (uint32_t)rng_below(&rng, KEYS / 4);
		struct id128 keys[CHAIN];
		for (uint32_t i = 0; i < CHAIN; i++) {
			chain[i] = first + i;
			keys[i] = key_of(chain[i]);
		}
		for (uint32_t node = 0; node < NODES; node += 5)
			assert_int_equal(depth_of(index, node, keys, CHAIN), model_depth(model, node, chain));
	}
	free(model);
	free(memory);
}

/* Node by node, key by key: the longest beginning of which it holds what each of two chains needs. */
static uint32_t model_depth_of_groups(const struct model *model, uint32_t node, uint32_t (*chains)[CHAIN],
				      const uint32_t *keeps, uint32_t count)
{
	for (uint32_t n = model->up[node] ? CHAIN : 0; n > 0; n--) {
		bool all = true;
		for (uint32_t g = 0; g < count; g++)
			for (uint32_t i = kv_keep_first(keeps[g], n); i < n; i++)
				all &= model->holds[node][chains[g][i]];
		if (all)
			return n;
	}
	return 0;
}

static void check_groups(struct block_index *index, const struct model *model, struct rng *rng, const uint32_t *keeps,
			 uint32_t count)
{
	uint32_t chains[2][CHAIN], depths[NODES] = {0};
	struct id128 keys[2][CHAIN];
	struct index_chain given[2];
	for (uint32_t g = 0; g < count; g++) {
		uint32_t first = (uint32_t)rng_below(rng, KEYS / 4);
		for (uint32_t i = 0; i < CHAIN; i++) {
			chains[g][i] = first + i;
			keys[g][i] = key_of(first + i);
		}
		given[g] = (struct index_chain){keys[g], keeps[g]};
	}
	struct index_match matches[NODES];
	uint32_t n = index_match_groups(index, given, count, CHAIN, matches);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(depths[matches[i].node], 0); /* named once */
		depths[matches[i].node] = matches[i].depth;
	}
	for (uint32_t node = 0; node < NODES; node++)
		assert_int_equal(depths[node], model_depth_of_groups(model, node, chains, keeps, count));
}

static void groups_agree_with_an_array(void **state)
{
	static const struct { uint32_t count, keeps[2]; } cases[] = {
		{1, {KV_KEEP_ALL}}, {1, {1}}, {1, {3}}, {1, {CHAIN}}, {2, {KV_KEEP_ALL, 1}}, {2, {KV_KEEP_ALL, 4}},
		{2, {3, KV_KEEP_ALL}}, {2, {KV_KEEP_ALL, 2 * CHAIN}}};
	void *memory;
	struct block_index *index = make(&memory, NODES, BLOCKS_MAX);
	struct model *model = calloc(1, sizeof(*model));
	struct rng rng = {.seed = 11};
	for (int step = 0; step < 10000; step++) {
		random_step(index, model, &rng);
		uint32_t c = (uint32_t)rng_below(&rng, sizeof(cases) / sizeof(cases[0]));
		check_groups(index, model, &rng, cases[c].keeps, cases[c].count);
	}
	free(model);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(longest_prefix_of_each_node_is_found),
		cmocka_unit_test(what_was_heard_before_changes_nothing),
		cmocka_unit_test(gap_stops_events_until_a_reset_and_is_said_once),
		cmocka_unit_test(node_that_goes_holds_nothing_at_once_and_again_when_it_is_back),
		cmocka_unit_test(key_over_the_bound_is_ignored_and_counted),
		cmocka_unit_test(random_events_agree_with_an_array),
		cmocka_unit_test(groups_agree_with_an_array),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
