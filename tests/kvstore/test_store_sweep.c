/* What a store does for blocks that it has on disk only when other stores come and go. */
#include <stdlib.h>

#include "kvstore/place.h"
#include "tests/kvstore/store_disk_world.h"

/* Other stores: connection n is node 10 n. */
enum { SELF_NODE = 100, NEAR = 2, FAR = 3, NEW = 4, BLOCKS = 54, WEIGHT = 1, GRACE_MS = 100, LOADS = 8 };

struct fleet {
	bool lives[CONNS];
	bool mute;            /* nobody answers */
	bool takes_not[CONNS]; /* that one, to offers: not now */
	bool has[CONNS][KEYS];
	uint32_t offered[CONNS][KEYS];
	uint32_t pins[CONNS][KEYS];
	uint32_t asked, taken;
	uint32_t next; /* of what was sent */
};

static struct fleet f;

static void answer_have(struct world *w, const struct sent *s)
{
	uint32_t errors[256];
	for (uint32_t i = 0; i < s->blocks; i++)
		errors[i] = f.has[s->conn][s->keys[i]] ? ERR_OK : ERR_NOT_FOUND;
	f.asked += s->blocks;
	Wire__KvAnswer m = WIRE__KV_ANSWER__INIT;
	m.op = s->op;
	m.n_errors = s->blocks;
	m.errors = errors;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_KV_ANSWER;
	envelope.kv_answer = &m;
	deliver(w, s->conn, &envelope);
}

static void answer_offer(struct world *w, const struct sent *s)
{
	Wire__OfferDone m = WIRE__OFFER_DONE__INIT;
	m.op = s->op;
	m.error = f.has[s->conn][s->keys[0]] ? ERR_EXISTS : f.takes_not[s->conn] ? ERR_AGAIN : ERR_OK;
	f.offered[s->conn][s->keys[0]]++;
	f.pins[s->conn][s->keys[0]] = s->blocks;
	f.taken += m.error == ERR_OK;
	f.has[s->conn][s->keys[0]] |= m.error != ERR_AGAIN;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_OFFER_DONE;
	envelope.offer_done = &m;
	deliver(w, s->conn, &envelope);
}

static void serve(struct world *w)
{
	for (; !f.mute && f.next < w->sent_count; f.next++) {
		const struct sent s = w->sent[f.next];
		if (!f.lives[s.conn])
			continue;
		if (s.body == WIRE__ENVELOPE__BODY_KV_ASK)
			answer_have(w, &s);
		else if (s.body == WIRE__ENVELOPE__BODY_OFFER)
			answer_offer(w, &s);
	}
}

static void live(struct world *w, uint32_t ms)
{
	for (uint32_t i = 0; i < ms; i++) {
		do
			serve(w);
		while (step(w));
		w->now += MS;
		for (uint32_t conn = 1; conn < CONNS && i % 20 == 0; conn++)
			if (f.lives[conn])
				beat(w, conn);
		store_tick(w->store, w->now);
		store_check(w->store);
	}
	if (f.next == w->sent_count && w->sent_count > SENT_MAX / 2)
		f.next = w->sent_count = 0;
}

static void come(struct world *w, uint32_t conn, Wire__Role role)
{
	join(w, conn, 10 * conn, role);
	f.lives[conn] = true;
}

static void go(struct world *w, uint32_t conn)
{
	f.lives[conn] = false;
	store_closed(w->store, conn, w->now);
}

static int setup(void **state)
{
	struct world *w = disk_world_create(STORE_PERSIST_BEHIND, 1);
	w->options.replicas = 2;
	w->options.weight = WEIGHT;
	w->options.copies_max = 16;
	w->options.grace_ns = GRACE_MS * MS;
	w->options.peer_max = 8;
	memset(&f, 0, sizeof(f));
	restart(w, false); /* with these */
	*state = w;
	return 0;
}

static bool owns(const uint64_t *nodes, uint32_t node_count, uint8_t key, uint64_t node)
{
	struct place_member members[CONNS];
	uint64_t owners[PLACE_REPLICAS_MAX];
	for (uint32_t i = 0; i < node_count; i++)
		members[i] = (struct place_member){nodes[i], WEIGHT};
	uint32_t count = place_owners(members, node_count, &(struct id128){{key, 77}}, 2, owners);
	for (uint32_t i = 0; i < count; i++)
		if (owners[i] == node)
			return true;
	return false;
}

/* Three stores; all blocks are here, and with NEAR and FAR where these own them; of the first, memory knows nothing any more. */
static void fill(struct world *w)
{
	come(w, 1, WIRE__ROLE__ROLE_PREFILL);
	come(w, NEAR, WIRE__ROLE__ROLE_KVSTORE);
	come(w, FAR, WIRE__ROLE__ROLE_KVSTORE);
	live(w, 4 * GRACE_MS);
	for (uint32_t key = 0; key < BLOCKS; key++) {
		offer(w, 1, 1000 + key, (uint8_t)key);
		live(w, 40);
	}
	live(w, 20 * GRACE_MS);
	assert_true(status_of(w).sweep.over);
	assert_int_equal(status_of(w).disk.blocks, BLOCKS);
	memset(f.offered, 0, sizeof(f.offered));
	f.asked = f.taken = 0;
}

/* Copies that the other of two stores lacks, or one of many. */
static uint32_t lacking(const uint64_t *nodes, uint32_t node_count, uint32_t conn)
{
	uint32_t count = 0;
	for (uint32_t key = 0; key < BLOCKS; key++)
		count += owns(nodes, node_count, (uint8_t)key, 10 * conn) && !f.has[conn][key];
	return count;
}

static bool in_memory(const struct world *w, uint8_t key)
{
	return ledger_lookup(store_ledger(w->store), &(struct id128){{key, 77}}) != LEDGER_NONE;
}

static void blocks_on_disk_are_copied_when_a_store_is_lost(void **state)
{
	struct world *w = *state;
	const uint64_t left[] = {SELF_NODE, 10 * NEAR};
	uint32_t only_disk = 0;
	fill(w);
	for (uint32_t key = 0; key < BLOCKS; key++)
		only_disk += !in_memory(w, (uint8_t)key) && !f.has[NEAR][key];
	assert_true(only_disk > 0);
	go(w, FAR);
	live(w, 30 * GRACE_MS);
	for (uint32_t key = 0; key < BLOCKS; key++)
		assert_true(!owns(left, 2, (uint8_t)key, 10 * NEAR) || f.has[NEAR][key]);
	assert_true(status_of(w).sweep.over);
	assert_int_equal(status_of(w).sweep.missing, 0);
	assert_int_equal(status_of(w).sweep.loaded, only_disk);
}

static void store_that_joins_gets_its_share_of_the_disk(void **state)
{
	struct world *w = *state;
	const uint64_t all[] = {SELF_NODE, 10 * NEAR, 10 * FAR, 10 * NEW};
	uint32_t share = 0;
	fill(w);
	come(w, NEW, WIRE__ROLE__ROLE_KVSTORE);
	live(w, 30 * GRACE_MS);
	for (uint32_t key = 0; key < BLOCKS; key++) {
		share += owns(all, 4, (uint8_t)key, 10 * NEW);
		assert_int_equal(f.has[NEW][key], owns(all, 4, (uint8_t)key, 10 * NEW));
	}
	assert_true(share > 15);
	assert_int_equal(f.taken, share); /* and nothing else moved */
}

static void copies_are_pinned_as_what_they_are_made_of(void **state)
{
	struct world *w = *state;
	uint64_t note;
	enum ledger_pin pin;
	fill(w);
	uint8_t key = 0;
	while (in_memory(w, key) || f.has[NEAR][key])
		key++;
	assert_int_equal(store_pin(w->store, &(struct id128){{key, 77}}, LEDGER_PINNED_SOFT, &note), ERR_OK);
	go(w, FAR);
	live(w, 30 * GRACE_MS);
	assert_true(f.has[NEAR][key]);
	assert_int_equal(f.pins[NEAR][key], LEDGER_PINNED_SOFT);
	/* And the other way round. */
	offer_pin = WIRE__KV_PIN__KV_PINNED_HARD;
	offer(w, NEAR, 7100, 100);
	offer(w, 1, 7101, 101); /* of an engine nobody takes that */
	offer_pin = WIRE__KV_PIN__KV_UNPINNED;
	live(w, 100);
	assert_int_equal(store_pinned(w->store, &(struct id128){{100, 77}}, &pin), ERR_OK);
	assert_int_equal(pin, LEDGER_PINNED_HARD);
	assert_int_equal(store_pinned(w->store, &(struct id128){{101, 77}}, &pin), ERR_OK);
	assert_int_equal(pin, LEDGER_UNPINNED);
}

static void nothing_is_loaded_when_no_copy_is_missing(void **state)
{
	struct world *w = *state;
	fill(w);
	uint64_t loads = status_of(w).disk.counters.loads;
	go(w, FAR);
	live(w, GRACE_MS / 2); /* it is back before it is given up */
	come(w, FAR, WIRE__ROLE__ROLE_KVSTORE);
	live(w, 30 * GRACE_MS);
	assert_true(status_of(w).sweep.over);
	assert_true(f.asked > 0);
	assert_int_equal(status_of(w).disk.counters.loads, loads);
}

static void memory_keeps_what_is_warm(void **state)
{
	struct world *w = *state;
	bool before[BLOCKS];
	uint32_t lost = 0;
	fill(w);
	for (uint32_t key = 0; key < BLOCKS; key++)
		before[key] = in_memory(w, (uint8_t)key);
	go(w, FAR);
	live(w, 30 * GRACE_MS);
	assert_true(status_of(w).sweep.loaded > 0);
	for (uint32_t key = 0; key < BLOCKS; key++)
		lost += before[key] && !in_memory(w, (uint8_t)key);
	assert_true(lost <= LOADS);
}

static uint64_t missing_of(const struct world *w)
{
	return status_of(w).sweep.missing + status_of(w).replicate.missing;
}

/* What the disk could have costs nothing, and as long as a copy is missing, some are said to be. */
static void sweep_costs_what_there_is_and_counts_what_it_has_not_seen(void **state)
{
	struct world *w = *state;
	const uint64_t left[] = {SELF_NODE, 10 * NEAR};
	fill(w);
	disk_world_of(w)->options.block_max = 40000;
	memset(f.lives, 0, sizeof(f.lives));
	restart(w, false);
	f.next = w->sent_count;
	come(w, NEAR, WIRE__ROLE__ROLE_KVSTORE);
	come(w, FAR, WIRE__ROLE__ROLE_KVSTORE);
	assert_in_range(missing_of(w), BLOCKS, 2 * BLOCKS); /* nobody was asked yet */
	for (uint32_t ms = 0; !status_of(w).sweep.over; ms++) {
		assert_in_range(ms, 0, 10 * GRACE_MS);
		live(w, 1);
	}
	assert_int_equal(missing_of(w), 0);
	go(w, FAR);
	assert_true(lacking(left, 2, NEAR) > 0);
	for (uint32_t ms = 0; lacking(left, 2, NEAR) > 0; ms++) {
		assert_in_range(ms, 0, 2 * GRACE_MS + 30); /* until it is given up, and the others have settled */
		assert_true(missing_of(w) >= lacking(left, 2, NEAR));
		live(w, 1);
	}
	live(w, 10 * GRACE_MS);
	assert_true(status_of(w).sweep.over);
	assert_int_equal(missing_of(w), 0);
}

/* FAR has lost what is on disk only here, and takes nothing. */
static void nobody_waits_for_a_store_that_takes_nothing(void **state)
{
	struct world *w = *state;
	const uint64_t all[] = {SELF_NODE, 10 * NEAR, 10 * FAR, 10 * NEW};
	fill(w);
	for (uint32_t key = 0; key < BLOCKS; key++)
		f.has[FAR][key] &= in_memory(w, (uint8_t)key);
	f.takes_not[FAR] = true;
	come(w, NEW, WIRE__ROLE__ROLE_KVSTORE);
	live(w, 3 * GRACE_MS + 4000);
	assert_int_equal(lacking(all, 4, NEW), 0);
	assert_false(status_of(w).sweep.over);
	assert_true(missing_of(w) >= lacking(all, 4, FAR));
	f.takes_not[FAR] = false;
	go(w, FAR);
	come(w, FAR, WIRE__ROLE__ROLE_KVSTORE);
	live(w, 30 * GRACE_MS);
	assert_int_equal(lacking(all, 4, FAR), 0);
	assert_true(status_of(w).sweep.over);
	assert_int_equal(missing_of(w), 0);
}

/* The others are slow to read: blocks wait for their copies, go for room, and the next ones have their entries. */
static void blocks_evicted_before_they_are_copied_are_copied_from_disk(void **state)
{
	struct world *w = *state;
	const uint64_t all[] = {SELF_NODE, 10 * NEAR, 10 * FAR};
	w->options.copies_max = 2;
	restart(w, false);
	come(w, 1, WIRE__ROLE__ROLE_PREFILL);
	come(w, NEAR, WIRE__ROLE__ROLE_KVSTORE);
	come(w, FAR, WIRE__ROLE__ROLE_KVSTORE);
	live(w, 40 * GRACE_MS);
	assert_true(status_of(w).sweep.over);
	f.mute = true;
	for (uint32_t key = 0; key < BLOCKS; key++) {
		offer(w, 1, 1000 + key, (uint8_t)key);
		live(w, 40);
	}
	assert_true(status_of(w).ledger.evicted[LEDGER_FOR_ROOM] > 0);
	assert_true(missing_of(w) >= lacking(all, 3, NEAR) && missing_of(w) >= lacking(all, 3, FAR));
	f.mute = false;
	live(w, 60 * GRACE_MS);
	assert_int_equal(lacking(all, 3, NEAR) + lacking(all, 3, FAR), 0);
	assert_true(status_of(w).sweep.over);
	assert_int_equal(missing_of(w), 0);
}

static void copies_from_disk_keep_to_the_pace(void **state)
{
	struct world *w = *state;
	fill(w);
	memset(f.lives, 0, sizeof(f.lives));
	w->options.rebalance_rate = 20 * BLOCK_BYTES;
	restart(w, false);
	f.next = w->sent_count;
	come(w, NEW, WIRE__ROLE__ROLE_KVSTORE); /* it has nothing: half of all is missing, and nothing is in memory */
	live(w, 4 * GRACE_MS);
	uint64_t from = status_of(w).sweep.loaded;
	live(w, 1000);
	assert_in_range(status_of(w).sweep.loaded - from, 15, 25);
	live(w, 6000);
	assert_int_equal(status_of(w).sweep.loaded, BLOCKS);
	assert_true(status_of(w).sweep.over || status_of(w).sweep.missing == 0);
}

static void only_stores_are_told_what_is_there(void **state)
{
	struct world *w = *state;
	fill(w);
	uint8_t keys[2 * 16] = {0, 77};
	keys[16] = 150;
	Wire__KvAsk question = WIRE__KV_ASK__INIT;
	question.verb = WIRE__KV_VERB__KV_HAVE;
	question.keys = (ProtobufCBinaryData){sizeof(keys), keys};
	ask(w, NEAR, &question);
	assert_int_equal(w->answer->n_errors, 2);
	assert_int_equal(w->answer->errors[0], ERR_OK);
	assert_int_equal(w->answer->errors[1], ERR_NOT_FOUND);
	ask(w, 1, &question);
	assert_int_equal(w->answer->error, ERR_DENIED);
	question.verb = WIRE__KV_VERB__KV_EVICT;
	ask(w, NEAR, &question);
	assert_int_equal(w->answer->error, ERR_DENIED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, disk_teardown)
		T(blocks_on_disk_are_copied_when_a_store_is_lost),
		T(store_that_joins_gets_its_share_of_the_disk),
		T(copies_are_pinned_as_what_they_are_made_of),
		T(nothing_is_loaded_when_no_copy_is_missing),
		T(memory_keeps_what_is_warm),
		T(sweep_costs_what_there_is_and_counts_what_it_has_not_seen),
		T(nobody_waits_for_a_store_that_takes_nothing),
		T(blocks_evicted_before_they_are_copied_are_copied_from_disk),
		T(copies_from_disk_keep_to_the_pace),
		T(only_stores_are_told_what_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
