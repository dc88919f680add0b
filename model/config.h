/* config - the shape of a model, as config.json and generation_config.json of a Hugging Face directory say.
 *
 * A plain value: nothing to free, any thread.  Every field was checked against a range, and products
 * such as head_count * head_dim fit 32 bits, so that readers may multiply without fear.
 * Bounds: files of at most 1 MiB; the MODEL_*_MAX below.
 * Rules:  1 what is not understood is refused by name (file, key, value, what was expected), never
 *           ignored, when it would change what the model computes;
 *         2 an engine refuses each flag below that it does not compute. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

#define MODEL_LAYERS_MAX  1024
#define MODEL_EXPERTS_MAX 1024
#define MODEL_EOS_MAX     16
#define MODEL_GROUPS_MAX  4
#define MODEL_NO_TOKEN    UINT32_MAX

enum model_arch {
	MODEL_ARCH_LLAMA,     /* dense; also Mistral without a window, Qwen2 (qkv_bias), Qwen3 (qk_norm) */
	MODEL_ARCH_MIXTRAL,   /* block_sparse_moe: the k chosen experts' weights are a softmax over the k */
	MODEL_ARCH_QWEN3_MOE, /* mlp.gate/experts: softmax over all, then norm_topk_prob says */
};

/* How the weights are stored; f16 is refused. */
enum model_dtype { MODEL_BF16, MODEL_F32 };

/* Layers with the same kind of attention. One group of all layers for now. */
struct model_layer_group {
	uint32_t first_layer;
	uint32_t layer_count;
	uint32_t window; /* tokens seen; 0: all */
};

struct model_config {
	enum model_arch arch;
	enum model_dtype dtype;
	uint32_t vocab_size;
	uint32_t hidden_size;
	uint32_t intermediate_size; /* dense layers; Mixtral: of each expert too */
	uint32_t layer_count;
	uint32_t head_count;
	uint32_t kv_head_count; /* divides head_count */
	uint32_t head_dim;      /* even; explicit, or hidden_size / head_count */
	uint32_t position_max;  /* max_position_embeddings */
	double rope_theta;
	double rms_norm_eps;
	bool tie_word_embeddings;
	bool qkv_bias; /* q_proj, k_proj, v_proj have a bias */
	bool o_bias;   /* o_proj has one */
	bool qk_norm;  /* RMS norm of each head of q and k before RoPE */

	uint32_t expert_count; /* 0: dense */
	uint32_t expert_top;   /* experts per token */
	uint32_t expert_intermediate_size;
	bool norm_topk_prob; /* the top weights are divided by their sum */

	uint32_t bos_id;                /* MODEL_NO_TOKEN: none */
	uint32_t eos_ids[MODEL_EOS_MAX]; /* generation_config.json wins over config.json */
	uint32_t eos_count;

	struct model_layer_group groups[MODEL_GROUPS_MAX];
	uint32_t group_count;
};

/* Reads DIR/config.json, and DIR/generation_config.json where there is one.
 * ERR_IO, ERR_TOO_LARGE, ERR_INVALID (a wrong value), ERR_UNSUPPORTED (a right one that we lack). */
MUST_USE enum err model_config_read(const char *dir, struct why *why, struct model_config *ret_config);

/* The same from bytes; `generation` may be NULL. */
MUST_USE enum err model_config_parse(const char *json, size_t length, const char *generation,
				     size_t generation_length, struct why *why,
				     struct model_config *ret_config);

bool model_config_is_eos(const struct model_config *config, uint32_t id);
const char *model_arch_name(enum model_arch arch);
#endif
