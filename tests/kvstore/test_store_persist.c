/* What a store with a disk says to offers, and what it keeps whatever happens. */
#include <stdlib.h>

#include "tests/kvstore/store_disk_world.h"

enum { PEERS = 3 };

static uint64_t evicted[KEYS]; /* the note of a block that was evicted and not offered since, and 1 */

static void offer_of_a_block_on_disk_is_not_read(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + 4);
	offer(w, 1, 2000, 0);
	assert_int_equal(w->read_count, 0);
	assert_int_equal(answers(w, 2000, ERR_EXISTS), 1);
}

static void offer_is_done_when_the_block_is_durable(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	run(w);
	offer(w, 1, 1007, 7);
	offer(w, 1, 2007, 7); /* said twice, with another op */
	while (answers(w, 1007, ERR_OK) == 0) {
		assert_int_equal(answers(w, 2007, ERR_EXISTS), 0);
		assert_false(on_disk(w, 7));
		assert_true(step(w) || (w->now += MS, store_tick(w->store, w->now), true));
	}
	assert_true(disk_world_of(w)->disk.syncs > 0);
	assert_true(on_disk(w, 7));
	assert_int_equal(answers(w, 2007, ERR_EXISTS), 1);
	lookup(w, 1, 1, (uint8_t[]){7}, 1);
	assert_int_equal(found(w, 1, 0)->blocks, 1);
}

static void block_is_found_while_it_is_being_written(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	run(w);
	offer(w, 1, 1007, 7);
	while (status_of(w).ledger.entries[LEDGER_SEALED] == 0)
		assert_true(step(w));
	lookup(w, 1, 1, (uint8_t[]){7}, 1);
	assert_int_equal(found(w, 1, 0)->blocks, 1);
	assert_int_equal(answers(w, 1007, ERR_OK), 0);
	release(w, 1, 1);
	run(w);
	assert_int_equal(answers(w, 1007, ERR_OK), 1);
}

static void disk_that_fails_is_told_and_memory_serves_on(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 20, WIRE__ROLE__ROLE_COORDINATOR);
	run(w);
	disk_world_of(w)->disk.fail_at = disk_world_of(w)->disk.submitted + 1;
	disk_world_of(w)->disk.fail_on = true;
	offer(w, 1, 1007, 7);
	offer(w, 1, 2007, 7);
	run(w);
	assert_int_equal(answers(w, 1007, ERR_IO), 1);
	assert_int_equal(answers(w, 2007, ERR_IO), 1);
	assert_int_equal(status_of(w).disk.stopped, ERR_IO);
	lookup(w, 1, 1, (uint8_t[]){7}, 1);
	assert_int_equal(found(w, 1, 0)->blocks, 1);
	release(w, 1, 1);
	offer(w, 1, 1008, 8); /* no stall: it is taken, and said not to be durable */
	run(w);
	assert_int_equal(answers(w, 1008, ERR_IO), 1);
	w->now += 250 * MS;
	store_tick(w->store, w->now);
	bool told = false;
	for (uint32_t i = 0; i < w->sent_count; i++)
		told |= w->sent[i].body == WIRE__ENVELOPE__BODY_LOAD && w->sent[i].disk.stopped == ERR_IO && w->sent[i].disk.errors > 0;
	assert_true(told);
	/* It is well again: what is in memory only can be made durable. */
	disk_world_of(w)->disk.fail_at = 0;
	for (int i = 0; i < 200; i++)
		store_tick(w->store, w->now += 10 * MS);
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	offer(w, 1, 3007, 7);
	run(w);
	assert_int_equal(answers(w, 3007, ERR_EXISTS), 1);
	assert_true(on_disk(w, 7));
}

static void store_that_leaves_writes_what_it_has(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	run(w);
	offer(w, 1, 1007, 7);
	while (answers(w, 1007, ERR_OK) == 0)
		assert_true(step(w));
	store_drain(w->store, w->now);
	assert_false(store_drained(w->store));
	run(w);
	assert_true(store_drained(w->store));
	assert_true(on_disk(w, 7));
}

/* Offers of one block after the other for so many ms; how many were taken and not written. */
static uint64_t offer_for(struct world *w, uint32_t ms)
{
	uint64_t before = status_of(w).counters.disk_unwritten;
	for (uint32_t i = 0; i < ms; i++) {
		for (uint32_t k = 0; k < 2; k++)
			offer(w, 1, 1000 * i + 10 + (2 * i + k) % 180, (uint8_t)(10 + (2 * i + k) % 180));
		w->now += MS;
		beat(w, 1);
		store_tick(w->store, w->now);
		while (step(w))
			;
		w->sent_count = 0;
	}
	return status_of(w).counters.disk_unwritten - before;
}

static void slow_disk_holds_up_a_burst_and_no_more(void **state)
{
	struct world *w = *state;
	disk_world_of(w)->options.write_rate = 2 << 20; /* 256 blocks a second, of 2000 that are offered */
	crash_disk_kill(&disk_world_of(w)->disk);
	world_start(w);
	run(w);
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	assert_int_equal(offer_for(w, 300), 0);
	assert_true(offer_for(w, 1500) > 500);
	assert_true(status_of(w).disk.counters.puts_durable > 200);
}

/* One error: nothing is written for a second, and what came meanwhile when it is over; but not what memory let go. */
static void what_came_while_the_disk_was_stopped_is_written_later(void **state)
{
	struct world *w = *state;
	enum { STOPPED = IN_MEMORY + 4 };
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	run(w);
	disk_world_of(w)->disk.fail_at = disk_world_of(w)->disk.submitted + 1;
	for (uint8_t key = 0; key < STOPPED; key++) {
		offer(w, 1, 1000 + key, key);
		while (step(w))
			;
		assert_int_equal(answers(w, 1000 + key, ERR_OK), 1);
	}
	assert_int_equal(status_of(w).disk.stopped, ERR_IO);
	assert_int_equal(status_of(w).disk.blocks, 0);
	assert_int_equal(status_of(w).counters.disk_unwritten, STOPPED);
	for (int i = 0; i < 30; i++) {
		run(w);
		beat(w, 1);
	}
	assert_int_equal(status_of(w).disk.stopped, ERR_OK);
	assert_int_equal(status_of(w).disk.blocks, IN_MEMORY);
	for (uint8_t key = 0; key < STOPPED; key++)
		assert_int_equal(on_disk(w, key), ledger_lookup(store_ledger(w->store), &(struct id128){{key, 77}}) != LEDGER_NONE);
}

/* What an operator may say of a block, or ask for. */
static void say(struct world *w, uint8_t key, struct rng *rng)
{
	uint64_t note;
	struct id128 id = {{key, 77}};
	switch (rng_below(rng, 4)) {
	case 0:
		if (store_evict(w->store, &id, &note) == ERR_OK)
			evicted[key] = 1 + note;
		break;
	case 1:
		(void)!store_pin(w->store, &id, (enum ledger_pin)rng_below(rng, 3), &note);
		break;
	case 2:
		ask_key(w, WIRE__KV_VERB__KV_VERIFY, key, 0);
		break;
	default:
		ask_key(w, WIRE__KV_VERB__KV_GET, key, 0);
	}
}

static void forget_what_is_not_noted(const struct world *w)
{
	for (uint32_t key = 0; key < KEYS; key++)
		if (evicted[key] && !store_noted(w->store, evicted[key] - 1))
			evicted[key] = 0;
}

static void act(struct world *w, struct rng *rng)
{
	uint32_t conn = 1 + (uint32_t)rng_below(rng, PEERS);
	uint8_t keys[6];
	for (int i = 0; i < 6; i++)
		keys[i] = (uint8_t)rng_below(rng, 90);
	switch (rng_below(rng, 11)) {
	case 0:
	case 1:
		evicted[keys[0]] = 0;
		offer(w, conn, 1000 * (1 + rng_below(rng, 50)) + keys[0], keys[0]);
		break;
	case 2:
		lookup(w, conn, 1 + rng_below(rng, 9), keys, 6);
		break;
	case 3:
		release(w, conn, 1 + rng_below(rng, 9));
		break;
	case 4:
		if (rng_below(rng, 30) == 0) {
			store_closed(w->store, conn, w->now);
			join(w, conn, 10 * conn, WIRE__ROLE__ROLE_PREFILL);
		}
		break;
	case 5:
		w->now += rng_below(rng, 3) * MS;
		for (uint32_t c = 1; c <= PEERS; c++)
			beat(w, c);
		beat(w, 9);
		store_tick(w->store, w->now);
		break;
	case 6:
		say(w, keys[0], rng);
		break;
	default:
		step(w);
	}
	store_check(w->store);
	w->sent_count = 0;
}

static void any_walk_keeps_every_rule_and_what_was_acknowledged(void **state)
{
	(void)state;
	uint64_t hits = 0, durable = 0, dead = 0;
	for (uint64_t seed = 0; seed < 24; seed++) {
		struct rng rng = {.seed = seed};
		struct world *w = disk_world_create(seed % 2 ? STORE_PERSIST_ACK : STORE_PERSIST_BEHIND, seed);
		disk_world_of(w)->disk.faults.fail = seed % 3 == 0 ? 200 : 0;
		memset(evicted, 0, sizeof(evicted));
		for (int life = 0; life < 4; life++) {
			for (uint32_t conn = 1; conn <= PEERS; conn++)
				join(w, conn, 10 * conn, WIRE__ROLE__ROLE_PREFILL);
			join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
			for (int i = 0; i < 2500; i++)
				act(w, &rng);
			forget_what_is_not_noted(w);
			hits += status_of(w).counters.disk_hits;
			if (rng_below(&rng, 2))
				crash_disk_crash(&disk_world_of(w)->disk);
			else
				crash_disk_kill(&disk_world_of(w)->disk);
			disk_world_of(w)->disk.faults.fail = 0;
			world_start(w);
			run(w);
			for (uint32_t key = 0; key < KEYS; key++) {
				durable += disk_world_of(w)->durable[key];
				assert_true(!disk_world_of(w)->durable[key] || on_disk(w, (uint8_t)key));
				dead += evicted[key] > 0;
				assert_false(evicted[key] && on_disk(w, (uint8_t)key));
			}
		}
		disk_world_destroy(w);
	}
	assert_true(hits > 500 && durable > 500 && dead > 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name, how) cmocka_unit_test_setup_teardown(name, disk_setup_##how, disk_teardown)
		T(offer_of_a_block_on_disk_is_not_read, behind),
		T(offer_is_done_when_the_block_is_durable, ack),
		T(block_is_found_while_it_is_being_written, ack),
		T(disk_that_fails_is_told_and_memory_serves_on, ack),
		T(store_that_leaves_writes_what_it_has, behind),
		T(slow_disk_holds_up_a_burst_and_no_more, behind),
		T(what_came_while_the_disk_was_stopped_is_written_later, behind),
		cmocka_unit_test(any_walk_keeps_every_rule_and_what_was_acknowledged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
