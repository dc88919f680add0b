/* The smaller files of a model directory: which template counts, which tokens begin and end a text, and what is wrong with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/model_dir.h"
#include "tests/scratch.h"

static char dir[64];

static int setup(void **state)
{
	char from[4096], to[128];
	static const char *const files[] = {"config.json", "tokenizer.json"};
	if (!scratch_folder(dir, sizeof(dir), "parts"))
		return -1;
	for (int i = 0; i < 2; i++) {
		snprintf(from, sizeof(from), "%s/engine/llama-f32/%s", GOLDEN_DIR, files[i]);
		snprintf(to, sizeof(to), "%s/%s", dir, files[i]);
		if (symlink(from, to) != 0)
			return -1;
	}
	return 0;
}

static void drop(const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

static int teardown(void **state)
{
	drop("config.json");
	drop("tokenizer.json");
	drop("tokenizer_config.json");
	drop("chat_template.jinja");
	return rmdir(dir);
}

static void put(const char *name, const char *text)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
	fclose(file);
}

static struct model_dir *opened(void)
{
	struct model_dir *model = NULL;
	struct why why = {.text = "old"};
	if (model_dir_open(dir, &(struct model_dir_options){.without_weights = true}, &why, &model) != ERR_OK)
		fail_msg("%s", why.text);
	assert_string_equal(why.text, "");
	return model;
}

static void refused(enum err expected, const char *words)
{
	struct model_dir *model = NULL;
	struct why why = {0};
	assert_int_equal(model_dir_open(dir, &(struct model_dir_options){.without_weights = true}, &why, &model), expected);
	assert_null(model);
	assert_int_equal(strncmp(why.text, dir, strlen(dir)), 0);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" lacks \"%s\"", why.text, words);
}

/* What the directory's template makes of one message. */
static void renders(const char *expected)
{
	struct model_dir *model = opened();
	json_t *messages = json_loads("[{\"role\":\"user\",\"content\":\"hi\"}]", 0, NULL);
	json_t *extra = json_loads("{\"x\":\"!\",\"messages\":\"theirs\"}", 0, NULL);
	struct buf text = {0};
	struct why why = {0};
	enum err e = model_dir_chat(model, messages, &(struct chat_options){.variables = extra, .add_generation_prompt = true},
				    &why, &text);
	if (!expected)
		assert_int_equal(e, ERR_UNSUPPORTED);
	else if (e != ERR_OK)
		fail_msg("%s", why.text);
	else
		assert_string_equal(text.data, expected);
	buf_fini(&text);
	json_decref(extra);
	json_decref(messages);
	model_dir_close(model);
}

static void a_directory_without_a_template_has_no_chat(void **state)
{
	renders(NULL);
	put("tokenizer_config.json", "{\"chat_template\":7}");
	renders(NULL);
	put("tokenizer_config.json", "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"a\"}]}");
	renders(NULL);
	put("tokenizer_config.json", "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"a\"},{\"template\":\"b\"},7]}");
	refused(ERR_INVALID, "chat_template[1]: expected a name and a template");
}

static void the_default_of_named_templates_counts(void **state)
{
	put("tokenizer_config.json", "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"a\"},"
				     "{\"name\":\"default\",\"template\":\"{{ messages[0].content }}{{ x }}\"}]}");
	renders("hi!");
}

static void a_file_of_its_own_wins(void **state)
{
	put("tokenizer_config.json", "{\"chat_template\":\"old\",\"bos_token\":\"<b>\",\"eos_token\":{\"content\":\"<e>\"}}");
	renders("old");
	put("chat_template.jinja", "{{ bos_token }}{{ messages[0].role }}{{ eos_token }}");
	renders("<b>user<e>");
	drop("tokenizer_config.json");
	renders("user"); /* tokens that nobody named are undefined */
}

static void tokens_are_texts_or_objects_with_one(void **state)
{
	put("tokenizer_config.json", "{\"bos_token\":null,\"eos_token\":{\"content\":5}}");
	struct model_dir *model = opened();
	assert_int_equal(json_object_size(model->special_tokens), 0);
	model_dir_close(model);
	model_dir_close(NULL);
}

static void a_part_that_is_wrong_is_named_with_its_file(void **state)
{
	put("tokenizer_config.json", "{");
	refused(ERR_INVALID, "tokenizer_config.json: line 1");
	put("tokenizer_config.json", "{\"chat_template\":\"{% if %}\"}");
	refused(ERR_INVALID, "chat template: line 1");
	put("tokenizer_config.json", "{}");
	put("chat_template.jinja", "\n\n{{ a");
	refused(ERR_INVALID, "chat template: line 3");
	drop("chat_template.jinja");
	drop("tokenizer.json");
	refused(ERR_NOT_FOUND, "tokenizer.json");
	drop("config.json");
	refused(ERR_NOT_FOUND, "config.json");
}

static void a_path_is_a_directory_with_a_name(void **state)
{
	struct model_dir *model = NULL;
	struct why why = {0};
	char longer[8192];
	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	assert_int_equal(model_dir_open(longer, NULL, &why, &model), ERR_NOT_FOUND);
	assert_int_equal(model_dir_open("/", NULL, &why, &model), ERR_NOT_FOUND);
	char here[4096];
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(dir), 0);
	enum err e = model_dir_open(".", &(struct model_dir_options){.without_weights = true}, &why, &model);
	assert_int_equal(chdir(here), 0);
	assert_int_equal(e, ERR_OK);
	assert_string_equal(model->name, strrchr(dir, '/') + 1);
	model_dir_close(model);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_directory_without_a_template_has_no_chat),
		T(the_default_of_named_templates_counts),
		T(a_file_of_its_own_wins),
		T(tokens_are_texts_or_objects_with_one),
		T(a_part_that_is_wrong_is_named_with_its_file),
		T(a_path_is_a_directory_with_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
