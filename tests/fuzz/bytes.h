/* bytes - the fuzzer's input, taken apart piece by piece; when it is used up everything is 0. */
#ifndef TESTS_FUZZ_BYTES_H
#define TESTS_FUZZ_BYTES_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t bytes_u8(struct bytes *b)
{
	if (!b->left)
		return 0;
	b->left--;
	return *b->at++;
}

static inline uint32_t bytes_below(struct bytes *b, uint32_t bound)
{
	return bound > 256 ? (uint32_t)(bytes_u8(b) << 8 | bytes_u8(b)) % bound : bytes_u8(b) % bound;
}

/* Mostly small, sometimes where arithmetic breaks. */
static inline uint64_t bytes_number(struct bytes *b)
{
	static const uint64_t edges[] = {0,           1,          127,        128,        0xffff,       0x7fffffff,
					 0x80000000u, 0xffffffffu, 0x100000000u, INT64_MAX, (uint64_t)1 << 63, UINT64_MAX};
	uint8_t first = bytes_u8(b);
	if (first < 240)
		return first;
	return edges[first % (sizeof(edges) / sizeof(*edges))];
}

static inline size_t bytes_run(struct bytes *b, size_t most, const uint8_t **ret_data)
{
	size_t length = bytes_u8(b);
	length = length < most ? length : most;
	length = length < b->left ? length : b->left;
	*ret_data = b->at;
	b->at += length;
	b->left -= length;
	return length;
}
#endif
