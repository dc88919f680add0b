/* The activations of a rank: every buffer is a piece of one. */
#include "engine/layers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/layer_groups.h"
#include "engine/latent.h"
#include "engine/plan.h"
#include "engine/rope.h"

static bool is_latent(const struct layers *layers)
{
	return layers->config->attention == MODEL_ATTENTION_LATENT;
}

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
	bool latent = is_latent(l), parts = l->parts;
	uint32_t shared = c->experts.shared_intermediate_size > 0 ? c->hidden_size : 0;
	uint32_t queries = c->head_count * c->head_dim, keys = c->kv_head_count * c->head_dim;
	uint32_t qkv = latent ? latent_input_size(c) : queries + 2 * keys;
	uint32_t attended = latent ? c->head_count * c->latent.v_head_dim : queries;
	const struct piece all[] = {
		{(void **)&l->on_device.tokens, rows * sizeof(uint32_t)},
		{(void **)&l->on_device.positions, rows * sizeof(uint32_t)},
		{(void **)&l->x, row_f32 * c->hidden_size},
		{(void **)&l->delta, row_f32 * c->hidden_size},
		{&l->normed, row_input * c->hidden_size},
		{&l->narrow, l->weights->e4m3 ? rows * elem_row_bytes(ELEM_E4M3, c->hidden_size) : 0},
		{(void **)&l->qkv, row_f32 * qkv},
		{&l->attended, row_input * attended},
		{(void **)&l->latent.queries, c->latent.q_lora_rank > 0 ? row_f32 * queries : 0},
		{(void **)&l->latent.absorbed, l->latent.absorbed_max * c->latent.kv_lora_rank * sizeof(float)},
		{(void **)&l->gate_up, row_f32 * 2 * inner_max(c)},
		{&l->activated, row_input * inner_max(c)},
		{(void **)&l->shared, row_f32 * shared},
		{(void **)&l->attention_part, parts ? row_f32 * c->hidden_size : 0},
		{(void **)&l->mlp_part, parts ? row_f32 * c->hidden_size : 0},
		{(void **)&l->shared_part, parts ? row_f32 * shared : 0},
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

enum err batch_create(struct batch *batch, struct device *device, uint32_t group_count, uint32_t rows_max)
{
	struct piece pieces[PIECES_MAX] = {
		{(void **)&batch->tokens, rows_max * sizeof(uint32_t)},
		{(void **)&batch->positions, rows_max * sizeof(uint32_t)},
	};
	uint32_t count = 2;
	for (uint32_t i = 0; i < group_count; i++)
		pieces[count++] = (struct piece){(void **)&batch->runs[i], PLAN_RUNS_MAX * sizeof(struct kv_run)};
	return allocate(device, MEM_PINNED, pieces, count, &batch->memory, &batch->bytes);
}

void batch_destroy(struct batch *batch, struct device *device)
{
	dev_free(device, MEM_PINNED, batch->memory, batch->bytes);
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

enum err layers_init(struct layers *layers, const struct layers_options *options)
{
	const struct model_config *config = options->config;
	assert(options->rows_max > 0);
	*layers = (struct layers){.device = options->device, .config = config, .weights = options->weights,
				  .batch = options->batch, .rows_max = options->rows_max, .parts = options->parts,
				  .input = engine_weights_input(options->weights)};
	layers->latent.absorbed_max = is_latent(layers) ? latent_absorbed_max(config, options->rows_max) : 0;
	layers->routing = routing_of(&config->experts);
	layers->embedding_scale = embedding_scale(config);
	uint16_t counts[LAYER_GROUPS_MAX] = {0};
	for (uint32_t i = 0; i < config->layer_count; i++)
		layers->place[i] = counts[config->layers[i].group]++;
	struct piece pieces[PIECES_MAX];
	uint32_t count = list_pieces(layers, pieces);
	enum err e = allocate(options->device, MEM_DEVICE, pieces, count, &layers->memory, &layers->memory_bytes);
	if (e != ERR_OK)
		return e;
	if (!layers->parts) {
		layers->attention_part = layers->mlp_part = layers->delta;
		layers->shared_part = layers->shared;
	}
	layers->latent.calls = calloc(is_latent(layers) ? config->head_count : 1, sizeof(*layers->latent.calls));
	e = layers->latent.calls ? ERR_OK : ERR_NOMEM;
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
	free(layers->latent.calls);
	*layers = (struct layers){0};
}
