/* SHA-256 of base/hash.h without the library: FIPS 180-4, for machines that have it not (tests/gpu/run).  tests/gpu/test_plain.c holds
 * it against the library. */
#include "base/hash.h"

#include <string.h>

enum { BLOCK = 64 };

struct plain {
	uint32_t h[8];
	uint64_t length;
	uint8_t block[BLOCK]; /* [length % BLOCK] are there */
};
_Static_assert(sizeof(struct plain) <= sizeof(struct sha256), "struct sha256 holds this state");

static const uint32_t constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
	0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
	0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
	0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
	0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
	0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static struct plain *plain_of(struct sha256 *sha)
{
	return (struct plain *)(void *)sha->state;
}

static uint32_t turned(uint32_t x, int by)
{
	return x >> by | x << (32 - by);
}

static void mix(uint32_t h[8], const uint8_t *block)
{
	uint32_t w[64], s[8];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + (turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
		       (turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(s, h, sizeof(s));
	for (int i = 0; i < 64; i++) {
		uint32_t first = s[7] + (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
				 constants[i] + w[i];
		uint32_t second = (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
		memmove(s + 1, s, 7 * sizeof(*s));
		s[4] += first;
		s[0] = first + second;
	}
	for (int i = 0; i < 8; i++)
		h[i] += s[i];
}

void sha256_init(struct sha256 *sha)
{
	static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	memset(sha, 0, sizeof(*sha));
	memcpy(plain_of(sha)->h, first, sizeof(first));
}

void sha256_add(struct sha256 *sha, const void *data, size_t length)
{
	struct plain *plain = plain_of(sha);
	const uint8_t *from = data;
	for (size_t i = 0; i < length; i++) {
		plain->block[plain->length++ % BLOCK] = from[i];
		if (plain->length % BLOCK == 0)
			mix(plain->h, plain->block);
	}
}

void sha256_end(struct sha256 *sha, uint8_t ret_digest[32])
{
	struct plain *plain = plain_of(sha);
	uint64_t bits = plain->length * 8;
	uint8_t tail[8];
	for (int i = 0; i < 8; i++)
		tail[i] = (uint8_t)(bits >> (56 - 8 * i));
	sha256_add(sha, "\x80", 1);
	while (plain->length % BLOCK != BLOCK - sizeof(tail))
		sha256_add(sha, "", 1);
	sha256_add(sha, tail, sizeof(tail));
	for (int i = 0; i < 32; i++)
		ret_digest[i] = (uint8_t)(plain->h[i / 4] >> (24 - i % 4 * 8));
}
