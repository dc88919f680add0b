/* What operators ask of a store with a disk: blocks that are only there, and what outlives the process. */
#include <stdlib.h>

#include "tests/kvstore/store_disk_world.h"

enum { ONLY_DISK = 4 };

static const Wire__KvVerb EVICT = WIRE__KV_VERB__KV_EVICT, PIN = WIRE__KV_VERB__KV_PIN, GET = WIRE__KV_VERB__KV_GET;
static const Wire__KvPin HARD = WIRE__KV_PIN__KV_PINNED_HARD, SOFT = WIRE__KV_PIN__KV_PINNED_SOFT, NO_PIN = WIRE__KV_PIN__KV_UNPINNED;

static void wait_for_answer(struct world *w)
{
	for (int i = 0; i < 100 && !w->answer; i++) {
		run(w);
		beat(w, 1);
		beat(w, 9);
	}
	assert_non_null(w->answer);
}

static void join_all(struct world *w)
{
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
}

/* The first ONLY_DISK of these have left memory. */
static void fill_store(struct world *w)
{
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + ONLY_DISK);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
}

static const Wire__KvAnswer *asked(struct world *w, Wire__KvVerb verb, uint8_t key, Wire__KvPin pin)
{
	ask_key(w, verb, key, pin);
	wait_for_answer(w);
	return w->answer;
}

static enum err said(struct world *w, Wire__KvVerb verb, uint8_t key, Wire__KvPin pin)
{
	const Wire__KvAnswer *answer = asked(w, verb, key, pin);
	assert_int_equal(answer->n_errors, 1);
	return (enum err)answer->errors[0];
}

static enum ledger_pin pinned(struct world *w, uint8_t key)
{
	enum ledger_pin pin = LEDGER_UNPINNED;
	assert_int_equal(store_pinned(w->store, &(struct id128){{key, 77}}, &pin), ERR_OK);
	return pin;
}

static uint32_t look(struct world *w, uint64_t op, uint8_t key)
{
	lookup(w, 1, op, &key, 1);
	run(w);
	return found_blocks(w, op);
}

static void evicted_blocks_do_not_come_back(void **state)
{
	struct world *w = *state;
	fill_store(w);
	assert_int_equal(said(w, EVICT, 0, NO_PIN), ERR_OK); /* on disk only */
	assert_int_equal(said(w, EVICT, 20, NO_PIN), ERR_OK); /* in both */
	assert_int_equal(said(w, EVICT, 20, NO_PIN), ERR_NOT_FOUND);
	for (uint32_t life = 0; life < 3; life++) {
		restart(w, life != 1);
		assert_false(on_disk(w, 0));
		assert_false(on_disk(w, 20));
		assert_true(on_disk(w, 1));
		join_all(w);
		assert_int_equal(look(w, 100 + life, 20), 0);
		assert_int_equal(look(w, 200 + life, 21), 1);
	}
	offer(w, 1, 5020, 20); /* it may come again */
	run(w);
	assert_int_equal(answers(w, 5020, ERR_OK), 1);
	restart(w, true);
	assert_true(on_disk(w, 20));
}

static void eviction_is_answered_when_it_is_durable(void **state)
{
	struct world *w = *state;
	fill_store(w);
	uint64_t syncs = disk_world_of(w)->disk.syncs;
	ask_key(w, EVICT, 0, NO_PIN);
	while (!w->answer) {
		assert_int_equal(disk_world_of(w)->disk.syncs, syncs);
		for (uint32_t before = w->now; !w->answer && disk_world_of(w)->disk.syncs == syncs && w->now < before + 100 * MS;)
			if (!step(w))
				store_tick(w->store, w->now += MS);
		while (!w->answer && step(w))
			;
	}
	assert_int_equal(w->answer->errors[0], ERR_OK);
	assert_true(disk_world_of(w)->disk.syncs > syncs);
	restart(w, true); /* there and then */
	assert_false(on_disk(w, 0));
}

static void eviction_that_cannot_be_noted_is_told(void **state)
{
	struct world *w = *state;
	fill_store(w);
	disk_world_of(w)->disk.fail_at = disk_world_of(w)->disk.submitted + 1;
	disk_world_of(w)->disk.fail_on = true;
	assert_int_equal(said(w, EVICT, 0, NO_PIN), ERR_IO);
	assert_int_equal(look(w, 100, 0), 0); /* gone, until a start may find it */
	disk_world_of(w)->disk.fail_at = 0;
	for (int i = 0; i < 100; i++)
		run(w);
	restart(w, true); /* noted as soon as that was possible */
	assert_false(on_disk(w, 0));
}

static void block_that_is_being_written_is_not_evicted(void **state)
{
	struct world *w = *state;
	join_all(w);
	run(w);
	offer(w, 1, 1007, 7);
	while (status_of(w).ledger.entries[LEDGER_CACHED] == 0) /* its slot is free again, and it is not durable yet */
		assert_true(step(w));
	ask_key(w, EVICT, 7, NO_PIN);
	assert_int_equal(w->answer->errors[0], ERR_BUSY);
	assert_int_equal(status_of(w).ledger.entries[LEDGER_CACHED], 1); /* and it has not gone from memory either */
	run(w);
	assert_int_equal(said(w, EVICT, 7, NO_PIN), ERR_OK);
	assert_false(on_disk(w, 7));
}

static void pins_outlive_memory_and_process(void **state)
{
	struct world *w = *state;
	fill_store(w);
	assert_int_equal(said(w, PIN, 0, HARD), ERR_OK); /* on disk only */
	assert_int_equal(said(w, PIN, 30, SOFT), ERR_OK); /* in both */
	assert_int_equal(said(w, PIN, 150, SOFT), ERR_NOT_FOUND);
	assert_int_equal(said(w, EVICT, 0, NO_PIN), ERR_DENIED);
	assert_int_equal(look(w, 100, 0), 1);
	assert_int_equal(pinned(w, 0), LEDGER_PINNED_HARD); /* in memory too, now that it is there */
	restart(w, true);
	join_all(w);
	assert_int_equal(said(w, EVICT, 0, NO_PIN), ERR_DENIED);
	assert_int_equal(look(w, 101, 0) + look(w, 102, 30), 2);
	assert_int_equal(pinned(w, 0), LEDGER_PINNED_HARD);
	assert_int_equal(pinned(w, 30), LEDGER_PINNED_SOFT);
	release(w, 1, 101);
	assert_int_equal(said(w, PIN, 0, NO_PIN), ERR_OK);
	restart(w, true);
	join_all(w);
	assert_int_equal(said(w, EVICT, 0, NO_PIN), ERR_OK);
}

/* What was pinned before it was on disk. */
static void pin_of_memory_is_noted_with_the_block(void **state)
{
	struct world *w = *state;
	join_all(w);
	run(w);
	offer(w, 1, 1007, 7);
	while (status_of(w).ledger.entries[LEDGER_CACHED] == 0)
		assert_true(step(w));
	assert_int_equal(said(w, PIN, 7, HARD), ERR_OK);
	run(w);
	restart(w, true);
	join_all(w);
	assert_int_equal(look(w, 100, 7), 1);
	assert_int_equal(pinned(w, 7), LEDGER_PINNED_HARD);
}

static void no_more_is_pinned_hard_on_disk_than_may_be(void **state)
{
	struct world *w = *state;
	fill_store(w);
	for (uint8_t key = 0; key < 4; key++)
		assert_int_equal(said(w, PIN, key, HARD), ERR_OK);
	for (uint8_t key = 4; key < 8; key++) /* of memory four blocks, of the disk eight */
		assert_int_equal(said(w, PIN, key, HARD), key < 8 ? ERR_OK : ERR_AGAIN);
	assert_int_equal(said(w, PIN, 8, HARD), ERR_AGAIN);
	assert_int_equal(said(w, PIN, 8, SOFT), ERR_OK);
}

static void get_loads_what_is_only_on_disk(void **state)
{
	struct world *w = *state;
	fill_store(w);
	ask_key(w, GET, 1, NO_PIN);
	assert_null(w->answer); /* it is being read */
	run(w);
	assert_int_equal(w->answer->n_blocks, 1);
	const Wire__KvBlock *b = w->answer->blocks[0];
	assert_string_equal(b->tier, "dram+disk");
	assert_memory_equal(b->compat.data, compat, sizeof(compat));
	assert_int_equal(b->digests[1], world_digest(1, 1));
	struct slot_place place = {b->place->region, b->place->offset, b->place->generation};
	put(w, 100, 100 + IN_MEMORY / 2);
	check_bytes(w, &place, 1); /* it stays for as long as it takes to read it */
	assert_int_equal(store_held_for(w->store, 90), 1);
	asked(w, GET, 150, NO_PIN);
	assert_int_equal(w->answer->n_blocks, 0);
	assert_int_equal(store_held_for(w->store, 90), 0);
	asked(w, GET, 2, NO_PIN);
	store_closed(w->store, 9, w->now);
	store_check(w->store);
	assert_int_equal(status_of(w).ledger.entries[LEDGER_HELD], 0);
}

static void block_that_memory_has_no_room_for_is_told_without_a_place(void **state)
{
	struct world *w = *state;
	uint8_t keys[IN_MEMORY];
	fill_store(w);
	for (uint8_t i = 0; i < IN_MEMORY; i++)
		keys[i] = ONLY_DISK + i;
	lookup(w, 1, 100, keys, IN_MEMORY); /* all of it is held */
	ask_key(w, GET, 0, NO_PIN);
	wait_for_answer(w);
	assert_int_equal(w->answer->n_blocks, 1);
	assert_string_equal(w->answer->blocks[0]->tier, "disk");
	assert_null(w->answer->blocks[0]->place);
	assert_int_equal(w->answer->blocks[0]->layers, LAYERS);
}

static void verify_looks_at_the_record(void **state)
{
	struct world *w = *state;
	disk_world_of(w)->may_lose = true;
	fill_store(w);
	crash_disk_page(&disk_world_of(w)->disk, 0, 2)[3] ^= 8; /* the first block's payload */
	assert_int_equal(said(w, WIRE__KV_VERB__KV_VERIFY, 0, NO_PIN), ERR_CORRUPT);
	assert_false(on_disk(w, 0));
	assert_int_equal(said(w, WIRE__KV_VERB__KV_VERIFY, 0, NO_PIN), ERR_NOT_FOUND);
	uint8_t keys[16 * IN_MEMORY] = {0};
	Wire__KvAsk question = WIRE__KV_ASK__INIT;
	question.verb = WIRE__KV_VERB__KV_VERIFY;
	question.keys = (ProtobufCBinaryData){sizeof(keys), keys};
	for (uint8_t i = 0; i < IN_MEMORY; i++)
		keys[16 * i] = 1 + i, keys[16 * i + 1] = 77;
	ask(w, 9, &question);
	wait_for_answer(w);
	for (uint8_t i = 0; i < IN_MEMORY; i++)
		assert_int_equal(w->answer->errors[i], ERR_OK);
}

/* A page; false: that was the last one. */
static bool page(struct world *w, Wire__KvAsk *question, uint32_t seen[KEYS])
{
	static struct id128 after;
	ask(w, 9, question);
	for (size_t i = 0; i < w->answer->n_blocks; i++)
		seen[w->answer->blocks[i]->key.data[0]]++;
	assert_true(w->answer->n_blocks <= question->limit);
	if (w->answer->after.len)
		memcpy(after.bytes, w->answer->after.data, sizeof(after.bytes));
	question->after = (ProtobufCBinaryData){w->answer->after.len, after.bytes};
	return question->after.len > 0;
}

static void list_has_every_block_once(void **state)
{
	struct world *w = *state;
	uint32_t seen[KEYS] = {0}, only_disk = 0, pages = 1;
	fill_store(w);
	tenant = "acme";
	put(w, 100, 102);
	tenant = "";
	Wire__KvAsk question = WIRE__KV_ASK__INIT;
	question.verb = WIRE__KV_VERB__KV_LIST;
	question.limit = 5;
	for (bool more = true; more; pages++) {
		more = page(w, &question, seen);
		for (size_t i = 0; i < w->answer->n_blocks; i++)
			only_disk += strcmp(w->answer->blocks[i]->tier, "disk") == 0;
	}
	for (uint32_t key = 0; key < KEYS; key++)
		assert_int_equal(seen[key], key < IN_MEMORY + ONLY_DISK || key == 100 || key == 101);
	assert_int_equal(only_disk, ONLY_DISK + 2);
	assert_true(pages >= (IN_MEMORY + ONLY_DISK + 2) / 5);
	restart(w, true);
	join_all(w);
	question.limit = 1000;
	question.one_tenant = true;
	question.tenant = (char *)"acme";
	memset(seen, 0, sizeof(seen));
	assert_false(page(w, &question, seen)); /* all on disk, and whose they are is known */
	assert_int_equal(w->answer->n_blocks, 2);
	assert_true(seen[100] == 1 && seen[101] == 1);
}

/* Between two pages blocks go from memory to disk only, and others come back: which those are, so that every pair of a place in the list
 * and a place in memory is met. */
static void list_has_every_block_once_while_they_come_and_go(void **state)
{
	struct world *w = *state;
	enum { ALL = IN_MEMORY + ONLY_DISK };
	uint32_t moved = 0;
	fill_store(w);
	for (uint32_t round = 0; round < ALL; round++) {
		uint32_t seen[KEYS] = {0}, at = round;
		Wire__KvAsk question = WIRE__KV_ASK__INIT;
		question.verb = WIRE__KV_VERB__KV_LIST;
		question.limit = 1 + round % 3;
		while (page(w, &question, seen))
			for (uint32_t i = 0; i < 3; i++, at += 7) {
				moved += ledger_lookup(store_ledger(w->store), &(struct id128){{(uint8_t)(at % ALL), 77}}) == LEDGER_NONE;
				assert_int_equal(asked(w, GET, (uint8_t)(at % ALL), NO_PIN)->n_blocks, 1);
			}
		for (uint32_t key = 0; key < KEYS; key++)
			assert_int_equal(seen[key], key < ALL);
	}
	assert_true(moved > 100);
}

static void account_is_right_after_a_start(void **state)
{
	struct world *w = *state;
	join_all(w);
	tenant = "small";
	priority = WIRE__PRIORITY__PRIORITY_LOW;
	put(w, 1, 3);
	tenant = "";
	priority = WIRE__PRIORITY__PRIORITY_NORMAL;
	restart(w, true);
	join_all(w);
	assert_int_equal(look(w, 100, 1), 1); /* somebody of another tenant asks */
	Wire__KvAsk question = WIRE__KV_ASK__INIT;
	question.verb = WIRE__KV_VERB__KV_STAT;
	ask(w, 9, &question);
	uint64_t charged = 0;
	for (size_t i = 0; i < w->answer->load->store->n_tenants; i++)
		if (strcmp(w->answer->load->store->tenants[i]->name, "small") == 0)
			charged = w->answer->load->store->tenants[i]->bytes;
	assert_int_equal(charged, BLOCK_BYTES);
	asked(w, GET, 1, NO_PIN);
	assert_string_equal(w->answer->blocks[0]->tenant, "small");
	assert_int_equal(w->answer->blocks[0]->priority, WIRE__PRIORITY__PRIORITY_LOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, disk_setup_behind, disk_teardown)
		T(evicted_blocks_do_not_come_back),
		T(eviction_is_answered_when_it_is_durable),
		T(eviction_that_cannot_be_noted_is_told),
		T(block_that_is_being_written_is_not_evicted),
		T(pins_outlive_memory_and_process),
		T(pin_of_memory_is_noted_with_the_block),
		T(no_more_is_pinned_hard_on_disk_than_may_be),
		T(get_loads_what_is_only_on_disk),
		T(block_that_memory_has_no_room_for_is_told_without_a_place),
		T(verify_looks_at_the_record),
		T(list_has_every_block_once),
		T(list_has_every_block_once_while_they_come_and_go),
		T(account_is_right_after_a_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
