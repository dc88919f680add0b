/* keys - API keys as digests.  What a client presents is hashed and compared with every digest there is, in a time that
 * depends on their number alone: neither how much of a key was right, nor whose it is, shows in it.
 *
 * SHA-256 without stretching is enough for keys of 128 random bits and more, and `baton key new` makes no others.
 * Owns nothing.  Any thread. */
#ifndef COORDINATOR_KEYS_H
#define COORDINATOR_KEYS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEY_NONE = UINT32_MAX };

struct key_digest {
	uint8_t bytes[32];
};

void key_digest_of(const char *key, size_t length, struct key_digest *ret_digest);
/* "9f86…" of 64 digits; false: it is something else. */
bool key_digest_parse(const char *hex, struct key_digest *ret_digest);
bool key_digest_equal(const struct key_digest *a, const struct key_digest *b);
/* The place of the digest among [count]; KEY_NONE. */
uint32_t key_find(const struct key_digest *digests, uint32_t count, const struct key_digest *wanted);
#endif
