/* forward - one step of the model, on all ranks: from a plan's tokens through the layers to the logits of its samples.
 *
 *   step -> logits, as often as there are rows -> end
 *
 * Owns:   the layers' activations, the logits of forward_logits_rows() rows.
 * Loop:   the compute thread.
 * Bounds: rows_max tokens a plan; any number of samples, so many rows of logits at a time.
 * Rules:  1 on a device that runs behind its caller a step is queued, the choice of its tokens behind it, and waited for once, by
 *           forward_end(): but where a layer of a prompt's chunk is announced;
 *         2 of decode rows alone it is recorded on such a device, for some numbers of rows (plan_bucket()); rows that are missing are
 *           nobody's: of token 0 at position 0, without KV, in front of nobody (law 1: the others do not know them). */
#ifndef ENGINE_FORWARD_H
#define ENGINE_FORWARD_H
#include <stdint.h>
#include "base/err.h"
#include "engine/plan.h"
#include "kernels/ops.h"

struct engine_weights;
struct kv_ranks;
struct ranks;
struct expert_exchange;
struct forward;
struct model_config;

struct forward_options {
	const struct ranks *ranks;         /* stay, as do the others */
	const struct model_config *config; /* of the whole model */
	struct engine_weights *const *weights; /* [ranks->count] */
	struct expert_exchange *experts; /* NULL for dense models */
	uint32_t rows_max;
	void *context;
	/* KV of a layer is written for the whole step, and digested for the runs that want it. */
	void (*on_kv)(void *context, const struct plan *plan, uint32_t layer);
};

MUST_USE enum err forward_create(const struct forward_options *options, struct forward **ret_forward);
void forward_destroy(struct forward *forward);
/* A group's blocks and the digests of their layers, [block][layer of the group], MEM_PINNED: once for each group, before the first
 * step; both stay. */
MUST_USE enum err forward_set_kv(struct forward *forward, uint32_t group, struct kv_ranks *kv, uint64_t *digests);
/* Of a layer among those of its group. */
uint32_t forward_place(const struct forward *forward, uint32_t layer);

/* Before the first step: records steps of decode rows for all numbers of up to rows_most, twice each of nobody's rows alone, where the
 * device can; steps of more rows are then never recorded.  Returns how many, in ret_count.  Errors are the device's; no memory for
 * it is none. */
MUST_USE enum err forward_warm(struct forward *forward, uint32_t rows_most, uint32_t *ret_count);
/* Runs the layers over the plan's rows, or queues them.  Afterwards forward_logits() may be asked. */
MUST_USE enum err forward_step(struct forward *forward, const struct plan *plan);
/* Logits of the rows that are wanted, [count][vocab_size] in the device's memory until the next call's operations: in the plan's
 * order, of each run first the scored rows, then the last one if it samples.  Of those numbered first_row, first_row + 1, …; count <=
 * forward_logits_rows(). */
MUST_USE enum err forward_logits(struct forward *forward, uint32_t first_row, uint32_t count, const float **ret_logits);
uint32_t forward_logits_rows(const struct forward *forward);
/* Waits for all that was queued, also after an error, and announces layers that are not yet. */
MUST_USE enum err forward_end(struct forward *forward, const struct plan *plan);
#endif
