/* cluster_view - the cluster as this coordinator sees it, for people and machines: readiness, topology, metrics.
 *
 * Owns nothing: reads the core.  Loop: the core's. */
#ifndef COORDINATOR_CLUSTER_VIEW_H
#define COORDINATOR_CLUSTER_VIEW_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "coordinator/core.h"
#include "coordinator/metrics_text.h"
#include "coordinator/served_model.h"

struct leader;
struct service;

struct tls;

struct cluster_view {
	const struct env *env; /* of this coordinator, and its API's TLS, for what they refused; may be NULL */
	const struct tls *api_tls;
	const struct coord *coord;
	const struct service *service;
	const struct served_model *models;
	uint32_t model_count;
	const char *name; /* of the coordinator */
	const struct leader *leader; /* NULL: no election */
	bool draining;
	uint64_t now_ns;
};

/* {"ready":…,"reasons":[…]}: ready when every model has a living prefill and decode node, and every store that is a
 * member is connected. */
MUST_USE enum err cluster_readiness(const struct cluster_view *view, struct buf *out, bool *ret_ready);
/* {"coordinator":…,"nodes":[{…}]} */
MUST_USE enum err cluster_topology(const struct cluster_view *view, struct buf *out);
/* Appends the families baton_… . */
void cluster_metrics(const struct cluster_view *view, struct metrics_text *text);
#endif
