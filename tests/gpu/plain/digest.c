/* The digest of base/digest.h without the library: XXH3-64 as its author published it, for machines that have it not
 * (tests/gpu/run).  tests/gpu/test_plain.c holds it against the library. */
#include "base/digest.h"

#include <string.h>

#define P32_1 0x9E3779B1u
#define P32_2 0x85EBCA77u
#define P32_3 0xC2B2AE3Du
#define P64_1 0x9E3779B185EBCA87u
#define P64_2 0xC2B2AE3D27D4EB4Fu
#define P64_3 0x165667B19E3779F9u
#define P64_4 0x85EBCA77C2B2AE63u
#define P64_5 0x27D4EB2F165667C5u
#define PMX_1 0x165667919E3779F9u
#define PMX_2 0x9FB21C651E98DF25u

enum { SECRET_BYTES = 192, STRIPE = 64, BLOCK_STRIPES = (SECRET_BYTES - STRIPE) / 8 };

static const uint8_t secret_default[SECRET_BYTES] = {
	0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9,
	0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78,
	0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6,
	0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
	0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f,
	0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
	0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff,
	0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
	0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
	0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint32_t read32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t read64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t turn(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static uint64_t avalanche(uint64_t h)
{
	h = (h ^ h >> 37) * PMX_1;
	return h ^ h >> 32;
}

static uint64_t avalanche64(uint64_t h)
{
	h = (h ^ h >> 33) * P64_2;
	h = (h ^ h >> 29) * P64_3;
	return h ^ h >> 32;
}

static uint64_t short16(const uint8_t *in, size_t length, const uint8_t *secret, uint64_t seed)
{
	if (length > 8) {
		uint64_t low = (read64(secret + 24) ^ read64(secret + 32)) + seed;
		uint64_t high = (read64(secret + 40) ^ read64(secret + 48)) - seed;
		low ^= read64(in);
		high ^= read64(in + length - 8);
		return avalanche(length + __builtin_bswap64(low) + high + fold(low, high));
	}
	if (length >= 4) {
		seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
		uint64_t both = read32(in + length - 4) + ((uint64_t)read32(in) << 32);
		uint64_t h = both ^ ((read64(secret + 8) ^ read64(secret + 16)) - seed);
		h ^= turn(h, 49) ^ turn(h, 24);
		h *= PMX_2;
		h ^= (h >> 35) + length;
		h *= PMX_2;
		return h ^ h >> 28;
	}
	if (length > 0) {
		uint32_t all = (uint32_t)in[0] << 16 | (uint32_t)in[length >> 1] << 24 | in[length - 1] | (uint32_t)length << 8;
		return avalanche64(all ^ ((read32(secret) ^ read32(secret + 4)) + seed));
	}
	return avalanche64(seed ^ read64(secret + 56) ^ read64(secret + 64));
}

static uint64_t mix16(const uint8_t *in, const uint8_t *secret, uint64_t seed)
{
	return fold(read64(in) ^ (read64(secret) + seed), read64(in + 8) ^ (read64(secret + 8) - seed));
}

static uint64_t middle(const uint8_t *in, size_t length, const uint8_t *secret, uint64_t seed)
{
	uint64_t sum = length * P64_1;
	if (length <= 128) {
		for (size_t i = (length - 1) / 32 + 1; i-- > 0;) {
			sum += mix16(in + 16 * i, secret + 32 * i, seed);
			sum += mix16(in + length - 16 * (i + 1), secret + 32 * i + 16, seed);
		}
		return avalanche(sum);
	}
	for (size_t i = 0; i < 8; i++)
		sum += mix16(in + 16 * i, secret + 16 * i, seed);
	sum = avalanche(sum);
	for (size_t i = 8; i < length / 16; i++)
		sum += mix16(in + 16 * i, secret + 16 * (i - 8) + 3, seed);
	sum += mix16(in + length - 16, secret + 136 - 17, seed);
	return avalanche(sum);
}

static void stripe(uint64_t lanes[8], const uint8_t *in, const uint8_t *secret)
{
	for (int i = 0; i < 8; i++) {
		uint64_t value = read64(in + 8 * i), key = value ^ read64(secret + 8 * i);
		lanes[i ^ 1] += value;
		lanes[i] += (key & 0xffffffff) * (key >> 32);
	}
}

static uint64_t longer(const uint8_t *in, size_t length, const uint8_t *secret)
{
	uint64_t lanes[8] = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1}, sum = length * P64_1;
	size_t stripes = (length - 1) / STRIPE;
	for (size_t i = 0; i < stripes; i++) {
		stripe(lanes, in + i * STRIPE, secret + i % BLOCK_STRIPES * 8);
		if (i % BLOCK_STRIPES == BLOCK_STRIPES - 1)
			for (int j = 0; j < 8; j++)
				lanes[j] = (lanes[j] ^ lanes[j] >> 47 ^ read64(secret + SECRET_BYTES - STRIPE + 8 * j)) * P32_1;
	}
	stripe(lanes, in + length - STRIPE, secret + SECRET_BYTES - STRIPE - 7);
	for (int i = 0; i < 8; i += 2)
		sum += fold(lanes[i] ^ read64(secret + 11 + 8 * i), lanes[i + 1] ^ read64(secret + 11 + 8 * i + 8));
	return avalanche(sum);
}

static uint64_t xxh3(const uint8_t *in, size_t length, uint64_t seed)
{
	uint8_t seeded[SECRET_BYTES];
	if (length <= 16)
		return short16(in, length, secret_default, seed);
	if (length <= 240)
		return middle(in, length, secret_default, seed);
	for (int i = 0; i < SECRET_BYTES; i += 16) {
		uint64_t low = read64(secret_default + i) + seed, high = read64(secret_default + i + 8) - seed;
		memcpy(seeded + i, &low, sizeof(low));
		memcpy(seeded + i + 8, &high, sizeof(high));
	}
	return longer(in, length, seeded);
}

enum { LEAVES_MAX = 16384 }; /* of what tests digest: 64 MiB */

uint64_t digest_of(const void *data, size_t length)
{
	static __thread uint64_t leaves[LEAVES_MAX];
	size_t count = 0;
	for (size_t at = 0; at < length && count < LEAVES_MAX; at += DIGEST_LEAF_BYTES) {
		size_t part = length - at < DIGEST_LEAF_BYTES ? length - at : DIGEST_LEAF_BYTES;
		leaves[count++] = xxh3((const uint8_t *)data + at, part, 0);
	}
	return xxh3((const uint8_t *)leaves, count * sizeof(*leaves), length);
}
