/* The low-level SHA-256 calls neither allocate nor look anything up, unlike EVP: pure code may use them. */
#define OPENSSL_API_COMPAT 0x10100000L
#include "base/hash.h"

#include <assert.h>
#include <openssl/sha.h>
#include <xxhash.h>

uint64_t hash_xxh3(const void *data, size_t length, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, length, seed);
}

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct sha256), "struct sha256 holds the library's state");

static SHA256_CTX *context(struct sha256 *sha)
{
	return (SHA256_CTX *)(void *)sha->state;
}

void sha256_init(struct sha256 *sha)
{
	SHA256_Init(context(sha));
}

void sha256_add(struct sha256 *sha, const void *data, size_t length)
{
	SHA256_Update(context(sha), data, length);
}

void sha256_end(struct sha256 *sha, uint8_t ret_digest[32])
{
	SHA256_Final(ret_digest, context(sha));
}
