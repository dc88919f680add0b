/* The way of a request: its halves, its tokens, its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "tests/coordinator/story.h"

static void request_runs_through_a_pair(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	w.now_ns += 2 * MS;
	struct reserve r = started(&w, P1, D1);
	assert_int_equal(r.tokens, 20);
	assert_int_equal(r.prompt_count, 20);
	w.now_ns += 5 * MS;
	tell(&w, P1, &r, seen, 0, 20, MORE);
	assert_int_equal(seen->tokens[0], 1);
	w.now_ns += 3 * MS;
	tell(&w, D1, &r, seen, 0, 21, MORE);
	Wire__Accounting account = WIRE__ACCOUNTING__INIT;
	account.context = 20;
	account.computed = 4;
	account.reused = 8;
	account.fetched = 8;
	say_end(&w, P1, &r.job, P, ERR_OK, &account);
	tell(&w, D1, &r, seen, 0, 22, LENGTH);
	assert_int_equal(seen->ends, 0); /* decode still owes its account */
	account.computed = account.fetched = 0;
	account.transferred = 12;
	account.transport = "mapped";
	say_end(&w, D1, &r.job, D, ERR_OK, &account);
	expect_end(seen, ERR_OK);
	const struct coord_outcome *o = &seen->outcome;
	assert_int_equal(o->finish[0], LENGTH);
	assert_int_equal(o->generated[0], 3);
	assert_int_equal(o->cached_tokens, 16);
	assert_int_equal(o->prefill.computed, 4);
	assert_int_equal(o->decode.transferred, 12);
	assert_string_equal(o->decode.transport, "mapped");
	assert_int_equal(o->attempts, 1);
	assert_int_equal(o->recoveries, 0);
	assert_string_equal(o->attempt[0].prefill_name, "prefill 1");
	assert_string_equal(o->attempt[0].decode_name, "decode 1");
	assert_int_equal(o->timings.reserve_ns, 2 * MS);
	assert_int_equal(o->timings.prefill_ns, 5 * MS);
	assert_int_equal(o->timings.first_token_ns, 7 * MS);
	assert_int_equal(o->timings.transfer_ns, 3 * MS);
	assert_int_equal(o->timings.total_ns, 10 * MS);
	world_expect_silence(&w, P1);
	world_expect_silence(&w, D1);
	expect_empty(&w);
	world_fini(&w);
}

/* It heard the Reserve of an attempt that is over once more: nobody would ever free what it holds now. */
static void reservation_for_what_is_over_is_given_back(void **state)
{
	struct world w;
	struct seen *seen;
	world_init(&w, NULL);
	world_member(&w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	world_up(&w, 0);
	assert_int_equal(world_submit(&w, 100, 9, 1, 2, &seen), ERR_OK);
	struct reserve r = expect_reserve(&w, 0, BOTH);
	say_reserved(&w, 0, &r.job, BOTH, ERR_OK);
	world_expect(&w, 0, WIRE__ENVELOPE__BODY_START);
	say_reserved(&w, 0, &r.job, BOTH, ERR_OK); /* while it runs: the same words again */
	say_reserved(&w, 0, &r.job, BOTH, ERR_EXISTS);
	world_expect_silence(&w, 0);
	tell(&w, 0, &r, seen, 0, 9, MORE);
	tell(&w, 0, &r, seen, 0, 10, STOP);
	say_end(&w, 0, &r.job, BOTH, ERR_OK, NULL);
	expect_end(seen, ERR_OK);
	say_reserved(&w, 0, &r.job, BOTH, ERR_OK);
	const Wire__Envelope *cancel = world_expect(&w, 0, WIRE__ENVELOPE__BODY_CANCEL);
	assert_int_equal(cancel->cancel->job->number, r.job.number);
	assert_int_equal(cancel->cancel->job->attempt, r.job.attempt);
	say_reserved(&w, 0, &r.job, BOTH, ERR_AGAIN); /* holds nothing */
	world_expect_silence(&w, 0);
	expect_empty(&w);
	world_fini(&w);
}

static void one_node_of_both_roles_does_all(void **state)
{
	struct world w;
	struct seen *seen;
	world_init(&w, NULL);
	world_member(&w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	world_up(&w, 0);
	assert_int_equal(world_submit(&w, 100, 9, 1, 2, &seen), ERR_OK);
	struct reserve r = expect_reserve(&w, 0, BOTH);
	say_reserved(&w, 0, &r.job, BOTH, ERR_OK);
	world_expect(&w, 0, WIRE__ENVELOPE__BODY_START);
	world_expect_silence(&w, 0);
	tell(&w, 0, &r, seen, 0, 9, MORE);
	tell(&w, 0, &r, seen, 0, 10, STOP);
	Wire__Accounting account = WIRE__ACCOUNTING__INIT;
	account.reused = 8;
	say_end(&w, 0, &r.job, BOTH, ERR_OK, &account);
	expect_end(seen, ERR_OK);
	assert_int_equal(seen->outcome.cached_tokens, 8);
	assert_true(seen->outcome.attempt[0].both_halves);
	expect_empty(&w);
	world_fini(&w);
}

static void decode_that_is_heard_before_prefill_is_held(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	tell(&w, D1, &r, seen, 0, 21, MORE);
	tell(&w, D1, &r, seen, 0, 21, MORE); /* again: dropped */
	tell(&w, D1, &r, seen, 0, 22, STOP);
	say_end(&w, D1, &r.job, D, ERR_OK, NULL);
	assert_int_equal(seen->tokens[0], 0);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	assert_int_equal(seen->tokens[0], 3);
	assert_int_equal(seen->finish[0], STOP);
	say_end(&w, P1, &r.job, P, ERR_OK, NULL);
	expect_end(seen, ERR_OK);
	assert_int_equal(seen->outcome.recoveries, 0);
	expect_empty(&w);
	world_fini(&w);
}

static void end_that_never_comes_is_not_waited_for_long(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 20, MORE); /* max_tokens makes it the last one, whatever the node says */
	assert_int_equal(seen->finish[0], LENGTH);
	say_end(&w, P1, &r.job, P, ERR_OK, NULL);
	world_pass(&w, 900 * MS);
	assert_int_equal(seen->ends, 0);
	world_pass(&w, 200 * MS);
	expect_end(seen, ERR_OK);
	expect_cancel(&w, D1, &r.job);
	expect_empty(&w);
	world_fini(&w);
}

/* ---- tokens */

static void duplicates_are_dropped_and_a_gap_recovers(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	tell(&w, D1, &r, seen, 0, 21, MORE);
	tell(&w, D1, &r, seen, 0, 21, MORE);
	tell(&w, D1, &r, seen, 3, 22, MORE); /* no such choice */
	assert_int_equal(seen->tokens[0], 2);
	spares_up(&w);
	tell(&w, D1, &r, seen, 0, 23, MORE);
	assert_int_equal(seen->tokens[0], 2);
	expect_cancel(&w, P1, &r.job);
	expect_cancel(&w, D1, &r.job);
	assert_int_equal(w.route.decode, 3);
	struct reserve second = expect_reserve(&w, D2, D);
	assert_int_equal(second.tokens, 22);
	struct coord_counters counters;
	coord_counters(w.coord, &counters);
	assert_int_equal(counters.tokens_dropped, 3);
	assert_int_equal(counters.recoveries_protocol, 1);
	world_fini(&w);
}

static void node_that_is_not_of_the_job_is_not_believed(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	spares_up(&w);
	tell(&w, D2, &r, seen, 0, 20, MORE);
	say_end(&w, D2, &r.job, D, ERR_DEVICE, NULL);
	say_reserved(&w, P2, &r.job, P, ERR_AGAIN);
	assert_int_equal(seen->tokens[0], 0);
	world_expect_silence(&w, P1);
	world_expect_silence(&w, D1);
	world_fini(&w);
}

static void choice_that_the_shell_ends_is_cancelled_alone(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 2, 9, &seen), ERR_OK);
	seen->enough_after = 2;
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	tell(&w, P1, &r, seen, 1, 20, MORE);
	say_end(&w, P1, &r.job, P, ERR_OK, NULL);
	tell(&w, D1, &r, seen, 0, 21, MORE); /* enough */
	Wire__Cancel cancel = expect_cancel(&w, D1, &r.job);
	assert_true(cancel.one_choice);
	assert_int_equal(cancel.choice, 0);
	tell(&w, D1, &r, seen, 0, 22, MORE); /* was under way */
	assert_int_equal(seen->tokens[0], 2);
	coord_choice_done(w.coord, seen->request, 1, w.now_ns);
	cancel = expect_cancel(&w, D1, &r.job);
	assert_false(cancel.one_choice);
	assert_int_equal(seen->ends, 0);
	say_end(&w, D1, &r.job, D, ERR_CANCELED, NULL);
	expect_end(seen, ERR_OK);
	assert_int_equal(seen->outcome.finish[0], STOP);
	assert_int_equal(seen->outcome.generated[0], 2);
	assert_int_equal(seen->outcome.generated[1], 1);
	expect_empty(&w);
	world_fini(&w);
}

/* ---- the client goes */

static void cancel_frees_everything_in_each_state(void **state)
{
	for (int when = 0; when < 5; when++) {
		struct world w;
		struct seen *seen;
		cluster(&w, false);
		assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
		struct reserve r;
		memset(&r, 0, sizeof(r));
		if (when == 0) {
			r = expect_reserve(&w, P1, P);
			expect_reserve(&w, D1, D);
		} else {
			r = started(&w, P1, D1);
		}
		if (when >= 2)
			tell(&w, P1, &r, seen, 0, 20, MORE);
		if (when == 3) {
			world_cut(&w, D1); /* recovering: nothing is held */
			expect_cancel(&w, P1, &r.job);
		}
		if (when == 4) {
			coord_choice_done(w.coord, seen->request, 0, w.now_ns); /* closing */
			expect_cancel(&w, P1, &r.job);
			expect_cancel(&w, D1, &r.job);
		}
		coord_cancel(w.coord, seen->request, w.now_ns);
		if (when < 3) {
			expect_cancel(&w, P1, &r.job);
			expect_cancel(&w, D1, &r.job);
		}
		world_expect_silence(&w, P1);
		world_expect_silence(&w, D1);
		expect_end(seen, ERR_CANCELED);
		coord_cancel(w.coord, seen->request, w.now_ns);
		assert_int_equal(seen->ends, 1);
		say_end(&w, P1, &r.job, P, ERR_CANCELED, NULL);
		expect_empty(&w);
		world_fini(&w);
	}
}

static void drain_accepts_nothing_and_finishes_what_runs(void **state)
{
	struct world w;
	struct seen *seen, *none;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &seen), ERR_OK);
	coord_drain(w.coord);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &none), ERR_DRAINING);
	struct reserve r = started(&w, P1, D1);
	tell(&w, P1, &r, seen, 0, 20, LENGTH);
	assert_int_equal(coord_requests(w.coord), 1);
	say_end(&w, P1, &r.job, P, ERR_OK, NULL);
	say_end(&w, D1, &r.job, D, ERR_OK, NULL);
	assert_int_equal(coord_requests(w.coord), 0);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_runs_through_a_pair),
		cmocka_unit_test(reservation_for_what_is_over_is_given_back),
		cmocka_unit_test(one_node_of_both_roles_does_all),
		cmocka_unit_test(decode_that_is_heard_before_prefill_is_held),
		cmocka_unit_test(end_that_never_comes_is_not_waited_for_long),
		cmocka_unit_test(duplicates_are_dropped_and_a_gap_recovers),
		cmocka_unit_test(node_that_is_not_of_the_job_is_not_believed),
		cmocka_unit_test(choice_that_the_shell_ends_is_cancelled_alone),
		cmocka_unit_test(cancel_frees_everything_in_each_state),
		cmocka_unit_test(drain_accepts_nothing_and_finishes_what_runs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
