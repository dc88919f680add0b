#include "kvstore/store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "kvstore/store_impl.h"
#include "proto/job.h"

/* ---- sessions */

static void on_up(void *context, uint32_t peer)
{
	struct store *s = context;
	env_trace(s->options.env, "session with %s", sessions_peer(s->sessions, peer)->name);
	Wire__Role role = sessions_peer(s->sessions, peer)->role;
	if (role == WIRE__ROLE__ROLE_COORDINATOR || s->draining)
		s->report_next_ns = 0; /* it hears of us with the next tick */
	if (role == WIRE__ROLE__ROLE_KVSTORE)
		replicate_up(s->replicate, peer, s->now_ns);
}

void store_release(struct store *s, uint32_t lookup)
{
	uint32_t entry;
	store_disk_close_lookup(s, lookup);
	while (holds_pop(s->holds, lookup, &entry))
		ledger_release(s->ledger, entry);
}

/* Law 3: all that was held for the peer is free there and then. */
static void on_down(void *context, uint32_t peer, enum err why)
{
	struct store *s = context;
	(void)why; /* the session has told */
	s->counters.sessions_ended++;
	replicate_down(s->replicate, peer, s->now_ns);
	for (uint32_t lookup; (lookup = holds_first(s->holds, peer)) != UINT32_MAX;)
		store_release(s, lookup);
	offers_drop(s, peer);
	asks_drop(s, peer);
}

/* ---- memory */

static struct session_options session_options(const struct store_options *options, struct store *store)
{
	return (struct session_options){
		.node = options->node,
		.incarnation = options->incarnation,
		.role = WIRE__ROLE__ROLE_KVSTORE,
		.name = options->name,
		.cluster = options->cluster,
		.weight = options->weight ? options->weight : 1,
		.replicas = options->replicas ? options->replicas : 1,
		.link_address = options->link_address,
		.link_address_length = options->link_address_length,
		.peer_max = options->peer_max,
		.time_factor = options->time_factor,
		.env = options->env,
		.context = store,
		.up = on_up,
		.down = on_down,
	};
}

static struct holds_options holds_options(const struct store_options *options)
{
	return (struct holds_options){options->peer_max, options->lookup_max, options->hold_max};
}

static struct replicate_options replicate_options(const struct store_options *options)
{
	return (struct replicate_options){
		.node = options->node,
		.weight = options->weight ? options->weight : 1,
		.replicas = options->replicas,
		.entry_max = options->ledger.entry_max,
		.sent_max = options->copies_max,
		.window = STORE_COPIES_WINDOW,
		.rate_bytes = options->rebalance_rate,
		.grace_ns = options->grace_ns * (options->time_factor ? options->time_factor : 1),
		.env = options->env,
	};
}

static size_t digests_bytes(const struct store_options *options)
{
	return (size_t)options->offer_max * options->ledger.layers_max * sizeof(uint64_t);
}

static size_t bits_bytes(const struct store_options *options)
{
	return (size_t)options->reading_max * 2 * ((options->ledger.layers_max + 63) / 64) * sizeof(uint64_t);
}

static void *cut(uint8_t **memory, size_t *total, size_t bytes)
{
	void *start = *memory;
	bytes = (bytes + 15) & ~(size_t)15;
	*total += bytes;
	if (*memory)
		*memory += bytes;
	return start;
}

/* One list of all the parts: counts with memory NULL, places else. */
static size_t lay_out(uint8_t *memory, const struct store_options *o, struct store *s)
{
	struct session_options sessions = session_options(o, s);
	struct holds_options holds = holds_options(o);
	struct replicate_options replicate = replicate_options(o);
	struct store parts;
	struct store *at = s ? s : &parts;
	size_t total = 0;
	cut(&memory, &total, sizeof(struct store));
	at->sessions = cut(&memory, &total, sessions_bytes(&sessions));
	at->ledger = cut(&memory, &total, ledger_bytes(&o->ledger));
	at->holds = cut(&memory, &total, holds_bytes(&holds));
	at->replicate = cut(&memory, &total, replicate_bytes(&replicate));
	at->offers = cut(&memory, &total, o->offer_max * sizeof(struct offer));
	at->offer_ops.slots = cut(&memory, &total, map_bytes(o->offer_max));
	at->offer_digests = cut(&memory, &total, digests_bytes(o));
	at->readings = cut(&memory, &total, o->reading_max * sizeof(struct reading));
	at->reading_bits = cut(&memory, &total, bits_bytes(o));
	at->read_from = cut(&memory, &total, o->peer_max * sizeof(struct read_from));
	at->operate = cut(&memory, &total, sizeof(struct operate));
	at->sweep = cut(&memory, &total, sweep_bytes());
	at->asks = cut(&memory, &total, asks_bytes());
	at->found = cut(&memory, &total, o->found_max * sizeof(Wire__FoundBlock));
	at->found_list = cut(&memory, &total, o->found_max * sizeof(Wire__FoundBlock *));
	at->found_places = cut(&memory, &total, o->found_max * sizeof(Wire__Place));
	at->d.memory = cut(&memory, &total, store_disk_bytes(o));
	return total;
}

size_t store_bytes(const struct store_options *options)
{
	return lay_out(NULL, options, NULL);
}

struct store *store_init(void *memory, const struct store_options *options)
{
	assert(options->node != 0 && options->env && options->peer_max > 0);
	assert(options->offer_max > 0 && options->reading_max > 0 && options->reading_max <= 1 << 16);
	assert(options->found_max > 0 && options->found_max <= PROTO_BLOCKS_MAX);
	assert(options->ledger.layers_max <= PROTO_LAYERS_MAX);
	/* The longest answer fits a frame: a block is its place (<= 80 bytes) and a digest a layer. */
	assert((uint64_t)options->found_max * (80 + 8 * options->ledger.layers_max) <= PROTO_FRAME_MAX);
	struct store *s = memory;
	*s = (struct store){.options = *options};
	lay_out(memory, options, s);
	struct session_options sessions = session_options(options, s);
	struct holds_options holds = holds_options(options);
	struct replicate_options replicate = replicate_options(options);
	sessions_init(s->sessions, &sessions);
	ledger_init(s->ledger, &options->ledger);
	holds_init(s->holds, &holds);
	replicate_init(s->replicate, &replicate, s->ledger, s->sessions);
	memset(s->read_from, 0, options->peer_max * sizeof(*s->read_from));
	offers_init(s);
	asks_init(s);
	sweep_init(s);
	store_disk_init(s);
	return s;
}

/* ---- look-ups */

void store_add_found(struct store *s, size_t count, uint32_t index, uint32_t entry)
{
	const struct ledger_block *block = ledger_block(s->ledger, entry);
	struct slot_place place;
	ledger_place(s->ledger, entry, &place);
	wire__place__init(&s->found_places[count]);
	s->found_places[count].region = place.region;
	s->found_places[count].offset = place.offset;
	s->found_places[count].generation = place.generation;
	wire__found_block__init(&s->found[count]);
	s->found[count].index = index;
	s->found[count].place = &s->found_places[count];
	s->found[count].more_copies = replicate_more(s->replicate, entry);
	s->found[count].n_digests = block->layer_count;
	s->found[count].digests = (uint64_t *)block->digests; /* the packer only reads */
	s->found_list[count] = &s->found[count];
}

void store_send_found(struct store *s, uint32_t peer, uint64_t op, size_t count, bool more)
{
	Wire__Found found = WIRE__FOUND__INIT;
	found.op = op;
	found.n_blocks = count;
	found.blocks = s->found_list;
	found.more = more;
	PROTO_ENVELOPE(envelope, FOUND, found, &found);
	sessions_send(s->sessions, peer, &envelope);
}

/* Keys between the steps of a find (ledger.h): about as long is memory's answer awaited. */
enum { AHEAD = 8 };

/* The blocks of the answer, held as they are found; digests point into the ledger.  What is on disk comes later. */
static size_t find_blocks(struct store *s, const Wire__Lookup *lookup, uint32_t list, uint64_t *ret_bytes)
{
	struct id128 compat = codec_key(&lookup->compat, 0);
	uint32_t asked = (uint32_t)(lookup->keys.len / PROTO_KEY_BYTES);
	uint32_t entries[2 * AHEAD] = {0}; /* found ahead */
	size_t count = 0;
	for (uint32_t step = 0; step < asked + 3 * AHEAD && count < s->options.found_max; step++) {
		/* Those before the first are beyond the last. */
		uint32_t found = step - AHEAD, expected = step - 2 * AHEAD, i = step - 3 * AHEAD;
		struct id128 key;
		if (step < asked) {
			key = codec_key(&lookup->keys, step);
			ledger_expect_key(s->ledger, &key);
		}
		uint32_t entry = entries[found % (2 * AHEAD)];
		if (found < asked) {
			key = codec_key(&lookup->keys, found);
			entries[found % (2 * AHEAD)] = ledger_find_ahead(s->ledger, &key);
		}
		if (expected < asked)
			ledger_expect_block(s->ledger, entries[expected % (2 * AHEAD)]);
		if (i >= asked)
			continue;
		key = codec_key(&lookup->keys, i);
		if (!ledger_serves(s->ledger, entry, &key, &compat)) {
			store_disk_want(s, list, i, &key);
			continue;
		}
		if (holds_add(s->holds, list, entry) != ERR_OK)
			break;
		ledger_hold(s->ledger, entry);
		replicate_found(s->replicate, entry, s->now_ns);
		*ret_bytes += ledger_block_bytes(ledger_block(s->ledger, entry));
		store_add_found(s, count++, i, entry);
	}
	return count;
}

/* Who asks is whose blocks are found: keys bear the tenant's salt. */
static void account_asked(struct store *s, uint32_t account, uint64_t asked)
{
	ledger_tenants(s->ledger)->list[account].use.keys_asked += asked;
	s->counters.keys_asked += asked;
}

void store_account_found(struct store *s, uint32_t account, uint64_t found, uint64_t bytes)
{
	struct tenant_use *use = &ledger_tenants(s->ledger)->list[account].use;
	use->keys_found += found;
	use->bytes_found += bytes;
	s->counters.keys_found += found;
	s->counters.bytes_found += bytes;
}

static void take_lookup(struct store *s, uint32_t peer, const Wire__Lookup *lookup)
{
	uint32_t old = holds_find(s->holds, peer, lookup->op);
	if (old != UINT32_MAX)
		store_release(s, old); /* asked anew: the older answer is void */
	uint32_t list;
	size_t count = 0;
	uint64_t bytes = 0;
	bool more = false;
	uint32_t account = tenants_account(ledger_tenants(s->ledger), lookup->tenant);
	if (holds_open(s->holds, peer, lookup->op, &list) == ERR_OK) {
		struct id128 compat = codec_key(&lookup->compat, 0);
		store_disk_open_lookup(s, list, peer, lookup->op, &compat, account);
		count = find_blocks(s, lookup, list, &bytes);
		more = store_disk_expects(s, list, count);
		if (count == 0 && !more)
			store_release(s, list);
	}
	uint32_t asked = (uint32_t)(lookup->keys.len / PROTO_KEY_BYTES);
	s->counters.lookups++;
	account_asked(s, account, asked);
	store_account_found(s, account, count, bytes);
	env_trace(s->options.env, "found %zu of %u blocks for %s%s", count, asked, sessions_peer(s->sessions, peer)->name,
		  more ? ", more on disk" : "");
	store_send_found(s, peer, lookup->op, count, more);
}

static void take_release(struct store *s, uint32_t peer, const Wire__Release *release)
{
	uint32_t lookup = holds_find(s->holds, peer, release->op);
	if (lookup != UINT32_MAX)
		store_release(s, lookup);
}

/* Everybody hears of it with the next tick. */
static void set_draining(struct store *s, bool draining)
{
	s->draining = draining;
	s->told_draining |= draining; /* answers to offers may tell it before, and it may be over by then */
	s->report_next_ns = 0;
	replicate_drain(s->replicate, draining, s->now_ns);
}

/* What another store says of itself. */
static void take_load(struct store *s, uint32_t peer, const Wire__Load *load)
{
	if (sessions_peer(s->sessions, peer)->role != WIRE__ROLE__ROLE_KVSTORE)
		return;
	sessions_note_draining(s->sessions, peer, load->draining);
	replicate_peer_draining(s->replicate, peer, load->draining, s->now_ns);
}

/* What the coordinator that leads wants of this store; an older epoch is refused (net/fence.h), as is anybody else's. */
static void take_directive(struct store *s, uint32_t peer, const Wire__Directive *directive)
{
	const struct session_peer *info = sessions_peer(s->sessions, peer);
	if (info->role != WIRE__ROLE__ROLE_COORDINATOR)
		return;
	enum err e = fence_judge(&s->fence, directive->epoch, info->node);
	if (e == ERR_OK && directive->kind != WIRE__DIRECTIVE_KIND__DIRECTIVE_LEAD && !s->leaving)
		set_draining(s, directive->kind == WIRE__DIRECTIVE_KIND__DIRECTIVE_DRAIN);
	Wire__DirectiveDone done = WIRE__DIRECTIVE_DONE__INIT;
	done.epoch = s->fence.epoch;
	done.kind = directive->kind;
	done.error = e;
	PROTO_ENVELOPE(envelope, DIRECTIVE_DONE, directive_done, &done);
	sessions_send(s->sessions, peer, &envelope);
}

/* ---- events */

void store_member(struct store *s, uint64_t id, uint64_t incarnation, Wire__Role role, uint64_t now_ns)
{
	if (role != WIRE__ROLE__ROLE_KVSTORE)
		return;
	replicate_member(s->replicate, id, true);
	if (id > s->options.node)
		sessions_want(s->sessions, id, incarnation, now_ns);
}

void store_member_gone(struct store *s, uint64_t id)
{
	replicate_member(s->replicate, id, false);
	sessions_unwant(s->sessions, id);
}

/* What there is room for now. */
static void pump(struct store *s, uint64_t now_ns)
{
	store_disk_pump(s, now_ns);
	asks_pump(s, now_ns);
	sweep_pump(s);
	offers_pump(s, now_ns);
}

void store_opened(struct store *s, uint32_t conn, uint64_t node, uint64_t now_ns)
{
	s->now_ns = now_ns;
	sessions_opened(s->sessions, conn, node, now_ns);
	pump(s, now_ns);
}

void store_dial_failed(struct store *s, uint64_t node, uint64_t now_ns)
{
	sessions_dial_failed(s->sessions, node, now_ns);
}

void store_closed(struct store *s, uint32_t conn, uint64_t now_ns)
{
	s->now_ns = now_ns;
	sessions_closed(s->sessions, conn, now_ns);
	pump(s, now_ns);
}

void store_message(struct store *s, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	s->now_ns = now_ns;
	uint32_t peer = sessions_message(s->sessions, conn, envelope, now_ns);
	if (peer != PEER_NONE) {
		switch (envelope->body_case) {
		case WIRE__ENVELOPE__BODY_LOOKUP:
			take_lookup(s, peer, envelope->lookup);
			break;
		case WIRE__ENVELOPE__BODY_RELEASE:
			take_release(s, peer, envelope->release);
			break;
		case WIRE__ENVELOPE__BODY_OFFER:
			offers_take(s, peer, envelope->offer, now_ns);
			break;
		case WIRE__ENVELOPE__BODY_OFFER_DONE:
			replicate_done(s->replicate, peer, envelope->offer_done, now_ns);
			break;
		case WIRE__ENVELOPE__BODY_DIRECTIVE:
			take_directive(s, peer, envelope->directive);
			break;
		case WIRE__ENVELOPE__BODY_KV_ASK:
			operate_take(s, peer, envelope->kv_ask, now_ns);
			break;
		case WIRE__ENVELOPE__BODY_KV_ANSWER:
			sweep_answered(s, peer, envelope->kv_answer);
			break;
		case WIRE__ENVELOPE__BODY_LOAD:
			take_load(s, peer, envelope->load);
			break;
		case WIRE__ENVELOPE__BODY_KV_RESYNC:
		case WIRE__ENVELOPE__BODY_KV_EVENTS:
			break; /* said to everybody; nothing in it for a store */
		default:
			sessions_end(s->sessions, peer, ERR_PROTOCOL, now_ns);
		}
	}
	pump(s, now_ns);
}

void store_renew(struct store *s, uint64_t incarnation, const uint8_t *link_address, size_t link_address_length,
		 uint64_t now_ns)
{
	s->now_ns = now_ns;
	sessions_renew(s->sessions, incarnation, link_address, link_address_length, now_ns);
	pump(s, now_ns);
}

void store_read_done(struct store *s, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	s->now_ns = now_ns;
	offers_read_done(s, op, e, digest);
	pump(s, now_ns);
}

void store_landing_free(struct store *s, uint64_t op, uint64_t now_ns)
{
	s->now_ns = now_ns;
	offers_landing_free(s, op);
	pump(s, now_ns);
}

void store_disk_done(struct store *s, uint64_t op, enum err e, uint64_t now_ns)
{
	s->now_ns = now_ns;
	disk_done(s->d.disk, op, e, now_ns);
	pump(s, now_ns);
}

static void fill_replica_load(const struct store *s, uint32_t spare, Wire__ReplicaLoad *ret_load)
{
	struct replicate_status status;
	replicate_status(s->replicate, &status);
	wire__replica_load__init(ret_load);
	ret_load->lag_blocks = status.lag_blocks;
	ret_load->lag_bytes = status.lag_bytes;
	ret_load->missing = status.missing + sweep_status(s).missing;
	ret_load->in_flight = status.in_flight;
	ret_load->spare = spare;
	ret_load->copies = status.copies;
	ret_load->copied_bytes = status.copied_bytes;
	ret_load->moved_bytes = status.moved_bytes;
	ret_load->given_up = status.given_up;
}

static uint64_t bytes_read_of(const void *context, uint32_t peer)
{
	const struct store *s = context;
	const struct session_peer *info = sessions_peer(s->sessions, peer);
	return info && s->read_from[peer].node == info->node ? s->read_from[peer].bytes : 0;
}

void store_load(struct store *s, uint64_t now_ns, Wire__Load *ret_load)
{
	struct ledger_counts counts;
	ledger_counts(s->ledger, &counts);
	Wire__Load load = WIRE__LOAD__INIT;
	load.role = WIRE__ROLE__ROLE_KVSTORE;
	load.jobs = s->offer_count;
	load.jobs_max = s->options.offer_max;
	load.blocks_total = counts.slots;
	load.blocks_cached = counts.entries[LEDGER_CACHED];
	load.blocks_used = counts.slots - counts.slots_free - load.blocks_cached;
	load.blocks_reserved = counts.entries[LEDGER_READING];
	load.sessions = sessions_count(s->sessions);
	load.draining = s->draining;
	load.epoch = s->fence.epoch;
	load.directives_refused = s->fence.refused;
	load.steps = s->counters.offers_taken;
	fill_replica_load(s, counts.spare, &s->operate->replica);
	load.replica = &s->operate->replica;
	wire__disk_load__init(&s->operate->disk);
	store_disk_report(s, &s->operate->disk);
	load.disk = s->d.disk ? &s->operate->disk : NULL;
	load.n_refused = refusals_report(s->options.env, s->operate->refused);
	load.refused = s->operate->refused;
	link_report(s->options.env, s->sessions, bytes_read_of, s, &s->operate->links, &load);
	load.store = (Wire__StoreLoad *)operate_load(s, now_ns); /* the packer only reads */
	*ret_load = load;
}

/* To coordinators always, and all of it; to stores always, so that an older word which comes late is soon mended: they would make no
 * copies here; to the others that this store drains, and once that it drains no more. */
static void report(struct store *s, uint64_t now_ns)
{
	Wire__Load load, less;
	store_load(s, now_ns, &load);
	less = load;
	less.store = NULL;
	less.n_transports = 0;
	PROTO_ENVELOPE(envelope, LOAD, load, &load);
	bool to_all = s->draining || s->told_draining;
	s->told_draining = s->draining;
	for (uint32_t i = 0; i < sessions_max(s->sessions); i++) {
		const struct session_peer *peer = sessions_peer(s->sessions, i);
		bool always = peer && (peer->role == WIRE__ROLE__ROLE_COORDINATOR || peer->role == WIRE__ROLE__ROLE_KVSTORE);
		if (!peer || !(to_all || always))
			continue;
		envelope.load = peer->role == WIRE__ROLE__ROLE_COORDINATOR ? &load : &less;
		sessions_send(s->sessions, i, &envelope);
	}
}

/* Are others being served?  Most look-ups are over within a tick. */
static bool serves(struct store *s)
{
	bool asked = s->counters.lookups != s->lookups_seen;
	s->lookups_seen = s->counters.lookups;
	return asked || holds_lookups(s->holds) > 0 || s->queue_first != OFFER_NONE;
}

void store_tick(struct store *s, uint64_t now_ns)
{
	s->now_ns = now_ns;
	sessions_tick(s->sessions, now_ns);
	replicate_tick(s->replicate, serves(s), now_ns);
	sweep_tick(s);
	if (now_ns >= s->report_next_ns) {
		s->report_next_ns = now_ns + STORE_REPORT_NS;
		report(s, now_ns);
	}
	pump(s, now_ns);
}

/* ---- leaving, and being looked at */

void store_drain(struct store *s, uint64_t now_ns)
{
	s->now_ns = now_ns;
	s->leaving = true;
	set_draining(s, true);
}

bool store_drained(const struct store *s)
{
	return s->draining && s->offer_count == 0 && s->reading_count == 0 && holds_count(s->holds) == 0 &&
	       replicate_drained(s->replicate) && store_disk_idle(s);
}

void store_status(const struct store *s, struct store_status *ret_status)
{
	*ret_status = (struct store_status){
		.counters = s->counters,
		.offers = s->offer_count,
		.reading = s->reading_count,
		.lookups = holds_lookups(s->holds),
		.holds = holds_count(s->holds),
		.sessions = sessions_count(s->sessions),
		.draining = s->draining,
		.epoch = s->fence.epoch,
		.directives_refused = s->fence.refused,
	};
	ledger_counts(s->ledger, &ret_status->ledger);
	replicate_status(s->replicate, &ret_status->replicate);
	ret_status->sweep = sweep_status(s);
	ret_status->has_disk = s->d.disk != NULL;
	if (s->d.disk)
		disk_status(s->d.disk, &ret_status->disk);
}

static int dump_disk(const struct store_status *t, char *text, size_t capacity)
{
	const struct disk_status *d = &t->disk;
	const struct disk_counters *c = &d->counters;
	return snprintf(
		text, capacity,
		"disk %s%s: %u blocks in %u segments of %u, %u free; %u blocks (%llu bytes) not yet durable\n"
		"put %llu, moved %llu bytes; loads right %llu, failed %llu; gone for room %llu, bad %llu, forgotten %llu\n"
		"unwritten %llu, keys answered from disk %llu, failed operations %llu; %u notes\n"
		"copies of what is on disk only: %llu keys asked for, %llu blocks loaded, %u missing%s\n",
		d->ready ? "ready" : "starting", d->stopped ? ", writing stopped" : "", d->blocks, d->segments - d->segments_free,
		d->segments, d->segments_free, d->puts, (unsigned long long)d->put_bytes, (unsigned long long)c->bytes_put,
		(unsigned long long)c->bytes_moved, (unsigned long long)c->loads_good, (unsigned long long)c->loads_failed,
		(unsigned long long)c->gone[DISK_GONE_ROOM], (unsigned long long)c->gone[DISK_GONE_BAD],
		(unsigned long long)c->gone[DISK_GONE_FORGOTTEN], (unsigned long long)t->counters.disk_unwritten,
		(unsigned long long)t->counters.disk_hits, (unsigned long long)c->errors, d->notes,
		(unsigned long long)t->sweep.asked, (unsigned long long)t->sweep.loaded, t->sweep.missing,
		t->sweep.over ? "" : ", under way");
}

size_t store_dump(const struct store *s, char *text, size_t capacity)
{
	struct store_status t;
	store_status(s, &t);
	const struct store_counters *c = &t.counters;
	int length = snprintf(
		text, capacity,
		"store %s%s: %u sessions, eviction policy %s\n"
		"slots %u, free %u; blocks offered %u, reading %u, cached %u, held %u, quarantined %u\n"
		"sealed %llu, evicted %llu for room, %llu for a slab, %llu for a quota, %llu by command; pinned %u softly, %u hard\n"
		"%llu bytes of %u tenants; open: %u offers, %u readings, %u look-ups holding %u blocks\n"
		"looked up %llu keys, found %llu; offers %llu: taken %llu, existing %llu, refused %llu\n"
		"failed reads: corrupt %llu, stale %llu, deadline %llu, peer gone %llu, other %llu\n"
		"copies: %u other stores; missing %llu, lag %llu, in flight %u, spare %u; made %llu, given up %llu\n",
		s->options.name, t.draining ? " (draining)" : "", t.sessions,
		ledger_policy(s->ledger)->name, t.ledger.slots, t.ledger.slots_free,
		t.ledger.entries[LEDGER_OFFERED], t.ledger.entries[LEDGER_READING], t.ledger.entries[LEDGER_CACHED],
		t.ledger.entries[LEDGER_HELD], t.ledger.entries[LEDGER_EVICTED], (unsigned long long)t.ledger.sealed,
		(unsigned long long)t.ledger.evicted[LEDGER_FOR_ROOM],
		(unsigned long long)t.ledger.evicted[LEDGER_FOR_SLAB],
		(unsigned long long)t.ledger.evicted[LEDGER_FOR_QUOTA],
		(unsigned long long)t.ledger.evicted[LEDGER_FOR_COMMAND], t.ledger.pinned_soft, t.ledger.pinned_hard,
		(unsigned long long)t.ledger.bytes, ledger_tenants(s->ledger)->count, t.offers, t.reading, t.lookups, t.holds,
		(unsigned long long)c->keys_asked, (unsigned long long)c->keys_found, (unsigned long long)c->offers,
		(unsigned long long)c->offers_taken, (unsigned long long)c->offers_existing,
		(unsigned long long)c->offers_refused, (unsigned long long)c->read_corrupt,
		(unsigned long long)c->read_stale, (unsigned long long)c->read_deadline,
		(unsigned long long)c->read_gone, (unsigned long long)c->read_other, t.replicate.stores,
		(unsigned long long)t.replicate.missing, (unsigned long long)t.replicate.lag_blocks, t.replicate.in_flight,
		t.ledger.spare, (unsigned long long)t.replicate.copies, (unsigned long long)t.replicate.given_up);
	if (length >= 0 && t.has_disk && (size_t)length < capacity)
		length += dump_disk(&t, text + length, capacity - (size_t)length);
	if (length < 0 || capacity == 0)
		return 0;
	return (size_t)length < capacity ? (size_t)length : capacity - 1;
}

const struct ledger_block *store_next(const struct store *s, uint32_t from, uint32_t *ret_next)
{
	uint32_t entry = ledger_next(s->ledger, from);
	if (entry == LEDGER_NONE)
		return NULL;
	*ret_next = entry + 1;
	return ledger_block(s->ledger, entry);
}

uint32_t store_served(const struct store *s, const struct id128 *key)
{
	uint32_t entry = ledger_lookup(s->ledger, key);
	bool sealed = entry != LEDGER_NONE && ledger_next(s->ledger, entry) == entry;
	return sealed ? entry : LEDGER_NONE;
}

enum err store_pinned(const struct store *s, const struct id128 *key, enum ledger_pin *ret_pin)
{
	uint32_t entry = store_served(s, key);
	if (entry == LEDGER_NONE)
		return ERR_NOT_FOUND;
	*ret_pin = ledger_pinned(s->ledger, entry);
	return ERR_OK;
}

uint32_t store_held_for(const struct store *s, uint64_t node)
{
	uint32_t peer = sessions_find(s->sessions, node);
	return peer == PEER_NONE ? 0 : holds_of(s->holds, peer) + offers_of(s, peer) + replicate_lent_to(s->replicate, peer) +
						   asks_held_for(s, peer);
}

const struct ledger *store_ledger(const struct store *s)
{
	return s->ledger;
}

void store_check(const struct store *s)
{
	ledger_check(s->ledger);
	offers_check(s);
	replicate_check(s->replicate);
	store_disk_check(s);
	sweep_check(s);
	for (uint32_t i = 0; i < sessions_max(s->sessions); i++)
		if (!sessions_peer(s->sessions, i))
			assert(holds_first(s->holds, i) == UINT32_MAX && offers_of(s, i) == 0 && asks_held_for(s, i) == 0);
}
