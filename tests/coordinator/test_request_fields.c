/* What is wrong with a field is said with its name and with what came, and never with a text that came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "coordinator/request_parse.h"

#define CHAT "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TEXT "\"model\":\"m\",\"prompt\":\"hi\""

static char body[70000];

static enum err parse(enum api_kind kind, const char *fields, struct api_request *ret_request, struct api_error *error)
{
	int length = snprintf(body, sizeof(body), "{%s%s}", kind == API_CHAT ? CHAT : TEXT, fields);
	assert_true(length < (int)sizeof(body));
	return api_request_parse(kind, body, (size_t)length, ret_request, error);
}

static struct api_request accepted(enum api_kind kind, const char *fields)
{
	struct api_request request;
	struct api_error error = {0};
	if (parse(kind, fields, &request, &error) != ERR_OK)
		fail_msg("%s: %s", fields, error.message);
	return request;
}

static void refused(enum api_kind kind, const char *fields, const char *param, const char *words)
{
	struct api_request request;
	struct api_error error = {0};
	assert_int_equal(parse(kind, fields, &request, &error), ERR_INVALID);
	assert_int_equal(error.status, 400);
	assert_string_equal(error.param, param);
	if (!strstr(error.message, words))
		fail_msg("\"%s\" lacks \"%s\"", error.message, words);
}

static void what_came_is_described_by_its_kind(void **state)
{
	static const char *const kinds[][2] = {{"17", "is 17"},   {"1.5", "is 1.5"},  {"\"secret\"", "is a text of 6 bytes"},
					       {"true", "is true"}, {"false", "is false"}, {"[1]", "is a list"}, {"{}", "is an object"}};
	char fields[64], words[64];
	for (size_t i = 0; i < 7; i++) {
		snprintf(fields, sizeof(fields), ",\"temperature\":%s", kinds[i][0]);
		snprintf(words, sizeof(words), "temperature: %s, expected a number from 0 to 2", kinds[i][1]);
		if (i != 1) /* a number */
			refused(API_CHAT, fields, "temperature", words);
		snprintf(fields, sizeof(fields), ",\"seed\":%s", kinds[i][0]);
		if (i != 0)
			refused(API_CHAT, fields, "seed", kinds[i][1]);
		snprintf(fields, sizeof(fields), ",\"user\":%s", kinds[i][0]);
		if (i != 2)
			refused(API_CHAT, fields, "user", kinds[i][1]);
		snprintf(fields, sizeof(fields), ",\"ignore_eos\":%s", kinds[i][0]);
		if (i != 3 && i != 4)
			refused(API_CHAT, fields, "ignore_eos", kinds[i][1]);
	}
}

static void ranges_end_where_they_are_said_to(void **state)
{
	struct api_request r = accepted(API_CHAT, ",\"temperature\":2,\"top_p\":1,\"min_p\":1,\"presence_penalty\":2,\"n\":16,"
						  "\"top_k\":2147483647,\"max_completion_tokens\":2147483647,\"logprobs\":null");
	assert_true(r.sampling.temperature == 2 && r.sampling.min_p == 1 && r.sampling.top_k == INT32_MAX && r.n == 16);
	api_request_fini(&r);
	refused(API_CHAT, ",\"temperature\":-0.01", "temperature", "is -0.01");
	refused(API_CHAT, ",\"temperature\":1e999", "", "JSON");
	refused(API_CHAT, ",\"max_completion_tokens\":2147483648", "max_completion_tokens", "is 2147483648");
	refused(API_CHAT, ",\"max_completion_tokens\":0", "max_completion_tokens", "from 1 to 2147483647");
	refused(API_CHAT, ",\"repetition_penalty\":2.5", "repetition_penalty", "is 2.5");
	refused(API_COMPLETION, ",\"logprobs\":-1", "logprobs", "is -1");
	refused(API_CHAT, ",\"top_logprobs\":21,\"logprobs\":true", "top_logprobs", "is 21");
}

static void of_two_wrong_fields_one_is_named(void **state)
{
	refused(API_CHAT, ",\"n\":0,\"temperature\":3", "temperature", "is 3"); /* read before n */
}

static void texts_have_their_limits(void **state)
{
	static char fields[70000];
	int at = sprintf(fields, ",\"user\":\"");
	memset(fields + at, 'u', 1025);
	strcpy(fields + at + 1024, "\"");
	struct api_request r = accepted(API_CHAT, fields);
	assert_int_equal(strlen(r.user), 1024);
	api_request_fini(&r);
	strcpy(fields + at + 1024, "u\"");
	refused(API_CHAT, fields, "user", "is a text of 1025 bytes, expected a text of at most 1024 bytes");
	at = sprintf(fields, ",\"chat_template\":\"");
	memset(fields + at, 't', REQUEST_TEMPLATE_MAX + 1);
	strcpy(fields + at + REQUEST_TEMPLATE_MAX + 1, "\"");
	refused(API_CHAT, fields, "chat_template", "is a text of 65537 bytes");
}

static void a_response_format_has_a_type(void **state)
{
	refused(API_CHAT, ",\"response_format\":{}", "response_format", "response_format");
	refused(API_CHAT, ",\"response_format\":\"text\"", "response_format", "response_format");
	refused(API_CHAT, ",\"response_format\":{\"type\":5}", "response_format", "response_format");
}

static void options_of_the_stream_are_an_object_beside_a_stream(void **state)
{
	refused(API_CHAT, ",\"stream\":true,\"stream_options\":[]", "stream_options", "expected an object");
	refused(API_CHAT, ",\"stream\":false,\"stream_options\":{}", "stream_options", "only with");
	refused(API_CHAT, ",\"stream\":true,\"stream_options\":{\"continuous_usage_stats\":\"\"}",
		"stream_options.continuous_usage_stats", "is a text of 0 bytes, expected true or false");
	struct api_request r = accepted(API_CHAT, ",\"stream\":true,\"stream_options\":{\"include_usage\":true,"
						  "\"continuous_usage_stats\":true}");
	assert_true(r.stream && r.include_usage && r.continuous_usage);
	api_request_fini(&r);
}

static void a_tier_is_one_of_four(void **state)
{
	static const struct {
		const char *fields;
		enum coord_class class;
	} tiers[] = {{"", COORD_DEFAULT}, {",\"service_tier\":\"auto\"", COORD_DEFAULT},
		     {",\"service_tier\":\"default\"", COORD_DEFAULT}, {",\"service_tier\":\"priority\"", COORD_PRIORITY},
		     {",\"service_tier\":\"flex\"", COORD_FLEX}};
	for (size_t i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++) {
		struct api_request r = accepted(API_COMPLETION, tiers[i].fields);
		assert_int_equal(r.class, tiers[i].class);
		api_request_fini(&r);
	}
	refused(API_CHAT, ",\"service_tier\":1", "service_tier", "is 1");
	refused(API_CHAT, ",\"service_tier\":\"\"", "service_tier", "expected auto");
}

static void a_template_and_its_variables(void **state)
{
	struct api_request r = accepted(API_CHAT, ",\"chat_template\":\"{{ a }}\",\"chat_template_kwargs\":{\"a\":1},"
						  "\"add_generation_prompt\":false,\"add_special_tokens\":true");
	assert_string_equal(r.chat_template, "{{ a }}");
	assert_int_equal(json_object_size(r.template_variables), 1);
	assert_false(r.add_generation_prompt);
	assert_true(r.add_special_tokens);
	api_request_fini(&r);
	r = accepted(API_CHAT, ",\"add_generation_prompt\":false,\"continue_final_message\":true");
	assert_true(r.continue_final_message && !r.add_generation_prompt);
	api_request_fini(&r);
	r = accepted(API_CHAT, ",\"add_generation_prompt\":true");
	assert_true(r.add_generation_prompt);
	api_request_fini(&r);
	refused(API_CHAT, ",\"chat_template_kwargs\":[]", "chat_template_kwargs", "expected an object");
}

static void a_prompt_is_cut_to_some_or_to_what_fits(void **state)
{
	struct api_request r = accepted(API_COMPLETION, ",\"truncate_prompt_tokens\":-1");
	assert_int_equal(r.truncate_prompt_tokens, -1);
	api_request_fini(&r);
	r = accepted(API_COMPLETION, ",\"truncate_prompt_tokens\":7,\"best_of\":1");
	assert_int_equal(r.truncate_prompt_tokens, 7);
	api_request_fini(&r);
	refused(API_COMPLETION, ",\"truncate_prompt_tokens\":0", "truncate_prompt_tokens", "is 0, expected -1 or at least 1");
}

static void an_item_of_stop_is_described(void **state)
{
	char fields[STOP_BYTES_MAX + 64];
	int at = sprintf(fields, ",\"stop\":[\"a\",\"");
	memset(fields + at, 's', STOP_BYTES_MAX + 1);
	strcpy(fields + at + STOP_BYTES_MAX + 1, "\"]");
	refused(API_COMPLETION, fields, "stop", "an item is a text of");
	strcpy(fields + at + STOP_BYTES_MAX, "\"]");
	struct api_request r = accepted(API_COMPLETION, fields);
	assert_int_equal(r.stop.length[1], STOP_BYTES_MAX);
	api_request_fini(&r);
	refused(API_COMPLETION, ",\"stop\":{}", "stop", "stop: is an object, expected a text of 1 to");
	refused(API_COMPLETION, ",\"stop\":[\"a\",false]", "stop", "an item is false");
	refused(API_COMPLETION, ",\"stop\":[null]", "stop", "an item is null");
	r = accepted(API_COMPLETION, ",\"stop\":[]");
	assert_int_equal(r.stop.count, 0);
	api_request_fini(&r);
}

static void stop_tokens_are_a_list_of_ids(void **state)
{
	static const char *const wrong[] = {"[1.5]", "[-1]", "[2147483648]", "[\"1\"]", "[null]",
					    "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "{}"};
	char fields[128];
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(fields, sizeof(fields), ",\"stop_token_ids\":%s", wrong[i]);
		refused(API_COMPLETION, fields, "stop_token_ids", i == 6 ? "is no list" : "a list too long, or of something else");
	}
	struct api_request r = accepted(API_COMPLETION, ",\"stop_token_ids\":[0,2147483647,2,3,4,5,6,7,8,9,10,11,12,13,14,15]");
	assert_int_equal(r.sampling.stop_id_count, SAMPLING_STOP_IDS_MAX);
	assert_int_equal(r.sampling.stop_ids[1], INT32_MAX);
	api_request_fini(&r);
}

static void biases_are_numbers_by_token_id(void **state)
{
	static const char *const keys[] = {"", "x", "1x", "-1", "+1", " 1", "2147483648", "99999999999999999999"};
	char fields[2048];
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		snprintf(fields, sizeof(fields), ",\"logit_bias\":{\"%s\":1}", keys[i]);
		refused(API_CHAT, fields, "logit_bias", "expected a token id");
	}
	refused(API_CHAT, ",\"logit_bias\":{\"1\":\"1\"}", "logit_bias", "of token 1: expected a number from -100 to 100");
	refused(API_CHAT, ",\"logit_bias\":{\"1\":-100.5}", "logit_bias", "of token 1");
	refused(API_CHAT, ",\"logit_bias\":7", "logit_bias", "is 7, expected an object of at most 64 token ids");
	int at = sprintf(fields, ",\"logit_bias\":{");
	for (int i = 0; i <= SAMPLING_BIAS_MAX; i++)
		at += sprintf(fields + at, "%s\"%d\":%d", i ? "," : "", 1000 - i, i);
	strcpy(fields + at, "}");
	refused(API_CHAT, fields, "logit_bias", "is an object, expected an object of at most 64");
	*strrchr(fields, ',') = '}';
	*(strchr(fields, '}') + 1) = 0;
	struct api_request r = accepted(API_CHAT, fields);
	assert_int_equal(r.sampling.bias_count, SAMPLING_BIAS_MAX);
	for (int i = 1; i < SAMPLING_BIAS_MAX; i++)
		assert_int_equal(r.sampling.biases[i].token, r.sampling.biases[i - 1].token + 1);
	api_request_fini(&r);
}

/* By its length: a name from a client belongs in no log. */
static void a_field_that_is_not_known_is_logged_and_ignored(void **state)
{
	char text[4096] = "";
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	fflush(stderr);
	dup2(fileno(file), STDERR_FILENO);
	log_init("test", LOG_DEBUG, false);
	struct api_request r = accepted(API_CHAT, ",\"from_the_future\":1,\"priority\":2");
	api_request_fini(&r);
	log_init("test", LOG_INFO, false);
	r = accepted(API_CHAT, ",\"another\":1");
	api_request_fini(&r);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	size_t length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	assert_true(length > 0);
	assert_non_null(strstr(text, "a name of 15 bytes is not known, ignored"));
	assert_null(strstr(text, "future"));
	assert_null(strstr(text, "of 8 bytes"));
	assert_null(strstr(text, "of 7 bytes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_came_is_described_by_its_kind),
		cmocka_unit_test(ranges_end_where_they_are_said_to),
		cmocka_unit_test(of_two_wrong_fields_one_is_named),
		cmocka_unit_test(texts_have_their_limits),
		cmocka_unit_test(a_response_format_has_a_type),
		cmocka_unit_test(options_of_the_stream_are_an_object_beside_a_stream),
		cmocka_unit_test(a_tier_is_one_of_four),
		cmocka_unit_test(a_template_and_its_variables),
		cmocka_unit_test(a_prompt_is_cut_to_some_or_to_what_fits),
		cmocka_unit_test(an_item_of_stop_is_described),
		cmocka_unit_test(stop_tokens_are_a_list_of_ids),
		cmocka_unit_test(biases_are_numbers_by_token_id),
		cmocka_unit_test(a_field_that_is_not_known_is_logged_and_ignored),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
