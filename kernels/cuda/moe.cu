/* Experts: rows to them and back. */
#include <string.h>
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elementary.h"
#include "kernels/cuda/quad.h"
#include "kernels/cuda/tree.h"

/* --- rows to experts ------------------------------------------------------------------------------------------ */

/* Inputs as they are (bf16 already), or f32 rounded to bf16 and widened again, as the CPU's. */
template <typename elem_t, typename to_t> struct moe_gather_op {
	const elem_t *x;
	const uint32_t *slot;
	uint32_t top_k;
	quad_rows<to_t> out;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t row, size_t at, size_t left) const
	{
		return quad_load<wide>(x + slot[row] / top_k * out.dim + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t row, size_t at, size_t left, const quad &v) const
	{
		quad rounded;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			rounded.at[i] = simt_bf16_widen(simt_bf16_round(v.at[i]));
		out.template store<wide>(row, at, left, rounded);
	}
};

template <typename elem_t, typename to_t> static cudaError_t moe_gather_run(cudaStream_t stream, const struct moe_gather_call *call)
{
	const elem_t *x = (const elem_t *)call->x;
	to_t *out = (to_t *)call->out;
	size_t stride = elem_row_bytes(call->out_elem, call->dim);
	bool wide = quad_wide(x, call->dim * sizeof(*x)) && quad_wide(out, stride);
	const moe_gather_op<elem_t, to_t> o = {x, call->slot, call->top_k, {out, stride / sizeof(*out), call->dim}};
	return each_run(o, wide, call->slot_count, call->dim, stream);
}

/* slots * dim * 4 bytes of bf16, of which those read come top_k times from the second-level cache. */
void cuda_moe_gather(struct device *device, const struct moe_gather_call *call)
{
	if (!cuda_alive(device))
		return;
	cudaStream_t stream = cuda_stream(device);
	cudaError_t e = call->out_elem == ELEM_E4M3 ? moe_gather_run<float, e4m3_code>(stream, call)
			: call->elem == ELEM_F32    ? moe_gather_run<float, float>(stream, call)
						    : moe_gather_run<uint16_t, uint16_t>(stream, call);
	cuda_check(cuda_of(device), e, "moe_gather");
}

/* --- and back --------------------------------------------------------------------------------------------------- */

struct scatter_job {
	tree_parts parts;
	const float *bias; /* [expert][dim] or NULL */
	const uint32_t *slot, *expert;
	uint32_t first, end, pieces; /* slots; pieces of a row */
	uint16_t *answer;
	size_t dim;
};

template <int count, bool wide> SIMT_KERNEL_OF(moe_scatter, TREE_THREADS, 4)(const scatter_job job)
{
	size_t row = blockIdx.x / job.pieces, at = (size_t)(blockIdx.x % job.pieces) * TREE_PIECE + threadIdx.x * QUAD;
	uint32_t slot = job.slot[row];
	if (at >= job.dim || slot < job.first || slot >= job.end)
		return;
	const float *bias = job.bias ? job.bias + job.expert[slot] * job.dim + at : NULL;
	quad sum = tree_load<count, wide>(job.parts, row * job.dim + at, bias, job.dim - at);
	quad_store<wide>(job.answer + slot * job.dim + at, sum, job.dim - at);
}

template <int count> static cudaError_t scatter_run(cudaStream_t stream, const scatter_job &job, dim3 grid, bool wide)
{
	if (wide)
		return SIMT_LAUNCH((moe_scatter<count, true>), grid, dim3(TREE_THREADS), 0, stream, job);
	return SIMT_LAUNCH((moe_scatter<count, false>), grid, dim3(TREE_THREADS), 0, stream, job);
}

/* 4 bytes a number and part, and 2. */
void cuda_moe_scatter(struct device *device, const struct moe_scatter_call *call)
{
	scatter_job job = {{}, call->bias, call->slot, call->expert, call->first, call->end,
			   (call->dim + TREE_PIECE - 1) / TREE_PIECE, call->answer, call->dim};
	memcpy(job.parts.at, call->parts, call->part_count * sizeof(*call->parts));
	dim3 grid(call->slot_count * job.pieces);
	if (!cuda_alive(device) || call->slot_count == 0)
		return;
	bool wide = tree_wide(job.parts, call->part_count, call->bias, call->dim) && quad_wide(call->answer, (size_t)call->dim * 2);
	cudaStream_t stream = cuda_stream(device);
	cudaError_t e = call->part_count == 1   ? scatter_run<1>(stream, job, grid, wide)
			: call->part_count == 2 ? scatter_run<2>(stream, job, grid, wide)
			: call->part_count == 4 ? scatter_run<4>(stream, job, grid, wide)
						: scatter_run<8>(stream, job, grid, wide);
	cuda_check(cuda_of(device), e, "moe_scatter");
}

#define COMBINE_THREADS 256
#define COMBINE_UNROLL	4 /* answers in flight */

struct combine_job {
	const uint16_t *answer;
	const float *weight;
	uint32_t top_k, pieces;
	size_t dim;
	float *out;
};

/* A thread has four columns of a row and reads COMBINE_UNROLL answers before it adds the first; they are added in order. */
template <bool wide> SIMT_KERNEL_OF(moe_combine, COMBINE_THREADS, 4)(const combine_job job)
{
	size_t row = blockIdx.x / job.pieces, at = (size_t)(blockIdx.x % job.pieces) * COMBINE_THREADS * QUAD + threadIdx.x * QUAD;
	if (at >= job.dim)
		return;
	const uint16_t *answer = job.answer + row * job.top_k * job.dim + at;
	const float *weight = job.weight + row * job.top_k;
	quad sum = {};
	for (uint32_t first = 0; first < job.top_k; first += COMBINE_UNROLL) {
		quad v[COMBINE_UNROLL];
		SIMT_UNROLL
		for (uint32_t j = 0; j < COMBINE_UNROLL; j++)
			if (first + j < job.top_k)
				v[j] = quad_load<wide>(answer + (first + j) * job.dim, job.dim - at);
		SIMT_UNROLL
		for (uint32_t j = 0; j < COMBINE_UNROLL; j++) {
			if (first + j >= job.top_k)
				break;
			float by = weight[first + j];
			SIMT_UNROLL
			for (int i = 0; i < QUAD; i++)
				sum.at[i] = simt_fma(by, v[j].at[i], sum.at[i]);
		}
	}
	quad_store<wide>(job.out + row * job.dim + at, sum, job.dim - at);
}

/* rows * dim * (2 top_k + 4) bytes. */
void cuda_moe_combine(struct device *device, const uint16_t *answer, const float *weight, uint32_t rows, uint32_t top_k,
		     uint32_t dim, float *out)
{
	uint32_t pieces = (dim + COMBINE_THREADS * QUAD - 1) / (COMBINE_THREADS * QUAD);
	bool wide = quad_wide(answer, (size_t)dim * 2) && quad_wide(out, (size_t)dim * 4) && dim % QUAD == 0;
	const combine_job job = {answer, weight, top_k, pieces, dim, out};
	dim3 grid(rows * pieces), block(COMBINE_THREADS);
	if (!cuda_alive(device) || rows == 0)
		return;
	cudaError_t e = wide ? SIMT_LAUNCH(moe_combine<true>, grid, block, 0, cuda_stream(device), job)
			     : SIMT_LAUNCH(moe_combine<false>, grid, block, 0, cuda_stream(device), job);
	cuda_check(cuda_of(device), e, "moe_combine");
}

struct gated_op {
	float *x;
	const float *add, *gate;
	size_t dim;
	struct loaded {
		quad x, add;
		float gate;
	};

	template <bool wide> SIMT_MEMBER loaded load(size_t row, size_t at, size_t left) const
	{
		return {quad_load<wide>(x + row * dim + at, left), quad_load<wide>(add + row * dim + at, left), gate[row]};
	}
	template <bool wide> SIMT_MEMBER void store(size_t row, size_t at, size_t left, const loaded &v) const
	{
		float by = elementary_sigmoid(v.gate);
		quad sum;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			sum.at[i] = v.x.at[i] + by * v.add.at[i];
		quad_store<wide>(x + row * dim + at, sum, left);
	}
};

/* 12 bytes a number. */
void cuda_add_gated(struct device *device, float *x, const float *add, const float *gate, uint32_t rows, uint32_t dim)
{
	size_t row_bytes = (size_t)dim * 4;
	const gated_op o = {x, add, gate, dim};
	bool wide = quad_wide(x, row_bytes) && quad_wide(add, row_bytes);
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, wide, rows, dim, cuda_stream(device)), "add_gated");
}
