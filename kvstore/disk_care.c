/* disk_care - room for what comes, and a look now and then at what lies there. */
#include <assert.h>

#include "kvstore/disk_impl.h"

enum { TRIES_MAX = 2, FREE_WANTED = 2, SCRUB_STEPS = 4096 };

/* A record, whole into the scratch. */
static void read_record(struct disk *d, uint32_t entry, enum care_state state)
{
	struct care *care = &d->care;
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	care->state = state;
	care->out = true;
	care->key = e->key;
	care->place = (struct disk_place){d->segments[e->segment].serial, e->segment, e->page};
	care->pages = e->pages;
	struct disk_io io = {.op = op_of(OP_CARE, 0), .kind = DISK_READ, .segment = e->segment,
			     .offset = (uint64_t)e->page * DISK_PAGE_BYTES, .head = d->scratch,
			     .head_bytes = care->pages * DISK_PAGE_BYTES};
	disk_submit(d, &io);
}

/* The entry of what was read, if it is still there. */
static uint32_t find_read(const struct disk *d)
{
	uint32_t entry = disk_index_find(d->index, &d->care.key);
	if (entry == DISK_ENTRY_NONE)
		return DISK_ENTRY_NONE;
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	return e->segment == d->care.place.segment && e->page == d->care.place.page ? entry : DISK_ENTRY_NONE;
}

/* ---- room */

static bool wants_room(const struct disk *d)
{
	uint32_t coming = disk_index_count(d->index) + d->options.put_max;
	return !disk_rests(d) && (d->segments_free < FREE_WANTED || coming > disk_index_max(d->index) || disk_notes_many(d));
}

/* What is won by emptying it, over what that costs: what was hit since it was written has to be moved. */
static uint64_t worth(const struct disk *d, uint32_t segment)
{
	uint64_t all = d->segment_pages, hit = disk_index_pages_hit(d->index, segment);
	uint64_t age = d->serial_next - d->segments[segment].serial;
	if (d->segments[segment].damaged || disk_index_pages(d->index, segment) == 0)
		return UINT64_MAX - (d->segments[segment].notes > 0); /* notes have to be written again */
	if (disk_notes_many(d))
		return UINT32_MAX + age; /* the oldest */
	return (all - hit) * 1024 / (all + hit) * age;
}

static uint32_t choose_victim(const struct disk *d)
{
	uint32_t best = SEGMENT_NONE;
	uint64_t best_worth = 0;
	for (uint32_t i = 0; i < d->options.segment_count; i++) {
		const struct segment *s = &d->segments[i];
		if ((s->state != SEGMENT_SEALED && s->state != SEGMENT_CLOSED) || s->moving > 0)
			continue;
		uint64_t w = worth(d, i);
		if (best == SEGMENT_NONE || w > best_worth) {
			best = i;
			best_worth = w;
		}
	}
	return best;
}

static void begin_emptying(struct disk *d)
{
	struct care *care = &d->care;
	uint32_t victim = choose_victim(d);
	if (victim == SEGMENT_NONE)
		return;
	care->state = CARE_EMPTY;
	care->segment = victim;
	care->was = d->segments[victim].state;
	care->entry = disk_index_first(d->index, victim);
	disk_set_state(d, victim, SEGMENT_EMPTYING);
}

static void end_emptying(struct disk *d, enum segment_state state)
{
	d->care.state = CARE_IDLE;
	d->care.entry = DISK_ENTRY_NONE;
	disk_set_state(d, d->care.segment, state);
	if (state == SEGMENT_FREE)
		disk_notes_purge(d);
}

/* Rule 5: is it worth to be written again, and is there room and credit for that?  What is pinned hard needs no credit: the store
 * bounds it. */
static bool is_kept(const struct disk *d, const struct disk_entry *e)
{
	uint32_t pages = e->pages;
	bool room = d->segments_free > 0 || d->log.state == LOG_OPEN;
	bool fits = pages <= d->scratch_pages; /* larger ones are of a start with other options */
	bool worth = (e->hits > 0 || e->pin != LEDGER_UNPINNED) && d->keep_credit >= (int64_t)pages * 100;
	return room && fits && (worth || e->pin == LEDGER_PINNED_HARD);
}

/* Its head says that nothing is there; until that is durable not a byte of it may change, or a start would find what is listed
 * in its footer and lies there no more. */
static void erase(struct disk *d)
{
	struct care *care = &d->care;
	struct disk_head head = {d->id, DISK_SERIAL_NONE, d->options.segment_bytes, care->segment};
	care->state = CARE_ERASE;
	care->out = true;
	disk_set_state(d, care->segment, SEGMENT_TRIMMING);
	disk_format_head(d->scratch, &head);
	struct disk_io io = {.op = op_of(OP_CARE, 0), .kind = DISK_WRITE, .segment = care->segment, .head = d->scratch,
			     .head_bytes = DISK_PAGE_BYTES};
	disk_submit(d, &io);
}

static void erase_done(struct disk *d, enum err e)
{
	struct care *care = &d->care;
	if (e != ERR_OK) {
		end_emptying(d, SEGMENT_CLOSED);
		disk_stop(d, e);
		return;
	}
	bool synced = care->state == CARE_ERASE_SYNC;
	care->state = synced ? CARE_TRIM : CARE_ERASE_SYNC;
	care->out = true;
	struct disk_io io = {.op = op_of(OP_CARE, 0), .kind = synced ? DISK_TRIM : DISK_SYNC, .segment = care->segment};
	disk_submit(d, &io);
}

static void step_emptying(struct disk *d)
{
	struct care *care = &d->care;
	if (disk_rests(d)) {
		end_emptying(d, care->was);
		return;
	}
	if (!disk_notes_leave(d, care->segment))
		return; /* they go first, and to what room there is: disk_log.c */
	while (care->entry != DISK_ENTRY_NONE) {
		uint32_t entry = care->entry;
		const struct disk_entry *e = disk_index_entry(d->index, entry);
		if (!is_kept(d, e)) {
			disk_lose(d, entry, DISK_GONE_ROOM);
			continue;
		}
		if (d->move_count == DISK_MOVES_MAX)
			return; /* until some are durable */
		care->entry = e->next;
		care->tries = 0;
		read_record(d, entry, CARE_MOVE);
		return;
	}
	const struct segment *s = &d->segments[care->segment];
	if (s->moving == 0 && s->readers == 0) {
		while (disk_index_first(d->index, care->segment) != DISK_ENTRY_NONE)
			disk_lose(d, disk_index_first(d->index, care->segment), DISK_GONE_ROOM);
		erase(d);
	}
}

/* What was read goes to the open segment as it is, but for its place. */
static void move_out(struct disk *d, const struct disk_record *record)
{
	struct care *care = &d->care;
	uint32_t number = disk_log_take_put(d);
	struct put *put = &d->puts[number];
	put->key = record->key;
	put->layer_count = record->layer_count;
	put->layer_bytes = record->layer_bytes;
	put->tenant = disk_name_number(d, record->tenant);
	put->low = record->low;
	put->pages = put->plain_pages = care->pages;
	put->from = care->place.segment;
	put->from_page = care->place.page;
	put->head = d->scratch;
	d->segments[put->from].moving++;
	d->move_count++;
	care->state = CARE_MOVE_OUT;
	disk_log_push(d, number, true);
}

void disk_care_moved(struct disk *d, enum err e)
{
	struct care *care = &d->care;
	assert(care->state == CARE_MOVE_OUT);
	care->state = CARE_EMPTY;
	uint32_t entry = e == ERR_AGAIN ? find_read(d) : DISK_ENTRY_NONE;
	if (entry != DISK_ENTRY_NONE)
		disk_lose(d, entry, DISK_GONE_ROOM);
}

static void move_done(struct disk *d, enum err e)
{
	struct care *care = &d->care;
	struct disk_record record;
	uint32_t entry = find_read(d);
	care->state = CARE_EMPTY;
	if (entry == DISK_ENTRY_NONE)
		return;
	enum err right = e == ERR_OK ? disk_verify(d, d->scratch, care->pages, &care->key, &record) : e;
	if (right == ERR_OK) {
		move_out(d, &record);
		return;
	}
	d->counters.reads_bad++;
	if (++care->tries < TRIES_MAX)
		read_record(d, entry, CARE_MOVE);
	else if (e == ERR_OK)
		disk_quarantine(d, entry, right);
	/* Else: what cannot be read goes with its segment, for room. */
}

/* ---- scrubbing */

enum err disk_check_block(struct disk *d, const struct id128 *key)
{
	if (d->check.state == CHECK_WANTED || d->check.state == CHECK_READING)
		return ERR_AGAIN;
	if (!disk_find(d, key, NULL))
		return ERR_NOT_FOUND;
	d->check = (struct check){.state = CHECK_WANTED, .key = *key};
	return ERR_OK;
}

bool disk_checked(struct disk *d, const struct id128 *key, enum err *ret_outcome)
{
	if (d->check.state != CHECK_OVER || !id128_equal(&d->check.key, key))
		return false;
	d->check.state = CHECK_NONE;
	*ret_outcome = d->check.outcome;
	return true;
}

static void end_check(struct disk *d, enum err e)
{
	if (d->check.state != CHECK_READING)
		return;
	d->check.state = CHECK_OVER;
	d->check.outcome = e;
}

static void begin_check(struct disk *d)
{
	uint32_t entry = disk_index_find(d->index, &d->check.key);
	d->check.state = CHECK_READING;
	if (entry == DISK_ENTRY_NONE) {
		end_check(d, ERR_NOT_FOUND);
		return;
	}
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	if (e->pages > d->scratch_pages) {
		end_check(d, ERR_TOO_LARGE); /* of a start with other options */
		return;
	}
	d->care.tries = 0;
	read_record(d, entry, CARE_SCRUB);
}

static void begin_scrub(struct disk *d)
{
	if (d->check.state == CHECK_WANTED) {
		begin_check(d);
		return;
	}
	if (d->options.scrub_rate == 0 || d->scrub_tokens < 0 || disk_index_count(d->index) == 0)
		return;
	for (uint32_t steps = 0; steps < SCRUB_STEPS; steps++) {
		uint32_t entry = d->scrub_next;
		d->scrub_next = (entry + 1) % disk_index_max(d->index);
		if (!disk_index_used(d->index, entry))
			continue;
		const struct disk_entry *e = disk_index_entry(d->index, entry);
		if (e->pages > d->scratch_pages)
			continue;
		d->scrub_tokens -= (int64_t)e->pages * DISK_PAGE_BYTES;
		d->care.tries = 0;
		read_record(d, entry, CARE_SCRUB);
		return;
	}
	d->scrub_tokens -= SCRUB_STEPS * 16; /* looking costs too, where there is little to find */
}

static void scrub_done(struct disk *d, enum err e)
{
	struct care *care = &d->care;
	struct disk_record record;
	uint32_t entry = find_read(d);
	care->state = CARE_IDLE;
	if (entry == DISK_ENTRY_NONE) {
		end_check(d, ERR_NOT_FOUND);
		return;
	}
	enum err right = e == ERR_OK ? disk_verify(d, d->scratch, care->pages, &care->key, &record) : e;
	if (right == ERR_OK) {
		d->counters.bytes_scrubbed += (uint64_t)care->pages * DISK_PAGE_BYTES;
		end_check(d, ERR_OK);
		return;
	}
	d->counters.reads_bad++;
	if (++care->tries < TRIES_MAX) {
		read_record(d, entry, CARE_SCRUB);
		return;
	}
	if (e == ERR_OK)
		disk_quarantine(d, entry, right);
	end_check(d, right);
}

/* ---- turns */

void disk_care_pump(struct disk *d)
{
	struct care *care = &d->care;
	if (care->out)
		return;
	if (care->state == CARE_IDLE && wants_room(d))
		begin_emptying(d);
	if (care->state == CARE_EMPTY)
		step_emptying(d);
	else if (care->state == CARE_IDLE)
		begin_scrub(d);
}

void disk_care_done(struct disk *d, enum err e)
{
	switch (d->care.state) {
	case CARE_MOVE:
		move_done(d, e);
		break;
	case CARE_SCRUB:
		scrub_done(d, e);
		break;
	case CARE_ERASE:
	case CARE_ERASE_SYNC:
		erase_done(d, e);
		break;
	case CARE_TRIM:
		d->counters.segments_emptied++;
		end_emptying(d, SEGMENT_FREE); /* also when the disk did not want to know */
		break;
	default:
		assert(false);
	}
}
