/* driver - a model, its engine and its blocks for tests and measurements: steps are run one by one.
 *
 * Owns:   everything in struct driver until driver_close().
 * Thread: the test's; driver_step() waits for the step. */
#ifndef TESTS_ENGINE_DRIVER_H
#define TESTS_ENGINE_DRIVER_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/layer_groups.h"
#include "base/rng.h"
#include "engine/engine.h"

struct driver_options {
	const char *path;
	const char *isa;
	const char *numerics;
	uint32_t thread_count;
	uint32_t block_tokens;
	uint32_t batch_tokens_max;
	uint32_t block_count; /* of each layer group */
	struct expert_exchange *experts;
	uint32_t tensor_parallel_size; /* 0: 1 */
	uint32_t row_segments;         /* of a GPU; 0: its own */
	const char *quantization; /* model_dir.h */
};

struct driver {
	struct driver_options options;
	struct model_dir *model;
	struct engine *engine;
	uint32_t group_count;
	struct kv_geometry geometry[LAYER_GROUPS_MAX];
	uint8_t *memory[LAYER_GROUPS_MAX]; /* [block_count][block_bytes] of each layer group */
	uint32_t *free[LAYER_GROUPS_MAX];  /* [free_count] numbers of blocks, handed out from the end */
	uint32_t free_count[LAYER_GROUPS_MAX];
	pthread_mutex_t lock;
	pthread_cond_t turn;
	bool done;
	enum err result;
	uint32_t layers_seen; /* on_layer_done calls of the step: they come in order */
	struct sample samples[PLAN_SAMPLES_MAX];
};

/* The best variant here that keeps rows in f32, for references computed in f32: "avx512bf16" rounds the rows that meet
 * bf16 weights, which can turn the choice of an expert. */
const char *driver_isa_of_f32_rows(void);
void driver_open(struct driver *driver, const struct driver_options *options);
void driver_close(struct driver *driver);
/* Puts the free blocks into another order, and other bytes into them: tables and leftovers must not matter. */
void driver_shuffle(struct driver *driver, struct rng *rng);
/* The bytes of a block. */
uint8_t *driver_block(const struct driver *driver, uint32_t block);
/* Runs the plan; what came of it. */
enum err driver_try(struct driver *driver, struct plan *plan);
/* Runs the plan and advances `computed` of its sequences. */
void driver_step(struct driver *driver, struct plan *plan);

/* A sequence with its own tokens, blocks and sampling. */
struct stream {
	struct sequence sequence;
	struct sampling sampling;
	uint32_t tokens_max;
	uint32_t blocks_max;
};

void stream_open(struct stream *stream, struct driver *driver, const uint32_t *prompt, uint32_t prompt_count,
		 uint32_t tokens_max);
void stream_close(struct stream *stream, struct driver *driver);
void stream_append(struct stream *stream, uint32_t token);
/* Gives back the blocks that no token still to be computed sees; the table forgets them. */
void stream_release(struct stream *stream, struct driver *driver);

/* Adds a run of up to count tokens of the stream to the plan. */
void plan_add(struct plan *plan, struct stream *stream, uint32_t count);
#endif
