/* prompt_chat - messages become the text that the model was trained on, and its ids. */
#include <string.h>

#include "base/buf.h"
#include "coordinator/prompt_impl.h"
#include "model/model_dir.h"

/* A client's own template may not stop the loop for long: about 20 ms. */
static const struct template_options request_limits = {.step_max = 200000, .memory_max = 16 << 20, .output_max = 2 << 20};

/* Content as parts: their texts, a line each, as templates of text models want it. */
static json_t *join_parts(const json_t *parts, struct api_error *error)
{
	struct buf text = {0};
	size_t i;
	json_t *part, *joined = NULL;
	json_array_foreach((json_t *)parts, i, part)
	{
		const json_t *piece = json_object_get(part, "text");
		if (!json_is_string(piece)) {
			api_error_field(error, "messages", "messages: a part of a content is no text; only text is supported");
			goto done;
		}
		if ((i > 0 && buf_text(&text, "\n") != ERR_OK) ||
		    buf_append(&text, json_string_value(piece), json_string_length(piece)) != ERR_OK)
			goto done;
	}
	joined = json_stringn(text.data ? text.data : "", text.length);
done:
	buf_fini(&text);
	return joined;
}

static enum err plain_messages(const json_t *messages, json_t **ret_messages, struct api_error *error)
{
	json_t *copy = json_array(), *message;
	size_t i;
	json_array_foreach((json_t *)messages, i, message)
	{
		const json_t *content = json_object_get(message, "content");
		json_t *plain = json_copy(message);
		if (json_is_array(content)) {
			json_t *joined = join_parts(content, error);
			if (!joined || json_object_set_new(plain, "content", joined) != 0) {
				json_decref(plain);
				json_decref(copy);
				return error->status ? ERR_INVALID : ERR_NOMEM;
			}
		} else if (content && !json_is_null(content) && !json_is_string(content)) {
			json_decref(plain);
			json_decref(copy);
			return api_error_field(error, "messages", "messages[%zu].content: expected a text or a list of parts", i);
		}
		json_array_append_new(copy, plain);
	}
	*ret_messages = copy;
	return ERR_OK;
}

/* ---- the template */

static enum err own_template(const struct api_request *request, const struct served_model *model,
			     struct chat_template **ret_template, struct api_error *error)
{
	struct why why = {0};
	if (!model->trust_request_template)
		return api_error_field(error, "chat_template",
				       "chat_template: this server takes none from its clients (--trust-request-chat-template)");
	enum err e = chat_template_parse(request->chat_template, strlen(request->chat_template), &why, ret_template);
	if (e == ERR_OK)
		return e;
	return api_error_field(error, "chat_template", "chat_template: %s", why.text[0] ? why.text : err_text(e));
}

static enum err render(const struct api_request *request, const struct served_model *model, const json_t *messages,
		       struct buf *text, struct api_error *error)
{
	struct chat_template *own = NULL;
	struct why why = {0};
	if (request->chat_template && own_template(request, model, &own, error) != ERR_OK)
		return ERR_INVALID;
	struct chat_options options = {
		.chat_template = own ? own : model->chat_template,
		.limits = own ? &request_limits : NULL,
		.variables = request->template_variables,
		.add_generation_prompt = request->add_generation_prompt,
	};
	enum err e = model_dir_chat(model->dir, messages, &options, &why, text);
	chat_template_destroy(own);
	if (e == ERR_OK || e == ERR_NOMEM)
		return e;
	const char *param = request->chat_template ? "chat_template" : "messages";
	return api_error_field(error, param, "%s: %s", param, why.text[0] ? why.text : err_text(e));
}

/* ---- the last message goes on */

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static const char *find_last(const struct buf *text, const char *wanted, size_t length)
{
	for (size_t at = text->length >= length ? text->length - length + 1 : 0; at > 0; at--)
		if (memcmp(text->data + at - 1, wanted, length) == 0)
			return text->data + at - 1;
	return NULL;
}

/* Cuts off what the template put behind the last message's text.  Templates may trim it. */
static enum err cut_behind_last(const json_t *messages, struct buf *text, struct api_error *error)
{
	const json_t *content = json_object_get(json_array_get(messages, json_array_size(messages) - 1), "content");
	const char *wanted = json_string_value(content);
	size_t length = json_string_length(content);
	for (; length && is_space(*wanted); length--)
		wanted++;
	size_t whole = length;
	while (length && is_space(wanted[length - 1]))
		length--;
	const char *at = length ? find_last(text, wanted, length) : NULL;
	if (!at)
		return api_error_field(error, "continue_final_message",
				       "continue_final_message: the last message has no text that the chat template shows");
	size_t left = text->length - (size_t)(at - text->data);
	bool untrimmed = whole <= left && memcmp(at, wanted, whole) == 0;
	text->length = (size_t)(at - text->data) + (untrimmed ? whole : length);
	return ERR_OK;
}

enum err prompt_chat(const struct api_request *request, const struct served_model *model, struct tokens *tokens,
		     struct api_error *error)
{
	json_t *messages = NULL;
	struct buf text = {.limit = TOKENIZER_TEXT_MAX};
	enum err e = plain_messages(request->messages, &messages, error);
	if (e == ERR_OK)
		e = render(request, model, messages, &text, error);
	if (e == ERR_OK && request->continue_final_message)
		e = cut_behind_last(messages, &text, error);
	if (e == ERR_OK)
		e = prompt_encode(model, text.data ? text.data : "", text.length, request->add_special_tokens, tokens,
				  "messages", error);
	buf_fini(&text);
	json_decref(messages);
	return e;
}
