#include "engine/weights.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensors.h"

/* One load: where tensors come from and where they go. */
struct load {
	struct engine_weights *to;
	const struct model_config *config;
	const struct weights *from;
	struct why *why;
};

static enum tensor_dtype dtype_of(const struct load *load)
{
	return load->to->elem == ELEM_BF16 ? TENSOR_BF16 : TENSOR_F32;
}

static enum err want(struct load *load, const char *name, uint32_t dim_count, uint64_t dim0, uint64_t dim1,
		     const struct tensor **ret_tensor)
{
	return weights_want(load->from, name, dtype_of(load), dim_count, (uint64_t[]){dim0, dim1}, load->why,
			    ret_tensor);
}

static float bf16_at(const uint8_t *data, uint64_t i)
{
	uint16_t half;
	float value;
	memcpy(&half, data + 2 * i, sizeof(half));
	uint32_t bits = (uint32_t)half << 16;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* A vector, widened to f32. */
static enum err load_vector(struct load *load, const char *name, uint32_t count, float **ret_vector)
{
	const struct tensor *tensor;
	void *memory;
	enum err e = want(load, name, 1, count, 0, &tensor);
	if (e != ERR_OK)
		return e;
	e = dev_alloc(load->to->device, MEM_DEVICE, count * sizeof(float), &memory);
	if (e != ERR_OK)
		return why_set(load->why, e, "%s: no memory for %u numbers", name, count);
	*ret_vector = memory; /* now the weights' to free, whatever comes */
	float *wide = malloc(count * sizeof(float));
	if (!wide)
		return why_set(load->why, ERR_NOMEM, "%s: no memory for %u numbers", name, count);
	for (uint32_t i = 0; i < count; i++) {
		if (load->to->elem == ELEM_BF16)
			wide[i] = bf16_at(tensor->data, i);
		else
			memcpy(&wide[i], (const uint8_t *)tensor->data + 4 * (uint64_t)i, 4);
	}
	e = dev_copy(load->to->device, memory, wide, count * sizeof(float));
	free(wide);
	return e;
}

static enum err create_linear(struct load *load, const char *name, uint32_t n, uint32_t k, uint32_t segments,
			      struct linear **ret_linear)
{
	struct linear_shape shape = {.n = n, .k = k, .elem = load->to->elem, .segments = segments};
	enum err e = linear_create(load->to->device, &shape, ret_linear);
	if (e == ERR_INVALID)
		return why_set(load->why, ERR_UNSUPPORTED, "%s: %u inputs do not divide into %u segments", name, k,
			       segments);
	if (e != ERR_OK)
		return why_set(load->why, e, "%s: no memory for %u x %u weights", name, n, k);
	return ERR_OK;
}

/* Outputs [first, first + n) of a linear from the tensor [n][k]. */
static enum err fill_linear(struct load *load, struct linear *linear, uint32_t first, const char *name, uint32_t n)
{
	const struct tensor *tensor;
	uint32_t k = linear_shape(linear)->k;
	enum err e = want(load, name, 2, n, k, &tensor);
	if (e == ERR_OK)
		linear_fill(linear, first, n, tensor->data, k);
	return e;
}

struct part {
	const char *name; /* below the prefix */
	uint32_t n;
};

/* One linear from several tensors over the same input. */
static enum err load_linear(struct load *load, const char *prefix, const struct part *parts, uint32_t part_count,
			    uint32_t k, uint32_t segments, struct linear **ret_linear)
{
	char name[160];
	uint32_t n = 0;
	for (uint32_t i = 0; i < part_count; i++)
		n += parts[i].n;
	snprintf(name, sizeof(name), "%s%s", prefix, parts[0].name);
	enum err e = create_linear(load, name, n, k, segments, ret_linear);
	uint32_t first = 0;
	for (uint32_t i = 0; i < part_count && e == ERR_OK; i++) {
		snprintf(name, sizeof(name), "%s%s", prefix, parts[i].name);
		e = fill_linear(load, *ret_linear, first, name, parts[i].n);
		first += parts[i].n;
	}
	return e;
}

static enum err load_attention(struct load *load, uint32_t index, struct layer_weights *layer)
{
	const struct model_config *c = load->config;
	char prefix[64];
	char name[128];
	snprintf(prefix, sizeof(prefix), "model.layers.%u.self_attn.", index);
	const struct part qkv[] = {
		{"q_proj.weight", c->head_count * c->head_dim},
		{"k_proj.weight", c->kv_head_count * c->head_dim},
		{"v_proj.weight", c->kv_head_count * c->head_dim},
	};
	enum err e = load_linear(load, prefix, qkv, 3, c->hidden_size, 1, &layer->qkv);
	if (e != ERR_OK)
		return e;
	const struct part output = {"o_proj.weight", c->hidden_size};
	e = load_linear(load, prefix, &output, 1, c->head_count * c->head_dim, LINEAR_SEGMENTS, &layer->output);
	if (e != ERR_OK || !c->qk_norm)
		return e;
	snprintf(name, sizeof(name), "%sq_norm.weight", prefix);
	e = load_vector(load, name, c->head_dim, &layer->q_norm);
	if (e != ERR_OK)
		return e;
	snprintf(name, sizeof(name), "%sk_norm.weight", prefix);
	return load_vector(load, name, c->head_dim, &layer->k_norm);
}

/* Gate, up and down under the names that the architecture gives them. */
static enum err load_mlp(struct load *load, const char *prefix, const char *const names[3], uint32_t intermediate,
			 struct linear **ret_gate_up, struct linear **ret_down)
{
	const struct part gate_up[] = {{names[0], intermediate}, {names[1], intermediate}};
	const struct part down = {names[2], load->config->hidden_size};
	enum err e = load_linear(load, prefix, gate_up, 2, load->config->hidden_size, 1, ret_gate_up);
	if (e != ERR_OK)
		return e;
	return load_linear(load, prefix, &down, 1, intermediate, LINEAR_SEGMENTS, ret_down);
}

static const char *const names_gate_up_down[3] = {"gate_proj.weight", "up_proj.weight", "down_proj.weight"};
static const char *const names_mixtral[3] = {"w1.weight", "w3.weight", "w2.weight"};

static enum err load_experts(struct load *load, uint32_t index, struct layer_weights *layer)
{
	const struct model_config *c = load->config;
	bool mixtral = c->arch == MODEL_ARCH_MIXTRAL;
	const char *room = mixtral ? "block_sparse_moe" : "mlp";
	char prefix[96];
	const struct part router = {"gate.weight", c->expert_count};
	snprintf(prefix, sizeof(prefix), "model.layers.%u.%s.", index, room);
	enum err e = load_linear(load, prefix, &router, 1, c->hidden_size, 1, &layer->router);
	if (e != ERR_OK)
		return e;
	layer->experts = calloc(c->expert_count, sizeof(*layer->experts));
	if (!layer->experts)
		return why_set(load->why, ERR_NOMEM, "%s: no memory for %u experts", prefix, c->expert_count);
	for (uint32_t i = 0; i < c->expert_count && e == ERR_OK; i++) {
		snprintf(prefix, sizeof(prefix), "model.layers.%u.%s.experts.%u.", index, room, i);
		e = load_mlp(load, prefix, mixtral ? names_mixtral : names_gate_up_down, c->expert_intermediate_size,
			     &layer->experts[i].gate_up, &layer->experts[i].down);
	}
	return e;
}

static enum err load_layer(struct load *load, uint32_t index)
{
	const struct model_config *c = load->config;
	struct layer_weights *layer = &load->to->layers[index];
	char name[96];
	snprintf(name, sizeof(name), "model.layers.%u.input_layernorm.weight", index);
	enum err e = load_vector(load, name, c->hidden_size, &layer->attention_norm);
	if (e != ERR_OK)
		return e;
	snprintf(name, sizeof(name), "model.layers.%u.post_attention_layernorm.weight", index);
	e = load_vector(load, name, c->hidden_size, &layer->mlp_norm);
	if (e != ERR_OK)
		return e;
	e = load_attention(load, index, layer);
	if (e != ERR_OK || c->expert_count > 0)
		return e != ERR_OK ? e : load_experts(load, index, layer);
	snprintf(name, sizeof(name), "model.layers.%u.mlp.", index);
	return load_mlp(load, name, names_gate_up_down, c->intermediate_size, &layer->gate_up, &layer->down);
}

static enum err load_embedding(struct load *load)
{
	const struct model_config *c = load->config;
	const struct tensor *tensor;
	struct part head = {"lm_head.weight", c->vocab_size};
	if (c->tie_word_embeddings)
		head.name = "model.embed_tokens.weight";
	enum err e = load_linear(load, "", &head, 1, c->hidden_size, 1, &load->to->head);
	if (e != ERR_OK)
		return e;
	e = load_vector(load, "model.norm.weight", c->hidden_size, &load->to->final_norm);
	if (e != ERR_OK || c->tie_word_embeddings)
		return e;
	e = want(load, "model.embed_tokens.weight", 2, c->vocab_size, c->hidden_size, &tensor);
	if (e != ERR_OK)
		return e;
	e = dev_alloc(load->to->device, MEM_DEVICE, tensor->bytes, &load->to->embedding);
	if (e != ERR_OK)
		return why_set(load->why, e, "%s: no memory for it", tensor->name);
	return dev_copy(load->to->device, load->to->embedding, tensor->data, tensor->bytes);
}

static enum err load_all(struct load *load)
{
	enum err e = load_embedding(load);
	uint32_t told = 0;
	for (uint32_t i = 0; i < load->config->layer_count && e == ERR_OK; i++) {
		e = load_layer(load, i);
		uint32_t percent = (i + 1) * 100 / load->config->layer_count;
		if (percent >= told + 25 && load->config->layer_count >= 16) {
			told = percent;
			log_info("weights: %u of %u layers packed", i + 1, load->config->layer_count);
		}
	}
	return e;
}

static enum err refuse_unknown(const struct model_config *config, struct why *why)
{
	if (config->qkv_bias || config->o_bias)
		return why_set(why, ERR_UNSUPPORTED, "attention biases are not supported by this engine");
	if (config->group_count != 1 || config->groups[0].window != 0)
		return why_set(why, ERR_UNSUPPORTED, "attention windows are not supported by this engine");
	if (config->head_dim < 16 || config->head_dim > 512 || config->head_dim % 16 != 0)
		return why_set(why, ERR_UNSUPPORTED, "head_dim %u: the engine wants a multiple of 16 in [16, 512]",
			       config->head_dim);
	if (config->expert_count > MOE_EXPERTS_MAX || config->expert_top > MOE_TOP_K_MAX)
		return why_set(why, ERR_UNSUPPORTED, "%u experts, top %u: at most %d, top %d", config->expert_count,
			       config->expert_top, MOE_EXPERTS_MAX, MOE_TOP_K_MAX);
	return ERR_OK;
}

enum err engine_weights_create(struct device *device, const struct model_config *config,
			       const struct weights *source, struct why *why, struct engine_weights **ret_weights)
{
	enum err e = refuse_unknown(config, why);
	if (e == ERR_OK)
		e = model_tensors_check(config, source, why);
	if (e != ERR_OK)
		return e;
	struct engine_weights *weights = calloc(1, sizeof(*weights));
	if (!weights)
		return why_set(why, ERR_NOMEM, "no memory for the weights' table");
	*weights = (struct engine_weights){
		.device = device,
		.elem = config->dtype == MODEL_BF16 ? ELEM_BF16 : ELEM_F32,
		.hidden_size = config->hidden_size,
		.head_dim = config->head_dim,
		.vocab_size = config->vocab_size,
		.layer_count = config->layer_count,
		.expert_count = config->expert_count,
		.layers = calloc(config->layer_count, sizeof(struct layer_weights)),
	};
	struct load load = {.to = weights, .config = config, .from = source, .why = why};
	e = weights->layers ? load_all(&load) : why_set(why, ERR_NOMEM, "no memory for the layers' table");
	if (e != ERR_OK) {
		engine_weights_destroy(weights);
		return e;
	}
	*ret_weights = weights;
	return ERR_OK;
}

static void destroy_layer(struct engine_weights *weights, struct layer_weights *layer)
{
	dev_free(weights->device, MEM_DEVICE, layer->attention_norm, weights->hidden_size * sizeof(float));
	dev_free(weights->device, MEM_DEVICE, layer->mlp_norm, weights->hidden_size * sizeof(float));
	dev_free(weights->device, MEM_DEVICE, layer->q_norm, weights->head_dim * sizeof(float));
	dev_free(weights->device, MEM_DEVICE, layer->k_norm, weights->head_dim * sizeof(float));
	linear_destroy(layer->qkv);
	linear_destroy(layer->output);
	linear_destroy(layer->gate_up);
	linear_destroy(layer->down);
	linear_destroy(layer->router);
	for (uint32_t i = 0; layer->experts && i < weights->expert_count; i++) {
		linear_destroy(layer->experts[i].gate_up);
		linear_destroy(layer->experts[i].down);
	}
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

uint64_t engine_weights_bytes(const struct engine_weights *weights)
{
	uint64_t bytes = bytes_of(weights->head) + (weights->embedding ? embedding_bytes(weights) : 0);
	for (uint32_t i = 0; i < weights->layer_count; i++) {
		const struct layer_weights *layer = &weights->layers[i];
		bytes += bytes_of(layer->qkv) + bytes_of(layer->output) + bytes_of(layer->gate_up) +
			 bytes_of(layer->down) + bytes_of(layer->router);
		for (uint32_t j = 0; layer->experts && j < weights->expert_count; j++)
			bytes += bytes_of(layer->experts[j].gate_up) + bytes_of(layer->experts[j].down);
	}
	return bytes;
}
