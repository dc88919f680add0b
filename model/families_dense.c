#include <string.h>

#include "model/family_impl.h"

/* --- names of tensors -------------------------------------------------------------------------------- */

const struct model_names family_names_llama = {
	.prefix = "model.",
	.attention_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.qkv = {"q_proj", "k_proj", "v_proj"},
	.gate_up = {"gate_proj", "up_proj"},
	.experts = "mlp",
	.router = "gate",
	.expert_parts = {"gate_proj", "up_proj", "down_proj"},
};

static const struct model_names names_gemma = {
	.prefix = "model.",
	.attention_norm = "input_layernorm",
	.attention_post_norm = "post_attention_layernorm",
	.mlp_norm = "pre_feedforward_layernorm",
	.mlp_post_norm = "post_feedforward_layernorm",
	.qkv = {"q_proj", "k_proj", "v_proj"},
	.gate_up = {"gate_proj", "up_proj"},
};

/* The larger Gemma 3 see pictures; what they say of text is their language model's. */
static const struct model_names names_gemma_seeing = {
	.prefix = "language_model.model.",
	.attention_norm = "input_layernorm",
	.attention_post_norm = "post_attention_layernorm",
	.mlp_norm = "pre_feedforward_layernorm",
	.mlp_post_norm = "post_feedforward_layernorm",
	.qkv = {"q_proj", "k_proj", "v_proj"},
	.gate_up = {"gate_proj", "up_proj"},
	.beside = {"vision_tower.", "multi_modal_projector."},
};

static const struct model_names names_phi3 = {
	.prefix = "model.",
	.attention_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.qkv = {"qkv_proj"},
	.gate_up = {"gate_up_proj"},
};

/* --- keys of their own ------------------------------------------------------------------------------- */

static bool every_layer(const struct json_in *in, uint32_t layer)
{
	return true;
}

static bool every_second_layer(const struct json_in *in, uint32_t layer)
{
	return layer % 2 == 0;
}

static void read_llama(struct json_in *in, struct model_config *config)
{
	config->mlp_bias = json_in_bool(in, "mlp_bias", false);
}

static void read_windowed(struct json_in *in, struct model_config *config)
{
	family_read_windows(in, config, family_window(in), every_layer);
}

static void read_phi3(struct json_in *in, struct model_config *config)
{
	enum model_rope_scaling scaling = config->groups[0].rope.scaling;
	if (scaling != MODEL_ROPE_PLAIN && scaling != MODEL_ROPE_LONG)
		json_in_refuse(in, ERR_UNSUPPORTED, "rope_scaling", "null or the type \"longrope\"");
	read_windowed(in, config);
}

/* The layers from max_window_layers on. */
static bool is_late(const struct json_in *in, uint32_t layer)
{
	return layer >= (uint64_t)json_integer_value(json_in_get(in, "max_window_layers"));
}

static void read_qwen(struct json_in *in, struct model_config *config)
{
	bool used = json_in_bool(in, "use_sliding_window", false);
	(void)json_in_u32(in, "max_window_layers", 0, UINT32_MAX, NULL);
	family_read_windows(in, config, used ? family_window(in) : 0, is_late);
}

static void read_qwen3(struct json_in *in, struct model_config *config)
{
	read_qwen(in, config);
	family_read_fp8(in, config);
}

static void read_gemma(struct json_in *in, struct model_config *config)
{
	static const double none = 0.0;
	config->score_dim = json_in_f64(in, "query_pre_attn_scalar", 1.0, 1e6, NULL);
	config->logit_cap = json_in_f64(in, "final_logit_softcapping", 1e-3, 1e6, &none);
}

static void read_gemma2(struct json_in *in, struct model_config *config)
{
	static const double none = 0.0;
	read_gemma(in, config);
	config->score_cap = json_in_f64(in, "attn_logit_softcapping", 1e-3, 1e6, &none);
	family_read_windows(in, config, family_window(in), every_second_layer);
}

/* All but each sixth, or what the pattern says instead of 6. */
static bool is_local(const struct json_in *in, uint32_t layer)
{
	return (layer + 1) % (uint64_t)json_integer_value(json_in_get(in, "sliding_window_pattern")) != 0;
}

/* Layers with a window and those without have a rope each, named by the kind of layer or, before, by two keys. */
static void read_gemma3(struct json_in *in, struct model_config *config)
{
	read_gemma(in, config);
	(void)json_in_u32(in, "sliding_window_pattern", 1, MODEL_LAYERS_MAX, NULL);
	family_read_windows(in, config, family_window(in), is_local);
	const json_t *both = json_in_get(in, "rope_parameters");
	double global = json_in_f64(in, "rope_theta", 2.0, 1e12, NULL);
	double local = json_in_f64(in, "rope_local_base_freq", 2.0, 1e12, NULL);
	for (uint32_t i = 0; in->e == ERR_OK && i < config->group_count; i++) {
		bool windowed = config->groups[i].window > 0;
		const char *kind = windowed ? "sliding_attention" : "full_attention";
		const json_t *object = json_object_get(both, kind);
		if (!object && !windowed)
			object = json_in_get(in, kind = "rope_scaling");
		family_read_rope_object(in, kind, object, windowed ? local : global, &config->groups[i].rope);
	}
}

/* --- the families ------------------------------------------------------------------------------------ */

static const char *const keys_llama[] = {"mlp_bias", NULL};
static const char *const keys_window[] = {"sliding_window", NULL};
static const char *const keys_qwen3[] = {"sliding_window", "quantization_config", NULL};
static const char *const keys_gemma2[] = {"sliding_window", "query_pre_attn_scalar", "final_logit_softcapping",
					  "attn_logit_softcapping", NULL};
static const char *const keys_gemma3[] = {"sliding_window", "query_pre_attn_scalar", "final_logit_softcapping",
					  "rope_local_base_freq", NULL};

#define GEMMA_DEFAULTS                                                                                        \
	"\"tie_word_embeddings\": true, \"hidden_activation\": \"gelu_pytorch_tanh\", \"head_dim\": 256,"        \
	"\"num_key_value_heads\": 4, \"query_pre_attn_scalar\": 256, \"sliding_window\": 4096"

#define GEMMA3_DEFAULTS                                                                                       \
	GEMMA_DEFAULTS ", \"rope_theta\": 1000000.0, \"rope_local_base_freq\": 10000.0, \"num_attention_heads\": 8,"  \
	"\"sliding_window_pattern\": 6, \"vocab_size\": 262208, \"max_position_embeddings\": 131072,"              \
	"\"rms_norm_eps\": 1e-6"

const struct family families_dense[] = {
	{.name = "LlamaForCausalLM", .names = &family_names_llama, .keys = keys_llama, .read = read_llama},
	{.name = "MistralForCausalLM", .names = &family_names_llama, .defaults = "{\"num_key_value_heads\": 8, \"sliding_window\": 4096}",
	 .keys = keys_window, .read = read_windowed},
	{.name = "Qwen2ForCausalLM", .names = &family_names_llama, .qkv_bias = true, .keys = keys_window,
	 .defaults = "{\"num_key_value_heads\": 32, \"sliding_window\": 4096, \"max_window_layers\": 28}", .read = read_qwen},
	{.name = "Qwen3ForCausalLM", .names = &family_names_llama, .qk_norm = true, .keys = keys_qwen3,
	 .defaults = "{\"num_key_value_heads\": 32, \"head_dim\": 128, \"sliding_window\": 4096,"
		     "\"max_window_layers\": 28}",
	 .read = read_qwen3},
	{.name = "Gemma2ForCausalLM", .names = &names_gemma, .norm_plus_one = true, .embedding_scaled = true,
	 .activation_key = "hidden_activation", .keys = keys_gemma2, .read = read_gemma2,
	 .defaults = "{" GEMMA_DEFAULTS ", \"final_logit_softcapping\": 30.0, \"attn_logit_softcapping\": 50.0}"},
	{.name = "Gemma3ForCausalLM", .names = &names_gemma, .norm_plus_one = true, .embedding_scaled = true,
	 .qk_norm = true, .activation_key = "hidden_activation", .keys = keys_gemma3, .read = read_gemma3,
	 .defaults = "{" GEMMA3_DEFAULTS "}"},
	{.name = "Gemma3ForConditionalGeneration", .names = &names_gemma_seeing, .wrapped = true, .norm_plus_one = true,
	 .embedding_scaled = true, .qk_norm = true, .activation_key = "hidden_activation", .keys = keys_gemma3,
	 .read = read_gemma3, .defaults = "{" GEMMA3_DEFAULTS "}"},
	{.name = "Phi3ForCausalLM", .names = &names_phi3, .partial_rotary = true, .keys = keys_window,
	 .defaults = "{\"original_max_position_embeddings\": 4096}", .read = read_phi3},
	{0},
};
