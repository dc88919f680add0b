/* sample_cut - where a cut lies: the last token of the shortest beginning, in the order of scores, that reaches a target.
 *
 * A token's place in that order is one number of 64 bits, the greater the earlier: 8 bits of the distance to the greatest score in
 * eighths (which spread the tokens that count over the first digit's values: exponents of scores would not), 32 of the score, 24 of
 * the token.  The number is found digit by digit of 8 bits.
 *
 * Loop:   device code. */
#ifndef KERNELS_CUDA_SAMPLE_CUT_H
#define KERNELS_CUDA_SAMPLE_CUT_H
#include "kernels/cuda/sample.h"

#define SAMPLE_DIGIT_BITS  8
#define SAMPLE_FIRST_SHIFT (64 - SAMPLE_DIGIT_BITS)
#define SAMPLE_LANE_BINS   (SAMPLE_BINS / SIMT_LANES)

SIMT_DEVICE uint64_t sample_order(float score, float greatest, uint32_t token)
{
	float distance = (greatest - score) * 8.0f;
	uint32_t near = 255u - (distance < 255.0f ? (uint32_t)distance : 255u); /* also where both are -inf */
	return (uint64_t)near << SAMPLE_FIRST_SHIFT | (uint64_t)sample_key(score) << SAMPLE_TOKEN_BITS |
	       (((1u << SAMPLE_TOKEN_BITS) - 1) - token);
}

SIMT_DEVICE uint32_t sample_order_token(uint64_t order)
{
	return ((1u << SAMPLE_TOKEN_BITS) - 1) - ((uint32_t)order & ((1u << SAMPLE_TOKEN_BITS) - 1));
}

SIMT_DEVICE float sample_order_score(uint64_t order)
{
	uint32_t key = (uint32_t)(order >> SAMPLE_TOKEN_BITS);
	return simt_float(key >> 31 ? key ^ 1u << 31 : ~key);
}

/* What tokens count for in a target. */
enum sample_measure { SAMPLE_ALL, SAMPLE_DRAWN, SAMPLE_MASSES };

template <enum sample_measure measure> SIMT_DEVICE uint64_t sample_value(float score, float greatest)
{
	if constexpr (measure == SAMPLE_ALL) {
		return 1;
	} else {
		uint64_t mass = sample_mass(elementary_exp(score - greatest));
		return measure == SAMPLE_MASSES ? mass : mass > 0;
	}
}

/* 64 bits by two halves: shared memory adds words of 32. */
SIMT_DEVICE void sample_add(sample_exchange *exchange, uint32_t bin, uint64_t value)
{
	uint32_t low = (uint32_t)value, high = (uint32_t)(value >> 32);
	if (low > 0)
		high += (uint32_t)(simt_atomic_add(&exchange->low[bin], low) + low) < low;
	if (high > 0)
		simt_atomic_add(&exchange->high[bin], high);
}

/* Sums of the row for each value of the digit, in shared->totals of every block. */
template <enum sample_measure measure>
SIMT_DEVICE void sample_histogram(sample_place &p, float greatest, uint64_t prefix, int shift)
{
	sample_exchange *own = &p.shared->exchange[p.turn];
	uint64_t mask = shift == SAMPLE_FIRST_SHIFT ? 0 : ~UINT64_C(0) << (shift + SAMPLE_DIGIT_BITS) % 64;
	if (threadIdx.x < SAMPLE_BINS)
		own->low[threadIdx.x] = own->high[threadIdx.x] = 0;
	simt_sync();
	sample_each(p, [&](float score, uint32_t token) {
		uint64_t order = sample_order(score, greatest, token);
		if (((order ^ prefix) & mask) == 0)
			sample_add(own, order >> shift & (SAMPLE_BINS - 1), sample_value<measure>(score, greatest));
	});
	simt_cluster_sync();
	if (threadIdx.x < SAMPLE_BINS) {
		uint64_t total = 0;
		for (uint32_t r = 0; r < p.blocks; r++) {
			const sample_exchange *other = sample_exchange_of(p, r);
			total += (uint64_t)other->high[threadIdx.x] << 32;
			total += other->low[threadIdx.x];
		}
		p.shared->totals[threadIdx.x] = total;
	}
	simt_sync();
	p.turn ^= 1;
}

struct sample_bin {
	uint32_t digit; /* SAMPLE_NONE: no bin reaches the target */
	uint64_t above, total;
};

/* The bin, from the top, in which the running sum reaches the target: by each warp, a lane for 8 bins. */
SIMT_DEVICE sample_bin sample_crossing(const uint64_t *totals, uint64_t target)
{
	uint32_t top = SAMPLE_BINS - 1 - simt_lane() * SAMPLE_LANE_BINS;
	uint64_t own = 0, sum;
	SIMT_UNROLL
	for (uint32_t i = 0; i < SAMPLE_LANE_BINS; i++)
		own += totals[top - i];
	sum = own;
	SIMT_UNROLL
	for (uint32_t by = 1; by < SIMT_LANES; by *= 2) {
		uint64_t other = simt_shuffle_up(sum, by);
		sum += simt_lane() >= by ? other : 0;
	}
	uint32_t reached = simt_ballot(sum >= target);
	sample_bin bin = {top, sum - own, 0};
	for (uint32_t i = 0; i < SAMPLE_LANE_BINS; i++) {
		bin.digit = top - i;
		bin.total = totals[top - i];
		if (bin.above + bin.total >= target)
			break;
		bin.above += i + 1 < SAMPLE_LANE_BINS ? bin.total : 0;
	}
	int first = (int)simt_popcount(~reached & (reached - 1)); /* the lowest lane */
	bin = {simt_shuffle(bin.digit, first), simt_shuffle(bin.above, first), simt_shuffle(bin.total, first)};
	if (reached == 0)
		bin.digit = SAMPLE_NONE;
	return bin;
}

/* The place of the last that is kept: those at it or beyond are; 0: all.  target >= 1. */
template <enum sample_measure measure> SIMT_DEVICE uint64_t sample_last(sample_place &p, float greatest, uint64_t target)
{
	uint64_t prefix = 0, above = 0;
	SIMT_ROLLED
	for (int shift = SAMPLE_FIRST_SHIFT; shift >= 0; shift -= SAMPLE_DIGIT_BITS) {
		sample_histogram<measure>(p, greatest, prefix, shift);
		sample_bin bin = sample_crossing(p.shared->totals, target - above);
		if (bin.digit == SAMPLE_NONE)
			return 0;
		above += bin.above;
		prefix |= (uint64_t)bin.digit << shift;
		if (above + bin.total == target)
			return prefix; /* all of the bin */
		/* Of equal scores the last is needed too. */
		if (shift == SAMPLE_TOKEN_BITS &&
		    above + bin.total - sample_value<measure>(sample_order_score(prefix), greatest) < target)
			return prefix;
	}
	return prefix;
}

template <enum sample_measure measure> SIMT_DEVICE void sample_keep(sample_place &p, float greatest, uint64_t target)
{
	uint64_t last = sample_last<measure>(p, greatest, target);
	sample_change(p, [&](float score, uint32_t token) {
		return sample_order(score, greatest, token) >= last ? score : simt_float(0xff800000u);
	});
}
#endif
