#include "engine/weights.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "engine/load_file.h"
#include "engine/load_reader.h"
#include "engine/weights_impl.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensors.h"

/* What the rank has of it is one piece.  The first rank adds the offset, in place. */
static enum err load_vector(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece, float offset,
			    float **vector)
{
	struct rank_share pieces[SHARD_PIECES_MAX];
	shard_outputs(load->config, load->shard, spec, pieces);
	size_t bytes = pieces[0].count * sizeof(float);
	if (piece) {
		float *wide = piece->rows;
		for (uint32_t i = 0; i < piece->count && load->shard.rank == 0; i++)
			wide[i] += offset;
		return dev_copy(load->to->device, *vector, wide + pieces[0].first, bytes);
	}
	void *memory;
	enum err e = dev_alloc(load->to->device, MEM_DEVICE, bytes, &memory);
	if (e != ERR_OK)
		return why_set(load->why, e, "%s: no memory for it", spec->name);
	*vector = memory;
	return ERR_OK;
}

static enum err load_norm(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece, float **vector)
{
	return load_vector(load, spec, piece, load->config->norm_plus_one ? 1.0f : 0.0f, vector);
}

/* Rows of a tensor that the rank has and that follow each other there, `output` the first. */
struct rows_run {
	uint32_t row, count, output;
};

uint32_t load_local_output(const struct load *load, const struct tensor_spec *spec, uint32_t row)
{
	return shard_output(load->config, load->shard, spec, load_output(load->config, spec, row));
}

/* The first from `row` on; count 0: there are none before `end`. */
static struct rows_run next_run(const struct load *load, const struct tensor_spec *spec, uint32_t row, uint32_t end)
{
	struct rows_run run = {.row = row, .output = SHARD_NONE};
	while (run.row < end && (run.output = load_local_output(load, spec, run.row)) == SHARD_NONE)
		run.row++;
	while (run.row + run.count < end && load_local_output(load, spec, run.row + run.count) == run.output + run.count)
		run.count++;
	return run;
}

static enum err load_bias(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece,
			  struct linear *linear)
{
	enum err e = piece ? ERR_OK : linear_fill_bias(linear, 0, 0, NULL); /* makes room */
	uint32_t end = piece ? piece->count : 0;
	for (struct rows_run run = next_run(load, spec, 0, end); run.count > 0 && e == ERR_OK;
	     run = next_run(load, spec, run.row + run.count, end))
		e = linear_fill_bias(linear, run.output, run.count, (const float *)piece->rows + run.row);
	return e == ERR_OK ? e : why_set(load->why, e, "%s: no memory for it", spec->name);
}

/* Of weights by inputs: a rank's part of a sum has none, and the sum has it once. */
static enum err load_sum_bias(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece,
			      struct linear *linear, float **bias)
{
	if (load->shard.count == 1)
		return load_bias(load, spec, piece, linear);
	return load_vector(load, spec, piece, 0.0f, bias);
}

enum err load_create(struct load *load, const char *name, const struct linear_shape *shape, struct linear **ret_linear)
{
	enum err e = linear_create(load->to->device, shape, ret_linear);
	if (e == ERR_INVALID)
		return why_set(load->why, ERR_UNSUPPORTED, "%s: %u inputs do not divide into %u segments", name, shape->k,
			       shape->segments);
	if (e != ERR_OK)
		return why_set(load->why, e, "%s: no memory for %u x %u weights", name, shape->n, shape->k);
	return ERR_OK;
}

struct rank_share load_inputs(const struct load *load, const struct tensor_spec *spec)
{
	uint32_t k = (uint32_t)spec->dims[1], each = k / load->shard.count;
	return shard_by_inputs(spec->role) ? (struct rank_share){load->shard.rank * each, each} : (struct rank_share){0, k};
}

static void fill_rows(struct load *load, const struct load_piece *piece, struct linear *linear)
{
	uint32_t k = (uint32_t)piece->spec->dims[1], end = piece->first + piece->count;
	size_t input = load_inputs(load, piece->spec).first;
	for (struct rows_run run = next_run(load, piece->spec, piece->first, end); run.count > 0;
	     run = next_run(load, piece->spec, run.row + run.count, end))
		linear_fill(linear, run.output, run.count,
			    (const uint8_t *)piece->rows + ((size_t)(run.row - piece->first) * k + input) * elem_bytes(linear_shape(linear)->elem),
			    k);
}

/* The role's first tensor makes its linear.  Inputs that may be shared out are summed in the device's segments. */
static enum err load_linear(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece,
			    struct linear **linear)
{
	if (piece) {
		fill_rows(load, piece, *linear);
		return piece->scales ? load_scales(load, piece, *linear) : ERR_OK;
	}
	uint32_t segments = load_segments(load, spec), ranks = load->shard.count;
	if (shard_by_inputs(spec->role) && segments % ranks != 0)
		return why_set(load->why, ERR_UNSUPPORTED, "%s: %u inputs of 8 bits are summed in %u segments, which %u ranks cannot share",
			       spec->name, (uint32_t)spec->dims[1], segments, ranks);
	const struct linear_shape shape = {.n = shard_output_count(load->config, load->shard, spec),
					   .k = load_inputs(load, spec).count, .elem = load_elem(load, spec),
					   .segments = shard_by_inputs(spec->role) ? segments / ranks : 1,
					   .scale_outputs = load_scale_outputs(load->config, load->shard)};
	enum err e = *linear ? ERR_OK : load_create(load, spec->name, &shape, linear);
	if (e == ERR_OK && linear_shape(*linear)->elem != shape.elem)
		return why_set(load->why, ERR_UNSUPPORTED, "%s: one part of its product has weights of 8 bits and another has not",
			       spec->name);
	return e;
}

static enum err load_embedding(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece)
{
	struct engine_weights *to = load->to;
	size_t row_bytes = spec->dims[1] * elem_bytes(to->elem);
	if (piece)
		return dev_copy(to->device, (uint8_t *)to->embedding + piece->first * row_bytes, piece->rows,
				piece->count * row_bytes);
	enum err e = dev_alloc(to->device, MEM_DEVICE, spec->dims[0] * row_bytes, &to->embedding);
	return e == ERR_OK ? e : why_set(load->why, e, "%s: no memory for it", spec->name);
}

/* Tied weights are the embedding too; a rank has some rows of the head, and needs all of the embedding's. */
static enum err load_head(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece)
{
	enum err e = load_linear(load, spec, piece, &load->to->head);
	if (e == ERR_OK && load->config->tie_word_embeddings && load->shard.count > 1)
		e = load_embedding(load, spec, piece);
	return e;
}

/* The sums' biases of all experts lie in one piece. */
static enum err load_expert_bias(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece,
				 struct layer_weights *layer)
{
	struct engine_weights *to = load->to;
	size_t bytes = spec->dims[0] * sizeof(float);
	if (piece)
		return dev_copy(to->device, layer->experts_bias + spec->expert * spec->dims[0], piece->rows, bytes);
	if (layer->experts_bias)
		return ERR_OK;
	enum err e = dev_alloc(to->device, MEM_DEVICE, to->expert_count * bytes, (void **)&layer->experts_bias);
	return e == ERR_OK ? e : why_set(load->why, e, "%s: no memory for it", spec->name);
}

/* Experts of a layer are multiplied by together. */
static enum err refuse_unlike(struct load *load, const struct tensor_spec *spec, const struct expert_weights *expert,
			      const struct expert_weights *first)
{
	bool down = spec->role == TENSOR_EXPERT_DOWN;
	const struct linear *one = down ? expert->down : expert->gate_up, *other = down ? first->down : first->gate_up;
	if (!other || linear_shape(one)->elem == linear_shape(other)->elem)
		return ERR_OK;
	return why_set(load->why, ERR_UNSUPPORTED, "%s: some experts of the layer have weights of 8 bits and others have not", spec->name);
}

static enum err load_expert(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece)
{
	struct layer_weights *layer = &load->to->layers[spec->layer];
	if (!layer->experts)
		layer->experts = calloc(load->config->experts.count, sizeof(*layer->experts));
	if (!layer->experts)
		return why_set(load->why, ERR_NOMEM, "%s: no memory for experts", spec->name);
	struct expert_weights *expert = &layer->experts[spec->expert];
	if (spec->role == TENSOR_EXPERT_DOWN_BIAS && load->shard.count > 1)
		return load_expert_bias(load, spec, piece, layer);
	if (spec->dim_count == 1)
		return load_bias(load, spec, piece, spec->role == TENSOR_EXPERT_DOWN_BIAS ? expert->down : expert->gate_up);
	enum err e = load_linear(load, spec, piece, spec->role == TENSOR_EXPERT_DOWN ? &expert->down : &expert->gate_up);
	return e == ERR_OK ? refuse_unlike(load, spec, expert, layer->experts) : e;
}

static enum err load_tensor(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece)
{
	struct engine_weights *to = load->to;
	struct layer_weights *layer = &to->layers[spec->layer];
	switch (spec->role) {
	case TENSOR_EMBEDDING:
		return load_embedding(load, spec, piece);
	case TENSOR_HEAD:
		return load_head(load, spec, piece);
	case TENSOR_FINAL_NORM:
		return load_norm(load, spec, piece, &to->final_norm);
	case TENSOR_ATTENTION_NORM:
		return load_norm(load, spec, piece, &layer->attention_norm);
	case TENSOR_ATTENTION_POST_NORM:
		return load_norm(load, spec, piece, &layer->attention_post_norm);
	case TENSOR_MLP_NORM:
		return load_norm(load, spec, piece, &layer->mlp_norm);
	case TENSOR_MLP_POST_NORM:
		return load_norm(load, spec, piece, &layer->mlp_post_norm);
	case TENSOR_QKV:
		return load_linear(load, spec, piece, &layer->qkv);
	case TENSOR_QKV_BIAS:
		return load_bias(load, spec, piece, layer->qkv);
	case TENSOR_SINKS:
		return load_vector(load, spec, piece, 0.0f, &layer->sinks);
	case TENSOR_Q_NORM:
		return load_norm(load, spec, piece, &layer->q_norm);
	case TENSOR_K_NORM:
		return load_norm(load, spec, piece, &layer->k_norm);
	case TENSOR_QUERY_UP:
		return load_linear(load, spec, piece, &layer->query_up);
	case TENSOR_KEY_VALUE_UP:
		return load_latent_heads(load, spec, piece, layer);
	case TENSOR_OUTPUT:
		return load_linear(load, spec, piece, &layer->output);
	case TENSOR_OUTPUT_BIAS:
		return load_sum_bias(load, spec, piece, layer->output, &layer->output_bias);
	case TENSOR_GATE_UP:
		return load_linear(load, spec, piece, &layer->gate_up);
	case TENSOR_GATE_UP_BIAS:
		return load_bias(load, spec, piece, layer->gate_up);
	case TENSOR_DOWN:
		return load_linear(load, spec, piece, &layer->down);
	case TENSOR_DOWN_BIAS:
		return load_sum_bias(load, spec, piece, layer->down, &layer->down_bias);
	case TENSOR_ROUTER:
		return load_linear(load, spec, piece, &layer->router);
	case TENSOR_ROUTER_BIAS:
		return load_bias(load, spec, piece, layer->router);
	case TENSOR_ROUTER_CHOICE_BIAS:
		return load_vector(load, spec, piece, 0.0f, &layer->router_bias);
	case TENSOR_SHARED_GATE_UP:
		return load_linear(load, spec, piece, &layer->shared_gate_up);
	case TENSOR_SHARED_DOWN:
		return load_linear(load, spec, piece, &layer->shared_down);
	case TENSOR_SHARED_GATE:
		return load_linear(load, spec, piece, &layer->shared_gate);
	case TENSOR_EXPERT_GATE_UP:
	case TENSOR_EXPERT_GATE_UP_BIAS:
	case TENSOR_EXPERT_DOWN:
	case TENSOR_EXPERT_DOWN_BIAS:
		return load_expert(load, spec, piece);
	}
	return ERR_INVALID;
}

/* A load for each rank; what is read goes to all of them. */
struct loads {
	struct load ranks[DEVICES_MAX];
	uint32_t count;
	const struct load_plan *plan;
	double began; /* seconds of a clock */
};

/* Room for all of it comes first: what does not fit is said before hours of reading. */
static enum err make_one(void *arg, const struct tensor_spec *spec)
{
	struct loads *loads = arg;
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < loads->count && e == ERR_OK; i++)
		e = load_tensor(&loads->ranks[i], spec, NULL);
	return e;
}

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void tell_progress(void *context, const struct load_progress *progress)
{
	const struct loads *loads = context;
	double took = seconds_now() - loads->began, gb = (double)progress->bytes / 1e9;
	log_info("weights: %.2f of %.2f GB in %.1f s, %.2f GB/s, %.0f %% from the page cache", gb, (double)loads->plan->bytes / 1e9,
		 took, took > 0 ? gb / took : 0,
		 progress->bytes ? (double)progress->cached_bytes / (double)progress->bytes * 100 : 0);
}

static enum err take_piece(void *context, const struct load_piece *piece, struct why *why)
{
	const struct loads *loads = context;
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < loads->count && e == ERR_OK; i++) {
		struct load own = loads->ranks[i]; /* with this thread's reason */
		own.why = why;
		e = load_tensor(&own, piece->spec, piece);
	}
	return e;
}

static enum err load_all(struct loads *loads, const struct weights *source, uint8_t (*digests)[32], struct why *why)
{
	const struct load *first = &loads->ranks[0]; /* whose device's marks are all ranks' */
	const struct load_plan_options options = {first->to->elem, LOAD_PIECE_BYTES - 2 * LOAD_ALIGN, digests != NULL};
	struct load_plan *plan = NULL;
	struct load_progress progress = {0};
	enum err e = load_plan_create(first->config, source, &options, why, &plan);
	const struct load_reader_options reading = {.device = first->to->device, .weights = source, .plan = plan,
						    .digests = digests, .context = loads,
						    .take = take_piece, .progress = tell_progress};
	loads->plan = plan;
	loads->began = seconds_now();
	if (e == ERR_OK)
		e = model_tensors_each(first->config, make_one, loads);
	if (e == ERR_OK)
		e = load_read(&reading, why, &progress);
	if (e == ERR_OK)
		tell_progress(loads, &progress);
	load_plan_destroy(plan);
	return e;
}

static bool fits_attention(uint32_t dim, uint32_t dim_max)
{
	return dim >= 16 && dim <= dim_max && dim % 16 == 0;
}

static enum err refuse_attention(const struct model_config *config, struct why *why)
{
	uint32_t kv = config->latent.kv_lora_rank, rope = config->latent.qk_rope_head_dim;
	if (config->attention == MODEL_ATTENTION_GROUPED) {
		if (fits_attention(config->head_dim, HEAD_DIM_MAX))
			return ERR_OK;
		return why_set(why, ERR_UNSUPPORTED, "head_dim %u: the engine wants a multiple of 16 in [16, %d]",
			       config->head_dim, HEAD_DIM_MAX);
	}
	if (fits_attention(kv, HEAD_DIM_MAX) && fits_attention(kv + rope, LATENT_DIM_MAX))
		return ERR_OK;
	return why_set(why, ERR_UNSUPPORTED,
		       "kv_lora_rank %u, qk_rope_head_dim %u: the engine wants multiples of 16, at most %d, together %d",
		       kv, rope, HEAD_DIM_MAX, LATENT_DIM_MAX);
}

static enum err refuse_unknown(const struct model_config *config, struct why *why)
{
	if (config->experts.count > MOE_EXPERTS_MAX || config->experts.top > MOE_TOP_K_MAX)
		return why_set(why, ERR_UNSUPPORTED, "%u experts, top %u: at most %d, top %d", config->experts.count,
			       config->experts.top, MOE_EXPERTS_MAX, MOE_TOP_K_MAX);
	return refuse_attention(config, why);
}

/* Of the norms of queries and keys: of a head, or of what latent attention has in their place. */
static uint32_t query_norm_size(const struct model_config *config)
{
	return config->attention == MODEL_ATTENTION_LATENT ? config->latent.q_lora_rank : config->head_dim;
}

static uint32_t key_norm_size(const struct model_config *config)
{
	return config->attention == MODEL_ATTENTION_LATENT ? config->latent.kv_lora_rank : config->head_dim;
}

static struct engine_weights *create_rank(struct device *device, const struct model_config *config, struct shard shard)
{
	struct engine_weights *weights = calloc(1, sizeof(*weights));
	if (!weights)
		return NULL;
	*weights = (struct engine_weights){
		.device = device,
		.elem = config->dtype == MODEL_BF16 ? ELEM_BF16 : ELEM_F32,
		.e4m3 = config->fp8_kept,
		.hidden_size = config->hidden_size,
		.head_count = shard_heads(config, shard).count,
		.q_norm_size = query_norm_size(config),
		.k_norm_size = key_norm_size(config),
		.vocab_size = config->vocab_size,
		.layer_count = config->layer_count,
		.expert_count = config->experts.count,
		.layers = calloc(config->layer_count, sizeof(struct layer_weights)),
	};
	if (weights->layers)
		return weights;
	free(weights);
	return NULL;
}

static enum err create_ranks(const struct ranks *ranks, const struct model_config *config, const struct weights *source,
			     struct why *why, struct loads *loads)
{
	loads->count = ranks->count;
	for (uint32_t i = 0; i < ranks->count; i++) {
		struct shard shard = {i, ranks->count};
		struct engine_weights *to = create_rank(ranks->devices[i], config, shard);
		if (!to)
			return why_set(why, ERR_NOMEM, "no memory for the weights' table");
		loads->ranks[i] = (struct load){.to = to, .shard = shard, .config = config, .from = source, .why = why};
	}
	return ERR_OK;
}

enum err engine_weights_create(const struct ranks *ranks, const struct model_config *config,
			       const struct weights *source, uint8_t (*digests)[32], struct why *why,
			       struct engine_weights **ret_weights)
{
	struct loads loads = {0};
	enum err e = refuse_unknown(config, why);
	if (e == ERR_OK)
		e = shard_check(config, ranks->count, device_props(ranks->devices[0])->row_segments, why);
	if (e == ERR_OK)
		e = model_tensors_check(config, source, why);
	if (e == ERR_OK)
		e = create_ranks(ranks, config, source, why, &loads);
	if (e == ERR_OK)
		e = load_all(&loads, source, digests, why);
	for (uint32_t i = 0; i < ranks->count; i++)
		if (e == ERR_OK)
			ret_weights[i] = loads.ranks[i].to;
		else
			engine_weights_destroy(loads.ranks[i].to);
	return e;
}

/* The linears of a layer but those of its experts and heads, which come in numbers. */
#define LAYER_LINEARS(layer)                                                                                   \
	{                                                                                                      \
		(layer)->qkv, (layer)->query_up, (layer)->output, (layer)->gate_up, (layer)->down, (layer)->router, \
			(layer)->shared_gate_up, (layer)->shared_down, (layer)->shared_gate                    \
	}

static void free_vector(struct engine_weights *weights, float *vector, uint32_t count)
{
	dev_free(weights->device, MEM_DEVICE, vector, count * sizeof(float));
}

static void destroy_layer(struct engine_weights *weights, struct layer_weights *layer)
{
	float *const norms[] = {layer->attention_norm, layer->attention_post_norm, layer->mlp_norm, layer->mlp_post_norm};
	struct linear *const linears[] = LAYER_LINEARS(layer);
	for (size_t i = 0; i < sizeof(norms) / sizeof(norms[0]); i++)
		free_vector(weights, norms[i], weights->hidden_size);
	free_vector(weights, layer->sinks, weights->head_count);
	free_vector(weights, layer->q_norm, weights->q_norm_size);
	free_vector(weights, layer->k_norm, weights->k_norm_size);
	free_vector(weights, layer->router_bias, weights->expert_count);
	free_vector(weights, layer->output_bias, weights->hidden_size);
	free_vector(weights, layer->down_bias, weights->hidden_size);
	free_vector(weights, layer->experts_bias, weights->expert_count * weights->hidden_size);
	for (size_t i = 0; i < sizeof(linears) / sizeof(linears[0]); i++)
		linear_destroy(linears[i]);
	for (uint32_t i = 0; layer->heads && i < weights->head_count; i++) {
		linear_destroy(layer->heads[i].key);
		linear_destroy(layer->heads[i].value);
	}
	for (uint32_t i = 0; layer->experts && i < weights->expert_count; i++) {
		linear_destroy(layer->experts[i].gate_up);
		linear_destroy(layer->experts[i].down);
	}
	free(layer->heads);
	free(layer->experts);
}

static size_t embedding_bytes(const struct engine_weights *weights)
{
	return (size_t)weights->vocab_size * weights->hidden_size * elem_bytes(weights->elem);
}

void engine_weights_destroy(struct engine_weights *weights)
{
	if (!weights)
		return;
	for (uint32_t i = 0; weights->layers && i < weights->layer_count; i++)
		destroy_layer(weights, &weights->layers[i]);
	free(weights->layers);
	linear_destroy(weights->head);
	dev_free(weights->device, MEM_DEVICE, weights->final_norm, weights->hidden_size * sizeof(float));
	dev_free(weights->device, MEM_DEVICE, weights->embedding, embedding_bytes(weights));
	free(weights);
}

static uint64_t bytes_of(const struct linear *linear)
{
	return linear ? linear_bytes(linear) : 0;
}

static uint64_t layer_bytes(const struct engine_weights *weights, const struct layer_weights *layer)
{
	const struct linear *const linears[] = LAYER_LINEARS(layer);
	uint64_t bytes = 0;
	for (size_t i = 0; i < sizeof(linears) / sizeof(linears[0]); i++)
		bytes += bytes_of(linears[i]);
	for (uint32_t i = 0; layer->heads && i < weights->head_count; i++)
		bytes += bytes_of(layer->heads[i].key) + bytes_of(layer->heads[i].value);
	for (uint32_t i = 0; layer->experts && i < weights->expert_count; i++)
		bytes += bytes_of(layer->experts[i].gate_up) + bytes_of(layer->experts[i].down);
	return bytes;
}

uint64_t engine_weights_bytes(const struct engine_weights *weights)
{
	uint64_t bytes = bytes_of(weights->head) + (weights->embedding ? embedding_bytes(weights) : 0);
	for (uint32_t i = 0; i < weights->layer_count; i++)
		bytes += layer_bytes(weights, &weights->layers[i]);
	return bytes;
}

const char *engine_weights_format(const struct engine_weights *weights)
{
	return weights->e4m3 ? "fp8e4m3b128" : weights->elem == ELEM_BF16 ? "bf16" : "f32";
}
