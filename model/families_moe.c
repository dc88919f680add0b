#include "model/family_impl.h"

/* --- names of tensors -------------------------------------------------------------------------------- */

static const struct model_names names_mixtral = {
	.prefix = "model.",
	.attention_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.qkv = {"q_proj", "k_proj", "v_proj"},
	.experts = "block_sparse_moe",
	.router = "gate",
	.expert_parts = {"w1", "w3", "w2"},
};

static const struct model_names names_qwen2 = {
	.prefix = "model.",
	.attention_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.qkv = {"q_proj", "k_proj", "v_proj"},
	.gate_up = {"gate_proj", "up_proj"},
	.experts = "mlp",
	.router = "gate",
	.expert_parts = {"gate_proj", "up_proj", "down_proj"},
	.shared = "shared_expert",
	.shared_gate = "shared_expert_gate",
};

static const struct model_names names_gpt_oss = {
	.prefix = "model.",
	.attention_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.qkv = {"q_proj", "k_proj", "v_proj"},
	.experts = "mlp",
	.router = "router",
	.expert_stacks = {"experts.gate_up_proj", "experts.down_proj"},
};

/* --- keys of their own ------------------------------------------------------------------------------- */

void family_read_experts(struct json_in *in, struct model_config *config, const char *count)
{
	struct model_experts *experts = &config->experts;
	experts->count = json_in_u32(in, count, 1, MODEL_EXPERTS_MAX, NULL);
	experts->top = json_in_u32(in, "num_experts_per_tok", 1, 64, NULL);
	experts->group_count = experts->group_top = experts->group_best = 1;
	experts->scale = 1.0;
	if (experts->top > experts->count)
		json_in_refuse(in, ERR_INVALID, "num_experts_per_tok", "at most the number of experts");
}

/* Experts in every layer, as wide as intermediate_size; weights are the softmax of the chosen, which is that of all
 * divided by their sum. */
static void read_mixtral(struct json_in *in, struct model_config *config)
{
	family_read_experts(in, config, "num_local_experts");
	config->experts.intermediate_size = config->intermediate_size;
	config->experts.renormalise = true;
	for (uint32_t i = 0; i < config->layer_count; i++)
		config->layers[i].mlp = MODEL_MLP_EXPERTS;
}

static void read_mxfp4(struct json_in *whole, struct model_config *config)
{
	struct json_in in = *whole;
	in.object = json_in_get(whole, "quantization_config");
	in.file = "config.json: quantization_config";
	if (!in.object)
		return;
	if (!json_in_has(&in, "quant_method"))
		json_in_refuse(&in, ERR_UNSUPPORTED, "quant_method", "\"mxfp4\"");
	family_want_text(&in, "quant_method", "mxfp4");
	if (in.e == ERR_OK && config->dtype != MODEL_BF16)
		json_in_refuse(&in, ERR_UNSUPPORTED, "quant_method", "none in a model that is not bfloat16");
	whole->e = in.e;
	if (config->hidden_size % MODEL_MXFP4_BLOCK != 0)
		json_in_refuse(whole, ERR_INVALID, "hidden_size", "a multiple of 32, for MXFP4");
	if (config->intermediate_size % MODEL_MXFP4_BLOCK != 0)
		json_in_refuse(whole, ERR_INVALID, "intermediate_size", "a multiple of 32, for MXFP4");
	config->mxfp4_experts = whole->e == ERR_OK;
}

static bool every_second_layer(const struct json_in *in, uint32_t layer)
{
	return layer % 2 == 0;
}

static void read_gpt_oss(struct json_in *in, struct model_config *config)
{
	read_mixtral(in, config);
	config->experts.bias = config->experts.interleaved = config->sinks = true;
	config->activation = MODEL_SWIGLU_CLAMPED;
	config->glu_alpha = json_in_f64(in, "swiglu_alpha", 1e-3, 1e3, NULL);
	config->glu_limit = json_in_f64(in, "swiglu_limit", 1e-3, 1e6, NULL);
	family_read_windows(in, config, family_window(in), every_second_layer);
	if (in->e == ERR_OK)
		read_mxfp4(in, config);
}

static bool is_listed(const json_t *list, uint32_t number)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_integer_value(json_array_get(list, i)) == (json_int_t)number)
			return true;
	return false;
}

/* Each decoder_sparse_step-th layer has experts, but for those that are listed as without. */
static void read_sparse_layers(struct json_in *in, struct model_config *config)
{
	static const uint32_t one = 1;
	uint32_t step = json_in_u32(in, "decoder_sparse_step", 1, MODEL_LAYERS_MAX, &one);
	const json_t *dense = json_in_get(in, "mlp_only_layers");
	for (size_t i = 0; i < json_array_size(dense); i++)
		if (!json_is_integer(json_array_get(dense, i)))
			json_in_refuse(in, ERR_INVALID, "mlp_only_layers", "a list of layers");
	for (uint32_t i = 0; in->e == ERR_OK && i < config->layer_count; i++)
		if ((i + 1) % step == 0 && !is_listed(dense, i))
			config->layers[i].mlp = MODEL_MLP_EXPERTS;
}

static void read_qwen_experts(struct json_in *in, struct model_config *config)
{
	family_read_experts(in, config, "num_experts");
	read_sparse_layers(in, config);
	config->experts.intermediate_size = json_in_u32(in, "moe_intermediate_size", 1, 1 << 20, NULL);
	config->experts.renormalise = json_in_bool(in, "norm_topk_prob", false);
	if (json_in_bool(in, "use_sliding_window", false))
		json_in_refuse(in, ERR_UNSUPPORTED, "use_sliding_window", "false");
	family_read_windows(in, config, 0, NULL);
}

static void read_qwen3_moe(struct json_in *in, struct model_config *config)
{
	read_qwen_experts(in, config);
	family_read_fp8(in, config);
}

static void read_qwen2_moe(struct json_in *in, struct model_config *config)
{
	read_qwen_experts(in, config);
	config->qkv_bias = json_in_bool(in, "qkv_bias", true);
	config->experts.shared_intermediate_size = json_in_u32(in, "shared_expert_intermediate_size", 1, 1 << 20, NULL);
	config->experts.shared_gate = true;
}

/* --- the families ------------------------------------------------------------------------------------ */

static const char *const keys_qwen[] = {"sliding_window", "quantization_config", NULL};
static const char *const keys_qwen2[] = {"sliding_window", "shared_expert_intermediate_size", NULL};

static const char *const keys_gpt_oss[] = {"sliding_window", "swiglu_alpha", "swiglu_limit", "quantization_config", NULL};

/* Published ones do not say their type. */
#define GPT_OSS_DEFAULTS                                                                                            \
	"\"dtype\": \"bfloat16\", \"num_key_value_heads\": 8, \"head_dim\": 64, \"attention_bias\": true, \"sliding_window\": 128," \
	"\"num_local_experts\": 128, \"num_experts_per_tok\": 4, \"swiglu_alpha\": 1.702, \"swiglu_limit\": 7.0,"       \
	"\"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 131072, \"rope_theta\": 150000.0, \"rope_parameters\": {"  \
	"\"rope_type\": \"yarn\", \"factor\": 32.0, \"truncate\": false, \"original_max_position_embeddings\": 4096}"

const struct family families_moe[] = {
	{.name = "MixtralForCausalLM", .names = &names_mixtral,
	 .defaults = "{\"num_key_value_heads\": 8, \"rope_theta\": 1000000.0}", .read = read_mixtral},
	{.name = "Qwen2MoeForCausalLM", .names = &names_qwen2,
	 .defaults = "{\"num_key_value_heads\": 16}", .keys = keys_qwen2, .read = read_qwen2_moe},
	{.name = "Qwen3MoeForCausalLM", .names = &family_names_llama, .qk_norm = true,
	 .defaults = "{\"num_key_value_heads\": 4}", .keys = keys_qwen, .read = read_qwen3_moe},
	{.name = "GptOssForCausalLM", .names = &names_gpt_oss, .keys = keys_gpt_oss,
	 .defaults = "{" GPT_OSS_DEFAULTS "}", .read = read_gpt_oss},
	{0},
};
