#include "engine/experts_local.h"

#include <assert.h>
#include <stdlib.h>

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
	size_t slot_max;
	uint32_t *slot_first;       /* [expert_count + 1] */
	uint32_t *slots;            /* [slot_max] */
	struct linear_call *calls;  /* [expert_count] */
	float *x;                   /* [slot_max][hidden] grouped: rows in, then answers */
	float *gate_up;             /* [slot_max][2 * inner] grouped */
	float *activated;           /* [slot_max][inner] grouped */
	uint16_t *answers;          /* [slot_max][hidden] bf16, by row */
};

static enum err run(void *context, const struct expert_rows *rows);

enum err experts_local_create(struct device *device, const struct model_config *config,
			      const struct engine_weights *weights, uint32_t rows_max,
			      struct experts_local **ret_experts)
{
	struct experts_local *x = calloc(1, sizeof(*x));
	if (!x)
		return ERR_NOMEM;
	*x = (struct experts_local){
		.exchange = {.context = x, .run = run},
		.device = device,
		.weights = weights,
		.expert_count = config->experts.count,
		.inner = config->experts.intermediate_size,
		.hidden = config->hidden_size,
		.glu = glu_of(config),
		.slot_max = (size_t)rows_max * config->experts.top,
		.slot_first = calloc(config->experts.count + 1, sizeof(uint32_t)),
		.calls = calloc(config->experts.count, sizeof(struct linear_call)),
	};
	x->slots = calloc(x->slot_max, sizeof(uint32_t));
	size_t f32 = x->slot_max * sizeof(float);
	enum err e = x->slot_first && x->calls && x->slots ? ERR_OK : ERR_NOMEM;
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, f32 * x->hidden, (void **)&x->x);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, f32 * 2 * x->inner, (void **)&x->gate_up);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, f32 * x->inner, (void **)&x->activated);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, f32 / 2 * x->hidden, (void **)&x->answers);
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
	size_t f32 = x->slot_max * sizeof(float);
	dev_free(x->device, MEM_DEVICE, x->x, f32 * x->hidden);
	dev_free(x->device, MEM_DEVICE, x->gate_up, f32 * 2 * x->inner);
	dev_free(x->device, MEM_DEVICE, x->activated, f32 * x->inner);
	dev_free(x->device, MEM_DEVICE, x->answers, f32 / 2 * x->hidden);
	free(x->slot_first);
	free(x->slots);
	free(x->calls);
	free(x);
}

struct expert_exchange *experts_local_exchange(struct experts_local *experts)
{
	return &experts->exchange;
}

/* One linear of every expert that has rows, all at once. */
static void linear_of_each(struct experts_local *x, const struct expert_weights *experts, bool down, const float *in,
			   float *out)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < x->expert_count; i++) {
		const struct linear *linear = down ? experts[i].down : experts[i].gate_up;
		const struct linear_shape *shape = linear_shape(linear);
		size_t first = x->slot_first[i];
		uint32_t rows = x->slot_first[i + 1] - x->slot_first[i];
		if (rows > 0)
			x->calls[count++] = (struct linear_call){
				.linear = linear, .x = in + first * shape->k, .x_stride = shape->k,
				.y = out + first * shape->n, .y_stride = shape->n, .rows = rows};
	}
	op_linear(x->device, x->calls, count);
}

static enum err run(void *context, const struct expert_rows *rows)
{
	struct experts_local *x = context;
	const struct expert_weights *experts = x->weights->layers[rows->layer].experts;
	uint32_t slot_count = rows->row_count * rows->top_k;
	assert(slot_count <= x->slot_max && rows->dim == x->hidden);

	moe_group(rows->expert, slot_count, x->expert_count, x->slot_first, x->slots);
	op_moe_gather(x->device, rows->x, x->hidden, x->slots, slot_count, rows->top_k, x->x);
	linear_of_each(x, experts, false, x->x, x->gate_up);
	op_glu(x->device, x->glu, x->gate_up, 2 * (size_t)x->inner, slot_count, x->inner, x->activated, x->inner);
	linear_of_each(x, experts, true, x->activated, x->x);
	op_moe_scatter(x->device, x->x, x->hidden, x->slots, slot_count, x->answers);
	op_moe_combine(x->device, x->answers, rows->weight, rows->row_count, rows->top_k, x->hidden, rows->sum);
	return ERR_OK;
}
