/* config - what a model computes, as config.json and generation_config.json of a Hugging Face directory say.
 *
 * A plain value: nothing to free, any thread.  It describes the arithmetic, so that whoever computes reads it and
 * never asks for a family's name.  Every field was checked against a range, and products such as
 * head_count * head_dim fit 32 bits, so that readers may multiply without fear.
 * Bounds: files of at most 1 MiB; the MODEL_*_MAX below.
 * Rules:  1 what is not understood is refused by name (file, key, value, what was expected), never
 *           ignored, when it would change what the model computes;
 *         2 an engine refuses what it does not compute of the below. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/layer_groups.h"
#include "base/why.h"

#define MODEL_LAYERS_MAX    1024
#define MODEL_EXPERTS_MAX   1024
#define MODEL_EOS_MAX       16
#define MODEL_HEAD_DIM_MAX  1024
#define MODEL_ROPE_HALF_MAX (MODEL_HEAD_DIM_MAX / 2)
#define MODEL_NO_TOKEN      UINT32_MAX
#define MODEL_MXFP4_BLOCK   32 /* inputs that share a scale */

/* How the weights are stored.  f16 is computed as f32, which holds every value of it. */
enum model_dtype { MODEL_BF16, MODEL_F32, MODEL_F16 };

enum model_activation {
	MODEL_SILU,
	MODEL_GELU_TANH,
	MODEL_SWIGLU_CLAMPED, /* gate * sigmoid(alpha * gate) * (up + 1), the gate at most limit, up within +-limit */
};

/* How frequencies are stretched beyond the length that a model was first trained on. */
enum model_rope_scaling {
	MODEL_ROPE_PLAIN,
	MODEL_ROPE_LINEAR, /* divided by factor */
	MODEL_ROPE_LLAMA3, /* slow ones divided by factor, fast ones kept, a ramp between */
	MODEL_ROPE_YARN,   /* the same by number of rotations within original_position_max */
	MODEL_ROPE_LONG,   /* each divided by a factor of its own (docs/decisions/longrope.md) */
};

struct model_rope {
	double theta;
	uint32_t dim; /* of each head that turn, even; the others pass */
	enum model_rope_scaling scaling;
	double factor;
	double low_freq_factor, high_freq_factor; /* llama3 */
	double beta_fast, beta_slow;              /* yarn: rotations */
	bool truncate;                            /* yarn: the ramp begins and ends at whole dimensions */
	uint32_t original_position_max;           /* llama3, yarn */
	double attention_factor;                  /* of cosine and sine */
	double score_factor;                      /* of scores; yarn with mscale_all_dim, which only DeepSeek heeds */
	float factors[MODEL_ROPE_HALF_MAX];       /* [dim / 2] longrope */
};

/* Layers with the same kind of attention; they may lie anywhere (struct model_layer says where). */
struct model_layer_group {
	uint32_t layer_count;
	uint32_t window; /* tokens seen, the own one among them; 0: all */
	struct model_rope rope;
};

enum model_mlp { MODEL_MLP_DENSE, MODEL_MLP_EXPERTS };

struct model_layer {
	uint8_t group; /* of its attention: an index of groups */
	uint8_t mlp;   /* enum model_mlp */
};

enum model_attention {
	MODEL_ATTENTION_GROUPED, /* heads of keys and values, each for a group of query heads */
	MODEL_ATTENTION_LATENT,  /* one latent vector a token: struct model_latent */
};

/* Multi-head latent attention.  head_dim of the config is qk_nope_head_dim + qk_rope_head_dim. */
struct model_latent {
	uint32_t q_lora_rank; /* 0: queries come from the hidden state at once */
	uint32_t kv_lora_rank;
	uint32_t qk_nope_head_dim;
	uint32_t qk_rope_head_dim;
	uint32_t v_head_dim;
	bool interleaved; /* what turns together is stored side by side, not half a head apart */
};

enum model_routing {
	MODEL_ROUTING_SOFTMAX, /* over all experts, then the top */
	MODEL_ROUTING_SIGMOID, /* each on its own; a stored bias takes part in the choice, not in the weight */
};

struct model_experts {
	uint32_t count; /* 0: no layer has any */
	uint32_t top;   /* experts per token */
	uint32_t intermediate_size;
	enum model_routing routing;
	bool renormalise;                  /* the chosen weights are divided by their sum */
	double scale;                      /* of the chosen weights */
	uint32_t group_count;              /* experts are chosen within the group_top best of so many groups; 1: all */
	uint32_t group_top;
	uint32_t group_best;               /* a group is as good as the sum of so many of its best: 1 or 2 */
	uint32_t shared_intermediate_size; /* of the expert that every token asks; 0: none */
	bool shared_gate;                  /* its answer times a sigmoid of the token */
	bool bias;                         /* router, gate, up and down have one */
	bool interleaved;                  /* gate and up are stored output by output, in turn */
};

/* What a family calls its tensors (model/tensors.c spells them out); NULL: it has none. */
struct model_names {
	const char *prefix;              /* of all but the head: "model." */
	const char *attention_norm;      /* of the input of attention */
	const char *attention_post_norm; /* of what attention gives, before the residual stream takes it in */
	const char *mlp_norm;
	const char *mlp_post_norm;
	const char *qkv[3];              /* queries, keys, values; or all three in the first */
	const char *gate_up[2];          /* gate, up; or both in the first */
	const char *experts;             /* where router and experts are: "mlp" */
	const char *router;
	const char *expert_parts[3];     /* gate, up, down of each */
	const char *expert_stacks[2];    /* instead: gate and up of all in one tensor, down of all in another */
	const char *shared;              /* the expert that every token asks, beside the others */
	const char *shared_gate;
	const char *beside[2];           /* how tensors of parts begin that text does not meet, such as eyes */
};

struct model_config {
	const char *family; /* for messages only */
	const struct model_names *names;
	enum model_dtype dtype;
	uint32_t vocab_size;
	uint32_t hidden_size;
	uint32_t intermediate_size; /* of dense layers */
	uint32_t layer_count;
	uint32_t extra_layer_count; /* stored behind them to guess further tokens ahead; not loaded */
	uint32_t position_max; /* max_position_embeddings */
	bool mxfp4_experts; /* experts' weights are MXFP4: 4 bits each, and a power of two for 32 inputs; they become dtype */
	bool fp8_blocks; /* weights may be F8_E4M3 with a scale for each 128 x 128 of them; they become dtype, unless */
	bool fp8_kept;	 /* they are computed with as they are (model_dir.h: quantization) */

	enum model_attention attention;
	uint32_t head_count;
	uint32_t kv_head_count;  /* divides head_count */
	uint32_t head_dim;       /* even; explicit, or hidden_size / head_count */
	double score_dim;        /* scores are divided by its root: head_dim as a rule */
	double score_cap;        /* cap * tanh(score / cap); 0: none */
	struct model_latent latent;
	bool qkv_bias; /* queries, keys and values have a bias */
	bool o_bias;   /* the output of attention has one */
	bool mlp_bias; /* gate, up and down have one */
	bool sinks;    /* each head has a score without a position, which takes weight and gives nothing */
	bool qk_norm;  /* RMS norm of each head of q and k before RoPE */

	double norm_eps;
	bool norm_plus_one; /* stored weights of norms lack the 1 that they are around */
	enum model_activation activation; /* of the gate, here and in experts */
	double glu_alpha, glu_limit; /* of MODEL_SWIGLU_CLAMPED */
	bool embedding_scaled;      /* embeddings times the root of hidden_size, rounded to the model's type */
	double logit_cap;           /* as score_cap, of the logits; 0: none */
	bool tie_word_embeddings;
	struct model_experts experts;

	struct model_layer layers[MODEL_LAYERS_MAX];
	struct model_layer_group groups[LAYER_GROUPS_MAX];
	uint32_t group_count;

	uint32_t bos_id;                 /* MODEL_NO_TOKEN: none */
	uint32_t eos_ids[MODEL_EOS_MAX]; /* generation_config.json wins over config.json */
	uint32_t eos_count;
};

/* Reads DIR/config.json, and DIR/generation_config.json where there is one.
 * ERR_IO, ERR_TOO_LARGE, ERR_INVALID (a wrong value), ERR_UNSUPPORTED (a right one that we lack). */
MUST_USE enum err model_config_read(const char *dir, struct why *why, struct model_config *ret_config);

/* The same from bytes; `generation` may be NULL. */
MUST_USE enum err model_config_parse(const char *json, size_t length, const char *generation,
				     size_t generation_length, struct why *why,
				     struct model_config *ret_config);

bool model_config_is_eos(const struct model_config *config, uint32_t id);
#endif
