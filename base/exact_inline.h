/* exact_inline - what base/exact.h does, for code that a GPU runs too (kernels/cuda/): the same operations, so the same bits.
 *
 * Pure. */
#ifndef BASE_EXACT_INLINE_H
#define BASE_EXACT_INLINE_H
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define EXACT_INLINE static __host__ __device__ __forceinline__
#else
#define EXACT_INLINE static inline __attribute__((unused))
#endif

#define EXACT_LN2_HIGH 0x1.62e42feep-1 /* 32 bits: times an exponent it is exact */
#define EXACT_LN2_LOW	 0x1.a39ef35793c76p-33

EXACT_INLINE uint64_t exact_bits(double x)
{
	uint64_t bits;
	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

EXACT_INLINE double exact_of(uint64_t bits)
{
	double x;
	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* log(2^e m) = e log 2 + 2 atanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)). */
EXACT_INLINE double exact_log_inline(double x)
{
	uint64_t bits = exact_bits(x);
	int exponent = (int)(bits >> 52) - 1023;
	double m = exact_of((bits & 0xfffffffffffff) | 0x3ff0000000000000);
	if (m > 1.4142135623730951) {
		m *= 0.5;
		exponent++;
	}
	double s = (m - 1.0) / (m + 1.0), square = s * s, sum = 0.0;
	for (int i = 23; i >= 3; i -= 2)
		sum = (sum + 1.0 / i) * square;
	return exponent * EXACT_LN2_HIGH + (exponent * EXACT_LN2_LOW + (2.0 * s + 2.0 * s * sum));
}

EXACT_INLINE double exact_exp_inline(double x)
{
	int n = (int)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
	double r = (x - n * EXACT_LN2_HIGH) - n * EXACT_LN2_LOW, sum = 1.0;
	for (int i = 14; i >= 1; i--)
		sum = 1.0 + sum * r / i;
	return sum * exact_of((uint64_t)(n + 1023) << 52);
}

/* pi/2 in 33-bit parts, so that n times the first two is exact for n < 2^20. */
#define EXACT_PIO2_1 1.57079632673412561417e+00
#define EXACT_PIO2_2 6.07710050630396597660e-11
#define EXACT_PIO2_3 2.02226624879595063154e-21

EXACT_INLINE void exact_sincos_inline(double x, double *ret_sin, double *ret_cos)
{
	int n = (int)(x * 0.63661977236758134308 + (x < 0 ? -0.5 : 0.5));
	double r = ((x - n * EXACT_PIO2_1) - n * EXACT_PIO2_2) - n * EXACT_PIO2_3, square = r * r;
	double sine = 1.0, cosine = 1.0;
	for (int i = 16; i >= 2; i -= 2) {
		sine = 1.0 - sine * square / (i * (i + 1));
		cosine = 1.0 - cosine * square / (i * (i - 1));
	}
	sine *= r;
	*ret_sin = n & 1 ? (n & 2 ? -cosine : cosine) : (n & 2 ? -sine : sine);
	*ret_cos = n & 1 ? (n & 2 ? sine : -sine) : (n & 2 ? -cosine : cosine);
}
#endif
