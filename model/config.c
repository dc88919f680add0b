#include "model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/json_in.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)

/* What an architecture's name says that its config.json does not. */
struct arch_row {
	const char *name;
	enum model_arch arch;
	bool qkv_bias;
	bool qk_norm;
	bool head_dim_required; /* the library's default is not hidden / heads */
};

static const struct arch_row arch_rows[] = {
	{"LlamaForCausalLM", MODEL_ARCH_LLAMA, false, false, false},
	{"MistralForCausalLM", MODEL_ARCH_LLAMA, false, false, false},
	{"Qwen2ForCausalLM", MODEL_ARCH_LLAMA, true, false, false},
	{"Qwen3ForCausalLM", MODEL_ARCH_LLAMA, false, true, true},
	{"MixtralForCausalLM", MODEL_ARCH_MIXTRAL, false, false, false},
	{"Qwen3MoeForCausalLM", MODEL_ARCH_QWEN3_MOE, false, true, true},
};

/* Keys of related families that change the arithmetic: none of them may be set. */
static const char *const refused_keys[] = {
	"quantization_config", "attn_logit_softcapping", "final_logit_softcapping", "logits_scaling",
	"embedding_multiplier", "residual_multiplier", "attention_multiplier", "query_pre_attn_scalar",
	"clip_qkv", "no_rope_layers", "n_group", "topk_group", "n_shared_experts",
	"shared_expert_intermediate_size", "q_lora_rank", "kv_lora_rank",
};

const char *model_arch_name(enum model_arch arch)
{
	switch (arch) {
	case MODEL_ARCH_LLAMA:
		return "llama";
	case MODEL_ARCH_MIXTRAL:
		return "mixtral";
	case MODEL_ARCH_QWEN3_MOE:
		return "qwen3_moe";
	}
	return "unknown";
}

bool model_config_is_eos(const struct model_config *config, uint32_t id)
{
	for (uint32_t i = 0; i < config->eos_count; i++)
		if (config->eos_ids[i] == id)
			return true;
	return false;
}

static const struct arch_row *read_arch(struct json_in *in)
{
	const json_t *list = json_in_get(in, "architectures");
	const char *name = json_array_size(list) == 1 ? json_string_value(json_array_get(list, 0)) : NULL;
	for (size_t i = 0; name && i < sizeof(arch_rows) / sizeof(arch_rows[0]); i++)
		if (strcmp(arch_rows[i].name, name) == 0)
			return &arch_rows[i];
	json_in_refuse(in, ERR_UNSUPPORTED, "architectures",
		       "one of LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "
		       "MixtralForCausalLM, Qwen3MoeForCausalLM");
	return NULL;
}

static enum model_dtype read_dtype(struct json_in *in)
{
	const char *key = json_in_has(in, "torch_dtype") ? "torch_dtype" : "dtype";
	const char *name = json_in_text(in, key);
	if (name && strcmp(name, "bfloat16") == 0)
		return MODEL_BF16;
	if (name && strcmp(name, "float32") == 0)
		return MODEL_F32;
	json_in_refuse(in, ERR_UNSUPPORTED, name ? key : "torch_dtype", "\"bfloat16\" or \"float32\"");
	return MODEL_BF16;
}

static void read_sizes(struct json_in *in, const struct arch_row *row, struct model_config *config)
{
	config->vocab_size = json_in_u32(in, "vocab_size", 2, 1 << 21, NULL);
	config->hidden_size = json_in_u32(in, "hidden_size", 1, 1 << 16, NULL);
	config->intermediate_size = json_in_u32(in, "intermediate_size", 1, 1 << 20, NULL);
	config->layer_count = json_in_u32(in, "num_hidden_layers", 1, MODEL_LAYERS_MAX, NULL);
	config->head_count = json_in_u32(in, "num_attention_heads", 1, 1024, NULL);
	config->kv_head_count = json_in_u32(in, "num_key_value_heads", 1, 1024,
					    row->arch == MODEL_ARCH_LLAMA ? &config->head_count : NULL);
	config->position_max = json_in_u32(in, "max_position_embeddings", 1, 1 << 26, NULL);
	config->rms_norm_eps = json_in_f64(in, "rms_norm_eps", 1e-12, 1e-1, NULL);
	config->tie_word_embeddings = json_in_bool(in, "tie_word_embeddings", false);
	if (in->e != ERR_OK)
		return;

	if (config->head_count % config->kv_head_count != 0)
		json_in_refuse(in, ERR_INVALID, "num_key_value_heads", "a divisor of num_attention_heads");
	uint32_t quotient = config->hidden_size / config->head_count;
	bool even = config->hidden_size % config->head_count == 0;
	bool required = row->head_dim_required || !even;
	config->head_dim = json_in_u32(in, "head_dim", 2, 1024, required ? NULL : &quotient);
	if (config->head_dim % 2 != 0)
		json_in_refuse(in, ERR_INVALID, "head_dim", "an even number (hidden_size / num_attention_heads)");
}

static void read_rope(struct json_in *in, const struct arch_row *row, struct model_config *config)
{
	/* "rope_parameters" is what newer configs say instead of rope_theta and rope_scaling. */
	static const char *const keys[] = {"rope_scaling", "rope_parameters"};
	struct json_in theta = *in;
	for (size_t i = 0; i < 2; i++) {
		const json_t *scaling = json_in_get(in, keys[i]);
		if (!scaling)
			continue;
		const json_t *type = json_object_get(scaling, "rope_type");
		if (!type)
			type = json_object_get(scaling, "type");
		if (!json_is_object(scaling) || (type && (!json_is_string(type) ||
							  strcmp(json_string_value(type), "default") != 0)))
			json_in_refuse(in, ERR_UNSUPPORTED, keys[i], "null or the rope_type \"default\"");
		if (i == 1 && !json_in_has(in, "rope_theta"))
			theta.object = scaling;
	}
	theta.e = in->e;
	static const double theta_default = 10000.0;
	config->rope_theta = json_in_f64(&theta, "rope_theta", 1.0, 1e12,
					 row->arch == MODEL_ARCH_LLAMA ? &theta_default : NULL);
	in->e = theta.e;
	static const double whole = 1.0;
	if (json_in_f64(in, "partial_rotary_factor", 0.0, 1.0, &whole) != 1.0)
		json_in_refuse(in, ERR_UNSUPPORTED, "partial_rotary_factor", "1");
}

/* Every layer sees every token before it: no sliding window, in any of the ways to ask for one. */
static void read_attention(struct json_in *in, const struct arch_row *row, struct model_config *config)
{
	bool bias = json_in_bool(in, "attention_bias", false);
	config->qkv_bias = row->qkv_bias || bias;
	config->o_bias = bias;
	config->qk_norm = row->qk_norm;

	const json_t *window = json_in_get(in, "sliding_window");
	bool used = json_in_bool(in, "use_sliding_window", strncmp(row->name, "Qwen", 4) != 0);
	if (window && used && !(json_is_integer(window) && json_integer_value(window) >= config->position_max))
		json_in_refuse(in, ERR_UNSUPPORTED, "sliding_window",
			       "null, use_sliding_window false, or at least max_position_embeddings");
	const json_t *types = json_in_get(in, "layer_types");
	for (size_t i = 0; i < json_array_size(types); i++) {
		const char *type = json_string_value(json_array_get(types, i));
		if (!type || strcmp(type, "full_attention") != 0)
			json_in_refuse(in, ERR_UNSUPPORTED, "layer_types", "\"full_attention\" everywhere");
	}
	config->groups[0] = (struct model_layer_group){.layer_count = config->layer_count};
	config->group_count = 1;
}

static void read_experts(struct json_in *in, struct model_config *config)
{
	if (config->arch == MODEL_ARCH_LLAMA)
		return;
	bool mixtral = config->arch == MODEL_ARCH_MIXTRAL;
	const char *count_key = mixtral ? "num_local_experts" : "num_experts";
	config->expert_count = json_in_u32(in, count_key, 1, MODEL_EXPERTS_MAX, NULL);
	config->expert_top = json_in_u32(in, "num_experts_per_tok", 1, 64, NULL);
	if (config->expert_top > config->expert_count)
		json_in_refuse(in, ERR_INVALID, "num_experts_per_tok", "at most the number of experts");
	config->expert_intermediate_size = mixtral ? config->intermediate_size
						   : json_in_u32(in, "moe_intermediate_size", 1, 1 << 20, NULL);
	config->norm_topk_prob = mixtral || json_in_bool(in, "norm_topk_prob", false);
	static const uint32_t one = 1;
	if (json_in_u32(in, "decoder_sparse_step", 0, MODEL_LAYERS_MAX, &one) != 1)
		json_in_refuse(in, ERR_UNSUPPORTED, "decoder_sparse_step", "1: experts in every layer");
	if (json_array_size(json_in_get(in, "mlp_only_layers")) > 0)
		json_in_refuse(in, ERR_UNSUPPORTED, "mlp_only_layers", "[]: experts in every layer");
}

static void read_refused(struct json_in *in)
{
	for (size_t i = 0; i < sizeof(refused_keys) / sizeof(refused_keys[0]); i++)
		if (json_in_has(in, refused_keys[i]))
			json_in_refuse(in, ERR_UNSUPPORTED, refused_keys[i], "no such key, or null");
	if (json_in_bool(in, "mlp_bias", false))
		json_in_refuse(in, ERR_UNSUPPORTED, "mlp_bias", "false");
	const char *activation = json_in_text(in, "hidden_act");
	if (activation && strcmp(activation, "silu") != 0)
		json_in_refuse(in, ERR_UNSUPPORTED, "hidden_act", "\"silu\"");
}

static uint32_t token_id(struct json_in *in, const char *key, const json_t *value, uint32_t vocab_size)
{
	json_int_t id = json_integer_value(value);
	if (json_is_integer(value) && id >= 0 && id < (json_int_t)vocab_size)
		return (uint32_t)id;
	json_in_refuse(in, ERR_INVALID, key, "a token id below vocab_size, or a list of them");
	return 0;
}

/* Absent keys leave what was there: generation_config.json is read after config.json. */
static void read_token_ids(struct json_in *in, struct model_config *config)
{
	const json_t *bos = json_in_get(in, "bos_token_id");
	if (bos)
		config->bos_id = token_id(in, "bos_token_id", bos, config->vocab_size);
	const json_t *eos = json_in_get(in, "eos_token_id");
	if (!eos)
		return;
	size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
	if (count > MODEL_EOS_MAX) {
		json_in_refuse(in, ERR_TOO_LARGE, "eos_token_id", "at most 16 ids");
		return;
	}
	config->eos_count = (uint32_t)count;
	for (size_t i = 0; i < count; i++)
		config->eos_ids[i] = token_id(in, "eos_token_id",
					      json_is_array(eos) ? json_array_get(eos, i) : eos,
					      config->vocab_size);
}

static enum err read_config(const json_t *object, struct why *why, struct model_config *ret_config)
{
	struct json_in in = {.object = object, .file = "config.json", .why = why};
	struct model_config config = {.bos_id = MODEL_NO_TOKEN};
	const struct arch_row *row = read_arch(&in);
	if (!row)
		return in.e;
	config.arch = row->arch;
	config.dtype = read_dtype(&in);
	read_sizes(&in, row, &config);
	if (in.e != ERR_OK)
		return in.e;
	read_rope(&in, row, &config);
	read_attention(&in, row, &config);
	read_experts(&in, &config);
	read_refused(&in);
	read_token_ids(&in, &config);
	if (in.e == ERR_OK)
		*ret_config = config;
	return in.e;
}

static enum err read_generation(const char *json, size_t length, struct why *why, struct model_config *config)
{
	json_t *object = NULL;
	enum err e = json_in_parse(json, length, "generation_config.json", why, &object);
	if (e != ERR_OK)
		return e;
	struct json_in in = {.object = object, .file = "generation_config.json", .why = why};
	read_token_ids(&in, config);
	json_decref(object);
	return in.e;
}

enum err model_config_parse(const char *json, size_t length, const char *generation, size_t generation_length,
			    struct why *why, struct model_config *ret_config)
{
	if (length > CONFIG_BYTES_MAX || (generation && generation_length > CONFIG_BYTES_MAX))
		return why_set(why, ERR_TOO_LARGE, "config.json: expected at most %zu bytes", CONFIG_BYTES_MAX);
	json_t *object = NULL;
	enum err e = json_in_parse(json, length, "config.json", why, &object);
	if (e != ERR_OK)
		return e;
	struct model_config config;
	e = read_config(object, why, &config);
	json_decref(object);
	if (e == ERR_OK && generation)
		e = read_generation(generation, generation_length, why, &config);
	if (e == ERR_OK)
		*ret_config = config;
	return e;
}

enum err model_config_read(const char *dir, struct why *why, struct model_config *ret_config)
{
	char path[4096];
	char *config = NULL, *generation = NULL;
	size_t length = 0, generation_length = 0;
	snprintf(path, sizeof(path), "%s/config.json", dir);
	enum err e = file_read(path, CONFIG_BYTES_MAX, why, &config, &length);
	if (e != ERR_OK)
		return e;
	snprintf(path, sizeof(path), "%s/generation_config.json", dir);
	e = file_read(path, CONFIG_BYTES_MAX, why, &generation, &generation_length);
	if (e == ERR_OK || e == ERR_NOT_FOUND) {
		e = model_config_parse(config, length, generation, generation_length, why, ret_config);
		if (e != ERR_OK)
			why_prefix(why, "%s", dir);
	}
	free(generation);
	free(config);
	return e;
}
