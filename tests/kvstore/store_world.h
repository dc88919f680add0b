/* store_world - a store between arrays: what it sent and asked to read, and peers that speak to it.
 *
 * A block is a key of one byte: its bytes, digests and place at who offers it follow from that. */
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

enum { SLABS = 2, SLAB_BYTES = 1024, SLOTS = 16, LAYERS = 2, LAYER_BYTES = 32, BLOCK_BYTES = LAYERS * LAYER_BYTES,
       IN_MEMORY = SLABS * SLOTS, FOUND_MAX = 40, CONNS = 16, SENT_MAX = 4096, READS_MAX = 256, ARENA = 1 << 20 };

#define MS 1000000ull

/* The world as arrays: what the store sent and asked to read. */
struct sent {
	uint32_t conn;
	Wire__Envelope__BodyCase body;
	uint64_t op;
	enum err error;
	uint32_t blocks;
	bool more;
	uint32_t index[FOUND_MAX];
	struct slot_place place[FOUND_MAX];
	uint64_t digests[FOUND_MAX][LAYERS];
	Wire__Load load;
	Wire__DiskLoad disk; /* of the load */
	uint8_t keys[256];   /* of offers and questions to stores; blocks: how many, or the pin of an offer */
};

struct world {
	struct env env;
	struct store_options options;
	void (*heard)(struct world *world, const struct sent *sent); /* NULL: nobody listens */
	struct store *store;
	void *memory;
	uint64_t now;
	struct sent sent[SENT_MAX];
	uint32_t sent_count;
	struct env_read reads[READS_MAX];
	uint32_t read_count;
	uint32_t read_next; /* first not yet answered by answer_reads() */
	uint64_t beats[CONNS]; /* heard last at each connection */
	uint32_t cancels;
	uint32_t closes;
	uint64_t generations[SLABS][SLOTS];
	uint32_t regions[SLABS], region_next;
	/* The last answer to an operator, unpacked. */
	struct codec_arena arena;
	Wire__KvAnswer *answer;
};

extern uint8_t compat[16];
extern const char *tenant;     /* whose the next offers and look-ups are */
extern Wire__Priority priority; /* of the next offers */
extern Wire__KvPin offer_pin;

int world_setup(void **state);
int world_teardown(void **state);
/* A world in zeroed memory, with options that may be changed until a store process begins, the first or a further one. */
void world_init(struct world *w);
void world_start(struct world *w);
void world_fini(struct world *w);
/* What a layer of the block consists of, and its digest. */
void world_fill(uint8_t data[LAYER_BYTES], uint8_t key, uint32_t layer);
uint64_t world_digest(uint8_t key, uint32_t layer);
void deliver(struct world *w, uint32_t conn, Wire__Envelope *envelope);
void join(struct world *w, uint32_t conn, uint64_t node, Wire__Role role);
void offer_of(struct world *w, uint32_t conn, uint64_t op, uint8_t key, uint32_t layers, uint32_t layer_bytes);
void offer(struct world *w, uint32_t conn, uint64_t op, uint8_t key);
void lookup_as(struct world *w, uint32_t conn, uint64_t op, const uint8_t *keys, uint32_t count, uint8_t *of);
void lookup(struct world *w, uint32_t conn, uint64_t op, const uint8_t *keys, uint32_t count);
void release(struct world *w, uint32_t conn, uint64_t op);
/* The peer lives, and hears the store. */
void beat(struct world *w, uint32_t conn);
/* A question of the operator at that connection, whose answer is not there yet if it has to wait; a question about one key. */
void ask(struct world *w, uint32_t conn, Wire__KvAsk *question);
void ask_key(struct world *w, Wire__KvVerb verb, uint8_t key, Wire__KvPin pin);
void answer_reads(struct world *w, enum err e);
struct store_status status_of(const struct world *w);
const struct sent *last(const struct world *w, Wire__Envelope__BodyCase body);
uint32_t answers(const struct world *w, uint64_t op, enum err e);
#endif
