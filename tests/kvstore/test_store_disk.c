/* What a store with a disk says to look-ups: of blocks in memory at once, of those on disk when they are there. */
#include <stdlib.h>

#include "tests/kvstore/store_disk_world.h"

static void block_that_memory_evicted_comes_back_from_disk(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + 4);
	lookup(w, 1, 1, (uint8_t[]){IN_MEMORY + 2, 0, 1, 150}, 4);
	const struct sent *first = found(w, 1, 0);
	assert_int_equal(first->blocks, 1); /* the one in memory, at once */
	assert_true(first->more);
	check_bytes(w, &first->place[0], (uint8_t)(IN_MEMORY + 2));
	run(w);
	uint32_t blocks = 0;
	bool ended = false;
	for (uint32_t n = 1; found(w, 1, n); n++) {
		const struct sent *later = found(w, 1, n);
		assert_false(ended);
		for (uint32_t i = 0; i < later->blocks; i++, blocks++)
			check_bytes(w, &later->place[i], (uint8_t)(later->index[i] - 1));
		ended = !later->more;
	}
	assert_int_equal(blocks, 2);
	assert_true(ended);
	assert_int_equal(status_of(w).counters.disk_hits, 2);
	assert_int_equal(store_held_for(w->store, 10), 3);
	release(w, 1, 1);
	assert_int_equal(store_held_for(w->store, 10), 0);
}

static void blocks_outlive_the_process(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, 10);
	restart(w, true);
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	uint8_t keys[10];
	for (uint8_t i = 0; i < 10; i++)
		keys[i] = i;
	lookup(w, 1, 5, keys, 10);
	run(w);
	uint32_t blocks = 0;
	for (uint32_t n = 0; found(w, 5, n); n++)
		blocks += found(w, 5, n)->blocks;
	assert_int_equal(blocks, 10);
	offer(w, 1, 2003, 3);
	assert_int_equal(answers(w, 2003, ERR_EXISTS), 1);
}

static void wrong_bytes_on_disk_are_a_miss(void **state)
{
	struct world *w = *state;
	disk_world_of(w)->may_lose = true;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + 4);
	crash_disk_page(&disk_world_of(w)->disk, 0, 2)[3] ^= 8; /* the first block's payload */
	lookup(w, 1, 1, (uint8_t[]){0}, 1);
	assert_true(found(w, 1, 0)->more);
	run(w);
	assert_int_equal(found(w, 1, 1)->blocks, 0);
	assert_false(found(w, 1, 1)->more);
	assert_int_equal(store_held_for(w->store, 10), 0);
	assert_int_equal(status_of(w).lookups, 0);
	assert_int_equal(status_of(w).disk.counters.gone[DISK_GONE_BAD], 1);
	offer(w, 1, 2000, 0); /* it may come again */
	run(w);
	assert_int_equal(answers(w, 2000, ERR_OK), 1);
}

static void two_look_ups_share_one_load(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 20, WIRE__ROLE__ROLE_DECODE);
	put(w, 0, IN_MEMORY + 4);
	uint64_t loads = status_of(w).disk.counters.loads;
	lookup(w, 1, 1, (uint8_t[]){0}, 1);
	lookup(w, 2, 2, (uint8_t[]){0}, 1);
	run(w);
	assert_int_equal(status_of(w).disk.counters.loads, loads + 1);
	assert_int_equal(found(w, 1, 1)->blocks, 1);
	assert_int_equal(found(w, 2, 1)->blocks, 1);
	store_closed(w->store, 1, w->now);
	assert_int_equal(store_held_for(w->store, 10), 0);
	assert_int_equal(store_held_for(w->store, 20), 1);
}

static void look_up_that_is_over_is_told_nothing_more(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 20, WIRE__ROLE__ROLE_DECODE);
	put(w, 0, IN_MEMORY + 4);
	lookup(w, 1, 1, (uint8_t[]){0}, 1);
	lookup(w, 2, 2, (uint8_t[]){1}, 1);
	release(w, 1, 1);
	store_closed(w->store, 2, w->now);
	store_check(w->store);
	run(w);
	assert_null(found(w, 1, 1));
	assert_null(found(w, 2, 1));
	assert_int_equal(status_of(w).lookups, 0);
	assert_int_equal(status_of(w).holds, 0);
	/* What came all the same is in memory, and the first to go. */
	join(w, 2, 20, WIRE__ROLE__ROLE_DECODE);
	lookup(w, 2, 3, (uint8_t[]){0, 1}, 2);
	assert_int_equal(found(w, 3, 0)->blocks, 2);
}

static void block_of_another_compat_is_not_told(void **state)
{
	struct world *w = *state;
	uint8_t other[16] = {1};
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + 4);
	lookup_as(w, 1, 1, (uint8_t[]){0}, 1, other);
	run(w);
	uint32_t blocks = 0;
	for (uint32_t n = 0; found(w, 1, n); n++)
		blocks += found(w, 1, n)->blocks;
	assert_int_equal(blocks, 0);
	assert_int_equal(store_held_for(w->store, 10), 0);
}

static void memory_full_of_held_blocks_means_less_is_found(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, 2 * IN_MEMORY);
	uint8_t keys[2 * IN_MEMORY];
	for (uint8_t i = 0; i < 2 * IN_MEMORY; i++)
		keys[i] = 2 * IN_MEMORY - 1 - i;
	lookup(w, 1, 1, keys, IN_MEMORY); /* all that is in memory is held */
	lookup(w, 1, 2, keys + IN_MEMORY, 4);
	run(w);
	assert_int_equal(found(w, 1, 0)->blocks, IN_MEMORY);
	assert_int_equal(found(w, 2, 0)->blocks, 0);
	assert_false(found(w, 2, 0)->more);
}

/* All that may be in memory is held; what is on disk does not come back, and that is no offer refused. */
static void look_up_that_a_quota_keeps_on_disk_is_no_refused_offer(void **state)
{
	struct world *w = *state;
	w->options.ledger.quotas = &(const struct tenant_quota){"small", 4 * BLOCK_BYTES};
	w->options.ledger.quota_count = 1;
	restart(w, false);
	tenant = "small";
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, 8);
	lookup(w, 1, 1, (uint8_t[]){7, 6, 5, 4}, 4);
	lookup(w, 1, 2, (uint8_t[]){0, 1}, 2);
	run(w);
	assert_int_equal(found_blocks(w, 1), 4);
	assert_int_equal(found_blocks(w, 2), 0);
	assert_int_equal(status_of(w).ledger.refused, 0);
	offer(w, 1, 1009, 9);
	run(w);
	tenant = "";
	assert_int_equal(answers(w, 1009, ERR_AGAIN), 1);
	assert_int_equal(status_of(w).ledger.refused, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name, how) cmocka_unit_test_setup_teardown(name, disk_setup_##how, disk_teardown)
		T(block_that_memory_evicted_comes_back_from_disk, behind),
		T(blocks_outlive_the_process, behind),
		T(wrong_bytes_on_disk_are_a_miss, behind),
		T(two_look_ups_share_one_load, behind),
		T(look_up_that_is_over_is_told_nothing_more, behind),
		T(block_of_another_compat_is_not_told, behind),
		T(memory_full_of_held_blocks_means_less_is_found, behind),
		T(look_up_that_a_quota_keeps_on_disk_is_no_refused_offer, behind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
