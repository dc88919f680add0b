/* decode - the jobs whose answers this node writes.  Pure.
 *
 *   (free) --Reserve--> RESERVED --Start--> WAITING --blocks and session with prefill there: Attach--> RECEIVING
 *     --every layer of every block verified, and Prefilled--> RUNNING --every choice ended--> (free)
 *   RESERVED --Start of a local job--> LOCAL --handed over--> RUNNING
 *   any --Cancel, bad block, session of coordinator or (while RECEIVING) of prefill ends--> (free), after the step
 *
 * Completion is a bitmap of (layer, block), not a counter: announcements and attaches may repeat.  A bad block ends the
 * attempt: its landing may still be written to, so a new attempt takes new ones (law 2).
 *
 * Of a windowed layer group a job takes, and a sequence holds, what the next token sees (kvstore/prefix.h); what falls out
 * of the window is given back, and the store is offered what a sequence ends with.
 *
 * Rules: 1 a job ends with exactly one JobEnd, unless its coordinator's session is gone;
 *        2 a sequence that a plan in flight names is not touched: its end waits for the step;
 *        3 nothing is read from a block whose layers are not all verified.
 *
 * Memory: the caller's.  Loop: the node's.  Bounds: job_max jobs, choice_max sequences of context_max tokens. */
#ifndef DECODE_DECODE_H
#define DECODE_DECODE_H
#include "base/sampling.h"
#include "engine/constraint.h"
#include "engine/finish.h"
#include "engine/plan.h"
#include "engine/sched.h"
#include "kvstore/local.h"
#include "kvstore/offer.h"
#include "kvstore/reads.h"
#include "proto/job.h"

enum { DECODE_READ_MODULE = 2 };

#define DECODE_JOBS(X) X(FREE) X(RESERVED) X(WAITING) X(RECEIVING) X(LOCAL) X(RUNNING)
enum decode_state {
#define X(name) DECODE_##name,
	DECODE_JOBS(X)
#undef X
	DECODE_STATES
};

struct decode;

struct decode_options {
	uint32_t job_max;
	uint32_t choice_max;
	uint32_t context_max;
	uint32_t chunk_tokens;      /* of a local prefill */
	uint64_t read_deadline_ns;
	uint64_t wait_deadline_ns;  /* in WAITING: for room */
	uint64_t stall_ns;          /* without a byte while reads from prefill are out, or without a session with it */
	struct finish_rules finish;
	struct constraint_hooks constraints;
	struct kv_local *local;
	struct sched *sched;
	struct kv_offers *offers;
	void *context;
	void (*token)(void *context, uint32_t coordinator_peer, const Wire__Token *token);
	/* Sends what token() has queued: a job's end never overtakes its tokens. */
	void (*flush)(void *context);
	/* Copies the bytes of one block of this node to another, before anything reads it. */
	void (*copy_block)(void *context, uint32_t from, uint32_t to);
};

/* What a local prefill gives: see prefill/prefill.h, struct prefill_handover. */
struct decode_handover {
	struct job_key key;
	enum err error;
	const struct sequence_table *tables; /* [groups] */
	const struct sample *first;
	const enum finish *finish;
	const Wire__Accounting *accounting;
};

size_t decode_bytes(const struct decode_options *options);
struct decode *decode_init(void *memory, const struct decode_options *options);

/* Messages; peer is the sender's session. */
enum err decode_reserve(struct decode *decode, uint32_t peer, const Wire__Reserve *reserve, struct why *why);
void decode_start(struct decode *decode, uint32_t peer, const Wire__Start *start);
void decode_cancel(struct decode *decode, uint32_t peer, const Wire__Cancel *cancel);
void decode_announce(struct decode *decode, uint32_t peer, const Wire__Announce *announce);
void decode_prefilled(struct decode *decode, uint32_t peer, const Wire__Prefilled *prefilled);
void decode_transfer_end(struct decode *decode, uint32_t peer, const Wire__TransferEnd *end);
void decode_peer_down(struct decode *decode, uint32_t peer);

/* Events of this node. */
void decode_handover(struct decode *decode, const struct decode_handover *handover);
void decode_read_done(struct decode *decode, const struct kv_read_owner *owner, enum err verdict);
void decode_planned(struct decode *decode, const struct run *run);
void decode_step_done(struct decode *decode, const struct run *run, const struct sample *samples, enum err e);
void decode_tick(struct decode *decode);
bool decode_owns(const struct decode *decode, const struct sequence *sequence);

uint32_t decode_count(const struct decode *decode);
uint32_t decode_choice_count(const struct decode *decode); /* sequences running */
enum decode_state decode_state_at(const struct decode *decode, uint32_t job, struct job_key *ret_key);
const char *decode_state_name(enum decode_state state);
#endif
