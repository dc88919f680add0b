/* What models say is taken apart as tests/golden/speech/make.py reads it, whichever way it is cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/speech.h"
#include "tests/model/golden.h"

static const char *text_of(const struct buf *buf)
{
	return buf->data && buf->length ? buf->data : "";
}

/* Pieces of `step` bytes; 0: one cut at `cut`. */
static void say(struct speech *speech, const struct speech_options *options, const char *text, size_t step, size_t cut)
{
	size_t length = strlen(text);
	speech_init(speech, options);
	for (size_t at = 0; at < length;) {
		size_t piece = step ? step : at == 0 && cut > 0 && cut < length ? cut : length - at;
		piece = piece < length - at ? piece : length - at;
		assert_int_equal(speech_feed(speech, text + at, piece), ERR_OK);
		at += piece;
	}
	assert_int_equal(speech_finish(speech), ERR_OK);
}

static bool call_fits(const struct spoken_call *call, const json_t *expected)
{
	json_t *arguments = json_loads(text_of(&call->arguments), JSON_DECODE_ANY, NULL);
	bool fits = arguments && json_equal(arguments, json_object_get(expected, "arguments")) &&
		    strcmp(text_of(&call->name), json_string_value(json_object_get(expected, "name"))) == 0;
	json_decref(arguments);
	return fits;
}

static bool is_understood(const struct speech *speech, const json_t *expected)
{
	const json_t *calls = json_object_get(expected, "calls");
	bool fits = strcmp(text_of(&speech->content), json_string_value(json_object_get(expected, "content"))) == 0 &&
		    strcmp(text_of(&speech->reasoning), json_string_value(json_object_get(expected, "reasoning"))) == 0 &&
		    speech->call_count == json_array_size(calls);
	for (uint32_t i = 0; fits && i < speech->call_count; i++)
		fits = call_fits(&speech->calls[i], json_array_get(calls, i));
	return fits;
}

static void show(const struct speech *speech, const json_t *expected, size_t step, size_t cut)
{
	char *text = json_dumps(expected, 0);
	print_error("step %zu, cut %zu: %s\n  content \"%s\"\n  reasoning \"%s\"\n", step, cut, text, text_of(&speech->content),
		    text_of(&speech->reasoning));
	for (uint32_t i = 0; i < speech->call_count; i++)
		print_error("  %s %s\n", text_of(&speech->calls[i].name), text_of(&speech->calls[i].arguments));
	free(text);
}

/* Whole, in pieces of one to seven bytes, and cut in two at every place. */
static bool every_cut_gives_the_same(const struct speech_options *options, const json_t *expected)
{
	const char *text = json_string_value(json_object_get(expected, "text"));
	bool good = true;
	for (size_t way = 0; good && way < 7 + strlen(text); way++) {
		size_t step = way < 7 ? way + 1 : 0, cut = way < 7 ? 0 : way - 7;
		struct speech speech;
		say(&speech, options, text, step, cut);
		good = is_understood(&speech, expected);
		if (!good)
			show(&speech, expected, step, cut);
		speech_fini(&speech);
	}
	return good;
}

static void conversations_are_understood(const char *format)
{
	char path[64];
	snprintf(path, sizeof(path), "speech/%s.json", format);
	json_t *root = golden_read(path), *conversation;
	assert_non_null(root);
	const json_t *list = json_object_get(root, "conversations");
	size_t i, good = 0, calls = 0;
	json_array_foreach((json_t *)list, i, conversation)
	{
		const char *prompt = json_string_value(json_object_get(conversation, "prompt"));
		struct speech_options options = {
			.tools = tool_format_find(format),
			.reasoning = reasoning_format_find(json_string_value(json_object_get(conversation, "reasoning_format"))),
			.prompt_end = prompt,
			.prompt_end_length = strlen(prompt),
			.definitions = json_object_get(root, "tools"),
		};
		assert_int_not_equal(options.tools, TOOL_FORMATS);
		assert_int_not_equal(options.reasoning, REASONING_FORMATS);
		good += every_cut_gives_the_same(&options, conversation);
		calls += json_array_size(json_object_get(conversation, "calls"));
	}
	assert_true(json_array_size(list) >= 50 && calls >= 50);
	assert_int_equal(good, json_array_size(list));
	json_decref(root);
}

static void hermes(void **state)
{
	conversations_are_understood("hermes");
}

static void qwen3_coder(void **state)
{
	conversations_are_understood("qwen3_coder");
}

static void llama3_json(void **state)
{
	conversations_are_understood("llama3_json");
}

static void mistral(void **state)
{
	conversations_are_understood("mistral");
}

static void deepseek_v3(void **state)
{
	conversations_are_understood("deepseek_v3");
}

static void phi4_mini_json(void **state)
{
	conversations_are_understood("phi4_mini_json");
}

static void openai(void **state)
{
	conversations_are_understood("openai");
}

/* ---- what no text of vLLM's rules says */

static struct speech heard(enum tool_format tools, enum reasoning_format reasoning, const char *text)
{
	struct speech speech;
	say(&speech, &(struct speech_options){.tools = tools, .reasoning = reasoning}, text, 1, 0);
	return speech;
}

static void a_call_that_is_cut_off_gives_what_there_is(void **state)
{
	struct speech s = heard(TOOL_HERMES, REASONING_NONE, "So <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, 2");
	assert_string_equal(text_of(&s.content), "So ");
	assert_int_equal(s.call_count, 1);
	assert_string_equal(text_of(&s.calls[0].arguments), "{\"a\": [1, 2");
	speech_fini(&s);
}

static void half_a_marker_is_text_when_nothing_follows(void **state)
{
	struct speech s = heard(TOOL_HERMES, REASONING_THINK, "<tool_cal");
	assert_string_equal(text_of(&s.content), "<tool_cal");
	speech_fini(&s);
	s = heard(TOOL_MISTRAL, REASONING_THINK, "<thi");
	assert_string_equal(text_of(&s.content), "<thi");
	speech_fini(&s);
	s = heard(TOOL_NONE, REASONING_THINK, "<think>a</thin");
	assert_string_equal(text_of(&s.reasoning), "a</thin");
	speech_fini(&s);
}

static void text_comes_out_as_soon_as_it_can_be_no_marker(void **state)
{
	struct speech s;
	speech_init(&s, &(struct speech_options){.tools = TOOL_HERMES});
	assert_int_equal(speech_feed(&s, "a <tool", 7), ERR_OK);
	assert_string_equal(text_of(&s.content), "a ");
	assert_int_equal(speech_feed(&s, "box", 3), ERR_OK);
	assert_string_equal(text_of(&s.content), "a <toolbox");
	speech_fini(&s);
}

static void arguments_come_out_as_they_are_written(void **state)
{
	struct speech s;
	const char *begin = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\"";
	speech_init(&s, &(struct speech_options){.tools = TOOL_HERMES});
	assert_int_equal(speech_feed(&s, begin, strlen(begin)), ERR_OK);
	assert_int_equal(s.call_count, 1);
	assert_string_equal(text_of(&s.calls[0].name), "f");
	assert_string_equal(text_of(&s.calls[0].arguments), "{\"a\"");
	assert_int_equal(speech_feed(&s, ": 1}", 4), ERR_OK);
	assert_string_equal(text_of(&s.calls[0].arguments), "{\"a\": 1}");
	speech_fini(&s);
}

static void one_call_drops_those_behind_the_first(void **state)
{
	struct speech s;
	const char *text = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call><tool_call>{\"name\": \"g\", \"arguments\": {}}"
			   "</tool_call>";
	say(&s, &(struct speech_options){.tools = TOOL_HERMES, .one_call = true}, text, 3, 0);
	assert_int_equal(s.call_count, 1);
	assert_string_equal(text_of(&s.calls[0].name), "f");
	assert_string_equal(text_of(&s.calls[0].arguments), "{}");
	speech_fini(&s);
}

static void a_model_without_channels_is_heard_all_the_same(void **state)
{
	struct speech s = heard(TOOL_OPENAI, REASONING_OPENAI, "just text");
	assert_string_equal(text_of(&s.content), "just text");
	speech_fini(&s);
}

static void long_texts_take_linear_time(void **state)
{
	static char text[1 << 18];
	const char *const floods[] = {" ", "<", "<tool_call>", "<tool_call>{", "{\"name\": \"f\", \"arguments\": {", "[TOOL_CALLS]",
				      "<function=", "<think>", "[", "<｜tool▁call▁begin｜>"};
	for (size_t f = 0; f < sizeof(floods) / sizeof(floods[0]); f++) {
		size_t length = strlen(floods[f]);
		for (size_t i = 0; i < sizeof(text) - 1; i++)
			text[i] = floods[f][i % length];
		for (int format = 0; format < TOOL_FORMATS; format++) {
			struct speech s;
			speech_init(&s, &(struct speech_options){.tools = (enum tool_format)format, .reasoning = REASONING_THINK});
			for (size_t at = 0; at < sizeof(text) - 1; at += 61)
				assert_int_equal(speech_feed(&s, text + at, at + 61 < sizeof(text) ? 61 : sizeof(text) - 1 - at), ERR_OK);
			assert_int_equal(speech_finish(&s), ERR_OK);
			speech_fini(&s);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hermes),
		cmocka_unit_test(qwen3_coder),
		cmocka_unit_test(llama3_json),
		cmocka_unit_test(mistral),
		cmocka_unit_test(deepseek_v3),
		cmocka_unit_test(phi4_mini_json),
		cmocka_unit_test(openai),
		cmocka_unit_test(a_call_that_is_cut_off_gives_what_there_is),
		cmocka_unit_test(half_a_marker_is_text_when_nothing_follows),
		cmocka_unit_test(text_comes_out_as_soon_as_it_can_be_no_marker),
		cmocka_unit_test(arguments_come_out_as_they_are_written),
		cmocka_unit_test(one_call_drops_those_behind_the_first),
		cmocka_unit_test(a_model_without_channels_is_heard_all_the_same),
		cmocka_unit_test(long_texts_take_linear_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
