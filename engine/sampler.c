#include "engine/sampler.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/ops.h"

/* vLLM's bound below which a temperature means greedy. */
#define TEMPERATURE_MIN 1e-5f

enum { RADIX_BITS = 11, RADIX_BINS = 1 << RADIX_BITS };

struct sampler {
	struct device *device;
	uint32_t vocab_size;
	uint32_t eos_count;
	uint32_t eos_ids[SAMPLING_STOP_IDS_MAX];
	float *scores;    /* [vocab_size] logits after bias, penalties, masks and temperature */
	float *weights;   /* [vocab_size] exp(score - greatest score); 0: cut */
	uint32_t *counts; /* [vocab_size] zero between calls */
	double bins[RADIX_BINS];
};

enum err sampler_create(const struct sampler_options *options, struct sampler **ret_sampler)
{
	assert(options->vocab_size > 0 && options->eos_count <= SAMPLING_STOP_IDS_MAX);
	struct sampler *sampler = calloc(1, sizeof(*sampler));
	if (!sampler)
		return ERR_NOMEM;
	sampler->device = options->device;
	sampler->vocab_size = options->vocab_size;
	sampler->eos_count = options->eos_count;
	if (options->eos_count > 0)
		memcpy(sampler->eos_ids, options->eos_ids, options->eos_count * sizeof(uint32_t));
	sampler->scores = calloc(options->vocab_size, sizeof(float));
	sampler->weights = calloc(options->vocab_size, sizeof(float));
	sampler->counts = calloc(options->vocab_size, sizeof(uint32_t));
	if (!sampler->scores || !sampler->weights || !sampler->counts) {
		sampler_destroy(sampler);
		return ERR_NOMEM;
	}
	*ret_sampler = sampler;
	return ERR_OK;
}

void sampler_destroy(struct sampler *sampler)
{
	if (!sampler)
		return;
	free(sampler->scores);
	free(sampler->weights);
	free(sampler->counts);
	free(sampler);
}

/* --- scores: what the request changes in the logits ------------------------------------------------ */

static void add_biases(struct sampler *sampler, const struct sampling *sampling)
{
	for (uint32_t i = 0; i < sampling->bias_count; i++)
		if (sampling->biases[i].token < sampler->vocab_size)
			sampler->scores[sampling->biases[i].token] += sampling->biases[i].bias;
}

/* Once for each token that occurs, prompt or generated. */
static void penalise_repetition(struct sampler *sampler, const struct sampler_row *row)
{
	float penalty = row->sampling->repetition_penalty;
	for (uint32_t i = 0; i < row->token_count; i++) {
		uint32_t token = row->tokens[i];
		assert(token < sampler->vocab_size);
		if (sampler->counts[token]++ > 0)
			continue;
		float score = sampler->scores[token];
		sampler->scores[token] = score > 0 ? score / penalty : score * penalty;
	}
	for (uint32_t i = 0; i < row->token_count; i++)
		sampler->counts[row->tokens[i]] = 0;
}

/* Over generated tokens only. */
static void penalise_presence(struct sampler *sampler, const struct sampler_row *row)
{
	const struct sampling *sampling = row->sampling;
	for (uint32_t i = row->prompt_count; i < row->token_count; i++) {
		assert(row->tokens[i] < sampler->vocab_size);
		sampler->counts[row->tokens[i]]++;
	}
	for (uint32_t i = row->prompt_count; i < row->token_count; i++) {
		uint32_t token = row->tokens[i];
		if (sampler->counts[token] == 0)
			continue;
		sampler->scores[token] -= sampling->frequency_penalty * (float)sampler->counts[token];
		sampler->scores[token] -= sampling->presence_penalty;
		sampler->counts[token] = 0;
	}
}

static void mask(struct sampler *sampler, const uint32_t *tokens, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (tokens[i] < sampler->vocab_size)
			sampler->scores[tokens[i]] = -INFINITY;
}

static void keep_allowed(struct sampler *sampler, const uint64_t *allowed)
{
	for (uint32_t i = 0; i < sampler->vocab_size; i++)
		if (!(allowed[i / 64] >> i % 64 & 1))
			sampler->scores[i] = -INFINITY;
}

static bool is_listed(const uint32_t *tokens, uint32_t count, uint32_t token)
{
	for (uint32_t i = 0; i < count; i++)
		if (tokens[i] == token)
			return true;
	return false;
}

/* Is there a token to go on with?  An answer that must end does so before min_tokens. */
static bool may_go_on(const struct sampler *sampler, const struct sampler_row *row)
{
	const struct sampling *sampling = row->sampling;
	for (uint32_t word = 0; row->allowed && word * 64 < sampler->vocab_size; word++)
		for (uint64_t rest = row->allowed[word]; rest; rest &= rest - 1) {
			uint32_t token = word * 64 + (uint32_t)__builtin_ctzll(rest);
			if (token < sampler->vocab_size && !is_listed(sampler->eos_ids, sampler->eos_count, token) &&
			    !is_listed(sampling->stop_ids, sampling->stop_id_count, token))
				return true;
		}
	return !row->allowed;
}

/* The row's scores before temperature: the logits themselves when the request changes nothing. */
static const float *scores_of(struct sampler *sampler, const struct sampler_row *row)
{
	const struct sampling *sampling = row->sampling;
	bool repetition = sampling->repetition_penalty != 1.0f;
	bool presence = sampling->presence_penalty != 0.0f || sampling->frequency_penalty != 0.0f;
	bool early = row->token_count - row->prompt_count < sampling->min_tokens;
	if (!repetition && !presence && !early && sampling->bias_count == 0 && !row->allowed)
		return row->logits;
	memcpy(sampler->scores, row->logits, sampler->vocab_size * sizeof(float));
	add_biases(sampler, sampling);
	if (repetition)
		penalise_repetition(sampler, row);
	if (presence)
		penalise_presence(sampler, row);
	if (row->allowed)
		keep_allowed(sampler, row->allowed);
	if (early && may_go_on(sampler, row)) {
		mask(sampler, sampler->eos_ids, sampler->eos_count);
		mask(sampler, sampling->stop_ids, sampling->stop_id_count);
	}
	return sampler->scores;
}

/* --- cuts: which tokens stay in the draw ----------------------------------------------------------- */

/* Grows with the number; -0 and +0 are one. */
static inline uint32_t key_of(float x)
{
	uint32_t bits;
	x += 0.0f;
	memcpy(&bits, &x, sizeof(bits));
	return bits ^ (bits >> 31 ? UINT32_MAX : UINT32_C(1) << 31);
}

/* What a token counts for: its weight, or 1; a token that was cut, nothing. */
static inline double mass_of(float weight, bool by_weight)
{
	return by_weight ? (double)weight : (double)(weight > 0);
}

/* The bin, from the top, in which the running mass reaches the target; the mass above it is added to
 * *above.  Rounding may leave the target out of reach: then the last bin that has any mass. */
static uint32_t crossing_bin(const double *bins, double target, double *above)
{
	uint32_t last = 0;
	double before_last = *above;
	double sum = *above;
	for (uint32_t i = RADIX_BINS; i-- > 0;) {
		if (bins[i] == 0)
			continue;
		last = i;
		before_last = sum;
		sum += bins[i];
		if (sum >= target)
			break;
	}
	*above = before_last;
	return last;
}

/* Orders tokens by score, greatest first, ties by the lower token, and keeps the shortest beginning whose
 * mass reaches the target: finds the last kept score by three rounds of 11 (11, 10) bits, then the last
 * kept token among the equal ones. */
static void keep_top(struct sampler *sampler, double target, bool by_weight)
{
	uint32_t prefix = 0;
	uint32_t prefix_mask = 0;
	double above = 0;
	for (int shift = 32 - RADIX_BITS; prefix_mask != UINT32_MAX; shift = shift > RADIX_BITS ? shift - RADIX_BITS : 0) {
		memset(sampler->bins, 0, sizeof(sampler->bins));
		for (uint32_t i = 0; i < sampler->vocab_size; i++) {
			uint32_t key = key_of(sampler->scores[i]);
			if ((key & prefix_mask) == prefix)
				sampler->bins[(key & ~prefix_mask) >> shift] += mass_of(sampler->weights[i], by_weight);
		}
		prefix |= crossing_bin(sampler->bins, target, &above) << shift;
		prefix_mask = UINT32_MAX << shift;
	}
	for (uint32_t i = 0; i < sampler->vocab_size; i++) {
		uint32_t key = key_of(sampler->scores[i]);
		if (key < prefix || (key == prefix && above >= target))
			sampler->weights[i] = 0;
		else if (key == prefix)
			above += mass_of(sampler->weights[i], by_weight);
	}
}

/* In token order, in f64: one order of one sum. */
static double weights_sum(const struct sampler *sampler)
{
	double sum = 0;
	for (uint32_t i = 0; i < sampler->vocab_size; i++)
		sum += (double)sampler->weights[i];
	return sum;
}

static void cut(struct sampler *sampler, const struct sampling *sampling)
{
	/* The greatest weight is exp(0) = 1, so min_p is a bound on weights. */
	if (sampling->min_p > 0)
		for (uint32_t i = 0; i < sampler->vocab_size; i++)
			if (sampler->weights[i] < sampling->min_p)
				sampler->weights[i] = 0;
	if (sampling->top_k > 0 && (uint32_t)sampling->top_k < sampler->vocab_size)
		keep_top(sampler, sampling->top_k, false);
	if (sampling->top_p < 1)
		keep_top(sampler, (double)sampling->top_p * weights_sum(sampler), true);
}

/* --- draw ------------------------------------------------------------------------------------------ */

static uint32_t draw(const struct sampler *sampler, double target)
{
	uint32_t token = 0;
	double sum = 0;
	for (uint32_t i = 0; i < sampler->vocab_size; i++) {
		if (sampler->weights[i] == 0)
			continue;
		token = i;
		sum += (double)sampler->weights[i];
		if (sum > target)
			break;
	}
	return token;
}

static void draw_all(struct sampler *sampler, const struct sampler_row *row, const float *scores, float greatest,
		     struct sample *samples)
{
	const struct sampling *sampling = row->sampling;
	for (uint32_t i = 0; i < sampler->vocab_size; i++)
		sampler->scores[i] = scores[i] / sampling->temperature;
	op_exp(sampler->device, sampler->scores, greatest / sampling->temperature, sampler->vocab_size,
	       sampler->weights);
	cut(sampler, sampling);
	double sum = weights_sum(sampler);
	for (uint32_t i = 0; i < row->choice_count; i++) {
		uint64_t bits = rng_at(sampling->seed, row->choices[i], row->token_count);
		samples[i].token = draw(sampler, (double)rng_unit(bits) * sum);
	}
}

static void choose(struct sampler *sampler, const struct sampler_row *row, struct sample *samples)
{
	const float *scores = scores_of(sampler, row);
	float greatest;
	uint32_t best;
	op_logits_stats(sampler->device, scores, sampler->vocab_size, 1, sampler->vocab_size, &greatest, &best, NULL);
	/* Everything masked: nothing to draw from, so the lowest token, as ties say. */
	if (row->sampling->temperature >= TEMPERATURE_MIN && greatest > -INFINITY) {
		draw_all(sampler, row, scores, greatest, samples);
		return;
	}
	for (uint32_t i = 0; i < row->choice_count; i++)
		samples[i].token = best;
}

/* Of the model's raw distribution: what the request changed does not show. */
static void add_logprobs(struct sampler *sampler, const struct sampler_row *row, struct sample *samples)
{
	uint32_t tokens[SAMPLING_TOP_LOGPROBS_MAX];
	float values[SAMPLING_TOP_LOGPROBS_MAX];
	float sum;
	uint32_t count = (uint32_t)row->sampling->logprobs;
	assert(count <= SAMPLING_TOP_LOGPROBS_MAX);
	if (count > sampler->vocab_size)
		count = sampler->vocab_size;
	op_logits_stats(sampler->device, row->logits, sampler->vocab_size, 1, sampler->vocab_size, NULL, NULL, &sum);
	if (count > 0)
		logits_top_k(row->logits, sampler->vocab_size, count, tokens, values);
	for (uint32_t i = 0; i < row->choice_count; i++) {
		samples[i].logprob = row->logits[samples[i].token] - sum;
		samples[i].top_count = count;
		for (uint32_t j = 0; j < count; j++)
			samples[i].top[j] = (struct sample_top){tokens[j], values[j] - sum};
	}
}

/* Ties go to the lower token, as in `top`. */
static uint32_t rank_of(const float *logits, uint32_t count, uint32_t token)
{
	uint32_t before = 0;
	for (uint32_t i = 0; i < count; i++)
		before += logits[i] > logits[token] || (logits[i] == logits[token] && i < token);
	return before + 1;
}

void sampler_score(struct sampler *sampler, const float *logits, uint32_t token, uint32_t top_count,
		   struct sample *ret_score)
{
	struct sampling sampling = {.logprobs = (int8_t)top_count};
	struct sampler_row row = {.logits = logits, .sampling = &sampling, .choice_count = 1};
	assert(token < sampler->vocab_size);
	*ret_score = (struct sample){.token = token, .rank = rank_of(logits, sampler->vocab_size, token)};
	add_logprobs(sampler, &row, ret_score);
}

void sampler_sample(struct sampler *sampler, const struct sampler_row *row, struct sample *samples)
{
	memset(samples, 0, row->choice_count * sizeof(*samples));
	choose(sampler, row, samples);
	if (row->sampling->logprobs >= 0)
		add_logprobs(sampler, row, samples);
}
