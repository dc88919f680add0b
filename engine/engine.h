/* engine - runs a model over paged KV: one step at a time, on its own compute threads.
 *
 * Owns:   the weights on the devices, the compute threads, the digests of the blocks.
 * Loop:   engine_submit() from the node's loop.  The callbacks run on a compute thread and only post.
 * Bounds: one step in flight; activations sized at create for batch_tokens_max tokens.
 * Rules:  1 a sampled token depends on the model, the tokens before it and the sampling alone (law 1);
 *         2 the first token written into a block zeroes the rest of that layer of the block, so that a partial
 *           block has a digest;
 *         3 a block's layer is digested (base/digest.h) after the run's last write to it and before
 *           on_layer_done of that layer. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "engine/constraint.h"
#include "engine/plan.h"
#include "engine/sequence.h"

struct engine;
struct kv_neighbour;      /* engine/kv_neighbour.h */
struct model_dir;
struct expert_exchange; /* engine/expert_exchange.h; NULL: experts are local */

/* How KV lies in the blocks of one layer group: [layer][kv_head][k|v][token][head_dim] or, of a model with latent
 * attention, [layer][token][latent] (kernels/ops.h). Nobody but the engine looks into a layer. */
struct kv_geometry {
	uint32_t layer_count; /* of the group */
	uint32_t block_tokens;
	uint32_t layer_bytes; /* one layer of one block */
	uint32_t block_bytes; /* layer_count * layer_bytes */
	uint32_t window;      /* tokens that a token sees, its own among them; 0: all before it */
};

struct engine_callbacks {
	void *context;
	/* A layer of the step is computed and its KV written and digested.  Compute thread; only post. */
	void (*on_layer_done)(void *context, const struct plan *plan, uint32_t layer);
	/* The step is over.  samples: [plan->sample_count], chosen and scored, as the runs say; valid during the call. */
	void (*on_step_done)(void *context, const struct plan *plan, const struct sample *samples, enum err e);
};

struct engine_options {
	const struct model_dir *model; /* open until engine_destroy() */
	const char *device;            /* "cpu", "cuda"; NULL or "auto": a GPU where there is one that we can use */
	const char *numerics;          /* NULL or "exact"; "fast", a class of its own that only a GPU has: law 1 is lifted within it */
	const char *isa;               /* of a CPU.  NULL: the best this machine has; else "portable", "avx2", … */
	uint32_t thread_count;         /* 0: one per core */
	uint32_t tensor_parallel_size; /* devices that share each layer out: 1 (or 0), 2, 4, 8; on a CPU parts of the one it is */
	uint32_t row_segments;         /* of a GPU (kernels/device.h); 0: as many as there are devices */
	uint32_t block_tokens;
	uint32_t batch_tokens_max;
	struct expert_exchange *experts;
	uint8_t (*digests)[32];        /* [weights_count]: gets the SHA-256 of each tensor's bytes; NULL: not wanted */
	struct engine_callbacks callbacks;
};

/* On the thread that makes links, before it does: where `device` and `isa` (of engine_options) mean a GPU, what begins there finds it. */
void engine_make_device_current(const char *device, const char *isa);
/* Loads and packs the weights; may take long (progress in the log). */
MUST_USE enum err engine_create(const struct engine_options *options, struct why *why, struct engine **ret_engine);
void engine_destroy(struct engine *engine);

/* Layers with the same kind of attention: 1 or 2 groups. */
uint32_t engine_group_count(const struct engine *engine);
uint32_t engine_layer_count(const struct engine *engine);
/* The group of a layer, and its number among the group's: that is how its blocks hold it. */
uint32_t engine_layer_group(const struct engine *engine, uint32_t layer, uint32_t *ret_place);
void engine_geometry(const struct engine *engine, uint32_t group, struct kv_geometry *ret_geometry);
uint32_t engine_tensor_parallel_size(const struct engine *engine);
/* Backend, ISA variant, kernel set, weight and KV format: nodes of different classes share no KV (law 1). */
const char *engine_numerics_class(const struct engine *engine);

/* The memory of a group's blocks, [block_count][block_bytes], 64-byte aligned; set once for each group, in order, before
 * the first step.  Blocks are numbered through: those of group 0, then those of group 1. */
MUST_USE enum err engine_set_kv(struct engine *engine, uint32_t group, void *memory, uint32_t block_count);
/* Once all groups have their memory, before the first step: on a GPU steps of up to rows_most decode rows are recorded now and not while
 * somebody waits for them (progress in the log).  Errors are the device's. */
MUST_USE enum err engine_warm(struct engine *engine, uint32_t rows_most);
/* On a GPU the engine has the blocks a second time, in the GPU's memory, and must hear of what it did not compute itself (a CPU
 * computes in the caller's blocks, and both are cheap).  From the node's loop, between the steps that touch these blocks:
 * something will land in a layer of the block, by its place in the block's group, or has; */
void engine_block_landing(struct engine *engine, uint32_t block, uint32_t place);
/* block `to` becomes a copy of `from`. */
void engine_block_copy(struct engine *engine, uint32_t from, uint32_t to);
/* The way of blocks to and from GPUs of neighbours; the engine's, made once all groups have their memory.  ERR_NOT_FOUND: a CPU;
 * ERR_UNSUPPORTED: several GPUs, or one whose memory no other process can read. */
MUST_USE enum err engine_neighbour(struct engine *engine, struct why *why, struct kv_neighbour **ret_neighbour);

/* Compiles the structures that sequences name (sequence.h: constraint). */
struct constraint_hooks engine_constraints(struct engine *engine);

/* Starts a step; the plan and its sequences stay as they are until on_step_done.  ERR_BUSY while one runs. */
MUST_USE enum err engine_submit(struct engine *engine, const struct plan *plan);
/* Digest of one layer of a block, by its place in the block's group, as last computed by a run with `digest`; on the
 * node's loop, after the post of that layer's on_layer_done. */
uint64_t engine_block_digest(const struct engine *engine, uint32_t block, uint32_t place);
#endif
