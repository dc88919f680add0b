/* What an answer must look like, in all the ways in which a request may say it, and the fields beside it: the structure that
 * becomes of them, or the field that is named where it is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/request_parse.h"

#define CHAT "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static enum err parse(const char *fields, struct api_request *ret_request, struct api_error *error)
{
	size_t room = sizeof(CHAT) + strlen(fields) + 2;
	char *body = malloc(room);
	assert_non_null(body);
	int length = snprintf(body, room, CHAT ",%s}", fields);
	enum err e = api_request_parse(API_CHAT, body, (size_t)length, ret_request, error);
	free(body);
	return e;
}

static void a_structure_is_taken_from_every_field(void **state)
{
	static const char *const cases[][2] = {
		{"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":true}}", "{\"json\":true}"},
		{"\"guided_json\":true", "{\"json\":true}"},
		{"\"guided_json\":false", "{\"json\":false}"},
		{"\"guided_json\":\"{}\"", "{\"json\":{}}"},
		{"\"guided_regex\":\"a|b\"", "{\"regex\":\"a|b\"}"},
		{"\"structured_outputs\":{\"json\":\"{\\\"type\\\":\\\"null\\\"}\"}", "{\"json\":{\"type\":\"null\"}}"},
		{"\"structured_outputs\":{\"choice\":[\"x\"]}", "{\"choice\":[{\"literal\":\"x\"}]}"},
		{"\"structured_outputs\":{\"json_object\":true}", "{\"json\":{\"type\":\"object\"}}"},
		{"\"structured_outputs\":{\"json_object\":false,\"regex\":\"a\"}", "{\"regex\":\"a\"}"},
		{"\"structured_outputs\":{}", NULL},
		{"\"structured_outputs\":null,\"guided_choice\":null,\"guided_grammar\":null", NULL},
		{"\"response_format\":{\"type\":\"text\"},\"guided_json\":{}", "{\"json\":{}}"},
		{"\"response_format\":null,\"guided_regex\":\"\"", "{\"regex\":\"\"}"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct api_request r;
		struct api_error error = {0};
		if (parse(cases[i][0], &r, &error) != ERR_OK)
			fail_msg("%s: %s", cases[i][0], error.message);
		if (cases[i][1])
			assert_string_equal(r.structure, cases[i][1]);
		else
			assert_null(r.structure);
		api_request_fini(&r);
	}
}

static void refused(const char *fields, const char *param, const char *words)
{
	struct api_request r;
	struct api_error error = {0};
	if (parse(fields, &r, &error) != ERR_INVALID)
		fail_msg("%.100s is not refused", fields);
	assert_int_equal(error.status, 400);
	if (strcmp(error.param, param) != 0 || !strstr(error.message, words))
		fail_msg("%.100s: \"%s\" of %s, expected \"%s\" of %s", fields, error.message, error.param, words, param);
}

static void a_wrong_structure_is_named(void **state)
{
	static const char *const cases[][3] = {
		{"\"response_format\":3", "response_format", "expected a type of text, json_object"},
		{"\"response_format\":{\"type\":1}", "response_format", "expected a type of text, json_object"},
		{"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":\"x\"}}", "response_format", "expected a JSON schema"},
		{"\"guided_json\":3", "guided_json", "expected a JSON schema"},
		{"\"guided_json\":\"{\"", "", "JSON"},
		{"\"guided_json\":\"[]\"", "", "object"},
		{"\"guided_regex\":3", "guided_regex", "expected a regular expression as a text"},
		{"\"guided_choice\":\"a\"", "guided_choice", "expected a list of 1 to 1024 texts"},
		{"\"guided_choice\":[\"a\",\"\"]", "guided_choice", "that are not empty"},
		{"\"guided_choice\":[\"a\",1]", "guided_choice", "that are not empty"},
		{"\"structured_outputs\":3", "structured_outputs", "expected an object"},
		{"\"structured_outputs\":{\"structural_tag\":\"x\"}", "structured_outputs.structural_tag", "not supported"},
		{"\"structured_outputs\":{\"whitespace_pattern\":\"x\"}", "structured_outputs.whitespace_pattern", "not supported"},
		{"\"structured_outputs\":{\"json\":[]}", "structured_outputs.json", "expected a JSON schema"},
		{"\"structured_outputs\":{\"regex\":1}", "structured_outputs.regex", "expected a regular expression"},
		{"\"structured_outputs\":{\"choice\":[]}", "structured_outputs.choice", "expected a list"},
		{"\"structured_outputs\":{\"json_object\":1}", "structured_outputs.json_object", "true or false"},
		{"\"structured_outputs\":{\"json\":{},\"regex\":\"a\"}", "structured_outputs.regex", "only one structure may be asked for"},
		{"\"structured_outputs\":{\"regex\":\"a\",\"json_object\":true}", "structured_outputs.json_object", "only one structure may be asked for"},
		{"\"response_format\":{\"type\":\"json_object\"},\"guided_json\":{}", "guided_json", "and there is response_format too"},
		{"\"guided_json\":{},\"guided_choice\":[\"a\"]", "guided_choice", "and there is guided_json too"},
		{"\"guided_whitespace_pattern\":\"x\"", "guided_whitespace_pattern", "not supported"},
		/* what was wrong before it stays what is told */
		{"\"temperature\":7,\"guided_json\":\"{}\"", "temperature", "temperature"},
		{"\"temperature\":7,\"guided_json\":\"{\",\"guided_choice\":[1]", "temperature", "temperature"},
		{"\"response_format\":{\"type\":1},\"guided_json\":\"{\",\"guided_regex\":\"a\"", "response_format", "expected a type"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refused(cases[i][0], cases[i][1], cases[i][2]);
}

static void a_large_structure_is_refused(void **state)
{
	size_t room = 4 << 20;
	char *fields = malloc(room);
	assert_non_null(fields);
	strcpy(fields, "\"guided_choice\":[\"0\"");
	for (int i = 0; i < 1024; i++)
		strcat(fields, ",\"a\"");
	strcat(fields, "]");
	refused(fields, "guided_choice", "expected a list of 1 to 1024 texts");
	size_t at = (size_t)sprintf(fields, "\"guided_regex\":\"");
	memset(fields + at, 'a', 1 << 20);
	strcpy(fields + at + (1 << 20), "\"");
	refused(fields, "guided_regex", "bytes, at most");
	free(fields);
}

static void wrong_fields_beside_it_are_named(void **state)
{
#define TOOL "\"tools\":[{\"function\":{\"name\":\"f\"}}]"
	static const char *const cases[][3] = {
		{"\"tools\":3", "tools", "expected a list of at most 128 tools"},
		{"\"tools\":[{\"type\":3,\"function\":{\"name\":\"f\"}}]", "tools[0].type", ""},
		{"\"tools\":[{\"function\":{\"name\":7}}]", "tools[0].function.name", ""},
		{"\"tools\":[{\"function\":{\"name\":\"f\",\"description\":1}}]", "tools[0].function.description", ""},
		{TOOL ",\"tool_choice\":3", "tool_choice", "expected \"none\", \"auto\""},
		{TOOL ",\"tool_choice\":{\"function\":{\"name\":\"f\"}}", "tool_choice", "\"function\": {\"name\": ...}"},
		{TOOL ",\"tool_choice\":{\"type\":\"function\"}", "tool_choice", "\"function\": {\"name\": ...}"},
		{TOOL ",\"tool_choice\":{\"type\":5}", "tool_choice", "\"function\": {\"name\": ...}"},
		{"\"tool_choice\":\"required\"", "tool_choice", "only with \"tools\""},
		{"\"tool_choice\":{}", "tool_choice", "only with \"tools\""},
		{TOOL ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},\"guided_json\":{}", "tool_choice", "together with guided_json"},
		{"\"documents\":3", "documents", "expected a list of objects"},
		{"\"documents\":[{},1]", "documents", "item 1 is no object"},
		{"\"reasoning_effort\":1", "reasoning_effort", ""},
		{"\"metadata\":3", "metadata", ""},
		{"\"metadata\":{\"a\":\"b\",\"0123456789012345678901234567890123456789012345678901234567890123456789\":\"c\"}", "metadata", ""},
		{"\"modalities\":[1]", "modalities", ""},
		{"\"stream\":true,\"stream_options\":3", "stream_options", ""},
		{"\"stream\":true,\"prompt_logprobs\":1", "prompt_logprobs", ""},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refused(cases[i][0], cases[i][1], cases[i][2]);
}

static void right_fields_beside_it_are_taken(void **state)
{
	static const char *const cases[] = {
		TOOL ",\"tool_choice\":\"auto\",\"guided_json\":{}", TOOL ",\"tool_choice\":\"required\"", "\"documents\":[{},{\"a\":1}]",
		"\"documents\":[]", "\"reasoning_effort\":\"low\"", "\"reasoning_effort\":\"max\",\"modalities\":[\"text\"]", "\"functions\":[]",
		"\"metadata\":{\"a\":\"b\",\"c\":\"\"}", "\"stream\":true,\"stream_options\":{\"include_usage\":true}", "\"modalities\":[]",
		"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{}}}]",
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct api_request r;
		struct api_error error = {0};
		if (parse(cases[i], &r, &error) != ERR_OK)
			fail_msg("%s: %s", cases[i], error.message);
		api_request_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_structure_is_taken_from_every_field),
		cmocka_unit_test(a_wrong_structure_is_named),
		cmocka_unit_test(a_large_structure_is_refused),
		cmocka_unit_test(wrong_fields_beside_it_are_named),
		cmocka_unit_test(right_fields_beside_it_are_taken),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
