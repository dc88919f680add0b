/* e4m3 - numbers of 8 bits: sign, 4 bits of exponent, 3 of fraction; no infinity, and NaN is all ones ("e4m3fn").  The bits are
 * the same on every machine. */
#ifndef BASE_E4M3_H
#define BASE_E4M3_H
#include <stdint.h>
#include <string.h>

#define E4M3_GREATEST 448.0f

/* Below the least exponent the fraction counts in 2^-9. */
static inline float e4m3_widen(uint8_t byte)
{
	uint32_t sign = (uint32_t)(byte & 0x80) << 24, exponent = byte >> 3 & 15, fraction = byte & 7;
	float value = (float)fraction * 0x1p-9f;
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	if ((byte & 0x7f) == 0x7f)
		bits = 0x7fc00000;
	else if (exponent > 0)
		bits = (exponent + 120) << 23 | fraction << 20;
	bits |= sign;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* To nearest, ties to even; what is greater than 448 becomes 448, NaN stays NaN. */
static inline uint8_t e4m3_round(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	uint32_t sign = bits >> 24 & 0x80, size = bits & 0x7fffffff;
	if (size > 0x7f800000)
		return (uint8_t)(sign | 0x7f);
	if (size >= 0x43e00000) /* 448 */
		return (uint8_t)(sign | 0x7e);
	if (size >= 0x3c800000) /* 2^-6, the least with an exponent */
		return (uint8_t)(sign | (((size + 0x7ffff + (size >> 20 & 1)) >> 20) - (120 << 3)));
	float small;
	memcpy(&small, &size, sizeof(small));
	small += 0x1p14f; /* whose last bit is 2^-9 */
	memcpy(&size, &small, sizeof(size));
	return (uint8_t)(sign | (size - 0x46800000));
}
#endif
