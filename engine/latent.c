#include "engine/latent.h"

#include "engine/layers.h"

#define NORM_EPS      1e-6f /* the library's own, whatever rms_norm_eps says */
#define HEADS_AT_ONCE 16    /* of as many rows as there can be: memory in return for reading latents more often */

static uint32_t query_size(const struct model_config *config)
{
	return config->head_count * config->head_dim;
}

uint32_t latent_input_size(const struct model_config *config)
{
	const struct model_latent *latent = &config->latent;
	uint32_t queries = latent->q_lora_rank > 0 ? latent->q_lora_rank : query_size(config);
	return queries + latent->kv_lora_rank + latent->qk_rope_head_dim;
}

static uint32_t at_most(uint32_t count, size_t limit)
{
	return count < limit ? count : (uint32_t)limit;
}

size_t latent_absorbed_max(const struct model_config *config, uint32_t rows_max)
{
	return (size_t)rows_max * at_most(config->head_count, HEADS_AT_ONCE);
}

/* Where the queries of the batch are: [head][nope], then [head][rope] of each row. */
struct queries {
	float *at;
	size_t stride;
};

static struct queries queries_of(const struct layers *l)
{
	if (l->config->latent.q_lora_rank > 0)
		return (struct queries){l->latent.queries, query_size(l->config)};
	return (struct queries){l->qkv, latent_input_size(l->config)};
}

static void turn(struct layers *l, uint32_t layer, float *x, size_t stride, uint32_t head_count)
{
	const struct layer_rope *rope = &l->rope[l->config->layers[layer].group];
	uint32_t dim = l->config->latent.qk_rope_head_dim;
	op_rope(l->device, x, stride, l->batch->row_count, head_count, dim, dim / 2, rope->cos, rope->sin);
}

static void project_queries(struct layers *l, uint32_t layer)
{
	const struct model_config *c = l->config;
	const struct layer_weights *w = &l->weights->layers[layer];
	size_t stride = latent_input_size(c);
	struct queries queries = queries_of(l);
	if (w->query_up) {
		const struct linear_call up = {.linear = w->query_up, .x = l->qkv, .x_stride = stride, .y = queries.at,
					       .y_stride = queries.stride, .rows = l->batch->row_count};
		op_head_norm(l->device, l->qkv, stride, l->batch->row_count, 1, c->latent.q_lora_rank, w->q_norm, NORM_EPS);
		op_linear(l->device, &up, 1);
	}
	turn(l, layer, queries.at + (size_t)c->head_count * c->latent.qk_nope_head_dim, queries.stride, c->head_count);
}

void latent_project(struct layers *l, uint32_t layer)
{
	const struct model_latent *latent = &l->config->latent;
	const struct layer_weights *w = &l->weights->layers[layer];
	size_t stride = latent_input_size(l->config);
	float *vector = l->qkv + stride - latent->kv_lora_rank - latent->qk_rope_head_dim;
	linear_of_normed(l, w->qkv, l->qkv);
	project_queries(l, layer);
	op_head_norm(l->device, vector, stride, l->batch->row_count, 1, latent->kv_lora_rank, w->k_norm, NORM_EPS);
	turn(l, layer, vector + latent->kv_lora_rank, stride, 1);
	uint32_t group = layers_group(l, layer);
	const struct kv_write_call write = {.kv = &l->kv[group], .layer = l->place[layer], .runs = l->on_device.runs[group],
					    .k = vector, .stride = stride};
	op_kv_write(l->device, &write);
}

/* Some heads of all rows, each through a linear of its own. */
struct some_heads {
	uint32_t first, count;
};

static void absorb(struct layers *l, const struct latent_head *heads, struct some_heads some)
{
	const struct model_latent *latent = &l->config->latent;
	struct queries queries = queries_of(l);
	for (uint32_t i = 0; i < some.count; i++)
		l->latent.calls[i] = (struct linear_call){
			.linear = heads[some.first + i].key,
			.x = queries.at + (size_t)(some.first + i) * latent->qk_nope_head_dim,
			.x_stride = queries.stride,
			.y = l->latent.absorbed + (size_t)i * latent->kv_lora_rank,
			.y_stride = (size_t)some.count * latent->kv_lora_rank,
			.rows = l->batch->row_count,
		};
	op_linear(l->device, l->latent.calls, some.count);
}

static void expand(struct layers *l, const struct latent_head *heads, struct some_heads some)
{
	const struct model_latent *latent = &l->config->latent;
	for (uint32_t i = 0; i < some.count; i++)
		l->latent.calls[i] = (struct linear_call){
			.linear = heads[some.first + i].value,
			.x = l->latent.absorbed + (size_t)i * latent->kv_lora_rank,
			.x_stride = (size_t)some.count * latent->kv_lora_rank,
			.y = (uint8_t *)l->attended + (size_t)(some.first + i) * latent->v_head_dim * elem_bytes(l->input),
			.y_elem = l->input,
			.y_stride = (size_t)l->config->head_count * latent->v_head_dim,
			.rows = l->batch->row_count,
		};
	op_linear(l->device, l->latent.calls, some.count);
}

/* Over latents; the answers take the queries' place. */
static void attend(struct layers *l, uint32_t layer, struct some_heads some)
{
	const struct model_config *c = l->config;
	struct queries queries = queries_of(l);
	size_t stride = (size_t)some.count * c->latent.kv_lora_rank;
	const struct attention_call call = {
		.kv = &l->kv[layers_group(l, layer)],
		.layer = l->place[layer],
		.runs = l->on_device.runs[layers_group(l, layer)],
		.head_count = some.count,
		.q = l->latent.absorbed,
		.q_stride = stride,
		.out = l->latent.absorbed,
		.out_stride = stride,
		.scale = 1.0f / __builtin_sqrtf((float)c->score_dim),
		.q_rest = queries.at + (size_t)c->head_count * c->latent.qk_nope_head_dim +
			  (size_t)some.first * c->latent.qk_rope_head_dim,
		.q_rest_stride = queries.stride,
	};
	op_attention(l->device, &call);
}

void latent_attend(struct layers *l, uint32_t layer)
{
	const struct latent_head *heads = l->weights->layers[layer].heads;
	uint32_t head_count = l->config->head_count;
	uint32_t at_once = at_most(head_count, l->latent.absorbed_max / l->batch->row_count);
	for (uint32_t first = 0; first < head_count; first += at_once) {
		struct some_heads some = {first, at_most(head_count - first, at_once)};
		absorb(l, heads, some);
		attend(l, layer, some);
		expand(l, heads, some);
	}
}
