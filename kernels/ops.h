/* ops - operations on rows of activations, the same on every device.
 *
 * Owns:   struct linear owns its packed weights; everything else belongs to the caller.
 * Loop:   the one caller of the device (device.h).
 * Bounds: no operation allocates or fails; shapes out of range are the caller's fault and assert.
 * Rules:  1 a row's result depends on that row alone (law 1), whatever else is in the call;
 *         2 activations are f32 in memory; weights and KV are f32 or bf16. Rounding to bf16 happens only
 *           where a name says so: KV as it is written, rows to and from experts, on "avx512bf16" the input
 *           of op_linear with bf16 weights (a class of its own), and what is written as bf16 because only
 *           linears of bf16 weights read it (out_elem, as device_props.input says; a CPU has f32 throughout); to e4m3
 *           the input of op_linear with weights of ELEM_E4M3;
 *         3 pointers are the device's memory (MEM_DEVICE, or MEM_PINNED) unless `host` is said; strides are
 *           in elements between the starts of rows. */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/device.h"
#ifdef __cplusplus
extern "C" {
#endif

static inline size_t elem_bytes(enum elem elem)
{
	return elem == ELEM_F32 ? 4 : elem == ELEM_BF16 ? 2 : 1;
}

/* Inputs that share a scale: of weights of ELEM_E4M3, and of a row that they multiply. */
#define LINEAR_GROUP 128

/* A row of n numbers.  Of ELEM_E4M3, n a multiple of LINEAR_GROUP: the codes, then the scale of each group in f32, padded to 16
 * bytes; strides of such rows are in bytes. */
static inline size_t elem_row_bytes(enum elem elem, size_t n)
{
	return elem == ELEM_E4M3 ? n + (n / LINEAR_GROUP * sizeof(float) + 15) / 16 * 16 : n * elem_bytes(elem);
}

/* --- linear: y = x W^T, W as on disk [n][k], packed once ------------------------------------------- */

struct linear;

#define LINEAR_SEGMENTS 8 /* at most */

struct linear_shape {
	uint32_t n; /* outputs */
	uint32_t k; /* inputs */
	enum elem elem;
	/* 1 for weights split by outputs. Row-parallel weights (attention output, MLP down): K is summed in
	 * device_props.row_segments segments and a binary tree, so that as many shards, or half of them and so on, give the
	 * same bits; of 8, a shard of degree d has k / d inputs and 8 / d segments, and op_tree_sum() joins the shards. k must
	 * divide into the segments, those of bf16 weights into pairs, and those of ELEM_E4M3, if more than one, into groups. */
	uint32_t segments;
	/* ELEM_E4M3: from output 0 on, so many share a scale for each group of inputs: 1, 2, 4 ... 128. */
	uint32_t scale_outputs;
};

/* Weights of ELEM_E4M3.  A row of inputs is rounded to e4m3 group by group: its scale is amax / 448 in f32, amax the greatest
 * magnitude of the group or LINEAR_AMAX_LEAST; a number is x / scale, a division in f32, rounded to the nearest.  An output is,
 * over the groups in order, sum = fma(part, scale of the row * scale of the weights, sum); a part is the sum over the group of
 * products, which are exact in f32: on a CPU in order, on a GPU as its tensor cores add (docs/gpu.md). */
#define LINEAR_AMAX_LEAST 1e-10f

/* ERR_NOMEM; ERR_INVALID when k does not divide into the segments. The weights are zero, and so are their scales. */
MUST_USE enum err linear_create(struct device *device, const struct linear_shape *shape,
				struct linear **ret_linear);
void linear_destroy(struct linear *linear); /* NULL is fine */
const struct linear_shape *linear_shape(const struct linear *linear);
size_t linear_bytes(const struct linear *linear); /* packed */
/* Packs outputs [first, first + count) from rows of k elements of the shape's type in host memory; MEM_PINNED stays as it is until
 * operations up to here have run, other memory may change at once.  Several matrices over the same input (q, k, v; gate, up) may be
 * filled into one linear, in any order; on a CPU by several threads, each its own outputs. */
void linear_fill(struct linear *linear, uint32_t first, uint32_t count, const void *source,
		 size_t source_stride);
/* ELEM_E4M3: the scales [group of inputs] of outputs [first, first + count), from host memory; both are multiples of
 * scale_outputs, or the end is the last output.  Memory and threads as linear_fill(). */
void linear_fill_scales(struct linear *linear, uint32_t first, uint32_t count, const float *source);
/* The bias of outputs [first, first + count) from host memory (as linear_fill()), added to the whole sum; those never filled have 0.
 * ERR_NOMEM at the first call, which may be of no outputs; threads as linear_fill() after it.  A shard of row-parallel weights has none: it would be added once for each. */
MUST_USE enum err linear_fill_bias(struct linear *linear, uint32_t first, uint32_t count, const float *source);

struct linear_call {
	const struct linear *linear;
	const void *x; /* [row][k] of x_elem */
	size_t x_stride;
	void *y; /* [row][n] of y_elem */
	size_t y_stride;
	uint32_t rows; /* may be 0 */
	enum elem x_elem, y_elem; /* f32, or device_props.input; x also ELEM_E4M3, if the weights and device_props.input_e4m3 are */
};
/* All calls at once: they must be independent, e.g. one for each expert. x and y never overlap. */
void op_linear(struct device *device, const struct linear_call *calls, size_t call_count);

struct tree_call {
	const float *const *parts; /* [part_count] on the host; each [row][n], n contiguous, of the device or of one joined with it */
	uint32_t part_count;       /* shards: 1, 2, 4, 8 */
	uint32_t rows, n;
	const float *bias; /* [n], added to the whole sum, or NULL */
	float *out;        /* [row][n]; may be a part */
};
/* out = the binary tree over the shards of row-parallel weights, then the bias: what one device that has all of them says. */
void op_tree_sum(struct device *device, const struct tree_call *call);

/* Rows that were shared out among devices: part i has rows [rows * i / part_count, rows * (i + 1) / part_count), at their place. */
struct collect_call {
	const float *const *parts; /* [part_count <= DEVICES_MAX] on the host; each [row][n], as of struct tree_call */
	uint32_t part_count;
	uint32_t rows, n;
	float *out; /* [row][n]; no part */
};
void op_collect(struct device *device, const struct collect_call *call);

/* --- rows ------------------------------------------------------------------------------------------ */

/* out[row] = table[token[row]], widened; table is [vocabulary][dim] of `elem`. */
void op_embed(struct device *device, const void *table, enum elem elem, uint32_t dim, const uint32_t *tokens,
	      uint32_t rows, float *out);
/* The same out of packed weights, f32 or bf16: tied embeddings are stored once. */
void op_embed_linear(struct device *device, const struct linear *table, const uint32_t *tokens, uint32_t rows,
		     float *out);

struct norm_call {
	float *x;	     /* [row][dim]; x += add first, where add is given */
	const float *add;    /* [row][dim] or NULL */
	const float *weight; /* [dim] */
	void *out;	     /* [row][dim] of out_elem = x / rms(x) * weight; may be x, if that is f32 */
	uint32_t rows, dim;  /* all contiguous */
	float eps;
	enum elem out_elem;
	void *narrow; /* NULL, or out once more, of ELEM_E4M3 (device_props.input_e4m3); then out may be NULL */
};
void op_rmsnorm(struct device *device, const struct norm_call *call);
/* x[row][head][dim] normalised in place head by head (Qwen3's q_norm and k_norm). */
void op_head_norm(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count,
		  uint32_t dim, const float *weight, float eps);
/* x[i] += add[i] */
void op_add(struct device *device, float *x, const float *add, uint32_t rows, uint32_t dim);
/* x[i] *= by */
void op_scale(struct device *device, float *x, float by, uint32_t rows, uint32_t dim);
enum glu_kind { GLU_SILU, GLU_GELU_TANH, GLU_CLAMPED };
struct glu {
	enum glu_kind kind;
	float alpha, limit; /* of GLU_CLAMPED */
};
struct glu_call {
	struct glu glu;
	const float *x; /* [row][2 dim]: gate first, then up */
	size_t x_stride;
	uint32_t rows, dim;
	void *out; /* [row][dim] of out_elem, which may be ELEM_E4M3 */
	size_t out_stride;
	enum elem out_elem;
};
/* out = activation(gate) * up.  GLU_CLAMPED: gate is at most limit, up within +-limit; then
 * gate * sigmoid(alpha * gate) * (up + 1). */
void op_glu(struct device *device, const struct glu_call *call);
/* out[i] = x[index[i]], rows of dim: e.g. the rows that need logits. */
void op_gather(struct device *device, const float *x, size_t x_stride, const uint32_t *index, uint32_t count,
	       uint32_t dim, float *out);

/* --- rope: halves, as Hugging Face rotates ----------------------------------------------------------- */

/* frequency[i] = theta^(-2i / dim), i < dim / 2, in f32 as Hugging Face; a caller may rescale them. Host. */
void rope_frequencies(double theta, uint32_t dim, float *ret_frequency);
/* factor * cos, sin [row][half] of (float)position * frequency (in f32, as Hugging Face): once a step, for all layers
 * that turn alike. */
void op_rope_angles(struct device *device, const uint32_t *positions, uint32_t rows, const float *frequency,
		    uint32_t half, float factor, float *ret_cos, float *ret_sin);
/* In place on x[row][head][dim]; the first 2 * half of dim are rotated. */
void op_rope(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count, uint32_t dim,
	     uint32_t half, const float *cos, const float *sin);

/* --- KV blocks and attention ------------------------------------------------------------------------- */

enum kv_kind {
	KV_HEADS,  /* [layer][kv_head][k|v][token][head_dim] */
	KV_LATENT, /* [layer][token][head_dim]: one vector for all heads, the key; its first value_dim are the value */
};

#define HEAD_DIM_MAX   512
#define LATENT_DIM_MAX 640

/* One block. */
struct kv_layout {
	uint32_t layer_count;
	uint32_t head_kv_count; /* KV_LATENT: 1 */
	uint32_t head_dim;	/* a multiple of 16, at most HEAD_DIM_MAX; of a latent block LATENT_DIM_MAX */
	uint32_t block_tokens;
	enum elem elem;
	enum kv_kind kind;
	uint32_t value_dim; /* KV_LATENT: a multiple of 16, at most HEAD_DIM_MAX and head_dim */
};

/* Elements of a value. */
static inline uint32_t kv_value_dim(const struct kv_layout *layout)
{
	return layout->kind == KV_LATENT ? layout->value_dim : layout->head_dim;
}

static inline size_t kv_head_bytes(const struct kv_layout *layout)
{
	size_t vectors = layout->kind == KV_LATENT ? 1 : 2;
	return vectors * layout->block_tokens * layout->head_dim * elem_bytes(layout->elem);
}

static inline size_t kv_layer_bytes(const struct kv_layout *layout)
{
	return layout->head_kv_count * kv_head_bytes(layout);
}

static inline size_t kv_block_bytes(const struct kv_layout *layout)
{
	return layout->layer_count * kv_layer_bytes(layout);
}

/* Blocks in memory; or of each some heads that lie side by side, a rank's view of whole blocks: layout, base and what is written are of
 * these heads alone then, and the strides those of whole blocks. */
struct kv_memory {
	struct kv_layout layout;
	void *base;
	size_t block_stride; /* bytes from block to block */
	size_t layer_stride; /* bytes from layer to layer, >= kv_layer_bytes() */
	uint32_t block_first; /* number of the block at base */
};

static inline uint8_t *kv_block_at(const struct kv_memory *kv, uint32_t block)
{
	return (uint8_t *)kv->base + (size_t)(block - kv->block_first) * kv->block_stride;
}

static inline uint8_t *kv_layer_at(const struct kv_memory *kv, uint32_t block, uint32_t layer)
{
	return kv_block_at(kv, block) + layer * kv->layer_stride;
}

/* Consecutive rows of one sequence: rows [row_first, row_first + row_count) of the batch are the positions
 * first_position ... of the sequence whose position p lies in block blocks[p / block_tokens].  Entries of blocks that no
 * row reads, outside every window, are not looked at. */
struct kv_run {
	const uint32_t *blocks;
	uint32_t first_position;
	uint32_t row_first;
	uint32_t row_count;
	bool digest; /* op_kv_digest() digests the blocks that it writes */
};

/* The runs of a step, wherever the device reads them: one object for each layer group, set once a step. */
struct kv_runs;

struct kv_runs_bounds {
	uint32_t runs_max;
	uint32_t rows_max;   /* of all runs together */
	uint32_t blocks_max; /* of one run */
	uint32_t block_tokens;
};

MUST_USE enum err kv_runs_create(struct device *device, const struct kv_runs_bounds *bounds, struct kv_runs **ret_runs);
void kv_runs_destroy(struct kv_runs *runs); /* NULL is fine */
/* In order with operations: those queued before see the runs of before.  The runs and their blocks (host) stay as they are
 * until the operations that use them have run. */
void kv_runs_set(struct kv_runs *runs, const struct kv_run *list, uint32_t count);
/* The same for a batch that has `padding` rows behind those of the runs, which are nobody's: no KV is written for them, attention
 * answers nothing, and what is queued does for as many runs of a row more (a step that was recorded so is one of all sizes up to it). */
void kv_runs_set_padded(struct kv_runs *runs, const struct kv_run *list, uint32_t count, uint32_t padding);

struct kv_write_call {
	const struct kv_memory *kv;
	uint32_t layer;
	const struct kv_runs *runs;
	const float *k, *v; /* [row][head_kv][head_dim]; latent blocks have no v */
	size_t stride;
};
/* Rounds k and v to the layout's type and puts them where they belong.  The slots behind the last one that a run writes become
 * zero in a block that it begins: so a partial block has a digest, whatever was in its memory. */
void op_kv_write(struct device *device, const struct kv_write_call *call);
struct qkv_call {
	const struct kv_memory *kv; /* KV_HEADS */
	uint32_t layer;
	const struct kv_runs *runs;
	float *x; /* [row][head_count queries, then the kv heads' keys, then their values][head_dim] */
	size_t x_stride;
	uint32_t rows; /* of the batch */
	uint32_t head_count;
	const float *q_norm, *k_norm; /* [head_dim], or NULL both: they are not normalised */
	float eps;
	uint32_t half;
	const float *cos, *sin; /* [row][half] as of op_rope_angles() */
};
/* What of a row comes before attention: queries and keys through op_head_norm() and op_rope(), keys and values through op_kv_write(), with the
 * bits of these.  Queries stay in x; what is left of keys and values there is not said. */
void op_qkv(struct device *device, const struct qkv_call *call);
struct kv_digest_call {
	const struct kv_memory *parts; /* [part_count] alike but for their base: the heads of a block in order, on the device or on one
					* joined with it; a CPU has all of them in 1 */
	uint32_t part_count;
	uint32_t layer;
	const struct kv_runs *runs;
	uint32_t turn, turns; /* of blocks whose number % turns is turn; 0, 1: of all */
	uint64_t *ret_digests;
};
/* The digest (base/digest.h) of the layer of each block that runs with `digest` write:
 * ret_digests[(block - block_first) * layer_count + layer]; MEM_PINNED, for the host to read. */
void op_kv_digest(struct device *device, const struct kv_digest_call *call);

struct attention_call {
	const struct kv_memory *kv;
	uint32_t layer;
	const struct kv_runs *runs;
	uint32_t head_count; /* a multiple of head_kv_count: head h reads kv head h / (head_count / head_kv_count) */
	const float *q;	     /* [row][head][head_dim]; latent: [row][head][value_dim] */
	size_t q_stride;
	void *out; /* [row][head][value_dim] of out_elem; may be q, if that is f32 */
	size_t out_stride;
	float scale;	 /* 1 / sqrt(head_dim) as a rule */
	float score_cap; /* scaled scores become cap * tanh(score / cap); 0: as they are */
	uint32_t window; /* positions that a row reads, the last its own; 0: all */
	const float *q_rest; /* latent: [row][head][head_dim - value_dim], what of the key is no value; else NULL */
	size_t q_rest_stride;
	const float *sinks; /* [head] scores beside those of the positions, which have a weight and no value; or NULL */
	enum elem out_elem;
};
/* Causal: a row at position p reads positions 0 .. p, its own included (write KV first), or the last `window` of
 * them. Positions are walked in splits of ATTENTION_SPLIT from 0, each split's (max, sum, acc) merged in order;
 * splits before a row's window are left out, and of all others the row meets the positions of its window only.
 * A sink joins the sum of weights once, after the last split. */
#define ATTENTION_SPLIT 256
void op_attention(struct device *device, const struct attention_call *call);

/* --- experts ----------------------------------------------------------------------------------------- */

#define MOE_EXPERTS_MAX 1024
#define MOE_TOP_K_MAX	64

enum moe_score {
	MOE_SOFTMAX, /* over all experts */
	MOE_SIGMOID, /* of each */
};

/* How scores become experts and weights: the same for every row of a layer. */
struct moe_routing {
	uint32_t expert_count;
	uint32_t top_k;
	enum moe_score score;
	/* Experts lie in group_count groups of equal size, and only those of the group_top greatest groups can be
	 * chosen; a group counts as the sum of its group_best greatest. 1 group: any expert. */
	uint32_t group_count;
	uint32_t group_top;
	uint32_t group_best; /* 1 or 2 */
	bool renormalise; /* weights divided by their sum: Mixtral, and where norm_topk_prob says so */
	float scale;	  /* weights times it: 1 as a rule */
};

struct moe_route_call {
	const struct moe_routing *routing;
	const float *logits; /* [row][expert_count] */
	const float *bias;   /* [expert_count], added to scores for the choice alone, not for weights; or NULL */
	uint32_t rows;
	uint32_t *ret_expert; /* [row][top_k], ascending: the fixed order of the sum */
	float *ret_weight;    /* [row][top_k], of ret_expert */
	const struct kv_runs *runs; /* NULL, or rows behind the last that a run has choose as the first row: no expert works for them alone */
};
/* The top k by score; among equals the lower expert, and the lower group. */
void op_moe_route(struct device *device, const struct moe_route_call *call);
/* Sorts slots (row * top_k + j) by expert: those of expert e are ret_slot[ret_first[e] .. ret_first[e + 1]),
 * ascending. ret_first has expert_count + 1 entries. */
void op_moe_group(struct device *device, const uint32_t *expert, uint32_t slot_count, uint32_t expert_count,
		  uint32_t *ret_first, uint32_t *ret_slot);
struct moe_gather_call {
	const void *x; /* [row][dim] of `elem` */
	uint32_t dim;
	const uint32_t *slot; /* [slot_count] */
	uint32_t slot_count;
	uint32_t top_k;
	void *out; /* [slot_count][dim] of out_elem */
	enum elem elem;
	enum elem out_elem; /* as elem; or, where that is f32, ELEM_E4M3 */
};
/* out[i] = x[slot[i] / top_k] rounded to bf16: what an expert gets, near or far. */
void op_moe_gather(struct device *device, const struct moe_gather_call *call);
struct moe_linear_call {
	const struct linear *const *linears; /* [expert_count] on the host, all of one shape */
	uint32_t expert_count;
	const uint32_t *first; /* [expert_count + 1] as of op_moe_group(): rows of each expert */
	uint32_t slot_count;   /* of all */
	const void *x; /* [slot_count][k] of x_elem */
	float *y;      /* [slot_count][n] */
	enum elem x_elem;
};
/* The rows of each expert through a linear of its own. */
void op_moe_linear(struct device *device, const struct moe_linear_call *call);
struct moe_scatter_call {
	const float *const *parts; /* [part_count] as of struct tree_call, each [slot_count][dim]: of shards of the experts */
	uint32_t part_count;       /* 1, 2, 4, 8 */
	uint32_t dim;
	const uint32_t *slot; /* [slot_count] */
	uint32_t slot_count;
	uint32_t first, end;    /* of slots: the others are left out */
	const float *bias;      /* [expert][dim], added to the whole sum, or NULL */
	const uint32_t *expert; /* of each slot, where there is a bias */
	uint16_t *answer;       /* [row][top_k][dim] */
};
/* answer[slot[i]] = the parts' sum of row i, rounded to bf16: what an expert answers, near or far. */
void op_moe_scatter(struct device *device, const struct moe_scatter_call *call);
/* out[row] = sum over j, in order, of weight[row][j] * answer[row][j]. */
void op_moe_combine(struct device *device, const uint16_t *answer, const float *weight, uint32_t rows,
		    uint32_t top_k, uint32_t dim, float *out);
/* x[row] += sigmoid(gate[row]) * add[row]: an expert that all rows share (Qwen2-MoE). */
void op_add_gated(struct device *device, float *x, const float *add, const float *gate, uint32_t rows, uint32_t dim);
/* Plain conversions, for rows that travel. */
void op_to_bf16(struct device *device, const float *x, size_t count, uint16_t *out);
void op_from_bf16(struct device *device, const uint16_t *x, size_t count, float *out);

/* --- logits (what is chosen from them: sample.h) ------------------------------------------------------- */

/* x[i] = cap * tanh(x[i] / cap) */
void op_soft_cap(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap);
/* out[i] = exp(x[i] - shift): the same bits on every CPU of the class. */
void op_exp(struct device *device, const float *x, float shift, uint32_t n, float *out);

#ifdef __cplusplus
}
#endif
#endif
