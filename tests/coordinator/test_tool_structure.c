/* An answer that has to be a call is one as its family writes it: what the structure takes is understood as that call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/tool_structure.h"
#include "model/matcher.h"
#include "model/structure.h"

#define DEFINITIONS                                                                                                  \
	"[{\"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, " \
	"\"required\": [\"a\"]}}}, {\"function\": {\"name\": \"g\"}}]"

static bool takes(const struct tool_structure_options *options, const char *text)
{
	static struct matcher matcher;
	json_t *structure = NULL;
	struct grammar *grammar = NULL;
	struct why why = {0};
	assert_int_equal(tool_structure(options, &structure), ERR_OK);
	char *written = json_dumps(structure, JSON_COMPACT);
	enum err e = structure_compile(written, strlen(written), NULL, &why, &grammar);
	if (e != ERR_OK)
		fail_msg("%s: %s", written, why.text);
	matcher_begin(&matcher, grammar);
	bool taken = matcher_read(&matcher, (const uint8_t *)text, strlen(text)) && matcher_accepts(&matcher);
	grammar_destroy(grammar);
	free(written);
	json_decref(structure);
	return taken;
}

/* It is taken, and heard as calls of these names, of which the first has {"a": 1}. */
static void is_a_call(struct tool_structure_options options, const char *text, uint32_t calls)
{
	struct speech speech;
	json_t *tools = json_loads(DEFINITIONS, 0, NULL);
	options.tools = tools;
	if (!takes(&options, text))
		fail_msg("%s does not take %s", tool_format_name(options.format), text);
	speech_init(&speech, &(struct speech_options){.tools = options.format, .definitions = tools});
	assert_int_equal(speech_feed(&speech, text, strlen(text)), ERR_OK);
	assert_int_equal(speech_finish(&speech), ERR_OK);
	assert_int_equal(speech.call_count, calls);
	assert_string_equal(speech.calls[0].name.data, "f");
	assert_string_equal(speech.calls[0].arguments.data, "{\"a\": 1}");
	assert_int_equal(speech.content.length, 0);
	speech_fini(&speech);
	json_decref(tools);
}

static void forced_calls_are_written_as_each_family_does(void **state)
{
#define CALL(key, name, arguments) "{\"name\": \"" name "\", \"" key "\": " arguments "}"
	static const struct {
		enum tool_format format;
		bool names_first;
		const char *one, *two;
	} cases[] = {
		{TOOL_HERMES, false, "<tool_call>\n" CALL("arguments", "f", "{\"a\": 1}") "\n</tool_call>",
		 "<tool_call>\n" CALL("arguments", "f", "{\"a\": 1}") "\n</tool_call>\n<tool_call>\n" CALL("arguments", "g", "{}") "\n</tool_call>"},
		{TOOL_LLAMA3_JSON, false, CALL("parameters", "f", "{\"a\": 1}"),
		 CALL("parameters", "f", "{\"a\": 1}") "; " CALL("parameters", "g", "{}")},
		{TOOL_MISTRAL, false, "[TOOL_CALLS][" CALL("arguments", "f", "{\"a\": 1}") "]",
		 "[TOOL_CALLS][" CALL("arguments", "f", "{\"a\": 1}") ", " CALL("arguments", "g", "{}") "]"},
		{TOOL_MISTRAL, true, "[TOOL_CALLS]f[ARGS]{\"a\": 1}", "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{}"},
		{TOOL_DEEPSEEK_V3, false,
		 "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>"
		 "<｜tool▁calls▁end｜>", NULL},
		{TOOL_PHI4_MINI, false, "functools[" CALL("arguments", "f", "{\"a\": 1}") "]",
		 "functools[" CALL("arguments", "f", "{\"a\": 1}") ", " CALL("arguments", "g", "{}") "]"},
		{TOOL_OPENAI, false, "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}", NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tool_structure_options options = {.format = cases[i].format, .names_first = cases[i].names_first};
		is_a_call(options, cases[i].one, 1);
		if (cases[i].two)
			is_a_call(options, cases[i].two, 2);
		options.one_call = true;
		is_a_call(options, cases[i].one, 1);
	}
}

static void what_is_not_asked_for_is_not_taken(void **state)
{
	json_t *tools = json_loads(DEFINITIONS, 0, NULL);
	struct tool_structure_options options = {.format = TOOL_LLAMA3_JSON, .tools = tools};
	assert_false(takes(&options, "Hello"));
	assert_false(takes(&options, CALL("parameters", "h", "{}")));
	assert_false(takes(&options, CALL("parameters", "f", "{}")));           /* "a" is required */
	assert_false(takes(&options, CALL("parameters", "f", "{\"a\": \"x\"}")));
	assert_true(takes(&options, CALL("parameters", "g", "{\"b\": [1, {}]}"))); /* says nothing of its arguments */
	options.name = "g";
	assert_false(takes(&options, CALL("parameters", "f", "{\"a\": 1}")));
	assert_false(takes(&options, CALL("parameters", "g", "{}") "; " CALL("parameters", "g", "{}"))); /* one by name */
	assert_true(takes(&options, CALL("parameters", "g", "{}")));
	json_decref(tools);
}

static void what_cannot_be_forced_says_so(void **state)
{
	json_t *tools = json_loads(DEFINITIONS, 0, NULL), *structure = NULL;
	assert_int_equal(tool_structure(&(struct tool_structure_options){.format = TOOL_QWEN3_CODER, .tools = tools}, &structure),
			 ERR_UNSUPPORTED);
	json_decref(tools);
}

static bool takes_behind(enum tool_precedence what, const char *structure, const char *text)
{
	static struct matcher matcher;
	struct grammar *grammar = NULL;
	struct why why = {0};
	char *whole = NULL;
	assert_int_equal(tool_structure_precede(structure, what, &whole), ERR_OK);
	if (structure_compile(whole, strlen(whole), NULL, &why, &grammar) != ERR_OK)
		fail_msg("%s: %s", whole, why.text);
	matcher_begin(&matcher, grammar);
	bool taken = matcher_read(&matcher, (const uint8_t *)text, strlen(text)) && matcher_accepts(&matcher);
	grammar_destroy(grammar);
	free(whole);
	return taken;
}

/* Where messages have headers, the structure is that of the final one, behind at most one thought. */
static void an_answer_in_channels_keeps_to_its_structure_in_the_final_one(void **state)
{
#define THOUGHT "<|channel|>analysis<|message|>a < b, <think> and <<x<|end|><|start|>assistant"
#define FINAL   "<|channel|>final<|message|>"
#define OBJECT  "{\"json\":{\"type\":\"object\"}}"
	assert_true(takes_behind(TOOL_FINAL_CHANNEL, OBJECT, FINAL "{\"a\": 1}"));
	assert_true(takes_behind(TOOL_FINAL_CHANNEL, OBJECT, THOUGHT FINAL "{}"));
	assert_false(takes_behind(TOOL_FINAL_CHANNEL, OBJECT, "{}"));
	assert_false(takes_behind(TOOL_FINAL_CHANNEL, OBJECT, THOUGHT "{}"));
	assert_false(takes_behind(TOOL_FINAL_CHANNEL, OBJECT, THOUGHT THOUGHT FINAL "{}"));
	assert_false(takes_behind(TOOL_FINAL_CHANNEL, OBJECT, FINAL "Yes"));
	assert_false(takes_behind(TOOL_FINAL_CHANNEL, OBJECT,
				  "<|channel|>analysis<|message|>a<|return|><|end|><|start|>assistant" FINAL "{}"));
	assert_true(takes_behind(TOOL_CALL_CHANNEL, "{\"literal\":\"call\"}", THOUGHT "call"));
	assert_true(takes_behind(TOOL_CALL_CHANNEL, "{\"literal\":\"call\"}", "call"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forced_calls_are_written_as_each_family_does),
		cmocka_unit_test(an_answer_in_channels_keeps_to_its_structure_in_the_final_one),
		cmocka_unit_test(what_is_not_asked_for_is_not_taken),
		cmocka_unit_test(what_cannot_be_forced_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
