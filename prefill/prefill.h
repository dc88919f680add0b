/* prefill - the jobs whose prompts this node reads.  Pure.
 *
 *   (free) --Reserve--> RESERVED --Start--> FETCHING --kv_fetch done--> BLOCKED --blocks taken--> COMPUTING
 *     --last chunk sampled--> HANDING --TransferEnd, or handed over locally--> (free)
 *   COMPUTING --no room for the next chunk's blocks, or an earlier job computes the very same--> BLOCKED
 *   any --Cancel, session of coordinator or decode node ends--> (free), after the plan in flight
 *
 * Before each plan a job goes over what lies in the pool behind its own blocks by then: published by another job, or brought
 * for it.  Two of one beginning compute it once, the earlier one.
 *
 * While it computes, each finished layer of a chunk is announced to the decode node, which reads it while the next
 * layer runs.  Blocks stay referenced until the decode node says TransferEnd or its session ends (law 3); those of a
 * windowed layer group only as long as a token still to be computed sees them, and then those that a token after the
 * context will (kvstore/prefix.h), which is what decode is told of.
 *
 * Rules: 1 a job ends with exactly one JobEnd, unless its coordinator's session is gone;
 *        2 a sequence that a plan in flight names is not touched: the end waits for the step;
 *        3 a block is announced only with the digest of bytes that will not change any more.
 *
 * Memory: the caller's.  Loop: the node's.  Bounds: job_max jobs of context_max tokens. */
#ifndef PREFILL_PREFILL_H
#define PREFILL_PREFILL_H
#include "base/sampling.h"
#include "engine/constraint.h"
#include "engine/finish.h"
#include "engine/plan.h"
#include "engine/sched.h"
#include "kvstore/fetch.h"
#include "kvstore/local.h"
#include "kvstore/offer.h"
#include "proto/job.h"

#define PREFILL_JOBS(X) X(FREE) X(RESERVED) X(FETCHING) X(BLOCKED) X(COMPUTING) X(HANDING)
enum prefill_state {
#define X(name) PREFILL_##name,
	PREFILL_JOBS(X)
#undef X
	PREFILL_STATES
};

struct prefill;

/* A job that this node goes on with by itself (HALF_BOTH). */
struct prefill_handover {
	struct job_key key;
	enum err error;         /* not OK: the prompt was not read, nothing below is set */
	const struct sequence_table *tables; /* [groups]: of the blocks held one reference each, given to the receiver */
	const struct sample *first; /* one for each choice */
	const enum finish *finish;
	const Wire__Accounting *accounting;
};

struct prefill_options {
	uint32_t job_max;
	uint32_t context_max;
	uint32_t chunk_tokens;      /* the scheduler's */
	uint64_t fetch_deadline_ns; /* to wait for cached blocks at most: less where computing them is known to be faster, */
	uint64_t fetch_floor_ns;    /* but not less than this */
	uint32_t fetch_min_tokens; /* fewer missing tokens than that are computed at once */
	struct finish_rules finish;
	struct constraint_hooks constraints;
	struct kv_local *local;
	struct sched *sched;
	struct kv_fetches *fetches; /* set before the first event */
	struct kv_offers *offers;
	void *context;
	/* A first token, for the coordinator. */
	void (*token)(void *context, uint32_t coordinator_peer, const Wire__Token *token);
	/* Sends the tokens given so far: the client's first token does not wait behind the hand-over. */
	void (*flush)(void *context);
	void (*handover)(void *context, const struct prefill_handover *handover);
};

size_t prefill_bytes(const struct prefill_options *options);
struct prefill *prefill_init(void *memory, const struct prefill_options *options);
void prefill_set_fetches(struct prefill *prefill, struct kv_fetches *fetches);

/* Messages; peer is the sender's session. */
enum err prefill_reserve(struct prefill *prefill, uint32_t peer, const Wire__Reserve *reserve, struct why *why);
void prefill_start(struct prefill *prefill, uint32_t peer, const Wire__Start *start);
void prefill_cancel(struct prefill *prefill, uint32_t peer, const Wire__Cancel *cancel);
void prefill_attach(struct prefill *prefill, uint32_t peer, const Wire__Attach *attach);
void prefill_transfer_end(struct prefill *prefill, uint32_t peer, const Wire__TransferEnd *end);
void prefill_peer_down(struct prefill *prefill, uint32_t peer);

/* Events of this node. */
void prefill_fetched(struct prefill *prefill, uint32_t cookie, const struct kv_fetch_counts *counts);
/* Before each plan, with none in flight: what lies in the pool by now is not computed, and who may compute is in the schedule. */
void prefill_prepare(struct prefill *prefill);
void prefill_planned(struct prefill *prefill, const struct run *run);
void prefill_layer_done(struct prefill *prefill, const struct run *run, uint32_t layer);
void prefill_step_done(struct prefill *prefill, const struct run *run, const struct sample *samples, enum err e);
/* Is this sequence one of ours? */
bool prefill_owns(const struct prefill *prefill, const struct sequence *sequence);

uint32_t prefill_count(const struct prefill *prefill);
uint64_t prefill_tokens_waiting(const struct prefill *prefill); /* of jobs not computing yet */
enum prefill_state prefill_state_at(const struct prefill *prefill, uint32_t job, struct job_key *ret_key);
const char *prefill_state_name(enum prefill_state state);
#endif
