/* Any bytes as what was encoded, and any bytes to be encoded: decoding keeps within its bounds, and what was encoded comes back. */
#include <assert.h>
#include <stdlib.h>

#include "base/nibbles.h"
#include "bytes.h"

enum { LENGTH_MAX = NIBBLES_CHUNK_BYTES + 4096 };

/* In memory of just that size, so that a sanitizer sees each byte too many. */
static uint8_t *exactly(const uint8_t *data, size_t length)
{
	uint8_t *copy = malloc(length + !length);
	assert(copy);
	memcpy(copy, data, length);
	return copy;
}

static void decode_anything(struct bytes *in)
{
	size_t length = 1 + (size_t)bytes_below(in, 4096) + (bytes_u8(in) % 8 == 0 ? NIBBLES_CHUNK_BYTES : 0);
	uint8_t *src = exactly(in->at, in->left), *dst = malloc(length);
	struct why why = {""};
	assert(dst);
	if (nibbles_decode(src, in->left, dst, length, &why) != ERR_OK)
		assert(why.text[0]);
	free(src);
	free(dst);
}

/* A pattern is repeated, so that chunks get full. */
static void there_and_back(struct bytes *in)
{
	size_t length = 1 + ((size_t)bytes_u8(in) << 8 | bytes_u8(in)) % LENGTH_MAX, capacity = length + bytes_below(in, 16);
	uint8_t *plain = malloc(length), *coded = malloc(capacity), *back = malloc(length);
	assert(plain && coded && back);
	for (size_t i = 0; i < length; i++)
		plain[i] = in->left ? in->at[i % in->left] : (uint8_t)i;
	size_t bytes = nibbles_encode(plain, length, coded, capacity);
	if (bytes > 0) {
		uint8_t *src = exactly(coded, bytes);
		assert(bytes <= capacity);
		enum err e = nibbles_decode(src, bytes, back, length, NULL);
		assert(e == ERR_OK && memcmp(plain, back, length) == 0);
		(void)e;
		free(src);
	}
	free(plain);
	free(coded);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct bytes in = {data, length};
	if (bytes_u8(&in) % 2)
		decode_anything(&in);
	else
		there_and_back(&in);
	return 0;
}
