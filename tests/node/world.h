/* world - an engine node's core among peers that a test plays: what it says is noted; what it reads and what it computes is
 * the test's to answer.
 *
 * Owns the node and its memory.  Bounds: SENT_MAX messages until somebody asks for one of them, READS_MAX reads. */
#ifndef TESTS_NODE_WORLD_H
#define TESTS_NODE_WORLD_H
#include "base/layer_groups.h"
#include "node/core.h"
#include "proto/codec.h"

enum { BLOCKS = 24, BLOCK_TOKENS = 4, LAYERS = 3, LAYER_BYTES = 64, VOCAB = 300, CONTEXT = 80, SENT_MAX = 64, READS_MAX = 64 };
enum { COORDINATOR = 1, PREFILL, DECODE, STORE }; /* connections; node ids are ten times that */

#define MS 1000000ull

struct sent {
	uint32_t conn;
	Wire__Envelope__BodyCase body;
	enum err error;
	Wire__Half half;
	bool reset;
	uint32_t transports;
	uint64_t op;    /* of a look-up */
	uint32_t keys;
	uint32_t computed, reused, fetched; /* of a job that ended */
	uint32_t layer, block_first, block_count; /* announced */
	char text[200];
};

struct world {
	struct env env;
	struct node *node;
	void *memory;
	uint64_t now_ns;
	uint64_t generations[LAYER_GROUPS_MAX][2 * BLOCKS];
	struct sent sent[SENT_MAX];
	uint32_t sent_count;
	struct env_read read[READS_MAX]; /* in order; what is answered stays in its place */
	uint32_t reads;
	const struct plan *plan;         /* submitted and not done */
	const char *decode_link;         /* what carries reads of DECODE */
};

extern uint8_t compat_bytes[16], other_bytes[16]; /* of the node's kind, and of another */

/* A node of both roles and one layer group; a test changes what it wants, and starts it: then a coordinator, a prefill and a
 * decode node have joined. */
struct node_options world_options(struct world *world);
void world_start(struct world *world, const struct node_options *options);
/* Everybody goes: then no job is left and nothing is reserved. */
void world_stop(struct world *world);
/* What it began to compute ends: each row that samples chooses token 5. */
void world_end_step(struct world *world);
/* Of cmocka: steps that are under way end, then the world stops and is freed. */
int world_teardown(void **state);

void join(struct world *world, uint32_t conn, Wire__Role role);
void say(struct world *world, uint32_t conn, Wire__Envelope *envelope);
#define SAY(conn, CASE, member, message)                          \
	do {                                                      \
		Wire__Envelope envelope_ = WIRE__ENVELOPE__INIT;  \
		envelope_.body_case = WIRE__ENVELOPE__BODY_##CASE; \
		envelope_.member = (message);                     \
		say(w, conn, &envelope_);                         \
	} while (0)
/* The last of its kind, which must be there; all that was sent is forgotten. */
struct sent told(struct world *world, Wire__Envelope__BodyCase body);

struct wanted {
	uint64_t number;
	Wire__Half half;
	uint32_t tokens, choices, max_tokens;
	uint32_t last_token;
	uint64_t partner;
	uint8_t *compat;
	float top_p;
	bool scored; /* all of the prompt */
};

struct wanted good(uint64_t number, Wire__Half half);
Wire__JobId job_of(uint64_t number); /* its first attempt */
struct sent reserve(struct world *world, struct wanted wanted);
/* Reserved without a refusal, and started. */
void begin(struct world *world, struct wanted wanted);
/* From prefill's connection mostly: job `number`, all places and digests zero. */
void announce(struct world *world, uint32_t conn, uint64_t number, Wire__Announce announce);
/* The job's end of the prompt: so many blocks, and first tokens. */
void prefilled(struct world *world, uint32_t conn, uint64_t number, uint32_t blocks, uint32_t first);
#endif
