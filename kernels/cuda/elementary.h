/* elementary - exp and tanh with the bits of cpu-fma-1 (kernels/cpu/variant/simd.h): the same polynomials, term by term.
 *
 * Loop:   device code. */
#ifndef KERNELS_CUDA_ELEMENTARY_H
#define KERNELS_CUDA_ELEMENTARY_H
#include "kernels/cuda/simt.h"

#define EXP_LEAST    (-87.0f) /* below it 0 */
#define EXP_GREATEST 88.0f    /* above it stays at exp(88) */

SIMT_DEVICE float elementary_exp(float x)
{
	float a = x > EXP_LEAST ? x : EXP_LEAST;
	a = a < EXP_GREATEST ? a : EXP_GREATEST;
	float n = simt_fma(a, 1.44269504f, 0x1.8p23f); /* the integer is in the low bits */
	float whole = n - 0x1.8p23f;
	float r = simt_fma(whole, -0.693359375f, a);
	r = simt_fma(whole, 2.12194440e-4f, r);
	float sum = 1.0f / 5040;
	sum = simt_fma(sum, r, 1.0f / 720);
	sum = simt_fma(sum, r, 1.0f / 120);
	sum = simt_fma(sum, r, 1.0f / 24);
	sum = simt_fma(sum, r, 1.0f / 6);
	sum = simt_fma(sum, r, 0.5f);
	sum = simt_fma(sum, r, 1.0f);
	sum = simt_fma(sum, r, 1.0f);
	return x >= EXP_LEAST ? simt_float(simt_bits(sum) + (simt_bits(n) << 23)) : 0.0f;
}

#define TANH_SMALL 0.5f

SIMT_DEVICE float elementary_tanh(float x)
{
	float e = elementary_exp(x + x), square = x * x;
	if (square >= TANH_SMALL * TANH_SMALL)
		return (e - 1.0f) / (e + 1.0f);
	float sum = 6404582.0f / 10854718875.0f;
	sum = simt_fma(sum, square, -929569.0f / 638512875.0f);
	sum = simt_fma(sum, square, 21844.0f / 6081075.0f);
	sum = simt_fma(sum, square, -1382.0f / 155925.0f);
	sum = simt_fma(sum, square, 62.0f / 2835.0f);
	sum = simt_fma(sum, square, -17.0f / 315.0f);
	sum = simt_fma(sum, square, 2.0f / 15.0f);
	sum = simt_fma(sum, square, -1.0f / 3.0f);
	sum = simt_fma(sum, square, 1.0f);
	return sum * x;
}

SIMT_DEVICE float elementary_sigmoid(float x)
{
	return 1.0f / (1.0f + elementary_exp(-x));
}
#endif
