/* An answer that has to be a call is one as its family writes it: what the structure takes is understood as that call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "coordinator/tool_structure.h"
#include "model/matcher.h"
#include "model/structure.h"

#define DEFINITIONS                                                                                                  \
	"[{\"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, " \
	"\"required\": [\"a\"]}}}, {\"function\": {\"name\": \"g\"}}]"

#define PARAMETER(key, value) "<parameter=" key ">\n" value "\n</parameter>\n"
#define FUNCTION(parameters)  "<tool_call>\n<function=f>\n" parameters "</function>\n</tool_call>"

static bool takes(const struct tool_structure_options *options, const char *text)
{
	static struct matcher matcher;
	json_t *structure = NULL;
	struct grammar *grammar = NULL;
	struct why why = {0};
	assert_int_equal(tool_structure(options, NULL, &structure), ERR_OK);
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
	speech_init(&speech, &(struct speech_options){.tools = options.format, .definitions = tools, .exact = true});
	assert_int_equal(speech_feed(&speech, text, strlen(text)), ERR_OK);
	assert_int_equal(speech_finish(&speech), ERR_OK);
	assert_int_equal(speech.call_count, calls);
	assert_string_equal(speech.calls[0].name.data, "f");
	/* Bare values become JSON of our own. */
	assert_string_equal(speech.calls[0].arguments.data, options.format == TOOL_QWEN3_CODER ? "{\"a\":1}" : "{\"a\": 1}");
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
		{TOOL_QWEN3_CODER, false, FUNCTION(PARAMETER("a", "1")),
		 FUNCTION(PARAMETER("a", "1")) "\n<tool_call>\n<function=g>\n</function>\n</tool_call>"},
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

/* ---- Qwen3 coder's bare values */

static json_t *tools_of(const char *parameters)
{
	json_t *schema = json_loads(parameters, 0, NULL);
	assert_non_null(schema);
	return json_pack("[{s:{s:s, s:o}}]", "function", "name", "f", "parameters", schema);
}

static struct grammar *grammar_of(json_t *structure)
{
	struct grammar *grammar = NULL;
	struct why why = {0};
	char *written = json_dumps(structure, JSON_COMPACT);
	if (structure_compile(written, strlen(written), NULL, &why, &grammar) != ERR_OK)
		fail_msg("%s: %s", written, why.text);
	free(written);
	json_decref(structure);
	return grammar;
}

static struct grammar *call_grammar(const json_t *tools)
{
	json_t *structure = NULL;
	const struct tool_structure_options options = {.format = TOOL_QWEN3_CODER, .tools = tools, .one_call = true};
	assert_int_equal(tool_structure(&options, NULL, &structure), ERR_OK);
	return grammar_of(structure);
}

/* What is heard of a forced call, fed in pieces of so many bytes; the caller's. */
static char *heard(const json_t *tools, const char *text, size_t length, size_t piece)
{
	struct speech speech;
	speech_init(&speech, &(struct speech_options){.tools = TOOL_QWEN3_CODER, .definitions = tools, .exact = true});
	for (size_t at = 0; at < length; at += piece)
		assert_int_equal(speech_feed(&speech, text + at, length - at < piece ? length - at : piece), ERR_OK);
	assert_int_equal(speech_finish(&speech), ERR_OK);
	if (speech.call_count != 1 || speech.content.length != 0)
		fail_msg("%u calls in %s", speech.call_count, text);
	assert_string_equal(speech.calls[0].name.data, "f");
	char *arguments = strdup(speech.calls[0].arguments.data);
	speech_fini(&speech);
	return arguments;
}

static bool taken_by(const struct grammar *grammar, const char *text)
{
	static struct matcher matcher;
	matcher_begin(&matcher, grammar);
	return matcher_read(&matcher, (const uint8_t *)text, strlen(text)) && matcher_accepts(&matcher);
}

static void bare_values_are_what_the_schema_says(void **state)
{
	static const struct {
		const char *schema, *text, *arguments; /* NULL: not taken */
	} cases[] = {
#define TEXT "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\"}}, \"required\": [\"a\"]}"
		{TEXT, FUNCTION(PARAMETER("a", "x < y\n\n\"z\" </para")), "{\"a\":\"x < y\\n\\n\\\"z\\\" </para\"}"},
		{TEXT, FUNCTION(PARAMETER("a", "")), "{\"a\":\"\"}"},
		{TEXT, FUNCTION(PARAMETER("a", "null")), "{\"a\":\"null\"}"},
		{TEXT, FUNCTION(PARAMETER("a", "<</parameter")), "{\"a\":\"<</parameter\"}"},
		{TEXT, FUNCTION(PARAMETER("a", "b</parameter>c")), NULL},
		{TEXT, FUNCTION(""), NULL},
		{TEXT, FUNCTION(PARAMETER("a", "x") PARAMETER("a", "x")), NULL},
#define TWO "{\"type\": \"object\", \"properties\": {\"n\": {\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"null\"}]}, " \
	    "\"e\": {\"enum\": [\"red\", \"</parameter>\", \"\"]}, \"o\": {\"$ref\": \"#/$defs/o\"}}, " \
	    "\"$defs\": {\"o\": {\"type\": \"object\", \"properties\": {\"s\": {\"type\": \"string\"}}}}}"
		{TWO, FUNCTION(""), "{}"},
		{TWO, FUNCTION(PARAMETER("n", "12") PARAMETER("e", "red")), "{\"n\":12, \"e\":\"red\"}"},
		{TWO, FUNCTION(PARAMETER("n", "null") PARAMETER("e", "")), "{\"n\":null, \"e\":\"\"}"},
		{TWO, FUNCTION(PARAMETER("e", "red") PARAMETER("n", "12")), NULL},
		{TWO, FUNCTION(PARAMETER("e", "blue")), NULL},
		{TWO, FUNCTION(PARAMETER("n", "twelve")), NULL},
		{TWO, FUNCTION(PARAMETER("o", "{\"s\": \"\\u003c/parameter>\"}")), "{\"o\":{\"s\": \"\\u003c/parameter>\"}}"},
		{TWO, FUNCTION(PARAMETER("o", "{\"s\": \"</parameter>\"}")), NULL},
#define BOUND "{\"type\": \"object\", \"properties\": {\"d\": {\"type\": \"string\", \"format\": \"date\"}, " \
	      "\"l\": {\"type\": \"string\", \"maxLength\": 2}}}"
		{BOUND, FUNCTION(PARAMETER("d", "2024-02-28") PARAMETER("l", "é!")), "{\"d\":\"2024-02-28\", \"l\":\"é!\"}"},
		{BOUND, FUNCTION(PARAMETER("d", "yesterday")), NULL},
		{BOUND, FUNCTION(PARAMETER("l", "abc")), NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *tools = tools_of(cases[i].schema);
		struct grammar *grammar = call_grammar(tools);
		if (taken_by(grammar, cases[i].text) != (cases[i].arguments != NULL))
			fail_msg("%zu: %s", i, cases[i].text);
		for (size_t piece = 1; cases[i].arguments && piece < 200; piece += 99) {
			char *arguments = heard(tools, cases[i].text, strlen(cases[i].text), piece);
			assert_string_equal(arguments, cases[i].arguments);
			free(arguments);
		}
		grammar_destroy(grammar);
		json_decref(tools);
	}
}

/* Any byte that may come, but what ends values oftener: a walk of pure chance would end in no reasonable time. */
static bool allowed(struct matcher *matcher, uint8_t byte)
{
	static struct matcher_way list[MATCHER_WAYS_MAX];
	uint32_t count = 0, frames = matcher->frame_count;
	for (uint32_t i = 0; i < matcher->way_count; i++)
		matcher_step(matcher, matcher->ways[i], byte, list, &count);
	matcher_unwind(matcher, frames);
	return count > 0;
}

static uint8_t pick(struct matcher *matcher, struct rng *rng, const char *text, size_t length)
{
	static const char end[] = "\n</parameter>\n", closers[] = "\"}],\n";
	size_t in_end = sizeof(end) - 2;
	while (in_end > 0 && (length < in_end || memcmp(text + length - in_end, end, in_end) != 0))
		in_end--;
	if (rng_below(rng, in_end ? 6 : 9) > (in_end ? 0u : 7u) && allowed(matcher, (uint8_t)end[in_end]))
		return (uint8_t)end[in_end];
	uint8_t closer = (uint8_t)closers[rng_below(rng, sizeof(closers) - 1)], byte = (uint8_t)rng_below(rng, 256);
	if (rng_below(rng, 3) == 0 && allowed(matcher, closer))
		return closer;
	while (!allowed(matcher, byte))
		byte++;
	return byte;
}

/* The text of a walk, or NULL: it did not end in time. */
static char *walk(const struct grammar *grammar, struct rng *rng, size_t *ret_length)
{
	enum { WALK_BYTES = 4000 };
	static struct matcher matcher;
	char *text = malloc(WALK_BYTES + 1);
	size_t length = 0;
	matcher_begin(&matcher, grammar);
	while (!matcher_accepts(&matcher) && length < WALK_BYTES) {
		uint8_t byte = pick(&matcher, rng, text, length);
		text[length++] = (char)byte;
		assert_true(matcher_read(&matcher, &byte, 1));
	}
	text[length] = 0;
	*ret_length = length;
	if (matcher_accepts(&matcher))
		return text;
	free(text);
	return NULL;
}

/* The arguments heard are a document of the tool's schema, whatever the model chose among what it may say. */
static void whatever_is_said_the_arguments_are_valid(void **state)
{
	static const char *const values[] = {
		"{\"type\": \"string\"}", "{\"type\": \"integer\", \"minimum\": -3}", "{\"type\": \"number\"}", "{\"type\": \"boolean\"}",
		"{\"enum\": [\"a b\", \"null\", \"<x>\", \"1\"]}", "{\"enum\": [1, \"one\", null]}", "{\"const\": \"k\"}", "{\"type\": \"null\"}",
		"{\"type\": \"string\", \"pattern\": \"^[a-z\\\"<]{1,5}$\"}", "{\"type\": \"string\", \"minLength\": 1, \"maxLength\": 4}",
		"{\"type\": [\"string\", \"null\"]}", "{\"type\": \"array\", \"items\": {\"type\": \"string\"}, \"maxItems\": 3}",
		"{\"type\": \"object\", \"properties\": {\"s\": {\"type\": \"string\"}, \"n\": {\"type\": \"number\"}}}", "{\"$ref\": \"#/$defs/d\"}",
		"{\"type\": \"string\", \"nullable\": true}", "{\"type\": \"string\", \"format\": \"email\"}",
	};
	enum { VALUES = sizeof(values) / sizeof(values[0]) };
	struct rng rng = {.seed = 20};
	uint32_t ended = 0;
	for (uint32_t round = 0; round < 120; round++) {
		json_t *properties = json_object(), *required = json_array();
		for (uint32_t i = 0, count = (uint32_t)rng_below(&rng, 4); i < count; i++) {
			char name[16];
			snprintf(name, sizeof(name), "p %u", i);
			json_object_set_new(properties, name, json_loads(values[rng_below(&rng, VALUES)], 0, NULL));
			if (rng_below(&rng, 2))
				json_array_append_new(required, json_string(name));
		}
		json_t *schema = json_pack("{s:s, s:o, s:o, s:{s:{s:s}}}", "type", "object", "properties", properties, "required",
					   required, "$defs", "d", "type", "boolean");
		json_t *tools = json_pack("[{s:{s:s, s:O}}]", "function", "name", "f", "parameters", schema);
		struct grammar *calls = call_grammar(tools), *documents = grammar_of(json_pack("{s:o}", "json", schema));
		for (uint32_t i = 0; i < 5; i++) {
			size_t length;
			char *text = walk(calls, &rng, &length);
			if (!text)
				continue;
			char *arguments = heard(tools, text, length, 1 + rng_below(&rng, 40));
			if (!taken_by(documents, arguments))
				fail_msg("%s\nis heard as %s", text, arguments);
			ended++;
			free(arguments);
			free(text);
		}
		grammar_destroy(calls);
		grammar_destroy(documents);
		json_decref(tools);
	}
	assert_true(ended > 300);
}

static void what_cannot_be_forced_says_so(void **state)
{
	static const struct {
		enum tool_format format;
		const char *schema, *why;
	} cases[] = {
		{TOOL_NONE, "{}", "calls of the format none cannot be forced, only \"auto\" and \"none\""},
		{TOOL_QWEN3_CODER, "{\"type\": \"object\", \"minProperties\": 1}",
		 "f: parameters with \"minProperties\" cannot be forced in the format qwen3_coder"},
		{TOOL_QWEN3_CODER, "{\"properties\": {\"a>\": {}}}",
		 "f: a parameter named \"a>\" cannot be written in the format qwen3_coder"},
		{TOOL_QWEN3_CODER, "{\"required\": [\"a\"]}", "f: \"required\" is expected to name properties"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *tools = tools_of(cases[i].schema), *structure = NULL;
		struct why why = {0};
		const struct tool_structure_options options = {.format = cases[i].format, .tools = tools};
		assert_int_equal(tool_structure(&options, &why, &structure), ERR_UNSUPPORTED);
		assert_string_equal(why.text, cases[i].why);
		json_decref(tools);
	}
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
		cmocka_unit_test(bare_values_are_what_the_schema_says),
		cmocka_unit_test(whatever_is_said_the_arguments_are_valid),
		cmocka_unit_test(what_cannot_be_forced_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
