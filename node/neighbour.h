/* neighbour - the link and the engine's way to GPUs of neighbours, joined: what the link knows as a device.
 *
 * Owns:   nothing but the descriptors on their way to the regions.
 * Loop:   the node's; the hooks the link's copy thread (net/link.h).
 * Bounds: KV_NEIGHBOUR_READS_MAX pieces at a time. */
#ifndef NODE_NEIGHBOUR_H
#define NODE_NEIGHBOUR_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

struct engine;
struct kv_neighbour;
struct link;
struct region;

/* regions: [group_count], of the engine's blocks, before link_region_add().  *ret_neighbour is the engine's; NULL where KV goes through
 * the host's memory, which is logged where there is a GPU.  ERR_NOMEM, ERR_DEVICE, ERR_IO. */
MUST_USE enum err neighbour_open(struct engine *engine, struct link *link, struct region *const *regions, uint32_t group_count,
				 struct why *why, struct kv_neighbour **ret_neighbour);
#endif
