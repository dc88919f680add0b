/* Regions that come and go under a link that stays: nothing of those that went keeps a new one from being read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link_fixture.h"

/* Above what a link has of one peer at a time, by any transport. */
#define MANY 200
#define PIECE 4096

/* Owner and reader in one process, on one loop. */
struct ends {
	struct pair pair;
	struct link *owner;
};

static void ends_open(struct ends *ends, const struct way *way)
{
	struct why why = {0};
	struct link_options owner = {.node = PEER_NODE, .incarnation = 1, .transport = way->transport, .one_sided = way->one_sided};
	struct link_options reader = {.node = READER_NODE, .incarnation = 1, .transport = way->transport, .one_sided = way->one_sided};
	*ends = (struct ends){0};
	assert_int_equal(loop_create(&ends->pair.loop), ERR_OK);
	assert_int_equal(link_create(ends->pair.loop, &owner, &ends->owner, &why), ERR_OK);
	assert_int_equal(link_create(ends->pair.loop, &reader, &ends->pair.link, &why), ERR_OK);
	assert_int_equal(link_local_address(ends->owner, &ends->pair.address), ERR_OK);
	assert_int_equal(link_peer_open(ends->pair.link, PEER_NODE, 1, ends->pair.address.data, ends->pair.address.length, &why), ERR_OK);
}

static void ends_close(struct ends *ends)
{
	link_destroy(ends->pair.link);
	link_destroy(ends->owner);
	loop_destroy(ends->pair.loop);
	buf_fini(&ends->pair.address);
}

static struct region *add(struct ends *ends, uint16_t index)
{
	struct why why = {0};
	struct region *region = NULL;
	const struct region_options options = {.index = index, .slot_bytes = PIECE, .slot_count = 2};
	assert_int_equal(region_create(&options, &region, &why), ERR_OK);
	memset(region_slot(region, 0), index + 1, 2 * PIECE);
	if (link_region_add(ends->owner, region, &why) != ERR_OK)
		fail_msg("region %u: %s", index, why.text);
	return region;
}

static void take_away(struct ends *ends, struct region *region)
{
	link_region_remove(ends->owner, region);
	region_destroy(region);
}

static void expect(struct ends *ends, uint16_t index, enum err wanted)
{
	struct probe probe;
	uint8_t landing[PIECE], expected[PIECE];
	struct handle handle = {.node = PEER_NODE, .incarnation = 1, .region = index, .offset = PIECE, .length = PIECE, .generation = 1};
	memset(landing, 0, sizeof(landing));
	memset(expected, index + 1, sizeof(expected));
	assert_int_equal(probe_start(&ends->pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(ends->pair.loop, &probe.free_count, 1, 12000 * MS));
	if (probe.results[0].err != wanted)
		fail_msg("region %u: %s, expected %s", index, err_text(probe.results[0].err), err_text(wanted));
	if (wanted == ERR_OK)
		assert_memory_equal(landing, expected, sizeof(landing));
}

static void each_of_many_regions_is_read_one_after_another(void **state)
{
	struct ends ends;
	ends_open(&ends, *state);
	for (uint16_t i = 0; i < MANY; i++) {
		struct region *region = add(&ends, i);
		expect(&ends, i, ERR_OK);
		take_away(&ends, region);
	}
	ends_close(&ends);
}

static void many_names_of_no_region_take_the_place_of_none(void **state)
{
	struct ends ends;
	ends_open(&ends, *state);
	struct region *first = add(&ends, 0);
	expect(&ends, 0, ERR_OK);
	for (uint16_t i = 1; i < MANY; i++)
		expect(&ends, i, ERR_DENIED);
	struct region *last = add(&ends, MANY);
	expect(&ends, MANY, ERR_OK);
	expect(&ends, 0, ERR_OK);
	take_away(&ends, first);
	take_away(&ends, last);
	ends_close(&ends);
}

static void region_that_was_asked_for_too_early_is_read_when_it_is_there(void **state)
{
	struct ends ends;
	ends_open(&ends, *state);
	expect(&ends, 7, ERR_DENIED);
	struct region *region = add(&ends, 7);
	expect(&ends, 7, ERR_OK);
	take_away(&ends, region);
	ends_close(&ends);
}

/* Its memory is unmapped: over UCX's software, as over a NIC, a get of it would hit nothing, and the owner with it. */
static void region_that_went_is_refused_and_the_link_goes_on(void **state)
{
	struct ends ends;
	ends_open(&ends, *state);
	struct region *stays = add(&ends, 1), *goes = add(&ends, 2);
	expect(&ends, 2, ERR_OK);
	expect(&ends, 1, ERR_OK);
	take_away(&ends, goes);
	expect(&ends, 1, ERR_OK); /* so the word of it has come */
	expect(&ends, 2, ERR_DENIED);
	/* Another under its number, behind it in the memory. */
	goes = add(&ends, 2);
	expect(&ends, 2, ERR_OK);
	expect(&ends, 1, ERR_OK);
	take_away(&ends, goes);
	take_away(&ends, stays);
	ends_close(&ends);
}

int main(int argc, char **argv)
{
	peer_main(argc, argv);
	int failed = 0;
	for (size_t i = 0; i < way_count; i++) {
		void *way = (void *)&ways[i];
		const struct CMUnitTest tests[] = {
			cmocka_unit_test_prestate(each_of_many_regions_is_read_one_after_another, way),
			cmocka_unit_test_prestate(many_names_of_no_region_take_the_place_of_none, way),
			cmocka_unit_test_prestate(region_that_was_asked_for_too_early_is_read_when_it_is_there, way),
			cmocka_unit_test_prestate(region_that_went_is_refused_and_the_link_goes_on, way),
		};
		if (ways[i].transport != LINK_TLS) /* the fixture's certificates are for two processes; bulk is bulk */
			failed += cmocka_run_group_tests_name(ways[i].name, tests, NULL, NULL);
	}
	return failed;
}
