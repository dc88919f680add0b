/* nibbles - a plane of exponents as 4 bits each: those of the 15 neighbouring values that are commonest, and a list of the others.
 *
 * What a coder costs that was made for this and nothing else.  Its loops have no branch and no table, so that they become
 * vectors; exponents of KV lie close together.  Exact. */
#ifndef BENCH_ENCODE_NIBBLES_H
#define BENCH_ENCODE_NIBBLES_H
#include <stddef.h>
#include <stdint.h>

/* length: even.  Returns the bytes in dst, or `length` when they would not be fewer. */
size_t nibbles_code(const uint8_t *src, size_t length, uint8_t *dst /* [length] */);
void nibbles_decode(const uint8_t *src, uint8_t *dst, size_t length);
#endif
