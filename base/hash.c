/* The low-level SHA-256 calls neither allocate nor look anything up, unlike EVP: pure code may use them. */
#define OPENSSL_API_COMPAT 0x10100000L
#include "base/hash.h"

#include <assert.h>
#include <openssl/sha.h>
#include <string.h>
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

void hash_hmac(const void *secret, size_t secret_length, const void *data, size_t length, uint8_t ret_digest[32])
{
	uint8_t block[64] = {0}, inner[64], outer[64];
	struct sha256 sha;
	if (secret_length > sizeof(block)) {
		sha256_init(&sha);
		sha256_add(&sha, secret, secret_length);
		sha256_end(&sha, block);
	} else if (secret_length) {
		memcpy(block, secret, secret_length);
	}
	for (size_t i = 0; i < sizeof(block); i++) {
		inner[i] = block[i] ^ 0x36;
		outer[i] = block[i] ^ 0x5c;
	}
	sha256_init(&sha);
	sha256_add(&sha, inner, sizeof(inner));
	sha256_add(&sha, data, length);
	sha256_end(&sha, ret_digest);
	sha256_init(&sha);
	sha256_add(&sha, outer, sizeof(outer));
	sha256_add(&sha, ret_digest, 32);
	sha256_end(&sha, ret_digest);
}
