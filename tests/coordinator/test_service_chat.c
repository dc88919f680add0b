/* Chats: tools, thoughts and templates.  The demonstration model knows no tools and does not think, so it is told how it writes
 * them. */
#include <string.h>

#include "tests/coordinator/service_world.h"

#define TOOLS "\"messages\":[{\"role\":\"user\",\"content\":\"Who?\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"
#define SAID "<think>Hm \xf0\x9f\xa6\x89</think>So <tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1, \"x\"]}}</tool_call>" \
	     "<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>"

/* Ends as a model does that has said it all. */
static void say_all(struct world *world, uint32_t request, const char *text)
{
	struct tokens tokens = encode(world, text);
	for (uint32_t i = 0; i < tokens.count; i++)
		scripted_token(&world->coord, request, 0, tokens.ids[i], WIRE__FINISH__FINISH_NONE, 0);
	scripted_token(&world->coord, request, 0, 4, WIRE__FINISH__FINISH_STOP, 0);
	scripted_end(&world->coord, request, ERR_OK);
	tokens_fini(&tokens);
}

static void calls_and_thoughts_stand_apart(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	world->model.tool_format = TOOL_HERMES;
	world->model.reasoning_format = REASONING_THINK;
	assert_non_null(post(world, API_CHAT, TOOLS, NULL, &client));
	say_all(world, 0, SAID);
	json_t *json = parsed(&client);
	const json_t *choice = json_array_get(json_object_get(json, "choices"), 0), *message = json_object_get(choice, "message");
	assert_string_equal(json_string_value(json_object_get(choice, "finish_reason")), "tool_calls");
	assert_string_equal(json_string_value(json_object_get(message, "content")), "So ");
	assert_string_equal(json_string_value(json_object_get(message, "reasoning")), "Hm \xf0\x9f\xa6\x89");
	const json_t *calls = json_object_get(message, "tool_calls"), *f = json_object_get(json_array_get(calls, 0), "function");
	assert_int_equal(json_array_size(calls), 2);
	assert_string_equal(json_string_value(json_object_get(f, "name")), "f");
	assert_string_equal(json_string_value(json_object_get(f, "arguments")), "{\"a\": [1, \"x\"]}");
	json_decref(json);
	buf_fini(&client.body);
}

/* What the events of a stream say of content, thoughts and the arguments of the first call. */
static void join(const char *body, struct buf *content, struct buf *reasoning, struct buf *arguments)
{
	for (const char *at = body; (at = strstr(at, "data: {")); at++) {
		json_t *event = json_loads(at + 6, JSON_DISABLE_EOF_CHECK, NULL);
		assert_non_null(event);
		const json_t *delta = json_object_get(json_array_get(json_object_get(event, "choices"), 0), "delta");
		const json_t *texts[] = {json_object_get(delta, "content"), json_object_get(delta, "reasoning"), NULL};
		size_t i;
		json_t *call;
		json_array_foreach(json_object_get(delta, "tool_calls"), i, call)
			if (json_integer_value(json_object_get(call, "index")) == 0)
				texts[2] = json_object_get(json_object_get(call, "function"), "arguments");
		struct buf *const to[] = {content, reasoning, arguments};
		for (int k = 0; k < 3; k++)
			if (texts[k])
				assert_int_equal(buf_append(to[k], json_string_value(texts[k]), json_string_length(texts[k])), ERR_OK);
		json_decref(event);
	}
}

static void a_stream_of_calls_joins_to_the_whole(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	struct buf content = {0}, reasoning = {0}, arguments = {0};
	world->model.tool_format = TOOL_HERMES;
	world->model.reasoning_format = REASONING_THINK;
	assert_non_null(post(world, API_CHAT, TOOLS ",\"stream\":true", NULL, &client));
	say_all(world, 0, SAID);
	join(client.body.data, &content, &reasoning, &arguments);
	assert_string_equal(content.data, "So ");
	assert_string_equal(reasoning.data, "Hm \xf0\x9f\xa6\x89");
	assert_string_equal(arguments.data, "{\"a\": [1, \"x\"]}");
	assert_non_null(strstr(client.body.data, "\"finish_reason\":\"tool_calls\""));
	assert_null(strstr(client.body.data, "tool_call>"));
	buf_fini(&content);
	buf_fini(&reasoning);
	buf_fini(&arguments);
	buf_fini(&client.body);
}

static void tools_of_a_model_that_calls_none_are_refused(void **state)
{
	struct world *world = *state;
	struct client client = {0}, other = {0};
	assert_null(post(world, API_CHAT, TOOLS, NULL, &client));
	assert_int_equal(client.status, 400);
	assert_non_null(strstr(client.body.data, "\"param\":\"tools\""));
	assert_non_null(post(world, API_CHAT, TOOLS ",\"tool_choice\":\"none\"", NULL, &other));
	scripted_end(&world->coord, 0, ERR_OK);
	buf_fini(&client.body);
	buf_fini(&other.body);
}

static void a_marker_that_is_a_special_token_is_seen_and_not_shown(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	world->model.tool_format = TOOL_MISTRAL;
	assert_non_null(post(world, API_CHAT, TOOLS, NULL, &client));
	say_all(world, 0, "Yes<|system|>. [TOOL_CALLS]f{\"a\": 1}");
	json_t *json = parsed(&client);
	const json_t *message = json_object_get(json_array_get(json_object_get(json, "choices"), 0), "message");
	const json_t *call = json_array_get(json_object_get(message, "tool_calls"), 0);
	assert_string_equal(json_string_value(json_object_get(message, "content")), "Yes. ");
	assert_int_equal(json_string_length(json_object_get(call, "id")), 9); /* as its template wants it */
	json_decref(json);
	buf_fini(&client.body);
}

static void a_message_goes_on_where_it_ended(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_CHAT, "\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\","
					      "\"content\":[{\"type\":\"text\",\"text\":\"It is \"}]}],\"continue_final_message\":true",
			     NULL, &client));
	const struct scripted_request *r = &world->coord.requests[0];
	struct tokens tokens = encode(world, "<|user|>x<|end|><|assistant|>It is ");
	assert_int_equal(r->prompt_count, tokens.count);
	assert_memory_equal(r->tokens, tokens.ids, tokens.count * sizeof(uint32_t));
	tokens_fini(&tokens);
	scripted_end(&world->coord, 0, ERR_OK);
	buf_fini(&client.body);
}

/* What the prompt becomes where a client brings its template. */
static void becomes(struct world *world, const char *fields, const char *expected)
{
	struct client client = {0};
	uint32_t request = world->coord.count;
	world->model.trust_request_template = true;
	world->model.tool_format = TOOL_HERMES;
	if (!post(world, API_CHAT, fields, NULL, &client))
		fail_msg("%s", client.body.data);
	struct tokens tokens = encode(world, expected);
	assert_int_equal(world->coord.requests[request].prompt_count, tokens.count);
	assert_memory_equal(world->coord.requests[request].tokens, tokens.ids, tokens.count * sizeof(uint32_t));
	tokens_fini(&tokens);
	scripted_end(&world->coord, request, ERR_OK);
	buf_fini(&client.body);
}

static void a_template_sees_what_transformers_shows_it(void **state)
{
	struct world *world = *state;
#define SAYS(message) "\"messages\":[" message "]"
#define AS(template) ",\"chat_template\":\"" template "\""
	becomes(world, SAYS("{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 17}\"}}]}")
		AS("{{ messages[0].tool_calls[0].function.arguments.a + 1 }}"), "18");
	becomes(world, SAYS("{\"role\":\"assistant\",\"content\":\"x\",\"reasoning\":\"hm\",\"tool_calls\":[]}")
		AS("{{ messages[0].thinking ~ messages[0].reasoning_content }} {{ 'tool_calls' in messages[0] }}"), "hmhm False");
	becomes(world, SAYS("{\"role\":\"user\",\"content\":\"x\"}") ",\"reasoning_effort\":\"low\",\"documents\":[{\"text\":\"d\"}]"
		AS("{{ reasoning_effort }} {{ documents[0].text }} {{ tools is none }}"), "low d True");
	becomes(world, SAYS("{\"role\":\"user\",\"content\":\"x\"}") ",\"reasoning_effort\":\"low\",\"chat_template_kwargs\":{\"reasoning_effort\":\"mine\"}"
		AS("{{ reasoning_effort }}"), "mine");
	becomes(world, TOOLS AS("{{ tools[0].function.name }} {{ strftime_now('%Y')|int > 2020 }}"), "f True");
	becomes(world, SAYS("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}")
		AS("{{ messages[0].content }}"), "a\nb");
	becomes(world, SAYS("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}")
		AS("{% for part in messages[0].content %}{{ part.type }}={{ part.text }};{% endfor %}"), "text=a;text=b;");
}

#define ASKED "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"response_format\":{\"type\":\"json_object\"}"

static void an_answer_keeps_to_its_structure_once_it_has_thought(void **state)
{
	struct world *world = *state;
	world->model.reasoning_format = REASONING_THINK;
	becomes(world, ASKED AS("a"), "a");
	assert_string_equal(world->coord.requests[0].structure, "{\"json\":{\"type\":\"object\"}}");
	becomes(world, ASKED AS("a<think>"), "a<think>");
	assert_string_equal(world->coord.requests[1].structure,
			    "{\"sequence\":[{\"regex\":\"[^<]*\"},{\"token\":\"</think>\"},{\"literal\":\"\\n\\n\"},"
			    "{\"json\":{\"type\":\"object\"}}]}");
	becomes(world, TOOLS ",\"tool_choice\":\"required\",\"parallel_tool_calls\":false" AS("a"), "a");
	assert_non_null(strstr(world->coord.requests[2].structure, "{\"token\":\"<tool_call>\"},{\"literal\":\"\\n\"}"));
	assert_non_null(strstr(world->coord.requests[2].structure, "\\\"name\\\": \\\"f\\\""));
	world->model.reasoning_format = REASONING_OPENAI;
	becomes(world, ASKED AS("a"), "a");
	assert_non_null(strstr(world->coord.requests[3].structure, "{\"literal\":\"final\"},{\"token\":\"<|message|>\"},{\"json\""));
}

static void parts_that_are_no_text_are_refused_by_name(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_null(post(world, API_CHAT, "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},"
					  "{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]", NULL, &client));
	assert_int_equal(client.status, 400);
	assert_non_null(strstr(client.body.data, "messages[0].content[1]"));
	buf_fini(&client.body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(calls_and_thoughts_stand_apart),
		TEST(a_stream_of_calls_joins_to_the_whole),
		TEST(tools_of_a_model_that_calls_none_are_refused),
		TEST(a_marker_that_is_a_special_token_is_seen_and_not_shown),
		TEST(a_message_goes_on_where_it_ended),
		TEST(a_template_sees_what_transformers_shows_it),
		TEST(an_answer_keeps_to_its_structure_once_it_has_thought),
		TEST(parts_that_are_no_text_are_refused_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
