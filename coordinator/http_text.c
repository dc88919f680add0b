/* Routes of texts and tokens: answered at once, no model works. */
#include "coordinator/http_api_impl.h"
#include "coordinator/text_api.h"

typedef enum err text_fn(const struct service *service, struct http_request *request, struct buf *out,
			 struct api_error *error);

static void answer(struct http_request *request, void *context, text_fn *fn)
{
	const struct http_api *api = context;
	struct api_error error = {0};
	struct buf body = {0};
	if (!http_api_takes_json(request))
		return;
	enum err e = fn(api->options.service, request, &body, &error);
	if (e == ERR_OK) {
		http_api_reply_buf(request, 200, "application/json", e, &body);
		return;
	}
	if (!error.status)
		api_error_from(&error, e, NULL, 0);
	http_api_reply_error(request, &error);
	buf_fini(&body);
}

static enum err tokenize(const struct service *service, struct http_request *request, struct buf *out,
			 struct api_error *error)
{
	size_t length;
	const char *body = http_body(request, &length);
	return text_tokenize(service, body, length, out, error);
}

static enum err detokenize(const struct service *service, struct http_request *request, struct buf *out,
			   struct api_error *error)
{
	size_t length;
	const char *body = http_body(request, &length);
	return text_detokenize(service, body, length, out, error);
}

static enum err render_chat(const struct service *service, struct http_request *request, struct buf *out,
			    struct api_error *error)
{
	size_t length;
	const char *body = http_body(request, &length);
	return text_render(service, API_CHAT, http_request_id(request), body, length, out, error);
}

static enum err render_completion(const struct service *service, struct http_request *request, struct buf *out,
				  struct api_error *error)
{
	size_t length;
	const char *body = http_body(request, &length);
	return text_render(service, API_COMPLETION, http_request_id(request), body, length, out, error);
}

void http_post_tokenize(struct http_request *request, void *api)
{
	answer(request, api, tokenize);
}

void http_post_detokenize(struct http_request *request, void *api)
{
	answer(request, api, detokenize);
}

void http_post_render_chat(struct http_request *request, void *api)
{
	answer(request, api, render_chat);
}

void http_post_render_completion(struct http_request *request, void *api)
{
	answer(request, api, render_completion);
}
