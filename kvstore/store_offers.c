/* store_offers - offered blocks on their way into the store: the queue, the reads, the verdict.  What comes after it, with a
 * disk: store_disk.c. */
#include <assert.h>
#include <string.h>

#include "base/planted.h"
#include "kvstore/store_impl.h"
#include "proto/job.h"

/* The op of a read: serial of the reading, its index, the layer. */
static uint64_t op_of(const struct store *s, uint32_t index, uint32_t layer)
{
	return (uint64_t)s->readings[index].serial << 32 | (uint64_t)index << 16 | layer;
}

static struct reading *reading_of(struct store *s, uint64_t op, uint32_t *ret_layer)
{
	uint32_t index = op >> 16 & 0xffff;
	uint32_t layer = op & 0xffff;
	if (index >= s->options.reading_max)
		return NULL;
	struct reading *r = &s->readings[index];
	if (!r->used || r->serial != op >> 32 || layer >= r->layer_count)
		return NULL;
	*ret_layer = layer;
	return r;
}

static bool bit_get(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static bool bit_set(uint64_t *bits, uint32_t i)
{
	bool was = bit_get(bits, i);
	bits[i / 64] |= (uint64_t)1 << (i % 64);
	return was;
}

/* A peer's name of its offer as a key of a table: a number for a number, and mixed, so that ops that count spread. */
static struct id128 op_key(uint32_t peer, uint64_t op)
{
	struct id128 key = {{0}};
	op = (op ^ op >> 32) * 0x9e3779b97f4a7c15u;
	op ^= op >> 29;
	memcpy(key.bytes, &op, sizeof(op));
	memcpy(key.bytes + sizeof(op), &peer, sizeof(peer));
	return key;
}

void offers_init(struct store *s)
{
	uint32_t layers_max = s->options.ledger.layers_max;
	uint32_t words = (layers_max + 63) / 64;
	s->queue_first = s->queue_last = OFFER_NONE;
	map_init(&s->offer_ops, s->offer_ops.slots, s->options.offer_max);
	s->offer_free = 0;
	for (uint32_t i = 0; i < s->options.offer_max; i++) {
		s->offers[i] = (struct offer){.next = i + 1 < s->options.offer_max ? i + 1 : OFFER_NONE};
		s->offers[i].block.digests = s->offer_digests + (size_t)i * layers_max;
	}
	for (uint32_t i = 0; i < s->options.reading_max; i++)
		s->readings[i] = (struct reading){.outcomes = s->reading_bits + (size_t)i * 2 * words,
						  .landings = s->reading_bits + ((size_t)i * 2 + 1) * words};
}

static void answer(struct store *s, uint32_t peer, uint64_t op, enum err e)
{
	Wire__OfferDone done = WIRE__OFFER_DONE__INIT;
	done.op = op;
	done.error = e;
	PROTO_ENVELOPE(envelope, OFFER_DONE, offer_done, &done);
	sessions_send(s->sessions, peer, &envelope);
	if (e == ERR_EXISTS)
		s->counters.offers_existing++;
	else if (e == ERR_AGAIN || e == ERR_DRAINING || e == ERR_TOO_LARGE)
		s->counters.offers_refused++;
}

/* The offer is over, its entry elsewhere or gone. */
static void free_offer(struct store *s, uint32_t index)
{
	struct offer *offer = &s->offers[index];
	assert(offer->state != OFFER_FREE);
	struct id128 key = op_key(offer->peer, offer->op);
	uint32_t was = map_remove(&s->offer_ops, &key);
	assert(was == index);
	(void)was;
	s->waiting_count -= offer->state == OFFER_WAITING;
	offer->state = OFFER_FREE;
	offer->next = s->offer_free;
	s->offer_free = index;
	s->offer_count--;
}

static void queue_push(struct store *s, uint32_t index)
{
	s->offers[index].state = OFFER_QUEUED;
	s->offers[index].next = OFFER_NONE;
	if (s->queue_last == OFFER_NONE)
		s->queue_first = index;
	else
		s->offers[s->queue_last].next = index;
	s->queue_last = index;
}

static void queue_remove(struct store *s, uint32_t index)
{
	uint32_t before = OFFER_NONE;
	for (uint32_t i = s->queue_first; i != index; i = s->offers[i].next)
		before = i;
	uint32_t next = s->offers[index].next;
	if (before == OFFER_NONE)
		s->queue_first = next;
	else
		s->offers[before].next = next;
	if (s->queue_last == index)
		s->queue_last = before;
}

/* Makes its entry, or answers that it cannot be. */
static void admit(struct store *s, uint32_t index)
{
	struct offer *offer = &s->offers[index];
	enum err e = ledger_offer(s->ledger, &offer->block, &offer->entry);
	if (e == ERR_OK) {
		s->waiting_count -= offer->state == OFFER_WAITING;
		queue_push(s, index);
		return;
	}
	answer(s, offer->peer, offer->op, e);
	free_offer(s, index);
}

void offers_answer(struct store *s, uint32_t index, enum err e)
{
	answer(s, s->offers[index].peer, s->offers[index].op, e);
	free_offer(s, index);
}

void offers_answer_waiting(struct store *s, const struct id128 *key, enum err e)
{
	for (uint32_t i = 0; s->waiting_count > 0 && i < s->options.offer_max; i++)
		if (s->offers[i].state == OFFER_WAITING && id128_equal(&s->offers[i].block.key, key))
			offers_answer(s, i, e);
}

/* A sealed block is offered again. */
static void know_better(struct store *s, uint32_t entry, uint32_t peer, enum ledger_priority priority)
{
	bool raises = priority != LEDGER_LOW && ledger_block(s->ledger, entry)->priority == LEDGER_LOW;
	ledger_raise(s->ledger, entry, priority);
	if (raises)
		replicate_raised(s->replicate, entry, peer, s->now_ns);
	else
		replicate_known(s->replicate, entry, peer);
}

void offers_wake(struct store *s, const struct id128 *key, bool sealed)
{
	for (uint32_t i = 0; s->waiting_count > 0 && i < s->options.offer_max; i++) {
		struct offer *offer = &s->offers[i];
		if (offer->state != OFFER_WAITING || !id128_equal(&offer->block.key, key))
			continue;
		if (sealed) {
			know_better(s, ledger_lookup(s->ledger, key), offer->peer, offer->block.priority);
			answer(s, offer->peer, offer->op, ERR_EXISTS);
			free_offer(s, i);
		} else if (ledger_lookup(s->ledger, key) == LEDGER_NONE) {
			admit(s, i);
		}
	}
}

static enum err refuse(const struct store *s, uint32_t peer, const Wire__Offer *wire)
{
	if (s->draining)
		return ERR_DRAINING;
	if (wire->n_digests > s->options.ledger.layers_max)
		return ERR_TOO_LARGE;
	return s->offer_free == OFFER_NONE ? ERR_AGAIN : ERR_OK;
}

static enum ledger_priority priority_of(const Wire__Offer *wire)
{
	return wire->priority == WIRE__PRIORITY__PRIORITY_LOW ? LEDGER_LOW : LEDGER_NORMAL;
}

static void fill_offer(struct store *s, uint32_t index, uint32_t peer, const Wire__Offer *wire, uint64_t now_ns)
{
	struct offer *offer = &s->offers[index];
	struct tenants *tenants = ledger_tenants(s->ledger);
	uint64_t *digests = s->offer_digests + (size_t)index * s->options.ledger.layers_max;
	*offer = (struct offer){
		.peer = peer,
		.op = wire->op,
		.came_ns = now_ns,
		.region = wire->place->region,
		.offset = wire->place->offset,
		.generation = wire->place->generation,
		.entry = LEDGER_NONE,
		.block = {.layer_count = (uint32_t)wire->n_digests,
			  .layer_bytes = wire->layer_bytes,
			  .has_parent = wire->parent.len == PROTO_KEY_BYTES,
			  .digests = digests,
			  .tenant = tenants->list[tenants_account(tenants, wire->tenant)].name,
			  .priority = priority_of(wire)},
		.pin = sessions_peer(s->sessions, peer)->role == WIRE__ROLE__ROLE_KVSTORE ? (enum ledger_pin)wire->pin : LEDGER_UNPINNED,
	};
	memcpy(digests, wire->digests, wire->n_digests * sizeof(uint64_t));
	memcpy(offer->block.key.bytes, wire->key.data, PROTO_KEY_BYTES);
	memcpy(offer->block.compat.bytes, wire->compat.data, PROTO_KEY_BYTES);
	if (offer->block.has_parent)
		memcpy(offer->block.parent.bytes, wire->parent.data, PROTO_KEY_BYTES);
}

void offers_take(struct store *s, uint32_t peer, const Wire__Offer *wire, uint64_t now_ns)
{
	s->counters.offers++;
	struct id128 name = op_key(peer, wire->op);
	if (map_get(&s->offer_ops, &name) != MAP_NONE)
		return; /* said again: its first words are answered, once */
	struct id128 key = codec_key(&wire->key, 0);
	uint32_t entry = ledger_lookup(s->ledger, &key);
	bool is_there = entry != LEDGER_NONE && ledger_state(s->ledger, entry) > LEDGER_READING;
	enum err e = refuse(s, peer, wire);
	if (is_there)
		know_better(s, entry, peer, priority_of(wire));
	if (entry == LEDGER_NONE && store_on_disk(s, &key))
		e = ERR_EXISTS;
	else if (is_there && (e == ERR_OK || !store_waits_for_disk(s)))
		e = store_disk_offered(s, entry);
	if (e != ERR_OK) {
		answer(s, peer, wire->op, e);
		return;
	}
	uint32_t index = s->offer_free;
	s->offer_free = s->offers[index].next;
	s->offer_count++;
	e = map_put(&s->offer_ops, &name, index);
	assert(e == ERR_OK); /* it has room for every offer */
	fill_offer(s, index, peer, wire, now_ns);
	s->offers[index].state = OFFER_WAITING;
	s->waiting_count++;
	if (entry == LEDGER_NONE)
		admit(s, index);
}

static uint32_t free_reading(const struct store *s)
{
	for (uint32_t i = 0; i < s->options.reading_max; i++)
		if (!s->readings[i].used)
			return i;
	return UINT32_MAX;
}

static void start_reading(struct store *s, uint32_t index, uint32_t offer_index, uint64_t now_ns)
{
	struct offer *offer = &s->offers[offer_index];
	struct reading *r = &s->readings[index];
	const struct ledger_block *block = &offer->block;
	size_t words = (s->options.ledger.layers_max + 63) / 64;
	*r = (struct reading){.used = true, .serial = r->serial + 1, .offer = offer_index, .entry = offer->entry,
			      .layer_count = block->layer_count, .outcomes_missing = block->layer_count,
			      .landings_missing = block->layer_count, .outcomes = r->outcomes,
			      .landings = r->landings};
	memset(r->outcomes, 0, 2 * words * sizeof(uint64_t)); /* landings lie behind */
	s->reading_count++;
	offer->state = OFFER_READING;
	uint64_t timeout_ns = s->options.read_timeout_ns ? s->options.read_timeout_ns : STORE_READ_TIMEOUT_NS;
	if (s->options.time_factor)
		timeout_ns *= s->options.time_factor;
	uint64_t node = sessions_peer(s->sessions, offer->peer)->node;
	for (uint32_t layer = 0; layer < block->layer_count; layer++) {
		struct env_read read = {
			.op = op_of(s, index, layer),
			.node = node,
			.region = offer->region,
			.offset = offer->offset + (uint64_t)layer * block->layer_bytes,
			.length = block->layer_bytes,
			.generation = offer->generation,
			.landing = ledger_slot(s->ledger, offer->entry),
			.landing_offset = layer * block->layer_bytes,
			.deadline_ns = now_ns + timeout_ns,
		};
		s->counters.reads++;
		s->options.env->read(s->options.env->context, &read);
	}
}

void offers_pump(struct store *s, uint64_t now_ns)
{
	while (s->queue_first != OFFER_NONE && store_disk_takes(s)) {
		uint32_t reading = free_reading(s);
		if (reading == UINT32_MAX)
			return;
		uint32_t index = s->queue_first;
		struct offer *offer = &s->offers[index];
		queue_remove(s, index);
		enum err e = ledger_read(s->ledger, offer->entry);
		if (e == ERR_OK) {
			start_reading(s, reading, index, now_ns);
			continue;
		}
		/* Full of what is held or on its way: the offerer tries later, or another store. */
		struct id128 key = offer->block.key;
		ledger_withdraw(s->ledger, offer->entry);
		answer(s, offer->peer, offer->op, e);
		free_offer(s, index);
		offers_wake(s, &key, false);
	}
}

static void count_failure(struct store *s, enum err e)
{
	struct store_counters *c = &s->counters;
	uint64_t *counter = e == ERR_CORRUPT     ? &c->read_corrupt
			    : e == ERR_STALE     ? &c->read_stale
			    : e == ERR_DEADLINE  ? &c->read_deadline
			    : e == ERR_PEER_GONE ? &c->read_gone
						 : &c->read_other;
	(*counter)++;
}

/* The block will not be: what is under way is called back, and its slot waits for the landings. */
static void give_up(struct store *s, struct reading *r, enum err e, bool answered)
{
	uint32_t offer_index = r->offer;
	struct id128 key = s->offers[offer_index].block.key;
	count_failure(s, e);
	r->offer = OFFER_NONE;
	ledger_withdraw(s->ledger, r->entry);
	for (uint32_t layer = 0; layer < r->layer_count; layer++)
		if (!bit_get(r->outcomes, layer))
			s->options.env->read_cancel(s->options.env->context,
						    op_of(s, (uint32_t)(r - s->readings), layer));
	if (!answered && !planted(FAILED_OFFER_NOT_ANSWERED))
		answer(s, s->offers[offer_index].peer, s->offers[offer_index].op, e);
	free_offer(s, offer_index);
	offers_wake(s, &key, false);
}

static void count_bytes(struct store *s, uint32_t peer, uint64_t bytes)
{
	struct read_from *from = &s->read_from[peer];
	uint64_t node = sessions_peer(s->sessions, peer)->node;
	if (from->node != node)
		*from = (struct read_from){.node = node};
	from->bytes += bytes;
	s->counters.bytes_read += bytes;
}

/* Ends the reading when nothing of it is outstanding. */
static void settle(struct store *s, struct reading *r)
{
	if (r->outcomes_missing > 0 || (r->landings_missing > 0 && !planted(SLOT_NOT_QUARANTINED)))
		return;
	r->used = false;
	s->reading_count--;
	if (r->offer == OFFER_NONE) {
		ledger_landing_free(s->ledger, r->entry);
		return;
	}
	const struct offer *offer = &s->offers[r->offer];
	const struct id128 key = offer->block.key;
	uint32_t entry = r->entry, peer = offer->peer;
	s->counters.offers_taken++;
	count_bytes(s, peer, (uint64_t)offer->block.layer_count * offer->block.layer_bytes);
	env_trace(s->options.env, "seal block %02x%02x%02x from %s", key.bytes[0], key.bytes[1], key.bytes[2],
		  sessions_peer(s->sessions, offer->peer)->name);
	store_disk_seal(s, r->entry, r->offer);
	replicate_sealed(s->replicate, entry, peer, s->now_ns);
}

void offers_read_done(struct store *s, uint64_t op, enum err e, uint64_t digest)
{
	uint32_t layer;
	struct reading *r = reading_of(s, op, &layer);
	if (!r || bit_set(r->outcomes, layer))
		return;
	r->outcomes_missing--;
	bool checked = r->offer != OFFER_NONE && !planted(STORE_DIGEST_NOT_CHECKED);
	if (e == ERR_OK && checked && s->offers[r->offer].block.digests[layer] != digest)
		e = ERR_CORRUPT;
	if (e != ERR_OK && r->offer != OFFER_NONE)
		give_up(s, r, e, false);
	settle(s, r);
}

void offers_landing_free(struct store *s, uint64_t op)
{
	uint32_t layer;
	struct reading *r = reading_of(s, op, &layer);
	if (!r || bit_set(r->landings, layer))
		return;
	r->landings_missing--;
	settle(s, r);
}

static void drop_reading(struct store *s, uint32_t offer_index)
{
	for (uint32_t i = 0; i < s->options.reading_max; i++)
		if (s->readings[i].used && s->readings[i].offer == offer_index)
			give_up(s, &s->readings[i], ERR_PEER_GONE, true);
}

void offers_drop(struct store *s, uint32_t peer)
{
	/* What waits first, so that none of the peer's own offers is woken. */
	for (uint32_t i = 0; i < s->options.offer_max; i++)
		if (s->offers[i].state == OFFER_WAITING && s->offers[i].peer == peer)
			free_offer(s, i);
	for (uint32_t i = 0; i < s->options.offer_max; i++) {
		struct offer *offer = &s->offers[i];
		if (offer->state == OFFER_FREE || offer->peer != peer)
			continue;
		if (offer->state == OFFER_READING) {
			drop_reading(s, i);
			continue;
		}
		if (offer->state == OFFER_WRITING) {
			store_disk_drop_offer(s, i);
			free_offer(s, i);
			continue;
		}
		struct id128 key = offer->block.key;
		queue_remove(s, i);
		ledger_withdraw(s->ledger, offer->entry);
		free_offer(s, i);
		offers_wake(s, &key, false);
	}
}

void offers_lag(const struct store *s, uint64_t now_ns, uint32_t *ret_blocks, uint64_t *ret_bytes, uint64_t *ret_ns)
{
	uint64_t oldest_ns = now_ns;
	*ret_blocks = s->offer_count;
	*ret_bytes = 0;
	for (uint32_t i = 0, seen = 0; seen < s->offer_count && i < s->options.offer_max; i++) {
		const struct offer *offer = &s->offers[i];
		if (offer->state == OFFER_FREE)
			continue;
		seen++;
		*ret_bytes += ledger_block_bytes(&offer->block);
		if (offer->came_ns < oldest_ns)
			oldest_ns = offer->came_ns;
	}
	*ret_ns = now_ns - oldest_ns;
}

uint32_t offers_of(const struct store *s, uint32_t peer)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < s->options.offer_max; i++)
		count += s->offers[i].state != OFFER_FREE && s->offers[i].peer == peer;
	return count;
}

static void check_offer(const struct store *s, const struct offer *offer)
{
	assert(sessions_peer(s->sessions, offer->peer));
	uint32_t entry = ledger_lookup(s->ledger, &offer->block.key);
	enum ledger_state state = entry == LEDGER_NONE ? LEDGER_FREE : ledger_state(s->ledger, entry);
	if (offer->state == OFFER_WRITING)
		assert(store_disk_writes(s, &offer->block.key));
	else if (offer->state == OFFER_WAITING)
		assert(state == LEDGER_OFFERED || state == LEDGER_READING || store_disk_writes(s, &offer->block.key));
	else
		assert(entry == offer->entry &&
		       state == (offer->state == OFFER_QUEUED ? LEDGER_OFFERED : LEDGER_READING));
}

void offers_check(const struct store *s)
{
	uint32_t count = 0, queued = 0, waiting = 0, in_queue = 0, reading = 0;
	for (uint32_t i = 0; i < s->options.offer_max; i++) {
		if (s->offers[i].state == OFFER_FREE)
			continue;
		count++;
		queued += s->offers[i].state == OFFER_QUEUED;
		waiting += s->offers[i].state == OFFER_WAITING;
		struct id128 name = op_key(s->offers[i].peer, s->offers[i].op);
		assert(map_get(&s->offer_ops, &name) == i);
		check_offer(s, &s->offers[i]);
	}
	for (uint32_t i = s->queue_first; i != OFFER_NONE; i = s->offers[i].next)
		in_queue++;
	for (uint32_t i = 0; i < s->options.reading_max; i++)
		reading += s->readings[i].used;
	assert(count == s->offer_count && count == s->offer_ops.count && queued == in_queue && reading == s->reading_count);
	assert(waiting == s->waiting_count);
}
