#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/service.h"
#include "model/model_dir.h"
#include "tests/coordinator/scripted_core.h"

/* One client, and all that it heard. */
struct client {
	struct buf body;
	int status;
	uint64_t retry_after_ns;
	bool retry_is_vain;
	uint32_t replies, starts, writes, ends;
	uint32_t patience; /* writes it takes; 0: all */
};

struct world {
	struct served_model model;
	struct service *service;
	struct coord coord;
	uint64_t now_ns;
};

static void sink_reply(void *context, const struct service_answer *answer)
{
	struct client *client = context;
	client->replies++;
	client->status = answer->status;
	client->retry_after_ns = answer->retry_after_ns;
	client->retry_is_vain = answer->retry_is_vain;
	assert_int_equal(buf_append(&client->body, answer->body, answer->length), ERR_OK);
}

static void sink_start(void *context)
{
	((struct client *)context)->starts++;
}

static bool sink_write(void *context, const char *data, size_t length, size_t echoed)
{
	struct client *client = context;
	client->writes++;
	assert_int_equal(buf_append(&client->body, data, length), ERR_OK);
	return !client->patience || client->writes < client->patience;
}

static void sink_end(void *context)
{
	((struct client *)context)->ends++;
}

static uint64_t now(void *context)
{
	return ((struct world *)context)->now_ns += 1000000;
}

static int setup(void **state)
{
	static struct world world;
	struct why why = {0};
	memset(&world, 0, sizeof(world));
	if (served_model_open(MODELS_DIR "/demo", 0, &why, &world.model) != ERR_OK) {
		print_error("%s\n", why.text);
		return 1;
	}
	struct service_options options = {.models = &world.model, .model_count = 1, .context = &world, .now_ns = now,
					  .request_timeout_ns = 600 * (uint64_t)1000000000};
	assert_int_equal(service_create(&options, &world.service), ERR_OK);
	world.coord.hooks = service_hooks(world.service);
	world.coord.context_max = world.model.context_max;
	world.coord.ready = true;
	service_attach(world.service, &world.coord);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	struct service_counts counts;
	service_counts(world->service, &counts);
	service_destroy(world->service);
	served_model_close(&world->model);
	return counts.calls_open; /* every call must have ended */
}

static struct service_call *post(struct world *world, enum api_kind kind, const char *fields, const char *key,
				 struct client *client)
{
	static char body[32768];
	int length = snprintf(body, sizeof(body), "{\"model\":\"demo\",%s}", fields);
	struct service_post what = {.kind = kind, .body = body, .length = (size_t)length, .request_id = "t",
				    .idempotency_key = key};
	struct service_sink sink = {client, sink_reply, sink_start, sink_write, sink_end};
	return service_post(world->service, &what, &sink);
}

/* The ids of a text, to be "generated". */
static struct tokens encode(struct world *world, const char *text)
{
	struct tokens tokens = {0};
	struct tokenizer_encode_options options = {.parse_special = true};
	assert_int_equal(tokenizer_encode(world->model.dir->tokenizer, text, strlen(text), &options, &tokens), ERR_OK);
	return tokens;
}

/* Generates a text for a choice; LENGTH with its last token.  Stops where the service has enough. */
static uint32_t say(struct world *world, uint32_t request, uint32_t choice, const char *text)
{
	struct tokens tokens = encode(world, text);
	uint32_t i = 0;
	for (enum coord_more more = COORD_MORE; i < tokens.count && more == COORD_MORE; i++)
		more = scripted_token(&world->coord, request, choice, tokens.ids[i],
				      i + 1 == tokens.count ? WIRE__FINISH__FINISH_LENGTH : WIRE__FINISH__FINISH_NONE, 0);
	tokens_fini(&tokens);
	return i;
}

static json_t *parsed(const struct client *client)
{
	json_t *json = json_loadb(client->body.data, client->body.length, 0, NULL);
	assert_non_null(json);
	return json;
}

static const char *text_at(const json_t *json, const char *a, size_t index, const char *b)
{
	return json_string_value(json_object_get(json_array_get(json_object_get(json, a), index), b));
}

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

/* ---- tools, thoughts: the demonstration model knows neither, so it is told how it writes them */

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

static void one_refused_prompt_cancels_the_others(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	world->coord.refuse = ERR_UNAVAILABLE;
	world->coord.accept = 1;
	assert_null(post(world, API_COMPLETION, "\"prompt\":[\"x\",\"y\",\"z\"]", NULL, &client));
	assert_int_equal(client.status, 429); /* nodes live: it is only full */
	assert_int_equal(client.retry_after_ns, 1500000000);
	assert_false(world->coord.requests[0].canceled);
	service_tick(world->service);
	assert_true(world->coord.requests[0].canceled);
	buf_fini(&client.body);
}

static void nobody_there_is_503(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	world->coord.ready = false;
	world->coord.refuse = ERR_NOT_FOUND;
	assert_null(post(world, API_COMPLETION, "\"prompt\":\"x\"", NULL, &client));
	assert_int_equal(client.status, 503);
	assert_true(client.retry_after_ns > 0);
	buf_fini(&client.body);
}

static void unknown_models_are_404_and_long_prompts_400(void **state)
{
	struct world *world = *state;
	struct client client = {0}, other = {0};
	struct service_sink sink = {&client, sink_reply, sink_start, sink_write, sink_end};
	static const char body[] = "{\"model\":\"other\",\"prompt\":\"x\"}";
	struct service_post what = {.kind = API_COMPLETION, .body = body, .length = strlen(body)};
	assert_null(service_post(world->service, &what, &sink));
	assert_int_equal(client.status, 404);
	world->coord.context_max = 8; /* of the nodes, below the model's */
	assert_null(post(world, API_COMPLETION, "\"prompt\":[1,2,3],\"max_tokens\":6", NULL, &other));
	assert_int_equal(other.status, 400);
	assert_non_null(strstr(other.body.data, "\"code\":\"context_length_exceeded\""));
	assert_int_equal(world->coord.count, 0);
	buf_fini(&client.body);
	buf_fini(&other.body);
}

static void a_failure_before_the_first_token_is_a_status(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"stream\":true", NULL, &client));
	scripted_end(&world->coord, 0, ERR_UNAVAILABLE);
	assert_int_equal(client.starts, 0);
	assert_int_equal(client.status, 503);
	assert_int_equal(client.retry_after_ns, 2000000000);
	buf_fini(&client.body);
}

static void a_failure_in_the_stream_is_an_event_without_done(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"stream\":true", NULL, &client));
	scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0);
	scripted_end(&world->coord, 0, ERR_UNAVAILABLE);
	assert_int_equal(client.ends, 1);
	assert_non_null(strstr(client.body.data, "data: {\"error\":{\"message\":"));
	assert_null(strstr(client.body.data, "[DONE]"));
	buf_fini(&client.body);
}

static void a_client_that_leaves_cancels(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	struct service_call *call = post(world, API_COMPLETION, "\"prompt\":[\"x\",\"y\"],\"stream\":true", NULL, &client);
	scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0);
	service_gone(call);
	assert_true(world->coord.requests[0].canceled && world->coord.requests[1].canceled);
	assert_int_equal(client.ends + client.replies, 0); /* it hears nothing more */
	buf_fini(&client.body);
}

static void a_client_that_does_not_read_is_given_up(void **state)
{
	struct world *world = *state;
	struct client client = {.patience = 3};
	struct service_counts counts;
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\",\"stream\":true,\"max_tokens\":50", NULL, &client));
	assert_int_equal(scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0), COORD_MORE);
	assert_int_equal(scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0), COORD_MORE);
	assert_int_equal(scripted_token(&world->coord, 0, 0, 20, WIRE__FINISH__FINISH_NONE, 0), COORD_ENOUGH);
	assert_int_equal(client.ends, 1);
	service_tick(world->service);
	assert_true(world->coord.requests[0].canceled);
	service_counts(world->service, &counts);
	assert_int_equal(counts.slow_readers, 1);
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

static void a_deadline_that_passed_is_408_and_not_to_be_repeated(void **state)
{
	struct world *world = *state;
	struct client client = {0};
	assert_non_null(post(world, API_COMPLETION, "\"prompt\":\"x\"", NULL, &client));
	assert_true(world->coord.requests[0].deadline_ns > world->now_ns + 599 * (uint64_t)1000000000);
	scripted_end(&world->coord, 0, ERR_DEADLINE);
	assert_int_equal(client.status, 408);
	assert_true(client.retry_is_vain);
	assert_non_null(strstr(client.body.data, "\"code\":\"request_timeout\""));
	buf_fini(&client.body);
}

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

static void a_cache_salt_becomes_part_of_every_key(void **state)
{
	struct world *world = *state;
	seed_of(world, "\"prompt\":\"x\"", NULL);
	seed_of(world, "\"prompt\":\"x\",\"cache_salt\":\"mine\"", NULL);
	assert_int_equal(world->coord.requests[0].salt_length, 0);
	assert_int_equal(world->coord.requests[1].salt_length, 32);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_completion_is_one_body),
		TEST(a_chat_goes_through_the_template),
		TEST(a_stream_is_an_opening_the_tokens_usage_and_done),
		TEST(a_character_of_several_tokens_comes_whole),
		TEST(a_stop_string_ends_the_choice_alone),
		TEST(a_stop_token_is_no_text),
		TEST(calls_and_thoughts_stand_apart),
		TEST(a_stream_of_calls_joins_to_the_whole),
		TEST(tools_of_a_model_that_calls_none_are_refused),
		TEST(a_marker_that_is_a_special_token_is_seen_and_not_shown),
		TEST(a_message_goes_on_where_it_ended),
		TEST(a_template_sees_what_transformers_shows_it),
		TEST(an_answer_keeps_to_its_structure_once_it_has_thought),
		TEST(parts_that_are_no_text_are_refused_by_name),
		TEST(prompts_of_a_list_are_requests_of_their_own),
		TEST(one_refused_prompt_cancels_the_others),
		TEST(nobody_there_is_503),
		TEST(unknown_models_are_404_and_long_prompts_400),
		TEST(a_failure_before_the_first_token_is_a_status),
		TEST(a_failure_in_the_stream_is_an_event_without_done),
		TEST(a_client_that_leaves_cancels),
		TEST(a_client_that_does_not_read_is_given_up),
		TEST(an_absent_seed_is_drawn_or_follows_the_key),
		TEST(a_key_belongs_to_one_request_and_one_copy_runs),
		TEST(a_deadline_that_passed_is_408_and_not_to_be_repeated),
		TEST(an_echo_has_the_prompts_log_probabilities),
		TEST(max_tokens_0_gives_the_echo_alone),
		TEST(prompt_logprobs_are_vllm_s),
		TEST(an_echo_streams_as_it_is_scored),
		TEST(log_probabilities_of_prompts_are_bounded),
		TEST(a_cache_salt_becomes_part_of_every_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
