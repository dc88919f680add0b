/* slabs - the store's memory as slots: slabs cut into equal slots, one size class a slab.  Pure.
 *
 * A slab is one link region.  It gets its class when a block of that size first needs room, and gives it up when all its
 * slots are free; which are emptied for another size: ledger_slabs.c.  A slot's generation grows before anything is written
 * into it (law 2), so whoever still holds the place of an older block finds another generation.
 *
 * Owns:   which slot is free, busy or in quarantine; the generations (the memory of them is the caller's).
 * Memory: the caller's; what belongs to a slot is not touched before its slab has slots that large.  Loop: the ledger's.
 * Bounds: slab_count slabs of slab_bytes, SLABS_CLASSES_MAX sizes at a time. */
#ifndef KVSTORE_SLABS_H
#define KVSTORE_SLABS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define SLOT_NONE UINT32_MAX

enum { SLABS_CLASSES_MAX = 16, SLABS_ALIGN_BYTES = 64 };

/* What the shell made of a slab when it got its class. */
struct slab_region {
	uint32_t region;       /* its number in a Place: a new one each time, so that an old place finds nothing */
	uint64_t *generations; /* [slot_count]; may lie in shared memory; 0 is no generation */
};

struct slabs_options {
	uint32_t slab_count;
	uint64_t slab_bytes;
	uint32_t slot_bytes_min; /* a multiple of SLABS_ALIGN_BYTES */
	void *context;
	/* The slab is to be a region of slot_count slots.  A failure means that it cannot be used now. */
	enum err (*open)(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			 struct slab_region *ret_region);
	/* The region of the slab is over. */
	void (*close)(void *context, uint32_t slab);
};

struct slabs;

size_t slabs_bytes(const struct slabs_options *options);
struct slabs *slabs_init(void *memory, const struct slabs_options *options);

/* Slots are numbered slab * slabs_slots_max() + index: the number is also the landing of a read (env.h). */
uint32_t slabs_slots_max(const struct slabs_options *options);
uint32_t slabs_slot_total(const struct slabs_options *options); /* numbers are below it */

/* The class of blocks of that many bytes; made when it is new.  ERR_TOO_LARGE, ERR_AGAIN (too many sizes). */
MUST_USE enum err slabs_class(struct slabs *slabs, uint32_t block_bytes, uint32_t *ret_class);
/* A free slot under a new generation, from a slab of the class, or from one without a class.  ERR_AGAIN: none. */
MUST_USE enum err slabs_take(struct slabs *slabs, uint32_t class_index, uint32_t *ret_slot);
void slabs_give(struct slabs *slabs, uint32_t slot);
bool slabs_taken(const struct slabs *slabs, uint32_t slot);

uint32_t slabs_slot_class(const struct slabs *slabs, uint32_t slot);
uint32_t slabs_slot_slab(const struct slabs *slabs, uint32_t slot);
/* Of a class: slots, in use or free; those free; slabs; slots in one slab (of a class that there is). */
uint32_t slabs_class_slots(const struct slabs *slabs, uint32_t class_index);
uint32_t slabs_class_free(const struct slabs *slabs, uint32_t class_index);
uint32_t slabs_class_slabs(const struct slabs *slabs, uint32_t class_index);
uint32_t slabs_class_slab_slots(const struct slabs *slabs, uint32_t class_index);
/* Classes that have slabs. */
uint32_t slabs_sizes(const struct slabs *slabs);
/* The class of a slab, or UINT32_MAX. */
uint32_t slabs_slab_class(const struct slabs *slabs, uint32_t slab);
uint32_t slabs_slot_bytes(const struct slabs *slabs, uint32_t class_index);
uint32_t slabs_slots(const struct slabs *slabs); /* slots there are, counting slabs without a class by the last class */
uint32_t slabs_free(const struct slabs *slabs);  /* of these */

/* Where a slot is, as a reader names it. */
struct slot_place {
	uint32_t region;
	uint64_t offset;
	uint64_t generation;
};
void slabs_place(const struct slabs *slabs, uint32_t slot, struct slot_place *ret_place);
/* Brings what slabs_place() looks at nearer, for some time later; of a slot that is taken. */
void slabs_expect_place(const struct slabs *slabs, uint32_t slot);
/* Asserts what must hold; for tests and simulation. */
void slabs_check(const struct slabs *slabs);
#endif
