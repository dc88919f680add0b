/* experts_local - all experts of a model in this process, behind struct expert_exchange.
 *
 * Of several ranks each has some inner numbers of every expert, whose answers are sums of parts.
 *
 * Owns:   buffers for rows_max rows with their top experts, at each rank.
 * Loop:   the compute thread.
 * Bounds: rows_max * expert_top slots. */
#ifndef ENGINE_EXPERTS_LOCAL_H
#define ENGINE_EXPERTS_LOCAL_H
#include <stdint.h>
#include "base/err.h"
#include "engine/expert_exchange.h"
#include "engine/weights.h"

struct experts_local;
struct model_config;

/* config: the whole model's; weights: [ranks->count]. */
MUST_USE enum err experts_local_create(const struct ranks *ranks, const struct model_config *config,
				       struct engine_weights *const *weights, uint32_t rows_max,
				       struct experts_local **ret_experts);
void experts_local_destroy(struct experts_local *experts);
struct expert_exchange *experts_local_exchange(struct experts_local *experts);
#endif
