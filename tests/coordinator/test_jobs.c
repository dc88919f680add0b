#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "kvstore/key.h"
#include "tests/coordinator/story.h"

/* ---- the way of a request */

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

/* ---- both or neither */

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

static void queue_is_bounded_and_served_in_order(void **state)
{
	struct world w;
	struct seen *seen[4];
	struct coord_options options = {.queue_max = 2};
	world_init(&w, &options);
	world_member(&w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	world_up(&w, 0);
	assert_int_equal(world_submit(&w, 1, 9, 1, 1, &seen[0]), ERR_OK);
	struct reserve r = expect_reserve(&w, 0, BOTH);
	say_reserved(&w, 0, &r.job, BOTH, ERR_OK);
	world_expect(&w, 0, WIRE__ENVELOPE__BODY_START);
	Wire__Load load = WIRE__LOAD__INIT;
	load.jobs = 2; /* both halves of it */
	load.jobs_max = 1;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOAD;
	envelope.load = &load;
	say(&w, 0, &envelope);
	assert_int_equal(world_submit(&w, 2, 9, 1, 1, &seen[1]), ERR_OK);
	assert_int_equal(world_submit(&w, 3, 9, 1, 1, &seen[2]), ERR_OK);
	assert_int_equal(world_submit(&w, 4, 9, 1, 1, &seen[3]), ERR_UNAVAILABLE);
	world_expect_silence(&w, 0);
	for (int i = 0; i < 3; i++) {
		tell(&w, 0, &r, seen[i], 0, 9, LENGTH);
		say_end(&w, 0, &r.job, BOTH, ERR_OK, NULL);
		expect_end(seen[i], ERR_OK);
		if (i == 2)
			break;
		r = expect_reserve(&w, 0, BOTH); /* at once, in order */
		assert_int_equal(r.job.number, seen[i + 1]->request);
		say_reserved(&w, 0, &r.job, BOTH, ERR_OK);
		world_expect(&w, 0, WIRE__ENVELOPE__BODY_START);
		world_expect_silence(&w, 0);
	}
	expect_empty(&w);
	world_fini(&w);
}

/* One node that takes one job at a time, busy with the first request. */
static struct reserve busy_node(struct world *w, const struct coord_options *options, struct seen **ret_first)
{
	world_init(w, options);
	world_member(w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	world_up(w, 0);
	assert_int_equal(world_submit(w, 1, 9, 1, 1, ret_first), ERR_OK);
	struct reserve r = expect_reserve(w, 0, BOTH);
	say_reserved(w, 0, &r.job, BOTH, ERR_OK);
	world_expect(w, 0, WIRE__ENVELOPE__BODY_START);
	Wire__Load load = WIRE__LOAD__INIT;
	load.jobs = 2;
	load.jobs_max = 1;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOAD;
	envelope.load = &load;
	say(w, 0, &envelope);
	return r;
}

/* The node gives its token and ends; what it is asked next. */
static struct reserve next_begins(struct world *w, struct reserve done, const struct seen *seen)
{
	tell(w, 0, &done, seen, 0, 9, LENGTH);
	say_end(w, 0, &done.job, BOTH, ERR_OK, NULL);
	expect_end(seen, ERR_OK);
	struct reserve r = expect_reserve(w, 0, BOTH);
	say_reserved(w, 0, &r.job, BOTH, ERR_OK);
	world_expect(w, 0, WIRE__ENVELOPE__BODY_START);
	return r;
}

static void a_tenant_that_floods_waits_behind_itself(void **state)
{
	(void)state;
	struct world w;
	struct seen *first, *flood[6], *other[2], *running;
	struct reserve r = busy_node(&w, &(struct coord_options){.queue_max = 8}, &first);
	w.tenant = "flood";
	for (int i = 0; i < 6; i++)
		assert_int_equal(world_submit(&w, 10 + (uint32_t)i, 9, 1, 1, &flood[i]), ERR_OK);
	w.tenant = "other";
	for (int i = 0; i < 2; i++)
		assert_int_equal(world_submit(&w, 20 + (uint32_t)i, 9, 1, 1, &other[i]), ERR_OK);
	const struct seen *expected[] = {flood[0], other[0], flood[1], other[1], flood[2], flood[3], flood[4], flood[5]};
	running = first;
	for (int i = 0; i < 8; i++) {
		r = next_begins(&w, r, running);
		assert_int_equal(r.job.number, expected[i]->request);
		running = world_seen(&w, expected[i]->request);
	}
	tell(&w, 0, &r, running, 0, 9, LENGTH);
	say_end(&w, 0, &r.job, BOTH, ERR_OK, NULL);
	expect_empty(&w);
	world_fini(&w);
}

static void a_full_queue_sends_away_who_has_most_and_flex_first(void **state)
{
	(void)state;
	struct world w;
	struct seen *first, *flood[3], *other, *priority, *refused;
	busy_node(&w, &(struct coord_options){.queue_max = 3}, &first);
	w.tenant = "flood";
	for (int i = 0; i < 3; i++) {
		w.class = i == 0 ? COORD_FLEX : COORD_DEFAULT;
		assert_int_equal(world_submit(&w, 10 + (uint32_t)i, 9, 1, 1, &flood[i]), ERR_OK);
	}
	assert_int_equal(world_submit(&w, 19, 9, 1, 1, &refused), ERR_OK); /* takes its own flex request's place */
	expect_end(flood[0], ERR_AGAIN);
	assert_true(flood[0]->outcome.retry_after_ns > 0);
	assert_int_equal(world_submit(&w, 19, 9, 1, 1, &refused), ERR_UNAVAILABLE);
	w.tenant = "other";
	assert_int_equal(world_submit(&w, 20, 9, 1, 1, &other), ERR_OK);
	assert_int_equal(other->ends, 0);
	w.class = COORD_PRIORITY;
	w.tenant = "flood";
	assert_int_equal(world_submit(&w, 21, 9, 1, 1, &priority), ERR_OK);
	assert_int_equal(priority->ends + other->ends, 0);
	struct coord_counters c;
	coord_counters(w.coord, &c);
	assert_int_equal(c.shed, 3);
	assert_int_equal(c.requests_queued, 3);
	world_fini(&w);
}

static void a_tenant_waits_and_runs_with_no_more_than_it_may(void **state)
{
	(void)state;
	struct world w;
	struct seen *seen[6];
	world_init(&w, NULL);
	world_member(&w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	world_up(&w, 0);
	w.tenant = "acme";
	w.share = (struct fair_share){.running_max = 2, .waiting_max = 2};
	for (int i = 0; i < 4; i++)
		assert_int_equal(world_submit(&w, 10 + (uint32_t)i, 9, 1, 1, &seen[i]), ERR_OK);
	assert_int_equal(world_submit(&w, 14, 9, 1, 1, &seen[4]), ERR_AGAIN);
	struct coord_tenant_load load = coord_tenant_load(w.coord, "acme");
	assert_int_equal(load.running, 2);
	assert_int_equal(load.waiting, 2);
	struct reserve a = expect_reserve(&w, 0, BOTH), b = expect_reserve(&w, 0, BOTH);
	world_expect_silence(&w, 0);
	w.tenant = "beta"; /* the node has room, and others use it */
	w.share = (struct fair_share){0};
	assert_int_equal(world_submit(&w, 15, 9, 1, 1, &seen[5]), ERR_OK);
	assert_int_equal(expect_reserve(&w, 0, BOTH).job.number, seen[5]->request);
	(void)b;
	say_reserved(&w, 0, &a.job, BOTH, ERR_OK);
	world_expect(&w, 0, WIRE__ENVELOPE__BODY_START);
	tell(&w, 0, &a, seen[0], 0, 9, LENGTH);
	say_end(&w, 0, &a.job, BOTH, ERR_OK, NULL);
	expect_end(seen[0], ERR_OK);
	assert_int_equal(expect_reserve(&w, 0, BOTH).job.number, seen[2]->request);
	world_fini(&w);
}

static void a_wait_that_would_be_too_long_is_refused_at_once(void **state)
{
	(void)state;
	struct world w;
	struct seen *running, *late, *queue[40] = {NULL};
	struct coord_options options = {.queue_max = 64, .requests_max = 64, .wait_max_ns = 2000 * MS};
	struct reserve r = busy_node(&w, &options, &running);
	uint32_t put = 0, taken = 0;
	for (; put < 12; put++)
		assert_int_equal(world_submit(&w, 100, 9, 1, 1, &queue[put]), ERR_OK);
	/* Two begin in a second: so it is measured. */
	for (; taken < 6; taken++) {
		world_pass(&w, 500 * MS);
		r = next_begins(&w, r, running);
		running = queue[taken];
	}
	w.share = (struct fair_share){0};
	assert_int_equal(world_submit(&w, 100, 9, 1, 1, &late), ERR_UNAVAILABLE); /* 6 of its own are ahead: 3 s */
	w.tenant = "other";
	assert_int_equal(world_submit(&w, 100, 9, 1, 1, &late), ERR_OK); /* its share begins at once */
	w.tenant = "";
	w.class = COORD_PRIORITY;
	assert_int_equal(world_submit(&w, 100, 9, 1, 1, &late), ERR_OK);
	w.class = COORD_FLEX;
	assert_int_equal(world_submit(&w, 100, 9, 1, 1, &late), ERR_UNAVAILABLE);
	world_fini(&w);
}

static void queued_request_is_told_when_no_room_comes(void **state)
{
	struct world w;
	struct seen *seen;
	struct coord_options options = {.queue_ns = 1000 * MS};
	world_init(&w, &options);
	world_member(&w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	world_up(&w, 0);
	assert_int_equal(world_submit(&w, 1, 9, 1, 1, &seen), ERR_OK);
	for (int i = 0; i < 100 && !seen->ends; i++) {
		const Wire__Envelope *envelope = world_next(&w, 0);
		if (envelope && envelope->body_case == WIRE__ENVELOPE__BODY_RESERVE) {
			Wire__JobId job = *envelope->reserve->job;
			say_reserved(&w, 0, &job, BOTH, ERR_AGAIN);
		}
		world_pass(&w, 50 * MS);
	}
	expect_end(seen, ERR_UNAVAILABLE);
	assert_true(seen->outcome.retry_after_ns > 0);
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

/* ---- registry and index */

static void node_that_holds_the_prefix_is_asked_and_others_are_named(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	spares_up(&w);
	uint32_t prompt[20];
	for (uint32_t i = 0; i < 20; i++)
		prompt[i] = 100 + i;
	struct id128 compat = {.bytes = {1}}, root, keys[2];
	kv_key_root(&compat, 0, NULL, 0, &root);
	kv_key_chain(&root, prompt, 2, BLOCK_TOKENS, keys);
	say_events(&w, P2, false, keys, 2, NULL, 0);
	say_events(&w, D2, false, keys, 1, NULL, 0);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &seen), ERR_OK);
	struct reserve r = expect_reserve(&w, P2, P);
	assert_int_equal(r.holders, 1); /* decode 2: itself is no hint */
	assert_int_equal(w.route.cached, 16);
	world_fini(&w);
}

static void gap_in_the_events_asks_for_a_snapshot(void **state)
{
	struct world w;
	cluster(&w, false);
	struct id128 key = {.bytes = {9}};
	w.fakes[P1].events++;
	say_events(&w, P1, false, &key, 1, NULL, 0);
	world_expect(&w, P1, WIRE__ENVELOPE__BODY_KV_RESYNC);
	world_pass(&w, 1100 * MS); /* it is asked again when it does not answer */
	world_expect(&w, P1, WIRE__ENVELOPE__BODY_KV_RESYNC);
	say_events(&w, P1, true, &key, 1, NULL, 0);
	world_pass(&w, 1100 * MS);
	world_expect_silence(&w, P1);
	struct coord_node nodes[NODES_MAX];
	coord_nodes(w.coord, w.now_ns, nodes, NODES_MAX);
	assert_int_equal(nodes[0].blocks_indexed, 1);
	world_fini(&w);
}

static void only_nodes_of_one_compat_are_paired(void **state)
{
	struct world w;
	struct seen *seen;
	world_init(&w, NULL);
	world_member(&w, WIRE__ROLE__ROLE_PREFILL, "prefill 1", 1, "m");
	world_member(&w, WIRE__ROLE__ROLE_DECODE, "decode 1", 2, "m");
	world_up(&w, 0);
	world_up(&w, 1);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &seen), ERR_UNAVAILABLE);
	uint32_t d = world_member(&w, WIRE__ROLE__ROLE_DECODE, "decode 2", 1, "m");
	world_up(&w, d);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &seen), ERR_OK);
	expect_reserve(&w, 0, P);
	expect_reserve(&w, d, D);
	world_fini(&w);
}

static void status_shows_what_nodes_report(void **state)
{
	struct world w;
	cluster(&w, false);
	say_load(&w, P1, 1234, 0);
	coord_member_remove(w.coord, w.fakes[P1].id, w.now_ns); /* noise: it lives */
	struct coord_node nodes[NODES_MAX];
	assert_int_equal(coord_nodes(w.coord, w.now_ns + 100, nodes, NODES_MAX), 2);
	assert_string_equal(nodes[0].name, "prefill 1");
	assert_int_equal(nodes[0].state, COORD_NODE_UP);
	assert_false(nodes[0].member);
	assert_int_equal(nodes[0].tokens_waiting, 1234);
	assert_int_equal(nodes[0].load_age_ns, 100);
	struct coord_model models[4];
	assert_int_equal(coord_models(w.coord, models, 4), 1);
	assert_string_equal(models[0].name, "m");
	assert_true(models[0].ready);
	char text[512];
	coord_dump(w.coord, w.now_ns, text, sizeof(text));
	assert_non_null(strstr(text, "prefill 1"));
	world_cut(&w, P1);
	assert_int_equal(coord_nodes(w.coord, w.now_ns, nodes, NODES_MAX), 1);
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
		cmocka_unit_test(refusal_of_a_half_cancels_the_other_and_tries_another_pair),
		cmocka_unit_test(place_that_nobody_waits_for_is_given_back),
		cmocka_unit_test(lone_pair_that_is_full_is_asked_again_later),
		cmocka_unit_test(decode_is_asked_where_it_may_reserve),
		cmocka_unit_test(request_that_no_node_can_hold_ends_so),
		cmocka_unit_test(silence_after_reserve_tries_another_pair),
		cmocka_unit_test(without_a_node_of_a_role_a_request_is_refused_at_once),
		cmocka_unit_test(who_asks_before_the_nodes_were_heard_of_waits_for_them),
		cmocka_unit_test(queue_is_bounded_and_served_in_order),
		cmocka_unit_test(a_tenant_that_floods_waits_behind_itself),
		cmocka_unit_test(a_full_queue_sends_away_who_has_most_and_flex_first),
		cmocka_unit_test(a_tenant_waits_and_runs_with_no_more_than_it_may),
		cmocka_unit_test(a_wait_that_would_be_too_long_is_refused_at_once),
		cmocka_unit_test(queued_request_is_told_when_no_room_comes),
		cmocka_unit_test(duplicates_are_dropped_and_a_gap_recovers),
		cmocka_unit_test(node_that_is_not_of_the_job_is_not_believed),
		cmocka_unit_test(choice_that_the_shell_ends_is_cancelled_alone),
		cmocka_unit_test(cancel_frees_everything_in_each_state),
		cmocka_unit_test(drain_accepts_nothing_and_finishes_what_runs),
		cmocka_unit_test(node_that_holds_the_prefix_is_asked_and_others_are_named),
		cmocka_unit_test(gap_in_the_events_asks_for_a_snapshot),
		cmocka_unit_test(only_nodes_of_one_compat_are_paired),
		cmocka_unit_test(status_shows_what_nodes_report),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
