/* In front of every handler: who asks, and may they (access.h); and the list of what there is. */
#include <string.h>

#include "coordinator/http_api_impl.h"
#include "coordinator/json_out.h"

/* "127.0.0.1:4711", "::1:4711" */
static bool is_this_host(const char *peer)
{
	return strncmp(peer, "127.", 4) == 0 || strncmp(peer, "::1:", 4) == 0 || strncmp(peer, "::ffff:127.", 11) == 0;
}

static void refuse(struct http_request *request, enum access_verdict verdict)
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

static void guarded(struct http_request *request, void *context)
{
	const struct http_guard *guard = context;
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
		refuse(request, verdict);
}

enum err http_guard_routes(struct http_api *api, const struct http_api_route *routes, size_t count)
{
	if (count > HTTP_API_ROUTES_MAX)
		return ERR_TOO_LARGE;
	for (size_t i = 0; i < count; i++) {
		api->guards[i] = (struct http_guard){api, &routes[i]};
		enum err e = http_route(api->server, routes[i].method, routes[i].path, guarded, &api->guards[i]);
		if (e != ERR_OK)
			return e;
		api->route_count++;
	}
	return ERR_OK;
}

/* So that whoever wants to know what answers whom need not read the source. */
void http_get_routes(struct http_request *request, void *context)
{
	const struct http_api *api = context;
	struct buf body = {0};
	struct json_out out;
	json_out_init(&out, &body);
	json_out_open(&out, '{');
	json_put_open(&out, "routes", '[');
	for (size_t i = 0; i < api->route_count; i++) {
		const struct http_api_route *route = api->guards[i].route;
		json_out_open(&out, '{');
		json_put_text(&out, "method", route->method);
		json_put_text(&out, "path", route->path);
		json_put_text(&out, "class", access_class_text(route->class));
		json_out_close(&out, '}');
	}
	json_out_close(&out, ']');
	json_out_close(&out, '}');
	http_api_reply_buf(request, 200, "application/json", out.e, &body);
}

void http_guard_metrics(const struct http_api *api, struct metrics_text *text)
{
	struct access_counts c;
	access_counts(api->options.access, &c);
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
