/* What a prompt waits for: the answer with what is in a store's memory, the later ones with what was on its disk; and not for a
 * store that says nothing while others have it all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/world.h"

enum { REUSABLE = 4, PROMPT = REUSABLE * BLOCK_TOKENS + 1, SECOND = STORE + 1 };

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct node_options options = world_options(w);
	options.fetch_deadline_ns = 1000 * MS;
	options.read_max = READS_MAX;
	world_start(w, &options);
	/* The engine has something else to do, so nothing is computed beside a fetch (test_overlap.c). */
	struct wanted busy = good(2, WIRE__HALF__HALF_PREFILL);
	busy.tokens = BLOCK_TOKENS - 1;
	begin(w, busy);
	w->sent_count = 0;
	join(w, STORE, WIRE__ROLE__ROLE_KVSTORE);
	*state = w;
	return 0;
}

/* The prompt asks the store; returns the number of the look-up. */
static uint64_t ask(struct world *w)
{
	struct wanted wanted = good(1, WIRE__HALF__HALF_PREFILL);
	wanted.tokens = PROMPT;
	begin(w, wanted);
	struct sent lookup = told(w, WIRE__ENVELOPE__BODY_LOOKUP);
	assert_int_equal(lookup.conn, STORE);
	assert_int_equal(lookup.keys, REUSABLE);
	return lookup.op;
}

/* It asks both stores; each has all keys to answer for. */
static void ask_both(struct world *w, uint64_t ret_ops[2])
{
	struct wanted wanted = good(1, WIRE__HALF__HALF_PREFILL);
	wanted.tokens = PROMPT;
	join(w, SECOND, WIRE__ROLE__ROLE_KVSTORE);
	begin(w, wanted);
	ret_ops[0] = ret_ops[1] = 0;
	for (uint32_t i = 0; i < w->sent_count; i++)
		if (w->sent[i].body == WIRE__ENVELOPE__BODY_LOOKUP)
			ret_ops[w->sent[i].conn - STORE] = w->sent[i].op;
	assert_true(ret_ops[0] && ret_ops[1]);
	w->sent_count = 0;
}

/* Blocks first..end - 1 are there. */
static void found_at(struct world *w, uint32_t store, uint64_t op, uint32_t first, uint32_t end, bool more)
{
	uint64_t digests[LAYERS] = {0};
	Wire__Place place = WIRE__PLACE__INIT;
	Wire__FoundBlock blocks[REUSABLE], *pointers[REUSABLE];
	Wire__Found message = WIRE__FOUND__INIT;
	for (uint32_t i = first; i < end; i++) {
		Wire__FoundBlock *block = pointers[message.n_blocks] = &blocks[message.n_blocks];
		message.n_blocks++;
		wire__found_block__init(block);
		block->index = i;
		block->place = &place;
		block->digests = digests;
		block->n_digests = LAYERS;
	}
	message.op = op;
	message.blocks = pointers;
	message.more = more;
	SAY(store, FOUND, found, &message);
}

static void found(struct world *w, uint64_t op, uint32_t first, uint32_t end, bool more)
{
	found_at(w, STORE, op, first, end, more);
}

static void end_reads(struct world *w, uint32_t first)
{
	for (uint32_t i = first; i < w->reads; i++) {
		node_read_outcome(w->node, w->read[i].op, ERR_OK, 0, w->now_ns);
		node_landing_free(w->node, w->read[i].op, w->now_ns);
		node_check(w->node);
	}
}

static void pass(struct world *w, uint32_t ms)
{
	w->now_ns += ms * MS;
	node_tick(w->node, w->now_ns);
	node_check(w->node);
}

static bool fetches(const struct world *w)
{
	const char *state = node_job_state(w->node, 10 * COORDINATOR, 1, 1, WIRE__HALF__HALF_PREFILL);
	assert_non_null(state);
	return strcmp(state, "FETCHING") == 0;
}

static void what_is_in_memory_is_read_while_the_rest_comes_from_disk(void **state)
{
	struct world *w = *state;
	uint64_t op = ask(w);
	found(w, op, 0, 2, true);
	assert_int_equal(w->reads, 2 * LAYERS);
	end_reads(w, 0);
	pass(w, 100);
	assert_true(fetches(w)); /* for what is to come */
	found(w, op, 2, 3, true);
	assert_int_equal(w->reads, 3 * LAYERS);
	found(w, op, 3, 4, false);
	assert_int_equal(w->reads, 4 * LAYERS);
	assert_true(fetches(w));
	end_reads(w, 2 * LAYERS);
	assert_false(fetches(w));
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_RELEASE).conn, STORE);
}

static void last_answer_may_bring_nothing(void **state)
{
	struct world *w = *state;
	uint64_t op = ask(w);
	found(w, op, 0, 1, true);
	end_reads(w, 0);
	assert_true(fetches(w));
	found(w, op, 0, 0, false);
	assert_false(fetches(w));
	assert_int_equal(w->reads, LAYERS);
}

static void nobody_waits_for_a_disk_longer_than_half_the_time(void **state)
{
	struct world *w = *state;
	uint64_t op = ask(w);
	found(w, op, 0, 1, true);
	end_reads(w, 0);
	pass(w, 480);
	assert_true(fetches(w));
	pass(w, 40);
	assert_false(fetches(w));
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_RELEASE).conn, STORE);
	found(w, op, 1, 4, false); /* too late: it is released at once */
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_RELEASE).conn, STORE);
	assert_int_equal(w->reads, LAYERS);
}

static void answer_that_is_said_twice_counts_once(void **state)
{
	struct world *w = *state;
	uint64_t op = ask(w);
	found(w, op, 0, 2, true);
	found(w, op, 0, 2, true);
	assert_int_equal(w->reads, 2 * LAYERS);
	found(w, op, 2, 4, false);
	found(w, op, 0, 2, true); /* an echo after the last: nothing more is waited for */
	assert_int_equal(w->reads, 4 * LAYERS);
	end_reads(w, 0);
	assert_false(fetches(w));
}

static void store_that_dies_is_waited_for_no_more(void **state)
{
	struct world *w = *state;
	uint64_t op = ask(w);
	found(w, op, 0, 1, true);
	end_reads(w, 0);
	assert_true(fetches(w));
	node_closed(w->node, STORE, w->now_ns);
	pass(w, 1);
	assert_false(fetches(w));
}

static void silent_store_is_not_waited_for_when_another_has_it_all(void **state)
{
	struct world *w = *state;
	uint64_t ops[2];
	ask_both(w, ops);
	found_at(w, SECOND, ops[1], 0, REUSABLE, false);
	assert_int_equal(w->reads, REUSABLE * LAYERS);
	end_reads(w, 0);
	assert_false(fetches(w));
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_RELEASE).conn, SECOND);
	found(w, ops[0], 0, REUSABLE, false); /* it was only slow: what it holds for us it may let go */
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_RELEASE).conn, STORE);
}

static void silent_store_is_waited_for_when_something_is_missing(void **state)
{
	struct world *w = *state;
	uint64_t ops[2];
	ask_both(w, ops);
	found_at(w, SECOND, ops[1], 0, REUSABLE - 1, false);
	pass(w, 480);
	assert_int_equal(w->reads, 0);
	pass(w, 40);
	assert_int_equal(w->reads, (REUSABLE - 1) * LAYERS);
	end_reads(w, 0);
	assert_false(fetches(w));
}

static void disk_is_not_waited_for_when_another_has_it_all(void **state)
{
	struct world *w = *state;
	uint64_t ops[2];
	ask_both(w, ops);
	found(w, ops[0], 0, 2, true);
	found_at(w, SECOND, ops[1], 0, REUSABLE, false);
	end_reads(w, 0);
	assert_false(fetches(w));
}

/* The only copy known fails: who has not answered may have another. */
static void silent_store_is_waited_for_when_a_read_fails(void **state)
{
	struct world *w = *state;
	uint64_t ops[2];
	ask_both(w, ops);
	found_at(w, SECOND, ops[1], 0, REUSABLE, false);
	for (uint32_t i = 0; i < LAYERS; i++) {
		node_read_outcome(w->node, w->read[i].op, ERR_STALE, 0, w->now_ns);
		node_landing_free(w->node, w->read[i].op, w->now_ns);
	}
	end_reads(w, LAYERS);
	assert_true(fetches(w));
	found(w, ops[0], 0, REUSABLE, false);
	assert_int_equal(w->reads, (REUSABLE + 1) * LAYERS);
	end_reads(w, REUSABLE * LAYERS);
	assert_false(fetches(w));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)
		T(what_is_in_memory_is_read_while_the_rest_comes_from_disk),
		T(last_answer_may_bring_nothing),
		T(nobody_waits_for_a_disk_longer_than_half_the_time),
		T(answer_that_is_said_twice_counts_once),
		T(store_that_dies_is_waited_for_no_more),
		T(silent_store_is_not_waited_for_when_another_has_it_all),
		T(silent_store_is_waited_for_when_something_is_missing),
		T(disk_is_not_waited_for_when_another_has_it_all),
		T(silent_store_is_waited_for_when_a_read_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
