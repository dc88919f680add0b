#include "model/family_impl.h"

/* --- names of tensors -------------------------------------------------------------------------------- */

static const struct model_names names_mixtral = {
	.prefix = "model.",
	.attention_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.qkv = {"q_proj", "k_proj", "v_proj"},
	.experts = "block_sparse_moe",
	.expert_parts = {"w1", "w3", "w2"},
};

/* --- keys of their own ------------------------------------------------------------------------------- */

/* Experts in every layer, `count` of them. */
static void every_layer(struct json_in *in, struct model_config *config, const char *count)
{
	struct model_experts *experts = &config->experts;
	experts->count = json_in_u32(in, count, 1, MODEL_EXPERTS_MAX, NULL);
	experts->top = json_in_u32(in, "num_experts_per_tok", 1, 64, NULL);
	experts->group_count = experts->group_top = 1;
	experts->scale = 1.0;
	if (experts->top > experts->count)
		json_in_refuse(in, ERR_INVALID, "num_experts_per_tok", "at most the number of experts");
	for (uint32_t i = 0; i < config->layer_count; i++)
		config->layers[i].mlp = MODEL_MLP_EXPERTS;
}

static void read_mixtral(struct json_in *in, struct model_config *config)
{
	every_layer(in, config, "num_local_experts");
	config->experts.intermediate_size = config->intermediate_size;
	config->experts.renormalise = true;
}

static void read_qwen3_moe(struct json_in *in, struct model_config *config)
{
	static const uint32_t one = 1;
	every_layer(in, config, "num_experts");
	config->experts.intermediate_size = json_in_u32(in, "moe_intermediate_size", 1, 1 << 20, NULL);
	config->experts.renormalise = json_in_bool(in, "norm_topk_prob", false);
	if (json_in_u32(in, "decoder_sparse_step", 0, MODEL_LAYERS_MAX, &one) != 1)
		json_in_refuse(in, ERR_UNSUPPORTED, "decoder_sparse_step", "1: experts in every layer");
	if (json_array_size(json_in_get(in, "mlp_only_layers")) > 0)
		json_in_refuse(in, ERR_UNSUPPORTED, "mlp_only_layers", "[]: experts in every layer");
	if (json_in_bool(in, "use_sliding_window", false))
		json_in_refuse(in, ERR_UNSUPPORTED, "use_sliding_window", "false");
	family_read_windows(in, config, 0, NULL);
}

/* --- the families ------------------------------------------------------------------------------------ */

static const char *const keys_qwen[] = {"sliding_window", NULL};

const struct family families_moe[] = {
	{.name = "MixtralForCausalLM", .names = &names_mixtral,
	 .defaults = "{\"num_key_value_heads\": 8, \"rope_theta\": 1000000.0}", .read = read_mixtral},
	{.name = "Qwen3MoeForCausalLM", .names = &family_names_llama, .qk_norm = true,
	 .defaults = "{\"num_key_value_heads\": 4}", .keys = keys_qwen, .read = read_qwen3_moe},
	{0},
};
