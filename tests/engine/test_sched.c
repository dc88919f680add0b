#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/sched.h"

enum { BLOCK_TOKENS = 16, SEQ_MAX = 24, TOKENS_MAX = 640, SEQUENCES = 300 };

/* A sequence whose tokens nobody reads: the scheduler only counts. */
static struct sequence sequence_of(uint64_t id, uint32_t prompt_count, uint64_t arrival)
{
	return (struct sequence){.id = id, .prompt_count = prompt_count, .token_count = prompt_count,
				 .tables = {{.count = TOKENS_MAX / BLOCK_TOKENS + 1}}, .choice_count = 1, .arrival = arrival};
}

static void *sched_new(const struct sched_options *options, struct sched **ret_sched)
{
	void *memory = malloc(sched_bytes(options));
	*ret_sched = sched_init(memory, options);
	return memory;
}

static const struct sched_options plain = {
	.seq_max = SEQ_MAX, .group_count = 1, .batch_tokens_max = 128, .chunk_tokens = 64, .block_tokens = BLOCK_TOKENS};

static const struct run *run_of(const struct plan *plan, const struct sequence *sequence)
{
	for (uint32_t i = 0; i < plan->run_count; i++)
		if (plan->runs[i].sequence == sequence)
			return &plan->runs[i];
	return NULL;
}

/* What sched.h says of any plan, checked from outside. */
static void check_plan(const struct plan *plan, const struct sched_options *options, struct sequence **in,
		       uint32_t in_count)
{
	uint32_t tokens = 0, samples = 0, scores = 0;
	for (uint32_t i = 0; i < plan->run_count; i++) {
		const struct run *run = &plan->runs[i];
		const struct sequence *s = run->sequence;
		uint32_t end = run->first + run->count;
		assert_true(run_of(plan, s) == run);
		assert_int_equal(run->first, s->computed);
		assert_true(run->count >= 1 && end <= s->token_count && run->count <= options->chunk_tokens);
		assert_true(end == s->token_count || end % options->block_tokens == 0);
		assert_int_equal(run->sample_count, end == s->token_count ? s->choice_count : 0);
		assert_int_equal(run->sample_first, samples);
		assert_int_equal(run->score_index, samples + run->sample_count);
		for (uint32_t row = run->first; row < end; row++)
			assert_int_equal(row >= run->score_first && row < run->score_first + run->score_count,
					 row >= s->score_first && row < s->score_end);
		if (end % options->block_tokens == 0 || run->first < s->prompt_count)
			assert_true(run->digest);
		else if (run->count == 1)
			assert_false(run->digest);
		tokens += run->count;
		samples += run->sample_count + run->score_count;
		scores += run->score_count;
	}
	assert_int_equal(tokens, plan->token_count);
	assert_int_equal(samples, plan->sample_count);
	assert_int_equal(scores, plan->score_count);
	assert_true(tokens <= options->batch_tokens_max && samples <= PLAN_SAMPLES_MAX);
	assert_true(plan->token_bucket >= tokens && plan->token_bucket < 2 * tokens + 64);
	for (uint32_t i = 0; i < in_count; i++)
		if (in[i]->token_count - in[i]->computed == 1 && samples + in[i]->choice_count <= PLAN_SAMPLES_MAX)
			assert_non_null(run_of(plan, in[i]));
}

static uint64_t waiting(struct sequence **in, uint32_t in_count)
{
	uint64_t tokens = 0;
	for (uint32_t i = 0; i < in_count; i++) {
		uint32_t left = in[i]->token_count - in[i]->computed;
		if (left > 1 || in[i]->computed < in[i]->prompt_count)
			tokens += left;
	}
	return tokens;
}

/* Every sequence in the scheduler that sampled gets a token, or leaves when it has enough. */
static uint32_t after_step(struct sched *sched, const struct plan *plan, struct sequence **in, uint32_t in_count,
			   const uint32_t *goal)
{
	sched_done(sched, plan);
	for (uint32_t i = 0; i < plan->run_count; i++) {
		struct sequence *s = plan->runs[i].sequence;
		s->token_count += plan->runs[i].sample_count > 0;
		s->choice_count = plan->runs[i].sample_count > 0 ? 1 : s->choice_count;
	}
	for (uint32_t i = 0; i < in_count;) {
		if (in[i]->token_count < goal[in[i]->id]) {
			i++;
			continue;
		}
		sched_remove(sched, in[i]);
		in[i] = in[--in_count];
	}
	return in_count;
}

static void every_plan_keeps_the_rules_and_everything_ends(void **state)
{
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct rng rng = {.seed = seed};
		struct sched_options options = plain;
		options.chunk_tokens = BLOCK_TOKENS * (uint32_t)(1 + rng_below(&rng, 8));
		options.batch_tokens_max = SEQ_MAX + (uint32_t)rng_below(&rng, 300);
		struct sched *sched;
		void *memory = sched_new(&options, &sched);
		static struct sequence sequences[SEQUENCES];
		uint32_t goal[SEQUENCES];
		struct sequence *in[SEQ_MAX];
		uint32_t in_count = 0, added = 0, plans = 0;
		for (uint32_t i = 0; i < SEQUENCES; i++) {
			uint32_t prompt = 1 + (uint32_t)rng_below(&rng, 500);
			sequences[i] = sequence_of(i, prompt, rng_below(&rng, 4) ? i : rng_below(&rng, SEQUENCES));
			sequences[i].choice_count = (uint16_t)(rng_below(&rng, 8) ? 1 : 1 + rng_below(&rng, 16));
			if (rng_below(&rng, 3) == 0) {
				sequences[i].score_end = prompt - 1;
				sequences[i].score_first = (uint32_t)rng_below(&rng, prompt);
			}
			goal[i] = prompt + 1 + (uint32_t)rng_below(&rng, 60);
		}
		while (added < SEQUENCES || in_count > 0) {
			while (added < SEQUENCES && in_count < SEQ_MAX && rng_below(&rng, 3)) {
				in[in_count++] = &sequences[added];
				assert_int_equal(sched_add(sched, &sequences[added++]), ERR_OK);
			}
			struct plan plan;
			sched_plan(sched, &plan);
			assert_int_equal(plan.number, ++plans);
			assert_int_equal(sched_tokens_waiting(sched), waiting(in, in_count));
			check_plan(&plan, &options, in, in_count);
			assert_true(plan.run_count > 0 || in_count == 0);
			in_count = after_step(sched, &plan, in, in_count, goal);
			assert_int_equal(sched_count(sched), in_count);
		}
		free(memory);
	}
}

static void decode_rows_come_first_then_prompts_by_arrival(void **state)
{
	struct sched *sched;
	void *memory = sched_new(&plain, &sched);
	struct sequence late = sequence_of(1, 100, 9), early = sequence_of(2, 100, 3), decode = sequence_of(3, 40, 12);
	decode.token_count = 41;
	decode.computed = 40;
	assert_int_equal(sched_add(sched, &late), ERR_OK);
	assert_int_equal(sched_add(sched, &early), ERR_OK);
	assert_int_equal(sched_add(sched, &decode), ERR_OK);
	struct plan plan;
	sched_plan(sched, &plan);
	assert_int_equal(plan.run_count, 3);
	assert_ptr_equal(plan.runs[0].sequence, &decode);
	assert_ptr_equal(plan.runs[1].sequence, &early);
	assert_int_equal(plan.runs[1].count, 64);
	assert_ptr_equal(plan.runs[2].sequence, &late);
	assert_int_equal(plan.runs[2].count, 48); /* 63 are left: the last block boundary */
	free(memory);
}

static void samples_wait_when_a_step_has_no_place_for_them(void **state)
{
	struct sched_options options = {.seq_max = 64, .group_count = 1, .batch_tokens_max = 512, .chunk_tokens = 64,
					.block_tokens = BLOCK_TOKENS};
	struct sched *sched;
	void *memory = sched_new(&options, &sched);
	static struct sequence sequences[40];
	for (uint32_t i = 0; i < 40; i++) {
		sequences[i] = sequence_of(i, 2, i);
		sequences[i].choice_count = SAMPLING_CHOICES_MAX;
		assert_int_equal(sched_add(sched, &sequences[i]), ERR_OK);
	}
	struct plan plan;
	sched_plan(sched, &plan);
	assert_int_equal(plan.sample_count, PLAN_SAMPLES_MAX);
	assert_int_equal(plan.run_count, PLAN_SAMPLES_MAX / SAMPLING_CHOICES_MAX);
	sched_done(sched, &plan);
	sched_plan(sched, &plan);
	assert_int_equal(plan.run_count, 40 - PLAN_SAMPLES_MAX / SAMPLING_CHOICES_MAX);
	free(memory);
}

static void scored_rows_wait_when_a_step_has_no_place_for_them(void **state)
{
	struct sched_options options = {.seq_max = 64, .group_count = 1, .batch_tokens_max = 2048, .chunk_tokens = 1024,
					.block_tokens = BLOCK_TOKENS};
	struct sched *sched;
	void *memory = sched_new(&options, &sched);
	struct sequence first = sequence_of(1, 600, 1), second = sequence_of(2, 600, 2), plain_one = sequence_of(3, 600, 3);
	first.score_end = second.score_end = 599;
	assert_int_equal(sched_add(sched, &first), ERR_OK);
	assert_int_equal(sched_add(sched, &second), ERR_OK);
	assert_int_equal(sched_add(sched, &plain_one), ERR_OK);
	struct plan plan;
	sched_plan(sched, &plan);
	assert_int_equal(plan.run_count, 2);
	assert_ptr_equal(plan.runs[0].sequence, &first);
	assert_int_equal(plan.runs[0].count, 496); /* 511 places beside its own sample's: the last block boundary */
	assert_int_equal(plan.runs[0].score_count, 496);
	assert_ptr_equal(plan.runs[1].sequence, &plain_one); /* who scores nothing goes on */
	assert_int_equal(plan.runs[1].count, 600);
	sched_done(sched, &plan);
	sched_remove(sched, &plain_one);
	sched_plan(sched, &plan);
	assert_int_equal(plan.runs[0].count, 104);
	assert_int_equal(plan.runs[0].score_count, 103); /* the last row is sampled */
	assert_int_equal(plan.runs[1].count, 400);
	assert_int_equal(plan.sample_count, 1 + 103 + 400);
	free(memory);
}

static void a_full_scheduler_says_again(void **state)
{
	struct sched *sched;
	void *memory = sched_new(&plain, &sched);
	static struct sequence sequences[SEQ_MAX + 1];
	for (uint32_t i = 0; i <= SEQ_MAX; i++) {
		sequences[i] = sequence_of(i, 10, i);
		assert_int_equal(sched_add(sched, &sequences[i]), i < SEQ_MAX ? ERR_OK : ERR_AGAIN);
	}
	sched_remove(sched, &sequences[3]);
	assert_int_equal(sched_add(sched, &sequences[SEQ_MAX]), ERR_OK);
	free(memory);
}

static void buckets_are_powers_of_two_and_then_multiples_of_64(void **state)
{
	static const uint32_t expected[][2] = {{0, 0}, {1, 1}, {2, 2}, {3, 4}, {5, 8}, {9, 16}, {17, 32}, {33, 64},
					       {64, 64}, {65, 128}};
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		struct sched_options options = {.seq_max = 1, .group_count = 1, .batch_tokens_max = 128, .chunk_tokens = 128,
						.block_tokens = BLOCK_TOKENS};
		struct sched *sched;
		void *memory = sched_new(&options, &sched);
		struct sequence sequence = sequence_of(1, expected[i][0], 0);
		assert_int_equal(sched_add(sched, &sequence), ERR_OK);
		struct plan plan;
		sched_plan(sched, &plan);
		assert_int_equal(plan.token_count, expected[i][0]);
		assert_int_equal(plan.token_bucket, expected[i][1]);
		free(memory);
	}
}

/* After a failure a context ends with tokens that were generated, and often all but the last are cached: the row that
 * is left looks like a decode row, but others will read its block. */
static void single_last_token_of_a_context_that_is_handed_over_is_digested(void **state)
{
	(void)state;
	struct sched *sched;
	void *memory = sched_new(&plain, &sched);
	struct sequence context = sequence_of(1, BLOCK_TOKENS, 1), row = sequence_of(2, BLOCK_TOKENS, 2);
	context.token_count = row.token_count = BLOCK_TOKENS + 1;
	context.computed = row.computed = BLOCK_TOKENS;
	context.handed_over = true;
	assert_int_equal(sched_add(sched, &context), ERR_OK);
	assert_int_equal(sched_add(sched, &row), ERR_OK);
	struct plan plan;
	sched_plan(sched, &plan);
	assert_true(run_of(&plan, &context)->digest);
	assert_false(run_of(&plan, &row)->digest);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_plan_keeps_the_rules_and_everything_ends),
		cmocka_unit_test(decode_rows_come_first_then_prompts_by_arrival),
		cmocka_unit_test(samples_wait_when_a_step_has_no_place_for_them),
		cmocka_unit_test(single_last_token_of_a_context_that_is_handed_over_is_digested),
		cmocka_unit_test(scored_rows_wait_when_a_step_has_no_place_for_them),
		cmocka_unit_test(a_full_scheduler_says_again),
		cmocka_unit_test(buckets_are_powers_of_two_and_then_multiples_of_64),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
