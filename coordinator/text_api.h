/* text_api - what can be said of a text without computing: its tokens, a tokens' text, a request as the nodes would see it.
 *
 * Names and shapes are vLLM's: /tokenize, /detokenize, /v1/chat/completions/render, /v1/completions/render.
 * Each appends a JSON body; not OK: the error says why.
 * Loop: the service's.  Bounds: those of prompt.h: a text far over the model's context is refused by its length. */
#ifndef COORDINATOR_TEXT_API_H
#define COORDINATOR_TEXT_API_H
#include <stddef.h>
#include "base/buf.h"
#include "base/err.h"
#include "coordinator/api_error.h"
#include "coordinator/request_parse.h"

struct service;

/* {model, prompt or messages, …} -> {count, max_model_len, tokens, token_strs} */
MUST_USE enum err text_tokenize(const struct service *service, const char *body, size_t length, struct buf *out,
				struct api_error *error);
/* {model, tokens} -> {prompt} */
MUST_USE enum err text_detokenize(const struct service *service, const char *body, size_t length, struct buf *out,
				  struct api_error *error);
/* A request of /v1/… -> {request_id, token_ids, sampling_params, …}; completions: a list, one for each prompt. */
MUST_USE enum err text_render(const struct service *service, enum api_kind kind, const char *request_id,
			      const char *body, size_t length, struct buf *out, struct api_error *error);
#endif
