#include <assert.h>
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

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
	const struct kv_run *run = job->call->runs->list;
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
	cpu_ops(job->device)->attention(&item, cpu_scratch(job->device, worker));
}

static uint32_t item_count(const struct attention_job *job)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < job->call->runs->count; i++)
		count += run_items(job, &job->call->runs->list[i]);
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

void cpu_attention(struct device *device, const struct attention_call *call)
{
	const struct kv_layout *layout = &call->kv->layout;
	assert(call->out_elem == ELEM_F32);
	struct attention_job job = {.device = device, .call = call, .group = call->head_count / layout->head_kv_count};
	cut_items(&job, device_props(device)->thread_count);
	uint64_t work = 0;
	for (uint32_t i = 0; i < call->runs->count; i++) {
		const struct kv_run *run = &call->runs->list[i];
		uint32_t seen = run->first_position + run->row_count;
		if (call->window != 0 && seen > call->window)
			seen = call->window;
		work += (uint64_t)run->row_count * seen * 2;
	}
	cpu_parallel(device, item_count(&job), work * call->head_count * layout->head_dim, attention_task, &job);
}
