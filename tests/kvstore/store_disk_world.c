#include "tests/kvstore/store_disk_world.h"

#include "base/digest.h"

/* The tests give an offer its key as op, in steps of 1000. */
static void on_heard(struct world *w, const struct sent *s)
{
	bool acknowledges = w->options.persist == STORE_PERSIST_ACK && (s->error == ERR_OK || s->error == ERR_EXISTS);
	if (s->body == WIRE__ENVELOPE__BODY_OFFER_DONE && acknowledges)
		disk_world_of(w)->durable[s->op % 1000] = true;
}

static void on_gone(void *context, const struct id128 *key, enum disk_gone why)
{
	struct store_disk_world *d = context;
	if (why == DISK_GONE_BAD && !d->may_lose)
		assert_false(d->durable[key->bytes[0]]);
	d->durable[key->bytes[0]] = false;
}

struct world *disk_world_create(enum store_persist persist, uint64_t seed)
{
	struct store_disk_world *d = calloc(1, sizeof(*d));
	struct world *w = &d->world;
	world_init(w);
	struct crash_disk_options disk = {.seed = seed, .segment_count = 6, .segment_bytes = 32 * DISK_PAGE_BYTES,
					  .landing_count = SLABS * SLOTS, .landing_bytes = BLOCK_BYTES,
					  .secret = seed % 2 ? "sixteen bytes or more" : NULL};
	crash_disk_init(&d->disk, &disk);
	d->options = (struct disk_options){
		.segment_count = 6, .segment_bytes = 32 * DISK_PAGE_BYTES, .block_max = 128, .record_bytes_max = 2 * DISK_PAGE_BYTES,
		.put_max = 6, .write_max = 3, .load_max = 10, .read_max = 3, .keep_percent = 50, .id = 99,
		.pin_bytes_max = 16 * DISK_PAGE_BYTES, .note_max = 64, .file = &d->disk.file,
	};
	w->heard = on_heard;
	w->options.reading_max = 4;
	w->options.lookup_max = 6;
	w->options.hold_max = FOUND_MAX;
	w->options.found_max = FOUND_MAX;
	w->options.disk = &d->options;
	w->options.persist = persist;
	w->options.disk_context = d;
	w->options.disk_gone = on_gone;
	world_start(w);
	return w;
}

void disk_world_destroy(struct world *w)
{
	world_fini(w);
	crash_disk_fini(&disk_world_of(w)->disk);
	free(w);
}

int disk_setup_behind(void **state)
{
	*state = disk_world_create(STORE_PERSIST_BEHIND, 1);
	return 0;
}

int disk_setup_ack(void **state)
{
	*state = disk_world_create(STORE_PERSIST_ACK, 1);
	return 0;
}

int disk_teardown(void **state)
{
	disk_world_destroy(*state);
	return 0;
}

void restart(struct world *w, bool power)
{
	if (power)
		crash_disk_crash(&disk_world_of(w)->disk);
	else
		crash_disk_kill(&disk_world_of(w)->disk);
	world_start(w);
	run(w);
}

bool step(struct world *w)
{
	struct crash_disk *disk = &disk_world_of(w)->disk;
	uint64_t op;
	enum err e;
	if (w->read_count > 0) {
		struct env_read r = w->reads[--w->read_count];
		uint8_t key = (uint8_t)(r.offset / 1000);
		uint32_t layer = (uint32_t)(r.offset % 1000 / LAYER_BYTES);
		world_fill(crash_disk_landing(disk, r.landing) + r.landing_offset, key, layer);
		store_read_done(w->store, r.op, ERR_OK, world_digest(key, layer), w->now);
		store_landing_free(w->store, r.op, w->now);
	} else if (crash_disk_step(disk, &op, &e)) {
		store_disk_done(w->store, op, e, w->now);
	} else {
		return false;
	}
	store_check(w->store);
	return true;
}

void run(struct world *w)
{
	for (int i = 0; i < 40; i++) {
		while (step(w))
			;
		w->now += MS;
		store_tick(w->store, w->now);
		store_check(w->store);
	}
}

void put(struct world *w, uint8_t from, uint8_t to)
{
	for (uint32_t key = from; key < to; key++) {
		offer(w, 1, 1000 + key, (uint8_t)key);
		run(w);
		beat(w, 1);
		assert_int_equal(answers(w, 1000 + key, ERR_OK), 1);
	}
}

const struct sent *found(const struct world *w, uint64_t op, uint32_t n)
{
	for (uint32_t i = 0; i < w->sent_count; i++)
		if (w->sent[i].body == WIRE__ENVELOPE__BODY_FOUND && w->sent[i].op == op && n-- == 0)
			return &w->sent[i];
	return NULL;
}

uint32_t found_blocks(const struct world *w, uint64_t op)
{
	uint32_t blocks = 0;
	for (uint32_t n = 0; found(w, op, n); n++)
		blocks += found(w, op, n)->blocks;
	return blocks;
}

void check_bytes(struct world *w, const struct slot_place *place, uint8_t key)
{
	uint8_t data[BLOCK_BYTES];
	for (uint32_t layer = 0; layer < LAYERS; layer++)
		world_fill(data + layer * LAYER_BYTES, key, layer);
	for (uint32_t slab = 0; slab < SLABS; slab++) {
		if (w->regions[slab] != place->region)
			continue;
		uint32_t slot = (uint32_t)(place->offset / BLOCK_BYTES);
		assert_int_equal(w->generations[slab][slot], place->generation);
		assert_memory_equal(crash_disk_landing(&disk_world_of(w)->disk, slab * SLOTS + slot), data, BLOCK_BYTES);
		return;
	}
	fail();
}

bool on_disk(const struct world *w, uint8_t key)
{
	return store_on_disk(w->store, &(struct id128){{key, 77}});
}
