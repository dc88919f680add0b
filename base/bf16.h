/* bf16 - rounding a number to bf16 and widening it again; the bits are the same on every machine. */
#ifndef BASE_BF16_H
#define BASE_BF16_H
#include <stdint.h>
#include <string.h>

static inline float bf16_widen(uint16_t half)
{
	uint32_t bits = (uint32_t)half << 16;
	float value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* To nearest, ties to even; NaN stays NaN. Integers only, so no CPU flushes what another keeps. */
static inline uint16_t bf16_round(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
	uint32_t quiet = (bits >> 16) | 0x40;
	return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}
#endif
