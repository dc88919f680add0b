/* baton chat: talk to a running cluster; the answer appears as it is written, and the conversation is kept. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/options.h"
#include "net/http_client.h"
#include "tools/commands.h"

enum { CHAT_OPTIONS = 9, REPLY_BYTES_MAX = 16 << 20, LINE_BYTES_MAX = 1 << 20 };

struct chat {
	const char *host;
	const char *ca_file; /* NULL: the API speaks plain HTTP */
	uint64_t port;
	const char *key; /* NULL: none */
	const char *model;
	const char *system;
	uint64_t max_tokens; /* 0: the rest of the context */
	const char *temperature;
	uint64_t seed;
	bool seeded;
	json_t *messages;    /* the conversation */
	struct buf answer;   /* the one being written */
	char error[512];     /* of an event in the stream */
};

static enum err call(const struct chat *chat, const char *method, const char *path, const char *body,
		     bool (*on_line)(void *, const char *, size_t), void *context, struct http_client_reply *reply,
		     struct why *why)
{
	char bearer[1024];
	snprintf(bearer, sizeof(bearer), "Bearer %s", chat->key ? chat->key : "");
	const struct http_field fields[] = {
		{"Content-Type", "application/json"}, {chat->key ? "Authorization" : NULL, bearer}, {NULL, NULL}};
	struct http_client_request request = {
		.host = chat->host, .port = (uint16_t)chat->port, .ca_file = chat->ca_file, .method = method, .path = path, .fields = fields,
		.body = body, .body_length = body ? strlen(body) : 0, .on_line = on_line, .context = context,
	};
	*reply = (struct http_client_reply){.body = {.limit = REPLY_BYTES_MAX}};
	return http_client_call(&request, reply, why);
}

/* What an error body says. */
static enum err refused(const struct http_client_reply *reply, struct why *why)
{
	json_t *body = reply->body.data ? json_loadb(reply->body.data, reply->body.length, 0, NULL) : NULL;
	const char *message = json_string_value(json_object_get(json_object_get(body, "error"), "message"));
	enum err e = why_set(why, ERR_UNAVAILABLE, "status %d: %s", reply->status, message ? message : "no reason given");
	json_decref(body);
	return e;
}

/* The only model, or the first. */
static enum err find_model(struct chat *chat, char *ret_name, size_t size, struct why *why)
{
	struct http_client_reply reply;
	enum err e = call(chat, "GET", "/v1/models", NULL, NULL, NULL, &reply, why);
	if (e == ERR_OK && reply.status != 200)
		e = refused(&reply, why);
	json_t *body = e == ERR_OK ? json_loadb(reply.body.data, reply.body.length, 0, NULL) : NULL;
	const json_t *first = json_array_get(json_object_get(body, "data"), 0);
	const char *name = json_string_value(json_object_get(first, "id"));
	if (e == ERR_OK && !name)
		e = why_set(why, ERR_NOT_FOUND, "the cluster serves no model");
	if (e == ERR_OK)
		snprintf(ret_name, size, "%s", name);
	json_decref(body);
	buf_fini(&reply.body);
	return e;
}

/* One line of the stream. */
static bool on_line(void *context, const char *line, size_t length)
{
	struct chat *chat = context;
	if (length < 6 || strncmp(line, "data: ", 6) != 0)
		return true;
	if (strncmp(line + 6, "[DONE]", 6) == 0)
		return true;
	json_t *event = json_loadb(line + 6, length - 6, 0, NULL);
	const char *error = json_string_value(json_object_get(json_object_get(event, "error"), "message"));
	if (error)
		snprintf(chat->error, sizeof(chat->error), "%s", error);
	const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
	const char *text = json_string_value(json_object_get(json_object_get(choice, "delta"), "content"));
	if (text && buf_text(&chat->answer, text) == ERR_OK) {
		fputs(text, stdout);
		fflush(stdout);
	}
	json_decref(event);
	return true;
}

static char *make_body(const struct chat *chat)
{
	json_t *body = json_pack("{s:s, s:O, s:b}", "model", chat->model, "messages", chat->messages, "stream", 1);
	if (chat->max_tokens)
		json_object_set_new(body, "max_tokens", json_integer((json_int_t)chat->max_tokens));
	if (chat->temperature)
		json_object_set_new(body, "temperature", json_real(atof(chat->temperature)));
	if (chat->seeded)
		json_object_set_new(body, "seed", json_integer((json_int_t)chat->seed));
	char *text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	return text;
}

static enum err ask(struct chat *chat, const char *question, struct why *why)
{
	json_array_append_new(chat->messages, json_pack("{s:s, s:s}", "role", "user", "content", question));
	buf_clear(&chat->answer);
	chat->error[0] = 0;
	char *body = make_body(chat);
	if (!body)
		return why_set(why, ERR_INVALID, "the message is not UTF-8");
	struct http_client_reply reply;
	enum err e = call(chat, "POST", "/v1/chat/completions", body, on_line, chat, &reply, why);
	if (e == ERR_OK && reply.status != 200)
		e = refused(&reply, why);
	if (e == ERR_OK && chat->error[0])
		e = why_set(why, ERR_UNAVAILABLE, "%s", chat->error);
	printf("\n");
	if (e == ERR_OK) /* a failed turn is no part of the conversation */
		json_array_append_new(chat->messages, json_pack("{s:s, s:s}", "role", "assistant", "content",
								chat->answer.data ? chat->answer.data : ""));
	else
		json_array_remove(chat->messages, json_array_size(chat->messages) - 1);
	buf_fini(&reply.body);
	free(body);
	return e;
}

/* Ctrl-D ends. */
static enum err converse(struct chat *chat, struct why *why)
{
	bool terminal = isatty(STDIN_FILENO);
	char *line = NULL;
	size_t capacity = 0;
	enum err e = ERR_OK;
	for (;;) {
		if (terminal) {
			printf("\n%s> ", chat->model);
			fflush(stdout);
		}
		ssize_t length = getline(&line, &capacity, stdin);
		if (length < 0 || length > LINE_BYTES_MAX)
			break;
		line[strcspn(line, "\r\n")] = 0;
		if (!*line)
			continue;
		e = ask(chat, line, why);
		if (e != ERR_OK && !terminal)
			break;
		if (e != ERR_OK)
			fprintf(stderr, "%s\n", why->text);
		e = ERR_OK;
	}
	if (terminal)
		printf("\n");
	free(line);
	return e;
}

static enum err run(struct chat *chat, const struct option_list *words, struct why *why)
{
	char model[256];
	enum err e = chat->model ? ERR_OK : find_model(chat, model, sizeof(model), why);
	if (e != ERR_OK)
		return e;
	if (!chat->model)
		chat->model = model;
	chat->messages = json_array();
	if (chat->system)
		json_array_append_new(chat->messages, json_pack("{s:s, s:s}", "role", "system", "content", chat->system));
	struct buf question = {.limit = LINE_BYTES_MAX};
	for (size_t i = 0; i < words->count && e == ERR_OK; i++)
		e = buf_printf(&question, "%s%s", i ? " " : "", words->items[i]);
	if (e == ERR_OK)
		e = question.length ? ask(chat, question.data, why) : converse(chat, why);
	buf_fini(&question);
	buf_fini(&chat->answer);
	json_decref(chat->messages);
	return e;
}

int command_chat(int argc, char **argv, char **environment)
{
	struct chat chat = {.host = "127.0.0.1", .port = 8000, .seed = UINT64_MAX};
	const struct option table[CHAT_OPTIONS] = {
		{"host", OPTION_TEXT, &chat.host, 0, 0, "HOST", "of a coordinator"},
		{"port", OPTION_COUNT, &chat.port, 1, 65535, "PORT", "of its API"},
		{"ca-file", OPTION_TEXT, &chat.ca_file, 0, 0, "PEM", "the API speaks TLS, with a certificate of this CA"},
		{"api-key", OPTION_TEXT, &chat.key, 0, 0, "KEY", "where the cluster wants keys; better as BATON_API_KEY"},
		{"model", OPTION_TEXT, &chat.model, 0, 0, "NAME", "default: the first that is served"},
		{"system", OPTION_TEXT, &chat.system, 0, 0, "TEXT", "how the model should behave"},
		{"max-tokens", OPTION_COUNT, &chat.max_tokens, 0, 1 << 20, "N", "of an answer; 0: the rest of the context"},
		{"temperature", OPTION_TEXT, &chat.temperature, 0, 0, "X", "0: always the likeliest token"},
		{"seed", OPTION_COUNT, &chat.seed, 0, 0, "N", "the same seed gives the same answer"},
	};
	struct options options = {.program = "baton chat", .usage = "[--port P] [--model NAME] [MESSAGE]", .table = table,
				  .count = CHAT_OPTIONS, .environment = environment, .positional = true};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	chat.seeded = chat.seed != UINT64_MAX;
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = run(&chat, &options.words, &why);
	if (e != ERR_OK)
		fprintf(stderr, "baton chat: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}
