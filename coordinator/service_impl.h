/* service_impl - a call and its parts, between the files of the service.
 *
 * A call is one HTTP request; a part is one prompt of it, which is one request to the core; an answer is one choice.
 * A call is freed when its sink is done with and the core has ended all its parts. */
#ifndef COORDINATOR_SERVICE_IMPL_H
#define COORDINATOR_SERVICE_IMPL_H
#include "coordinator/idempotency.h"
#include "coordinator/prompt.h"
#include "coordinator/reply.h"
#include "coordinator/service.h"

struct service_part {
	struct service_call *call;
	uint32_t first;   /* of its answers */
	uint64_t number;  /* the core's */
	bool open;        /* accepted and not ended */
	bool routed;      /* has its nodes */
};

struct service_call {
	struct service *service;
	struct service_call *prev, *next;
	struct service_sink sink;
	struct api_request request;
	struct prompts prompts;
	const struct served_model *model;
	struct api_metrics *metrics;
	struct reply reply;
	struct answer *answers;      /* [part_count * n] */
	uint64_t *token_ns;          /* of the last token of each answer */
	struct service_part *parts;  /* [part_count] */
	struct buf *prompt_logprobs; /* [part_count] */
	uint64_t score_entries;      /* counted in the service's */
	uint32_t part_count, parts_open;
	uint32_t busy;               /* on the stack: not to be freed */
	uint32_t ticket;             /* of its idempotency key */
	uint64_t deadline_ns;        /* 0: none */
	uint32_t account;            /* of its tenant's quota */
	uint64_t tokens_taken, tokens_used;
	bool charged;                /* tokens_taken is to be settled */
	bool streaming;              /* stream_start() was said */
	bool over;                   /* the sink is done with */
	struct buf out;              /* an event on its way */
	size_t echoed_bytes;         /* of the stream so far that repeat prompts */
	struct buf traces;
	char request_id[COORD_TEXT_MAX + 1];
};

struct service {
	struct service_options options;
	struct coord *coord;
	struct service_call *calls;
	struct api_metrics *metrics; /* [model_count] */
	struct idempotency *keys;
	struct quota *quota;
	uint64_t score_entries;      /* log-probabilities of prompts that open calls may come to hold */
	struct service_counts counts;
	bool doomed;                 /* some call is over and has open parts */
};

/* service_quota.c: AGAIN or TOO_LARGE, with the error to answer. */
MUST_USE enum err quota_admit_request(struct service *service, const struct service_post *post, struct api_error *error,
				      uint32_t *ret_account);
MUST_USE enum err quota_admit_tokens(struct service_call *call, const struct service_post *post, struct api_error *error);
void quota_note_end(struct service_call *call, const struct service_part *part, const struct coord_outcome *outcome);
void quota_note_refused(struct service_call *call); /* for want of room */
void quota_call_over(struct service_call *call);
void service_tenant_metrics(const struct service *service, struct metrics_text *text);

/* service_call.c */
/* By name; without one, the first.  ERR_NOT_FOUND, with the error to answer. */
MUST_USE enum err service_pick_model(const struct service *service, const char *name, const struct served_model **ret_model,
				     struct api_error *error);
/* Tokens of prompt and answer, as the nodes that serve it now can hold them. */
uint32_t service_context(const struct service *service, const struct served_model *model);
/* Parses, tokenises; NULL: *error says why not. */
struct service_call *call_create(struct service *service, const struct service_post *post,
				 const struct service_sink *sink, uint32_t account, struct api_error *error);
void call_free(struct service_call *call);
/* The sink is done with: nothing more is written, and its idempotency key is free for a retry. */
void call_over(struct service_call *call);
void call_free_when_done(struct service_call *call);
/* Ends the sink with an error; parts that are open are cancelled by the next tick. */
void call_fail(struct service_call *call, const struct api_error *error);
/* All parts ended well. */
void call_finish(struct service_call *call);
/* Log-probabilities of the prompt came. */
void call_scores(struct service_call *call, const struct service_part *part, const struct coord_scores *scores);
/* A token came: writes what it brings, where the call streams. */
void call_stream(struct service_call *call, uint32_t answer);
#endif
