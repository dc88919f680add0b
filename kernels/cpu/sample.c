/* sample - the choice of tokens on a CPU: a worker for each row, each with a vocabulary's room of its own. */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/sample_mass.h"

enum { RADIX_BITS = 11, RADIX_BINS = 1 << RADIX_BITS };
#define SAMPLE_WORK 40 /* of one logit, in additions */

struct cpu_scratch {
	struct sample_scratch base;
	float *numbers; /* [worker][2][vocab_size] */
	size_t bytes;
};

/* What one row is chosen with. */
struct room {
	const struct kernel_ops *ops;
	uint32_t vocab_size;
	const float *logits;
	float *scores;	/* [vocab_size] logits after bias, penalties, masks and temperature */
	float *weights; /* [vocab_size] exp(score - greatest score); 0: cut */
};

enum err cpu_sample_create(struct device *device, uint32_t vocab_size, struct sample_scratch **ret_scratch)
{
	struct cpu_scratch *scratch = calloc(1, sizeof(*scratch));
	if (!scratch)
		return ERR_NOMEM;
	scratch->bytes = 2 * (size_t)device->props.thread_count * vocab_size * sizeof(float);
	enum err e = dev_alloc(device, MEM_HOST, scratch->bytes, (void **)&scratch->numbers);
	if (e != ERR_OK) {
		free(scratch);
		return e;
	}
	*ret_scratch = &scratch->base;
	return ERR_OK;
}

void cpu_sample_destroy(struct sample_scratch *base)
{
	struct cpu_scratch *scratch = (struct cpu_scratch *)base;
	dev_free(base->device, MEM_HOST, scratch->numbers, scratch->bytes);
	free(scratch);
}

/* --- scores: what the request changes in the logits ------------------------------------------------ */

static void add_biases(struct room *room, const struct sampling *sampling)
{
	for (uint32_t i = 0; i < sampling->bias_count; i++)
		if (sampling->biases[i].token < room->vocab_size)
			room->scores[sampling->biases[i].token] += sampling->biases[i].bias;
}

static void penalise(struct room *room, const struct sample_row *row)
{
	const struct sampling *sampling = row->sampling;
	for (uint32_t i = 0; i < row->seen_count; i++) {
		float *score = &room->scores[row->seen[i].token];
		assert(row->seen[i].token < room->vocab_size);
		*score = *score > 0 ? *score / sampling->repetition_penalty : *score * sampling->repetition_penalty;
		if (row->seen[i].count == 0)
			continue;
		*score -= sampling->frequency_penalty * (float)row->seen[i].count;
		*score -= sampling->presence_penalty;
	}
}

static void mask(struct room *room, const struct sample_row *row)
{
	for (uint32_t i = 0; row->allowed && i < room->vocab_size; i++)
		if (!(row->allowed[i / 64] >> i % 64 & 1))
			room->scores[i] = -INFINITY;
	for (uint32_t i = 0; i < row->masked_count; i++)
		if (row->masked[i] < room->vocab_size)
			room->scores[row->masked[i]] = -INFINITY;
}

/* The row's scores before temperature: the logits themselves when the request changes nothing. */
static const float *scores_of(struct room *room, const struct sample_row *row)
{
	if (row->sampling->bias_count == 0 && row->seen_count == 0 && row->masked_count == 0 && !row->allowed)
		return room->logits;
	memcpy(room->scores, room->logits, room->vocab_size * sizeof(float));
	add_biases(room, row->sampling);
	penalise(room, row);
	mask(room, row);
	return room->scores;
}

/* --- cuts: which tokens stay in the draw ----------------------------------------------------------- */

/* What a token counts for: its mass, or 1; a token that was cut, nothing. */
static inline uint64_t counts_for(float weight, bool by_mass)
{
	uint64_t mass = sample_mass(weight);
	return by_mass ? mass : mass > 0;
}

/* The bin, from the top, in which the running sum reaches the target, or the last that has anything; *above gets what lies above it. */
static uint32_t crossing_bin(const uint64_t *bins, uint64_t target, uint64_t *above)
{
	uint32_t last = 0;
	uint64_t before_last = *above, sum = *above;
	for (uint32_t i = RADIX_BINS; i-- > 0 && sum < target;) {
		if (bins[i] == 0)
			continue;
		last = i;
		before_last = sum;
		sum += bins[i];
	}
	*above = before_last;
	return last;
}

/* Orders tokens by score, greatest first, ties by the lower token, and keeps the shortest beginning that reaches the target:
 * finds the last kept score by three rounds of 11 (11, 10) bits, then the last kept token among the equal ones. */
static void keep_top(struct room *room, uint64_t target, bool by_mass)
{
	uint32_t prefix = 0, prefix_mask = 0;
	uint64_t above = 0, bins[RADIX_BINS];
	for (int shift = 32 - RADIX_BITS; prefix_mask != UINT32_MAX; shift = shift > RADIX_BITS ? shift - RADIX_BITS : 0) {
		memset(bins, 0, sizeof(bins));
		for (uint32_t i = 0; i < room->vocab_size; i++) {
			uint32_t key = sample_key(room->scores[i]);
			if ((key & prefix_mask) == prefix)
				bins[(key & ~prefix_mask) >> shift] += counts_for(room->weights[i], by_mass);
		}
		prefix |= crossing_bin(bins, target, &above) << shift;
		prefix_mask = UINT32_MAX << shift;
	}
	for (uint32_t i = 0; i < room->vocab_size; i++) {
		uint32_t key = sample_key(room->scores[i]);
		if (key < prefix || (key == prefix && above >= target))
			room->weights[i] = 0;
		else if (key == prefix)
			above += counts_for(room->weights[i], by_mass);
	}
}

static uint64_t masses_sum(const struct room *room)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < room->vocab_size; i++)
		sum += sample_mass(room->weights[i]);
	return sum;
}

static void cut(struct room *room, const struct sampling *sampling)
{
	/* The greatest weight is exp(0) = 1, so min_p is a bound on weights. */
	if (sampling->min_p > 0)
		for (uint32_t i = 0; i < room->vocab_size; i++)
			if (room->weights[i] < sampling->min_p)
				room->weights[i] = 0;
	if (sampling->top_k > 0 && (uint32_t)sampling->top_k < room->vocab_size)
		keep_top(room, (uint64_t)sampling->top_k, false);
	if (sampling->top_p < 1)
		keep_top(room, sample_top_p_target(sampling->top_p, masses_sum(room)), true);
}

/* --- the choice -------------------------------------------------------------------------------------- */

static uint32_t draw(const struct room *room, uint64_t target)
{
	uint64_t sum = 0;
	uint32_t token = 0;
	for (;; token++) {
		sum += sample_mass(room->weights[token]);
		if (sum > target)
			return token;
	}
}

static void draw_all(struct room *room, const struct sample_row *row, const float *scores, float greatest)
{
	const struct sampling *sampling = row->sampling;
	for (uint32_t i = 0; i < room->vocab_size; i++)
		room->scores[i] = scores[i] / sampling->temperature;
	room->ops->exp(room->scores, greatest / sampling->temperature, room->vocab_size, room->weights);
	cut(room, sampling);
	uint64_t sum = masses_sum(room);
	for (uint32_t i = 0; i < row->choice_count; i++) {
		uint64_t bits = rng_at(sampling->seed, row->choices[i], row->position);
		row->ret_samples[i].token = draw(room, sample_draw_target(bits, sum));
	}
}

static void choose(struct room *room, const struct sample_row *row)
{
	const float *scores = scores_of(room, row);
	float greatest;
	uint32_t best;
	room->ops->greatest(scores, room->vocab_size, &greatest, &best);
	if (row->sampling->temperature >= SAMPLE_GREEDY_BELOW && greatest > -INFINITY) {
		draw_all(room, row, scores, greatest);
		return;
	}
	for (uint32_t i = 0; i < row->choice_count; i++)
		row->ret_samples[i].token = best;
}

/* --- log-probabilities, of the model's raw distribution: what the request changed does not show --------- */

/* a comes before b. */
static bool before(const float *logits, uint32_t a, uint32_t b)
{
	return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* Puts the token at its place among the first `count`, of which there are at most k. */
static uint32_t insert(const float *logits, uint32_t *tokens, uint32_t count, uint32_t k, uint32_t token)
{
	if (count == k && !before(logits, token, tokens[count - 1]))
		return count;
	uint32_t at = count < k ? count++ : count - 1;
	for (; at > 0 && before(logits, token, tokens[at - 1]); at--)
		tokens[at] = tokens[at - 1];
	tokens[at] = token;
	return count;
}

/* The likeliest, most likely first. */
static uint32_t top_of(const struct room *room, uint32_t k, uint32_t *tokens)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < room->vocab_size && k > 0; i++)
		if (count < k || room->logits[i] > room->logits[tokens[count - 1]])
			count = insert(room->logits, tokens, count, k, i);
	return count;
}

static void add_logprobs(struct room *room, const struct sample_row *row, uint32_t result_count)
{
	uint32_t tokens[SAMPLING_TOP_LOGPROBS_MAX], best;
	float greatest, sum = -INFINITY;
	room->ops->greatest(room->logits, room->vocab_size, &greatest, &best);
	if (greatest > -INFINITY)
		sum = sample_logsumexp(greatest, room->ops->masses(room->logits, greatest, room->vocab_size));
	uint32_t count = top_of(room, (uint32_t)row->logprobs, tokens);
	for (uint32_t i = 0; i < result_count; i++) {
		struct sample *sample = &row->ret_samples[i];
		sample->logprob = sample_logprob(room->logits[sample->token], sum);
		sample->top_count = count;
		for (uint32_t j = 0; j < count; j++)
			sample->top[j] = (struct sample_top){tokens[j], sample_logprob(room->logits[tokens[j]], sum)};
	}
}

static uint32_t rank_of(const struct room *room, uint32_t token)
{
	uint32_t rank = 1;
	for (uint32_t i = 0; i < room->vocab_size; i++)
		rank += before(room->logits, i, token);
	return rank;
}

/* --- the operation --------------------------------------------------------------------------------------- */

struct sample_job {
	struct cpu_scratch *scratch;
	const struct sample_call *call;
};

static void sample_one(void *arg, uint32_t index, uint32_t worker)
{
	const struct sample_job *job = arg;
	const struct sample_row *row = &job->call->rows[index];
	uint32_t vocab_size = job->scratch->base.vocab_size, result_count = row->sampling ? row->choice_count : 1;
	struct room room = {.ops = cpu_ops(job->scratch->base.device), .vocab_size = vocab_size,
			    .logits = job->call->logits + index * job->call->stride,
			    .scores = job->scratch->numbers + 2 * (size_t)worker * vocab_size};
	room.weights = room.scores + vocab_size;
	memset(row->ret_samples, 0, result_count * sizeof(*row->ret_samples));
	if (row->sampling)
		choose(&room, row);
	else
		*row->ret_samples = (struct sample){.token = row->token, .rank = rank_of(&room, row->token)};
	if (row->logprobs >= 0)
		add_logprobs(&room, row, result_count);
}

void cpu_sample(struct sample_scratch *base, const struct sample_call *call)
{
	struct sample_job job = {(struct cpu_scratch *)base, call};
	cpu_parallel(base->device, call->row_count, (uint64_t)call->row_count * base->vocab_size * SAMPLE_WORK, sample_one, &job);
}
