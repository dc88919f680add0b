/* KV blocks: rows into them, and what of a row comes before attention in one kernel. */
#include <assert.h>
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/head.h"

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

static write_job write_job_of(const struct kv_memory *kv, uint32_t layer, const struct kv_runs *runs)
{
	const struct kv_layout *layout = &kv->layout;
	assert(layout->head_dim % 16 == 0 && kv->block_stride % 16 == 0 && kv->layer_stride % 16 == 0 && (uintptr_t)kv->base % 16 == 0);
	write_job job = {};
	job.runs = cuda_runs_of(runs)->view;
	job.base = (uint8_t *)kv->base + layer * kv->layer_stride;
	job.block_stride = kv->block_stride;
	job.head_count = layout->head_kv_count;
	job.head_dim = layout->head_dim;
	job.block_tokens = layout->block_tokens;
	job.block_first = kv->block_first;
	job.vectors = layout->kind == KV_LATENT ? 1 : 2;
	return job;
}

void cuda_kv_write(struct device *device, const struct kv_write_call *call)
{
	write_job job = write_job_of(call->kv, call->layer, call->runs);
	uint32_t blocks = call->runs->row_count + call->runs->padding;
	job.k = call->k;
	job.v = call->v;
	job.stride = call->stride;
	blocks = blocks < WRITE_BLOCKS ? blocks : WRITE_BLOCKS;
	if (!cuda_alive(device) || blocks == 0)
		return;
	cudaError_t e = call->kv->layout.elem == ELEM_F32 ? write_run<float>(cuda_stream(device), job, dim3(blocks, 2))
							  : write_run<uint16_t>(cuda_stream(device), job, dim3(blocks, 2));
	cuda_check(cuda_of(device), e, "kv_write");
}

/* --- queries, keys and values ------------------------------------------------------------------------------------ */

#define QKV_WARPS (WRITE_THREADS / SIMT_LANES)

struct qkv_job {
	write_job write;
	float *x;
	uint32_t rows, query_count; /* query_count: of a row */
	const float *q_norm, *k_norm, *cos, *sin;
	float eps;
	uint32_t half;
	uint32_t head_blocks; /* of the grid; those behind them have the runs' tails */
};

/* A number of the head at `at`, as the rope kernel turns pairs (at, at + half): products and sums rounded one by one. */
SIMT_DEVICE float turned(const qkv_job &job, size_t row, const float *head, uint32_t at)
{
	const float *cosine = job.cos + row * job.half, *sine = job.sin + row * job.half;
	if (at < job.half)
		return head[at] * cosine[at] - head[at + job.half] * sine[at];
	if (at >= 2 * job.half)
		return head[at];
	return head[at] * cosine[at - job.half] + head[at - job.half] * sine[at - job.half];
}

/* The same of four, which lie in one half. */
SIMT_DEVICE quad turned_quad(const qkv_job &job, size_t row, const float *head, uint32_t at, const quad &v)
{
	if (at >= 2 * job.half)
		return v;
	bool low = at < job.half;
	uint32_t pair = low ? at : at - job.half;
	quad other = quad_load<true>(head + (low ? at + job.half : pair), QUAD), out;
	quad cosine = quad_load<true>(job.cos + row * job.half + pair, QUAD), sine = quad_load<true>(job.sin + row * job.half + pair, QUAD);
	SIMT_UNROLL
	for (int i = 0; i < QUAD; i++) {
		float own = v.at[i] * cosine.at[i], across = other.at[i] * sine.at[i];
		out.at[i] = low ? own - across : own + across;
	}
	return out;
}

/* By way of shared memory: the other of a pair is another lane's. */
template <bool wide> SIMT_DEVICE void head_turn(const qkv_job &job, size_t row, float *shared, head_part *head)
{
	uint32_t dim = job.write.head_dim;
	head_store<true>(*head, shared, dim);
	simt_sync_warp();
	SIMT_UNROLL
	for (uint32_t j = 0; j < HEAD_STEPS; j++) {
		uint32_t at = j * HEAD_STEP + simt_lane() * QUAD;
		if (at >= dim)
			break;
		if constexpr (wide) {
			head->v[j] = turned_quad(job, row, shared, at, head->v[j]);
		} else {
			SIMT_UNROLL
			for (uint32_t i = 0; i < QUAD; i++)
				head->v[j].at[i] = turned(job, row, shared, at + i);
		}
	}
}

/* Where vector `vector` ([kv_head][k|v]) of the row lies; NULL: nobody's row. */
template <typename elem_t> SIMT_DEVICE elem_t *slot_of(const write_job &job, uint32_t row, uint32_t vector)
{
	uint32_t index = job.runs.run_of_row[row];
	if (index == CUDA_RUN_NONE)
		return nullptr;
	const cuda_run run = job.runs.runs[index];
	uint32_t position = run.first_position + (row - run.row_first);
	elem_t *block = reinterpret_cast<elem_t *>(block_of(job, run, position));
	return block + ((size_t)vector * job.block_tokens + position % job.block_tokens) * job.head_dim;
}

/* A warp for each head: of queries, of keys, of values. */
template <bool wide, typename elem_t> SIMT_DEVICE void qkv_head(const qkv_job &job, uint32_t row, uint32_t number, float *shared)
{
	uint32_t dim = job.write.head_dim, kv_heads = job.write.head_count;
	bool query = number < job.query_count, value = number >= job.query_count + kv_heads;
	uint32_t head_kv = query ? 0 : number - job.query_count - (value ? kv_heads : 0);
	float *x = job.x + row * job.write.stride + (size_t)number * dim;
	elem_t *slot = query ? nullptr : slot_of<elem_t>(job.write, row, 2 * head_kv + value);
	if (!query && !slot)
		return;
	head_part head = head_load<wide>(x, dim);
	if (!value && job.q_norm) {
		float inverse = head_inverse(head_squares(head), dim, job.eps);
		head_normalise<wide>(&head, inverse, query ? job.q_norm : job.k_norm, dim);
	}
	if (!value)
		head_turn<wide>(job, row, shared, &head);
	if (query)
		head_store<wide>(head, x, dim);
	else
		head_store<true>(head, slot, dim);
}

/* rows * (8 a number of queries, 4 + 2 or 4 of keys and values) bytes: what head_norm, rope and kv_write would read and write four times
 * passes once.  The grid is the batch's rows, of which some may be nobody's. */
template <bool wide, typename elem_t> SIMT_KERNEL_OF(qkv, WRITE_THREADS, 4)(const qkv_job job)
{
	SIMT_SHARED float4 heads[QKV_WARPS][HEAD_DIM_MAX / QUAD];
	if (blockIdx.x >= job.head_blocks) {
		uint32_t first = blockIdx.x - job.head_blocks, step = gridDim.x - job.head_blocks;
		for (uint32_t run = first; run < job.write.runs.counts[CUDA_COUNT_RUNS]; run += step)
			zero_tail<elem_t>(job.write, run);
		return;
	}
	uint32_t all = job.query_count + 2 * job.write.head_count, index = blockIdx.x * QKV_WARPS + simt_warp();
	if (index / all < job.rows)
		qkv_head<wide, elem_t>(job, index / all, index % all, reinterpret_cast<float *>(heads[simt_warp()]));
}

template <typename elem_t> static cudaError_t qkv_run(cudaStream_t stream, const qkv_job &job, dim3 grid)
{
	size_t half_bytes = (size_t)job.half * 4;
	bool wide = quad_wide(job.x, job.write.stride * 4) && quad_wide(job.cos, half_bytes) && quad_wide(job.sin, half_bytes) &&
		    quad_wide(job.q_norm, 0) && quad_wide(job.k_norm, 0);
	if (wide)
		return SIMT_LAUNCH((qkv<true, elem_t>), grid, dim3(WRITE_THREADS), 0, stream, job);
	return SIMT_LAUNCH((qkv<false, elem_t>), grid, dim3(WRITE_THREADS), 0, stream, job);
}

void cuda_qkv(struct device *device, const struct qkv_call *call)
{
	qkv_job job = {write_job_of(call->kv, call->layer, call->runs), call->x, call->rows, call->head_count, call->q_norm, call->k_norm,
		       call->cos, call->sin, call->eps, call->half, 0};
	uint32_t heads = call->rows * (call->head_count + 2 * call->kv->layout.head_kv_count);
	uint32_t tails = call->runs->count + call->runs->padding;
	job.write.stride = call->x_stride;
	job.head_blocks = (heads + QKV_WARPS - 1) / QKV_WARPS;
	tails = tails < WRITE_BLOCKS ? tails : WRITE_BLOCKS;
	if (!cuda_alive(device) || heads == 0)
		return;
	dim3 grid(job.head_blocks + (tails > 0 ? tails : 1));
	cudaError_t e = call->kv->layout.elem == ELEM_F32 ? qkv_run<float>(cuda_stream(device), job, grid)
							  : qkv_run<uint16_t>(cuda_stream(device), job, grid);
	cuda_check(cuda_of(device), e, "qkv");
}
