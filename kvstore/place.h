/* place - who owns a block: weighted rendezvous hashing of its own key.  Pure.
 *
 * Each member has a score for a key, its hash stretched by its weight; the owners are the members with the best
 * scores.  So a member that joins or leaves moves only the keys that it gains or loses, in proportion to its
 * weight, and no table has to be agreed upon beyond the list of members.
 *
 * Integer arithmetic throughout: every node must find the same owners, whatever its compiler and libm.
 * Any thread; no state.  Cost: one hash a member, and a logarithm for the few that may win. */
#ifndef KVSTORE_PLACE_H
#define KVSTORE_PLACE_H
#include <stdint.h>
#include "base/id128.h"

enum { PLACE_REPLICAS_MAX = 8 };

struct place_member {
	uint64_t node;   /* each at most once */
	uint32_t weight; /* e.g. MiB of the store; 0: owns nothing */
};

/* The first `replicas` (1..PLACE_REPLICAS_MAX) owners of the key, best first; returns how many there are: fewer when
 * fewer members have a weight.  The order of `members` does not matter. */
uint32_t place_owners(const struct place_member *members, uint32_t member_count, const struct id128 *key,
		      uint32_t replicas, uint64_t *ret_nodes /* [replicas] */);
#endif
