/* http_api_impl - what the files of the HTTP face share.  Only coordinator/http_*.c include it. */
#ifndef COORDINATOR_HTTP_API_IMPL_H
#define COORDINATOR_HTTP_API_IMPL_H
#include "coordinator/api_error.h"
#include "coordinator/http_api.h"
#include "coordinator/metrics_text.h"
#include "net/http.h"

enum { HTTP_API_ROUTES_MAX = 64 };

/* A route is for administrators unless it says otherwise. */
struct http_api_route {
	const char *method, *path;
	enum access_class class;
	http_handler *handler; /* its context is the struct http_api */
};

struct http_guard {
	struct http_api *api;
	const struct http_api_route *route;
};

struct http_api {
	struct loop *loop;
	struct http_api_options options;
	struct http_server *server;
	struct http_guard guards[HTTP_API_ROUTES_MAX];
	size_t route_count;
	struct access_grant grant; /* of the request whose handler runs */
	bool draining;
};

/* http_guard.c */
/* The routes outlive the API. */
MUST_USE enum err http_guard_routes(struct http_api *api, const struct http_api_route *routes, size_t count);
void http_get_routes(struct http_request *request, void *api);
void http_guard_metrics(const struct http_api *api, struct metrics_text *text);

/* http_reply_api.c: answers of handlers that answer at once. */
void http_api_reply(struct http_request *request, int status, const char *type, const char *body, size_t length);
/* Of a body that was built with e; it is freed. */
void http_api_reply_buf(struct http_request *request, int status, const char *type, enum err e, struct buf *body);
void http_api_reply_error(struct http_request *request, const struct api_error *error);
/* An answer of the service, with its hints for a retry, and more fields (NULL: none). */
void http_api_reply_answer(struct http_request *request, const struct service_answer *answer, const struct http_field *more);
/* The body is JSON, or says nothing else; else it is answered (415), and false. */
bool http_api_takes_json(struct http_request *request);

/* http_rates.c: fields that say what is left of the tenant's quota; they point into *rates. */
struct http_rate_fields {
	struct http_field fields[7];
	char texts[6][24];
};
const struct http_field *http_api_rates(const struct http_api *api, const char *tenant, struct http_rate_fields *rates);

/* http_text.c: texts and tokens without a model's work. */
void http_post_tokenize(struct http_request *request, void *api);
void http_post_detokenize(struct http_request *request, void *api);
void http_post_render_chat(struct http_request *request, void *api);
void http_post_render_completion(struct http_request *request, void *api);
#endif
