/* A request has a place at both nodes of a pair or at none: refusals, silence, nobody there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/coordinator/story.h"

static void refusal_of_a_half_cancels_the_other_and_tries_another_pair(void **state)
{
	for (int refuser = 0; refuser < 2; refuser++) {
		struct world w;
		struct seen *seen;
		cluster(&w, true);
		assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
		struct reserve r = expect_reserve(&w, P1, P);
		expect_reserve(&w, D1, D);
		spares_up(&w);
		say_reserved(&w, refuser ? P1 : D1, &r.job, refuser ? P : D, ERR_OK);
		say_reserved(&w, refuser ? D1 : P1, &r.job, refuser ? D : P, ERR_AGAIN);
		expect_cancel(&w, refuser ? P1 : D1, &r.job);
		world_expect_silence(&w, refuser ? D1 : P1);
		/* The one that refused is avoided; of the others any may be asked. */
		struct reserve second;
		uint32_t p = refuser ? (w.route.prefill == 0 ? P1 : P2) : P2;
		uint32_t d = refuser ? D2 : (w.route.decode == 1 ? D1 : D2);
		second = started(&w, p, d);
		assert_int_equal(second.job.number, r.job.number);
		assert_int_equal(second.job.attempt, r.job.attempt + 1);
		/* What the first attempt still says is stray. */
		say_end(&w, refuser ? P1 : D1, &r.job, refuser ? P : D, ERR_CANCELED, NULL);
		coord_cancel(w.coord, seen->request, w.now_ns);
		expect_cancel(&w, p, &second.job);
		expect_cancel(&w, d, &second.job);
		expect_end(seen, ERR_CANCELED);
		expect_empty(&w);
		world_fini(&w);
	}
}

/* A Reserve that reaches its node twice, the second time when all is over: nobody else would ever end that. */
static void place_that_nobody_waits_for_is_given_back(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 2, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	say_reserved(&w, P1, &r.job, P, ERR_OK); /* said twice while it is wanted */
	world_expect_silence(&w, P1);
	tell(&w, P1, &r, seen, 0, 20, MORE);
	say_end(&w, P1, &r.job, P, ERR_OK, NULL);
	say_reserved(&w, P1, &r.job, P, ERR_OK); /* its half is over */
	expect_cancel(&w, P1, &r.job);
	tell(&w, D1, &r, seen, 0, 21, LENGTH);
	say_end(&w, D1, &r.job, D, ERR_OK, NULL);
	expect_end(seen, ERR_OK);
	say_reserved(&w, D1, &r.job, D, ERR_OK); /* the request is over */
	expect_cancel(&w, D1, &r.job);
	say_reserved(&w, D1, &r.job, D, ERR_AGAIN); /* holds nothing */
	Wire__JobId foreign = r.job;
	foreign.coordinator++;
	say_reserved(&w, D1, &foreign, D, ERR_OK);
	world_expect_silence(&w, D1);
	expect_empty(&w);
	world_fini(&w);
}

static void lone_pair_that_is_full_is_asked_again_later(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	struct reserve r = expect_reserve(&w, P1, P);
	expect_reserve(&w, D1, D);
	say_reserved(&w, P1, &r.job, P, ERR_OK);
	say_reserved(&w, D1, &r.job, D, ERR_AGAIN);
	expect_cancel(&w, P1, &r.job);
	world_expect_silence(&w, D1);
	struct coord_counters counters;
	coord_counters(w.coord, &counters);
	assert_int_equal(counters.requests_queued, 1);
	world_pass(&w, 50 * MS);
	started(&w, P1, D1);
	world_fini(&w);
}

/* 100 tokens and 20 more are 16 blocks.  A node may have blocks that no job may reserve, and the other way round blocks in use
 * that hinder no job. */
static void decode_is_asked_where_it_may_reserve(void **state)
{
	for (int which = 0; which < 2; which++) {
		struct world w;
		struct seen *seen;
		uint32_t full = which ? D1 : D2, other = which ? D2 : D1;
		cluster(&w, true);
		spares_up(&w);
		say_room(&w, full, 4, 19, 4);
		say_room(&w, other, 30, 20, 4);
		assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
		assert_int_equal(w.route.decode, other);
		assert_int_equal(w.route.avoid, 0);
		world_fini(&w);
	}
}

static void request_that_no_node_can_hold_ends_so(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	struct reserve r = expect_reserve(&w, P1, P);
	say_reserved(&w, D1, &r.job, D, ERR_TOO_LARGE);
	expect_cancel(&w, P1, &r.job);
	expect_end(seen, ERR_TOO_LARGE);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	r = expect_reserve(&w, P1, P);
	say_reserved(&w, P1, &r.job, P, ERR_INVALID);
	expect_end(seen, ERR_INVALID);
	expect_empty(&w);
	world_fini(&w);
}

static void silence_after_reserve_tries_another_pair(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	struct reserve r = expect_reserve(&w, P1, P);
	expect_reserve(&w, D1, D);
	spares_up(&w);
	say_reserved(&w, P1, &r.job, P, ERR_OK);
	world_pass(&w, 2000 * MS);
	expect_cancel(&w, P1, &r.job);
	expect_cancel(&w, D1, &r.job);
	struct coord_node nodes[NODES_MAX];
	coord_nodes(w.coord, w.now_ns, nodes, NODES_MAX);
	assert_int_equal(nodes[D1].state, COORD_NODE_SUSPECT);
	assert_int_equal(w.route.decode, 3);
	expect_reserve(&w, D2, D);
	world_fini(&w);
}

static void without_a_node_of_a_role_a_request_is_refused_at_once(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	world_cut(&w, D1);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_UNAVAILABLE);
	world_up(&w, D1);
	world_cut(&w, P1);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_UNAVAILABLE);
	coord_member_remove(w.coord, 1, w.now_ns);
	coord_member_remove(w.coord, 2, w.now_ns); /* lives: stays */
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_UNAVAILABLE);
	world_cut(&w, D1);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_NOT_FOUND);
	expect_empty(&w);
	world_fini(&w);
}

static void who_asks_before_the_nodes_were_heard_of_waits_for_them(void **state)
{
	struct world w;
	struct seen *seen, *late;
	struct coord_options options = {.opening_ns = 2000 * MS};
	world_init(&w, &options);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	world_member(&w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &late), ERR_OK); /* known, and no session yet */
	world_up(&w, 0);
	world_tick(&w, 50 * MS);
	expect_reserve(&w, 0, BOTH);
	expect_reserve(&w, 0, BOTH);
	world_pass(&w, 2000 * MS);
	world_cut(&w, 0);
	struct seen *refused;
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &refused), ERR_UNAVAILABLE);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusal_of_a_half_cancels_the_other_and_tries_another_pair),
		cmocka_unit_test(place_that_nobody_waits_for_is_given_back),
		cmocka_unit_test(lone_pair_that_is_full_is_asked_again_later),
		cmocka_unit_test(decode_is_asked_where_it_may_reserve),
		cmocka_unit_test(request_that_no_node_can_hold_ends_so),
		cmocka_unit_test(silence_after_reserve_tries_another_pair),
		cmocka_unit_test(without_a_node_of_a_role_a_request_is_refused_at_once),
		cmocka_unit_test(who_asks_before_the_nodes_were_heard_of_waits_for_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
