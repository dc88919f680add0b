/* Numbers that only grow: whatever wall clocks and etcd do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "net/claim.h"

#define HOUR_NS 3600000000000ull
#define WALL_NS 1800000000000000000ull

static enum claim_verdict judge(struct claim claim, uint64_t *ret_number)
{
	return claim_judge(&claim, ret_number);
}

static void first_life_takes_the_wall_clock(void **state)
{
	uint64_t number;
	assert_int_equal(judge((struct claim){.wall_ns = WALL_NS}, &number), CLAIM_TAKE);
	assert_int_equal(number, WALL_NS);
}

static void next_life_is_above_the_last_one_though_the_clock_went_back_an_hour(void **state)
{
	uint64_t number;
	assert_int_equal(judge((struct claim){.stored = WALL_NS, .wall_ns = WALL_NS - HOUR_NS}, &number), CLAIM_TAKE);
	assert_int_equal(number, WALL_NS + 1);
}

static void emptied_etcd_does_not_go_backwards_while_the_clock_does_not(void **state)
{
	uint64_t number;
	assert_int_equal(judge((struct claim){.wall_ns = WALL_NS + HOUR_NS}, &number), CLAIM_TAKE);
	assert_int_equal(number, WALL_NS + HOUR_NS);
}

static void emptied_etcd_and_a_clock_that_went_back_are_mended_by_a_refusal(void **state)
{
	uint64_t first, number;
	judge((struct claim){.wall_ns = WALL_NS - HOUR_NS}, &first);
	assert_int_equal(judge((struct claim){.own = first, .stored = first, .mine = true, .beaten = WALL_NS}, &number),
			 CLAIM_TAKE);
	assert_int_equal(number, WALL_NS + 1);
}

static void holder_says_its_number_again_into_an_emptied_etcd(void **state)
{
	uint64_t number;
	assert_int_equal(judge((struct claim){.own = 7}, &number), CLAIM_TAKE);
	assert_int_equal(number, 7);
	/* Also over that of an older life, which was quicker. */
	assert_int_equal(judge((struct claim){.own = 7, .stored = 5}, &number), CLAIM_TAKE);
	assert_int_equal(number, 7);
	assert_int_equal(judge((struct claim){.own = 7, .stored = 7, .mine = true}, &number), CLAIM_HELD);
}

static void who_finds_a_higher_number_has_been_replaced(void **state)
{
	uint64_t number;
	assert_int_equal(judge((struct claim){.own = 7, .stored = 9, .beaten = 20}, &number), CLAIM_LOST);
	assert_int_equal(number, 9);
	assert_int_equal(judge((struct claim){.own = 7, .stored = 7, .mine = false}, &number), CLAIM_LOST);
}

static void answer_that_was_lost_takes_no_second_number(void **state)
{
	uint64_t number;
	/* We wrote 12 and never heard of it. */
	assert_int_equal(judge((struct claim){.stored = 12, .mine = true, .wall_ns = 11}, &number), CLAIM_HELD);
	assert_int_equal(number, 12);
	assert_int_equal(judge((struct claim){.own = 7, .stored = 12, .mine = true, .beaten = 11}, &number), CLAIM_HELD);
	assert_int_equal(number, 12);
}

static void garbage_does_not_exhaust_the_numbers(void **state)
{
	uint64_t number;
	assert_int_equal(judge((struct claim){.stored = UINT64_MAX, .wall_ns = WALL_NS}, &number), CLAIM_TAKE);
	assert_int_equal(number, WALL_NS);
	assert_int_equal(judge((struct claim){.own = 7, .stored = 7, .mine = true, .beaten = UINT64_MAX}, &number),
			 CLAIM_HELD);
	assert_int_equal(number, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_life_takes_the_wall_clock),
		cmocka_unit_test(next_life_is_above_the_last_one_though_the_clock_went_back_an_hour),
		cmocka_unit_test(emptied_etcd_does_not_go_backwards_while_the_clock_does_not),
		cmocka_unit_test(emptied_etcd_and_a_clock_that_went_back_are_mended_by_a_refusal),
		cmocka_unit_test(holder_says_its_number_again_into_an_emptied_etcd),
		cmocka_unit_test(who_finds_a_higher_number_has_been_replaced),
		cmocka_unit_test(answer_that_was_lost_takes_no_second_number),
		cmocka_unit_test(garbage_does_not_exhaust_the_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
