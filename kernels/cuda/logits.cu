/* Logits: the greatest, the sum of exps, soft caps. */
#include <math.h>
#include "base/exact_inline.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elementary.h"
#include "kernels/cuda/quad.h"

/* --- of each number ---------------------------------------------------------------------------------------- */

struct cap_op {
	float *x;
	size_t stride;
	float cap;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t row, size_t at, size_t left) const
	{
		return quad_load<wide>(x + row * stride + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t row, size_t at, size_t left, const quad &v) const
	{
		quad capped;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			capped.at[i] = cap * elementary_tanh(v.at[i] / cap);
		quad_store<wide>(x + row * stride + at, capped, left);
	}
};

/* 8 bytes a number, some 40 operations. */
void cuda_soft_cap(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap)
{
	const cap_op o = {x, x_stride, cap};
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, quad_wide(x, x_stride * 4), rows, n, cuda_stream(device)), "soft_cap");
}

struct exp_op {
	const float *x;
	float shift, *out;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t, size_t at, size_t left) const
	{
		return quad_load<wide>(x + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t, size_t at, size_t left, const quad &v) const
	{
		quad result;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			result.at[i] = elementary_exp(v.at[i] - shift);
		quad_store<wide>(out + at, result, left);
	}
};

/* 8 bytes a number. */
void cuda_exp(struct device *device, const float *x, float shift, uint32_t n, float *out)
{
	const exp_op o = {x, shift, out};
	bool wide = quad_wide(x, 0) && quad_wide(out, 0);
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, wide, 1, n, cuda_stream(device)), "exp");
}

/* --- of a row ------------------------------------------------------------------------------------------------ */

/* A row is cut into pieces of STATS_PIECE numbers from its beginning, one block each, so that one row of 128k logits keeps 32
 * multiprocessors busy; the pieces are joined in order. */
#define STATS_THREADS 256
#define STATS_WARPS   (STATS_THREADS / SIMT_LANES)
#define STATS_QUADS   4 /* of a thread, all in flight */
#define STATS_STEP    (STATS_THREADS * QUAD)
#define STATS_PIECE   (STATS_STEP * STATS_QUADS)

struct stats_part {
	float greatest;
	uint32_t index; /* the lowest of the greatest */
	float sum;	/* of exp(x - greatest); 0 where all are -inf */
	uint32_t unused;
};

struct stats_job {
	const float *logits;
	size_t stride;
	uint32_t n, pieces;
	stats_part *parts; /* [row][piece] */
	float *ret_max, *ret_logsumexp;
	uint32_t *ret_argmax;
};

SIMT_DEVICE void take_greater(float *greatest, uint32_t *index, float other, uint32_t other_index)
{
	if (other > *greatest || (other == *greatest && other_index < *index)) {
		*greatest = other;
		*index = other_index;
	}
}

SIMT_DEVICE void warp_greatest(float *greatest, uint32_t *index)
{
	SIMT_UNROLL
	for (int mask = SIMT_LANES / 2; mask > 0; mask /= 2) {
		float other = simt_shuffle_xor(*greatest, mask);
		uint32_t other_index = simt_shuffle_xor(*index, mask);
		take_greater(greatest, index, other, other_index);
	}
}

SIMT_DEVICE void block_greatest(float *greatest, uint32_t *index)
{
	SIMT_SHARED float of_warp[STATS_WARPS];
	SIMT_SHARED uint32_t index_of_warp[STATS_WARPS];
	warp_greatest(greatest, index);
	if (simt_lane() == 0) {
		of_warp[simt_warp()] = *greatest;
		index_of_warp[simt_warp()] = *index;
	}
	simt_sync();
	SIMT_UNROLL
	for (int i = 0; i < STATS_WARPS; i++)
		take_greater(greatest, index, of_warp[i], index_of_warp[i]);
}

/* 4 bytes a number, some 25 operations. */
template <bool wide> SIMT_KERNEL_OF(stats_pieces, STATS_THREADS, 4)(const stats_job job)
{
	size_t row = blockIdx.x / job.pieces;
	uint32_t piece = blockIdx.x % job.pieces, first = piece * STATS_PIECE + threadIdx.x * QUAD, index = UINT32_MAX;
	const float *x = job.logits + row * job.stride;
	float greatest = -INFINITY, sum = 0.0f;
	quad v[STATS_QUADS];
	SIMT_UNROLL
	for (uint32_t j = 0; j < STATS_QUADS; j++)
		if (first + j * STATS_STEP < job.n)
			v[j] = quad_load<wide>(x + first + j * STATS_STEP, job.n - first - j * STATS_STEP);
	SIMT_UNROLL
	for (uint32_t j = 0; j < STATS_QUADS; j++)
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			if (first + j * STATS_STEP + i < job.n)
				take_greater(&greatest, &index, v[j].at[i], first + j * STATS_STEP + i);
	block_greatest(&greatest, &index);
	SIMT_UNROLL
	for (uint32_t j = 0; j < STATS_QUADS; j++)
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			if (first + j * STATS_STEP + i < job.n && greatest > -INFINITY)
				sum += elementary_exp(v[j].at[i] - greatest);
	sum = simt_block_sum<STATS_WARPS>(sum);
	if (threadIdx.x == 0)
		job.parts[row * job.pieces + piece] = {greatest, index, sum, 0};
}

/* A warp for each row: the greatest of the pieces first, then their sums, lane by lane in order. */
SIMT_KERNEL(stats_join)(const stats_job job)
{
	size_t row = blockIdx.x;
	const stats_part *parts = job.parts + row * job.pieces;
	float greatest = -INFINITY;
	uint32_t index = UINT32_MAX;
	for (uint32_t p = simt_lane(); p < job.pieces; p += SIMT_LANES)
		take_greater(&greatest, &index, parts[p].greatest, parts[p].index);
	warp_greatest(&greatest, &index);
	double sum = 0.0;
	for (uint32_t p = simt_lane(); p < job.pieces; p += SIMT_LANES)
		if (parts[p].sum > 0.0f)
			sum += (double)parts[p].sum * (double)elementary_exp(parts[p].greatest - greatest);
	SIMT_UNROLL
	for (int mask = SIMT_LANES / 2; mask > 0; mask /= 2)
		sum += simt_shuffle_xor(sum, mask);
	if (simt_lane() != 0)
		return;
	if (job.ret_max)
		job.ret_max[row] = greatest;
	if (job.ret_argmax)
		job.ret_argmax[row] = index;
	if (job.ret_logsumexp)
		job.ret_logsumexp[row] = sum > 0.0 ? (float)((double)greatest + exact_log_inline(sum)) : -INFINITY;
}

void cuda_logits_stats(struct device *device, const float *logits, size_t stride, uint32_t rows, uint32_t n,
		      float *ret_max, uint32_t *ret_argmax, float *ret_logsumexp)
{
	stats_job job = {logits, stride, n, (n + STATS_PIECE - 1) / STATS_PIECE, NULL, ret_max, ret_logsumexp, ret_argmax};
	if (!cuda_alive(device) || rows == 0)
		return;
	job.parts = (stats_part *)cuda_scratch(device, (size_t)rows * job.pieces * sizeof(*job.parts));
	dim3 grid(rows * job.pieces), block(STATS_THREADS);
	cudaError_t e = quad_wide(logits, stride * 4) && n % QUAD == 0
				? SIMT_LAUNCH(stats_pieces<true>, grid, block, 0, cuda_stream(device), job)
				: SIMT_LAUNCH(stats_pieces<false>, grid, block, 0, cuda_stream(device), job);
	cuda_check(cuda_of(device), e, "logits_stats");
	cuda_check(cuda_of(device), SIMT_LAUNCH(stats_join, dim3(rows), dim3(SIMT_LANES), 0, cuda_stream(device), job),
		   "logits_stats");
}
