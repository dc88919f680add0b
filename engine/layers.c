#include "engine/layers.h"

#include <assert.h>
#include <string.h>

#include "base/bf16.h"
#include "base/layer_groups.h"
#include "engine/expert_exchange.h"
#include "engine/latent.h"
#include "engine/plan.h"
#include "engine/rope.h"

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

/* --- memory: every buffer is a piece of one ---------------------------------------------------------- */

struct piece {
	void **to;
	size_t bytes;
};

enum { PIECES_MAX = 24 + 4 * LAYER_GROUPS_MAX, PIECE_ALIGN = 64 };

static size_t aligned(size_t bytes)
{
	return (bytes + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
}

/* Of the widest MLP that rows pass here: of dense layers, or of the shared expert. */
static uint32_t inner_max(const struct model_config *config)
{
	uint32_t inner = config->experts.shared_intermediate_size;
	for (uint32_t i = 0; i < config->layer_count; i++)
		if (config->layers[i].mlp == MODEL_MLP_DENSE && inner < config->intermediate_size)
			inner = config->intermediate_size;
	return inner;
}

static uint32_t list_pieces(struct layers *l, struct piece pieces[PIECES_MAX])
{
	const struct model_config *c = l->config;
	size_t rows = l->rows_max;
	size_t row_f32 = rows * sizeof(float), row_input = rows * elem_bytes(l->input);
	bool latent = is_latent(l);
	uint32_t shared = c->experts.shared_intermediate_size > 0 ? c->hidden_size : 0;
	uint32_t qkv = latent ? latent_input_size(c) : query_size(c) + 2 * key_size(c);
	uint32_t attended = latent ? c->head_count * c->latent.v_head_dim : query_size(c);
	const struct piece all[] = {
		{(void **)&l->on_device.tokens, rows * sizeof(uint32_t)},
		{(void **)&l->on_device.positions, rows * sizeof(uint32_t)},
		{(void **)&l->x, row_f32 * c->hidden_size},
		{(void **)&l->delta, row_f32 * c->hidden_size},
		{&l->normed, row_input * c->hidden_size},
		{&l->narrow, l->weights->e4m3 ? rows * elem_row_bytes(ELEM_E4M3, c->hidden_size) : 0},
		{(void **)&l->qkv, row_f32 * qkv},
		{&l->attended, row_input * attended},
		{(void **)&l->latent.queries, c->latent.q_lora_rank > 0 ? row_f32 * query_size(c) : 0},
		{(void **)&l->latent.absorbed, l->latent.absorbed_max * c->latent.kv_lora_rank * sizeof(float)},
		{(void **)&l->gate_up, row_f32 * 2 * inner_max(c)},
		{&l->activated, row_input * inner_max(c)},
		{(void **)&l->shared, row_f32 * shared},
		{(void **)&l->gate, row_f32},
		{(void **)&l->scores, row_f32 * c->experts.count},
		{(void **)&l->expert, rows * sizeof(uint32_t) * c->experts.top},
		{(void **)&l->weight, row_f32 * c->experts.top},
	};
	uint32_t count = sizeof(all) / sizeof(all[0]);
	memcpy(pieces, all, sizeof(all));
	for (uint32_t i = 0; i < c->group_count; i++) {
		size_t half = c->groups[i].rope.dim / 2;
		pieces[count++] = (struct piece){(void **)&l->rope[i].frequency, half * sizeof(float)};
		pieces[count++] = (struct piece){(void **)&l->rope[i].cos, row_f32 * half};
		pieces[count++] = (struct piece){(void **)&l->rope[i].sin, row_f32 * half};
	}
	return count;
}

static uint32_t list_host_pieces(struct layers *l, struct piece pieces[PIECES_MAX])
{
	const struct model_config *c = l->config;
	uint32_t count = 0;
	pieces[count++] = (struct piece){(void **)&l->batch.tokens, l->rows_max * sizeof(uint32_t)};
	pieces[count++] = (struct piece){(void **)&l->batch.positions, l->rows_max * sizeof(uint32_t)};
	if (is_latent(l))
		pieces[count++] = (struct piece){(void **)&l->latent.calls, c->head_count * sizeof(struct linear_call)};
	for (uint32_t i = 0; i < c->group_count; i++)
		pieces[count++] = (struct piece){(void **)&l->batch.runs[i], PLAN_RUNS_MAX * sizeof(struct kv_run)};
	return count;
}

/* One piece of memory, cut up. */
static enum err allocate(struct device *device, enum mem_kind kind, const struct piece *pieces, uint32_t count,
			 void **ret_memory, size_t *ret_bytes)
{
	size_t bytes = 0;
	for (uint32_t i = 0; i < count; i++)
		bytes += aligned(pieces[i].bytes);
	enum err e = dev_alloc(device, kind, bytes, ret_memory);
	if (e != ERR_OK)
		return e;
	*ret_bytes = bytes;
	uint8_t *at = *ret_memory;
	for (uint32_t i = 0; i < count; at += aligned(pieces[i++].bytes))
		*pieces[i].to = at;
	return ERR_OK;
}

static struct moe_routing routing_of(const struct model_experts *experts)
{
	return (struct moe_routing){
		.expert_count = experts->count,
		.top_k = experts->top,
		.score = experts->routing == MODEL_ROUTING_SIGMOID ? MOE_SIGMOID : MOE_SOFTMAX,
		.group_count = experts->group_count,
		.group_top = experts->group_top,
		.group_best = experts->group_best,
		.renormalise = experts->renormalise,
		.scale = (float)experts->scale,
	};
}

/* The root of hidden_size in the model's own type, as the library has it: bf16 rounds to even. */
static float embedding_scale(const struct model_config *config)
{
	float scale = __builtin_sqrtf((float)config->hidden_size);
	return config->dtype == MODEL_BF16 ? bf16_widen(bf16_round(scale)) : scale;
}

static enum err copy_frequencies(struct layers *layers, uint32_t group)
{
	const struct model_rope *rope = &layers->config->groups[group].rope;
	float frequency[HEAD_DIM_MAX / 2];
	assert(rope->dim / 2 <= HEAD_DIM_MAX / 2);
	rope_of_model(rope, frequency);
	return dev_copy(layers->device, layers->rope[group].frequency, frequency, rope->dim / 2 * sizeof(float));
}

/* No sequence is longer than the model says. */
static uint32_t blocks_max(const struct layers *layers, const struct kv_memory *kv)
{
	return layers->config->position_max / kv->layout.block_tokens + 1;
}

enum err layers_init(struct layers *layers, struct device *device, const struct model_config *config,
		     const struct engine_weights *weights, uint32_t rows_max)
{
	assert(rows_max > 0);
	*layers = (struct layers){.device = device, .config = config, .weights = weights, .rows_max = rows_max,
				  .input = engine_weights_input(weights)};
	layers->latent.absorbed_max = is_latent(layers) ? latent_absorbed_max(config, rows_max) : 0;
	layers->routing = routing_of(&config->experts);
	layers->embedding_scale = embedding_scale(config);
	uint16_t counts[LAYER_GROUPS_MAX] = {0};
	for (uint32_t i = 0; i < config->layer_count; i++)
		layers->place[i] = counts[config->layers[i].group]++;
	struct piece pieces[PIECES_MAX];
	uint32_t count = list_pieces(layers, pieces);
	enum err e = allocate(device, MEM_DEVICE, pieces, count, &layers->memory, &layers->memory_bytes);
	if (e != ERR_OK)
		return e;
	count = list_host_pieces(layers, pieces);
	e = allocate(device, MEM_PINNED, pieces, count, &layers->host, &layers->host_bytes);
	for (uint32_t i = 0; i < config->group_count && e == ERR_OK; i++)
		e = copy_frequencies(layers, i);
	return e;
}

enum err layers_set_kv(struct layers *layers, uint32_t group, const struct kv_memory *kv)
{
	const struct kv_runs_bounds bounds = {.runs_max = PLAN_RUNS_MAX, .rows_max = layers->rows_max,
					      .blocks_max = blocks_max(layers, kv), .block_tokens = kv->layout.block_tokens};
	layers->kv[group] = *kv;
	return kv_runs_create(layers->device, &bounds, &layers->on_device.runs[group]);
}

void layers_fini(struct layers *layers)
{
	for (uint32_t i = 0; i < LAYER_GROUPS_MAX; i++)
		kv_runs_destroy(layers->on_device.runs[i]);
	if (layers->memory)
		dev_free(layers->device, MEM_DEVICE, layers->memory, layers->memory_bytes);
	if (layers->host)
		dev_free(layers->device, MEM_PINNED, layers->host, layers->host_bytes);
	*layers = (struct layers){0};
}

/* --- arithmetic -------------------------------------------------------------------------------------- */

static void linear(struct layers *l, const struct linear *weights, const void *x, enum elem x_elem, float *y)
{
	const struct linear_shape *shape = linear_shape(weights);
	const struct linear_call call = {.linear = weights, .x = x, .x_stride = engine_row_stride(x_elem, shape->k),
					 .x_elem = x_elem, .y = y, .y_stride = shape->n, .rows = l->batch.row_count};
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
				       .out_elem = l->input, .narrow = narrow ? l->narrow : NULL, .rows = l->batch.row_count,
				       .dim = l->config->hidden_size, .eps = (float)l->config->norm_eps};
	op_rmsnorm(l->device, &call);
}

/* delta becomes its norm, for families that take it in so. */
static void post_norm(struct layers *l, const float *weight)
{
	const struct norm_call call = {.x = l->delta, .weight = weight, .out = l->delta, .rows = l->batch.row_count,
				       .dim = l->config->hidden_size, .eps = (float)l->config->norm_eps};
	if (weight)
		op_rmsnorm(l->device, &call);
}

static enum err copy_batch(struct layers *l)
{
	size_t bytes = l->batch.row_count * sizeof(uint32_t);
	enum err e = dev_copy(l->device, l->on_device.tokens, l->batch.tokens, bytes);
	if (e == ERR_OK)
		e = dev_copy(l->device, l->on_device.positions, l->batch.positions, bytes);
	for (uint32_t i = 0; i < l->config->group_count; i++)
		kv_runs_set(l->on_device.runs[i], l->batch.runs[i], l->batch.run_count);
	return e;
}

enum err layers_begin(struct layers *l)
{
	const struct model_config *c = l->config;
	const uint32_t *tokens = l->on_device.tokens;
	uint32_t rows = l->batch.row_count;
	assert(rows <= l->rows_max);
	enum err e = copy_batch(l);
	if (e != ERR_OK)
		return e;
	if (l->weights->embedding)
		op_embed(l->device, l->weights->embedding, l->weights->elem, c->hidden_size, tokens, rows, l->x);
	else
		op_embed_linear(l->device, l->weights->head, tokens, rows, l->x);
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
	uint32_t rows = l->batch.row_count;
	size_t stride = query_size(c) + 2 * (size_t)key_size(c);
	float *key = l->qkv + query_size(c), *value = key + key_size(c), eps = (float)c->norm_eps;
	linear_of_normed(l, w->qkv, l->qkv);
	if (w->q_norm) {
		op_head_norm(l->device, l->qkv, stride, rows, c->head_count, c->head_dim, w->q_norm, eps);
		op_head_norm(l->device, key, stride, rows, c->kv_head_count, c->head_dim, w->k_norm, eps);
	}
	/* Queries and keys lie side by side and turn alike. */
	const struct layer_rope *rope = &l->rope[c->layers[layer].group];
	op_rope(l->device, l->qkv, stride, rows, c->head_count + c->kv_head_count, c->head_dim,
		group_of(l, layer)->rope.dim / 2, rope->cos, rope->sin);
	uint32_t group = layers_group(l, layer);
	const struct kv_write_call write = {.kv = &l->kv[group], .layer = l->place[layer], .runs = l->on_device.runs[group],
					    .k = key, .v = value, .stride = stride};
	op_kv_write(l->device, &write);
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
	linear(l, l->weights->layers[layer].output, l->attended, l->input, l->delta);
}

static void mlp(struct layers *l, const struct linear *gate_up, const struct linear *down, float *out)
{
	uint32_t inner = linear_shape(down)->k;
	enum elem elem = engine_weights_input_of(l->weights, down);
	linear_of_normed(l, gate_up, l->gate_up);
	const struct glu_call glu = {.glu = glu_of(l->config), .x = l->gate_up, .x_stride = 2 * (size_t)inner,
				     .rows = l->batch.row_count, .dim = inner, .out = l->activated, .out_elem = elem,
				     .out_stride = engine_row_stride(elem, inner)};
	op_glu(l->device, &glu);
	linear(l, down, l->activated, elem, out);
}

/* The expert that every row asks is here and rounds nothing. */
static void add_shared(struct layers *l, const struct layer_weights *w)
{
	uint32_t rows = l->batch.row_count, hidden = l->config->hidden_size;
	mlp(l, w->shared_gate_up, w->shared_down, l->shared);
	if (!w->shared_gate) {
		op_add(l->device, l->delta, l->shared, rows, hidden);
		return;
	}
	linear_of_normed(l, w->shared_gate, l->gate);
	op_add_gated(l->device, l->delta, l->shared, l->gate, rows, hidden);
}

static enum err mixture(struct layers *l, uint32_t layer)
{
	const struct model_config *c = l->config;
	const struct layer_weights *w = &l->weights->layers[layer];
	linear_of_normed(l, w->router, l->scores);
	const struct moe_route_call route = {.routing = &l->routing, .logits = l->scores, .bias = w->router_bias,
					     .rows = l->batch.row_count, .ret_expert = l->expert, .ret_weight = l->weight};
	op_moe_route(l->device, &route);
	const struct expert_rows rows = {.layer = layer, .row_count = l->batch.row_count, .top_k = c->experts.top,
					 .dim = c->hidden_size, .x = l->normed, .elem = l->input, .expert = l->expert,
					 .weight = l->weight, .sum = l->delta};
	enum err e = l->experts->run(l->experts->context, &rows);
	if (e == ERR_OK && w->shared_down)
		add_shared(l, w);
	return e;
}

enum err layers_rest(struct layers *l, uint32_t layer)
{
	const struct layer_weights *w = &l->weights->layers[layer];
	enum err e = ERR_OK;
	attention(l, layer);
	post_norm(l, w->attention_post_norm);
	bool experts = l->config->layers[layer].mlp == MODEL_MLP_EXPERTS;
	norm(l, w->mlp_norm, experts ? w->shared_gate_up : w->gate_up, experts);
	if (experts)
		e = mixture(l, layer);
	else
		mlp(l, w->gate_up, w->down, l->delta);
	post_norm(l, w->mlp_post_norm);
	return e;
}
