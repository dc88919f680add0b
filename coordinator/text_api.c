#include "coordinator/text_api.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/json_in.h"
#include "coordinator/json_out.h"
#include "coordinator/request_impl.h"
#include "coordinator/service_impl.h"
#include "model/detokenize.h"
#include "model/model_dir.h"

/* ---- what the requests have in common */

static enum err open_body(const char *body, size_t length, struct fields *ret_fields, struct api_error *error)
{
	json_t *object = json_in_object(body, length, error);
	*ret_fields = (struct fields){.object = object, .error = error};
	return object ? ERR_OK : ERR_INVALID;
}

static void put_ids(struct json_out *out, const char *key, const struct tokens *tokens)
{
	json_put_open(out, key, '[');
	for (size_t i = 0; i < tokens->count; i++)
		json_out_unsigned(out, tokens->ids[i]);
	json_out_close(out, ']');
}

/* ---- tokenize */

/* A byte as vocabularies of byte-level BPE spell it: itself where that can be seen, else a letter from U+0100 on. */
static uint32_t spelling_of(uint8_t byte)
{
	if ((byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad))
		return byte;
	if (byte <= 0x20)
		return 0x100 + byte;
	return byte == 0xad ? 0x143 : 0x121 + (byte - 0x7fu);
}

static void put_spelling(struct json_out *out, const struct tokenizer *tokenizer, uint32_t id)
{
	const uint8_t *bytes;
	size_t length = 0;
	char text[512];
	size_t used = 0;
	if (tokenizer_token_bytes(tokenizer, id, &bytes, &length) != ERR_OK)
		length = 0;
	if (tokenizer_is_special(tokenizer, id)) {
		json_out_text(out, (const char *)bytes, length);
		return;
	}
	for (size_t i = 0; i < length && used + 2 < sizeof(text); i++) {
		uint32_t letter = spelling_of(bytes[i]);
		if (letter < 0x80) {
			text[used++] = (char)letter;
		} else {
			text[used++] = (char)(0xc0 | letter >> 6);
			text[used++] = (char)(0x80 | (letter & 0x3f));
		}
	}
	json_out_text(out, text, used);
}

static void read_text(struct fields *f, struct api_request *r)
{
	if (field_get(f, "messages"))
		r->kind = API_CHAT;
	r->model = field_text(f, "model", COORD_TEXT_MAX, NULL);
	r->n = 1;
	if (r->kind == API_CHAT)
		request_read_chat(f, r);
	else if (json_is_string(field_get(f, "prompt")))
		request_read_prompt(f, r);
	else
		field_refuse(f, "prompt", "expected a text, or \"messages\" beside it");
}

static enum err put_tokens(const struct served_model *model, uint32_t context_max, const struct tokens *tokens,
			   bool spelled, struct buf *buf)
{
	struct json_out out;
	json_out_init(&out, buf);
	json_out_open(&out, '{');
	json_put_unsigned(&out, "count", tokens->count);
	json_put_unsigned(&out, "max_model_len", context_max);
	put_ids(&out, "tokens", tokens);
	if (spelled) {
		json_put_open(&out, "token_strs", '[');
		for (size_t i = 0; i < tokens->count; i++)
			put_spelling(&out, model->dir->tokenizer, tokens->ids[i]);
		json_out_close(&out, ']');
	} else {
		json_put_null(&out, "token_strs");
	}
	json_out_close(&out, '}');
	return out.e;
}

enum err text_tokenize(const struct service *service, const char *body, size_t length, struct buf *out,
		       struct api_error *error)
{
	struct fields fields;
	struct api_request request = {.kind = API_COMPLETION};
	const struct served_model *model = NULL;
	struct prompts prompts = {0};
	enum err e = open_body(body, length, &fields, error);
	if (e != ERR_OK)
		return e;
	request.body = (json_t *)fields.object;
	read_text(&fields, &request);
	bool spelled = field_bool(&fields, "return_token_strs", false);
	e = fields.e;
	if (e == ERR_OK)
		e = service_pick_model(service, request.model, &model, error);
	if (e == ERR_OK)
		e = prompts_encode(&request, model, service_context(service, model), &prompts, error);
	if (e == ERR_OK)
		e = put_tokens(model, service_context(service, model), &prompts.list[0], spelled, out);
	prompts_fini(&prompts);
	api_request_fini(&request);
	return e;
}

/* ---- detokenize */

static enum err put_text(const struct served_model *model, const json_t *list, struct buf *buf, struct api_error *error)
{
	struct tokens tokens = {0};
	struct buf text = {.limit = TOKENIZER_TEXT_MAX};
	enum err e = prompt_take_ids(model, list, &tokens, "tokens", error);
	if (e == ERR_OK)
		e = detokenize(model->dir->tokenizer, tokens.ids, tokens.count, false, &text);
	if (e == ERR_OK) {
		struct json_out out;
		json_out_init(&out, buf);
		json_out_open(&out, '{');
		json_out_key(&out, "prompt");
		json_out_text(&out, text.data ? text.data : "", text.length);
		json_out_close(&out, '}');
		e = out.e;
	}
	buf_fini(&text);
	tokens_fini(&tokens);
	return e;
}

enum err text_detokenize(const struct service *service, const char *body, size_t length, struct buf *out,
			 struct api_error *error)
{
	struct fields fields;
	const struct served_model *model = NULL;
	enum err e = open_body(body, length, &fields, error);
	if (e != ERR_OK)
		return e;
	const char *name = field_text(&fields, "model", COORD_TEXT_MAX, NULL);
	const json_t *list = field_get(&fields, "tokens");
	if (!json_is_array(list))
		field_refuse(&fields, "tokens", "expected a list of token ids");
	e = fields.e;
	if (e == ERR_OK)
		e = service_pick_model(service, name, &model, error);
	if (e == ERR_OK)
		e = put_text(model, list, out, error);
	json_decref((json_t *)fields.object);
	return e;
}

/* ---- render */

static void put_stops(struct json_out *out, const struct api_request *request)
{
	const struct sampling *s = &request->sampling;
	json_put_open(out, "stop", '[');
	for (uint32_t i = 0; i < request->stop.count; i++)
		json_out_text(out, request->stop.text[i], request->stop.length[i]);
	json_out_close(out, ']');
	json_put_open(out, "stop_token_ids", '[');
	for (uint8_t i = 0; i < s->stop_id_count; i++)
		json_out_unsigned(out, s->stop_ids[i]);
	json_out_close(out, ']');
}

static void put_biases(struct json_out *out, const struct sampling *s)
{
	json_out_key(out, "logit_bias");
	if (!s->bias_count) {
		json_out_null(out);
		return;
	}
	json_out_open(out, '{');
	for (uint8_t i = 0; i < s->bias_count; i++) {
		char key[16];
		snprintf(key, sizeof(key), "%u", s->biases[i].token);
		json_out_key(out, key);
		json_out_float(out, s->biases[i].bias);
	}
	json_out_close(out, '}');
}

static void put_number(struct json_out *out, const char *key, float value)
{
	json_out_key(out, key);
	json_out_float(out, value);
}

/* As structured_outputs says it, which is how our own structure says it but for its choices. */
static void put_structure(struct json_out *out, const char *text)
{
	json_out_key(out, "structured_outputs");
	if (!text) {
		json_out_null(out);
		return;
	}
	size_t i;
	json_t *choice, *structure = json_loads(text, 0, NULL);
	const json_t *choices = json_object_get(structure, "choice");
	if (!structure)
		out->e = out->e == ERR_OK ? ERR_NOMEM : out->e;
	if (!choices) {
		json_out_raw(out, text, strlen(text));
	} else {
		json_out_open(out, '{');
		json_put_open(out, "choice", '[');
		json_array_foreach((json_t *)choices, i, choice)
		{
			const json_t *literal = json_object_get(choice, "literal");
			json_out_text(out, json_string_value(literal), json_string_length(literal));
		}
		json_out_close(out, ']');
		json_out_close(out, '}');
	}
	json_decref(structure);
}

static void put_sampling(struct json_out *out, const struct api_request *request)
{
	const struct sampling *s = &request->sampling;
	json_put_open(out, "sampling_params", '{');
	json_put_unsigned(out, "n", request->n);
	put_number(out, "temperature", s->temperature);
	put_number(out, "top_p", s->top_p);
	json_put_unsigned(out, "top_k", s->top_k > 0 ? (uint64_t)s->top_k : 0);
	put_number(out, "min_p", s->min_p);
	put_number(out, "presence_penalty", s->presence_penalty);
	put_number(out, "frequency_penalty", s->frequency_penalty);
	put_number(out, "repetition_penalty", s->repetition_penalty);
	json_out_key(out, "seed");
	if (request->has_seed)
		json_out_integer(out, (int64_t)s->seed);
	else
		json_out_null(out);
	json_put_unsigned(out, "max_tokens", s->max_tokens);
	json_put_unsigned(out, "min_tokens", s->min_tokens);
	json_out_key(out, "logprobs");
	if (s->logprobs >= 0)
		json_out_integer(out, s->logprobs);
	else
		json_out_null(out);
	json_out_key(out, "prompt_logprobs");
	if (request->prompt_logprobs)
		json_out_unsigned(out, request->prompt_top);
	else
		json_out_null(out);
	json_put_bool(out, "ignore_eos", s->ignore_eos);
	put_stops(out, request);
	json_put_bool(out, "include_stop_str_in_output", request->stop.include);
	json_put_bool(out, "skip_special_tokens", request->skip_special_tokens);
	put_biases(out, s);
	put_structure(out, request->structure);
	json_out_close(out, '}');
}

static void put_rendered(struct json_out *out, const struct api_request *request, const char *request_id,
			 const struct tokens *tokens)
{
	json_out_open(out, '{');
	json_put_text(out, "request_id", request_id);
	put_ids(out, "token_ids", tokens);
	json_put_null(out, "features");
	put_sampling(out, request);
	json_put_text(out, "model", request->model);
	json_put_bool(out, "stream", request->stream);
	json_put_null(out, "stream_options");
	json_put_text(out, "cache_salt", request->cache_salt[0] ? request->cache_salt : NULL);
	json_put_unsigned(out, "priority", 0);
	json_put_null(out, "kv_transfer_params");
	json_out_close(out, '}');
}

static enum err put_render(const struct api_request *request, const char *request_id, const struct prompts *prompts,
			   struct buf *buf)
{
	struct json_out out;
	bool list = request->kind == API_COMPLETION;
	json_out_init(&out, buf);
	if (list)
		json_out_open(&out, '[');
	for (uint32_t i = 0; i < prompts->count; i++)
		put_rendered(&out, request, request_id, &prompts->list[i]);
	if (list)
		json_out_close(&out, ']');
	return out.e;
}

enum err text_render(const struct service *service, enum api_kind kind, const char *request_id, const char *body,
		     size_t length, struct buf *out, struct api_error *error)
{
	struct api_request request;
	const struct served_model *model = NULL;
	struct prompts prompts = {0};
	enum err e = api_request_parse(kind, body, length, &request, error);
	if (e != ERR_OK)
		return e;
	if (request.must_call)
		e = api_error_field(error, "tool_choice", "tool_choice: a forced call cannot be rendered, only \"auto\" and \"none\"");
	if (e == ERR_OK)
		e = service_pick_model(service, request.model, &model, error);
	if (e == ERR_OK)
		e = prompts_make(&request, model, service_context(service, model), &prompts, error);
	if (e == ERR_OK)
		e = put_render(&request, request_id, &prompts, out);
	prompts_fini(&prompts);
	api_request_fini(&request);
	return e;
}
