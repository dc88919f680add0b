/* store_world - a store between arrays: what it sent and asked to read, and peers that speak to it. */
#ifndef TESTS_KVSTORE_STORE_WORLD_H
#define TESTS_KVSTORE_STORE_WORLD_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kvstore/store.h"
#include "proto/codec.h"

enum { SLABS = 2, SLAB_BYTES = 1024, SLOTS = 16, LAYERS = 2, LAYER_BYTES = 32, SENT_MAX = 256, READS_MAX = 256, ARENA = 1 << 20 };

#define MS 1000000ull

/* The world as arrays: what the store sent and asked to read. */
struct sent {
	uint32_t conn;
	Wire__Envelope__BodyCase body;
	uint64_t op;
	enum err error;
	uint32_t blocks;
	uint32_t index[SLOTS];
	struct slot_place place[SLOTS];
	uint64_t digests[SLOTS][LAYERS];
	Wire__Load load;
};

struct world {
	struct env env;
	struct store *store;
	void *memory;
	uint64_t now;
	struct sent sent[SENT_MAX];
	uint32_t sent_count;
	struct env_read reads[READS_MAX];
	uint32_t read_count;
	uint32_t read_next; /* first not yet answered by answer_reads() */
	uint32_t cancels;
	uint32_t closes;
	uint64_t generations[SLABS][SLOTS];
	/* The last answer to an operator, unpacked. */
	struct codec_arena arena;
	Wire__KvAnswer *answer;
};

extern uint8_t compat[16];
extern const char *tenant;     /* whose the next offers and look-ups are */
extern Wire__Priority priority; /* of the next offers */

int world_setup(void **state);
int world_teardown(void **state);
void deliver(struct world *w, uint32_t conn, Wire__Envelope *envelope);
void join(struct world *w, uint32_t conn, uint64_t node, Wire__Role role);
void offer_of(struct world *w, uint32_t conn, uint64_t op, uint8_t key, uint32_t layers, uint32_t layer_bytes);
void offer(struct world *w, uint32_t conn, uint64_t op, uint8_t key);
void lookup(struct world *w, uint32_t conn, uint64_t op, const uint8_t *keys, uint32_t count);
void release(struct world *w, uint32_t conn, uint64_t op);
void answer_reads(struct world *w, enum err e);
const struct sent *last(const struct world *w, Wire__Envelope__BodyCase body);
uint32_t answers(const struct world *w, uint64_t op, enum err e);
#endif
