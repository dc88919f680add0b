/* stop - stop strings: text goes in piece by piece, and comes out as soon as no stop string can begin in it.
 *
 * What might become a stop string is held back; at the first match (the earliest in the text; of two at one place the
 * one listed first) everything from there on is dropped, or kept up to the match's end.
 * Pure values.  Bounds: STOP_MAX strings of STOP_BYTES_MAX bytes. */
#ifndef COORDINATOR_STOP_H
#define COORDINATOR_STOP_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"

enum { STOP_MAX = 16, STOP_BYTES_MAX = 256, STOP_NONE = -1 };

/* The strings of a request; they belong to who made the set. */
struct stop_set {
	uint32_t count;
	bool include; /* the stop string is part of the output */
	const char *text[STOP_MAX];
	size_t length[STOP_MAX];
};

struct stopper {
	const struct stop_set *set;
	struct buf held;    /* came in, not out yet */
	size_t exempt;      /* so many first bytes of it came too early to stop anything (min_tokens) */
};

void stopper_init(struct stopper *stopper, const struct stop_set *set);
void stopper_fini(struct stopper *stopper);
/* Takes a piece and appends to `out` what is free to go.  exempt: no stop string may begin in this piece.
 * ret_match: the string that was found, or STOP_NONE; after a match the object takes nothing more. */
MUST_USE enum err stopper_feed(struct stopper *stopper, const char *text, size_t length, bool exempt, struct buf *out,
			       int *ret_match);
/* The answer ended for another reason: what is held goes out. */
MUST_USE enum err stopper_finish(struct stopper *stopper, struct buf *out);
#endif
