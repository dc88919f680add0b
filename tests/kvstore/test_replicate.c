/* Copies of blocks among stores: where they are (against a naive reckoning), and what moves when stores come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fleet.h"

enum { BLOCKS = 1200, STORES = 8 };

static struct fleet *fleet_of(uint32_t stores, uint32_t up, uint32_t replicas, uint64_t rate)
{
	struct fleet_options options = {.stores = stores, .replicas = replicas, .rate = rate};
	for (uint32_t i = 0; i < stores; i++)
		options.weights[i] = 64 + 32 * (i % 3);
	struct fleet *f = fleet_create(&options);
	for (uint32_t i = 0; i < up; i++)
		fleet_start(f, i);
	fleet_run(f, 1000);
	return f;
}

static uint32_t count_owned(struct fleet *f, uint32_t store)
{
	uint32_t count = 0;
	for (uint32_t block = 0; block < BLOCKS; block++)
		count += fleet_owns(f, store, block);
	return count;
}

/* Each owner has its blocks; who is no owner has none, or only spare ones. */
static void check_places(struct fleet *f, uint32_t stores, bool spare_may_be)
{
	for (uint32_t block = 0; block < BLOCKS; block++)
		for (uint32_t i = 0; i < stores; i++) {
			if (!fleet_store(f, i))
				continue;
			bool owns = fleet_owns(f, i, block), has = fleet_has(f, i, block), spare = fleet_has_spare(f, i, block);
			if (owns ? !has || spare : has && !(spare && spare_may_be))
				fail_msg("block %u at store %u: owns %d, has %d, spare %d", block, i, owns, has, spare);
		}
}

static void every_owner_gets_its_copy_once(void **state)
{
	(void)state;
	for (uint32_t replicas = 1; replicas <= 3; replicas++) {
		struct fleet *f = fleet_of(STORES, STORES, replicas, 0);
		fleet_offer(f, 0, BLOCKS);
		fleet_settle(f, 1000);
		check_places(f, STORES, false);
		assert_int_equal(fleet_copied(f), (uint64_t)BLOCKS * (replicas - 1) * FLEET_BLOCK_BYTES);
		assert_int_equal(fleet_moved(f), 0);
		fleet_run(f, 3000); /* and a second look moves nothing */
		if (replicas <= 2) /* with three, two of the owners have not heard of each other, and ask once */
			assert_int_equal(fleet_offers(f), (uint64_t)BLOCKS * replicas);
		assert_int_equal(fleet_copied(f), (uint64_t)BLOCKS * (replicas - 1) * FLEET_BLOCK_BYTES);
		fleet_destroy(f);
	}
}

/* The least: what it owns from now on. */
static void a_store_that_joins_takes_its_share_and_nothing_else_moves(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(STORES, STORES - 1, 2, 0);
	fleet_offer(f, 0, BLOCKS);
	fleet_settle(f, 1000);
	fleet_start(f, STORES - 1);
	fleet_settle(f, 5000);
	fleet_run(f, 4000); /* a second look */
	fleet_settle(f, 1000);
	check_places(f, STORES, true);
	uint64_t least = (uint64_t)count_owned(f, STORES - 1) * FLEET_BLOCK_BYTES;
	assert_true(least > 0);
	assert_int_equal(fleet_moved(f), least); /* the bound is 1.1 times */
	fleet_destroy(f);
}

/* The least: what it owned. */
static void blocks_of_a_lost_store_are_copied_again_and_nothing_else_moves(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(STORES, STORES, 2, 0);
	fleet_offer(f, 0, BLOCKS);
	fleet_settle(f, 1000);
	uint64_t least = (uint64_t)count_owned(f, 3) * FLEET_BLOCK_BYTES;
	fleet_kill(f, 3);
	fleet_run(f, 20); /* nothing moves yet, and nobody says that all is well */
	struct store_status status;
	store_status(fleet_store(f, 4), &status);
	assert_true(status.replicate.missing > 0);
	fleet_settle(f, 5000);
	fleet_run(f, 4000);
	fleet_settle(f, 1000);
	check_places(f, STORES, false);
	assert_true(least > 0);
	assert_int_equal(fleet_moved(f), least); /* the bound is 1.1 times */
	fleet_destroy(f);
}

/* It had what it had: a new session with the same life within the grace. */
static void a_store_that_is_back_in_time_costs_nothing(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(4, 4, 2, 0);
	fleet_offer(f, 0, BLOCKS);
	fleet_settle(f, 1000);
	for (uint32_t i = 0; i < 3; i++)
		fleet_cut(f, i, 3);
	fleet_run(f, 5000);
	fleet_settle(f, 1000);
	check_places(f, 4, false);
	assert_int_equal(fleet_moved(f), 0);
	fleet_destroy(f);
}

/* Copies that were made for a lost store stay as spare ones: it comes back empty, and is lost again, and nothing moves a
 * second time. */
static void spare_copies_save_what_moved_once(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(5, 5, 2, 0);
	fleet_offer(f, 0, BLOCKS);
	fleet_settle(f, 1000);
	fleet_kill(f, 2);
	fleet_settle(f, 5000);
	fleet_start(f, 2);
	fleet_settle(f, 5000);
	fleet_run(f, 4000);
	check_places(f, 5, true);
	uint64_t before = fleet_moved(f);
	fleet_kill(f, 2);
	fleet_settle(f, 5000);
	check_places(f, 5, false);
	assert_int_equal(fleet_moved(f), before);
	fleet_destroy(f);
}

/* Spare blocks make room before any other goes. */
static void spare_blocks_are_the_first_to_go(void **state)
{
	(void)state;
	struct fleet_options options = {.stores = 3, .replicas = 1, .weights = {64, 64, 64}, .slabs = 4};
	struct fleet *f = fleet_create(&options);
	fleet_start(f, 0);
	fleet_run(f, 500);
	fleet_offer(f, 0, 4 * FLEET_SLAB_SLOTS); /* it is full */
	fleet_start(f, 1);
	fleet_start(f, 2);
	fleet_settle(f, 5000);
	fleet_run(f, 4000);
	uint32_t spare = 0, left = 0;
	for (uint32_t block = 0; block < 4 * FLEET_SLAB_SLOTS; block++)
		spare += fleet_has_spare(f, 0, block);
	assert_in_range(spare, 250, 450); /* two thirds of 512 */
	fleet_offer(f, 1000, 300);
	fleet_settle(f, 1000);
	for (uint32_t block = 0; block < 4 * FLEET_SLAB_SLOTS; block++) {
		left += fleet_has_spare(f, 0, block);
		assert_true(!fleet_owns(f, 0, block) || fleet_has(f, 0, block));
	}
	assert_true(left < spare);
	fleet_destroy(f);
}

static void copies_are_made_at_the_pace_that_is_allowed(void **state)
{
	(void)state;
	enum { RATE = 40000 };
	struct fleet *f = fleet_of(4, 4, 2, RATE);
	fleet_offer(f, 0, BLOCKS); /* not paced */
	fleet_settle(f, 2000);
	assert_int_equal(fleet_copied(f), (uint64_t)BLOCKS * FLEET_BLOCK_BYTES);
	uint64_t bytes = (uint64_t)count_owned(f, 1) * FLEET_BLOCK_BYTES;
	fleet_kill(f, 1);
	fleet_run(f, 480); /* nearly the grace */
	uint64_t passed = 0;
	for (; fleet_moved(f) < bytes; passed += 20) {
		/* Three stores at this rate, a tenth of a second ahead, and a block each. */
		assert_true(fleet_moved(f) <= 3 * (RATE * passed / 1000 + RATE / 10 + 2 * FLEET_BLOCK_BYTES));
		fleet_run(f, 20);
		assert_true(passed < 20000);
	}
	assert_true(passed >= 1000 * bytes / (3 * RATE) - 300);
	fleet_destroy(f);
}

/* Each look-up is over long before the next tick, and no tick comes without one before it. */
static void copies_yield_to_look_ups(void **state)
{
	(void)state;
	enum { RATE = 40000 };
	struct fleet *f = fleet_of(4, 4, 2, RATE);
	fleet_offer(f, 0, BLOCKS);
	fleet_settle(f, 2000);
	fleet_kill(f, 1);
	fleet_run(f, 480); /* nearly the grace */
	for (uint64_t passed = 0; passed < 2000; passed += 18) {
		for (uint32_t store = 0; store < 4; store++)
			if (store != 1)
				fleet_look_up(f, store, (uint32_t)passed / 18); /* takes 2 ms */
		assert_true(fleet_moved(f) <= 3 * (RATE / 4 * (passed + 20) / 1000 + RATE / 10 + 2 * FLEET_BLOCK_BYTES));
		fleet_run(f, 12);
	}
	assert_true(fleet_moved(f) > 3 * RATE / 4); /* half of that time */
	fleet_destroy(f);
}

/* Reads of one store fail for a while: its blocks are given up, count as missing, and are tried again with the next look. */
static void what_could_not_be_copied_is_tried_again(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(2, 2, 2, 0);
	sim_read_faults(fleet_sim(f), 2, 1, SIM_READ_CORRUPT, 1000, 20000 * MS);
	sim_read_faults(fleet_sim(f), 1, 2, SIM_READ_CORRUPT, 1000, 20000 * MS);
	fleet_offer(f, 0, 40);
	fleet_run(f, 3000);
	uint64_t missing = 0, given_up = 0;
	for (uint32_t i = 0; i < 2; i++) {
		struct store_status status;
		store_status(fleet_store(f, i), &status);
		missing += status.replicate.missing;
		given_up += status.replicate.given_up;
		assert_int_equal(status.replicate.in_flight, 0); /* it is not tried for ever */
	}
	assert_int_equal(missing, 40);
	assert_true(given_up >= 40 && given_up % 40 == 0); /* once a look */
	sim_heal(fleet_sim(f));
	fleet_settle(f, 15000);
	for (uint32_t block = 0; block < 40; block++)
		assert_true(fleet_has(f, 0, block) && fleet_has(f, 1, block));
	fleet_destroy(f);
}

static void drain(struct fleet *f, uint32_t store)
{
	store_drain(fleet_store(f, store), fleet_local(f, store));
	for (uint32_t tries = 0; !store_drained(fleet_store(f, store)); tries++) {
		if (tries > 200)
			fail_msg("not drained");
		fleet_run(f, 20);
	}
}

/* With one copy all of it is only there. */
static void a_store_that_leaves_hands_over_what_only_it_has(void **state)
{
	(void)state;
	for (uint32_t replicas = 1; replicas <= 2; replicas++) {
		struct fleet *f = fleet_of(4, 4, replicas, 1); /* the pace does not hold it up */
		fleet_offer(f, 0, BLOCKS);
		fleet_run(f, 2000);
		uint64_t before = fleet_copied(f);
		drain(f, 2);
		uint64_t handed = fleet_copied(f) - before;
		fleet_kill(f, 2);
		for (uint32_t block = 0; block < BLOCKS; block++)
			assert_true(fleet_has(f, 0, block) || fleet_has(f, 1, block) || fleet_has(f, 3, block));
		assert_true(replicas == 1 ? handed > 0 : handed == 0); /* with two, somebody else has it */
		fleet_destroy(f);
	}
}

/* In a rolling restart the one before is a member again before its session is there. */
static void who_leaves_waits_for_a_member_that_it_has_not_met(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(2, 2, 1, 0);
	fleet_offer(f, 0, 50);
	fleet_settle(f, 1000);
	drain(f, 1);
	fleet_kill(f, 1); /* and its key is still there */
	fleet_run(f, 200);
	store_drain(fleet_store(f, 0), fleet_local(f, 0));
	fleet_run(f, 2000);
	assert_false(store_drained(fleet_store(f, 0)));
	fleet_start(f, 1);
	drain(f, 0);
	for (uint32_t block = 0; block < 50; block++)
		assert_true(fleet_has(f, 1, block));
	fleet_kill(f, 0);
	fleet_forget(f, 0);
	drain(f, 1); /* there is nobody to wait for */
	fleet_destroy(f);
}

static void the_last_store_leaves_at_once(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(2, 2, 1, 0);
	fleet_offer(f, 0, 50);
	drain(f, 0);
	drain(f, 1);
	fleet_destroy(f);
}

/* It goes and comes while copies are on their way: at the end everything is where it belongs. */
static void stores_that_come_and_go_at_once_end_with_every_copy_in_place(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(6, 4, 2, 200000);
	fleet_offer(f, 0, BLOCKS);
	fleet_settle(f, 2000);
	fleet_start(f, 4);
	fleet_run(f, 700);
	fleet_start(f, 5);
	fleet_run(f, 400);
	drain(f, 0);
	fleet_kill(f, 0);
	fleet_run(f, 300);
	fleet_start(f, 0);
	fleet_settle(f, 20000);
	fleet_run(f, 4000);
	fleet_settle(f, 20000);
	check_places(f, 6, true);
	fleet_destroy(f);
}

static uint32_t copies_of(struct fleet *f, uint32_t stores, uint32_t block)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < stores; i++)
		count += fleet_has(f, i, block);
	return count;
}

static void a_block_that_is_often_found_gets_more_copies(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(6, 6, 2, 0);
	fleet_offer(f, 0, 100);
	fleet_settle(f, 1000);
	uint32_t owner = 0;
	while (!fleet_owns(f, owner, 7))
		owner++;
	for (uint32_t i = 0; i + 1 < REPLICATE_HOT_FINDS; i++)
		fleet_look_up(f, owner, 7);
	fleet_run(f, 200);
	assert_int_equal(copies_of(f, 6, 7), 2);
	for (uint32_t i = 0; i < 9 * REPLICATE_HOT_FINDS; i++)
		for (uint32_t store = owner; store < 6; store++)
			if (fleet_owns(f, store, 7))
				fleet_look_up(f, store, 7);
	fleet_run(f, 200);
	assert_int_equal(copies_of(f, 6, 7), 2 + REPLICATE_HOT_MAX);
	for (uint32_t block = 0; block < 100; block++)
		assert_true(block == 7 || copies_of(f, 6, block) == 2);
	fleet_destroy(f);
}

/* Half of the blocks: who owns them, comings, goings and losses; and once they are not of low priority any more. */
static void a_block_of_low_priority_has_one_copy(void **state)
{
	(void)state;
	struct fleet *f = fleet_of(STORES, STORES - 1, 2, 0);
	fleet_offer_low(f, 0, BLOCKS / 2);
	fleet_offer(f, BLOCKS / 2, BLOCKS / 2);
	fleet_settle(f, 1000);
	check_places(f, STORES, false);
	assert_int_equal(fleet_copied(f), (uint64_t)BLOCKS / 2 * FLEET_BLOCK_BYTES);
	fleet_start(f, STORES - 1);
	fleet_settle(f, 5000);
	fleet_run(f, 4000);
	fleet_settle(f, 1000);
	check_places(f, STORES, true);
	assert_int_equal(fleet_moved(f), (uint64_t)count_owned(f, STORES - 1) * FLEET_BLOCK_BYTES);
	drain(f, 2); /* hands over what only it has, and the others make what is scarce then */
	fleet_kill(f, 2);
	fleet_settle(f, 5000);
	check_places(f, STORES, true);
	fleet_kill(f, 4);
	fleet_settle(f, 5000);
	fleet_run(f, 4000);
	fleet_settle(f, 1000);
	uint32_t lost = 0;
	for (uint32_t block = 0; block < BLOCKS; block++) {
		uint32_t copies = copies_of(f, STORES, block);
		lost += copies == 0;
		assert_true(copies > 0 || block < BLOCKS / 2);
	}
	assert_in_range(lost, 1, BLOCKS / 2 / 4); /* what only the one that died had */
	fleet_offer_again(f, 0, BLOCKS / 2);
	fleet_settle(f, 1000);
	check_places(f, STORES, true);
	fleet_destroy(f);
}

/* Entries that no block ever had are not looked at, however many there may be. */
static void a_look_is_as_long_as_there_are_blocks(void **state)
{
	(void)state;
	uint32_t steps[2] = {0};
	for (uint32_t large = 0; large < 2; large++) {
		struct fleet_options options = {.stores = 3, .replicas = 2, .entries = large ? 1 << 18 : 0, .weights = {1, 1, 1}};
		struct fleet *f = fleet_create(&options);
		struct store_status status = {.draining = false};
		for (uint32_t i = 0; i < 3; i++)
			fleet_start(f, i);
		fleet_run(f, 1000);
		fleet_offer(f, 0, 200);
		fleet_settle(f, 1000);
		fleet_kill(f, 2);
		do {
			fleet_run(f, 5);
			store_status(fleet_store(f, 0), &status);
			steps[large]++;
		} while (status.replicate.missing > 0);
		fleet_destroy(f);
	}
	assert_int_equal(steps[0], steps[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_owner_gets_its_copy_once),
		cmocka_unit_test(a_store_that_joins_takes_its_share_and_nothing_else_moves),
		cmocka_unit_test(blocks_of_a_lost_store_are_copied_again_and_nothing_else_moves),
		cmocka_unit_test(a_store_that_is_back_in_time_costs_nothing),
		cmocka_unit_test(spare_copies_save_what_moved_once),
		cmocka_unit_test(spare_blocks_are_the_first_to_go),
		cmocka_unit_test(copies_are_made_at_the_pace_that_is_allowed),
		cmocka_unit_test(copies_yield_to_look_ups),
		cmocka_unit_test(what_could_not_be_copied_is_tried_again),
		cmocka_unit_test(a_store_that_leaves_hands_over_what_only_it_has),
		cmocka_unit_test(who_leaves_waits_for_a_member_that_it_has_not_met),
		cmocka_unit_test(the_last_store_leaves_at_once),
		cmocka_unit_test(stores_that_come_and_go_at_once_end_with_every_copy_in_place),
		cmocka_unit_test(a_block_that_is_often_found_gets_more_copies),
		cmocka_unit_test(a_block_of_low_priority_has_one_copy),
		cmocka_unit_test(a_look_is_as_long_as_there_are_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
