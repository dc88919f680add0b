#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/layer_groups.h"
#include "model/config.h"

static const char llama[] =
	"{\"architectures\": [\"LlamaForCausalLM\"], \"torch_dtype\": \"bfloat16\", \"vocab_size\": 1000,"
	"\"hidden_size\": 64, \"intermediate_size\": 128, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
	"\"num_key_value_heads\": 2, \"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-5,"
	"\"rope_theta\": 500000.0, \"bos_token_id\": 1, \"eos_token_id\": 2, \"use_cache\": true}";

/* The config with some keys set to other values: {"key": value, ...}. */
static enum err parse_with(const char *base, const char *changes, struct why *why, struct model_config *config)
{
	json_t *root = json_loads(base, 0, NULL), *more = json_loads(changes, 0, NULL);
	assert_non_null(root);
	assert_non_null(more);
	json_object_update(root, more);
	char *json = json_dumps(root, 0);
	enum err e = model_config_parse(json, strlen(json), NULL, 0, why, config);
	free(json);
	json_decref(more);
	json_decref(root);
	return e;
}

static void llama_is_read(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(llama, "{}", NULL, &c), ERR_OK);
	assert_string_equal(c.family, "LlamaForCausalLM");
	assert_int_equal(c.dtype, MODEL_BF16);
	assert_int_equal(c.head_dim, 16);
	assert_int_equal(c.kv_head_count, 2);
	assert_true(c.groups[0].rope.theta == 500000.0 && c.norm_eps == 1e-5);
	assert_int_equal(c.groups[0].rope.scaling, MODEL_ROPE_PLAIN);
	assert_int_equal(c.groups[0].rope.dim, 16);
	assert_false(c.tie_word_embeddings || c.qkv_bias || c.o_bias || c.mlp_bias || c.qk_norm || c.norm_plus_one);
	assert_true(c.score_dim == 16.0 && c.score_cap == 0.0 && c.logit_cap == 0.0);
	assert_int_equal(c.bos_id, 1);
	assert_true(model_config_is_eos(&c, 2) && !model_config_is_eos(&c, 1));
	assert_int_equal(c.group_count, 1);
	assert_int_equal(c.groups[0].layer_count, 2);
}

static void head_dim_may_differ_from_the_quotient(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(llama, "{\"head_dim\": 32, \"attention_bias\": true}", NULL, &c), ERR_OK);
	assert_int_equal(c.head_dim, 32);
	assert_true(c.qkv_bias && c.o_bias);
}

static void generation_config_wins_on_the_end_tokens(void **state)
{
	struct model_config c;
	const char generation[] = "{\"eos_token_id\": [7, 8, 9]}";
	assert_int_equal(model_config_parse(llama, strlen(llama), generation, strlen(generation), NULL, &c), ERR_OK);
	assert_int_equal(c.eos_count, 3);
	assert_true(model_config_is_eos(&c, 9) && !model_config_is_eos(&c, 2));
	assert_int_equal(c.bos_id, 1);
}

static void experts_are_read_for_both_families(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(llama, "{\"architectures\": [\"MixtralForCausalLM\"], \"num_local_experts\": 8,"
				    "\"num_experts_per_tok\": 2, \"sliding_window\": null}", NULL, &c), ERR_OK);
	assert_int_equal(c.experts.count, 8);
	assert_int_equal(c.experts.top, 2);
	assert_int_equal(c.experts.intermediate_size, 128);
	assert_true(c.experts.renormalise);
	assert_int_equal(parse_with(llama, "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"num_experts\": 16,"
				    "\"num_experts_per_tok\": 4, \"moe_intermediate_size\": 32, \"head_dim\": 16,"
				    "\"norm_topk_prob\": true, \"mlp_only_layers\": []}", NULL, &c), ERR_OK);
	assert_int_equal(c.layers[1].mlp, MODEL_MLP_EXPERTS);
	assert_int_equal(c.experts.intermediate_size, 32);
	assert_true(c.qk_norm);
}

static const char deepseek[] =
	"{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"torch_dtype\": \"bfloat16\", \"vocab_size\": 1000,"
	"\"hidden_size\": 64, \"intermediate_size\": 128, \"num_hidden_layers\": 4, \"num_attention_heads\": 4,"
	"\"num_key_value_heads\": 4, \"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000,"
	"\"q_lora_rank\": 48, \"kv_lora_rank\": 32, \"qk_nope_head_dim\": 32, \"qk_rope_head_dim\": 16, \"v_head_dim\": 24,"
	"\"n_routed_experts\": 16, \"n_shared_experts\": 2, \"num_experts_per_tok\": 4, \"moe_intermediate_size\": 32,"
	"\"n_group\": 4, \"topk_group\": 2, \"first_k_dense_replace\": 1, \"routed_scaling_factor\": 2.5,"
	"\"scoring_func\": \"sigmoid\", \"topk_method\": \"noaux_tc\", \"norm_topk_prob\": true,"
	"\"num_nextn_predict_layers\": 1, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 1.0,"
	"\"mscale_all_dim\": 1.0, \"original_max_position_embeddings\": 4096}}";

static void latent_attention_and_grouped_experts_are_read(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(deepseek, "{}", NULL, &c), ERR_OK);
	assert_int_equal(c.attention, MODEL_ATTENTION_LATENT);
	assert_int_equal(c.head_dim, 48);
	assert_int_equal(c.latent.v_head_dim, 24);
	assert_true(c.latent.interleaved);
	assert_int_equal(c.groups[0].rope.dim, 16);
	/* 0.1 ln 40 + 1, squared: what scores are multiplied by. */
	assert_true(fabs(1 / sqrt(c.score_dim) - 1.3688879454 * 1.3688879454 / sqrt(48)) < 1e-9);
	assert_true(c.groups[0].rope.attention_factor == 1.0);
	assert_int_equal(c.layers[0].mlp, MODEL_MLP_DENSE);
	assert_int_equal(c.layers[1].mlp, MODEL_MLP_EXPERTS);
	assert_int_equal(c.experts.shared_intermediate_size, 64);
	assert_int_equal(c.experts.routing, MODEL_ROUTING_SIGMOID);
	assert_true(c.experts.group_count == 4 && c.experts.group_top == 2 && c.experts.group_best == 2);
	assert_true(c.experts.renormalise && c.experts.scale == 2.5 && !c.experts.shared_gate && !c.fp8_blocks);
	assert_int_equal(c.extra_layer_count, 1);
	assert_int_equal(parse_with(deepseek, "{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"q_lora_rank\": null,"
				    "\"scoring_func\": \"softmax\", \"topk_method\": \"greedy\", \"norm_topk_prob\": false}",
				    NULL, &c), ERR_OK);
	assert_int_equal(c.latent.q_lora_rank, 0);
	assert_true(c.experts.group_count == 1 && c.experts.routing == MODEL_ROUTING_SOFTMAX && !c.experts.renormalise);
}

/* The keys of DeepSeek-V3 and DeepSeek-V2-Lite that count, as published. */
static void published_deepseek_configs_are_read(void **state)
{
	static const char v3[] =
		"{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"attention_bias\": false, \"bos_token_id\": 0, \"eos_token_id\": 1,"
		"\"ep_size\": 1, \"first_k_dense_replace\": 3, \"hidden_act\": \"silu\", \"hidden_size\": 7168, \"intermediate_size\":"
		"18432, \"kv_lora_rank\": 512, \"max_position_embeddings\": 163840, \"moe_intermediate_size\": 2048, \"moe_layer_freq\":"
		"1, \"n_group\": 8, \"n_routed_experts\": 256, \"n_shared_experts\": 1, \"norm_topk_prob\": true,"
		"\"num_attention_heads\": 128, \"num_experts_per_tok\": 8, \"num_hidden_layers\": 61, \"num_key_value_heads\": 128,"
		"\"num_nextn_predict_layers\": 1, \"q_lora_rank\": 1536, \"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64,"
		"\"quantization_config\": {\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\", \"quant_method\": \"fp8\","
		"\"weight_block_size\": [128, 128]}, \"rms_norm_eps\": 1e-06, \"rope_scaling\": {\"beta_fast\": 32, \"beta_slow\": 1,"
		"\"factor\": 40, \"mscale\": 1.0, \"mscale_all_dim\": 1.0, \"original_max_position_embeddings\": 4096, \"type\":"
		"\"yarn\"}, \"rope_theta\": 10000, \"routed_scaling_factor\": 2.5, \"scoring_func\": \"sigmoid\","
		"\"tie_word_embeddings\": false, \"topk_group\": 4, \"topk_method\": \"noaux_tc\", \"torch_dtype\": \"bfloat16\","
		"\"v_head_dim\": 128, \"vocab_size\": 129280}";
	static const char lite[] =
		"{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"n_routed_experts\": 64, \"n_shared_experts\": 2, \"n_group\": 1,"
		"\"topk_group\": 1, \"num_experts_per_tok\": 6, \"num_hidden_layers\": 27, \"num_attention_heads\": 16,"
		"\"num_key_value_heads\": 16, \"first_k_dense_replace\": 1, \"hidden_size\": 2048, \"intermediate_size\": 10944,"
		"\"moe_intermediate_size\": 1408, \"norm_topk_prob\": false, \"q_lora_rank\": null, \"routed_scaling_factor\": 1.0,"
		"\"scoring_func\": \"softmax\", \"topk_method\": \"greedy\", \"vocab_size\": 102400, \"rope_scaling\": {\"beta_fast\":"
		"32, \"beta_slow\": 1, \"factor\": 40, \"mscale\": 0.707, \"mscale_all_dim\": 0.707, \"type\": \"yarn\","
		"\"original_max_position_embeddings\": 4096}, \"quantization_config\": null}";
	struct model_config c;
	assert_int_equal(parse_with(v3, "{}", NULL, &c), ERR_OK);
	assert_true(c.head_dim == 192 && c.latent.q_lora_rank == 1536 && c.fp8_blocks && c.extra_layer_count == 1);
	assert_true(c.experts.group_count == 8 && c.experts.group_top == 4 && c.experts.shared_intermediate_size == 2048);
	assert_true(c.layers[2].mlp == MODEL_MLP_DENSE && c.layers[3].mlp == MODEL_MLP_EXPERTS && c.kv_head_count == 128);
	assert_int_equal(parse_with(v3, lite, NULL, &c), ERR_OK);
	assert_true(c.latent.q_lora_rank == 0 && c.experts.shared_intermediate_size == 2816 && !c.fp8_blocks);
	assert_true(c.layers[0].mlp == MODEL_MLP_DENSE && c.layers[1].mlp == MODEL_MLP_EXPERTS && c.experts.group_count == 1);
}

static void eight_bit_weights_are_read_in_blocks_of_128(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(deepseek, "{\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\","
				    "\"activation_scheme\": \"dynamic\", \"weight_block_size\": [128, 128]}}", NULL, &c), ERR_OK);
	assert_true(c.fp8_blocks && !c.fp8_kept);
	/* Of Qwen3, dense and with experts, as published. */
	static const char *const families[] = {"Qwen3ForCausalLM", "Qwen3MoeForCausalLM"};
	for (int i = 0; i < 2; i++) {
		char changes[512];
		snprintf(changes, sizeof(changes), "{\"architectures\": [\"%s\"], \"num_experts\": 8, \"num_experts_per_tok\": 2,"
			 "\"moe_intermediate_size\": 32, \"quantization_config\": {\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\","
			 "\"modules_to_not_convert\": [\"lm_head\"], \"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}}",
			 families[i]);
		assert_int_equal(parse_with(llama, changes, NULL, &c), ERR_OK);
		assert_true(c.fp8_blocks);
	}
}

static void some_layers_are_dense_among_experts(void **state)
{
	struct model_config c;
	static const char changes[] =
		"{\"architectures\": [\"Qwen2MoeForCausalLM\"], \"num_experts\": 8, \"num_experts_per_tok\": 2,"
		"\"moe_intermediate_size\": 32, \"shared_expert_intermediate_size\": 96, \"num_hidden_layers\": 6,"
		"\"decoder_sparse_step\": 2, \"mlp_only_layers\": [3]}";
	assert_int_equal(parse_with(llama, changes, NULL, &c), ERR_OK);
	static const enum model_mlp expected[] = {MODEL_MLP_DENSE, MODEL_MLP_EXPERTS, MODEL_MLP_DENSE,
						  MODEL_MLP_DENSE, MODEL_MLP_DENSE, MODEL_MLP_EXPERTS};
	for (int i = 0; i < 6; i++)
		assert_int_equal(c.layers[i].mlp, expected[i]);
	assert_true(c.experts.shared_gate && c.qkv_bias && !c.o_bias && !c.experts.renormalise);
	assert_int_equal(c.experts.shared_intermediate_size, 96);
}

static const char gemma[] =
	"{\"architectures\": [\"Gemma2ForCausalLM\"], \"torch_dtype\": \"bfloat16\", \"vocab_size\": 1000,"
	"\"hidden_size\": 64, \"intermediate_size\": 128, \"num_hidden_layers\": 7, \"num_attention_heads\": 4,"
	"\"num_key_value_heads\": 2, \"head_dim\": 16, \"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-6}";

/* Which group each layer is in, as digits. */
static void assert_groups(const struct model_config *c, const char *groups)
{
	char text[MODEL_LAYERS_MAX + 1] = {0};
	uint32_t counts[LAYER_GROUPS_MAX] = {0};
	for (uint32_t i = 0; i < c->layer_count; i++) {
		text[i] = (char)('0' + c->layers[i].group);
		counts[c->layers[i].group]++;
	}
	assert_string_equal(text, groups);
	for (uint32_t i = 0; i < c->group_count; i++)
		assert_int_equal(c->groups[i].layer_count, counts[i]);
}

static void windows_are_groups_of_layers(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(llama, "{\"architectures\": [\"MistralForCausalLM\"]}", NULL, &c), ERR_OK);
	assert_groups(&c, "00");
	assert_int_equal(c.groups[0].window, 4096); /* the library's, where it is left out */
	assert_int_equal(parse_with(llama, "{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": null}", NULL, &c), ERR_OK);
	assert_int_equal(c.groups[0].window, 0);
	const char *qwen = "{\"architectures\": [\"Qwen2ForCausalLM\"], \"num_hidden_layers\": 4, \"max_window_layers\": 3,"
			   "\"sliding_window\": 128, \"use_sliding_window\": %s}";
	char text[256];
	snprintf(text, sizeof(text), qwen, "true");
	assert_int_equal(parse_with(llama, text, NULL, &c), ERR_OK);
	assert_groups(&c, "0001");
	assert_true(c.groups[0].window == 0 && c.groups[1].window == 128 && c.qkv_bias && !c.o_bias);
	snprintf(text, sizeof(text), qwen, "false");
	assert_int_equal(parse_with(llama, text, NULL, &c), ERR_OK);
	assert_groups(&c, "0000");
	assert_int_equal(c.groups[0].window, 0);
}

static void gemma_2_is_read_with_what_the_library_takes_for_granted(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(gemma, "{}", NULL, &c), ERR_OK);
	assert_groups(&c, "0101010");
	assert_true(c.groups[0].window == 4096 && c.groups[1].window == 0);
	assert_true(c.score_cap == 50.0 && c.logit_cap == 30.0 && c.score_dim == 256.0);
	assert_true(c.norm_plus_one && c.embedding_scaled && c.tie_word_embeddings && !c.qk_norm);
	assert_int_equal(c.activation, MODEL_GELU_TANH);
	assert_int_equal(parse_with(gemma, "{\"attn_logit_softcapping\": null, \"final_logit_softcapping\": null}", NULL, &c), ERR_OK);
	assert_true(c.score_cap == 0.0 && c.logit_cap == 0.0);
}

static void gemma_3_has_a_rope_for_each_kind_of_layer(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(gemma, "{\"architectures\": [\"Gemma3ForCausalLM\"], \"sliding_window\": 512,"
				    "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8.0}}", NULL, &c), ERR_OK);
	assert_groups(&c, "0000010");
	assert_true(c.groups[0].window == 512 && c.groups[0].rope.theta == 1e4 && c.groups[1].rope.theta == 1e6);
	assert_int_equal(c.groups[0].rope.scaling, MODEL_ROPE_PLAIN);
	assert_int_equal(c.groups[1].rope.scaling, MODEL_ROPE_LINEAR);
	assert_true(c.groups[1].rope.factor == 8.0 && c.logit_cap == 0.0 && c.qk_norm);
	assert_int_equal(parse_with(gemma, "{\"architectures\": [\"Gemma3ForCausalLM\"], \"layer_types\": [\"full_attention\","
				    "\"sliding_attention\", \"full_attention\", \"full_attention\", \"full_attention\","
				    "\"full_attention\", \"full_attention\"], \"rope_parameters\": {\"full_attention\":"
				    "{\"rope_type\": \"default\", \"rope_theta\": 5e5}, \"sliding_attention\":"
				    "{\"rope_type\": \"default\", \"rope_theta\": 2e4}}}", NULL, &c), ERR_OK);
	assert_groups(&c, "0100000");
	assert_true(c.groups[0].rope.theta == 5e5 && c.groups[1].rope.theta == 2e4);
}

/* As the larger ones are published: almost everything is left to the library. */
static void gemma_3_that_sees_is_its_text_config(void **state)
{
	static const char seeing[] =
		"{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"torch_dtype\": \"bfloat16\", \"eos_token_id\": [1, 106],"
		"\"vision_config\": {\"hidden_size\": 1152}, \"text_config\": {\"hidden_size\": 2560, \"intermediate_size\":"
		"10240, \"num_hidden_layers\": 34, \"sliding_window\": 1024, \"rope_scaling\": {\"factor\": 8.0,"
		"\"rope_type\": \"linear\"}}}";
	struct model_config c;
	assert_int_equal(parse_with(seeing, "{}", NULL, &c), ERR_OK);
	assert_true(c.hidden_size == 2560 && c.head_count == 8 && c.kv_head_count == 4 && c.head_dim == 256);
	assert_true(c.vocab_size == 262208 && c.position_max == 131072 && c.eos_count == 2 && c.tie_word_embeddings);
	assert_true(c.groups[0].window == 1024 && c.groups[1].rope.factor == 8.0);
	assert_string_equal(c.names->prefix, "language_model.model.");
}

static void ropes_are_stretched_as_they_say(void **state)
{
	struct model_config c;
	const struct model_rope *rope = &c.groups[0].rope;
	assert_int_equal(parse_with(llama, "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\":"
				    "1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 512}}", NULL, &c), ERR_OK);
	assert_int_equal(rope->scaling, MODEL_ROPE_LLAMA3);
	assert_int_equal(rope->original_position_max, 512);
	assert_true(rope->theta == 500000.0 && rope->attention_factor == 1.0);
	assert_int_equal(parse_with(llama, "{\"rope_theta\": null, \"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\":"
				    "10000, \"factor\": 40, \"mscale\": 1.0, \"mscale_all_dim\": 1.0}}", NULL, &c), ERR_OK);
	assert_int_equal(rope->scaling, MODEL_ROPE_YARN);
	assert_true(rope->attention_factor == 1.0 && rope->beta_fast == 32.0 && rope->truncate);
	assert_int_equal(rope->original_position_max, 2048);
	assert_int_equal(parse_with(llama, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}}", NULL, &c), ERR_OK);
	assert_true(rope->attention_factor > 1.1386 && rope->attention_factor < 1.1387);
	assert_int_equal(parse_with(llama, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 1.0, \"truncate\": false,"
				    "\"beta_fast\": 16, \"beta_slow\": 2}}", NULL, &c), ERR_OK);
	assert_true(rope->attention_factor == 1.0 && !rope->truncate && rope->beta_fast == 16.0 && rope->beta_slow == 2.0);
	assert_int_equal(parse_with(llama, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"attention_factor\": 1.5}}", NULL, &c),
			 ERR_OK);
	assert_true(rope->attention_factor == 1.5);
}

/* Its greatest length decides which factors a model has (docs/decisions/longrope.md). */
static void longrope_is_long_or_short_for_a_whole_model(void **state)
{
	struct model_config c;
	const char *phi = "{\"architectures\": [\"Phi3ForCausalLM\"], \"partial_rotary_factor\": 0.25, \"max_position_embeddings\":"
			  "%u, \"original_max_position_embeddings\": 2048, \"rope_scaling\": {\"type\": \"longrope\","
			  "\"short_factor\": [1, 1.5], \"long_factor\": [2, 3]}}";
	char text[512];
	snprintf(text, sizeof(text), phi, 2048);
	assert_int_equal(parse_with(llama, text, NULL, &c), ERR_OK);
	assert_true(c.groups[0].rope.dim == 4 && c.groups[0].rope.factors[1] == 1.5f && c.groups[0].rope.attention_factor == 1.0);
	snprintf(text, sizeof(text), phi, 8192);
	assert_int_equal(parse_with(llama, text, NULL, &c), ERR_OK);
	assert_true(c.groups[0].rope.factors[1] == 3.0f);
	assert_true(c.groups[0].rope.attention_factor > 1.0871 && c.groups[0].rope.attention_factor < 1.0872); /* sqrt(1 + log 4 / log 2048) */
}

static void f16_weights_are_read(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(llama, "{\"torch_dtype\": \"float16\", \"mlp_bias\": true}", NULL, &c), ERR_OK);
	assert_int_equal(c.dtype, MODEL_F16);
	assert_true(c.mlp_bias);
}

static void assert_refused_of(const char *base, enum err expected, const char *changes, const char *words)
{
	struct model_config c = {.vocab_size = 77};
	struct why why = {0};
	assert_int_equal(parse_with(base, changes, &why, &c), expected);
	if (!strstr(why.text, words))
		print_error("\"%s\" lacks \"%s\"\n", why.text, words);
	assert_non_null(strstr(why.text, words));
	assert_int_equal(c.vocab_size, 77);
}

static void what_deepseek_models_do_not_do_is_named(void **state)
{
	assert_refused_of(deepseek, ERR_UNSUPPORTED, "{\"scoring_func\": \"softmax\"}", "scoring_func is \"softmax\"");
	assert_refused_of(deepseek, ERR_UNSUPPORTED, "{\"topk_method\": \"greedy\"}", "topk_method is \"greedy\"");
	assert_refused_of(deepseek, ERR_UNSUPPORTED, "{\"moe_layer_freq\": 2}", "moe_layer_freq is 2");
	assert_refused_of(deepseek, ERR_UNSUPPORTED, "{\"attention_bias\": true}", "attention_bias is true");
	assert_refused_of(deepseek, ERR_INVALID, "{\"n_group\": 3}", "n_group is 3, expected a divisor");
	assert_refused_of(deepseek, ERR_INVALID, "{\"n_group\": 16, \"topk_group\": 4}", "n_group is 16, expected groups");
	assert_refused_of(deepseek, ERR_INVALID, "{\"topk_group\": 5}", "topk_group is 5");
	assert_refused_of(deepseek, ERR_INVALID, "{\"num_experts_per_tok\": 9}", "num_experts_per_tok is 9");
	assert_refused_of(deepseek, ERR_INVALID, "{\"qk_rope_head_dim\": 15}", "qk_rope_head_dim is 15");
	assert_refused_of(deepseek, ERR_UNSUPPORTED, "{\"quantization_config\": {\"quant_method\": \"gptq\"}}",
			  "quantization_config: quant_method is \"gptq\", expected \"fp8\"");
	assert_refused_of(deepseek, ERR_UNSUPPORTED, "{\"quantization_config\": {\"quant_method\": \"fp8\", \"activation_scheme\":"
			  "\"static\", \"weight_block_size\": [128, 128]}}", "activation_scheme is \"static\", expected \"dynamic\"");
	assert_refused_of(deepseek, ERR_UNSUPPORTED, "{\"quantization_config\": {\"quant_method\": \"fp8\","
			  "\"weight_block_size\": [1, 128]}}", "weight_block_size is [1,128], expected [128, 128]");
	assert_refused_of(deepseek, ERR_UNSUPPORTED, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", "rope_scaling");
}

static void assert_refused(enum err expected, const char *changes, const char *words)
{
	assert_refused_of(llama, expected, changes, words);
}

static void wrong_values_are_named_with_what_was_expected(void **state)
{
	assert_refused(ERR_UNSUPPORTED, "{\"architectures\": [\"FooModel\"]}",
		       "config.json: architectures is [\"FooModel\"], expected one of LlamaForCausalLM");
	assert_refused(ERR_UNSUPPORTED, "{\"torch_dtype\": \"float8\"}", "torch_dtype is \"float8\", expected");
	assert_refused(ERR_INVALID, "{\"hidden_size\": -1}", "hidden_size is -1, expected a whole number from 1");
	assert_refused(ERR_INVALID, "{\"hidden_size\": \"64\"}", "hidden_size is \"64\"");
	assert_refused(ERR_INVALID, "{\"vocab_size\": 4294967297}", "vocab_size is 4294967297");
	assert_refused(ERR_INVALID, "{\"num_hidden_layers\": null}", "num_hidden_layers is null");
	assert_refused(ERR_INVALID, "{\"num_key_value_heads\": 3}", "a divisor of num_attention_heads");
	assert_refused(ERR_INVALID, "{\"num_attention_heads\": 64, \"num_key_value_heads\": 64}", "head_dim");
	assert_refused(ERR_INVALID, "{\"hidden_size\": 65536, \"num_attention_heads\": 1, \"num_key_value_heads\": 1}", "head_dim");
	assert_refused(ERR_INVALID, "{\"rms_norm_eps\": 1e300}", "rms_norm_eps");
	assert_refused(ERR_INVALID, "{\"eos_token_id\": 1000}", "eos_token_id is 1000");
	assert_refused(ERR_UNSUPPORTED, "{\"hidden_act\": \"gelu\"}", "hidden_act is \"gelu\", expected \"silu\" or");
	assert_refused(ERR_UNSUPPORTED, "{\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}}",
		       "rope_scaling: rope_type is \"dynamic\", expected");
	assert_refused(ERR_INVALID, "{\"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1]}}",
		       "rope_scaling: short_factor is [1], expected a list of 8 numbers");
	assert_refused(ERR_INVALID, "{\"rope_scaling\": {\"rope_type\": \"linear\"}}", "rope_scaling: factor is missing");
	assert_refused(ERR_INVALID, "{\"rope_scaling\": 7}", "rope_scaling is 7, expected an object");
	assert_refused(ERR_UNSUPPORTED, "{\"rope_scaling\": {\"rope_type\": 7, \"factor\": 2}}", "rope_type is 7, expected \"default\"");
	assert_refused(ERR_UNSUPPORTED, "{\"rope_scaling\": {\"type\": \"xpos\", \"factor\": 2}}", "type is \"xpos\"");
	assert_refused(ERR_INVALID, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}}", "factor is 0.5, expected a number from 1");
	assert_refused(ERR_INVALID, "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 2, \"low_freq_factor\": 4,"
		       "\"high_freq_factor\": 1}}", "high_freq_factor is 1, expected more than low_freq_factor");
	assert_refused(ERR_INVALID, "{\"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": [1,1,1,1,1,1,1,0]}}",
		       "short_factor is [1,1,1,1,1,1,1,0], expected a list of 8 numbers");
	assert_refused(ERR_INVALID, "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2, \"original_max_position_embeddings\":"
		       "1}}", "original_max_position_embeddings is 1");
	assert_refused(ERR_INVALID, "{\"rope_theta\": 1}", "rope_theta is 1, expected a number from 2");
	assert_refused(ERR_INVALID, "{\"architectures\": [\"Phi3ForCausalLM\"], \"partial_rotary_factor\": 0.1875}",
		       "partial_rotary_factor is 0.1875, expected a part of head_dim");
	assert_refused(ERR_UNSUPPORTED, "{\"architectures\": [\"Phi3ForCausalLM\"], \"rope_scaling\": {\"type\": \"linear\","
		       "\"factor\": 2}}", "rope_scaling is");
	assert_refused(ERR_UNSUPPORTED, "{\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", "partial_rotary_factor is 0.5, expected 1");
	assert_refused(ERR_INVALID, "{\"layer_types\": [\"full_attention\"]}", "layer_types is [\"full_attention\"], expected a list");
	assert_refused(ERR_UNSUPPORTED, "{\"layer_types\": [7, \"full_attention\"]}", "layer_types is [7");
	assert_refused(ERR_UNSUPPORTED, "{\"architectures\": [\"LlamaForCausalLM\", \"FooModel\"]}", "architectures is");
	assert_refused(ERR_INVALID, "{\"architectures\": [\"Gemma2ForCausalLM\"], \"sliding_window\": 0}", "sliding_window is 0");
	assert_refused(ERR_UNSUPPORTED, "{\"partial_rotary_factor\": 0.5}", "partial_rotary_factor is 0.5, expected 1");
	assert_refused(ERR_UNSUPPORTED, "{\"architectures\": [\"Gemma3nForConditionalGeneration\"]}", "Gemma3nForConditionalGeneration");
	assert_refused(ERR_INVALID, "{\"architectures\": [\"Gemma3ForConditionalGeneration\"]}", "text_config is missing");
	assert_refused(ERR_UNSUPPORTED, "{\"architectures\": [\"Qwen2ForCausalLM\"], \"layer_types\": [\"full_attention\","
		       "\"sliding_attention\"]}", "layer_types");
	assert_refused(ERR_UNSUPPORTED, "{\"use_bidirectional_attention\": true}", "use_bidirectional_attention is true");
	assert_refused(ERR_UNSUPPORTED, "{\"sliding_window\": 128}", "sliding_window is 128");
	assert_refused(ERR_UNSUPPORTED, "{\"quantization_config\": {}}", "quantization_config is {}");
	assert_refused(ERR_UNSUPPORTED, "{\"layer_types\": [\"sliding_attention\", \"full_attention\"]}", "layer_types");
}

static void files_that_are_no_config_are_refused(void **state)
{
	struct model_config c;
	struct why why = {0};
	assert_int_equal(model_config_parse("[]", 2, NULL, 0, &why, &c), ERR_INVALID);
	assert_int_equal(model_config_parse("{\"a\":1,\"a\":2}", 13, NULL, 0, &why, &c), ERR_INVALID);
	char *deep = malloc(2000);
	memset(deep, '[', 2000);
	assert_int_equal(model_config_parse(deep, 2000, NULL, 0, &why, &c), ERR_TOO_LARGE);
	free(deep);
	for (size_t length = 0; length < strlen(llama); length++)
		assert_int_equal(model_config_parse(llama, length, NULL, 0, NULL, &c), ERR_INVALID);
	assert_int_equal(model_config_read("/nonexistent", &why, &c), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, "/nonexistent/config.json"));
}

/* As it is published: without its type, and with keys in two spellings. */
static const char gpt_oss[] =
	"{\"architectures\": [\"GptOssForCausalLM\"], \"attention_bias\": true, \"attention_dropout\": 0.0,"
	"\"eos_token_id\": 200002, \"experts_per_token\": 4, \"head_dim\": 64, \"hidden_act\": \"silu\","
	"\"hidden_size\": 2880, \"initial_context_length\": 4096, \"intermediate_size\": 2880, \"layer_types\":"
	"[\"sliding_attention\", \"full_attention\", \"sliding_attention\"], \"max_position_embeddings\": 131072,"
	"\"model_type\": \"gpt_oss\", \"num_attention_heads\": 64, \"num_experts_per_tok\": 4, \"num_hidden_layers\": 3,"
	"\"num_key_value_heads\": 8, \"num_local_experts\": 32, \"pad_token_id\": 199999, \"quantization_config\":"
	"{\"modules_to_not_convert\": [\"model.layers.*.self_attn\", \"lm_head\"], \"quant_method\": \"mxfp4\"},"
	"\"rms_norm_eps\": 1e-05, \"rope_scaling\": {\"beta_fast\": 32.0, \"beta_slow\": 1.0, \"factor\": 32.0,"
	"\"original_max_position_embeddings\": 4096, \"rope_type\": \"yarn\", \"truncate\": false}, \"rope_theta\": 150000,"
	"\"sliding_window\": 128, \"swiglu_limit\": 7.0, \"tie_word_embeddings\": false, \"vocab_size\": 201088}";

static void gpt_oss_is_read_as_published(void **state)
{
	static const char eos[] = "{\"bos_token_id\": 199998, \"eos_token_id\": [200002, 199999, 200012]}";
	struct model_config c;
	assert_int_equal(model_config_parse(gpt_oss, strlen(gpt_oss), eos, strlen(eos), NULL, &c), ERR_OK);
	assert_int_equal(c.dtype, MODEL_BF16);
	assert_true(c.mxfp4_experts && c.sinks && c.qkv_bias && c.o_bias);
	assert_true(c.experts.bias && c.experts.interleaved && c.experts.renormalise);
	assert_int_equal(c.experts.count, 32);
	assert_int_equal(c.experts.intermediate_size, 2880);
	assert_int_equal(c.activation, MODEL_SWIGLU_CLAMPED);
	assert_true(c.glu_limit == 7.0 && c.glu_alpha == 1.702);
	assert_int_equal(c.group_count, 2);
	for (uint32_t i = 0; i < 2; i++) {
		const struct model_rope *rope = &c.groups[i].rope;
		assert_int_equal(c.groups[i].window, i == 0 ? 128 : 0);
		assert_int_equal(rope->scaling, MODEL_ROPE_YARN);
		assert_true(!rope->truncate && rope->theta == 150000.0 && rope->factor == 32.0);
	}
	assert_int_equal(c.layers[2].group, 0);
	assert_int_equal(c.eos_count, 3);
	assert_true(model_config_is_eos(&c, 200012));
	/* What the library takes for keys that are left out. */
	assert_int_equal(parse_with(gpt_oss, "{\"rope_scaling\": null, \"layer_types\": null, \"quantization_config\": null}", NULL,
				    &c), ERR_OK);
	assert_true(c.groups[0].rope.scaling == MODEL_ROPE_YARN && !c.groups[0].rope.truncate && !c.mxfp4_experts);
	assert_int_equal(c.layers[1].group, 1);
}

static void gpt_oss_refuses_what_it_is_not(void **state)
{
	assert_refused_of(gpt_oss, ERR_UNSUPPORTED, "{\"quantization_config\": {\"quant_method\": \"fp8\"}}",
			  "quantization_config: quant_method is \"fp8\", expected \"mxfp4\"");
	assert_refused_of(gpt_oss, ERR_UNSUPPORTED, "{\"dtype\": \"float32\"}", "none in a model that is not bfloat16");
	assert_refused_of(gpt_oss, ERR_INVALID, "{\"hidden_size\": 2888}", "hidden_size is 2888, expected a multiple of 32");
	assert_refused_of(gpt_oss, ERR_INVALID, "{\"intermediate_size\": 2888}", "expected a multiple of 32");
	assert_refused_of(llama, ERR_UNSUPPORTED, "{\"swiglu_limit\": 7.0}", "swiglu_limit");
	assert_refused_of(llama, ERR_UNSUPPORTED, "{\"quantization_config\": {\"quant_method\": \"mxfp4\"}}", "quantization_config");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(llama_is_read),
		cmocka_unit_test(head_dim_may_differ_from_the_quotient),
		cmocka_unit_test(generation_config_wins_on_the_end_tokens),
		cmocka_unit_test(experts_are_read_for_both_families),
		cmocka_unit_test(latent_attention_and_grouped_experts_are_read),
		cmocka_unit_test(published_deepseek_configs_are_read),
		cmocka_unit_test(eight_bit_weights_are_read_in_blocks_of_128),
		cmocka_unit_test(some_layers_are_dense_among_experts),
		cmocka_unit_test(what_deepseek_models_do_not_do_is_named),
		cmocka_unit_test(windows_are_groups_of_layers),
		cmocka_unit_test(gemma_2_is_read_with_what_the_library_takes_for_granted),
		cmocka_unit_test(gemma_3_has_a_rope_for_each_kind_of_layer),
		cmocka_unit_test(gemma_3_that_sees_is_its_text_config),
		cmocka_unit_test(ropes_are_stretched_as_they_say),
		cmocka_unit_test(longrope_is_long_or_short_for_a_whole_model),
		cmocka_unit_test(f16_weights_are_read),
		cmocka_unit_test(wrong_values_are_named_with_what_was_expected),
		cmocka_unit_test(files_that_are_no_config_are_refused),
		cmocka_unit_test(gpt_oss_is_read_as_published),
		cmocka_unit_test(gpt_oss_refuses_what_it_is_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
