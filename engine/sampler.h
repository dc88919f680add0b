/* sampler - what sequences ask of rows of logits, made ready for the device to choose by (kernels/sample.h).
 *
 *   begin(logits) -> sample or score, once for each row, in order -> end: queued.  Results are there when the device is.
 *
 * Owns:   the device's scratch, the lists of tokens that penalties ask for.
 * Loop:   the device's one caller (the engine's compute thread).
 * Bounds: vocab_size; allocated at create.
 * Rules:  1 a choice depends on the logits, the sampling, the tokens before it, the choice's number and the
 *           token's absolute position alone: random numbers are rng_at(seed, choice, position) (law 1);
 *         2 the order is vLLM's (kernels/sample.h); stop tokens are masked before min_tokens unless nothing else is allowed. */
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
	const struct sampling *sampling;
	const uint32_t *tokens;  /* [token_count]; the chosen token will be at position token_count */
	uint32_t token_count;
	uint32_t prompt_count;
	const uint16_t *choices; /* [choice_count] numbers of the choices */
	uint32_t choice_count;
	const uint64_t *allowed; /* one bit for each token, at least one of them set; NULL: all */
};

/* ERR_NOMEM; ERR_UNSUPPORTED: more tokens than the device can choose among. */
MUST_USE enum err sampler_create(const struct sampler_options *options, struct sampler **ret_sampler);
void sampler_destroy(struct sampler *sampler);

/* logits: [..][vocab_size], the device's memory. */
void sampler_begin(struct sampler *sampler, const float *logits);
/* ret_samples: [choice_count], MEM_PINNED.  logprob and top are 0 unless asked for.  What the row points to stays until end. */
void sampler_sample(struct sampler *sampler, const struct sampler_row *row, struct sample *ret_samples);
/* How likely the model held this token after the row, and which alternatives: log-probabilities of its raw distribution. */
void sampler_score(struct sampler *sampler, uint32_t token, uint32_t top_count, struct sample *ret_score);
void sampler_end(struct sampler *sampler);
#endif
