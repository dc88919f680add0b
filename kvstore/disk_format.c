#include "kvstore/disk_format.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"

/* The last word of a page is the hash of what is before it. */
enum { SUM_AT = DISK_PAGE_BYTES - 8 };

#define MAGIC_HEAD 0x3144414548565442u    /* "BTVHEAD1" */
#define MAGIC_TRAILER 0x314c494154565442u /* "BTVTAIL1" */
#define MAGIC_RECORD 0x3144434552565442u  /* "BTVRECD1" */

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

static bool page_is(const uint8_t *page, uint64_t magic, uint64_t seed)
{
	return get64(page) == magic && get32(page + 8) == DISK_FORMAT_VERSION &&
	       get64(page + SUM_AT) == hash_xxh3(page, SUM_AT, seed);
}

uint32_t disk_record_pages(uint32_t layer_count, uint32_t layer_bytes)
{
	uint64_t bytes = (uint64_t)layer_count * layer_bytes;
	uint64_t pages = 1 + (bytes + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES;
	return bytes == 0 || layer_count > DISK_LAYERS_MAX || pages > DISK_RECORD_PAGES_MAX ? 0 : (uint32_t)pages;
}

uint32_t disk_footer_pages(uint32_t entry_count)
{
	return (entry_count + DISK_FOOTER_ENTRIES_A_PAGE - 1) / DISK_FOOTER_ENTRIES_A_PAGE;
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
	if (!page_is(page, MAGIC_HEAD, 0))
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
	put64(page + 48, trailer->entries_sum);
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
		.entries_sum = get64(page + 48),
	};
	/* A record has two pages at least. */
	if (t.entry_count > t.segment_bytes / DISK_PAGE_BYTES / 2)
		return ERR_CORRUPT;
	*ret_trailer = t;
	return ERR_OK;
}

/* ---- header of a record */

enum { HAS_PARENT = 1, DIGESTS_AT = 128 };
_Static_assert(DIGESTS_AT + 8 * DISK_LAYERS_MAX <= SUM_AT, "the digests fit a page");

void disk_format_record(uint8_t *page, const struct disk_record *record)
{
	assert(disk_record_pages(record->layer_count, record->layer_bytes) > 0);
	begin_page(page, MAGIC_RECORD);
	put32(page + 12, record->has_parent ? HAS_PARENT : 0);
	put32(page + 32, record->layer_count);
	put32(page + 36, record->layer_bytes);
	memcpy(page + 48, record->key.bytes, 16);
	if (record->has_parent)
		memcpy(page + 64, record->parent.bytes, 16);
	memcpy(page + 80, record->compat.bytes, 16);
	for (uint32_t i = 0; i < record->layer_count; i++)
		put64(page + DIGESTS_AT + (size_t)8 * i, record->digests[i]);
}

void disk_format_place(uint8_t *page, uint64_t id, const struct disk_place *place)
{
	put64(page + 16, place->serial);
	put32(page + 24, place->segment);
	put32(page + 28, place->page);
	end_page(page, id);
}

enum err disk_parse_record(const uint8_t *page, uint64_t id, struct disk_record *ret_record, uint64_t *ret_digests)
{
	if (!page_is(page, MAGIC_RECORD, id))
		return ERR_CORRUPT;
	struct disk_record r = {
		.place = {get64(page + 16), get32(page + 24), get32(page + 28)},
		.has_parent = get32(page + 12) & HAS_PARENT,
		.layer_count = get32(page + 32),
		.layer_bytes = get32(page + 36),
		.digests = ret_digests,
	};
	if (disk_record_pages(r.layer_count, r.layer_bytes) == 0)
		return ERR_CORRUPT;
	memcpy(r.key.bytes, page + 48, 16);
	memcpy(r.parent.bytes, page + 64, 16);
	memcpy(r.compat.bytes, page + 80, 16);
	for (uint32_t i = 0; ret_digests && i < r.layer_count; i++)
		ret_digests[i] = get64(page + DIGESTS_AT + (size_t)8 * i);
	*ret_record = r;
	return ERR_OK;
}

/* ---- footer */

void disk_format_entry(uint8_t *entries, uint32_t i, const struct disk_footer_entry *entry)
{
	uint8_t *at = entries + (size_t)i * DISK_FOOTER_ENTRY_BYTES;
	memcpy(at, entry->key.bytes, 16);
	put32(at + 16, entry->page);
	put32(at + 20, entry->layer_bytes);
	put32(at + 24, entry->layer_count);
	put32(at + 28, 0);
}

enum err disk_parse_entry(const uint8_t *entries, uint32_t i, uint32_t segment_pages, struct disk_footer_entry *ret_entry)
{
	const uint8_t *at = entries + (size_t)i * DISK_FOOTER_ENTRY_BYTES;
	struct disk_footer_entry entry = {
		.page = get32(at + 16),
		.layer_bytes = get32(at + 20),
		.layer_count = get32(at + 24),
	};
	memcpy(entry.key.bytes, at, 16);
	uint32_t pages = disk_record_pages(entry.layer_count, entry.layer_bytes);
	bool inside = pages > 0 && entry.page >= 1 && (uint64_t)entry.page + pages < segment_pages;
	if (!inside)
		return ERR_CORRUPT;
	*ret_entry = entry;
	return ERR_OK;
}

uint64_t disk_footer_sum(const uint8_t *entries, uint32_t entry_count, uint64_t id)
{
	return hash_xxh3(entries, (size_t)entry_count * DISK_FOOTER_ENTRY_BYTES, id);
}
