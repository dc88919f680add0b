/* toy - an engine that executes plans in virtual time, and the oracle of what it must say.
 *
 * The KV of a token at a layer is a hash of the token, its position, the layer, the KV of the token before it and of
 * the layer below, as they are READ FROM THE BLOCKS; the next token is a digest of every byte of KV of the sequence,
 * again as read from its blocks.  So any wrong, stale or foreign block changes the output.
 *
 * Its layers are of one layer group or of two, with a window or without (enum toy_kind): of a windowed layer the digest is
 * of the last TOY_WINDOW tokens only, and nothing before them is read but the token before the one that is computed.
 *
 * The oracle computes the same over plain arrays, alone: no blocks, no batches, no chunks, no transfer. */
#ifndef TESTS_SIM_TOY_H
#define TESTS_SIM_TOY_H
#include <stdbool.h>
#include <stdint.h>
#include "base/layer_groups.h"
#include "base/sampling.h"
#include "engine/plan.h"
#include "kvstore/local.h"
#include "net/sim.h"

enum {
	TOY_LAYERS = 3,
	TOY_WINDOW = 6, /* one block and a half: three may be held */
	TOY_BLOCK_TOKENS = 4,
	TOY_TOKEN_BYTES = 16, /* KV of one token at one layer */
	TOY_LAYER_BYTES = TOY_BLOCK_TOKENS * TOY_TOKEN_BYTES,
	TOY_VOCAB = 97,
	TOY_EOS = 7,
	TOY_CONTEXT_MAX = 160,
};

enum toy_kind {
	TOY_GLOBAL,   /* one group that sees all */
	TOY_MIXED,    /* group 0 has a window: layers 0 and 2; group 1 sees all: layer 1 */
	TOY_WINDOWED, /* one group with a window */
};

uint32_t toy_group_count(enum toy_kind kind);
uint32_t toy_window(enum toy_kind kind, uint32_t group); /* 0: none */
const struct kv_layer *toy_layers(enum toy_kind kind);   /* [TOY_LAYERS] */
uint32_t toy_block_bytes(enum toy_kind kind, uint32_t group);

struct toy_options {
	enum toy_kind kind;
	struct sim *sim;
	uint32_t index;          /* of its node in the world */
	uint32_t block_counts[LAYER_GROUPS_MAX];
	uint64_t layer_ns;       /* of a step, per layer */
	uint64_t token_ns;       /* more per layer and token */
	void *context;
	void (*layer_done)(void *context, uint32_t layer);
	void (*step_done)(void *context, const struct sample *samples);
};

struct toy;

struct toy *toy_create(const struct toy_options *options);
void toy_destroy(struct toy *toy);
uint8_t *toy_memory(struct toy *toy, uint32_t group); /* [block_count][toy_block_bytes()] */
void toy_submit(struct toy *toy, const struct plan *plan);
uint64_t toy_block_digest(const struct toy *toy, uint32_t block, uint32_t place);
void toy_copy_block(struct toy *toy, uint32_t from, uint32_t to);
/* Of bytes that landed. */
uint64_t toy_digest(const void *data, size_t length);

/* What it says of each token of a prompt but the first: [prompt_count - 1]. */
void toy_score_oracle(enum toy_kind kind, const uint32_t *prompt, uint32_t prompt_count, float *ret_logprobs);
/* What a request with sampling.structured asks for: the only structure that the toy knows. */
#define TOY_STRUCTURE "{\"toy\":3}"

/* Generated tokens of one choice, up to its end; returns how many. */
uint32_t toy_oracle(enum toy_kind kind, const uint32_t *prompt, uint32_t prompt_count, const struct sampling *sampling, uint32_t choice,
		    uint32_t *ret_tokens /* [max_tokens] */, enum finish *ret_finish);
#endif
