/* digest - the digest of a run of bytes: XXH3-64 of each 4 KiB leaf, then XXH3-64 of the array of leaf digests
 * (little-endian, seeded with the length in bytes).
 *
 * Leaves can be digested in any order and by many threads (a GPU), and the copy of a leaf can be fused
 * with its digest while it is in the nearest cache.  Finds accidents, not attackers: those need a keyed MAC.
 * Pure; the memory is the caller's. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H
#include <stddef.h>
#include <stdint.h>

#define DIGEST_LEAF_BYTES 4096

/* Of length bytes; the digest of nothing is defined too. */
uint64_t digest_of(const void *data, size_t length);
/* The same number, and the bytes are copied on the way.  dst and src do not overlap. */
uint64_t digest_copy(void *dst, const void *src, size_t length);

/* The same in portions, for a copy that must not take long at a time.  Every portion but the last is a
 * multiple of DIGEST_LEAF_BYTES; together they are `length` bytes. */
struct digest {
	uint8_t state[576] __attribute__((aligned(64))); /* the library's state, opaque here */
};
void digest_init(struct digest *digest, size_t length);
void digest_add(struct digest *digest, const void *data, size_t length);
void digest_add_copy(struct digest *digest, void *dst, const void *src, size_t length);
uint64_t digest_end(const struct digest *digest);
#endif
