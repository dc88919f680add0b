/* digest_leaf - copies a whole leaf and digests it in the same pass: each register that was loaded is stored and hashed.
 *
 * The copy of cold memory waits for memory; hashing from the same registers fills that time, where hashing behind the copy
 * would come on top of it (bench/results/kv.md).  The digest is the library's XXH3-64 of the leaf, bit for bit. */
#ifndef BASE_DIGEST_LEAF_H
#define BASE_DIGEST_LEAF_H
#include <stdbool.h>
#include <stdint.h>

/* From the slowest to the fastest. */
enum digest_leaf_way { DIGEST_LEAF_NONE, DIGEST_LEAF_AVX2, DIGEST_LEAF_AVX512 };

/* The fastest that this processor has. */
enum digest_leaf_way digest_leaf_way(void);
/* DIGEST_LEAF_BYTES from src to dst, in a way that this processor has and that is not NONE.  stream: around the caches, dst is a
 * multiple of 64; digest_leaf_fence() before anybody else may look at dst. */
uint64_t digest_leaf_copy(enum digest_leaf_way way, void *dst, const void *src, bool stream);
void digest_leaf_fence(void);
#endif
