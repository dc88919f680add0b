#include "kvstore/store.h"

#include <assert.h>
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
			store_take_lookup(s, peer, envelope->lookup);
			break;
		case WIRE__ENVELOPE__BODY_RELEASE:
			store_take_release(s, peer, envelope->release);
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
		store_report(s, now_ns);
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
