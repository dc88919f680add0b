#include "coordinator/http_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "coordinator/api_error.h"
#include "coordinator/cluster_view.h"
#include "coordinator/drain_api.h"
#include "coordinator/json_out.h"
#include "coordinator/leader.h"
#include "net/http.h"
#include "net/loop.h"

enum { FIELDS = 8, DUMP_BYTES = 256 << 10, ROUTES_MAX = 48 };

/* A route is for administrators unless it says otherwise (access.h). */
struct api_route {
	const char *method, *path;
	enum access_class class;
	http_handler *handler;
};

struct guard {
	struct http_api *api;
	const struct api_route *route;
};

struct http_api {
	struct loop *loop;
	struct http_api_options options;
	struct http_server *server;
	struct guard guards[ROUTES_MAX];
	struct access_grant grant; /* of the request whose handler runs */
	const struct leader *leader;
	bool draining;
	bool leaving; /* the process ends: no request undrains it */
};

/* One POST on its way.  Freed with its end. */
struct exchange {
	struct http_api *api;
	struct http_request *request;
	struct service_call *call;
	char id[COORD_TEXT_MAX + 1];
};

static const char version_json[] = "{\"version\":\"0.1.0\"}";

/* ---- request ids */

static bool is_id(const char *text)
{
	size_t length = strlen(text);
	for (size_t i = 0; i < length; i++)
		if (text[i] < 0x21 || text[i] > 0x7e)
			return false;
	return length > 0 && length <= COORD_TEXT_MAX;
}

/* The client's, where it is printable and short; else one of ours. */
static void request_id(const struct http_request *request, char ret_id[COORD_TEXT_MAX + 1])
{
	const char *given = http_header(request, "x-request-id");
	if (given && is_id(given)) {
		snprintf(ret_id, COORD_TEXT_MAX + 1, "%s", given);
		return;
	}
	uint64_t random = 0;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint64_t)(uintptr_t)request;
	snprintf(ret_id, COORD_TEXT_MAX + 1, "req-%016llx", (unsigned long long)random);
}

static void reply(struct http_request *request, int status, const char *type, const char *body, size_t length)
{
	char id[COORD_TEXT_MAX + 1];
	request_id(request, id);
	struct http_field fields[] = {{"Content-Type", type}, {"x-request-id", id}, {NULL, NULL}};
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
	struct http_field fields[FIELDS] = {{"Content-Type", "application/json"}, {"x-request-id", exchange->id}};
	int count = 2;
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
				      {"x-request-id", exchange->id},
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
	request_id(request, exchange->id);
	const char *trace = http_header(request, "x-baton-trace");
	struct service_post what = {
		.kind = kind,
		.request_id = exchange->id,
		.idempotency_key = http_header(request, "idempotency-key"),
		.tenant = api->grant.tenant,
		.tenant_salt = api->grant.salted ? api->grant.salt : NULL,
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
		.leader = api->leader,
		.tls = api->options.peers_tls,
		.api_tls = api->options.tls,
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

static void show_access(const struct access *access, struct metrics_text *text)
{
	struct access_counts c;
	access_counts(access, &c);
	const struct {
		const char *reason;
		uint64_t count;
	} reasons[] = {{"no_key", c.key_missing}, {"wrong_key", c.key_wrong}, {"role", c.forbidden}};
	metrics_family(text, "baton_api_denied_total", "counter", "Requests without a key that would do.");
	for (int i = 0; i < 3; i++) {
		const char *labels[] = {"reason", reasons[i].reason, NULL};
		metrics_line(text, labels, (double)reasons[i].count);
	}
	metrics_family(text, "baton_api_keys", "gauge", "Keys in force.");
	metrics_line(text, NULL, c.keys);
	metrics_family(text, "baton_api_keys_reload_errors_total", "counter", "Readings of the file of keys that failed.");
	metrics_line(text, NULL, (double)c.reload_errors);
}

static void get_metrics(struct http_request *request, void *context)
{
	struct http_api *api = context;
	struct cluster_view view = view_of(api);
	struct buf body = {0};
	struct metrics_text text = {.buf = &body};
	service_metrics(api->options.service, &text);
	cluster_metrics(&view, &text);
	show_access(api->options.access, &text);
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

/* ---- draining */

static void reply_drain(struct http_request *request, const struct drain_answer *answer, enum err e, struct buf *body)
{
	char id[COORD_TEXT_MAX + 1], seconds[24];
	if (e != ERR_OK) {
		reply_buf(request, 500, "application/json", e, body);
		return;
	}
	request_id(request, id);
	struct http_field fields[FIELDS] = {{"Content-Type", "application/json"}, {"x-request-id", id}};
	int count = 2;
	if (answer->location[0])
		fields[count++] = (struct http_field){"Location", answer->location};
	snprintf(seconds, sizeof(seconds), "%llu", (unsigned long long)(answer->retry_after_ns + 999999999) / 1000000000);
	if (answer->retry_after_ns)
		fields[count++] = (struct http_field){"retry-after", seconds};
	fields[count] = (struct http_field){NULL, NULL};
	http_reply(request, answer->status, fields, body->data, body->length);
	buf_fini(body);
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
	if (e == ERR_OK && answer.self) {
		log_info("%s by request", drain ? "draining" : "serving again");
		api->draining = drain;
		if (drain)
			coord_drain(api->options.coord);
		else
			coord_undrain(api->options.coord);
	}
	reply_drain(request, &answer, e, &body);
}

static void post_drain(struct http_request *request, void *context)
{
	change_drain(context, request, true);
}

static void post_undrain(struct http_request *request, void *context)
{
	change_drain(context, request, false);
}

/* ---- life */

static void get_routes(struct http_request *request, void *context);

static const struct api_route routes[] = {
	{"POST", "/v1/completions", ACCESS_API, post_completion},
	{"POST", "/v1/chat/completions", ACCESS_API, post_chat},
	{"GET", "/v1/models", ACCESS_API, get_models},
	{"GET", "/v1/models/*", ACCESS_API, get_model},
	{"GET", "/version", ACCESS_API, get_version},
	{"GET", "/health", ACCESS_PUBLIC, get_health},
	{"GET", "/ping", ACCESS_PUBLIC, get_health},
	{"GET", "/livez", ACCESS_PUBLIC, get_livez},
	{"GET", "/readyz", ACCESS_PUBLIC, get_readyz},
	{"GET", "/metrics", ACCESS_METRICS, get_metrics},
	{"GET", "/debug/topology", ACCESS_ADMIN, get_topology},
	{"GET", "/debug/requests", ACCESS_ADMIN, get_requests},
	{"POST", "/drain", ACCESS_ADMIN, post_drain},
	{"DELETE", "/drain", ACCESS_ADMIN, post_undrain},
	{"POST", "/undrain", ACCESS_ADMIN, post_undrain},
	{"GET", "/debug/routes", ACCESS_ADMIN, get_routes},
};

#define ROUTES (sizeof(routes) / sizeof(routes[0]))
_Static_assert(ROUTES <= ROUTES_MAX, "every route has its guard");

/* So that whoever wants to know what answers whom need not read the source. */
static void get_routes(struct http_request *request, void *context)
{
	(void)context;
	struct buf body = {0};
	struct json_out out;
	json_out_init(&out, &body);
	json_out_open(&out, '{');
	json_put_open(&out, "routes", '[');
	for (size_t i = 0; i < ROUTES; i++) {
		json_out_open(&out, '{');
		json_put_text(&out, "method", routes[i].method);
		json_put_text(&out, "path", routes[i].path);
		json_put_text(&out, "class", access_class_text(routes[i].class));
		json_out_close(&out, '}');
	}
	json_out_close(&out, ']');
	json_out_close(&out, '}');
	reply_buf(request, 200, "application/json", out.e, &body);
}

/* "127.0.0.1:4711", "::1:4711" */
static bool is_this_host(const char *peer)
{
	return strncmp(peer, "127.", 4) == 0 || strncmp(peer, "::1:", 4) == 0 || strncmp(peer, "::ffff:127.", 11) == 0;
}

static void refuse_access(struct http_request *request, enum access_verdict verdict)
{
	static const struct http_field bearer[] = {{"WWW-Authenticate", "Bearer"}, {NULL, NULL}};
	static const char type[] = "invalid_request_error";
	if (verdict == ACCESS_KEY_MISSING)
		http_reply_error(request, 401, type, NULL, NULL,
				 "You didn't provide an API key. Put it in an Authorization header: Authorization: Bearer KEY.", bearer);
	else if (verdict == ACCESS_KEY_WRONG)
		http_reply_error(request, 401, type, "invalid_api_key", NULL, "Incorrect API key provided.", bearer);
	else if (verdict == ACCESS_TENANT_WRONG)
		http_reply_error(request, 400, type, NULL, "x-baton-tenant",
				 "x-baton-tenant: expected 1 to 63 letters, digits and ._-", NULL);
	else
		http_reply_error(request, 403, type, "insufficient_permissions", NULL,
				 "You have insufficient permissions for this operation.", NULL);
}

/* In front of every handler. */
static void guarded(struct http_request *request, void *context)
{
	const struct guard *guard = context;
	struct http_api *api = guard->api;
	struct access_question question = {
		.class = guard->route->class,
		.authorization = http_header(request, "authorization"),
		.tenant = http_header(request, "x-baton-tenant"),
		.from_this_host = is_this_host(http_peer_address(request)),
	};
	enum access_verdict verdict = access_judge(api->options.access, &question, &api->grant);
	if (verdict == ACCESS_GRANTED)
		guard->route->handler(request, api);
	else
		refuse_access(request, verdict);
}

static enum err add_routes(struct http_api *api)
{
	for (size_t i = 0; i < ROUTES; i++) {
		api->guards[i] = (struct guard){api, &routes[i]};
		enum err e = http_route(api->server, routes[i].method, routes[i].path, guarded, &api->guards[i]);
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
	struct http_options http = {.address = options->host, .port = options->port, .body_max = HTTP_API_BODY_MAX,
				    .tls = options->tls};
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
