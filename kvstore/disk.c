#include "kvstore/disk.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/carve.h"
#include "base/hash.h"
#include "kvstore/disk_impl.h"

/* ---- memory */

/* Pages, aligned whatever the memory is. */
static uint8_t *take_pages(struct carve *carve, size_t count)
{
	uint8_t *at = carve_take(carve, count + 1, DISK_PAGE_BYTES);
	return at ? at + (DISK_PAGE_BYTES - (uintptr_t)at % DISK_PAGE_BYTES) % DISK_PAGE_BYTES : NULL;
}

/* As many records as fit, of the smallest kind, all names, the notes, and the trailer. */
static uint32_t footer_pages_max(const struct disk_options *o)
{
	uint32_t pages = (uint32_t)(o->segment_bytes / DISK_PAGE_BYTES);
	uint32_t notes = (pages < DISK_NOTE_PAGES_MAX ? pages : DISK_NOTE_PAGES_MAX) * DISK_NOTES_A_PAGE;
	return disk_footer_pages(pages / 2 + notes, DISK_NAMES_MAX) + 1;
}

static uint32_t scratch_pages(const struct disk_options *o)
{
	uint32_t record = o->record_bytes_max / DISK_PAGE_BYTES, footer = footer_pages_max(o);
	return record > footer ? record : footer;
}

static struct disk *lay_out(struct carve *carve, const struct disk_options *o)
{
	struct disk *d = carve_take(carve, 1, sizeof(*d));
	uint32_t put_max = PUTS_ALL(o);
	struct disk parts = {
		.options = *o,
		.index = carve_take(carve, 1, disk_index_bytes(o->block_max, o->segment_count)),
		.segments = carve_take(carve, o->segment_count, sizeof(*parts.segments)),
		.puts = carve_take(carve, put_max, sizeof(*parts.puts)),
		.loads = carve_take(carve, o->load_max, sizeof(*parts.loads)),
		.load_digests = carve_take(carve, (size_t)o->load_max * DISK_LAYERS_MAX, sizeof(uint64_t)),
		.digests = carve_take(carve, DISK_LAYERS_MAX, sizeof(uint64_t)),
		.names = carve_take(carve, DISK_NAMES_MAX, DISK_NAME_BYTES),
		.start = {.reads = carve_take(carve, o->read_max, sizeof(*parts.start.reads))},
		.notes = {.list = carve_take(carve, o->note_max, sizeof(*parts.notes.list))},
		.put_heads = take_pages(carve, put_max),
		.load_heads = take_pages(carve, o->load_max),
		.page = take_pages(carve, 1),
		.footer = take_pages(carve, footer_pages_max(o)),
		.scratch = take_pages(carve, scratch_pages(o)),
		.coders = take_pages(carve, (size_t)o->encode_max * (o->record_bytes_max / DISK_PAGE_BYTES)),
	};
	for (int kind = 1; kind < DISK_NOTE_KINDS; kind++)
		parts.notes.maps[kind].slots = carve_take(carve, 1, map_bytes(o->note_max));
	parts.notes.page = take_pages(carve, 1);
	if (d)
		*d = parts;
	return d;
}

size_t disk_bytes(const struct disk_options *options)
{
	struct carve carve = {0};
	lay_out(&carve, options);
	return carve.used;
}

static void check_options(const struct disk_options *o)
{
	assert(o->segment_count >= DISK_SEGMENTS_MIN && o->segment_count <= DISK_SEGMENTS_MAX);
	assert(o->segment_bytes % DISK_PAGE_BYTES == 0 && o->segment_bytes / DISK_PAGE_BYTES < UINT32_MAX);
	assert(o->record_bytes_max % DISK_PAGE_BYTES == 0 && o->record_bytes_max >= 2 * DISK_PAGE_BYTES);
	assert(o->record_bytes_max / DISK_PAGE_BYTES <= DISK_RECORD_PAGES_MAX);
	/* Two records, or one with its head, a page of entries and the one name that it needs, and the trailer. */
	assert(o->segment_bytes >= 2 * (uint64_t)o->record_bytes_max + 3 * DISK_PAGE_BYTES);
	assert(o->put_max > 0 && o->write_max > 0 && o->load_max > 0 && o->read_max > 0 && o->file && o->id != 0);
	assert(o->note_max > 0 && o->encode_max <= DISK_CODERS_MAX);
	assert(o->block_max > o->put_max + DISK_MOVES_MAX);
}

struct disk *disk_init(void *memory, const struct disk_options *options, uint64_t now_ns)
{
	check_options(options);
	struct carve carve = {.memory = memory};
	struct disk *d = lay_out(&carve, options);
	disk_index_init(d->index, options->block_max, options->segment_count);
	d->segment_pages = (uint32_t)(options->segment_bytes / DISK_PAGE_BYTES);
	d->scratch_pages = scratch_pages(options);
	d->segments_free = options->segment_count;
	d->now_ns = d->tokens_ns = now_ns;
	d->serial_next = 1;
	d->id = options->id;
	d->name_count = 1;
	d->names[0][0] = 0;
	disk_log_init(d);
	disk_encode_init(d);
	disk_loads_init(d);
	disk_notes_init(d);
	d->care = (struct care){.state = CARE_HEADS, .entry = DISK_ENTRY_NONE};
	disk_pump(d);
	return d;
}

/* ---- what its parts share */

void disk_submit(struct disk *d, const struct disk_io *io)
{
	assert(io->segment < d->options.segment_count);
	uint64_t stored_bytes = io->stored_bytes ? io->stored_bytes : io->landing_bytes;
	assert(io->kind == DISK_ENCODE || io->offset + io->head_bytes + stored_bytes <= d->options.segment_bytes);
	(void)stored_bytes;
	d->options.file->submit(d->options.file->context, io);
}

void disk_set_state(struct disk *d, uint32_t segment, enum segment_state state)
{
	struct segment *s = &d->segments[segment];
	d->segments_free += (state == SEGMENT_FREE) - (s->state == SEGMENT_FREE);
	s->state = state;
}

void disk_lose(struct disk *d, uint32_t entry, enum disk_gone why)
{
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	struct id128 key = e->key;
	bool pinned = e->pin != LEDGER_UNPINNED && why != DISK_GONE_FORGOTTEN;
	d->segments[e->segment].stale |= why != DISK_GONE_FORGOTTEN;
	if (d->care.entry == entry)
		d->care.entry = e->next;
	disk_index_remove(d->index, entry);
	d->counters.gone[why]++;
	if (pinned)
		disk_notes_gone(d, &key);
	if (d->options.gone)
		d->options.gone(d->options.context, &key, why);
}

void disk_quarantine(struct disk *d, uint32_t entry, enum err e)
{
	d->segments[disk_index_entry(d->index, entry)->segment].damaged = true;
	disk_lose(d, entry, e == ERR_UNSUPPORTED ? DISK_GONE_UNKNOWN : DISK_GONE_BAD);
}

static bool has_its_tag(const struct disk *d, const uint8_t *record, const struct disk_record *r)
{
	const struct disk_file *file = d->options.file;
	uint8_t tag[DISK_TAG_BYTES];
	if (!file->tag)
		return true;
	enum err e = file->tag(file->context, record, record + DISK_PAGE_BYTES, r->stored_bytes, tag);
	return e == ERR_OK && memcmp(tag, record + DISK_TAG_AT, DISK_TAG_BYTES) == 0;
}

/* What is encoded has a sum of its own, so nothing is decoded to look at it. */
static bool payload_is_right(const struct disk *d, const uint8_t *record, const struct disk_record *r)
{
	const uint8_t *payload = record + DISK_PAGE_BYTES;
	if (r->encoding != DISK_ENCODING_PLAIN)
		return hash_xxh3(payload, r->stored_bytes, 0) == r->stored_sum;
	for (uint32_t i = 0; i < r->layer_count; i++)
		if (d->options.file->digest(payload + (size_t)i * r->layer_bytes, r->layer_bytes) != d->digests[i])
			return false;
	return true;
}

enum err disk_verify(struct disk *d, const uint8_t *record, uint32_t pages, const struct id128 *key, struct disk_record *ret_record)
{
	struct disk_record r;
	enum err e = disk_parse_record(record, d->id, &r, d->digests);
	if (e != ERR_OK)
		return e;
	if (r.pages != pages || (key && !id128_equal(&r.key, key)))
		return ERR_CORRUPT;
	if (!payload_is_right(d, record, &r) || !has_its_tag(d, record, &r))
		return ERR_CORRUPT;
	*ret_record = r;
	return ERR_OK;
}

/* A start may have heard of many that are gone: the last number stands for all that are too many, as in tenants.h. */
uint8_t disk_name_number(struct disk *d, const char *name)
{
	for (uint32_t i = 0; i < d->name_count; i++)
		if (strcmp(d->names[i], name) == 0)
			return (uint8_t)i;
	if (d->name_count == DISK_NAMES_MAX)
		return DISK_NAMES_MAX - 1;
	if (d->name_count == DISK_NAMES_MAX - 1)
		name = "other";
	snprintf(d->names[d->name_count], DISK_NAME_BYTES, "%s", name);
	return (uint8_t)d->name_count++;
}

/* Bytes are earned with time, and at most those of a quarter of a second are saved. */
static void earn(int64_t *tokens, uint64_t rate, uint64_t passed_ms)
{
	int64_t most = (int64_t)(rate / 4);
	*tokens += (int64_t)(rate * (passed_ms < 250 ? passed_ms : 250) / 1000);
	if (*tokens > most)
		*tokens = most;
}

static void set_now(struct disk *d, uint64_t now_ns)
{
	uint64_t passed_ms = now_ns > d->tokens_ns ? (now_ns - d->tokens_ns) / 1000000 : 0;
	d->now_ns = now_ns;
	d->tokens_ns += passed_ms * 1000000;
	earn(&d->write_tokens, d->options.write_rate, passed_ms);
	earn(&d->scrub_tokens, d->options.scrub_rate, passed_ms);
}

void disk_pump(struct disk *d)
{
	disk_log_pump(d); /* may free what care waits for */
	if (!d->ready)
		disk_recover_pump(d);
	if (d->ready)
		disk_care_pump(d);
	disk_log_pump(d); /* may write what care read */
	disk_loads_pump(d);
}

/* ---- events */

void disk_done(struct disk *d, uint64_t op, enum err e, uint64_t now_ns)
{
	uint32_t number = (uint32_t)op;
	set_now(d, now_ns);
	d->counters.errors += e != ERR_OK && e != ERR_CORRUPT;
	switch ((enum op_kind)(op >> 32)) {
	case OP_PUT:
	case OP_HEAD:
	case OP_SYNC:
	case OP_FOOTER:
		disk_log_done(d, (enum op_kind)(op >> 32), number, e);
		break;
	case OP_LOAD:
		disk_loads_done(d, number, e);
		break;
	case OP_ENCODE:
		disk_encode_done(d, number, e);
		break;
	case OP_CARE:
		d->care.out = false;
		if (d->ready)
			disk_care_done(d, e);
		else
			disk_recover_done(d, number, e);
		break;
	}
	disk_pump(d);
}

void disk_tick(struct disk *d, uint64_t now_ns)
{
	set_now(d, now_ns);
	disk_pump(d);
}

/* ---- what the store asks */

static struct disk_found found_of(const struct disk *d, const struct disk_entry *e)
{
	return (struct disk_found){e->layer_count, e->layer_bytes, d->names[e->tenant], e->low ? LEDGER_LOW : LEDGER_NORMAL,
				   (enum ledger_pin)e->pin};
}

bool disk_is_ready(const struct disk *d)
{
	return d->ready;
}

uint32_t disk_numbers(const struct disk *d)
{
	return disk_index_end(d->index);
}

uint32_t disk_next(const struct disk *d, uint32_t from, uint32_t end)
{
	uint32_t most = disk_index_end(d->index) < end ? disk_index_end(d->index) : end;
	for (uint32_t i = from; d->ready && i < most; i++)
		if (disk_index_used(d->index, i))
			return i;
	return end;
}

void disk_at(const struct disk *d, uint32_t number, struct id128 *ret_key, struct disk_found *ret_found)
{
	const struct disk_entry *e = disk_index_entry(d->index, number);
	*ret_key = e->key;
	*ret_found = found_of(d, e);
}

uint32_t disk_homes(const struct disk *d)
{
	return disk_index_homes(d->index);
}

bool disk_at_home(const struct disk *d, uint32_t home, uint32_t *step, struct id128 *ret_key)
{
	uint32_t entry = d->ready ? disk_index_at_home(d->index, home, step) : DISK_ENTRY_NONE;
	if (entry != DISK_ENTRY_NONE)
		*ret_key = disk_index_entry(d->index, entry)->key;
	return entry != DISK_ENTRY_NONE;
}

bool disk_find(const struct disk *d, const struct id128 *key, struct disk_found *ret_found)
{
	uint32_t entry = d->ready ? disk_index_find(d->index, key) : DISK_ENTRY_NONE;
	if (entry == DISK_ENTRY_NONE)
		return false;
	if (ret_found)
		*ret_found = found_of(d, disk_index_entry(d->index, entry));
	return true;
}

bool disk_has_room(const struct disk *d, uint32_t count)
{
	uint64_t most = d->options.put_bytes_max;
	bool bytes = most == 0 || d->put_pages * DISK_PAGE_BYTES < most;
	return (uint64_t)d->put_count + count <= d->options.put_max && bytes && !disk_rests(d);
}

enum err disk_put(struct disk *d, const struct ledger_block *block, uint32_t landing, uint64_t cookie)
{
	uint32_t pages = disk_record_pages(block->layer_count, block->layer_bytes);
	if (pages == 0 || (uint64_t)pages * DISK_PAGE_BYTES > d->options.record_bytes_max)
		return ERR_TOO_LARGE;
	if (disk_find(d, &block->key, NULL))
		return ERR_EXISTS;
	if (disk_rests(d))
		return d->stopped;
	if (d->put_count >= d->options.put_max)
		return ERR_AGAIN;
	uint32_t number = disk_log_take_put(d);
	struct put *put = &d->puts[number];
	put->cookie = cookie;
	put->key = block->key;
	put->layer_count = block->layer_count;
	put->layer_bytes = block->layer_bytes;
	put->tenant = disk_name_number(d, block->tenant ? block->tenant : "");
	put->low = block->priority == LEDGER_LOW;
	put->landing = landing;
	put->pages = put->plain_pages = pages;
	put->from = SEGMENT_NONE;
	put->head = put->own_head;
	struct disk_record record = {
		.key = block->key,
		.parent = block->parent,
		.has_parent = block->has_parent,
		.compat = block->compat,
		.layer_count = block->layer_count,
		.layer_bytes = block->layer_bytes,
		.digests = block->digests,
		.low = put->low,
		.is_signed = d->options.file->tag != NULL,
	};
	snprintf(record.tenant, sizeof(record.tenant), "%s", block->tenant ? block->tenant : "");
	disk_format_record(put->head, &record);
	d->put_count++;
	d->put_pages += pages;
	d->counters.puts++;
	disk_log_push(d, number, false);
	disk_encode_push(d, number);
	return ERR_OK;
}

void disk_status(const struct disk *d, struct disk_status *ret_status)
{
	*ret_status = (struct disk_status){
		.ready = d->ready,
		.stopped = d->stopped,
		.blocks = disk_index_count(d->index),
		.puts = d->put_count,
		.put_bytes = d->put_pages * DISK_PAGE_BYTES,
		.loads = d->load_count,
		.segments = d->options.segment_count,
		.segments_free = d->segments_free,
		.notes = d->notes.count,
		.bytes_used = (d->options.segment_count - d->segments_free) * d->options.segment_bytes,
		.bytes_max = d->options.segment_count * d->options.segment_bytes,
		.bytes_stored = disk_index_pages_all(d->index) * DISK_PAGE_BYTES,
		.bytes_plain = disk_index_pages_plain(d->index) * DISK_PAGE_BYTES,
		.counters = d->counters,
	};
}

void disk_check(const struct disk *d)
{
	uint32_t free_count = 0, open_count = 0;
	disk_index_check(d->index);
	for (uint32_t i = 0; i < d->options.segment_count; i++) {
		const struct segment *s = &d->segments[i];
		free_count += s->state == SEGMENT_FREE;
		open_count += s->state == SEGMENT_OPEN;
		bool empty = disk_index_first(d->index, i) == DISK_ENTRY_NONE;
		assert(empty || (s->state != SEGMENT_FREE && s->state != SEGMENT_TRIMMING));
		assert(s->readers == 0 || (s->state != SEGMENT_FREE && s->state != SEGMENT_TRIMMING));
	}
	assert(free_count == d->segments_free);
	assert(open_count == (d->log.state != LOG_NONE));
	disk_log_check(d);
	disk_encode_check(d);
	disk_notes_check(d);
	disk_loads_check(d);
}
