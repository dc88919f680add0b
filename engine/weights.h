/* weights - a model's tensors on the device, packed for its kernels.
 *
 * Owns:   all of it, until engine_weights_destroy(); the model directory may be closed afterwards.  Of several ranks each has its
 *         part (engine/shard.h); sizes below are of a whole model.
 * Loop:   created on any thread before the first step; then read by the compute thread.
 * Bounds: what model_config allows; refuses what layers.c does not compute.
 * Rules:  1 a linear holds its bias, but where it is one rank's part of a sum: the sum's bias lies beside; a norm's weights have the 1 that they are around, in f32;
 *         2 f16 becomes f32 on the way: every value of it is one of those; weights of 8 or 4 bits times their scale
 *           become bf16 (docs/decisions/fp8-weights-become-bf16.md, mxfp4-weights-become-bf16.md);
 *         3 where model_config.fp8_kept says so, linears of 8-bit weights stay what they are, with their scales, but for
 *           those of latent heads, which are taken apart (docs/decisions/fp8-computed-as-published.md). */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "engine/ranks.h"
#include "kernels/ops.h"

struct model_config;
struct weights;

struct expert_weights {
	struct linear *gate_up; /* [2 * expert_intermediate][hidden]: gate, then up */
	struct linear *down;    /* [hidden][expert_intermediate] */
};

/* Latent attention: kv_b_proj of a head in two, so that neither keys nor values are ever made of latents. */
struct latent_head {
	struct linear *key;   /* [kv_lora][nope]: a query's part becomes one over latents */
	struct linear *value; /* [v][kv_lora]: of the weighted sum of latents */
};

struct layer_weights {
	float *attention_norm;      /* [hidden] */
	float *attention_post_norm; /* [hidden], or NULL */
	struct linear *qkv;         /* [(head + 2 * kv_head) * head_dim][hidden]; latent: [queries + kv_lora + rope][hidden] */
	float *sinks;               /* [head], or NULL */
	float *q_norm;              /* [head_dim], or NULL; latent: [q_lora] */
	float *k_norm;              /* [head_dim], or NULL; latent: [kv_lora] */
	struct linear *query_up;    /* latent: [queries][q_lora], or NULL; queries are [head][nope], then [head][rope] */
	struct latent_head *heads;  /* latent: [head] */
	struct linear *output;      /* [hidden][head * head_dim]; latent: [hidden][head * v] */
	float *output_bias;         /* [hidden], of several ranks; or NULL */
	float *mlp_norm;            /* [hidden] */
	float *mlp_post_norm;       /* [hidden], or NULL */
	struct linear *gate_up;     /* dense: [2 * intermediate][hidden]; else NULL */
	struct linear *down;        /* dense: [hidden][intermediate]; else NULL */
	float *down_bias;           /* [hidden], of several ranks; or NULL */
	struct linear *router;          /* [expert][hidden], or NULL */
	float *router_bias;             /* [expert], or NULL */
	struct linear *shared_gate_up;  /* [2 * shared][hidden], or NULL */
	struct linear *shared_down;     /* [hidden][shared] */
	struct linear *shared_gate;     /* [1][hidden], or NULL */
	struct expert_weights *experts; /* [expert_count], or NULL */
	float *experts_bias;            /* [expert][hidden] of their `down`, of several ranks; or NULL */
};

struct engine_weights {
	struct device *device;
	enum elem elem; /* of all that is not e4m3 */
	bool e4m3;	/* some linears are */
	uint32_t hidden_size;
	uint32_t head_count; /* the rank's */
	uint32_t q_norm_size;
	uint32_t k_norm_size;
	uint32_t vocab_size;
	uint32_t layer_count;
	uint32_t expert_count;
	void *embedding;      /* [vocab][hidden] of elem; NULL when tied: the head's packed rows serve, if they are all here */
	struct linear *head;  /* [vocab][hidden] */
	float *final_norm;    /* [hidden] */
	struct layer_weights *layers;
};

/* What rows that only linears read are written as: f32 weights are not worth inputs of bf16, and inputs of e4m3 are rounded once. */
static inline enum elem engine_weights_input(const struct engine_weights *weights)
{
	return weights->elem == ELEM_BF16 && !weights->e4m3 ? device_props(weights->device)->input : ELEM_F32;
}

/* The same of rows that linears like this one alone read: ELEM_E4M3, whose rows take less room, where they and the device have it. */
static inline enum elem engine_weights_input_of(const struct engine_weights *weights, const struct linear *linear)
{
	const struct linear_shape *shape = linear_shape(linear);
	bool narrow = shape->elem == ELEM_E4M3 && shape->k % LINEAR_GROUP == 0 && device_props(weights->device)->input_e4m3;
	return narrow ? ELEM_E4M3 : engine_weights_input(weights);
}

/* Of a row of so many. */
static inline size_t engine_row_stride(enum elem elem, size_t n)
{
	return elem_row_bytes(elem, n) / elem_bytes(elem);
}

/* "bf16": weights as the numerics class names them. */
const char *engine_weights_format(const struct engine_weights *weights);
/* ret_weights: [ranks->count]; the tensors are read once for all.  A missing, surplus or wrong-shaped tensor is ERR_NOT_FOUND, ERR_INVALID
 * or ERR_MISMATCH, and `why` names it; a file that cannot be read, ends early or is another by now is ERR_IO or ERR_CORRUPT, and `why`
 * names it and the offset.  `digests`, if not NULL: [weights_count] SHA-256 of each stored tensor's bytes, also of those that the model
 * does not use. */
MUST_USE enum err engine_weights_create(const struct ranks *ranks, const struct model_config *config,
					const struct weights *source, uint8_t (*digests)[32], struct why *why,
					struct engine_weights **ret_weights);
void engine_weights_destroy(struct engine_weights *weights);
/* Bytes that a row reads when every expert is at work: packed linears and embedding. */
uint64_t engine_weights_bytes(const struct engine_weights *weights);
#endif
