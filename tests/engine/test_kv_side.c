/* Every move of a layer that lies twice, and every move that may not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/kv_side.h"

static const char *const sides[KV_SIDES] = {"same", "host", "device"};

static void assert_moves(enum kv_side_event event, const char *from_same, const char *from_host, const char *from_device)
{
	const char *const expected[KV_SIDES] = {from_same, from_host, from_device};
	for (int side = 0; side < KV_SIDES; side++) {
		enum kv_side next = KV_DEVICE;
		bool may = kv_side_move((enum kv_side)side, event, &next);
		assert_string_equal(may ? sides[next] : "never", expected[side]);
	}
}

static void each_move_is_in_the_table(void **state)
{
	assert_moves(KV_LANDING, "host", "host", "never");
	assert_moves(KV_ARRIVING, "never", "device", "never");
	assert_moves(KV_ARRIVED, "never", "never", "same");
	assert_moves(KV_MISSED, "never", "never", "host");
	assert_moves(KV_UPLOADED, "never", "same", "never");
	assert_moves(KV_REPLACED, "same", "same", "never");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(each_move_is_in_the_table)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
