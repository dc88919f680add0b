/* POST /drain, POST /undrain, DELETE /drain: what drain_api.c makes of them, over HTTP. */
#include <string.h>

#include "base/log.h"
#include "coordinator/drain_api.h"
#include "coordinator/http_api_impl.h"
#include "coordinator/leader.h"
#include "net/loop.h"

static void reply_drain(struct http_request *request, const struct drain_answer *drained, enum err e, struct buf *body)
{
	if (e != ERR_OK) {
		http_api_reply_buf(request, 500, "application/json", e, body);
		return;
	}
	const struct http_field location[] = {{"Location", drained->location}, {NULL, NULL}};
	struct service_answer answer = {.status = drained->status, .retry_after_ns = drained->retry_after_ns,
					.body = body->data, .length = body->length};
	http_api_reply_answer(request, &answer, drained->location[0] ? location : NULL);
	buf_fini(body);
}

static void drain_self(struct http_api *api, bool drain)
{
	log_info("%s by request", drain ? "draining" : "serving again");
	api->draining = drain;
	if (drain)
		coord_drain(api->options.coord);
	else
		coord_undrain(api->options.coord);
}

static void change_drain(struct http_api *api, struct http_request *request, bool drain)
{
	struct drain_call call = {
		.coord = api->options.coord,
		.name = api->options.name,
		.leader_name = api->leader ? leader_name(api->leader) : "",
		.leader_url = api->leader ? leader_url(api->leader) : "",
		.path = http_path(request),
		.drain = drain,
		.now_ns = loop_now_ns(api->loop),
	};
	struct buf body = {0};
	struct drain_answer answer;
	size_t length;
	const char *text = http_body(request, &length);
	enum err e = drain_call(&call, text, length, &body, &answer);
	if (e == ERR_OK && answer.self && api->leaving && !drain) {
		buf_fini(&body);
		http_reply_error(request, 409, "Conflict", "leaving", NULL, "This coordinator ends: start it anew.", NULL);
		return;
	}
	if (e == ERR_OK && answer.self)
		drain_self(api, drain);
	reply_drain(request, &answer, e, &body);
}

/* JSON must be said also where there is no body: a page of another origin may send a POST that says nothing. */
static void change_by_post(struct http_api *api, struct http_request *request, bool drain)
{
	if (!http_header(request, "content-type"))
		http_reply_error(request, 415, "invalid_request_error", "unsupported_media_type", NULL,
				 "Say Content-Type: application/json.", NULL);
	else if (http_api_takes_json(request))
		change_drain(api, request, drain);
}

void http_post_drain(struct http_request *request, void *api)
{
	change_by_post(api, request, true);
}

void http_post_undrain(struct http_request *request, void *api)
{
	change_by_post(api, request, false);
}

void http_delete_drain(struct http_request *request, void *api)
{
	change_drain(api, request, false);
}
