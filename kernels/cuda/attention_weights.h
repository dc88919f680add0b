/* attention_weights - scores of a tile become weights: what the main loop of the tensor-core form computes outside the tensor cores.
 *
 * A weight is 2^(score - level), in units of log 2.  The level of a row is 0 in each split, and moves only where weights would leave
 * the range in which f32 is as exact as anywhere: so an inner tile costs a fused multiply-add, an ex2, an addition and half a
 * rounding a weight, and no maximum.
 *
 *   a row is settled   once it has seen a score in the split: then a thread of it has a sum
 *   its level moves    to its greatest score of a tile, if a thread's 16 weights of it sum to more than WEIGHTS_MOST; or if the row was
 *                      not settled and that score is below LEVEL_LEAST
 *
 * Owns:   nothing; as attention.h.
 * Loop:   device code.
 * Rules:  1 all of this follows from the row's own scores: where no thread of it has weights over WEIGHTS_MOST, and each a sum of
 *           at least WEIGHTS_LEAST, the level stays, and none need look at the others'; what another row of the warp makes the
 *           warp look at more closely gets the very same answer. */
#ifndef KERNELS_CUDA_ATTENTION_WEIGHTS_H
#define KERNELS_CUDA_ATTENTION_WEIGHTS_H
#include "kernels/cuda/attention_tiles.h"

#define SCORES	      (ATTENTION_TILE / 2) /* of a thread */
#define WEIGHTS_MOST  0x1p40f
#define WEIGHTS_LEAST 0x1p-40f
#define LEVEL_LEAST   (-60.0f) /* below log2(WEIGHTS_LEAST / 16): rule 1 */

/* What a thread computes: rows r and r + 8 of its warp's 16, of each 8 columns two. */
struct thread_rows {
	uint32_t first, count;	 /* of the run's packed rows, those of the 64 that there are */
	uint32_t position, last; /* of the first and the last of them */
	uint32_t end[2];	 /* behind the position of each; 0: it is not there */
};

/* The row of the 64. */
SIMT_DEVICE uint32_t thread_row(int row)
{
	return simt_warp() % LOAD_WARPS * WARP_ROWS + simt_lane() / 4 + 8 * row;
}

/* Of the split so far: rows r and r + 8. */
struct softening {
	float level[2];
	float sum[2]; /* of this thread's columns */
};

/* What the split gives of row `row`, in all threads of the row. */
SIMT_DEVICE struct attention_sum softening_end(const struct softening *so_far, int row)
{
	float sum = so_far->sum[row];
	sum += simt_shuffle_xor(sum, 1);
	sum += simt_shuffle_xor(sum, 2);
	return {sum > 0.0f ? so_far->level[row] : -INFINITY, sum};
}

/* tanh(x / 2 log2(e)), by two of the hardware's functions: good to some 1e-7. */
SIMT_DEVICE float tanh_by_exp2(float x)
{
	float e = simt_exp2_fast(-fabsf(x)), tanh = (1.0f - e) * simt_reciprocal_fast(1.0f + e);
	return copysignf(tanh, x);
}

/* Scores become what times the cap is the score: tanh(score / cap). */
SIMT_DEVICE void cap_scores(const struct attention_job *job, float (&s)[SCORES])
{
	float by = job->scale / job->cap * (2.0f * LOG2_E);
	SIMT_UNROLL
	for (int i = 0; i < SCORES; i++)
		s[i] = tanh_by_exp2(s[i] * by);
}

/* Of a tile that not all rows see whole. */
SIMT_DEVICE void hide(const struct attention_job *job, const struct thread_rows *rows, uint32_t tile, float (&s)[SCORES])
{
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		int32_t first = (int32_t)(tile + simt_lane() % 4 * 2), end = (int32_t)rows->end[row] - first;
		int32_t low = (int32_t)attention_low(job, rows->end[row] - 1) - first;
		SIMT_UNROLL
		for (int i = 0; i < SCORES / 2; i++) {
			int32_t column = i / 2 * 8 + i % 2;
			float *score = &s[i / 2 * 4 + 2 * row + i % 2];
			*score = column >= low && column < end ? *score : -INFINITY;
		}
	}
}

/* The weights of a row by its level, in bf16 as the A operand of four products; returns their sum of this thread. */
SIMT_DEVICE float weights_of(float unit, const float (&s)[SCORES], int row, float level, uint32_t (&weights)[4][4])
{
	float even = 0.0f, odd = 0.0f;
	SIMT_UNROLL
	for (int i = 0; i < SCORES; i += 4) {
		float first = simt_exp2_fast(simt_fma(s[i + 2 * row], unit, -level));
		float second = simt_exp2_fast(simt_fma(s[i + 2 * row + 1], unit, -level));
		even = i == 0 ? first : even + first;
		odd = i == 0 ? second : odd + second;
		weights[i / 8][i % 8 / 4 * 2 + row] = simt_bf16_pair(first, second);
	}
	return even + odd;
}

/* The greatest score of a row in the tile, in all its threads. */
SIMT_DEVICE float greatest_of(const float (&s)[SCORES], int row)
{
	float greatest = -INFINITY;
	SIMT_UNROLL
	for (int i = 0; i < SCORES; i += 4)
		greatest = fmaxf(greatest, fmaxf(s[i + 2 * row], s[i + 2 * row + 1]));
	greatest = fmaxf(greatest, simt_shuffle_xor(greatest, 1));
	return fmaxf(greatest, simt_shuffle_xor(greatest, 2));
}

/* In any thread of the row. */
SIMT_DEVICE bool any_of_row(bool is)
{
	return (simt_ballot(is) >> simt_lane() / 4 * 4 & 15) != 0;
}

/* The level of a row after a tile whose weights by that of before sum to `sum`; returns what sums before it are multiplied by. */
SIMT_DEVICE float move_level(float unit, const float (&s)[SCORES], int row, float sum, struct softening *so_far)
{
	float old = so_far->level[row], level = greatest_of(s, row) * unit;
	bool over = any_of_row(!(sum <= WEIGHTS_MOST)), settled = any_of_row(so_far->sum[row] > 0.0f);
	if (level == -INFINITY || (!over && (settled || level >= LEVEL_LEAST)))
		return 1.0f;
	so_far->level[row] = level;
	return settled ? simt_exp2_fast(old - level) : 1.0f; /* of nothing */
}

/* sums[] are of rows r and r + 8 by turns, two of each. */
template <int count> SIMT_DEVICE void rescale(float (&sums)[count], int row, float by)
{
	SIMT_UNROLL
	for (int i = 2 * row; i < count; i += 4) {
		sums[i] *= by;
		sums[i + 1] *= by;
	}
}

/* From a tile's scores, which it may change: the weights, the state after them, and what sums of before are to be multiplied by; if
 * `now`, they are. */
template <bool now, int count>
SIMT_DEVICE void weigh_scores(const struct attention_job *job, const struct thread_rows *rows, uint32_t tile, float (&s)[SCORES],
			      struct softening *so_far, uint32_t (&weights)[4][4], float (&by)[2], float (&sums)[count])
{
	float unit = (job->cap > 0.0f ? job->cap : job->scale) * LOG2_E;
	if (job->cap > 0.0f)
		cap_scores(job, s);
	if (tile + ATTENTION_TILE > rows->position + 1 || tile < attention_low(job, rows->last))
		hide(job, rows, tile, s);
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		float total;
		by[row] = 1.0f;
		SIMT_ROLLED
		for (bool moved = false;; moved = true) {
			float sum = weights_of(unit, s, row, so_far->level[row], weights);
			total = so_far->sum[row] + sum;
			if (moved || !simt_any(!(total >= WEIGHTS_LEAST && sum <= WEIGHTS_MOST))) /* a NaN is neither */
				break;
			by[row] = move_level(unit, s, row, sum, so_far);
			so_far->sum[row] *= by[row];
			if (now && simt_any(by[row] != 1.0f))
				rescale(sums, row, by[row]);
		}
		so_far->sum[row] = total;
	}
}
#endif
