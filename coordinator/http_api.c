#include "coordinator/http_api_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cluster_view.h"
#include "net/loop.h"

enum { DUMP_BYTES = 256 << 10 };

/* One POST on its way.  Freed with its end. */
struct exchange {
	struct http_api *api;
	struct http_request *request;
	struct service_call *call;
	char tenant[ACCESS_NAME_MAX + 1];
	bool slow; /* does not read */
};

static const char version_json[] = "{\"version\":\"0.1.0\"}";

/* ---- the sink of an exchange */

static void sink_reply(void *context, const struct service_answer *answer)
{
	struct exchange *exchange = context;
	struct http_rate_fields rates;
	http_api_reply_answer(exchange->request, answer, http_api_rates(exchange->api, exchange->tenant, &rates));
	free(exchange);
}

static void sink_start(void *context)
{
	struct exchange *exchange = context;
	struct http_rate_fields rates;
	struct http_field fields[10] = {{"Content-Type", "text/event-stream; charset=utf-8"},
					{"Cache-Control", "no-cache"},
					{"X-Accel-Buffering", "no"}}; /* a proxy must not gather what we flush */
	int count = 3;
	for (const struct http_field *more = http_api_rates(exchange->api, exchange->tenant, &rates); more->name; more++)
		fields[count++] = *more;
	http_stream_start(exchange->request, 200, fields);
}

static bool sink_write(void *context, const char *data, size_t length, size_t echoed)
{
	struct exchange *exchange = context;
	/* One event may be larger than what may wait: a reader that took all before it is not slow. */
	exchange->slow = http_queued_bytes(exchange->request) > HTTP_API_QUEUED_MAX + echoed;
	if (!exchange->slow)
		http_stream_write(exchange->request, data, length);
	return !exchange->slow;
}

static void sink_end(void *context)
{
	struct exchange *exchange = context;
	if (exchange->slow)
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

/* x-request-timeout: seconds, with a fraction if need be.  False: it was wrong, and is answered. */
static bool read_timeout(struct http_request *request, uint64_t *ret_ns)
{
	const char *text = http_header(request, "x-request-timeout");
	char *end = NULL;
	double seconds = text ? strtod(text, &end) : 0;
	*ret_ns = 0;
	if (!text)
		return true;
	if (end != text && !*end && seconds > 0 && seconds <= HTTP_API_TIMEOUT_MAX_S) {
		*ret_ns = (uint64_t)(seconds * 1e9);
		return true;
	}
	struct api_error error;
	api_error_field(&error, "x-request-timeout", "x-request-timeout: \"%.40s\", expected seconds, at most %d", text,
			HTTP_API_TIMEOUT_MAX_S);
	http_api_reply_error(request, &error);
	return false;
}

static struct service_limits limits_of(const struct access_limits *limits)
{
	return (struct service_limits){
		.quota = {.requests_per_minute = limits->requests_per_minute, .tokens_per_minute = limits->tokens_per_minute},
		.share = {.weight = limits->weight, .running_max = limits->concurrent, .waiting_max = limits->queued},
		.context_max = limits->context,
	};
}

static void post(struct http_api *api, struct http_request *request, enum api_kind kind)
{
	uint64_t timeout_ns;
	if (!http_api_takes_json(request) || !read_timeout(request, &timeout_ns))
		return;
	struct exchange *exchange = calloc(1, sizeof(*exchange));
	if (!exchange) {
		http_reply_error(request, 500, "InternalServerError", NULL, NULL, "out of memory", NULL);
		return;
	}
	exchange->api = api;
	exchange->request = request;
	strcpy(exchange->tenant, api->grant.tenant);
	struct service_limits limits = limits_of(&api->grant.limits);
	const char *trace = http_header(request, "x-baton-trace");
	struct service_post what = {
		.kind = kind,
		.request_id = http_request_id(request),
		.idempotency_key = http_header(request, "idempotency-key"),
		.tenant = api->grant.tenant,
		.limits = &limits,
		.tenant_salt = api->grant.salted ? api->grant.salt : NULL,
		.timeout_ns = timeout_ns,
		.trace = trace && strcmp(trace, "0") != 0,
	};
	what.body = http_body(request, &what.length);
	struct service_sink sink = {.context = exchange, .reply = sink_reply, .stream_start = sink_start,
				    .stream_write = sink_write, .stream_end = sink_end};
	struct service_call *call = service_post(api->options.service, &what, &sink);
	if (!call)
		return; /* answered, and the exchange is gone */
	exchange->call = call;
	http_drop_body(request);
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

static void post_generate(struct http_request *request, void *context)
{
	post(context, request, API_GENERATE);
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
		.env = api->options.env,
		.api_tls = api->options.tls,
		.leader = api->leader,
		.draining = api->draining,
		.now_ns = loop_now_ns(api->loop),
	};
}

static void get_models(struct http_request *request, void *context)
{
	struct http_api *api = context;
	struct buf body = {0};
	enum err e = service_models(api->options.service, &body);
	http_api_reply_buf(request, 200, "application/json", e, &body);
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
	http_api_reply_buf(request, status, "application/json", e, &body);
}

static void get_health(struct http_request *request, void *context)
{
	struct http_api *api = context;
	bool healthy = !api->draining && service_ready(api->options.service);
	http_api_reply(request, healthy ? 200 : 503, "text/plain; charset=utf-8", "", 0);
}

static void get_livez(struct http_request *request, void *context)
{
	(void)context;
	http_api_reply(request, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static void get_readyz(struct http_request *request, void *context)
{
	struct cluster_view view = view_of(context);
	struct buf body = {0};
	bool ready = false;
	enum err e = cluster_readiness(&view, &body, &ready);
	http_api_reply_buf(request, ready ? 200 : 503, "application/json", e, &body);
}

static void get_version(struct http_request *request, void *context)
{
	(void)context;
	http_api_reply(request, 200, "application/json", version_json, strlen(version_json));
}

/* What SageMaker asks: as /health. */
static void get_ping(struct http_request *request, void *context)
{
	get_health(request, context);
}

/* As vLLM's: requests that were accepted and have not ended. */
static void get_load(struct http_request *request, void *context)
{
	struct http_api *api = context;
	char body[48];
	int length = snprintf(body, sizeof(body), "{\"server_load\":%u}", coord_requests(api->options.coord));
	http_api_reply(request, 200, "application/json", body, (size_t)length);
}

static void get_metrics(struct http_request *request, void *context)
{
	struct http_api *api = context;
	struct cluster_view view = view_of(api);
	struct buf body = {0};
	struct metrics_text text = {.buf = &body};
	service_metrics(api->options.service, &text);
	cluster_metrics(&view, &text);
	http_guard_metrics(api, &text);
	metrics_family(&text, "baton_api_stalled_total", "counter", "Connections reset because nothing was taken of a reply.");
	metrics_line(&text, NULL, (double)http_server_stalled(api->server));
	http_api_reply_buf(request, 200, "text/plain; version=0.0.4; charset=utf-8", text.e, &body);
}

static void get_topology(struct http_request *request, void *context)
{
	struct cluster_view view = view_of(context);
	struct buf body = {0};
	enum err e = cluster_topology(&view, &body);
	http_api_reply_buf(request, 200, "application/json", e, &body);
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
	http_api_reply(request, 200, "text/plain; charset=utf-8", text, strlen(text));
	free(text);
}

/* ---- life */

static const struct http_api_route routes[] = {
	{"POST", "/v1/completions", ACCESS_API, post_completion},
	{"POST", "/v1/chat/completions", ACCESS_API, post_chat},
	{"POST", "/inference/v1/generate", ACCESS_API, post_generate},
	{"POST", "/tokenize", ACCESS_API, http_post_tokenize},
	{"POST", "/detokenize", ACCESS_API, http_post_detokenize},
	{"POST", "/v1/chat/completions/render", ACCESS_API, http_post_render_chat},
	{"POST", "/v1/completions/render", ACCESS_API, http_post_render_completion},
	{"GET", "/v1/models", ACCESS_API, get_models},
	{"GET", "/v1/models/*", ACCESS_API, get_model},
	{"GET", "/version", ACCESS_API, get_version},
	{"GET", "/health", ACCESS_PUBLIC, get_health},
	{"GET", "/ping", ACCESS_PUBLIC, get_ping},
	{"POST", "/ping", ACCESS_PUBLIC, get_ping},
	{"GET", "/livez", ACCESS_PUBLIC, get_livez},
	{"GET", "/readyz", ACCESS_PUBLIC, get_readyz},
	{"GET", "/load", ACCESS_METRICS, get_load},
	{"GET", "/metrics", ACCESS_METRICS, get_metrics},
	{"GET", "/debug/topology", ACCESS_ADMIN, get_topology},
	{"GET", "/debug/requests", ACCESS_ADMIN, get_requests},
	{"POST", "/drain", ACCESS_ADMIN, http_post_drain},
	{"DELETE", "/drain", ACCESS_ADMIN, http_delete_drain},
	{"POST", "/undrain", ACCESS_ADMIN, http_post_undrain},
	{"GET", "/debug/routes", ACCESS_ADMIN, http_get_routes},
};

enum err http_api_create(struct loop *loop, const struct http_api_options *options, struct http_api **ret_api,
			 struct why *why)
{
	struct http_api *api = calloc(1, sizeof(*api));
	if (!api)
		return ERR_NOMEM;
	api->loop = loop;
	api->options = *options;
	const struct http_api_limits *limits = &options->limits;
	struct http_options http = {.address = options->host, .port = options->port, .header_max = HTTP_API_HEADER_MAX,
				    .body_max = HTTP_API_BODY_MAX, .send_buffer = HTTP_API_SEND_BUFFER,
				    .connections_max = limits->connections_max,
				    .header_timeout_ns = limits->header_timeout_s * 1000000000,
				    .receive_timeout_ns = limits->body_timeout_s * 1000000000,
				    .write_timeout_ns = limits->write_timeout_s * 1000000000,
				    .tls = options->tls,
				    .origins = options->origins, .origin_count = options->origin_count};
	enum err e = http_server_create(loop, &http, &api->server, why);
	if (e == ERR_OK)
		e = http_guard_routes(api, routes, sizeof(routes) / sizeof(routes[0]));
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
	api->draining = api->leaving = true;
}

void http_api_set_leader(struct http_api *api, const struct leader *leader)
{
	api->leader = leader;
}

bool http_api_drained(const struct http_api *api)
{
	return http_server_requests_open(api->server) == 0;
}
