/* disk_index - which blocks are on the disk, and where: 52 bytes a block.  Pure.
 *
 * Entries are found by key, and listed by segment in the order in which they were written, so that a segment can be emptied.
 * A hit is remembered until the block is moved: it says which blocks are worth that.
 *
 * Memory: the caller's, 16-byte aligned.  Loop: the store's.  Bounds: block_max blocks (1 .. 2^30), segment_count segments. */
#ifndef KVSTORE_DISK_INDEX_H
#define KVSTORE_DISK_INDEX_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"

#define DISK_ENTRY_NONE UINT32_MAX

struct disk_entry {
	struct id128 key;
	uint32_t segment;
	uint32_t page;
	uint32_t layer_bytes;
	uint32_t pages : 20;      /* of its record; fewer than of a plain one: it is encoded */
	uint32_t layer_count : 9; /* 0: a free entry */
	uint32_t low : 1;
	uint32_t pin : 2;         /* enum ledger_pin */
	uint8_t tenant;           /* number of a name */
	uint8_t hits;
	uint32_t prev, next; /* in its segment; next: in the free list */
};

struct disk_index;

size_t disk_index_bytes(uint32_t block_max, uint32_t segment_count);
struct disk_index *disk_index_init(void *memory, uint32_t block_max, uint32_t segment_count);

/* The entry of the key, or DISK_ENTRY_NONE. */
uint32_t disk_index_find(const struct disk_index *index, const struct id128 *key);
bool disk_index_used(const struct disk_index *index, uint32_t entry);
const struct disk_entry *disk_index_entry(const struct disk_index *index, uint32_t entry);
/* The key is not in it.  `block` with its hits, and place in lists, still unset.  ERR_AGAIN: block_max are in. */
MUST_USE enum err disk_index_add(struct disk_index *index, const struct disk_entry *block, uint32_t *ret_entry);
void disk_index_remove(struct disk_index *index, uint32_t entry);
/* It lies elsewhere now, in so many pages; its hits are forgotten, its pin stays. */
void disk_index_move(struct disk_index *index, uint32_t entry, uint32_t segment, uint32_t page, uint32_t pages);
void disk_index_hit(struct disk_index *index, uint32_t entry);
void disk_index_pin(struct disk_index *index, uint32_t entry, uint8_t pin);
/* Of blocks that are pinned hard. */
uint64_t disk_index_pages_hard(const struct disk_index *index);
/* Of all, and what these would be if nothing was encoded. */
uint64_t disk_index_pages_all(const struct disk_index *index);
uint64_t disk_index_pages_plain(const struct disk_index *index);

uint32_t disk_index_count(const struct disk_index *index);
uint32_t disk_index_max(const struct disk_index *index);
/* Entries are below: as many as were used at once, ever. */
uint32_t disk_index_end(const struct disk_index *index);
/* Slots of the table by key, and the entries whose home is one of them: as map_at_home() (base/map.h). */
uint32_t disk_index_homes(const struct disk_index *index);
uint32_t disk_index_at_home(const struct disk_index *index, uint32_t home, uint32_t *step);
/* Of a segment: its first entry, its entries, its pages with blocks, those with blocks that were hit or are pinned. */
uint32_t disk_index_first(const struct disk_index *index, uint32_t segment);
uint32_t disk_index_pages(const struct disk_index *index, uint32_t segment);
uint32_t disk_index_pages_hit(const struct disk_index *index, uint32_t segment);
/* Asserts what must hold; for tests and simulation. */
void disk_index_check(const struct disk_index *index);
#endif
