#include "engine/layers.h"

#include <assert.h>
#include <string.h>

#include "base/layer_groups.h"
#include "engine/expert_exchange.h"
#include "engine/latent.h"

static bool is_latent(const struct layers *layers)
{
	return layers->config->attention == MODEL_ATTENTION_LATENT;
}

static uint32_t query_size(const struct model_config *config)
{
	return config->head_count * config->head_dim;
}

static uint32_t key_size(const struct model_config *config)
{
	return config->kv_head_count * config->head_dim;
}

uint32_t layers_group(const struct layers *layers, uint32_t layer)
{
	return layers->config->layers[layer].group;
}

static const struct model_layer_group *group_of(const struct layers *layers, uint32_t layer)
{
	return &layers->config->groups[layers_group(layers, layer)];
}

struct glu glu_of(const struct model_config *config)
{
	static const enum glu_kind kinds[] = {[MODEL_SILU] = GLU_SILU, [MODEL_GELU_TANH] = GLU_GELU_TANH,
					      [MODEL_SWIGLU_CLAMPED] = GLU_CLAMPED};
	return (struct glu){kinds[config->activation], (float)config->glu_alpha, (float)config->glu_limit};
}

static void linear(struct layers *l, const struct linear *weights, const void *x, enum elem x_elem, float *y)
{
	const struct linear_shape *shape = linear_shape(weights);
	const struct linear_call call = {.linear = weights, .x = x, .x_stride = engine_row_stride(x_elem, shape->k),
					 .x_elem = x_elem, .y = y, .y_stride = shape->n, .rows = l->batch->row_count};
	op_linear(l->device, &call, 1);
}

void linear_of_normed(struct layers *l, const struct linear *weights, float *y)
{
	enum elem elem = engine_weights_input_of(l->weights, weights);
	linear(l, weights, elem == ELEM_E4M3 ? l->narrow : l->normed, elem, y);
}

/* x takes delta in, and normed is its norm, as its readers take it: a linear, and others that do not take ELEM_E4M3. */
static void norm(struct layers *l, const float *weight, const struct linear *reader, bool others)
{
	bool narrow = reader && engine_weights_input_of(l->weights, reader) == ELEM_E4M3;
	const struct norm_call call = {.x = l->x, .add = l->delta, .weight = weight, .out = narrow && !others ? NULL : l->normed,
				       .out_elem = l->input, .narrow = narrow ? l->narrow : NULL, .rows = l->batch->row_count,
				       .dim = l->config->hidden_size, .eps = (float)l->config->norm_eps};
	op_rmsnorm(l->device, &call);
}

/* delta becomes its norm, for families that take it in so. */
static void post_norm(struct layers *l, const float *weight)
{
	const struct norm_call call = {.x = l->delta, .weight = weight, .out = l->delta, .rows = l->batch->row_count,
				       .dim = l->config->hidden_size, .eps = (float)l->config->norm_eps};
	if (weight)
		op_rmsnorm(l->device, &call);
}

static enum err copy_batch(struct layers *l)
{
	size_t bytes = l->batch->row_count * sizeof(uint32_t);
	enum err e = dev_copy(l->device, l->on_device.tokens, l->batch->tokens, bytes);
	if (e == ERR_OK)
		e = dev_copy(l->device, l->on_device.positions, l->batch->positions, bytes);
	for (uint32_t i = 0; i < l->config->group_count; i++)
		kv_runs_set_padded(l->on_device.runs[i], l->batch->runs[i], l->batch->run_count, l->batch->padding);
	return e;
}

/* Attention answers nobody's rows nothing: what they are would be what a step of before left there. */
static void clear_padding(struct layers *l)
{
	size_t bytes = query_size(l->config) * elem_bytes(l->input);
	if (l->batch->padding > 0 && !is_latent(l))
		dev_zero(l->device, (uint8_t *)l->attended + (l->batch->row_count - l->batch->padding) * bytes, l->batch->padding * bytes);
}

enum err layers_begin(struct layers *l)
{
	const struct model_config *c = l->config;
	const uint32_t *tokens = l->on_device.tokens;
	uint32_t rows = l->batch->row_count;
	assert(rows <= l->rows_max);
	enum err e = copy_batch(l);
	if (e != ERR_OK)
		return e;
	if (l->weights->embedding)
		op_embed(l->device, l->weights->embedding, l->weights->elem, c->hidden_size, tokens, rows, l->x);
	else
		op_embed_linear(l->device, l->weights->head, tokens, rows, l->x);
	clear_padding(l);
	dev_zero(l->device, l->delta, (size_t)rows * c->hidden_size * sizeof(float));
	if (c->embedding_scaled)
		op_scale(l->device, l->x, l->embedding_scale, rows, c->hidden_size);
	for (uint32_t i = 0; i < c->group_count; i++) {
		const struct model_rope *rope = &c->groups[i].rope;
		op_rope_angles(l->device, l->on_device.positions, rows, l->rope[i].frequency, rope->dim / 2,
			       (float)rope->attention_factor, l->rope[i].cos, l->rope[i].sin);
	}
	return ERR_OK;
}

static void project(struct layers *l, uint32_t layer)
{
	const struct model_config *c = l->config;
	const struct layer_weights *w = &l->weights->layers[layer];
	const struct layer_rope *rope = &l->rope[c->layers[layer].group];
	uint32_t group = layers_group(l, layer);
	const struct qkv_call call = {.kv = &l->kv[group], .layer = l->place[layer], .runs = l->on_device.runs[group], .x = l->qkv,
				      .x_stride = query_size(c) + 2 * (size_t)key_size(c), .rows = l->batch->row_count,
				      .head_count = c->head_count, .q_norm = w->q_norm, .k_norm = w->k_norm, .eps = (float)c->norm_eps,
				      .half = group_of(l, layer)->rope.dim / 2, .cos = rope->cos, .sin = rope->sin};
	linear_of_normed(l, w->qkv, l->qkv);
	op_qkv(l->device, &call);
}

void layers_kv(struct layers *l, uint32_t layer)
{
	norm(l, l->weights->layers[layer].attention_norm, l->weights->layers[layer].qkv, false);
	if (is_latent(l))
		latent_project(l, layer);
	else
		project(l, layer);
}

static void attend(struct layers *l, uint32_t layer)
{
	const struct model_config *c = l->config;
	uint32_t group = layers_group(l, layer);
	const struct attention_call call = {
		.kv = &l->kv[group],
		.layer = l->place[layer],
		.runs = l->on_device.runs[group],
		.head_count = c->head_count,
		.q = l->qkv,
		.q_stride = query_size(c) + 2 * (size_t)key_size(c),
		.out = l->attended,
		.out_elem = l->input,
		.out_stride = query_size(c),
		.scale = 1.0f / __builtin_sqrtf((float)c->score_dim),
		.score_cap = (float)c->score_cap,
		.window = group_of(l, layer)->window,
		.sinks = l->weights->layers[layer].sinks,
	};
	op_attention(l->device, &call);
}

static void attention(struct layers *l, uint32_t layer)
{
	if (is_latent(l))
		latent_attend(l, layer);
	else
		attend(l, layer);
	linear(l, l->weights->layers[layer].output, l->attended, l->input, l->attention_part);
}

static void mlp(struct layers *l, const struct linear *gate_up, const struct linear *down, float *out)
{
	uint32_t inner = linear_shape(down)->k;
	enum elem elem = engine_weights_input_of(l->weights, down);
	linear_of_normed(l, gate_up, l->gate_up);
	const struct glu_call glu = {.glu = glu_of(l->config), .x = l->gate_up, .x_stride = 2 * (size_t)inner,
				     .rows = l->batch->row_count, .dim = inner, .out = l->activated, .out_elem = elem,
				     .out_stride = engine_row_stride(elem, inner)};
	op_glu(l->device, &glu);
	linear(l, down, l->activated, elem, out);
}

static void route(struct layers *l, uint32_t layer)
{
	const struct layer_weights *w = &l->weights->layers[layer];
	linear_of_normed(l, w->router, l->scores);
	const struct moe_route_call route = {.routing = &l->routing, .logits = l->scores, .bias = w->router_bias,
					     .rows = l->batch->row_count, .ret_expert = l->expert, .ret_weight = l->weight,
					     .runs = l->on_device.runs[0]};
	op_moe_route(l->device, &route);
}

/* --- of all ranks ------------------------------------------------------------------------------------ */

/* Some of a layer on every rank. */
static void on_each(struct layers *of_ranks, const struct ranks *ranks, uint32_t layer,
		    void (*phase)(struct layers *l, uint32_t layer))
{
	for (uint32_t i = 0; i < ranks->count; i++)
		phase(&of_ranks[i], layer);
}

/* The parts that a phase left become what it said. */
static void sum(struct layers *of_ranks, const struct ranks *ranks, uint32_t layer,
		struct rank_sum (*parts)(const struct layers *l, uint32_t layer))
{
	struct rank_sum sums[DEVICES_MAX];
	for (uint32_t i = 0; i < ranks->count; i++)
		sums[i] = parts(&of_ranks[i], layer);
	ranks_sum(ranks, sums, of_ranks->batch->row_count, of_ranks->config->hidden_size);
}

static struct rank_sum attention_parts(const struct layers *l, uint32_t layer)
{
	return (struct rank_sum){l->attention_part, l->weights->layers[layer].output_bias, l->delta};
}

static struct rank_sum mlp_parts(const struct layers *l, uint32_t layer)
{
	return (struct rank_sum){l->mlp_part, l->weights->layers[layer].down_bias, l->delta};
}

static struct rank_sum shared_parts(const struct layers *l, uint32_t layer)
{
	return (struct rank_sum){l->shared_part, NULL, l->shared};
}

static void between(struct layers *l, uint32_t layer)
{
	const struct layer_weights *w = &l->weights->layers[layer];
	bool experts = l->config->layers[layer].mlp == MODEL_MLP_EXPERTS;
	post_norm(l, w->attention_post_norm);
	norm(l, w->mlp_norm, experts ? w->shared_gate_up : w->gate_up, experts);
}

static void dense(struct layers *l, uint32_t layer)
{
	const struct layer_weights *w = &l->weights->layers[layer];
	mlp(l, w->gate_up, w->down, l->mlp_part);
}

static void shared(struct layers *l, uint32_t layer)
{
	const struct layer_weights *w = &l->weights->layers[layer];
	mlp(l, w->shared_gate_up, w->shared_down, l->shared_part);
}

/* The expert that every row asks is here and rounds nothing. */
static void add_shared(struct layers *l, uint32_t layer)
{
	const struct layer_weights *w = &l->weights->layers[layer];
	uint32_t rows = l->batch->row_count, hidden = l->config->hidden_size;
	if (!w->shared_gate) {
		op_add(l->device, l->delta, l->shared, rows, hidden);
		return;
	}
	linear_of_normed(l, w->shared_gate, l->gate);
	op_add_gated(l->device, l->delta, l->shared, l->gate, rows, hidden);
}

static enum err ask_experts(struct layers *of_ranks, const struct ranks *ranks, struct expert_exchange *experts, uint32_t layer)
{
	struct expert_rows rows[DEVICES_MAX];
	for (uint32_t i = 0; i < ranks->count; i++) {
		const struct layers *l = &of_ranks[i];
		rows[i] = (struct expert_rows){.layer = layer, .row_count = l->batch->row_count, .top_k = l->config->experts.top,
					       .dim = l->config->hidden_size, .x = l->normed, .elem = l->input,
					       .expert = l->expert, .weight = l->weight, .sum = l->delta};
	}
	return experts->run(experts->context, rows, ranks->count);
}

static enum err mixture(struct layers *of_ranks, const struct ranks *ranks, struct expert_exchange *experts, uint32_t layer)
{
	on_each(of_ranks, ranks, layer, route);
	enum err e = ask_experts(of_ranks, ranks, experts, layer);
	if (e != ERR_OK || !of_ranks->weights->layers[layer].shared_down)
		return e;
	on_each(of_ranks, ranks, layer, shared);
	sum(of_ranks, ranks, layer, shared_parts);
	on_each(of_ranks, ranks, layer, add_shared);
	return ERR_OK;
}

static void end(struct layers *l, uint32_t layer)
{
	post_norm(l, l->weights->layers[layer].mlp_post_norm);
}

enum err layers_rest(struct layers *of_ranks, const struct ranks *ranks, struct expert_exchange *experts, uint32_t layer)
{
	on_each(of_ranks, ranks, layer, attention);
	sum(of_ranks, ranks, layer, attention_parts);
	on_each(of_ranks, ranks, layer, between);
	if (of_ranks->config->layers[layer].mlp == MODEL_MLP_EXPERTS) {
		enum err e = mixture(of_ranks, ranks, experts, layer);
		if (e != ERR_OK)
			return e;
	} else {
		on_each(of_ranks, ranks, layer, dense);
		sum(of_ranks, ranks, layer, mlp_parts);
	}
	on_each(of_ranks, ranks, layer, end);
	return ERR_OK;
}
