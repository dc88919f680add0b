/* A store with a disk: what it says to whom, over a disk in memory that may be as bad as it likes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/digest.h"
#include "kvstore/store.h"
#include "proto/codec.h"
#include "tests/kvstore/crash_disk.h"

enum { SLABS = 2, SLAB_BYTES = 1024, SLOTS = 16, LAYERS = 2, LAYER_BYTES = 64, BLOCK_BYTES = LAYERS * LAYER_BYTES,
       IN_MEMORY = SLABS * SLAB_BYTES / BLOCK_BYTES, SENT_MAX = 4096, READS_MAX = 64, KEYS = 200, PEERS = 3 };

#define MS 1000000ull

struct sent {
	uint32_t conn;
	Wire__Envelope__BodyCase body;
	uint64_t op;
	enum err error;
	bool more;
	uint32_t blocks;
	uint32_t index[KEYS];
	struct slot_place place[KEYS];
	Wire__DiskLoad disk;
};

struct world {
	struct env env;
	struct crash_disk disk;
	struct disk_options options;
	enum store_persist persist;
	struct store *store;
	void *memory;
	uint64_t now;
	uint64_t incarnation;
	struct sent *sent; /* [SENT_MAX] */
	uint32_t sent_count;
	struct env_read reads[READS_MAX];
	uint32_t read_count;
	uint64_t generations[SLABS][SLOTS];
	uint32_t regions[SLABS], region_next;
	/* What must be on disk: said to be durable, and not gone. */
	bool durable[KEYS];
	bool may_lose;
};

static void fill(uint8_t *data, uint32_t key)
{
	for (uint32_t i = 0; i < BLOCK_BYTES; i++)
		data[i] = (uint8_t)rng_at(5, key, i);
}

static void on_send(void *context, uint32_t conn, const Wire__Envelope *e)
{
	struct world *w = context;
	if (e->body_case == WIRE__ENVELOPE__BODY_BEAT || e->body_case == WIRE__ENVELOPE__BODY_HELLO)
		return;
	assert_true(w->sent_count < SENT_MAX);
	struct sent *s = &w->sent[w->sent_count++];
	*s = (struct sent){.conn = conn, .body = e->body_case};
	if (s->body == WIRE__ENVELOPE__BODY_OFFER_DONE) {
		s->op = e->offer_done->op;
		s->error = (enum err)e->offer_done->error;
		/* The tests give an offer its key as op, in steps of 1000. */
		if (w->persist == STORE_PERSIST_ACK && (s->error == ERR_OK || s->error == ERR_EXISTS))
			w->durable[s->op % 1000] = true;
	} else if (s->body == WIRE__ENVELOPE__BODY_FOUND) {
		s->op = e->found->op;
		s->more = e->found->more;
		s->blocks = (uint32_t)e->found->n_blocks;
		for (uint32_t i = 0; i < s->blocks; i++) {
			const Wire__FoundBlock *b = e->found->blocks[i];
			s->index[i] = b->index;
			s->place[i] = (struct slot_place){b->place->region, b->place->offset, b->place->generation};
		}
	} else if (s->body == WIRE__ENVELOPE__BODY_LOAD && e->load->disk) {
		s->disk = *e->load->disk;
	}
}

static void on_nothing(void *context, uint32_t conn)
{
	(void)context, (void)conn;
}

static void on_dial(void *context, uint64_t node)
{
	(void)context, (void)node;
	fail();
}

static void on_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
	(void)context, (void)node, (void)incarnation, (void)address, (void)length;
}

static void on_link_close(void *context, uint64_t node)
{
	(void)context, (void)node;
}

static void on_read(void *context, const struct env_read *read)
{
	struct world *w = context;
	assert_true(w->read_count < READS_MAX);
	w->reads[w->read_count++] = *read;
}

static void on_cancel(void *context, uint64_t op)
{
	(void)context, (void)op;
}

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count, struct slab_region *ret_region)
{
	struct world *w = context;
	(void)slot_bytes, (void)slot_count;
	w->regions[slab] = w->region_next++;
	*ret_region = (struct slab_region){.region = w->regions[slab], .generations = w->generations[slab]};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	((struct world *)context)->regions[slab] = UINT32_MAX;
}

static void on_gone(void *context, const struct id128 *key, enum disk_gone why)
{
	struct world *w = context;
	if (why == DISK_GONE_BAD && !w->may_lose)
		assert_false(w->durable[key->bytes[0]]);
	w->durable[key->bytes[0]] = false;
}

static void start(struct world *w)
{
	struct store_options options = {
		.node = 100, .incarnation = ++w->incarnation, .name = "kvstore 1", .peer_max = 4,
		.ledger = {.slabs = {.slab_count = SLABS, .slab_bytes = SLAB_BYTES, .slot_bytes_min = 64, .context = w,
				     .open = open_slab, .close = close_slab},
			   .entry_max = 64, .layers_max = LAYERS, .policy = &evict_lru},
		.offer_max = 8, .reading_max = 4, .lookup_max = 6, .hold_max = 40, .found_max = 20, .disk = &w->options,
		.persist = w->persist, .disk_context = w, .disk_gone = on_gone, .env = &w->env,
	};
	free(w->memory);
	w->memory = malloc(store_bytes(&options));
	w->store = store_init(w->memory, &options);
	w->read_count = 0;
}

static struct world *create(enum store_persist persist, uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	w->sent = calloc(SENT_MAX, sizeof(*w->sent));
	w->persist = persist;
	w->now = 1000 * MS;
	w->env = (struct env){.context = w, .send = on_send, .close = on_nothing, .dial = on_dial, .link_open = on_link_open,
			      .link_close = on_link_close, .read = on_read, .read_cancel = on_cancel};
	struct crash_disk_options disk = {.seed = seed, .segment_count = 6, .segment_bytes = 32 * DISK_PAGE_BYTES,
					  .landing_count = SLABS * SLOTS, .landing_bytes = BLOCK_BYTES};
	crash_disk_init(&w->disk, &disk);
	w->options = (struct disk_options){
		.segment_count = 6, .segment_bytes = 32 * DISK_PAGE_BYTES, .block_max = 128, .record_bytes_max = 2 * DISK_PAGE_BYTES,
		.put_max = 6, .write_max = 3, .load_max = 10, .read_max = 3, .keep_percent = 50, .note_max = 64, .id = 99, .file = &w->disk.file,
	};
	start(w);
	return w;
}

static void destroy(struct world *w)
{
	store_check(w->store);
	crash_disk_fini(&w->disk);
	free(w->memory);
	free(w->sent);
	free(w);
}

static int setup_behind(void **state)
{
	*state = create(STORE_PERSIST_BEHIND, 1);
	return 0;
}

static int setup_ack(void **state)
{
	*state = create(STORE_PERSIST_ACK, 1);
	return 0;
}

static int teardown(void **state)
{
	destroy(*state);
	return 0;
}

/* One thing of the world happens: a read of a peer's memory, or an operation of the disk; false: nothing is to happen. */
static bool step(struct world *w)
{
	uint64_t op;
	enum err e;
	if (w->read_count > 0) {
		struct env_read r = w->reads[--w->read_count];
		uint32_t key = (uint32_t)(r.offset / 1000), layer = (uint32_t)(r.offset % 1000 / LAYER_BYTES);
		uint8_t data[BLOCK_BYTES];
		fill(data, key);
		memcpy(crash_disk_landing(&w->disk, r.landing) + r.landing_offset, data + layer * LAYER_BYTES, LAYER_BYTES);
		store_read_done(w->store, r.op, ERR_OK, digest_of(data + layer * LAYER_BYTES, LAYER_BYTES), w->now);
		store_landing_free(w->store, r.op, w->now);
	} else if (crash_disk_step(&w->disk, &op, &e)) {
		store_disk_done(w->store, op, e, w->now);
	} else {
		return false;
	}
	store_check(w->store);
	return true;
}

static void run(struct world *w)
{
	for (int i = 0; i < 40; i++) {
		while (step(w))
			;
		w->now += MS;
		store_tick(w->store, w->now);
		store_check(w->store);
	}
}

static void deliver(struct world *w, uint32_t conn, Wire__Envelope *envelope)
{
	envelope->version = PROTO_VERSION;
	store_message(w->store, conn, envelope, w->now);
	store_check(w->store);
}

static void join(struct world *w, uint32_t conn, Wire__Role role)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = conn * 10;
	hello.incarnation = 1;
	hello.role = role;
	hello.name = (char *)"peer";
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	store_opened(w->store, conn, 0, w->now);
	deliver(w, conn, &envelope);
}

static uint8_t compat[16] = {9};

static void offer(struct world *w, uint32_t conn, uint64_t op, uint8_t key)
{
	uint8_t bytes[16] = {key, 77}, data[BLOCK_BYTES];
	uint64_t digests[LAYERS];
	fill(data, key);
	for (uint32_t i = 0; i < LAYERS; i++)
		digests[i] = digest_of(data + i * LAYER_BYTES, LAYER_BYTES);
	Wire__Place place = WIRE__PLACE__INIT;
	place.offset = key * 1000u;
	place.generation = 1;
	Wire__Offer m = WIRE__OFFER__INIT;
	m.op = op;
	m.key = (ProtobufCBinaryData){16, bytes};
	m.place = &place;
	m.n_digests = LAYERS;
	m.digests = digests;
	m.layer_bytes = LAYER_BYTES;
	m.compat = (ProtobufCBinaryData){16, compat};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_OFFER;
	envelope.offer = &m;
	deliver(w, conn, &envelope);
}

static void lookup_as(struct world *w, uint32_t conn, uint64_t op, const uint8_t *keys, uint32_t count, uint8_t *of)
{
	uint8_t bytes[KEYS * 16] = {0};
	for (uint32_t i = 0; i < count; i++) {
		bytes[i * 16] = keys[i];
		bytes[i * 16 + 1] = 77;
	}
	Wire__Lookup m = WIRE__LOOKUP__INIT;
	m.op = op;
	m.keys = (ProtobufCBinaryData){count * 16, bytes};
	m.compat = (ProtobufCBinaryData){16, of};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOOKUP;
	envelope.lookup = &m;
	deliver(w, conn, &envelope);
}

static void lookup(struct world *w, uint32_t conn, uint64_t op, const uint8_t *keys, uint32_t count)
{
	lookup_as(w, conn, op, keys, count, compat);
}

static void release(struct world *w, uint32_t conn, uint64_t op)
{
	Wire__Release m = WIRE__RELEASE__INIT;
	m.op = op;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_RELEASE;
	envelope.release = &m;
	deliver(w, conn, &envelope);
}

/* Answer number n to that look-up, or NULL. */
static const struct sent *found(const struct world *w, uint64_t op, uint32_t n)
{
	for (uint32_t i = 0; i < w->sent_count; i++)
		if (w->sent[i].body == WIRE__ENVELOPE__BODY_FOUND && w->sent[i].op == op && n-- == 0)
			return &w->sent[i];
	return NULL;
}

static uint32_t answers(const struct world *w, uint64_t op, enum err e)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < w->sent_count; i++)
		count += w->sent[i].body == WIRE__ENVELOPE__BODY_OFFER_DONE && w->sent[i].op == op && w->sent[i].error == e;
	return count;
}

static struct store_status status_of(const struct world *w)
{
	struct store_status status;
	store_status(w->store, &status);
	return status;
}

/* Are the block's bytes at the place that was told? */
static void check_bytes(const struct world *w, const struct sent *s, uint32_t i, uint32_t key)
{
	uint8_t data[BLOCK_BYTES];
	fill(data, key);
	for (uint32_t slab = 0; slab < SLABS; slab++) {
		if (w->regions[slab] != s->place[i].region)
			continue;
		uint32_t slot = (uint32_t)(s->place[i].offset / BLOCK_BYTES);
		assert_int_equal(w->generations[slab][slot], s->place[i].generation);
		assert_memory_equal(crash_disk_landing((struct crash_disk *)&w->disk, slab * SLOTS + slot), data, BLOCK_BYTES);
		return;
	}
	fail();
}

/* Blocks from..to - 1 are offered, taken, written. */
static void put(struct world *w, uint8_t from, uint8_t to)
{
	for (uint32_t key = from; key < to; key++) {
		offer(w, 1, 1000 + key, (uint8_t)key);
		run(w);
		assert_int_equal(answers(w, 1000 + key, ERR_OK), 1);
	}
}

static void block_that_memory_evicted_comes_back_from_disk(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + 4);
	lookup(w, 1, 1, (uint8_t[]){IN_MEMORY + 2, 0, 1, 150}, 4);
	const struct sent *first = found(w, 1, 0);
	assert_int_equal(first->blocks, 1); /* the one in memory, at once */
	assert_true(first->more);
	check_bytes(w, first, 0, IN_MEMORY + 2);
	run(w);
	uint32_t blocks = 0;
	bool ended = false;
	for (uint32_t n = 1; found(w, 1, n); n++) {
		const struct sent *later = found(w, 1, n);
		assert_false(ended);
		for (uint32_t i = 0; i < later->blocks; i++, blocks++)
			check_bytes(w, later, i, later->index[i] - 1);
		ended = !later->more;
	}
	assert_int_equal(blocks, 2);
	assert_true(ended);
	assert_int_equal(status_of(w).counters.disk_hits, 2);
	assert_int_equal(store_held_for(w->store, 10), 3);
	release(w, 1, 1);
	assert_int_equal(store_held_for(w->store, 10), 0);
}

static void blocks_outlive_the_process(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, 10);
	crash_disk_crash(&w->disk);
	start(w);
	run(w);
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	uint8_t keys[10];
	for (uint8_t i = 0; i < 10; i++)
		keys[i] = i;
	lookup(w, 1, 5, keys, 10);
	run(w);
	uint32_t blocks = 0;
	for (uint32_t n = 0; found(w, 5, n); n++)
		blocks += found(w, 5, n)->blocks;
	assert_int_equal(blocks, 10);
	offer(w, 1, 2003, 3);
	assert_int_equal(answers(w, 2003, ERR_EXISTS), 1);
}

static void offer_of_a_block_on_disk_is_not_read(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + 4);
	offer(w, 1, 2000, 0);
	assert_int_equal(w->read_count, 0);
	assert_int_equal(answers(w, 2000, ERR_EXISTS), 1);
}

static void offer_is_done_when_the_block_is_durable(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	run(w);
	offer(w, 1, 1007, 7);
	offer(w, 1, 2007, 7); /* said twice, with another op */
	while (answers(w, 1007, ERR_OK) == 0) {
		assert_int_equal(answers(w, 2007, ERR_EXISTS), 0);
		assert_false(store_on_disk(w->store, &(struct id128){{7, 77}}));
		assert_true(step(w) || (w->now += MS, store_tick(w->store, w->now), true));
	}
	assert_true(w->disk.syncs > 0);
	assert_true(store_on_disk(w->store, &(struct id128){{7, 77}}));
	assert_int_equal(answers(w, 2007, ERR_EXISTS), 1);
	lookup(w, 1, 1, (uint8_t[]){7}, 1);
	assert_int_equal(found(w, 1, 0)->blocks, 1);
}

static void block_is_found_while_it_is_being_written(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	run(w);
	offer(w, 1, 1007, 7);
	while (status_of(w).ledger.entries[LEDGER_SEALED] == 0)
		assert_true(step(w));
	lookup(w, 1, 1, (uint8_t[]){7}, 1);
	assert_int_equal(found(w, 1, 0)->blocks, 1);
	assert_int_equal(answers(w, 1007, ERR_OK), 0);
	release(w, 1, 1);
	run(w);
	assert_int_equal(answers(w, 1007, ERR_OK), 1);
}

static void disk_that_fails_is_told_and_memory_serves_on(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, WIRE__ROLE__ROLE_COORDINATOR);
	run(w);
	w->disk.fail_at = w->disk.submitted + 1;
	w->disk.fail_on = true;
	offer(w, 1, 1007, 7);
	offer(w, 1, 2007, 7);
	run(w);
	assert_int_equal(answers(w, 1007, ERR_IO), 1);
	assert_int_equal(answers(w, 2007, ERR_IO), 1);
	assert_int_equal(status_of(w).disk.stopped, ERR_IO);
	lookup(w, 1, 1, (uint8_t[]){7}, 1);
	assert_int_equal(found(w, 1, 0)->blocks, 1);
	release(w, 1, 1);
	offer(w, 1, 1008, 8); /* no stall: it is taken, and said not to be durable */
	run(w);
	assert_int_equal(answers(w, 1008, ERR_IO), 1);
	w->now += 250 * MS;
	store_tick(w->store, w->now);
	bool told = false;
	for (uint32_t i = 0; i < w->sent_count; i++)
		told |= w->sent[i].body == WIRE__ENVELOPE__BODY_LOAD && w->sent[i].disk.stopped == ERR_IO && w->sent[i].disk.errors > 0;
	assert_true(told);
	/* It is well again: what is in memory only can be made durable. */
	w->disk.fail_at = 0;
	for (int i = 0; i < 200; i++)
		store_tick(w->store, w->now += 10 * MS);
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	offer(w, 1, 3007, 7);
	run(w);
	assert_int_equal(answers(w, 3007, ERR_EXISTS), 1);
	assert_true(store_on_disk(w->store, &(struct id128){{7, 77}}));
}

static void wrong_bytes_on_disk_are_a_miss(void **state)
{
	struct world *w = *state;
	w->may_lose = true;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + 4);
	crash_disk_page(&w->disk, 0, 2)[3] ^= 8; /* the first block's payload */
	lookup(w, 1, 1, (uint8_t[]){0}, 1);
	assert_true(found(w, 1, 0)->more);
	run(w);
	assert_int_equal(found(w, 1, 1)->blocks, 0);
	assert_false(found(w, 1, 1)->more);
	assert_int_equal(store_held_for(w->store, 10), 0);
	assert_int_equal(status_of(w).lookups, 0);
	assert_int_equal(status_of(w).disk.counters.gone[DISK_GONE_BAD], 1);
	offer(w, 1, 2000, 0); /* it may come again */
	run(w);
	assert_int_equal(answers(w, 2000, ERR_OK), 1);
}

static void two_look_ups_share_one_load(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, WIRE__ROLE__ROLE_DECODE);
	put(w, 0, IN_MEMORY + 4);
	uint64_t loads = status_of(w).disk.counters.loads;
	lookup(w, 1, 1, (uint8_t[]){0}, 1);
	lookup(w, 2, 2, (uint8_t[]){0}, 1);
	run(w);
	assert_int_equal(status_of(w).disk.counters.loads, loads + 1);
	assert_int_equal(found(w, 1, 1)->blocks, 1);
	assert_int_equal(found(w, 2, 1)->blocks, 1);
	store_closed(w->store, 1, w->now);
	assert_int_equal(store_held_for(w->store, 10), 0);
	assert_int_equal(store_held_for(w->store, 20), 1);
}

static void look_up_that_is_over_is_told_nothing_more(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, WIRE__ROLE__ROLE_DECODE);
	put(w, 0, IN_MEMORY + 4);
	lookup(w, 1, 1, (uint8_t[]){0}, 1);
	lookup(w, 2, 2, (uint8_t[]){1}, 1);
	release(w, 1, 1);
	store_closed(w->store, 2, w->now);
	store_check(w->store);
	run(w);
	assert_null(found(w, 1, 1));
	assert_null(found(w, 2, 1));
	assert_int_equal(status_of(w).lookups, 0);
	assert_int_equal(status_of(w).holds, 0);
	/* What came all the same is in memory, and the first to go. */
	join(w, 2, WIRE__ROLE__ROLE_DECODE);
	lookup(w, 2, 3, (uint8_t[]){0, 1}, 2);
	assert_int_equal(found(w, 3, 0)->blocks, 2);
}

static void block_of_another_compat_is_not_told(void **state)
{
	struct world *w = *state;
	uint8_t other[16] = {1};
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, IN_MEMORY + 4);
	lookup_as(w, 1, 1, (uint8_t[]){0}, 1, other);
	run(w);
	uint32_t blocks = 0;
	for (uint32_t n = 0; found(w, 1, n); n++)
		blocks += found(w, 1, n)->blocks;
	assert_int_equal(blocks, 0);
	assert_int_equal(store_held_for(w->store, 10), 0);
}

static void memory_full_of_held_blocks_means_less_is_found(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	put(w, 0, 2 * IN_MEMORY);
	uint8_t keys[2 * IN_MEMORY];
	for (uint8_t i = 0; i < 2 * IN_MEMORY; i++)
		keys[i] = 2 * IN_MEMORY - 1 - i;
	lookup(w, 1, 1, keys, IN_MEMORY); /* all that is in memory is held */
	lookup(w, 1, 2, keys + IN_MEMORY, 4);
	run(w);
	assert_int_equal(found(w, 1, 0)->blocks, IN_MEMORY);
	assert_int_equal(found(w, 2, 0)->blocks, 0);
	assert_false(found(w, 2, 0)->more);
}

static void store_that_leaves_writes_what_it_has(void **state)
{
	struct world *w = *state;
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	run(w);
	offer(w, 1, 1007, 7);
	while (answers(w, 1007, ERR_OK) == 0)
		assert_true(step(w));
	store_drain(w->store, w->now);
	assert_false(store_drained(w->store));
	run(w);
	assert_true(store_drained(w->store));
	assert_true(store_on_disk(w->store, &(struct id128){{7, 77}}));
}

/* Offers of one block after the other for so many ms; how many were taken and not written. */
static uint64_t offer_for(struct world *w, uint32_t ms)
{
	uint64_t before = status_of(w).counters.disk_unwritten;
	for (uint32_t i = 0; i < ms; i++) {
		for (uint32_t k = 0; k < 2; k++)
			offer(w, 1, 1000 * i + 10 + (2 * i + k) % 180, (uint8_t)(10 + (2 * i + k) % 180));
		w->now += MS;
		Wire__Beat beat = WIRE__BEAT__INIT;
		Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
		envelope.body_case = WIRE__ENVELOPE__BODY_BEAT;
		envelope.beat = &beat;
		deliver(w, 1, &envelope);
		store_tick(w->store, w->now);
		while (step(w))
			;
		w->sent_count = 0;
	}
	return status_of(w).counters.disk_unwritten - before;
}

static void slow_disk_holds_up_a_burst_and_no_more(void **state)
{
	struct world *w = *state;
	w->options.write_rate = 2 << 20; /* 256 blocks a second, of 2000 that are offered */
	crash_disk_kill(&w->disk);
	start(w);
	run(w);
	join(w, 1, WIRE__ROLE__ROLE_PREFILL);
	assert_int_equal(offer_for(w, 300), 0);
	assert_true(offer_for(w, 1500) > 500);
	assert_true(status_of(w).disk.counters.puts_durable > 200);
}

/* ---- walks */

static void act(struct world *w, struct rng *rng)
{
	uint32_t conn = 1 + (uint32_t)rng_below(rng, PEERS);
	uint8_t keys[6];
	for (int i = 0; i < 6; i++)
		keys[i] = (uint8_t)rng_below(rng, 90);
	switch (rng_below(rng, 9)) {
	case 0:
	case 1:
		offer(w, conn, 1000 * (1 + rng_below(rng, 50)) + keys[0], keys[0]);
		break;
	case 2:
		lookup(w, conn, 1 + rng_below(rng, 9), keys, 6);
		break;
	case 3:
		release(w, conn, 1 + rng_below(rng, 9));
		break;
	case 4:
		if (rng_below(rng, 30) == 0) {
			store_closed(w->store, conn, w->now);
			join(w, conn, WIRE__ROLE__ROLE_PREFILL);
		}
		break;
	case 5:
		w->now += rng_below(rng, 3) * MS;
		for (uint32_t c = 1; c <= PEERS; c++) { /* they live */
			Wire__Beat beat = WIRE__BEAT__INIT;
			Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
			envelope.body_case = WIRE__ENVELOPE__BODY_BEAT;
			envelope.beat = &beat;
			deliver(w, c, &envelope);
		}
		store_tick(w->store, w->now);
		break;
	default:
		step(w);
	}
	store_check(w->store);
	w->sent_count = 0;
}

static void any_walk_keeps_every_rule_and_what_was_acknowledged(void **state)
{
	(void)state;
	uint64_t hits = 0, durable = 0;
	for (uint64_t seed = 0; seed < 24; seed++) {
		struct rng rng = {.seed = seed};
		struct world *w = create(seed % 2 ? STORE_PERSIST_ACK : STORE_PERSIST_BEHIND, seed);
		w->disk.faults.fail = seed % 3 == 0 ? 200 : 0;
		for (int life = 0; life < 4; life++) {
			for (uint32_t conn = 1; conn <= PEERS; conn++)
				join(w, conn, WIRE__ROLE__ROLE_PREFILL);
			for (int i = 0; i < 2500; i++)
				act(w, &rng);
			hits += status_of(w).counters.disk_hits;
			if (rng_below(&rng, 2))
				crash_disk_crash(&w->disk);
			else
				crash_disk_kill(&w->disk);
			w->disk.faults.fail = 0;
			start(w);
			run(w);
			for (uint32_t key = 0; key < KEYS; key++) {
				durable += w->durable[key];
				assert_true(!w->durable[key] || store_on_disk(w->store, &(struct id128){{(uint8_t)key, 77}}));
			}
		}
		destroy(w);
	}
	assert_true(hits > 500 && durable > 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name, how) cmocka_unit_test_setup_teardown(name, setup_##how, teardown)
		T(block_that_memory_evicted_comes_back_from_disk, behind),
		T(blocks_outlive_the_process, behind),
		T(offer_of_a_block_on_disk_is_not_read, behind),
		T(offer_is_done_when_the_block_is_durable, ack),
		T(block_is_found_while_it_is_being_written, ack),
		T(disk_that_fails_is_told_and_memory_serves_on, ack),
		T(wrong_bytes_on_disk_are_a_miss, behind),
		T(two_look_ups_share_one_load, behind),
		T(look_up_that_is_over_is_told_nothing_more, behind),
		T(block_of_another_compat_is_not_told, behind),
		T(memory_full_of_held_blocks_means_less_is_found, behind),
		T(store_that_leaves_writes_what_it_has, behind),
		T(slow_disk_holds_up_a_burst_and_no_more, behind),
		cmocka_unit_test(any_walk_keeps_every_rule_and_what_was_acknowledged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
