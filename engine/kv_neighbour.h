/* kv_neighbour - KV blocks that go from the memory of a neighbour's GPU to that of ours, and how a neighbour gets at ours.
 *
 * What comes is copied from device to device, digested there, and copied on to the host's memory before anybody hears of it
 * (docs/decisions/device-memory-by-descriptor.md): so a block that came this way is like any other.
 *
 * Owns:   a stream and its staging; what is imported is the caller's until kv_neighbour_unimport().
 * Loop:   _import(), _unimport() and _read() one thread at a time, beside the compute thread; the rest any.
 * Bounds: KV_NEIGHBOUR_READS_MAX reads a call.
 * Rules:  1 the digest of what came decides, whatever a neighbour's memory was when it was read: if it is not the expected one, the
 *           host's memory of the owner has the bytes, or nobody has. */
#ifndef ENGINE_KV_NEIGHBOUR_H
#define ENGINE_KV_NEIGHBOUR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

#define KV_NEIGHBOUR_READS_MAX 256

struct device;
struct kv_mirror;
struct kv_neighbour;

/* mirrors: [group_count], the caller's, which outlive it.  ERR_UNSUPPORTED: their memory is not to be shared. */
MUST_USE enum err kv_neighbour_create(struct device *device, struct kv_mirror *const *mirrors, uint32_t group_count, struct why *why,
				      struct kv_neighbour **ret_neighbour);
void kv_neighbour_destroy(struct kv_neighbour *neighbour); /* NULL is fine; nothing is read or imported any more */

/* The group's blocks on our device, [block][layer] as the host's, and a descriptor of them; the caller's to close. */
MUST_USE enum err kv_neighbour_export(struct kv_neighbour *neighbour, uint32_t group, void **ret_memory, int *ret_fd, struct why *why);
/* The same of a neighbour, of so many bytes; fd stays the caller's.  Errors: dev_import(). */
MUST_USE enum err kv_neighbour_import(struct kv_neighbour *neighbour, int fd, size_t bytes, void **ret_memory, struct why *why);
void kv_neighbour_unimport(struct kv_neighbour *neighbour, void *memory, size_t bytes);

/* Where a layer of a block lies on our device; NULL: no neighbour's can be read into it. */
void *kv_neighbour_twin(const struct kv_neighbour *neighbour, uint32_t block, uint32_t layer);

struct kv_arrival {
	void *to;         /* kv_neighbour_twin() of a layer that was said to be landing */
	const void *from; /* imported: all of the layer.  NULL: it is in `to` already */
	uint64_t digest;  /* expected */
	bool landed;      /* it has that, and the host's block has it too; else the host's is about to get it */
};
/* Errors are of the device; nothing landed then, and nothing is written any more. */
MUST_USE enum err kv_neighbour_read(struct kv_neighbour *neighbour, struct kv_arrival *arrivals, size_t count);
#endif
