/* prompt_messages - messages as clients send them become messages as templates know them: what transformers and vLLM do
 * before they render. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "coordinator/prompt_impl.h"

static enum err refuse(struct api_error *error, size_t message, const char *field, const char *what)
{
	char name[96];
	snprintf(name, sizeof(name), "messages[%zu].%s", message, field);
	return api_error_field(error, name, "%s: %s", name, what);
}

/* ---- content */

/* Text alone: {"type": "text", "text": ...}, or the like of newer clients. */
static const json_t *part_text(const json_t *part)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	const json_t *text = json_object_get(part, "text");
	bool known = !type || strcmp(type, "text") == 0 || strcmp(type, "input_text") == 0 || strcmp(type, "output_text") == 0;
	if (type && strcmp(type, "refusal") == 0)
		return json_object_get(part, "refusal");
	return known && json_is_string(text) ? text : NULL;
}

/* As parts, for templates that go through them. */
static json_t *plain_parts(const json_t *parts)
{
	json_t *list = json_array(), *part;
	size_t i;
	json_array_foreach((json_t *)parts, i, part)
		json_array_append_new(list, json_pack("{s:s, s:O}", "type", "text", "text", part_text(part)));
	if (json_array_size(list) == json_array_size(parts))
		return list;
	json_decref(list); /* no memory for one of them */
	return NULL;
}

/* As one text, a line each, as vLLM has it. */
static json_t *joined_parts(const json_t *parts)
{
	struct buf text = {0};
	json_t *part;
	size_t i;
	enum err e = ERR_OK;
	json_array_foreach((json_t *)parts, i, part)
	{
		const json_t *piece = part_text(part);
		if (i > 0 && e == ERR_OK)
			e = buf_text(&text, "\n");
		if (e == ERR_OK)
			e = buf_append(&text, json_string_value(piece), json_string_length(piece));
	}
	json_t *joined = e == ERR_OK ? json_stringn(text.data ? text.data : "", text.length) : NULL;
	buf_fini(&text);
	return joined;
}

static enum err settle_content(json_t *message, size_t index, bool takes_parts, struct api_error *error)
{
	const json_t *content = json_object_get(message, "content");
	json_t *part;
	size_t i;
	if (!content || json_is_null(content) || json_is_string(content))
		return ERR_OK;
	if (!json_is_array(content))
		return refuse(error, index, "content", "expected a text or a list of parts");
	json_array_foreach((json_t *)content, i, part)
	{
		char field[48];
		snprintf(field, sizeof(field), "content[%zu]", i);
		if (!part_text(part))
			return refuse(error, index, field, "is no text: only parts of type \"text\" are supported");
	}
	json_t *plain = takes_parts ? plain_parts(content) : joined_parts(content);
	return plain && json_object_set_new(message, "content", plain) == 0 ? ERR_OK : ERR_NOMEM;
}

/* ---- calls */

/* Clients send arguments as the text that they got; templates want what it says. */
static enum err settle_call(json_t *function, size_t message, size_t call, struct api_error *error)
{
	const json_t *text = json_object_get(function, "arguments");
	char field[64];
	if (!json_is_string(text))
		return ERR_OK;
	json_t *value = json_string_length(text) ? json_loads(json_string_value(text), JSON_DECODE_ANY, NULL) : json_object();
	snprintf(field, sizeof(field), "tool_calls[%zu].function.arguments", call);
	if (!json_is_object(value)) {
		json_decref(value);
		return refuse(error, message, field, "expected a JSON object, as a text");
	}
	return json_object_set_new(function, "arguments", value) == 0 ? ERR_OK : ERR_NOMEM;
}

static enum err settle_calls(json_t *message, size_t index, struct api_error *error)
{
	const json_t *calls = json_object_get(message, "tool_calls");
	if (!calls || json_is_null(calls)) {
		json_object_del(message, "tool_calls"); /* templates ask whether it is there */
		return ERR_OK;
	}
	if (!json_is_array(calls))
		return refuse(error, index, "tool_calls", "expected a list");
	json_t *copy = json_deep_copy(calls), *call;
	size_t i;
	enum err e = copy ? ERR_OK : ERR_NOMEM;
	json_array_foreach(copy, i, call)
	{
		json_t *function = json_object_get(call, "function");
		char field[48];
		snprintf(field, sizeof(field), "tool_calls[%zu].function.name", i);
		if (e == ERR_OK && !json_is_string(json_object_get(function, "name")))
			e = refuse(error, index, field, "expected a text");
		if (e == ERR_OK)
			e = settle_call(function, index, i, error);
	}
	if (e == ERR_OK && json_array_size(copy) > 0)
		return json_object_set_new(message, "tool_calls", copy) == 0 ? ERR_OK : ERR_NOMEM;
	json_decref(copy);
	if (e == ERR_OK)
		json_object_del(message, "tool_calls");
	return e;
}

/* ---- thoughts */

/* One thing under three names: a template may ask for any of them. */
static enum err settle_reasoning(json_t *message)
{
	static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
	json_t *thought = NULL;
	for (int i = 0; i < 3 && !thought; i++) {
		json_t *value = json_object_get(message, names[i]);
		thought = json_is_null(value) ? NULL : value;
	}
	if (!thought)
		return ERR_OK;
	int failed = json_object_set(message, "reasoning_content", thought);
	if (!json_object_get(message, "thinking"))
		failed |= json_object_set(message, "thinking", thought);
	return failed ? ERR_NOMEM : ERR_OK;
}

enum err prompt_messages(const json_t *messages, bool takes_parts, json_t **ret_messages, struct api_error *error)
{
	json_t *list = json_array(), *message;
	size_t i;
	enum err e = list ? ERR_OK : ERR_NOMEM;
	json_array_foreach((json_t *)messages, i, message)
	{
		json_t *copy = e == ERR_OK ? json_copy(message) : NULL;
		if (e == ERR_OK && (!copy || json_array_append_new(list, copy) != 0))
			e = ERR_NOMEM;
		if (e == ERR_OK)
			e = settle_content(copy, i, takes_parts, error);
		if (e == ERR_OK)
			e = settle_calls(copy, i, error);
		if (e == ERR_OK)
			e = settle_reasoning(copy);
	}
	if (e == ERR_OK)
		*ret_messages = list;
	else
		json_decref(list);
	return e;
}

/* ---- the last message goes on */

static json_t *last_text_holder(json_t *last, const char **ret_key)
{
	json_t *content = json_object_get(last, "content");
	*ret_key = "text";
	for (size_t i = json_array_size(content); i > 0; i--)
		if (json_is_string(json_object_get(json_array_get(content, i - 1), "text")))
			return json_array_get(content, i - 1);
	*ret_key = "content";
	return json_is_string(content) ? last : NULL;
}

enum err prompt_mark_last(json_t *messages, struct api_error *error)
{
	const char *key;
	json_t *holder = last_text_holder(json_array_get(messages, json_array_size(messages) - 1), &key);
	const json_t *text = holder ? json_object_get(holder, key) : NULL;
	if (!text)
		return api_error_field(error, "continue_final_message",
				       "continue_final_message: the last message has no text to go on with");
	json_t *marked = json_sprintf("%s%s", json_string_value(text), PROMPT_MARK);
	return marked && json_object_set_new(holder, key, marked) == 0 ? ERR_OK : ERR_NOMEM;
}

/* What a template's trim takes off, of ASCII. */
static bool is_trimmed(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The template may have trimmed the message: then the mark's own space is gone, and the text's is too. */
enum err prompt_cut_at_mark(struct buf *text, struct api_error *error)
{
	size_t length = strlen(PROMPT_MARK) - 1, at = text->length >= length ? text->length - length + 1 : 0;
	while (at > 0 && memcmp(text->data + at - 1, PROMPT_MARK, length) != 0)
		at--;
	if (at == 0)
		return api_error_field(error, "continue_final_message",
				       "continue_final_message: the chat template does not show the last message");
	at--;
	bool trimmed = at + length == text->length || text->data[at + length] != ' ';
	while (trimmed && at > 0 && is_trimmed(text->data[at - 1]))
		at--;
	text->length = at;
	return ERR_OK;
}
