#include "engine/layers.h"

#include <assert.h>
#include <string.h>

#include "engine/expert_exchange.h"
#include "engine/plan.h"
#include "model/config.h"

static uint32_t query_size(const struct model_config *config)
{
	return config->head_count * config->head_dim;
}

static uint32_t key_size(const struct model_config *config)
{
	return config->kv_head_count * config->head_dim;
}

/* --- memory: every buffer is a piece of one ---------------------------------------------------------- */

struct piece {
	void **to;
	size_t bytes;
};

enum { PIECES_MAX = 20, PIECE_ALIGN = 64 };

static size_t aligned(size_t bytes)
{
	return (bytes + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
}

static uint32_t list_pieces(struct layers *l, struct piece pieces[PIECES_MAX])
{
	const struct model_config *c = l->config;
	size_t rows = l->rows_max;
	size_t row_f32 = rows * sizeof(float);
	size_t half = c->head_dim / 2;
	bool dense = c->expert_count == 0;
	const struct piece all[] = {
		{(void **)&l->batch.tokens, rows * sizeof(uint32_t)},
		{(void **)&l->batch.positions, rows * sizeof(uint32_t)},
		{(void **)&l->batch.runs, PLAN_RUNS_MAX * sizeof(struct kv_run)},
		{(void **)&l->frequency, half * sizeof(float)},
		{(void **)&l->cos, row_f32 * half},
		{(void **)&l->sin, row_f32 * half},
		{(void **)&l->x, row_f32 * c->hidden_size},
		{(void **)&l->delta, row_f32 * c->hidden_size},
		{(void **)&l->normed, row_f32 * c->hidden_size},
		{(void **)&l->qkv, row_f32 * (query_size(c) + 2 * key_size(c))},
		{(void **)&l->attended, row_f32 * query_size(c)},
		{(void **)&l->gate_up, dense ? row_f32 * 2 * c->intermediate_size : 0},
		{(void **)&l->activated, dense ? row_f32 * c->intermediate_size : 0},
		{(void **)&l->scores, row_f32 * c->expert_count},
		{(void **)&l->expert, rows * sizeof(uint32_t) * c->expert_top},
		{(void **)&l->weight, row_f32 * c->expert_top},
	};
	memcpy(pieces, all, sizeof(all));
	return sizeof(all) / sizeof(all[0]);
}

enum err layers_init(struct layers *layers, struct device *device, const struct model_config *config,
		     const struct engine_weights *weights, uint32_t rows_max)
{
	assert(rows_max > 0);
	*layers = (struct layers){.device = device, .config = config, .weights = weights, .rows_max = rows_max};
	struct piece pieces[PIECES_MAX];
	uint32_t count = list_pieces(layers, pieces);
	for (uint32_t i = 0; i < count; i++)
		layers->memory_bytes += aligned(pieces[i].bytes);
	enum err e = dev_alloc(device, MEM_DEVICE, layers->memory_bytes, &layers->memory);
	if (e != ERR_OK)
		return e;
	uint8_t *at = layers->memory;
	for (uint32_t i = 0; i < count; at += aligned(pieces[i++].bytes))
		*pieces[i].to = at;
	rope_frequencies(config->rope_theta, config->head_dim, layers->frequency);
	return ERR_OK;
}

void layers_fini(struct layers *layers)
{
	if (layers->memory)
		dev_free(layers->device, MEM_DEVICE, layers->memory, layers->memory_bytes);
	*layers = (struct layers){0};
}

/* --- arithmetic -------------------------------------------------------------------------------------- */

static void linear(struct layers *l, const struct linear *weights, const float *x, float *y)
{
	const struct linear_shape *shape = linear_shape(weights);
	const struct linear_call call = {.linear = weights, .x = x, .x_stride = shape->k, .y = y,
					 .y_stride = shape->n, .rows = l->batch.row_count};
	op_linear(l->device, &call, 1);
}

/* x takes delta in, and normed is its norm. */
static void norm(struct layers *l, const float *weight)
{
	const struct norm_call call = {.x = l->x, .add = l->delta, .weight = weight, .out = l->normed,
				       .rows = l->batch.row_count, .dim = l->config->hidden_size,
				       .eps = (float)l->config->rms_norm_eps};
	op_rmsnorm(l->device, &call);
}

void layers_begin(struct layers *l)
{
	const struct model_config *c = l->config;
	uint32_t rows = l->batch.row_count;
	assert(rows <= l->rows_max);
	if (l->weights->embedding)
		op_embed(l->device, l->weights->embedding, l->weights->elem, c->hidden_size, l->batch.tokens, rows, l->x);
	else
		op_embed_linear(l->device, l->weights->head, l->batch.tokens, rows, l->x);
	memset(l->delta, 0, (size_t)rows * c->hidden_size * sizeof(float));
	op_rope_angles(l->device, l->batch.positions, rows, l->frequency, c->head_dim / 2, l->cos, l->sin);
}

/* The first token written into a block zeroes the rest of the layer there (engine.h rule 2). */
static void zero_new_blocks(struct layers *l, uint32_t layer)
{
	const struct kv_layout *layout = &l->kv.layout;
	size_t bytes = kv_layer_bytes(layout);
	for (uint32_t i = 0; i < l->batch.run_count; i++) {
		const struct kv_run *run = &l->batch.runs[i];
		uint32_t end = run->first_position + run->row_count;
		if (end % layout->block_tokens == 0)
			continue; /* blocks that this run fills whole need no zeros */
		uint32_t index = end / layout->block_tokens;
		if (index * layout->block_tokens >= run->first_position)
			memset((uint8_t *)l->kv.base + run->blocks[index] * l->kv.block_stride + layer * bytes, 0, bytes);
	}
}

void layers_kv(struct layers *l, uint32_t layer)
{
	const struct model_config *c = l->config;
	const struct layer_weights *w = &l->weights->layers[layer];
	uint32_t rows = l->batch.row_count;
	size_t stride = query_size(c) + 2 * (size_t)key_size(c);
	float *key = l->qkv + query_size(c);
	float *value = key + key_size(c);

	norm(l, w->attention_norm);
	linear(l, w->qkv, l->normed, l->qkv);
	if (w->q_norm) {
		float eps = (float)c->rms_norm_eps;
		op_head_norm(l->device, l->qkv, stride, rows, c->head_count, c->head_dim, w->q_norm, eps);
		op_head_norm(l->device, key, stride, rows, c->kv_head_count, c->head_dim, w->k_norm, eps);
	}
	/* Queries and keys lie side by side and turn alike. */
	op_rope(l->device, l->qkv, stride, rows, c->head_count + c->kv_head_count, c->head_dim, c->head_dim / 2,
		l->cos, l->sin);
	zero_new_blocks(l, layer);
	op_kv_write(l->device, &l->kv, layer, l->batch.runs, l->batch.run_count, key, value, stride);
}

static void attention(struct layers *l, uint32_t layer)
{
	const struct model_config *c = l->config;
	const struct attention_call call = {
		.kv = &l->kv,
		.layer = layer,
		.runs = l->batch.runs,
		.run_count = l->batch.run_count,
		.head_count = c->head_count,
		.q = l->qkv,
		.q_stride = query_size(c) + 2 * (size_t)key_size(c),
		.out = l->attended,
		.out_stride = query_size(c),
		.scale = 1.0f / __builtin_sqrtf((float)c->head_dim),
	};
	op_attention(l->device, &call);
	linear(l, l->weights->layers[layer].output, l->attended, l->delta);
}

static void mlp(struct layers *l, const struct layer_weights *w)
{
	uint32_t inner = l->config->intermediate_size;
	linear(l, w->gate_up, l->normed, l->gate_up);
	op_swiglu(l->device, l->gate_up, 2 * (size_t)inner, l->batch.row_count, inner, l->activated, inner);
	linear(l, w->down, l->activated, l->delta);
}

static enum err mixture(struct layers *l, uint32_t layer)
{
	const struct model_config *c = l->config;
	linear(l, l->weights->layers[layer].router, l->normed, l->scores);
	const struct moe_routing routing = {
		.expert_count = c->expert_count,
		.top_k = c->expert_top,
		.group_count = 1,
		.renormalise = c->arch == MODEL_ARCH_MIXTRAL || c->norm_topk_prob,
		.scale = 1.0f,
	};
	const struct moe_route_call route = {.routing = &routing, .logits = l->scores, .rows = l->batch.row_count,
					     .ret_expert = l->expert, .ret_weight = l->weight};
	op_moe_route(l->device, &route);
	const struct expert_rows rows = {.layer = layer, .row_count = l->batch.row_count, .top_k = c->expert_top,
					 .dim = c->hidden_size, .x = l->normed, .expert = l->expert,
					 .weight = l->weight, .sum = l->delta};
	return l->experts->run(l->experts->context, &rows);
}

enum err layers_rest(struct layers *l, uint32_t layer)
{
	const struct layer_weights *w = &l->weights->layers[layer];
	attention(l, layer);
	norm(l, w->mlp_norm);
	if (w->router)
		return mixture(l, layer);
	mlp(l, w);
	return ERR_OK;
}
