/* listing - the order in which a store lists its blocks: one of keys, whatever happens to the blocks meanwhile.
 *
 * By the hash of the key, its lowest bit first, then by the rest of it.  So a range of the order is a range of homes of every table by
 * key, however large (base/map.h): a page is found without looking at more than the page, in memory and on disk alike, and who is there
 * from the first page to the last is on exactly one, also where it goes from memory to disk and back.
 *
 * Pure; any loop. */
#ifndef KVSTORE_LISTING_H
#define KVSTORE_LISTING_H
#include "base/id128.h"

static inline uint64_t listing_reverse(uint64_t bits)
{
	bits = (bits >> 1 & 0x5555555555555555u) | (bits & 0x5555555555555555u) << 1;
	bits = (bits >> 2 & 0x3333333333333333u) | (bits & 0x3333333333333333u) << 2;
	bits = (bits >> 4 & 0x0f0f0f0f0f0f0f0fu) | (bits & 0x0f0f0f0f0f0f0f0fu) << 4;
	return __builtin_bswap64(bits);
}

/* Negative: a comes before b. */
static inline int listing_compare(const struct id128 *a, const struct id128 *b)
{
	uint64_t x = listing_reverse(id128_hash(a)), y = listing_reverse(id128_hash(b));
	if (x != y)
		return x < y ? -1 : 1;
	return memcmp(a->bytes + sizeof(x), b->bytes + sizeof(x), sizeof(a->bytes) - sizeof(x));
}
#endif
