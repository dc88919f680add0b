/* said - messages made of the fuzzer's bytes: each has passed the codec, so it is what a core may really be told.
 *
 * Fields take small numbers, so that ids meet; jobs and operations that the core itself named are preferred.  Digests
 * are what said_digest() says of a place, most of the time: what stands behind them would never be reached otherwise. */
#ifndef TESTS_FUZZ_SAID_H
#define TESTS_FUZZ_SAID_H
#include "bytes.h"
#include "proto/codec.h"

enum { SAID_NODES = 6, SAID_JOBS = 8, SAID_OPS = 16, SAID_ARENA = 1 << 17, SAID_FRAME = 1 << 15 };

struct said {
	struct bytes in;
	struct {
		uint64_t coordinator, number;
		uint32_t attempt;
	} jobs[SAID_JOBS];
	uint32_t job_next;
	uint64_t ops[SAID_OPS];
	uint32_t op_next;
	uint8_t arena_memory[SAID_ARENA];
	uint8_t frame[SAID_FRAME];
	struct codec_arena arena;
};

void said_init(struct said *said, const uint8_t *data, size_t length);
/* The next message; NULL: what came out of the bytes is refused by the codec.  Valid until the next call. */
const Wire__Envelope *said_message(struct said *said);
/* A greeting of that node. */
const Wire__Envelope *said_hello(struct said *said, uint64_t node, uint64_t incarnation, Wire__Role role);
/* The core said this: its jobs and operations are known from now on. */
void said_heard(struct said *said, const Wire__Envelope *envelope);
uint64_t said_digest(uint64_t offset);
#endif
