#include "coordinator/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/prompt_impl.h"
#include "model/model_dir.h"

enum {
	COMPLETION_TOKENS = 16, /* OpenAI's default of max_tokens */
	SHRINK_MAX = 4,         /* normalising may make a text so much shorter, and no more */
};

/* The field that the prompt was read from. */
static const char *prompt_field(const struct api_request *request)
{
	static const char *const names[API_KINDS] = {
		[API_COMPLETION] = "prompt", [API_CHAT] = "messages", [API_GENERATE] = "token_ids"};
	return names[request->kind];
}

/* ---- text and tokens */

/* Tokenising stops everything else on the loop: a text that cannot fit is refused by its length alone. */
static enum err check_bytes(const struct served_model *model, size_t length, const char *param, struct api_error *error)
{
	if (length / SHRINK_MAX / model->token_bytes_max <= model->context_max)
		return ERR_OK;
	api_error_field(error, param,
			"This model's maximum context length is %u tokens, of at most %u bytes each. However, the %s has %zu "
			"bytes. Please reduce its length.",
			model->context_max, model->token_bytes_max, param, length);
	error->code = "context_length_exceeded";
	return ERR_INVALID;
}

enum err prompt_encode(const struct served_model *model, const char *text, size_t length, bool add_special,
		       struct tokens *tokens, const char *param, struct api_error *error)
{
	if (check_bytes(model, length, param, error) != ERR_OK)
		return ERR_INVALID;
	struct tokenizer_encode_options options = {.add_special_tokens = add_special, .parse_special = true};
	enum err e = tokenizer_encode(model->dir->tokenizer, text, length, &options, tokens);
	if (e == ERR_OK)
		return e;
	return api_error_field(error, param, "%s cannot be tokenised: %s", param, err_text(e));
}

enum err prompt_take_ids(const struct served_model *model, const json_t *list, struct tokens *tokens,
			 const char *param, struct api_error *error)
{
	size_t i;
	json_t *item;
	uint32_t vocab = model->dir->config.vocab_size;
	json_array_foreach((json_t *)list, i, item)
	{
		int64_t id = json_integer_value(item);
		if (!json_is_integer(item) || id < 0 || id >= vocab)
			return api_error_field(error, param, "%s: item %zu is no token id of %s, expected 0 to %u", param, i,
					       model->name, vocab - 1);
		if (tokens_add(tokens, (uint32_t)id) != ERR_OK)
			return ERR_NOMEM;
	}
	return ERR_OK;
}

static enum err one_prompt(const struct api_request *request, const struct served_model *model, const json_t *prompt,
			   struct tokens *tokens, struct api_error *error)
{
	if (json_is_array(prompt))
		return prompt_take_ids(model, prompt, tokens, prompt_field(request), error);
	if (!json_is_string(prompt))
		return api_error_field(error, "prompt", "prompt: expected texts or lists of tokens");
	return prompt_encode(model, json_string_value(prompt), json_string_length(prompt), request->add_special_tokens, tokens,
		      "prompt", error);
}

/* A list is one prompt when its first item is a number. */
static bool is_many(const json_t *prompt)
{
	return json_is_array(prompt) && !json_is_integer(json_array_get(prompt, 0));
}

static enum err completion_prompts(const struct api_request *request, const struct served_model *model,
				   struct prompts *prompts, struct api_error *error)
{
	if (!is_many(request->prompt))
		return one_prompt(request, model, request->prompt, &prompts->list[0], error);
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < prompts->count && e == ERR_OK; i++)
		e = one_prompt(request, model, json_array_get(request->prompt, i), &prompts->list[i], error);
	return e;
}

/* ---- lengths */

/* Keeps the end of a prompt, as truncation on the left side does. */
static enum err truncate(const struct api_request *request, struct prompts *prompts, uint32_t context_max,
			 struct api_error *error)
{
	uint32_t answer = request->sampling.max_tokens;
	int64_t keep = request->truncate_prompt_tokens;
	if (keep > context_max)
		return api_error_field(error, "truncate_prompt_tokens",
				       "truncate_prompt_tokens: is %lld, over the model's context of %u tokens",
				       (long long)keep, context_max);
	if (keep < 0)
		keep = answer < context_max ? (int64_t)context_max - (answer ? answer : 1) : 1;
	for (uint32_t i = 0; keep > 0 && i < prompts->count; i++) {
		struct tokens *tokens = &prompts->list[i];
		if (tokens->count <= (size_t)keep)
			continue;
		memmove(tokens->ids, tokens->ids + tokens->count - (size_t)keep, (size_t)keep * sizeof(*tokens->ids));
		tokens->count = (size_t)keep;
	}
	return ERR_OK;
}

static enum err settle_lengths(struct api_request *request, const struct prompts *prompts, uint32_t context_max,
			       struct api_error *error)
{
	struct sampling *s = &request->sampling;
	size_t longest = 0;
	const char *param = prompt_field(request);
	for (uint32_t i = 0; i < prompts->count; i++) {
		longest = prompts->list[i].count > longest ? prompts->list[i].count : longest;
		if (prompts->list[i].count == 0)
			return api_error_field(error, param, "%s: is empty, expected at least one token", param);
	}
	uint64_t rest = longest < context_max ? context_max - longest : 0;
	uint64_t fallback = request->kind != API_CHAT && rest > COMPLETION_TOKENS ? COMPLETION_TOKENS : rest;
	uint64_t wanted = s->max_tokens ? s->max_tokens : fallback;
	if (rest == 0 || wanted > rest) {
		api_error_field(error, param,
				"This model's maximum context length is %u tokens. However, you requested %llu tokens "
				"(%zu in the %s, %llu in the completion). Please reduce the length of the %s or of the "
				"completion.",
				context_max, (unsigned long long)(longest + wanted), longest, param,
				(unsigned long long)wanted, param);
		error->code = "context_length_exceeded";
		return ERR_INVALID;
	}
	s->max_tokens = (uint32_t)wanted;
	if (s->min_tokens > s->max_tokens)
		return api_error_field(error, "min_tokens", "min_tokens: is %u, over max_tokens %u", s->min_tokens,
				       s->max_tokens);
	return ERR_OK;
}

static enum err check_ids(const struct api_request *request, const struct served_model *model, struct api_error *error)
{
	const struct sampling *s = &request->sampling;
	uint32_t vocab = model->dir->config.vocab_size;
	for (uint8_t i = 0; i < s->stop_id_count; i++)
		if (s->stop_ids[i] >= vocab)
			return api_error_field(error, "stop_token_ids", "stop_token_ids: %u is no token of %s, expected 0 to %u",
					       s->stop_ids[i], model->name, vocab - 1);
	for (uint8_t i = 0; i < s->bias_count; i++)
		if (s->biases[i].token >= vocab)
			return api_error_field(error, "logit_bias", "logit_bias: %u is no token of %s, expected 0 to %u",
					       s->biases[i].token, model->name, vocab - 1);
	return ERR_OK;
}

enum err prompts_encode(struct api_request *request, const struct served_model *model, uint32_t context_max,
			struct prompts *ret_prompts, struct api_error *error)
{
	size_t count = request->kind == API_COMPLETION && is_many(request->prompt) ? json_array_size(request->prompt) : 1;
	if (count * request->n > API_CHOICES_MAX)
		return api_error_field(error, request->kind == API_CHAT ? "n" : "prompt",
				       "%zu prompts of %u choices, at most %d choices in all", count, request->n,
				       API_CHOICES_MAX);
	struct prompts prompts = {.count = (uint32_t)count, .list = calloc(count, sizeof(struct tokens))};
	if (!prompts.list)
		return ERR_NOMEM;
	enum err e = request->kind == API_CHAT ? prompt_chat(request, model, &prompts.list[0], error)
					       : completion_prompts(request, model, &prompts, error);
	if (e == ERR_OK)
		e = truncate(request, &prompts, context_max, error);
	if (e == ERR_OK)
		*ret_prompts = prompts;
	else
		prompts_fini(&prompts);
	return e;
}

enum err prompts_make(struct api_request *request, const struct served_model *model, uint32_t context_max,
		      struct prompts *ret_prompts, struct api_error *error)
{
	struct prompts prompts;
	enum err e = check_ids(request, model, error);
	if (e == ERR_OK)
		e = prompts_encode(request, model, context_max, &prompts, error);
	if (e != ERR_OK)
		return e;
	e = settle_lengths(request, &prompts, context_max, error);
	if (e == ERR_OK)
		*ret_prompts = prompts;
	else
		prompts_fini(&prompts);
	return e;
}

void prompts_fini(struct prompts *prompts)
{
	for (uint32_t i = 0; i < prompts->count; i++)
		tokens_fini(&prompts->list[i]);
	free(prompts->list);
	*prompts = (struct prompts){0};
}
