/* hash - the two hashes of the project, pure functions of their bytes.
 *
 * XXH3-64 where speed counts and nobody attacks (digests of blocks, tables); SHA-256 where an identity
 * must never collide (keys, fingerprints).  See DESIGN: keys are SHA-256 truncated to 128 bits. */
#ifndef BASE_HASH_H
#define BASE_HASH_H
#include <stddef.h>
#include <stdint.h>

uint64_t hash_xxh3(const void *data, size_t length, uint64_t seed);

struct sha256 {
	_Alignas(8) uint8_t state[128]; /* the library's state, opaque here */
};
void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t length);
void sha256_end(struct sha256 *sha, uint8_t ret_digest[32]);
/* RFC 2104: who does not know the secret can neither make nor guess it. */
void hash_hmac(const void *secret, size_t secret_length, const void *data, size_t length, uint8_t ret_digest[32]);
#endif
