/* encodings - the lossless encodings that are compared: what is done to the bytes of a part, and back.
 *
 * Encoded: each plane (or the part as it lies) as its length and its bytes; what would not get smaller goes as it is.
 * One thread. */
#ifndef BENCH_ENCODE_ENCODINGS_H
#define BENCH_ENCODE_ENCODINGS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum coder {
	CODER_COPY,
	CODER_LZ4,
	CODER_ZSTD,
	CODER_NIBBLES, /* base/nibbles.h, which takes numbers apart itself */
	CODER_HUFFMAN, /* zstd that looks for no repeats */
};

struct encoding {
	const char *name;
	enum coder coder;
	int level;
	bool split, turned, across; /* planes.h */
	bool top;                   /* codes the top plane alone */
};

extern const struct encoding encodings[];
extern const size_t encodings_count;

struct encoder;

/* For parts of at most part_max bytes, of numbers as in blocks.h. */
struct encoder *encoder_create(size_t part_max, uint32_t elem_bytes, uint32_t block_tokens, uint32_t head_dim);
void encoder_destroy(struct encoder *encoder);
/* What a part of `length` bytes may become. */
size_t encoder_room(size_t length);
/* Returns the length of what is in dst. */
size_t encoder_encode(struct encoder *encoder, const struct encoding *encoding, const uint8_t *src, size_t length, uint8_t *dst);
void encoder_decode(struct encoder *encoder, const struct encoding *encoding, const uint8_t *src, uint8_t *dst, size_t length);
#endif
