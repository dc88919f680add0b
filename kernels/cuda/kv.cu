/* KV blocks: rows into them. */
#include <assert.h>
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/quad.h"

#define WRITE_THREADS 256
#define WRITE_BLOCKS  1024 /* at most: more rows than that pass through in turns */

struct write_job {
	struct cuda_runs_view runs;
	uint8_t *base; /* of the layer, in block 0 */
	size_t block_stride;
	const float *k, *v; /* latent blocks have no v */
	size_t stride;
	uint32_t head_count, head_dim, block_tokens, block_first;
	uint32_t vectors; /* 2, or 1 of a latent block */
};

SIMT_DEVICE uint8_t *block_of(const write_job &job, const cuda_run &run, uint32_t position)
{
	uint32_t block = job.runs.tables[run.table + position / job.block_tokens];
	return job.base + (size_t)(block - job.block_first) * job.block_stride;
}

/* A quad of a vector of the row: quad `index` of all its heads' k and v. */
template <bool wide, typename elem_t>
SIMT_DEVICE void write_quad(const write_job &job, size_t row, uint8_t *block, uint32_t slot, uint32_t index)
{
	uint32_t quads = job.head_dim / QUAD, vector = index / quads, at = index % quads * QUAD;
	uint32_t head = vector / job.vectors, side = vector % job.vectors;
	const float *from = (side ? job.v : job.k) + row * job.stride + (size_t)head * job.head_dim + at;
	elem_t *to = reinterpret_cast<elem_t *>(block) + ((size_t)vector * job.block_tokens + slot) * job.head_dim + at;
	quad_store<wide>(to, quad_load<wide>(from, QUAD), QUAD);
}

template <bool wide, typename elem_t> SIMT_DEVICE void write_row(const write_job &job, uint32_t row)
{
	uint32_t index = job.runs.run_of_row[row];
	if (index == CUDA_RUN_NONE)
		return;
	const cuda_run run = job.runs.runs[index];
	uint32_t position = run.first_position + (row - run.row_first);
	uint8_t *block = block_of(job, run, position);
	uint32_t count = job.head_count * job.vectors * (job.head_dim / QUAD);
	for (uint32_t i = threadIdx.x; i < count; i += WRITE_THREADS)
		write_quad<wide, elem_t>(job, row, block, position % job.block_tokens, i);
}

/* The slots behind the last one that a run writes, in a block that it begins: of all heads' k and v. */
template <typename elem_t> SIMT_DEVICE void zero_tail(const write_job &job, uint32_t index)
{
	const cuda_run run = job.runs.runs[index];
	uint32_t end = run.first_position + run.row_count, used = end % job.block_tokens;
	if (used == 0 || end - used < run.first_position)
		return;
	uint8_t *block = block_of(job, run, end);
	size_t slot_bytes = job.head_dim * sizeof(elem_t);
	uint32_t pieces = (uint32_t)((job.block_tokens - used) * slot_bytes / sizeof(uint4)); /* of a vector's tail */
	for (uint32_t i = threadIdx.x; i < job.head_count * job.vectors * pieces; i += WRITE_THREADS) {
		uint8_t *tail = block + ((size_t)(i / pieces) * job.block_tokens + used) * slot_bytes;
		reinterpret_cast<uint4 *>(tail)[i % pieces] = make_uint4(0, 0, 0, 0);
	}
}

/* A block for each row, and (blockIdx.y 1) for each run, whose tail is other memory than its rows: nothing waits. The grid is of no
 * consequence: counts come from device memory, so that a recorded launch serves any rows.
 * rows * heads * head_dim * vectors * (4 + 2 or 4) bytes, 16 read and 8 or 16 written at a time. */
template <bool wide, typename elem_t> SIMT_KERNEL_OF(kv_write, WRITE_THREADS, 4)(const write_job job)
{
	if (blockIdx.y == 0)
		for (uint32_t row = blockIdx.x; row < job.runs.counts[CUDA_COUNT_ROW_END]; row += gridDim.x)
			write_row<wide, elem_t>(job, row);
	else
		for (uint32_t run = blockIdx.x; run < job.runs.counts[CUDA_COUNT_RUNS]; run += gridDim.x)
			zero_tail<elem_t>(job, run);
}

template <typename elem_t> static cudaError_t write_run(cudaStream_t stream, const write_job &job, dim3 grid)
{
	bool wide = quad_wide(job.k, job.stride * 4) && quad_wide(job.v, job.stride * 4);
	if (wide)
		return SIMT_LAUNCH((kv_write<true, elem_t>), grid, dim3(WRITE_THREADS), 0, stream, job);
	return SIMT_LAUNCH((kv_write<false, elem_t>), grid, dim3(WRITE_THREADS), 0, stream, job);
}

void cuda_kv_write(struct device *device, const struct kv_write_call *call)
{
	const struct kv_layout *layout = &call->kv->layout;
	const struct cuda_runs *runs = cuda_runs_of(call->runs);
	write_job job = {runs->view, (uint8_t *)call->kv->base + call->layer * call->kv->layer_stride, call->kv->block_stride,
			 call->k, call->v, call->stride, layout->head_kv_count, layout->head_dim, layout->block_tokens,
			 call->kv->block_first, layout->kind == KV_LATENT ? 1u : 2u};
	assert(layout->head_dim % 16 == 0 && call->kv->block_stride % 16 == 0 && call->kv->layer_stride % 16 == 0 &&
	       (uintptr_t)call->kv->base % 16 == 0);
	uint32_t blocks = runs->base.row_count + runs->base.padding;
	blocks = blocks < WRITE_BLOCKS ? blocks : WRITE_BLOCKS;
	if (!cuda_alive(device) || blocks == 0)
		return;
	cudaError_t e = layout->elem == ELEM_F32 ? write_run<float>(cuda_stream(device), job, dim3(blocks, 2))
						 : write_run<uint16_t>(cuda_stream(device), job, dim3(blocks, 2));
	cuda_check(cuda_of(device), e, "kv_write");
}
