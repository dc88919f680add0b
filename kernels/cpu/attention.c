#include <assert.h>
#include <string.h>
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

/* --- writing KV -------------------------------------------------------------------------------------- */

struct write_job {
	const struct kv_memory *kv;
	uint32_t layer;
	const struct kv_run *runs;
	const float *k, *v;
	size_t stride;
};

static void write_vector(const struct kv_layout *layout, const float *from, void *to)
{
	if (layout->elem == ELEM_F32) {
		memcpy(to, from, layout->head_dim * sizeof(*from));
		return;
	}
	uint16_t *halves = to;
	for (uint32_t i = 0; i < layout->head_dim; i++)
		halves[i] = bf16_round(from[i]);
}

static void write_run(void *arg, uint32_t index, uint32_t worker)
{
	const struct write_job *job = arg;
	const struct kv_layout *layout = &job->kv->layout;
	const struct kv_run *run = &job->runs[index];
	size_t vector_bytes = layout->head_dim * elem_bytes(layout->elem);
	for (uint32_t i = 0; i < run->row_count; i++) {
		uint32_t position = run->first_position + i;
		size_t block = run->blocks[position / layout->block_tokens];
		uint8_t *to = (uint8_t *)job->kv->base + block * job->kv->block_stride +
			      job->layer * kv_layer_bytes(layout) + position % layout->block_tokens * vector_bytes;
		size_t from = (run->row_first + i) * job->stride;
		for (uint32_t head = 0; head < layout->head_kv_count; head++) {
			write_vector(layout, job->k + from, to);
			write_vector(layout, job->v + from, to + layout->block_tokens * vector_bytes);
			from += layout->head_dim;
			to += kv_head_bytes(layout);
		}
	}
}

void op_kv_write(struct device *device, const struct kv_memory *kv, uint32_t layer, const struct kv_run *runs,
		 uint32_t run_count, const float *k, const float *v, size_t stride)
{
	struct write_job job = {kv, layer, runs, k, v, stride};
	uint64_t rows = 0;
	assert(layer < kv->layout.layer_count && kv->block_stride >= kv_block_bytes(&kv->layout));
	for (uint32_t i = 0; i < run_count; i++)
		rows += runs[i].row_count;
	cpu_parallel(device, run_count, rows * kv->layout.head_kv_count * kv->layout.head_dim * 2, write_run, &job);
}

/* --- attention --------------------------------------------------------------------------------------- */

struct attention_job {
	const struct device *device;
	const struct attention_call *call;
	uint32_t item_rows; /* rows of a run in one item */
};

static uint32_t run_items(const struct attention_job *job, const struct kv_run *run)
{
	uint32_t pieces = (run->row_count + job->item_rows - 1) / job->item_rows;
	return pieces * job->call->kv->layout.head_kv_count;
}

static void attention_task(void *arg, uint32_t index, uint32_t worker)
{
	const struct attention_job *job = arg;
	uint32_t head_kv_count = job->call->kv->layout.head_kv_count;
	const struct kv_run *run = job->call->runs;
	while (index >= run_items(job, run))
		index -= run_items(job, run++);
	struct attention_item item = {
		.call = job->call,
		.run = run,
		.head_kv = index % head_kv_count,
		.row_first = index / head_kv_count * job->item_rows,
	};
	item.row_count = run->row_count - item.row_first;
	if (item.row_count > job->item_rows)
		item.row_count = job->item_rows;
	job->device->ops->attention(&item, cpu_scratch(job->device, worker));
}

void op_attention(struct device *device, const struct attention_call *call)
{
	const struct kv_layout *layout = &call->kv->layout;
	uint32_t group = call->head_count / layout->head_kv_count;
	assert(call->layer < layout->layer_count && call->kv->block_stride >= kv_block_bytes(layout));
	assert(call->head_count == group * layout->head_kv_count && group > 0 && group <= ATTENTION_GROUP_MAX);
	_Static_assert(ATTENTION_GROUP_MAX <= ATTENTION_ROWS, "a group's rows are together");
	assert(layout->head_dim % 16 == 0 && layout->head_dim <= 512);

	struct attention_job job = {device, call, ATTENTION_ROWS / group};
	uint32_t count = 0;
	uint64_t work = 0;
	for (uint32_t i = 0; i < call->run_count; i++) {
		const struct kv_run *run = &call->runs[i];
		count += run_items(&job, run);
		uint32_t seen = run->first_position + run->row_count;
		if (call->window != 0 && seen > call->window)
			seen = call->window;
		work += (uint64_t)run->row_count * seen * 2;
	}
	cpu_parallel(device, count, work * call->head_count * layout->head_dim, attention_task, &job);
}
