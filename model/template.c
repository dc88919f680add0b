#include "model/template.h"

#include <stdlib.h>

#include "model/template_eval.h"

#define SOURCE_MAX ((size_t)1 << 20)
#define TREE_MAX   ((uint64_t)16 << 20)

/* The arena does not know the reason's place: where nothing was said, it was memory. */
static enum err with_reason(struct why *why, enum err e)
{
	return e == ERR_TOO_LARGE && why && !why->text[0] ? why_set(why, e, "chat template: over the memory limit")
							  : e;
}

static void clear(struct why *why)
{
	if (why)
		why->text[0] = 0;
}

struct chat_template {
	struct arena arena;
	struct text source;
	struct node_list body;
	bool takes_parts;
};

/* Line ends become \n, as Jinja makes them; the copy lives in the arena. */
static char *copy_source(struct arena *arena, const char *source, size_t length, size_t *ret_length)
{
	char *copy = arena_take(arena, length + 1);
	size_t count = 0;
	for (size_t i = 0; copy && i < length; i++) {
		if (source[i] == '\r' && i + 1 < length && source[i + 1] == '\n')
			continue;
		copy[count++] = source[i] == '\r' ? '\n' : source[i];
	}
	*ret_length = count;
	return copy;
}

/* for ... in message["content"], message.content, content: with or without a filter behind it. */
static bool loops_over_content(const struct token_list *tokens)
{
	for (size_t i = 0; i + 2 < tokens->count; i++) {
		const struct token *t = &tokens->tokens[i];
		if (t->kind != TOKEN_NAME || !text_is(t->text, "in"))
			continue;
		/* {% for NAME in ...: with one name */
		bool in_for = i >= 3 && t[-3].kind == TOKEN_BLOCK_BEGIN && text_is(t[-2].text, "for");
		const struct token *last = t + 1;
		while (in_for && last->kind != TOKEN_BLOCK_END && last->kind != TOKEN_END && !text_is(last->text, "|"))
			last++;
		last -= text_is(last[-1].text, "]") ? 2 : 1;
		if (in_for && last > t && text_is(last->text, "content"))
			return true;
	}
	return false;
}

static enum err parse(struct chat_template *chat_template, const char *source, size_t length, struct why *why)
{
	struct token_list tokens;
	size_t copy_length;
	char *copy = copy_source(&chat_template->arena, source, length, &copy_length);
	if (!copy)
		return ERR_NOMEM;
	chat_template->source = (struct text){copy, copy_length};
	enum err e = template_lex(&chat_template->arena, copy, copy_length, why, &tokens);
	if (e == ERR_OK)
		chat_template->takes_parts = loops_over_content(&tokens);
	if (e == ERR_OK)
		e = template_parse(&chat_template->arena, &tokens, why, &chat_template->body);
	return e;
}

enum err chat_template_parse(const char *source, size_t length, struct why *why,
			     struct chat_template **ret_template)
{
	if (length > SOURCE_MAX)
		return why_set(why, ERR_TOO_LARGE, "chat template: over %zu bytes", SOURCE_MAX);
	struct chat_template *chat_template = calloc(1, sizeof(*chat_template));
	if (!chat_template)
		return ERR_NOMEM;
	chat_template->arena.limit = TREE_MAX;
	clear(why);
	enum err e = with_reason(why, parse(chat_template, source, length, why));
	if (e != ERR_OK) {
		chat_template_destroy(chat_template);
		return e;
	}
	*ret_template = chat_template;
	return ERR_OK;
}

bool chat_template_mentions(const struct chat_template *chat_template, const char *text)
{
	return memmem(chat_template->source.data, chat_template->source.length, text, strlen(text)) != NULL;
}

bool chat_template_takes_parts(const struct chat_template *chat_template)
{
	return chat_template->takes_parts;
}

void chat_template_destroy(struct chat_template *chat_template)
{
	if (!chat_template)
		return;
	arena_fini(&chat_template->arena);
	free(chat_template);
}

/* What comes from outside is borrowed; what is made of it may be a few copies. */
static uint64_t text_bytes(const json_t *json)
{
	uint64_t bytes = json_string_length(json);
	const char *key;
	json_t *entry;
	for (size_t i = 0; i < json_array_size(json); i++)
		bytes += 64 + text_bytes(json_array_get(json, i));
	json_object_foreach((json_t *)json, key, entry)
		bytes += 64 + text_bytes(entry);
	return bytes;
}

static struct template_options with_defaults(const struct template_options *options, const json_t *variables)
{
	struct template_options all = options ? *options : (struct template_options){0};
	if (!all.step_max)
		all.step_max = 1000000;
	if (!all.memory_max)
		all.memory_max = ((uint64_t)16 << 20) + 8 * text_bytes(variables);
	if (!all.output_max)
		all.output_max = (uint64_t)16 << 20;
	return all;
}

static enum err run(struct eval *ev, const struct chat_template *chat_template, const json_t *variables)
{
	struct value globals;
	struct scope *before;
	if (!json_is_object(variables))
		return why_set(ev->why, ERR_INVALID, "chat template: variables are no object");
	enum err e = value_from_json(&ev->arena, variables, 0, &globals);
	if (e != ERR_OK)
		return e;
	struct scope outer = {.names = globals.map};
	e = eval_enter_scope(ev, &outer, &before);
	return e == ERR_OK ? eval_body(ev, &chat_template->body) : e;
}

enum err chat_template_render(const struct chat_template *chat_template, const json_t *variables,
			      const struct template_options *options, struct why *why, struct buf *out)
{
	struct template_options all = with_defaults(options, variables);
	struct buf text = {.limit = all.output_max + 1};
	struct eval ev = {.limits = all, .out = &text, .why = why};
	ev.arena.limit = all.memory_max;
	clear(why);
	enum err e = run(&ev, chat_template, variables);
	if (e == ERR_OK)
		e = buf_append(out, text.data, text.length);
	buf_fini(&text);
	arena_fini(&ev.arena);
	return with_reason(why, e);
}
