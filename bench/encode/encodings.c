#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_c_literalCompressionMode */
#include "bench/encode/encodings.h"

#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/nibbles.h"
#include "bench/encode/planes.h"

enum { LENGTH_BYTES = 4, PLANES_MAX = 4 };

const struct encoding encodings[] = {
	{"none (a copy)", CODER_COPY, 0, false, false, false, false},
	{"lz4", CODER_LZ4, 0, false, false, false, false},
	{"zstd -5", CODER_ZSTD, -5, false, false, false, false},
	{"zstd 1", CODER_ZSTD, 1, false, false, false, false},
	{"zstd 3", CODER_ZSTD, 3, false, false, false, false},
	{"zstd 9", CODER_ZSTD, 9, false, false, false, false},
	{"bytes split, lz4", CODER_LZ4, 0, true, false, false, false},
	{"bytes split, zstd 1", CODER_ZSTD, 1, true, false, false, false},
	{"exponents lz4, rest as it is", CODER_LZ4, 0, true, true, false, true},
	{"exponents 4 bits, rest as it is", CODER_NIBBLES, 0, false, false, false, false},
	{"exponents Huffman, rest as it is", CODER_HUFFMAN, -100, true, true, false, true},
	{"exponents zstd 1, rest as it is", CODER_ZSTD, 1, true, true, false, true},
	{"exponents zstd 3, rest zstd 3", CODER_ZSTD, 3, true, true, false, false},
	{"exponents across tokens, zstd 1", CODER_ZSTD, 1, true, true, true, true},
};
const size_t encodings_count = sizeof(encodings) / sizeof(encodings[0]);

struct encoder {
	struct planes planes;
	ZSTD_CCtx *compress;
	ZSTD_DCtx *decompress;
	uint8_t *scratch; /* [part_max] */
};

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_encode: %s\n", what);
	exit(1);
}

struct encoder *encoder_create(size_t part_max, uint32_t elem_bytes, uint32_t block_tokens, uint32_t head_dim)
{
	check((size_t)block_tokens * head_dim <= PLANES_VECTOR_MAX, "tokens and heads too large");
	struct encoder *e = calloc(1, sizeof(*e));
	check(e != NULL, "no memory");
	*e = (struct encoder){
		.planes = {.elem_bytes = elem_bytes, .rows = block_tokens, .row_numbers = head_dim},
		.compress = ZSTD_createCCtx(),
		.decompress = ZSTD_createDCtx(),
		.scratch = malloc(part_max),
	};
	check(e->compress && e->decompress && e->scratch, "no memory");
	return e;
}

void encoder_destroy(struct encoder *e)
{
	ZSTD_freeCCtx(e->compress);
	ZSTD_freeDCtx(e->decompress);
	free(e->scratch);
	free(e);
}

size_t encoder_room(size_t length)
{
	return length + PLANES_MAX * LENGTH_BYTES;
}

static size_t zstd(struct encoder *e, const struct encoding *encoding, const uint8_t *src, size_t length, uint8_t *dst)
{
	ZSTD_CCtx_reset(e->compress, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(e->compress, ZSTD_c_compressionLevel, encoding->level);
	if (encoding->coder == CODER_HUFFMAN)
		ZSTD_CCtx_setParameter(e->compress, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
	size_t coded = ZSTD_compress2(e->compress, dst, length - 1, src, length);
	return ZSTD_isError(coded) ? length : coded;
}

/* Bytes of the coded run; `length`: it would not get smaller. */
static size_t code(struct encoder *e, const struct encoding *encoding, const uint8_t *src, size_t length, uint8_t *dst)
{
	int coded;
	switch (encoding->coder) {
	case CODER_COPY:
		return length;
	case CODER_LZ4:
		coded = LZ4_compress_default((const char *)src, (char *)dst, (int)length, (int)length - 1);
		return coded > 0 ? (size_t)coded : length;
	case CODER_NIBBLES:
		coded = (int)nibbles_encode(src, length, dst, length - 1);
		return coded > 0 ? (size_t)coded : length;
	case CODER_ZSTD:
	case CODER_HUFFMAN:
		return zstd(e, encoding, src, length, dst);
	}
	return length;
}

static size_t encode_run(struct encoder *e, const struct encoding *encoding, const uint8_t *src, size_t length, bool coded,
			 uint8_t *dst)
{
	uint32_t bytes = (uint32_t)(coded ? code(e, encoding, src, length, dst + LENGTH_BYTES) : length);
	if (bytes == length)
		memcpy(dst + LENGTH_BYTES, src, length);
	memcpy(dst, &bytes, LENGTH_BYTES);
	return LENGTH_BYTES + bytes;
}

static struct planes planes_of(const struct encoder *e, const struct encoding *encoding)
{
	struct planes planes = e->planes;
	planes.turned = encoding->turned;
	planes.across = encoding->across;
	return planes;
}

size_t encoder_encode(struct encoder *e, const struct encoding *encoding, const uint8_t *src, size_t length, uint8_t *dst)
{
	if (!encoding->split)
		return encode_run(e, encoding, src, length, true, dst);
	struct planes planes = planes_of(e, encoding);
	planes_split(&planes, src, length, e->scratch);
	size_t run = length / planes.elem_bytes, used = 0;
	for (uint32_t i = 0; i < planes.elem_bytes; i++)
		used += encode_run(e, encoding, e->scratch + i * run, run, !encoding->top || i + 1 == planes.elem_bytes, dst + used);
	return used;
}

static size_t decode_run(struct encoder *e, const struct encoding *encoding, const uint8_t *src, uint8_t *dst, size_t length)
{
	uint32_t bytes;
	memcpy(&bytes, src, LENGTH_BYTES);
	src += LENGTH_BYTES;
	if (bytes == length)
		memcpy(dst, src, length);
	else if (encoding->coder == CODER_LZ4)
		check(LZ4_decompress_safe((const char *)src, (char *)dst, (int)bytes, (int)length) == (int)length, "lz4 fails");
	else if (encoding->coder == CODER_NIBBLES)
		check(nibbles_decode(src, bytes, dst, length, NULL) == ERR_OK, "nibbles fail");
	else
		check(ZSTD_decompressDCtx(e->decompress, dst, length, src, bytes) == length, "zstd fails");
	return LENGTH_BYTES + bytes;
}

void encoder_decode(struct encoder *e, const struct encoding *encoding, const uint8_t *src, uint8_t *dst, size_t length)
{
	if (!encoding->split) {
		decode_run(e, encoding, src, dst, length);
		return;
	}
	struct planes planes = planes_of(e, encoding);
	size_t run = length / planes.elem_bytes;
	for (uint32_t i = 0; i < planes.elem_bytes; i++)
		src += decode_run(e, encoding, src, e->scratch + i * run, run);
	planes_join(&planes, e->scratch, length, dst);
}
