/* layers - one decoder layer over a batch of rows, computed as the model's description says (model/config.h), on one rank or several.
 *
 * Owns:   the activations, sized at create for rows_max rows, of each rank.
 * Loop:   the compute thread.
 * Bounds: rows_max rows a batch, PLAN_RUNS_MAX runs.
 * Rules:  1 a row's bits depend on its token, its position and the KV before it (law 1): every operation is
 *           of kernels/ops.h, which keeps that for rows, and nothing here looks at the number of rows;
 *         2 `config` is of what the rank has (engine/shard.h): its heads, its inner numbers;
 *         3 KV is complete after layers_kv() of a layer, before anything reads it in layers_rest(). */
#ifndef ENGINE_LAYERS_H
#define ENGINE_LAYERS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/layer_groups.h"
#include "engine/ranks.h"
#include "engine/weights.h"
#include "kernels/ops.h"
#include "model/config.h"

struct expert_exchange;

/* The rows of a step, as the host describes them. */
struct batch {
	uint32_t row_count;
	uint32_t padding; /* of them, the last: nobody's, there to make a number that was recorded */
	uint32_t run_count;
	uint32_t *tokens;      /* [rows_max] */
	uint32_t *positions;   /* [rows_max] */
	struct kv_run *runs[LAYER_GROUPS_MAX]; /* [PLAN_RUNS_MAX] each: they differ in their blocks */
	void *memory; /* of the above, MEM_PINNED */
	size_t bytes;
};

/* The same where the device reads them. */
struct device_batch {
	uint32_t *tokens;
	uint32_t *positions;
	struct kv_runs *runs[LAYER_GROUPS_MAX];
};

/* Angles of the step for the layers of one group. */
struct layer_rope {
	float *frequency; /* [half] */
	float *cos;       /* [row][half] */
	float *sin;
};

/* What latent attention has besides (latent.h). */
struct latent_rows {
	float *queries;  /* [row][head][nope], [head][rope] of the row behind; two steps only: else part of qkv */
	float *absorbed; /* [row][some heads][kv_lora] */
	size_t absorbed_max;        /* rows times heads */
	struct linear_call *calls;  /* [head] */
};

struct layers {
	struct device *device;
	const struct model_config *config;
	const struct engine_weights *weights;
	struct kv_memory kv[LAYER_GROUPS_MAX]; /* of each layer group; set before the first step */
	uint16_t place[MODEL_LAYERS_MAX]; /* of each layer among those of its group */
	uint32_t rows_max;
	enum elem input; /* of rows that only linears read */
	const struct batch *batch; /* the same at every rank */
	bool parts; /* there are other ranks: what row-parallel weights say is a part of a sum */
	struct device_batch on_device;
	struct layer_rope rope[LAYER_GROUPS_MAX];
	float embedding_scale; /* for models that have one */
	float *x;         /* [row][hidden] the residual stream, without delta */
	float *delta;     /* [row][hidden] what the last sublayer adds to it */
	void *normed;     /* [row][hidden] of `input` */
	void *narrow;     /* the same of ELEM_E4M3, for linears that take it; NULL: there are none */
	float *qkv;       /* [row][(head + 2 * kv_head) * head_dim]; latent: [row][queries or q_lora, kv_lora, rope] */
	void *attended;   /* [row][head * head_dim] of `input`; latent: [row][head * v] */
	struct latent_rows latent;
	float *gate_up;   /* [row][2 * inner]: of dense layers, or of the shared expert */
	void *activated;  /* [row][inner] of `input`, or ELEM_E4M3 */
	float *shared;    /* [row][hidden] what the shared expert says, before its gate */
	float *gate;      /* [row] of the shared expert */
	float *scores;    /* [row][expert] */
	uint32_t *expert; /* [row][expert_top] */
	float *weight;    /* [row][expert_top] */
	/* [row][hidden] parts of delta and of shared (engine/ranks.h); of one rank they are these */
	float *attention_part, *mlp_part, *shared_part;
	struct moe_routing routing;
	void *memory;     /* all of the above, in one piece */
	size_t memory_bytes;
};

struct layers_options {
	struct device *device;
	const struct model_config *config; /* the rank's */
	const struct engine_weights *weights;
	const struct batch *batch;
	uint32_t rows_max;
	bool parts;
};

MUST_USE enum err batch_create(struct batch *batch, struct device *device, uint32_t group_count, uint32_t rows_max);
void batch_destroy(struct batch *batch, struct device *device); /* zeroed is fine */

MUST_USE enum err layers_init(struct layers *layers, const struct layers_options *options);
void layers_fini(struct layers *layers); /* zeroed is fine */
/* The memory of a group's blocks; once for each group, before the first batch. */
MUST_USE enum err layers_set_kv(struct layers *layers, uint32_t group, const struct kv_memory *kv);

struct glu glu_of(const struct model_config *config);
uint32_t layers_group(const struct layers *layers, uint32_t layer);

/* y = what the linear makes of the rows last normalised, of the type that it takes. */
void linear_of_normed(struct layers *layers, const struct linear *weights, float *y);

/* Takes the batch to the device and embeds its tokens: x is set, delta is zero.  Errors are the device's. */
MUST_USE enum err layers_begin(struct layers *layers);
/* Queries, keys and values of a layer; KV is written. */
void layers_kv(struct layers *layers, uint32_t layer);
/* Attention and MLP of the layer: of all ranks, [ranks->count].  experts: NULL for dense models; errors are its. */
MUST_USE enum err layers_rest(struct layers *of_ranks, const struct ranks *ranks, struct expert_exchange *experts,
			      uint32_t layer);
#endif
