/* What becomes of a whole request: its id, its route, or the answer that there is none; OPTIONS; other origins' pages. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "net/http_impl.h"

/* ---- ids ---- */

static bool is_id(const char *text)
{
	size_t length = strlen(text);
	for (size_t i = 0; i < length; i++)
		if (text[i] < 0x21 || text[i] > 0x7e)
			return false;
	return length > 0 && length <= HTTP_ID_MAX;
}

void http_request_name(struct http_request *request)
{
	const char *given = http_head_field(&request->head, "x-request-id");
	if (given && is_id(given)) {
		snprintf(request->id, sizeof(request->id), "%s", given);
		return;
	}
	uint64_t random = 0;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint64_t)(uintptr_t)request;
	snprintf(request->id, sizeof(request->id), "req-%016llx", (unsigned long long)random);
}

/* ---- other origins ---- */

const char *http_request_origin(const struct http_request *request)
{
	const struct http_options *options = &request->connection->server->options;
	const char *origin = http_head_field(&request->head, "origin");
	for (size_t i = 0; origin && i < options->origin_count; i++) {
		if (strcmp(options->origins[i], "*") == 0)
			return "*";
		if (strcmp(options->origins[i], origin) == 0)
			return origin;
	}
	return NULL;
}

/* ---- answers of our own ---- */

static void reply_options(struct http_request *request, const char *allow)
{
	struct http_field fields[5] = {{"Allow", allow}};
	const char *headers = http_head_field(&request->head, "access-control-request-headers");
	int count = 1;
	if (http_request_origin(request) && http_head_field(&request->head, "access-control-request-method")) {
		fields[count++] = (struct http_field){"Access-Control-Allow-Methods", allow};
		if (headers)
			fields[count++] = (struct http_field){"Access-Control-Allow-Headers", headers};
		fields[count++] = (struct http_field){"Access-Control-Max-Age", "600"};
	}
	http_reply(request, 204, fields, "", 0);
}

void http_request_dispatch(struct http_request *request)
{
	const struct http_server *server = request->connection->server;
	const struct http_route *route = http_route_find(server, &request->head);
	if (route) {
		route->handler(request, route->context);
		return;
	}
	char allow[HTTP_ALLOW_MAX];
	const struct http_field fields[] = {{"Allow", allow}, {NULL, NULL}};
	http_route_methods(server, request->head.path, allow);
	if (!allow[0])
		http_reply_error(request, 404, "invalid_request_error", "not_found", NULL, "There is no such path.", NULL);
	else if (strcmp(request->head.method, "OPTIONS") == 0)
		reply_options(request, allow);
	else
		http_reply_error(request, 405, "invalid_request_error", "method_not_allowed", NULL,
				 "This path does not take this method.", fields);
}
