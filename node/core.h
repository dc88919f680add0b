/* core - an engine node as one pure step function: sessions, block pool, scheduler, and the two roles.  Pure.
 *
 * Events go in through the functions below, each with the time; actions come out through `env` and the hooks of the
 * options (net/env.h: they never call back).  The real node (node/main.c) and the simulated one are two shells around
 * this object code.
 *
 * Memory: the caller's, node_bytes() of it.  Loop: the node's. */
#ifndef NODE_CORE_H
#define NODE_CORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/id128.h"
#include "base/layer_groups.h"
#include "base/sampling.h"
#include "engine/constraint.h"
#include "engine/kv_pool.h"
#include "engine/plan.h"
#include "kvstore/local.h"
#include "net/env.h"
#include "net/session.h"

struct node;

/* Layers with the same kind of attention, and the blocks of their KV: one region, of the group's number. */
struct node_group {
	uint32_t layer_count;
	uint32_t layer_bytes;
	uint32_t window;       /* tokens that a token sees, its own among them; 0: all */
	uint32_t block_count;
	uint32_t offer_max;    /* blocks pinned for write-behind; also bounds the budget of jobs */
	uint32_t hold_max;     /* blocks pinned for peers */
	uint64_t *generations; /* [block_count], where readers see it */
};

struct node_options {
	/* Who. */
	uint64_t node;
	uint64_t incarnation;
	Wire__Role role;
	const char *name;
	const char *cluster;
	struct id128 compat;
	const uint8_t *link_address;
	size_t link_address_length;
	/* The KV of this node (engine/engine.h, struct kv_geometry), of each layer group. */
	uint32_t block_tokens;
	uint32_t group_count;
	struct node_group groups[LAYER_GROUPS_MAX];
	const struct kv_layer *layers; /* [the sum of the groups' layer_count], the caller's; outlives the node */
	/* Bounds. */
	uint32_t peer_max;           /* sessions */
	uint32_t job_max;            /* of each role */
	uint32_t seq_max;            /* sequences in the schedule */
	uint32_t context_max;        /* tokens of a sequence */
	uint32_t batch_tokens_max;
	uint32_t chunk_tokens;
	uint32_t read_max;           /* layer reads under way */
	/* Times; 0: the default. */
	uint64_t fetch_deadline_ns;
	uint64_t read_deadline_ns;
	uint64_t wait_deadline_ns;
	uint32_t fetch_min_tokens;
	uint32_t time_factor;        /* of sessions */
	/* The model's. */
	const uint32_t *eos_ids;
	uint32_t eos_count;
	uint32_t vocab_size;         /* tokens of a request are below it; 0: not checked */

	struct constraint_hooks constraints; /* NULL: requests for a structure are refused */
	const struct env *env;
	void *context;
	/* Runs a step; node_layer_done() and node_step_done() follow.  The plan stays as it is until then. */
	void (*submit)(void *context, const struct plan *plan);
	/* Digest of one layer of a block, after the step computed it (engine_block_digest). */
	uint64_t (*block_digest)(void *context, uint32_t block, uint32_t layer); /* layer: of the block's group */
	/* Copies one block's bytes, at once. */
	void (*copy_block)(void *context, uint32_t from, uint32_t to);
};

/* What the shell shows in metrics and status. */
struct node_status {
	uint32_t prefill_jobs, decode_jobs, sequences;
	uint32_t blocks_used, blocks_cached, blocks_free, blocks_total, blocks_reserved; /* of all groups */
	uint32_t group_count;
	struct node_group_status {
		uint32_t used, cached, free, total, reserved, reservable;
	} groups[LAYER_GROUPS_MAX];
	uint32_t sessions, reads, holds, fetches;
	uint32_t offer_lag;
	uint64_t offers_dropped;
	uint64_t tokens_waiting;
	uint64_t steps, prompt_tokens, generation_tokens;
	float prefill_tokens_per_s, step_seconds;
	bool draining;
	uint64_t epoch, directives_refused; /* net/fence.h */
};

size_t node_bytes(const struct node_options *options);
struct node *node_init(void *memory, const struct node_options *options);

/* Membership.  An engine wants sessions with every store, and with engines of its kind that have a larger id. */
void node_member(struct node *node, uint64_t id, uint64_t incarnation, Wire__Role role, const struct id128 *compat,
		 uint64_t now_ns);
void node_member_gone(struct node *node, uint64_t id, uint64_t now_ns);

/* Connections and messages. */
void node_opened(struct node *node, uint32_t conn, uint64_t dialed, uint64_t now_ns);
void node_dial_failed(struct node *node, uint64_t dialed, uint64_t now_ns);
void node_closed(struct node *node, uint32_t conn, uint64_t now_ns);
void node_message(struct node *node, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns);

/* This node goes on under a higher incarnation: every session ends, and all that was held for it. */
void node_renew(struct node *node, uint64_t incarnation, const uint8_t *link_address, size_t link_address_length,
		uint64_t now_ns);

/* The two answers to env->read. */
void node_read_outcome(struct node *node, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns);
void node_landing_free(struct node *node, uint64_t op, uint64_t now_ns);

/* The step in flight. */
void node_layer_done(struct node *node, uint32_t layer, uint64_t now_ns);
void node_step_done(struct node *node, const struct sample *samples, enum err e, uint64_t now_ns);

/* Call every 20 ms or so. */
void node_tick(struct node *node, uint64_t now_ns);

/* No new work, for ever: the process leaves.  (A leader's directive drains too, and undrains.)  What is held is served on.
 * node_idle(): nothing is left that anybody waits for. */
void node_drain(struct node *node);
bool node_idle(const struct node *node);

void node_status(const struct node *node, struct node_status *ret_status);
struct sessions *node_sessions(struct node *node);
/* Asserts the invariants of pool and jobs; for tests and simulation. */
void node_check(const struct node *node);
/* The state of a job here, as text: "RECEIVING"; for the simulation's table of hits.  NULL: no such job. */
const char *node_job_state(const struct node *node, uint64_t coordinator, uint64_t number, uint32_t attempt,
			   Wire__Half half);
#endif
