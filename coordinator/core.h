/* core - the coordinator as a pure state machine: events in with the time, actions out through hooks.
 *
 * It knows the members and their sessions, which node holds which blocks, what every node has to do, and every
 * request from its acceptance to its end.  It decides who does what, forwards each token exactly once and in order,
 * and moves what a dead node leaves behind to another (DESIGN 4, 6, 9).  No socket, clock, thread, file or malloc.
 *
 *   shell:  HTTP, tokeniser, etcd watch, streams, clock         simulation: the same, scripted
 *     | coord_submit / _cancel / _choice_done / _member / _conn… / _message / _tick      ^ on_token, on_end
 *     v                                                                                  | env: send, close, dial
 *   core -> sessions (net/session.h), registry, index, route, jobs
 *
 * Owns:   nothing but the memory given to coord_init(); what it is told is copied.
 * Loop:   one; every function is called on it.
 * Bounds: every field ..._max of coord_options.
 * Rules:  1 hooks are called from within the functions below and never call back into the core: a shell that wants
 *           to do so posts it to its loop.  (To end a choice from on_token, return COORD_ENOUGH.)
 *         2 an accepted request ends with exactly one on_end; nothing is said of it after that.
 *         3 time is the shell's monotonic clock; it never goes back. */
#ifndef COORDINATOR_CORE_H
#define COORDINATOR_CORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "base/layer_groups.h"
#include "base/sampling.h"
#include "base/why.h"
#include "coordinator/fair.h"
#include "coordinator/route.h"
#include "net/env.h"
#include "net/identity.h"
#include "net/session.h"

enum {
	COORD_NAME_MAX = 63,        /* bytes of a node's name */
	COORD_TEXT_MAX = 127,       /* bytes of a model, tenant or request id */
	COORD_SALT_MAX = 64,
	COORD_MODELS_MAX = 4,       /* served names of one node */
	COORD_TRANSPORTS_MAX = 16,  /* remembered of one node */
	COORD_REQUIRED_MAX = 63,    /* bytes of what alone may carry a node's reads */
	COORD_ATTEMPTS_LISTED = 16, /* of one request, in its outcome; the sums count all */
};

/* ---- members: what a node announces (etcd) */

struct coord_member {
	uint64_t node; /* not 0 */
	uint64_t incarnation;
	Wire__Role role; /* PREFILL, DECODE, BOTH or KVSTORE */
	char name[COORD_NAME_MAX + 1]; /* "prefill 1" */
	uint32_t pid;
	struct id128 compat; /* zero for stores */
	uint32_t model_count;
	char models[COORD_MODELS_MAX][COORD_TEXT_MAX + 1];
	uint32_t block_tokens;
	uint32_t group_count; /* layer groups of the model; 0: one */
	uint32_t windows[LAYER_GROUPS_MAX]; /* tokens that a token sees in each; 0: all */
	uint32_t context_max; /* tokens of prompt and answer */
	uint32_t tensor_parallel_size; /* devices that compute as one, for those who look; 0: unknown */
	char device[64];
	float prefill_tokens_per_s; /* of the profile: the prior until a Load says what was measured; 0: unknown */
	float step_seconds;
};

/* ---- requests */

enum coord_class { COORD_PRIORITY, COORD_DEFAULT, COORD_FLEX, COORD_CLASSES };

/* What the API shell has made of an HTTP request.  Copied by coord_submit(). */
struct coord_request {
	void *user;            /* given back with every hook */
	const char *id;        /* the client's request id, for logs */
	const char *model;     /* a served name */
	const char *tenant;    /* "" when there are none */
	const uint8_t *salt;   /* part of every KV key: tenants never share KV */
	uint32_t salt_length;
	const uint32_t *tokens; /* the prompt */
	uint32_t prompt_count;  /* >= 1 */
	uint32_t choice_count;  /* n: 1 .. choices_max */
	const char *structure;  /* what the answer must look like (model/structure.h), "" or NULL: anything.  Not copied: it stays
				 * as it is until on_end */
	struct sampling sampling; /* seed always set; prompt_count + max_tokens <= the model's context_max */
	enum coord_class class;
	struct fair_share share; /* of the tenant, as it is now */
	uint64_t deadline_ns; /* absolute, of the shell's clock; 0: none */
};

enum coord_more { COORD_MORE, COORD_ENOUGH };

/* The next token of a choice.  Positions of a choice are prompt_count, prompt_count + 1, ... without a gap. */
struct coord_token {
	uint64_t request;
	void *user;
	uint32_t choice;
	uint32_t position;
	const struct sample *sample;
	Wire__Finish finish;  /* not NONE: the last token of this choice */
	uint32_t stop_token;  /* of sampling.stop_ids, +1; 0: an eos token or none */
};

/* What the model said of the prompt's own tokens (sampling.prompt_logprobs): of the next `count`, the first at
 * `position`.  Every token but the first comes exactly once, in order, all before the first token of any choice. */
struct coord_scores {
	uint64_t request;
	void *user;
	uint32_t position;
	uint32_t count;
	const struct sample *scores; /* [count] */
};

/* What happened to a context on the nodes, over all halves of one kind. */
struct coord_accounting {
	uint64_t context, computed, reused, fetched, transferred; /* tokens */
	uint64_t blocks_read, bytes_read;
	uint64_t miss_not_found, miss_deadline, miss_digest, miss_generation, miss_gone; /* blocks */
	uint64_t queue_ns, fetch_ns, compute_ns, transfer_ns;
	char transport[24]; /* of the last read */
};

/* One started attempt on one pair (or one node: both_halves). */
struct coord_attempt {
	uint64_t job;
	uint32_t attempt;
	uint32_t choices;      /* bit mask */
	uint32_t context;      /* tokens; more than the prompt after a recovery */
	bool both_halves;      /* one node did both: `prefill` tells it all */
	char prefill_name[COORD_NAME_MAX + 1];
	char decode_name[COORD_NAME_MAX + 1];
	bool prefill_ended, decode_ended; /* their JobEnd came: the numbers below are theirs */
	struct coord_accounting prefill, decode;
	enum err failed;       /* why it was given up; OK: it was not */
	bool failed_at_decode; /* which half */
	uint64_t started_ns, first_token_ns, decode_token_ns, ended_ns; /* absolute; 0: did not happen */
};

/* Nanoseconds as seen here; 0: did not happen.  Of the first attempt unless said otherwise. */
struct coord_timings {
	uint64_t queue_ns;       /* accepted -> the pair that was started was asked */
	uint64_t reserve_ns;     /* asked -> both halves reserved */
	uint64_t prefill_ns;     /* started -> first token */
	uint64_t transfer_ns;    /* first token -> first token of decode: hand-over and one step */
	uint64_t first_token_ns; /* accepted -> first token */
	uint64_t total_ns;       /* accepted -> end, over all attempts */
};

struct coord_outcome {
	uint64_t request;
	void *user;
	enum err error;          /* OK; UNAVAILABLE, DEADLINE, AGAIN (it waited, and others came first), CANCELED (by coord_cancel), INVALID, ... */
	struct why why;
	uint64_t retry_after_ns; /* hint with UNAVAILABLE */
	uint32_t choice_count;
	Wire__Finish finish[SAMPLING_CHOICES_MAX]; /* STOP also where the shell said enough; NONE: unfinished */
	uint32_t generated[SAMPLING_CHOICES_MAX];  /* tokens forwarded */
	/* usage.prompt_tokens_details.cached_tokens: what prefill of the first attempt did not compute. */
	uint32_t cached_tokens;
	struct coord_accounting prefill, decode; /* sums over all attempts; a both-halves node counts as prefill */
	uint32_t attempts;   /* started */
	uint32_t recoveries; /* of them, after a failure */
	uint32_t attempts_listed;
	struct coord_attempt attempt[COORD_ATTEMPTS_LISTED];
	struct coord_timings timings;
};

struct coord_hooks {
	void *context;
	/* ENOUGH: the shell ends this choice (a stop string): no more of it comes. */
	enum coord_more (*on_token)(void *context, const struct coord_token *token);
	/* NULL: no request asks for them. */
	void (*on_scores)(void *context, const struct coord_scores *scores);
	/* The request is over.  The outcome is valid during the call. */
	void (*on_end)(void *context, const struct coord_outcome *outcome);
	/* A decision was made, with the numbers it rests on; for logs and traces.  NULL: not wanted. */
	void (*on_route)(void *context, uint64_t request, void *user, const struct route_record *record);
};

/* ---- the core */

struct coord_options {
	uint64_t node; /* this coordinator */
	uint64_t incarnation;
	const char *name;
	const char *cluster;
	uint32_t nodes_max;    /* members and sessions; 0: 64 */
	uint32_t requests_max; /* accepted and not ended; 0: 1024 */
	uint32_t choices_max;  /* of a request, <= SAMPLING_CHOICES_MAX; 0: that */
	uint32_t queue_max;    /* requests waiting for their first pair; 0: 256 */
	uint32_t tenants_max;  /* told apart at once (fair.h); 0: 128 */
	uint32_t context_max;  /* tokens of prompt and answer; 0: 32768 */
	uint64_t tokens_max;   /* of all requests together, prompt + choices * max_tokens each; 0: 16 Mi */
	uint32_t blocks_max;   /* of the index; 0: 1 Mi */
	uint32_t held_max;     /* tokens that came before the one they follow; 0: 1024 */
	uint32_t attempts_max; /* started, of one choice; 0: 16 */
	uint32_t time_factor;  /* multiplies every time below and those of the sessions; 0: 1 */
	uint64_t reserve_ns;   /* silence after Reserve; 0: 2 s */
	uint64_t prefill_ns;   /* silence from Start to the first token, plus prefill_token_ns a token; 0: 60 s */
	uint64_t prefill_token_ns; /* 0: 2 ms */
	uint64_t decode_ns;    /* silence between tokens; 0: 20 s */
	uint64_t queue_ns;     /* longest wait for a first pair; 0: 30 s */
	uint64_t wait_max_ns;  /* longest wait to be expected of a request that is accepted; 0: 10 s */
	uint64_t spare_ns;     /* longest wait for another pair after a failure; 0: 10 s */
	uint64_t opening_ns;   /* from its first moment: who asks before the nodes were heard of waits for them; 0: nobody does */
	uint64_t move_ns;      /* a draining node's jobs get that long to end before they move; 0: 1 s */
	uint64_t end_ns;       /* longest wait for the last JobEnd after the last token; 0: 1 s */
	struct route_weights weights; /* zero: route_weights_default() */
	/* An epoch above `beaten` is wanted for this candidacy: coord_lead_claimed() answers, later.  NULL: it never leads. */
	void *lead_context;
	void (*claim_epoch)(void *context, int64_t candidacy, uint64_t beaten);
	/* Outlives the core.  send, close, dial; link_open and link_close are called with sessions (they may do nothing:
	 * a coordinator reads nobody's memory); trace may be NULL; read and read_cancel are never called. */
	const struct env *env;
	struct coord_hooks hooks;
};

struct coord;

size_t coord_bytes(const struct coord_options *options);
struct coord *coord_init(void *memory, const struct coord_options *options);

/* ---- events of the world */

/* A member's key was put (also again, with other content), or vanished.  ERR_AGAIN: over nodes_max, ignored;
 * ERR_INVALID: no node id, no role, or an engine without block_tokens.  Other coordinators are none of its business. */
enum err coord_member_set(struct coord *coord, const struct coord_member *member, uint64_t now_ns);
void coord_member_remove(struct coord *coord, uint64_t node, uint64_t now_ns);
/* After a watch that had to start anew: only these nodes are members. */
void coord_members_only(struct coord *coord, const uint64_t *nodes, uint32_t count, uint64_t now_ns);

/* Connections: as of net/session.h.  The envelope is valid during the call; it was checked by proto/codec. */
void coord_opened(struct coord *coord, uint32_t conn, uint64_t node, uint64_t now_ns);
void coord_dial_failed(struct coord *coord, uint64_t node, uint64_t now_ns);
void coord_closed(struct coord *coord, uint32_t conn, uint64_t now_ns);
void coord_message(struct coord *coord, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns);
/* This coordinator goes on under a higher incarnation: every session ends and begins anew; its requests go on. */
void coord_renew(struct coord *coord, uint64_t incarnation, uint64_t now_ns);
/* Every 50 ms. */
void coord_tick(struct coord *coord, uint64_t now_ns);

/* ---- requests */

/* Accepts: on_token and on_end follow, maybe before this returns.  Refuses at once, and no hook is called:
 *   NOT_FOUND    no member serves the model
 *   UNAVAILABLE  a role has no living node, or all is full and the queue is full or slow: *ret_retry_after_ns is a hint
 *   AGAIN        its tenant waits with as much as it may: likewise
 *   TOO_LARGE    prompt + max_tokens is over context_max
 *   INVALID      no token, no choice, too many choices, a text too long
 *   DRAINING     after coord_drain() */
MUST_USE enum err coord_submit(struct coord *coord, const struct coord_request *request, uint64_t now_ns,
			       struct why *why, uint64_t *ret_request, uint64_t *ret_retry_after_ns);
/* The client is gone: everything of the request is cancelled; on_end with CANCELED follows, maybe before this
 * returns.  A request that is not known (any more) is ignored. */
void coord_cancel(struct coord *coord, uint64_t request, uint64_t now_ns);
/* The shell has enough of one choice (a stop string): as COORD_ENOUGH, but later. */
void coord_choice_done(struct coord *coord, uint64_t request, uint32_t choice, uint64_t now_ns);
/* Accepts nothing more; what is accepted goes on.  Done when coord_requests() is 0. */
void coord_drain(struct coord *coord);
uint32_t coord_requests(const struct coord *coord);

/* Takes work again. */
void coord_undrain(struct coord *coord);

/* ---- leading: the shell runs the election, and tells (coordinator/lead.h) */

void coord_lead_elected(struct coord *coord, int64_t candidacy, uint64_t until_ns, uint64_t now_ns);
void coord_lead_renewed(struct coord *coord, int64_t candidacy, uint64_t until_ns, uint64_t now_ns);
void coord_lead_deposed(struct coord *coord, uint64_t now_ns);
void coord_lead_claimed(struct coord *coord, int64_t candidacy, uint64_t epoch, uint64_t now_ns);

/* What only the leader may do: it directs a node, and says it again until the node's reports show it (also after a broken
 * connection; a node that was started anew begins undrained).  The epoch that it went out with is in coord_lead().
 *   NOT_FOUND    no node of that name
 *   STALE        this coordinator does not lead
 *   UNAVAILABLE  no session with the node now */
enum coord_wish { COORD_WISH_NONE, COORD_WISH_DRAIN, COORD_WISH_UNDRAIN };
MUST_USE enum err coord_direct(struct coord *coord, const char *name, enum coord_wish wish, uint64_t now_ns,
			       struct why *why);

struct coord_lead {
	const char *state; /* "leading" */
	uint64_t epoch;    /* 0: it does not lead */
	uint64_t terms, steps_down;
	uint64_t directives_sent, directives_refused;
};
void coord_lead(const struct coord *coord, uint64_t now_ns, struct coord_lead *ret_lead);

/* ---- what it knows: for /v1/models, /readyz, /metrics, `baton status` */

struct coord_model {
	char name[COORD_TEXT_MAX + 1];
	struct id128 compat;
	uint32_t block_tokens;
	uint32_t context_max;
	uint32_t prefill_nodes, decode_nodes; /* living; a node of both roles counts in each */
	bool ready;                           /* a pair that can do a request together */
	struct why lacks;                     /* while it is not ready */
};

/* Distinct served names; returns how many were written.  A name of several compats gives its first ready one. */
uint32_t coord_models(const struct coord *coord, struct coord_model *out, uint32_t max);

enum coord_node_state { COORD_NODE_DOWN, COORD_NODE_UP, COORD_NODE_SUSPECT, COORD_NODE_DRAINING };
const char *coord_node_state_text(enum coord_node_state state); /* "up" */

struct coord_transport {
	char peer[COORD_NAME_MAX + 1];
	char name[24];
	uint64_t bytes_read, device_bytes_read;
};

/* Blocks of one layer group of a node. */
struct coord_blocks {
	uint32_t window; /* as announced; 0: all tokens are seen */
	uint32_t used, cached, reserved, total;
	uint32_t reservable; /* a node refuses what would be more; 0: not said */
};

/* Copies that a store makes for others, as it reports: gauges, then counts since its start (proto: ReplicaLoad). */
struct coord_replica {
	uint64_t missing, lag_blocks, lag_bytes, in_flight, spare;
	uint64_t copies, copied_bytes, moved_bytes, given_up;
};

/* The disk of a store, as reported. */
struct coord_disk {
	bool present, ready;
	uint32_t stopped; /* enum err */
	uint64_t blocks, bytes_used, bytes_total;
	uint64_t lag, lag_bytes;
	uint64_t loads, loads_failed;
	uint64_t bytes_written, bytes_written_plain, bytes_moved, bytes_read;
	uint64_t bytes_stored, bytes_plain;
	uint64_t gone_room, gone_bad, unwritten, errors;
};

struct coord_node {
	uint64_t id, incarnation;
	char name[COORD_NAME_MAX + 1];
	Wire__Role role; /* as last reported: a flip shows */
	uint32_t pid;
	enum coord_node_state state;
	bool member; /* its key is there */
	uint32_t model_count;
	char models[COORD_MODELS_MAX][COORD_TEXT_MAX + 1];
	uint32_t tensor_parallel_size;
	char device[64];
	uint32_t jobs, jobs_max, sequences, sessions;
	uint64_t tokens_waiting;
	uint32_t kv_blocks_used, kv_blocks_cached, kv_blocks_reserved, kv_blocks_total; /* of all layer groups */
	uint32_t group_count; /* reported */
	struct coord_blocks groups[LAYER_GROUPS_MAX];
	uint32_t blocks_indexed; /* that the index knows of it */
	uint64_t steps, offer_lag;
	struct coord_replica replica; /* of a store */
	uint64_t epoch, directives_refused; /* net/fence.h */
	float prefill_tokens_per_s, step_seconds;
	uint64_t load_age_ns; /* UINT64_MAX: none came */
	uint32_t transport_count;
	struct coord_transport transports[COORD_TRANSPORTS_MAX];
	uint64_t refused[REFUSAL_COUNT]; /* connections it did not let in, by reason */
	struct coord_disk disk;
};

/* In order of id; returns how many were written. */
uint32_t coord_nodes(const struct coord *coord, uint64_t now_ns, struct coord_node *out, uint32_t max);

/* The name of a route record's node; "" when it is unknown. */
const char *coord_node_name(const struct coord *coord, uint32_t node);

struct coord_counters {
	/* gauges */
	uint32_t requests, requests_queued, jobs_running, jobs_recovering, sessions, members;
	uint32_t index_blocks, index_blocks_max;
	uint64_t tokens_kept;
	/* counters */
	uint64_t accepted, refused_unavailable, refused_other;
	uint64_t shed; /* accepted, and sent away while they waited */
	uint64_t ended_ok, ended_canceled, ended_deadline, ended_unavailable, ended_other;
	uint64_t prompt_tokens, tokens_forwarded, cached_tokens;
	uint64_t attempts;          /* started */
	uint64_t reserve_refusals, reserve_timeouts;
	uint64_t recoveries_session, recoveries_job_end, recoveries_silence, recoveries_protocol;
	uint64_t moved_draining;    /* attempts that left a node because it drains: no failures */
	uint64_t choices_recovered;
	uint64_t tokens_dropped;    /* duplicates and those of older attempts */
	uint64_t tokens_held;       /* came before the one they follow */
	uint64_t messages_stray;    /* of a job or attempt that is over */
	uint64_t index_added, index_removed, index_ignored, index_gaps, index_drops;
	uint64_t route_decisions, route_both;
};

/* What a store last said of itself, or NULL (coordinator/store_loads.h). */
struct store_load;
const struct store_load *coord_store_load(const struct coord *coord, uint64_t node);

/* What a tenant has here now; zero for one that is not known. */
struct coord_tenant_load {
	uint32_t waiting, running;
};
struct coord_tenant_load coord_tenant_load(const struct coord *coord, const char *tenant);
/* Work that waits would begin after so long; 0: none waits, or it was not measured yet. */
uint64_t coord_wait_ns(const struct coord *coord);

void coord_counters(const struct coord *coord, struct coord_counters *ret_counters);

/* One line a request or node, for /debug; cut at size - 1 bytes, 0-terminated. */
void coord_dump(const struct coord *coord, uint64_t now_ns, char *text, size_t size);
/* Asserts every invariant; for tests and simulation. */
void coord_check(const struct coord *coord);
#endif
