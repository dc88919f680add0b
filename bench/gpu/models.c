#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/gpu/bench.h"
#include "bench/gpu/shapes.h"
#include "engine/forward.h"
#include "engine/kv_ranks.h"
#include "engine/ranks.h"
#include "engine/sampler.h"
#include "engine/sequence.h"
#include "engine/weights.h"
#include "model/config.h"

/* Whole steps of models that have the shapes of known ones and random weights, to the last token chosen. */
struct shape {
	const char *name;
	uint32_t layers, hidden, inner, heads, kv_heads, head_dim, vocabulary;
	enum elem elem; /* of all weights but the head's */
};

static const struct shape shapes[] = {SHAPES_MODELS};

enum { BLOCK = 64, BATCH_MAX = SHAPES_BATCH_MAX, CONTEXT = SHAPES_CONTEXT, CHUNK = SHAPES_CHUNK, BLOCKS_EACH = CONTEXT / BLOCK + 1 };

struct model {
	struct bench *bench;
	struct model_config config;
	struct engine_weights weights;
	struct forward *forward;
	struct ranks ranks;
	struct sampler *sampler;
	struct sample *samples; /* [BATCH_MAX], MEM_PINNED */
	struct kv_memory kv;
	struct kv_ranks of_ranks;
	uint32_t block_count;
	uint64_t *digests;
	struct plan plan;
	uint32_t tokens[CHUNK];
	uint32_t *blocks; /* [BATCH_MAX][BLOCKS_EACH] */
	struct sequence sequences[BATCH_MAX];
};

static void on_kv(void *context, const struct plan *plan, uint32_t layer)
{
}

static void fill_config(struct model_config *c, const struct shape *shape)
{
	c->dtype = MODEL_BF16;
	c->vocab_size = shape->vocabulary;
	c->hidden_size = shape->hidden;
	c->intermediate_size = shape->inner;
	c->layer_count = shape->layers;
	c->position_max = CHUNK;
	c->head_count = shape->heads;
	c->kv_head_count = shape->kv_heads;
	c->head_dim = shape->head_dim;
	c->score_dim = shape->head_dim;
	c->norm_eps = 1e-5;
	c->activation = MODEL_SILU;
	c->tie_word_embeddings = true;
	c->group_count = 1;
	c->groups[0].layer_count = shape->layers;
	c->groups[0].rope = (struct model_rope){.theta = 500000, .dim = shape->head_dim, .attention_factor = 1, .score_factor = 1};
}

static float *norm_weights(struct bench *bench, uint32_t count)
{
	float *weights = bench_alloc(bench, count * sizeof(float));
	bench_fill_f32(bench, weights, count, 1);
	return weights;
}

static void fill_weights(struct model *m, enum elem elem)
{
	const struct model_config *c = &m->config;
	struct engine_weights *w = &m->weights;
	uint32_t qkv = (c->head_count + 2 * c->kv_head_count) * c->head_dim;
	uint32_t segments = device_props(m->bench->device)->row_segments;
	*w = (struct engine_weights){.device = m->bench->device, .elem = ELEM_BF16, .e4m3 = elem == ELEM_E4M3, .hidden_size = c->hidden_size,
				     .head_count = c->head_count, .vocab_size = c->vocab_size, .layer_count = c->layer_count};
	w->head = bench_linear(m->bench, ELEM_BF16, c->vocab_size, c->hidden_size, 1);
	w->final_norm = norm_weights(m->bench, c->hidden_size);
	w->layers = calloc(c->layer_count, sizeof(*w->layers));
	for (uint32_t i = 0; i < c->layer_count; i++)
		w->layers[i] = (struct layer_weights){
			.attention_norm = norm_weights(m->bench, c->hidden_size),
			.mlp_norm = norm_weights(m->bench, c->hidden_size),
			.qkv = bench_linear(m->bench, elem, qkv, c->hidden_size, 1),
			.output = bench_linear(m->bench, elem, c->hidden_size, c->head_count * c->head_dim, segments),
			.gate_up = bench_linear(m->bench, elem, 2 * c->intermediate_size, c->hidden_size, 1),
			.down = bench_linear(m->bench, elem, c->hidden_size, c->intermediate_size, segments),
		};
}

static void free_weights(struct model *m)
{
	const struct model_config *c = &m->config;
	for (uint32_t i = 0; i < c->layer_count; i++) {
		struct layer_weights *w = &m->weights.layers[i];
		linear_destroy(w->qkv);
		linear_destroy(w->output);
		linear_destroy(w->gate_up);
		linear_destroy(w->down);
		bench_free(m->bench, w->attention_norm, c->hidden_size * sizeof(float));
		bench_free(m->bench, w->mlp_norm, c->hidden_size * sizeof(float));
	}
	linear_destroy(m->weights.head);
	bench_free(m->bench, m->weights.final_norm, c->hidden_size * sizeof(float));
	free(m->weights.layers);
}

static void open_kv(struct model *m)
{
	const struct model_config *c = &m->config;
	struct device *device = m->bench->device;
	m->kv.layout = (struct kv_layout){.layer_count = c->layer_count, .head_kv_count = c->kv_head_count,
					  .head_dim = c->head_dim, .block_tokens = BLOCK, .elem = ELEM_BF16};
	m->kv.layer_stride = kv_layer_bytes(&m->kv.layout);
	m->kv.block_stride = kv_block_bytes(&m->kv.layout);
	m->block_count = BATCH_MAX * BLOCKS_EACH;
	m->kv.base = bench_alloc(m->bench, m->block_count * m->kv.block_stride);
	bench_check(dev_alloc(device, MEM_PINNED, (size_t)m->block_count * c->layer_count * 8, (void **)&m->digests), "digests");
	m->blocks = malloc(m->block_count * sizeof(uint32_t));
	for (uint32_t i = 0; i < m->block_count; i++)
		m->blocks[i] = i;
	for (uint32_t i = 0; i < CHUNK; i++)
		m->tokens[i] = i * 7919 % c->vocab_size;
	m->of_ranks = (struct kv_ranks){.ranks = &m->ranks, .replicas = 1, .kv = {m->kv}, .parts = {m->kv}, .part_count = 1};
	bench_check(forward_set_kv(m->forward, 0, &m->of_ranks, m->digests), "runs");
}

/* `count` sequences, each of which computes its tokens from `first` to `end`. */
static void make_plan(struct model *m, uint32_t count, uint32_t first, uint32_t end)
{
	m->plan = (struct plan){.run_count = count, .token_count = count * (end - first), .sample_count = count};
	for (uint32_t i = 0; i < count; i++) {
		m->sequences[i] = (struct sequence){.tokens = m->tokens, .token_count = end,
						    .tables = {{m->blocks + (size_t)i * BLOCKS_EACH, 0, BLOCKS_EACH}}};
		m->plan.runs[i] = (struct run){.sequence = &m->sequences[i], .first = first, .count = end - first,
					       .sample_count = 1, .sample_first = i, .digest = end - first > 1};
	}
}

static void run_step(void *context, uint32_t index)
{
	static const struct sampling greedy = {.top_p = 1, .repetition_penalty = 1, .logprobs = -1};
	static const uint16_t choice = 0;
	struct model *m = context;
	const float *logits;
	bench_check(forward_step(m->forward, &m->plan), "step");
	for (uint32_t first = 0, count; first < m->plan.run_count; first += count) {
		count = m->plan.run_count - first;
		count = count < forward_logits_rows(m->forward) ? count : forward_logits_rows(m->forward);
		bench_check(forward_logits(m->forward, first, count, &logits), "logits");
		sampler_begin(m->sampler, logits);
		for (uint32_t i = first; i < first + count; i++)
			sampler_sample(m->sampler, &(struct sampler_row){.sampling = &greedy, .choices = &choice, .choice_count = 1},
				       &m->samples[i]);
		sampler_end(m->sampler);
	}
	bench_check(forward_end(m->forward, &m->plan), "step");
}

/* Multiplications by weights of one token. */
static double weights_of(const struct model_config *c)
{
	double layer = (double)c->hidden_size * ((2.0 * c->head_count + 2 * c->kv_head_count) * c->head_dim + 3.0 * c->intermediate_size);
	return c->layer_count * layer;
}

static void measure_model(struct model *m, const struct shape *shape)
{
	static const uint32_t batches[] = {SHAPES_BATCHES}, prompts[] = {SHAPES_PROMPTS};
	const struct model_config *c = &m->config;
	double token_kv = 2.0 * 2 * c->kv_head_count * c->head_dim * c->layer_count, head = (double)c->vocab_size * c->hidden_size;
	char name[64];
	for (size_t i = 0; i < sizeof(batches) / sizeof(*batches); i++) {
		double batch = batches[i], seen = batch * CONTEXT;
		make_plan(m, batches[i], CONTEXT - 1, CONTEXT);
		snprintf(name, sizeof(name), "decode/%s/%u x %u", shape->name, batches[i], CONTEXT);
		struct work work = {bench_weight_bytes(shape->elem, weights_of(c)) + 2 * head + seen * token_kv,
				     2 * batch * (weights_of(c) + head)};
		bench_measure(m->bench, name, work, run_step, m);
	}
	for (size_t i = 0; i < sizeof(prompts) / sizeof(*prompts); i++) {
		uint32_t count = CHUNK / prompts[i];
		make_plan(m, count, 0, prompts[i]);
		snprintf(name, sizeof(name), "prefill/%s/%u x %u", shape->name, count, prompts[i]);
		double attention = 4.0 * CHUNK * (prompts[i] + 1) / 2 * c->head_count * c->head_dim * c->layer_count;
		bench_measure(m->bench, name, (struct work){0, 2.0 * CHUNK * weights_of(c) + 2 * count * head + attention}, run_step,
			      m);
	}
}

void bench_models(struct bench *bench)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		if (bench_over(bench, shapes[i].name))
			continue;
		struct model *m = calloc(1, sizeof(*m));
		m->bench = bench;
		fill_config(&m->config, &shapes[i]);
		fill_weights(m, shapes[i].elem);
		struct engine_weights *weights[] = {&m->weights};
		m->ranks = (struct ranks){1, {bench->device}};
		const struct forward_options options = {.ranks = &m->ranks, .config = &m->config, .weights = weights,
							.rows_max = CHUNK, .context = m, .on_kv = on_kv};
		bench_check(forward_create(&options, &m->forward), "activations");
		const struct sampler_options choices = {.device = bench->device, .vocab_size = m->config.vocab_size};
		bench_check(sampler_create(&choices, &m->sampler), "sampler");
		bench_check(dev_alloc(bench->device, MEM_PINNED, BATCH_MAX * sizeof(*m->samples), (void **)&m->samples), "samples");
		open_kv(m);
		measure_model(m, &shapes[i]);
		sampler_destroy(m->sampler);
		dev_free(bench->device, MEM_PINNED, m->samples, BATCH_MAX * sizeof(*m->samples));
		forward_destroy(m->forward);
		dev_free(bench->device, MEM_PINNED, m->digests, (size_t)m->block_count * m->config.layer_count * 8);
		bench_free(bench, m->kv.base, m->block_count * m->kv.block_stride);
		free_weights(m);
		free(m->blocks);
		free(m);
	}
}
