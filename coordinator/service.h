/* service - completions and chats between the bytes of a request and the core: everything of the API but HTTP.
 *
 *   body --parse--> prompts --coord_submit--> tokens --answer, reply--> sink
 *
 * The same code answers behind HTTP (http_api.h) and in `baton solo`, so both say the same bytes.
 *
 * Owns:   the calls that are open, the metrics of the API.  Not the models, not the core.
 * Loop:   the core's; the core's hooks are called within the core's functions.
 * Bounds: those of the core (requests_max), of request_parse.h and of the sink; SERVICE_SCORES_MAX log-probabilities of
 *         prompt tokens, about 50 bytes each, in all open calls together, and a sixteenth of them in one.
 * Rules:  1 a call says exactly one of reply() and stream_end() to its sink, unless service_gone() came first; after
 *           that the sink hears nothing more;
 *         2 what a sink is given is valid during the call only; a sink never calls the service;
 *         3 the core may not be called from its own hooks: what must be cancelled there is cancelled by the next
 *           service_tick(). */
#ifndef COORDINATOR_SERVICE_H
#define COORDINATOR_SERVICE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "coordinator/api_metrics.h"
#include "coordinator/core.h"
#include "coordinator/quota.h"
#include "coordinator/request_parse.h"
#include "coordinator/served_model.h"

struct service;
struct service_call;

enum { SERVICE_SCORES_MAX = 4 << 20 };

struct service_options {
	struct served_model *models; /* [model_count]; outlive the service */
	uint32_t model_count;
	uint64_t request_timeout_ns; /* from acceptance to the last token; 0: none */
	void *context;
	uint64_t (*now_ns)(void *context); /* the clock that the core is given */
};

/* A whole answer, or the error instead of one: JSON. */
struct service_answer {
	int status;
	uint64_t retry_after_ns; /* 0: no hint */
	bool retry_is_vain;      /* clients repeat such a status by themselves, and should not */
	const char *body;
	size_t length;
};

/* Where an answer goes. */
struct service_sink {
	void *context;
	void (*reply)(void *context, const struct service_answer *answer);
	void (*stream_start)(void *context);
	/* False: the reader is too slow; the call is given up.  `echoed`: bytes of the stream so far, these included, that
	 * repeat prompts: they come faster than anyone reads and are bounded as prompts are, so they may wait. */
	bool (*stream_write)(void *context, const char *data, size_t length, size_t echoed);
	void (*stream_end)(void *context);
};

/* What its tenant may use. */
struct service_limits {
	struct quota_limits quota;
	struct fair_share share;
	uint32_t context_max; /* tokens of prompt and answer; 0: the model's */
};

/* A request as it came.  Texts may be NULL but for the body. */
struct service_post {
	enum api_kind kind;
	const char *body;
	size_t length;
	const char *request_id;      /* for logs; NULL: none */
	const char *idempotency_key; /* an absent seed is derived from it, so that a repeated request is answered alike */
	const char *tenant;
	const uint8_t *tenant_salt;  /* 32 bytes that only this tenant's requests have; NULL: none */
	const struct service_limits *limits; /* the tenant's; valid during the call.  NULL: none */
	uint64_t timeout_ns;         /* the client's own, where shorter than the service's; 0: none */
	bool trace;
};

MUST_USE enum err service_create(const struct service_options *options, struct service **ret_service);
/* Calls that are open are dropped: close the sinks before. */
void service_destroy(struct service *service);
/* Hooks of coord_options; then tell the service its core. */
struct coord_hooks service_hooks(struct service *service);
void service_attach(struct service *service, struct coord *coord);

/* NULL: the sink has its answer already. */
struct service_call *service_post(struct service *service, const struct service_post *post,
				  const struct service_sink *sink);
/* The client of an open call left; its sink hears nothing more, and the call is gone. */
void service_gone(struct service_call *call);
/* Together with coord_tick(). */
void service_tick(struct service *service);

/* What is left of a tenant's quota; false: it has none. */
struct service_rates {
	uint32_t requests, requests_left, tokens, tokens_left; /* of a minute; 0: no limit */
	uint64_t requests_full_in_ns, tokens_full_in_ns;
};
bool service_rates(const struct service *service, const char *tenant, struct service_rates *ret_rates);

/* JSON of GET /v1/models, and of one of them; appends.  ERR_NOT_FOUND. */
MUST_USE enum err service_models(const struct service *service, struct buf *out);
MUST_USE enum err service_model(const struct service *service, const char *name, struct buf *out);
/* Some model could be answered now. */
bool service_ready(const struct service *service);

struct service_counts {
	uint32_t calls_open;
	uint64_t calls, refused;      /* refused: bad requests and those that the core refused */
	uint64_t gone, slow_readers;  /* clients that left; that did not read */
};
void service_counts(const struct service *service, struct service_counts *ret_counts);
/* Appends the API's families. */
void service_metrics(struct service *service, struct metrics_text *text);
#endif
