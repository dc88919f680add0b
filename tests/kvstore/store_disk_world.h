/* store_disk_world - the store of store_world over a disk in memory that may be as bad as it likes, and what that disk must keep. */
#ifndef TESTS_KVSTORE_STORE_DISK_WORLD_H
#define TESTS_KVSTORE_STORE_DISK_WORLD_H
#include "tests/kvstore/crash_disk.h"
#include "tests/kvstore/store_world.h"

enum { KEYS = 200 };

struct store_disk_world {
	struct world world; /* the first: tests speak of this one */
	struct crash_disk disk;
	struct disk_options options;
	bool durable[KEYS]; /* said to be durable, and not gone */
	bool may_lose;      /* the disk spoils what is durable */
};

static inline struct store_disk_world *disk_world_of(struct world *w)
{
	return (struct store_disk_world *)w;
}

struct world *disk_world_create(enum store_persist persist, uint64_t seed);
void disk_world_destroy(struct world *w);
int disk_setup_behind(void **state);
int disk_setup_ack(void **state);
int disk_teardown(void **state);

/* The process is killed, or the power is lost, and it starts again over what the disk has. */
void restart(struct world *w, bool power);
/* One thing of the world happens: a read of a peer's memory, or an operation of the disk; false: nothing is to happen. */
bool step(struct world *w);
/* All that is to happen, and 40 ms. */
void run(struct world *w);
/* Blocks from..to - 1 are offered at connection 1, taken, written. */
void put(struct world *w, uint8_t from, uint8_t to);

/* Answer number n to that look-up, or NULL; blocks of all answers to it. */
const struct sent *found(const struct world *w, uint64_t op, uint32_t n);
uint32_t found_blocks(const struct world *w, uint64_t op);
/* Are the block's bytes at the place that was told? */
void check_bytes(struct world *w, const struct slot_place *place, uint8_t key);
bool on_disk(const struct world *w, uint8_t key);
#endif
