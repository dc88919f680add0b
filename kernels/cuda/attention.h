/* attention - what the forms of attention share: the call as kernels see it, and the arithmetic of splits.
 *
 * Owns:   nothing; partial sums lie in the device's scratch (cuda_scratch()) for one call.
 * Loop:   the one caller of the device; the rest is device code.
 * Bounds: ATTENTION_RUNS_MAX runs a call; ATTENTION_PARTIAL_BYTES of partial sums: runs that find no room there are
 *         walked by one block instead, with the same bits.
 * Rules:  1 a row's bits follow from its own position, query and KV alone (but in the class "fast": attention_split()). Within
 *           a split (ATTENTION_SPLIT positions from position 0) tiles of ATTENTION_TILE positions are taken in order, relative to
 *           a level that the row's scores so far set (attention_weights.h); splits are joined in order by attention_join(), which is
 *           what both a block that walks them and the kernel that merges them do. A tile or a split of which the row sees
 *           nothing changes no bit: weights are 0, factors 1;
 *         2 so what is a block's work (which rows, which splits) is free to choose, and is chosen by what is fast;
 *         3 values that a row does not see are multiplied by 0 where others of its tile see them: they are finite, as all
 *           that op_kv_write() wrote. What no row of the tile sees is not read: it may be anything. */
#ifndef KERNELS_CUDA_ATTENTION_H
#define KERNELS_CUDA_ATTENTION_H
#include <math.h>
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/simt.h"
#include "kernels/ops.h"

#define ATTENTION_TILE		64 /* positions; and rows of a tile of queries: what wgmma takes */
#define ATTENTION_RUNS_MAX	1024
#define ATTENTION_PARTIAL_BYTES (UINT64_C(96) << 20)
#define ATTENTION_TOTAL_BYTES	(UINT64_C(64) << 20) /* of walking blocks whose sums are too many for registers */
#define ATTENTION_MAIL_WORDS	22 /* of a thread: 16 of weights, 6 of its rows' state */
#define ATTENTION_MAIL_BYTES	(UINT64_C(8) << 20)
#define ATTENTION_FAST_TILES_MAX 16
#define ATTENTION_WALKED	UINT32_MAX

#define LOG2_E 1.44269504f

struct attention_job {
	const uint8_t *keys; /* of the layer and head 0, in block 0 of the pool */
	size_t block_stride, head_bytes;
	uint32_t vector_bytes; /* from token to token */
	uint32_t value_offset; /* bytes from a token's key to its value; latent: 0 */
	uint32_t block_tokens, block_first;
	uint32_t head_dim, value_dim;
	uint32_t head_count, head_kv_count, group; /* group: query heads of a kv head */
	uint32_t window;			   /* positions that a row sees; UINT32_MAX: all */
	const float *q, *q_rest;
	size_t q_stride, q_rest_stride;
	uint32_t q_dim;	 /* of a head in q; the rest of head_dim is in q_rest */
	bool q_vectors;	 /* q and q_rest can be read by 16 bytes */
	bool out_bf16;
	void *out;
	size_t out_stride;
	float scale, cap;
	const float *sinks;
	struct cuda_runs_view runs;
	/* Of runs that are shared out: (level, sum) and values of each row and split. */
	float2 *stats;
	float *values;		  /* [partial row][value_dim] */
	uint32_t *partial_first;  /* [run] its first partial row, or ATTENTION_WALKED */
	uint32_t partial_rows;	  /* room */
	float *totals;		  /* [block of the grid][...] */
	uint32_t *mail;		  /* [block of the grid][4][ATTENTION_MAIL_WORDS][128] */
	uint32_t split_share;	  /* blocks for a kv head; 0: splits are ATTENTION_SPLIT, whoever is there */
};

/* At open: lets the kernels of the tensor-core form have their shared memory. */
enum err attention_prepare(struct cuda_device *device);
/* The tensor-core form, bf16 KV (attention_tiles.cu); then, if runs were shared out, op_attention() merges. */
void attention_tiles(struct device *device, const struct attention_job *job, uint32_t rows_longest);
/* Plain multiply-adds, f32 KV (attention_f32.cu): the bits of cpu-fma-1. */
void attention_f32(struct device *device, const struct attention_job *job, uint32_t rows);

/* --- positions --------------------------------------------------------------------------------------------- */

/* The first position that a row at `position` sees. */
SIMT_DEVICE uint32_t attention_low(const struct attention_job *job, uint32_t position)
{
	return position < job->window ? 0 : position + 1 - job->window;
}

/* Positions of a split.  In the class "fast" as many as give the blocks one each, whatever the runs are. */
SIMT_DEVICE uint32_t attention_split(const struct attention_job *job)
{
	if (job->split_share == 0)
		return ATTENTION_SPLIT;
	uint32_t tiles = (job->runs.counts[CUDA_COUNT_TILES] + job->split_share - 1) / job->split_share;
	return (tiles < ATTENTION_FAST_TILES_MAX ? tiles : ATTENTION_FAST_TILES_MAX) * ATTENTION_TILE;
}

/* Splits that rows of positions [first, end) meet. */
struct attention_splits {
	uint32_t first, end;
};

SIMT_DEVICE struct attention_splits attention_splits_of(const struct attention_job *job, uint32_t first, uint32_t end)
{
	uint32_t split = attention_split(job);
	return {attention_low(job, first) / split, (end + split - 1) / split};
}

/* The partial row of packed row `row` (of a run: its row times group plus the head of the group) in a split, from the run's
 * first. */
SIMT_DEVICE uint32_t attention_partial(const struct attention_job *job, const struct cuda_run *run, uint32_t split,
				       uint32_t head_kv, uint32_t row)
{
	return (split * job->head_kv_count + head_kv) * (run->row_count * job->group) + row;
}

/* --- splits ------------------------------------------------------------------------------------------------ */

/* What a row has met: weights are 2^(score - level), the level being near the greatest score, in units of log 2. */
struct attention_sum {
	float level, sum;
};

struct attention_factors {
	float old, add;
};

/* sum = sum and `add`, whose values are then old * values + add * values. -INFINITY is nothing, and changes nothing. */
SIMT_DEVICE struct attention_factors attention_join(struct attention_sum *sum, struct attention_sum add)
{
	float level = sum->level > add.level ? sum->level : add.level;
	float base = level == -INFINITY ? 0.0f : level;
	struct attention_factors by = {simt_exp2_fast(sum->level - base), simt_exp2_fast(add.level - base)};
	sum->level = level;
	sum->sum = simt_fma(sum->sum, by.old, add.sum * by.add);
	return by;
}

SIMT_DEVICE float attention_join_value(float total, float value, struct attention_factors by)
{
	return simt_fma(total, by.old, value * by.add);
}

/* What a row's values are multiplied by in the end. A sink is one more score, which may be the greatest. */
SIMT_DEVICE float attention_share(const struct attention_job *job, struct attention_sum sum, uint32_t head)
{
	if (!job->sinks)
		return 1.0f / sum.sum;
	float sink = job->sinks[head] * LOG2_E, level = sum.level > sink ? sum.level : sink;
	float scale = simt_exp2_fast(sum.level - level);
	return scale / simt_fma(sum.sum, scale, simt_exp2_fast(sink - level));
}

/* --- KV and rows ------------------------------------------------------------------------------------------- */

/* The key of a position of the run and kv head 0. */
SIMT_DEVICE const uint8_t *attention_key(const struct attention_job *job, const struct cuda_run *run, uint32_t position)
{
	uint32_t index = position / job->block_tokens, slot = position - index * job->block_tokens;
	size_t block = job->runs.tables[run->table + index] - job->block_first;
	return job->keys + block * job->block_stride + (size_t)slot * job->vector_bytes;
}
#endif
