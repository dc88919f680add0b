/* request_parse - the body of a completion or chat request becomes a checked value.
 *
 * Names, defaults and limits are OpenAI's, with vLLM's extensions.  Fields that we do not know are accepted and logged;
 * fields that we know, lack, and could not ignore without a wrong answer (tools, response_format) are refused by name.
 *
 * Owns:   the parsed body; texts and sub-values are borrowed from it until api_request_fini().
 * Bounds: the body's length is the caller's; API_CHOICES_MAX choices over all prompts. */
#ifndef COORDINATOR_REQUEST_PARSE_H
#define COORDINATOR_REQUEST_PARSE_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/sampling.h"
#include "coordinator/api_error.h"
#include "coordinator/core.h"
#include "coordinator/stop.h"

enum { API_CHOICES_MAX = 128, REQUEST_TEMPLATE_MAX = 65536, API_REQUEST_ID_MAX = 79 };

/* Text or tokens in and text out; messages in; tokens in and tokens out (vLLM's /inference/v1/generate). */
enum api_kind { API_COMPLETION, API_CHAT, API_GENERATE };
#define API_KINDS 3

struct api_request {
	enum api_kind kind;
	json_t *body;
	const char *model;          /* NULL: the first (tokens in and out) */
	const char *request_id;     /* of the body, where the answer repeats it (tokens in and out); NULL */
	const char *user;           /* "" */
	const char *cache_salt;     /* "" */
	struct sampling sampling;   /* max_tokens 0: not given (prompt.h resolves it); seed: see has_seed */
	bool has_seed;
	uint32_t n;
	struct stop_set stop;
	enum coord_class class;
	bool stream, include_usage, continuous_usage;
	bool echo;
	bool echo_only;             /* max_tokens 0: the prompt alone; one token is computed and thrown away */
	bool prompt_logprobs;       /* asked for by name: in the answer; sampling.prompt_logprobs says how many are computed */
	uint8_t prompt_top;         /* alternatives of those */
	bool return_token_ids;
	bool skip_special_tokens;
	bool add_special_tokens;
	bool add_generation_prompt;
	bool continue_final_message; /* the answer goes on in the last message */
	int32_t truncate_prompt_tokens; /* so many of the last; -1: as many as fit; 0: all */
	const char *chat_template;  /* the client's own; NULL */
	bool trace;                 /* show what happened: "baton" in the answer */
	const json_t *prompt;       /* completions; tokens in: "token_ids" */
	const json_t *messages;     /* chat: an array of objects with roles */
	const json_t *template_variables; /* chat_template_kwargs; NULL */
};

/* ERR_INVALID or ERR_NOMEM, with the error filled in; nothing is to be freed then. */
MUST_USE enum err api_request_parse(enum api_kind kind, const char *body, size_t length, struct api_request *ret_request,
				    struct api_error *ret_error);
void api_request_fini(struct api_request *request);
#endif
