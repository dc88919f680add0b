/* disk_recover - the start: which segments there are, what their footers list, and what lies in those without one.
 *
 *   HEADS: head and trailer of each --> FOOTERS: of each whose head and trailer are of one use --> RECORDS: of each other that
 *   is not empty, one by one, payload and all, each of them then --> RESEAL: gets the footer that it lacks --> ready
 *
 * A key that is found twice (it was moved, and the crash came before its old segment was trimmed) is the one with the higher
 * serial: a footer vouches that what it lists is durable, and what has no footer is read and verified. */
#include <assert.h>

#include "base/planted.h"
#include "kvstore/disk_impl.h"

enum { TRIES_MAX = 3 };

static void read_pages(struct disk *d, uint32_t page, uint32_t pages)
{
	struct care *care = &d->care;
	care->out = true;
	care->page = page;
	care->pages = pages;
	struct disk_io io = {.op = op_of(OP_CARE, 0), .kind = DISK_READ, .segment = care->segment,
			     .offset = (uint64_t)page * DISK_PAGE_BYTES, .head = d->scratch,
			     .head_bytes = pages * DISK_PAGE_BYTES};
	disk_submit(d, &io);
}

/* ---- heads and trailers */

static void note_head(struct disk *d)
{
	struct segment *s = &d->segments[d->care.segment];
	struct disk_head head;
	enum err e = disk_parse_head(d->scratch, &head);
	d->counters.other_versions += e == ERR_UNSUPPORTED;
	if (e != ERR_OK)
		return;
	if (head.segment != d->care.segment || head.segment_bytes != d->options.segment_bytes)
		return;
	s->has_head = true;
	s->serial = head.serial;
	s->id = head.id;
}

static void note_trailer(struct disk *d)
{
	struct segment *s = &d->segments[d->care.segment];
	struct disk_trailer t;
	if (disk_parse_trailer(d->scratch, &t) != ERR_OK)
		return;
	if (t.segment != d->care.segment || t.segment_bytes != d->options.segment_bytes)
		return;
	if (s->has_head && (t.serial != s->serial || t.id != s->id))
		return; /* left from an earlier use */
	if (disk_footer_pages(t.entry_count, t.name_count) + 1 > d->scratch_pages)
		return; /* no segment of ours is so full of notes */
	s->has_trailer = true;
	s->serial = t.serial;
	s->id = t.id;
	s->entry_count = t.entry_count;
	s->name_count = t.name_count;
	s->footer_sum = t.footer_sum;
}

/* The disk is the one that was used last; what others left is room. */
static void choose_id(struct disk *d)
{
	uint64_t serial = 0;
	for (uint32_t i = 0; i < d->options.segment_count; i++) {
		const struct segment *s = &d->segments[i];
		if ((!s->has_head && !s->has_trailer) || s->serial < serial)
			continue;
		serial = s->serial;
		d->id = s->id;
	}
	d->serial_next = serial + 1;
	for (uint32_t i = 0; i < d->options.segment_count; i++) {
		struct segment *s = &d->segments[i];
		if ((!s->has_head && !s->has_trailer) || s->id != d->id || s->serial == DISK_SERIAL_NONE)
			continue;
		/* Without its head a footer may be of a use that is over: its records have to show themselves. */
		disk_set_state(d, i, s->has_head && s->has_trailer ? SEGMENT_SEALED : SEGMENT_CLOSED);
		s->unread = true;
	}
	disk_notes_begin(d);
}

/* ---- footers */

/* A block that is there in two segments is that of the later one. */
static void add(struct disk *d, const struct disk_footer_entry *found, uint32_t segment)
{
	uint32_t entry = disk_index_find(d->index, &found->key);
	if (disk_notes_dead(d, &found->key, d->segments[segment].serial, found->page))
		return;
	if (entry == DISK_ENTRY_NONE) {
		struct disk_entry block = {.key = found->key, .segment = segment, .page = found->page,
					   .layer_bytes = found->layer_bytes, .layer_count = found->layer_count & 0x1ff,
					   .pages = found->pages & 0xfffff,
					   .tenant = found->tenant, .low = found->low};
		/* Fewer fit than last time: the rest is room. */
		bool fits = disk_index_add(d->index, &block, &entry) == ERR_OK;
		d->counters.recovered += fits;
		d->segments[segment].stale |= !fits;
		return;
	}
	const struct disk_entry *old = disk_index_entry(d->index, entry);
	d->segments[segment].stale = d->segments[old->segment].stale = true; /* one of them */
	bool same_size = old->layer_bytes == found->layer_bytes && old->layer_count == found->layer_count;
	if (same_size && d->segments[segment].serial >= d->segments[old->segment].serial)
		disk_index_move(d->index, entry, segment, found->page, found->pages);
}

/* Of its footer, without the trailer. */
static uint32_t footer_pages(const struct disk *d, uint32_t segment)
{
	return disk_footer_pages(d->segments[segment].entry_count, d->segments[segment].name_count);
}

static bool footer_is_right(const struct disk *d, const struct segment *s)
{
	uint64_t sum = disk_footer_sum(d->scratch, s->entry_count, s->name_count, d->id);
	if (!planted(DISK_TORN_FOOTER_ACCEPTED) && sum != s->footer_sum)
		return false;
	for (uint32_t i = 0; i < s->entry_count; i++) {
		struct disk_footer_entry entry;
		if (disk_parse_entry(d->scratch, i, d->segment_pages, &entry) != ERR_OK || entry.tenant >= s->name_count)
			return planted(DISK_TORN_FOOTER_ACCEPTED);
	}
	return true;
}

/* Names have other numbers in every life. */
static void take_entry(struct disk *d, uint32_t segment, struct disk_footer_entry entry)
{
	char name[DISK_NAME_BYTES];
	if (entry.note.kind != DISK_NOTE_NONE) {
		disk_notes_found(d, &entry.note, segment);
		return;
	}
	disk_parse_name(d->scratch, d->segments[segment].entry_count, entry.tenant, name);
	entry.tenant = disk_name_number(d, name);
	add(d, &entry, segment);
}

static void take_footer(struct disk *d, enum err e)
{
	uint32_t number = d->care.segment;
	struct segment *s = &d->segments[number];
	if (e != ERR_OK || !footer_is_right(d, s)) {
		disk_set_state(d, number, SEGMENT_CLOSED); /* its records will be read instead */
		return;
	}
	s->unread = false;
	for (uint32_t i = 0; i < s->entry_count; i++) {
		struct disk_footer_entry entry;
		if (disk_parse_entry(d->scratch, i, d->segment_pages, &entry) == ERR_OK && entry.tenant < s->name_count)
			take_entry(d, number, entry);
	}
}

/* ---- records */

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static bool same_place(const struct disk_place *a, const struct disk_place *b)
{
	return a->serial == b->serial && a->segment == b->segment && a->page == b->page;
}

/* Is there room for one more entry, and the trailer, behind that page? */
static bool footer_fits(const struct disk *d, uint32_t page_end, uint8_t tenant)
{
	uint32_t names = d->log.name_count > tenant ? d->log.name_count : tenant + 1u;
	return (uint64_t)page_end + disk_footer_pages(d->log.entry_count + 1, names) + 1 <= d->segment_pages;
}

/* Are there notes at that page? */
static bool take_notes(struct disk *d, const uint8_t *page, const struct disk_place *place)
{
	struct disk_note notes[DISK_NOTES_A_PAGE];
	struct disk_place says;
	uint32_t count;
	if (disk_parse_notes(page, d->id, &says, notes, &count) != ERR_OK || !same_place(&says, place))
		return false;
	uint32_t footer = disk_footer_pages(d->log.entry_count + count, d->log.name_count);
	if (d->log.note_pages == DISK_NOTE_PAGES_MAX || (uint64_t)place->page + 1 + footer + 1 > d->segment_pages)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		disk_notes_found(d, &notes[i], d->care.segment);
		disk_log_note_entry(d, &(struct disk_footer_entry){.note = notes[i]});
	}
	d->log.note_pages++;
	d->log.page_next = place->page + 1;
	return true;
}

/* What is at that page of the window; returns its pages, or 0: it begins in the window and ends behind it. */
static uint32_t take_record(struct disk *d, uint32_t at)
{
	const struct care *care = &d->care;
	const uint8_t *page = d->scratch + (size_t)at * DISK_PAGE_BYTES;
	struct disk_place place = {d->segments[care->segment].serial, care->segment, care->page + at};
	struct disk_record r;
	if (take_notes(d, page, &place))
		return 1;
	if (disk_parse_record(page, d->id, &r, NULL) != ERR_OK || !same_place(&r.place, &place))
		return 1;
	uint32_t pages = r.pages;
	if (pages > care->pages - at)
		return at == 0 ? 1 : 0;
	uint8_t tenant = disk_name_number(d, r.tenant);
	if (!footer_fits(d, place.page + pages, tenant) || disk_verify(d, page, pages, NULL, &r) != ERR_OK) {
		d->counters.recovered_torn++;
		d->segments[care->segment].stale = true; /* it may be read better the next time */
		return pages;
	}
	struct disk_footer_entry found = {.key = r.key, .page = place.page, .layer_bytes = r.layer_bytes,
					  .layer_count = r.layer_count, .pages = pages, .tenant = tenant, .low = r.low};
	disk_log_note_entry(d, &found);
	add(d, &found, care->segment);
	d->counters.recovered_scanned++;
	d->log.page_next = place.page + pages;
	return pages;
}

static void take_window(struct disk *d)
{
	uint32_t at = 0;
	while (at < d->care.pages) {
		uint32_t pages = take_record(d, at);
		if (pages == 0)
			break;
		at += pages;
	}
	d->care.page += at;
}

/* All of it is read. */
static void end_records(struct disk *d)
{
	struct care *care = &d->care;
	d->segments[care->segment].unread = false;
	if (d->log.entry_count == 0) { /* with records that were not whole it has to be erased before */
		disk_set_state(d, care->segment, d->segments[care->segment].stale ? SEGMENT_CLOSED : SEGMENT_FREE);
		care->state = CARE_FOOTERS;
		return;
	}
	disk_log_reseal(d, care->segment);
	care->state = CARE_RESEAL;
}

/* ---- the order of it all */

/* The next one, oldest first, so that the later of two wins; SEGMENT_NONE. */
static uint32_t next_unread(const struct disk *d, enum segment_state state)
{
	uint32_t best = SEGMENT_NONE;
	for (uint32_t i = 0; i < d->options.segment_count; i++) {
		const struct segment *s = &d->segments[i];
		if (s->unread && s->state == state && (best == SEGMENT_NONE || s->serial < d->segments[best].serial))
			best = i;
	}
	return best;
}

static void begin_next(struct disk *d)
{
	struct care *care = &d->care;
	care->tries = 0;
	care->segment = next_unread(d, SEGMENT_SEALED);
	if (care->segment != SEGMENT_NONE) {
		uint32_t pages = footer_pages(d, care->segment);
		read_pages(d, d->segment_pages - 1 - pages, pages + 1);
		return;
	}
	care->segment = next_unread(d, SEGMENT_CLOSED);
	if (care->segment == SEGMENT_NONE) {
		disk_notes_settle(d);
		d->ready = true;
		care->state = CARE_IDLE;
		return;
	}
	care->state = CARE_RECORDS;
	d->log.entry_count = d->log.note_pages = 0;
	d->log.name_count = 1;
	d->log.page_next = 1;
	read_pages(d, 1, smaller(d->scratch_pages, d->segment_pages - 1));
}

void disk_recover_pump(struct disk *d)
{
	struct care *care = &d->care;
	if (care->out)
		return;
	if (care->state == CARE_RESEAL && d->log.state == LOG_NONE)
		care->state = CARE_FOOTERS;
	if (care->state == CARE_HEADS)
		read_pages(d, care->trailer ? d->segment_pages - 1 : 0, 1);
	else if (care->state == CARE_FOOTERS)
		begin_next(d);
}

static void head_done(struct disk *d, enum err e)
{
	struct care *care = &d->care;
	care->tries = 0;
	if (e == ERR_OK && care->trailer)
		note_trailer(d);
	else if (e == ERR_OK)
		note_head(d);
	care->segment += care->trailer;
	care->trailer = !care->trailer;
	if (care->segment < d->options.segment_count)
		return;
	choose_id(d);
	care->state = CARE_FOOTERS;
}

static void records_done(struct disk *d, enum err e)
{
	struct care *care = &d->care;
	care->tries = 0;
	if (e == ERR_OK)
		take_window(d);
	else
		care->page += 1; /* what cannot be read is no record */
	uint32_t left = d->segment_pages - 1 > care->page ? d->segment_pages - 1 - care->page : 0;
	if (left == 0)
		end_records(d);
	else
		read_pages(d, care->page, e == ERR_OK ? smaller(d->scratch_pages, left) : 1);
}

void disk_recover_done(struct disk *d, enum err e)
{
	struct care *care = &d->care;
	if (e != ERR_OK && ++care->tries < TRIES_MAX) {
		d->counters.reads_bad++;
		read_pages(d, care->page, care->pages);
		return;
	}
	if (care->state == CARE_HEADS)
		head_done(d, e);
	else if (care->state == CARE_FOOTERS)
		take_footer(d, e);
	else if (care->state == CARE_RECORDS)
		records_done(d, e);
}
