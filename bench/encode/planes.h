/* planes - numbers taken apart into planes of bytes, and put together again.  Exact; sizes do not change.
 *
 * A plane is byte p of every number, so bytes of a kind lie together.  Turned left by one bit, the top byte of a bf16 or an f32 is
 * its exponent and nothing else; the sign goes to the other end.  Across: the top plane of each k or v has first number 0 of
 * all tokens, then number 1 of all: neighbours are of one channel.  One thread. */
#ifndef BENCH_ENCODE_PLANES_H
#define BENCH_ENCODE_PLANES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLANES_VECTOR_MAX ((size_t)1 << 20) /* rows * row_numbers */

struct planes {
	bool turned, across;
	uint32_t elem_bytes;        /* 2 or 4 */
	uint32_t rows, row_numbers; /* tokens of a block, numbers of a token */
};

/* dst: [elem_bytes planes][length / elem_bytes], the lowest byte first.  length: whole k or v. */
void planes_split(const struct planes *planes, const uint8_t *src, size_t length, uint8_t *dst);
/* src is spoiled. */
void planes_join(const struct planes *planes, uint8_t *src, size_t length, uint8_t *dst);
#endif
