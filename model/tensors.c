#include "model/tensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first error stays; what follows is skipped. */
struct walk {
	const struct model_config *config;
	enum err (*each)(void *arg, const struct tensor_spec *spec);
	void *arg;
	enum err e;
	char below[96]; /* where the tensors are: "model.layers.3.mlp." */
	uint32_t layer, expert;
};

__attribute__((format(printf, 2, 3))) static void enter(struct walk *walk, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(walk->below, sizeof(walk->below), format, args);
	va_end(args);
}

static void emit(struct walk *walk, struct tensor_spec *spec, const char *name, const char *kind)
{
	spec->layer = walk->layer;
	spec->expert = walk->expert;
	snprintf(spec->name, sizeof(spec->name), "%s%s%s", walk->below, name, kind);
	if (walk->e == ERR_OK)
		walk->e = walk->each(walk->arg, spec);
}

/* Nothing, for a family without that norm. */
static void emit_vector(struct walk *walk, enum tensor_role role, const char *name, uint32_t count)
{
	struct tensor_spec spec = {.role = role, .dim_count = 1, .dims = {count}, .total = count};
	if (name)
		emit(walk, &spec, name, ".weight");
}

/* Weights over `columns` inputs from tensors of so many rows each, and the bias of each tensor.  Where the second
 * has no name, the first holds all of them. */
static void emit_linear(struct walk *walk, enum tensor_role role, const char *const *names, const uint32_t *rows,
			uint32_t count, uint32_t columns, bool biased, enum tensor_role bias)
{
	uint32_t total = 0, first = 0;
	for (uint32_t i = 0; i < count; i++)
		total += rows[i];
	for (uint32_t i = 0; i < count && first < total; i++) {
		uint32_t outputs = i + 1 < count && !names[i + 1] ? total : rows[i];
		struct tensor_spec spec = {.role = role, .dim_count = 2, .dims = {outputs, columns}, .first = first,
					   .total = total};
		emit(walk, &spec, names[i], ".weight");
		if (biased) {
			spec = (struct tensor_spec){.role = bias, .dim_count = 1, .dims = {outputs}, .first = first,
						    .total = total};
			emit(walk, &spec, names[i], ".bias");
		}
		first += outputs;
	}
}

static void emit_attention(struct walk *walk)
{
	const struct model_config *c = walk->config;
	uint32_t q = c->head_count * c->head_dim, kv = c->kv_head_count * c->head_dim;
	static const char *const output[] = {"o_proj"};
	enter(walk, "%slayers.%u.self_attn.", c->names->prefix, walk->layer);
	emit_linear(walk, TENSOR_QKV, c->names->qkv, (uint32_t[]){q, kv, kv}, 3, c->hidden_size, c->qkv_bias,
		    TENSOR_QKV_BIAS);
	emit_linear(walk, TENSOR_OUTPUT, output, &c->hidden_size, 1, q, c->o_bias, TENSOR_OUTPUT_BIAS);
	if (c->qk_norm) {
		emit_vector(walk, TENSOR_Q_NORM, "q_norm", c->head_dim);
		emit_vector(walk, TENSOR_K_NORM, "k_norm", c->head_dim);
	}
}

static void emit_mlp(struct walk *walk)
{
	const struct model_config *c = walk->config;
	uint32_t inner = c->intermediate_size;
	static const char *const down[] = {"down_proj"};
	enter(walk, "%slayers.%u.mlp.", c->names->prefix, walk->layer);
	emit_linear(walk, TENSOR_GATE_UP, c->names->gate_up, (uint32_t[]){inner, inner}, 2, c->hidden_size, c->mlp_bias,
		    TENSOR_GATE_UP_BIAS);
	emit_linear(walk, TENSOR_DOWN, down, &c->hidden_size, 1, inner, c->mlp_bias, TENSOR_DOWN_BIAS);
}

static void emit_experts(struct walk *walk)
{
	const struct model_config *c = walk->config;
	const struct model_names *names = c->names;
	uint32_t inner = c->experts.intermediate_size;
	static const char *const router[] = {"gate"};
	enter(walk, "%slayers.%u.%s.", names->prefix, walk->layer, names->experts);
	emit_linear(walk, TENSOR_ROUTER, router, &c->experts.count, 1, c->hidden_size, false, TENSOR_ROUTER);
	for (walk->expert = 0; walk->expert < c->experts.count && walk->e == ERR_OK; walk->expert++) {
		enter(walk, "%slayers.%u.%s.experts.%u.", names->prefix, walk->layer, names->experts, walk->expert);
		emit_linear(walk, TENSOR_EXPERT_GATE_UP, names->expert_parts, (uint32_t[]){inner, inner}, 2,
			    c->hidden_size, false, TENSOR_EXPERT_GATE_UP);
		emit_linear(walk, TENSOR_EXPERT_DOWN, names->expert_parts + 2, &c->hidden_size, 1, inner, false,
			    TENSOR_EXPERT_DOWN);
	}
	walk->expert = 0;
}

static void emit_layer(struct walk *walk)
{
	const struct model_config *c = walk->config;
	uint32_t hidden = c->hidden_size;
	enter(walk, "%slayers.%u.", c->names->prefix, walk->layer);
	emit_vector(walk, TENSOR_ATTENTION_NORM, c->names->attention_norm, hidden);
	emit_vector(walk, TENSOR_ATTENTION_POST_NORM, c->names->attention_post_norm, hidden);
	emit_vector(walk, TENSOR_MLP_NORM, c->names->mlp_norm, hidden);
	emit_vector(walk, TENSOR_MLP_POST_NORM, c->names->mlp_post_norm, hidden);
	emit_attention(walk);
	if (c->layers[walk->layer].mlp == MODEL_MLP_EXPERTS)
		emit_experts(walk);
	else
		emit_mlp(walk);
}

static void emit_table(struct walk *walk, enum tensor_role role, const char *name)
{
	emit_linear(walk, role, &name, &walk->config->vocab_size, 1, walk->config->hidden_size, false, role);
}

enum err model_tensors_each(const struct model_config *config,
			    enum err (*each)(void *arg, const struct tensor_spec *spec), void *arg)
{
	struct walk walk = {.config = config, .each = each, .arg = arg};
	bool tied = config->tie_word_embeddings;
	enter(&walk, "%s", config->names->prefix);
	emit_table(&walk, tied ? TENSOR_HEAD : TENSOR_EMBEDDING, "embed_tokens");
	for (; walk.layer < config->layer_count && walk.e == ERR_OK; walk.layer++)
		emit_layer(&walk);
	walk.layer = 0;
	enter(&walk, "%s", config->names->prefix);
	emit_vector(&walk, TENSOR_FINAL_NORM, "norm", config->hidden_size);
	enter(&walk, "%s", "");
	if (!tied)
		emit_table(&walk, TENSOR_HEAD, "lm_head");
	return walk.e;
}

enum tensor_dtype model_tensor_dtype(const struct model_config *config)
{
	static const enum tensor_dtype dtypes[] = {[MODEL_BF16] = TENSOR_BF16, [MODEL_F32] = TENSOR_F32,
						   [MODEL_F16] = TENSOR_F16};
	return dtypes[config->dtype];
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
	for (int i = 0; i < 2 && config->names->beside[i]; i++)
		if (strncmp(name, config->names->beside[i], strlen(config->names->beside[i])) == 0)
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
				    config->family);
	}
	free(check.used);
	return e;
}
