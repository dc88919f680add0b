/* A job, and what the files of this room do with it. */
#ifndef PREFILL_JOB_H
#define PREFILL_JOB_H
#include "base/layer_groups.h"
#include "prefill/prefill.h"

enum { PREFILL_HOLDERS_MAX = 8 };

struct prefill_job {
	enum prefill_state state;
	uint32_t serial;
	struct job_key key;
	uint32_t coordinator;     /* session */
	uint64_t partner;         /* decode node; 0 when local */
	struct kv_tenant tenant;
	bool local;
	bool planned;             /* a plan in flight names its sequence (rule 2) */
	enum err end_error;       /* with `ending`: why it ends when the step is over */
	bool ending;

	uint32_t decode_peer;     /* PEER_NONE until Attach */
	uint32_t blocks_have[LAYER_GROUPS_MAX]; /* leading blocks that decode has or will not need */
	uint32_t blocks_complete; /* leading blocks of which every layer is final */
	uint32_t chunk_first;     /* blocks of the chunk in flight, and its layers done so far */
	uint32_t chunk_count;
	uint32_t chunk_layers;

	struct sampling sampling;
	struct constraint *constraint; /* NULL: none */
	struct sequence sequence;
	uint32_t *tokens;         /* [context_max] */
	uint32_t *blocks[LAYER_GROUPS_MAX];   /* [block_max]; sequence.tables say which are held */
	struct id128 *keys[LAYER_GROUPS_MAX]; /* [block_max] of the full blocks */
	uint32_t full_count;      /* full blocks of the context */
	uint32_t block_need;      /* of the context */
	uint32_t promised[LAYER_GROUPS_MAX]; /* counted in local->groups[].reserved */
	Wire__Holder holders[PREFILL_HOLDERS_MAX];
	const Wire__Holder *holder_pointers[PREFILL_HOLDERS_MAX];
	size_t holder_count;

	struct sample first[SAMPLING_CHOICES_MAX];
	enum finish first_finish[SAMPLING_CHOICES_MAX];
	uint32_t first_stop[SAMPLING_CHOICES_MAX];

	uint32_t reused, fetched; /* tokens */
	struct kv_fetch_counts counts;
	uint64_t reserved_ns, started_ns, computing_ns, done_ns;
};

struct prefill {
	struct prefill_options options;
	struct kv_local *local;
	uint32_t block_max;
	uint32_t count;
	uint64_t arrival_next;
	uint64_t token_ns;      /* what computing one took lately; 0: not known yet */
	struct prefill_job *jobs;
	/* The announcement being built. */
	bool *present[LAYER_GROUPS_MAX]; /* [block_max] */
	Wire__Place *places;
	Wire__Place **place_pointers;
	uint64_t *digests;
	/* The tokens being sent. */
	Wire__Token token_values[SAMPLING_CHOICES_MAX];
	Wire__Token *token_pointers[SAMPLING_CHOICES_MAX];
	Wire__JobId token_job;
	uint32_t top_tokens[SAMPLING_CHOICES_MAX][SAMPLING_TOP_LOGPROBS_MAX];
	float top_logprobs[SAMPLING_CHOICES_MAX][SAMPLING_TOP_LOGPROBS_MAX];
};

/* prefill.c */
/* The job of this id; NULL: none. */
struct prefill_job *prefill_find(struct prefill *prefill, const Wire__JobId *id);
/* By the drawing in prefill.h. */
void prefill_move(struct prefill_job *job, enum prefill_state to);

/* blocks.c */
/* Leading blocks that need not be computed. */
uint32_t prefill_blocks_reusable(const struct prefill *prefill, const struct prefill_job *job);
/* Blocks after which it can go on with what lies in the pool, of which it has the first `from` (computed or referred to). */
uint32_t prefill_blocks_usable(struct prefill *prefill, const struct prefill_job *job, uint32_t from);
/* Refers to what is needed of blocks [from, n), n usable, and to nothing behind: what it took there it gives back. */
void prefill_blocks_refer(struct prefill *prefill, struct prefill_job *job, uint32_t from, uint32_t n);
/* The same of what is usable while the rest is fetched: its number. */
uint32_t prefill_blocks_refer_early(struct prefill *prefill, struct prefill_job *job);
/* Those that the next chunk writes to.  false: there is no room; what was taken is kept. */
bool prefill_blocks_take(struct prefill *prefill, struct prefill_job *job);
/* What the chunk filled can be found by others, and what no token still to be computed sees is given back. */
void prefill_blocks_publish(struct prefill *prefill, struct prefill_job *job);
void prefill_blocks_free(struct prefill *prefill, struct prefill_job *job);

/* account.c */
Wire__Accounting prefill_account(const struct prefill *prefill, const struct prefill_job *job);
void prefill_send_job_end(struct prefill *prefill, struct prefill_job *job, enum err e);

/* announce.c */
/* A layer of the model, of blocks [first, first + count) that decode lacks. */
void prefill_announce(struct prefill *prefill, struct prefill_job *job, uint32_t layer, uint32_t first, uint32_t count);
/* All that is final so far, after Attach. */
void prefill_announce_all(struct prefill *prefill, struct prefill_job *job);
void prefill_send_first(struct prefill *prefill, struct prefill_job *job);
void prefill_send_transfer_end(struct prefill *prefill, struct prefill_job *job, enum err e);
/* scores.c: what the model said of prompt tokens, to the coordinator; before the first token, on the same stream. */
void prefill_send_scores(struct prefill *prefill, struct prefill_job *job, const struct run *run,
			 const struct sample *scores);
/* Fills token_values with the first token of each choice. */
void prefill_build_first(struct prefill *prefill, struct prefill_job *job);
#endif
