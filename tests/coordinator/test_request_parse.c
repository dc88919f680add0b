#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/request_parse.h"

#define CHAT "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TEXT "\"model\":\"m\",\"prompt\":\"hi\""

static struct api_request parse(enum api_kind kind, const char *fields)
{
	char body[1024];
	struct api_request request;
	struct api_error error = {0};
	int length = snprintf(body, sizeof(body), "{%s%s}", kind == API_CHAT ? CHAT : TEXT, fields);
	enum err e = api_request_parse(kind, body, (size_t)length, &request, &error);
	if (e != ERR_OK)
		print_error("%s\n", error.message);
	assert_int_equal(e, ERR_OK);
	return request;
}

static void refused(enum api_kind kind, const char *fields, const char *param)
{
	char body[1024];
	struct api_request request;
	struct api_error error = {0};
	int length = snprintf(body, sizeof(body), "{%s%s}", kind == API_CHAT ? CHAT : TEXT, fields);
	assert_int_equal(api_request_parse(kind, body, (size_t)length, &request, &error), ERR_INVALID);
	assert_int_equal(error.status, 400);
	assert_string_equal(error.param, param);
	assert_string_equal(error.type, "invalid_request_error");
	assert_non_null(strstr(error.message, param));
}

static void defaults_are_openais(void **state)
{
	struct api_request r = parse(API_COMPLETION, "");
	assert_string_equal(r.model, "m");
	assert_int_equal(r.n, 1);
	assert_true(r.sampling.temperature == 1.0f);
	assert_true(r.sampling.top_p == 1.0f);
	assert_true(r.sampling.repetition_penalty == 1.0f);
	assert_int_equal(r.sampling.top_k, -1);
	assert_int_equal(r.sampling.logprobs, -1);
	assert_int_equal(r.sampling.max_tokens, 0);
	assert_false(r.has_seed);
	assert_false(r.stream);
	assert_true(r.skip_special_tokens);
	assert_true(r.add_special_tokens);
	assert_int_equal(r.class, COORD_DEFAULT);
	api_request_fini(&r);
	r = parse(API_CHAT, "");
	assert_false(r.add_special_tokens); /* the template writes them */
	assert_true(r.add_generation_prompt);
	api_request_fini(&r);
}

static void null_is_as_absent(void **state)
{
	struct api_request r = parse(API_CHAT, ",\"stop\":null,\"seed\":null,\"n\":null,\"tools\":null,\"temperature\":null,"
					       "\"stream_options\":null,\"logit_bias\":null,\"response_format\":null");
	assert_int_equal(r.n, 1);
	assert_int_equal(r.stop.count, 0);
	assert_false(r.has_seed);
	api_request_fini(&r);
}

static void sampling_fields_are_read(void **state)
{
	struct api_request r = parse(API_COMPLETION, ",\"temperature\":0,\"top_p\":0.5,\"top_k\":7,\"min_p\":0.25,\"presence_penalty\":-2,"
						     "\"frequency_penalty\":2,\"repetition_penalty\":1.5,\"seed\":-3,\"max_tokens\":9,"
						     "\"min_tokens\":4,\"ignore_eos\":true,\"logprobs\":5,\"n\":3,"
						     "\"stop_token_ids\":[4,2]");
	const struct sampling *s = &r.sampling;
	assert_true(s->temperature == 0 && s->top_p == 0.5f && s->min_p == 0.25f && s->presence_penalty == -2 &&
		    s->frequency_penalty == 2 && s->repetition_penalty == 1.5f);
	assert_int_equal(s->top_k, 7);
	assert_true(r.has_seed && s->seed == (uint64_t)-3);
	assert_int_equal(s->max_tokens, 9);
	assert_int_equal(s->min_tokens, 4);
	assert_true(s->ignore_eos);
	assert_int_equal(s->logprobs, 5);
	assert_int_equal(r.n, 3);
	assert_int_equal(s->stop_id_count, 2);
	assert_int_equal(s->stop_ids[0], 4);
	api_request_fini(&r);
}

static void chat_logprobs_are_a_yes_and_a_number(void **state)
{
	struct api_request r = parse(API_CHAT, ",\"logprobs\":true");
	assert_int_equal(r.sampling.logprobs, 0);
	api_request_fini(&r);
	r = parse(API_CHAT, ",\"logprobs\":true,\"top_logprobs\":20");
	assert_int_equal(r.sampling.logprobs, 20);
	api_request_fini(&r);
	r = parse(API_CHAT, ",\"logprobs\":false,\"top_logprobs\":0");
	assert_int_equal(r.sampling.logprobs, -1);
	api_request_fini(&r);
	refused(API_CHAT, ",\"top_logprobs\":2", "top_logprobs");
}

static void stop_is_a_text_or_a_list(void **state)
{
	struct api_request r = parse(API_COMPLETION, ",\"stop\":\"x\"");
	assert_int_equal(r.stop.count, 1);
	api_request_fini(&r);
	r = parse(API_COMPLETION, ",\"stop\":[\"x\",\"yz\"],\"include_stop_str_in_output\":true");
	assert_int_equal(r.stop.count, 2);
	assert_int_equal(r.stop.length[1], 2);
	assert_true(r.stop.include);
	api_request_fini(&r);
	refused(API_COMPLETION, ",\"stop\":\"\"", "stop");
	refused(API_COMPLETION, ",\"stop\":[1]", "stop");
	refused(API_COMPLETION, ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\","
				"\"14\",\"15\",\"16\",\"17\"]", "stop");
}

static void biases_come_in_order_of_their_tokens(void **state)
{
	struct api_request r = parse(API_CHAT, ",\"logit_bias\":{\"30\":-1,\"4\":100}");
	assert_int_equal(r.sampling.bias_count, 2);
	assert_int_equal(r.sampling.biases[0].token, 4);
	assert_int_equal(r.sampling.biases[1].token, 30);
	api_request_fini(&r);
	refused(API_CHAT, ",\"logit_bias\":{\"-1\":1}", "logit_bias");
	refused(API_CHAT, ",\"logit_bias\":{\"1\":101}", "logit_bias");
	refused(API_CHAT, ",\"logit_bias\":[]", "logit_bias");
}

static void the_newer_name_of_max_tokens_wins(void **state)
{
	struct api_request r = parse(API_CHAT, ",\"max_tokens\":5,\"max_completion_tokens\":7");
	assert_int_equal(r.sampling.max_tokens, 7);
	api_request_fini(&r);
}

static void a_wrong_field_is_named(void **state)
{
	static const char *const wrong[][2] = {
		{",\"temperature\":2.01", "temperature"}, {",\"temperature\":\"1\"", "temperature"},
		{",\"top_p\":0", "top_p"}, {",\"top_p\":1.1", "top_p"}, {",\"top_k\":-2", "top_k"}, {",\"min_p\":-0.1", "min_p"},
		{",\"presence_penalty\":2.5", "presence_penalty"}, {",\"frequency_penalty\":-3", "frequency_penalty"},
		{",\"repetition_penalty\":0", "repetition_penalty"}, {",\"seed\":1.5", "seed"}, {",\"n\":0", "n"},
		{",\"n\":17", "n"}, {",\"max_tokens\":0", "max_tokens"}, {",\"min_tokens\":-1", "min_tokens"},
		{",\"max_tokens\":4,\"min_tokens\":5", "min_tokens"}, {",\"logprobs\":21", "logprobs"},
		{",\"logprobs\":true", "logprobs"}, {",\"ignore_eos\":1", "ignore_eos"},
		{",\"stop_token_ids\":4", "stop_token_ids"}, {",\"stream\":0", "stream"},
		{",\"stream_options\":{}", "stream_options"},
		{",\"stream\":true,\"stream_options\":{\"include_usage\":1}", "stream_options.include_usage"},
		{",\"best_of\":2", "best_of"}, {",\"echo\":1", "echo"}, {",\"user\":[]", "user"},
		{",\"truncate_prompt_tokens\":0", "truncate_prompt_tokens"},
		{",\"truncate_prompt_tokens\":-2", "truncate_prompt_tokens"},
		{",\"suffix\":\"s\"", "suffix"}, {",\"prompt_logprobs\":21", "prompt_logprobs"},
		{",\"prompt_logprobs\":1,\"stream\":true", "prompt_logprobs"}, {",\"max_tokens\":0", "max_tokens"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		refused(API_COMPLETION, wrong[i][0], wrong[i][1]);
	refused(API_CHAT, ",\"continue_final_message\":true,\"add_generation_prompt\":true", "continue_final_message");
	refused(API_CHAT, ",\"max_tokens\":0", "max_tokens");
	refused(API_CHAT, ",\"response_format\":{\"type\":\"xml\"}", "response_format");
	refused(API_CHAT, ",\"response_format\":{\"type\":\"json_schema\"}", "response_format");
	refused(API_CHAT, ",\"response_format\":{\"type\":\"json_object\"},\"guided_regex\":\"a\"", "guided_regex");
	refused(API_CHAT, ",\"guided_grammar\":\"root ::= x\"", "guided_grammar");
	refused(API_CHAT, ",\"guided_choice\":[]", "guided_choice");
	refused(API_CHAT, ",\"structured_outputs\":{\"grammar\":\"root ::= x\"}", "structured_outputs.grammar");
	refused(API_CHAT, ",\"service_tier\":\"gold\"", "service_tier");
}

#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"

static void tools_are_offered_unless_none_may_be_called(void **state)
{
	struct api_request r = parse(API_CHAT, ",\"tools\":[" TOOL("f") "],\"parallel_tool_calls\":false");
	assert_int_equal(json_array_size(r.tools), 1);
	assert_true(r.one_call);
	api_request_fini(&r);
	r = parse(API_CHAT, ",\"tools\":[" TOOL("f") "],\"tool_choice\":\"none\"");
	assert_null(r.tools);
	assert_false(r.one_call);
	api_request_fini(&r);
	r = parse(API_CHAT, ",\"tools\":[" TOOL("f") "," TOOL("g") "],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}}");
	assert_true(r.must_call);
	assert_string_equal(r.called_tool, "g");
	api_request_fini(&r);
	r = parse(API_CHAT, ",\"tools\":[],\"tool_choice\":\"none\"");
	assert_null(r.tools);
	api_request_fini(&r);
}

static void wrong_tools_are_named(void **state)
{
	static const char *const wrong[][2] = {
		{",\"tools\":{}", "tools"}, {",\"tools\":[{}]", "tools[0].function.name"},
		{",\"tools\":[" TOOL("f") ",3]", "tools[1].type"}, {",\"tools\":[{\"type\":\"web\"}]", "tools[0].type"},
		{",\"tools\":[" TOOL("") "]", "tools[0].function.name"},
		{",\"tools\":[{\"function\":{\"name\":\"f\",\"parameters\":[]}}]", "tools[0].function.parameters"},
		{",\"tool_choice\":\"auto\"", "tool_choice"}, {",\"tools\":[" TOOL("f") "],\"tool_choice\":\"any\"", "tool_choice"},
		{",\"tools\":[" TOOL("f") "],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}}", "tool_choice"},
		{",\"tools\":[" TOOL("f") "],\"tool_choice\":{\"type\":\"allowed_tools\"}", "tool_choice"},
		{",\"tools\":[" TOOL("f") "],\"tool_choice\":\"required\",\"response_format\":{\"type\":\"json_object\"}", "tool_choice"},
		{",\"functions\":[{\"name\":\"f\"}]", "functions"}, {",\"function_call\":\"auto\"", "function_call"},
		{",\"parallel_tool_calls\":1", "parallel_tool_calls"}, {",\"documents\":[1]", "documents"},
		{",\"reasoning_effort\":\"much\"", "reasoning_effort"}, {",\"include_reasoning\":0", "include_reasoning"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		refused(API_CHAT, wrong[i][0], wrong[i][1]);
}

static void what_cannot_be_done_is_refused_by_name(void **state)
{
	static const char *const lacking[][2] = {
		{",\"store\":true", "store"}, {",\"use_beam_search\":true", "use_beam_search"}, {",\"bad_words\":[\"x\"]", "bad_words"},
		{",\"allowed_token_ids\":[1]", "allowed_token_ids"}, {",\"logits_processors\":[\"x\"]", "logits_processors"},
		{",\"audio\":{}", "audio"}, {",\"modalities\":[\"text\",\"audio\"]", "modalities"},
		{",\"web_search_options\":{}", "web_search_options"}, {",\"metadata\":{\"a\":1}", "metadata"},
		{",\"priority\":\"high\"", "priority"}, {",\"prompt_cache_key\":7", "prompt_cache_key"},
	};
	for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++)
		refused(API_CHAT, lacking[i][0], lacking[i][1]);
}

static void priority_chooses_a_class_unless_a_tier_does(void **state)
{
	static const struct {
		const char *fields;
		enum coord_class class;
	} cases[] = {
		{",\"priority\":0", COORD_DEFAULT}, {",\"priority\":-1", COORD_PRIORITY}, {",\"priority\":9", COORD_FLEX},
		{",\"priority\":9,\"service_tier\":\"priority\"", COORD_PRIORITY},
		{",\"priority\":9,\"service_tier\":\"auto\"", COORD_DEFAULT},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct api_request r = parse(API_COMPLETION, cases[i].fields);
		assert_int_equal(r.class, cases[i].class);
		api_request_fini(&r);
	}
}

static void log_probabilities_of_the_prompt_are_asked_for_by_name_or_by_echo(void **state)
{
	static const struct {
		const char *fields;
		uint8_t computed;
		bool named;
	} cases[] = {
		{"", 0, false}, {",\"echo\":true", 0, false}, {",\"logprobs\":3", 0, false},
		{",\"echo\":true,\"logprobs\":0", 1, false}, {",\"echo\":true,\"logprobs\":3", 4, false},
		{",\"prompt_logprobs\":0", 1, true}, {",\"prompt_logprobs\":20", 21, true},
		{",\"echo\":true,\"logprobs\":5,\"prompt_logprobs\":2", 6, true},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct api_request r = parse(API_COMPLETION, cases[i].fields);
		assert_int_equal(r.sampling.prompt_logprobs, cases[i].computed);
		assert_int_equal(r.prompt_logprobs, cases[i].named);
		api_request_fini(&r);
	}
	struct api_request r = parse(API_COMPLETION, ",\"echo\":true,\"max_tokens\":0");
	assert_true(r.echo_only);
	assert_int_equal(r.sampling.max_tokens, 1);
	api_request_fini(&r);
}

static void structures_of_all_names_are_one_text(void **state)
{
	static const char *const cases[][2] = {
		{",\"response_format\":{\"type\":\"json_object\"}", "{\"json\":{\"type\":\"object\"}}"},
		{",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{\"b\":1,\"a\":2}}}",
		 "{\"json\":{\"b\":1,\"a\":2}}"},
		{",\"guided_json\":{\"type\":\"null\"}", "{\"json\":{\"type\":\"null\"}}"},
		{",\"guided_json\":\"{\\\"type\\\": \\\"null\\\"}\"", "{\"json\":{\"type\":\"null\"}}"},
		{",\"structured_outputs\":{\"json\":{\"type\":\"null\"}}", "{\"json\":{\"type\":\"null\"}}"},
		{",\"structured_outputs\":{\"regex\":\"a+\"}", "{\"regex\":\"a+\"}"},
		{",\"guided_choice\":[\"x\",\"y\"]", "{\"choice\":[{\"literal\":\"x\"},{\"literal\":\"y\"}]}"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct api_request r = parse(API_CHAT, cases[i][0]);
		assert_string_equal(r.structure, cases[i][1]);
		api_request_fini(&r);
	}
}

static void a_message_that_goes_on_has_no_generation_prompt(void **state)
{
	struct api_request r = parse(API_CHAT, "");
	assert_true(r.add_generation_prompt);
	api_request_fini(&r);
	r = parse(API_CHAT, ",\"continue_final_message\":true");
	assert_false(r.add_generation_prompt);
	api_request_fini(&r);
}

static void what_changes_nothing_is_accepted(void **state)
{
	struct api_request r = parse(API_CHAT, ",\"tool_choice\":\"none\",\"response_format\":{\"type\":\"text\"},"
					       "\"from_the_future\":[1,{\"a\":null}],\"metadata\":{\"a\":\"b\"},\"store\":false,"
					       "\"prompt_cache_key\":\"k\",\"verbosity\":\"low\",\"kv_transfer_params\":{},"
					       "\"priority\":3,\"request_id\":\"r\",\"session_id\":\"s\"");
	api_request_fini(&r);
	r = parse(API_CHAT, ",\"service_tier\":\"priority\"");
	assert_int_equal(r.class, COORD_PRIORITY);
	api_request_fini(&r);
}

static void wrong_whole(enum api_kind kind, const char *body, const char *param)
{
	struct api_request request;
	struct api_error error = {0};
	assert_int_equal(api_request_parse(kind, body, strlen(body), &request, &error), ERR_INVALID);
	assert_int_equal(error.status, 400);
	assert_string_equal(error.param, param);
}

static void bodies_that_are_no_request(void **state)
{
	wrong_whole(API_CHAT, "", "");
	wrong_whole(API_CHAT, "{", "");
	wrong_whole(API_CHAT, "[]", "");
	wrong_whole(API_CHAT, "{} {}", "");
	wrong_whole(API_CHAT, "{\"a\":\"\xff\"}", "");
	wrong_whole(API_CHAT, "{}", "model");
	wrong_whole(API_CHAT, "{\"model\":\"m\"}", "messages");
	wrong_whole(API_CHAT, "{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]}", "messages[0].role");
	wrong_whole(API_CHAT, "{\"model\":\"m\",\"messages\":[\"x\"]}", "messages[0].role");
	wrong_whole(API_COMPLETION, "{\"model\":\"m\"}", "prompt");
	wrong_whole(API_COMPLETION, "{\"model\":\"m\",\"prompt\":[]}", "prompt");
	wrong_whole(API_COMPLETION, "{\"model\":\"m\",\"prompt\":{}}", "prompt");
}

static void nesting_has_a_limit(void **state)
{
	static char deep[100000];
	memset(deep, '[', sizeof(deep) - 1);
	wrong_whole(API_CHAT, deep, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_openais),
		cmocka_unit_test(null_is_as_absent),
		cmocka_unit_test(sampling_fields_are_read),
		cmocka_unit_test(chat_logprobs_are_a_yes_and_a_number),
		cmocka_unit_test(stop_is_a_text_or_a_list),
		cmocka_unit_test(biases_come_in_order_of_their_tokens),
		cmocka_unit_test(the_newer_name_of_max_tokens_wins),
		cmocka_unit_test(a_wrong_field_is_named),
		cmocka_unit_test(tools_are_offered_unless_none_may_be_called),
		cmocka_unit_test(wrong_tools_are_named),
		cmocka_unit_test(what_cannot_be_done_is_refused_by_name),
		cmocka_unit_test(priority_chooses_a_class_unless_a_tier_does),
		cmocka_unit_test(log_probabilities_of_the_prompt_are_asked_for_by_name_or_by_echo),
		cmocka_unit_test(structures_of_all_names_are_one_text),
		cmocka_unit_test(a_message_that_goes_on_has_no_generation_prompt),
		cmocka_unit_test(what_changes_nothing_is_accepted),
		cmocka_unit_test(bodies_that_are_no_request),
		cmocka_unit_test(nesting_has_a_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
