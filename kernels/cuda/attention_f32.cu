/* attention_f32 - attention over f32 KV by plain fused multiply-adds, in the order of cpu-fma-1 and so with its bits: for models
 * whose weights are f32. A block answers one row and head. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/elementary.h"

#define F32_THREADS 128
#define F32_PARTS   ((HEAD_DIM_MAX + F32_THREADS - 1) / F32_THREADS)
#define F32_LANES   16 /* of cpu-fma-1: sums of weights */
#define F32_BLOCKS  8  /* of a multiprocessor */

struct f32_row {
	struct cuda_run run;
	uint32_t head, head_kv;
	uint32_t low, end; /* positions that it sees */
	size_t batch_row;
};

struct f32_shared {
	float q[LATENT_DIM_MAX]; /* scaled */
	float scores[ATTENTION_SPLIT];
	float greatest[F32_THREADS / SIMT_LANES];
	float lanes[F32_LANES];
};

SIMT_DEVICE const float *f32_key(const struct attention_job *job, const struct f32_row *row, uint32_t position)
{
	return (const float *)(attention_key(job, &row->run, position) + row->head_kv * job->head_bytes);
}

SIMT_DEVICE void f32_queries(const struct attention_job *job, const struct f32_row *row, struct f32_shared *shared)
{
	uint32_t rest = job->head_dim - job->q_dim;
	for (uint32_t d = threadIdx.x; d < job->head_dim; d += F32_THREADS) {
		const float *q = job->q + row->batch_row * job->q_stride + (size_t)row->head * job->q_dim + d;
		if (d >= job->q_dim)
			q = job->q_rest + row->batch_row * job->q_rest_stride + (size_t)row->head * rest + (d - job->q_dim);
		shared->q[d] = *q * job->scale;
	}
}

/* Scores of the positions of the split that the row sees, -INFINITY elsewhere; returns the greatest. */
SIMT_DEVICE float f32_scores(const struct attention_job *job, const struct f32_row *row, uint32_t split, struct f32_shared *shared)
{
	float greatest = -INFINITY;
	for (uint32_t i = threadIdx.x; i < ATTENTION_SPLIT; i += F32_THREADS) {
		uint32_t position = split * ATTENTION_SPLIT + i;
		float score = -INFINITY;
		if (position >= row->low && position < row->end) {
			const float *key = f32_key(job, row, position);
			score = 0.0f;
			for (uint32_t d = 0; d < job->head_dim; d++)
				score = simt_fma(shared->q[d], key[d], score);
			if (job->cap > 0.0f)
				score = job->cap * elementary_tanh(score / job->cap);
		}
		shared->scores[i] = score;
		greatest = score > greatest ? score : greatest;
	}
	greatest = simt_warp_max(greatest);
	if (simt_lane() == 0)
		shared->greatest[simt_warp()] = greatest;
	simt_sync();
	for (uint32_t warp = 0; warp < F32_THREADS / SIMT_LANES; warp++)
		greatest = shared->greatest[warp] > greatest ? shared->greatest[warp] : greatest;
	return greatest;
}

/* Scores to weights; returns their sum: 16 lanes over the split, then the tree. */
SIMT_DEVICE float f32_weights(struct f32_shared *shared, float greatest)
{
	for (uint32_t i = threadIdx.x; i < ATTENTION_SPLIT; i += F32_THREADS)
		shared->scores[i] = elementary_exp(shared->scores[i] - greatest);
	simt_sync();
	if (threadIdx.x < F32_LANES) {
		float sum = 0.0f;
		for (uint32_t i = threadIdx.x; i < ATTENTION_SPLIT; i += F32_LANES)
			sum += shared->scores[i];
		shared->lanes[threadIdx.x] = sum;
	}
	simt_sync();
	float lanes[F32_LANES];
	SIMT_UNROLL
	for (int i = 0; i < F32_LANES; i++)
		lanes[i] = shared->lanes[i];
	SIMT_UNROLL
	for (int half = F32_LANES / 2; half > 0; half /= 2) {
		SIMT_UNROLL
		for (int i = 0; i < half; i++)
			lanes[i] += lanes[i + half];
	}
	return lanes[0];
}

SIMT_DEVICE void f32_values(const struct attention_job *job, const struct f32_row *row, uint32_t split,
			    const struct f32_shared *shared, float (&sums)[F32_PARTS])
{
	uint32_t first = split * ATTENTION_SPLIT, end = first + ATTENTION_SPLIT < row->end ? first + ATTENTION_SPLIT : row->end;
	SIMT_UNROLL
	for (int part = 0; part < F32_PARTS; part++)
		sums[part] = 0.0f;
	for (uint32_t position = first > row->low ? first : row->low; position < end; position++) {
		const float *value = f32_key(job, row, position) + job->value_offset / sizeof(float);
		SIMT_UNROLL
		for (int part = 0; part < F32_PARTS; part++) {
			uint32_t d = part * F32_THREADS + threadIdx.x;
			if (d < job->value_dim)
				sums[part] = simt_fma(shared->scores[position - first], value[d], sums[part]);
		}
	}
}

SIMT_DEVICE void f32_join(float *greatest, float *sum, float (&total)[F32_PARTS], float add_greatest, float add_sum,
			  const float (&sums)[F32_PARTS], bool is_first)
{
	float level = *greatest > add_greatest ? *greatest : add_greatest;
	float old = elementary_exp(*greatest - level), add = elementary_exp(add_greatest - level);
	*sum = is_first ? add_sum : simt_fma(*sum, old, add_sum * add);
	*greatest = is_first ? add_greatest : level;
	SIMT_UNROLL
	for (int part = 0; part < F32_PARTS; part++)
		total[part] = is_first ? sums[part] : simt_fma(total[part], old, sums[part] * add);
}

SIMT_DEVICE float f32_share(const struct attention_job *job, uint32_t head, float greatest, float sum)
{
	if (!job->sinks)
		return 1.0f / sum;
	float sink = job->sinks[head], level = greatest > sink ? greatest : sink;
	float scale = elementary_exp(greatest - level);
	return scale / simt_fma(sum, scale, elementary_exp(sink - level));
}

SIMT_DEVICE void f32_answer(const struct attention_job *job, const struct f32_row *row, struct f32_shared *shared)
{
	float greatest = 0.0f, sum = 0.0f, total[F32_PARTS] = {}, sums[F32_PARTS];
	uint32_t first = row->low / ATTENTION_SPLIT;
	f32_queries(job, row, shared);
	for (uint32_t split = first; split * ATTENTION_SPLIT < row->end; split++) {
		simt_sync(); /* the queries; and scores of the split before were read */
		float split_greatest = f32_scores(job, row, split, shared), split_sum = f32_weights(shared, split_greatest);
		f32_values(job, row, split, shared, sums);
		f32_join(&greatest, &sum, total, split_greatest, split_sum, sums, split == first);
	}
	float share = f32_share(job, row->head, greatest, sum);
	for (int part = 0; part < F32_PARTS; part++) {
		uint32_t d = part * F32_THREADS + threadIdx.x;
		size_t at = row->batch_row * job->out_stride + (size_t)row->head * job->value_dim + d;
		if (d >= job->value_dim)
			continue;
		if (job->out_bf16)
			((uint16_t *)job->out)[at] = simt_bf16_round(total[part] * share);
		else
			((float *)job->out)[at] = total[part] * share;
	}
}

SIMT_KERNEL_OF(attention_f32_kernel, F32_THREADS, 4)(SIMT_GRID_CONSTANT struct attention_job job)
{
	SIMT_SHARED struct f32_shared shared;
	uint32_t count = job.runs.counts[1] * job.head_count;
	for (uint32_t i = blockIdx.x; i < count; i += gridDim.x) {
		struct f32_row row = {};
		uint32_t run = job.runs.run_of_row[i / job.head_count];
		if (run == CUDA_RUN_NONE)
			continue;
		row.batch_row = i / job.head_count;
		row.run = job.runs.runs[run];
		row.head = i % job.head_count;
		row.head_kv = row.head / job.group;
		row.end = row.run.first_position + (uint32_t)row.batch_row - row.run.row_first + 1;
		row.low = attention_low(&job, row.end - 1);
		f32_answer(&job, &row, &shared);
		simt_sync();
	}
}

void attention_f32(struct device *base, const struct attention_job *job, uint32_t rows)
{
	struct cuda_device *device = cuda_of(base);
	uint32_t blocks = rows * job->head_count, most = device->sm_count * F32_BLOCKS;
	SIMT_LAUNCH(attention_f32_kernel, dim3(blocks < most ? blocks : most), dim3(F32_THREADS), 0, device->stream, *job);
	cuda_launched(device, "attention_f32");
}
