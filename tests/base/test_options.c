#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/options.h"
#include "tests/scratch.h"

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
	char path[64];
	int fd = scratch_file(path, sizeof(path), "options");
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
	char path[64];
	int fd = scratch_file(path, sizeof(path), "options");
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
	char path[64];
	int fd = scratch_file(path, sizeof(path), "options");
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

/* What `count` words after `first` become in options whose table is `table`, with words allowed. */
static enum err parse_words(int count, const char *word, struct options *options, struct why *why)
{
	char *argv[80] = {"test"};
	for (int i = 0; i < count; i++)
		argv[i + 1] = (char *)(uintptr_t)word;
	*options = (struct options){.program = "test", .table = table, .count = 5, .positional = true};
	return options_parse(options, count + 1, argv, why);
}

static void words_are_taken_where_they_are_expected(void **state)
{
	struct why why = {0};
	struct options options;
	assert_int_equal(parse_words(OPTION_LIST_MAX, "word", &options, &why), ERR_OK);
	assert_int_equal(options.words.count, OPTION_LIST_MAX);
	assert_string_equal(options.words.items[OPTION_LIST_MAX - 1], "word");
	assert_int_equal(parse_words(OPTION_LIST_MAX + 1, "word", &options, &why), ERR_TOO_LARGE);
	assert_string_equal(why.text, "over 64 words");
	assert_int_equal(parse(&why, NULL, 1, "word"), ERR_INVALID);
	assert_non_null(strstr(why.text, "\"word\" is not expected here"));
}

static void a_list_and_a_value_have_their_limits(void **state)
{
	struct why why = {0};
	char items[2 * OPTION_LIST_MAX + 2], text[4100];
	for (size_t i = 0; i < sizeof(items); i++)
		items[i] = i % 2 ? ',' : 'a';
	items[2 * OPTION_LIST_MAX + 1] = 0;
	assert_int_equal(parse(&why, NULL, 2, "--model", items), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "model has over 64 items"));
	items[2 * OPTION_LIST_MAX - 1] = 0;
	assert_int_equal(parse(&why, NULL, 2, "--model", items), ERR_OK);
	assert_int_equal(models.count, OPTION_LIST_MAX);
	memset(text, 'a', sizeof(text));
	text[4096] = 0;
	assert_int_equal(parse(&why, NULL, 2, "--name", text), ERR_OK);
	text[4096] = 'a', text[4097] = 0;
	assert_int_equal(parse(&why, NULL, 2, "--name", text), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "name is over 4096 bytes"));
}

static void a_flag_says_yes_or_no_in_three_ways(void **state)
{
	static const struct {
		char *text;
		bool loud;
	} cases[] = {{"--loud", true},       {"--loud=true", true}, {"--loud=1", true}, {"--loud=yes", true},
		     {"--loud=false", false}, {"--loud=0", false},   {"--loud=no", false}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		loud = !cases[i].loud;
		assert_int_equal(parse(NULL, NULL, 1, cases[i].text), ERR_OK);
		assert_int_equal(loud, cases[i].loud);
	}
	struct why why = {0};
	assert_int_equal(parse(&why, NULL, 1, "--loud="), ERR_INVALID);
	assert_non_null(strstr(why.text, "expected true or false"));
}

static void bytes_have_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {{"7", 7},           {"2KiB", 2048},       {"3MiB", 3 << 20}, {"1TiB", 1ull << 40},
		     {"2KB", 2000},      {"3MB", 3000000},     {"4GB", 4000000000}, {"16777215TiB", 16777215ull << 40}};
	uint64_t number;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(options_bytes(cases[i].text, &number), ERR_OK);
		assert_true(number == cases[i].bytes);
	}
	static const char *const wrong[] = {"", "MiB", "-1", "1 MiB", "1mib", "16777216TiB", "18446744073709551616"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(options_bytes(wrong[i], &number), ERR_INVALID);
	struct why why = {0};
	assert_int_equal(parse(&why, NULL, 1, "--kv-bytes=x"), ERR_INVALID);
	assert_non_null(strstr(why.text, "of bytes (64MiB, 2GiB) from 0 to 18446744073709551615"));
}

static void variables_that_are_not_ours_are_let_be(void **state)
{
	struct why why = {0};
	char longer[200] = "BATON_";
	memset(longer + 6, 'A', 80);
	strcpy(longer + 86, "=1");
	char *environment[] = {"BATON", "BATON_NAME", "BATON_", "BATON_NEW=1", "BATON_KV_BLOCKS_MORE=1", longer, "name=x", NULL};
	assert_int_equal(parse(&why, environment, 0), ERR_OK);
	assert_string_equal(name, "default");
	char *wrong[] = {"BATON_Kv_bLOCKS=none", NULL};
	assert_int_equal(parse(&why, wrong, 0), ERR_INVALID);
	assert_non_null(strstr(why.text, "environment: kv-blocks is \"none\""));
}

static void what_wants_a_value_says_so(void **state)
{
	struct why why = {0};
	assert_int_equal(parse(&why, NULL, 1, "--config"), ERR_INVALID);
	assert_string_equal(why.text, "--config wants a file");
	assert_int_equal(parse(&why, NULL, 1, "--kv-blocks"), ERR_INVALID);
	assert_string_equal(why.text, "command line: kv-blocks wants a value");
	assert_int_equal(parse(&why, NULL, 1, "--"), ERR_INVALID);
	struct options options = {.program = "test", .usage = "", .table = table, .count = 257};
	assert_int_equal(options_parse(&options, 0, NULL, &why), ERR_TOO_LARGE);
}

static void nothing_is_near_to_a_word_that_is_too_long(void **state)
{
	char longer[70] = "";
	memset(longer, 'a', 65);
	const char *const near[] = {longer, "aab", "bbb"};
	assert_string_equal(options_nearest("aaa", near, 3), "aab");
	assert_null(options_nearest("aaa", near, 1));
	assert_null(options_nearest(longer, near, 1));
	assert_null(options_nearest("xyz", near, 3));
	assert_null(options_nearest("", near, 3));
}

static void yaml_that_is_no_flat_mapping_is_refused(void **state)
{
	static const char *const wrong[][2] = {
		{"- a\n- b\n", "expected a mapping"}, {"just text\n", "expected a mapping"}, {"name: {a: b}\n", "name is neither"},
		{"model: [a, [b]]\n", "model is neither"}, {"{[a]: b}\n", "a key is no text"}, {"name: [\n", "not valid YAML"},
		{"kv-blocks: [1, none]\n", "kv-blocks is \"none\""}, {"--- {}\n...\nname\n", ""},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct why why = {0};
		assert_int_equal(parse_file(wrong[i][0], strlen(wrong[i][0]), &why), wrong[i][1][0] ? ERR_INVALID : ERR_OK);
		if (!strstr(why.text, wrong[i][1]))
			fail_msg("%s: \"%s\" lacks \"%s\"", wrong[i][0], why.text, wrong[i][1]);
	}
	struct why why = {0};
	name = "default";
	assert_int_equal(parse_file("name:\nloud: yes\n", 16, &why), ERR_OK);
	assert_string_equal(name, "");
	assert_true(loud);
	assert_int_equal(parse_file("# nothing\n\t \r\n# at all", 22, &why), ERR_OK);
}

static void a_text_that_is_forgotten_stands_nowhere(void **state)
{
	char program[] = "p", flag[] = "--name", last[] = "--name", value[] = "sesame1", longer[] = "--names=kept", word[] = "name";
	char variable[] = "BATON_NAME=sesame2", other[] = "OTHER=kept", half[] = "BATON_NA=kept";
	char *argv[] = {program, flag, value, longer, word, last, NULL}, *environment[] = {variable, other, half, NULL};
	char secret[] = "sesame3";
	const char *given = secret;
	const struct option rows[] = {{"name", OPTION_TEXT, &given}};
	struct options options = {.program = "p", .usage = "", .table = rows, .count = 1, .environment = environment};
	options_forget(&options, "name", 6, argv);
	assert_string_equal(value, "");
	assert_string_equal(secret, "");
	assert_string_equal(variable, "BATON_NAME=");
	assert_string_equal(longer, "--names=kept");
	assert_string_equal(word, "name");
	assert_string_equal(last, "--name");
	assert_string_equal(other, "OTHER=kept");
	assert_string_equal(half, "BATON_NA=kept");
	given = NULL;
	options.environment = NULL;
	options_forget(&options, "name", 1, argv); /* one that was never given, and one that there is not */
	options_forget(&options, "unknown", 1, argv);
}

static void the_help_lists_every_flag(void **state)
{
	char text[2048] = "";
	struct options options = {.program = "test", .usage = "[WORD]", .table = table, .count = 5};
	char *argv[] = {"test", "-h", NULL};
	assert_int_equal(options_parse(&options, 2, argv, NULL), ERR_OK);
	assert_true(options.help);
	fflush(stdout);
	FILE *file = tmpfile();
	int saved = dup(STDOUT_FILENO);
	dup2(fileno(file), STDOUT_FILENO);
	options_print_help(&options);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	rewind(file);
	assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
	fclose(file);
	assert_non_null(strstr(text, "usage: test [WORD]\n"));
	assert_non_null(strstr(text, "  --kv-blocks N                  blocks\n"));
	assert_non_null(strstr(text, "  --loud                         loud\n"));
	assert_non_null(strstr(text, "  --config FILE "));
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
		cmocka_unit_test(a_text_that_is_forgotten_stands_nowhere),
		cmocka_unit_test_setup(words_are_taken_where_they_are_expected, reset),
		cmocka_unit_test_setup(a_list_and_a_value_have_their_limits, reset),
		cmocka_unit_test_setup(a_flag_says_yes_or_no_in_three_ways, reset),
		cmocka_unit_test_setup(bytes_have_units, reset),
		cmocka_unit_test_setup(variables_that_are_not_ours_are_let_be, reset),
		cmocka_unit_test_setup(what_wants_a_value_says_so, reset),
		cmocka_unit_test(nothing_is_near_to_a_word_that_is_too_long),
		cmocka_unit_test_setup(yaml_that_is_no_flat_mapping_is_refused, reset),
		cmocka_unit_test_setup(the_help_lists_every_flag, reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
