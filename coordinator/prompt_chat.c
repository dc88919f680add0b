/* prompt_chat - messages become the text that the model was trained on, and its ids. */
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "coordinator/prompt_impl.h"
#include "model/model_dir.h"

/* A client's own template may not stop the loop for long: about 5 ms. */
enum { OWN_STEPS = 200000, OWN_MEMORY = 16 << 20, OWN_OUTPUT = 2 << 20 };

/* One of the model's templates by its name, or a whole one, where this server takes it. */
static enum err own_template(const struct api_request *request, const struct served_model *model,
			     const struct chat_template **ret_chosen, struct chat_template **ret_own, struct api_error *error)
{
	struct why why = {0};
	*ret_chosen = template_set_find(&model->dir->templates, request->chat_template);
	if (*ret_chosen)
		return ERR_OK;
	if (!model->trust_request_template)
		return api_error_field(error, "chat_template",
				       "chat_template: this server takes none from its clients (--trust-request-chat-template)");
	enum err e = chat_template_parse(request->chat_template, strlen(request->chat_template), &why, ret_own);
	if (e != ERR_OK)
		return api_error_field(error, "chat_template", "chat_template: %s", why.text[0] ? why.text : err_text(e));
	*ret_chosen = *ret_own;
	return ERR_OK;
}

/* chat_template_kwargs win over what else says how the model is to think. */
static json_t *make_variables(const struct api_request *request)
{
	json_t *variables = request->template_variables ? json_copy((json_t *)request->template_variables) : json_object();
	bool sets = request->reasoning_effort && !json_object_get(variables, "reasoning_effort");
	if (!sets || json_object_set_new(variables, "reasoning_effort", json_string(request->reasoning_effort)) == 0)
		return variables;
	json_decref(variables);
	return NULL;
}

static enum err render(const struct api_request *request, const struct served_model *model,
		       const struct chat_template *chosen, bool own, const json_t *messages, struct buf *text,
		       struct api_error *error)
{
	struct why why = {0};
	json_t *variables = make_variables(request);
	struct template_options limits = {.now_s = (int64_t)time(NULL)};
	if (own) {
		limits.step_max = OWN_STEPS;
		limits.memory_max = OWN_MEMORY;
		limits.output_max = OWN_OUTPUT;
	}
	struct chat_options options = {
		.chat_template = chosen,
		.limits = &limits,
		.tools = request->tools,
		.documents = request->documents,
		.variables = variables,
		.add_generation_prompt = request->add_generation_prompt,
	};
	enum err e = variables ? model_dir_chat(model->dir, messages, &options, &why, text) : ERR_NOMEM;
	json_decref(variables);
	if (e == ERR_OK || e == ERR_NOMEM)
		return e;
	const char *param = request->chat_template ? "chat_template" : "messages";
	return api_error_field(error, param, "%s: %s", param, why.text[0] ? why.text : err_text(e));
}

static enum err to_text(const struct api_request *request, const struct served_model *model, struct buf *text,
			struct api_error *error)
{
	struct chat_template *own = NULL;
	const struct chat_template *chosen = model->chat_template;
	json_t *messages = NULL;
	enum err e = request->chat_template ? own_template(request, model, &chosen, &own, error) : ERR_OK;
	if (e == ERR_OK && !chosen)
		chosen = template_set_choose(&model->dir->templates, request->tools != NULL);
	if (e == ERR_OK)
		e = prompt_messages(request->messages, chosen && chat_template_takes_parts(chosen), &messages, error);
	if (e == ERR_OK && request->continue_final_message)
		e = prompt_mark_last(messages, error);
	if (e == ERR_OK)
		e = render(request, model, chosen, own != NULL, messages, text, error);
	if (e == ERR_OK && request->continue_final_message)
		e = prompt_cut_at_mark(text, error);
	json_decref(messages);
	chat_template_destroy(own);
	return e;
}

enum err prompt_chat(const struct api_request *request, const struct served_model *model, struct prompts *prompts,
		     struct api_error *error)
{
	struct buf text = {.limit = TOKENIZER_TEXT_MAX};
	enum err e = to_text(request, model, &text, error);
	if (e == ERR_OK)
		e = prompt_encode(model, text.data ? text.data : "", text.length, request->add_special_tokens,
				  &prompts->list[0], "messages", error);
	size_t shown = text.length < sizeof(prompts->end) ? text.length : sizeof(prompts->end);
	if (e == ERR_OK && shown) {
		memcpy(prompts->end, text.data + text.length - shown, shown);
		prompts->end_length = shown;
	}
	buf_fini(&text);
	return e;
}
