/* tensors - which tensors a model of a given config consists of: names, shapes, and what they are for.
 *
 * Pure.  One list serves the check of a directory and the engine's loading: only this file spells names. */
#ifndef MODEL_TENSORS_H
#define MODEL_TENSORS_H
#include "model/config.h"
#include "model/safetensors.h"

/* What a tensor is for.  Weights that several tensors make up, output after output, are one role (q, k and v;
 * gate and up); a vector is one tensor. */
enum tensor_role {
	TENSOR_EMBEDDING, /* [vocab][hidden] */
	TENSOR_HEAD,      /* [vocab][hidden]; of tied models it is the embedding too */
	TENSOR_FINAL_NORM,
	TENSOR_ATTENTION_NORM,
	TENSOR_ATTENTION_POST_NORM,
	TENSOR_MLP_NORM,
	TENSOR_MLP_POST_NORM,
	TENSOR_QKV, /* queries, then keys, then values; latent attention: queries or q_lora, then kv_lora and rope */
	TENSOR_QKV_BIAS,
	TENSOR_SINKS, /* [head] */
	TENSOR_Q_NORM, /* of each head; latent attention: of what TENSOR_QUERY_UP gets, and of the latent */
	TENSOR_K_NORM,
	TENSOR_QUERY_UP, /* [head * (nope + rope)][q_lora] */
	TENSOR_KEY_VALUE_UP, /* [head * (nope + v)][kv_lora] */
	TENSOR_OUTPUT, /* of attention */
	TENSOR_OUTPUT_BIAS,
	TENSOR_GATE_UP, /* gate, then up */
	TENSOR_GATE_UP_BIAS,
	TENSOR_DOWN,
	TENSOR_DOWN_BIAS,
	TENSOR_ROUTER,
	TENSOR_ROUTER_BIAS,
	TENSOR_ROUTER_CHOICE_BIAS, /* of scores, for the choice alone; F32 in any model */
	TENSOR_SHARED_GATE_UP,
	TENSOR_SHARED_DOWN,
	TENSOR_SHARED_GATE, /* [1][hidden] */
	TENSOR_EXPERT_GATE_UP,
	TENSOR_EXPERT_GATE_UP_BIAS,
	TENSOR_EXPERT_DOWN,
	TENSOR_EXPERT_DOWN_BIAS,
};

struct tensor_spec {
	char name[128];
	uint32_t dim_count;
	uint64_t dims[2]; /* [outputs][inputs], or [outputs]; of one expert where the tensor is a stack of them */
	uint32_t stack;   /* so many experts, one of them `expert`; 0: the tensor is no stack */
	enum tensor_role role;
	uint32_t layer;  /* of the roles within one */
	uint32_t expert; /* of an expert's */
	uint32_t first;  /* its first output among those of the role */
	uint32_t total;  /* outputs of the role */
};

/* Calls `each` for every tensor of the model in a fixed order, weights before their bias; stops at the first error
 * and returns it. */
MUST_USE enum err model_tensors_each(const struct model_config *config,
				     enum err (*each)(void *arg, const struct tensor_spec *spec), void *arg);

/* A tensor as it is stored: [outputs][inputs] or [outputs].  A stack is [expert][inputs][outputs] or [expert][outputs]; of
 * MXFP4 [expert][outputs][inputs / 32][16], two weights a byte, the first in the low half, with a scale for each 32. */
struct tensor_found {
	const struct tensor *tensor; /* of the model's dtype, or F32, F8_E4M3 or MXFP4 (U8) where that is said above */
	const struct tensor *scale;  /* F8_E4M3: F32 or BF16 [outputs / 128][inputs / 128], rounded up; MXFP4: U8, E8M0; else NULL */
	uint32_t expert;             /* of a stack */
};

/* What the tensor of `spec` is in these weights: ERR_NOT_FOUND, ERR_MISMATCH. */
MUST_USE enum err model_tensor_find(const struct model_config *config, const struct weights *weights,
				    const struct tensor_spec *spec, struct why *why, struct tensor_found *ret_found);

/* Every tensor is there with its dtype and shape, and none is left over.  A tied lm_head.weight, stored rotary tables
 * (".rotary_emb.inv_freq"), layers behind the last (config.h: extra_layer_count) and the parts that names->beside tells
 * may be there and are not used. */
MUST_USE enum err model_tensors_check(const struct model_config *config, const struct weights *weights,
				      struct why *why);

/* What weights are once loaded. */
enum tensor_dtype model_tensor_dtype(const struct model_config *config);

/* Rows and columns of weights that share a scale. */
#define TENSOR_SCALE_BLOCK 128
#endif
