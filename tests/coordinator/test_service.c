/* What a call becomes, and what its client hears when all goes well: whole and as a stream. */
#include <stdio.h>
#include <string.h>

#include "tests/coordinator/service_world.h"

static void a_completion_is_one_body(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"Who?\",\"max_tokens\":50", NULL, &client));
	uint32_t count = say(world, 0, 0, " It was M\xc3\xa4rta.");
	assert_int_equal(client.replies, 0);
	scripted_end(&world->coord, 0, ERR_OK);
	assert_int_equal(client.replies, 1);
	assert_int_equal(client.status, 200);
	json_t *json = parsed(&client);
	assert_string_equal(text_at(json, "choices", 0, "text"), " It was M\xc3\xa4rta.");
	assert_string_equal(text_at(json, "choices", 0, "finish_reason"), "length");
	const json_t *usage = json_object_get(json, "usage");
	assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), count);
	assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), world->coord.requests[0].prompt_count);
	json_decref(json);
	buf_fini(&client.body);
}

static void a_chat_goes_through_the_template(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_CHAT, "\"messages\":[{\"role\":\"user\",\"content\":\"Who?\"}]", NULL, &client));
	const struct scripted_request *r = &world->coord.requests[0];
	json_t *messages = json_loads("[{\"role\":\"user\",\"content\":\"Who?\"}]", 0, NULL);
	struct buf text = {0};
	struct why why;
	assert_int_equal(model_dir_chat(world->model.dir, messages, &(struct chat_options){.add_generation_prompt = true}, &why, &text), ERR_OK);
	struct tokens tokens = encode(world, text.data);
	assert_int_equal(r->prompt_count, tokens.count);
	assert_memory_equal(r->tokens, tokens.ids, tokens.count * sizeof(uint32_t));
	assert_int_equal(r->sampling.max_tokens, world->model.context_max - tokens.count); /* the rest */
	tokens_fini(&tokens);
	buf_fini(&text);
	json_decref(messages);
	scripted_end(&world->coord, 0, ERR_OK);
	buf_fini(&client.body);
}

static void a_stream_is_an_opening_the_tokens_usage_and_done(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_CHAT, "\"messages\":[{\"role\":\"user\",\"content\":\"Who?\"}],\"stream\":true,"
					      "\"stream_options\":{\"include_usage\":true}", NULL, &client));
	assert_int_equal(client.starts, 0); /* before the first token a real status is still possible */
	uint32_t count = say(world, 0, 0, "Me.");
	assert_int_equal(client.starts, 1);
	assert_int_equal(client.writes, count); /* the opening travels with the first */
	scripted_end(&world->coord, 0, ERR_OK);
	assert_int_equal(client.ends, 1);
	assert_int_equal(client.replies, 0);
	const char *opening = strstr(client.body.data, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}");
	const char *finish = strstr(client.body.data, "\"finish_reason\":\"length\"");
	const char *usage = strstr(client.body.data, "\"choices\":[],\"usage\":{");
	assert_true(opening && finish && usage && opening < finish && finish < usage);
	assert_string_equal(client.body.data + client.body.length - 14, "data: [DONE]\n\n");
	buf_fini(&client.body);
}

static void a_character_of_several_tokens_comes_whole(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"stream\":true,\"max_tokens\":50", NULL, &client));
	assert_true(say(world, 0, 0, "\xf0\x9f\xa6\x89!") > 2); /* an owl: byte by byte in this vocabulary */
	scripted_end(&world->coord, 0, ERR_OK);
	assert_non_null(strstr(client.body.data, "\"text\":\"\xf0\x9f\xa6\x89\""));
	assert_null(strstr(client.body.data, "\xef\xbf\xbd"));
	buf_fini(&client.body);
}

static void a_stop_string_ends_the_choice_alone(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"n\":2,\"max_tokens\":50,\"stop\":\"wolf\"", NULL, &client));
	struct tokens tokens = encode(world, "a wolf came");
	assert_true(say(world, 0, 0, "a wolf came") < tokens.count);
	tokens_fini(&tokens);
	say(world, 0, 1, "a wol");
	scripted_end(&world->coord, 0, ERR_OK);
	json_t *json = parsed(&client);
	assert_string_equal(text_at(json, "choices", 0, "text"), "a ");
	assert_string_equal(text_at(json, "choices", 0, "finish_reason"), "stop");
	assert_string_equal(text_at(json, "choices", 0, "stop_reason"), "wolf");
	assert_string_equal(text_at(json, "choices", 1, "text"), "a wol");
	assert_string_equal(text_at(json, "choices", 1, "finish_reason"), "length");
	json_decref(json);
	buf_fini(&client.body);
}

static void a_stop_token_is_no_text(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	struct tokens tokens = encode(world, "a b");
	char fields[128];
	snprintf(fields, sizeof(fields), "\"prompt\":\"x\",\"stop_token_ids\":[%u]", tokens.ids[tokens.count - 1]);
	assert_non_null(post(world, API_COMPLETION, fields, NULL, &client));
	for (size_t i = 0; i + 1 < tokens.count; i++)
		scripted_token(&world->coord, 0, 0, tokens.ids[i], WIRE__FINISH__FINISH_NONE, 0);
	scripted_token(&world->coord, 0, 0, tokens.ids[tokens.count - 1], WIRE__FINISH__FINISH_STOP, 1);
	scripted_end(&world->coord, 0, ERR_OK);
	json_t *json = parsed(&client);
	assert_int_equal(strncmp(text_at(json, "choices", 0, "text"), "a", 1), 0);
	assert_null(strchr(text_at(json, "choices", 0, "text"), 'b'));
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(json, "choices"), 0), "stop_reason")),
			 tokens.ids[tokens.count - 1]);
	json_decref(json);
	tokens_fini(&tokens);
	buf_fini(&client.body);
}

static void prompts_of_a_list_are_requests_of_their_own(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":[\"x\",[5,6,7]],\"n\":2,\"max_tokens\":50", NULL, &client));
	assert_int_equal(world->coord.count, 2);
	assert_int_equal(world->coord.requests[1].prompt_count, 3);
	say(world, 1, 1, "fourth");
	say(world, 1, 0, "third");
	scripted_end(&world->coord, 1, ERR_OK);
	say(world, 0, 0, "first");
	say(world, 0, 1, "second");
	assert_int_equal(client.replies, 0);
	scripted_end(&world->coord, 0, ERR_OK);
	static const char *const expected[] = {"first", "second", "third", "fourth"};
	json_t *json = parsed(&client);
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(text_at(json, "choices", i, "text"), expected[i]);
	json_decref(json);
	buf_fini(&client.body);
}

static uint64_t seed_of(struct world *world, const char *fields, const char *key)
{
	struct client client = {0};
	uint32_t request = world->coord.count;
	assert_non_null(post(world, API_COMPLETION, fields, key, &client));
	scripted_end(&world->coord, request, ERR_OK);
	buf_fini(&client.body);
	return world->coord.requests[request].sampling.seed;
}

static void an_absent_seed_is_drawn_or_follows_the_key(void **state)
{
	struct world *world = *state;
	assert_int_equal(seed_of(world, "\"prompt\":\"x\",\"seed\":7", "j"), 7);
	assert_true(seed_of(world, "\"prompt\":\"x\"", "k") == seed_of(world, "\"prompt\":\"x\"", "k"));
	assert_true(seed_of(world, "\"prompt\":\"x\"", "k") != seed_of(world, "\"prompt\":\"x\"", "l"));
	assert_true(seed_of(world, "\"prompt\":\"x\"", NULL) != seed_of(world, "\"prompt\":\"x\"", NULL));
}

static void a_key_belongs_to_one_request_and_one_copy_runs(void **state)
{
	struct world *world = *state;
	struct client first = {0}, second = {0}, other = {0}, bad = {0}, again = {0}, third = {0};
	assert_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"n\":99", "k", &bad)); /* uses no key */
	assert_int_equal(bad.status, 400);
	struct service_call *call = post(world, API_COMPLETION, "\"prompt\":\"x\"", "k", &first);
	assert_non_null(call);
	assert_null(post(world, API_COMPLETION, "\"prompt\":\"x\"", "k", &second));
	assert_int_equal(second.status, 409);
	assert_int_equal(second.retry_after_ns, 1000000000);
	assert_null(post(world, API_COMPLETION, "\"prompt\":\"y\"", "k", &other));
	assert_int_equal(other.status, 422);
	service_gone(call); /* the client that left may come back at once */
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\"", "k", &again));
	scripted_end(&world->coord, 1, ERR_OK);
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\"", "k", &third));
	scripted_end(&world->coord, 2, ERR_OK);
	json_t *a = parsed(&again), *b = parsed(&third);
	assert_string_equal(json_string_value(json_object_get(a, "id")), json_string_value(json_object_get(b, "id")));
	json_decref(a);
	json_decref(b);
	struct client *clients[] = {&first, &second, &other, &bad, &again, &third};
	for (int i = 0; i < 6; i++)
		buf_fini(&clients[i]->body);
}

static void a_cache_salt_becomes_part_of_every_key(void **state)
{
	struct world *world = *state;
	seed_of(world, "\"prompt\":\"x\"", NULL);
	seed_of(world, "\"prompt\":\"x\",\"cache_salt\":\"mine\"", NULL);
	assert_int_equal(world->coord.requests[0].salt_length, 0);
	assert_int_equal(world->coord.requests[1].salt_length, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_completion_is_one_body),
		TEST(a_chat_goes_through_the_template),
		TEST(a_stream_is_an_opening_the_tokens_usage_and_done),
		TEST(a_character_of_several_tokens_comes_whole),
		TEST(a_stop_string_ends_the_choice_alone),
		TEST(a_stop_token_is_no_text),
		TEST(prompts_of_a_list_are_requests_of_their_own),
		TEST(an_absent_seed_is_drawn_or_follows_the_key),
		TEST(a_key_belongs_to_one_request_and_one_copy_runs),
		TEST(a_cache_salt_becomes_part_of_every_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
