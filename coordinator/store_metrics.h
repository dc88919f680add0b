/* store_metrics - the stores' figures as families baton_kvstore_… .  Owns nothing.  Loop: the core's. */
#ifndef COORDINATOR_STORE_METRICS_H
#define COORDINATOR_STORE_METRICS_H
#include "coordinator/core.h"
#include "coordinator/metrics_text.h"

/* Of those of the nodes that are stores and have reported; a store that is not connected shows what it said last. */
void store_metrics(const struct coord *coord, const struct coord_node *nodes, uint32_t count, struct metrics_text *text);
#endif
