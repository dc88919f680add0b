/* world - a coordinator core among scripted nodes: what it sends is queued for each, what they say is fed to it.
 *
 * Time is a number that the test turns.  A node is its frames: the test takes what was sent to it and answers by
 * hand.  Tokens are a function of (prompt, choice, position), so every forwarded token is checked (law 1). */
#ifndef TESTS_COORDINATOR_WORLD_H
#define TESTS_COORDINATOR_WORLD_H
#include "coordinator/core.h"
#include "proto/codec.h"

enum { NODES_MAX = 8, FRAMES_MAX = 4096, REQUESTS_SEEN = 2048, BLOCK_TOKENS = 8 };

#define MS 1000000ull

struct frame {
	uint8_t *bytes;
	size_t length;
};

struct fake {
	uint64_t id, incarnation;
	Wire__Role role;
	char name[COORD_NAME_MAX + 1];
	struct id128 compat;
	uint32_t conn; /* 0: none */
	bool dialed;   /* the core wants a connection */
	struct frame inbox[FRAMES_MAX]; /* from the core */
	uint32_t inbox_first, inbox_end;
	uint64_t events; /* sequence */
};

struct seen {
	uint64_t request;
	uint32_t prompt_first, prompt_count, choices;
	uint32_t tokens[SAMPLING_CHOICES_MAX]; /* forwarded */
	Wire__Finish finish[SAMPLING_CHOICES_MAX];
	uint32_t scored; /* prompt tokens after the first */
	uint32_t ends;
	uint32_t enough_after; /* tokens of a choice, then COORD_ENOUGH; 0: never */
	struct coord_outcome outcome;
};

struct world {
	struct env env;
	void *memory;
	struct coord *coord;
	uint64_t now_ns;
	struct fake fakes[NODES_MAX];
	uint32_t fake_count;
	uint32_t conn_next;
	struct seen *seen; /* [REQUESTS_SEEN] */
	uint32_t seen_count;
	uint32_t routed;
	struct route_record route;
	struct codec_arena arena;
	const char *tenant;      /* of what is submitted next */
	struct fair_share share;
	enum coord_class class;
	uint8_t prompt_logprobs;
	bool deaf; /* what is sent is dropped: for the benchmark of the queue */
};

void world_init(struct world *world, const struct coord_options *base);
void world_fini(struct world *world);
/* Announces a node; it is dialled at once. */
uint32_t world_member(struct world *world, Wire__Role role, const char *name, uint8_t compat, const char *model);
/* Connects, greets, sends an empty snapshot. */
void world_up(struct world *world, uint32_t fake);
/* The connection breaks. */
void world_cut(struct world *world, uint32_t fake);
void world_tick(struct world *world, uint64_t ns);
/* Ticks in steps of 50 ms while every node beats. */
void world_pass(struct world *world, uint64_t ns);

/* The next frame for this node that is no Beat; NULL: none.  Valid until the next call. */
const Wire__Envelope *world_next(struct world *world, uint32_t fake);
/* The same, and it must be of this kind. */
const Wire__Envelope *world_expect(struct world *world, uint32_t fake, Wire__Envelope__BodyCase body);
void world_expect_silence(struct world *world, uint32_t fake);

uint32_t token_of(uint32_t prompt_first, uint32_t choice, uint32_t position);

/* A prompt of `count` tokens that begins with `first`; returns what coord_submit() says. */
enum err world_submit(struct world *world, uint32_t first, uint32_t count, uint32_t choices, uint32_t max_tokens,
		      struct seen **ret_seen);
struct seen *world_seen(struct world *world, uint64_t request);

/* What nodes say. */
void say(struct world *world, uint32_t fake, Wire__Envelope *envelope);
void say_reserved(struct world *world, uint32_t fake, const Wire__JobId *job, Wire__Half half, enum err e);
void say_token(struct world *world, uint32_t fake, const Wire__JobId *job, uint32_t choice, uint32_t position,
	       uint32_t token, Wire__Finish finish);
/* Prompt tokens count up from prompt_first: the scores of `count` of them, from `position` on. */
void say_scores(struct world *world, uint32_t fake, const Wire__JobId *job, uint32_t prompt_first, uint32_t position,
		uint32_t count);
void say_end(struct world *world, uint32_t fake, const Wire__JobId *job, Wire__Half half, enum err e,
	     const Wire__Accounting *accounting);
/* Of what reader requires nothing reaches owner, as it is now. */
void say_refused(struct world *world, uint32_t reader, uint32_t owner, const char *required);
void say_load(struct world *world, uint32_t fake, uint64_t tokens_waiting, uint32_t sequences);
/* Of 40 blocks so many are in use; jobs may reserve so many and have reserved some. */
void say_room(struct world *world, uint32_t fake, uint32_t used, uint32_t reservable, uint32_t reserved);
void say_events(struct world *world, uint32_t fake, bool reset, const struct id128 *added, uint32_t added_count,
		const struct id128 *removed, uint32_t removed_count);
#endif
