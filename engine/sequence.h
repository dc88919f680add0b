/* sequence - the tokens of one request on a node, and the blocks that hold their KV.
 *
 * Owner:  whoever created it (the node's role modules); the scheduler and the engine only refer to it.
 * Loop:   the node's loop.  While a plan that names it is in flight the compute threads read it, so then
 *         its fields stay as they are (rule: change a sequence only between its steps).
 * Invariant: computed <= token_count, and the blocks of every layer group cover at least the tokens that the next run
 *            writes, and those before them that it reads. */
#ifndef ENGINE_SEQUENCE_H
#define ENGINE_SEQUENCE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/layer_groups.h"
#include "base/sampling.h"
#include "engine/kv_pool.h"

struct constraint;

/* Blocks of one layer group.  Those before `first` were given back: no token still to be computed sees them. */
struct sequence_table {
	uint32_t *blocks; /* [count] numbers in the kv_pool, by place in the sequence; valid from `first` on */
	uint32_t first;
	uint32_t count;
};

struct sequence {
	uint64_t id;                     /* of the node's own, for logs */
	const struct sampling *sampling;
	const struct constraint *constraint; /* what the answer must look like; NULL: nothing */
	uint32_t *tokens;                /* [token_count] prompt, then generated */
	uint32_t token_count;
	uint32_t prompt_count;           /* tokens of the client's prompt: what follows was generated */
	uint32_t computed;               /* leading tokens whose KV is in the blocks */
	struct sequence_table tables[LAYER_GROUPS_MAX]; /* of the model's layer groups */
	uint16_t choice_count;           /* >= 1: choices sampled from the last row (n > 1 only at prefill) */
	uint16_t choices[SAMPLING_CHOICES_MAX];
	uint64_t arrival;                /* order of service among prompts: lower first */
	uint32_t score_first, score_end; /* rows whose next token, one of the prompt, is scored; equal: none */
	bool handed_over;                /* others read its blocks: every run is digested */
	uint32_t sched_slot;             /* the scheduler's own */
};
#endif
