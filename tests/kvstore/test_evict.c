#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kvstore/evict.h"
#include "kvstore/ghosts.h"
#include "naive_evict.h"

enum { ENTRY_MAX = 4096, CLASSES = 2, ROOM = 150, KEYS = 600, STEPS = 60000 };

enum state { GONE, EVICTABLE, HELD };

/* One class's blocks under two policies at once: entry e of class c is key e of that class. */
struct walk {
	const struct evict_policy *policies[2];
	void *states[2];
	enum state blocks[CLASSES][KEYS];
	uint32_t counts[CLASSES], evicted;
};

/* The walk's hashes are distinct modulo 1024, as the naive model wants. */
static uint64_t hash_of(uint32_t class_index, uint32_t key)
{
	uint64_t low = class_index * KEYS + key;
	return (rng_mix(low) & ~(uint64_t)1023) | (low % 1024);
}

static uint32_t entry_of(uint32_t class_index, uint32_t key)
{
	return class_index * KEYS + key;
}

static void evict(struct walk *w, uint32_t c, uint32_t key)
{
	for (int i = 0; i < 2; i++)
		w->policies[i]->evict(w->states[i], entry_of(c, key), c);
	w->blocks[c][key] = GONE;
	w->counts[c]--;
	w->evicted++;
}

static void add(struct walk *w, uint32_t c, uint32_t key)
{
	if (w->counts[c] == ROOM) {
		uint32_t victim = w->policies[0]->victim(w->states[0], c);
		assert_int_equal(victim, w->policies[1]->victim(w->states[1], c));
		if (victim == EVICT_NONE)
			return;
		assert_int_equal(w->blocks[c][victim - entry_of(c, 0)], EVICTABLE);
		evict(w, c, victim - entry_of(c, 0));
	}
	for (int i = 0; i < 2; i++)
		w->policies[i]->add(w->states[i], entry_of(c, key), c, hash_of(c, key));
	w->blocks[c][key] = EVICTABLE;
	w->counts[c]++;
}

static void step(struct walk *w, struct rng *rng)
{
	/* Some keys are asked for much more often than others, and class 1 is the rarer. */
	uint32_t c = rng_below(rng, 4) == 0;
	uint32_t key = (uint32_t)rng_below(rng, 1 + rng_below(rng, c ? 400 : KEYS));
	enum state *block = &w->blocks[c][key];
	if (*block == GONE) {
		add(w, c, key);
		return;
	}
	if (*block == EVICTABLE && rng_below(rng, 100) == 0) {
		evict(w, c, key); /* not the victim: its slab changes its class */
		return;
	}
	for (int i = 0; i < 2; i++)
		(*block == HELD ? w->policies[i]->release : w->policies[i]->hold)(w->states[i], entry_of(c, key), c);
	*block = *block == HELD ? EVICTABLE : HELD;
}

static void walk(const struct evict_policy *a, const struct evict_policy *b, uint64_t seed)
{
	struct walk *w = calloc(1, sizeof(*w));
	w->policies[0] = a;
	w->policies[1] = b;
	for (int i = 0; i < 2; i++) {
		w->states[i] = calloc(1, w->policies[i]->bytes(ENTRY_MAX, CLASSES));
		w->policies[i]->init(w->states[i], ENTRY_MAX, CLASSES);
	}
	struct rng rng = {.seed = seed};
	for (uint32_t i = 0; i < STEPS; i++)
		step(w, &rng);
	assert_true(w->evicted > STEPS / 20);
	free(w->states[0]);
	free(w->states[1]);
	free(w);
}

static void every_policy_has_the_victims_of_its_naive_model(void **state)
{
	for (int i = 0; i < EVICT_POLICIES; i++)
		for (uint64_t seed = 1; seed <= 3; seed++)
			walk(evict_policies[i], naive_policies[i], seed);
}

static void the_same_walk_has_the_same_victims(void **state)
{
	for (int i = 0; i < EVICT_POLICIES; i++)
		walk(evict_policies[i], evict_policies[i], 9);
}

static void what_is_held_is_never_the_victim(void **state)
{
	for (int i = 0; i < EVICT_POLICIES; i++) {
		const struct evict_policy *p = evict_policies[i];
		void *s = calloc(1, p->bytes(8, 1));
		p->init(s, 8, 1);
		assert_int_equal(p->victim(s, 0), EVICT_NONE);
		for (uint32_t e = 0; e < 8; e++) {
			p->add(s, e, 0, rng_mix(e));
			p->hold(s, e, 0);
		}
		assert_int_equal(p->victim(s, 0), EVICT_NONE);
		p->release(s, 5, 0);
		assert_int_equal(p->victim(s, 0), 5);
		free(s);
	}
}

/* A chain of 20 blocks is used now and then; documents that are read once go by, eight times the room. */
static uint32_t blocks_that_survive_a_scan(const struct evict_policy *p)
{
	enum { CHAIN = 20, ALL = 100 };
	void *s = calloc(1, p->bytes(ALL, 1));
	bool there[CHAIN];
	p->init(s, ALL, 1);
	for (uint32_t e = 0; e < ALL; e++)
		p->add(s, e, 0, rng_mix(e));
	for (uint32_t e = CHAIN; e > 0; e--) {
		p->hold(s, e - 1, 0);
		p->release(s, e - 1, 0);
	}
	for (uint32_t e = 0; e < CHAIN; e++)
		there[e] = true;
	for (uint32_t i = 0; i < 8 * ALL; i++) {
		uint32_t victim = p->victim(s, 0);
		p->evict(s, victim, 0);
		if (victim < CHAIN)
			there[victim] = false;
		p->add(s, victim, 0, rng_mix(1000 + i));
	}
	uint32_t count = 0;
	for (uint32_t e = 0; e < CHAIN; e++)
		count += there[e];
	free(s);
	return count;
}

static void a_scan_leaves_what_was_used_twice(void **state)
{
	assert_int_equal(blocks_that_survive_a_scan(&evict_lru), 0);
	assert_int_equal(blocks_that_survive_a_scan(&evict_2q_adaptive), 20);
	assert_int_equal(blocks_that_survive_a_scan(&evict_s3fifo), 20);
	assert_int_equal(blocks_that_survive_a_scan(&evict_w_tinylfu), 20);
}

static void policies_are_found_by_name(void **state)
{
	for (int i = 0; i < EVICT_POLICIES; i++)
		assert_ptr_equal(evict_find(evict_policies[i]->name), evict_policies[i]);
	assert_null(evict_find("mru"));
	assert_string_equal(evict_policies[0]->name, "2q-adaptive");
}

static void ghosts_remember_the_newest_and_how_many_came_after(void **state)
{
	struct ghosts *g = calloc(1, ghosts_bytes(6, 2));
	uint32_t list;
	uint64_t age;
	ghosts_init(g, 6, 2);
	for (uint64_t hash = 1; hash <= 5; hash++)
		ghosts_put(g, 0, hash << 32, 4);
	assert_false(ghosts_take(g, (uint64_t)1 << 32, &list, &age)); /* over the limit */
	assert_true(ghosts_take(g, (uint64_t)3 << 32, &list, &age));
	assert_int_equal(list, 0);
	assert_int_equal(age, 2);
	assert_false(ghosts_take(g, (uint64_t)3 << 32, &list, &age));
	assert_int_equal(ghosts_count(g, 0), 3);
	for (uint64_t hash = 11; hash <= 15; hash++)
		ghosts_put(g, 1, hash << 32, 5);
	/* Six in all: the longest list gave, each time. */
	assert_int_equal(ghosts_count(g, 0) + ghosts_count(g, 1), 6);
	assert_int_equal(ghosts_count(g, 0), 2);
	assert_true(ghosts_take(g, (uint64_t)15 << 32, &list, &age));
	assert_int_equal(list, 1);
	assert_int_equal(age, 0);
	free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_policy_has_the_victims_of_its_naive_model),
		cmocka_unit_test(the_same_walk_has_the_same_victims),
		cmocka_unit_test(what_is_held_is_never_the_victim),
		cmocka_unit_test(a_scan_leaves_what_was_used_twice),
		cmocka_unit_test(policies_are_found_by_name),
		cmocka_unit_test(ghosts_remember_the_newest_and_how_many_came_after),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
