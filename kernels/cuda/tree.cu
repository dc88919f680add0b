/* Sums of what the shards of row-parallel weights say. */
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
