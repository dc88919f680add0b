/* matcher - where a text stands in a grammar: every way of having read it, as nodes with stacks of where to return.
 *
 *   matcher_begin -> matcher_read byte by byte -> matcher_accepts?        a text; or a token's bytes, then a mask (mask.h)
 *
 * Stacks are lists of frames that share their lower parts; equal frames are one frame.  Frame 0 is the bottom.
 *
 * Owns:   room for MATCHER_FRAMES_MAX frames: some 200 KiB.  A state of its own size can be saved and loaded.
 * Bounds: MATCHER_WAYS_MAX ways at once: further ones are forgotten, in an order that the text alone decides.
 * Rules:  1 every way can be finished (grammar.h rules 1): no text that was read so far is a dead end;
 *         2 what is remembered depends on the grammar and the bytes read, on nothing else (law 1). */
#ifndef MODEL_MATCHER_H
#define MODEL_MATCHER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "model/grammar.h"

enum { MATCHER_WAYS_MAX = 256, MATCHER_FRAMES_MAX = 1 << 13, MATCHER_BUCKETS = 1 << 12 };

struct matcher_way {
	uint32_t node;
	uint32_t frame; /* top of its stack */
};

struct matcher_frame {
	uint32_t node;   /* where it goes on after the return */
	uint32_t parent; /* the frame below */
	uint32_t depth;
	uint32_t next;   /* of its bucket */
};

struct matcher {
	const struct grammar *grammar;
	uint32_t way_count;
	struct matcher_way ways[MATCHER_WAYS_MAX];
	struct matcher_way next[MATCHER_WAYS_MAX];
	uint32_t frame_count;
	struct matcher_frame frames[MATCHER_FRAMES_MAX];
	uint32_t buckets[MATCHER_BUCKETS]; /* frame + 1; 0: none */
	uint32_t peak; /* of depth and need together, over all that was reached since it was set */
};

/* A saved state, in one piece of memory. */
struct matcher_state {
	uint32_t way_count, frame_count, room;
	void *memory;
};

void matcher_begin(struct matcher *matcher, const struct grammar *grammar);
/* Reads bytes; false: the grammar does not go on so, and no way is left. */
bool matcher_read(struct matcher *matcher, const uint8_t *bytes, size_t length);
/* What was read is whole. */
bool matcher_accepts(const struct matcher *matcher);

/* Zeroed memory is an empty state. */
MUST_USE enum err matcher_save(struct matcher *matcher, struct matcher_state *state);
void matcher_load(struct matcher *matcher, const struct grammar *grammar, const struct matcher_state *state);
void matcher_state_fini(struct matcher_state *state);

/* ---- for mask.c: single ways */

/* The ways that lead on from one by a byte, added to a list of at most MATCHER_WAYS_MAX without repeating any. */
void matcher_step(struct matcher *matcher, struct matcher_way way, uint8_t byte, struct matcher_way *list,
		  uint32_t *count);
/* A way may end here, down to the bottom frame. */
bool matcher_ends(const struct matcher *matcher, struct matcher_way way);
/* Forgets the frames made since there were `count`. */
void matcher_unwind(struct matcher *matcher, uint32_t count);
#endif
