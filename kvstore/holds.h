/* holds - which blocks are held for which look-up of which peer.  Pure.
 *
 * What a look-up found stays held until its Release or the end of the asker's session: then everything hangs off
 * one list and is let go at once (law 3).
 *
 * Memory: the caller's.  Loop: the store's.  Bounds: lookup_max look-ups, hold_max blocks over all of them. */
#ifndef KVSTORE_HOLDS_H
#define KVSTORE_HOLDS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct holds_options {
	uint32_t peer_max;
	uint32_t lookup_max;
	uint32_t hold_max;
};

struct holds;

size_t holds_bytes(const struct holds_options *options);
struct holds *holds_init(void *memory, const struct holds_options *options);

/* Begins a look-up's list.  ERR_AGAIN: lookup_max are open. */
MUST_USE enum err holds_open(struct holds *holds, uint32_t peer, uint64_t op, uint32_t *ret_lookup);
MUST_USE enum err holds_add(struct holds *holds, uint32_t lookup, uint32_t entry);
/* The look-up of that peer, or UINT32_MAX. */
uint32_t holds_find(const struct holds *holds, uint32_t peer, uint64_t op);
/* Any look-up of that peer, or UINT32_MAX. */
uint32_t holds_first(const struct holds *holds, uint32_t peer);
/* Takes one block off the list; false, and the look-up is over, when there was none. */
bool holds_pop(struct holds *holds, uint32_t lookup, uint32_t *ret_entry);
uint32_t holds_lookups(const struct holds *holds);
uint32_t holds_count(const struct holds *holds);
/* Blocks held for that peer. */
uint32_t holds_of(const struct holds *holds, uint32_t peer);
#endif
