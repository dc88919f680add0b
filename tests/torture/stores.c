/* The store's core over real regions: offers, reads, look-ups, holds, evictions; its memory may fail to open. */
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "kvstore/store.h"
#include "net/region.h"
#include "proto/codec.h"
#include "torture.h"

enum { SLABS = 2, SLAB_BYTES = 1024, LAYERS = 2, LAYER_BYTES = 32, SLOTS = 16, BLOCKS = 40, READS = 256 };

#define MS 1000000ull

struct world {
	struct env env;
	struct store *store;
	void *memory;
	uint64_t now_ns;
	struct region *regions[SLABS];
	uint32_t regions_opened;
	struct env_read reads[READS];
	uint32_t read_count, read_next;
	uint32_t taken, refused, found;
};

static void on_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	struct world *w = context;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_FOUND)
		w->found += (uint32_t)envelope->found->n_blocks;
	if (envelope->body_case != WIRE__ENVELOPE__BODY_OFFER_DONE)
		return;
	if (envelope->offer_done->error == ERR_OK)
		w->taken++;
	else
		w->refused++;
}

static void on_conn(void *context, uint32_t conn)
{
}

static void on_node(void *context, uint64_t node)
{
}

static void on_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
}

static void on_read(void *context, const struct env_read *read)
{
	struct world *w = context;
	torture_check(w->read_count - w->read_next < READS);
	w->reads[w->read_count++ % READS] = *read;
}

static enum err slab_open(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct world *w = context;
	struct region_options options = {.index = (uint16_t)w->regions_opened, .slot_bytes = slot_bytes, .slot_count = slot_count};
	enum err e = region_create(&options, &w->regions[slab], NULL);
	if (e != ERR_OK)
		return e;
	*ret_region = (struct slab_region){w->regions_opened++, region_generations(w->regions[slab])};
	return ERR_OK;
}

static void slab_close(void *context, uint32_t slab)
{
	struct world *w = context;
	region_destroy(w->regions[slab]);
	w->regions[slab] = NULL;
}

static void say(struct world *w, Wire__Envelope *envelope)
{
	envelope->version = PROTO_VERSION;
	store_message(w->store, 1, envelope, w->now_ns);
	store_check(w->store);
}

static void join(struct world *w)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	hello.node = 5;
	hello.incarnation = 1;
	hello.role = WIRE__ROLE__ROLE_PREFILL;
	hello.name = (char *)"peer";
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	store_opened(w->store, 1, 0, w->now_ns);
	say(w, &envelope);
}

static uint8_t compat[PROTO_KEY_BYTES] = {9};

static void offer(struct world *w, uint8_t number, uint32_t layer_bytes)
{
	uint8_t key[PROTO_KEY_BYTES] = {number};
	uint64_t digests[LAYERS] = {number * 10u, number * 10u + 1};
	Wire__Place place = WIRE__PLACE__INIT;
	Wire__Offer m = WIRE__OFFER__INIT;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	place.offset = number * 1000u;
	place.generation = 1;
	m.op = number + 1u;
	m.key = (ProtobufCBinaryData){sizeof(key), key};
	m.compat = (ProtobufCBinaryData){sizeof(compat), compat};
	m.place = &place;
	m.digests = digests, m.n_digests = LAYERS;
	m.layer_bytes = layer_bytes;
	envelope.body_case = WIRE__ENVELOPE__BODY_OFFER;
	envelope.offer = &m;
	say(w, &envelope);
}

/* Every third block comes with another digest than it was offered with. */
static void answer_reads(struct world *w)
{
	for (; w->read_next < w->read_count; w->read_next++) {
		const struct env_read read = w->reads[w->read_next % READS];
		uint64_t number = read.offset / 1000, digest = number * 10 + (read.offset % 1000 ? 1 : 0);
		store_read_done(w->store, read.op, ERR_OK, number % 3 == 2 ? digest + 7 : digest, w->now_ns);
		store_landing_free(w->store, read.op, w->now_ns);
		store_check(w->store);
	}
}

static void lookup(struct world *w, uint64_t op)
{
	uint8_t keys[BLOCKS * PROTO_KEY_BYTES] = {0};
	Wire__Lookup m = WIRE__LOOKUP__INIT;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	for (int i = 0; i < BLOCKS; i++)
		keys[i * PROTO_KEY_BYTES] = (uint8_t)i;
	m.op = op;
	m.keys = (ProtobufCBinaryData){sizeof(keys), keys};
	m.compat = (ProtobufCBinaryData){sizeof(compat), compat};
	envelope.body_case = WIRE__ENVELOPE__BODY_LOOKUP;
	envelope.lookup = &m;
	say(w, &envelope);
}

static enum err open_store(struct world *w)
{
	struct store_options options = {
		.node = 100, .incarnation = 1, .name = "kvstore 1", .peer_max = 4,
		.ledger = {.slabs = {.slab_count = SLABS, .slab_bytes = SLAB_BYTES, .slot_bytes_min = 64, .context = w,
				     .open = slab_open, .close = slab_close},
			   .entry_max = 64, .layers_max = LAYERS},
		.offer_max = 8, .reading_max = 2, .lookup_max = 4, .hold_max = 64, .found_max = BLOCKS, .env = &w->env,
	};
	w->env = (struct env){.context = w, .send = on_send, .close = on_conn, .dial = on_node, .link_open = on_link_open,
			      .link_close = on_node, .read = on_read, .read_cancel = on_node};
	w->memory = calloc(1, store_bytes(&options));
	if (!w->memory)
		return ERR_NOMEM;
	w->store = store_init(w->memory, &options);
	return ERR_OK;
}

static void check_balance(const struct world *w)
{
	struct store_status status;
	store_status(w->store, &status);
	uint32_t used = status.ledger.entries[LEDGER_READING] + status.ledger.entries[LEDGER_CACHED] +
			status.ledger.entries[LEDGER_HELD] + status.ledger.entries[LEDGER_EVICTED];
	torture_check(status.ledger.slots_free + used == status.ledger.slots);
}

static enum err store(struct why *why)
{
	struct world w = {.now_ns = 1000 * MS};
	enum err e = open_store(&w);
	if (e != ERR_OK)
		return e;
	join(&w);
	for (uint8_t i = 0; i < BLOCKS; i++) {
		offer(&w, i, i < BLOCKS / 2 ? LAYER_BYTES : 2 * LAYER_BYTES); /* the second size takes a slab of its own */
		if (i % 4 == 3)
			answer_reads(&w);
		if (i == 20)
			lookup(&w, 1000);
		w.now_ns += 50 * MS;
		store_tick(w.store, w.now_ns);
		check_balance(&w);
	}
	for (int i = 0; i < BLOCKS; i++)
		answer_reads(&w);
	lookup(&w, 1001);
	store_closed(w.store, 1, w.now_ns);
	store_check(w.store);
	check_balance(&w);
	struct store_status status;
	store_status(w.store, &status);
	torture_check(status.holds == 0 && status.offers == 0 && w.taken + w.refused <= BLOCKS);
	if (w.taken == 0 || w.found == 0)
		e = why_set(why, ERR_AGAIN, "%u blocks taken, %u found", w.taken, w.found);
	for (int i = 0; i < SLABS; i++)
		region_destroy(w.regions[i]);
	free(w.memory);
	return e;
}

const struct scenario store_scenarios[] = {
	{"store and ledger", store, NULL, 0, true},
	{0},
};
