#define XXH_STATIC_LINKING_ONLY
#include "base/digest.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

#include "base/digest_leaf.h"
/* The library's choice of SIMD at run time: twice the speed of its SSE2 default on this kind of machine. */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

_Static_assert(sizeof(XXH3_state_t) <= sizeof(((struct digest *)0)->state), "room for the library's state");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "leaf digests are hashed as they lie in memory");

/* Leaf digests gathered before they go into the second hash: 64 is 256 KiB of data, 512 bytes of stack. */
#define LEAVES_MAX 64

void digest_init(struct digest *digest, size_t length)
{
	XXH3_state_t *state = (XXH3_state_t *)digest->state;
	XXH3_INITSTATE(state);
	XXH3_64bits_reset_withSeed(state, length);
}

/* From this length on the copy goes around the caches: a block that large would only push out what is used. */
#define STREAM_BYTES_MIN ((size_t)32 << 10)

/* The digest vouches for what was written: it is of the very registers that were stored, or of what lies there. */
static uint64_t copy_leaf(uint8_t *dst, const uint8_t *src, size_t length, bool stream)
{
	enum digest_leaf_way way = length == DIGEST_LEAF_BYTES ? digest_leaf_way() : DIGEST_LEAF_NONE;
	if (way != DIGEST_LEAF_NONE)
		return digest_leaf_copy(way, dst, src, stream);
	memcpy(dst, src, length);
	return XXH3_64bits(dst, length);
}

static void add(struct digest *digest, uint8_t *dst, const uint8_t *src, size_t length)
{
	uint64_t leaves[LEAVES_MAX];
	size_t leaf_count = 0;
	bool stream = dst && length >= STREAM_BYTES_MIN && (uintptr_t)dst % 64 == 0;
	for (size_t at = 0; at < length;) {
		size_t part = length - at < DIGEST_LEAF_BYTES ? length - at : DIGEST_LEAF_BYTES;
		leaves[leaf_count++] = dst ? copy_leaf(dst + at, src + at, part, stream) : XXH3_64bits(src + at, part);
		at += part;
		if (leaf_count == LEAVES_MAX || at == length) {
			XXH3_64bits_update((XXH3_state_t *)digest->state, leaves, leaf_count * sizeof(*leaves));
			leaf_count = 0;
		}
	}
	if (stream)
		digest_leaf_fence();
}

void digest_add(struct digest *digest, const void *data, size_t length)
{
	add(digest, NULL, data, length);
}

void digest_add_copy(struct digest *digest, void *dst, const void *src, size_t length)
{
	assert(dst || length == 0);
	add(digest, dst, src, length);
}

uint64_t digest_end(const struct digest *digest)
{
	return XXH3_64bits_digest((const XXH3_state_t *)digest->state);
}

uint64_t digest_of(const void *data, size_t length)
{
	struct digest digest;
	digest_init(&digest, length);
	digest_add(&digest, data, length);
	return digest_end(&digest);
}

uint64_t digest_copy(void *dst, const void *src, size_t length)
{
	struct digest digest;
	digest_init(&digest, length);
	digest_add_copy(&digest, dst, src, length);
	return digest_end(&digest);
}
