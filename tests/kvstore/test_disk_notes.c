/* What is noted of blocks on disk: that they were forgotten, how they are pinned.  Over a disk that loses and tears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kvstore/disk_format.h"
#include "tests/kvstore/disk_world.h"

static enum ledger_pin pin_of(const struct disk_world *w, uint32_t block)
{
	struct id128 key = world_key(block);
	struct disk_found found;
	assert_true(disk_find(w->tier, &key, &found));
	return found.pin;
}

static void restart(struct disk_world *w, bool power)
{
	world_restart(w, power);
	world_until_ready(w);
}

static void forgotten_block_does_not_come_back(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	assert_true(world_status(w).counters.segments_sealed > 0);
	world_forget_now(w, 0); /* of a sealed segment */
	world_forget_now(w, 15); /* of the open one */
	for (int start = 0; start < 4; start++) {
		restart(w, start % 2);
		assert_false(world_has(w, 0));
		assert_false(world_has(w, 15));
		assert_int_equal(world_status(w).blocks, 14);
		assert_int_equal(world_status(w).counters.recovered, 14);
		world_check_all(w);
	}
}

/* Its segment is read record by record, after the one with the note. */
static void forgotten_block_does_not_come_back_without_a_footer(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	world_forget_now(w, 0);
	for (uint32_t i = 16; i < 32; i++)
		assert_true(world_put_now(w, i));
	assert_true(world_status(w).counters.segments_sealed > 2);
	crash_disk_page(&w->disk, 0, WORLD_SEGMENT_PAGES - 2)[40] ^= 1;
	for (int start = 0; start < 2; start++) {
		restart(w, false);
		assert_false(world_has(w, 0));
		assert_true(world_has(w, 1));
	}
	world_check_all(w);
}

static void forgotten_block_may_be_put_again(void **state)
{
	struct disk_world *w = *state;
	assert_true(world_put_now(w, 3));
	for (uint32_t turn = 0; turn < 5; turn++) {
		world_forget_now(w, 3);
		assert_true(world_put_now(w, 3));
		restart(w, turn % 2);
		assert_true(world_has(w, 3));
		assert_int_equal(world_load_now(w, 3), ERR_OK);
	}
	world_forget_now(w, 3);
	restart(w, true);
	assert_false(world_has(w, 3));
}

static void block_on_its_way_is_not_forgotten(void **state)
{
	struct disk_world *w = *state;
	assert_true(world_put(w, 3));
	assert_int_equal(world_forget(w, 3), ERR_BUSY);
	world_until_quiet(w);
	assert_int_equal(world_forget(w, 3), ERR_OK);
	assert_int_equal(world_forget(w, 4), ERR_NOT_FOUND);
}

static void nothing_is_forgotten_before_it_is_durable(void **state)
{
	struct disk_world *w = *state;
	assert_true(world_put_now(w, 3));
	uint64_t syncs = w->disk.syncs;
	struct id128 key = world_key(3);
	uint64_t note = 0;
	assert_int_equal(disk_forget(w->tier, &key, &note), ERR_OK);
	assert_false(disk_noted(w->tier, note));
	while (!disk_noted(w->tier, note))
		world_step(w);
	assert_true(w->disk.syncs > syncs);
}

/* The note outlives its own segment, as long as the record may be found; and no longer. */
static void notes_go_when_nothing_needs_them(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 12; i++)
		assert_true(world_put_now(w, i));
	world_forget_now(w, 1);
	assert_int_equal(world_status(w).notes, 1);
	for (uint32_t i = 100; i < 500; i++) {
		assert_true(world_put_now(w, i));
		if (i % 20 == 0) {
			restart(w, i % 40 == 0);
			assert_false(world_has(w, 1));
		}
	}
	assert_int_equal(world_status(w).notes, 0);
	assert_true(world_status(w).counters.segments_emptied > 0);
}

/* More than there is room for: the oldest segments go, and the notes with them. */
static void notes_are_bounded(void **state)
{
	struct disk_world *w = *state;
	uint32_t refused = 0, forgotten = 0;
	for (uint32_t i = 0; i < 600; i++) {
		assert_true(world_put_now(w, i));
		if (i < 4 || i % 3)
			continue;
		enum err e = world_forget(w, i - 4);
		assert_true(e == ERR_OK || e == ERR_AGAIN || e == ERR_NOT_FOUND);
		refused += e == ERR_AGAIN;
		forgotten += e == ERR_OK;
		assert_true(world_status(w).notes <= WORLD_NOTE_MAX);
	}
	assert_true(forgotten > 150 && refused < 20);
	world_check_all(w);
	restart(w, true);
	world_check_all(w);
}

static void pins_outlive_the_process(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	world_pin_now(w, 2, LEDGER_PINNED_HARD);
	world_pin_now(w, 3, LEDGER_PINNED_SOFT);
	world_pin_now(w, 14, LEDGER_PINNED_HARD);
	world_pin_now(w, 14, LEDGER_UNPINNED);
	assert_int_equal(world_pin(w, 99, LEDGER_PINNED_HARD), ERR_NOT_FOUND);
	for (int start = 0; start < 3; start++) {
		restart(w, start % 2);
		assert_int_equal(pin_of(w, 2), LEDGER_PINNED_HARD);
		assert_int_equal(pin_of(w, 3), LEDGER_PINNED_SOFT);
		assert_int_equal(pin_of(w, 14), LEDGER_UNPINNED);
	}
	world_forget_now(w, 2); /* what is put again has no pin */
	assert_true(world_put_now(w, 2));
	restart(w, true);
	assert_int_equal(pin_of(w, 2), LEDGER_UNPINNED);
}

static void what_is_pinned_hard_stays(void **state)
{
	struct disk_world *w = *state;
	w->options.keep_percent = 0; /* nothing else is ever moved */
	restart(w, false);
	for (uint32_t i = 0; i < 6; i++)
		assert_true(world_put_now(w, i));
	world_pin_now(w, 4, LEDGER_PINNED_HARD);
	for (uint32_t i = 100; i < 400; i++) {
		assert_true(world_put_now(w, i));
		if (i % 50 == 0)
			restart(w, true);
	}
	assert_true(world_has(w, 4));
	assert_int_equal(pin_of(w, 4), LEDGER_PINNED_HARD);
	assert_int_equal(world_load_now(w, 4), ERR_OK);
	assert_false(world_has(w, 5));
	world_pin_now(w, 4, LEDGER_UNPINNED);
	for (uint32_t i = 400; i < 600; i++)
		assert_true(world_put_now(w, i));
	assert_false(world_has(w, 4));
}

static void pin_goes_with_its_block(void **state)
{
	struct disk_world *w = *state;
	w->options.keep_percent = 0;
	restart(w, false);
	assert_true(world_put_now(w, 4));
	world_pin_now(w, 4, LEDGER_PINNED_SOFT);
	uint32_t block = 100;
	while (world_has(w, 4))
		assert_true(world_put_now(w, block++));
	assert_true(world_put_now(w, 4));
	restart(w, true);
	assert_int_equal(pin_of(w, 4), LEDGER_UNPINNED);
}

static void spoilt_page_of_notes_is_not_believed(void **state)
{
	struct disk_world *w = *state;
	struct disk_place place;
	struct disk_note notes[DISK_NOTES_A_PAGE];
	uint32_t count, at = 0;
	assert_true(world_put_now(w, 3));
	world_forget_now(w, 3);
	for (uint32_t i = 1; i < WORLD_SEGMENT_PAGES && !at; i++)
		if (disk_parse_notes(crash_disk_page(&w->disk, 0, i), w->options.id, &place, notes, &count) == ERR_OK)
			at = i;
	assert_int_equal(count, 1);
	assert_int_equal(notes[0].kind, DISK_NOTE_DEAD);
	struct id128 key = world_key(3);
	assert_true(id128_equal(&notes[0].key, &key));
	uint8_t *page = crash_disk_page(&w->disk, 0, at);
	page[70] ^= 1;
	assert_int_equal(disk_parse_notes(page, w->options.id, &place, notes, &count), ERR_CORRUPT);
	page[12] = 121; /* more than a page holds, and the sum is right */
	disk_format_place(page, w->options.id, &place);
	assert_int_equal(disk_parse_notes(page, w->options.id, &place, notes, &count), ERR_CORRUPT);
}

/* ---- walks */

static void walk(struct disk_world *w, uint32_t steps, uint32_t blocks)
{
	for (uint32_t i = 0; i < steps; i++) {
		uint32_t block = (uint32_t)rng_below(&w->rng, blocks);
		switch (rng_below(&w->rng, 9)) {
		case 0:
		case 1:
			world_put(w, block);
			break;
		case 2:
			if (world_has(w, block))
				world_load(w, block);
			break;
		case 3:
			if (world_has(w, block))
				(void)!world_forget(w, block);
			break;
		case 4:
			if (world_has(w, block) && block < 12) /* few: what is pinned hard is bounded by the store */
				(void)!world_pin(w, block, (enum ledger_pin)rng_below(&w->rng, 3));
			break;
		case 5:
			w->now_ns += rng_below(&w->rng, 3 * MS);
			disk_tick(w->tier, w->now_ns);
			break;
		default:
			world_step(w);
		}
	}
}

static void any_walk_with_crashes_forgets_and_pins_as_it_said(void **state)
{
	(void)state;
	uint64_t forgotten = 0, dead = 0;
	for (uint64_t seed = 0; seed < 60; seed++) {
		struct disk_world *w = malloc(sizeof(*w));
		world_init(w, seed);
		world_until_ready(w);
		for (int life = 0; life < 10; life++) {
			w->disk.faults.fail = seed % 4 == 3 && life % 2 ? 400 : 0;
			walk(w, 200 + (uint32_t)rng_below(&w->rng, 900), 60);
			forgotten += world_status(w).counters.gone[DISK_GONE_FORGOTTEN];
			w->disk.faults.fail = 0;
			restart(w, rng_below(&w->rng, 2));
			for (uint32_t i = 0; i < 60; i++)
				dead += w->blocks[i] == BLOCK_DEAD;
			world_check_all(w);
			world_believe(w);
		}
		world_fini(w);
		free(w);
	}
	assert_true(forgotten > 8000 && dead > 800);
}

static void power_may_be_lost_at_every_operation_of_forgetting(void **state)
{
	(void)state;
	struct disk_world *w = malloc(sizeof(*w));
	for (uint64_t k = 1; k <= 300; k++) {
		world_init(w, k);
		world_until_ready(w);
		for (uint32_t i = 0; i < 60 && w->disk.submitted < k; i++) {
			world_put_now(w, i);
			if (i >= 3 && world_has(w, i - 3))
				(void)!world_forget(w, i - 3);
			if (i >= 7 && i % 4 == 0 && world_has(w, i - 1))
				(void)!world_pin(w, i - 1, LEDGER_PINNED_HARD);
		}
		restart(w, true);
		world_check_all(w);
		for (uint32_t i = 0; i < 30; i++)
			world_put_now(w, 100 + i);
		restart(w, k % 2);
		world_check_all(w);
		world_fini(w);
	}
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
		T(forgotten_block_does_not_come_back),
		T(forgotten_block_does_not_come_back_without_a_footer),
		T(forgotten_block_may_be_put_again),
		T(block_on_its_way_is_not_forgotten),
		T(nothing_is_forgotten_before_it_is_durable),
		T(notes_go_when_nothing_needs_them),
		T(notes_are_bounded),
		T(pins_outlive_the_process),
		T(what_is_pinned_hard_stays),
		T(pin_goes_with_its_block),
		T(spoilt_page_of_notes_is_not_believed),
		cmocka_unit_test(any_walk_with_crashes_forgets_and_pins_as_it_said),
		cmocka_unit_test(power_may_be_lost_at_every_operation_of_forgetting),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
