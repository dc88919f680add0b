#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/quota.h"

#define S 1000000000ull

static struct quota *new_quota(void)
{
	return calloc(1, sizeof(struct quota));
}

static void requests_come_back_evenly(void **state)
{
	(void)state;
	struct quota *q = new_quota();
	struct quota_limits limits = {.requests_per_minute = 6};
	uint64_t retry;
	uint32_t a = quota_account(q, "a", &limits, S);
	for (int i = 0; i < 6; i++)
		assert_int_equal(quota_take_request(q, a, S, &retry), ERR_OK);
	assert_int_equal(quota_take_request(q, a, S, &retry), ERR_AGAIN);
	assert_in_range(retry, 10 * S - 1000, 10 * S + 1000);
	assert_int_equal(quota_take_request(q, a, 10 * S, &retry), ERR_AGAIN);
	assert_int_equal(quota_take_request(q, a, 11 * S + 1000, &retry), ERR_OK);
	assert_int_equal(quota_take_request(q, a, 11 * S + 1000, &retry), ERR_AGAIN);
	/* Never more than a minute's worth. */
	for (int i = 0; i < 6; i++)
		assert_int_equal(quota_take_request(q, a, 9999 * S, &retry), ERR_OK);
	assert_int_equal(quota_take_request(q, a, 9999 * S, &retry), ERR_AGAIN);
	assert_int_equal(q->accounts[a].use.requests, 17);
	assert_int_equal(q->accounts[a].use.refused, 4);
	free(q);
}

static void tokens_that_were_not_used_come_back(void **state)
{
	(void)state;
	struct quota *q = new_quota();
	struct quota_limits limits = {.tokens_per_minute = 1000};
	uint64_t retry, full;
	uint32_t left, a = quota_account(q, "a", &limits, S);
	assert_int_equal(quota_take_tokens(q, a, 1001, S, &retry), ERR_TOO_LARGE);
	assert_int_equal(retry, 0); /* never */
	assert_int_equal(quota_take_tokens(q, a, 900, S, &retry), ERR_OK);
	assert_int_equal(quota_take_tokens(q, a, 200, S, &retry), ERR_AGAIN);
	assert_in_range(retry, 6 * S - 1000, 6 * S + 1000);
	quota_settle(q, a, 900, 100, S);
	quota_show(&q->accounts[a].tokens, S, &left, &full);
	assert_int_equal(left, 900);
	assert_in_range(full, 6 * S - 1000, 6 * S + 1000);
	assert_int_equal(quota_take_tokens(q, a, 200, S, &retry), ERR_OK);
	free(q);
}

static void a_limit_that_changes_leaves_what_was_used_used(void **state)
{
	(void)state;
	struct quota *q = new_quota();
	uint64_t retry;
	uint32_t a = quota_account(q, "a", &(struct quota_limits){.requests_per_minute = 4}, S);
	for (int i = 0; i < 4; i++)
		assert_int_equal(quota_take_request(q, a, S, &retry), ERR_OK);
	assert_int_equal(quota_account(q, "a", &(struct quota_limits){.requests_per_minute = 6}, S), a);
	assert_int_equal(quota_take_request(q, a, S, &retry), ERR_OK);
	assert_int_equal(quota_take_request(q, a, S, &retry), ERR_OK);
	assert_int_equal(quota_take_request(q, a, S, &retry), ERR_AGAIN);
	assert_int_equal(quota_account(q, "a", &(struct quota_limits){0}, S), a);
	for (int i = 0; i < 100; i++)
		assert_int_equal(quota_take_request(q, a, S, &retry), ERR_OK);
	free(q);
}

static void names_are_bounded_and_those_at_rest_make_room(void **state)
{
	(void)state;
	struct quota *q = new_quota();
	struct quota_limits limits = {.requests_per_minute = 2};
	uint64_t retry;
	char name[32];
	for (int i = 0; i < QUOTA_ACCOUNTS_MAX - 1; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		assert_int_equal(quota_account(q, name, &limits, S), i);
		assert_int_equal(quota_take_request(q, (uint32_t)i, S, &retry), ERR_OK);
	}
	uint32_t last = QUOTA_ACCOUNTS_MAX - 1;
	assert_int_equal(quota_account(q, "more", &limits, S), last);
	assert_int_equal(quota_account(q, "and more", &limits, S), last);
	assert_string_equal(q->accounts[last].name, "other");
	assert_int_equal(quota_take_request(q, last, S, &retry), ERR_OK);
	assert_int_equal(quota_take_request(q, last, S, &retry), ERR_OK);
	assert_int_equal(quota_take_request(q, last, S, &retry), ERR_AGAIN); /* together no more than one */
	assert_int_equal(quota_account(q, "later", &limits, 100 * S), 0);     /* t0 is at rest */
	assert_string_equal(q->accounts[0].name, "later");
	free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_come_back_evenly),
		cmocka_unit_test(tokens_that_were_not_used_come_back),
		cmocka_unit_test(a_limit_that_changes_leaves_what_was_used_used),
		cmocka_unit_test(names_are_bounded_and_those_at_rest_make_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
