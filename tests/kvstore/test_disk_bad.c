/* What a disk, or somebody who can write there, has made wrong: it is a miss, and no wrong byte is served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kvstore/disk_format.h"
#include "tests/kvstore/disk_world.h"

static void segment_with_a_spoilt_footer_is_read_record_by_record(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	assert_true(world_status(w).counters.segments_sealed > 0);
	crash_disk_page(&w->disk, 0, WORLD_SEGMENT_PAGES - 2)[40] ^= 1; /* of the second entry of the first segment */
	world_restart(w, true);
	world_until_ready(w);
	assert_int_equal(world_status(w).counters.recovered, 16);
	world_check_all(w);
}

static void segment_without_a_head_is_known_by_its_trailer(void **state)
{
	struct disk_world *w = *state;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	crash_disk_page(&w->disk, 0, 0)[100] ^= 1;
	world_restart(w, true);
	world_until_ready(w);
	assert_int_equal(world_status(w).counters.recovered, 16);
	world_check_all(w);
}

static void wrong_bytes_are_a_miss_and_in_quarantine(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	assert_true(world_put_now(w, 7));
	crash_disk_page(&w->disk, 0, 2)[5] ^= 1;
	assert_int_equal(world_load_now(w, 7), ERR_CORRUPT);
	assert_false(world_has(w, 7));
	assert_int_equal(w->gone[DISK_GONE_BAD], 1);
	assert_true(world_put_now(w, 7)); /* it may be put anew */
	assert_int_equal(world_load_now(w, 7), ERR_OK);
}

/* As somebody would who can write the disk: another payload, its digest, another tenant perhaps, all sums made right. */
static void forge(struct disk_world *w, uint32_t payload_flips, const char *tenant, bool is_signed)
{
	uint8_t *page = crash_disk_page(&w->disk, 0, 1), *payload = crash_disk_page(&w->disk, 0, 2), tag[DISK_TAG_BYTES];
	uint64_t digests[DISK_LAYERS_MAX];
	struct disk_record r;
	assert_int_equal(disk_parse_record(page, w->options.id, &r, digests), ERR_OK);
	payload[11] ^= (uint8_t)payload_flips;
	digests[0] = w->disk.file.digest(payload, r.layer_bytes);
	r.digests = digests;
	r.is_signed = is_signed;
	snprintf(r.tenant, sizeof(r.tenant), "%s", tenant);
	memcpy(tag, page + DISK_TAG_AT, sizeof(tag));
	disk_format_record(page, &r);
	disk_format_place(page, w->options.id, &r.place);
	memcpy(page + DISK_TAG_AT, tag, sizeof(tag));
}

static void forged_record_is_a_miss_and_in_quarantine(void **state)
{
	struct disk_world *w = *state;
	const struct { uint32_t flips; const char *tenant; bool is_signed; } forgeries[] = {
		{1, "acme", true}, {0, "acme2", true}, {1, "acme", false}, {0, "acme", false},
	};
	for (uint32_t i = 0; i < 4; i++) {
		world_fini(w);
		world_init(w, 1);
		assert_non_null(w->disk.options.secret);
		w->may_lose = true;
		world_until_ready(w);
		assert_true(world_put_now(w, 7));
		forge(w, 0, "acme", true); /* nothing is changed */
		assert_int_equal(world_load_now(w, 7), ERR_OK);
		forge(w, forgeries[i].flips, forgeries[i].tenant, forgeries[i].is_signed);
		assert_int_equal(world_load_now(w, 7), ERR_CORRUPT);
		assert_false(world_has(w, 7));
		assert_int_equal(w->gone[DISK_GONE_BAD], 1);
	}
}

/* Also where no load looks: in a segment without its footer, and when a segment is emptied. */
static void forged_record_is_not_found_at_a_start(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	assert_true(world_put_now(w, 7));
	assert_true(world_put_now(w, 8));
	forge(w, 1, "acme", true);
	world_restart(w, false);
	world_until_ready(w);
	assert_false(world_has(w, 7));
	assert_true(world_has(w, 8));
	assert_int_equal(world_status(w).counters.recovered_torn, 1);
}

static void other_secret_finds_no_record(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	w->disk.options.secret = "another, of other bytes";
	for (uint32_t i = 0; i < 16; i++)
		assert_int_equal(world_load_now(w, i), ERR_CORRUPT);
	assert_int_equal(world_status(w).blocks, 0);
}

static void unknown_encoding_is_refused_by_name(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	assert_true(world_put_now(w, 7));
	uint8_t *page = crash_disk_page(&w->disk, 0, 1);
	struct disk_record r;
	assert_int_equal(disk_parse_record(page, w->options.id, &r, NULL), ERR_OK);
	page[24] = DISK_ENCODINGS;
	disk_format_place(page, w->options.id, &r.place);
	assert_int_equal(disk_parse_record(page, w->options.id, &r, NULL), ERR_UNSUPPORTED);
	assert_int_equal(world_load_now(w, 7), ERR_UNSUPPORTED);
	assert_int_equal(w->gone[DISK_GONE_UNKNOWN], 1);
	assert_int_equal(world_status(w).blocks, 0);
}

static void other_layout_version_is_room_and_said(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	for (uint32_t i = 0; i < WORLD_SEGMENTS; i++)
		for (uint32_t k = 0; k < WORLD_SEGMENT_PAGES; k++)
			crash_disk_page(&w->disk, i, k)[8] = DISK_FORMAT_OLDEST - 1;
	world_restart(w, false);
	world_until_ready(w);
	assert_int_equal(world_status(w).blocks, 0);
	assert_true(world_status(w).counters.other_versions > 1);
	assert_true(world_put_now(w, 7));
}

static void what_was_read_wrongly_once_is_read_again(void **state)
{
	struct disk_world *w = *state;
	assert_true(world_put_now(w, 7));
	w->disk.faults.flip_read = 65536;
	assert_true(world_load(w, 7));
	disk_tick(w->tier, w->now_ns);
	world_step(w);
	w->disk.faults.flip_read = 0;
	world_until_quiet(w);
	assert_int_equal(w->last_load, ERR_OK);
	assert_int_equal(world_status(w).counters.reads_bad, 1);
}

static void header_of_another_place_is_not_taken(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	assert_true(world_put_now(w, 3)); /* one layer each */
	assert_true(world_put_now(w, 6));
	uint32_t at6 = 1 + 1 + (world_bytes(3) + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES;
	uint32_t pages = 1 + (world_bytes(6) + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES;
	memcpy(crash_disk_page(&w->disk, 0, at6 + pages), crash_disk_page(&w->disk, 0, at6), pages * DISK_PAGE_BYTES);
	memcpy(crash_disk_page(&w->disk, 0, at6), crash_disk_page(&w->disk, 0, 1), 2 * DISK_PAGE_BYTES);
	assert_int_equal(world_load_now(w, 6), ERR_CORRUPT);
	world_restart(w, false);
	world_until_ready(w);
	assert_true(world_has(w, 3));
	assert_false(world_has(w, 6)); /* not where it should be, and not where a copy of it lies */
}

static void footer_that_names_another_key_serves_nothing(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	/* The first two entries of the first segment change their keys, and all sums are right. */
	uint8_t *entries = crash_disk_page(&w->disk, 0, WORLD_SEGMENT_PAGES - 2), key[16];
	uint8_t *page = crash_disk_page(&w->disk, 0, WORLD_SEGMENT_PAGES - 1);
	memcpy(key, entries, 16);
	memcpy(entries, entries + DISK_FOOTER_ENTRY_BYTES, 16);
	memcpy(entries + DISK_FOOTER_ENTRY_BYTES, key, 16);
	struct disk_trailer trailer;
	assert_int_equal(disk_parse_trailer(page, &trailer), ERR_OK);
	trailer.footer_sum = disk_footer_sum(entries, trailer.entry_count, trailer.name_count, w->options.id);
	disk_format_trailer(page, &trailer);
	world_restart(w, false);
	world_until_ready(w);
	assert_int_equal(world_status(w).counters.recovered, 16);
	world_check_all(w); /* none is loaded with another's bytes */
	assert_int_equal(w->corrupt, 2);
}

static void disk_of_another_size_is_room(void **state)
{
	struct disk_world *w = *state;
	w->may_lose = true;
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	w->options.segment_bytes = (WORLD_SEGMENT_PAGES - 2) * DISK_PAGE_BYTES;
	world_restart(w, false);
	world_until_ready(w);
	assert_int_equal(world_status(w).blocks, 0);
	assert_int_equal(world_status(w).segments_free, WORLD_SEGMENTS);
	assert_true(world_put_now(w, 3));
	assert_int_equal(world_load_now(w, 3), ERR_OK);
}

static void whatever_a_disk_does_no_wrong_byte_is_served(void **state)
{
	(void)state;
	uint64_t struck = 0, corrupt = 0, loaded = 0;
	for (uint64_t seed = 100; seed < 160; seed++) {
		struct disk_world *w = malloc(sizeof(*w));
		world_init(w, seed);
		w->may_lose = true;
		w->disk.faults = (struct crash_disk_faults){
			.fail = seed % 3 == 0 ? 300 : 0,
			.flip_read = seed % 4 == 0 ? 2000 : 0,
			.flip_rest = seed % 4 == 1 ? 4000 : 0,
			.misdirect_read = seed % 5 == 0 ? 2000 : 0,
			.misdirect_write = seed % 5 == 1 ? 2000 : 0,
		};
		for (int life = 0; life < 6; life++) {
			world_walk(w, 1500, 200);
			if (life % 3 == 2)
				world_check_all(w);
			world_restart(w, rng_below(&w->rng, 2));
		}
		struck += w->disk.struck;
		corrupt += w->corrupt;
		loaded += w->loaded;
		world_fini(w);
		free(w);
	}
	assert_true(struck > 1000 && corrupt > 100 && loaded > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
		T(segment_with_a_spoilt_footer_is_read_record_by_record),
		T(segment_without_a_head_is_known_by_its_trailer),
		T(wrong_bytes_are_a_miss_and_in_quarantine),
		T(forged_record_is_a_miss_and_in_quarantine),
		T(forged_record_is_not_found_at_a_start),
		T(other_secret_finds_no_record),
		T(unknown_encoding_is_refused_by_name),
		T(other_layout_version_is_room_and_said),
		T(what_was_read_wrongly_once_is_read_again),
		T(header_of_another_place_is_not_taken),
		T(footer_that_names_another_key_serves_nothing),
		T(disk_of_another_size_is_room),
		cmocka_unit_test(whatever_a_disk_does_no_wrong_byte_is_served),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
