/* nibbles - floating-point numbers with their exponents in 4 bits each, and back.  Lossless, of any bytes.
 *
 * Exponents of KV lie close together: of the 8 bits of one about three say something (bench/results/encodings.md).  So of each
 * chunk the 15 neighbouring exponents that are commonest become 4 bits, and every other one a byte of its own; signs and fractions
 * stay.  bf16 becomes at best 3/4 of its size, f32 7/8.  What width the numbers have is guessed from a sample of each chunk, so
 * this knows bytes only; a wrong guess costs size and nothing else.
 *
 *   encoded:  | chunk | chunk | ...      each of CHUNK bytes as they were, the last of what is left
 *   chunk:    | width 1, first exponent 1, others 2 | bytes behind the last number | planes of the rest of each number |
 *             | 4 bits of each number: i and half + i side by side | others, in the order of their nibbles |
 *
 * Pure; its loops have no branch and no table, so that compilers make vectors of them; no intrinsics, so the same everywhere. */
#ifndef BASE_NIBBLES_H
#define BASE_NIBBLES_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

enum { NIBBLES_CHUNK_BYTES = 1 << 16, NIBBLES_HEAD_BYTES = 4 };

/* Returns how many bytes dst has got; 0: it would take more than `capacity`, and dst has anything. */
size_t nibbles_encode(const uint8_t *src, size_t length, uint8_t *dst /* [capacity] */, size_t capacity);
/* What became `coded_bytes`, of `length` bytes before.  Safe on any input: reads src and writes dst within their bounds.  CORRUPT:
 * no bytes of that length become this (which chunk, what, why); dst has anything then. */
MUST_USE enum err nibbles_decode(const uint8_t *src, size_t coded_bytes, uint8_t *dst /* [length] */, size_t length, struct why *why);
#endif
