#include <string.h>

#include "model/family_impl.h"

/* DeepSeek-V2 and V3: latent attention, experts from some layer on, one expert shared by all tokens. */

static const struct model_names names_deepseek = {
	.prefix = "model.",
	.attention_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.gate_up = {"gate_proj", "up_proj"},
	.experts = "mlp",
	.router = "gate",
	.expert_parts = {"gate_proj", "up_proj", "down_proj"},
	.shared = "shared_experts",
};

/* --- attention ----------------------------------------------------------------------------------------- */

static void read_latent(struct json_in *in, struct model_config *config)
{
	static const uint32_t none = 0;
	struct model_rope *rope = &config->groups[0].rope;
	config->attention = MODEL_ATTENTION_LATENT;
	config->latent = (struct model_latent){
		.q_lora_rank = json_in_u32(in, "q_lora_rank", 1, 1 << 16, &none),
		.kv_lora_rank = json_in_u32(in, "kv_lora_rank", 1, 1 << 12, NULL),
		.qk_nope_head_dim = json_in_u32(in, "qk_nope_head_dim", 1, MODEL_HEAD_DIM_MAX / 2, NULL),
		.qk_rope_head_dim = json_in_u32(in, "qk_rope_head_dim", 2, MODEL_HEAD_DIM_MAX / 2, NULL),
		.v_head_dim = json_in_u32(in, "v_head_dim", 1, MODEL_HEAD_DIM_MAX / 2, NULL),
		.interleaved = json_in_bool(in, "rope_interleave", true),
	};
	if (config->latent.qk_rope_head_dim % 2 != 0)
		json_in_refuse(in, ERR_INVALID, "qk_rope_head_dim", "an even number");
	if (json_in_bool(in, "attention_bias", false))
		json_in_refuse(in, ERR_UNSUPPORTED, "attention_bias", "false");
	if (rope->scaling != MODEL_ROPE_PLAIN && rope->scaling != MODEL_ROPE_YARN)
		json_in_refuse(in, ERR_UNSUPPORTED, "rope_scaling", "null or the type \"yarn\"");
	rope->dim = config->latent.qk_rope_head_dim;
	config->head_dim = config->latent.qk_nope_head_dim + config->latent.qk_rope_head_dim;
	config->kv_head_count = config->head_count;
	config->score_dim = config->head_dim / (rope->score_factor * rope->score_factor);
}

/* --- experts ------------------------------------------------------------------------------------------- */

static void read_groups(struct json_in *in, struct model_experts *experts)
{
	experts->group_count = json_in_u32(in, "n_group", 1, MODEL_EXPERTS_MAX, NULL);
	experts->group_top = json_in_u32(in, "topk_group", 1, MODEL_EXPERTS_MAX, NULL);
	if (in->e != ERR_OK)
		return;
	if (experts->count % experts->group_count != 0)
		json_in_refuse(in, ERR_INVALID, "n_group", "a divisor of n_routed_experts");
	else if (experts->group_top > experts->group_count)
		json_in_refuse(in, ERR_INVALID, "topk_group", "at most n_group");
	else if (experts->top > experts->count / experts->group_count * experts->group_top)
		json_in_refuse(in, ERR_INVALID, "num_experts_per_tok", "at most the experts of topk_group groups");
	else if (experts->group_best > experts->count / experts->group_count)
		json_in_refuse(in, ERR_INVALID, "n_group", "groups of at least 2 experts");
}

static void read_deepseek_experts(struct json_in *in, struct model_config *config)
{
	struct model_experts *experts = &config->experts;
	static const uint32_t one = 1;
	family_read_experts(in, config, "n_routed_experts");
	experts->intermediate_size = json_in_u32(in, "moe_intermediate_size", 1, 1 << 20, NULL);
	uint32_t shared = json_in_u32(in, "n_shared_experts", 1, 1 << 10, NULL);
	experts->shared_intermediate_size = shared * experts->intermediate_size;
	experts->scale = json_in_f64(in, "routed_scaling_factor", 1e-6, 1e6, NULL);
	uint32_t dense = json_in_u32(in, "first_k_dense_replace", 0, MODEL_LAYERS_MAX, NULL);
	for (uint32_t i = dense; i < config->layer_count; i++)
		config->layers[i].mlp = MODEL_MLP_EXPERTS;
	if (json_in_u32(in, "moe_layer_freq", 1, MODEL_LAYERS_MAX, &one) != 1)
		json_in_refuse(in, ERR_UNSUPPORTED, "moe_layer_freq", "1: experts in every layer from some on");
}

/* --- the families -------------------------------------------------------------------------------------- */

static void read_deepseek_v2(struct json_in *in, struct model_config *config)
{
	const char *method = json_in_text(in, "topk_method");
	read_latent(in, config);
	read_deepseek_experts(in, config);
	family_want_text(in, "scoring_func", "softmax");
	if (method && strcmp(method, "group_limited_greedy") == 0)
		read_groups(in, &config->experts);
	else
		family_want_text(in, "topk_method", "greedy");
	/* The library takes no notice of it, the original code does: who says so was trained otherwise. */
	if (json_in_bool(in, "norm_topk_prob", false))
		json_in_refuse(in, ERR_UNSUPPORTED, "norm_topk_prob", "false");
}

static void read_deepseek_v3(struct json_in *in, struct model_config *config)
{
	read_latent(in, config);
	read_deepseek_experts(in, config);
	family_want_text(in, "scoring_func", "sigmoid");
	family_want_text(in, "topk_method", "noaux_tc");
	config->experts.routing = MODEL_ROUTING_SIGMOID;
	config->experts.group_best = 2;
	read_groups(in, &config->experts);
	config->experts.renormalise = json_in_bool(in, "norm_topk_prob", true);
	static const uint32_t one = 1;
	config->extra_layer_count = json_in_u32(in, "num_nextn_predict_layers", 0, 16, &one);
	family_read_fp8(in, config);
}

static const char *const keys_v2[] = {"n_group", "topk_group", "n_shared_experts", "q_lora_rank", "kv_lora_rank", NULL};
static const char *const keys_v3[] = {"n_group", "topk_group", "n_shared_experts", "q_lora_rank", "kv_lora_rank",
				      "quantization_config", NULL};

#define DEFAULTS                                                                                                    \
	"\"kv_lora_rank\": 512, \"q_lora_rank\": 1536, \"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64,"      \
	"\"v_head_dim\": 128, \"head_dim\": 64"

const struct family families_latent[] = {
	{.name = "DeepseekV2ForCausalLM", .names = &names_deepseek, .keys = keys_v2, .read = read_deepseek_v2,
	 .defaults = "{" DEFAULTS ", \"n_routed_experts\": 64, \"n_shared_experts\": 2, \"first_k_dense_replace\": 0,"
		     "\"routed_scaling_factor\": 1.0, \"topk_method\": \"greedy\"}"},
	{.name = "DeepseekV3ForCausalLM", .names = &names_deepseek, .keys = keys_v3, .read = read_deepseek_v3,
	 .defaults = "{" DEFAULTS ", \"n_routed_experts\": 256, \"n_shared_experts\": 1, \"first_k_dense_replace\": 3,"
		     "\"routed_scaling_factor\": 2.5, \"n_group\": 8, \"topk_group\": 4, \"num_experts_per_tok\": 8}"},
	{0},
};
