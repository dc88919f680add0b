#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "net/region.h"

static void bounds_hold_within_one_slot_only(void **state)
{
	uint64_t max = UINT64_MAX;
	assert_int_equal(region_bounds(4096, 4, 0, 4096), ERR_OK);
	assert_int_equal(region_bounds(4096, 4, 3 * 4096 + 4095, 1), ERR_OK);
	assert_int_equal(region_bounds(4096, 4, 3 * 4096 + 4095, 2), ERR_DENIED);
	assert_int_equal(region_bounds(4096, 4, 4 * 4096, 1), ERR_DENIED);
	assert_int_equal(region_bounds(4096, 4, 1, 4096), ERR_DENIED);
	assert_int_equal(region_bounds(4096, 4, 0, 4097), ERR_DENIED);
	assert_int_equal(region_bounds(4096, 4, 0, 0), ERR_DENIED);
	assert_int_equal(region_bounds(4096, 4, max, 1), ERR_DENIED);
	assert_int_equal(region_bounds(4096, 4, max - 4095, 4096), ERR_DENIED);
	assert_int_equal(region_bounds(4096, 4, 4095, max), ERR_DENIED);
	assert_int_equal(region_bounds(0, 4, 0, 1), ERR_DENIED);
}

static void generations_begin_at_one_and_only_grow(void **state)
{
	struct region_options options = {.slot_bytes = 4096, .slot_count = 5};
	struct region *region = NULL;
	assert_int_equal(region_create(&options, &region, NULL), ERR_OK);
	for (uint64_t slot = 0; slot < 5; slot++)
		assert_int_equal(region_slot_generation(region, slot), 1);
	assert_int_equal(region_slot_renew(region, 3), 2);
	assert_int_equal(region_slot_renew(region, 3), 3);
	assert_int_equal(region_slot_generation(region, 3), 3);
	assert_int_equal(region_slot_generation(region, 2), 1);
	assert_ptr_equal((char *)region_slot(region, 4), (char *)region_slot(region, 0) + 4 * 4096);
	memset(region_slot(region, 0), 0xff, 5 * 4096);
	assert_int_equal(region_slot_generation(region, 4), 1);
	region_destroy(region);
}

/* Resident pages of this process's shared memory. */
static uint64_t shared_bytes(void)
{
	unsigned long long size, resident, shared;
	FILE *file = fopen("/proc/self/statm", "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%llu %llu %llu", &size, &resident, &shared), 3);
	fclose(file);
	return shared * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void pages_are_there_before_anybody_uses_them(void **state)
{
	struct region_options options = {.slot_bytes = 1 << 20, .slot_count = 32};
	for (int touched = 0; touched < 2; touched++) {
		struct region *region = NULL;
		uint64_t before = shared_bytes();
		options.touch = touched ? REGION_TOUCH : REGION_UNTOUCHED;
		assert_int_equal(region_create(&options, &region, NULL), ERR_OK);
		assert_int_equal(shared_bytes() >= before + ((uint64_t)32 << 20), touched);
		region_destroy(region);
	}
}

static void pages_come_behind_while_others_write(void **state)
{
	enum { SLOT = 1 << 20, SLOTS = 32, STRIDE = 4096 };
	struct region_options options = {.slot_bytes = SLOT, .slot_count = SLOTS, .touch = REGION_TOUCH_BEHIND};
	struct region *region = NULL;
	uint64_t before = shared_bytes();
	assert_int_equal(region_create(&options, &region, NULL), ERR_OK);
	uint8_t *data = region_slot(region, 0);
	for (uint32_t i = SLOT * (SLOTS / 2); i < SLOT * SLOTS; i += STRIDE)
		data[i] = (uint8_t)(i / STRIDE + 1);
	while (shared_bytes() < before + (uint64_t)SLOT * SLOTS) /* the other half comes by itself */
		sched_yield();
	for (uint32_t i = 0; i < SLOT * SLOTS; i += STRIDE)
		assert_int_equal(data[i], i < SLOT * (SLOTS / 2) ? 0 : (uint8_t)(i / STRIDE + 1));
	region_destroy(region);
}

static void region_may_go_while_its_pages_come(void **state)
{
	struct region_options options = {.slot_bytes = 1 << 20, .slot_count = 64, .touch = REGION_TOUCH_BEHIND};
	for (int i = 0; i < 20; i++) {
		struct region *region = NULL;
		assert_int_equal(region_create(&options, &region, NULL), ERR_OK);
		region_destroy(region);
	}
}

static void impossible_shapes_are_refused_with_a_reason(void **state)
{
	struct region *region = NULL;
	struct why why = {0};
	struct region_options odd = {.slot_bytes = 100, .slot_count = 5}, none = {.slot_bytes = 4096};
	struct region_options huge = {.slot_bytes = (uint64_t)1 << 40, .slot_count = (uint64_t)1 << 40};
	assert_int_equal(region_create(&odd, &region, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "multiple of 64"));
	assert_int_equal(region_create(&none, &region, &why), ERR_INVALID);
	assert_int_equal(region_create(&huge, &region, &why), ERR_TOO_LARGE);
	assert_null(region);
	region_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bounds_hold_within_one_slot_only),
		cmocka_unit_test(generations_begin_at_one_and_only_grow),
		cmocka_unit_test(pages_are_there_before_anybody_uses_them),
		cmocka_unit_test(pages_come_behind_while_others_write),
		cmocka_unit_test(region_may_go_while_its_pages_come),
		cmocka_unit_test(impossible_shapes_are_refused_with_a_reason),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
