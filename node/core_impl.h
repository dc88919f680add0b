/* What core.c (events), report.c (to the coordinators) and step.c (the engine) share. */
#ifndef NODE_CORE_IMPL_H
#define NODE_CORE_IMPL_H
#include "decode/decode.h"
#include "engine/kv_pool.h"
#include "engine/sched.h"
#include "kvstore/fetch.h"
#include "kvstore/hold.h"
#include "kvstore/local.h"
#include "kvstore/offer.h"
#include "kvstore/reads.h"
#include "net/fence.h"
#include "node/core.h"
#include "prefill/prefill.h"

enum { NODE_TOKENS_MAX = PLAN_SAMPLES_MAX, NODE_EVENTS_MAX = 256 };

/* A token on its way to a coordinator, whole: what it points to lies beside it. */
struct node_token {
	uint32_t peer;
	Wire__Token token;
	Wire__JobId job;
	uint32_t top_tokens[SAMPLING_TOP_LOGPROBS_MAX];
	float top_logprobs[SAMPLING_TOP_LOGPROBS_MAX];
};

/* What a coordinator was told of our index. */
struct node_listener {
	bool snapshot_due;
	uint64_t sequence;
};

struct node {
	struct node_options options;
	struct kv_local local;
	struct sched *sched;
	struct kv_hold *hold;
	struct kv_fetches *fetches;
	struct kv_offers *offers;
	struct prefill *prefill;
	struct decode *decode;
	bool draining;
	bool leaving; /* the process ends: no directive undrains it */
	struct fence fence;

	/* step.c */
	bool in_flight;
	struct plan plan;
	uint64_t submitted_ns;
	uint64_t steps, prompt_tokens, generation_tokens;
	float prefill_tokens_per_s, step_seconds;

	/* report.c */
	uint64_t load_next_ns;
	uint32_t token_count;
	struct node_token *tokens;         /* [NODE_TOKENS_MAX] */
	Wire__Token **token_pointers;      /* [NODE_TOKENS_MAX] */
	struct node_listener *listeners;   /* [peer_max] */
	struct kv_pool_event *events;      /* [NODE_EVENTS_MAX] */
	uint8_t *added, *removed;          /* [NODE_EVENTS_MAX * 16] */
};

/* report.c */
void node_queue_token(void *node, uint32_t peer, const Wire__Token *token);
void node_flush_tokens(struct node *node);
void node_report_tick(struct node *node);
void node_listener_up(struct node *node, uint32_t peer);
void node_listener_resync(struct node *node, uint32_t peer);

/* step.c */
void node_pump(struct node *node);
#endif
