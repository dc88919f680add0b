#include "engine/experts_local.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/layers.h"
#include "model/config.h"

/* Slots are (row, place among its experts), grouped by expert: "grouped" buffers are in that order. */
struct experts_local {
	struct expert_exchange exchange;
	struct device *device;
	const struct engine_weights *weights;
	uint32_t expert_count;
	uint32_t inner; /* of an expert */
	uint32_t hidden;
	struct glu glu;
	enum elem input;            /* of rows that only linears read, if not ELEM_E4M3 */
	size_t slot_max;
	const struct linear **linears; /* [expert_count] */
	uint32_t *slot_first;       /* [expert_count + 1] */
	uint32_t *slots;            /* [slot_max] */
	void *x;                    /* [slot_max][hidden] of `input` or ELEM_E4M3, grouped */
	float *gate_up;             /* [slot_max][2 * inner] grouped */
	void *activated;            /* [slot_max][inner] of `input` or ELEM_E4M3, grouped */
	float *y;                   /* [slot_max][hidden] grouped: answers */
	uint16_t *answers;          /* [slot_max][hidden] bf16, by row */
};

static enum err run(void *context, const struct expert_rows *rows);

struct buffer {
	void **memory;
	size_t bytes;
};

enum { BUFFERS = 7 };

static void list_buffers(struct experts_local *x, struct buffer ret_buffers[BUFFERS])
{
	size_t f32 = x->slot_max * sizeof(float), input = x->slot_max * elem_bytes(x->input);
	const struct buffer all[BUFFERS] = {
		{(void **)&x->slot_first, (x->expert_count + 1) * sizeof(uint32_t)},
		{(void **)&x->slots, x->slot_max * sizeof(uint32_t)},
		{&x->x, input * x->hidden},
		{(void **)&x->gate_up, f32 * 2 * x->inner},
		{&x->activated, input * x->inner},
		{(void **)&x->y, f32 * x->hidden},
		{(void **)&x->answers, f32 / 2 * x->hidden},
	};
	memcpy(ret_buffers, all, sizeof(all));
}

enum err experts_local_create(struct device *device, const struct model_config *config,
			      const struct engine_weights *weights, uint32_t rows_max,
			      struct experts_local **ret_experts)
{
	struct experts_local *x = calloc(1, sizeof(*x));
	if (!x)
		return ERR_NOMEM;
	*x = (struct experts_local){
		.exchange = {.context = x, .queued = true, .run = run},
		.device = device,
		.weights = weights,
		.expert_count = config->experts.count,
		.inner = config->experts.intermediate_size,
		.hidden = config->hidden_size,
		.glu = glu_of(config),
		.input = engine_weights_input(weights),
		.slot_max = (size_t)rows_max * config->experts.top,
		.linears = calloc(config->experts.count, sizeof(struct linear *)),
	};
	enum err e = x->linears ? ERR_OK : ERR_NOMEM;
	struct buffer buffers[BUFFERS];
	list_buffers(x, buffers);
	for (uint32_t i = 0; i < BUFFERS && e == ERR_OK; i++)
		e = dev_alloc(device, MEM_DEVICE, buffers[i].bytes, buffers[i].memory);
	if (e != ERR_OK) {
		experts_local_destroy(x);
		return e;
	}
	*ret_experts = x;
	return ERR_OK;
}

void experts_local_destroy(struct experts_local *x)
{
	if (!x)
		return;
	struct buffer buffers[BUFFERS];
	list_buffers(x, buffers);
	for (uint32_t i = 0; i < BUFFERS; i++)
		dev_free(x->device, MEM_DEVICE, *buffers[i].memory, buffers[i].bytes);
	free(x->linears);
	free(x);
}

struct expert_exchange *experts_local_exchange(struct experts_local *experts)
{
	return &experts->exchange;
}

/* The rows of every expert through one of its linears. */
static void linear_of_each(struct experts_local *x, const struct expert_weights *experts, bool down, uint32_t slot_count,
			   enum elem elem, const void *in, float *out)
{
	for (uint32_t i = 0; i < x->expert_count; i++)
		x->linears[i] = down ? experts[i].down : experts[i].gate_up;
	const struct moe_linear_call call = {.linears = x->linears, .expert_count = x->expert_count, .first = x->slot_first,
					     .slot_count = slot_count, .x = in, .x_elem = elem, .y = out};
	op_moe_linear(x->device, &call);
}

static enum err run(void *context, const struct expert_rows *rows)
{
	struct experts_local *x = context;
	const struct expert_weights *experts = x->weights->layers[rows->layer].experts;
	uint32_t slot_count = rows->row_count * rows->top_k;
	const enum elem in = engine_weights_input_of(x->weights, experts[0].gate_up);
	const enum elem inner = engine_weights_input_of(x->weights, experts[0].down);
	assert(slot_count <= x->slot_max && rows->dim == x->hidden);

	op_moe_group(x->device, rows->expert, slot_count, x->expert_count, x->slot_first, x->slots);
	const struct moe_gather_call gather = {.x = rows->x, .elem = rows->elem, .dim = x->hidden, .slot = x->slots,
					       .slot_count = slot_count, .top_k = rows->top_k, .out = x->x, .out_elem = in};
	op_moe_gather(x->device, &gather);
	linear_of_each(x, experts, false, slot_count, in, x->x, x->gate_up);
	const struct glu_call glu = {.glu = x->glu, .x = x->gate_up, .x_stride = 2 * (size_t)x->inner, .rows = slot_count,
				     .dim = x->inner, .out = x->activated, .out_elem = inner,
				     .out_stride = engine_row_stride(inner, x->inner)};
	op_glu(x->device, &glu);
	linear_of_each(x, experts, true, slot_count, inner, x->activated, x->y);
	op_moe_scatter(x->device, x->y, x->hidden, x->slots, slot_count, x->answers);
	op_moe_combine(x->device, x->answers, rows->weight, rows->row_count, rows->top_k, x->hidden, rows->sum);
	return ERR_OK;
}
