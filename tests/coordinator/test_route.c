#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "coordinator/route.h"

static struct route_record choose(const struct route_candidate *candidates, uint32_t count, uint32_t context,
				  uint32_t turn)
{
	struct route_weights weights = route_weights_default();
	struct route_query query = {.context = context, .blocks_needed = {4}, .turn = turn};
	struct route_record record;
	bool found = route_choose(&weights, &query, candidates, count, &record);
	assert_int_equal(found, record.prefill != ROUTE_NONE);
	return record;
}

static void prefix_comes_first(void **state)
{
	const struct route_candidate candidates[] = {
		{.node = 1, .prefill = true, .queue_tokens = 100},
		{.node = 2, .prefill = true, .queue_tokens = 400, .cached_tokens = 900},
		{.node = 3, .decode = true},
	};
	struct route_record record = choose(candidates, 3, 1000, 0);
	assert_int_equal(record.prefill, 2);
	assert_int_equal(record.decode, 3);
	assert_int_equal(record.cached, 900);
	assert_int_equal(record.prefill_line[1].node, 1);
	assert_true(record.prefill_line[0].cost < record.prefill_line[1].cost);
}

static void shared_first_block_does_not_collapse_onto_one_node(void **state)
{
	struct route_candidate candidates[] = {
		{.node = 0, .prefill = true, .cached_tokens = 16},
		{.node = 1, .prefill = true},
		{.node = 2, .prefill = true},
		{.node = 3, .prefill = true},
		{.node = 4, .decode = true},
	};
	uint32_t given[4] = {0};
	for (uint32_t i = 0; i < 400; i++) {
		struct route_record record = choose(candidates, 5, 512, i);
		given[record.prefill]++;
		candidates[record.prefill].queue_tokens += 512 - candidates[record.prefill].cached_tokens;
	}
	for (int i = 0; i < 4; i++)
		assert_in_range(given[i], 95, 110);
}

static void equal_costs_rotate(void **state)
{
	const struct route_candidate candidates[] = {
		{.node = 0, .prefill = true}, {.node = 1, .prefill = true}, {.node = 2, .prefill = true},
		{.node = 3, .decode = true},
	};
	uint32_t given[3] = {0};
	for (uint32_t turn = 0; turn < 12; turn++)
		given[choose(candidates, 4, 100, turn).prefill]++;
	for (int i = 0; i < 3; i++)
		assert_true(given[i] >= 3);
}

static void node_to_avoid_is_the_last_resort(void **state)
{
	struct route_candidate candidates[] = {
		{.node = 0, .prefill = true, .avoid = 2, .cached_tokens = 900},
		{.node = 1, .prefill = true, .queue_tokens = 100000},
		{.node = 2, .decode = true},
	};
	assert_int_equal(choose(candidates, 3, 1000, 0).prefill, 1);
	candidates[1].prefill = false;
	struct route_record record = choose(candidates, 3, 1000, 0);
	assert_int_equal(record.prefill, 0);
	assert_int_equal(record.avoid, 2);
}

static void pair_that_is_apart_gives_way_but_is_taken_when_alone(void **state)
{
	struct route_candidate candidates[] = {
		{.node = 0, .prefill = true, .cached_tokens = 900},
		{.node = 1, .prefill = true},
		{.node = 2, .decode = true},
		{.node = 3, .decode = true, .sequences = 50},
	};
	const struct route_apart apart[] = {{0, 2}};
	struct route_weights weights = route_weights_default();
	struct route_query query = {.context = 1000, .blocks_needed = {4}, .apart = apart, .apart_count = 1};
	struct route_record record;
	assert_true(route_choose(&weights, &query, candidates, 2, &record) == false);
	assert_true(route_choose(&weights, &query, candidates, 4, &record));
	assert_false(record.prefill == 0 && record.decode == 2);
	assert_int_equal(record.avoid, 0);
	candidates[1].prefill = candidates[3].decode = false;
	assert_true(route_choose(&weights, &query, candidates, 4, &record));
	assert_int_equal(record.prefill, 0);
	assert_int_equal(record.decode, 2);
	assert_true(record.avoid > 0);
}

/* Pairs of nodes n and n + 16 alone. */
static bool all_but_partners(const void *context, uint32_t prefill, uint32_t decode)
{
	return decode != prefill + *(const uint32_t *)context;
}

static void refused_pair_is_never_chosen_however_far_down_the_other_is(void **state)
{
	const uint32_t apart = 16;
	struct route_candidate candidates[32] = {{0}};
	for (uint32_t i = 0; i < 16; i++) {
		candidates[i] = (struct route_candidate){.node = i, .prefill = true, .queue_tokens = 10 * i};
		candidates[16 + i] = (struct route_candidate){.node = 16 + i, .decode = true, .sequences = 16 - i};
	}
	struct route_weights weights = route_weights_default();
	struct route_query query = {.context = 1000, .blocks_needed = {4}, .refused = all_but_partners, .refused_context = &apart};
	struct route_record record;
	assert_true(route_choose(&weights, &query, candidates, 32, &record));
	assert_int_equal(record.prefill, 15); /* 32 a sequence, 1 a token */
	assert_int_equal(record.decode, 31);
	candidates[15].avoid = 1;
	assert_true(route_choose(&weights, &query, candidates, 32, &record));
	assert_int_equal(record.prefill, 14);
	assert_int_equal(record.decode, 30);
	assert_false(route_choose(&weights, &query, candidates, 16, &record));
	candidates[0].node = 64;
	assert_false(route_choose(&weights, &query, candidates, 17, &record)); /* 64 and 16: not even alone */
}

static void decode_goes_where_there_is_room(void **state)
{
	struct route_candidate candidates[] = {
		{.node = 0, .prefill = true},
		{.node = 1, .decode = true, .sequences = 8, .blocks_free = {80}, .blocks_total = {100}},
		{.node = 2, .decode = true, .sequences = 2, .blocks_free = {80}, .blocks_total = {100}},
		{.node = 3, .decode = true, .sequences = 0, .blocks_free = {3}, .blocks_total = {100}},
	};
	assert_int_equal(choose(candidates, 4, 100, 0).decode, 2); /* 3 cannot hold 4 blocks */
}

static void node_of_both_roles_does_both_when_it_is_alone(void **state)
{
	const struct route_candidate one[] = {{.node = 5, .prefill = true, .decode = true}};
	struct route_record record = choose(one, 1, 100, 0);
	assert_int_equal(record.prefill, 5);
	assert_int_equal(record.decode, 5);
	const struct route_candidate half[] = {{.node = 5, .prefill = true}};
	record = choose(half, 1, 100, 0);
	assert_int_equal(record.prefill, ROUTE_NONE);
	assert_int_equal(record.decode_count, 0);
	assert_int_equal(choose(NULL, 0, 100, 0).prefill, ROUTE_NONE);
}

static void node_of_both_roles_moves_nothing_but_gives_way_when_it_is_busy(void **state)
{
	struct route_candidate candidates[] = {
		{.node = 0, .prefill = true},
		{.node = 1, .decode = true},
		{.node = 2, .prefill = true, .decode = true},
	};
	struct route_record record = choose(candidates, 3, 1000, 0);
	assert_int_equal(record.prefill, 2);
	assert_int_equal(record.decode, 2);
	candidates[2].queue_tokens = 5000;
	candidates[2].sequences = 20;
	record = choose(candidates, 3, 1000, 0);
	assert_int_equal(record.prefill, 0);
	assert_int_equal(record.decode, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefix_comes_first),
		cmocka_unit_test(shared_first_block_does_not_collapse_onto_one_node),
		cmocka_unit_test(equal_costs_rotate),
		cmocka_unit_test(node_to_avoid_is_the_last_resort),
		cmocka_unit_test(pair_that_is_apart_gives_way_but_is_taken_when_alone),
		cmocka_unit_test(refused_pair_is_never_chosen_however_far_down_the_other_is),
		cmocka_unit_test(decode_goes_where_there_is_room),
		cmocka_unit_test(node_of_both_roles_does_both_when_it_is_alone),
		cmocka_unit_test(node_of_both_roles_moves_nothing_but_gives_way_when_it_is_busy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
