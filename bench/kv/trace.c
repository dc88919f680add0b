#include "bench/kv/trace.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

struct builder {
	struct trace trace;
	uint32_t id_room, request_room;
};

static enum err add_id(struct builder *b, uint32_t id)
{
	if (b->trace.id_count == b->id_room) {
		if (b->id_room == TRACE_IDS_MAX)
			return ERR_TOO_LARGE;
		uint32_t room = b->id_room ? 2 * b->id_room : 1 << 16;
		uint32_t *ids = realloc(b->trace.ids, room * sizeof(*ids));
		if (!ids)
			return ERR_NOMEM;
		b->trace.ids = ids;
		b->id_room = room;
	}
	b->trace.ids[b->trace.id_count++] = id;
	return ERR_OK;
}

/* The blocks since the last request are one. */
static enum err end_request(struct builder *b)
{
	if (b->trace.request_count + 1 >= b->request_room) {
		uint32_t room = b->request_room ? 2 * b->request_room : 1 << 12;
		uint32_t *starts = realloc(b->trace.starts, room * sizeof(*starts));
		if (!starts)
			return ERR_NOMEM;
		b->trace.starts = starts;
		b->request_room = room;
	}
	if (b->trace.request_count == 0)
		b->trace.starts[0] = 0;
	b->trace.starts[++b->trace.request_count] = b->trace.id_count;
	return ERR_OK;
}

/* Numbers become 0 .. distinct - 1, in the order of coming. */
static enum err number_anew(struct trace *trace)
{
	uint32_t max = 0;
	for (uint32_t i = 0; i < trace->id_count; i++)
		max = trace->ids[i] > max ? trace->ids[i] : max;
	uint32_t *names = calloc((size_t)max + 1, sizeof(*names)); /* 0: none yet */
	if (!names)
		return ERR_NOMEM;
	trace->distinct = 0;
	for (uint32_t i = 0; i < trace->id_count; i++) {
		uint32_t *name = &names[trace->ids[i]];
		if (*name == 0)
			*name = ++trace->distinct;
		trace->ids[i] = *name - 1;
	}
	free(names);
	return ERR_OK;
}

static enum err take_line(struct builder *b, const char *line, uint32_t number, struct why *why)
{
	const char *at = strstr(line, "\"hash_ids\"");
	at = at ? strchr(at, '[') : NULL;
	if (!at)
		return why_set(why, ERR_INVALID, "line %u has no \"hash_ids\": [numbers]", number);
	for (at++; *at == ' '; at++)
		;
	while (*at != ']') {
		char *end;
		errno = 0;
		unsigned long id = strtoul(at, &end, 10);
		if (end == at || *at == '-' || errno || id > TRACE_ID_MAX)
			return why_set(why, ERR_INVALID, "line %u: expected numbers up to %d in \"hash_ids\"", number,
				       TRACE_ID_MAX);
		enum err e = add_id(b, (uint32_t)id);
		if (e != ERR_OK)
			return why_set(why, e, "line %u: more than %d blocks", number, TRACE_IDS_MAX);
		for (at = end; *at == ' ' || *at == ','; at++)
			;
	}
	return end_request(b);
}

static enum err take_lines(FILE *file, struct builder *b, struct why *why)
{
	char *line = malloc(TRACE_LINE_MAX);
	enum err e = line ? ERR_OK : ERR_NOMEM;
	for (uint32_t number = 1; e == ERR_OK && fgets(line, TRACE_LINE_MAX, file); number++)
		if (!strchr(line, '\n') && !feof(file))
			e = why_set(why, ERR_TOO_LARGE, "line %u has more than %d bytes", number, TRACE_LINE_MAX);
		else
			e = take_line(b, line, number, why);
	free(line);
	if (e == ERR_OK && b->trace.id_count == 0)
		e = why_set(why, ERR_INVALID, "no block in it");
	return e;
}

enum err trace_load(const char *path, struct trace *ret_trace, struct why *why)
{
	FILE *file = fopen(path, "r");
	if (!file)
		return why_set(why, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
	struct builder b = {{0}};
	enum err e = take_lines(file, &b, why);
	fclose(file);
	if (e == ERR_OK)
		e = number_anew(&b.trace);
	if (e != ERR_OK) {
		trace_fini(&b.trace);
		return e;
	}
	*ret_trace = b.trace;
	return ERR_OK;
}

/* ---- made up */

enum { PROMPTS = 16, CHATS = 2048, CHAIN_MAX = 256, SCAN_PERCENT = 25, NEW_PERCENT = 40, SCAN_BLOCKS_MAX = 120 };

struct maker {
	struct builder builder;
	struct rng rng;
	uint32_t id_next;
	uint32_t prompts[PROMPTS][8];
	struct chat {
		uint32_t length;
		uint32_t ids[CHAIN_MAX];
	} chats[CHATS]; /* the newest CHATS, in a ring */
	uint32_t chat_count;
};

static void grow(struct maker *m, struct chat *chat, uint32_t blocks)
{
	while (blocks-- > 0 && chat->length < CHAIN_MAX)
		chat->ids[chat->length++] = m->id_next++;
}

/* A system prompt of 1 to 8 blocks; half of all chats have the first one. */
static void begin(struct maker *m, struct chat *chat)
{
	uint32_t prompt = rng_below(&m->rng, 2) ? 0 : (uint32_t)rng_below(&m->rng, PROMPTS);
	chat->length = 1 + prompt % 8;
	memcpy(chat->ids, m->prompts[prompt], sizeof(m->prompts[prompt]));
}

/* The younger a chat, the likelier it goes on: the age is the product of two uniform numbers. */
static struct chat *choose(struct maker *m)
{
	uint32_t there = m->chat_count < CHATS ? m->chat_count : CHATS;
	uint32_t age = (uint32_t)rng_below(&m->rng, 1 + rng_below(&m->rng, there));
	return &m->chats[(m->chat_count - 1 - age) % CHATS];
}

static enum err make_request(struct maker *m)
{
	struct chat document, *chat = &document;
	if (rng_below(&m->rng, 100) < SCAN_PERCENT) {
		begin(m, chat);
		grow(m, chat, 10 + (uint32_t)rng_below(&m->rng, SCAN_BLOCKS_MAX));
	} else if (m->chat_count == 0 || rng_below(&m->rng, 100) < NEW_PERCENT) {
		chat = &m->chats[m->chat_count++ % CHATS];
		begin(m, chat);
		grow(m, chat, 1 + (uint32_t)rng_below(&m->rng, 24));
	} else {
		chat = choose(m);
		grow(m, chat, 1 + (uint32_t)rng_below(&m->rng, 4));
	}
	for (uint32_t i = 0; i < chat->length; i++) {
		enum err e = add_id(&m->builder, chat->ids[i]);
		if (e != ERR_OK)
			return e;
	}
	return end_request(&m->builder);
}

enum err trace_make(uint64_t seed, uint32_t request_count, struct trace *ret_trace)
{
	struct maker *m = calloc(1, sizeof(*m));
	if (!m)
		return ERR_NOMEM;
	m->rng.seed = seed;
	for (uint32_t i = 0; i < PROMPTS; i++)
		for (uint32_t k = 0; k < 8; k++)
			m->prompts[i][k] = m->id_next++;
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < request_count && e == ERR_OK; i++)
		e = make_request(m);
	if (e == ERR_OK)
		e = number_anew(&m->builder.trace);
	if (e == ERR_OK)
		*ret_trace = m->builder.trace;
	else
		trace_fini(&m->builder.trace);
	free(m);
	return e;
}

void trace_fini(struct trace *trace)
{
	free(trace->starts);
	free(trace->ids);
	*trace = (struct trace){0};
}
