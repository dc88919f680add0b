#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/kvstore/disk_world.h"

static void block_is_found_when_it_is_durable_and_not_before(void **state)
{
	struct disk_world *w = *state;
	assert_true(world_put(w, 7));
	while (w->durable == 0) {
		assert_false(world_has(w, 7));
		world_step(w);
	}
	assert_true(w->disk.syncs > 0);
	assert_true(world_has(w, 7));
	assert_int_equal(world_load_now(w, 7), ERR_OK);
	assert_int_equal(world_load_now(w, 8), ERR_NOT_FOUND);
	assert_false(world_put(w, 7)); /* EXISTS */
}

static void durable_blocks_survive_the_loss_of_power(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 10; i++)
		assert_true(world_put_now(w, i));
	world_restart(w, true);
	world_until_ready(w);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(world_load_now(w, i), ERR_OK);
	assert_int_equal(world_status(w).counters.recovered, 10);
	assert_true(world_status(w).counters.recovered_scanned > 0 && world_status(w).counters.recovered_scanned < 10);
}

static void start_with_footers_reads_no_records(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	for (int start = 0; start < 2; start++) { /* the first one seals what was open */
		w->disk.reads = 0;
		world_restart(w, true);
		world_until_ready(w);
	}
	assert_int_equal(world_status(w).counters.recovered, 16);
	assert_int_equal(world_status(w).counters.recovered_scanned, 0);
	uint64_t used = WORLD_SEGMENTS - world_status(w).segments_free;
	assert_int_equal(w->disk.reads, 2 * WORLD_SEGMENTS + used); /* head, trailer; footer */
	world_check_all(w);
}

static void error_of_a_write_stops_writing_for_a_while(void **state)
{
	struct disk_world *w = *state;
	assert_true(world_put_now(w, 1));
	w->disk.fail_at = w->disk.submitted + 1;
	assert_false(world_put_now(w, 2));
	assert_int_equal(world_status(w).stopped, ERR_IO);
	assert_false(world_put(w, 3));
	assert_int_equal(world_load_now(w, 1), ERR_OK); /* reads go on */
	w->now_ns += DISK_RETRY_NS;
	disk_tick(w->tier, w->now_ns);
	assert_true(world_put_now(w, 3));
	assert_int_equal(world_status(w).stopped, ERR_OK);
	world_restart(w, true);
	world_until_ready(w);
	assert_int_equal(world_load_now(w, 1), ERR_OK);
	assert_int_equal(world_load_now(w, 3), ERR_OK);
}

static void disk_that_stays_full_is_tried_ever_more_rarely(void **state)
{
	struct disk_world *w = *state;
	w->disk.fail_at = w->disk.submitted + 1;
	w->disk.fail_on = true;
	uint32_t tries = 0;
	for (uint32_t i = 0; i < 120000; i++) { /* two minutes */
		uint64_t before = w->disk.submitted;
		world_put(w, 5);
		w->now_ns += MS;
		disk_tick(w->tier, w->now_ns);
		while (w->disk.pending_count > 0)
			world_step(w);
		tries += w->disk.submitted > before;
	}
	assert_in_range(tries, 5, 9); /* after 1, 2, 4, 8, 16, 32 and 60 seconds */
}

static void full_disk_keeps_what_was_hit(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 400; i++) {
		assert_true(world_put_now(w, i));
		if (i >= 20)
			assert_int_equal(world_load_now(w, 19), ERR_OK); /* in every round */
	}
	struct disk_status status = world_status(w);
	assert_true(world_has(w, 19));
	assert_true(status.counters.kept > 0);
	assert_true(status.counters.gone[DISK_GONE_ROOM] > 200);
	assert_true(status.blocks > 20);
	world_check_all(w);
}

static void writes_are_amplified_no_more_than_was_allowed(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 1500; i++) {
		assert_true(world_put_now(w, i));
		for (uint32_t k = 0; k < 60; k++) /* all that is there is hit */
			if (i >= k)
				world_load_now(w, i - k);
	}
	struct disk_status status = world_status(w);
	assert_true(status.counters.kept > 100);
	/* What was saved of the allowance may be spent at once: two segments. */
	assert_true(status.counters.bytes_moved <= status.counters.bytes_put / 2 + 2 * w->options.segment_bytes);
	assert_true(status.counters.bytes_moved > status.counters.bytes_put / 8);
	world_check_all(w);
}

static void writes_keep_to_their_rate(void **state)
{
	struct disk_world *w = *state;
	w->options.write_rate = 1 << 20;
	world_restart(w, false);
	world_until_ready(w);
	uint64_t from_ns = w->now_ns, from = world_status(w).counters.bytes_put;
	uint32_t block = 0;
	while (w->now_ns < from_ns + 4000 * MS) {
		block += world_put(w, block);
		world_step(w);
	}
	uint64_t bytes = world_status(w).counters.bytes_put - from;
	assert_in_range(bytes, 7u << 19, 9u << 19); /* 4 MiB in four seconds */
}

static void full_index_makes_room_too(void **state)
{
	struct disk_world *w = *state;
	w->options.block_max = WORLD_PUT_MAX + 8 + 10;
	world_restart(w, false);
	world_until_ready(w);
	for (uint32_t i = 0; i < 200; i++) {
		assert_true(world_put_now(w, i));
		assert_true(world_has(w, i));
	}
	world_walk(w, 6000, 400);
	world_check_all(w);
}

static void scrubbing_finds_what_nobody_asked_for(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	w->options.scrub_rate = 1 << 20;
	world_restart(w, false);
	world_until_ready(w);
	for (uint32_t i = 0; i < 8; i++)
		assert_true(world_put_now(w, i));
	crash_disk_page(&w->disk, 0, 2)[99] ^= 4;
	for (int i = 0; i < 2000; i++) {
		w->now_ns += MS;
		disk_tick(w->tier, w->now_ns);
		while (w->disk.pending_count > 0)
			world_step(w);
	}
	assert_int_equal(w->gone[DISK_GONE_BAD], 1);
	assert_false(world_has(w, 0));
	assert_in_range(world_status(w).counters.bytes_scrubbed, 3u << 19, 3u << 20);
}

static void forgotten_block_is_not_found(void **state)
{
	struct disk_world *w = *state;
	assert_true(world_put_now(w, 7));
	assert_int_equal(world_forget(w, 7), ERR_OK);
	assert_int_equal(world_forget(w, 7), ERR_NOT_FOUND);
	assert_false(world_has(w, 7));
	assert_true(world_put_now(w, 7));
}

static void block_that_is_too_large_is_refused(void **state)
{
	struct disk_world *w = *state;
	uint64_t digests[2] = {1, 2};
	struct ledger_block block = {.layer_count = 2, .layer_bytes = WORLD_RECORD_PAGES_MAX * DISK_PAGE_BYTES / 2, .digests = digests};
	assert_int_equal(disk_put(w->tier, &block, 0, 0), ERR_TOO_LARGE);
	block.layer_bytes = 0;
	assert_int_equal(disk_put(w->tier, &block, 0, 0), ERR_TOO_LARGE);
}

/* ---- walks */

static void any_walk_with_crashes_keeps_what_is_durable(void **state)
{
	(void)state;
	uint64_t recovered = 0, scanned = 0, moved = 0;
	for (uint64_t seed = 0; seed < 60; seed++) {
		struct disk_world *w = malloc(sizeof(*w));
		world_init(w, seed);
		for (int life = 0; life < 8; life++) {
			world_walk(w, 200 + (uint32_t)rng_below(&w->rng, 900), 300);
			struct disk_status status = world_status(w);
			recovered += status.counters.recovered;
			scanned += status.counters.recovered_scanned;
			moved += status.counters.kept;
			if (life % 2)
				world_check_all(w);
			world_restart(w, rng_below(&w->rng, 2));
			world_until_ready(w);
			world_believe(w);
			world_check_all(w);
		}
		world_fini(w);
		free(w);
	}
	assert_true(recovered > scanned && scanned > 300 && moved > 100);
}

/* Together; those that failed once more, when the disk is tried again. */
static void put_three(struct disk_world *w, uint32_t first)
{
	for (uint32_t try = 0; try < 3; try++) {
		uint32_t put = 0;
		for (uint32_t i = first; i < first + 3; i++)
			put += !world_has(w, i) && world_put(w, i);
		world_until_quiet(w);
		if (put == 0)
			return;
		w->now_ns += DISK_RETRY_MAX_NS;
		disk_tick(w->tier, w->now_ns);
	}
}

/* A story that starts, opens, fills, seals, empties, moves and loads; returns how many operations it takes.  fail_at: one of
 * them. */
static uint64_t story(struct disk_world *w, uint64_t fail_at)
{
	uint64_t from = w->disk.submitted;
	w->disk.fail_at = fail_at ? from + fail_at : 0;
	world_restart(w, false);
	for (uint32_t i = 0; i < 72; i += 3) {
		put_three(w, i);
		for (uint32_t k = 3; k < 6; k++)
			if (i >= k && world_has(w, i - k))
				world_load_now(w, i - k);
	}
	world_until_quiet(w);
	return w->disk.submitted - from;
}

static void every_operation_may_fail(uint64_t seed)
{
	struct disk_world *w = malloc(sizeof(*w));
	world_init(w, seed);
	uint64_t count = story(w, 0);
	struct disk_status status = world_status(w);
	assert_true(status.counters.kept > 3 && status.counters.segments_emptied > 3);
	world_fini(w);
	for (uint64_t k = 1; k <= count; k++) {
		world_init(w, seed);
		story(w, k);
		assert_int_equal(w->disk.struck, 1);
		assert_true(w->durable >= 72);
		world_check_all(w);
		world_restart(w, true);
		world_until_ready(w);
		world_check_all(w);
		world_fini(w);
	}
	free(w);
}

static void every_operation_may_fail_once(void **state)
{
	(void)state;
	every_operation_may_fail(5);
}

static void every_operation_may_fail_once_where_blocks_are_encoded(void **state)
{
	(void)state;
	every_operation_may_fail(7);
}

/* Heads, then trailers, then footers: none waits for one before it, and of each there is one read. */
static void start_reads_as_many_segments_at_a_time_as_loads(void **state)
{
	struct disk_world *w = *state;
	uint32_t block = 0, batches = 0, reads = 0;
	while (world_status(w).counters.segments_sealed < 6)
		assert_true(world_put_now(w, block++));
	world_until_quiet(w);
	world_restart(w, false);
	world_until_ready(w); /* the open one has a footer now */
	w->options.read_max = WORLD_SEGMENTS / 2;
	world_restart(w, false);
	while (!world_status(w).ready) {
		batches += w->disk.pending_count == w->options.read_max;
		reads++;
		world_step(w);
	}
	assert_int_equal(batches, 2 + 2 + world_status(w).counters.segments_sealed + 1);
	assert_in_range(reads, 2 * WORLD_SEGMENTS + 6, 2 * WORLD_SEGMENTS + 7);
	world_check_all(w);
}

static void every_operation_of_a_start_may_fail_once(void **state)
{
	(void)state;
	struct disk_world *w = malloc(sizeof(*w));
	uint64_t count = 1;
	for (uint64_t k = 0; k <= count; k++) {
		world_init(w, 7);
		for (uint32_t i = 0; i < 30; i++)
			assert_true(world_put_now(w, i));
		uint64_t from = w->disk.submitted;
		w->disk.fail_at = k ? from + k : 0;
		world_restart(w, true);
		world_until_ready(w);
		count = k ? count : w->disk.submitted - from;
		world_check_all(w);
		world_fini(w);
	}
	assert_true(count > 20);
	free(w);
}

static void disk_may_die_at_every_operation(void **state)
{
	(void)state;
	struct disk_world *w = malloc(sizeof(*w));
	world_init(w, 5);
	uint64_t count = story(w, 0);
	world_fini(w);
	for (uint64_t k = 1; k <= count; k += 3) {
		world_init(w, 5);
		w->disk.fail_on = true;
		w->may_lose = true; /* nothing can be read either */
		story(w, k);
		w->disk.fail_at = 0;
		w->may_lose = false;
		world_restart(w, true);
		world_until_ready(w);
		world_check_all(w);
		world_fini(w);
	}
	free(w);
}

static void power_may_be_lost_at_every_operation(void **state)
{
	(void)state;
	struct disk_world *w = malloc(sizeof(*w));
	world_init(w, 6);
	uint64_t count = story(w, 0);
	world_fini(w);
	for (uint64_t k = 1; k <= count; k++) {
		world_init(w, 6);
		uint32_t block = 0;
		while (w->disk.submitted < k) {
			if (world_status(w).ready && block < WORLD_BLOCKS)
				block += world_put(w, block);
			if (block > 4 && world_has(w, block - 4))
				world_load(w, block - 4);
			world_step(w);
		}
		world_restart(w, true);
		world_until_ready(w);
		world_believe(w);
		world_check_all(w);
		for (uint32_t i = 0; i < 8; i++) /* and it goes on */
			world_put_now(w, 500 + i);
		world_restart(w, k % 2);
		world_until_ready(w);
		world_check_all(w);
		world_fini(w);
	}
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
		T(block_is_found_when_it_is_durable_and_not_before),
		T(durable_blocks_survive_the_loss_of_power),
		T(start_with_footers_reads_no_records),
		T(error_of_a_write_stops_writing_for_a_while),
		T(disk_that_stays_full_is_tried_ever_more_rarely),
		T(full_disk_keeps_what_was_hit),
		T(writes_are_amplified_no_more_than_was_allowed),
		T(writes_keep_to_their_rate),
		T(full_index_makes_room_too),
		T(scrubbing_finds_what_nobody_asked_for),
		T(forgotten_block_is_not_found),
		T(block_that_is_too_large_is_refused),
		cmocka_unit_test(any_walk_with_crashes_keeps_what_is_durable),
		cmocka_unit_test(every_operation_may_fail_once),
		T(start_reads_as_many_segments_at_a_time_as_loads),
		cmocka_unit_test(every_operation_may_fail_once_where_blocks_are_encoded),
		cmocka_unit_test(every_operation_of_a_start_may_fail_once),
		cmocka_unit_test(disk_may_die_at_every_operation),
		cmocka_unit_test(power_may_be_lost_at_every_operation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
