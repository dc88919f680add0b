#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/sampler.h"
#include "kernels/device.h"

enum { VOCAB = 400, EOS = 7, TOKENS = 60, PROMPT = 25 };

struct fixture {
	struct device *device;
	struct sampler *sampler;
	struct rng rng;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct device_options options = {.kind = DEVICE_CPU, .thread_count = 1};
	assert_int_equal(device_open(&options, NULL, &f->device), ERR_OK);
	const uint32_t eos = EOS;
	const struct sampler_options sampler = {.device = f->device, .vocab_size = VOCAB, .eos_ids = &eos, .eos_count = 1};
	assert_int_equal(sampler_create(&sampler, &f->sampler), ERR_OK);
	f->rng.seed = 20;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	sampler_destroy(f->sampler);
	device_close(f->device);
	free(f);
	return 0;
}

static struct sampling plain(void)
{
	return (struct sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .max_tokens = 100,
				 .logprobs = -1};
}

/* What is asked of one row of logits. */
struct asked {
	struct sampler_row row;
	const float *logits; /* [VOCAB] */
};

static void sample(struct fixture *f, const struct asked *asked, struct sample *samples)
{
	sampler_begin(f->sampler, asked->logits);
	sampler_sample(f->sampler, &asked->row, samples);
	sampler_end(f->sampler);
	assert_int_equal(device_sync(f->device), ERR_OK);
}

static float normal(struct rng *rng)
{
	float sum = 0;
	for (int i = 0; i < 12; i++)
		sum += rng_unit(rng_next(rng));
	return sum - 6;
}

/* --- an independent sampler: f64, a full sort, one step after the other as vLLM documents them ---------- */

static double reference_logits[VOCAB];

static int by_logit(const void *a, const void *b)
{
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	if (reference_logits[i] != reference_logits[j])
		return reference_logits[i] > reference_logits[j] ? -1 : 1;
	return i < j ? -1 : 1;
}

static void reference_scores(const struct asked *asked)
{
	const struct sampler_row *row = &asked->row;
	const struct sampling *s = row->sampling;
	for (int t = 0; t < VOCAB; t++)
		reference_logits[t] = (double)asked->logits[t];
	for (int i = 0; i < s->bias_count; i++)
		reference_logits[s->biases[i].token] += (double)s->biases[i].bias;
	for (uint32_t t = 0; t < VOCAB; t++) {
		int all = 0, generated = 0;
		for (uint32_t i = 0; i < row->token_count; i++) {
			all += row->tokens[i] == t;
			generated += row->tokens[i] == t && i >= row->prompt_count;
		}
		double penalty = (double)s->repetition_penalty;
		if (all > 0)
			reference_logits[t] = reference_logits[t] > 0 ? reference_logits[t] / penalty
								      : reference_logits[t] * penalty;
		reference_logits[t] -= (double)s->frequency_penalty * generated;
		reference_logits[t] -= generated > 0 ? (double)s->presence_penalty : 0;
		bool stop = t == EOS;
		for (int i = 0; i < s->stop_id_count; i++)
			stop = stop || s->stop_ids[i] == t;
		if (stop && row->token_count - row->prompt_count < s->min_tokens)
			reference_logits[t] = -INFINITY;
	}
}

/* Probabilities of the draw, 0 where cut.  False: a cut is so near its bound that rounding decides it. */
static bool reference_distribution(const struct asked *asked, double p[VOCAB])
{
	const struct sampling *s = asked->row.sampling;
	uint32_t order[VOCAB];
	reference_scores(asked);
	double best = -INFINITY, sum = 0;
	for (uint32_t t = 0; t < VOCAB; t++) {
		order[t] = t;
		reference_logits[t] /= (double)s->temperature;
		best = reference_logits[t] > best ? reference_logits[t] : best;
	}
	bool sure = true;
	for (int t = 0; t < VOCAB; t++) {
		p[t] = exp(reference_logits[t] - best);
		sure = sure && (s->min_p == 0 || fabs(p[t] - (double)s->min_p) > 1e-5 * (double)s->min_p);
		p[t] = p[t] < (double)s->min_p ? 0 : p[t];
	}
	qsort(order, VOCAB, sizeof(order[0]), by_logit);
	for (int i = s->top_k > 0 ? s->top_k : VOCAB; i < VOCAB; i++)
		p[order[i]] = 0;
	for (int t = 0; t < VOCAB; t++)
		sum += p[t];
	double kept = 0, total = sum;
	for (int i = 0; i < VOCAB && s->top_p < 1; i++) {
		sure = sure && fabs(kept - (double)s->top_p * total) > 1e-5 * total;
		if (kept >= (double)s->top_p * total)
			p[order[i]] = 0;
		kept += p[order[i]];
	}
	sum = 0;
	for (int t = 0; t < VOCAB; t++)
		sum += p[t];
	for (int t = 0; t < VOCAB; t++)
		p[t] /= sum;
	return sure;
}

/* True when the token is the one whose slice of [0, 1), in token order, holds u. */
static bool slice_holds(const double p[VOCAB], uint32_t token, double u)
{
	double before = 0;
	for (uint32_t t = 0; t < token; t++)
		before += p[t];
	return p[token] > 0 && u >= before - 1e-5 && u < before + p[token] + 1e-5;
}

struct request {
	float logits[VOCAB];
	uint32_t tokens[TOKENS];
	struct sampling sampling;
	uint16_t choice;
	struct asked asked;
};

static void make_request(struct rng *rng, struct request *r)
{
	struct sampling s = plain();
	float spread = 0.5f + 4 * rng_unit(rng_next(rng));
	for (int t = 0; t < VOCAB; t++)
		r->logits[t] = spread * normal(rng);
	for (int i = 0; i < TOKENS; i++)
		r->tokens[i] = (uint32_t)rng_below(rng, VOCAB / 4);
	s.seed = rng_next(rng);
	s.temperature = 0.3f + 1.5f * rng_unit(rng_next(rng));
	if (rng_below(rng, 2))
		s.top_p = 0.05f + 0.9f * rng_unit(rng_next(rng));
	if (rng_below(rng, 2))
		s.top_k = (int32_t)rng_below(rng, 2 * VOCAB);
	if (rng_below(rng, 3) == 0)
		s.min_p = 0.3f * rng_unit(rng_next(rng));
	if (rng_below(rng, 3) == 0)
		s.repetition_penalty = 0.5f + rng_unit(rng_next(rng));
	if (rng_below(rng, 3) == 0)
		s.presence_penalty = 4 * rng_unit(rng_next(rng)) - 2;
	if (rng_below(rng, 3) == 0)
		s.frequency_penalty = 4 * rng_unit(rng_next(rng)) - 2;
	s.bias_count = (uint8_t)rng_below(rng, 4);
	for (int i = 0; i < s.bias_count; i++)
		s.biases[i] = (struct sampling_bias){(uint32_t)rng_below(rng, VOCAB), 10 * rng_unit(rng_next(rng))};
	s.min_tokens = (uint32_t)rng_below(rng, 2 * (TOKENS - PROMPT));
	s.stop_id_count = 2;
	s.stop_ids[0] = (uint32_t)rng_below(rng, VOCAB);
	s.stop_ids[1] = VOCAB + 5; /* beyond the vocabulary: ignored */
	r->sampling = s;
	r->choice = (uint16_t)rng_below(rng, SAMPLING_CHOICES_MAX);
	r->asked = (struct asked){{.sampling = &r->sampling, .tokens = r->tokens, .token_count = TOKENS,
				   .prompt_count = PROMPT, .choices = &r->choice, .choice_count = 1},
				  r->logits};
}

static void any_request_draws_what_a_plain_sampler_draws(void **state)
{
	struct fixture *f = *state;
	int unsure = 0;
	for (int i = 0; i < 3000; i++) {
		struct request r;
		double p[VOCAB];
		struct sample chosen;
		make_request(&f->rng, &r);
		sample(f, &r.asked, &chosen);
		if (!reference_distribution(&r.asked, p)) {
			unsure++;
			continue;
		}
		double u = (double)rng_unit(rng_at(r.sampling.seed, r.choice, TOKENS));
		if (!slice_holds(p, chosen.token, u))
			fail_msg("request %d: token %u of probability %g does not hold u = %g", i, chosen.token,
				 p[chosen.token], u);
	}
	assert_true(unsure < 60);
}

static void draws_follow_the_distribution(void **state)
{
	struct fixture *f = *state;
	struct request r;
	make_request(&f->rng, &r);
	r.sampling = plain();
	r.sampling.top_k = 30;
	double p[VOCAB];
	reference_distribution(&r.asked, p);
	enum { DRAWS = 20000 };
	static int seen[VOCAB];
	for (int i = 0; i < DRAWS; i++) {
		struct sample chosen;
		r.sampling.seed = (uint64_t)i;
		sample(f, &r.asked, &chosen);
		seen[chosen.token]++;
	}
	double chi = 0;
	int cells = 0;
	for (int t = 0; t < VOCAB; t++) {
		double expected = p[t] * DRAWS;
		if (p[t] == 0)
			assert_int_equal(seen[t], 0);
		if (expected < 5)
			continue;
		chi += (seen[t] - expected) * (seen[t] - expected) / expected;
		cells++;
	}
	/* Mean cells - 1, deviation sqrt(2 cells): five deviations. */
	assert_true(cells > 10);
	assert_true(chi < cells - 1 + 5 * sqrt(2.0 * cells));
}

static void choices_drawn_together_are_those_drawn_alone(void **state)
{
	struct fixture *f = *state;
	uint16_t choices[SAMPLING_CHOICES_MAX];
	struct sample together[SAMPLING_CHOICES_MAX], alone;
	struct request r;
	make_request(&f->rng, &r);
	r.sampling.logprobs = 5;
	for (uint16_t i = 0; i < SAMPLING_CHOICES_MAX; i++)
		choices[i] = i;
	r.asked.row.choices = choices;
	r.asked.row.choice_count = SAMPLING_CHOICES_MAX;
	sample(f, &r.asked, together);
	r.asked.row.choices = &r.choice;
	r.asked.row.choice_count = 1;
	for (uint16_t i = 0; i < SAMPLING_CHOICES_MAX; i++) {
		r.choice = i;
		sample(f, &r.asked, &alone);
		assert_memory_equal(&alone, &together[i], sizeof(alone));
	}
}

static void position_choice_and_seed_each_change_the_draw(void **state)
{
	struct fixture *f = *state;
	struct request r;
	make_request(&f->rng, &r);
	r.sampling = plain();
	memset(r.logits, 0, sizeof(r.logits));
	int same[3] = {0};
	for (uint32_t i = 0; i < 50; i++) {
		struct sample first, other;
		r.sampling.seed = i;
		r.choice = 0;
		r.asked.row.token_count = TOKENS;
		sample(f, &r.asked, &first);
		r.asked.row.token_count = TOKENS - 1;
		sample(f, &r.asked, &other);
		same[0] += first.token == other.token;
		r.asked.row.token_count = TOKENS;
		r.choice = 1;
		sample(f, &r.asked, &other);
		same[1] += first.token == other.token;
		r.choice = 0;
		r.sampling.seed = i + 1000;
		sample(f, &r.asked, &other);
		same[2] += first.token == other.token;
	}
	for (int i = 0; i < 3; i++)
		assert_true(same[i] < 10);
}

static void greedy_takes_the_lowest_of_equals(void **state)
{
	struct fixture *f = *state;
	struct request r;
	make_request(&f->rng, &r);
	r.sampling = plain();
	r.sampling.temperature = 0;
	r.logits[300] = r.logits[40] = r.logits[41] = 100;
	struct sample chosen;
	sample(f, &r.asked, &chosen);
	assert_int_equal(chosen.token, 40);
	r.sampling.temperature = 1;
	for (uint64_t seed = 0; seed < 20; seed++) {
		r.sampling.seed = seed;
		r.sampling.top_k = seed % 2 ? 1 : -1;
		r.sampling.top_p = seed % 2 ? 1 : 1e-30f;
		sample(f, &r.asked, &chosen);
		assert_int_equal(chosen.token, 40);
	}
}

static void stop_tokens_wait_for_min_tokens(void **state)
{
	struct fixture *f = *state;
	struct request r;
	make_request(&f->rng, &r);
	r.sampling = plain();
	r.sampling.temperature = 0;
	r.sampling.stop_id_count = 1;
	r.sampling.stop_ids[0] = 9;
	r.logits[EOS] = 100;
	r.logits[9] = 99;
	r.logits[200] = 98;
	struct sample chosen;
	r.sampling.min_tokens = TOKENS - PROMPT + 1;
	sample(f, &r.asked, &chosen);
	assert_int_equal(chosen.token, 200);
	r.sampling.min_tokens = TOKENS - PROMPT;
	sample(f, &r.asked, &chosen);
	assert_int_equal(chosen.token, EOS);
}

static void nothing_of_a_request_stays_for_the_next(void **state)
{
	struct fixture *f = *state;
	struct request r, other;
	struct sample before, between, after;
	make_request(&f->rng, &r);
	r.sampling.logprobs = 3;
	r.sampling.repetition_penalty = 1.3f;
	r.sampling.frequency_penalty = 0.7f;
	sample(f, &r.asked, &before);
	for (int i = 0; i < 20; i++) {
		make_request(&f->rng, &other);
		sample(f, &other.asked, &between);
	}
	sample(f, &r.asked, &after);
	assert_memory_equal(&before, &after, sizeof(before));
}

static void logprobs_are_of_the_raw_distribution(void **state)
{
	struct fixture *f = *state;
	struct request r;
	make_request(&f->rng, &r);
	r.sampling.logprobs = SAMPLING_TOP_LOGPROBS_MAX;
	r.logits[11] = r.logits[10] = 30; /* a tie: the lower token first */
	double sum = 0;
	for (int t = 0; t < VOCAB; t++)
		sum += exp((double)r.logits[t] - 30);
	struct sample chosen;
	sample(f, &r.asked, &chosen);
	assert_int_equal(chosen.top_count, SAMPLING_TOP_LOGPROBS_MAX);
	assert_int_equal(chosen.top[0].token, 10);
	assert_int_equal(chosen.top[1].token, 11);
	for (int i = 0; i < SAMPLING_TOP_LOGPROBS_MAX; i++) {
		double expected = (double)r.logits[chosen.top[i].token] - 30 - log(sum);
		assert_true(fabs(expected - (double)chosen.top[i].logprob) < 1e-4);
		assert_true(i == 0 || chosen.top[i].logprob <= chosen.top[i - 1].logprob);
	}
	assert_true(fabs((double)r.logits[chosen.token] - 30 - log(sum) - (double)chosen.logprob) < 1e-4);
}

static void a_row_with_everything_masked_gives_a_token(void **state)
{
	struct fixture *f = *state;
	struct request r;
	make_request(&f->rng, &r);
	for (int t = 0; t < VOCAB; t++)
		r.logits[t] = -INFINITY;
	r.sampling.bias_count = 0;
	struct sample chosen;
	sample(f, &r.asked, &chosen);
	assert_int_equal(chosen.token, 0);
}

static uint32_t draw_allowed(struct fixture *f, const struct sampling *sampling, const float *logits, const uint64_t *allowed,
			     uint32_t generated)
{
	static const uint32_t tokens[TOKENS];
	static const uint16_t choice;
	struct sample chosen;
	const struct asked asked = {{.sampling = sampling, .tokens = tokens, .token_count = PROMPT + generated, .prompt_count = PROMPT,
				     .choices = &choice, .choice_count = 1, .allowed = allowed},
				    logits};
	sample(f, &asked, &chosen);
	return chosen.token;
}

static void only_allowed_tokens_are_drawn_whatever_else_is_asked(void **state)
{
	struct fixture *f = *state;
	float logits[VOCAB];
	for (int round = 0; round < 200; round++) {
		uint64_t allowed[(VOCAB + 63) / 64] = {0};
		for (int i = 0; i < VOCAB; i++)
			logits[i] = 3 * normal(&f->rng);
		for (int i = 0; i < 1 + round % 7; i++) {
			uint32_t id = (uint32_t)rng_below(&f->rng, VOCAB);
			allowed[id / 64] |= UINT64_C(1) << id % 64;
		}
		struct sampling s = plain();
		s.seed = rng_next(&f->rng);
		s.temperature = round % 3 ? 1.5f : 0;
		s.top_k = round % 2 ? 3 : -1;
		s.top_p = round % 5 ? 0.8f : 1;
		s.min_p = round % 4 ? 0 : 0.1f;
		s.presence_penalty = round % 2 ? 1 : 0;
		s.bias_count = 1;
		s.biases[0] = (struct sampling_bias){(uint32_t)rng_below(&f->rng, VOCAB), 100};
		uint32_t token = draw_allowed(f, &s, logits, allowed, 3);
		assert_true(allowed[token / 64] >> token % 64 & 1);
	}
}

static void min_tokens_hold_back_the_end_only_where_something_else_is_allowed(void **state)
{
	struct fixture *f = *state;
	float logits[VOCAB] = {[EOS] = 9};
	uint64_t allowed[(VOCAB + 63) / 64] = {0};
	struct sampling s = plain();
	s.min_tokens = 10;
	allowed[0] = UINT64_C(1) << EOS;
	assert_int_equal(draw_allowed(f, &s, logits, allowed, 3), EOS);
	allowed[1] = 1 << 5;
	assert_int_equal(draw_allowed(f, &s, logits, allowed, 3), 64 + 5);
	s.temperature = 0;
	assert_int_equal(draw_allowed(f, &s, logits, allowed, 10), EOS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_request_draws_what_a_plain_sampler_draws),
		cmocka_unit_test(draws_follow_the_distribution),
		cmocka_unit_test(choices_drawn_together_are_those_drawn_alone),
		cmocka_unit_test(position_choice_and_seed_each_change_the_draw),
		cmocka_unit_test(greedy_takes_the_lowest_of_equals),
		cmocka_unit_test(stop_tokens_wait_for_min_tokens),
		cmocka_unit_test(only_allowed_tokens_are_drawn_whatever_else_is_asked),
		cmocka_unit_test(min_tokens_hold_back_the_end_only_where_something_else_is_allowed),
		cmocka_unit_test(nothing_of_a_request_stays_for_the_next),
		cmocka_unit_test(logprobs_are_of_the_raw_distribution),
		cmocka_unit_test(a_row_with_everything_masked_gives_a_token),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
