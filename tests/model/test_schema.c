/* What a schema says, keyword by keyword: the documents that its grammar takes and those it does not, with schemas that hold at
 * once (allOf, a reference with keywords beside it) as one; and the words with which the others are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/matcher.h"
#include "model/structure.h"

struct said {
	const char *schema;
	const char *taken, *refused; /* documents, one a line */
};

static enum err compile(const char *schema, struct why *why, struct grammar **ret_grammar)
{
	size_t room = strlen(schema) + 16;
	char *text = malloc(room);
	assert_non_null(text);
	int length = snprintf(text, room, "{\"json\":%s}", schema);
	enum err e = structure_compile(text, (size_t)length, NULL, why, ret_grammar);
	free(text);
	return e;
}

static bool takes(const struct grammar *grammar, const char *document, size_t length)
{
	static struct matcher matcher;
	matcher_begin(&matcher, grammar);
	return matcher_read(&matcher, (const uint8_t *)document, length) && matcher_accepts(&matcher);
}

/* How many of the lines it does not take, or takes, as it should. */
static size_t wrong_lines(const struct said *said, const struct grammar *grammar, const char *lines, bool taken)
{
	size_t wrong = 0;
	for (const char *at = lines; *at;) {
		size_t length = strcspn(at, "\n");
		if (takes(grammar, at, length) != taken) {
			print_error("%s: %.*s is %s\n", said->schema, (int)length, at, taken ? "not taken" : "taken");
			wrong++;
		}
		at += length + (at[length] == '\n');
	}
	return wrong;
}

static void all_hold(const struct said *cases, size_t count)
{
	size_t wrong = 0;
	for (size_t i = 0; i < count; i++) {
		struct grammar *grammar = NULL;
		struct why why = {0};
		if (compile(cases[i].schema, &why, &grammar) != ERR_OK)
			fail_msg("%s: %s", cases[i].schema, why.text);
		wrong += wrong_lines(&cases[i], grammar, cases[i].taken, true);
		wrong += wrong_lines(&cases[i], grammar, cases[i].refused, false);
		grammar_destroy(grammar);
	}
	assert_int_equal(wrong, 0);
}
#define ALL_HOLD(cases) all_hold(cases, sizeof(cases) / sizeof((cases)[0]))

static void schemas_that_hold_at_once_are_one(void **state)
{
	static const struct said cases[] = {
		/* types: an integer is a number */
		{"{\"allOf\":[{\"type\":[\"integer\",\"string\"]},{\"type\":\"number\"}]}", "1\n-7", "1.5\n\"a\""},
		{"{\"allOf\":[{\"type\":\"number\"},{\"type\":[\"integer\",\"null\"]}]}", "1", "1.5\nnull"},
		{"{\"allOf\":[{\"type\":\"integer\"},{\"type\":[\"number\",\"null\"]}]}", "1", "1.5\nnull"},
		{"{\"allOf\":[{\"type\":[\"number\",\"null\"]},{\"type\":[\"null\",\"integer\"]}]}", "1\nnull", "1.5\ntrue"},
		{"{\"allOf\":[{\"minLength\":1.5e0,\"type\":\"null\"},{\"minLength\":2}]}", "null", "\"a\""},
		{"{\"allOf\":[{\"enum\":[1,null]},{\"enum\":[null]},{\"enum\":[null,2]}]}", "null", "1\n2"},
		{"{\"allOf\":[{\"type\":[\"string\",\"null\"]},{\"type\":[\"boolean\",\"null\"]}]}", "null", "true\n\"a\""},
		/* lists of values and of names */
		{"{\"allOf\":[{\"enum\":[1,2,\"3\"]},{\"enum\":[2,\"3\",4]}]}", "2\n\"3\"", "1\n4\n3"},
		{"{\"allOf\":[{\"properties\":{\"a\":{},\"b\":{}},\"required\":[\"a\"]},{\"required\":[\"b\",\"a\"]}]}",
		 "{\"a\":1,\"b\":2}", "{\"a\":1}\n{\"b\":1}\n{}"},
		{"{\"allOf\":[{\"allOf\":[{\"type\":\"integer\",\"minimum\":1}]},{\"allOf\":[{\"maximum\":3}]}]}", "1\n3", "0\n4\n2.5"},
		{"{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":1},\"c\":{\"type\":\"null\"}}},"
		 "{\"properties\":{\"a\":{\"maximum\":3},\"b\":{\"type\":\"null\"},\"c\":{\"type\":\"null\"}}}]}",
		 "{\"a\":1}\n{\"a\":3,\"c\":null,\"b\":null}", "{\"a\":0}\n{\"a\":4}\n{\"d\":1}\n{\"b\":1}"},
		/* the narrower bound, whichever comes first */
		{"{\"allOf\":[{\"type\":\"integer\",\"minimum\":1,\"maximum\":9},{\"minimum\":3,\"maximum\":5}]}", "3\n5", "2\n6"},
		{"{\"allOf\":[{\"type\":\"integer\",\"minimum\":3,\"maximum\":5},{\"minimum\":1,\"maximum\":9}]}", "3\n5", "2\n6"},
		{"{\"allOf\":[{\"type\":\"integer\",\"exclusiveMinimum\":1,\"exclusiveMaximum\":9},"
		 "{\"exclusiveMinimum\":3,\"exclusiveMaximum\":6}]}", "4\n5", "3\n6"},
		{"{\"allOf\":[{\"minLength\":2,\"maxLength\":6},{\"minLength\":3,\"maxLength\":4}]}", "\"abc\"\n\"abcd\"", "\"ab\"\n\"abcde\""},
		{"{\"allOf\":[{\"minItems\":1,\"maxItems\":3},{\"minItems\":2,\"maxItems\":2}]}", "[1,2]", "[1]\n[1,2,3]\n[]"},
		/* schemas within */
		{"{\"allOf\":[{\"items\":{\"type\":\"integer\"}},{\"items\":{\"minimum\":4}}]}", "[4]\n[]", "[3]\n[4.5]"},
		{"{\"allOf\":[{\"items\":{\"type\":\"null\"}},{\"items\":false}]}", "[]", "[null]"},
		{"{\"allOf\":[{\"items\":false},{\"items\":{\"type\":\"null\"}}]}", "[]", "[null]"},
		{"{\"allOf\":[{\"additionalProperties\":{\"type\":\"integer\"}},{\"additionalProperties\":{\"maximum\":4}}]}",
		 "{\"a\":4}", "{\"a\":5}\n{\"a\":null}"},
		{"{\"allOf\":[{\"propertyNames\":{\"enum\":[\"a\",\"b\"]}},{\"propertyNames\":{\"enum\":[\"b\",\"c\"]}}]}", "{\"b\":1}\n{}",
		 "{\"a\":1}\n{\"c\":1}"},
		/* true, false, and what says nothing */
		{"{\"allOf\":[true,{\"type\":\"null\"},true]}", "null", "1\n{}"},
		{"{\"anyOf\":[{\"type\":\"null\"},{\"allOf\":[{\"type\":\"integer\"},false]}]}", "null", "1"},
		{"{\"anyOf\":[{\"type\":\"null\"},{\"allOf\":[false,{\"type\":\"integer\"}]}]}", "null", "1"},
		{"{\"allOf\":[{\"title\":\"a\",\"x-y\":1,\"type\":\"null\"},{\"title\":\"b\",\"x-y\":2}]}", "null", "1"},
		{"{\"allOf\":[{\"pattern\":\"^a+$\"},{\"pattern\":\"^a+$\",\"type\":\"string\"}]}", "\"a\"", "\"b\"\n\"\""},
	};
	ALL_HOLD(cases);
}

static void a_reference_is_what_stands_there(void **state)
{
	static const struct said cases[] = {
		{"{\"$defs\":{\"a/b\":{\"type\":\"null\"},\"c~d\":{\"const\":1},\"e~\":{\"const\":2},\"f~2\":{\"const\":3}},\"anyOf\":["
		 "{\"$ref\":\"#/$defs/a~1b\"},{\"$ref\":\"#/$defs/c~0d\"},{\"$ref\":\"#/$defs/e~\"},{\"$ref\":\"#/$defs/f~2\"}]}",
		 "null\n1\n2\n3", "4\ntrue"},
		{"{\"prefixItems\":[{\"type\":\"null\"},{\"$ref\":\"#/prefixItems/0\"}],\"minItems\":2,\"maxItems\":2}", "[null,null]", "[null,1]"},
		/* with keywords beside it */
		{"{\"$defs\":{\"n\":{\"type\":\"integer\",\"minimum\":1}},\"$ref\":\"#/$defs/n\",\"maximum\":3}", "1\n3", "0\n4"},
		{"{\"$defs\":{\"n\":{\"const\":1}},\"$ref\":\"#/$defs/n\",\"description\":\"d\",\"nullable\":true}", "1\nnull", "2"},
		{"{\"$defs\":{\"n\":{\"const\":1}},\"$ref\":\"#/$defs/n\",\"nullable\":false}", "1", "null"},
		/* one that leads to another, in schemas that hold at once */
		{"{\"$defs\":{\"n\":{\"type\":\"integer\",\"minimum\":1},\"m\":{\"$ref\":\"#/$defs/n\",\"maximum\":5}},"
		 "\"allOf\":[{\"$ref\":\"#/$defs/m\"},{\"minimum\":4}]}", "4\n5", "3\n6\n4.5"},
		{"{\"$defs\":{\"n\":{\"type\":\"integer\"}},\"allOf\":[{\"minimum\":4},{\"$ref\":\"#/$defs/n\"}]}", "4", "3\n4.5"},
	};
	ALL_HOLD(cases);
}

static void keywords_say_what_they_say_alone(void **state)
{
	static const struct said cases[] = {
		{"{\"type\":\"null\",\"uniqueItems\":false,\"minProperties\":0,\"x-own\":1}", "null", "1"},
		{"{\"minLength\":2.0,\"maxLength\":2}", "\"ab\"", "\"a\"\n\"abc\""},
		{"{\"minItems\":1e0,\"maxItems\":1}", "[1]", "[]\n[1,2]"},
		/* one of several */
		{"{\"type\":\"integer\",\"minimum\":2,\"anyOf\":[{\"maximum\":3},{\"maximum\":5,\"title\":\"t\"}]}", "2\n5", "1\n6"},
		{"{\"title\":\"t\",\"oneOf\":[{\"type\":\"null\"},false,true]}", "null\n1\n{\"a\":[]}", "nul"},
		{"{\"nullable\":true,\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}]}", "1\ntrue\nnull", "\"a\""},
		/* values */
		{"{\"enum\":[1,2],\"const\":2}", "2", "1"},
		{"{\"type\":\"string\",\"enum\":[\"a\",1,null],\"title\":\"t\"}", "\"a\"", "1\nnull"},
		{"{\"type\":[\"null\",\"number\"],\"enum\":[\"a\",1,null,2.5]}", "1\nnull\n2.5", "\"a\""},
		{"{\"type\":\"integer\",\"enum\":[1,2.5,true]}", "1", "2.5\ntrue"},
		{"{\"enum\":[null,true,false,[],{},1.0,1e300,2.5,-3,\"q\\\"\"]}",
		 "null\ntrue\nfalse\n[]\n{}\n1.0\n1e+300\n2.5\n-3\n\"q\\\"\"", "1\n0\n\"q\"\n[1]"},
		{"{\"const\":{\"a\":[1,[],{\"b\":null}],\"c\":false}}", "{\"a\":[1,[],{\"b\":null}],\"c\":false}", "{\"a\":[1]}\n{}"},
		{"{\"type\":\"string\",\"const\":\"x\",\"nullable\":true}", "\"x\"\nnull", "\"y\""},
		/* objects and lists */
		{"{\"required\":[\"a\",\"b\"]}", "{\"a\":1,\"b\":2}\n{\"a\":1,\"b\":[],\"c\":3}", "{\"a\":1}\n{}"},
		{"{\"type\":\"object\",\"additionalProperties\":false}", "{}", "{\"a\":1}"},
		{"{\"propertyNames\":{\"pattern\":\"^a+$\"},\"additionalProperties\":{\"type\":\"null\"}}", "{}\n{\"aa\":null}", "{\"b\":null}\n{\"a\":1}"},
		{"{\"propertyNames\":{\"type\":\"null\"}}", "{}", "{\"a\":1}\n{\"\":1}"},
		{"{\"properties\":{\"ab\":{},\"a\":{},\"\\u00e9\":{}},\"additionalProperties\":{\"type\":\"null\"}}",
		 "{\"ab\":1,\"b\":null}\n{\"abc\":null,\"\":null}\n{\"a\":1,\"\\\\n\":null}", "{\"abc\":1}\n{\"b\":1}"},
		{"{\"prefixItems\":[{\"type\":\"null\"}],\"items\":false}", "[null]\n[]", "[1]\n[null,null]"},
		{"{\"prefixItems\":[{\"type\":\"null\"}],\"items\":false,\"maxItems\":3}", "[null]", "[null,null]"},
		{"{\"prefixItems\":[{\"type\":\"null\"}],\"items\":{\"type\":\"integer\"},\"maxItems\":2}", "[null,1]", "[null,1,2]\n[null,null]"},
		{"{\"type\":\"array\",\"minItems\":2,\"items\":{\"type\":\"null\"}}", "[null,null]\n[null,null,null]", "[null]"},
		/* texts and numbers */
		{"{\"format\":\"password\"}", "\"a\"\n\"\"", "1"},
		{"{\"format\":\"path\",\"minLength\":1}", "\"a\"", "\"\""},
		{"{\"format\":\"ipv4\"}", "\"1.2.3.255\"", "\"1.2.3.256\"\n\"1.2.3\""},
		{"{\"type\":[\"integer\",\"number\"],\"minimum\":-1.5,\"exclusiveMaximum\":0.25}", "-1.5\n-1\n0\n0.2\n0.24", "-1.6\n0.25\n1"},
		{"{\"minimum\":0.001,\"maximum\":0.0125}", "0.001\n0.0125\n0.01", "0.0009\n0.0126\n0\n1"},
		{"{\"type\":\"integer\",\"minimum\":-105,\"maximum\":-99}", "-105\n-99\n-100", "-106\n-98\n99\n0"},
		{"{\"type\":\"integer\",\"minimum\":1e3,\"maximum\":1100.5}", "1000\n1100", "999\n1101"},
		{"{\"type\":\"integer\",\"exclusiveMinimum\":4,\"minimum\":4,\"exclusiveMaximum\":6,\"maximum\":6}", "5", "4\n6"},
		{"{\"type\":\"integer\",\"exclusiveMinimum\":3,\"minimum\":4,\"exclusiveMaximum\":7,\"maximum\":6}", "4\n6", "3\n7"},
		{"{\"type\":\"integer\",\"exclusiveMinimum\":5,\"minimum\":4,\"exclusiveMaximum\":7,\"maximum\":9}", "6", "5\n7"},
		{"{\"type\":\"integer\",\"minimum\":-0.0,\"maximum\":0}", "0", "1\n-1"},
	};
	ALL_HOLD(cases);
}

static void what_cannot_be_is_refused_with_its_place(void **state)
{
	static const char *const cases[][2] = {
		{"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", "\"pattern\" stands in two schemas that hold at once, and differs"},
		{"{\"allOf\":[{\"minLength\":1},{\"minLength\":\"a\"}]}", "\"minLength\" stands in two schemas"},
		{"{\"allOf\":[{\"maxItems\":\"a\"},{\"maxItems\":1}]}", "\"maxItems\" stands in two schemas"},
		{"{\"allOf\":[{\"oneOf\":[true]},{\"oneOf\":[true,true]}]}", "\"oneOf\" stands in two schemas"},
		{"{\"allOf\":[{\"minimum\":\"a\"},{\"minimum\":1}]}", "\"minimum\" stands in two schemas"},
		{"{\"allOf\":[{\"maxItems\":1},{\"maxItems\":\"a\"}]}", "\"maxItems\" stands in two schemas"},
		{"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "nothing can match"},
		{"{\"allOf\":[false,{\"type\":\"null\"}]}", "nothing can match"},
		{"{\"allOf\":[{\"type\":\"null\"},1]}", "at #: a schema is expected: an object, true or false"},
		{"{\"allOf\":3}", "\"allOf\" is expected to be a list of schemas"},
		{"{\"$ref\":\"other.json#/a\"}", "\"other.json#/a\" is not a place of this schema"},
		{"{\"$ref\":\"#x\"}", "\"#x\" is not a place of this schema"},
		{"{\"$ref\":5}", "\"$ref\" is expected to be a text"},
		{"{\"minimum\":1,\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":3}}", "a schema is expected: an object, true or false"},
		{"{\"allOf\":[{\"$ref\":\"#/$defs/n\"},{\"minimum\":1}],\"$defs\":{\"n\":{\"$ref\":\"#/$defs/n\"}}}",
		 "\"$ref\" refers to itself with nothing between"},
		{"{\"allOf\":[{\"$ref\":\"#/$defs/n\"},{\"minimum\":1}]}", "\"#/$defs/n\" is not a place of this schema"},
		{"{\"allOf\":[{\"minimum\":1},{\"$ref\":\"#/$defs/n\"}]}", "\"#/$defs/n\" is not a place of this schema"},
		{"{\"minLength\":\"x\"}", "\"minLength\" is expected to be a number from 0 to"},
		{"{\"minLength\":-1}", "\"minLength\" is expected to be a number from 0 to"},
		{"{\"minLength\":2.5}", "\"minLength\" is expected to be a number from 0 to"},
		{"{\"maxItems\":1000000000}", "\"maxItems\" is expected to be a number from 0 to"},
		{"{\"uniqueItems\":true}", "\"uniqueItems\" is not supported"},
		{"{\"minProperties\":1}", "\"minProperties\" is not supported"},
		{"{\"minProperties\":false}", "\"minProperties\" is not supported"},
		{"{\"xy\":1}", "\"xy\" is not supported"},
		{"{\"type\":5}", "\"type\" is expected to be one of object, array"},
		{"{\"type\":[\"null\",\"nil\"]}", "\"type\" is expected to be one of object, array"},
		{"{\"enum\":3}", "\"enum\" is expected to be a list"},
		{"{\"enum\":[1],\"minimum\":0}", "\"minimum\" beside \"enum\" is not supported"},
		{"{\"const\":1,\"minimum\":0}", "\"minimum\" beside \"const\" is not supported"},
		{"{\"type\":\"string\",\"const\":1}", "nothing can match"},
		{"{\"type\":\"string\",\"enum\":[]}", "nothing can match"},
		{"{\"anyOf\":3}", "\"anyOf\" is expected to be a list of schemas"},
		{"{\"oneOf\":[]}", "\"oneOf\" is expected to be a list of schemas"},
		{"{\"pattern\":\"a\",\"anyOf\":[{\"pattern\":\"b\"}]}", "at #/anyOf/0: \"pattern\" stands in two schemas"},
		{"{\"items\":5}", "at #/items: a schema is expected"},
		{"{\"required\":3}", "\"required\" is expected to be a list of names"},
		{"{\"required\":[\"a\",3]}", "\"required\" is expected to be a list of names"},
		{"{\"properties\":3}", "\"properties\" is expected to be an object"},
		{"{\"prefixItems\":3}", "\"prefixItems\" is expected to be a list of schemas"},
		{"{\"properties\":{\"a\":{}},\"propertyNames\":{\"pattern\":\"a\"},\"additionalProperties\":true}",
		 "at #/additionalProperties: \"propertyNames\" beside \"properties\" is not supported"},
		{"{\"pattern\":\"a\",\"format\":\"date\"}", "\"pattern\" beside \"format\" is not supported"},
		{"{\"pattern\":\"a\",\"minLength\":1}", "\"minLength\" and \"maxLength\" beside \"pattern\" are not supported"},
		{"{\"format\":\"date\",\"maxLength\":1}", "\"minLength\" and \"maxLength\" beside \"format\" are not supported"},
		{"{\"minLength\":3,\"maxLength\":2}", "nothing can match"},
		{"{\"minItems\":3,\"maxItems\":2}", "nothing can match"},
		{"{\"minimum\":true}", "\"minimum\" is expected to be a number"},
		{"{\"maximum\":\"9\"}", "\"maximum\" is expected to be a number"},
		{"{\"exclusiveMaximum\":1e400}", ""},
	};
	size_t wrong = 0;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct grammar *grammar = NULL;
		struct why why = {0};
		enum err e = compile(cases[i][0], &why, &grammar);
		if (e == ERR_OK || !strstr(why.text, cases[i][1])) {
			print_error("%s gives \"%s\", expected \"%s\" in it\n", cases[i][0], why.text, cases[i][1]);
			wrong++;
		}
		if (e == ERR_OK)
			grammar_destroy(grammar);
	}
	assert_int_equal(wrong, 0);
}

/* The schema between two texts, with one of them so many times. */
static enum err of_many(const char *before, const char *many, size_t count, const char *after, struct why *why)
{
	size_t length = strlen(many), room = strlen(before) + length * count + strlen(after) + 1, at = strlen(before);
	char *text = malloc(room);
	assert_non_null(text);
	strcpy(text, before);
	for (size_t i = 0; i < count; i++, at += length)
		memcpy(text + at, many, length);
	strcpy(text + at, after);
	struct grammar *grammar = NULL;
	enum err e = compile(text, why, &grammar);
	if (e == ERR_OK)
		grammar_destroy(grammar);
	free(text);
	return e;
}

static void what_is_too_large_is_refused(void **state)
{
	struct why why = {0};
	assert_int_equal(of_many("{\"properties\":{\"", "a", 512, "\":{\"type\":\"null\"}}}", &why), ERR_OK);
	assert_int_equal(of_many("{\"properties\":{\"", "a", 513, "\":{\"type\":\"null\"}}}", &why), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "a name of 513 bytes, at most 512"));
	why = (struct why){0};
	assert_int_equal(of_many("{\"$ref\":\"#/", "a", 512, "\"}", &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "is not a place of this schema"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(schemas_that_hold_at_once_are_one),
		cmocka_unit_test(a_reference_is_what_stands_there),
		cmocka_unit_test(keywords_say_what_they_say_alone),
		cmocka_unit_test(what_cannot_be_is_refused_with_its_place),
		cmocka_unit_test(what_is_too_large_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
