#include "engine/sampler.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/sample.h"

/* Rows that go to the device at once; their lists of tokens together. */
enum { ROWS_MAX = 256, SEEN_ROOM = 1 << 19 };

struct sampler {
	struct sample_scratch *scratch;
	uint32_t vocab_size;
	uint32_t eos_count;
	uint32_t eos_ids[SAMPLING_STOP_IDS_MAX];
	const float *logits; /* of rows[0] */
	struct sample_row rows[ROWS_MAX]; /* [row_count] not queued yet */
	uint32_t masked[ROWS_MAX][SAMPLE_MASKED_MAX];
	uint32_t row_count;
	struct sample_seen *seen; /* [seen_max], [seen_count] of the rows */
	uint32_t seen_count, seen_max;
	uint32_t *places; /* [vocab_size] of a token in its row's list, from 1 on; zero between calls */
};

enum err sampler_create(const struct sampler_options *options, struct sampler **ret_sampler)
{
	assert(options->vocab_size > 0 && options->eos_count <= SAMPLING_STOP_IDS_MAX);
	struct sampler *sampler = calloc(1, sizeof(*sampler));
	if (!sampler)
		return ERR_NOMEM;
	sampler->vocab_size = options->vocab_size;
	sampler->eos_count = options->eos_count;
	if (options->eos_count > 0)
		memcpy(sampler->eos_ids, options->eos_ids, options->eos_count * sizeof(uint32_t));
	sampler->seen_max = options->vocab_size > SEEN_ROOM ? options->vocab_size : SEEN_ROOM;
	sampler->seen = malloc(sampler->seen_max * sizeof(*sampler->seen));
	sampler->places = calloc(options->vocab_size, sizeof(*sampler->places));
	enum err e = sampler->seen && sampler->places ? ERR_OK : ERR_NOMEM;
	if (e == ERR_OK)
		e = sample_scratch_create(options->device, options->vocab_size, &sampler->scratch);
	if (e != ERR_OK) {
		sampler_destroy(sampler);
		return e;
	}
	*ret_sampler = sampler;
	return ERR_OK;
}

void sampler_destroy(struct sampler *sampler)
{
	if (!sampler)
		return;
	sample_scratch_destroy(sampler->scratch);
	free(sampler->seen);
	free(sampler->places);
	free(sampler);
}

/* --- what penalties ask ------------------------------------------------------------------------------ */

/* Tokens from which on penalties look: of the whole sequence, of those generated, or none. */
static uint32_t seen_first(const struct sampler_row *row)
{
	const struct sampling *sampling = row->sampling;
	if (sampling->repetition_penalty != 1.0f)
		return 0;
	return sampling->presence_penalty != 0.0f || sampling->frequency_penalty != 0.0f ? row->prompt_count : row->token_count;
}

/* Each token once, with how often it was generated. */
static void list_seen(struct sampler *sampler, const struct sampler_row *row, struct sample_row *to)
{
	struct sample_seen *seen = sampler->seen + sampler->seen_count;
	uint32_t count = 0;
	for (uint32_t i = seen_first(row); i < row->token_count; i++) {
		uint32_t token = row->tokens[i];
		assert(token < sampler->vocab_size);
		if (sampler->places[token] == 0) {
			seen[count++] = (struct sample_seen){.token = token};
			sampler->places[token] = count;
		}
		seen[sampler->places[token] - 1].count += i >= row->prompt_count;
	}
	for (uint32_t i = 0; i < count; i++)
		sampler->places[seen[i].token] = 0;
	to->seen = seen;
	to->seen_count = count;
	sampler->seen_count += count;
}

/* --- which tokens may not come ------------------------------------------------------------------------- */

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

static void list_masked(struct sampler *sampler, const struct sampler_row *row, struct sample_row *to)
{
	const struct sampling *sampling = row->sampling;
	uint32_t *masked = sampler->masked[sampler->row_count], eos_count = sampler->eos_count;
	if (row->token_count - row->prompt_count >= sampling->min_tokens || !may_go_on(sampler, row))
		return;
	memcpy(masked, sampler->eos_ids, eos_count * sizeof(*masked));
	memcpy(masked + eos_count, sampling->stop_ids, sampling->stop_id_count * sizeof(*masked));
	to->masked = masked;
	to->masked_count = eos_count + sampling->stop_id_count;
}

/* --- rows to the device ---------------------------------------------------------------------------------- */

/* What is not queued yet. */
static void queue(struct sampler *sampler)
{
	const struct sample_call call = {.logits = sampler->logits, .stride = sampler->vocab_size, .rows = sampler->rows,
					 .row_count = sampler->row_count};
	if (sampler->row_count > 0)
		op_sample(sampler->scratch, &call);
	sampler->logits += (size_t)sampler->row_count * sampler->vocab_size;
	sampler->row_count = sampler->seen_count = 0;
}

void sampler_begin(struct sampler *sampler, const float *logits)
{
	assert(sampler->row_count == 0);
	sampler->logits = logits;
}

void sampler_sample(struct sampler *sampler, const struct sampler_row *row, struct sample *ret_samples)
{
	uint32_t seen = row->token_count - seen_first(row);
	seen = seen < sampler->vocab_size ? seen : sampler->vocab_size;
	if (sampler->row_count == ROWS_MAX || seen > sampler->seen_max - sampler->seen_count)
		queue(sampler);
	struct sample_row to = {.sampling = row->sampling, .allowed = row->allowed, .choices = row->choices,
				.choice_count = row->choice_count, .position = row->token_count,
				.logprobs = row->sampling->logprobs, .ret_samples = ret_samples};
	list_seen(sampler, row, &to);
	list_masked(sampler, row, &to);
	sampler->rows[sampler->row_count++] = to;
}

void sampler_score(struct sampler *sampler, uint32_t token, uint32_t top_count, struct sample *ret_score)
{
	if (sampler->row_count == ROWS_MAX)
		queue(sampler);
	sampler->rows[sampler->row_count++] =
		(struct sample_row){.token = token, .logprobs = (int32_t)top_count, .ret_samples = ret_score};
}

void sampler_end(struct sampler *sampler)
{
	queue(sampler);
}
