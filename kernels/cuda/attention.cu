/* attention - the host's side: which form a call takes; and the kernel that merges splits of one row. */
#include "kernels/cuda/attention.h"
#include <assert.h>

#define MERGE_THREADS 128
#define MERGE_AHEAD   8 /* splits whose values are asked for before the first is used */
#define MERGE_PARTS   ((HEAD_DIM_MAX + MERGE_THREADS - 1) / MERGE_THREADS)
#define MERGE_BLOCKS  16 /* of a multiprocessor */

/* Of the scratch: first partial rows of runs; partial values; their stats, 8 bytes to at least 16 values; totals. */
#define VALUES_AT     4096
#define STATS_AT      (VALUES_AT + ATTENTION_PARTIAL_BYTES)
#define TOTALS_AT     (STATS_AT + ATTENTION_PARTIAL_BYTES / 8)
#define MAIL_AT	      (TOTALS_AT + ATTENTION_TOTAL_BYTES)
#define SCRATCH_BYTES (MAIL_AT + ATTENTION_MAIL_BYTES)
static_assert(SCRATCH_BYTES <= CUDA_SCRATCH_BYTES && ATTENTION_RUNS_MAX * sizeof(uint32_t) <= VALUES_AT, "the scratch holds all");

/* --- merging ----------------------------------------------------------------------------------------------- */

struct merge_row {
	uint32_t partial;  /* of its first split */
	uint32_t step;	   /* partial rows from split to split */
	uint32_t count;	   /* splits */
};

SIMT_DEVICE bool merge_row_find(const struct attention_job *job, uint32_t row, uint32_t head, struct merge_row *ret_row)
{
	uint32_t number = job->runs.run_of_row[row];
	if (number == CUDA_RUN_NONE || job->partial_first[number] == ATTENTION_WALKED)
		return false;
	const struct cuda_run run = job->runs.runs[number];
	uint32_t position = run.first_position + row - run.row_first, head_kv = head / job->group;
	struct attention_splits own = attention_splits_of(job, position, position + 1);
	uint32_t first = attention_splits_of(job, run.first_position, position + 1).first;
	uint32_t packed = (row - run.row_first) * job->group + head % job->group;
	ret_row->partial = job->partial_first[number] + attention_partial(job, &run, own.first - first, head_kv, packed);
	ret_row->step = job->head_count * run.row_count;
	ret_row->count = own.end - own.first;
	return true;
}

/* Some splits of a row, asked for together. */
struct merge_ahead {
	float2 stats[MERGE_AHEAD];
	float values[MERGE_AHEAD][MERGE_PARTS];
};

SIMT_DEVICE void merge_load(const struct attention_job *job, const struct merge_row *row, uint32_t first,
			    struct merge_ahead *ahead)
{
	SIMT_UNROLL
	for (int i = 0; i < MERGE_AHEAD; i++) {
		bool is = first + i < row->count;
		size_t partial = row->partial + (size_t)(is ? first + i : 0) * row->step;
		ahead->stats[i] = is ? job->stats[partial] : make_float2(-INFINITY, 0.0f);
		SIMT_UNROLL
		for (int part = 0; part < MERGE_PARTS; part++) {
			uint32_t d = part * MERGE_THREADS + threadIdx.x;
			ahead->values[i][part] = is && d < job->value_dim ? job->values[partial * job->value_dim + d] : 0.0f;
		}
	}
}

SIMT_DEVICE void merge_store(const struct attention_job *job, uint32_t row, uint32_t head, const float *total, float share)
{
	SIMT_UNROLL
	for (int part = 0; part < MERGE_PARTS; part++) {
		uint32_t d = part * MERGE_THREADS + threadIdx.x;
		size_t at = row * job->out_stride + (size_t)head * job->value_dim + d;
		if (d >= job->value_dim)
			continue;
		if (job->out_bf16)
			((uint16_t *)job->out)[at] = simt_bf16_round(total[part] * share);
		else
			((float *)job->out)[at] = total[part] * share;
	}
}

/* One row and head at a time, a thread some of its values. */
SIMT_KERNEL_OF(attention_merge, MERGE_THREADS, 4)(const struct attention_job job)
{
	uint32_t count = job.runs.counts[1] * job.head_count;
	for (uint32_t i = blockIdx.x; i < count; i += gridDim.x) {
		struct merge_row row;
		struct merge_ahead ahead;
		struct attention_sum sum = {-INFINITY, 0.0f};
		float total[MERGE_PARTS] = {0};
		if (!merge_row_find(&job, i / job.head_count, i % job.head_count, &row))
			continue;
		for (uint32_t first = 0; first < row.count; first += MERGE_AHEAD) {
			merge_load(&job, &row, first, &ahead);
			SIMT_UNROLL
			for (int j = 0; j < MERGE_AHEAD; j++) {
				struct attention_factors by = attention_join(&sum, {ahead.stats[j].x, ahead.stats[j].y});
				SIMT_UNROLL
				for (int part = 0; part < MERGE_PARTS; part++)
					total[part] = attention_join_value(total[part], ahead.values[j][part], by);
			}
		}
		merge_store(&job, i / job.head_count, i % job.head_count, total, attention_share(&job, sum, i % job.head_count));
	}
}

/* --- the call ---------------------------------------------------------------------------------------------- */

static bool is_aligned(const void *at, size_t stride)
{
	return (uintptr_t)at % 16 == 0 && stride % 4 == 0;
}

static struct attention_job job_of(struct device *device, const struct attention_call *call)
{
	const struct kv_layout *layout = &call->kv->layout;
	struct attention_job job = {};
	bool latent = layout->kind == KV_LATENT;
	job.keys = (const uint8_t *)call->kv->base + call->layer * call->kv->layer_stride;
	job.block_stride = call->kv->block_stride;
	job.head_bytes = kv_head_bytes(layout);
	job.vector_bytes = (uint32_t)(layout->head_dim * elem_bytes(layout->elem));
	job.value_offset = latent ? 0 : layout->block_tokens * job.vector_bytes;
	job.block_tokens = layout->block_tokens;
	job.block_first = call->kv->block_first;
	job.head_dim = layout->head_dim;
	job.value_dim = kv_value_dim(layout);
	job.head_count = call->head_count;
	job.head_kv_count = layout->head_kv_count;
	job.group = call->head_count / layout->head_kv_count;
	job.window = call->window == 0 ? UINT32_MAX : call->window;
	job.q = call->q;
	job.q_stride = call->q_stride;
	job.q_rest = call->q_rest;
	job.q_rest_stride = call->q_rest_stride;
	job.q_dim = latent ? job.value_dim : job.head_dim;
	job.q_vectors = is_aligned(call->q, call->q_stride) && (!latent || is_aligned(call->q_rest, call->q_rest_stride));
	job.out = call->out;
	job.out_stride = call->out_stride;
	job.out_bf16 = call->out_elem == ELEM_BF16;
	job.scale = call->scale;
	job.cap = call->score_cap;
	job.sinks = call->sinks;
	job.runs = cuda_runs_of(call->runs)->view;
	uint8_t *scratch = (uint8_t *)cuda_scratch(device, SCRATCH_BYTES);
	job.partial_first = (uint32_t *)scratch;
	job.values = (float *)(scratch + VALUES_AT);
	job.stats = (float2 *)(scratch + STATS_AT);
	job.totals = (float *)(scratch + TOTALS_AT);
	job.mail = (uint32_t *)(scratch + MAIL_AT);
	if (cuda_of(device)->fast && layout->elem != ELEM_F32) {
		uint32_t blocks = 2 * cuda_of(device)->sm_count;
		job.split_share = blocks > job.head_kv_count ? blocks / job.head_kv_count : 1;
	}
	job.partial_rows = (uint32_t)(ATTENTION_PARTIAL_BYTES / (job.value_dim * sizeof(float)));
	return job;
}

void cuda_attention(struct device *base, const struct attention_call *call)
{
	const struct cuda_runs *runs = cuda_runs_of(call->runs);
	struct cuda_device *device = cuda_of(base);
	uint32_t rows = call->runs->row_count + call->runs->padding;
	assert(call->runs->count <= ATTENTION_RUNS_MAX && call->scale > 0);
	assert(call->kv->block_stride % 16 == 0 && call->kv->layer_stride % 16 == 0 && (uintptr_t)call->kv->base % 16 == 0);
	if (!cuda_alive(base) || rows == 0)
		return;
	struct attention_job job = job_of(base, call);
	if (call->kv->layout.elem == ELEM_F32) {
		attention_f32(base, &job, rows);
		return;
	}
	attention_tiles(base, &job, runs->rows_longest);
	uint32_t blocks = rows * call->head_count, most = device->sm_count * MERGE_BLOCKS;
	SIMT_LAUNCH(attention_merge, dim3(blocks < most ? blocks : most), dim3(MERGE_THREADS), 0, device->stream, job);
	cuda_launched(device, "attention_merge");
}
