/* kv_mirror - the blocks of a layer group twice: on a device, whose memory the host cannot read, and in the host's.
 *
 * Owns:   the device's blocks; the host's are the caller's, pinned for its life.  The host's may be of more heads than these.
 * Loop:   the compute thread; _landing(), _copied(), _arriving(), _arrived() any thread, between the steps that touch those blocks.
 * Bounds: the group's blocks; KV_MIRROR_COPIES_MAX copies between two steps.
 * Rules:  1 kernels read and write the device's blocks alone; everybody else reads and writes the host's (law 2), but for a neighbour's
 *           device, which may read these (kv_neighbour.h);
 *         2 a layer that something lands in goes to the device before the first step that has its block in a table, unless it came there
 *           by itself (kv_side.h);
 *         3 a layer of a block that a run with `digest` wrote is in the host's memory, whole, before it is announced; what no
 *           such run wrote nobody may read there, for it has no digest. */
#ifndef ENGINE_KV_MIRROR_H
#define ENGINE_KV_MIRROR_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "kernels/ops.h"

#define KV_MIRROR_COPIES_MAX 4096

struct kv_mirror;

/* kv: the host's blocks, MEM_PINNED; window: positions that a row sees, 0: all; share: other processes shall be able to read the device's
 * blocks, where the device can do that.  ERR_NOMEM: the device or the host has no room. */
MUST_USE enum err kv_mirror_create(struct device *device, const struct kv_memory *kv, uint32_t block_count, uint32_t window, bool share,
				   struct kv_mirror **ret_mirror);
void kv_mirror_destroy(struct kv_mirror *mirror); /* NULL is fine; before the device is closed */
/* The device's blocks. */
const struct kv_memory *kv_mirror_memory(const struct kv_mirror *mirror);
/* The host's. */
const struct kv_memory *kv_mirror_host(const struct kv_mirror *mirror);
/* The device's are MEM_SHARED: of so many bytes. */
bool kv_mirror_is_shared(const struct kv_mirror *mirror, size_t *ret_bytes);

/* Something will land in the layer (its number in the group) of the block, or has. */
void kv_mirror_landing(struct kv_mirror *mirror, uint32_t block, uint32_t layer);
/* What lands there is being copied into the device's block, and from there to the host's; then, whether it is now in both.  If not, the
 * host's gets it. */
void kv_mirror_arriving(struct kv_mirror *mirror, uint32_t block, uint32_t layer);
void kv_mirror_arrived(struct kv_mirror *mirror, uint32_t block, uint32_t layer, bool in_both);
/* Block `to` is a copy of `from`, as it is before the next step. */
void kv_mirror_copied(struct kv_mirror *mirror, uint32_t from, uint32_t to);
/* Before a step: the device gets what the runs read.  Errors are the device's. */
MUST_USE enum err kv_mirror_begin(struct kv_mirror *mirror, const struct kv_run *runs, uint32_t run_count);
/* Layers first, first + step, ... below end, by their numbers in the group. */
struct kv_layers {
	uint32_t first, end, step;
};
/* Behind the writes of these layers: what runs with `digest` wrote goes to the host; it is there when a mark taken afterwards has been
 * waited for. */
void kv_mirror_fetch(struct kv_mirror *mirror, struct kv_layers layers, const struct kv_run *runs, uint32_t run_count);
#endif
