/* What is read is what is there, and nothing that may not be read is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "link_fixture.h"
#include "net/device.h"

static const struct way *way_of(void **state)
{
	return *state;
}

static void every_size_lands_whole_with_its_digest(void **state)
{
	struct pair pair;
	static const uint64_t sizes[] = {8, 4096, 40000, 65536, 262144, 1 << 20, SLOT_BYTES};
	uint8_t *landing = malloc(SLOT_BYTES + 1), *expected = malloc(SLOT_BYTES);
	pair_open(&pair, way_of(state));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct probe probe;
		struct handle handle = handle_of(i % SLOT_COUNT, SLOT_BYTES - sizes[i], sizes[i]);
		memset(landing, 0xee, SLOT_BYTES + 1);
		expected_bytes(handle.offset, sizes[i], expected);
		assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
		assert_true(turn_until(pair.loop, &probe.free_count, 1, 12000 * MS));
		assert_int_equal(probe.done_count, 1);
		assert_int_equal(probe.results[0].err, ERR_OK);
		assert_int_equal(probe.results[0].digest, digest_of(expected, sizes[i]));
		assert_memory_equal(landing, expected, sizes[i]);
		assert_int_equal(landing[sizes[i]], 0xee);
	}
	struct link_counters counters;
	assert_int_equal(link_peer_counters(pair.link, PEER_NODE, &counters), ERR_OK);
	assert_int_equal(counters.reads, sizeof(sizes) / sizeof(*sizes));
	assert_int_equal(counters.pieces_open, 0);
	pair_close(&pair);
	free(landing);
	free(expected);
}

static void transport_in_use_is_told(void **state)
{
	static const char *const wanted[] = {"mapped", "mapped", "ucx:tcp/lo", "ucx:posix", "ucx:tcp/lo", "ucx:posix", "tls",
					   "tcp"};
	const struct way *way = way_of(state);
	struct pair pair;
	struct probe probe;
	char text[128], landing[64];
	struct handle handle = handle_of(0, 0, 64);
	pair_open(&pair, way);
	assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(pair.loop, &probe.done_count, 1, 12000 * MS));
	link_peer_transport(pair.link, PEER_NODE, text, sizeof(text));
	printf("%s: %s\n", way->name, text);
	if (strncmp(text, wanted[way - ways], strlen(wanted[way - ways])) != 0)
		fail_msg("%s is read over %s, expected %s", way->name, text, wanted[way - ways]);
	assert_int_equal(strstr(text, "one-sided") != NULL, way->one_sided);
	link_peer_transport(pair.link, 77, text, sizeof(text));
	assert_string_equal(text, "none");
	pair_close(&pair);
}

static uint8_t expect_landing[4096];

static void expect(struct pair *pair, struct handle handle, enum err wanted)
{
	struct probe probe;
	memset(expect_landing, 0xee, sizeof(expect_landing));
	assert_int_equal(probe_start(pair, &probe, &handle, (void *[]){expect_landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(pair->loop, &probe.free_count, 1, 12000 * MS));
	assert_int_equal(probe.results[0].err, wanted);
	assert_int_equal(probe.done_count, 1);
}

static void expect_refusal(struct pair *pair, struct handle handle, enum err wanted)
{
	expect(pair, handle, wanted);
	/* A stale slot may have been copied before it showed; what is refused never lands. */
	for (size_t i = 0; wanted != ERR_STALE && i < sizeof(expect_landing); i++)
		assert_int_equal(expect_landing[i], 0xee);
}

static void forged_handles_are_refused(void **state)
{
	struct pair pair;
	pair_open(&pair, way_of(state));
	struct handle over_the_end = handle_of(SLOT_COUNT, 0, 64);
	struct handle across_slots = handle_of(2, SLOT_BYTES - 32, 64);
	struct handle far_away = handle_of(0, 0, 64), other_region = far_away, other_rank = far_away;
	struct handle other_kind = far_away, other_life = far_away, no_generation = far_away, old = far_away;
	far_away.offset = UINT64_MAX - 31;
	other_region.region = 4;
	other_rank.rank = 1;
	other_kind.kind = MEMORY_CUDA;
	other_life.incarnation++;
	no_generation.generation = 0;
	old.generation = 7;
	expect_refusal(&pair, over_the_end, ERR_DENIED);
	expect_refusal(&pair, across_slots, ERR_DENIED);
	expect_refusal(&pair, far_away, ERR_DENIED);
	expect_refusal(&pair, other_region, ERR_DENIED);
	expect_refusal(&pair, other_rank, ERR_DENIED);
	expect_refusal(&pair, other_kind, ERR_DENIED);
	expect_refusal(&pair, other_life, ERR_MISMATCH);
	expect_refusal(&pair, no_generation, ERR_STALE);
	expect_refusal(&pair, old, ERR_STALE);
	struct link_counters counters;
	assert_int_equal(link_peer_counters(pair.link, PEER_NODE, &counters), ERR_OK);
	assert_int_equal(counters.refused, 7);
	assert_int_equal(counters.stale, 2);
	assert_int_equal(counters.bytes, 0);
	pair_close(&pair);
}

static void renewed_slot_is_stale_for_old_handles_and_good_for_new_ones(void **state)
{
	struct pair pair;
	pair_open(&pair, way_of(state));
	struct handle handle = handle_of(5, 4096, 4096);
	uint8_t landing[4096];
	struct probe probe;
	uint64_t generation = pair_renew(&pair, 5);
	assert_int_equal(generation, 2);
	expect_refusal(&pair, handle, ERR_STALE);
	handle.generation = generation;
	assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(pair.loop, &probe.done_count, 1, 12000 * MS));
	assert_int_equal(probe.results[0].err, ERR_OK);
	pair_close(&pair);
}

#define READS 125
#define PIECES 8

static void thousand_pieces_in_flight_all_land(void **state)
{
	struct pair pair;
	static struct probe probes[READS];
	const uint64_t length = 24576;
	uint8_t *landing = malloc(READS * PIECES * length), *expected = malloc(length);
	pair_open(&pair, way_of(state));
	for (size_t i = 0; i < READS; i++) {
		struct handle handles[PIECES];
		void *landings[PIECES];
		for (size_t j = 0; j < PIECES; j++) {
			handles[j] = handle_of(j, i * length, length);
			landings[j] = landing + (i * PIECES + j) * length;
		}
		assert_int_equal(probe_start(&pair, &probes[i], handles, landings, PIECES, 20000 * MS), ERR_OK);
		assert_int_equal(probes[i].done_count, 0); /* never inside the call */
	}
	for (size_t i = 0; i < READS; i++) {
		assert_true(turn_until(pair.loop, &probes[i].free_count, 1, 22000 * MS));
		for (size_t j = 0; j < PIECES; j++) {
			expected_bytes(j * SLOT_BYTES + i * length, length, expected);
			assert_int_equal(probes[i].results[j].err, ERR_OK);
			assert_int_equal(probes[i].results[j].digest, digest_of(expected, length));
			assert_memory_equal(landing + (i * PIECES + j) * length, expected, length);
		}
	}
	for (size_t i = 0; i < READS; i++)
		assert_int_equal(probes[i].done_count, 1);
	pair_close(&pair);
	free(landing);
	free(expected);
}

#define MIXED 64

/* Answers of all sizes and refusals behind each other: wherever what comes is cut, each piece gets its own. */
static void good_and_refused_pieces_of_any_size_share_a_read(void **state)
{
	struct pair pair;
	struct probe probe;
	struct handle handles[MIXED];
	void *landings[MIXED];
	uint8_t *expected = malloc(SLOT_BYTES), *landing = malloc(MIXED * (SLOT_BYTES / 8));
	pair_open(&pair, way_of(state));
	for (size_t i = 0; i < MIXED; i++) {
		/* 1 byte to 200 KiB, most of them no multiple of anything */
		uint64_t length = i % 3 == 0 ? 1 + i * 7 : i % 3 == 1 ? 4096 * (i % 16) + i : 1 + i * 3271;
		handles[i] = handle_of(i % SLOT_COUNT, 64 * i, length);
		handles[i].generation += i % 5 == 4;
		handles[i].region += i % 7 == 6;
		landings[i] = landing + i * (SLOT_BYTES / 8);
	}
	assert_int_equal(probe_start(&pair, &probe, handles, landings, MIXED, 20000 * MS), ERR_OK);
	assert_true(turn_until(pair.loop, &probe.free_count, 1, 22000 * MS));
	for (size_t i = 0; i < MIXED; i++) {
		enum err wanted = i % 7 == 6 ? ERR_DENIED : i % 5 == 4 ? ERR_STALE : ERR_OK;
		assert_int_equal(probe.results[i].err, wanted);
		if (wanted != ERR_OK)
			continue;
		expected_bytes(handles[i].offset, handles[i].length, expected);
		assert_int_equal(probe.results[i].digest, digest_of(expected, handles[i].length));
		assert_memory_equal(landings[i], expected, handles[i].length);
	}
	pair_close(&pair);
	free(landing);
	free(expected);
}

static void address_of_another_or_a_torn_one_is_refused(void **state)
{
	struct pair pair;
	pair_open(&pair, way_of(state));
	struct why why = {0};
	assert_int_equal(link_peer_open(pair.link, PEER_NODE, PEER_INCARNATION, pair.address.data, pair.address.length, &why),
	                 ERR_EXISTS);
	assert_int_equal(link_peer_open(pair.link, 9, PEER_INCARNATION, pair.address.data, pair.address.length, &why),
	                 ERR_MISMATCH);
	for (size_t length = 0; length < pair.address.length; length++)
		assert_int_equal(link_peer_open(pair.link, 9, 1, pair.address.data, length, &why), ERR_PROTOCOL);
	pair_close(&pair);
}

static void own_regions_are_read_the_same_way(void **state)
{
	struct loop *loop = NULL;
	struct link *link = NULL;
	struct region *region = NULL;
	struct why why = {0};
	struct region_options region_options = {.slot_bytes = 1 << 20, .slot_count = 2};
	struct link_options options = {.node = PEER_NODE, .incarnation = 1, .transport = LINK_MAPPED};
	uint8_t *landing = malloc(1 << 20);
	assert_int_equal(loop_create(&loop), ERR_OK);
	assert_int_equal(region_create(&region_options, &region, &why), ERR_OK);
	assert_int_equal(link_create(loop, &options, &link, &why), ERR_OK);
	assert_int_equal(link_region_add(link, region, &why), ERR_OK);
	assert_int_equal(link_region_add(link, region, &why), ERR_EXISTS);
	expected_bytes(0, 2 << 20, region_slot(region, 0));
	struct pair pair = {.loop = loop, .link = link};
	struct probe probe;
	struct handle handle;
	assert_int_equal(link_handle(link, region, 2, 0, 1, &handle), ERR_DENIED);
	assert_int_equal(link_handle(link, region, 1, 0, 1 << 20, &handle), ERR_OK);
	assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(loop, &probe.free_count, 1, 12000 * MS));
	assert_int_equal(probe.results[0].err, ERR_OK);
	assert_memory_equal(landing, region_slot(region, 1), 1 << 20);
	link_region_remove(link, region);
	assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(loop, &probe.free_count, 1, 12000 * MS));
	assert_int_equal(probe.results[0].err, ERR_DENIED);
	link_destroy(link);
	region_destroy(region);
	loop_destroy(loop);
	free(landing);
}

/* Owner and reader in one process, as the owner must be told to go on under a higher incarnation. */
static void renewed_owner_is_read_under_its_new_incarnation_only(void **state)
{
	const enum link_transport transport = *(const enum link_transport *)*state;
	struct region_options region_options = {.slot_bytes = 1 << 16, .slot_count = 2};
	struct link_options owner_options = {.node = PEER_NODE, .incarnation = 1, .transport = transport};
	struct link_options reader_options = {.node = READER_NODE, .incarnation = 1, .transport = transport};
	struct loop *loop = NULL;
	struct region *region = NULL;
	struct link *owner = NULL;
	struct pair pair = {0};
	struct why why = {0};
	assert_int_equal(loop_create(&loop), ERR_OK);
	assert_int_equal(region_create(&region_options, &region, &why), ERR_OK);
	assert_int_equal(link_create(loop, &owner_options, &owner, &why), ERR_OK);
	assert_int_equal(link_create(loop, &reader_options, &pair.link, &why), ERR_OK);
	assert_int_equal(link_region_add(owner, region, &why), ERR_OK);
	pair.loop = loop;
	for (uint64_t life = 1; life <= 3; life++) {
		struct handle handle = {.node = PEER_NODE, .incarnation = life, .length = 64, .generation = 1};
		if (life > 1)
			link_renew(owner, life);
		buf_clear(&pair.address);
		assert_int_equal(link_local_address(owner, &pair.address), ERR_OK);
		assert_int_equal(link_peer_open(pair.link, PEER_NODE, life, pair.address.data, pair.address.length, &why), ERR_OK);
		expect(&pair, handle, ERR_OK);
		handle.incarnation--;
		expect(&pair, handle, ERR_MISMATCH);
		link_peer_close(pair.link, PEER_NODE);
	}
	link_destroy(pair.link);
	link_destroy(owner);
	region_destroy(region);
	loop_destroy(loop);
	buf_fini(&pair.address);
}

/* A handle comes faster than the word of its region, behind that of others. */
static void region_shared_late_is_read_by_who_is_told_of_it(void **state)
{
	const struct link_options owner_options = {.node = PEER_NODE, .incarnation = 1, .transport = LINK_MAPPED};
	const struct link_options reader_options = {.node = READER_NODE, .incarnation = 11, .transport = LINK_MAPPED};
	enum { REGIONS = 8 };
	struct why why = {0};
	struct pair pair = {0};
	struct link *owner;
	struct region *regions[REGIONS];
	struct handle handle;
	assert_int_equal(loop_create(&pair.loop), ERR_OK);
	assert_int_equal(link_create(pair.loop, &owner_options, &owner, &why), ERR_OK);
	assert_int_equal(link_create(pair.loop, &reader_options, &pair.link, &why), ERR_OK);
	assert_int_equal(link_local_address(owner, &pair.address), ERR_OK);
	assert_int_equal(link_peer_open(pair.link, PEER_NODE, 1, pair.address.data, pair.address.length, &why), ERR_OK);
	for (uint16_t i = 0; i < REGIONS; i++) {
		const struct region_options options = {.index = i, .slot_bytes = 4096, .slot_count = 2};
		assert_int_equal(region_create(&options, &regions[i], &why), ERR_OK);
		assert_int_equal(link_region_add(owner, regions[i], &why), ERR_OK);
		assert_int_equal(link_handle(owner, regions[i], 1, 0, 64, &handle), ERR_OK);
		if (i == 0 || i == REGIONS - 1)
			expect(&pair, handle, ERR_OK);
	}
	handle.region = REGIONS;
	expect(&pair, handle, ERR_DENIED);
	link_destroy(pair.link);
	link_destroy(owner);
	for (int i = 0; i < REGIONS; i++)
		region_destroy(regions[i]);
	buf_fini(&pair.address);
	loop_destroy(pair.loop);
}

static void list_of_devices_that_is_none_is_refused(void **state)
{
	struct loop *loop = NULL;
	struct link *link = NULL;
	struct why why = {0};
	const struct link_options options = {.node = 1, .incarnation = 1, .transport = LINK_UCX_TCP, .network = "lo,"};
	assert_int_equal(loop_create(&loop), ERR_OK);
	assert_int_equal(link_create(loop, &options, &link, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "--link-network"));
	loop_destroy(loop);
}

/* "lo" and whatever other device of this machine has an address. */
static bool two_devices(char *ret_text, size_t size)
{
	char address[DEVICE_ADDRESS_MAX];
	struct if_nameindex *all = if_nameindex();
	bool found = false;
	for (struct if_nameindex *at = all; at && at->if_name && !found; at++) {
		found = strcmp(at->if_name, "lo") != 0 && device_address(at->if_name, address, NULL) == ERR_OK;
		snprintf(ret_text, size, "lo,%s", at->if_name);
	}
	if_freenameindex(all);
	return found;
}

static void link_over_two_devices_reads_what_is_there(void **state)
{
	char devices[64], text[128];
	if (!two_devices(devices, sizeof(devices)))
		skip();
	const struct region_options region_options = {.slot_bytes = 1 << 20, .slot_count = 2};
	const struct link_options owner_options = {.node = PEER_NODE, .incarnation = 1, .transport = LINK_UCX_TCP, .network = devices};
	const struct link_options reader_options = {.node = READER_NODE, .incarnation = 1, .transport = LINK_UCX_TCP, .network = devices};
	struct region *region = NULL;
	struct link *owner = NULL;
	struct pair pair = {0};
	struct why why = {0};
	struct probe probe;
	struct handle handle;
	uint8_t *landing = malloc(1 << 20);
	assert_int_equal(loop_create(&pair.loop), ERR_OK);
	assert_int_equal(region_create(&region_options, &region, &why), ERR_OK);
	expected_bytes(0, 2 << 20, region_slot(region, 0));
	assert_int_equal(link_create(pair.loop, &owner_options, &owner, &why), ERR_OK);
	assert_int_equal(link_create(pair.loop, &reader_options, &pair.link, &why), ERR_OK);
	assert_int_equal(link_region_add(owner, region, &why), ERR_OK);
	assert_int_equal(link_local_address(owner, &pair.address), ERR_OK);
	assert_int_equal(link_peer_open(pair.link, PEER_NODE, 1, pair.address.data, pair.address.length, &why), ERR_OK);
	assert_int_equal(link_handle(owner, region, 1, 0, 1 << 20, &handle), ERR_OK);
	assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(pair.loop, &probe.free_count, 1, 12000 * MS));
	assert_int_equal(probe.results[0].err, ERR_OK);
	assert_memory_equal(landing, region_slot(region, 1), 1 << 20);
	link_peer_transport(pair.link, PEER_NODE, text, sizeof(text));
	printf("%s: %s\n", devices, text);
	assert_non_null(strstr(text, "ucx:tcp/"));
	link_destroy(pair.link);
	link_destroy(owner);
	region_destroy(region);
	loop_destroy(pair.loop);
	buf_fini(&pair.address);
	free(landing);
}

static void rdma_without_a_device_is_refused_with_a_reason(void **state)
{
	struct loop *loop = NULL;
	struct link *link = NULL;
	struct why why = {0};
	struct link_options options = {.node = 1, .incarnation = 1, .transport = LINK_UCX_RDMA};
	assert_int_equal(loop_create(&loop), ERR_OK);
	enum err e = link_create(loop, &options, &link, &why);
	if (e == ERR_OK) {
		link_destroy(link);
		loop_destroy(loop);
		skip(); /* there is one */
	}
	assert_int_equal(e, ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "RDMA"));
	loop_destroy(loop);
}

static void transports_have_names(void **state)
{
	enum link_transport transport = LINK_AUTO;
	struct why why = {0};
	assert_int_equal(link_transport_parse("ucx-shm", &transport, &why), ERR_OK);
	assert_int_equal(transport, LINK_UCX_SHM);
	assert_int_equal(link_transport_parse("shm", &transport, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "'shm'"));
}

int main(int argc, char **argv)
{
	peer_main(argc, argv);
	int failed = 0;
	for (size_t i = 0; i < way_count; i++) {
		void *way = (void *)&ways[i];
		const struct CMUnitTest tests[] = {
			cmocka_unit_test_prestate(every_size_lands_whole_with_its_digest, way),
			cmocka_unit_test_prestate(transport_in_use_is_told, way),
			cmocka_unit_test_prestate(forged_handles_are_refused, way),
			cmocka_unit_test_prestate(renewed_slot_is_stale_for_old_handles_and_good_for_new_ones, way),
			cmocka_unit_test_prestate(thousand_pieces_in_flight_all_land, way),
			cmocka_unit_test_prestate(good_and_refused_pieces_of_any_size_share_a_read, way),
			cmocka_unit_test_prestate(address_of_another_or_a_torn_one_is_refused, way),
		};
		failed += cmocka_run_group_tests_name(ways[i].name, tests, NULL, NULL);
	}
	static enum link_transport mapped = LINK_MAPPED, ucx = LINK_UCX_TCP, tcp = LINK_TCP;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(renewed_owner_is_read_under_its_new_incarnation_only, &mapped),
		cmocka_unit_test_prestate(renewed_owner_is_read_under_its_new_incarnation_only, &ucx),
		cmocka_unit_test_prestate(renewed_owner_is_read_under_its_new_incarnation_only, &tcp),
		cmocka_unit_test(region_shared_late_is_read_by_who_is_told_of_it),
		cmocka_unit_test(own_regions_are_read_the_same_way),
		cmocka_unit_test(list_of_devices_that_is_none_is_refused),
		cmocka_unit_test(link_over_two_devices_reads_what_is_there),
		cmocka_unit_test(rdma_without_a_device_is_refused_with_a_reason),
		cmocka_unit_test(transports_have_names),
	};
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
