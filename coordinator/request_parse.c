#include "coordinator/request_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/json_in.h"
#include "coordinator/request_fields.h"
#include "coordinator/request_impl.h"

/* All that is read here, in request_prompt.c, request_tools.c, request_sampling.c or request_structure.c, and what
 * changes nothing that we do. */
static const char *const known[] = {
	"add_generation_prompt", "add_special_tokens", "allowed_token_ids", "audio", "bad_words", "baton_trace",
	"best_of", "cache_salt", "chat_template", "chat_template_kwargs", "continue_final_message", "documents",
	"echo", "features", "frequency_penalty", "function_call", "functions", "guided_choice",
	"guided_decoding_backend", "guided_grammar", "guided_json", "guided_regex", "guided_whitespace_pattern",
	"ignore_eos", "include_reasoning", "include_stop_str_in_output", "kv_transfer_params", "logit_bias",
	"logits_processors", "logprobs", "max_completion_tokens", "max_tokens", "messages", "metadata", "min_p",
	"min_tokens", "modalities", "model", "n", "parallel_tool_calls", "prediction", "presence_penalty",
	"priority", "prompt", "prompt_cache_key", "prompt_logprobs", "reasoning_effort", "repetition_penalty",
	"request_id", "response_format", "return_token_ids", "safety_identifier", "sampling_params", "seed",
	"service_tier", "session_id", "skip_special_tokens", "stop", "stop_token_ids", "store", "stream",
	"stream_options", "structured_outputs", "suffix", "temperature", "token_ids", "tool_choice", "tools",
	"top_k", "top_logprobs", "top_p", "truncate_prompt_tokens", "use_beam_search", "user", "verbosity",
	"web_search_options",
};

static void log_unknown(const json_t *body)
{
	const char *key;
	json_t *value;
	if (!log_enabled(LOG_DEBUG))
		return;
	json_object_foreach((json_t *)body, key, value)
	{
		size_t i = 0, count = sizeof(known) / sizeof(known[0]);
		while (i < count && strcmp(known[i], key) != 0)
			i++;
		if (i == count)
			log_debug("request: a field with a name of %zu bytes is not known, ignored", strlen(key));
	}
}

/* What we cannot do and must not silently leave out. */
static void refuse_lacking(struct fields *f)
{
	static const char *const lacking[][2] = {
		{"suffix", "no model served here fills in the middle"},
		{"audio", "no model served here speaks"},
		{"web_search_options", "there is no search here"},
		{"bad_words", "logit_bias takes single tokens"},
		{"allowed_token_ids", "logit_bias takes single tokens"},
		{"logits_processors", "no client's code runs here"},
	};
	for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++)
		if (field_get(f, lacking[i][0]))
			field_refuse(f, lacking[i][0], "not supported: %s", lacking[i][1]);
	if (field_bool(f, "use_beam_search", false))
		field_refuse(f, "use_beam_search", "not supported: answers are sampled token by token");
	if (field_bool(f, "store", false))
		field_refuse(f, "store", "nothing is stored here; leave it away, or false");
	size_t i;
	json_t *modality;
	json_array_foreach((json_t *)field_get(f, "modalities"), i, modality)
		if (!json_is_string(modality) || strcmp(json_string_value(modality), "text") != 0)
			field_refuse(f, "modalities", "only [\"text\"] is supported");
}

/* OpenAI's limits: 16 pairs of short texts.  They go nowhere; a request that is wrong is said to be. */
static void check_metadata(struct fields *f)
{
	const json_t *metadata = field_get(f, "metadata");
	const char *key;
	json_t *value;
	if (metadata && (!json_is_object(metadata) || json_object_size(metadata) > 16))
		field_refuse(f, "metadata", "expected an object of at most 16 texts");
	json_object_foreach((json_t *)metadata, key, value)
		if (strlen(key) > 64 || !json_is_string(value) || json_string_length(value) > 512)
			field_refuse(f, "metadata", "expected texts of at most 512 bytes by names of at most 64");
}

static void read_stream(struct fields *f, struct api_request *r)
{
	r->stream = field_bool(f, "stream", false);
	const json_t *options = field_get(f, "stream_options");
	if (!options)
		return;
	if (!json_is_object(options)) {
		field_refuse(f, "stream_options", "expected an object");
		return;
	}
	if (!r->stream)
		field_refuse(f, "stream_options", "only with \"stream\": true");
	struct fields inner = {.object = options, .prefix = "stream_options.", .error = f->error, .e = f->e};
	r->include_usage = field_bool(&inner, "include_usage", false);
	r->continuous_usage = field_bool(&inner, "continuous_usage_stats", false);
	f->e = inner.e;
}

static void read_tier(struct fields *f, struct api_request *r)
{
	static const struct {
		const char *name;
		enum coord_class class;
	} tiers[] = {{"auto", COORD_DEFAULT}, {"default", COORD_DEFAULT}, {"priority", COORD_PRIORITY}, {"flex", COORD_FLEX}};
	const char *tier = field_text(f, "service_tier", 32, "auto");
	int64_t priority = field_integer(f, "priority", INT32_MIN, INT32_MAX, 0);
	for (size_t i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++) {
		if (strcmp(tiers[i].name, tier) != 0)
			continue;
		r->class = tiers[i].class;
		if (!field_get(f, "service_tier") && priority != 0) /* vLLM's: the lower, the sooner */
			r->class = priority < 0 ? COORD_PRIORITY : COORD_FLEX;
		return;
	}
	field_refuse(f, "service_tier", "\"%s\", expected auto, default, priority or flex", tier);
}

/* Of a request for text: sampling and prompt side by side. */
static void read_asked(struct fields *f, struct api_request *r)
{
	request_read_sampling(f, r);
	request_read_structure(f, r);
	if (r->kind == API_CHAT)
		request_read_chat(f, r);
	else
		request_read_prompt(f, r);
	r->return_token_ids = field_bool(f, "return_token_ids", false);
	r->skip_special_tokens = field_bool(f, "skip_special_tokens", true);
	refuse_lacking(f);
}

/* Tokens in and out: what /render says of a prompt.  Sampling lies in an object of its own. */
static void read_generate(struct fields *f, struct api_request *r)
{
	const json_t *sampling = field_get(f, "sampling_params");
	if (field_get(f, "features"))
		field_refuse(f, "features", "no model served here takes images or sound");
	request_read_token_ids(f, r);
	if (!json_is_object(sampling)) {
		field_refuse(f, "sampling_params", "expected an object");
		return;
	}
	struct fields inner = {.object = sampling, .prefix = "sampling_params.", .error = f->error, .e = f->e};
	request_read_sampling(&inner, r);
	request_read_structure(&inner, r);
	r->skip_special_tokens = field_bool(&inner, "skip_special_tokens", true);
	f->e = inner.e;
	r->return_token_ids = true;
	if (r->stream && r->prompt_logprobs)
		field_refuse(f, "stream", "not together with sampling_params.prompt_logprobs");
}

static void read_all(struct fields *f, struct api_request *r)
{
	r->model = field_text(f, "model", COORD_TEXT_MAX, NULL);
	if (!r->model && r->kind != API_GENERATE)
		field_refuse(f, "model", "you must provide a model");
	read_stream(f, r);
	read_tier(f, r);
	r->user = field_text(f, "user", 1024, "");
	r->request_id = field_text(f, "request_id", API_REQUEST_ID_MAX, NULL);
	(void)field_text(f, "prompt_cache_key", 1024, ""); /* a hint where to look; blocks are found by what they hold */
	(void)field_text(f, "session_id", 1024, "");
	(void)field_text(f, "safety_identifier", 1024, "");
	check_metadata(f);
	r->cache_salt = field_text(f, "cache_salt", 1024, "");
	r->trace = field_bool(f, "baton_trace", false);
	if (r->kind == API_GENERATE)
		read_generate(f, r);
	else
		read_asked(f, r);
}

enum err api_request_parse(enum api_kind kind, const char *body, size_t length, struct api_request *ret_request,
			   struct api_error *ret_error)
{
	json_t *object = json_in_object(body, length, ret_error);
	if (!object)
		return ret_error->status < 500 ? ERR_INVALID : ERR_NOMEM;
	struct fields fields = {.object = object, .error = ret_error};
	*ret_request = (struct api_request){.kind = kind, .body = object};
	read_all(&fields, ret_request);
	if (fields.e != ERR_OK)
		api_request_fini(ret_request);
	else
		log_unknown(object);
	return fields.e;
}

void api_request_fini(struct api_request *request)
{
	json_decref(request->body);
	free(request->structure);
	request->structure = NULL;
	request->body = NULL;
}
