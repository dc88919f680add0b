/* disk_notes - what became of blocks after they were written: that an operator evicted them, or how they are pinned.
 *
 *   change --> PENDING --a page of the open segment--> WRITING --durable--> THERE --not needed any more--> (none)
 *                 ^             |                                             |
 *                 +--error------+-------- changed again, its segment is emptied
 *
 * A note says when it was made: before what lies at that page of that segment.  So it does not matter where a copy of it lies,
 * nor in which order a start reads them: of two of one key and kind the later one counts, and a record that lies before a DEAD
 * note of its key is not there.  What is appended later (the block once more, or a block that is moved, which was in the index
 * then) lies behind it.
 *
 * Notes are few: note_max.  One is needed as long as there may be something on disk that it is about: a segment in use that is
 * not younger, or, for a block that is pinned, the block.  Where they become many the oldest segments go (disk_care.c). */
#include <assert.h>

#include "base/planted.h"
#include "kvstore/disk_impl.h"

#define NOTE_NO UINT32_MAX

void disk_notes_init(struct disk *d)
{
	struct notes *n = &d->notes;
	for (uint32_t i = 0; i < d->options.note_max; i++)
		n->list[i] = (struct note){.next = i + 1 < d->options.note_max ? i + 1 : NOTE_NO};
	n->free_first = 0;
	n->pending_first = n->pending_last = NOTE_NO;
	for (int kind = 1; kind < DISK_NOTE_KINDS; kind++)
		map_init(&n->maps[kind], n->maps[kind].slots, d->options.note_max);
}

/* ---- the list */

static struct note *find(struct disk *d, const struct id128 *key, enum disk_note_kind kind)
{
	uint32_t number = map_get(&d->notes.maps[kind], key);
	return number == MAP_NONE ? NULL : &d->notes.list[number];
}

static struct note *take(struct disk *d, const struct id128 *key, enum disk_note_kind kind)
{
	struct notes *n = &d->notes;
	uint32_t number = n->free_first;
	if (number == NOTE_NO)
		return NULL;
	n->free_first = n->list[number].next;
	n->list[number] = (struct note){.note = {.key = *key, .kind = kind}, .segment = SEGMENT_NONE};
	enum err e = map_put(&n->maps[kind], key, number);
	assert(e == ERR_OK); /* there is room for every note */
	(void)e;
	n->count++;
	return &n->list[number];
}

static void set_segment(struct disk *d, struct note *note, uint32_t segment)
{
	if (note->segment != SEGMENT_NONE)
		d->segments[note->segment].notes--;
	note->segment = segment;
	if (segment != SEGMENT_NONE)
		d->segments[segment].notes++;
}

static void give_back(struct disk *d, struct note *note)
{
	struct notes *n = &d->notes;
	set_segment(d, note, SEGMENT_NONE);
	*note = (struct note){.next = n->free_first};
	n->free_first = (uint32_t)(note - n->list);
	n->count--;
}

/* It says nothing any more; what is on its way is freed when it is there. */
static void drop(struct disk *d, struct note *note)
{
	map_remove(&d->notes.maps[note->note.kind], &note->note.key);
	note->dropped = true;
	if (note->state == NOTE_THERE)
		give_back(d, note);
}

static void push(struct disk *d, struct note *note)
{
	struct notes *n = &d->notes;
	uint32_t number = (uint32_t)(note - n->list);
	note->state = NOTE_PENDING;
	note->next = NOTE_NO;
	if (n->pending_first == NOTE_NO)
		n->pending_first = number;
	else
		n->list[n->pending_last].next = number;
	n->pending_last = number;
}

static struct note *pop(struct disk *d)
{
	struct notes *n = &d->notes;
	while (n->pending_first != NOTE_NO) {
		struct note *note = &n->list[n->pending_first];
		n->pending_first = note->next;
		if (!note->dropped)
			return note;
		give_back(d, note);
	}
	return NULL;
}

/* ---- when */

static struct disk_place now_of(const struct disk *d)
{
	const struct log *log = &d->log;
	if (log->state == LOG_NONE)
		return (struct disk_place){.serial = d->serial_next};
	return (struct disk_place){.serial = d->segments[log->segment].serial, .page = log->page_next};
}

static bool is_before(uint64_t serial, uint32_t page, const struct disk_note *note)
{
	return serial < note->serial || (serial == note->serial && page < note->page);
}

/* Of segments in use, without one: the oldest. */
static uint64_t oldest_serial(const struct disk *d, uint32_t without)
{
	uint64_t oldest = UINT64_MAX;
	for (uint32_t i = 0; i < d->options.segment_count; i++)
		if (i != without && d->segments[i].state != SEGMENT_FREE && d->segments[i].serial < oldest)
			oldest = d->segments[i].serial;
	return oldest;
}

/* ---- changes */

static enum err change(struct disk *d, const struct id128 *key, enum disk_note_kind kind, uint8_t pin)
{
	struct note *note = find(d, key, kind);
	if (!note)
		note = take(d, key, kind);
	if (!note)
		return ERR_AGAIN;
	struct disk_place now = now_of(d);
	note->note.serial = now.serial;
	note->note.page = now.page;
	note->note.pin = pin;
	note->seq = ++d->notes.seq;
	if (note->state == NOTE_WRITING)
		note->changed = true;
	else if (note->state != NOTE_PENDING)
		push(d, note);
	return ERR_OK;
}

/* Some record may be on disk that is not in the index: of a put that failed, or of a block that went. */
static bool may_be_there(const struct disk *d)
{
	for (uint32_t i = 0; i < d->options.segment_count; i++)
		if (d->segments[i].state != SEGMENT_FREE && d->segments[i].stale)
			return true;
	return false;
}

static bool is_being_put(const struct disk *d, const struct id128 *key)
{
	for (uint32_t i = 0; i < PUTS_ALL(&d->options); i++)
		if (d->puts[i].state != PUT_FREE && d->puts[i].from == SEGMENT_NONE && !d->puts[i].notes &&
		    id128_equal(&d->puts[i].key, key))
			return true;
	return false;
}

enum err disk_forget(struct disk *d, const struct id128 *key, uint64_t *ret_note)
{
	uint32_t entry = d->ready ? disk_index_find(d->index, key) : DISK_ENTRY_NONE;
	if (!d->ready || is_being_put(d, key))
		return ERR_BUSY;
	if (entry == DISK_ENTRY_NONE && !may_be_there(d))
		return ERR_NOT_FOUND;
	enum err e = planted(DISK_EVICTION_NOT_NOTED) ? ERR_OK : change(d, key, DISK_NOTE_DEAD, 0);
	if (e != ERR_OK)
		return e;
	struct note *pin = find(d, key, DISK_NOTE_PIN);
	if (pin)
		drop(d, pin);
	if (entry != DISK_ENTRY_NONE)
		disk_lose(d, entry, DISK_GONE_FORGOTTEN);
	*ret_note = d->notes.seq;
	return ERR_OK;
}

enum err disk_pin(struct disk *d, const struct id128 *key, enum ledger_pin pin, uint64_t *ret_note)
{
	uint32_t entry = d->ready ? disk_index_find(d->index, key) : DISK_ENTRY_NONE;
	if (entry == DISK_ENTRY_NONE)
		return ERR_NOT_FOUND;
	const struct disk_entry *at = disk_index_entry(d->index, entry);
	*ret_note = d->notes.seq;
	if (at->pin == pin)
		return ERR_OK;
	uint64_t pages = disk_index_pages_hard(d->index) + disk_record_pages(at->layer_count, at->layer_bytes);
	if (pin == LEDGER_PINNED_HARD && pages * DISK_PAGE_BYTES > d->options.pin_bytes_max)
		return ERR_AGAIN;
	enum err e = change(d, key, DISK_NOTE_PIN, (uint8_t)pin);
	if (e != ERR_OK)
		return e;
	disk_index_pin(d->index, entry, (uint8_t)pin);
	*ret_note = d->notes.seq;
	return ERR_OK;
}

bool disk_noted(const struct disk *d, uint64_t note)
{
	return note <= d->notes.noted;
}

void disk_notes_gone(struct disk *d, const struct id128 *key)
{
	struct note *pin = find(d, key, DISK_NOTE_PIN);
	if (!pin || pin->note.pin == LEDGER_UNPINNED)
		return;
	enum err e = change(d, key, DISK_NOTE_PIN, LEDGER_UNPINNED); /* the note is there, so there is room for it */
	assert(e == ERR_OK);
	(void)e;
}

bool disk_notes_many(const struct disk *d)
{
	return d->notes.count > d->options.note_max / 2;
}

/* ---- to the disk */

bool disk_notes_wait(const struct disk *d)
{
	return d->notes.pending_first != NOTE_NO && d->notes.in_page == 0;
}

uint32_t disk_notes_fill(struct disk *d, const struct disk_place *place)
{
	struct notes *n = &d->notes;
	struct disk_note notes[DISK_NOTES_A_PAGE];
	for (struct note *note; n->in_page < DISK_NOTES_A_PAGE && (note = pop(d));) {
		note->state = NOTE_WRITING;
		note->changed = false;
		n->page_of[n->in_page] = (uint32_t)(note - n->list);
		notes[n->in_page++] = note->note;
	}
	for (uint32_t i = 0; i < n->in_page; i++)
		disk_log_note_entry(d, &(struct disk_footer_entry){.note = notes[i]});
	if (n->in_page > 0)
		disk_format_notes(n->page, d->id, place, notes, n->in_page);
	return n->in_page;
}

static void count_noted(struct disk *d)
{
	struct notes *n = &d->notes;
	n->noted = n->seq;
	for (uint32_t i = 0; i < d->options.note_max; i++) {
		const struct note *note = &n->list[i];
		bool waits = (note->state == NOTE_PENDING || note->state == NOTE_WRITING) && !note->dropped && note->seq > 0;
		if (waits && note->seq <= n->noted)
			n->noted = note->seq - 1;
	}
}

void disk_notes_written(struct disk *d, enum err e)
{
	struct notes *n = &d->notes;
	for (uint32_t i = 0; i < n->in_page; i++) {
		struct note *note = &n->list[n->page_of[i]];
		bool whole = e == ERR_OK && !note->changed;
		if (e == ERR_OK && !note->dropped)
			set_segment(d, note, d->log.segment);
		note->state = NOTE_THERE;
		note->seq = whole ? 0 : note->seq;
		if (note->dropped)
			give_back(d, note);
		else if (!whole)
			push(d, note);
	}
	n->in_page = 0;
	count_noted(d);
}

/* ---- room */

static bool is_needed(const struct disk *d, const struct note *note, uint64_t oldest)
{
	if (note->note.kind == DISK_NOTE_PIN && note->note.pin != LEDGER_UNPINNED)
		return disk_index_find(d->index, &note->note.key) != DISK_ENTRY_NONE;
	return oldest <= note->note.serial;
}

bool disk_notes_leave(struct disk *d, uint32_t segment)
{
	uint64_t oldest = oldest_serial(d, segment);
	bool no_room = d->log.state == LOG_NONE && d->segments_free == 0; /* after many errors */
	for (uint32_t i = 0; d->segments[segment].notes > 0 && i < d->options.note_max; i++) {
		struct note *note = &d->notes.list[i];
		if (note->state == NOTE_FREE || note->segment != segment)
			continue;
		bool there = note->state == NOTE_THERE;
		if (there && !is_needed(d, note, oldest)) {
			drop(d, note);
			continue;
		}
		if (there)
			push(d, note);
		if (no_room)
			set_segment(d, note, SEGMENT_NONE); /* it is written when there is room */
	}
	return d->segments[segment].notes == 0;
}

void disk_notes_purge(struct disk *d)
{
	uint64_t oldest = oldest_serial(d, SEGMENT_NONE);
	for (uint32_t i = 0; d->notes.count > 0 && i < d->options.note_max; i++) {
		struct note *note = &d->notes.list[i];
		if (note->state == NOTE_THERE && !is_needed(d, note, oldest))
			drop(d, note);
	}
}

/* ---- the start */

void disk_notes_begin(struct disk *d)
{
	d->notes.oldest = oldest_serial(d, SEGMENT_NONE);
}

bool disk_notes_dead(struct disk *d, const struct id128 *key, uint64_t serial, uint32_t page)
{
	const struct note *dead = find(d, key, DISK_NOTE_DEAD);
	return dead && is_before(serial, page, &dead->note);
}

/* There may lie more on disk than ever was in the list: pins of blocks that were forgotten later.  They go first; what is dead is
 * never let go. */
static struct note *take_found(struct disk *d, const struct disk_note *found)
{
	struct notes *n = &d->notes;
	struct note *spare = NULL;
	for (uint32_t i = 0; n->free_first == NOTE_NO && i < d->options.note_max; i++) {
		struct note *note = &n->list[i];
		if (note->note.kind != DISK_NOTE_PIN)
			continue;
		spare = note;
		if (disk_notes_dead(d, &note->note.key, note->note.serial, note->note.page))
			drop(d, note);
	}
	if (n->free_first == NOTE_NO && found->kind == DISK_NOTE_DEAD && spare)
		drop(d, spare);
	return take(d, &found->key, found->kind);
}

void disk_notes_found(struct disk *d, const struct disk_note *found, uint32_t segment)
{
	bool outdated = found->serial < d->notes.oldest && !(found->kind == DISK_NOTE_PIN && found->pin != LEDGER_UNPINNED);
	if (outdated || (found->kind == DISK_NOTE_PIN && disk_notes_dead(d, &found->key, found->serial, found->page)))
		return;
	struct note *note = find(d, &found->key, found->kind);
	bool is_same = note && note->note.serial == found->serial && note->note.page == found->page;
	if (note && !is_same && is_before(found->serial, found->page, &note->note))
		return;
	if (is_same && note->segment != SEGMENT_NONE && d->segments[segment].serial < d->segments[note->segment].serial)
		return; /* the copy that stays */
	if (!note && !(note = take_found(d, found)))
		return; /* fewer fit than last time */
	note->note = *found;
	note->state = NOTE_THERE;
	set_segment(d, note, segment);
	uint32_t entry = disk_index_find(d->index, &found->key);
	if (found->kind != DISK_NOTE_DEAD || entry == DISK_ENTRY_NONE)
		return;
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	if (!is_before(d->segments[e->segment].serial, e->page, found))
		return;
	disk_index_remove(d->index, entry);
	d->counters.recovered--;
}

void disk_notes_settle(struct disk *d)
{
	for (uint32_t i = 0; i < d->options.note_max; i++) {
		struct note *note = &d->notes.list[i];
		if (note->state != NOTE_THERE || note->note.kind != DISK_NOTE_PIN)
			continue;
		uint32_t entry = disk_index_find(d->index, &note->note.key);
		if (disk_notes_dead(d, &note->note.key, note->note.serial, note->note.page))
			drop(d, note);
		else if (entry != DISK_ENTRY_NONE)
			disk_index_pin(d->index, entry, note->note.pin);
		else
			disk_notes_gone(d, &note->note.key);
	}
	disk_notes_purge(d);
	count_noted(d);
}

void disk_notes_check(const struct disk *d)
{
	const struct notes *n = &d->notes;
	uint32_t count = 0, writing = 0, pending = 0, listed = 0, there = 0, lie = 0;
	for (uint32_t i = 0; i < d->options.note_max; i++) {
		const struct note *note = &n->list[i];
		count += note->state != NOTE_FREE;
		pending += note->state == NOTE_PENDING;
		writing += note->state == NOTE_WRITING;
		there += note->state != NOTE_FREE && note->segment != SEGMENT_NONE;
	}
	for (uint32_t i = n->pending_first; i != NOTE_NO; i = n->list[i].next)
		listed++;
	for (uint32_t i = 0; i < d->options.segment_count; i++) {
		lie += d->segments[i].notes;
		assert(d->segments[i].notes == 0 || d->segments[i].state != SEGMENT_FREE);
	}
	assert(count == n->count && pending == listed && writing == n->in_page && there == lie);
}
