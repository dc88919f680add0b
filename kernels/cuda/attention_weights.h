/* attention_weights - scores of a tile become weights: what the main loop of the tensor-core form computes outside the tensor cores.
 *
 * A weight is 2^(score - level), in units of log 2.  The level of a row is 0 in each split, and moves only where weights would leave
 * the range in which f32 is as exact as anywhere: so an inner tile costs a fused multiply-add, an ex2, an addition and half a
 * rounding a weight, and no maximum.
 *
 *   a row is settled   once it has seen a score in the split
 *   its level moves    to its greatest score of a tile, if a thread's 16 weights of it sum to more than WEIGHTS_MOST; or if the row is
 *                      not settled and that score is below LEVEL_LEAST
 *
 * Owns:   nothing; as attention.h.
 * Loop:   device code.
 * Rules:  1 all of this follows from the row's own scores: a thread's sum between WEIGHTS_LEAST and WEIGHTS_MOST says, without a
 *           look at the other threads of its row, that the level stays; what another row of the warp makes the warp look at
 *           more closely gets the very same answer;
 *         2 a row that is there is settled after the tile of its own position; one that is not settled has weights 0. */
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
	float least[2]; /* that a thread's weights of a tile must sum to: WEIGHTS_LEAST, or 0 when the row is settled */
	float sum[2];	/* of this thread's columns */
};

SIMT_DEVICE float weights_least(const struct thread_rows *rows, int row)
{
	return rows->end[row] == 0 ? 0.0f : WEIGHTS_LEAST; /* a row that is not there is content with anything */
}

SIMT_DEVICE struct softening softening_begin(const struct thread_rows *rows)
{
	return {{0.0f, 0.0f}, {weights_least(rows, 0), weights_least(rows, 1)}, {0.0f, 0.0f}};
}

/* What the split gives of row `row`, in all threads of the row. */
SIMT_DEVICE struct attention_sum softening_end(const struct softening *so_far, int row)
{
	float sum = so_far->sum[row];
	sum += simt_shuffle_xor(sum, 1);
	sum += simt_shuffle_xor(sum, 2);
	return {so_far->least[row] == 0.0f ? so_far->level[row] : -INFINITY, sum};
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

/* The level of a row after a tile whose weights by that of before sum to `sum`; returns what sums before it are multiplied by. */
SIMT_DEVICE float level_after(float unit, const float (&s)[SCORES], int row, float sum, struct softening *so_far)
{
	uint32_t over = simt_ballot(!(sum <= WEIGHTS_MOST)) >> simt_lane() / 4 * 4 & 15;
	float old = so_far->level[row], level = greatest_of(s, row) * unit;
	bool seen = level > -INFINITY, settled = so_far->least[row] == 0.0f;
	if (!seen)
		return 1.0f;
	so_far->least[row] = 0.0f;
	if (over == 0 && (settled || level >= LEVEL_LEAST))
		return 1.0f;
	so_far->level[row] = level;
	return settled ? simt_exp2_fast(old - level) : 1.0f; /* of nothing */
}

/* From a tile's scores, which it may change: the weights, the state after them, and true if sums of before are to be multiplied
 * by by[]; else these are 1. */
SIMT_DEVICE bool weigh_scores(const struct attention_job *job, const struct thread_rows *rows, uint32_t tile, float (&s)[SCORES],
			      struct softening *so_far, uint32_t (&weights)[4][4], float (&by)[2])
{
	float unit = (job->cap > 0.0f ? job->cap : job->scale) * LOG2_E;
	bool moves = false;
	if (job->cap > 0.0f)
		cap_scores(job, s);
	if (tile + ATTENTION_TILE > rows->position + 1 || tile < attention_low(job, rows->last))
		hide(job, rows, tile, s);
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		float sum = weights_of(unit, s, row, so_far->level[row], weights);
		by[row] = 1.0f;
		if (simt_any(!(sum >= so_far->least[row] && sum <= WEIGHTS_MOST))) { /* or a NaN */
			by[row] = level_after(unit, s, row, sum, so_far);
			sum = weights_of(unit, s, row, so_far->level[row], weights);
			so_far->sum[row] *= by[row];
			moves = moves || simt_any(by[row] != 1.0f);
		} else {
			so_far->least[row] = 0.0f;
		}
		so_far->sum[row] += sum;
	}
	return moves;
}
#endif
