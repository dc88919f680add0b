/* Regular expressions, part by part: the texts that are taken and those that are not, as a whole text and as the inside of a
 * JSON string; and the words with which the others are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "model/matcher.h"
#include "model/structure.h"

/* {"regex": pattern}, or {"json": {"pattern": pattern}} */
static enum err compile(const char *pattern, bool quoted, struct why *why, struct grammar **ret_grammar)
{
	json_t *structure = quoted ? json_pack("{s:{s:s}}", "json", "pattern", pattern) : json_pack("{s:s}", "regex", pattern);
	char *text = json_dumps(structure, JSON_COMPACT);
	assert_non_null(text);
	enum err e = structure_compile(text, strlen(text), NULL, why, ret_grammar);
	free(text);
	json_decref(structure);
	return e;
}

struct said {
	const char *pattern;
	const char *taken, *refused; /* one a line; two line feeds: the empty text */
};

static size_t wrong_lines(const struct said *said, const struct grammar *grammar, const char *lines, bool taken)
{
	static struct matcher matcher;
	size_t wrong = 0;
	for (const char *at = lines; at && *at;) {
		size_t length = strcspn(at, "\n");
		matcher_begin(&matcher, grammar);
		if ((matcher_read(&matcher, (const uint8_t *)at, length) && matcher_accepts(&matcher)) != taken) {
			print_error("%s: %.*s is %s\n", said->pattern, (int)length, at, taken ? "not taken" : "taken");
			wrong++;
		}
		at += length + (at[length] == '\n');
	}
	return wrong;
}

static void all_hold(const struct said *cases, size_t count, bool quoted)
{
	size_t wrong = 0;
	for (size_t i = 0; i < count; i++) {
		struct grammar *grammar = NULL;
		struct why why = {0};
		if (compile(cases[i].pattern, quoted, &why, &grammar) != ERR_OK)
			fail_msg("%s: %s", cases[i].pattern, why.text);
		wrong += wrong_lines(&cases[i], grammar, cases[i].taken, true);
		wrong += wrong_lines(&cases[i], grammar, cases[i].refused, false);
		grammar_destroy(grammar);
	}
	assert_int_equal(wrong, 0);
}

static void an_expression_takes_its_texts(void **state)
{
	static const struct said cases[] = {
		/* escapes */
		{"\\x41\\u00e9\\x4a\\x4A", "A\xc3\xa9JJ", "Ae\nJ"},
		{"a\\tb\\.\\\\\\/\\-", "a\tb.\\/-", "atb.\\/-\na\tbx\\/-"},
		{"[\\b\\f\\v\\t\\r]", "\b\n\f\n\v\n\t\n\r", "b\nf\nv"},
		/* classes */
		{"\\d\\D", "1a\n0\xc3\xa9", "11\naa\na1"},
		{"\\w\\W", "_-\nZ \n9.", "__\n- "},
		{"\\s\\S", " a\n\tb", "  \nab\n \xc2\xa0\n \xe3\x80\x80"},
		{"[\\d\\-]+", "1-2\n-", "a\n1a"},
		{"[^\\d\\s]", "a\n\xc3\xa9", "1\n \n\t"},
		{"[^\\x00-\\u10ff]", "\xe1\x84\x80\n\xf0\x9f\x98\x80", "a\n\xc3\xa9"},
		{"[a-cb-ex]", "a\ne\nx\nd", "f\n-\ny"},
		{"[a-]", "a\n-", "b"},
		{"[]-]x|[\\]a]", "]\na", "b\nx"},
		{"[.*+?()|{}$]", ".\n*\n+\n?\n(\n)\n|\n{\n}\n$", "a\n^"},
		{".", "a\n\xc3\xa9", "\r\n\xe2\x80\xa8\nab"},
		/* groups and their names */
		{"(?:a|b)c", "ac\nbc", "a\nabc"},
		{"(?P<x>a)(?<y>b)", "ab", "a\nP<x>a"},
		{"((a)|[(]|\\))+", "a\n(\n)\na()", "b\n[("},
		/* how often */
		{"a{2}", "aa", "a\naaa"},
		{"a{2,}", "aa\naaaa", "a"},
		{"a{1,3}?", "a\naaa", "aaaa"},
		{"a{0}b", "b", "ab"},
		{"a{,3}", "a{,3}", "a\naaa"},
		{"a{b}", "a{b}", "a\nab"},
		{"a{2", "a{2", "aa"},
		{"a{2,3x", "a{2,3x", "aa"},
		{"{}", "{}", "a"},
		{"a+?b*?c??", "a\naabbc", "b\nc"},
		{"(\xc3\xa9|[\xc3\xa0-\xc3\xa2])+", "\xc3\xa9\xc3\xa1", "e\n\xc3\xa3"},
		/* anchors around the whole */
		{"^a$|^b$", "a\nb", "ab\n^a$"},
		{"^a|b$", "a\nb", "ab"},
	};
	all_hold(cases, sizeof(cases) / sizeof(cases[0]), false);
}

static void in_a_string_it_is_written_as_json_writes_it(void **state)
{
	static const struct said cases[] = {
		{"^\\n\\t\\r\\f[\\b]$", "\"\\n\\t\\r\\f\\b\"", "\"n\"\n\"\""},
		{"^[\"\\\\]$", "\"\\\"\"\n\"\\\\\"", "\"\"\"\n\"a\""},
		{"^\\x01$", "\"\\u0001\"", "\"1\""},
		{"^[ -~]$", "\" \"\n\"a\"\n\"\\\\\"\n\"~\"\n\"!\"", "\"\\n\"\n\"\\\"\n\"\xc3\xa9\""},
		{"^[#-a]$", "\"#\"\n\"a\"\n\"\\\\\"", "\"b\"\n\"\\\""},
		{"b", "\"b\"\n\"abc\"", "\"\"\n\"a\""},
		{"^a|b$", "\"ax\"\n\"xb\"", "\"xa\"\n\"bx\""},
		{"^(a$|b)", NULL, NULL},
	};
	all_hold(cases, sizeof(cases) / sizeof(cases[0]) - 1, true);
}

static void a_wrong_expression_is_refused_with_its_place(void **state)
{
	static const char *const cases[][2] = {
		{"\\xg0", "at byte 2: hexadecimal digits are expected"},
		{"\\u00", "hexadecimal digits are expected"},
		{"\\x4/", "hexadecimal digits are expected"},
		{"\\x4@", "hexadecimal digits are expected"},
		{"\\x4`", "hexadecimal digits are expected"},
		{"\\q", "this escape is not supported"}, {"\\Q", "this escape is not supported"},
		{"\\7", "this escape is not supported"}, {"a\\", "this escape is not supported"},
		{"[a", "a class without its end"}, {"[a\\", "this escape is not supported"}, {"(a[b)", "a class without its end"},
		{"[a-\\d]", "a range that ends in a class"}, {"[a-\\w]", "a range that ends in a class"},
		{"[a-\\s]", "a range that ends in a class"}, {"[b-a]", "a range out of order"},
		{"(?P<x", "a name without its end"}, {"(?<x", "a name without its end"},
		{"(?<=a)", "look-around and flags are not supported"}, {"(?<!a)", "look-around and flags are not supported"},
		{"(?i)a", "look-around and flags are not supported"}, {"(?<", "look-around and flags are not supported"},
		{"a^", "an anchor inside is not supported"}, {"a$b", "an anchor inside is not supported"},
		{"(a$)", "an anchor inside is not supported"}, {"(^a)", "an anchor inside is not supported"},
		{"*a", "nothing to repeat"}, {"+", "nothing to repeat"}, {"a|?", "nothing to repeat"},
		{"a{3,2}", "out of order"}, {"a{10001}", "a count too large"}, {"a{1,10001}", "a count too large"},
		{"a{99999999999}", "a count too large"}, {"a)", "a \")\" without its beginning"},
		{"(((((((((((((((((((((((((((((((((a)))))))))))))))))))))))))))))))))", "groups are nested too deeply"},
	};
	size_t wrong = 0;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct grammar *grammar = NULL;
		struct why why = {0};
		enum err e = compile(cases[i][0], i % 2, &why, &grammar);
		if (e == ERR_OK || !strstr(why.text, cases[i][1])) {
			print_error("%s gives \"%s\", expected \"%s\" in it\n", cases[i][0], why.text, cases[i][1]);
			wrong++;
		}
		if (e == ERR_OK)
			grammar_destroy(grammar);
	}
	assert_int_equal(wrong, 0);
}

static void a_large_expression_is_refused(void **state)
{
	static char pattern[4200];
	struct grammar *grammar = NULL;
	struct why why = {0};
	memset(pattern, 'a', 4097);
	assert_int_equal(compile(pattern, false, &why, &grammar), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "a pattern of 4097 bytes, at most 4096"));
	memset(pattern, 0, sizeof(pattern));
	strcpy(pattern, "[");
	for (int i = 0; i < 513; i++)
		strcat(pattern, i % 2 ? "a" : "c");
	strcat(pattern, "]");
	why = (struct why){0};
	assert_int_equal(compile(pattern, false, &why, &grammar), ERR_INVALID);
	assert_non_null(strstr(why.text, "a class of too many parts"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_expression_takes_its_texts),
		cmocka_unit_test(in_a_string_it_is_written_as_json_writes_it),
		cmocka_unit_test(a_wrong_expression_is_refused_with_its_place),
		cmocka_unit_test(a_large_expression_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
