/* store_disk - a store's blocks on their way to its disk, and the disk itself (store_loads.c: the way back).
 *
 *   sealed --put--> (being written: stays in its slot) --written--> cached --durable--> OfferDone, with STORE_PERSIST_ACK
 *
 * With STORE_PERSIST_BEHIND, what comes while the disk is stopped or busy is cached at once, and written when there is room
 * again, if memory still has it. */
#include <assert.h>
#include <string.h>

#include "base/carve.h"
#include "kvstore/store_impl.h"

enum { UNWRITTEN_WORDS = 256 }; /* of 64 entries, looked at in one go: a few microseconds */

/* ---- memory */

static void on_written(void *context, uint64_t cookie);
static void on_durable(void *context, uint64_t cookie, enum err e);

static void on_gone(void *context, const struct id128 *key, enum disk_gone why)
{
	struct store *s = context;
	if (s->options.disk_gone)
		s->options.disk_gone(s->options.disk_context, key, why);
}

static struct disk_options disk_options(const struct store_options *options, struct store *store)
{
	struct disk_options disk = *options->disk;
	disk.context = store;
	disk.written = on_written;
	disk.durable = on_durable;
	disk.loaded = store_loads_done;
	disk.gone = on_gone;
	return disk;
}

static uint32_t words_of(const struct store_options *options)
{
	return (options->ledger.entry_max + 63) / 64;
}

static void *lay_out(struct carve *carve, const struct store_options *o, struct store_disk *ret_parts)
{
	struct disk_options disk = disk_options(o, NULL);
	*ret_parts = (struct store_disk){
		.writes = carve_take(carve, disk.put_max, sizeof(struct disk_write)),
		.reads = carve_take(carve, disk.load_max, sizeof(struct disk_read)),
		.wants = carve_take(carve, o->hold_max, sizeof(struct disk_want)),
		.lookups = carve_take(carve, o->lookup_max, sizeof(struct disk_lookup)),
		.dirty = carve_take(carve, o->lookup_max, sizeof(uint32_t)),
		.unwritten = carve_take(carve, words_of(o), sizeof(uint64_t)),
		.no_digests = carve_take(carve, o->ledger.layers_max, sizeof(uint64_t)),
		.want_max = o->hold_max,
	};
	return carve_take(carve, 1, disk_bytes(&disk));
}

size_t store_disk_bytes(const struct store_options *options)
{
	struct carve carve = {0};
	struct store_disk parts;
	if (options->disk)
		lay_out(&carve, options, &parts);
	return carve.used;
}

void store_disk_init(struct store *s)
{
	struct store_disk *d = &s->d;
	if (!s->options.disk)
		return;
	struct carve carve = {.memory = d->memory};
	void *memory = lay_out(&carve, &s->options, d);
	d->options = disk_options(&s->options, s);
	s->options.disk = &d->options;
	for (uint32_t i = 0; i < d->options.put_max; i++)
		d->writes[i].next_free = i + 1 < d->options.put_max ? i + 1 : WANT_NONE;
	for (uint32_t i = 0; i < d->options.load_max; i++)
		d->reads[i].next_free = i + 1 < d->options.load_max ? i + 1 : WANT_NONE;
	for (uint32_t i = 0; i < d->want_max; i++)
		d->wants[i].next = i + 1 < d->want_max ? i + 1 : WANT_NONE;
	for (uint32_t i = 0; i < s->options.lookup_max; i++)
		d->lookups[i].want_first = WANT_NONE;
	memset(d->unwritten, 0, words_of(&s->options) * sizeof(*d->unwritten));
	d->disk = disk_init(memory, &d->options, 0);
	d->patience_ns = STORE_PATIENCE_NS;
}

/* ---- to the disk */

bool store_on_disk(const struct store *s, const struct id128 *key)
{
	return s->d.disk && disk_find(s->d.disk, key, NULL);
}

bool store_next_on_disk(const struct store *s, uint32_t from, uint32_t *ret_next, struct id128 *ret_key,
			struct disk_found *ret_found)
{
	uint32_t all = s->d.disk ? disk_numbers(s->d.disk) : 0, number = all ? disk_next(s->d.disk, from, all) : 0;
	if (number >= all)
		return false;
	disk_at(s->d.disk, number, ret_key, ret_found);
	*ret_next = number + 1;
	return true;
}

bool store_waits_for_disk(const struct store *s)
{
	return s->d.disk && s->options.persist == STORE_PERSIST_ACK;
}

static bool is_stopped(const struct store *s)
{
	struct disk_status status;
	disk_status(s->d.disk, &status);
	return status.stopped != ERR_OK;
}

bool store_disk_takes(struct store *s)
{
	struct store_disk *d = &s->d;
	d->blocked = false;
	/* A disk that has stopped answers with its error, and memory takes the block all the same. */
	if (!d->disk || s->options.persist == STORE_PERSIST_NONE || disk_has_room(d->disk, s->reading_count + 1) || is_stopped(s))
		return true;
	if (!store_waits_for_disk(s) && d->patience_ns <= 0)
		return true; /* it is not a burst: memory has to do */
	d->blocked = true;
	return false;
}

/* For how long offers may yet wait for a disk that is busy, when they need not: a burst is worth half a second, and one
 * sixteenth of the time. */
static void count_patience(struct store_disk *d, uint64_t now_ns)
{
	uint64_t passed_ns = now_ns > d->patience_at_ns ? now_ns - d->patience_at_ns : 0;
	if (passed_ns > STORE_PATIENCE_NS)
		passed_ns = STORE_PATIENCE_NS;
	d->patience_at_ns = now_ns;
	d->patience_ns += d->blocked ? -(int64_t)passed_ns : (int64_t)(passed_ns / 16);
	if (d->patience_ns > (int64_t)STORE_PATIENCE_NS)
		d->patience_ns = (int64_t)STORE_PATIENCE_NS;
}

static enum err begin_write(struct store *s, uint32_t entry, bool held, uint32_t offer, enum ledger_pin pin)
{
	struct store_disk *d = &s->d;
	uint32_t number = d->write_free;
	const struct ledger_block *block = ledger_block(s->ledger, entry);
	if (number == WANT_NONE)
		return ERR_AGAIN;
	enum err e = disk_put(d->disk, block, ledger_slot(s->ledger, entry), number);
	if (e != ERR_OK)
		return e;
	d->write_free = d->writes[number].next_free;
	d->writes[number] = (struct disk_write){.used = true, .held = held, .entry = entry, .offer = offer, .pin = pin, .key = block->key};
	return ERR_OK;
}

static enum err write_sealed(struct store *s, uint32_t entry, uint32_t offer)
{
	if (!s->d.disk || s->options.persist == STORE_PERSIST_NONE)
		return ERR_UNSUPPORTED;
	bool ack = s->options.persist == STORE_PERSIST_ACK;
	if (!ack && !disk_has_room(s->d.disk, 1))
		return ERR_AGAIN;
	return begin_write(s, entry, false, ack ? offer : OFFER_NONE, s->offers[offer].pin);
}

/* As it is where it was copied from, if this store may pin as much. */
static void pin_copy(struct store *s, uint32_t entry, enum ledger_pin pin)
{
	if (pin != LEDGER_UNPINNED && ledger_pin(s->ledger, entry, pin) != ERR_OK)
		s->counters.pins_refused++;
}

void store_disk_mark(struct store *s, uint32_t entry, bool unwritten)
{
	uint64_t *word = &s->d.unwritten[entry / 64], bit = (uint64_t)1 << entry % 64;
	s->d.unwritten_count += (uint32_t)unwritten - (*word & bit ? 1 : 0);
	*word = unwritten ? *word | bit : *word & ~bit;
}

/* What the disk could not take, with STORE_PERSIST_BEHIND, is written later; what it never can is not. */
static bool is_to_be_written(const struct store *s, enum err e)
{
	return s->options.persist == STORE_PERSIST_BEHIND && e != ERR_OK && e != ERR_EXISTS && e != ERR_TOO_LARGE;
}

void store_disk_seal(struct store *s, uint32_t entry, uint32_t offer)
{
	const struct id128 key = ledger_block(s->ledger, entry)->key;
	enum err e = write_sealed(s, entry, offer);
	if (s->d.disk)
		store_disk_mark(s, entry, is_to_be_written(s, e));
	if (e == ERR_OK) {
		ledger_seal_writing(s->ledger, entry);
	} else {
		ledger_seal(s->ledger, entry);
		pin_copy(s, entry, s->offers[offer].pin);
	}
	if (e == ERR_OK && store_waits_for_disk(s)) {
		s->offers[offer].state = OFFER_WRITING;
		return;
	}
	bool lost = store_waits_for_disk(s) && e != ERR_EXISTS;
	s->counters.disk_unwritten += s->d.disk && e != ERR_OK && e != ERR_EXISTS && e != ERR_UNSUPPORTED;
	offers_answer(s, offer, lost ? e : ERR_OK);
	if (lost)
		offers_answer_waiting(s, &key, e);
	else
		offers_wake(s, &key, true);
}

bool store_disk_writes(const struct store *s, const struct id128 *key)
{
	for (uint32_t i = 0; s->d.disk && i < s->options.disk->put_max; i++)
		if (s->d.writes[i].used && id128_equal(&s->d.writes[i].key, key))
			return true;
	return false;
}

enum err store_disk_offered(struct store *s, uint32_t entry)
{
	const struct id128 *key = &ledger_block(s->ledger, entry)->key;
	if (!store_waits_for_disk(s) || store_on_disk(s, key))
		return ERR_EXISTS;
	if (store_disk_writes(s, key))
		return ERR_OK;
	/* In memory only: it was sealed while the disk could not take it, or the disk has lost it. */
	ledger_hold(s->ledger, entry);
	enum err e = disk_has_room(s->d.disk, s->reading_count + 1) || is_stopped(s) ? begin_write(s, entry, true, OFFER_NONE, LEDGER_UNPINNED) : ERR_AGAIN;
	if (e != ERR_OK)
		ledger_release(s->ledger, entry);
	return e;
}

void store_disk_drop_offer(struct store *s, uint32_t offer)
{
	for (uint32_t i = 0; i < s->options.disk->put_max; i++)
		if (s->d.writes[i].used && s->d.writes[i].offer == offer)
			s->d.writes[i].offer = OFFER_NONE;
}

static void on_written(void *context, uint64_t cookie)
{
	struct store *s = context;
	struct disk_write *w = &s->d.writes[cookie];
	assert(w->used && w->entry != LEDGER_NONE);
	if (w->held)
		ledger_release(s->ledger, w->entry);
	else
		ledger_written(s->ledger, w->entry);
	pin_copy(s, w->entry, w->pin);
	w->entry = LEDGER_NONE;
}

/* It was pinned while it was in memory only. */
static void pin_written(struct store *s, const struct id128 *key)
{
	uint32_t entry = store_served(s, key);
	enum ledger_pin pin = entry == LEDGER_NONE ? LEDGER_UNPINNED : ledger_pinned(s->ledger, entry);
	uint64_t note;
	if (pin != LEDGER_UNPINNED && disk_pin(s->d.disk, key, pin, &note) != ERR_OK)
		s->counters.pins_refused++;
}

static void on_durable(void *context, uint64_t cookie, enum err e)
{
	struct store *s = context;
	struct disk_write *w = &s->d.writes[cookie];
	const struct id128 key = w->key;
	uint32_t offer = w->offer;
	if (w->entry != LEDGER_NONE)
		on_written(context, cookie);
	*w = (struct disk_write){.next_free = s->d.write_free};
	s->d.write_free = (uint32_t)cookie;
	s->counters.disk_unwritten += e != ERR_OK;
	if (e == ERR_OK)
		pin_written(s, &key);
	else if (is_to_be_written(s, e) && store_served(s, &key) != LEDGER_NONE)
		store_disk_mark(s, store_served(s, &key), true);
	if (offer != OFFER_NONE)
		offers_answer(s, offer, e);
	if (store_waits_for_disk(s))
		offers_answer_waiting(s, &key, e == ERR_OK ? ERR_EXISTS : e);
}

/* ---- what could not be written when it came */

/* true: it is on its way, or need not be; false: not now. */
static bool write_late(struct store *s, uint32_t entry)
{
	enum ledger_state state = ledger_state(s->ledger, entry);
	if (state != LEDGER_CACHED && state != LEDGER_HELD)
		return true; /* it went meanwhile */
	ledger_hold(s->ledger, entry);
	enum err e = begin_write(s, entry, true, OFFER_NONE, LEDGER_UNPINNED);
	if (e != ERR_OK)
		ledger_release(s->ledger, entry);
	return !is_to_be_written(s, e);
}

/* As long as half of the queue is left for what comes. */
static void write_what_was_not(struct store *s)
{
	struct store_disk *d = &s->d;
	uint32_t words = words_of(&s->options), half = (d->options.put_max + 1) / 2;
	for (uint32_t i = 0; i < UNWRITTEN_WORDS && d->unwritten_count > 0 && disk_has_room(d->disk, half); i++) {
		uint64_t word = d->unwritten[d->unwritten_next];
		for (; word != 0 && disk_has_room(d->disk, half); word &= word - 1) {
			uint32_t entry = d->unwritten_next * 64 + (uint32_t)__builtin_ctzll(word);
			if (!write_late(s, entry))
				return;
			store_disk_mark(s, entry, false);
		}
		if (word == 0)
			d->unwritten_next = (d->unwritten_next + 1) % words;
	}
}

/* ---- turns */

void store_disk_pump(struct store *s, uint64_t now_ns)
{
	struct store_disk *d = &s->d;
	if (!d->disk)
		return;
	count_patience(d, now_ns);
	disk_tick(d->disk, now_ns);
	if (disk_is_ready(d->disk))
		write_what_was_not(s);
	store_loads_answer(s);
}

bool store_disk_idle(const struct store *s)
{
	struct disk_status status = {0};
	if (s->d.disk)
		disk_status(s->d.disk, &status);
	return status.puts == 0 || status.stopped != ERR_OK;
}

void store_disk_report(const struct store *s, Wire__DiskLoad *load)
{
	struct disk_status t;
	if (!s->d.disk)
		return;
	disk_status(s->d.disk, &t);
	load->blocks = t.blocks;
	load->bytes_used = t.bytes_used;
	load->bytes_total = t.bytes_max;
	load->stopped = t.stopped;
	load->lag = t.puts;
	load->lag_bytes = t.put_bytes;
	load->loads = t.counters.loads_good;
	load->loads_failed = t.counters.loads_failed;
	load->bytes_written = t.counters.bytes_put;
	load->bytes_moved = t.counters.bytes_moved;
	load->bytes_read = t.counters.bytes_loaded;
	load->gone_room = t.counters.gone[DISK_GONE_ROOM];
	load->gone_bad = t.counters.gone[DISK_GONE_BAD];
	load->unwritten = s->counters.disk_unwritten;
	load->errors = t.counters.errors;
	load->ready = t.ready;
	load->bytes_written_plain = t.counters.bytes_put_plain;
	load->bytes_stored = t.bytes_stored;
	load->bytes_plain = t.bytes_plain;
}

void store_disk_check(const struct store *s)
{
	const struct store_disk *d = &s->d;
	if (!d->disk)
		return;
	disk_check(d->disk);
	uint32_t free_count = 0, missing = 0, wanted = 0, sealed = 0;
	for (uint32_t i = d->want_free; i != WANT_NONE; i = d->wants[i].next)
		free_count++;
	for (uint32_t i = 0; i < s->options.lookup_max; i++)
		missing += d->lookups[i].missing;
	for (uint32_t i = 0; i < s->options.disk->load_max; i++)
		for (uint32_t w = d->reads[i].used ? d->reads[i].want_first : WANT_NONE; w != WANT_NONE; w = d->wants[w].next)
			wanted += d->wants[w].lookup != WANT_NONE;
	uint32_t unwritten = 0;
	for (uint32_t i = 0; i < words_of(&s->options); i++)
		unwritten += (uint32_t)__builtin_popcountll(d->unwritten[i]);
	assert(unwritten == d->unwritten_count);
	for (uint32_t i = 0; i < s->options.disk->put_max; i++)
		sealed += d->writes[i].used && !d->writes[i].held && d->writes[i].entry != LEDGER_NONE;
	struct ledger_counts counts;
	ledger_counts(s->ledger, &counts);
	assert(missing == wanted && free_count <= d->want_max - wanted && counts.entries[LEDGER_SEALED] == sealed);
}
