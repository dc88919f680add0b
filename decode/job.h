/* What decode.c (life of a job), receive.c (hand-over) and choice.c (running) share. */
#ifndef DECODE_JOB_H
#define DECODE_JOB_H
#include "base/layer_groups.h"
#include "decode/decode.h"

/* Of one layer of one block on its way. */
enum piece { PIECE_NONE, PIECE_ANNOUNCED, PIECE_READING, PIECE_DONE };

struct decode_place {
	uint32_t region;
	uint64_t offset;
	uint64_t generation;
};

/* The context's blocks of one layer group, and how far each of their layers has come. */
struct decode_table {
	struct id128 *keys;          /* [block_max] */
	uint32_t *blocks;            /* [block_max] taken or referred to: [first, count) */
	uint32_t first, count;
	uint32_t have;               /* leading blocks that need not be moved */
	uint32_t spares[SAMPLING_CHOICES_MAX]; /* copies of the partial block for the further choices */
	uint32_t spare_count;
	struct decode_place *places; /* [block_max] */
	uint64_t *digests;           /* [block_max][layer_count] announced */
	uint8_t *pieces;             /* [block_max][layer_count] enum piece */
	uint32_t *layers_done;       /* [block_max] */
};

struct decode_job {
	enum decode_state state;
	uint32_t serial;
	struct job_key key;
	uint32_t coordinator;      /* session */
	uint64_t partner;          /* prefill node */
	struct kv_tenant tenant;
	uint32_t prefill_peer;     /* PEER_NONE until Attach, and after the transfer */
	bool local;
	struct sampling sampling;
	struct constraint *constraint; /* NULL: none */
	struct id128 roots[LAYER_GROUPS_MAX];
	uint32_t context;          /* tokens */
	uint32_t prompt_count;
	uint32_t choice_count;
	uint16_t choices[SAMPLING_CHOICES_MAX];
	bool choice_canceled[SAMPLING_CHOICES_MAX];
	uint32_t choices_left;     /* running */
	uint32_t block_need[LAYER_GROUPS_MAX]; /* reserved */
	uint32_t full_count;
	uint32_t context_blocks;

	uint32_t *tokens;          /* [context_max] */
	struct decode_table tables[LAYER_GROUPS_MAX];
	bool looked;                 /* for what is here already */

	/* Receiving. */
	uint32_t blocks_missing;     /* of all groups, not whole yet */
	uint32_t waiting;            /* pieces announced that found no room */
	uint32_t reading;            /* reads out */
	uint64_t progress_ns;        /* when something last came from that prefill node, or was first asked of it */
	bool prefilled;
	struct sample first[SAMPLING_CHOICES_MAX];
	enum finish first_finish[SAMPLING_CHOICES_MAX];

	/* Accounting. */
	Wire__Accounting account;
	uint64_t reserved_ns, started_ns, running_ns;
};

struct decode_choice {
	bool used;
	bool planned;      /* rule 2 */
	bool ending;
	bool scheduled;    /* in sched; else it waits for a block */
	uint32_t job;
	struct sequence sequence;
	uint32_t *tokens;  /* [context_max] */
	uint32_t *blocks[LAYER_GROUPS_MAX]; /* [block_max] */
	uint32_t published; /* leading blocks with a key: those of the context, and what was filled since */
	uint32_t own_first; /* the first block that was filled here */
	struct id128 last_keys[LAYER_GROUPS_MAX]; /* of the last block with a key, or the root */
};

struct decode {
	struct decode_options options;
	struct kv_local *local;
	uint32_t block_max;
	uint32_t count;
	uint32_t choices_used;
	uint32_t choices_reserved;
	uint64_t arrival_next;
	struct decode_job *jobs;
	struct decode_choice *choices;
};

static inline uint32_t decode_job_index(const struct decode *d, const struct decode_job *job)
{
	return (uint32_t)(job - d->jobs);
}

/* decode.c */
/* Ends the job: tells prefill and the coordinator, gives everything back; choices in a plan follow. */
void decode_end(struct decode *d, struct decode_job *job, enum err e);
void decode_free(struct decode *d, struct decode_job *job);
void decode_move(struct decode_job *job, enum decode_state to);
struct decode_job *decode_find(struct decode *d, const Wire__JobId *id);
void decode_send_transfer_end(struct decode *d, struct decode_job *job, enum err e);

/* receive.c */
/* A copy of the partial last block for every further choice; false when there is no room for all yet. */
bool decode_take_spares(struct decode *d, struct decode_job *job, uint32_t group);
void decode_try_attach(struct decode *d, struct decode_job *job);
void decode_issue_waiting(struct decode *d, struct decode_job *job);
/* The way to prefill is cut, or prefill does not serve: another pair does better. */
bool decode_stalls(const struct decode *d, const struct decode_job *job);

/* choice.c */
void decode_run(struct decode *d, struct decode_job *job);
void decode_end_choices(struct decode *d, struct decode_job *job);
void decode_cancel_choice(struct decode *d, struct decode_job *job, uint32_t choice);
void decode_unstall(struct decode *d);
#endif
