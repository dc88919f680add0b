/* Requests that wait: in what order they begin, who is sent away, and who is told what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/coordinator/story.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queue_is_bounded_and_served_in_order),
		cmocka_unit_test(a_tenant_that_floods_waits_behind_itself),
		cmocka_unit_test(a_full_queue_sends_away_who_has_most_and_flex_first),
		cmocka_unit_test(a_tenant_waits_and_runs_with_no_more_than_it_may),
		cmocka_unit_test(a_wait_that_would_be_too_long_is_refused_at_once),
		cmocka_unit_test(queued_request_is_told_when_no_room_comes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
