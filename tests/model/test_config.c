#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static void eight_bit_weights_are_read_in_blocks_of_128(void **state)
{
	struct model_config c;
	assert_int_equal(parse_with(deepseek, "{\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\","
				    "\"activation_scheme\": \"dynamic\", \"weight_block_size\": [128, 128]}}", NULL, &c), ERR_OK);
	assert_true(c.fp8_blocks);
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
	assert_refused(ERR_INVALID, "{\"rms_norm_eps\": 1e300}", "rms_norm_eps");
	assert_refused(ERR_INVALID, "{\"eos_token_id\": 1000}", "eos_token_id is 1000");
	assert_refused(ERR_UNSUPPORTED, "{\"hidden_act\": \"gelu\"}", "hidden_act is \"gelu\", expected \"silu\" or");
	assert_refused(ERR_UNSUPPORTED, "{\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}}",
		       "rope_scaling: rope_type is \"dynamic\", expected");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(llama_is_read),
		cmocka_unit_test(head_dim_may_differ_from_the_quotient),
		cmocka_unit_test(generation_config_wins_on_the_end_tokens),
		cmocka_unit_test(experts_are_read_for_both_families),
		cmocka_unit_test(latent_attention_and_grouped_experts_are_read),
		cmocka_unit_test(eight_bit_weights_are_read_in_blocks_of_128),
		cmocka_unit_test(some_layers_are_dense_among_experts),
		cmocka_unit_test(what_deepseek_models_do_not_do_is_named),
		cmocka_unit_test(wrong_values_are_named_with_what_was_expected),
		cmocka_unit_test(files_that_are_no_config_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
