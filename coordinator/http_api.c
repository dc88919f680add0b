#include "coordinator/http_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/api_error.h"
#include "coordinator/cluster_view.h"
#include "net/http.h"
#include "net/loop.h"

enum { FIELDS = 8, DUMP_BYTES = 256 << 10 };

struct http_api {
	struct loop *loop;
	struct http_api_options options;
	struct http_server *server;
	bool draining;
};

/* One POST on its way.  Freed with its end. */
struct exchange {
	struct http_api *api;
	struct http_request *request;
	struct service_call *call;
};

static const char version_json[] = "{\"version\":\"0.1.0\"}";

/* A name that may stand in logs and metrics. */
static bool is_name(const char *text)
{
	size_t length = strlen(text);
	for (size_t i = 0; i < length; i++)
		if (text[i] < 0x21 || text[i] > 0x7e)
			return false;
	return length > 0 && length <= COORD_TEXT_MAX;
}

static void reply(struct http_request *request, int status, const char *type, const char *body, size_t length)
{
	struct http_field fields[] = {{"Content-Type", type}, {NULL, NULL}};
	http_reply(request, status, fields, body, length);
}

static void reply_buf(struct http_request *request, int status, const char *type, enum err e, struct buf *body)
{
	if (e == ERR_OK)
		reply(request, status, type, body->data, body->length);
	else
		http_reply_error(request, 500, "InternalServerError", NULL, NULL, err_text(e), NULL);
	buf_fini(body);
}

/* ---- the sink of an exchange */

static void sink_reply(void *context, int status, uint64_t retry_after_ns, const char *body, size_t length)
{
	struct exchange *exchange = context;
	char seconds[24], ms[24];
	struct http_field fields[FIELDS] = {{"Content-Type", "application/json"}};
	int count = 1;
	if (retry_after_ns) {
		snprintf(seconds, sizeof(seconds), "%llu", (unsigned long long)(retry_after_ns + 999999999) / 1000000000);
		snprintf(ms, sizeof(ms), "%llu", (unsigned long long)(retry_after_ns / 1000000));
		fields[count++] = (struct http_field){"retry-after", seconds};
		fields[count++] = (struct http_field){"retry-after-ms", ms};
	}
	fields[count] = (struct http_field){NULL, NULL};
	http_reply(exchange->request, status, fields, body, length);
	free(exchange);
}

static void sink_start(void *context)
{
	struct exchange *exchange = context;
	struct http_field fields[] = {{"Content-Type", "text/event-stream; charset=utf-8"},
				      {"Cache-Control", "no-cache"},
				      {"X-Accel-Buffering", "no"}, /* a proxy must not gather what we flush */
				      {NULL, NULL}};
	http_stream_start(exchange->request, 200, fields);
}

static bool sink_write(void *context, const char *data, size_t length)
{
	struct exchange *exchange = context;
	http_stream_write(exchange->request, data, length);
	return http_queued_bytes(exchange->request) <= HTTP_API_QUEUED_MAX;
}

static void sink_end(void *context)
{
	struct exchange *exchange = context;
	if (http_queued_bytes(exchange->request) > HTTP_API_QUEUED_MAX)
		http_abort(exchange->request);
	else
		http_stream_end(exchange->request);
	free(exchange);
}

/* ---- POST */

static void on_gone(struct http_request *request, void *context)
{
	struct exchange *exchange = context;
	service_gone(exchange->call);
	http_abort(request);
	free(exchange);
}

static void post(struct http_api *api, struct http_request *request, enum api_kind kind)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));
	if (!exchange) {
		http_reply_error(request, 500, "InternalServerError", NULL, NULL, "out of memory", NULL);
		return;
	}
	exchange->api = api;
	exchange->request = request;
	const char *trace = http_header(request, "x-baton-trace");
	const char *tenant = http_header(request, "x-baton-tenant");
	struct service_post what = {
		.kind = kind,
		.request_id = http_request_id(request),
		.idempotency_key = http_header(request, "idempotency-key"),
		.tenant = tenant && is_name(tenant) ? tenant : NULL,
		.trace = trace && strcmp(trace, "0") != 0,
	};
	what.body = http_body(request, &what.length);
	struct service_sink sink = {.context = exchange, .reply = sink_reply, .stream_start = sink_start,
				    .stream_write = sink_write, .stream_end = sink_end};
	struct service_call *call = service_post(api->options.service, &what, &sink);
	if (!call)
		return; /* answered, and the exchange is gone */
	exchange->call = call;
	http_on_gone(request, on_gone, exchange);
}

static void post_completion(struct http_request *request, void *context)
{
	post(context, request, API_COMPLETION);
}

static void post_chat(struct http_request *request, void *context)
{
	post(context, request, API_CHAT);
}

/* ---- GET */

static struct cluster_view view_of(const struct http_api *api)
{
	return (struct cluster_view){
		.coord = api->options.coord,
		.service = api->options.service,
		.models = api->options.models,
		.model_count = api->options.model_count,
		.name = api->options.name,
		.draining = api->draining,
		.now_ns = loop_now_ns(api->loop),
	};
}

static void get_models(struct http_request *request, void *context)
{
	struct http_api *api = context;
	struct buf body = {0};
	enum err e = service_models(api->options.service, &body);
	reply_buf(request, 200, "application/json", e, &body);
}

static void get_model(struct http_request *request, void *context)
{
	struct http_api *api = context;
	const char *name = http_path(request) + strlen("/v1/models/");
	struct buf body = {0};
	enum err e = service_model(api->options.service, name, &body);
	int status = e == ERR_NOT_FOUND ? 404 : 200;
	if (e == ERR_NOT_FOUND) {
		struct api_error error;
		api_error_set(&error, 404, "model_not_found", "The model `%s` does not exist.", name);
		e = api_error_body(&error, &body);
	}
	reply_buf(request, status, "application/json", e, &body);
}

static void get_health(struct http_request *request, void *context)
{
	struct http_api *api = context;
	bool healthy = !api->draining && service_ready(api->options.service);
	reply(request, healthy ? 200 : 503, "text/plain; charset=utf-8", "", 0);
}

static void get_livez(struct http_request *request, void *context)
{
	(void)context;
	reply(request, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static void get_readyz(struct http_request *request, void *context)
{
	struct cluster_view view = view_of(context);
	struct buf body = {0};
	bool ready = false;
	enum err e = cluster_readiness(&view, &body, &ready);
	reply_buf(request, ready ? 200 : 503, "application/json", e, &body);
}

static void get_version(struct http_request *request, void *context)
{
	(void)context;
	reply(request, 200, "application/json", version_json, strlen(version_json));
}

static void get_metrics(struct http_request *request, void *context)
{
	struct http_api *api = context;
	struct cluster_view view = view_of(api);
	struct buf body = {0};
	struct metrics_text text = {.buf = &body};
	service_metrics(api->options.service, &text);
	cluster_metrics(&view, &text);
	reply_buf(request, 200, "text/plain; version=0.0.4; charset=utf-8", text.e, &body);
}

static void get_topology(struct http_request *request, void *context)
{
	struct cluster_view view = view_of(context);
	struct buf body = {0};
	enum err e = cluster_topology(&view, &body);
	reply_buf(request, 200, "application/json", e, &body);
}

static void get_requests(struct http_request *request, void *context)
{
	struct http_api *api = context;
	char *text = malloc(DUMP_BYTES);
	if (!text) {
		http_reply_error(request, 500, "InternalServerError", NULL, NULL, "out of memory", NULL);
		return;
	}
	coord_dump(api->options.coord, loop_now_ns(api->loop), text, DUMP_BYTES);
	reply(request, 200, "text/plain; charset=utf-8", text, strlen(text));
	free(text);
}

/* ---- life */

static enum err add_routes(struct http_api *api)
{
	static const struct {
		const char *method, *path;
		http_handler *handler;
	} routes[] = {
		{"POST", "/v1/completions", post_completion},
		{"POST", "/v1/chat/completions", post_chat},
		{"GET", "/v1/models", get_models},
		{"GET", "/v1/models/*", get_model},
		{"GET", "/health", get_health},
		{"GET", "/livez", get_livez},
		{"GET", "/readyz", get_readyz},
		{"GET", "/version", get_version},
		{"GET", "/metrics", get_metrics},
		{"GET", "/debug/topology", get_topology},
		{"GET", "/debug/requests", get_requests},
	};
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		enum err e = http_route(api->server, routes[i].method, routes[i].path, routes[i].handler, api);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

enum err http_api_create(struct loop *loop, const struct http_api_options *options, struct http_api **ret_api,
			 struct why *why)
{
	struct http_api *api = calloc(1, sizeof(*api));
	if (!api)
		return ERR_NOMEM;
	api->loop = loop;
	api->options = *options;
	struct http_options http = {.address = options->host, .port = options->port, .body_max = HTTP_API_BODY_MAX};
	enum err e = http_server_create(loop, &http, &api->server, why);
	if (e == ERR_OK)
		e = add_routes(api);
	if (e != ERR_OK) {
		http_api_destroy(api);
		return e;
	}
	*ret_api = api;
	return ERR_OK;
}

void http_api_destroy(struct http_api *api)
{
	if (!api)
		return;
	http_server_destroy(api->server); /* open requests hear on_gone, which ends them */
	free(api);
}

uint16_t http_api_port(const struct http_api *api)
{
	return http_server_port(api->server);
}

void http_api_drain(struct http_api *api)
{
	api->draining = true;
}

bool http_api_drained(const struct http_api *api)
{
	return http_server_requests_open(api->server) == 0;
}
