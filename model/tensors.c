#include "model/tensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first error stays; what follows is skipped. */
struct walk {
	enum err (*each)(void *arg, const struct tensor_spec *spec);
	void *arg;
	enum err e;
};

__attribute__((format(printf, 4, 5))) static void emit(struct walk *walk, uint64_t rows, uint64_t columns,
						       const char *format, ...)
{
	if (walk->e != ERR_OK)
		return;
	struct tensor_spec spec = {.dim_count = columns ? 2 : 1, .dims = {rows, columns}};
	va_list args;
	va_start(args, format);
	vsnprintf(spec.name, sizeof(spec.name), format, args);
	va_end(args);
	walk->e = walk->each(walk->arg, &spec);
}

static void emit_attention(struct walk *walk, const struct model_config *config, uint32_t layer)
{
	static const char name[] = "qkvo";
	uint32_t q = config->head_count * config->head_dim;
	uint32_t kv = config->kv_head_count * config->head_dim;
	for (int i = 0; i < 4; i++) {
		uint32_t out = i == 0 ? q : i == 3 ? config->hidden_size : kv;
		uint32_t in = i == 3 ? q : config->hidden_size;
		emit(walk, out, in, "model.layers.%u.self_attn.%c_proj.weight", layer, name[i]);
		if (i == 3 ? config->o_bias : config->qkv_bias)
			emit(walk, out, 0, "model.layers.%u.self_attn.%c_proj.bias", layer, name[i]);
	}
	if (config->qk_norm) {
		emit(walk, config->head_dim, 0, "model.layers.%u.self_attn.q_norm.weight", layer);
		emit(walk, config->head_dim, 0, "model.layers.%u.self_attn.k_norm.weight", layer);
	}
}

static void emit_experts(struct walk *walk, const struct model_config *config, uint32_t layer)
{
	bool mixtral = config->arch == MODEL_ARCH_MIXTRAL;
	const char *block = mixtral ? "block_sparse_moe" : "mlp";
	/* gate, up, down; Mixtral numbers them in another order. */
	static const char *const names[2][3] = {{"gate_proj", "up_proj", "down_proj"}, {"w1", "w3", "w2"}};
	uint32_t hidden = config->hidden_size, inner = config->expert_intermediate_size;
	emit(walk, config->expert_count, hidden, "model.layers.%u.%s.gate.weight", layer, block);
	for (uint32_t x = 0; x < config->expert_count; x++)
		for (int i = 0; i < 3; i++)
			emit(walk, i == 2 ? hidden : inner, i == 2 ? inner : hidden,
			     "model.layers.%u.%s.experts.%u.%s.weight", layer, block, x, names[mixtral][i]);
}

static void emit_dense(struct walk *walk, const struct model_config *config, uint32_t layer)
{
	uint32_t hidden = config->hidden_size, inner = config->intermediate_size;
	emit(walk, inner, hidden, "model.layers.%u.mlp.gate_proj.weight", layer);
	emit(walk, inner, hidden, "model.layers.%u.mlp.up_proj.weight", layer);
	emit(walk, hidden, inner, "model.layers.%u.mlp.down_proj.weight", layer);
}

enum err model_tensors_each(const struct model_config *config,
			    enum err (*each)(void *arg, const struct tensor_spec *spec), void *arg)
{
	struct walk walk = {.each = each, .arg = arg};
	uint32_t hidden = config->hidden_size;
	emit(&walk, config->vocab_size, hidden, "model.embed_tokens.weight");
	for (uint32_t layer = 0; layer < config->layer_count && walk.e == ERR_OK; layer++) {
		emit(&walk, hidden, 0, "model.layers.%u.input_layernorm.weight", layer);
		emit_attention(&walk, config, layer);
		emit(&walk, hidden, 0, "model.layers.%u.post_attention_layernorm.weight", layer);
		if (config->expert_count)
			emit_experts(&walk, config, layer);
		else
			emit_dense(&walk, config, layer);
	}
	emit(&walk, hidden, 0, "model.norm.weight");
	if (!config->tie_word_embeddings)
		emit(&walk, config->vocab_size, hidden, "lm_head.weight");
	return walk.e;
}

enum tensor_dtype model_tensor_dtype(const struct model_config *config)
{
	return config->dtype == MODEL_BF16 ? TENSOR_BF16 : TENSOR_F32;
}

struct check {
	const struct model_config *config;
	const struct weights *weights;
	struct why *why;
	bool *used; /* [weights_count] */
};

static enum err check_one(void *arg, const struct tensor_spec *spec)
{
	struct check *check = arg;
	const struct tensor *tensor;
	enum err e = weights_want(check->weights, spec->name, model_tensor_dtype(check->config), spec->dim_count,
				  spec->dims, check->why, &tensor);
	if (e == ERR_OK)
		check->used[tensor - weights_at(check->weights, 0)] = true;
	return e;
}

static bool may_be_left_over(const struct model_config *config, const char *name)
{
	static const char suffix[] = ".rotary_emb.inv_freq";
	size_t length = strlen(name);
	if (config->tie_word_embeddings && strcmp(name, "lm_head.weight") == 0)
		return true;
	return length > sizeof(suffix) - 1 && strcmp(name + length - (sizeof(suffix) - 1), suffix) == 0;
}

enum err model_tensors_check(const struct model_config *config, const struct weights *weights, struct why *why)
{
	size_t count = weights_count(weights);
	struct check check = {config, weights, why, calloc(count + 1, sizeof(bool))};
	if (!check.used)
		return ERR_NOMEM;
	enum err e = model_tensors_each(config, check_one, &check);
	for (size_t i = 0; e == ERR_OK && i < count; i++) {
		const struct tensor *tensor = weights_at(weights, i);
		if (!check.used[i] && !may_be_left_over(config, tensor->name))
			e = why_set(why, ERR_MISMATCH, "%s: tensor %s is no part of a %s model of this config.json",
				    weights_shard_name(weights, tensor->shard_index), tensor->name,
				    model_arch_name(config->arch));
	}
	free(check.used);
	return e;
}
