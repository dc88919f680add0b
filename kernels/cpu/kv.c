#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/bf16.h"
#include "base/digest.h"
#include "kernels/cpu/cpu.h"

#define DIGEST_WORK 1 /* of a byte, in additions */

/* The host's description serves as it is. */
enum err cpu_kv_runs_create(struct device *device, const struct kv_runs_bounds *bounds, struct kv_runs **ret_runs)
{
	*ret_runs = calloc(1, sizeof(**ret_runs));
	return *ret_runs ? ERR_OK : ERR_NOMEM;
}

void cpu_kv_runs_destroy(struct kv_runs *runs)
{
	free(runs);
}

void cpu_kv_runs_set(struct kv_runs *runs)
{
}

/* --- writing ----------------------------------------------------------------------------------------- */

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

static void write_row(const struct kv_write_call *call, const struct kv_run *run, uint32_t row)
{
	const struct kv_layout *layout = &call->kv->layout;
	size_t vector_bytes = layout->head_dim * elem_bytes(layout->elem);
	uint32_t position = run->first_position + row;
	uint8_t *to = kv_layer_at(call->kv, run->blocks[position / layout->block_tokens], call->layer) +
		      position % layout->block_tokens * vector_bytes;
	size_t from = (run->row_first + row) * call->stride;
	for (uint32_t head = 0; head < layout->head_kv_count; head++) {
		write_vector(layout, call->k + from, to);
		if (layout->kind == KV_HEADS)
			write_vector(layout, call->v + from, to + layout->block_tokens * vector_bytes);
		from += layout->head_dim;
		to += kv_head_bytes(layout);
	}
}

static void write_run(void *arg, uint32_t index, uint32_t worker)
{
	const struct kv_write_call *call = arg;
	const struct kv_layout *layout = &call->kv->layout;
	const struct kv_run *run = &call->runs->list[index];
	uint32_t end = run->first_position + run->row_count, last = end / layout->block_tokens;
	/* A block that the run begins and does not fill: the whole layer of it, before what is written. */
	if (end % layout->block_tokens != 0 && last * layout->block_tokens >= run->first_position)
		memset(kv_layer_at(call->kv, run->blocks[last], call->layer), 0, kv_layer_bytes(layout));
	for (uint32_t row = 0; row < run->row_count; row++)
		write_row(call, run, row);
}

void cpu_kv_write(struct device *device, const struct kv_write_call *call)
{
	const struct kv_layout *layout = &call->kv->layout;
	struct kv_write_call job = *call;
	uint64_t work = (uint64_t)call->runs->row_count * layout->head_kv_count * layout->head_dim * 2;
	cpu_parallel(device, call->runs->count, work, write_run, &job);
}

/* Nothing is gained here by fewer passes: rows stay in the cache. */
void cpu_qkv(struct device *device, const struct qkv_call *call)
{
	uint32_t dim = call->kv->layout.head_dim, kv_heads = call->kv->layout.head_kv_count;
	float *k = call->x + (size_t)call->head_count * dim;
	const struct kv_write_call write = {.kv = call->kv, .layer = call->layer, .runs = call->runs, .k = k,
					    .v = k + (size_t)kv_heads * dim, .stride = call->x_stride};
	if (call->q_norm) {
		cpu_head_norm(device, call->x, call->x_stride, call->rows, call->head_count, dim, call->q_norm, call->eps);
		cpu_head_norm(device, k, call->x_stride, call->rows, kv_heads, dim, call->k_norm, call->eps);
	}
	/* Queries and keys lie side by side and turn alike. */
	cpu_rope(device, call->x, call->x_stride, call->rows, call->head_count + kv_heads, dim, call->half, call->cos, call->sin);
	cpu_kv_write(device, &write);
}

/* --- digests ----------------------------------------------------------------------------------------- */

static uint32_t block_first(const struct kv_digest_call *call, const struct kv_run *run)
{
	return run->first_position / call->parts->layout.block_tokens;
}

static uint32_t block_count(const struct kv_digest_call *call, const struct kv_run *run)
{
	uint32_t last = (run->first_position + run->row_count - 1) / call->parts->layout.block_tokens;
	return run->digest ? last - block_first(call, run) + 1 : 0;
}

static void digest_block(void *arg, uint32_t index, uint32_t worker)
{
	const struct kv_digest_call *call = arg;
	const struct kv_memory *kv = call->parts;
	const struct kv_run *run = call->runs->list;
	while (index >= block_count(call, run))
		index -= block_count(call, run++);
	uint32_t block = run->blocks[block_first(call, run) + index];
	if (block % call->turns == call->turn)
		call->ret_digests[(size_t)(block - kv->block_first) * kv->layout.layer_count + call->layer] =
			digest_of(kv_layer_at(kv, block, call->layer), kv_layer_bytes(&kv->layout));
}

void cpu_kv_digest(struct device *device, const struct kv_digest_call *call)
{
	struct kv_digest_call job = *call;
	uint32_t count = 0;
	assert(call->part_count == 1);
	for (uint32_t i = 0; i < call->runs->count; i++)
		count += block_count(&job, &call->runs->list[i]);
	cpu_parallel(device, count, count * kv_layer_bytes(&call->parts->layout) / 4 * DIGEST_WORK, digest_block, &job);
}
