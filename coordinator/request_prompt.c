/* request_prompt - the fields that become the prompt: messages and how their template is rendered, or texts and tokens. */
#include <stdio.h>

#include "coordinator/request_impl.h"

static void read_template(struct fields *f, struct api_request *r)
{
	bool asked = field_get(f, "add_generation_prompt") != NULL;
	r->continue_final_message = field_bool(f, "continue_final_message", false);
	r->add_generation_prompt = field_bool(f, "add_generation_prompt", !r->continue_final_message);
	if (asked && r->continue_final_message && r->add_generation_prompt)
		field_refuse(f, "continue_final_message", "not together with add_generation_prompt");
	r->chat_template = field_text(f, "chat_template", REQUEST_TEMPLATE_MAX, NULL);
	r->template_variables = field_get(f, "chat_template_kwargs");
	if (r->template_variables && !json_is_object(r->template_variables))
		field_refuse(f, "chat_template_kwargs", "expected an object");
}

/* -1: as many as the context and the answer leave. */
static void read_common(struct fields *f, struct api_request *r)
{
	r->add_special_tokens = field_bool(f, "add_special_tokens", r->kind == API_COMPLETION);
	r->truncate_prompt_tokens = (int32_t)field_integer(f, "truncate_prompt_tokens", -1, INT32_MAX, 0);
	if (field_get(f, "truncate_prompt_tokens") && r->truncate_prompt_tokens == 0)
		field_refuse(f, "truncate_prompt_tokens", "is 0, expected -1 or at least 1");
}

void request_read_messages(struct fields *f, struct api_request *r)
{
	r->messages = field_get(f, "messages");
	if (!json_is_array(r->messages) || json_array_size(r->messages) == 0) {
		field_refuse(f, "messages", "expected a list of at least one message");
		return;
	}
	size_t i;
	json_t *message;
	json_array_foreach((json_t *)r->messages, i, message)
	{
		char name[48];
		snprintf(name, sizeof(name), "messages[%zu].role", i);
		if (!json_is_string(json_object_get(message, "role")))
			field_refuse(f, name, "expected a text");
	}
	read_template(f, r);
	read_common(f, r);
}

void request_read_prompt(struct fields *f, struct api_request *r)
{
	r->prompt = field_get(f, "prompt");
	if (!json_is_string(r->prompt) && json_array_size(r->prompt) == 0)
		field_refuse(f, "prompt", "expected a text, a list of texts, a list of tokens or a list of those");
	r->echo = field_bool(f, "echo", false);
	if (field_integer(f, "best_of", 1, SAMPLING_CHOICES_MAX, r->n) != r->n)
		field_refuse(f, "best_of", "only as n is supported");
	read_common(f, r);
}

void request_read_token_ids(struct fields *f, struct api_request *r)
{
	r->prompt = field_get(f, "token_ids");
	if (!json_is_array(r->prompt) || !json_is_integer(json_array_get(r->prompt, 0)))
		field_refuse(f, "token_ids", "expected a list of at least one token id");
}
