/* sample_mass - the arithmetic of sampling that every device shares: weights as integers, scores in order, where cuts and draws lie.
 *
 * Pure; host and device code. */
#ifndef KERNELS_SAMPLE_MASS_H
#define KERNELS_SAMPLE_MASS_H
#include "base/exact_inline.h"

#define SAMPLE_MASS_ONE 0x1p40

/* A weight in [0, 1] in units of 2^-40, to the nearest: 2^22 of them sum without overflow.  A token of mass 0, whose weight is
 * beyond 2^-41 of the greatest, is not drawn. */
EXACT_INLINE uint64_t sample_mass(float weight)
{
	return exact_bits((double)weight * SAMPLE_MASS_ONE + 0x1p52) - exact_bits(0x1p52);
}

/* Grows with the score; -0 and +0 are one. */
EXACT_INLINE uint32_t sample_key(float score)
{
	uint32_t bits;
	score += 0.0f;
	memcpy(&bits, &score, sizeof(bits));
	return bits ^ (bits >> 31 ? UINT32_MAX : UINT32_C(1) << 31);
}

/* The mass that the shortest beginning must reach to hold top_p of the sum: at least 1, at most the sum. */
EXACT_INLINE uint64_t sample_top_p_target(float top_p, uint64_t sum)
{
	double share = (double)top_p * (double)sum;
	uint64_t target = (uint64_t)share;
	return target + ((double)target < share);
}

/* Where of [0, sum) 64 random bits fall: the token drawn is the first, in order of tokens, whose mass and those before exceed it. */
EXACT_INLINE uint64_t sample_draw_target(uint64_t bits, uint64_t sum)
{
	return (uint64_t)((unsigned __int128)bits * sum >> 64);
}

/* log(sum(exp(x))) of masses relative to the greatest. */
EXACT_INLINE float sample_logsumexp(float greatest, uint64_t sum)
{
	return (float)((double)greatest + exact_log_inline((double)sum / SAMPLE_MASS_ONE));
}

/* A token that cannot be has no distribution to be unlikely in. */
EXACT_INLINE float sample_logprob(float logit, float logsumexp)
{
	return logit > -__builtin_inff() ? logit - logsumexp : logit;
}
#endif
