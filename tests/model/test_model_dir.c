/* A whole directory, which the test writes: the golden tokenizer, a config, and weights that count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/model_dir.h"
#include "model/tensors.h"
#include "tests/model/golden.h"
#include "tests/scratch.h"

static const char config_text[] =
	"{\"architectures\": [\"LlamaForCausalLM\"], \"torch_dtype\": \"float32\", \"vocab_size\": 720,"
	"\"hidden_size\": 4, \"intermediate_size\": 6, \"num_hidden_layers\": 2, \"num_attention_heads\": 2,"
	"\"num_key_value_heads\": 1, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5,"
	"\"tie_word_embeddings\": true, \"eos_token_id\": 5}";
static const char tokenizer_config_text[] =
	"{\"bos_token\": \"<|begin|>\", \"eos_token\": {\"content\": \"<|eot|>\"}, \"model_max_length\": "
	"1000000000000000019884624838656, \"chat_template\": \"{{ bos_token }}{% for m in messages %}"
	"[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}>{% endif %}\"}";

static char root[64];

static void path_of(char *path, const char *dir, const char *name)
{
	assert_true(snprintf(path, 4096, "%s/%s/%s", root, dir, name) < 4096);
}

static void write_file(const char *dir, const char *name, const void *data, size_t length)
{
	char path[4096];
	path_of(path, dir, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

/* Tensors of the config, cut into shards: a tensor goes to shard (its number modulo `shards`). */
struct writer {
	json_t *headers[3];
	struct buf data[3];
	json_t *map;
	uint32_t shards;
	uint32_t count;
	const char *skip;
};

static enum err add_tensor(void *arg, const struct tensor_spec *spec)
{
	struct writer *w = arg;
	uint32_t number = w->count++, shard = number % w->shards;
	if (w->skip && strcmp(spec->name, w->skip) == 0)
		return ERR_OK;
	size_t numbers = spec->dims[0] * (spec->dim_count == 2 ? spec->dims[1] : 1), begin = w->data[shard].length;
	for (size_t i = 0; i < numbers; i++) {
		float x = (float)number + (float)i / 8;
		assert_int_equal(buf_append(&w->data[shard], &x, 4), ERR_OK);
	}
	json_t *shape = json_array();
	for (uint32_t i = 0; i < spec->dim_count; i++)
		json_array_append_new(shape, json_integer((json_int_t)spec->dims[i]));
	json_object_set_new(w->headers[shard], spec->name,
			    json_pack("{s:s,s:o,s:[i,i]}", "dtype", "F32", "shape", shape, "data_offsets",
				      (int)begin, (int)w->data[shard].length));
	char name[32];
	snprintf(name, sizeof(name), "m%u.safetensors", shard);
	json_object_set_new(w->map, spec->name, json_string(name));
	return ERR_OK;
}

static void write_weights(const char *dir, uint32_t shards, const char *skip)
{
	struct model_config config;
	assert_int_equal(model_config_parse(config_text, strlen(config_text), NULL, 0, NULL, &config), ERR_OK);
	struct writer w = {.map = json_object(), .shards = shards, .skip = skip};
	for (uint32_t i = 0; i < shards; i++)
		w.headers[i] = json_object();
	assert_int_equal(model_tensors_each(&config, add_tensor, &w), ERR_OK);
	for (uint32_t i = 0; i < shards; i++) {
		struct buf file = {0};
		char *header = json_dumps(w.headers[i], JSON_COMPACT), name[32];
		uint64_t length = strlen(header); /* little endian, as this machine */
		assert_int_equal(buf_append(&file, &length, 8), ERR_OK);
		assert_int_equal(buf_text(&file, header), ERR_OK);
		assert_int_equal(buf_append(&file, w.data[i].data, w.data[i].length), ERR_OK);
		snprintf(name, sizeof(name), "m%u.safetensors", i);
		write_file(dir, shards == 1 ? "model.safetensors" : name, file.data, file.length);
		free(header);
		json_decref(w.headers[i]);
		buf_fini(&w.data[i]);
		buf_fini(&file);
	}
	json_t *index = json_pack("{s:o}", "weight_map", w.map);
	char *text = json_dumps(index, 0);
	if (shards > 1)
		write_file(dir, "model.safetensors.index.json", text, strlen(text));
	free(text);
	json_decref(index);
}

static void make_dir(const char *dir, uint32_t shards, const char *skip)
{
	char path[4096];
	path_of(path, dir, "");
	assert_int_equal(mkdir(path, 0700), 0);
	write_file(dir, "config.json", config_text, strlen(config_text));
	write_file(dir, "tokenizer_config.json", tokenizer_config_text, strlen(tokenizer_config_text));
	json_t *tokenizer = golden_read("tokenizer/llama3.json");
	char *text = json_dumps(tokenizer, 0);
	write_file(dir, "tokenizer.json", text, strlen(text));
	free(text);
	json_decref(tokenizer);
	write_weights(dir, shards, skip);
}

static enum err open_dir(const char *dir, bool without_weights, struct why *why, struct model_dir **ret_dir)
{
	char path[4096];
	path_of(path, dir, "");
	return model_dir_open(path, &(struct model_dir_options){without_weights}, why, ret_dir);
}

static void directory_opens_as_a_whole(void **state)
{
	struct model_dir *dir = NULL;
	struct why why = {0};
	make_dir("one", 1, NULL);
	if (open_dir("one", false, &why, &dir) != ERR_OK)
		fail_msg("%s", why.text);
	assert_string_equal(dir->name, "one");
	assert_string_equal(json_string_value(json_object_get(dir->special_tokens, "bos_token")), "<|begin|>");
	assert_string_equal(json_string_value(json_object_get(dir->special_tokens, "eos_token")), "<|eot|>");
	assert_int_equal(weights_count(dir->weights), 1 + 2 * 9 + 1);
	json_t *messages = json_loads("[{\"role\": \"user\", \"content\": \"hi\"}]", 0, NULL);
	struct buf text = {0};
	assert_int_equal(model_dir_chat(dir, messages, &(struct chat_options){.add_generation_prompt = true}, &why, &text), ERR_OK);
	assert_string_equal(text.data, "<|begin|>[user] hi<|eot|>>");
	buf_fini(&text);
	json_decref(messages);
	model_dir_close(dir);
}

static void fingerprint_does_not_see_the_shards_but_every_byte(void **state)
{
	struct model_dir *one = NULL, *three = NULL, *light = NULL;
	struct why why = {0};
	make_dir("three", 3, NULL);
	assert_int_equal(open_dir("one", false, &why, &one), ERR_OK);
	if (open_dir("three", false, &why, &three) != ERR_OK)
		fail_msg("%s", why.text);
	assert_int_equal(weights_shard_count(three->weights), 3);
	uint8_t fingerprint[32], before[32], outline[MODEL_OUTLINE_BYTES];
	model_dir_fingerprint(one, NULL, fingerprint);
	model_dir_fingerprint(three, NULL, before);
	assert_memory_equal(fingerprint, before, 32);
	model_dir_close(three);

	char path[4096];
	path_of(path, "three", "m1.safetensors");
	FILE *file = fopen(path, "r+b");
	assert_non_null(file);
	fseek(file, -1, SEEK_END);
	fputc(0x55, file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(open_dir("three", false, &why, &three), ERR_OK);
	model_dir_fingerprint(three, NULL, fingerprint);
	assert_memory_not_equal(before, fingerprint, 32);
	/* A byte of a weight is in the second half; the first is known without. */
	assert_memory_not_equal(before + MODEL_OUTLINE_BYTES, fingerprint + MODEL_OUTLINE_BYTES, 32 - MODEL_OUTLINE_BYTES);
	model_dir_outline(one, outline);
	assert_memory_equal(outline, fingerprint, MODEL_OUTLINE_BYTES);

	assert_int_equal(open_dir("three", true, &why, &light), ERR_OK);
	assert_null(light->weights);
	assert_memory_equal(light->text_fingerprint, one->text_fingerprint, 32);
	model_dir_close(light);
	model_dir_close(three);
	model_dir_close(one);
}

static void missing_and_surplus_tensors_are_named(void **state)
{
	struct model_dir *dir = NULL;
	struct why why = {0};
	make_dir("missing", 1, "model.layers.1.mlp.up_proj.weight");
	assert_int_equal(open_dir("missing", false, &why, &dir), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, "tensor model.layers.1.mlp.up_proj.weight is missing, expected F32 [6, 4]"));
	make_dir("surplus", 1, NULL);
	char fewer[sizeof(config_text)];
	memcpy(fewer, config_text, sizeof(fewer));
	*strstr(fewer, "2, \"num_attention_heads\"") = '1';
	write_file("surplus", "config.json", fewer, strlen(fewer));
	assert_int_equal(open_dir("surplus", false, &why, &dir), ERR_MISMATCH);
	assert_non_null(strstr(why.text, "model.layers.1."));
}

static void parts_that_do_not_fit_are_refused(void **state)
{
	struct model_dir *dir = NULL;
	struct why why = {0};
	make_dir("unfit", 1, NULL);
	char small[sizeof(config_text)];
	memcpy(small, config_text, sizeof(small));
	memcpy(strstr(small, "720"), "700", 3);
	write_file("unfit", "config.json", small, strlen(small));
	assert_int_equal(open_dir("unfit", false, &why, &dir), ERR_MISMATCH);
	assert_non_null(strstr(why.text, "vocab_size is 700"));
	write_file("unfit", "config.json", config_text, strlen(config_text));
	const char *escape = "{\"weight_map\": {\"a\": \"../x\"}}";
	write_file("unfit", "model.safetensors.index.json", escape, strlen(escape));
	assert_int_equal(open_dir("unfit", false, &why, &dir), ERR_INVALID);
	assert_non_null(strstr(why.text, "\"../x\" is no plain file name"));
	assert_int_equal(open_dir("nowhere", false, &why, &dir), ERR_NOT_FOUND);
	char path[4096];
	path_of(path, "unfit", "tokenizer.json");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(open_dir("unfit", false, &why, &dir), ERR_NOT_FOUND);
	write_file("unfit", "tokenizer.model", "", 0);
	assert_int_equal(open_dir("unfit", false, &why, &dir), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "tokenizer.model: expected a tokenizer.json"));
}

static int make_root(void **state)
{
	return scratch_folder(root, sizeof(root), "model") ? 0 : -1;
}

/* What a chat with or without tools becomes. */
static void expect_chat(const char *dir_name, bool with_tools, const char *expected)
{
	struct model_dir *dir = NULL;
	struct why why = {0};
	struct buf text = {0};
	json_t *messages = json_loads("[{\"role\": \"user\", \"content\": \"hi\"}]", 0, NULL), *tools = json_loads("[{}]", 0, NULL);
	if (open_dir(dir_name, true, &why, &dir) != ERR_OK)
		fail_msg("%s", why.text);
	enum err e = model_dir_chat(dir, messages, &(struct chat_options){.tools = with_tools ? tools : NULL}, &why, &text);
	assert_int_equal(e, expected ? ERR_OK : ERR_UNSUPPORTED);
	if (expected)
		assert_string_equal(text.data, expected);
	buf_fini(&text);
	json_decref(messages);
	json_decref(tools);
	model_dir_close(dir);
}

static void write_text(const char *dir, const char *name, const char *text)
{
	write_file(dir, name, text, strlen(text));
}

static void chat_templates_are_chosen_as_transformers_does(void **state)
{
	char path[4096];
	make_dir("chats", 1, NULL);
	write_text("chats", "chat_template.json", "{\"chat_template\": \"old {{ messages[0].content }}\"}");
	write_text("chats", "tokenizer_config.json", "{}");
	expect_chat("chats", true, "old hi");
	write_text("chats", "tokenizer_config.json",
		   "{\"chat_template\": [{\"name\": \"default\", \"template\": \"plain {{ tools is none }}\"},"
		   "{\"name\": \"tool_use\", \"template\": \"tools {{ tools|length }}\"}]}");
	expect_chat("chats", false, "plain True");
	expect_chat("chats", true, "tools 1");
	write_text("chats", "tokenizer_config.json", "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"}]}");
	expect_chat("chats", false, NULL);
	write_text("chats", "chat_template.jinja", "new {{ documents is none }}");
	expect_chat("chats", true, "new True");
	path_of(path, "chats", "additional_chat_templates");
	assert_int_equal(mkdir(path, 0700), 0);
	write_text("chats", "additional_chat_templates/tool_use.jinja", "new tools");
	expect_chat("chats", true, "new tools");
	write_text("chats", "additional_chat_templates/tool_use.jinja", "{% include 'x' %}");
	struct model_dir *dir = NULL;
	struct why why = {0};
	assert_int_equal(open_dir("chats", true, &why, &dir), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "additional_chat_templates/tool_use.jinja"));
}

static int remove_root(void **state)
{
	static const char *const dirs[] = {"one", "three", "missing", "surplus", "unfit", "chats"};
	static const char *const files[] = {"config.json",     "tokenizer_config.json", "tokenizer.json",
					    "m0.safetensors",  "m1.safetensors",        "m2.safetensors",
					    "model.safetensors", "model.safetensors.index.json", "tokenizer.model",
					    "chat_template.json", "chat_template.jinja",
					    "additional_chat_templates/tool_use.jinja", "additional_chat_templates", ""};
	char path[4096];
	for (size_t d = 0; d < sizeof(dirs) / sizeof(dirs[0]); d++)
		for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
			path_of(path, dirs[d], files[f]);
			(void)remove(path);
		}
	return rmdir(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(directory_opens_as_a_whole),
		cmocka_unit_test(fingerprint_does_not_see_the_shards_but_every_byte),
		cmocka_unit_test(missing_and_surplus_tensors_are_named),
		cmocka_unit_test(parts_that_do_not_fit_are_refused),
		cmocka_unit_test(chat_templates_are_chosen_as_transformers_does),
	};
	return cmocka_run_group_tests(tests, make_root, remove_root);
}
