/* disk_world - the SSD tier over a bad disk, beside the naive model of what it must keep.
 *
 * A block is a number: its key, sizes, bytes, tenant and priority follow from that, so every loaded byte can be compared.  Worlds of
 * odd seeds have a secret (crash_disk.h); those of seeds 2 and 3 of each four encode what they write. */
#ifndef TESTS_KVSTORE_DISK_WORLD_H
#define TESTS_KVSTORE_DISK_WORLD_H
#include "kvstore/disk.h"
#include "tests/kvstore/crash_disk.h"

enum { WORLD_BLOCKS = 4096, WORLD_LAYERS_MAX = 3, WORLD_LANDINGS = 16, WORLD_SEGMENTS = 8, WORLD_SEGMENT_PAGES = 24,
       WORLD_RECORD_PAGES_MAX = 6, WORLD_BLOCK_MAX = 96, WORLD_PUT_MAX = 6, WORLD_LOAD_MAX = 4, WORLD_NOTE_MAX = 40 };

#define MS 1000000ull
#define WORLD_PIN_ANY 255

enum block_state {
	BLOCK_UNKNOWN,
	BLOCK_PUT,     /* not said to be durable */
	BLOCK_DURABLE, /* must be there */
	BLOCK_MAYBE,   /* may be there: it was put before a crash, or gone before one */
	BLOCK_DYING,   /* forgotten: is not there, and may be after a crash */
	BLOCK_DEAD,    /* and that is durable */
};

#define WORLD_SECRET "sixteen bytes or more"

struct disk_world {
	struct crash_disk disk;
	struct disk_options options;
	struct disk *tier;
	void *memory;
	uint64_t now_ns;
	struct rng rng;
	enum block_state blocks[WORLD_BLOCKS];
	uint64_t notes[WORLD_BLOCKS];      /* of those that are dying, or are being pinned; 0: none */
	uint32_t noted_next;               /* of the blocks with notes some are looked at with every step */
	uint8_t pins[WORLD_BLOCKS];        /* that must be there after a crash, if the block is; WORLD_PIN_ANY: not known */
	uint8_t pins_wanted[WORLD_BLOCKS]; /* of those that are being pinned */
	uint32_t landing_block[WORLD_LANDINGS]; /* whose bytes lie there for the tier; UINT32_MAX: free */
	bool landing_loads[WORLD_LANDINGS];
	/* outcomes */
	uint32_t durable, failed, loaded, corrupt, io, not_found;
	enum err last_load;
	uint32_t gone[DISK_GONE_REASONS];
	bool may_lose; /* faults that spoil what is durable */
};

void world_init(struct disk_world *world, uint64_t seed);
void world_fini(struct disk_world *world);
/* A new process over what the disk has: power: also the power was lost. */
void world_restart(struct disk_world *world, bool power);
/* One operation ends, or, when none is under way, a little time passes. */
void world_step(struct disk_world *world);
/* Until the index is back; until nothing is under way. */
void world_until_ready(struct disk_world *world);
void world_until_quiet(struct disk_world *world);

uint32_t world_bytes(uint32_t block); /* of the payload */
bool world_is_noise(uint32_t block);  /* nothing of it can be saved */
struct id128 world_key(uint32_t block);
/* false: no landing is free, or the tier does not want it. */
bool world_put(struct disk_world *world, uint32_t block);
bool world_load(struct disk_world *world, uint32_t block);
/* As disk_forget() and disk_pin(). */
enum err world_forget(struct disk_world *world, uint32_t block);
enum err world_pin(struct disk_world *world, uint32_t block, enum ledger_pin pin);
/* Both, and waits until that is durable. */
void world_forget_now(struct disk_world *world, uint32_t block);
void world_pin_now(struct disk_world *world, uint32_t block, enum ledger_pin pin);
bool world_has(const struct disk_world *world, uint32_t block);
/* Puts it, and waits for what comes of it. */
bool world_put_now(struct disk_world *world, uint32_t block);
/* Loads it, and waits for what comes of it. */
enum err world_load_now(struct disk_world *world, uint32_t block);
/* What must be there is, and all that is there has the right bytes, or says that it has not. */
void world_check_all(struct disk_world *world);
/* All that is found must be right from now on: a crash alone leaves nothing in the index that is not whole. */
void world_believe(struct disk_world *world);
struct disk_status world_status(const struct disk_world *world);
/* Of a test: a world of its own, ready. */
int world_setup(void **state);
int world_teardown(void **state);
/* So many steps of any kind: puts, loads, time, and what the disk has done. */
void world_walk(struct disk_world *world, uint32_t steps, uint32_t blocks);
#endif
