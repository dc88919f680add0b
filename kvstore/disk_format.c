#include "kvstore/disk_format.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"

/* The sum of a page is the hash of what is before it. */
enum { SUM_AT = DISK_TAG_AT - 8, PLACE_AT = DISK_SIGNED_BYTES };

#define MAGIC_HEAD 0x3144414548565442u    /* "BTVHEAD1" */
#define MAGIC_TRAILER 0x314c494154565442u /* "BTVTAIL1" */
#define MAGIC_RECORD 0x3144434552565442u  /* "BTVRECD1" */
#define MAGIC_NOTES 0x3145544f4e565442u   /* "BTVNOTE1" */

static void put32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static void put64(uint8_t *at, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get64(const uint8_t *at)
{
	return get32(at) | (uint64_t)get32(at + 4) << 32;
}

static void begin_page(uint8_t *page, uint64_t magic)
{
	memset(page, 0, DISK_PAGE_BYTES);
	put64(page, magic);
	put32(page + 8, DISK_FORMAT_VERSION);
}

static void end_page(uint8_t *page, uint64_t seed)
{
	put64(page + SUM_AT, hash_xxh3(page, SUM_AT, seed));
}

static bool has_sum(const uint8_t *page, uint64_t magic, uint64_t seed)
{
	return get64(page) == magic && get64(page + SUM_AT) == hash_xxh3(page, SUM_AT, seed);
}

static bool knows_version(const uint8_t *page)
{
	uint32_t version = get32(page + 8);
	return version >= DISK_FORMAT_OLDEST && version <= DISK_FORMAT_VERSION;
}

static bool page_is(const uint8_t *page, uint64_t magic, uint64_t seed)
{
	return knows_version(page) && has_sum(page, magic, seed);
}

uint32_t disk_payload_pages(uint32_t bytes)
{
	return bytes / DISK_PAGE_BYTES + (bytes % DISK_PAGE_BYTES > 0);
}

uint32_t disk_record_pages(uint32_t layer_count, uint32_t layer_bytes)
{
	uint64_t bytes = (uint64_t)layer_count * layer_bytes;
	uint64_t pages = 1 + (bytes + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES;
	return bytes == 0 || layer_count > DISK_LAYERS_MAX || pages > DISK_RECORD_PAGES_MAX ? 0 : (uint32_t)pages;
}

size_t disk_footer_bytes(uint32_t entry_count, uint32_t name_count)
{
	return (size_t)entry_count * DISK_FOOTER_ENTRY_BYTES + (size_t)name_count * DISK_NAME_BYTES;
}

uint32_t disk_footer_pages(uint32_t entry_count, uint32_t name_count)
{
	return (uint32_t)((disk_footer_bytes(entry_count, name_count) + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES);
}

/* ---- head and trailer of a segment */

void disk_format_head(uint8_t *page, const struct disk_head *head)
{
	begin_page(page, MAGIC_HEAD);
	put64(page + 16, head->id);
	put64(page + 24, head->serial);
	put64(page + 32, head->segment_bytes);
	put32(page + 40, head->segment);
	end_page(page, 0);
}

enum err disk_parse_head(const uint8_t *page, struct disk_head *ret_head)
{
	/* Another version may have its sum elsewhere; nothing but our own words is taken from it. */
	if (get64(page) == MAGIC_HEAD && !knows_version(page))
		return ERR_UNSUPPORTED;
	if (!has_sum(page, MAGIC_HEAD, 0))
		return ERR_CORRUPT;
	*ret_head = (struct disk_head){
		.id = get64(page + 16),
		.serial = get64(page + 24),
		.segment_bytes = get64(page + 32),
		.segment = get32(page + 40),
	};
	return ERR_OK;
}

void disk_format_trailer(uint8_t *page, const struct disk_trailer *trailer)
{
	begin_page(page, MAGIC_TRAILER);
	put64(page + 16, trailer->id);
	put64(page + 24, trailer->serial);
	put64(page + 32, trailer->segment_bytes);
	put32(page + 40, trailer->segment);
	put32(page + 44, trailer->entry_count);
	put64(page + 48, trailer->footer_sum);
	put32(page + 56, trailer->name_count);
	end_page(page, 0);
}

enum err disk_parse_trailer(const uint8_t *page, struct disk_trailer *ret_trailer)
{
	if (!page_is(page, MAGIC_TRAILER, 0))
		return ERR_CORRUPT;
	struct disk_trailer t = {
		.id = get64(page + 16),
		.serial = get64(page + 24),
		.segment_bytes = get64(page + 32),
		.segment = get32(page + 40),
		.entry_count = get32(page + 44),
		.footer_sum = get64(page + 48),
		.name_count = get32(page + 56),
	};
	/* Head, footer and trailer fit their segment. */
	if (t.name_count > DISK_NAMES_MAX || t.entry_count > t.segment_bytes / DISK_FOOTER_ENTRY_BYTES ||
	    ((uint64_t)disk_footer_pages(t.entry_count, t.name_count) + 2) * DISK_PAGE_BYTES > t.segment_bytes)
		return ERR_CORRUPT;
	*ret_trailer = t;
	return ERR_OK;
}

/* ---- header of a record */

enum { HAS_PARENT = 1, IS_LOW = 2, IS_SIGNED = 4, ENCODING_AT = 24, STORED_AT = 28, TENANT_AT = 80,
       DIGESTS_AT = TENANT_AT + DISK_NAME_BYTES, STORED_SUM_AT = PLACE_AT - 8 };
_Static_assert(DIGESTS_AT + 8 * DISK_LAYERS_MAX <= STORED_SUM_AT, "the digests fit a page");

void disk_format_record(uint8_t *page, const struct disk_record *record)
{
	assert(disk_record_pages(record->layer_count, record->layer_bytes) > 0);
	begin_page(page, MAGIC_RECORD);
	put32(page + 12, (record->has_parent ? HAS_PARENT : 0) | (record->low ? IS_LOW : 0) | (record->is_signed ? IS_SIGNED : 0));
	put32(page + 16, record->layer_count);
	put32(page + 20, record->layer_bytes);
	put32(page + ENCODING_AT, DISK_ENCODING_PLAIN);
	put32(page + STORED_AT, record->layer_count * record->layer_bytes);
	memcpy(page + 32, record->key.bytes, 16);
	if (record->has_parent)
		memcpy(page + 48, record->parent.bytes, 16);
	memcpy(page + 64, record->compat.bytes, 16);
	memcpy(page + TENANT_AT, record->tenant, strnlen(record->tenant, DISK_NAME_BYTES - 1));
	for (uint32_t i = 0; i < record->layer_count; i++)
		put64(page + DIGESTS_AT + (size_t)8 * i, record->digests[i]);
}

void disk_format_encoded(uint8_t *page, enum disk_encoding encoding, uint32_t stored_bytes, uint64_t stored_sum)
{
	put32(page + ENCODING_AT, encoding);
	put32(page + STORED_AT, stored_bytes);
	put64(page + STORED_SUM_AT, stored_sum);
}

void disk_format_place(uint8_t *page, uint64_t id, const struct disk_place *place)
{
	put64(page + PLACE_AT, place->serial);
	put32(page + PLACE_AT + 8, place->segment);
	put32(page + PLACE_AT + 12, place->page);
	end_page(page, id);
}

static struct disk_place get_place(const uint8_t *page)
{
	return (struct disk_place){get64(page + PLACE_AT), get32(page + PLACE_AT + 8), get32(page + PLACE_AT + 12)};
}

static void get_name(const uint8_t *at, char ret_name[DISK_NAME_BYTES])
{
	memcpy(ret_name, at, DISK_NAME_BYTES);
	ret_name[DISK_NAME_BYTES - 1] = 0;
}

/* How its payload lies on disk.  Version 2 has plain ones only, and does not say how large they are. */
static enum err get_stored(const uint8_t *page, struct disk_record *r)
{
	bool old = get32(page + 8) == 2;
	uint32_t plain_bytes = r->layer_count * r->layer_bytes, plain_pages = disk_record_pages(r->layer_count, r->layer_bytes);
	r->encoding = (enum disk_encoding)get32(page + ENCODING_AT);
	r->stored_bytes = old ? plain_bytes : get32(page + STORED_AT);
	r->stored_sum = get64(page + STORED_SUM_AT);
	r->pages = 1 + disk_payload_pages(r->stored_bytes);
	bool right = r->encoding == DISK_ENCODING_PLAIN ? r->stored_bytes == plain_bytes : r->pages > 1 && r->pages < plain_pages;
	return right ? ERR_OK : ERR_CORRUPT;
}

void disk_peek_stored(const uint8_t *page, uint32_t room, enum disk_encoding *ret_encoding, uint32_t *ret_bytes, uint64_t *ret_sum)
{
	uint32_t bytes = get32(page + STORED_AT);
	*ret_encoding = (enum disk_encoding)get32(page + ENCODING_AT);
	*ret_bytes = bytes < room ? bytes : room;
	*ret_sum = get64(page + STORED_SUM_AT);
}

enum err disk_parse_record(const uint8_t *page, uint64_t id, struct disk_record *ret_record, uint64_t *ret_digests)
{
	if (!page_is(page, MAGIC_RECORD, id))
		return ERR_CORRUPT;
	if (get32(page + ENCODING_AT) >= (get32(page + 8) == 2 ? 1 : DISK_ENCODINGS))
		return ERR_UNSUPPORTED;
	uint32_t flags = get32(page + 12);
	struct disk_record r = {
		.place = get_place(page),
		.has_parent = flags & HAS_PARENT,
		.low = flags & IS_LOW,
		.is_signed = flags & IS_SIGNED,
		.layer_count = get32(page + 16),
		.layer_bytes = get32(page + 20),
		.digests = ret_digests,
	};
	if (disk_record_pages(r.layer_count, r.layer_bytes) == 0 || get_stored(page, &r) != ERR_OK)
		return ERR_CORRUPT;
	memcpy(r.key.bytes, page + 32, 16);
	memcpy(r.parent.bytes, page + 48, 16);
	memcpy(r.compat.bytes, page + 64, 16);
	get_name(page + TENANT_AT, r.tenant);
	for (uint32_t i = 0; ret_digests && i < r.layer_count; i++)
		ret_digests[i] = get64(page + DIGESTS_AT + (size_t)8 * i);
	*ret_record = r;
	return ERR_OK;
}

/* ---- notes */

enum { NOTES_AT = 64, NOTE_BYTES = DISK_FOOTER_ENTRY_BYTES };
_Static_assert(NOTES_AT + NOTE_BYTES * DISK_NOTES_A_PAGE <= PLACE_AT, "the notes fit a page");

static void put_note(uint8_t *at, const struct disk_note *note)
{
	memcpy(at, note->key.bytes, 16);
	put64(at + 16, note->serial);
	put32(at + 24, note->page);
	put32(at + 28, note->pin | (uint32_t)note->kind << 24);
}

/* CORRUPT: nothing can be noted like that. */
static enum err get_note(const uint8_t *at, struct disk_note *ret_note)
{
	uint32_t word = get32(at + 28);
	struct disk_note note = {.kind = (enum disk_note_kind)(word >> 24), .pin = word & 0xff, .serial = get64(at + 16),
				 .page = get32(at + 24)};
	memcpy(note.key.bytes, at, 16);
	if (note.kind == DISK_NOTE_NONE || note.kind >= DISK_NOTE_KINDS || note.pin > 2)
		return ERR_CORRUPT;
	*ret_note = note;
	return ERR_OK;
}

void disk_format_notes(uint8_t *page, uint64_t id, const struct disk_place *place, const struct disk_note *notes, uint32_t count)
{
	assert(count > 0 && count <= DISK_NOTES_A_PAGE);
	begin_page(page, MAGIC_NOTES);
	put32(page + 12, count);
	for (uint32_t i = 0; i < count; i++)
		put_note(page + NOTES_AT + (size_t)i * NOTE_BYTES, &notes[i]);
	disk_format_place(page, id, place);
}

enum err disk_parse_notes(const uint8_t *page, uint64_t id, struct disk_place *ret_place, struct disk_note *ret_notes,
			  uint32_t *ret_count)
{
	uint32_t count = get32(page + 12);
	if (!page_is(page, MAGIC_NOTES, id) || count == 0 || count > DISK_NOTES_A_PAGE)
		return ERR_CORRUPT;
	for (uint32_t i = 0; i < count; i++)
		if (get_note(page + NOTES_AT + (size_t)i * NOTE_BYTES, &ret_notes[i]) != ERR_OK)
			return ERR_CORRUPT;
	*ret_place = get_place(page);
	*ret_count = count;
	return ERR_OK;
}

/* ---- footer */

void disk_format_entry(uint8_t *footer, uint32_t i, const struct disk_footer_entry *entry)
{
	uint8_t *at = footer + disk_footer_bytes(i, 0);
	if (entry->note.kind != DISK_NOTE_NONE) {
		put_note(at, &entry->note);
		return;
	}
	memcpy(at, entry->key.bytes, 16);
	put32(at + 16, entry->page);
	put32(at + 20, entry->layer_bytes);
	put32(at + 24, entry->layer_count | (uint32_t)entry->tenant << 16 | (uint32_t)entry->low << 24);
	uint32_t plain = disk_record_pages(entry->layer_count, entry->layer_bytes);
	put32(at + 28, entry->pages == plain ? 0 : entry->pages);
}

enum err disk_parse_entry(const uint8_t *footer, uint32_t i, uint32_t segment_pages, struct disk_footer_entry *ret_entry)
{
	const uint8_t *at = footer + disk_footer_bytes(i, 0);
	uint32_t word = get32(at + 24);
	struct disk_footer_entry entry = {.page = get32(at + 16), .layer_bytes = get32(at + 20), .layer_count = word & 0xffff,
					  .tenant = (uint8_t)(word >> 16 & 0xff), .low = word >> 24 & 1};
	if (get32(at + 28) >> 24 != DISK_NOTE_NONE) {
		entry = (struct disk_footer_entry){.layer_count = 0};
		if (get_note(at, &entry.note) != ERR_OK)
			return ERR_CORRUPT;
		*ret_entry = entry;
		return ERR_OK;
	}
	memcpy(entry.key.bytes, at, 16);
	uint32_t plain = disk_record_pages(entry.layer_count, entry.layer_bytes), encoded = get32(at + 28);
	entry.pages = encoded ? encoded : plain;
	bool fits = plain > 0 && (encoded == 0 || (encoded > 1 && encoded < plain));
	bool inside = fits && entry.page >= 1 && (uint64_t)entry.page + entry.pages < segment_pages;
	if (!inside || entry.tenant >= DISK_NAMES_MAX)
		return ERR_CORRUPT;
	*ret_entry = entry;
	return ERR_OK;
}

void disk_format_name(uint8_t *footer, uint32_t entry_count, uint32_t i, const char *name)
{
	uint8_t *at = footer + disk_footer_bytes(entry_count, i);
	memset(at, 0, DISK_NAME_BYTES);
	memcpy(at, name, strnlen(name, DISK_NAME_BYTES - 1));
}

void disk_parse_name(const uint8_t *footer, uint32_t entry_count, uint32_t i, char ret_name[DISK_NAME_BYTES])
{
	get_name(footer + disk_footer_bytes(entry_count, i), ret_name);
}

uint64_t disk_footer_sum(const uint8_t *footer, uint32_t entry_count, uint32_t name_count, uint64_t id)
{
	return hash_xxh3(footer, disk_footer_bytes(entry_count, name_count), id);
}
