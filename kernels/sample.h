/* sample - tokens out of rows of logits, as requests ask: an operation, as those of ops.h.
 *
 * Owns:   struct sample_scratch owns the room that the operation needs for a vocabulary.
 * Loop:   the one caller of the device (device.h).
 * Bounds: vocab_size, below SAMPLE_VOCAB_MAX; all room is taken at create.
 * Rules:  1 the order is vLLM's: bias, repetition, frequency and presence penalties, tokens that are not allowed, masked ones,
 *           temperature, min_p, top_k, top_p, draw; ties go to the lower token;
 *         2 weights are summed as integers (sample_mass.h): a sum has no order, so devices whose exp has the same bits choose the same
 *           tokens from the same logits, however they share the work out;
 *         3 nothing sorts the vocabulary: cuts are found digit by digit. */
#ifndef KERNELS_SAMPLE_H
#define KERNELS_SAMPLE_H
#include "base/sampling.h"
#include "kernels/ops.h"
#ifdef __cplusplus
extern "C" {
#endif

#define SAMPLE_VOCAB_MAX     (1u << 22)
#define SAMPLE_MASKED_MAX    (2 * SAMPLING_STOP_IDS_MAX)
#define SAMPLE_GREEDY_BELOW 1e-5f /* vLLM's bound of temperatures */

struct sample_scratch;

/* ERR_NOMEM; ERR_UNSUPPORTED: more tokens than the device can choose among. */
MUST_USE enum err sample_scratch_create(struct device *device, uint32_t vocab_size, struct sample_scratch **ret_scratch);
void sample_scratch_destroy(struct sample_scratch *scratch); /* NULL is fine */

/* A token of the sequence, and how often it was generated: penalties ask. */
struct sample_seen {
	uint32_t token;
	uint32_t count; /* 0: it is in the prompt alone */
};

/* What is asked of one row.  All of it is host memory that may change when the operation returns, but the results. */
struct sample_row {
	const struct sampling *sampling; /* NULL: the row is scored, and nothing chosen */
	const struct sample_seen *seen;  /* [seen_count] distinct tokens */
	uint32_t seen_count;
	uint32_t masked_count;
	const uint32_t *masked;  /* [masked_count] tokens that may not be chosen, at most SAMPLE_MASKED_MAX */
	const uint64_t *allowed; /* one bit for each token, at least one of them set; NULL: all */
	const uint16_t *choices; /* [choice_count] numbers of the choices */
	uint32_t choice_count;
	uint32_t position; /* of the chosen token in its sequence */
	uint32_t token;	   /* that is scored */
	int32_t logprobs;  /* -1: none; of the chosen or scored token and so many alternatives */
	struct sample *ret_samples; /* [choice_count], or the score: MEM_PINNED */
};

/* logits: [row_count][stride], -inf is legal and NaN is not.  A row of nothing but -inf gives its lowest token. */
struct sample_call {
	const float *logits;
	size_t stride;
	const struct sample_row *rows; /* host */
	uint32_t row_count;
};
void op_sample(struct sample_scratch *scratch, const struct sample_call *call);

#ifdef __cplusplus
}
#endif
#endif
