/* sched - which tokens the engine computes next: continuous batching and chunked prefill.  Pure.
 *
 * Keeps references to the sequences that have work (token_count > computed).  Each plan takes first every
 * sequence with one token left to compute (decode rows), then chunks of prompts in order of arrival, within
 * the budget of tokens.  A chunk ends at a block boundary unless it ends the prompt, so that finished
 * chunks are finished blocks.
 *
 * Memory: the caller's.  Loop: the node's.  Bounds: seq_max sequences, batch_tokens_max tokens a plan. */
#ifndef ENGINE_SCHED_H
#define ENGINE_SCHED_H
#include <stddef.h>
#include "base/err.h"
#include "engine/plan.h"
#include "engine/sequence.h"

struct sched_options {
	uint32_t seq_max;          /* <= PLAN_RUNS_MAX */
	uint32_t batch_tokens_max; /* tokens of a plan; >= seq_max and >= block_tokens; from seq_max +
	                            * block_tokens on, decode rows never keep a prompt from going on */
	uint32_t chunk_tokens;     /* most tokens of one prompt in a plan; a multiple of block_tokens */
	uint32_t block_tokens;
	uint32_t group_count;      /* of the model's layers */
};

struct sched;

size_t sched_bytes(const struct sched_options *options);
struct sched *sched_init(void *memory, const struct sched_options *options);

/* ERR_AGAIN when seq_max are in. */
MUST_USE enum err sched_add(struct sched *sched, struct sequence *sequence);
/* Not while a plan in flight names it. */
void sched_remove(struct sched *sched, struct sequence *sequence);
/* Fills the next plan; run_count 0 when nothing has work.  `digest` is set for runs of prompts and of sequences that
 * are handed over, and for decode rows that fill a block. */
void sched_plan(struct sched *sched, struct plan *ret_plan);
/* The step ran: every run's sequence has `count` more tokens computed.  Appending what was sampled is the
 * sequence's owner's work. */
void sched_done(struct sched *sched, const struct plan *plan);
uint32_t sched_count(const struct sched *sched);
/* Tokens of prompts still to compute: the prefill queue in tokens. */
uint64_t sched_tokens_waiting(const struct sched *sched);
#endif
