/* A prompt goes over what is in the pool by the time it comes there: two of one beginning compute it once, and one that waits for
 * its fetch is computed from the beginning while that reads from the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/world.h"

enum { CHUNK = 8, PROMPT = 2 * CHUNK + 2 };
enum { LONG = 50, REUSABLE = LONG / BLOCK_TOKENS, AT_ONCE = 2 }; /* blocks read at once */
enum { FLOOR_MS = 200 }; /* node/core.c: as long as a chunk, as long as nobody knows */

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct node_options options = world_options(w);
	options.fetch_deadline_ns = 1000 * MS;
	options.read_max = AT_ONCE * LAYERS;
	world_start(w, &options);
	*state = w;
	return 0;
}

static void end_step(struct world *w)
{
	w->sent_count = 0;
	world_end_step(w);
}

static void prompt(struct world *w, uint64_t number, uint32_t last_token, bool scored)
{
	struct wanted wanted = good(number, WIRE__HALF__HALF_PREFILL);
	wanted.tokens = PROMPT;
	wanted.last_token = last_token;
	wanted.scored = scored;
	begin(w, wanted);
}

static void attach(struct world *w, uint64_t number)
{
	Wire__JobId id = job_of(number);
	Wire__Attach message = WIRE__ATTACH__INIT;
	message.job = &id;
	message.compat = (ProtobufCBinaryData){16, compat_bytes};
	SAY(DECODE, ATTACH, attach, &message);
}

/* Decode has it all. */
static struct sent end(struct world *w, uint64_t number)
{
	Wire__JobId id = job_of(number);
	Wire__TransferEnd message = WIRE__TRANSFER_END__INIT;
	message.job = &id;
	SAY(DECODE, TRANSFER_END, transfer_end, &message);
	struct sent ended = told(w, WIRE__ENVELOPE__BODY_JOB_END);
	assert_int_equal(ended.error, ERR_OK);
	return ended;
}

/* The plan in flight is of so many runs; the last one is that. */
static void demand_plan(const struct world *w, uint32_t runs, uint32_t first, uint32_t count)
{
	assert_non_null(w->plan);
	assert_int_equal(w->plan->run_count, runs);
	assert_int_equal(w->plan->runs[runs - 1].first, first);
	assert_int_equal(w->plan->runs[runs - 1].count, count);
}

static uint32_t announced(const struct world *w, uint32_t layer, uint32_t first, uint32_t count)
{
	uint32_t times = 0;
	for (uint32_t i = 0; i < w->sent_count; i++)
		times += w->sent[i].body == WIRE__ENVELOPE__BODY_ANNOUNCE && w->sent[i].layer == layer &&
			 w->sent[i].block_first == first && w->sent[i].block_count == count;
	return times;
}

static void two_of_one_beginning_compute_it_once(void **state)
{
	struct world *w = *state;
	prompt(w, 1, 0, false);
	prompt(w, 2, 1, false);
	attach(w, 1);
	attach(w, 2);
	for (uint32_t at = 0; at < 2 * CHUNK; at += CHUNK) {
		demand_plan(w, 1, at, CHUNK);
		end_step(w);
		/* Of the first as it computes, of the second as it goes over them. */
		for (uint32_t layer = 0; layer < LAYERS; layer++)
			assert_int_equal(announced(w, layer, at / BLOCK_TOKENS, CHUNK / BLOCK_TOKENS), 2);
	}
	demand_plan(w, 2, 2 * CHUNK, 2); /* the last token of each, and what is not a full block */
	end_step(w);
	assert_null(w->plan);
	struct sent first = end(w, 1), second = end(w, 2);
	assert_int_equal(first.computed, PROMPT);
	assert_int_equal(first.reused + first.fetched + second.fetched, 0);
	assert_int_equal(second.reused, 2 * CHUNK);
	assert_int_equal(second.computed, PROMPT - 2 * CHUNK);
}

/* It had begun, and waits behind the other for no longer than that computes. */
static void the_second_goes_on_by_itself_when_the_first_is_canceled(void **state)
{
	struct world *w = *state;
	prompt(w, 1, 0, false);
	prompt(w, 2, 1, false);
	end_step(w);
	demand_plan(w, 1, CHUNK, CHUNK);
	Wire__JobId id = job_of(1);
	Wire__Cancel cancel = WIRE__CANCEL__INIT;
	cancel.job = &id;
	SAY(COORDINATOR, CANCEL, cancel, &cancel);
	end_step(w); /* of which nobody is told */
	demand_plan(w, 1, CHUNK, CHUNK);
	end_step(w);
	demand_plan(w, 1, 2 * CHUNK, 2);
	end_step(w);
	attach(w, 2);
	assert_int_equal(end(w, 2).computed, PROMPT - CHUNK);
}

/* Rule 5: what is scored is computed, whoever else has computed it. */
static void scored_rows_are_not_gone_over(void **state)
{
	struct world *w = *state;
	prompt(w, 1, 0, false);
	prompt(w, 2, 1, true);
	demand_plan(w, 1, 0, CHUNK); /* the second came while this was in flight */
	end_step(w);
	demand_plan(w, 2, 0, CHUNK);
	end_step(w);
	demand_plan(w, 2, CHUNK, CHUNK);
	end_step(w);
	demand_plan(w, 1, 2 * CHUNK, 2);
	end_step(w);
	attach(w, 2);
	assert_int_equal(end(w, 2).computed, PROMPT);
}

/* Rule 4: the last token is computed, though another has just computed the very same. */
static void the_same_prompt_computes_its_last_block(void **state)
{
	struct world *w = *state;
	struct wanted wanted = good(1, WIRE__HALF__HALF_PREFILL);
	wanted.tokens = 2 * CHUNK;
	begin(w, wanted);
	wanted.number = 2;
	begin(w, wanted);
	end_step(w);
	demand_plan(w, 1, CHUNK, CHUNK);
	end_step(w);
	demand_plan(w, 1, 2 * CHUNK - BLOCK_TOKENS, BLOCK_TOKENS);
	end_step(w);
	attach(w, 2);
	assert_int_equal(end(w, 2).computed, BLOCK_TOKENS);
}

/* ---- from both ends */

static const char *state_of(const struct world *w, uint64_t number)
{
	const char *state = node_job_state(w->node, 10 * COORDINATOR, number, 1, WIRE__HALF__HALF_PREFILL);
	return state ? state : "";
}

static void pass(struct world *w, uint32_t ms)
{
	w->now_ns += ms * MS;
	node_tick(w->node, w->now_ns);
	node_check(w->node);
}

/* The prompt asks the store, which has all of it; blocks are told apart by their generation: 1 + number. */
static void fetch(struct world *w)
{
	uint64_t digests[LAYERS] = {0};
	Wire__Place places[REUSABLE];
	Wire__FoundBlock blocks[REUSABLE], *pointers[REUSABLE];
	Wire__Found message = WIRE__FOUND__INIT;
	struct wanted wanted = good(1, WIRE__HALF__HALF_PREFILL);
	wanted.tokens = LONG;
	join(w, STORE, WIRE__ROLE__ROLE_KVSTORE);
	begin(w, wanted);
	for (uint32_t i = 0; i < REUSABLE; i++) {
		wire__place__init(&places[i]);
		wire__found_block__init(pointers[i] = &blocks[i]);
		places[i].generation = 1 + i;
		blocks[i].index = i;
		blocks[i].place = &places[i];
		blocks[i].digests = digests;
		blocks[i].n_digests = LAYERS;
	}
	message.op = told(w, WIRE__ENVELOPE__BODY_LOOKUP).op;
	message.n_blocks = REUSABLE;
	message.blocks = pointers;
	SAY(STORE, FOUND, found, &message);
	assert_int_equal(w->reads, AT_ONCE * LAYERS);
}

/* The next `count` blocks come, from the end, as the fetch asks for them; the last of them is that one. */
static void come(struct world *w, uint32_t *at, uint32_t count, uint32_t last, enum err e)
{
	for (uint32_t end = *at + count * LAYERS; *at < end; (*at)++) {
		assert_true(*at < w->reads);
		node_read_outcome(w->node, w->read[*at].op, e, 0, w->now_ns);
		node_landing_free(w->node, w->read[*at].op, w->now_ns);
		node_check(w->node);
	}
	assert_int_equal(w->read[*at - 1].generation, 1 + last);
}

static void long_prompt_is_computed_from_its_beginning_while_its_end_is_read(void **state)
{
	struct world *w = *state;
	uint32_t at = 0;
	fetch(w);
	attach(w, 1);
	pass(w, FLOOR_MS / 2);
	assert_null(w->plan); /* a chunk may take longer than what is missing */
	assert_string_equal(state_of(w, 1), "FETCHING");
	pass(w, FLOOR_MS);
	demand_plan(w, 1, 0, CHUNK);
	assert_string_equal(state_of(w, 1), "COMPUTING");
	come(w, &at, 9, 3, ERR_OK);
	come(w, &at, 1, 2, ERR_OK);
	assert_int_equal(at, w->reads); /* what is being computed is not read */
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_RELEASE).conn, STORE);
	end_step(w);
	for (uint32_t layer = 0; layer < LAYERS; layer++)
		assert_int_equal(announced(w, layer, 2, REUSABLE - 2), 1);
	demand_plan(w, 1, REUSABLE * BLOCK_TOKENS, LONG - REUSABLE * BLOCK_TOKENS);
	end_step(w);
	struct sent ended = end(w, 1);
	assert_int_equal(ended.computed, LONG - ended.fetched);
	assert_int_equal(ended.fetched, (REUSABLE - 2) * BLOCK_TOKENS);
}

static void block_that_fails_in_the_middle_is_computed_and_what_lies_behind_is_not(void **state)
{
	struct world *w = *state;
	uint32_t at = 0;
	fetch(w);
	pass(w, FLOOR_MS + 10);
	demand_plan(w, 1, 0, CHUNK);
	come(w, &at, 7, 5, ERR_OK);
	come(w, &at, 1, 4, ERR_STALE);
	come(w, &at, 2, 2, ERR_OK);
	assert_int_equal(at, w->reads);
	end_step(w);
	demand_plan(w, 1, 4 * BLOCK_TOKENS, CHUNK); /* it and its neighbour */
	end_step(w);
	demand_plan(w, 1, REUSABLE * BLOCK_TOKENS, LONG - REUSABLE * BLOCK_TOKENS);
	end_step(w);
	attach(w, 1);
	struct sent ended = end(w, 1);
	assert_int_equal(ended.fetched, (REUSABLE - 4) * BLOCK_TOKENS);
	assert_int_equal(ended.computed, LONG - ended.fetched);
}

static void cancel_while_both_are_under_way_frees_both(void **state)
{
	struct world *w = *state;
	Wire__JobId id = job_of(1);
	Wire__Cancel cancel = WIRE__CANCEL__INIT;
	cancel.job = &id;
	fetch(w);
	pass(w, FLOOR_MS + 10);
	w->sent_count = 0;
	SAY(COORDINATOR, CANCEL, cancel, &cancel);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_RELEASE).conn, STORE);
	for (uint32_t i = 0; i < AT_ONCE * LAYERS; i++) {
		node_read_outcome(w->node, w->read[i].op, ERR_CANCELED, 0, w->now_ns);
		node_landing_free(w->node, w->read[i].op, w->now_ns);
	}
	assert_non_null(w->plan); /* rule 2 */
	end_step(w);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_CANCELED);
	struct node_status status;
	node_status(w->node, &status);
	assert_int_equal(status.prefill_jobs + status.blocks_used + status.fetches + status.reads, 0);
}

/* What could be loaded is not computed where that costs others. */
static void engine_with_something_else_to_do_computes_nothing_that_is_fetched(void **state)
{
	struct world *w = *state;
	fetch(w);
	pass(w, FLOOR_MS + 10);
	demand_plan(w, 1, 0, CHUNK);
	struct wanted other = good(2, WIRE__HALF__HALF_PREFILL);
	other.tokens = BLOCK_TOKENS - 1;
	begin(w, other);
	end_step(w);
	demand_plan(w, 1, 0, BLOCK_TOKENS - 1);
	assert_string_equal(state_of(w, 1), "FETCHING");
	end_step(w);
	demand_plan(w, 1, CHUNK, CHUNK); /* idle again, and nothing has come */
}

/* Nothing comes at all, for longer than the deadline: it is never waited for. */
static void prompt_that_overtakes_its_fetch_ends_it(void **state)
{
	struct world *w = *state;
	fetch(w);
	attach(w, 1);
	pass(w, FLOOR_MS + 10);
	for (uint32_t token = 0; token < LONG; token += CHUNK) {
		demand_plan(w, 1, token, token + CHUNK < LONG ? CHUNK : LONG - token);
		w->now_ns += 600 * MS;
		end_step(w);
	}
	for (uint32_t i = 0; i < AT_ONCE * LAYERS; i++) {
		node_read_outcome(w->node, w->read[i].op, ERR_CANCELED, 0, w->now_ns);
		node_landing_free(w->node, w->read[i].op, w->now_ns);
	}
	assert_int_equal(end(w, 1).computed, LONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)
		T(two_of_one_beginning_compute_it_once),
		T(the_second_goes_on_by_itself_when_the_first_is_canceled),
		T(scored_rows_are_not_gone_over),
		T(the_same_prompt_computes_its_last_block),
		T(long_prompt_is_computed_from_its_beginning_while_its_end_is_read),
		T(block_that_fails_in_the_middle_is_computed_and_what_lies_behind_is_not),
		T(cancel_while_both_are_under_way_frees_both),
		T(engine_with_something_else_to_do_computes_nothing_that_is_fetched),
		T(prompt_that_overtakes_its_fetch_ends_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
