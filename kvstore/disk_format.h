/* disk_format - what lies on the disk of a store: pages, each checked by itself.  Pure.
 *
 *   segment:  | head | record | notes | record | ...     (nothing)     ... | footer | trailer |
 *   record:   | header page | payload, up to a full page |
 *   notes:    | one page: what became of blocks that were written before it |
 *   footer:   | an entry for each record and each note, in their order | names of tenants |
 *
 * Every page but payload ends with its XXH3-64; those of records and the sum over a footer are seeded with the id of the
 * store's disk, so that no bytes of a block can look like a header.  A header says where it lies (segment, its serial, page):
 * what a disk wrote elsewhere, or left from an earlier use, is not taken.  The payload is checked by the digest of each layer,
 * which the header carries, if it is encoded also by a sum of what lies on disk, and, where the store has a key, header and payload
 * by a tag (disk_file.h): sums find accidents, the tag finds forgeries.  The tag does not cover the place: a record that is moved keeps it.  All numbers are little-endian.
 *
 * Version 3 knows payloads that are encoded; of version 2, which does not, everything is read, and nothing is written any more.
 *
 *   header page:  | what the tag covers: DISK_SIGNED_BYTES | place 16 | sum 8 | tag 16 | */
#ifndef KVSTORE_DISK_FORMAT_H
#define KVSTORE_DISK_FORMAT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "kvstore/disk_file.h"
#include "kvstore/tenants.h"

enum {
	DISK_FORMAT_VERSION = 3,
	DISK_FORMAT_OLDEST = 2,
	DISK_LAYERS_MAX = 480,    /* whose digests fit a header page */
	DISK_RECORD_PAGES_MAX = 1 << 18, /* 1 GiB */
	DISK_FOOTER_ENTRY_BYTES = 32,
	DISK_NAME_BYTES = TENANT_NAME_MAX + 1,
	DISK_NAMES_MAX = TENANTS_MAX,
	DISK_NOTES_A_PAGE = 120,
	DISK_TAG_AT = DISK_PAGE_BYTES - DISK_TAG_BYTES,
	DISK_SIGNED_BYTES = DISK_TAG_AT - 8 - 16,
};

/* How a payload lies on disk.  One that is encoded has fewer pages than a plain one. */
enum disk_encoding {
	DISK_ENCODING_PLAIN,
	DISK_ENCODING_NIBBLES, /* base/nibbles.h */
	DISK_ENCODINGS,
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
	uint32_t name_count;
	uint64_t footer_sum;
};

struct disk_record {
	struct disk_place place;
	struct id128 key;
	struct id128 parent;
	bool has_parent;
	bool low;       /* its priority */
	bool is_signed; /* it says that there is a tag; only the tag itself is believed */
	struct id128 compat;
	uint32_t layer_count;
	uint32_t layer_bytes;
	const uint64_t *digests; /* [layer_count] of what is in memory */
	char tenant[DISK_NAME_BYTES];
	/* The payload on disk; formatted as plain (disk_format_encoded()). */
	enum disk_encoding encoding;
	uint32_t stored_bytes;
	uint64_t stored_sum; /* of them, if they are encoded */
	uint32_t pages;      /* of the record, header and all */
};

/* What became of a block since it was written.  Of two of one key and kind the later counts, wherever they lie. */
enum disk_note_kind {
	DISK_NOTE_NONE, /* an entry that is a record */
	DISK_NOTE_DEAD, /* its records before are not there any more */
	DISK_NOTE_PIN,  /* it is pinned so, unless it has died since */
	DISK_NOTE_KINDS,
};

struct disk_note {
	struct id128 key;
	enum disk_note_kind kind;
	uint8_t pin;      /* of DISK_NOTE_PIN: enum ledger_pin */
	uint64_t serial;  /* when: before what lies there */
	uint32_t page;
};

/* Of a record or a note in a footer. */
struct disk_footer_entry {
	struct id128 key;
	uint32_t page;
	uint32_t layer_bytes;
	uint32_t layer_count;
	uint32_t pages; /* as of disk_record */
	uint8_t tenant; /* number of a name */
	bool low;
	struct disk_note note; /* of another kind than NONE: this is it, and nothing else counts */
};

/* Pages of a record whose payload is plain, header and all; 0: it cannot be stored. */
uint32_t disk_record_pages(uint32_t layer_count, uint32_t layer_bytes);
/* Pages of so many bytes of payload. */
uint32_t disk_payload_pages(uint32_t bytes);
/* Pages of a footer without its trailer. */
uint32_t disk_footer_pages(uint32_t entry_count, uint32_t name_count);
size_t disk_footer_bytes(uint32_t entry_count, uint32_t name_count);

void disk_format_head(uint8_t *page, const struct disk_head *head);
/* CORRUPT: not a head.  UNSUPPORTED: one of another version. */
MUST_USE enum err disk_parse_head(const uint8_t *page, struct disk_head *ret_head);

void disk_format_trailer(uint8_t *page, const struct disk_trailer *trailer);
MUST_USE enum err disk_parse_trailer(const uint8_t *page, struct disk_trailer *ret_trailer);

/* A header; its place may be changed later: disk_format_place(), which is needed before it is written.  Its tag is for who has
 * the key: over DISK_SIGNED_BYTES of the page, and the payload. */
void disk_format_record(uint8_t *page, const struct disk_record *record);
/* Its payload lies behind it in another way. */
void disk_format_encoded(uint8_t *page, enum disk_encoding encoding, uint32_t stored_bytes, uint64_t stored_sum);
void disk_format_place(uint8_t *page, uint64_t id, const struct disk_place *place);
/* ret_digests: [DISK_LAYERS_MAX], or NULL when they are not wanted.  CORRUPT: not a header of that disk.  UNSUPPORTED: one whose
 * payload is encoded in a way that is not known here. */
MUST_USE enum err disk_parse_record(const uint8_t *page, uint64_t id, struct disk_record *ret_record, uint64_t *ret_digests);
/* What a page says of the payload behind it, header or not, of this disk or not: for who decodes before it is judged.  Bytes: no
 * more than `room`. */
void disk_peek_stored(const uint8_t *page, uint32_t room, enum disk_encoding *ret_encoding, uint32_t *ret_bytes, uint64_t *ret_sum);

/* A page of notes, with its place. */
void disk_format_notes(uint8_t *page, uint64_t id, const struct disk_place *place, const struct disk_note *notes, uint32_t count);
/* ret_notes: [DISK_NOTES_A_PAGE].  CORRUPT: not such a page of that disk. */
MUST_USE enum err disk_parse_notes(const uint8_t *page, uint64_t id, struct disk_place *ret_place, struct disk_note *ret_notes,
				   uint32_t *ret_count);

/* Entry number i of a footer, at its place in the pages; and name number i, behind so many entries. */
void disk_format_entry(uint8_t *footer, uint32_t i, const struct disk_footer_entry *entry);
/* CORRUPT: no record of that segment, nor a note, can be like that. */
MUST_USE enum err disk_parse_entry(const uint8_t *footer, uint32_t i, uint32_t segment_pages,
				   struct disk_footer_entry *ret_entry);
void disk_format_name(uint8_t *footer, uint32_t entry_count, uint32_t i, const char *name);
/* A name with its 0, whatever lies there. */
void disk_parse_name(const uint8_t *footer, uint32_t entry_count, uint32_t i, char ret_name[DISK_NAME_BYTES]);
uint64_t disk_footer_sum(const uint8_t *footer, uint32_t entry_count, uint32_t name_count, uint64_t id);
#endif
