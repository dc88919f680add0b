#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/coordinator/story.h"

/* ---- prefill dies */

static void prefill_death_while_reserving_takes_another(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	struct reserve r = expect_reserve(&w, P1, P);
	expect_reserve(&w, D1, D);
	world_up(&w, P2);
	world_cut(&w, P1);
	expect_cancel(&w, D1, &r.job);
	struct reserve second = started(&w, P2, D1);
	assert_int_equal(second.tokens, 20);
	say_reserved(&w, D1, &r.job, D, ERR_OK); /* late, of the older attempt */
	assert_int_equal(seen->ends, 0);
	world_fini(&w);
}

static void prefill_death_before_the_first_token_starts_anew_elsewhere(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 2, 3, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	spares_up(&w);
	world_cut(&w, P1);
	expect_cancel(&w, D1, &r.job);
	assert_int_equal(w.route.prefill, 2);
	struct reserve second = started(&w, P2, w.route.decode == 1 ? D1 : D2);
	assert_int_equal(second.choices, 2); /* they share one context still */
	assert_int_equal(second.tokens, 20);
	tell(&w, D1, &r, seen, 0, 21, MORE); /* of the older attempt: dropped */
	assert_int_equal(seen->tokens[0], 0);
	world_fini(&w);
}

static void prefill_death_during_the_transfer_goes_on_with_the_next_token(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	world_up(&w, P2);
	world_cut(&w, P1);
	expect_cancel(&w, D1, &r.job);
	struct reserve second = started(&w, P2, D1);
	assert_int_equal(second.tokens, 21);
	assert_int_equal(second.prompt_count, 20);
	assert_int_equal(second.last_token, token_of(100, 0, 20));
	tell(&w, P2, &second, seen, 0, 21, MORE);
	tell(&w, D1, &second, seen, 0, 22, LENGTH);
	/* The account of the attempt that was cancelled counts too. */
	Wire__Accounting account = WIRE__ACCOUNTING__INIT;
	account.transferred = 8;
	say_end(&w, D1, &r.job, D, ERR_CANCELED, &account);
	say_end(&w, P2, &second.job, P, ERR_OK, NULL);
	account.transferred = 21;
	say_end(&w, D1, &second.job, D, ERR_OK, &account);
	expect_end(seen, ERR_OK);
	assert_int_equal(seen->tokens[0], 3);
	assert_int_equal(seen->outcome.attempts, 2);
	assert_int_equal(seen->outcome.recoveries, 1);
	assert_int_equal(seen->outcome.attempt[0].failed, ERR_PEER_GONE);
	assert_false(seen->outcome.attempt[0].failed_at_decode);
	assert_int_equal(seen->outcome.decode.transferred, 29);
	expect_empty(&w);
	world_fini(&w);
}

static void prefill_death_after_the_transfer_disturbs_nobody(void **state)
{
	for (int proof = 0; proof < 2; proof++) {
		struct world w;
		struct seen *seen;
		cluster(&w, true);
		assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
		struct reserve r = started(&w, P1, D1);
		world_up(&w, P2);
		tell(&w, P1, &r, seen, 0, 20, MORE);
		if (proof == 0)
			tell(&w, D1, &r, seen, 0, 21, MORE); /* it has everything */
		else
			say_end(&w, P1, &r.job, P, ERR_OK, NULL);
		world_cut(&w, P1);
		world_expect_silence(&w, D1);
		world_expect_silence(&w, P2);
		if (proof == 1)
			tell(&w, D1, &r, seen, 0, 21, MORE);
		tell(&w, D1, &r, seen, 0, 22, LENGTH);
		say_end(&w, D1, &r.job, D, ERR_OK, NULL);
		expect_end(seen, ERR_OK);
		assert_int_equal(seen->outcome.recoveries, 0);
		expect_empty(&w);
		world_fini(&w);
	}
}

/* ---- decode dies */

static void decode_death_with_three_choices_recovers_each_at_its_position(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 3, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	assert_int_equal(r.choices, 3);
	for (uint32_t c = 0; c < 3; c++)
		tell(&w, P1, &r, seen, c, 20, MORE);
	say_end(&w, P1, &r.job, P, ERR_OK, NULL);
	tell(&w, D1, &r, seen, 0, 21, MORE);
	tell(&w, D1, &r, seen, 0, 22, MORE);
	tell(&w, D1, &r, seen, 1, 21, STOP); /* over: needs no other attempt */
	world_up(&w, D2);
	world_cut(&w, D1);
	/* One job for each unfinished choice, in any order. */
	uint64_t numbers[2];
	for (int i = 0; i < 2; i++) {
		struct reserve again = expect_reserve(&w, P1, P);
		expect_reserve(&w, D2, D);
		assert_int_equal(again.choices, 1);
		uint32_t choice = again.choice_first;
		assert_true(choice == 0 || choice == 2);
		assert_int_equal(again.tokens, choice == 0 ? 23 : 21);
		assert_int_equal(again.job.attempt, 2);
		say_reserved(&w, P1, &again.job, P, ERR_OK);
		say_reserved(&w, D2, &again.job, D, ERR_OK);
		numbers[i] = again.job.number;
		/* Its messages are interleaved with the other's Reserve, so take the Starts below. */
		tell(&w, P1, &again, seen, choice, again.tokens, LENGTH);
		say_end(&w, P1, &again.job, P, ERR_OK, NULL);
		say_end(&w, D2, &again.job, D, ERR_OK, NULL);
	}
	assert_true(numbers[0] != numbers[1]);
	expect_end(seen, ERR_OK);
	assert_int_equal(seen->tokens[0], 4);
	assert_int_equal(seen->tokens[1], 2);
	assert_int_equal(seen->tokens[2], 2);
	assert_int_equal(seen->outcome.attempts, 3);
	assert_int_equal(seen->outcome.recoveries, 1);
	expect_empty(&w);
	world_fini(&w);
}

static void error_of_a_half_recovers_and_cancels_the_other(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	spares_up(&w);
	say_end(&w, D1, &r.job, D, ERR_CORRUPT, NULL); /* what it read from prefill was wrong */
	expect_cancel(&w, P1, &r.job);
	world_expect_silence(&w, D1 == 1 && w.route.decode == 1 ? P1 : D1);
	assert_int_equal(w.route.prefill, 2);
	struct coord_counters counters;
	coord_counters(w.coord, &counters);
	assert_int_equal(counters.recoveries_job_end, 1);
	world_fini(&w);
}

/* Which of the two is at fault decode cannot know: the job keeps away from both, and who comes next from the pair. */
static void hand_over_out_of_time_sets_the_pair_apart(void **state)
{
	struct world w;
	struct seen *seen, *next;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	spares_up(&w);
	say_end(&w, D1, &r.job, D, ERR_DEADLINE, NULL);
	expect_cancel(&w, P1, &r.job);
	assert_int_equal(w.route.prefill, 2);
	assert_int_equal(w.route.decode, 3);
	uint32_t together[2] = {0, 0};
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 16; i++) {
			assert_int_equal(world_submit(&w, 200 + 100 * i, 20, 1, 9, &next), ERR_OK);
			together[round] += w.route.prefill == 0 && w.route.decode == 1;
			coord_cancel(w.coord, next->request, w.now_ns);
		}
		coord_cancel(w.coord, seen->request, w.now_ns);
		world_pass(&w, 5100 * MS);
	}
	assert_int_equal(together[0], 0);
	assert_true(together[1] > 0);
	world_fini(&w);
}

static void silence_of_decode_recovers_elsewhere(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	say_end(&w, P1, &r.job, P, ERR_OK, NULL);
	world_up(&w, D2);
	world_pass(&w, 20100 * MS); /* it beats, but gives no token */
	expect_cancel(&w, D1, &r.job);
	struct reserve second = expect_reserve(&w, P1, P);
	expect_reserve(&w, D2, D);
	assert_int_equal(second.tokens, 21);
	world_fini(&w);
}

static void silent_node_is_dead_after_the_term(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	started(&w, P1, D1);
	for (int i = 0; i < 50; i++)
		world_tick(&w, 50 * MS); /* nobody beats */
	struct coord_node nodes[NODES_MAX];
	assert_int_equal(coord_nodes(w.coord, w.now_ns, nodes, NODES_MAX), 2);
	assert_int_equal(nodes[0].state, COORD_NODE_DOWN);
	assert_int_equal(nodes[1].state, COORD_NODE_DOWN);
	assert_int_equal(seen->ends, 0); /* waits for spares */
	world_fini(&w);
}

static void no_spare_in_time_is_a_clean_end(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	world_cut(&w, D1);
	expect_cancel(&w, P1, &r.job);
	world_pass(&w, 9900 * MS);
	assert_int_equal(seen->ends, 0);
	world_pass(&w, 200 * MS);
	expect_end(seen, ERR_UNAVAILABLE);
	assert_true(seen->outcome.retry_after_ns > 0);
	expect_empty(&w);
	world_fini(&w);
}

static void spare_that_comes_in_time_goes_on(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	world_cut(&w, D1);
	expect_cancel(&w, P1, &r.job);
	world_pass(&w, 3000 * MS);
	w.fakes[D1].incarnation++;
	world_up(&w, D1);
	world_pass(&w, 50 * MS);
	struct reserve second = started(&w, P1, D1);
	assert_int_equal(second.tokens, 21);
	world_fini(&w);
}

static void attempts_are_bounded(void **state)
{
	struct world w;
	struct seen *seen;
	struct coord_options options = {.attempts_max = 3};
	world_init(&w, &options);
	world_member(&w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	world_up(&w, 0);
	assert_int_equal(world_submit(&w, 1, 9, 1, 1, &seen), ERR_OK);
	for (int i = 0; i < 3; i++) {
		struct reserve r = expect_reserve(&w, 0, BOTH);
		say_reserved(&w, 0, &r.job, BOTH, ERR_OK);
		world_expect(&w, 0, WIRE__ENVELOPE__BODY_START);
		say_end(&w, 0, &r.job, BOTH, ERR_DEVICE, NULL);
		world_pass(&w, 100 * MS);
	}
	expect_end(seen, ERR_UNAVAILABLE);
	assert_int_equal(seen->outcome.attempts, 3);
	expect_empty(&w);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefill_death_while_reserving_takes_another),
		cmocka_unit_test(prefill_death_before_the_first_token_starts_anew_elsewhere),
		cmocka_unit_test(prefill_death_during_the_transfer_goes_on_with_the_next_token),
		cmocka_unit_test(prefill_death_after_the_transfer_disturbs_nobody),
		cmocka_unit_test(decode_death_with_three_choices_recovers_each_at_its_position),
		cmocka_unit_test(error_of_a_half_recovers_and_cancels_the_other),
		cmocka_unit_test(hand_over_out_of_time_sets_the_pair_apart),
		cmocka_unit_test(silence_of_decode_recovers_elsewhere),
		cmocka_unit_test(silent_node_is_dead_after_the_term),
		cmocka_unit_test(no_spare_in_time_is_a_clean_end),
		cmocka_unit_test(spare_that_comes_in_time_goes_on),
		cmocka_unit_test(attempts_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
