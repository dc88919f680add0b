/* disk_log - the open segment: records are appended, made durable together, and listed in its footer. */
#include <assert.h>
#include <string.h>

#include "base/planted.h"
#include "kvstore/disk_impl.h"

void disk_log_init(struct disk *d)
{
	uint32_t count = PUTS_ALL(&d->options);
	d->log = (struct log){.segment = SEGMENT_NONE, .queue_first = PUT_NONE, .queue_last = PUT_NONE};
	for (uint32_t i = 0; i < count; i++)
		d->puts[i] = (struct put){.own_head = d->put_heads + (size_t)i * DISK_PAGE_BYTES, .coder = CODER_NONE,
					  .next = i + 1 < count ? i + 1 : PUT_NONE};
	d->put_free = 0;
}

uint32_t disk_log_take_put(struct disk *d)
{
	uint32_t number = d->put_free;
	if (number != PUT_NONE) {
		d->put_free = d->puts[number].next;
		d->puts[number].notes = false;
		d->puts[number].coding = CODING_OVER;
		d->puts[number].coder = CODER_NONE;
	}
	return number;
}

void disk_log_push(struct disk *d, uint32_t number, bool first)
{
	struct log *log = &d->log;
	struct put *put = &d->puts[number];
	put->state = PUT_QUEUED;
	put->next = first ? log->queue_first : PUT_NONE;
	if (log->queue_first == PUT_NONE)
		log->queue_first = log->queue_last = number;
	else if (first)
		log->queue_first = number;
	else {
		d->puts[log->queue_last].next = number;
		log->queue_last = number;
	}
}

static uint32_t pop(struct disk *d)
{
	uint32_t number = d->log.queue_first;
	d->log.queue_first = d->puts[number].next;
	if (d->log.queue_first == PUT_NONE)
		d->log.queue_last = PUT_NONE;
	return number;
}

/* ---- the end of a put */

static void add_block(struct disk *d, const struct put *put)
{
	struct disk_entry block = {.key = put->key, .segment = d->log.segment, .page = put->page, .pages = put->pages & 0xfffff,
				   .layer_bytes = put->layer_bytes, .layer_count = put->layer_count & 0x1ff, .tenant = put->tenant,
				   .low = put->low};
	uint32_t entry;
	if (disk_index_find(d->index, &put->key) != DISK_ENTRY_NONE)
		return; /* the same bytes are there already */
	enum err e = disk_index_add(d->index, &block, &entry);
	assert(e == ERR_OK); /* room is left for every put: may_begin() */
	(void)e;
}

static void move_block(struct disk *d, const struct put *put)
{
	uint32_t entry = disk_index_find(d->index, &put->key);
	if (entry == DISK_ENTRY_NONE)
		return; /* forgotten meanwhile */
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	if (e->segment != put->from || e->page != put->from_page)
		return;
	if (d->care.entry == entry)
		d->care.entry = e->next;
	d->segments[put->from].stale = true;
	disk_index_move(d->index, entry, d->log.segment, put->page, put->pages);
	d->counters.kept++;
}

static void free_put(struct disk *d, uint32_t number)
{
	disk_encode_release(d, &d->puts[number]);
	d->puts[number].state = PUT_FREE;
	d->puts[number].next = d->put_free;
	d->put_free = number;
}

static void end_put(struct disk *d, uint32_t number, enum err e)
{
	struct put *put = &d->puts[number];
	if (e != ERR_OK && put->state != PUT_QUEUED)
		d->segments[d->log.segment].stale = true; /* it may lie there all the same */
	if (put->notes) {
		disk_notes_written(d, e);
		free_put(d, number);
		return;
	}
	bool is_new = put->from == SEGMENT_NONE;
	bool in_scratch = !is_new && (put->state == PUT_QUEUED || put->state == PUT_WRITING);
	uint64_t cookie = put->cookie;
	if (e == ERR_OK && is_new)
		add_block(d, put);
	else if (e == ERR_OK)
		move_block(d, put);
	if (!is_new) {
		d->segments[put->from].moving--;
		d->move_count--;
	} else {
		d->put_count--;
		d->put_pages -= put->plain_pages;
		d->counters.puts_durable += e == ERR_OK;
		d->counters.puts_failed += e != ERR_OK;
	}
	free_put(d, number);
	if (in_scratch)
		disk_care_moved(d, e);
	if (is_new)
		d->options.durable(d->options.context, cookie, e);
}

static void end_all(struct disk *d, enum put_state state, enum err e)
{
	for (uint32_t i = 0; i < PUTS_ALL(&d->options); i++)
		if (d->puts[i].state == state)
			end_put(d, i, e);
}

void disk_log_drop(struct disk *d, uint32_t number, enum err e)
{
	struct put *put = &d->puts[number];
	put->failed = e;
	put->state = put->coding == CODING_OUT ? PUT_LEAVING : PUT_QUEUED;
	if (put->state == PUT_QUEUED)
		end_put(d, number, e);
}

/* ---- giving the segment up */

void disk_stop(struct disk *d, enum err e)
{
	d->stopped = e;
	d->retry_wait_ns = d->retry_wait_ns ? 2 * d->retry_wait_ns : DISK_RETRY_NS;
	if (d->retry_wait_ns > DISK_RETRY_MAX_NS)
		d->retry_wait_ns = DISK_RETRY_MAX_NS;
	d->retry_ns = d->now_ns + d->retry_wait_ns;
	disk_encode_stop(d);
	while (d->log.queue_first != PUT_NONE)
		disk_log_drop(d, pop(d), e);
}

/* What is under way ends by itself; nothing new begins. */
static void fail(struct disk *d, enum err e)
{
	struct log *log = &d->log;
	if (log->failed == ERR_OK) {
		log->failed = e;
		disk_stop(d, e);
	}
	log->written = 0;
	end_all(d, PUT_WRITTEN, e);
}

static bool busy(const struct log *log)
{
	return log->writing > 0 || log->head_out || log->sync_out || log->footer_out;
}

static void leave(struct disk *d, enum segment_state state)
{
	uint32_t segment = d->log.segment;
	d->log.state = LOG_NONE;
	d->log.failed = ERR_OK;
	d->log.segment = SEGMENT_NONE;
	/* Nothing was written there.  Else its head has to say that it is empty: what failed may lie there all the same. */
	if (state == SEGMENT_CLOSED && d->log.entry_count == 0)
		state = SEGMENT_FREE;
	disk_set_state(d, segment, state);
}

/* ---- sealing */

static void submit_sync(struct disk *d)
{
	struct log *log = &d->log;
	for (uint32_t i = 0; i < PUTS_ALL(&d->options); i++)
		if (d->puts[i].state == PUT_WRITTEN)
			d->puts[i].state = PUT_SYNCING;
	log->syncing = log->written;
	log->written = 0;
	log->sync_out = true;
	d->counters.syncs++;
	disk_submit(d, &(struct disk_io){.op = op_of(OP_SYNC, 0), .kind = DISK_SYNC, .segment = log->segment});
}

static void submit_footer(struct disk *d)
{
	struct log *log = &d->log;
	uint32_t pages = disk_footer_pages(log->entry_count, log->name_count);
	size_t used = disk_footer_bytes(log->entry_count, log->name_count);
	for (uint32_t i = 0; i < log->name_count; i++)
		disk_format_name(d->footer, log->entry_count, i, d->names[i]);
	memset(d->footer + used, 0, (size_t)pages * DISK_PAGE_BYTES - used);
	struct disk_trailer trailer = {
		.id = d->id,
		.serial = d->segments[log->segment].serial,
		.segment_bytes = d->options.segment_bytes,
		.segment = log->segment,
		.entry_count = log->entry_count,
		.name_count = log->name_count,
		.footer_sum = disk_footer_sum(d->footer, log->entry_count, log->name_count, d->id),
	};
	disk_format_trailer(d->footer + (size_t)pages * DISK_PAGE_BYTES, &trailer);
	log->state = LOG_FOOTER;
	log->footer_out = true;
	struct disk_io io = {.op = op_of(OP_FOOTER, 0), .kind = DISK_WRITE, .segment = log->segment,
			     .offset = (uint64_t)(d->segment_pages - 1 - pages) * DISK_PAGE_BYTES,
			     .head = d->footer, .head_bytes = (pages + 1) * DISK_PAGE_BYTES};
	disk_submit(d, &io);
}

void disk_log_reseal(struct disk *d, uint32_t segment)
{
	assert(d->log.state == LOG_NONE);
	d->log.state = LOG_SEALING;
	d->log.segment = segment;
	d->log.written = d->log.syncing = 0;
	disk_set_state(d, segment, SEGMENT_OPEN);
	submit_sync(d);
}

void disk_log_note_entry(struct disk *d, const struct disk_footer_entry *entry)
{
	disk_format_entry(d->footer, d->log.entry_count++, entry);
	if (d->log.name_count <= entry->tenant)
		d->log.name_count = entry->tenant + 1u;
}

/* ---- opening and appending */

static uint32_t find_free(const struct disk *d)
{
	for (uint32_t i = 0; i < d->options.segment_count; i++)
		if (d->segments[i].state == SEGMENT_FREE)
			return i;
	return SEGMENT_NONE;
}

static void open_segment(struct disk *d)
{
	struct log *log = &d->log;
	uint32_t segment = find_free(d);
	assert(segment != SEGMENT_NONE);
	disk_set_state(d, segment, SEGMENT_OPEN);
	d->segments[segment].serial = d->serial_next++;
	d->segments[segment].damaged = d->segments[segment].stale = false;
	log->state = LOG_OPENING;
	log->segment = segment;
	log->page_next = 1;
	log->name_count = 1;
	log->entry_count = log->note_pages = log->written = log->syncing = 0;
	log->head_out = true;
	struct disk_head head = {d->id, d->segments[segment].serial, d->options.segment_bytes, segment};
	disk_format_head(d->page, &head);
	struct disk_io io = {.op = op_of(OP_HEAD, 0), .kind = DISK_WRITE, .segment = segment, .head = d->page,
			     .head_bytes = DISK_PAGE_BYTES};
	disk_submit(d, &io);
}

static bool fits(const struct disk *d, const struct put *put)
{
	const struct log *log = &d->log;
	uint32_t names = log->name_count > put->tenant ? log->name_count : put->tenant + 1u;
	return (uint64_t)log->page_next + put->pages + disk_footer_pages(log->entry_count + 1, names) + 1 <= d->segment_pages;
}

static void append(struct disk *d, uint32_t number)
{
	struct log *log = &d->log;
	struct put *put = &d->puts[number];
	bool is_new = put->from == SEGMENT_NONE, in_landing = is_new && put->coder == CODER_NONE;
	uint64_t bytes = (uint64_t)put->pages * DISK_PAGE_BYTES;
	put->page = log->page_next;
	log->page_next += put->pages;
	struct disk_place place = {d->segments[log->segment].serial, log->segment, put->page};
	disk_format_place(put->head, d->id, &place);
	struct disk_footer_entry entry = {.key = put->key, .page = put->page, .layer_bytes = put->layer_bytes,
					  .layer_count = put->layer_count, .pages = put->pages, .tenant = put->tenant, .low = put->low};
	disk_log_note_entry(d, &entry);
	put->state = PUT_WRITING;
	log->writing++;
	if (d->options.write_rate)
		d->write_tokens -= (int64_t)bytes;
	if (is_new) {
		d->counters.bytes_put += bytes;
		d->counters.bytes_put_plain += (uint64_t)put->plain_pages * DISK_PAGE_BYTES;
		d->keep_credit += (int64_t)put->pages * d->options.keep_percent;
		int64_t most = (int64_t)d->segment_pages * 200;
		d->keep_credit = d->keep_credit < most ? d->keep_credit : most;
	} else {
		d->counters.bytes_moved += bytes;
		d->keep_credit -= (int64_t)put->pages * 100;
	}
	struct disk_io io = {.op = op_of(OP_PUT, number), .kind = DISK_WRITE, .segment = log->segment,
			     .offset = (uint64_t)put->page * DISK_PAGE_BYTES, .head = put->head,
			     .head_bytes = in_landing ? DISK_PAGE_BYTES : (uint32_t)bytes,
			     .landing = in_landing ? put->landing : 0,
			     .landing_bytes = in_landing ? put->layer_count * put->layer_bytes : 0,
			     .tag = is_new && d->options.file->tag ? put->head + DISK_TAG_AT : NULL};
	disk_submit(d, &io);
}

/* May a segment be opened for the first of the queue?  New blocks leave one for what is moved. */
static bool may_open(const struct disk *d, const struct put *put)
{
	return !disk_rests(d) && d->segments_free >= (put->from == SEGMENT_NONE ? 2u : 1u);
}

static bool may_begin(const struct disk *d, const struct put *put)
{
	if (d->log.writing >= d->options.write_max || (d->options.write_rate && d->write_tokens < 0))
		return false;
	/* What is not in the index yet will be. */
	return put->from != SEGMENT_NONE || disk_index_count(d->index) + d->put_count <= disk_index_max(d->index);
}

/* ---- notes: a page at a time, before anything else */

static void append_notes(struct disk *d)
{
	struct log *log = &d->log;
	struct disk_place place = {d->segments[log->segment].serial, log->segment, log->page_next};
	if (disk_notes_fill(d, &place) == 0)
		return; /* they were all dropped */
	uint32_t number = disk_log_take_put(d);
	assert(number != PUT_NONE); /* one is kept for this */
	struct put *put = &d->puts[number];
	put->notes = true;
	put->from = SEGMENT_NONE;
	put->pages = 1;
	put->page = log->page_next++;
	put->state = PUT_WRITING;
	log->note_pages++;
	log->writing++;
	struct disk_io io = {.op = op_of(OP_PUT, number), .kind = DISK_WRITE, .segment = log->segment,
			     .offset = (uint64_t)put->page * DISK_PAGE_BYTES, .head = d->notes.page, .head_bytes = DISK_PAGE_BYTES};
	disk_submit(d, &io);
}

static void pump_notes(struct disk *d)
{
	struct log *log = &d->log;
	if (log->failed != ERR_OK || !disk_notes_wait(d))
		return;
	if (log->state == LOG_NONE && !disk_rests(d) && d->segments_free > 0)
		open_segment(d);
	if (log->state != LOG_OPEN)
		return;
	uint32_t footer = disk_footer_pages(log->entry_count + DISK_NOTES_A_PAGE, log->name_count);
	if (log->note_pages < DISK_NOTE_PAGES_MAX && log->page_next + 1ull + footer + 1 <= d->segment_pages)
		append_notes(d);
	else
		log->state = LOG_SEALING;
}

/* A block is moved only as long as it is in the index: behind a note that it is dead it would come back. */
static bool is_moot(const struct disk *d, const struct put *put)
{
	if (put->from == SEGMENT_NONE)
		return false;
	uint32_t entry = disk_index_find(d->index, &put->key);
	if (entry == DISK_ENTRY_NONE)
		return true;
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	return e->segment != put->from || e->page != put->from_page;
}

/* The last room there is belongs to notes that have to leave a segment before it can be emptied. */
static bool is_for_notes(const struct disk *d)
{
	return d->care.state == CARE_EMPTY && d->segments_free == 0 && d->segments[d->care.segment].notes > 0;
}

static void pump_queue(struct disk *d)
{
	struct log *log = &d->log;
	while (log->queue_first != PUT_NONE && log->failed == ERR_OK && !is_for_notes(d)) {
		const struct put *put = &d->puts[log->queue_first];
		if (is_moot(d, put)) {
			end_put(d, pop(d), ERR_NOT_FOUND);
			continue;
		}
		if (log->state == LOG_NONE && may_open(d, put)) {
			open_segment(d);
		} else if (log->state == LOG_NONE && put->from != SEGMENT_NONE) {
			end_put(d, pop(d), ERR_AGAIN); /* no room to move it to */
			continue;
		}
		if (log->state != LOG_OPEN || put->coding != CODING_OVER)
			return;
		if (!fits(d, put)) {
			log->state = LOG_SEALING;
			return;
		}
		if (!may_begin(d, put))
			return;
		append(d, pop(d));
	}
}

static bool sync_is_due(const struct disk *d)
{
	const struct log *log = &d->log;
	if (log->written == 0 || log->sync_out)
		return false;
	bool waited = d->now_ns >= log->written_first_ns + d->options.sync_delay_ns;
	bool many = log->written * 2 >= d->options.put_max || d->move_count == DISK_MOVES_MAX;
	return waited || many || (log->state == LOG_SEALING && log->writing == 0);
}

void disk_log_pump(struct disk *d)
{
	struct log *log = &d->log;
	if (log->failed != ERR_OK) {
		if (busy(log))
			return;
		leave(d, SEGMENT_CLOSED);
	}
	if (d->ready) {
		pump_notes(d);
		disk_encode_pump(d);
		pump_queue(d);
	}
	if (sync_is_due(d))
		submit_sync(d);
	if (log->state == LOG_SEALING && !busy(log) && log->written == 0)
		submit_footer(d);
}

/* ---- outcomes */

static void put_written(struct disk *d, uint32_t number)
{
	struct log *log = &d->log;
	struct put *put = &d->puts[number];
	if (log->written++ == 0)
		log->written_first_ns = d->now_ns;
	put->state = PUT_WRITTEN;
	disk_encode_release(d, put);
	if (put->from != SEGMENT_NONE)
		disk_care_moved(d, ERR_OK);
	else if (!put->notes)
		d->options.written(d->options.context, put->cookie);
	if (planted(DISK_DURABLE_BEFORE_SYNC)) {
		log->written--;
		end_put(d, number, ERR_OK);
	}
}

static void synced(struct disk *d)
{
	struct log *log = &d->log;
	log->syncing = 0;
	if (log->state == LOG_FOOTER_SYNC) {
		d->counters.segments_sealed++;
		leave(d, SEGMENT_SEALED);
		return;
	}
	d->stopped = ERR_OK;
	d->retry_wait_ns = 0;
	end_all(d, PUT_SYNCING, ERR_OK);
}

void disk_log_done(struct disk *d, enum op_kind kind, uint32_t number, enum err e)
{
	struct log *log = &d->log;
	log->writing -= kind == OP_PUT;
	log->head_out &= kind != OP_HEAD;
	log->sync_out &= kind != OP_SYNC;
	log->footer_out &= kind != OP_FOOTER;
	if (e == ERR_OK)
		e = log->failed;
	if (e != ERR_OK) {
		fail(d, e);
		if (kind == OP_PUT)
			end_put(d, number, e);
		if (kind == OP_SYNC)
			end_all(d, PUT_SYNCING, e);
		return;
	}
	switch (kind) {
	case OP_PUT:
		put_written(d, number);
		break;
	case OP_HEAD:
		log->state = LOG_OPEN;
		break;
	case OP_SYNC:
		synced(d);
		break;
	case OP_FOOTER:
		log->state = LOG_FOOTER_SYNC;
		submit_sync(d);
		break;
	default:
		assert(false);
	}
}

void disk_log_check(const struct disk *d)
{
	uint32_t states[PUT_STATES] = {0}, queued = 0, moves = 0, notes = 0;
	uint64_t pages = 0;
	for (uint32_t i = 0; i < PUTS_ALL(&d->options); i++) {
		const struct put *put = &d->puts[i];
		states[put->state]++;
		if (put->state == PUT_FREE)
			continue;
		moves += put->from != SEGMENT_NONE;
		notes += put->notes;
		pages += put->from == SEGMENT_NONE && !put->notes ? put->plain_pages : 0;
	}
	for (uint32_t i = d->log.queue_first; i != PUT_NONE; i = d->puts[i].next)
		queued++;
	assert(queued == states[PUT_QUEUED] && moves == d->move_count && pages == d->put_pages);
	assert(states[PUT_FREE] + d->put_count + d->move_count + notes == PUTS_ALL(&d->options));
	assert(states[PUT_WRITING] == d->log.writing && states[PUT_WRITTEN] == d->log.written);
}
