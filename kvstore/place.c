#include "kvstore/place.h"

#include <assert.h>
#include <stdbool.h>

#include "base/rng.h"

/* Schindelhauer and Schomaker's logarithmic method: the hash u of (key, node), uniform in (0, 1], is stretched to the
 * distance -log2(u) / weight, which is exponentially distributed; the nearest members own the key, so each with a
 * probability in proportion to its weight.  Distances are compared as distance_a * weight_b. */

#define LOG_FRACTION_BITS 40

struct candidate {
	uint64_t node;
	uint64_t distance; /* -log2(u), fixed point */
	uint32_t weight;
};

/* -log2((hash + 1) / 2^64) with LOG_FRACTION_BITS, by squaring the mantissa bit by bit. */
static uint64_t distance_of(uint64_t hash)
{
	if (hash == UINT64_MAX)
		return 0;
	uint64_t x = hash + 1;
	uint32_t exponent = 63 - (uint32_t)__builtin_clzll(x);
	uint64_t mantissa = x << (63 - exponent); /* 1.63 bits */
	uint64_t log = exponent;
	for (int bit = 0; bit < LOG_FRACTION_BITS; bit++) {
		unsigned __int128 square = (unsigned __int128)mantissa * mantissa; /* 2.126 bits */
		bool two = square >> 127;
		mantissa = (uint64_t)(square >> (two ? 64 : 63));
		log = 2 * log + two;
	}
	return ((uint64_t)64 << LOG_FRACTION_BITS) - log;
}

/* 1 - u, never more than -log2(u): says cheaply that a member cannot win. */
static uint64_t distance_at_least(uint64_t hash)
{
	return ~hash >> (64 - LOG_FRACTION_BITS);
}

static bool nearer(uint64_t distance, uint32_t weight, const struct candidate *than)
{
	return (unsigned __int128)distance * than->weight < (unsigned __int128)than->distance * weight;
}

static bool before(const struct candidate *a, const struct candidate *b)
{
	if (nearer(a->distance, a->weight, b))
		return true;
	return !nearer(b->distance, b->weight, a) && a->node < b->node;
}

uint32_t place_owners(const struct place_member *members, uint32_t member_count, const struct id128 *key,
		      uint32_t replicas, uint64_t *ret_nodes)
{
	assert(replicas >= 1 && replicas <= PLACE_REPLICAS_MAX);
	struct candidate best[PLACE_REPLICAS_MAX + 1];
	uint32_t count = 0;
	uint64_t seed = id128_hash(key);
	for (uint32_t i = 0; i < member_count; i++) {
		if (members[i].weight == 0)
			continue;
		uint64_t hash = rng_mix(seed ^ rng_mix(members[i].node));
		const struct candidate *last = &best[replicas - 1];
		if (count == replicas && nearer(last->distance, last->weight,
						&(struct candidate){.distance = distance_at_least(hash),
								    .weight = members[i].weight}))
			continue;
		struct candidate c = {members[i].node, distance_of(hash), members[i].weight};
		uint32_t at = count;
		for (; at > 0 && before(&c, &best[at - 1]); at--)
			best[at] = best[at - 1];
		best[at] = c;
		if (count < replicas)
			count++;
	}
	for (uint32_t i = 0; i < count; i++)
		ret_nodes[i] = best[i].node;
	return count;
}
