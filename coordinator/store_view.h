/* store_view - what stores report of themselves, as JSON for /cluster and as metrics.
 *
 * Loop: the coordinator's.  Owns nothing. */
#ifndef COORDINATOR_STORE_VIEW_H
#define COORDINATOR_STORE_VIEW_H
#include "coordinator/core.h"
#include "coordinator/json_out.h"
#include "coordinator/metrics_text.h"

/* "replica": {…}; nothing for who is no store. */
void store_view_json(struct json_out *out, const struct coord_node *node);
void store_view_metrics(struct metrics_text *text, const struct coord_node *nodes, uint32_t count);
#endif
