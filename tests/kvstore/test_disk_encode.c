/* Blocks that are encoded on disk: they take less, and whatever happens there no wrong byte is served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/nibbles.h"
#include "kvstore/disk_payload.h"
#include "tests/kvstore/disk_world.h"

enum { SEED_ENCODES = 2, SEED_ENCODES_SECRET = 3 };

static struct disk_world *world_of(uint64_t seed)
{
	struct disk_world *w = malloc(sizeof(*w));
	world_init(w, seed);
	world_until_ready(w);
	return w;
}

static void end(struct disk_world *w)
{
	world_fini(w);
	free(w);
}

static uint32_t plain_pages(uint32_t block)
{
	return 1 + (world_bytes(block) + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES;
}

/* The first one at or after that takes fewer pages when it is encoded. */
static uint32_t shrinking(uint32_t from)
{
	while (world_is_noise(from) || plain_pages(from) != 4 || world_bytes(from) * 100 / 132 > 2 * DISK_PAGE_BYTES)
		from++;
	return from;
}

static struct disk_record record_at(struct disk_world *w, uint32_t page)
{
	struct disk_record r;
	assert_int_equal(disk_parse_record(crash_disk_page(&w->disk, 0, page), w->options.id, &r, NULL), ERR_OK);
	return r;
}

static void encoded_blocks_take_less_and_come_back(void **state)
{
	(void)state;
	for (uint64_t seed = SEED_ENCODES; seed <= SEED_ENCODES_SECRET; seed++) {
		struct disk_world *w = world_of(seed);
		uint64_t plain = 0;
		uint32_t count = 0;
		for (uint32_t i = 0; i < 20; i++) {
			if (world_is_noise(i))
				continue;
			assert_true(world_put_now(w, i));
			plain += plain_pages(i);
			count++;
		}
		struct disk_status status = world_status(w);
		assert_int_equal(status.counters.bytes_put_plain, plain * DISK_PAGE_BYTES);
		assert_in_range(status.counters.bytes_put, plain * DISK_PAGE_BYTES * 7 / 10, plain * DISK_PAGE_BYTES * 9 / 10);
		assert_int_equal(status.bytes_plain, status.counters.bytes_put_plain);
		assert_int_equal(status.bytes_stored, status.counters.bytes_put);
		for (int start = 0; start < 2; start++) { /* read record by record; by footers */
			world_restart(w, true);
			world_until_ready(w);
			assert_int_equal(world_status(w).counters.recovered, count);
			assert_int_equal(world_status(w).bytes_stored, status.bytes_stored);
			assert_int_equal(world_status(w).bytes_plain, status.bytes_plain);
			world_check_all(w);
		}
		end(w);
	}
}

static void what_does_not_get_smaller_is_written_as_it_is(void **state)
{
	(void)state;
	struct disk_world *w = world_of(SEED_ENCODES);
	uint64_t plain = 0;
	for (uint32_t i = 0; i < 40; i++) {
		if (!world_is_noise(i))
			continue;
		assert_true(world_put_now(w, i));
		plain += plain_pages(i);
	}
	assert_int_equal(world_status(w).counters.bytes_put, plain * DISK_PAGE_BYTES);
	assert_int_equal(record_at(w, 1).encoding, DISK_ENCODING_PLAIN);
	world_check_all(w);
	end(w);
}

static void header_says_both_sizes(void **state)
{
	(void)state;
	struct disk_world *w = world_of(SEED_ENCODES);
	uint32_t block = shrinking(0);
	assert_true(world_put_now(w, block));
	struct disk_record r = record_at(w, 1);
	assert_int_equal(r.encoding, DISK_ENCODING_NIBBLES);
	assert_int_equal(r.layer_count * r.layer_bytes, world_bytes(block));
	assert_in_range(r.stored_bytes, world_bytes(block) * 74 / 100, world_bytes(block) * 80 / 100);
	assert_int_equal(r.pages, 3);
	assert_int_equal(r.stored_sum, hash_xxh3(crash_disk_page(&w->disk, 0, 2), r.stored_bytes, 0));
	end(w);
}

static void spoilt_byte_of_what_is_encoded_is_a_miss(void **state)
{
	(void)state;
	for (uint64_t seed = SEED_ENCODES; seed <= SEED_ENCODES_SECRET; seed++) {
		struct disk_world *w = world_of(seed);
		uint32_t block = shrinking(0);
		w->may_lose = true;
		assert_true(world_put_now(w, block));
		crash_disk_page(&w->disk, 0, 2)[5] ^= 1;
		assert_int_equal(world_load_now(w, block), ERR_CORRUPT);
		assert_false(world_has(w, block));
		assert_int_equal(w->gone[DISK_GONE_BAD], 1);
		assert_int_equal(world_status(w).counters.errors, 0); /* the disk did what it was asked to */
		end(w);
	}
}

static void scrubbing_finds_it_too(void **state)
{
	(void)state;
	struct disk_world *w = world_of(SEED_ENCODES);
	uint32_t block = shrinking(0);
	w->may_lose = true;
	w->options.scrub_rate = 1 << 20;
	world_restart(w, false);
	world_until_ready(w);
	assert_true(world_put_now(w, block));
	uint8_t *page = crash_disk_page(&w->disk, 0, 2);
	for (int spoilt = 0; spoilt < 2; spoilt++) {
		page[77] ^= (uint8_t)(spoilt * 16);
		for (int i = 0; i < 1000; i++) {
			w->now_ns += MS;
			disk_tick(w->tier, w->now_ns);
			while (w->disk.pending_count > 0)
				world_step(w);
		}
		assert_int_equal(w->gone[DISK_GONE_BAD], spoilt);
	}
	end(w);
}

static void torn_record_is_not_found_at_a_start(void **state)
{
	(void)state;
	struct disk_world *w = world_of(SEED_ENCODES);
	uint32_t first = shrinking(0), second = shrinking(first + 1);
	w->may_lose = true;
	assert_true(world_put_now(w, first));
	assert_true(world_put_now(w, second));
	memset(crash_disk_page(&w->disk, 0, 3), 0, 512);
	world_restart(w, false);
	world_until_ready(w);
	assert_false(world_has(w, first));
	assert_true(world_has(w, second));
	assert_int_equal(world_status(w).counters.recovered_torn, 1);
	assert_int_equal(world_load_now(w, second), ERR_OK);
	end(w);
}

/* All sums made right again, over what lies there then. */
static void make_sums_right(struct disk_world *w, uint8_t *page, struct disk_record r, uint32_t stored_bytes)
{
	disk_format_encoded(page, r.encoding, stored_bytes, hash_xxh3(page + DISK_PAGE_BYTES, stored_bytes, 0));
	disk_format_place(page, w->options.id, &r.place);
}

enum forgery { OTHER_BYTES, NO_CODE, SHORTER, PLAIN, FORGERIES };

/* As somebody would who can write the disk and knows no secret. */
static void forge(struct disk_world *w, enum forgery forgery)
{
	struct disk_record r = record_at(w, 1);
	uint8_t *page = crash_disk_page(&w->disk, 0, 1);
	switch (forgery) {
	case OTHER_BYTES: /* decodes, to another number */
		page[DISK_PAGE_BYTES + NIBBLES_HEAD_BYTES + 3] ^= 2;
		break;
	case NO_CODE:
		page[DISK_PAGE_BYTES] = 9;
		break;
	case SHORTER:
		r.stored_bytes = 1;
		break;
	case PLAIN:
		r.encoding = DISK_ENCODING_PLAIN;
		r.stored_bytes = r.layer_count * r.layer_bytes;
		break;
	case FORGERIES:
		break;
	}
	make_sums_right(w, page, r, r.stored_bytes);
}

static void forged_code_is_a_miss(void **state)
{
	(void)state;
	for (int forgery = 0; forgery <= FORGERIES; forgery++) {
		struct disk_world *w = world_of(SEED_ENCODES);
		uint32_t block = shrinking(0);
		w->may_lose = true;
		assert_true(world_put_now(w, block));
		forge(w, (enum forgery)forgery);
		assert_int_equal(world_load_now(w, block), forgery == FORGERIES ? ERR_OK : ERR_CORRUPT); /* the last changes nothing */
		assert_int_equal(world_has(w, block), forgery == FORGERIES);
		end(w);
	}
}

/* A footer that lies about sizes, as an older program, or an attacker, might have left it. */
static void footer_with_other_sizes_serves_nothing(void **state)
{
	(void)state;
	struct disk_world *w = world_of(SEED_ENCODES);
	uint32_t block = shrinking(0);
	w->may_lose = true;
	assert_true(world_put_now(w, block));
	world_restart(w, false);
	world_until_ready(w); /* has its footer now */
	uint8_t *entries = crash_disk_page(&w->disk, 0, WORLD_SEGMENT_PAGES - 2), *page = entries + DISK_PAGE_BYTES;
	struct disk_footer_entry entry;
	struct disk_trailer trailer;
	assert_int_equal(disk_parse_entry(entries, 0, WORLD_SEGMENT_PAGES, &entry), ERR_OK);
	assert_int_equal(entry.pages, 3);
	entry.pages = plain_pages(block);
	disk_format_entry(entries, 0, &entry);
	assert_int_equal(disk_parse_trailer(page, &trailer), ERR_OK);
	trailer.footer_sum = disk_footer_sum(entries, trailer.entry_count, trailer.name_count, w->options.id);
	disk_format_trailer(page, &trailer);
	world_restart(w, false);
	world_until_ready(w);
	assert_int_equal(world_load_now(w, block), ERR_CORRUPT);
	end(w);
}

static void what_is_moved_stays_encoded(void **state)
{
	(void)state;
	struct disk_world *w = world_of(SEED_ENCODES_SECRET);
	uint32_t kept = shrinking(0);
	for (uint32_t i = kept; i < 400; i++) {
		assert_true(world_put_now(w, i));
		assert_int_equal(world_load_now(w, kept), ERR_OK); /* in every round */
	}
	struct disk_status status = world_status(w);
	assert_true(world_has(w, kept));
	assert_true(status.counters.kept > 0 && status.counters.gone[DISK_GONE_ROOM] > 200);
	assert_true(status.bytes_stored < status.bytes_plain);
	/* What was saved of the allowance may be spent at once: two segments. */
	assert_true(status.counters.bytes_moved <= status.counters.bytes_put / 2 + 2 * w->options.segment_bytes);
	world_check_all(w);
	end(w);
}

/* Turns a page into what version 2 wrote there. */
static void make_old(struct disk_world *w, uint8_t *page, uint64_t seed, struct disk_record *record)
{
	uint32_t nothing = 0;
	page[8] = 2;
	if (record) {
		memcpy(page + 28, &nothing, sizeof(nothing)); /* it did not say how large the payload is */
		disk_format_place(page, w->options.id, &record->place);
		return;
	}
	uint64_t sum = hash_xxh3(page, DISK_TAG_AT - 8, seed);
	memcpy(page + DISK_TAG_AT - 8, &sum, sizeof(sum));
}

static uint32_t make_disk_old(struct disk_world *w)
{
	uint32_t changed = 0;
	for (uint32_t i = 0; i < WORLD_SEGMENTS; i++)
		for (uint32_t k = 0; k < WORLD_SEGMENT_PAGES; k++) {
			uint8_t *page = crash_disk_page(&w->disk, i, k);
			struct disk_record r;
			struct disk_head head;
			struct disk_trailer trailer;
			bool is_record = disk_parse_record(page, w->options.id, &r, NULL) == ERR_OK;
			if (!is_record && disk_parse_head(page, &head) != ERR_OK && disk_parse_trailer(page, &trailer) != ERR_OK)
				continue;
			make_old(w, page, 0, is_record ? &r : NULL);
			changed++;
		}
	return changed;
}

static void disk_of_the_version_before_opens_and_goes_on(void **state)
{
	(void)state;
	struct disk_world *w = world_of(1); /* signs, and does not encode */
	w->disk.options.secret = NULL;
	w->disk.file.tag = NULL; /* the tag covers what make_old() changes */
	world_restart(w, false);
	world_until_ready(w);
	for (uint32_t i = 0; i < 16; i++)
		assert_true(world_put_now(w, i));
	assert_true(make_disk_old(w) > 16);
	w->options.encode_max = 2;
	world_restart(w, false);
	world_until_ready(w);
	assert_int_equal(world_status(w).counters.recovered, 16);
	assert_int_equal(world_status(w).counters.other_versions, 0);
	for (uint32_t i = 16; i < 24; i++)
		assert_true(world_put_now(w, i));
	assert_true(world_status(w).bytes_stored < world_status(w).bytes_plain);
	for (int start = 0; start < 2; start++) {
		world_restart(w, true);
		world_until_ready(w);
		assert_int_equal(world_status(w).counters.recovered, 24);
		world_check_all(w);
	}
	end(w);
}

static void version_after_this_one_is_refused(void **state)
{
	(void)state;
	struct disk_head head = {1, 2, 3, 4}, parsed;
	uint8_t page[DISK_PAGE_BYTES];
	disk_format_head(page, &head);
	assert_int_equal(disk_parse_head(page, &parsed), ERR_OK);
	page[8] = DISK_FORMAT_VERSION + 1;
	assert_int_equal(disk_parse_head(page, &parsed), ERR_UNSUPPORTED);
}

/* The landing is read until the encoder says so: durable() with the error comes after that (free_landing() spoils it). */
static void block_that_is_being_encoded_when_the_disk_stops_leaves_afterwards(void **state)
{
	(void)state;
	struct disk_world *w = world_of(SEED_ENCODES);
	uint32_t block = shrinking(0);
	assert_true(world_put_now(w, block));
	uint32_t stopped_while_encoding = 0;
	for (uint32_t round = 0; round < 40; round++) {
		w->now_ns += DISK_RETRY_MAX_NS;
		disk_tick(w->tier, w->now_ns);
		for (uint32_t i = 0; i < WORLD_PUT_MAX; i++)
			world_put(w, shrinking(block + 1) + 64 + round * 32 + i);
		w->disk.fail_at = w->disk.submitted + 2 + round % 7;
		disk_tick(w->tier, w->now_ns);
		while (w->disk.pending_count > 0) {
			world_step(w);
			struct disk_status status = world_status(w);
			stopped_while_encoding += status.stopped != ERR_OK && status.puts > 0;
		}
		world_until_quiet(w);
	}
	assert_true(stopped_while_encoding > 0);
	world_check_all(w);
	end(w);
}

static void whatever_a_disk_does_to_what_is_encoded_no_wrong_byte_is_served(void **state)
{
	(void)state;
	const struct crash_disk_faults faults = {.fail = 700, .flip_read = 2500, .flip_rest = 700, .misdirect_read = 700, .misdirect_write = 500};
	uint64_t bad = 0, good = 0;
	for (uint64_t seed = 2; seed < 80; seed += seed % 4 == 2 ? 1 : 3) {
		struct disk_world *w = world_of(seed);
		assert_int_equal(w->options.encode_max, 2);
		w->may_lose = true;
		for (int life = 0; life < 3; life++) {
			w->disk.faults = faults;
			world_walk(w, 900, 120);
			w->disk.faults = (struct crash_disk_faults){0};
			bad += world_status(w).counters.reads_bad;
			good += world_status(w).counters.loads_good;
			world_restart(w, rng_below(&w->rng, 2));
			world_until_ready(w);
			world_check_all(w);
		}
		end(w);
	}
	assert_true(bad > 100 && good > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encoded_blocks_take_less_and_come_back),
		cmocka_unit_test(what_does_not_get_smaller_is_written_as_it_is),
		cmocka_unit_test(header_says_both_sizes),
		cmocka_unit_test(spoilt_byte_of_what_is_encoded_is_a_miss),
		cmocka_unit_test(scrubbing_finds_it_too),
		cmocka_unit_test(torn_record_is_not_found_at_a_start),
		cmocka_unit_test(forged_code_is_a_miss),
		cmocka_unit_test(footer_with_other_sizes_serves_nothing),
		cmocka_unit_test(what_is_moved_stays_encoded),
		cmocka_unit_test(disk_of_the_version_before_opens_and_goes_on),
		cmocka_unit_test(version_after_this_one_is_refused),
		cmocka_unit_test(block_that_is_being_encoded_when_the_disk_stops_leaves_afterwards),
		cmocka_unit_test(whatever_a_disk_does_to_what_is_encoded_no_wrong_byte_is_served),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
