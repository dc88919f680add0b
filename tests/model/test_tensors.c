#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/tensors.h"

/* One list says which tensors a family has, for the check of a directory and for loading. */

#define SIZES                                                                                                           \
	"\"torch_dtype\": \"bfloat16\", \"vocab_size\": 50, \"hidden_size\": 32, \"intermediate_size\": 48,"            \
	"\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"max_position_embeddings\": 64," \
	"\"rms_norm_eps\": 1e-5"

static void parse(const char *json, struct model_config *config)
{
	struct why why = {""};
	if (model_config_parse(json, strlen(json), NULL, 0, &why, config) != ERR_OK)
		fail_msg("%s", why.text);
}

struct list {
	struct tensor_spec specs[128];
	uint32_t count;
};

static enum err add(void *arg, const struct tensor_spec *spec)
{
	struct list *list = arg;
	assert_true(list->count < 128);
	list->specs[list->count++] = *spec;
	return ERR_OK;
}

static void list_of(const char *json, struct model_config *config, struct list *list)
{
	list->count = 0;
	parse(json, config);
	assert_int_equal(model_tensors_each(config, add, list), ERR_OK);
}

static const struct tensor_spec *find(const struct list *list, const char *name)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (strcmp(list->specs[i].name, name) == 0)
			return &list->specs[i];
	fail_msg("%s is not listed", name);
	return NULL;
}

static void assert_part(const struct list *list, const char *name, enum tensor_role role, uint32_t first, uint32_t rows,
			uint32_t total)
{
	const struct tensor_spec *spec = find(list, name);
	assert_int_equal(spec->role, role);
	assert_int_equal(spec->first, first);
	assert_int_equal(spec->dims[0], rows);
	assert_int_equal(spec->total, total);
}

static void parts_of_a_role_lie_one_after_the_other(void **state)
{
	static struct list list;
	struct model_config config;
	list_of("{\"architectures\": [\"Qwen2ForCausalLM\"], " SIZES "}", &config, &list);
	assert_int_equal(list.count, 1 + 2 * (2 + 4 + 3 + 3) + 2);
	assert_part(&list, "model.layers.0.self_attn.q_proj.weight", TENSOR_QKV, 0, 32, 64);
	assert_part(&list, "model.layers.1.self_attn.k_proj.weight", TENSOR_QKV, 32, 16, 64);
	assert_part(&list, "model.layers.1.self_attn.v_proj.bias", TENSOR_QKV_BIAS, 48, 16, 64);
	assert_part(&list, "model.layers.1.mlp.up_proj.weight", TENSOR_GATE_UP, 48, 48, 96);
	assert_int_equal(find(&list, "model.layers.1.mlp.up_proj.weight")->layer, 1);
	assert_part(&list, "lm_head.weight", TENSOR_HEAD, 0, 50, 50);
	assert_part(&list, "model.embed_tokens.weight", TENSOR_EMBEDDING, 0, 50, 50);
	list_of("{\"architectures\": [\"Phi3ForCausalLM\"], " SIZES "}", &config, &list);
	assert_int_equal(list.count, 1 + 2 * (2 + 2 + 2) + 2);
	assert_part(&list, "model.layers.0.self_attn.qkv_proj.weight", TENSOR_QKV, 0, 64, 64);
	assert_part(&list, "model.layers.0.mlp.gate_up_proj.weight", TENSOR_GATE_UP, 0, 96, 96);
	list_of("{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": true, \"mlp_bias\": true, " SIZES "}", &config,
		&list);
	assert_part(&list, "model.layers.0.self_attn.o_proj.bias", TENSOR_OUTPUT_BIAS, 0, 32, 32);
	assert_part(&list, "model.layers.0.mlp.up_proj.bias", TENSOR_GATE_UP_BIAS, 48, 48, 96);
	assert_part(&list, "model.layers.0.mlp.down_proj.bias", TENSOR_DOWN_BIAS, 0, 32, 32);
}

static void tied_embeddings_are_the_head(void **state)
{
	static struct list list;
	struct model_config config;
	list_of("{\"architectures\": [\"Gemma3ForCausalLM\"], \"head_dim\": 16, " SIZES "}", &config, &list);
	assert_int_equal(list.count, 1 + 2 * (4 + 4 + 2 + 3) + 1);
	assert_part(&list, "model.embed_tokens.weight", TENSOR_HEAD, 0, 50, 50);
	assert_part(&list, "model.layers.1.post_attention_layernorm.weight", TENSOR_ATTENTION_POST_NORM, 0, 32, 32);
	assert_part(&list, "model.layers.1.pre_feedforward_layernorm.weight", TENSOR_MLP_NORM, 0, 32, 32);
	assert_part(&list, "model.layers.1.self_attn.k_norm.weight", TENSOR_K_NORM, 0, 16, 16);
}

#define DEEPSEEK                                                                                                        \
	"{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"q_lora_rank\": 16, \"kv_lora_rank\": 32, \"qk_nope_head_dim\": 16," \
	"\"qk_rope_head_dim\": 16, \"v_head_dim\": 8, \"n_routed_experts\": 8, \"n_group\": 2, \"topk_group\": 1,"      \
	"\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 16, \"first_k_dense_replace\": 1, " SIZES

static void latent_attention_and_shared_experts_have_parts_of_their_own(void **state)
{
	static struct list list;
	struct model_config config;
	list_of(DEEPSEEK "}", &config, &list);
	assert_int_equal(list.count, 1 + 2 * (2 + 7) + 3 + (2 + 3 + 8 * 3) + 2);
	assert_part(&list, "model.layers.0.self_attn.q_a_proj.weight", TENSOR_QKV, 0, 16, 64);
	assert_part(&list, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight", TENSOR_QKV, 16, 48, 64);
	assert_part(&list, "model.layers.0.self_attn.q_b_proj.weight", TENSOR_QUERY_UP, 0, 128, 128);
	assert_part(&list, "model.layers.1.self_attn.kv_b_proj.weight", TENSOR_KEY_VALUE_UP, 0, 96, 96);
	assert_part(&list, "model.layers.1.self_attn.kv_a_layernorm.weight", TENSOR_K_NORM, 0, 32, 32);
	assert_part(&list, "model.layers.0.mlp.down_proj.weight", TENSOR_DOWN, 0, 32, 32);
	assert_part(&list, "model.layers.1.mlp.gate.e_score_correction_bias", TENSOR_ROUTER_CHOICE_BIAS, 0, 8, 8);
	assert_part(&list, "model.layers.1.mlp.shared_experts.up_proj.weight", TENSOR_SHARED_GATE_UP, 16, 16, 32);
	assert_int_equal(find(&list, "model.layers.1.mlp.experts.7.down_proj.weight")->expert, 7);
}

/* Weights of zeros in memory: those of the list but `skip`, and one more, where it is given. */
struct file {
	struct buf bytes;
	struct weights *weights;
};

static void append_typed(json_t *header, const char *name, const char *dtype, size_t bytes, const uint64_t *dims,
			 uint32_t dim_count, size_t *at)
{
	json_t *shape = json_array();
	for (uint32_t i = 0; i < dim_count; i++) {
		json_array_append_new(shape, json_integer((json_int_t)dims[i]));
		bytes *= dims[i];
	}
	json_object_set_new(header, name, json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtype, "shape", shape, "data_offsets",
						    (json_int_t)*at, (json_int_t)(*at + bytes)));
	*at += bytes;
}

static void append_shape(json_t *header, const char *name, const uint64_t *dims, uint32_t dim_count, size_t *at)
{
	append_typed(header, name, "BF16", 2, dims, dim_count, at);
}

static void fill_file(json_t *header, size_t size, struct file *file)
{
	char *text = json_dumps(header, JSON_COMPACT);
	uint64_t length = strlen(text);
	*file = (struct file){0};
	assert_int_equal(buf_append(&file->bytes, &length, 8), ERR_OK);
	assert_int_equal(buf_text(&file->bytes, text), ERR_OK);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(buf_append(&file->bytes, "", 1), ERR_OK);
	assert_int_equal(weights_parse(file->bytes.data, file->bytes.length, NULL, &file->weights), ERR_OK);
	free(text);
	json_decref(header);
}

static void make_file(const struct list *list, const char *skip, const char *more, struct file *file)
{
	json_t *header = json_object();
	size_t at = 0;
	for (uint32_t i = 0; i < list->count; i++)
		if (!skip || strcmp(list->specs[i].name, skip) != 0)
			append_shape(header, list->specs[i].name, list->specs[i].dims, list->specs[i].dim_count, &at);
	if (more)
		append_shape(header, more, (uint64_t[]){3}, 1, &at);
	fill_file(header, at, file);
}

static void assert_check(const char *json, const char *skip, const char *more, enum err expected, const char *words)
{
	static struct list list;
	struct model_config config;
	struct why why = {""};
	struct file file;
	list_of(json, &config, &list);
	make_file(&list, skip, more, &file);
	assert_int_equal(model_tensors_check(&config, file.weights, &why), expected);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" lacks \"%s\"", why.text, words);
	weights_close(file.weights);
	buf_fini(&file.bytes);
}

static void what_is_missing_surplus_or_of_another_shape_is_named(void **state)
{
	static const char phi[] = "{\"architectures\": [\"Phi3ForCausalLM\"], " SIZES "}";
	static const char gemma[] = "{\"architectures\": [\"Gemma3ForCausalLM\"], \"head_dim\": 16, " SIZES "}";
	static const char seeing[] = "{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"text_config\": {\"head_dim\": 16,"
				     SIZES "}}";
	static const char fused[] = "model.layers.1.self_attn.qkv_proj.weight";
	assert_check(phi, NULL, NULL, ERR_OK, "");
	assert_check(phi, fused, NULL, ERR_NOT_FOUND, "tensor model.layers.1.self_attn.qkv_proj.weight is missing, expected BF16 [64");
	assert_check(phi, fused, fused, ERR_MISMATCH, "qkv_proj.weight is BF16 [3], expected BF16 [64");
	assert_check(phi, NULL, "model.layers.0.self_attn.qkv_proj.bias", ERR_MISMATCH,
		     "qkv_proj.bias is no part of a Phi3ForCausalLM model");
	assert_check(phi, NULL, "model.layers.0.self_attn.rotary_emb.inv_freq", ERR_OK, "");
	assert_check(gemma, NULL, "lm_head.weight", ERR_OK, "");
	assert_check(gemma, NULL, "vision_tower.patch.weight", ERR_MISMATCH, "vision_tower.patch.weight is no part");
	assert_check(seeing, NULL, "vision_tower.patch.weight", ERR_OK, "");
	assert_check(seeing, NULL, "multi_modal_projector.weight", ERR_OK, "");
	assert_check(seeing, "language_model.model.norm.weight", NULL, ERR_NOT_FOUND, "language_model.model.norm.weight is missing");
}

static void layers_behind_the_last_are_left_alone(void **state)
{
	assert_check(DEEPSEEK "}", NULL, NULL, ERR_OK, "");
	assert_check(DEEPSEEK "}", NULL, "model.layers.2.eh_proj.weight", ERR_OK, "");
	assert_check(DEEPSEEK "}", NULL, "model.layers.3.eh_proj.weight", ERR_MISMATCH, "model.layers.3.eh_proj.weight is no part");
	assert_check(DEEPSEEK ", \"num_nextn_predict_layers\": 0}", NULL, "model.layers.2.eh_proj.weight", ERR_MISMATCH, "eh_proj");
}

/* All of it in bf16 but one matrix of 8 bits, with its scales if they are given. */
static enum err check_narrow_with(const char *json, const char *narrow, const char *scale_dtype, const uint64_t *scale_dims,
				  struct why *why)
{
	static struct list list;
	struct model_config config;
	struct file file;
	json_t *header = json_object();
	char scale[160];
	size_t at = 0;
	list_of(json, &config, &list);
	snprintf(scale, sizeof(scale), "%s_scale_inv", narrow);
	if (scale_dims)
		append_typed(header, scale, scale_dtype, strcmp(scale_dtype, "F32") == 0 ? 4 : 2, scale_dims, 2, &at);
	for (uint32_t i = 0; i < list.count; i++) {
		bool is_narrow = strcmp(list.specs[i].name, narrow) == 0;
		append_typed(header, list.specs[i].name, is_narrow ? "F8_E4M3" : "BF16", is_narrow ? 1 : 2, list.specs[i].dims,
			     list.specs[i].dim_count, &at);
	}
	fill_file(header, at, &file);
	enum err e = model_tensors_check(&config, file.weights, why);
	weights_close(file.weights);
	buf_fini(&file.bytes);
	return e;
}

static enum err check_narrow(const char *json, const char *narrow, const uint64_t *scale_dims, struct why *why)
{
	return check_narrow_with(json, narrow, "F32", scale_dims, why);
}

static void eight_bit_weights_come_with_a_scale_for_each_block(void **state)
{
	static const char quantised[] = DEEPSEEK ", \"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\","
					"\"weight_block_size\": [128, 128]}}";
	static const char q_b[] = "model.layers.1.self_attn.q_b_proj.weight", head[] = "lm_head.weight";
	struct why why = {""};
	assert_int_equal(check_narrow(quantised, q_b, (uint64_t[]){1, 1}, &why), ERR_OK);
	assert_int_equal(check_narrow_with(quantised, q_b, "BF16", (uint64_t[]){1, 1}, &why), ERR_OK);
	assert_int_equal(check_narrow_with(quantised, q_b, "F16", (uint64_t[]){1, 1}, &why), ERR_MISMATCH);
	assert_int_equal(check_narrow(quantised, q_b, NULL, &why), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, "q_b_proj.weight_scale_inv is missing, expected F32 [1"));
	assert_int_equal(check_narrow(quantised, q_b, (uint64_t[]){2, 1}, &why), ERR_MISMATCH);
	assert_non_null(strstr(why.text, "q_b_proj.weight_scale_inv is F32 [2"));
	assert_int_equal(check_narrow(quantised, head, (uint64_t[]){1, 1}, &why), ERR_MISMATCH);
	assert_non_null(strstr(why.text, "lm_head.weight is F8_E4M3"));
	assert_int_equal(check_narrow(DEEPSEEK "}", q_b, (uint64_t[]){1, 1}, &why), ERR_MISMATCH);
	assert_non_null(strstr(why.text, "q_b_proj.weight is F8_E4M3"));
}

#define GPT_OSS                                                                                                         \
	"{\"architectures\": [\"GptOssForCausalLM\"], \"num_local_experts\": 3, \"num_experts_per_tok\": 2,"             \
	"\"vocab_size\": 50, \"hidden_size\": 32, \"intermediate_size\": 64, \"num_hidden_layers\": 1, \"head_dim\": 16,"  \
	"\"num_attention_heads\": 4, \"num_key_value_heads\": 2"
#define GPT_OSS_MXFP4 GPT_OSS ", \"quantization_config\": {\"quant_method\": \"mxfp4\"}}"

static void experts_in_stacks_have_one_name_and_many_specs(void **state)
{
	static struct list list;
	struct model_config config;
	list_of(GPT_OSS "}", &config, &list);
	assert_int_equal(list.count, 1 + 2 + 4 * 2 + 1 + 2 + 3 * 4 + 2);
	assert_part(&list, "model.layers.0.self_attn.sinks", TENSOR_SINKS, 0, 4, 4);
	assert_part(&list, "model.layers.0.self_attn.o_proj.bias", TENSOR_OUTPUT_BIAS, 0, 32, 32);
	assert_part(&list, "model.layers.0.mlp.router.weight", TENSOR_ROUTER, 0, 3, 3);
	assert_part(&list, "model.layers.0.mlp.router.bias", TENSOR_ROUTER_BIAS, 0, 3, 3);
	assert_part(&list, "model.layers.0.mlp.experts.gate_up_proj", TENSOR_EXPERT_GATE_UP, 0, 128, 128);
	assert_part(&list, "model.layers.0.mlp.experts.down_proj_bias", TENSOR_EXPERT_DOWN_BIAS, 0, 32, 32);
	assert_int_equal(find(&list, "model.layers.0.mlp.experts.down_proj")->stack, 3);
}

/* A directory of GPT_OSS: packed or plain, with one tensor left out or of another shape, and one more. */
struct stacks {
	bool packed;
	const char *skip, *wrong, *more;
};

static void append_stack(json_t *header, const char *name, const char *dtype, size_t bytes, const uint64_t *dims,
			 uint32_t dim_count, const struct stacks *stacks, size_t *at)
{
	static const uint64_t one = 1;
	char full[160];
	snprintf(full, sizeof(full), "model.layers.0.mlp.experts.%s", name);
	if (stacks->skip && strcmp(stacks->skip, name) == 0)
		return;
	bool wrong = stacks->wrong && strcmp(stacks->wrong, name) == 0;
	append_typed(header, full, dtype, bytes, wrong ? &one : dims, wrong ? 1 : dim_count, at);
}

static enum err check_stacks(const struct stacks *stacks, struct why *why)
{
	static struct list list;
	struct model_config config;
	struct file file;
	json_t *header = json_object();
	size_t at = 0;
	list_of(stacks->packed ? GPT_OSS_MXFP4 : GPT_OSS "}", &config, &list);
	for (uint32_t i = 0; i < list.count; i++)
		if (list.specs[i].stack == 0)
			append_shape(header, list.specs[i].name, list.specs[i].dims, list.specs[i].dim_count, &at);
	append_stack(header, "gate_up_proj_bias", "BF16", 2, (uint64_t[]){3, 128}, 2, stacks, &at);
	append_stack(header, "down_proj_bias", "BF16", 2, (uint64_t[]){3, 32}, 2, stacks, &at);
	if (stacks->packed) {
		append_stack(header, "gate_up_proj_blocks", "U8", 1, (uint64_t[]){3, 128, 1, 16}, 4, stacks, &at);
		append_stack(header, "gate_up_proj_scales", "U8", 1, (uint64_t[]){3, 128, 1}, 3, stacks, &at);
		append_stack(header, "down_proj_blocks", "U8", 1, (uint64_t[]){3, 32, 2, 16}, 4, stacks, &at);
		append_stack(header, "down_proj_scales", "U8", 1, (uint64_t[]){3, 32, 2}, 3, stacks, &at);
	} else {
		append_stack(header, "gate_up_proj", "BF16", 2, (uint64_t[]){3, 32, 128}, 3, stacks, &at);
		append_stack(header, "down_proj", "BF16", 2, (uint64_t[]){3, 64, 32}, 3, stacks, &at);
	}
	if (stacks->more)
		append_stack(header, stacks->more, "BF16", 2, (uint64_t[]){3}, 1, stacks, &at);
	fill_file(header, at, &file);
	enum err e = model_tensors_check(&config, file.weights, why);
	weights_close(file.weights);
	buf_fini(&file.bytes);
	return e;
}

static void stacks_are_packed_or_plain_as_the_config_says(void **state)
{
	static const struct {
		struct stacks stacks;
		enum err expected;
		const char *words;
	} rows[] = {
		{{.packed = true}, ERR_OK, ""},
		{{.packed = false}, ERR_OK, ""},
		{{.packed = true, .skip = "down_proj_scales"}, ERR_NOT_FOUND, "down_proj_scales is missing, expected U8 [3"},
		{{.packed = true, .skip = "gate_up_proj_blocks", .more = "gate_up_proj"}, ERR_NOT_FOUND,
		 "gate_up_proj_blocks is missing, expected U8 [3"},
		{{.packed = true, .wrong = "gate_up_proj_scales"}, ERR_MISMATCH, "gate_up_proj_scales is U8 [1], expected U8 [3"},
		{{.packed = true, .wrong = "down_proj_blocks"}, ERR_MISMATCH, "down_proj_blocks is U8 [1], expected U8 [3"},
		{{.packed = true, .more = "down_proj"}, ERR_MISMATCH, "experts.down_proj is no part of a GptOssForCausalLM model"},
		{{.packed = false, .more = "down_proj_blocks"}, ERR_MISMATCH, "down_proj_blocks is no part"},
		{{.packed = false, .skip = "down_proj"}, ERR_NOT_FOUND, "experts.down_proj is missing, expected BF16 [3"},
		{{.packed = false, .wrong = "gate_up_proj"}, ERR_MISMATCH, "gate_up_proj is BF16 [1], expected BF16 [3"},
		{{.packed = false, .wrong = "gate_up_proj_bias"}, ERR_MISMATCH, "gate_up_proj_bias is BF16 [1], expected BF16 [3"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct why why = {""};
		assert_int_equal(check_stacks(&rows[i].stacks, &why), rows[i].expected);
		if (!strstr(why.text, rows[i].words))
			fail_msg("\"%s\" lacks \"%s\"", why.text, rows[i].words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_of_a_role_lie_one_after_the_other),
		cmocka_unit_test(tied_embeddings_are_the_head),
		cmocka_unit_test(latent_attention_and_shared_experts_have_parts_of_their_own),
		cmocka_unit_test(layers_behind_the_last_are_left_alone),
		cmocka_unit_test(eight_bit_weights_come_with_a_scale_for_each_block),
		cmocka_unit_test(experts_in_stacks_have_one_name_and_many_specs),
		cmocka_unit_test(stacks_are_packed_or_plain_as_the_config_says),
		cmocka_unit_test(what_is_missing_surplus_or_of_another_shape_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
