#include "engine/experts_local.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/layers.h"
#include "model/config.h"

/* Slots are (row, place among its experts), grouped by expert: "grouped" buffers are in that order. */
struct rank_experts {
	struct device *device;
	const struct engine_weights *weights;
	uint32_t *slot_first;       /* [expert_count + 1] */
	uint32_t *slots;            /* [slot_max] */
	void *x;                    /* [slot_max][hidden] of `input` or ELEM_E4M3, grouped */
	float *gate_up;             /* [slot_max][2 * inner] grouped */
	void *activated;            /* [slot_max][inner] of `input` or ELEM_E4M3, grouped */
	float *y;                   /* [slot_max][hidden] grouped: answers, or the rank's part of them */
	uint16_t *answers;          /* [slot_max][hidden] bf16, by row */
	float *sums;                /* [rows_max][hidden] of several ranks: of some rows, for the others */
};

struct experts_local {
	struct expert_exchange exchange;
	struct ranks ranks;
	struct rank_experts of_ranks[DEVICES_MAX];
	uint32_t expert_count;
	uint32_t inner; /* of an expert, at a rank */
	uint32_t hidden;
	struct glu glu;
	enum elem input;            /* of rows that only linears read, if not ELEM_E4M3 */
	size_t rows_max, slot_max;
	const struct linear **linears; /* [expert_count] */
};

static enum err run(void *context, const struct expert_rows *rows, uint32_t rank_count);

struct buffer {
	void **memory;
	size_t bytes;
};

enum { BUFFERS = 8 };

/* Returns how many. */
static uint32_t list_buffers(struct experts_local *x, struct rank_experts *rank, struct buffer ret_buffers[BUFFERS])
{
	size_t f32 = x->slot_max * sizeof(float), input = x->slot_max * elem_bytes(x->input);
	const struct buffer all[BUFFERS] = {
		{(void **)&rank->slot_first, (x->expert_count + 1) * sizeof(uint32_t)},
		{(void **)&rank->slots, x->slot_max * sizeof(uint32_t)},
		{&rank->x, input * x->hidden},
		{(void **)&rank->gate_up, f32 * 2 * x->inner},
		{&rank->activated, input * x->inner},
		{(void **)&rank->y, f32 * x->hidden},
		{(void **)&rank->answers, f32 / 2 * x->hidden},
		{(void **)&rank->sums, x->rows_max * x->hidden * sizeof(float)},
	};
	memcpy(ret_buffers, all, sizeof(all));
	return x->ranks.count > 1 ? BUFFERS : BUFFERS - 1;
}

static enum err allocate(struct experts_local *x, struct rank_experts *rank)
{
	struct buffer buffers[BUFFERS];
	uint32_t count = list_buffers(x, rank, buffers);
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < count && e == ERR_OK; i++)
		e = dev_alloc(rank->device, MEM_DEVICE, buffers[i].bytes, buffers[i].memory);
	return e;
}

enum err experts_local_create(const struct ranks *ranks, const struct model_config *config,
			      struct engine_weights *const *weights, uint32_t rows_max,
			      struct experts_local **ret_experts)
{
	struct experts_local *x = calloc(1, sizeof(*x));
	if (!x)
		return ERR_NOMEM;
	*x = (struct experts_local){
		.exchange = {.context = x, .queued = true, .run = run},
		.ranks = *ranks,
		.expert_count = config->experts.count,
		.inner = config->experts.intermediate_size / ranks->count,
		.hidden = config->hidden_size,
		.glu = glu_of(config),
		.input = engine_weights_input(weights[0]),
		.rows_max = rows_max,
		.slot_max = (size_t)rows_max * config->experts.top,
		.linears = calloc(config->experts.count, sizeof(struct linear *)),
	};
	enum err e = x->linears ? ERR_OK : ERR_NOMEM;
	for (uint32_t i = 0; i < ranks->count && e == ERR_OK; i++) {
		x->of_ranks[i] = (struct rank_experts){.device = ranks->devices[i], .weights = weights[i]};
		e = allocate(x, &x->of_ranks[i]);
	}
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
	for (uint32_t i = 0; i < x->ranks.count && x->of_ranks[i].device; i++) {
		struct buffer buffers[BUFFERS];
		uint32_t count = list_buffers(x, &x->of_ranks[i], buffers);
		for (uint32_t b = 0; b < count; b++)
			dev_free(x->of_ranks[i].device, MEM_DEVICE, *buffers[b].memory, buffers[b].bytes);
	}
	free(x->linears);
	free(x);
}

struct expert_exchange *experts_local_exchange(struct experts_local *experts)
{
	return &experts->exchange;
}

/* The rows of every expert through one of its linears. */
static void linear_of_each(struct experts_local *x, struct rank_experts *rank, const struct expert_weights *experts, bool down,
			   uint32_t slot_count, enum elem elem)
{
	for (uint32_t i = 0; i < x->expert_count; i++)
		x->linears[i] = down ? experts[i].down : experts[i].gate_up;
	const struct moe_linear_call call = {.linears = x->linears, .expert_count = x->expert_count, .first = rank->slot_first,
					     .slot_count = slot_count, .x = down ? rank->activated : rank->x, .x_elem = elem,
					     .y = down ? rank->y : rank->gate_up};
	op_moe_linear(rank->device, &call);
}

/* What the rank says of every slot: the whole, or a part. */
static void answer(struct experts_local *x, struct rank_experts *rank, const struct expert_rows *rows)
{
	const struct expert_weights *experts = rank->weights->layers[rows->layer].experts;
	uint32_t slot_count = rows->row_count * rows->top_k;
	const enum elem in = engine_weights_input_of(rank->weights, experts[0].gate_up);
	const enum elem inner = engine_weights_input_of(rank->weights, experts[0].down);
	assert(slot_count <= x->slot_max && rows->dim == x->hidden);

	op_moe_group(rank->device, rows->expert, slot_count, x->expert_count, rank->slot_first, rank->slots);
	const struct moe_gather_call gather = {.x = rows->x, .elem = rows->elem, .dim = x->hidden, .slot = rank->slots,
					       .slot_count = slot_count, .top_k = rows->top_k, .out = rank->x, .out_elem = in};
	op_moe_gather(rank->device, &gather);
	linear_of_each(x, rank, experts, false, slot_count, in);
	const struct glu_call glu = {.glu = x->glu, .x = rank->gate_up, .x_stride = 2 * (size_t)x->inner, .rows = slot_count,
				     .dim = x->inner, .out = rank->activated, .out_elem = inner,
				     .out_stride = engine_row_stride(inner, x->inner)};
	op_glu(rank->device, &glu);
	linear_of_each(x, rank, experts, true, slot_count, inner);
}

/* Answers of some rows from all ranks' parts, rounded, and their sums to `sum`. */
static void combine(struct experts_local *x, struct rank_experts *rank, const struct expert_rows *rows, struct rank_share share,
		    float *sum)
{
	const float *parts[DEVICES_MAX];
	size_t first = (size_t)share.first * rows->top_k;
	for (uint32_t i = 0; i < x->ranks.count; i++)
		parts[i] = x->of_ranks[i].y;
	const struct moe_scatter_call scatter = {.parts = parts, .part_count = x->ranks.count, .dim = x->hidden, .slot = rank->slots,
						 .slot_count = rows->row_count * rows->top_k, .first = (uint32_t)first,
						 .end = (share.first + share.count) * rows->top_k,
						 .bias = rank->weights->layers[rows->layer].experts_bias, .expert = rows->expert,
						 .answer = rank->answers};
	op_moe_scatter(rank->device, &scatter);
	op_moe_combine(rank->device, rank->answers + first * x->hidden, rows->weight + first, share.count, rows->top_k, x->hidden,
		       sum + (size_t)share.first * x->hidden);
}

static enum err run(void *context, const struct expert_rows *rows, uint32_t rank_count)
{
	struct experts_local *x = context;
	struct rank_sum sums[DEVICES_MAX];
	bool split = ranks_split(&x->ranks, rows->row_count);
	assert(rank_count == x->ranks.count);
	for (uint32_t i = 0; i < rank_count; i++)
		answer(x, &x->of_ranks[i], &rows[i]);
	if (rank_count > 1)
		device_meet(x->ranks.devices[0]);
	for (uint32_t i = 0; i < rank_count; i++) {
		struct rank_share all = {0, rows->row_count};
		sums[i] = (struct rank_sum){.part = x->of_ranks[i].sums, .out = rows[i].sum};
		combine(x, &x->of_ranks[i], &rows[i], split ? rank_share(&x->ranks, rows->row_count, i) : all,
			split ? sums[i].part : sums[i].out);
	}
	if (split)
		ranks_share_rows(&x->ranks, sums, rows->row_count, x->hidden);
	return ERR_OK;
}
