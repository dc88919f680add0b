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

static void emit_one(struct walk *walk, enum tensor_role role, const char *name, uint32_t rows, uint32_t columns)
{
	emit_linear(walk, role, &name, &rows, 1, columns, false, role);
}

static void emit_latent_attention(struct walk *walk)
{
	const struct model_config *c = walk->config;
	const struct model_latent *latent = &c->latent;
	bool two_steps = latent->q_lora_rank > 0;
	uint32_t queries = c->head_count * c->head_dim, kv = latent->kv_lora_rank + latent->qk_rope_head_dim;
	const char *const names[] = {two_steps ? "q_a_proj" : "q_proj", "kv_a_proj_with_mqa"};
	enter(walk, "%slayers.%u.self_attn.", c->names->prefix, walk->layer);
	emit_linear(walk, TENSOR_QKV, names, (uint32_t[]){two_steps ? latent->q_lora_rank : queries, kv}, 2,
		    c->hidden_size, false, TENSOR_QKV);
	if (two_steps) {
		emit_vector(walk, TENSOR_Q_NORM, "q_a_layernorm", latent->q_lora_rank);
		emit_one(walk, TENSOR_QUERY_UP, "q_b_proj", queries, latent->q_lora_rank);
	}
	emit_vector(walk, TENSOR_K_NORM, "kv_a_layernorm", latent->kv_lora_rank);
	emit_one(walk, TENSOR_KEY_VALUE_UP, "kv_b_proj",
		 c->head_count * (latent->qk_nope_head_dim + latent->v_head_dim), latent->kv_lora_rank);
	emit_one(walk, TENSOR_OUTPUT, "o_proj", c->hidden_size, c->head_count * latent->v_head_dim);
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
	if (c->sinks) {
		struct tensor_spec spec = {.role = TENSOR_SINKS, .dim_count = 1, .dims = {c->head_count},
					   .total = c->head_count};
		emit(walk, &spec, "sinks", "");
	}
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

static void emit_router(struct walk *walk)
{
	const struct model_config *c = walk->config;
	struct tensor_spec bias = {.role = TENSOR_ROUTER_CHOICE_BIAS, .dim_count = 1, .dims = {c->experts.count},
				   .total = c->experts.count};
	enter(walk, "%slayers.%u.%s.", c->names->prefix, walk->layer, c->names->experts);
	emit_linear(walk, TENSOR_ROUTER, &c->names->router, &c->experts.count, 1, c->hidden_size, c->experts.bias,
		    TENSOR_ROUTER_BIAS);
	if (c->experts.routing == MODEL_ROUTING_SIGMOID)
		emit(walk, &bias, "gate.e_score_correction_bias", "");
}

static void emit_shared(struct walk *walk)
{
	const struct model_config *c = walk->config;
	uint32_t inner = c->experts.shared_intermediate_size;
	if (c->experts.shared_gate)
		emit_one(walk, TENSOR_SHARED_GATE, c->names->shared_gate, 1, c->hidden_size);
	enter(walk, "%slayers.%u.%s.%s.", c->names->prefix, walk->layer, c->names->experts, c->names->shared);
	emit_linear(walk, TENSOR_SHARED_GATE_UP, c->names->expert_parts, (uint32_t[]){inner, inner}, 2, c->hidden_size,
		    false, TENSOR_SHARED_GATE_UP);
	emit_one(walk, TENSOR_SHARED_DOWN, c->names->expert_parts[2], c->hidden_size, inner);
}

/* An expert's weights and their bias, in tensors that hold those of all. */
static void emit_stacked(struct walk *walk, enum tensor_role role, enum tensor_role bias, const char *name, uint32_t rows,
			 uint32_t columns)
{
	const struct model_experts *experts = &walk->config->experts;
	struct tensor_spec spec = {.role = role, .dim_count = 2, .dims = {rows, columns}, .total = rows,
				   .stack = experts->count};
	emit(walk, &spec, name, "");
	if (experts->bias) {
		spec = (struct tensor_spec){.role = bias, .dim_count = 1, .dims = {rows}, .total = rows,
					    .stack = experts->count};
		emit(walk, &spec, name, "_bias");
	}
}

static void emit_stacks(struct walk *walk)
{
	const struct model_config *c = walk->config;
	const char *const *names = c->names->expert_stacks;
	uint32_t inner = c->experts.intermediate_size;
	for (walk->expert = 0; walk->expert < c->experts.count && walk->e == ERR_OK; walk->expert++) {
		emit_stacked(walk, TENSOR_EXPERT_GATE_UP, TENSOR_EXPERT_GATE_UP_BIAS, names[0], 2 * inner, c->hidden_size);
		emit_stacked(walk, TENSOR_EXPERT_DOWN, TENSOR_EXPERT_DOWN_BIAS, names[1], c->hidden_size, inner);
	}
	walk->expert = 0;
}

static void emit_each_expert(struct walk *walk)
{
	const struct model_config *c = walk->config;
	const struct model_names *names = c->names;
	uint32_t inner = c->experts.intermediate_size;
	for (walk->expert = 0; walk->expert < c->experts.count && walk->e == ERR_OK; walk->expert++) {
		enter(walk, "%slayers.%u.%s.experts.%u.", names->prefix, walk->layer, names->experts, walk->expert);
		emit_linear(walk, TENSOR_EXPERT_GATE_UP, names->expert_parts, (uint32_t[]){inner, inner}, 2,
			    c->hidden_size, false, TENSOR_EXPERT_GATE_UP);
		emit_one(walk, TENSOR_EXPERT_DOWN, names->expert_parts[2], c->hidden_size, inner);
	}
	walk->expert = 0;
}

static void emit_experts(struct walk *walk)
{
	const struct model_config *c = walk->config;
	emit_router(walk);
	if (c->experts.shared_intermediate_size > 0)
		emit_shared(walk);
	if (c->names->expert_stacks[0])
		emit_stacks(walk);
	else
		emit_each_expert(walk);
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
	if (c->attention == MODEL_ATTENTION_LATENT)
		emit_latent_attention(walk);
	else
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

static bool may_be_fp8(const struct model_config *config, const struct tensor_spec *spec)
{
	return config->fp8_blocks && spec->dim_count == 2 && spec->role != TENSOR_EMBEDDING && spec->role != TENSOR_HEAD &&
	       spec->role != TENSOR_ROUTER && spec->role != TENSOR_SHARED_GATE;
}

/* Of experts in one tensor, which must be there as config.json says, packed or plain. */
static enum err find_stack(const struct model_config *config, const struct weights *weights,
			   const struct tensor_spec *spec, struct why *why, struct tensor_found *found)
{
	char blocks[sizeof(spec->name) + 16], scales[sizeof(spec->name) + 16];
	uint64_t outputs = spec->dims[0], inputs = spec->dims[1];
	const uint64_t plain[] = {spec->stack, inputs, outputs}, bias[] = {spec->stack, outputs};
	const uint64_t packed[] = {spec->stack, outputs, inputs / MODEL_MXFP4_BLOCK, MODEL_MXFP4_BLOCK / 2};
	found->expert = spec->expert;
	if (spec->dim_count == 1)
		return weights_want(weights, spec->name, model_tensor_dtype(config), 2, bias, why, &found->tensor);
	if (!config->mxfp4_experts)
		return weights_want(weights, spec->name, model_tensor_dtype(config), 3, plain, why, &found->tensor);
	snprintf(blocks, sizeof(blocks), "%s_blocks", spec->name);
	snprintf(scales, sizeof(scales), "%s_scales", spec->name);
	enum err e = weights_want(weights, blocks, TENSOR_U8, 4, packed, why, &found->tensor);
	return e == ERR_OK ? weights_want(weights, scales, TENSOR_U8, 3, packed, why, &found->scale) : e;
}

static enum err find_scale(const struct weights *weights, const struct tensor_spec *spec, struct why *why,
			   const struct tensor **ret_scale)
{
	char name[sizeof(spec->name) + 16];
	uint64_t dims[2];
	for (int i = 0; i < 2; i++)
		dims[i] = (spec->dims[i] + TENSOR_SCALE_BLOCK - 1) / TENSOR_SCALE_BLOCK;
	snprintf(name, sizeof(name), "%s_scale_inv", spec->name);
	const struct tensor *stored = weights_find(weights, name);
	enum tensor_dtype dtype = stored && stored->dtype == TENSOR_BF16 ? TENSOR_BF16 : TENSOR_F32;
	return weights_want(weights, name, dtype, 2, dims, why, ret_scale);
}

enum err model_tensor_find(const struct model_config *config, const struct weights *weights,
			   const struct tensor_spec *spec, struct why *why, struct tensor_found *ret_found)
{
	struct tensor_found found = {0};
	const struct tensor *stored = weights_find(weights, spec->name);
	enum tensor_dtype dtype = model_tensor_dtype(config);
	enum err e;
	if (stored && stored->dtype == TENSOR_F8_E4M3 && may_be_fp8(config, spec))
		dtype = TENSOR_F8_E4M3;
	if (stored && stored->dtype == TENSOR_F32 && spec->role == TENSOR_ROUTER_CHOICE_BIAS)
		dtype = TENSOR_F32;
	if (spec->stack > 0)
		e = find_stack(config, weights, spec, why, &found);
	else
		e = weights_want(weights, spec->name, dtype, spec->dim_count, spec->dims, why, &found.tensor);
	if (e == ERR_OK && dtype == TENSOR_F8_E4M3)
		e = find_scale(weights, spec, why, &found.scale);
	if (e == ERR_OK)
		*ret_found = found;
	return e;
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
	const struct tensor *first = weights_at(check->weights, 0);
	struct tensor_found found;
	enum err e = model_tensor_find(check->config, check->weights, spec, check->why, &found);
	if (e != ERR_OK)
		return e;
	check->used[found.tensor - first] = true;
	if (found.scale)
		check->used[found.scale - first] = true;
	return ERR_OK;
}

/* Of a layer behind the last: "model.layers.61.…" of a model of 61. */
static bool is_extra(const struct model_config *config, const char *name)
{
	char prefix[64];
	for (uint32_t i = 0; i < config->extra_layer_count; i++) {
		int length = snprintf(prefix, sizeof(prefix), "%slayers.%u.", config->names->prefix,
				      config->layer_count + i);
		if (strncmp(name, prefix, (size_t)length) == 0)
			return true;
	}
	return false;
}

static bool may_be_left_over(const struct model_config *config, const char *name)
{
	static const char suffix[] = ".rotary_emb.inv_freq";
	size_t length = strlen(name);
	if ((config->tie_word_embeddings && strcmp(name, "lm_head.weight") == 0) || is_extra(config, name))
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
