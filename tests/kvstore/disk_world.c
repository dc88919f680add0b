#include "tests/kvstore/disk_world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

static void die(const struct disk_world *w, const char *what, uint32_t block)
{
	fprintf(stderr, "disk world, seed %llu: block %u %s\n", (unsigned long long)w->disk.options.seed, block, what);
	abort();
}

static uint32_t layer_count(uint32_t block)
{
	return 1 + block % WORLD_LAYERS_MAX;
}

static uint32_t layer_bytes(uint32_t block)
{
	return 64 * (1 + (uint32_t)(rng_mix(block) % 100));
}

uint32_t world_bytes(uint32_t block)
{
	return layer_count(block) * layer_bytes(block);
}

struct id128 world_key(uint32_t block)
{
	struct id128 key = {{0}};
	uint64_t hash = rng_mix(block);
	memcpy(key.bytes, &hash, 8);
	memcpy(key.bytes + 8, &block, 4);
	return key;
}

static uint32_t block_of(const struct id128 *key)
{
	uint32_t block;
	memcpy(&block, key->bytes + 8, 4);
	return block;
}

bool world_is_noise(uint32_t block)
{
	return block % 4 == 3;
}

/* Noise, or bf16 with exponents close together. */
static void fill(uint8_t *data, uint32_t block)
{
	for (uint32_t i = 0; i < world_bytes(block); i += 8) {
		uint64_t word = rng_at(1, block, i);
		if (!world_is_noise(block))
			word = (word & 0x83ff83ff83ff83ffu) | 0x3c003c003c003c00u;
		memcpy(data + i, &word, 8);
	}
}

static const char *tenant_of(uint32_t block)
{
	static const char *const names[] = {"", "acme", "the tenant with the long name"};
	return names[block % 3];
}

static bool is_low(uint32_t block)
{
	return block % 5 == 2;
}

static struct ledger_block block_info(uint32_t block, const uint8_t *data, uint64_t *digests)
{
	struct ledger_block info = {.key = world_key(block), .parent = world_key(block + 1), .has_parent = block % 2,
				    .compat = {{7}}, .layer_count = layer_count(block), .layer_bytes = layer_bytes(block),
				    .digests = digests, .tenant = tenant_of(block),
				    .priority = is_low(block) ? LEDGER_LOW : LEDGER_NORMAL};
	for (uint32_t i = 0; i < info.layer_count; i++)
		digests[i] = digest_of(data + (size_t)i * info.layer_bytes, info.layer_bytes);
	return info;
}

/* ---- what the tier says; a cookie is block << 32 | landing */

static void free_landing(struct disk_world *w, uint64_t cookie)
{
	uint32_t landing = (uint32_t)cookie;
	assert(w->landing_block[landing] == cookie >> 32);
	w->landing_block[landing] = UINT32_MAX;
	memset(crash_disk_landing(&w->disk, landing), 0xcd, w->disk.options.landing_bytes); /* as the next one would */
}

static void on_written(void *context, uint64_t cookie)
{
	free_landing(context, cookie);
}

static void on_durable(void *context, uint64_t cookie, enum err e)
{
	struct disk_world *w = context;
	uint32_t block = (uint32_t)(cookie >> 32);
	if (e != ERR_OK && w->landing_block[(uint32_t)cookie] == block)
		free_landing(w, cookie);
	if (w->blocks[block] == BLOCK_PUT)
		w->blocks[block] = e == ERR_OK ? BLOCK_DURABLE : BLOCK_MAYBE;
	w->durable += e == ERR_OK;
	w->failed += e != ERR_OK;
}

static void check_bytes(struct disk_world *w, uint32_t landing, uint32_t block, const struct ledger_block *info)
{
	static uint8_t wanted[WORLD_RECORD_PAGES_MAX * DISK_PAGE_BYTES];
	uint64_t digests[WORLD_LAYERS_MAX];
	fill(wanted, block);
	struct ledger_block right = block_info(block, wanted, digests);
	if (memcmp(wanted, crash_disk_landing(&w->disk, landing), world_bytes(block)) != 0)
		die(w, "was loaded with other bytes", block);
	bool same = id128_equal(&right.key, &info->key) && right.has_parent == info->has_parent &&
		    (!right.has_parent || id128_equal(&right.parent, &info->parent)) && id128_equal(&right.compat, &info->compat) &&
		    right.layer_count == info->layer_count && right.layer_bytes == info->layer_bytes &&
		    memcmp(digests, info->digests, right.layer_count * sizeof(*digests)) == 0 &&
		    strcmp(right.tenant, info->tenant) == 0 && right.priority == info->priority;
	if (!same)
		die(w, "was loaded with another header", block);
}

static void on_loaded(void *context, uint64_t cookie, enum err e, const struct ledger_block *info)
{
	struct disk_world *w = context;
	uint32_t block = (uint32_t)(cookie >> 32);
	if (e == ERR_OK)
		check_bytes(w, (uint32_t)cookie, block, info);
	free_landing(w, cookie);
	w->last_load = e;
	w->loaded += e == ERR_OK;
	w->corrupt += e == ERR_CORRUPT;
	w->io += e == ERR_IO;
	w->not_found += e == ERR_NOT_FOUND;
	if (e != ERR_OK && e != ERR_IO && w->blocks[block] == BLOCK_DURABLE && !w->may_lose)
		die(w, "was said to be durable, and cannot be loaded", block);
}

static void on_gone(void *context, const struct id128 *key, enum disk_gone why)
{
	struct disk_world *w = context;
	uint32_t block = block_of(key);
	w->gone[why]++;
	if (why == DISK_GONE_BAD && w->blocks[block] == BLOCK_DURABLE && !w->may_lose)
		die(w, "was said to be durable, and is bad", block);
	w->blocks[block] = BLOCK_MAYBE; /* and may come back with a restart */
	w->pins[block] = WORLD_PIN_ANY;
	w->notes[block] = 0;
}

/* ---- notes */

enum err world_forget(struct disk_world *w, uint32_t block)
{
	struct id128 key = world_key(block);
	uint64_t note = 0;
	enum err e = disk_forget(w->tier, &key, &note);
	if (e != ERR_OK)
		return e;
	w->blocks[block] = BLOCK_DYING;
	w->notes[block] = note;
	return ERR_OK;
}

enum err world_pin(struct disk_world *w, uint32_t block, enum ledger_pin pin)
{
	struct id128 key = world_key(block);
	uint64_t note = 0;
	enum err e = disk_pin(w->tier, &key, pin, &note);
	if (e != ERR_OK)
		return e;
	w->pins[block] = WORLD_PIN_ANY;
	w->pins_wanted[block] = (uint8_t)pin;
	w->notes[block] = note;
	return ERR_OK;
}

/* What has become durable meanwhile. */
static void look_at_notes(struct disk_world *w, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t block = w->noted_next++ % WORLD_BLOCKS;
		if (w->notes[block] == 0 || !disk_noted(w->tier, w->notes[block]))
			continue;
		w->notes[block] = 0;
		if (w->blocks[block] == BLOCK_DYING)
			w->blocks[block] = BLOCK_DEAD;
		else
			w->pins[block] = w->pins_wanted[block];
	}
}

static void until_noted(struct disk_world *w, uint32_t block)
{
	for (int i = 0; w->notes[block] != 0; i++) {
		if (i == 100000)
			die(w, "has a note that does not become durable", block);
		world_step(w);
		look_at_notes(w, WORLD_BLOCKS);
	}
}

void world_forget_now(struct disk_world *w, uint32_t block)
{
	if (world_forget(w, block) != ERR_OK)
		die(w, "cannot be forgotten", block);
	until_noted(w, block);
}

void world_pin_now(struct disk_world *w, uint32_t block, enum ledger_pin pin)
{
	if (world_pin(w, block, pin) != ERR_OK)
		die(w, "cannot be pinned", block);
	until_noted(w, block);
}

/* ---- life */

void world_init(struct disk_world *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	struct crash_disk_options disk = {.seed = seed, .segment_count = WORLD_SEGMENTS,
					  .segment_bytes = WORLD_SEGMENT_PAGES * DISK_PAGE_BYTES,
					  .landing_count = WORLD_LANDINGS,
					  .landing_bytes = WORLD_RECORD_PAGES_MAX * DISK_PAGE_BYTES,
					  .secret = seed % 2 ? WORLD_SECRET : NULL};
	crash_disk_init(&w->disk, &disk);
	w->rng = (struct rng){.seed = seed + 1};
	w->now_ns = 1000 * MS;
	w->options = (struct disk_options){
		.segment_count = WORLD_SEGMENTS,
		.segment_bytes = WORLD_SEGMENT_PAGES * DISK_PAGE_BYTES,
		.block_max = WORLD_BLOCK_MAX,
		.record_bytes_max = WORLD_RECORD_PAGES_MAX * DISK_PAGE_BYTES,
		.put_max = WORLD_PUT_MAX,
		.write_max = 3,
		.encode_max = seed % 4 >= 2 ? 2 : 0,
		.load_max = WORLD_LOAD_MAX,
		.read_max = 2,
		.keep_percent = 50,
		.pin_bytes_max = WORLD_SEGMENT_PAGES * DISK_PAGE_BYTES,
		.note_max = WORLD_NOTE_MAX,
		.sync_delay_ns = 2 * MS,
		.id = 0x1234567 + seed,
		.file = &w->disk.file,
		.context = w,
		.written = on_written,
		.durable = on_durable,
		.loaded = on_loaded,
		.gone = on_gone,
	};
	world_restart(w, false);
}

void world_restart(struct disk_world *w, bool power)
{
	if (power)
		crash_disk_crash(&w->disk);
	else
		crash_disk_kill(&w->disk);
	for (uint32_t i = 0; i < WORLD_BLOCKS; i++) {
		bool open = w->blocks[i] == BLOCK_PUT || w->blocks[i] == BLOCK_DYING;
		w->blocks[i] = open ? BLOCK_MAYBE : w->blocks[i];
		w->pins[i] = w->notes[i] || open ? WORLD_PIN_ANY : w->pins[i];
		w->notes[i] = 0;
	}
	for (uint32_t i = 0; i < WORLD_LANDINGS; i++)
		w->landing_block[i] = UINT32_MAX;
	free(w->memory);
	w->memory = malloc(disk_bytes(&w->options));
	w->tier = disk_init(w->memory, &w->options, w->now_ns);
}

void world_fini(struct disk_world *w)
{
	free(w->memory);
	crash_disk_fini(&w->disk);
}

void world_step(struct disk_world *w)
{
	uint64_t op;
	enum err e;
	if (crash_disk_step(&w->disk, &op, &e)) {
		disk_done(w->tier, op, e, w->now_ns);
	} else {
		w->now_ns += MS;
		disk_tick(w->tier, w->now_ns);
	}
	disk_check(w->tier);
	look_at_notes(w, 8);
}

struct disk_status world_status(const struct disk_world *w)
{
	struct disk_status status;
	disk_status(w->tier, &status);
	return status;
}

void world_until_ready(struct disk_world *w)
{
	for (int i = 0; i < 100000; i++) {
		if (world_status(w).ready)
			return;
		world_step(w);
	}
	die(w, "(any) is not found: the index does not come back", 0);
}

void world_until_quiet(struct disk_world *w)
{
	for (int i = 0; i < 100000; i++) {
		struct disk_status status = world_status(w);
		if (status.ready && status.puts == 0 && status.loads == 0 && w->disk.pending_count == 0)
			return;
		world_step(w);
	}
	die(w, "(any) is on its way for ever", 0);
}

static bool take_landing(struct disk_world *w, uint32_t block, uint32_t *ret_landing)
{
	for (uint32_t i = 0; i < WORLD_LANDINGS; i++) {
		if (w->landing_block[i] != UINT32_MAX)
			continue;
		w->landing_block[i] = block;
		*ret_landing = i;
		return true;
	}
	return false;
}

bool world_has(const struct disk_world *w, uint32_t block)
{
	struct id128 key = world_key(block);
	struct disk_found found;
	if (!disk_find(w->tier, &key, &found))
		return false;
	bool low = found.priority == LEDGER_LOW;
	if (w->may_lose)
		return true;
	if (w->blocks[block] == BLOCK_DEAD)
		die(w, "was forgotten, durably, and is there", block);
	if (w->blocks[block] == BLOCK_DURABLE && w->pins[block] != WORLD_PIN_ANY && found.pin != w->pins[block])
		die(w, "is pinned otherwise than was said", block);
	if (found.layer_count != layer_count(block) || strcmp(found.tenant, tenant_of(block)) != 0 || low != is_low(block))
		die(w, "is in the index with other sizes, or of another tenant", block);
	return true;
}

bool world_put(struct disk_world *w, uint32_t block)
{
	uint32_t landing;
	uint64_t digests[WORLD_LAYERS_MAX];
	if (w->blocks[block] == BLOCK_PUT || !take_landing(w, block, &landing))
		return false;
	uint8_t *data = crash_disk_landing(&w->disk, landing);
	fill(data, block);
	struct ledger_block info = block_info(block, data, digests);
	enum err e = disk_put(w->tier, &info, landing, (uint64_t)block << 32 | landing);
	if (e != ERR_OK) {
		if (e == ERR_EXISTS && !world_has(w, block))
			die(w, "is said to be there", block);
		if (e == ERR_EXISTS) /* that is a promise too */
			w->blocks[block] = BLOCK_DURABLE;
		w->landing_block[landing] = UINT32_MAX;
		return false;
	}
	w->blocks[block] = BLOCK_PUT;
	w->notes[block] = 0;
	w->pins[block] = WORLD_PIN_ANY;
	return true;
}

bool world_load(struct disk_world *w, uint32_t block)
{
	uint32_t landing;
	if (!take_landing(w, block, &landing))
		return false;
	struct id128 key = world_key(block);
	enum err e = disk_load(w->tier, &key, landing, (uint64_t)block << 32 | landing);
	if (e == ERR_OK)
		return true;
	w->landing_block[landing] = UINT32_MAX;
	if (e == ERR_NOT_FOUND && w->blocks[block] == BLOCK_DURABLE && !w->may_lose)
		die(w, "was said to be durable, and is not found", block);
	return false;
}

bool world_put_now(struct disk_world *w, uint32_t block)
{
	uint32_t before = w->durable;
	if (!world_put(w, block))
		return false;
	world_until_quiet(w);
	return w->durable > before;
}

enum err world_load_now(struct disk_world *w, uint32_t block)
{
	if (!world_load(w, block))
		return ERR_NOT_FOUND;
	world_until_quiet(w);
	return w->last_load;
}

void world_believe(struct disk_world *w)
{
	for (uint32_t block = 0; block < WORLD_BLOCKS; block++)
		if (world_has(w, block))
			w->blocks[block] = BLOCK_DURABLE;
}

void world_check_all(struct disk_world *w)
{
	world_until_quiet(w);
	for (uint32_t block = 0; block < WORLD_BLOCKS; block++) {
		bool must = w->blocks[block] == BLOCK_DURABLE && !w->may_lose;
		if (!must && !world_has(w, block))
			continue;
		enum err e = world_load_now(w, block);
		if (e == ERR_OK && w->blocks[block] == BLOCK_UNKNOWN)
			die(w, "is there and never was", block);
		if (e != ERR_OK && must && w->blocks[block] == BLOCK_DURABLE)
			die(w, "was said to be durable, and is not there", block);
	}
}

int world_setup(void **state)
{
	struct disk_world *w = malloc(sizeof(*w));
	assert(w);
	world_init(w, 1);
	world_until_ready(w);
	*state = w;
	return 0;
}

int world_teardown(void **state)
{
	world_fini(*state);
	free(*state);
	return 0;
}

void world_walk(struct disk_world *w, uint32_t steps, uint32_t blocks)
{
	for (uint32_t i = 0; i < steps; i++) {
		uint32_t block = (uint32_t)rng_below(&w->rng, blocks);
		switch (rng_below(&w->rng, 6)) {
		case 0:
		case 1:
			world_put(w, block);
			break;
		case 2:
			if (world_has(w, block))
				world_load(w, block);
			break;
		case 3:
			w->now_ns += rng_below(&w->rng, 3 * MS);
			disk_tick(w->tier, w->now_ns);
			break;
		default:
			world_step(w);
		}
	}
}
