/* http_api - the routes of the coordinator: OpenAI's API, health, metrics, and what `baton status` reads.
 *
 * Owns:   the HTTP server, the requests that are open on it.
 * Loop:   the one given; the service's and the core's.
 * Bounds: HTTP_API_QUEUED_MAX bytes, and one event, that a slow reader of a stream has not taken besides an echo of its
 *         prompt; then it is given up.  Heads, bodies, times and connections: http_api_limits, and net/http.h where they are 0. */
#ifndef COORDINATOR_HTTP_API_H
#define COORDINATOR_HTTP_API_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "coordinator/service.h"

struct http_api;
struct leader;
struct env;
struct tls;
struct loop;

enum { HTTP_API_QUEUED_MAX = 256 << 10, HTTP_API_HEADER_MAX = 16 << 10, HTTP_API_BODY_MAX = 4 << 20,
       HTTP_API_SEND_BUFFER = 128 << 10, HTTP_API_TIMEOUT_MAX_S = 86400 };

struct http_api_limits {
	uint32_t connections_max;
	uint64_t header_timeout_s, body_timeout_s, write_timeout_s;
};

struct http_api_options {
	struct http_api_limits limits;
	const char *host;
	uint16_t port;
	struct coord *coord;
	struct service *service;
	const struct served_model *models;
	uint32_t model_count;
	const char *name; /* of this coordinator */
	struct access *access; /* who may ask; outlives the API */
	struct tls *tls;       /* server only; outlives the API; NULL: plain HTTP */
	const struct env *env; /* of the control streams, for the metrics: whom they refused; NULL: nobody */
	const char *const *origins; /* [origin_count] whose pages may read replies; outlive the API */
	size_t origin_count;
};

MUST_USE enum err http_api_create(struct loop *loop, const struct http_api_options *options, struct http_api **ret_api,
				  struct why *why);
void http_api_destroy(struct http_api *api);
uint16_t http_api_port(const struct http_api *api);
/* Whom requests are sent that only the leader may do; before the loop runs.  NULL: there is no election. */
void http_api_set_leader(struct http_api *api, const struct leader *leader);
/* Not ready any more, for good: the process leaves.  What is open goes on. */
void http_api_drain(struct http_api *api);
/* Nothing is open. */
bool http_api_drained(const struct http_api *api);
#endif
