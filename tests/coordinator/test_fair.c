#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "coordinator/fair.h"
#include "coordinator/pace.h"

enum { TENANTS = 8, ITEMS = 4096 };

struct world {
	struct fair fair;
	void *memory;
	struct fair_item items[ITEMS];
	uint32_t used;
	struct rng rng;
};

static void open_world(struct world *w, uint32_t tenants_max)
{
	memset(w, 0, sizeof(*w));
	w->memory = malloc(fair_bytes(tenants_max));
	w->rng.seed = 3;
	fair_init(&w->fair, w->memory, tenants_max);
}

static void close_world(struct world *w)
{
	fair_check(&w->fair);
	free(w->memory);
}

static uint32_t tenant(struct world *w, const char *name, uint32_t weight)
{
	return fair_tenant(&w->fair, name, &(struct fair_share){.weight = weight});
}

static struct fair_item *put(struct world *w, uint32_t of, uint8_t class, uint64_t cost, uint64_t since_ns)
{
	assert_true(w->used < ITEMS);
	struct fair_item *item = &w->items[w->used++];
	*item = (struct fair_item){.tenant = of, .class = class, .cost = cost};
	fair_wait(&w->fair, item, since_ns);
	return item;
}

/* The next one runs; NULL: none may. */
static struct fair_item *serve(struct world *w, uint8_t class)
{
	fair_walk(&w->fair, class);
	struct fair_item *item = fair_next(&w->fair);
	if (item)
		fair_run(&w->fair, item);
	return item;
}

/* Over any stretch in which both wait all the time, work / weight differs by at most one item of each. */
static void work_follows_weights_whatever_the_items_are(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	for (uint64_t seed = 0; seed < 40; seed++) {
		open_world(w, TENANTS);
		w->rng.seed = seed;
		uint32_t weights[3] = {1, 1 + (uint32_t)rng_below(&w->rng, 5), 1 + (uint32_t)rng_below(&w->rng, 9)};
		uint32_t of[3] = {tenant(w, "a", weights[0]), tenant(w, "b", weights[1]), tenant(w, "c", weights[2])};
		uint64_t longest[3] = {0}, done[3] = {0};
		for (int i = 0; i < 900; i++) {
			uint64_t cost = 1 + rng_below(&w->rng, i % 3 == 0 ? 20 : 1000);
			longest[i % 3] = cost > longest[i % 3] ? cost : longest[i % 3];
			put(w, of[i % 3], 1, cost, (uint64_t)i);
		}
		for (int step = 0; step < 300; step++) {
			const struct fair_item *item = serve(w, 1);
			uint32_t t = item->tenant == of[0] ? 0 : item->tenant == of[1] ? 1 : 2;
			done[t] += item->cost;
			bool all_wait = true;
			for (int i = 0; i < 3; i++)
				all_wait &= w->fair.tenants[of[i]].waiting > 0;
			for (int a = 0; all_wait && a < 3; a++)
				for (int b = 0; b < 3; b++) {
					double apart = (double)done[a] / weights[a] - (double)done[b] / weights[b];
					double allowed = (double)longest[a] / weights[a] + (double)longest[b] / weights[b];
					assert_true(apart <= allowed + 1);
				}
		}
		close_world(w);
	}
	free(w);
}

static void a_flood_delays_another_tenant_by_one_item(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t flood = tenant(w, "flood", 1), other = tenant(w, "other", 1);
	for (int i = 0; i < 1000; i++)
		put(w, flood, 1, 100, 0);
	for (int i = 0; i < 200; i++)
		assert_int_equal(serve(w, 1)->tenant, flood);
	const struct fair_item *late = put(w, other, 1, 100, 5);
	const struct fair_item *first = serve(w, 1), *second = serve(w, 1);
	assert_true(first == late || second == late);
	/* What it saved up while it was away is nothing: from here on it gets half. */
	for (int i = 0; i < 100; i++)
		put(w, other, 1, 100, 6);
	uint32_t others = 0;
	for (int i = 0; i < 100; i++)
		others += serve(w, 1)->tenant == other;
	assert_in_range(others, 49, 51);
	close_world(w);
	free(w);
}

static void nobody_starves_under_any_load(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t small = tenant(w, "small", 1), large = tenant(w, "large", 1000);
	const struct fair_item *one = put(w, small, 1, 2000, 0);
	uint32_t before = 0;
	for (int i = 0; i < ITEMS - 1 && one->waiting; i++) {
		put(w, large, 1, 1, (uint64_t)i);
		serve(w, 1);
		before++;
	}
	assert_false(one->waiting);
	assert_true(before <= 2); /* its tag began where virtual time was */
	close_world(w);
	free(w);
}

static void short_work_goes_first_but_overtakes_only_so_far(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t a = tenant(w, "a", 1);
	const struct fair_item *huge = put(w, a, 1, 1u << 30, 0), *plain = put(w, a, 1, 100, 0);
	const struct fair_item *soon = put(w, a, 1, 10, 80 * FAIR_COST_NS);
	const struct fair_item *later = put(w, a, 1, 10, 91 * FAIR_COST_NS);
	const struct fair_item *too_late = put(w, a, 1, 1, FAIR_OVERTAKE_NS);
	const struct fair_item *expected[] = {soon, plain, later, huge, too_late};
	for (int i = 0; i < 5; i++)
		assert_ptr_equal(serve(w, 1), expected[i]);
	close_world(w);
	free(w);
}

static void classes_are_apart(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t a = tenant(w, "a", 1), b = tenant(w, "b", 1);
	for (int i = 0; i < 10; i++)
		put(w, a, 0, 1000, 0);
	for (int i = 0; i < 10; i++)
		serve(w, 0);
	const struct fair_item *of_a = put(w, a, 2, 10, 0);
	put(w, b, 2, 10, 1);
	assert_ptr_equal(serve(w, 2), of_a); /* what it had of another class is no debt here */
	close_world(w);
	free(w);
}

static void one_that_is_given_back_has_cost_nothing(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t a = tenant(w, "a", 1), b = tenant(w, "b", 1);
	struct fair_item *first = put(w, a, 1, 50, 0);
	put(w, b, 1, 60, 1);
	assert_ptr_equal(serve(w, 1), first);
	assert_int_equal(w->fair.tenants[a].running, 1);
	fair_wait(&w->fair, first, 0); /* no node took it */
	assert_int_equal(w->fair.tenants[a].running, 0);
	assert_ptr_equal(serve(w, 1), first);
	close_world(w);
	free(w);
}

static void an_end_settles_what_was_guessed(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t a = tenant(w, "a", 1), b = tenant(w, "b", 1);
	for (int i = 0; i < 20; i++) {
		put(w, a, 1, 1000, 0);
		put(w, b, 1, 1000, 0);
	}
	uint32_t of_a = 0;
	for (int i = 0; i < 20; i++) {
		struct fair_item *item = serve(w, 1);
		of_a += item->tenant == a;
		fair_end(&w->fair, item, item->tenant == a ? 3000 : 1000); /* a's are longer than they looked */
		fair_end(&w->fair, item, 1000000);                         /* and an end comes once */
	}
	assert_in_range(of_a, 4, 6);
	close_world(w);
	free(w);
}

static void a_tenant_at_its_most_is_passed_over(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t a = fair_tenant(&w->fair, "a", &(struct fair_share){.running_max = 2}), b = tenant(w, "b", 1);
	struct fair_item *items[4];
	for (int i = 0; i < 4; i++)
		items[i] = put(w, a, 1, 1, (uint64_t)i);
	put(w, b, 1, 1u << 20, 9);
	assert_ptr_equal(serve(w, 1), items[0]);
	uint32_t next[2] = {serve(w, 1)->tenant, serve(w, 1)->tenant};
	assert_true((next[0] == b) != (next[1] == b));
	assert_false(fair_may_run(&w->fair, a));
	assert_null(serve(w, 1));
	fair_end(&w->fair, items[0], 1);
	assert_ptr_equal(serve(w, 1), items[2]);
	close_world(w);
	free(w);
}

static void the_one_sent_away_is_of_the_lowest_class_then_of_who_waits_with_most(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t a = tenant(w, "a", 1), b = tenant(w, "b", 1), heavy = tenant(w, "heavy", 10);
	put(w, a, 1, 1, 1);
	const struct fair_item *last_of_a = put(w, a, 1, 1, 2);
	for (uint64_t i = 0; i < 5; i++)
		put(w, heavy, 1, 1, i); /* five of weight ten are less than two of weight one */
	struct fair_item *of_b = put(w, b, 1, 1, 3);
	assert_ptr_equal(fair_victim(&w->fair, of_b), last_of_a);
	struct fair_item *more_of_a = put(w, a, 1, 1, 4);
	assert_ptr_equal(fair_victim(&w->fair, more_of_a), more_of_a); /* who has most cannot push others out */
	const struct fair_item *flex = put(w, b, 2, 1, 0);
	assert_ptr_equal(fair_victim(&w->fair, of_b), flex);
	assert_ptr_equal(fair_victim(&w->fair, more_of_a), flex);
	struct fair_item *second_flex = put(w, b, 2, 1, 5);
	assert_ptr_equal(fair_victim(&w->fair, second_flex), second_flex); /* flex pushes nobody of a higher class out */
	close_world(w);
	free(w);
}

static void what_is_ahead_is_the_share_of_the_others(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t a = tenant(w, "a", 1), b = tenant(w, "b", 3);
	for (int i = 0; i < 10; i++)
		put(w, a, 1, 100, 0);
	assert_int_equal(fair_ahead(&w->fair, a, 1, 100), 1000); /* behind all of its own */
	assert_int_equal(fair_ahead(&w->fair, b, 1, 300), 100);  /* beside it a gets a third of what b gets */
	assert_int_equal(fair_ahead(&w->fair, b, 0, 300), 0);
	assert_int_equal(fair_ahead(&w->fair, b, 2, 300), 1000); /* all of a higher class */
	close_world(w);
	free(w);
}

static void names_without_room_share_one_place(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, 2);
	uint32_t a = tenant(w, "a", 1), b = tenant(w, "b", 1);
	struct fair_item *of_a = put(w, a, 1, 10, 0);
	put(w, b, 1, 10, 0);
	uint32_t c = tenant(w, "c", 1000), d = tenant(w, "d", 1000);
	assert_int_equal(c, 2);
	assert_int_equal(d, 2);
	put(w, c, 1, 10, 0);
	put(w, d, 1, 10, 0);
	assert_int_equal(tenant(w, "a", 1), a);
	fair_leave(&w->fair, of_a);
	assert_int_equal(tenant(w, "c", 1), a); /* idle: its place is free */
	assert_int_equal(tenant(w, "c", 1), a);
	for (int i = 0; i < 3; i++)
		assert_non_null(serve(w, 1));
	assert_null(serve(w, 1));
	close_world(w);
	free(w);
}

/* Anything in any order: the sums stay right, all that waits is served, nothing twice. */
static void random_moves_keep_every_sum(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	for (uint64_t seed = 0; seed < 60; seed++) {
		open_world(w, 4);
		w->rng.seed = seed;
		uint32_t running[ITEMS], run_count = 0, gone = 0;
		for (int step = 0; step < 1500; step++) {
			char name[4];
			snprintf(name, sizeof(name), "%u", (uint32_t)rng_below(&w->rng, 7));
			switch (rng_below(&w->rng, 5)) {
			case 0:
			case 1: {
				struct fair_share share = {.weight = (uint32_t)rng_below(&w->rng, 4),
							   .running_max = (uint32_t)rng_below(&w->rng, 6)};
				put(w, fair_tenant(&w->fair, name, &share), (uint8_t)rng_below(&w->rng, 3),
				    rng_below(&w->rng, 3000), rng_below(&w->rng, 1000000));
				break;
			}
			case 2: {
				struct fair_item *item = serve(w, (uint8_t)rng_below(&w->rng, 3));
				if (item)
					running[run_count++] = (uint32_t)(item - w->items);
				break;
			}
			case 3: {
				struct fair_item *item = w->used ? &w->items[rng_below(&w->rng, w->used)] : NULL;
				if (item && item->waiting) {
					struct fair_item *victim = fair_victim(&w->fair, item);
					assert_true(victim->waiting && victim->class >= item->class);
					fair_leave(&w->fair, victim);
					gone++;
				}
				break;
			}
			default:
				if (!run_count)
					break;
				struct fair_item *item = &w->items[running[--run_count]];
				if (rng_below(&w->rng, 2))
					fair_end(&w->fair, item, rng_below(&w->rng, 9000));
				else
					fair_wait(&w->fair, item, rng_below(&w->rng, 1000000));
			}
			fair_check(&w->fair);
		}
		while (run_count)
			fair_end(&w->fair, &w->items[running[--run_count]], 5);
		uint32_t left = w->fair.waiting;
		for (uint8_t c = 0; c < 3; c++)
			for (struct fair_item *item; (item = serve(w, c)); left--)
				fair_end(&w->fair, item, 1);
		assert_int_equal(left, 0);
		assert_int_equal(w->fair.waiting, 0);
		close_world(w);
	}
	free(w);
}

static void a_walk_gives_all_in_the_order_in_which_they_would_run(void **state)
{
	(void)state;
	struct world *w = malloc(sizeof(*w));
	open_world(w, TENANTS);
	uint32_t a = tenant(w, "a", 1), b = tenant(w, "b", 2);
	for (uint64_t i = 0; i < 30; i++)
		put(w, i % 2 ? a : b, 1, 1 + rng_below(&w->rng, 50), i);
	const struct fair_item *order[30];
	fair_walk(&w->fair, 1);
	for (int i = 0; i < 30; i++)
		assert_non_null(order[i] = fair_next(&w->fair));
	assert_null(fair_next(&w->fair));
	for (int i = 0; i < 30; i++)
		assert_ptr_equal(serve(w, 1), order[i]);
	close_world(w);
	free(w);
}

/* ---- pace ---- */

static void a_wait_is_what_is_ahead_over_what_was_begun(void **state)
{
	(void)state;
	struct pace pace = {0};
	assert_int_equal(pace_wait_ns(&pace, 1000), 0); /* unknown */
	for (uint64_t ms = 0; ms <= 4000; ms += 10) {
		pace_begin(&pace, 5); /* 500 a second */
		pace_tick(&pace, true, 1 + ms * 1000000);
	}
	uint64_t wait_ns = pace_wait_ns(&pace, 1000);
	assert_in_range(wait_ns, 1900000000u, 2100000000u);
}

static void an_empty_queue_says_nothing_of_the_pace(void **state)
{
	(void)state;
	struct pace pace = {0};
	/* Every other 10 ms nothing waits, and what begins then has not waited: still 500 a second. */
	for (uint64_t ms = 0; ms <= 8000; ms += 10) {
		pace_begin(&pace, 5);
		pace_tick(&pace, ms / 10 % 2, 1 + ms * 1000000);
	}
	uint64_t before = pace_wait_ns(&pace, 1000);
	assert_in_range(before, 1900000000u, 2100000000u);
	pace_tick(&pace, false, 9000000000u);
	pace_begin(&pace, 1000000);
	pace_tick(&pace, true, 90000000000u);
	assert_int_equal(pace_wait_ns(&pace, 1000), before);
	/* Nodes that begin nothing any more are slower than they were. */
	pace.begun = pace.waited_ns = 0;
	pace_tick(&pace, true, 99000000000u);
	assert_int_equal(pace_wait_ns(&pace, 1000), 2 * before);
	pace.cost_per_ns = 1e-30;
	assert_int_equal(pace_wait_ns(&pace, UINT64_MAX), 3600000000000u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(work_follows_weights_whatever_the_items_are),
		cmocka_unit_test(a_flood_delays_another_tenant_by_one_item),
		cmocka_unit_test(nobody_starves_under_any_load),
		cmocka_unit_test(short_work_goes_first_but_overtakes_only_so_far),
		cmocka_unit_test(classes_are_apart),
		cmocka_unit_test(one_that_is_given_back_has_cost_nothing),
		cmocka_unit_test(an_end_settles_what_was_guessed),
		cmocka_unit_test(a_tenant_at_its_most_is_passed_over),
		cmocka_unit_test(the_one_sent_away_is_of_the_lowest_class_then_of_who_waits_with_most),
		cmocka_unit_test(what_is_ahead_is_the_share_of_the_others),
		cmocka_unit_test(names_without_room_share_one_place),
		cmocka_unit_test(random_moves_keep_every_sum),
		cmocka_unit_test(a_walk_gives_all_in_the_order_in_which_they_would_run),
		cmocka_unit_test(a_wait_is_what_is_ahead_over_what_was_begun),
		cmocka_unit_test(an_empty_queue_says_nothing_of_the_pace),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
