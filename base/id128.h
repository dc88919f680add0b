/* id128 - a 128-bit identity: a block's key, a fingerprint.  A value; compare with id128_equal(). */
#ifndef BASE_ID128_H
#define BASE_ID128_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct id128 {
	uint8_t bytes[16];
};

static inline bool id128_equal(const struct id128 *a, const struct id128 *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Identities are digests, so any eight of their bytes are a good table hash. */
static inline uint64_t id128_hash(const struct id128 *id)
{
	uint64_t hash;
	memcpy(&hash, id->bytes, sizeof(hash));
	return hash;
}
#endif
