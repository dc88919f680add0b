/* sampler - chooses the next token from a row of logits as a request asks.
 *
 * Owns:   scratch of a few times the vocabulary; nothing survives a call.
 * Loop:   the device's one caller (the engine's compute thread).
 * Bounds: vocab_size; allocated at create.
 * Rules:  1 a choice depends on the logits, the sampling, the tokens before it, the choice's number and the
 *           token's absolute position alone: random numbers are rng_at(seed, choice, position) (law 1);
 *         2 the order is vLLM's: bias, repetition, frequency and presence penalties, tokens that are not allowed, mask
 *           of stop tokens before min_tokens unless nothing else is allowed, temperature, min_p, top_k, top_p, draw;
 *           ties go to the lower token;
 *         3 no step sorts the vocabulary: cuts are found by a radix selection, O(vocabulary) whatever is kept. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H
#include <stdint.h>
#include "base/err.h"
#include "base/sampling.h"

struct device;
struct sampler;

struct sampler_options {
	struct device *device;
	uint32_t vocab_size;
	const uint32_t *eos_ids; /* [eos_count], copied */
	uint32_t eos_count;      /* <= SAMPLING_STOP_IDS_MAX */
};

/* What one sequence asks after a step.  Tokens are below vocab_size; stop tokens and biases beyond it are
 * ignored. */
struct sampler_row {
	const float *logits; /* [vocab_size], in host memory */
	const struct sampling *sampling;
	const uint32_t *tokens;  /* [token_count]; the chosen token will be at position token_count */
	uint32_t token_count;
	uint32_t prompt_count;
	const uint16_t *choices; /* [choice_count] numbers of the choices */
	uint32_t choice_count;
	const uint64_t *allowed; /* one bit for each token, at least one of them set; NULL: all */
};

MUST_USE enum err sampler_create(const struct sampler_options *options, struct sampler **ret_sampler);
void sampler_destroy(struct sampler *sampler);

/* How likely the model held this token after the row, and which alternatives: log-probabilities of its raw distribution. */
void sampler_score(struct sampler *sampler, const float *logits, uint32_t token, uint32_t top_count,
		   struct sample *ret_score);
/* samples: [choice_count].  logprob and top are 0 unless asked for. */
void sampler_sample(struct sampler *sampler, const struct sampler_row *row, struct sample *samples);
#endif
