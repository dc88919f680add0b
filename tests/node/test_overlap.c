/* A prompt goes over what is in the pool by the time it comes there: two of one beginning compute it once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/world.h"

enum { CHUNK = 8, PROMPT = 2 * CHUNK + 2 };

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct node_options options = world_options(w);
	world_start(w, &options);
	*state = w;
	return 0;
}

static void end_step(struct world *w)
{
	static const struct sample samples[PLAN_SAMPLES_MAX] = {[0] = {.token = 5}, [1] = {.token = 5}};
	assert_non_null(w->plan);
	w->sent_count = 0;
	for (uint32_t layer = 0; layer < LAYERS; layer++)
		node_layer_done(w->node, layer, w->now_ns);
	w->plan = NULL;
	node_step_done(w->node, samples, ERR_OK, w->now_ns);
	node_check(w->node);
}

static int teardown(void **state)
{
	struct world *w = *state;
	while (w->plan)
		end_step(w);
	world_stop(w);
	free(w);
	return 0;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(two_of_one_beginning_compute_it_once),
		T(the_second_goes_on_by_itself_when_the_first_is_canceled),
		T(scored_rows_are_not_gone_over),
		T(the_same_prompt_computes_its_last_block),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
