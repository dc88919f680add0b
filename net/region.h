/* region - memory of this process that peers may read (never write: law 2), and how it is named.
 *
 * A region is a table of equal slots in a memfd.  Before the slots stands one 64-bit generation per
 * slot, in the same memfd, so that a reader that has mapped it can tell whether what it copied was still
 * the block it was promised.  A peer names a piece of it by a handle: never an address.
 *
 * Owns:   the memfd and its one writable mapping; the memfd is sealed, so that no other writable mapping can
 *         ever be made from it and it cannot shrink under a reader.
 * Loop:   region_slot_renew() from one thread at a time per slot; everything else from any.
 * Bounds: slot_count slots, set at create.
 * Rules:  1 a slot's generation only grows; it is renewed before the first byte of new content is written.
 *         2 a read lies within one slot.
 *         3 a reader trusts what it copied only if the generation after the copy is the handle's. */
#ifndef NET_REGION_H
#define NET_REGION_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

enum memory_kind { MEMORY_HOST = 0, MEMORY_CUDA = 1 };

/* A piece of a peer's memory.  Travels in control messages field by field. */
struct handle {
	uint64_t node;
	uint64_t incarnation;
	uint16_t rank;       /* of the tensor-parallel group; 0 where there is one */
	uint8_t kind;        /* enum memory_kind */
	uint16_t region;     /* index among the regions of (node, rank, kind) */
	uint64_t offset;     /* bytes from the first slot */
	uint64_t length;     /* bytes; offset and length lie within one slot */
	uint64_t generation; /* of that slot; 0 is never valid */
};

struct region_options {
	uint16_t rank;
	uint8_t kind;
	uint16_t index;
	uint64_t slot_bytes; /* a multiple of 64 */
	uint64_t slot_count;
	/* Fault every page in, for first touch during a transfer is 6 times slower: before the region is there, or by a thread while it is used
	 * already (32 MiB take 20 ms). */
	enum region_touch { REGION_UNTOUCHED, REGION_TOUCH, REGION_TOUCH_BEHIND } touch;
};

struct region;

/* ERR_INVALID, ERR_TOO_LARGE (over 2^46 bytes or what an mmap may be), ERR_NOMEM, ERR_IO. */
MUST_USE enum err region_create(const struct region_options *options, struct region **ret_region, struct why *why);
/* No link may hold it any more: link_region_remove() or link_destroy() first. */
void region_destroy(struct region *region);

const struct region_options *region_options(const struct region *region);
void *region_slot(const struct region *region, uint64_t slot);
uint64_t region_slot_generation(const struct region *region, uint64_t slot);
/* The generations, [slot_count], for a ledger that renews them itself (engine/kv_pool.h, kvstore/slabs.h). */
uint64_t *region_generations(struct region *region);
/* Ends the slot's old generation (rule 1) and returns the new one.  Handles of the old one are stale now. */
uint64_t region_slot_renew(struct region *region, uint64_t slot);
struct region_twin {
	int fd;       /* for peers on this host; -1: none */
	void *memory; /* for NICs, where the transport can register it; NULL: none */
	uint8_t kind; /* enum memory_kind; MEMORY_HOST: of tests */
};
/* The slots lie a second time, one after the other, in memory of a device: peers that have a device may read them there, for what their
 * digests promise (link.h).  Once, before link_region_add(); the descriptor is the region's from now on, the memory stays until
 * link_drop_device() or link_region_remove(). */
void region_set_twin(struct region *region, const struct region_twin *twin);
/* Do offset and length lie within one slot of a table of that shape?  ERR_DENIED if not. */
MUST_USE enum err region_bounds(uint64_t slot_bytes, uint64_t slot_count, uint64_t offset, uint64_t length);
#endif
