/* made_model - small models of several families with random weights, their blocks in memory that others map, step by step on a device:
 * what engine/engine.c puts together, without model directories.
 *
 * Owns:   everything in struct made until made_close(); the device is the caller's. */
#ifndef TESTS_GPU_MADE_MODEL_H
#define TESTS_GPU_MADE_MODEL_H
#include "engine/experts_local.h"
#include "engine/forward.h"
#include "engine/kv_ranks.h"
#include "engine/plan.h"
#include "engine/sequence.h"
#include "engine/weights.h"
#include "model/config.h"
#include "tests/gpu/fixture.h"

enum { MADE_BLOCK_TOKENS = 16, MADE_BLOCKS = 16, MADE_ROWS_MAX = 160, MADE_VOCABULARY = 260 };

struct made_family {
	const char *name;
	void (*describe)(struct model_config *config);
	bool e4m3; /* it may have weights of 8 bits */
};
extern const struct made_family made_families[];
extern const size_t made_family_count;

struct made {
	struct device *device;
	struct model_config config;
	struct weights *source;
	struct ranks ranks;
	struct engine_weights *weights;
	struct experts_local *experts; /* NULL: the model has none */
	struct forward *forward;
	struct kv_ranks of_ranks[LAYER_GROUPS_MAX];
	struct kv_memory host[LAYER_GROUPS_MAX]; /* the blocks that others read */
	int fd[LAYER_GROUPS_MAX];		 /* of their memory */
	uint64_t *digests[LAYER_GROUPS_MAX];	 /* [block][layer of the group] */
	uint32_t announced;			 /* layers of the last step, in order */
};

/* elem: of the weights; KV is bf16, of f32 weights f32. */
void made_open(struct made *m, struct device *device, const struct made_family *family, enum elem elem);
void made_close(struct made *m);

/* A sequence whose blocks are every second one of each group, from `parity` on. */
struct made_sequence {
	struct sequence sequence;
	uint32_t tokens[MADE_BLOCKS / 2 * MADE_BLOCK_TOKENS];
	uint32_t blocks[LAYER_GROUPS_MAX][MADE_BLOCKS / 2];
};
void made_sequence_init(struct made_sequence *s, const struct made *m, uint32_t parity, uint32_t token_count);

/* Adds tokens [first, first + count) to the step; all are scored, those of the last run come last. */
void made_plan_add(struct plan *plan, struct made_sequence *s, uint32_t first, uint32_t count);
/* Runs it: logits of all its rows, [token_count][MADE_VOCABULARY]. */
void made_step(struct made *m, const struct plan *plan, float *ret_logits);
#endif
