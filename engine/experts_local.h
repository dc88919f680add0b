/* experts_local - all experts of a model in this process, behind struct expert_exchange.
 *
 * Owns:   buffers for rows_max rows with their top experts.
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

MUST_USE enum err experts_local_create(struct device *device, const struct model_config *config,
				       const struct engine_weights *weights, uint32_t rows_max,
				       struct experts_local **ret_experts);
void experts_local_destroy(struct experts_local *experts);
struct expert_exchange *experts_local_exchange(struct experts_local *experts);
#endif
