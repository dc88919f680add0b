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
	uint32_t told; /* per cent */
};

enum { WIDEN_ROWS = 64 };

static float bf16_at(const uint8_t *data, uint64_t i)
{
	uint16_t half;
	float value;
	memcpy(&half, data + 2 * i, sizeof(half));
	uint32_t bits = (uint32_t)half << 16;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* Sign, 5 bits of exponent, 10 of fraction.  Below the least exponent the fraction counts in 2^-24. */
static float f16_at(const uint8_t *data, uint64_t i)
{
	uint16_t half;
	memcpy(&half, data + 2 * i, sizeof(half));
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
	float value = (float)fraction * 0x1p-24f;
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	if (exponent == 31)
		bits = 0x7f800000 | fraction << 13;
	else if (exponent > 0)
		bits = (exponent + 112) << 23 | fraction << 13;
	bits |= sign;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* Elements [first, first + count) of a tensor of any type that a model may have. */
static void widen(const struct tensor *tensor, uint64_t first, size_t count, float *ret_wide)
{
	const uint8_t *data = tensor->data;
	for (size_t i = 0; i < count; i++)
		if (tensor->dtype == TENSOR_BF16)
			ret_wide[i] = bf16_at(data, first + i);
		else if (tensor->dtype == TENSOR_F16)
			ret_wide[i] = f16_at(data, first + i);
		else
			memcpy(&ret_wide[i], data + 4 * (first + i), 4);
}

/* The tensor's numbers in f32, plus `offset`; the caller's to free. */
static enum err widen_vector(struct load *load, const struct tensor *tensor, float offset, float **ret_wide)
{
	size_t count = tensor->dims[0];
	float *wide = malloc(count * sizeof(float));
	if (!wide)
		return why_set(load->why, ERR_NOMEM, "%s: no memory for %zu numbers", tensor->name, count);
	widen(tensor, 0, count, wide);
	for (size_t i = 0; i < count; i++)
		wide[i] += offset;
	*ret_wide = wide;
	return ERR_OK;
}

static enum err load_norm(struct load *load, const struct tensor *tensor, float **ret_vector)
{
	size_t bytes = tensor->dims[0] * sizeof(float);
	float *wide;
	void *memory;
	enum err e = widen_vector(load, tensor, load->config->norm_plus_one ? 1.0f : 0.0f, &wide);
	if (e != ERR_OK)
		return e;
	e = dev_alloc(load->to->device, MEM_DEVICE, bytes, &memory);
	if (e == ERR_OK) {
		*ret_vector = memory; /* now the weights' to free, whatever comes */
		e = dev_copy(load->to->device, memory, wide, bytes);
	} else {
		why_set(load->why, e, "%s: no memory for it", tensor->name);
	}
	free(wide);
	return e;
}

static enum err load_bias(struct load *load, const struct tensor *tensor, uint32_t first, struct linear *linear)
{
	float *wide;
	enum err e = widen_vector(load, tensor, 0.0f, &wide);
	if (e != ERR_OK)
		return e;
	e = linear_fill_bias(linear, first, (uint32_t)tensor->dims[0], wide);
	if (e != ERR_OK)
		why_set(load->why, e, "%s: no memory for it", tensor->name);
	free(wide);
	return e;
}

static enum err create_linear(struct load *load, const struct tensor_spec *spec, uint32_t segments,
			      struct linear **ret_linear)
{
	struct linear_shape shape = {.n = spec->total, .k = (uint32_t)spec->dims[1], .elem = load->to->elem,
				     .segments = segments};
	enum err e = linear_create(load->to->device, &shape, ret_linear);
	if (e == ERR_INVALID)
		return why_set(load->why, ERR_UNSUPPORTED, "%s: %u inputs do not divide into %u segments", spec->name,
			       shape.k, segments);
	if (e != ERR_OK)
		return why_set(load->why, e, "%s: no memory for %u x %u weights", spec->name, shape.n, shape.k);
	return ERR_OK;
}

/* Outputs from `first` on, widened piece by piece. */
static enum err fill_widened(struct load *load, const struct tensor *tensor, uint32_t first, struct linear *linear)
{
	uint32_t n = (uint32_t)tensor->dims[0], k = (uint32_t)tensor->dims[1];
	float *wide = malloc((size_t)WIDEN_ROWS * k * sizeof(float));
	if (!wide)
		return why_set(load->why, ERR_NOMEM, "%s: no memory to widen it", tensor->name);
	for (uint32_t row = 0; row < n; row += WIDEN_ROWS) {
		uint32_t count = n - row < WIDEN_ROWS ? n - row : WIDEN_ROWS;
		widen(tensor, (uint64_t)row * k, (size_t)count * k, wide);
		linear_fill(linear, first + row, count, wide, k);
	}
	free(wide);
	return ERR_OK;
}

/* Makes the role's linear when its first tensor comes. */
static enum err load_linear(struct load *load, const struct tensor_spec *spec, const struct tensor *tensor,
			    uint32_t segments, struct linear **linear)
{
	enum err e = *linear ? ERR_OK : create_linear(load, spec, segments, linear);
	if (e != ERR_OK)
		return e;
	if (tensor->dtype == TENSOR_F16)
		return fill_widened(load, tensor, spec->first, *linear);
	linear_fill(*linear, spec->first, (uint32_t)spec->dims[0], tensor->data, spec->dims[1]);
	return ERR_OK;
}

static enum err load_embedding(struct load *load, const struct tensor *tensor)
{
	struct engine_weights *to = load->to;
	size_t count = tensor->dims[0] * tensor->dims[1];
	enum err e = dev_alloc(to->device, MEM_DEVICE, count * elem_bytes(to->elem), &to->embedding);
	if (e != ERR_OK)
		return why_set(load->why, e, "%s: no memory for it", tensor->name);
	if (tensor->dtype != TENSOR_F16)
		return dev_copy(to->device, to->embedding, tensor->data, tensor->bytes);
	float *wide = malloc(tensor->dims[1] * sizeof(float));
	if (!wide)
		return why_set(load->why, ERR_NOMEM, "%s: no memory to widen it", tensor->name);
	for (uint64_t row = 0; row < tensor->dims[0] && e == ERR_OK; row++) {
		widen(tensor, row * tensor->dims[1], tensor->dims[1], wide);
		e = dev_copy(to->device, (float *)to->embedding + row * tensor->dims[1], wide,
			     tensor->dims[1] * sizeof(float));
	}
	free(wide);
	return e;
}

static enum err load_expert(struct load *load, const struct tensor_spec *spec, const struct tensor *tensor)
{
	struct layer_weights *layer = &load->to->layers[spec->layer];
	if (!layer->experts)
		layer->experts = calloc(load->config->experts.count, sizeof(*layer->experts));
	if (!layer->experts)
		return why_set(load->why, ERR_NOMEM, "%s: no memory for experts", spec->name);
	struct expert_weights *expert = &layer->experts[spec->expert];
	if (spec->role == TENSOR_EXPERT_DOWN)
		return load_linear(load, spec, tensor, LINEAR_SEGMENTS, &expert->down);
	return load_linear(load, spec, tensor, 1, &expert->gate_up);
}

static enum err load_tensor(struct load *load, const struct tensor_spec *spec, const struct tensor *tensor)
{
	struct engine_weights *to = load->to;
	struct layer_weights *layer = &to->layers[spec->layer];
	switch (spec->role) {
	case TENSOR_EMBEDDING:
		return load_embedding(load, tensor);
	case TENSOR_HEAD:
		return load_linear(load, spec, tensor, 1, &to->head);
	case TENSOR_FINAL_NORM:
		return load_norm(load, tensor, &to->final_norm);
	case TENSOR_ATTENTION_NORM:
		return load_norm(load, tensor, &layer->attention_norm);
	case TENSOR_ATTENTION_POST_NORM:
		return load_norm(load, tensor, &layer->attention_post_norm);
	case TENSOR_MLP_NORM:
		return load_norm(load, tensor, &layer->mlp_norm);
	case TENSOR_MLP_POST_NORM:
		return load_norm(load, tensor, &layer->mlp_post_norm);
	case TENSOR_QKV:
		return load_linear(load, spec, tensor, 1, &layer->qkv);
	case TENSOR_QKV_BIAS:
		return load_bias(load, tensor, spec->first, layer->qkv);
	case TENSOR_Q_NORM:
		return load_norm(load, tensor, &layer->q_norm);
	case TENSOR_K_NORM:
		return load_norm(load, tensor, &layer->k_norm);
	case TENSOR_OUTPUT:
		return load_linear(load, spec, tensor, LINEAR_SEGMENTS, &layer->output);
	case TENSOR_OUTPUT_BIAS:
		return load_bias(load, tensor, spec->first, layer->output);
	case TENSOR_GATE_UP:
		return load_linear(load, spec, tensor, 1, &layer->gate_up);
	case TENSOR_GATE_UP_BIAS:
		return load_bias(load, tensor, spec->first, layer->gate_up);
	case TENSOR_DOWN:
		return load_linear(load, spec, tensor, LINEAR_SEGMENTS, &layer->down);
	case TENSOR_DOWN_BIAS:
		return load_bias(load, tensor, spec->first, layer->down);
	case TENSOR_ROUTER:
		return load_linear(load, spec, tensor, 1, &layer->router);
	case TENSOR_EXPERT_GATE_UP:
	case TENSOR_EXPERT_DOWN:
		return load_expert(load, spec, tensor);
	}
	return ERR_INVALID;
}

static void tell_progress(struct load *load, uint32_t layer)
{
	uint32_t percent = layer * 100 / load->config->layer_count;
	if (percent < load->told + 25 || load->config->layer_count < 16)
		return;
	load->told = percent;
	log_info("weights: %u of %u layers packed", layer, load->config->layer_count);
}

static enum err load_one(void *arg, const struct tensor_spec *spec)
{
	struct load *load = arg;
	const struct tensor *tensor;
	enum err e = weights_want(load->from, spec->name, model_tensor_dtype(load->config), spec->dim_count, spec->dims,
				  load->why, &tensor);
	tell_progress(load, spec->layer);
	return e == ERR_OK ? load_tensor(load, spec, tensor) : e;
}

static enum err refuse_unknown(const struct model_config *config, struct why *why)
{
	if (config->attention != MODEL_ATTENTION_GROUPED)
		return why_set(why, ERR_UNSUPPORTED, "latent attention is not supported by this engine");
	if (config->experts.routing != MODEL_ROUTING_SOFTMAX || config->experts.shared_intermediate_size > 0)
		return why_set(why, ERR_UNSUPPORTED, "shared experts and sigmoid routing are not supported by this engine");
	if (config->head_dim < 16 || config->head_dim > 512 || config->head_dim % 16 != 0)
		return why_set(why, ERR_UNSUPPORTED, "head_dim %u: the engine wants a multiple of 16 in [16, 512]",
			       config->head_dim);
	if (config->head_count / config->kv_head_count > ATTENTION_GROUP_MAX)
		return why_set(why, ERR_UNSUPPORTED, "%u heads over %u of keys and values: the engine wants at most %d each",
			       config->head_count, config->kv_head_count, ATTENTION_GROUP_MAX);
	if (config->experts.count > MOE_EXPERTS_MAX || config->experts.top > MOE_TOP_K_MAX)
		return why_set(why, ERR_UNSUPPORTED, "%u experts, top %u: at most %d, top %d", config->experts.count,
			       config->experts.top, MOE_EXPERTS_MAX, MOE_TOP_K_MAX);
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
		.expert_count = config->experts.count,
		.layers = calloc(config->layer_count, sizeof(struct layer_weights)),
	};
	struct load load = {.to = weights, .config = config, .from = source, .why = why};
	e = weights->layers ? model_tensors_each(config, load_one, &load)
			    : why_set(why, ERR_NOMEM, "no memory for the layers' table");
	if (e != ERR_OK) {
		engine_weights_destroy(weights);
		return e;
	}
	*ret_weights = weights;
	return ERR_OK;
}

static void destroy_layer(struct engine_weights *weights, struct layer_weights *layer)
{
	float *const norms[] = {layer->attention_norm, layer->attention_post_norm, layer->mlp_norm, layer->mlp_post_norm};
	for (size_t i = 0; i < sizeof(norms) / sizeof(norms[0]); i++)
		dev_free(weights->device, MEM_DEVICE, norms[i], weights->hidden_size * sizeof(float));
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
