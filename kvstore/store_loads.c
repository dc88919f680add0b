/* store_loads - blocks that memory has evicted come back from disk when they are looked up, or asked for.
 *
 *   look-up of a key on disk --> entry being read --loaded, verified--> cached, held, and told by a later Found
 *                                    +--anything else--> gone from memory; the look-up is told that this was all */
#include <assert.h>

#include "kvstore/store_impl.h"

void store_disk_open_lookup(struct store *s, uint32_t lookup, uint32_t peer, uint64_t op, const struct id128 *compat, uint32_t account)
{
	if (s->d.disk)
		s->d.lookups[lookup] = (struct disk_lookup){.peer = peer, .op = op, .compat = *compat, .account = account, .want_first = WANT_NONE};
}

static struct disk_read *read_of(struct store *s, uint32_t entry)
{
	for (uint32_t i = 0; i < s->options.disk->load_max; i++)
		if (s->d.reads[i].used && s->d.reads[i].entry == entry)
			return &s->d.reads[i];
	return NULL;
}

/* An entry, a slot on the account of whose block it is, and the disk is asked; NULL: not now. */
static struct disk_read *begin_read(struct store *s, const struct id128 *key)
{
	struct store_disk *d = &s->d;
	struct disk_found found;
	uint32_t number = d->read_free, entry;
	if (number == WANT_NONE || !disk_find(d->disk, key, &found))
		return NULL;
	struct ledger_block block = {.key = *key, .digests = d->no_digests, .tenant = found.tenant,
				     .priority = found.priority, .layer_count = found.layer_count, .layer_bytes = found.layer_bytes,
				     .from_disk = true};
	if (ledger_offer(s->ledger, &block, &entry) != ERR_OK)
		return NULL;
	enum err e = ledger_read(s->ledger, entry);
	if (e == ERR_OK)
		e = disk_load(d->disk, key, ledger_slot(s->ledger, entry), number);
	if (e != ERR_OK) {
		bool reading = ledger_state(s->ledger, entry) == LEDGER_READING;
		ledger_withdraw(s->ledger, entry);
		if (reading)
			ledger_landing_free(s->ledger, entry);
		return NULL;
	}
	d->read_free = d->reads[number].next_free;
	d->reads[number] = (struct disk_read){.used = true, .entry = entry, .want_first = WANT_NONE};
	return &d->reads[number];
}

bool store_disk_fetch(struct store *s, const struct id128 *key)
{
	return begin_read(s, key) != NULL;
}

void store_disk_want(struct store *s, uint32_t lookup, uint32_t index, const struct id128 *key)
{
	struct store_disk *d = &s->d;
	uint32_t number = d->want_free;
	if (!d->disk || number == WANT_NONE || d->lookups[lookup].missing >= s->options.found_max)
		return;
	uint32_t entry = ledger_lookup(s->ledger, key);
	struct disk_lookup *l = &d->lookups[lookup];
	struct disk_read *r = NULL;
	if (entry == LEDGER_NONE)
		r = begin_read(s, key);
	else if (ledger_state(s->ledger, entry) == LEDGER_READING)
		r = read_of(s, entry); /* NULL: it is being read from who offers it */
	if (!r)
		return;
	struct disk_want *w = &d->wants[number];
	d->want_free = w->next;
	*w = (struct disk_want){.lookup = lookup, .index = index, .entry = LEDGER_NONE, .next = r->want_first,
				.next_of_lookup = l->want_first};
	r->want_first = l->want_first = number;
	l->missing++;
}

bool store_disk_expects(struct store *s, uint32_t lookup, size_t found)
{
	if (!s->d.disk)
		return false;
	s->d.lookups[lookup].found = (uint32_t)found;
	return s->d.lookups[lookup].missing > 0;
}

static void free_want(struct store_disk *d, uint32_t number)
{
	d->wants[number].next = d->want_free;
	d->want_free = number;
}

static void set_dirty(struct store_disk *d, uint32_t lookup)
{
	if (d->lookups[lookup].dirty)
		return;
	d->lookups[lookup].dirty = true;
	d->dirty[d->dirty_count++] = lookup;
}

void store_disk_close_lookup(struct store *s, uint32_t lookup)
{
	struct store_disk *d = &s->d;
	if (!d->disk)
		return;
	struct disk_lookup *l = &d->lookups[lookup];
	for (uint32_t i = l->want_first, next; i != WANT_NONE; i = next) {
		next = d->wants[i].next_of_lookup;
		d->wants[i].lookup = WANT_NONE;
		if (d->wants[i].done)
			free_want(d, i);
	}
	for (uint32_t i = 0; l->dirty && i < d->dirty_count; i++)
		if (d->dirty[i] == lookup)
			d->dirty[i--] = d->dirty[--d->dirty_count];
	*l = (struct disk_lookup){.want_first = WANT_NONE};
}

/* It is there, or is not: whoever wanted it hears of that with the next answer. */
static void settle_want(struct store *s, uint32_t number, uint32_t entry)
{
	struct store_disk *d = &s->d;
	struct disk_want *w = &d->wants[number];
	if (w->lookup == WANT_NONE) {
		free_want(d, number);
		return;
	}
	struct disk_lookup *l = &d->lookups[w->lookup];
	w->done = true;
	l->missing--;
	set_dirty(d, w->lookup);
	bool fits = entry != LEDGER_NONE && id128_equal(&ledger_block(s->ledger, entry)->compat, &l->compat);
	if (!fits || holds_add(s->holds, w->lookup, entry) != ERR_OK)
		return;
	ledger_hold(s->ledger, entry);
	w->entry = entry;
	uint64_t bytes = ledger_block_bytes(ledger_block(s->ledger, entry));
	s->counters.disk_hits++;
	s->counters.disk_bytes_found += bytes;
	store_account_found(s, l->account, 1, bytes);
}

/* Offers waited for the load.  Its record may have gone for room meanwhile: then the block is in memory only, and not durable. */
static void wake_offers(struct store *s, uint32_t entry, const struct id128 *key, bool loaded)
{
	if (!loaded || !store_waits_for_disk(s) || store_on_disk(s, key) || s->waiting_count == 0) {
		offers_wake(s, key, loaded);
		return;
	}
	enum err e = store_disk_offered(s, entry);
	if (e != ERR_OK)
		offers_answer_waiting(s, key, e);
}

/* As it is on disk, if that may be: what is pinned there stays in any case. */
static void pin_loaded(struct store *s, uint32_t entry)
{
	struct disk_found found;
	if (!disk_find(s->d.disk, &ledger_block(s->ledger, entry)->key, &found) || found.pin == LEDGER_UNPINNED)
		return;
	if (ledger_pin(s->ledger, entry, found.pin) != ERR_OK)
		s->counters.pins_refused++;
}

void store_loads_done(void *context, uint64_t cookie, enum err e, const struct ledger_block *block)
{
	struct store *s = context;
	struct disk_read *r = &s->d.reads[cookie];
	uint32_t entry = r->entry;
	const struct id128 key = ledger_block(s->ledger, entry)->key;
	assert(r->used);
	if (e == ERR_OK) {
		ledger_complete(s->ledger, entry, block);
		ledger_seal_passing(s->ledger, entry);
		store_disk_mark(s, entry, false);
		pin_loaded(s, entry);
		replicate_loaded(s->replicate, entry, s->now_ns);
	}
	for (uint32_t i = r->want_first, next; i != WANT_NONE; i = next) {
		next = s->d.wants[i].next;
		settle_want(s, i, e == ERR_OK ? entry : LEDGER_NONE);
	}
	*r = (struct disk_read){.next_free = s->d.read_free};
	s->d.read_free = (uint32_t)cookie;
	if (e != ERR_OK) {
		ledger_withdraw(s->ledger, entry);
		ledger_landing_free(s->ledger, entry);
	}
	wake_offers(s, entry, &key, e == ERR_OK);
}

/* What has come since the last answer. */
static void answer_lookup(struct store *s, uint32_t lookup)
{
	struct store_disk *d = &s->d;
	struct disk_lookup *l = &d->lookups[lookup];
	size_t count = 0;
	for (uint32_t *at = &l->want_first; *at != WANT_NONE;) {
		uint32_t number = *at;
		struct disk_want *w = &d->wants[number];
		if (!w->done) {
			at = &w->next_of_lookup;
			continue;
		}
		if (w->entry != LEDGER_NONE)
			store_add_found(s, count++, w->index, w->entry);
		*at = w->next_of_lookup;
		free_want(d, number);
	}
	l->dirty = false;
	l->found += (uint32_t)count;
	store_send_found(s, l->peer, l->op, count, l->missing > 0);
	if (l->missing == 0 && l->found == 0)
		store_release(s, lookup);
}

void store_loads_answer(struct store *s)
{
	while (s->d.dirty_count > 0)
		answer_lookup(s, s->d.dirty[--s->d.dirty_count]);
}
