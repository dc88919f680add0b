#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/rng.h"
#include "proto/codec.h"
#include "fleet.h"

enum { OFFERED_AT_ONCE = 128, OFFER_TRIES = 400, PEERS = 16, ENGINE_NODE = 1000 };

struct member {
	struct fleet *fleet;
	uint32_t index; /* of the store */
	uint64_t lives;
	struct store *store;
	uint8_t *slabs;
	uint64_t generations[FLEET_SLABS][FLEET_SLAB_SLOTS];
	uint32_t regions[FLEET_SLABS]; /* UINT32_MAX: closed */
	uint32_t region_next;
	uint64_t copied, moved; /* of former lives */
};

/* The engine. */
struct engine {
	struct sessions *sessions;
	uint8_t *memory; /* [FLEET_BLOCKS_MAX][FLEET_BLOCK_BYTES] */
	enum { NOT_OFFERED, OFFERED, TAKEN } states[FLEET_BLOCKS_MAX];
	bool low[FLEET_BLOCKS_MAX]; /* offered at low priority */
	uint64_t op_next;
};

struct fleet {
	struct fleet_options options;
	struct sim *sim;
	struct engine engine;
	struct member members[FLEET_STORES_MAX];
};

static const uint8_t compat[16] = {5};

struct id128 fleet_key(uint32_t block)
{
	struct id128 key;
	uint64_t words[2] = {rng_mix(block + 1), rng_mix(~(uint64_t)block)};
	memcpy(key.bytes, words, sizeof(words));
	return key;
}

/* ---- the engine */

static void on_peer(void *context, uint32_t peer)
{
	(void)context, (void)peer;
}

static void on_peer_gone(void *context, uint32_t peer, enum err why)
{
	(void)context, (void)peer, (void)why;
}

static void engine_opened(void *core, uint32_t conn, uint64_t node, uint64_t now_ns)
{
	sessions_opened(((struct engine *)core)->sessions, conn, node, now_ns);
}

static void engine_closed(void *core, uint32_t conn, uint64_t now_ns)
{
	sessions_closed(((struct engine *)core)->sessions, conn, now_ns);
}

static void engine_dial_failed(void *core, uint64_t node, uint64_t now_ns)
{
	sessions_dial_failed(((struct engine *)core)->sessions, node, now_ns);
}

static void engine_message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct engine *e = core;
	uint32_t peer = sessions_message(e->sessions, conn, envelope, now_ns);
	if (peer == PEER_NONE)
		return;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_OFFER_DONE) {
		uint32_t block = (uint32_t)envelope->offer_done->op;
		enum err answer = (enum err)envelope->offer_done->error;
		e->states[block] = answer == ERR_OK || answer == ERR_EXISTS ? TAKEN : NOT_OFFERED;
	} else if (envelope->body_case == WIRE__ENVELOPE__BODY_LOAD) {
		sessions_note_draining(e->sessions, peer, envelope->load->draining);
	} else if (envelope->body_case == WIRE__ENVELOPE__BODY_FOUND) {
		Wire__Release release = WIRE__RELEASE__INIT;
		release.op = envelope->found->op;
		Wire__Envelope answer = WIRE__ENVELOPE__INIT;
		answer.version = PROTO_VERSION;
		answer.body_case = WIRE__ENVELOPE__BODY_RELEASE;
		answer.release = &release;
		sessions_send(e->sessions, peer, &answer);
	}
}

static void engine_tick(void *core, uint64_t now_ns)
{
	sessions_tick(((struct engine *)core)->sessions, now_ns);
}

static const uint8_t *engine_memory(void *core, uint32_t region, uint64_t offset, uint32_t length,
				    uint64_t *ret_generation)
{
	(void)region, (void)length;
	*ret_generation = 1;
	return ((struct engine *)core)->memory + offset;
}

static const struct sim_node_ops engine_ops = {
	.opened = engine_opened,
	.closed = engine_closed,
	.dial_failed = engine_dial_failed,
	.message = engine_message,
	.tick = engine_tick,
	.memory = engine_memory,
};

static void start_engine(struct fleet *f)
{
	struct engine *e = &f->engine;
	struct session_options options = {
		.node = ENGINE_NODE, .incarnation = 1, .role = WIRE__ROLE__ROLE_PREFILL, .name = "engine",
		.compat = &(struct id128){{5}}, .peer_max = PEERS, .env = sim_env(f->sim, 0), .context = e, .up = on_peer,
		.down = on_peer_gone,
	};
	e->sessions = sessions_init(malloc(sessions_bytes(&options)), &options);
	e->memory = malloc((size_t)FLEET_BLOCKS_MAX * FLEET_BLOCK_BYTES);
	for (size_t i = 0; i < (size_t)FLEET_BLOCKS_MAX * FLEET_BLOCK_BYTES; i++)
		e->memory[i] = (uint8_t)rng_mix(i);
	sim_start(f->sim, 0, 1, &engine_ops, e);
}

static void say_offer(struct fleet *f, uint32_t peer, uint32_t block)
{
	struct engine *e = &f->engine;
	struct id128 key = fleet_key(block);
	uint64_t digests[FLEET_LAYERS];
	uint64_t offset = (uint64_t)block * FLEET_BLOCK_BYTES;
	for (uint32_t layer = 0; layer < FLEET_LAYERS; layer++)
		digests[layer] = hash_xxh3(e->memory + offset + layer * FLEET_LAYER_BYTES, FLEET_LAYER_BYTES, 0);
	Wire__Place place = WIRE__PLACE__INIT;
	place.offset = offset;
	place.generation = 1;
	Wire__Offer offer = WIRE__OFFER__INIT;
	offer.op = ++e->op_next << 32 | block;
	offer.key = (ProtobufCBinaryData){16, key.bytes};
	offer.place = &place;
	offer.n_digests = FLEET_LAYERS;
	offer.digests = digests;
	offer.layer_bytes = FLEET_LAYER_BYTES;
	offer.compat = (ProtobufCBinaryData){16, (uint8_t *)compat};
	offer.priority = e->low[block] ? WIRE__PRIORITY__PRIORITY_LOW : WIRE__PRIORITY__PRIORITY_NORMAL;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_OFFER;
	envelope.offer = &offer;
	sessions_send(e->sessions, peer, &envelope);
}

/* ---- who owns what, naively */

static uint32_t staying(struct fleet *f, struct place_member *ret_members)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < f->options.stores; i++) {
		struct store_status status;
		if (!f->members[i].store)
			continue;
		store_status(f->members[i].store, &status);
		if (!status.draining)
			ret_members[count++] = (struct place_member){i + 1, f->options.weights[i]};
	}
	return count;
}

static uint32_t owners(struct fleet *f, uint32_t block, uint32_t replicas, uint64_t *ret_nodes)
{
	struct place_member members[FLEET_STORES_MAX];
	uint32_t count = staying(f, members);
	struct id128 key = fleet_key(block);
	return place_owners(members, count, &key, replicas, ret_nodes);
}

bool fleet_owns(struct fleet *f, uint32_t store, uint32_t block)
{
	uint64_t nodes[PLACE_REPLICAS_MAX];
	uint32_t count = owners(f, block, f->engine.low[block] ? 1 : f->options.replicas, nodes);
	for (uint32_t i = 0; i < count; i++)
		if (nodes[i] == store + 1)
			return true;
	return false;
}

static void offer_once(struct fleet *f, uint32_t first, uint32_t end)
{
	uint32_t said = 0;
	for (uint32_t block = first; block < end && said < OFFERED_AT_ONCE; block++) {
		uint64_t node;
		if (f->engine.states[block] != NOT_OFFERED || owners(f, block, 1, &node) == 0)
			continue;
		uint32_t peer = sessions_find(f->engine.sessions, node);
		if (peer == PEER_NONE)
			continue;
		f->engine.states[block] = OFFERED;
		say_offer(f, peer, block);
		said++;
	}
}

void fleet_offer(struct fleet *f, uint32_t first, uint32_t count)
{
	for (uint32_t tries = 0; tries < OFFER_TRIES; tries++) {
		uint32_t taken = 0;
		for (uint32_t block = first; block < first + count; block++)
			taken += f->engine.states[block] == TAKEN;
		if (taken == count)
			return;
		offer_once(f, first, first + count);
		fleet_run(f, 10);
	}
	fail_msg("blocks %u to %u are not taken", first, first + count - 1);
}

void fleet_offer_low(struct fleet *f, uint32_t first, uint32_t count)
{
	for (uint32_t block = first; block < first + count; block++)
		f->engine.low[block] = true;
	fleet_offer(f, first, count);
}

void fleet_offer_again(struct fleet *f, uint32_t first, uint32_t count)
{
	for (uint32_t block = first; block < first + count; block++) {
		f->engine.low[block] = false;
		f->engine.states[block] = NOT_OFFERED;
	}
	fleet_offer(f, first, count);
}

void fleet_look_up(struct fleet *f, uint32_t store, uint32_t block)
{
	struct id128 key = fleet_key(block);
	Wire__Lookup lookup = WIRE__LOOKUP__INIT;
	lookup.op = ++f->engine.op_next;
	lookup.keys = (ProtobufCBinaryData){16, key.bytes};
	lookup.compat = (ProtobufCBinaryData){16, (uint8_t *)compat};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOOKUP;
	envelope.lookup = &lookup;
	sessions_send(f->engine.sessions, sessions_find(f->engine.sessions, store + 1), &envelope);
	fleet_run(f, 2);
}

/* ---- the stores */

static void store_is_opened(void *core, uint32_t conn, uint64_t node, uint64_t now_ns)
{
	store_opened(((struct member *)core)->store, conn, node, now_ns);
}

static void store_is_closed(void *core, uint32_t conn, uint64_t now_ns)
{
	store_closed(((struct member *)core)->store, conn, now_ns);
}

static void store_dialed_in_vain(void *core, uint64_t node, uint64_t now_ns)
{
	store_dial_failed(((struct member *)core)->store, node, now_ns);
}

static void store_hears(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	store_message(((struct member *)core)->store, conn, envelope, now_ns);
}

static void store_has_read(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	store_read_done(((struct member *)core)->store, op, e, digest, now_ns);
}

static void store_may_land(void *core, uint64_t op, uint64_t now_ns)
{
	store_landing_free(((struct member *)core)->store, op, now_ns);
}

static void store_ticks(void *core, uint64_t now_ns)
{
	struct member *m = core;
	store_tick(m->store, now_ns);
	store_check(m->store);
}

static uint8_t *store_landing(void *core, uint32_t landing, uint32_t offset, uint32_t length)
{
	struct member *m = core;
	assert_true(offset + length <= FLEET_BLOCK_BYTES);
	return m->slabs + (size_t)landing * FLEET_BLOCK_BYTES + offset;
}

static const uint8_t *store_memory(void *core, uint32_t region, uint64_t offset, uint32_t length, uint64_t *ret_generation)
{
	struct member *m = core;
	(void)length;
	for (uint32_t slab = 0; slab < FLEET_SLABS; slab++) {
		if (m->regions[slab] != region)
			continue;
		*ret_generation = m->generations[slab][offset / FLEET_BLOCK_BYTES];
		return m->slabs + (size_t)slab * FLEET_SLAB_SLOTS * FLEET_BLOCK_BYTES + offset;
	}
	return NULL;
}

static const struct sim_node_ops store_ops = {
	.opened = store_is_opened,
	.closed = store_is_closed,
	.dial_failed = store_dialed_in_vain,
	.message = store_hears,
	.read_done = store_has_read,
	.landing_free = store_may_land,
	.tick = store_ticks,
	.landing = store_landing,
	.memory = store_memory,
};

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct member *m = context;
	assert_true(slot_bytes == FLEET_BLOCK_BYTES && slot_count == FLEET_SLAB_SLOTS);
	m->regions[slab] = m->region_next++;
	*ret_region = (struct slab_region){m->regions[slab], m->generations[slab]};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	((struct member *)context)->regions[slab] = UINT32_MAX;
}

static struct store_options store_options_of(struct member *m)
{
	const struct fleet_options *o = &m->fleet->options;
	uint32_t slabs = o->slabs ? o->slabs : FLEET_SLABS;
	return (struct store_options){
		.node = m->index + 1,
		.incarnation = m->lives,
		.name = "store",
		.peer_max = PEERS,
		.ledger = {.slabs = {.slab_count = slabs, .slab_bytes = FLEET_SLAB_SLOTS * FLEET_BLOCK_BYTES,
				     .slot_bytes_min = FLEET_BLOCK_BYTES, .context = m, .open = open_slab, .close = close_slab},
			   .entry_max = slabs * FLEET_SLAB_SLOTS + (o->entries ? o->entries : 64), .layers_max = FLEET_LAYERS},
		.offer_max = 256,
		.reading_max = 32,
		.lookup_max = 16,
		.hold_max = 64,
		.found_max = 16,
		.weight = o->weights[m->index],
		.replicas = o->replicas,
		.copies_max = 64,
		.rebalance_rate = o->rate,
		.grace_ns = 500 * MS,
		.env = sim_env(m->fleet->sim, m->index + 1),
	};
}

/* Everybody who is up hears of everybody else. */
static void tell_all(struct fleet *f, uint32_t index)
{
	const struct member *m = &f->members[index];
	for (uint32_t i = 0; i < f->options.stores; i++) {
		struct member *other = &f->members[i];
		if (i == index || !other->store)
			continue;
		store_member(m->store, i + 1, other->lives, WIRE__ROLE__ROLE_KVSTORE, fleet_local(f, index));
		store_member(other->store, index + 1, m->lives, WIRE__ROLE__ROLE_KVSTORE, fleet_local(f, i));
	}
	sessions_want(f->engine.sessions, index + 1, m->lives, sim_local(f->sim, 0));
}

void fleet_start(struct fleet *f, uint32_t index)
{
	struct member *m = &f->members[index];
	m->lives++;
	for (uint32_t i = 0; i < FLEET_SLABS; i++)
		m->regions[i] = UINT32_MAX;
	memset(m->generations, 0, sizeof(m->generations));
	m->slabs = calloc(FLEET_SLABS * FLEET_SLAB_SLOTS, FLEET_BLOCK_BYTES);
	struct store_options options = store_options_of(m);
	m->store = store_init(calloc(1, store_bytes(&options)), &options);
	sim_start(f->sim, index + 1, m->lives, &store_ops, m);
	tell_all(f, index);
}

static void count_life(struct member *m)
{
	struct store_status status;
	store_status(m->store, &status);
	m->copied += status.replicate.copied_bytes;
	m->moved += status.replicate.moved_bytes;
	free(m->store);
	free(m->slabs);
	m->store = NULL;
	m->slabs = NULL;
}

void fleet_kill(struct fleet *f, uint32_t index)
{
	sim_kill(f->sim, index + 1);
	count_life(&f->members[index]);
}

void fleet_forget(struct fleet *f, uint32_t index)
{
	for (uint32_t i = 0; i < f->options.stores; i++)
		if (i != index && f->members[i].store)
			store_member_gone(f->members[i].store, index + 1);
}

void fleet_cut(struct fleet *f, uint32_t a, uint32_t b)
{
	sim_cut(f->sim, a + 1, b + 1);
}

struct fleet *fleet_create(const struct fleet_options *options)
{
	struct fleet *f = calloc(1, sizeof(*f));
	struct sim_options sim = {.seed = 3, .tick_ns = 20 * MS};
	f->options = *options;
	f->sim = sim_create(&sim);
	sim_add(f->sim, ENGINE_NODE, "engine");
	for (uint32_t i = 0; i < options->stores; i++) {
		f->members[i] = (struct member){.fleet = f, .index = i};
		sim_add(f->sim, i + 1, "store");
	}
	start_engine(f);
	return f;
}

void fleet_destroy(struct fleet *f)
{
	sim_destroy(f->sim);
	for (uint32_t i = 0; i < f->options.stores; i++)
		if (f->members[i].store)
			count_life(&f->members[i]);
	free(f->engine.sessions);
	free(f->engine.memory);
	free(f);
}

struct sim *fleet_sim(struct fleet *f)
{
	return f->sim;
}

void fleet_run(struct fleet *f, uint64_t ms)
{
	sim_run(f->sim, sim_now(f->sim) + ms * MS);
}

struct store *fleet_store(struct fleet *f, uint32_t store)
{
	return f->members[store].store;
}

uint64_t fleet_local(struct fleet *f, uint32_t store)
{
	return sim_local(f->sim, store + 1);
}

static bool settled(struct fleet *f)
{
	for (uint32_t i = 0; i < f->options.stores; i++) {
		struct store_status status;
		if (!f->members[i].store)
			continue;
		store_status(f->members[i].store, &status);
		if (status.replicate.missing || status.replicate.in_flight || status.offers || status.reading)
			return false;
	}
	return true;
}

void fleet_settle(struct fleet *f, uint64_t ms)
{
	fleet_run(f, 1200); /* sessions are up, and graces over */
	for (uint64_t passed = 0; !settled(f); passed += 20) {
		if (passed > ms)
			fail_msg("copies are missing after %llu ms", (unsigned long long)ms);
		fleet_run(f, 20);
	}
}

static uint32_t entry_of(struct fleet *f, uint32_t store, uint32_t block)
{
	struct id128 key = fleet_key(block), of_all = {{5}};
	return f->members[store].store ? ledger_find(store_ledger(f->members[store].store), &key, &of_all) : LEDGER_NONE;
}

bool fleet_has(struct fleet *f, uint32_t store, uint32_t block)
{
	return entry_of(f, store, block) != LEDGER_NONE;
}

bool fleet_has_spare(struct fleet *f, uint32_t store, uint32_t block)
{
	uint32_t entry = entry_of(f, store, block);
	return entry != LEDGER_NONE && ledger_is_spare(store_ledger(f->members[store].store), entry);
}

uint64_t fleet_copied(struct fleet *f)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < f->options.stores; i++) {
		struct store_status status = {0};
		if (f->members[i].store)
			store_status(f->members[i].store, &status);
		bytes += f->members[i].copied + status.replicate.copied_bytes;
	}
	return bytes;
}

uint64_t fleet_offers(struct fleet *f)
{
	uint64_t offers = 0;
	for (uint32_t i = 0; i < f->options.stores; i++) {
		struct store_status status = {0};
		if (f->members[i].store)
			store_status(f->members[i].store, &status);
		offers += status.counters.offers;
	}
	return offers;
}

uint64_t fleet_moved(struct fleet *f)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < f->options.stores; i++) {
		struct store_status status = {0};
		if (f->members[i].store)
			store_status(f->members[i].store, &status);
		bytes += f->members[i].moved + status.replicate.moved_bytes;
	}
	return bytes;
}
