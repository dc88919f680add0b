#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/coordinator/story.h"

/* Log-probabilities of a prompt of 20 tokens: 19 of them, each once, in order, before the first token. */

static struct reserve begin(struct world *w, struct seen **ret_seen)
{
	cluster(w, true);
	w->prompt_logprobs = 1;
	assert_int_equal(world_submit(w, 100, 20, 1, 3, ret_seen), ERR_OK);
	return started(w, P1, D1);
}

static void scores_come_before_the_first_token(void **state)
{
	struct world w;
	struct seen *seen;
	struct reserve r = begin(&w, &seen);
	assert_int_equal(r.scored, 0);
	say_scores(&w, P1, &r.job, 100, 1, 8);
	say_scores(&w, P1, &r.job, 100, 9, 11);
	assert_int_equal(seen->scored, 19);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	tell(&w, D1, &r, seen, 0, 21, STOP);
	assert_int_equal(seen->tokens[0], 2);
	world_fini(&w);
}

static void what_came_already_is_dropped_and_the_rest_is_taken(void **state)
{
	struct world w;
	struct seen *seen;
	struct reserve r = begin(&w, &seen);
	say_scores(&w, P1, &r.job, 100, 1, 8);
	say_scores(&w, P1, &r.job, 100, 1, 8);
	assert_int_equal(seen->scored, 8);
	say_scores(&w, P1, &r.job, 100, 5, 10);
	assert_int_equal(seen->scored, 14);
	say_scores(&w, P1, &r.job, 100, 15, 40); /* beyond the prompt */
	assert_int_equal(seen->scored, 19);
	say_scores(&w, P1, &r.job, 100, 20, 1);
	assert_int_equal(seen->scored, 19);
	world_fini(&w);
}

static void nobody_else_may_say_them(void **state)
{
	struct world w;
	struct seen *seen;
	struct reserve r = begin(&w, &seen);
	say_scores(&w, D1, &r.job, 100, 1, 8);
	Wire__JobId older = r.job;
	older.attempt--;
	say_scores(&w, P1, &older, 100, 1, 8);
	assert_int_equal(seen->scored, 0);
	world_fini(&w);
}

static void after_a_failure_the_next_node_goes_on_where_the_last_one_stopped(void **state)
{
	struct world w;
	struct seen *seen;
	struct reserve r = begin(&w, &seen);
	say_scores(&w, P1, &r.job, 100, 1, 8);
	world_up(&w, P2);
	world_cut(&w, P1);
	expect_cancel(&w, D1, &r.job);
	struct reserve second = started(&w, P2, D1);
	assert_int_equal(second.scored, 8);
	say_scores(&w, P2, &second.job, 100, 9, 11);
	assert_int_equal(seen->scored, 19);
	tell(&w, P2, &second, seen, 0, 20, MORE);
	assert_int_equal(seen->tokens[0], 1);
	/* After the first token nothing is scored any more. */
	world_up(&w, P1);
	world_cut(&w, P2);
	expect_cancel(&w, D1, &second.job);
	world_tick(&w, 100 * MS); /* prefill 1 failed before: it is asked again only when nobody else came */
	struct reserve third = started(&w, P1, D1);
	assert_int_equal(third.scored, 19);
	tell(&w, P1, &third, seen, 0, 21, MORE);
	assert_int_equal(seen->tokens[0], 2);
	world_fini(&w);
}

static void a_gap_or_a_token_too_early_is_a_failure_of_the_attempt(void **state)
{
	for (int gap = 0; gap < 2; gap++) {
		struct world w;
		struct seen *seen;
		struct reserve r = begin(&w, &seen);
		spares_up(&w);
		say_scores(&w, P1, &r.job, 100, 1, 4);
		if (gap)
			say_scores(&w, P1, &r.job, 100, 6, 4);
		else
			tell(&w, P1, &r, seen, 0, 20, MORE);
		assert_int_equal(seen->scored, 4);
		assert_int_equal(seen->tokens[0], 0);
		expect_cancel(&w, P1, &r.job);
		expect_cancel(&w, D1, &r.job);
		assert_int_equal(expect_reserve(&w, P2, P).scored, 4);
		world_fini(&w);
	}
}

static void a_prompt_of_one_token_has_none(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	w.prompt_logprobs = 21;
	assert_int_equal(world_submit(&w, 100, 1, 1, 3, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 1, MORE);
	assert_int_equal(seen->tokens[0], 1);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scores_come_before_the_first_token),
		cmocka_unit_test(what_came_already_is_dropped_and_the_rest_is_taken),
		cmocka_unit_test(nobody_else_may_say_them),
		cmocka_unit_test(after_a_failure_the_next_node_goes_on_where_the_last_one_stopped),
		cmocka_unit_test(a_gap_or_a_token_too_early_is_a_failure_of_the_attempt),
		cmocka_unit_test(a_prompt_of_one_token_has_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
