/* disk_loads - blocks on their way back into memory. */
#include <assert.h>

#include "base/planted.h"
#include "kvstore/disk_impl.h"

/* The first try, and once more: what a disk read wrongly once may lie there rightly. */
enum { TRIES_MAX = 2 };

void disk_loads_init(struct disk *d)
{
	for (uint32_t i = 0; i < d->options.load_max; i++)
		d->loads[i] = (struct load){.head = d->load_heads + (size_t)i * DISK_PAGE_BYTES,
					    .digests = d->load_digests + (size_t)i * DISK_LAYERS_MAX,
					    .next = i + 1 < d->options.load_max ? i + 1 : LOAD_NONE};
	d->load_free = 0;
	d->load_first = d->load_last = LOAD_NONE;
}

enum err disk_load(struct disk *d, const struct id128 *key, uint32_t landing, uint64_t cookie)
{
	uint32_t number = d->load_free;
	struct disk_found found;
	if (!disk_find(d, key, &found))
		return ERR_NOT_FOUND;
	if (number == LOAD_NONE)
		return ERR_AGAIN;
	struct load *load = &d->loads[number];
	d->load_free = load->next;
	load->state = LOAD_QUEUED;
	load->cookie = cookie;
	load->key = *key;
	load->landing = landing;
	load->layer_count = found.layer_count;
	load->layer_bytes = found.layer_bytes;
	load->tries = 0;
	load->next = LOAD_NONE;
	if (d->load_first == LOAD_NONE)
		d->load_first = number;
	else
		d->loads[d->load_last].next = number;
	d->load_last = number;
	d->load_count++;
	d->counters.loads++;
	return ERR_OK;
}

static void end_load(struct disk *d, uint32_t number, enum err e, const struct ledger_block *block)
{
	struct load *load = &d->loads[number];
	uint64_t cookie = load->cookie;
	load->state = LOAD_FREE;
	load->next = d->load_free;
	d->load_free = number;
	d->load_count--;
	d->counters.loads_good += e == ERR_OK;
	d->counters.loads_failed += e != ERR_OK;
	d->options.loaded(d->options.context, cookie, e, block);
}

/* Its entry, if what is there still fits the landing. */
static uint32_t find_entry(const struct disk *d, const struct load *load)
{
	uint32_t entry = disk_index_find(d->index, &load->key);
	if (entry == DISK_ENTRY_NONE)
		return DISK_ENTRY_NONE;
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	return e->layer_count == load->layer_count && e->layer_bytes == load->layer_bytes ? entry : DISK_ENTRY_NONE;
}

static void begin(struct disk *d, uint32_t number)
{
	struct load *load = &d->loads[number];
	uint32_t entry = find_entry(d, load);
	if (entry == DISK_ENTRY_NONE) {
		end_load(d, number, ERR_NOT_FOUND, NULL);
		return;
	}
	const struct disk_entry *e = disk_index_entry(d->index, entry);
	load->state = LOAD_READING;
	load->tries++;
	load->place = (struct disk_place){d->segments[e->segment].serial, e->segment, e->page};
	load->pages = e->pages;
	bool encoded = e->pages != disk_record_pages(e->layer_count, e->layer_bytes);
	d->segments[e->segment].readers++;
	d->load_reading++;
	struct disk_io io = {
		.op = op_of(OP_LOAD, number),
		.kind = DISK_READ,
		.segment = e->segment,
		.offset = (uint64_t)e->page * DISK_PAGE_BYTES,
		.head = load->head,
		.head_bytes = DISK_PAGE_BYTES,
		.landing = load->landing,
		.landing_bytes = load->layer_count * load->layer_bytes,
		.layer_bytes = load->layer_bytes,
		.ret_digests = load->digests,
		.stored_bytes = encoded ? (e->pages - 1) * DISK_PAGE_BYTES : 0,
		.tag = d->options.file->tag ? load->tag : NULL,
	};
	disk_submit(d, &io);
}

void disk_loads_pump(struct disk *d)
{
	while (d->load_first != LOAD_NONE && d->load_reading < d->options.read_max) {
		uint32_t number = d->load_first;
		d->load_first = d->loads[number].next;
		begin(d, number);
	}
}

/* Is what landed the block that was asked for?  Its header's digests: d->digests. */
static enum err judge(struct disk *d, const struct load *load, struct disk_record *ret_record)
{
	struct disk_record r;
	enum err e = disk_parse_record(load->head, d->id, &r, d->digests);
	if (e != ERR_OK)
		return e;
	if (!id128_equal(&r.key, &load->key) || r.layer_count != load->layer_count || r.layer_bytes != load->layer_bytes)
		return ERR_CORRUPT;
	if (r.pages != load->pages)
		return ERR_CORRUPT;
	if (r.place.serial != load->place.serial || r.place.segment != load->place.segment || r.place.page != load->place.page)
		return ERR_CORRUPT;
	if (!planted(DISK_DIGEST_NOT_CHECKED) && memcmp(load->digests, d->digests, r.layer_count * sizeof(uint64_t)) != 0)
		return ERR_CORRUPT;
	if (d->options.file->tag && memcmp(load->tag, load->head + DISK_TAG_AT, DISK_TAG_BYTES) != 0)
		return ERR_CORRUPT;
	*ret_record = r;
	return ERR_OK;
}

static void end_bad(struct disk *d, uint32_t number, enum err e)
{
	struct load *load = &d->loads[number];
	d->counters.reads_bad++;
	if (load->tries < TRIES_MAX) {
		begin(d, number);
		return;
	}
	/* Still there where it was read?  Then it is the record that is bad. */
	uint32_t entry = disk_index_find(d->index, &load->key);
	if (e != ERR_IO && entry != DISK_ENTRY_NONE) {
		const struct disk_entry *at = disk_index_entry(d->index, entry);
		if (at->segment == load->place.segment && at->page == load->place.page)
			disk_quarantine(d, entry, e);
	}
	end_load(d, number, e, NULL);
}

void disk_loads_done(struct disk *d, uint32_t number, enum err e)
{
	struct load *load = &d->loads[number];
	struct disk_record r;
	assert(number < d->options.load_max && load->state == LOAD_READING);
	d->segments[load->place.segment].readers--;
	d->load_reading--;
	if (e == ERR_CORRUPT) { /* not decoded; if that is because nobody knows how, the header says so */
		e = judge(d, load, &r);
		e = e == ERR_OK ? ERR_CORRUPT : e;
	} else {
		e = e == ERR_OK ? judge(d, load, &r) : ERR_IO;
	}
	if (e != ERR_OK) {
		end_bad(d, number, e);
		return;
	}
	uint32_t entry = disk_index_find(d->index, &load->key);
	if (entry != DISK_ENTRY_NONE)
		disk_index_hit(d->index, entry);
	d->counters.bytes_loaded += r.stored_bytes;
	struct ledger_block block = {.key = r.key, .parent = r.parent, .has_parent = r.has_parent, .compat = r.compat,
				     .layer_count = r.layer_count, .layer_bytes = r.layer_bytes, .digests = r.digests, .tenant = r.tenant,
				     .priority = r.low ? LEDGER_LOW : LEDGER_NORMAL};
	end_load(d, number, ERR_OK, &block);
}

void disk_loads_check(const struct disk *d)
{
	uint32_t count = 0, reading = 0, queued = 0, listed = 0;
	for (uint32_t i = 0; i < d->options.load_max; i++) {
		count += d->loads[i].state != LOAD_FREE;
		reading += d->loads[i].state == LOAD_READING;
		queued += d->loads[i].state == LOAD_QUEUED;
	}
	for (uint32_t i = d->load_first; i != LOAD_NONE; i = d->loads[i].next)
		listed++;
	assert(count == d->load_count && reading == d->load_reading && queued == listed);
}
