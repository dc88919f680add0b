/* XXH3-64 (Yann Collet's published algorithm) for 4 KiB without a seed: 64 stripes of 64 bytes, each mixed into eight lanes with the
 * library's secret at an offset that moves by 8 a stripe; the lanes are scrambled after 16 of them, and merged at the end. */
#include "base/digest_leaf.h"

#include "base/digest.h"

#if defined(__x86_64__)
#define XXH_INLINE_ALL /* for the secret */
#include <immintrin.h>
#include <string.h>
#include <xxhash.h>

enum {
	STRIPE_BYTES = 64,
	BLOCK_STRIPES = 16, /* until the secret's end */
	BLOCK_BYTES = STRIPE_BYTES * BLOCK_STRIPES,
	SECRET_STEP = 8,
	SECRET_SCRAMBLE = XXH3_SECRET_DEFAULT_SIZE - STRIPE_BYTES,
	SECRET_LAST = XXH3_SECRET_DEFAULT_SIZE - STRIPE_BYTES - 7, /* of the last stripe of all */
	SECRET_MERGE = 11,
	PREFETCH_BYTES = 2048, /* beyond the page that the processor's own prefetcher keeps to */
};
_Static_assert(DIGEST_LEAF_BYTES % BLOCK_BYTES == 0, "whole blocks: only the very last stripe is another");
#define LAST_BLOCK (DIGEST_LEAF_BYTES - BLOCK_BYTES)

static const uint64_t lanes_first[8] = {XXH_PRIME32_3, XXH_PRIME64_1, XXH_PRIME64_2, XXH_PRIME64_3,
					XXH_PRIME64_4, XXH_PRIME32_2, XXH_PRIME64_5, XXH_PRIME32_1};

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t merge(const uint64_t lanes[8])
{
	uint64_t sum = DIGEST_LEAF_BYTES * XXH_PRIME64_1;
	for (int i = 0; i < 8; i += 2) {
		uint64_t keys[2];
		memcpy(keys, XXH3_kSecret + SECRET_MERGE + 8 * i, sizeof(keys));
		sum += fold(lanes[i] ^ keys[0], lanes[i + 1] ^ keys[1]);
	}
	sum = (sum ^ sum >> 37) * 0x165667919e3779f9u;
	return sum ^ sum >> 32;
}

static const uint8_t *secret_of(uint32_t at)
{
	return at == DIGEST_LEAF_BYTES - STRIPE_BYTES ? XXH3_kSecret + SECRET_LAST
						      : XXH3_kSecret + at % BLOCK_BYTES / STRIPE_BYTES * SECRET_STEP;
}

/* ---- eight lanes in a register ---- */

#define AVX512 __attribute__((target("avx512f"), always_inline)) static inline

AVX512 __m512i mix512(__m512i lanes, __m512i data, const uint8_t *secret)
{
	__m512i key = _mm512_xor_si512(data, _mm512_loadu_si512(secret));
	__m512i product = _mm512_mul_epu32(key, _mm512_srli_epi64(key, 32));
	__m512i swapped = _mm512_shuffle_epi32(data, _MM_PERM_BADC);
	return _mm512_add_epi64(product, _mm512_add_epi64(lanes, swapped));
}

AVX512 __m512i scramble512(__m512i lanes)
{
	__m512i prime = _mm512_set1_epi32((int)XXH_PRIME32_1);
	__m512i key = _mm512_xor_si512(lanes, _mm512_srli_epi64(lanes, 47));
	key = _mm512_xor_si512(key, _mm512_loadu_si512(XXH3_kSecret + SECRET_SCRAMBLE));
	__m512i high = _mm512_mul_epu32(_mm512_srli_epi64(key, 32), prime);
	return _mm512_add_epi64(_mm512_mul_epu32(key, prime), _mm512_slli_epi64(high, 32));
}

AVX512 uint64_t copy512(uint8_t *dst, const uint8_t *src, bool stream)
{
	__m512i lanes = _mm512_loadu_si512(lanes_first);
	for (uint32_t block = 0; block < DIGEST_LEAF_BYTES; block += BLOCK_BYTES) {
		for (uint32_t at = block; at < block + BLOCK_BYTES; at += STRIPE_BYTES) {
			__m512i data = _mm512_loadu_si512(src + at);
			_mm_prefetch((const char *)src + at + PREFETCH_BYTES, _MM_HINT_T0);
			if (stream)
				_mm512_stream_si512((__m512i *)(dst + at), data);
			else
				_mm512_storeu_si512(dst + at, data);
			lanes = mix512(lanes, data, secret_of(at));
		}
		if (block < LAST_BLOCK)
			lanes = scramble512(lanes);
	}
	uint64_t sums[8];
	_mm512_storeu_si512(sums, lanes);
	return merge(sums);
}

__attribute__((target("avx512f"))) static uint64_t leaf512(uint8_t *dst, const uint8_t *src, bool stream)
{
	return stream ? copy512(dst, src, true) : copy512(dst, src, false);
}

/* ---- four lanes in a register ---- */

#define AVX2 __attribute__((target("avx2"), always_inline)) static inline

AVX2 __m256i load(const void *at)
{
	return _mm256_loadu_si256((const __m256i *)at);
}

AVX2 __m256i mix256(__m256i lanes, __m256i data, const uint8_t *secret)
{
	__m256i key = _mm256_xor_si256(data, load(secret));
	__m256i product = _mm256_mul_epu32(key, _mm256_srli_epi64(key, 32));
	__m256i swapped = _mm256_shuffle_epi32(data, _MM_SHUFFLE(1, 0, 3, 2));
	return _mm256_add_epi64(product, _mm256_add_epi64(lanes, swapped));
}

AVX2 __m256i scramble256(__m256i lanes, const uint8_t *secret)
{
	__m256i prime = _mm256_set1_epi32((int)XXH_PRIME32_1);
	__m256i key = _mm256_xor_si256(_mm256_xor_si256(lanes, _mm256_srli_epi64(lanes, 47)), load(secret));
	__m256i high = _mm256_mul_epu32(_mm256_srli_epi64(key, 32), prime);
	return _mm256_add_epi64(_mm256_mul_epu32(key, prime), _mm256_slli_epi64(high, 32));
}

AVX2 void store(uint8_t *dst, __m256i data, bool stream)
{
	if (stream)
		_mm256_stream_si256((__m256i *)dst, data);
	else
		_mm256_storeu_si256((__m256i *)dst, data);
}

AVX2 uint64_t copy256(uint8_t *dst, const uint8_t *src, bool stream)
{
	__m256i low = load(lanes_first), high = load(lanes_first + 4);
	for (uint32_t block = 0; block < DIGEST_LEAF_BYTES; block += BLOCK_BYTES) {
		for (uint32_t at = block; at < block + BLOCK_BYTES; at += STRIPE_BYTES) {
			__m256i data_low = load(src + at), data_high = load(src + at + 32);
			_mm_prefetch((const char *)src + at + PREFETCH_BYTES, _MM_HINT_T0);
			store(dst + at, data_low, stream);
			store(dst + at + 32, data_high, stream);
			low = mix256(low, data_low, secret_of(at));
			high = mix256(high, data_high, secret_of(at) + 32);
		}
		if (block == LAST_BLOCK)
			break;
		low = scramble256(low, XXH3_kSecret + SECRET_SCRAMBLE);
		high = scramble256(high, XXH3_kSecret + SECRET_SCRAMBLE + 32);
	}
	uint64_t sums[8];
	_mm256_storeu_si256((__m256i *)sums, low);
	_mm256_storeu_si256((__m256i *)(sums + 4), high);
	return merge(sums);
}

__attribute__((target("avx2"))) static uint64_t leaf256(uint8_t *dst, const uint8_t *src, bool stream)
{
	return stream ? copy256(dst, src, true) : copy256(dst, src, false);
}

/* ---- which ---- */

enum digest_leaf_way digest_leaf_way(void)
{
	if (__builtin_cpu_supports("avx512f"))
		return DIGEST_LEAF_AVX512;
	return __builtin_cpu_supports("avx2") ? DIGEST_LEAF_AVX2 : DIGEST_LEAF_NONE;
}

uint64_t digest_leaf_copy(enum digest_leaf_way way, void *dst, const void *src, bool stream)
{
	return way == DIGEST_LEAF_AVX512 ? leaf512(dst, src, stream) : leaf256(dst, src, stream);
}

void digest_leaf_fence(void)
{
	_mm_sfence();
}

#else

enum digest_leaf_way digest_leaf_way(void)
{
	return DIGEST_LEAF_NONE;
}

uint64_t digest_leaf_copy(enum digest_leaf_way way, void *dst, const void *src, bool stream)
{
	return 0; /* there is no way to ask for */
}

void digest_leaf_fence(void)
{
}

#endif
