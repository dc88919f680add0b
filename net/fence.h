/* fence - which directives a node still takes.  Pure.
 *
 * Who leads is known to the leader only as long as its own clock and etcd allow; a paused one may go on for the length
 * of a send.  So the node, the resource, judges: an epoch lower than one seen is refused, and so is the same epoch from
 * another coordinator.  Both are counted (baton_directives_refused_total). */
#ifndef NET_FENCE_H
#define NET_FENCE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct fence {
	uint64_t epoch;       /* the highest seen; 0: none */
	uint64_t coordinator; /* whose it is */
	uint64_t accepted, refused;
};

/* OK: take it.  STALE: not. */
MUST_USE enum err fence_judge(struct fence *fence, uint64_t epoch, uint64_t coordinator);
#endif
