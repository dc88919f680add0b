#include "coordinator/keys.h"

#include <string.h>

#include "base/hash.h"

void key_digest_of(const char *key, size_t length, struct key_digest *ret_digest)
{
	struct sha256 sha;
	sha256_init(&sha);
	sha256_add(&sha, key, length);
	sha256_end(&sha, ret_digest->bytes);
	explicit_bzero(&sha, sizeof(sha)); /* its last block holds the key */
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool key_digest_parse(const char *hex, struct key_digest *ret_digest)
{
	struct key_digest digest;
	for (size_t i = 0; i < sizeof(digest.bytes); i++) {
		int high = digit(hex[2 * i]), low = high < 0 ? -1 : digit(hex[2 * i + 1]);
		if (low < 0)
			return false;
		digest.bytes[i] = (uint8_t)(high << 4 | low);
	}
	if (hex[2 * sizeof(digest.bytes)])
		return false;
	*ret_digest = digest;
	return true;
}

/* 0 when all bytes are the same; no branch on them.  volatile: the compiler may not leave early either. */
static uint32_t difference(const struct key_digest *a, const struct key_digest *b)
{
	const volatile uint8_t *x = a->bytes, *y = b->bytes;
	uint32_t bits = 0;
	for (size_t i = 0; i < sizeof(a->bytes); i++)
		bits |= (uint32_t)(x[i] ^ y[i]);
	return bits;
}

/* All ones for 0, else 0. */
static uint32_t mask_of_zero(uint32_t bits)
{
	return (uint32_t)(((uint64_t)bits - 1) >> 32);
}

bool key_digest_equal(const struct key_digest *a, const struct key_digest *b)
{
	return mask_of_zero(difference(a, b)) & 1;
}

uint32_t key_find(const struct key_digest *digests, uint32_t count, const struct key_digest *wanted)
{
	uint32_t found = KEY_NONE;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t mask = mask_of_zero(difference(&digests[i], wanted));
		found = (found & ~mask) | (i & mask);
	}
	return found;
}
