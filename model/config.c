#include "model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/family_impl.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)

/* Keys that change the arithmetic: a family reads them, or they may not be set. */
static const char *const refused_keys[] = {
	"quantization_config", "attn_logit_softcapping", "final_logit_softcapping", "logits_scaling",
	"embedding_multiplier", "residual_multiplier", "attention_multiplier", "query_pre_attn_scalar",
	"clip_qkv", "swiglu_alpha", "swiglu_limit", "no_rope_layers", "n_group", "topk_group", "n_shared_experts",
	"shared_expert_intermediate_size", "q_lora_rank", "kv_lora_rank", "mlp_bias", "sliding_window",
	"rope_local_base_freq", "use_bidirectional_attention",
};

bool model_config_is_eos(const struct model_config *config, uint32_t id)
{
	for (uint32_t i = 0; i < config->eos_count; i++)
		if (config->eos_ids[i] == id)
			return true;
	return false;
}

static const struct family *read_family(struct json_in *in)
{
	const json_t *list = json_in_get(in, "architectures");
	const char *name = json_array_size(list) == 1 ? json_string_value(json_array_get(list, 0)) : NULL;
	const struct family *family = name ? family_find(name) : NULL;
	if (family)
		return family;
	char expected[640];
	family_list(expected, sizeof(expected));
	json_in_refuse(in, ERR_UNSUPPORTED, "architectures", expected);
	return NULL;
}

static enum model_dtype read_dtype(struct json_in *in)
{
	static const char *const names[] = {[MODEL_BF16] = "bfloat16", [MODEL_F32] = "float32", [MODEL_F16] = "float16"};
	const char *key = json_in_has(in, "torch_dtype") ? "torch_dtype" : "dtype";
	const char *name = json_in_text(in, key);
	for (int i = MODEL_BF16; name && i <= MODEL_F16; i++)
		if (strcmp(name, names[i]) == 0)
			return (enum model_dtype)i;
	json_in_refuse(in, ERR_UNSUPPORTED, name ? key : "torch_dtype", "\"bfloat16\", \"float32\" or \"float16\"");
	return MODEL_BF16;
}

static void read_sizes(struct json_in *in, struct model_config *config)
{
	config->vocab_size = json_in_u32(in, "vocab_size", 2, 1 << 21, NULL);
	config->hidden_size = json_in_u32(in, "hidden_size", 1, 1 << 16, NULL);
	config->intermediate_size = json_in_u32(in, "intermediate_size", 1, 1 << 20, NULL);
	config->layer_count = json_in_u32(in, "num_hidden_layers", 1, MODEL_LAYERS_MAX, NULL);
	config->position_max = json_in_u32(in, "max_position_embeddings", 1, 1 << 26, NULL);
	config->norm_eps = json_in_f64(in, "rms_norm_eps", 1e-12, 1e-1, NULL);
	config->tie_word_embeddings = json_in_bool(in, "tie_word_embeddings", false);
}

static void read_heads(struct json_in *in, struct model_config *config)
{
	config->head_count = json_in_u32(in, "num_attention_heads", 1, 1024, NULL);
	config->kv_head_count = json_in_u32(in, "num_key_value_heads", 1, 1024, &config->head_count);
	if (in->e != ERR_OK)
		return;
	if (config->head_count % config->kv_head_count != 0)
		json_in_refuse(in, ERR_INVALID, "num_key_value_heads", "a divisor of num_attention_heads");
	uint32_t quotient = config->hidden_size / config->head_count;
	bool even = config->hidden_size % config->head_count == 0;
	config->head_dim = json_in_u32(in, "head_dim", 2, MODEL_HEAD_DIM_MAX, even ? &quotient : NULL);
	if (config->head_dim < 2 || config->head_dim > MODEL_HEAD_DIM_MAX || config->head_dim % 2 != 0)
		json_in_refuse(in, ERR_INVALID, "head_dim", "an even number up to 1024 (hidden_size / num_attention_heads)");
	config->score_dim = config->head_dim;
}

static void read_activation(struct json_in *in, const char *key, struct model_config *config)
{
	static const struct {
		const char *name;
		enum model_activation activation;
	} rows[] = {{"silu", MODEL_SILU}, {"gelu_pytorch_tanh", MODEL_GELU_TANH}};
	const char *name = json_in_text(in, key);
	config->activation = MODEL_SILU;
	for (size_t i = 0; name && i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].name, name) == 0) {
			config->activation = rows[i].activation;
			return;
		}
	if (name)
		json_in_refuse(in, ERR_UNSUPPORTED, key, "\"silu\" or \"gelu_pytorch_tanh\"");
}

static bool reads(const struct family *family, const char *key)
{
	for (const char *const *known = family->keys; known && *known; known++)
		if (strcmp(*known, key) == 0)
			return true;
	return false;
}

static void read_refused(struct json_in *in, const struct family *family)
{
	for (size_t i = 0; i < sizeof(refused_keys) / sizeof(refused_keys[0]); i++) {
		const json_t *value = json_in_get(in, refused_keys[i]);
		if (value && !json_is_false(value) && !reads(family, refused_keys[i]))
			json_in_refuse(in, ERR_UNSUPPORTED, refused_keys[i], "no such key, or null");
	}
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

static void describe(struct json_in *in, const struct family *family, struct model_config *config)
{
	*config = (struct model_config){.family = family->name, .names = family->names, .bos_id = MODEL_NO_TOKEN,
					.qk_norm = family->qk_norm, .norm_plus_one = family->norm_plus_one,
					.embedding_scaled = family->embedding_scaled};
	config->dtype = read_dtype(in);
	read_sizes(in, config);
	read_heads(in, config);
	if (in->e != ERR_OK)
		return;
	config->o_bias = json_in_bool(in, "attention_bias", false);
	config->qkv_bias = config->o_bias || family->qkv_bias;
	read_activation(in, family->activation_key ? family->activation_key : "hidden_act", config);
	config->groups[0].rope.dim = family_rotary_dim(in, config->head_dim, family->partial_rotary);
	family_read_rope(in, &config->groups[0].rope);
	read_refused(in, family);
	if (!reads(family, "sliding_window"))
		family_read_windows(in, config, 0, NULL);
	if (family->read && in->e == ERR_OK)
		family->read(in, config);
	read_token_ids(in, config);
}

/* The keys that count, for the caller to free: those of the object, or of its "text_config" and then of what only
 * stands outside it; and the library's defaults.  NULL and a reason when there are none. */
static json_t *gather_keys(struct json_in *in, const struct family *family)
{
	const json_t *inner = family->wrapped ? json_in_get(in, "text_config") : in->object;
	if (!json_is_object(inner)) {
		json_in_refuse(in, ERR_INVALID, "text_config", "an object");
		return NULL;
	}
	json_t *keys = json_copy((json_t *)inner);
	json_t *defaults = family->defaults ? json_loads(family->defaults, 0, NULL) : json_object();
	if (!keys || !defaults || json_object_update_missing(keys, (json_t *)in->object) != 0 ||
	    json_object_update_missing(keys, defaults) != 0)
		in->e = ERR_NOMEM;
	json_decref(defaults);
	return keys;
}

static enum err read_config(const json_t *object, struct why *why, struct model_config *ret_config)
{
	struct json_in in = {.object = object, .file = "config.json", .why = why};
	const struct family *family = read_family(&in);
	if (!family)
		return in.e;
	json_t *keys = gather_keys(&in, family);
	struct model_config config;
	in.object = keys;
	if (in.e == ERR_OK)
		describe(&in, family, &config);
	if (in.e == ERR_OK)
		*ret_config = config;
	json_decref(keys);
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
