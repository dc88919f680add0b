#include <assert.h>
#include <string.h>
#include "base/bf16.h"
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
		uint8_t *to = kv_block_at(job->kv, run->blocks[position / layout->block_tokens]) +
			      job->layer * kv_layer_bytes(layout) + position % layout->block_tokens * vector_bytes;
		size_t from = (run->row_first + i) * job->stride;
		for (uint32_t head = 0; head < layout->head_kv_count; head++) {
			write_vector(layout, job->k + from, to);
			if (layout->kind == KV_HEADS)
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
	uint32_t group;	     /* query heads of a kv head */
	uint32_t item_heads; /* of those in one item */
	uint32_t item_rows;  /* rows of a run in one item */
};

static uint32_t pieces(uint32_t count, uint32_t size)
{
	return (count + size - 1) / size;
}

/* Items of some rows of a run: each kv head, and its query heads in pieces. */
static uint32_t row_items(const struct attention_job *job)
{
	return job->call->kv->layout.head_kv_count * pieces(job->group, job->item_heads);
}

static uint32_t run_items(const struct attention_job *job, const struct kv_run *run)
{
	return pieces(run->row_count, job->item_rows) * row_items(job);
}

static uint32_t at_most(uint32_t count, uint32_t limit)
{
	return count < limit ? count : limit;
}

static void attention_task(void *arg, uint32_t index, uint32_t worker)
{
	const struct attention_job *job = arg;
	const struct kv_run *run = job->call->runs;
	while (index >= run_items(job, run))
		index -= run_items(job, run++);
	uint32_t head_pieces = pieces(job->group, job->item_heads), head = index % row_items(job);
	struct attention_item item = {
		.call = job->call,
		.run = run,
		.head_kv = head / head_pieces,
		.head_first = head % head_pieces * job->item_heads,
		.row_first = index / row_items(job) * job->item_rows,
	};
	item.head_count = at_most(job->group - item.head_first, job->item_heads);
	item.head_first += item.head_kv * job->group;
	item.row_count = at_most(run->row_count - item.row_first, job->item_rows);
	job->device->ops->attention(&item, cpu_scratch(job->device, worker));
}

static uint32_t item_count(const struct attention_job *job)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < job->call->run_count; i++)
		count += run_items(job, &job->call->runs[i]);
	return count;
}

/* As many heads in an item as fit, since they share the reading of keys and values; fewer where workers would
 * be without work. No bit depends on it. */
static void cut_items(struct attention_job *job, uint32_t thread_count)
{
	job->item_heads = at_most(job->group, ATTENTION_ROWS);
	job->item_rows = ATTENTION_ROWS / job->item_heads;
	while (job->item_heads > ATTENTION_ITEM_HEADS && item_count(job) < thread_count)
		job->item_heads = (job->item_heads + 1) / 2;
}

static void check_attention(const struct attention_call *call)
{
	const struct kv_layout *layout = &call->kv->layout;
	bool latent = layout->kind == KV_LATENT;
	assert(call->layer < layout->layer_count && call->kv->block_stride >= kv_block_bytes(layout));
	assert(call->head_count > 0 && call->head_count % layout->head_kv_count == 0);
	assert(layout->head_dim % 16 == 0 && layout->head_dim <= (latent ? LATENT_DIM_MAX : HEAD_DIM_MAX));
	assert(kv_value_dim(layout) % 16 == 0 && kv_value_dim(layout) <= HEAD_DIM_MAX);
	assert(latent == (call->q_rest != NULL) && kv_value_dim(layout) <= layout->head_dim);
}

void op_attention(struct device *device, const struct attention_call *call)
{
	const struct kv_layout *layout = &call->kv->layout;
	check_attention(call);
	struct attention_job job = {.device = device, .call = call, .group = call->head_count / layout->head_kv_count};
	cut_items(&job, device->props.thread_count);
	uint64_t work = 0;
	for (uint32_t i = 0; i < call->run_count; i++) {
		const struct kv_run *run = &call->runs[i];
		uint32_t seen = run->first_position + run->row_count;
		if (call->window != 0 && seen > call->window)
			seen = call->window;
		work += (uint64_t)run->row_count * seen * 2;
	}
	cpu_parallel(device, item_count(&job), work * call->head_count * layout->head_dim, attention_task, &job);
}
