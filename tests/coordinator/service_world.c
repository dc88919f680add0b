#include "tests/coordinator/service_world.h"

#include <stdio.h>
#include <string.h>

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

struct service_sink client_sink(struct client *client)
{
	return (struct service_sink){client, sink_reply, sink_start, sink_write, sink_end};
}

int service_world_open(void **state)
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

int service_world_close(void **state)
{
	struct world *world = *state;
	struct service_counts counts;
	service_counts(world->service, &counts);
	service_destroy(world->service);
	served_model_close(&world->model);
	return counts.calls_open; /* every call must have ended */
}

struct service_call *post(struct world *world, enum api_kind kind, const char *fields, const char *key,
				 struct client *client)
{
	static char body[32768];
	int length = snprintf(body, sizeof(body), "{\"model\":\"demo\",%s}", fields);
	struct service_post what = {.kind = kind, .body = body, .length = (size_t)length, .request_id = "t",
				    .idempotency_key = key};
	struct service_sink sink = client_sink(client);
	return service_post(world->service, &what, &sink);
}

struct tokens encode(struct world *world, const char *text)
{
	struct tokens tokens = {0};
	struct tokenizer_encode_options options = {.parse_special = true};
	assert_int_equal(tokenizer_encode(world->model.dir->tokenizer, text, strlen(text), &options, &tokens), ERR_OK);
	return tokens;
}

uint32_t say(struct world *world, uint32_t request, uint32_t choice, const char *text)
{
	struct tokens tokens = encode(world, text);
	uint32_t i = 0;
	for (enum coord_more more = COORD_MORE; i < tokens.count && more == COORD_MORE; i++)
		more = scripted_token(&world->coord, request, choice, tokens.ids[i],
				      i + 1 == tokens.count ? WIRE__FINISH__FINISH_LENGTH : WIRE__FINISH__FINISH_NONE, 0);
	tokens_fini(&tokens);
	return i;
}

json_t *parsed(const struct client *client)
{
	json_t *json = json_loadb(client->body.data, client->body.length, 0, NULL);
	assert_non_null(json);
	return json;
}

const char *text_at(const json_t *json, const char *a, size_t index, const char *b)
{
	return json_string_value(json_object_get(json_array_get(json_object_get(json, a), index), b));
}
