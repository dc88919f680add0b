#include "tools/solo_feed.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "coordinator/service.h"
#include "net/loop.h"

struct item {
	struct solo_feed *feed;
	enum api_kind kind;
	char *body;
	struct buf answer;
	bool done;
};

struct solo_feed {
	struct loop *loop;
	struct solo_feed_options options;
	struct service *service;
	struct item **items; /* [count] */
	uint32_t count, capacity;
	uint32_t started, printed, active;
	uint32_t failures;
	struct loop_task task;
};

/* ---- answers */

/* A sink may not call the service (service.h rule 2): what follows from it runs in the next turn. */
static void ended(struct item *item)
{
	item->done = true;
	item->feed->active--;
	loop_post(item->feed->loop, &item->feed->task);
}

static void sink_reply(void *context, const struct service_answer *answer)
{
	struct item *item = context;
	item->feed->failures += answer->status >= 400;
	if (buf_append(&item->answer, answer->body, answer->length) != ERR_OK || buf_text(&item->answer, "\n") != ERR_OK)
		item->feed->failures++;
	ended(item);
}

static void sink_start(void *context)
{
	(void)context;
}

/* The text of one event, as it comes. */
static void print_event(const char *event, size_t length)
{
	json_t *json = json_loadb(event, length, 0, NULL);
	const json_t *choice = json_array_get(json_object_get(json, "choices"), 0);
	const json_t *text = json_object_get(choice, "text");
	if (!text)
		text = json_object_get(json_object_get(choice, "delta"), "content");
	if (json_is_string(text))
		fwrite(json_string_value(text), 1, json_string_length(text), stdout);
	const char *error = json_string_value(json_object_get(json_object_get(json, "error"), "message"));
	if (error)
		fprintf(stderr, "\n%s", error);
	json_decref(json);
}

static bool sink_write(void *context, const char *data, size_t length, size_t echoed)
{
	(void)context;
	(void)echoed; /* nobody is slow here */
	for (const char *end; length >= 8 && (end = memmem(data, length, "\n\n", 2)); ) {
		size_t event = (size_t)(end - data);
		print_event(data + 6, event - 6); /* after "data: " */
		data += event + 2;
		length -= event + 2;
	}
	fflush(stdout);
	return true;
}

static void sink_end(void *context)
{
	struct item *item = context;
	printf("\n");
	ended(item);
}

/* ---- requests */

static void start_one(struct solo_feed *feed)
{
	struct item *item = feed->items[feed->started++];
	struct service_post post = {.kind = item->kind, .body = item->body, .length = strlen(item->body)};
	struct service_sink sink = {.context = item, .reply = sink_reply, .stream_start = sink_start,
				    .stream_write = sink_write, .stream_end = sink_end};
	feed->active++;
	service_post(feed->service, &post, &sink); /* nobody leaves here, so the call is of no interest */
}

static void pump(void *arg)
{
	struct solo_feed *feed = arg;
	for (; feed->printed < feed->count && feed->items[feed->printed]->done; feed->printed++) {
		struct buf *answer = &feed->items[feed->printed]->answer;
		if (answer->length)
			fwrite(answer->data, 1, answer->length, stdout);
		fflush(stdout);
		buf_fini(answer);
	}
	while (feed->started < feed->count && feed->active < feed->options.concurrency)
		start_one(feed);
	if (feed->printed == feed->count)
		feed->options.done(feed->options.context);
}

void solo_feed_start(struct solo_feed *feed, struct service *service)
{
	feed->service = service;
	pump(feed);
}

uint32_t solo_feed_failures(const struct solo_feed *feed)
{
	return feed->failures;
}

enum err solo_feed_add(struct solo_feed *feed, enum api_kind kind, const char *body)
{
	if (feed->count == FEED_ITEMS_MAX || strlen(body) > FEED_BODY_MAX)
		return ERR_TOO_LARGE;
	if (feed->count == feed->capacity) {
		uint32_t capacity = feed->capacity ? feed->capacity * 2 : 64;
		struct item **items = realloc(feed->items, capacity * sizeof(*items));
		if (!items)
			return ERR_NOMEM;
		feed->items = items;
		feed->capacity = capacity;
	}
	struct item *item = calloc(1, sizeof(*item));
	char *copy = strdup(body);
	if (!item || !copy) {
		free(item);
		free(copy);
		return ERR_NOMEM;
	}
	*item = (struct item){.feed = feed, .kind = kind, .body = copy};
	feed->items[feed->count++] = item;
	return ERR_OK;
}

static enum err add_line(struct solo_feed *feed, const char *line, struct why *why)
{
	json_error_t at;
	json_t *json = json_loads(line, 0, &at);
	if (!json)
		return why_set(why, ERR_INVALID, "no JSON: %s", at.text);
	const char *path = json_string_value(json_object_get(json, "path"));
	json_t *body = json_object_get(json, "body");
	bool chat = path && strcmp(path, "/v1/chat/completions") == 0;
	enum err e = ERR_OK;
	if (!json_is_object(body) || !path || (!chat && strcmp(path, "/v1/completions") != 0))
		e = why_set(why, ERR_INVALID, "expected {\"path\": \"/v1/completions\" or \"/v1/chat/completions\", "
					      "\"body\": {…}}");
	if (e == ERR_OK) {
		json_object_del(body, "stream");
		json_object_del(body, "stream_options");
		char *text = json_dumps(body, JSON_COMPACT);
		e = text ? solo_feed_add(feed, chat ? API_CHAT : API_COMPLETION, text) : ERR_NOMEM;
		free(text);
	}
	json_decref(json);
	return e;
}

enum err solo_feed_read(struct solo_feed *feed, const char *path, struct why *why)
{
	FILE *file = fopen(path, "r");
	if (!file)
		return why_set(why, ERR_IO, "%s cannot be read", path);
	char *line = NULL;
	size_t capacity = 0;
	enum err e = ERR_OK;
	for (uint32_t number = 1; e == ERR_OK; number++) {
		ssize_t length = getline(&line, &capacity, file);
		if (length < 0)
			break;
		if (length > 1)
			e = add_line(feed, line, why);
		if (e != ERR_OK)
			why_prefix(why, "%s: line %u", path, number);
	}
	free(line);
	fclose(file);
	return e;
}

/* ---- life */

enum err solo_feed_create(struct loop *loop, const struct solo_feed_options *options, struct solo_feed **ret_feed)
{
	struct solo_feed *feed = calloc(1, sizeof(*feed));
	if (!feed)
		return ERR_NOMEM;
	feed->loop = loop;
	feed->options = *options;
	loop_task_init(&feed->task, pump, feed);
	*ret_feed = feed;
	return ERR_OK;
}

void solo_feed_destroy(struct solo_feed *feed)
{
	if (!feed)
		return;
	loop_task_cancel(feed->loop, &feed->task);
	for (uint32_t i = 0; i < feed->count; i++) {
		buf_fini(&feed->items[i]->answer);
		free(feed->items[i]->body);
		free(feed->items[i]);
	}
	free(feed->items);
	free(feed);
}
