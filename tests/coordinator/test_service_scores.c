/* Echoed prompts and their log-probabilities. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/coordinator/service_world.h"

static const json_t *first_choice(const json_t *json)
{
	return json_array_get(json_object_get(json, "choices"), 0);
}

/* "Who?" echoed with its log-probabilities, then one token. */
static void an_echo_has_the_prompts_log_probabilities(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":[44,77,69,70],\"echo\":true,\"logprobs\":1,\"max_tokens\":9",
			     NULL, &client));
	assert_int_equal(world->coord.requests[0].sampling.prompt_logprobs, 2);
	scripted_scores(&world->coord, 0, 1, 1);
	scripted_scores(&world->coord, 0, 2, 2);
	scripted_token(&world->coord, 0, 0, 71, WIRE__FINISH__FINISH_LENGTH, 0);
	scripted_end(&world->coord, 0, ERR_OK);
	json_t *json = parsed(&client);
	assert_string_equal(text_at(json, "choices", 0, "text"), "Hiabc");
	char *shown = json_dumps(json_object_get(first_choice(json), "logprobs"), JSON_COMPACT | JSON_REAL_PRECISION(3));
	assert_string_equal(shown, "{\"tokens\":[\"H\",\"i\",\"a\",\"b\",\"c\"],\"token_logprobs\":[null,-0.5,-1.0,-1.5,-0.1],"
				   "\"top_logprobs\":[null,{\":\":-0.25,\"i\":-0.5},{\":\":-0.25,\"a\":-1.0},"
				   "{\":\":-0.25,\"b\":-1.5},{\"c\":-0.1}],\"text_offset\":[0,1,2,3,4]}");
	free(shown);
	json_decref(json);
	buf_fini(&client.body);
}

static void max_tokens_0_gives_the_echo_alone(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":[44,77],\"echo\":true,\"logprobs\":0,\"max_tokens\":0", NULL,
			     &client));
	assert_int_equal(world->coord.requests[0].sampling.max_tokens, 1);
	scripted_scores(&world->coord, 0, 1, 1);
	scripted_token(&world->coord, 0, 0, 71, WIRE__FINISH__FINISH_LENGTH, 0);
	scripted_end(&world->coord, 0, ERR_OK);
	json_t *json = parsed(&client);
	assert_string_equal(text_at(json, "choices", 0, "text"), "Hi");
	assert_string_equal(text_at(json, "choices", 0, "finish_reason"), "length");
	const json_t *logprobs = json_object_get(first_choice(json), "logprobs");
	assert_int_equal(json_array_size(json_object_get(logprobs, "tokens")), 2);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "usage"), "completion_tokens")), 0);
	json_decref(json);
	buf_fini(&client.body);
}

static void prompt_logprobs_are_vllm_s(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":[44,77,69],\"prompt_logprobs\":1,\"n\":2", NULL, &client));
	scripted_scores(&world->coord, 0, 1, 2);
	for (uint32_t choice = 0; choice < 2; choice++)
		scripted_token(&world->coord, 0, choice, 71, WIRE__FINISH__FINISH_LENGTH, 0);
	scripted_end(&world->coord, 0, ERR_OK);
	json_t *json = parsed(&client);
	for (size_t choice = 0; choice < 2; choice++) {
		char *shown = json_dumps(json_object_get(json_array_get(json_object_get(json, "choices"), choice),
							 "prompt_logprobs"), JSON_COMPACT | JSON_REAL_PRECISION(3));
		assert_string_equal(shown, "[null,{\"77\":{\"logprob\":-0.5,\"rank\":2,\"decoded_token\":\"i\"},"
					   "\"30\":{\"logprob\":-0.25,\"rank\":1,\"decoded_token\":\":\"}},"
					   "{\"69\":{\"logprob\":-1.0,\"rank\":2,\"decoded_token\":\"a\"},"
					   "\"30\":{\"logprob\":-0.25,\"rank\":1,\"decoded_token\":\":\"}}]");
		free(shown);
	}
	json_decref(json);
	buf_fini(&client.body);
}

static void an_echo_streams_as_it_is_scored(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":[44,77,69],\"echo\":true,\"logprobs\":0,\"stream\":true", NULL,
			     &client));
	assert_int_equal(client.starts, 0);
	scripted_scores(&world->coord, 0, 1, 1);
	assert_int_equal(client.writes, 1);
	assert_non_null(strstr(client.body.data, "\"text\":\"Hi\""));
	scripted_scores(&world->coord, 0, 2, 1);
	assert_int_equal(client.writes, 2);
	scripted_token(&world->coord, 0, 0, 71, WIRE__FINISH__FINISH_LENGTH, 0);
	scripted_end(&world->coord, 0, ERR_OK);
	assert_non_null(strstr(client.body.data, "[DONE]"));
	buf_fini(&client.body);
}

/* 4,000 tokens with 20 alternatives, twice echoed and once by name, are more than one request may ask for. */
static void log_probabilities_of_prompts_are_bounded(void **state)
{
	struct world *world = *state;
	struct client client = {0}, many[60] = {0};
	static char fields[20000];
	size_t length = (size_t)snprintf(fields, sizeof(fields), "\"echo\":true,\"logprobs\":20,\"n\":4,\"prompt\":[7");
	for (int i = 1; i < 4000; i++)
		length += (size_t)snprintf(fields + length, sizeof(fields) - length, ",7");
	snprintf(fields + length, sizeof(fields) - length, "]");
	assert_null(post(world, API_COMPLETION, fields, NULL, &client));
	assert_int_equal(client.status, 400);
	assert_non_null(strstr(client.body.data, "log-probabilities of prompt tokens"));
	char *n = strstr(fields, "\"n\":4");
	n[4] = '1';
	uint32_t accepted = 0;
	while (accepted < 60 && post(world, API_COMPLETION, fields, NULL, &many[accepted]))
		accepted++;
	assert_in_range(accepted, 40, 59);
	assert_int_equal(many[accepted].status, 429);
	assert_true(many[accepted].retry_after_ns > 0);
	for (uint32_t i = 0; i < accepted; i++)
		scripted_end(&world->coord, i, ERR_UNAVAILABLE);
	struct client after = {0};
	assert_non_null(post(world, API_COMPLETION, fields, NULL, &after)); /* what was held is free */
	scripted_end(&world->coord, accepted, ERR_UNAVAILABLE);
	for (int i = 0; i < 60; i++)
		buf_fini(&many[i].body);
	buf_fini(&after.body);
	buf_fini(&client.body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_echo_has_the_prompts_log_probabilities),
		TEST(max_tokens_0_gives_the_echo_alone),
		TEST(prompt_logprobs_are_vllm_s),
		TEST(an_echo_streams_as_it_is_scored),
		TEST(log_probabilities_of_prompts_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
