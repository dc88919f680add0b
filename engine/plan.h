/* plan - one step of the engine: a batch of mixed prompt chunks and decode rows.
 *
 * A run is `count` consecutive tokens of one sequence starting at position `first`.  A run that reaches
 * the sequence's last token samples choice_count tokens; rows of a prompt may be scored besides: the log-probability of
 * the token that follows.  A step of decode rows alone is padded to token_bucket on devices that replay recorded steps
 * (forward.h); others ignore the bucket.  A value: the scheduler fills it, the engine reads it. */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H
#include <stdbool.h>
#include <stdint.h>
#include "base/sampling.h"

struct sequence;

enum { PLAN_RUNS_MAX = 256, PLAN_SAMPLES_MAX = 512 };

struct run {
	struct sequence *sequence;
	uint32_t first;
	uint32_t count;
	uint16_t sample_count; /* 0, or the sequence's choice_count */
	uint32_t sample_first; /* index of the first of its samples in the step's results */
	uint32_t score_first;  /* position of the first row that is scored */
	uint32_t score_count;
	uint32_t score_index;  /* of the first of its scores in the step's results */
	bool digest;           /* wants the digests of the blocks it touches, layer by layer */
};

struct plan {
	uint64_t number; /* counts steps */
	uint32_t run_count;
	uint32_t token_count;
	uint32_t token_bucket; /* plan_bucket(token_count); 0: as many as there are */
	uint32_t sample_count; /* results: tokens chosen and tokens scored */
	uint32_t score_count;  /* of them, scored */
	struct run runs[PLAN_RUNS_MAX];
};

/* Steps are recorded for these sizes only: few, and never far above what is asked.  1, 2, 4, 8, 16, 32, then multiples of 64. */
static inline uint32_t plan_bucket(uint32_t token_count)
{
	uint32_t bucket = 1;
	if (token_count > 32)
		return (token_count + 63) / 64 * 64;
	while (bucket < token_count)
		bucket *= 2;
	return token_count ? bucket : 0;
}
#endif
