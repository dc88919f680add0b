/* Sums of what the shards of row-parallel weights say, and the way of their rows to all who need them. */
#include <string.h>
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tree.h"

struct tree_job {
	tree_parts parts;
	const float *bias;
	float *out;
	size_t n;
	uint32_t pieces; /* of a row */
};

/* 4 bytes a number and part, and 4: of one part it is a copy. */
template <int count, bool wide> SIMT_KERNEL_OF(tree_sum, TREE_THREADS, 4)(const tree_job job)
{
	size_t row = blockIdx.x / job.pieces, at = (size_t)(blockIdx.x % job.pieces) * TREE_PIECE + threadIdx.x * QUAD;
	if (at >= job.n)
		return;
	const float *bias = job.bias ? job.bias + at : NULL;
	quad sum = tree_load<count, wide>(job.parts, row * job.n + at, bias, job.n - at);
	quad_store<wide>(job.out + row * job.n + at, sum, job.n - at);
}

template <int count> static cudaError_t tree_run(cudaStream_t stream, const tree_job &job, dim3 grid, bool wide)
{
	if (wide)
		return SIMT_LAUNCH((tree_sum<count, true>), grid, dim3(TREE_THREADS), 0, stream, job);
	return SIMT_LAUNCH((tree_sum<count, false>), grid, dim3(TREE_THREADS), 0, stream, job);
}

void cuda_tree_sum(struct device *device, const struct tree_call *call)
{
	tree_job job = {{}, call->bias, call->out, call->n, (call->n + TREE_PIECE - 1) / TREE_PIECE};
	memcpy(job.parts.at, call->parts, call->part_count * sizeof(*call->parts));
	dim3 grid(call->rows * job.pieces);
	if (!cuda_alive(device) || call->rows == 0 || call->n == 0)
		return;
	bool wide = tree_wide(job.parts, call->part_count, call->bias, call->n) && quad_wide(call->out, 0);
	cudaStream_t stream = cuda_stream(device);
	cudaError_t e = call->part_count == 1   ? tree_run<1>(stream, job, grid, wide)
			: call->part_count == 2 ? tree_run<2>(stream, job, grid, wide)
			: call->part_count == 4 ? tree_run<4>(stream, job, grid, wide)
						: tree_run<8>(stream, job, grid, wide);
	cuda_check(cuda_of(device), e, "tree_sum");
}

struct collect_job {
	tree_parts parts;
	float *out;
	size_t n;
	uint32_t part_count, rows, pieces;
};

/* Who has the row: the last whose rows begin at or before it. */
SIMT_DEVICE const float *owner_of(const collect_job &job, uint32_t row)
{
	const float *owner = job.parts.at[0];
	SIMT_UNROLL
	for (uint32_t i = 1; i < DEVICES_MAX; i++)
		if (i < job.part_count && row >= (uint64_t)job.rows * i / job.part_count)
			owner = job.parts.at[i];
	return owner;
}

/* 8 bytes a number. */
template <bool wide> SIMT_KERNEL_OF(collect_rows, TREE_THREADS, 4)(const collect_job job)
{
	uint32_t row = blockIdx.x / job.pieces;
	size_t at = (size_t)(blockIdx.x % job.pieces) * TREE_PIECE + threadIdx.x * QUAD;
	if (at < job.n)
		quad_store<wide>(job.out + row * job.n + at, quad_load<wide>(owner_of(job, row) + row * job.n + at, job.n - at), job.n - at);
}

void cuda_collect(struct device *device, const struct collect_call *call)
{
	static_assert(DEVICES_MAX <= LINEAR_SEGMENTS, "a part for each device");
	collect_job job = {{}, call->out, call->n, call->part_count, call->rows, (call->n + TREE_PIECE - 1) / TREE_PIECE};
	memcpy(job.parts.at, call->parts, call->part_count * sizeof(*call->parts));
	dim3 grid(call->rows * job.pieces);
	if (!cuda_alive(device) || call->rows == 0 || call->n == 0)
		return;
	bool wide = tree_wide(job.parts, call->part_count, NULL, call->n) && quad_wide(call->out, 0);
	cudaError_t e = wide ? SIMT_LAUNCH(collect_rows<true>, grid, dim3(TREE_THREADS), 0, cuda_stream(device), job)
			     : SIMT_LAUNCH(collect_rows<false>, grid, dim3(TREE_THREADS), 0, cuda_stream(device), job);
	cuda_check(cuda_of(device), e, "collect_rows");
}
