#include "base/exact.h"
#include <stdint.h>
#include <string.h>

#define LN2_HIGH 0x1.62e42feep-1 /* 32 bits: times an exponent it is exact */
#define LN2_LOW	 0x1.a39ef35793c76p-33

static uint64_t bits_of(double x)
{
	uint64_t bits;
	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static double double_of(uint64_t bits)
{
	double x;
	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* log(2^e m) = e log 2 + 2 atanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)). */
double exact_log(double x)
{
	uint64_t bits = bits_of(x);
	int exponent = (int)(bits >> 52) - 1023;
	double m = double_of((bits & 0xfffffffffffff) | 0x3ff0000000000000);
	if (m > 1.4142135623730951) {
		m *= 0.5;
		exponent++;
	}
	double s = (m - 1.0) / (m + 1.0), square = s * s, sum = 0.0;
	for (int i = 23; i >= 3; i -= 2)
		sum = (sum + 1.0 / i) * square;
	return exponent * LN2_HIGH + (exponent * LN2_LOW + (2.0 * s + 2.0 * s * sum));
}

double exact_exp(double x)
{
	int n = (int)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
	double r = (x - n * LN2_HIGH) - n * LN2_LOW, sum = 1.0;
	for (int i = 14; i >= 1; i--)
		sum = 1.0 + sum * r / i;
	return sum * double_of((uint64_t)(n + 1023) << 52);
}

/* pi/2 in 33-bit parts, so that n times the first two is exact for n < 2^20. */
#define PIO2_1 1.57079632673412561417e+00
#define PIO2_2 6.07710050630396597660e-11
#define PIO2_3 2.02226624879595063154e-21

void exact_sincos(double x, double *ret_sin, double *ret_cos)
{
	int n = (int)(x * 0.63661977236758134308 + (x < 0 ? -0.5 : 0.5));
	double r = ((x - n * PIO2_1) - n * PIO2_2) - n * PIO2_3, square = r * r;
	double sine = 1.0, cosine = 1.0;
	for (int i = 16; i >= 2; i -= 2) {
		sine = 1.0 - sine * square / (i * (i + 1));
		cosine = 1.0 - cosine * square / (i * (i - 1));
	}
	sine *= r;
	*ret_sin = n & 1 ? (n & 2 ? -cosine : cosine) : (n & 2 ? -sine : sine);
	*ret_cos = n & 1 ? (n & 2 ? sine : -sine) : (n & 2 ? -cosine : cosine);
}
