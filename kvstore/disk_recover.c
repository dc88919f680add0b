/* disk_recover - the start: which segments there are, what their footers list, and what lies in those without one.
 *
 *   HEADS: head and trailer of each --> FOOTERS: of each whose head and trailer are of one use --> RECORDS: of each other that
 *   is not empty, one by one, payload and all, each of them then --> RESEAL: gets the footer that it lacks --> ready
 *
 * Heads, trailers and footers are read in batches, as many at a time as there may be loads, and in whatever order they come.
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

/* ---- batches */

static void submit_read(struct disk *d, uint32_t number)
{
	const struct start_read *r = &d->start.reads[number];
	struct disk_io io = {.op = op_of(OP_CARE, number), .kind = DISK_READ, .segment = r->segment,
			     .offset = (uint64_t)r->page * DISK_PAGE_BYTES, .head = r->at, .head_bytes = r->pages * DISK_PAGE_BYTES};
	disk_submit(d, &io);
}

/* One more of the batch, behind the others in the scratch; false: it has no room for that. */
static bool add_read(struct disk *d, uint32_t segment, uint32_t page, uint32_t pages)
{
	struct start *start = &d->start;
	const struct start_read *last = start->count > 0 ? &start->reads[start->count - 1] : NULL;
	uint8_t *at = last ? last->at + (size_t)last->pages * DISK_PAGE_BYTES : d->scratch;
	size_t used = (size_t)(at - d->scratch) / DISK_PAGE_BYTES;
	if (start->count == d->options.read_max || used + pages > d->scratch_pages)
		return false;
	start->reads[start->count++] = (struct start_read){.segment = segment, .page = page, .pages = pages, .at = at};
	return true;
}

static void submit_batch(struct disk *d)
{
	d->start.left = d->start.count;
	for (uint32_t i = 0; i < d->start.count; i++)
		submit_read(d, i);
}

/* ---- heads and trailers */

static void note_head(struct disk *d, uint32_t segment, const uint8_t *page)
{
	struct segment *s = &d->segments[segment];
	struct disk_head head;
	enum err e = disk_parse_head(page, &head);
	d->counters.other_versions += e == ERR_UNSUPPORTED;
	if (e != ERR_OK)
		return;
	if (head.segment != segment || head.segment_bytes != d->options.segment_bytes)
		return;
	s->has_head = true;
	s->serial = head.serial;
	s->id = head.id;
}

static void note_trailer(struct disk *d, uint32_t segment, const uint8_t *page)
{
	struct segment *s = &d->segments[segment];
	struct disk_trailer t;
	if (disk_parse_trailer(page, &t) != ERR_OK)
		return;
	if (t.segment != segment || t.segment_bytes != d->options.segment_bytes)
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

/* Heads of the next segments, or trailers of these; false: all are read. */
static bool read_heads(struct disk *d)
{
	struct start *start = &d->start;
	uint32_t page = start->trailers ? d->segment_pages - 1 : 0, first = start->next;
	start->count = 0;
	while (start->next < d->options.segment_count && add_read(d, start->next, page, 1))
		start->next++;
	start->trailers = !start->trailers;
	if (start->trailers)
		start->next = first;
	submit_batch(d);
	return start->count > 0;
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

static bool footer_is_right(const struct disk *d, const struct segment *s, const uint8_t *footer)
{
	uint64_t sum = disk_footer_sum(footer, s->entry_count, s->name_count, d->id);
	if (!planted(DISK_TORN_FOOTER_ACCEPTED) && sum != s->footer_sum)
		return false;
	for (uint32_t i = 0; i < s->entry_count; i++) {
		struct disk_footer_entry entry;
		if (disk_parse_entry(footer, i, d->segment_pages, &entry) != ERR_OK || entry.tenant >= s->name_count)
			return planted(DISK_TORN_FOOTER_ACCEPTED);
	}
	return true;
}

/* Names have other numbers in every life. */
static void take_entry(struct disk *d, uint32_t segment, const uint8_t *footer, struct disk_footer_entry entry)
{
	char name[DISK_NAME_BYTES];
	if (entry.note.kind != DISK_NOTE_NONE) {
		disk_notes_found(d, &entry.note, segment);
		return;
	}
	disk_parse_name(footer, d->segments[segment].entry_count, entry.tenant, name);
	entry.tenant = disk_name_number(d, name);
	add(d, &entry, segment);
}

static void take_footer(struct disk *d, uint32_t number, const uint8_t *footer, enum err e)
{
	struct segment *s = &d->segments[number];
	if (e != ERR_OK || !footer_is_right(d, s, footer)) {
		disk_set_state(d, number, SEGMENT_CLOSED); /* its records will be read instead */
		return;
	}
	s->unread = false;
	for (uint32_t i = 0; i < s->entry_count; i++) {
		struct disk_footer_entry entry;
		if (disk_parse_entry(footer, i, d->segment_pages, &entry) == ERR_OK && entry.tenant < s->name_count)
			take_entry(d, number, footer, entry);
	}
}

/* Of the next sealed segments; false: there are none. */
static bool read_footers(struct disk *d)
{
	struct start *start = &d->start;
	start->count = 0;
	for (; start->next < d->options.segment_count; start->next++) {
		const struct segment *s = &d->segments[start->next];
		if (!s->unread || s->state != SEGMENT_SEALED)
			continue;
		uint32_t pages = footer_pages(d, start->next);
		if (!add_read(d, start->next, d->segment_pages - 1 - pages, pages + 1))
			break;
	}
	submit_batch(d);
	return start->count > 0;
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

/* The next without a footer, when all footers are read: of two records of a key the serial decides, not the order. */
static void begin_records(struct disk *d)
{
	struct care *care = &d->care;
	uint32_t next = d->start.next_closed;
	while (next < d->options.segment_count && !(d->segments[next].unread && d->segments[next].state == SEGMENT_CLOSED))
		next++;
	d->start.next_closed = next;
	if (next == d->options.segment_count) {
		disk_notes_settle(d);
		d->ready = true;
		care->state = CARE_IDLE;
		return;
	}
	care->state = CARE_RECORDS;
	care->segment = next;
	care->tries = 0;
	d->log.entry_count = d->log.note_pages = 0;
	d->log.name_count = 1;
	d->log.page_next = 1;
	read_pages(d, 1, smaller(d->scratch_pages, d->segment_pages - 1));
}

void disk_recover_pump(struct disk *d)
{
	struct care *care = &d->care;
	if (care->out || d->start.left > 0)
		return;
	if (care->state == CARE_RESEAL && d->log.state == LOG_NONE)
		care->state = CARE_FOOTERS;
	if (care->state == CARE_HEADS && !read_heads(d)) {
		choose_id(d);
		care->state = CARE_FOOTERS;
		d->start.next = 0;
	}
	if (care->state == CARE_FOOTERS && d->start.left == 0 && !read_footers(d))
		begin_records(d);
}

/* One of a batch. */
static void batch_done(struct disk *d, uint32_t number, enum err e)
{
	struct start_read *r = &d->start.reads[number];
	if (e != ERR_OK && ++r->tries < TRIES_MAX) {
		d->counters.reads_bad++;
		submit_read(d, number);
		return;
	}
	d->start.left--;
	if (d->care.state == CARE_FOOTERS)
		take_footer(d, r->segment, r->at, e);
	else if (e == ERR_OK && r->page == 0)
		note_head(d, r->segment, r->at);
	else if (e == ERR_OK)
		note_trailer(d, r->segment, r->at);
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

void disk_recover_done(struct disk *d, uint32_t number, enum err e)
{
	struct care *care = &d->care;
	if (care->state == CARE_HEADS || care->state == CARE_FOOTERS) {
		batch_done(d, number, e);
	} else if (e != ERR_OK && ++care->tries < TRIES_MAX) {
		d->counters.reads_bad++;
		read_pages(d, care->page, care->pages);
	} else {
		records_done(d, e);
	}
}
