#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/options.h"

static uint64_t blocks;
static uint64_t bytes;
static const char *name;
static bool loud;
static struct option_list models;

static const struct option table[] = {
	{"kv-blocks", OPTION_COUNT, &blocks, 1, 100000, "N", "blocks"},
	{"kv-bytes", OPTION_BYTES, &bytes, 0, 0, "BYTES", "bytes"},
	{"name", OPTION_TEXT, &name, 0, 0, "TEXT", "name"},
	{"loud", OPTION_FLAG, &loud, 0, 0, NULL, "loud"},
	{"model", OPTION_LIST, &models, 0, 0, "DIR", "models"},
};

static int reset(void **state)
{
	blocks = 7;
	bytes = 0;
	name = "default";
	loud = false;
	models.count = 0;
	return 0;
}

static enum err parse(struct why *why, char **environment, int argc, ...)
{
	char *argv[16] = {"test"};
	va_list args;
	va_start(args, argc);
	for (int i = 0; i < argc; i++)
		argv[i + 1] = va_arg(args, char *);
	va_end(args);
	struct options options = {.program = "test", .usage = "", .table = table, .count = 5, .environment = environment};
	enum err e = options_parse(&options, argc + 1, argv, why);
	static struct options last;
	options_fini(&last);
	last = options; /* the texts live until the next parse */
	return e;
}

static void flag_beats_variable_beats_file_beats_default(void **state)
{
	char path[] = "/tmp/test_options_XXXXXX";
	int fd = mkstemp(path);
	dprintf(fd, "kv-blocks: 11\nname: from-file\nkv-bytes: 2MiB\nmodel: [a, b]\n");
	close(fd);
	char *environment[] = {"BATON_KV_BLOCKS=12", "BATON_NAME=from-variable", "OTHER=1", NULL};
	struct why why = {0};
	assert_int_equal(parse(&why, environment, 4, "--config", path, "--kv-blocks", "13"), ERR_OK);
	unlink(path);
	assert_int_equal(blocks, 13);
	assert_string_equal(name, "from-variable");
	assert_int_equal(bytes, 2 << 20);
	assert_int_equal(models.count, 2);
	assert_string_equal(models.items[1], "b");
}

static void unknown_key_names_the_nearest(void **state)
{
	struct why why = {0};
	assert_int_equal(parse(&why, NULL, 2, "--kv-block", "3"), ERR_INVALID);
	assert_non_null(strstr(why.text, "did you mean \"kv-blocks\"?"));
	char path[] = "/tmp/test_options_XXXXXX";
	int fd = mkstemp(path);
	dprintf(fd, "nmae: x\n");
	close(fd);
	assert_int_equal(parse(&why, NULL, 2, "--config", path), ERR_INVALID);
	unlink(path);
	assert_non_null(strstr(why.text, "did you mean \"name\"?"));
	assert_non_null(strstr(why.text, path));
}

static void numbers_out_of_range_are_refused(void **state)
{
	struct why why = {0};
	const char *wrong[] = {"0", "100001", "-1", "3x", "", "4KiB", "99999999999999999999"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(parse(&why, NULL, 2, "--kv-blocks", wrong[i]), ERR_INVALID);
	assert_non_null(strstr(why.text, "from 1 to 100000"));
	assert_int_equal(parse(&why, NULL, 1, "--name"), ERR_INVALID);
}

static void lists_and_flags(void **state)
{
	struct why why = {0};
	assert_int_equal(parse(&why, NULL, 5, "--model", "a,b", "--loud", "--model=c", "--kv-bytes=1GiB"), ERR_OK);
	assert_int_equal(models.count, 3);
	assert_string_equal(models.items[2], "c");
	assert_true(loud);
	assert_int_equal(bytes, 1 << 30);
	assert_int_equal(parse(&why, NULL, 1, "--loud=maybe"), ERR_INVALID);
}

static enum err parse_file(const char *text, size_t length, struct why *why)
{
	char path[] = "/tmp/test_options_XXXXXX";
	int fd = mkstemp(path);
	assert_int_equal(write(fd, text, length), length);
	close(fd);
	enum err e = parse(why, NULL, 2, "--config", path);
	unlink(path);
	return e;
}

/* libfyaml 0.7 does not come back from the first one. */
static void a_file_that_is_no_text_is_refused_with_its_line(void **state)
{
	static const char *const wrong[] = {"%\xc4", "name: a\n\xff: b", "name: \xed\xa0", "name: \xc0\x80"};
	struct why why = {0};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(parse_file(wrong[i], strlen(wrong[i]), &why), ERR_INVALID);
		assert_non_null(strstr(why.text, i == 1 ? "line 2: expected UTF-8" : "line 1: expected UTF-8"));
	}
	assert_int_equal(parse_file("name: a\0b", 9, &why), ERR_INVALID);
	assert_int_equal(parse_file("name: \xc3\xa9\n", 9, &why), ERR_OK);
	assert_string_equal(name, "\xc3\xa9");
	assert_int_equal(parse_file("", 0, &why), ERR_OK);
	assert_int_equal(parse(&why, NULL, 2, "--config", "/nowhere.yaml"), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, "/nowhere.yaml"));
}

static void a_file_over_its_limit_is_refused(void **state)
{
	struct why why = {0};
	size_t length = (1 << 20) + 1;
	char *text = malloc(length);
	memset(text, '#', length);
	assert_int_equal(parse_file(text, length - 1, &why), ERR_OK); /* one long comment */
	assert_int_equal(parse_file(text, length, &why), ERR_TOO_LARGE);
	free(text);
}

static void a_secret_that_is_forgotten_stands_nowhere(void **state)
{
	char program[] = "p", flag[] = "--model", first[] = "sesame1", second[] = "--model=sesame2", other[] = "--name=kept";
	char variable[] = "BATON_MODEL=sesame3", near[] = "BATON_MODELS=kept";
	char *argv[] = {program, flag, first, second, other, NULL}, *environment[] = {variable, near, NULL};
	struct option_list secrets = {0};
	const char *kept = NULL;
	const struct option rows[] = {{"model", OPTION_LIST, &secrets}, {"name", OPTION_TEXT, &kept}};
	struct options options = {.program = "p", .usage = "", .table = rows, .count = 2, .environment = environment};
	struct why why = {0};
	assert_int_equal(options_parse(&options, 5, argv, &why), ERR_OK);
	assert_string_equal(secrets.items[1], "sesame2");
	options_forget(&options, "model", 5, argv);
	assert_string_equal(first, "");
	assert_string_equal(second, "--model=");
	assert_string_equal(variable, "BATON_MODEL=");
	assert_string_equal(near, "BATON_MODELS=kept");
	assert_string_equal(kept, "kept");
	for (size_t i = 0; i < secrets.count; i++)
		assert_string_equal(secrets.items[i], "");
	options_fini(&options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_file_that_is_no_text_is_refused_with_its_line, reset),
		cmocka_unit_test_setup(a_file_over_its_limit_is_refused, reset),
		cmocka_unit_test_setup(flag_beats_variable_beats_file_beats_default, reset),
		cmocka_unit_test_setup(unknown_key_names_the_nearest, reset),
		cmocka_unit_test_setup(numbers_out_of_range_are_refused, reset),
		cmocka_unit_test_setup(lists_and_flags, reset),
		cmocka_unit_test(a_secret_that_is_forgotten_stands_nowhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
