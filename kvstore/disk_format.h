/* disk_format - what lies on the disk of a store: pages, each checked by itself.  Pure.
 *
 *   segment:  | head | record | record | ...     (nothing)     ... | footer | trailer |
 *   record:   | header page | payload, up to a full page |
 *
 * Every page but payload ends with its XXH3-64; those of records and the sum over a footer are seeded with the id of the
 * store's disk, which nobody outside knows, so that no bytes of a block can look like a header.  A header says where it
 * lies (segment, its serial, page): what a disk wrote elsewhere, or left from an earlier use, is not taken.  The payload is
 * checked by the digest of each layer, which the header carries.  All numbers are little-endian. */
#ifndef KVSTORE_DISK_FORMAT_H
#define KVSTORE_DISK_FORMAT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "kvstore/disk_file.h"

enum {
	DISK_FORMAT_VERSION = 1,
	DISK_LAYERS_MAX = 492,    /* whose digests fit a header page */
	DISK_RECORD_PAGES_MAX = 1 << 18, /* 1 GiB */
	DISK_FOOTER_ENTRY_BYTES = 32,
	DISK_FOOTER_ENTRIES_A_PAGE = DISK_PAGE_BYTES / DISK_FOOTER_ENTRY_BYTES,
};

/* Where something lies.  serial: grows with each use of any segment. */
struct disk_place {
	uint64_t serial;
	uint32_t segment;
	uint32_t page;
};

#define DISK_SERIAL_NONE 0

struct disk_head {
	uint64_t id;
	uint64_t serial; /* DISK_SERIAL_NONE: nothing is there */
	uint64_t segment_bytes;
	uint32_t segment;
};

struct disk_trailer {
	uint64_t id;
	uint64_t serial;
	uint64_t segment_bytes;
	uint32_t segment;
	uint32_t entry_count;
	uint64_t entries_sum;
};

struct disk_record {
	struct disk_place place;
	struct id128 key;
	struct id128 parent;
	bool has_parent;
	struct id128 compat;
	uint32_t layer_count;
	uint32_t layer_bytes;
	const uint64_t *digests; /* [layer_count] */
};

/* Of a record in a footer. */
struct disk_footer_entry {
	struct id128 key;
	uint32_t page;
	uint32_t layer_bytes;
	uint32_t layer_count;
};

/* Pages of a record, header and all; 0: it cannot be stored. */
uint32_t disk_record_pages(uint32_t layer_count, uint32_t layer_bytes);
uint32_t disk_footer_pages(uint32_t entry_count);

void disk_format_head(uint8_t *page, const struct disk_head *head);
MUST_USE enum err disk_parse_head(const uint8_t *page, struct disk_head *ret_head);

void disk_format_trailer(uint8_t *page, const struct disk_trailer *trailer);
MUST_USE enum err disk_parse_trailer(const uint8_t *page, struct disk_trailer *ret_trailer);

/* A header; its place may be changed later: disk_format_place(), which is needed before it is written. */
void disk_format_record(uint8_t *page, const struct disk_record *record);
void disk_format_place(uint8_t *page, uint64_t id, const struct disk_place *place);
/* ret_digests: [DISK_LAYERS_MAX], or NULL when they are not wanted.  CORRUPT: not a header of that disk. */
MUST_USE enum err disk_parse_record(const uint8_t *page, uint64_t id, struct disk_record *ret_record, uint64_t *ret_digests);

/* Entry number i of a footer, at its place in the pages. */
void disk_format_entry(uint8_t *entries, uint32_t i, const struct disk_footer_entry *entry);
/* CORRUPT: no record of that segment can be like that. */
MUST_USE enum err disk_parse_entry(const uint8_t *entries, uint32_t i, uint32_t segment_pages,
				   struct disk_footer_entry *ret_entry);
uint64_t disk_footer_sum(const uint8_t *entries, uint32_t entry_count, uint64_t id);
#endif
