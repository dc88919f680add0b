#include "kernels/cpu/variant/kernels.h"
#include "kernels/cpu/variant/simd.h"
#include "kernels/cpu/variant/tile.h"
#include <assert.h>
#include <math.h>

/* One kv head, up to 64 query rows of one run: positions times the heads of the group, positions outside.
 * For each split of 256 positions: scores (queries times keys, transposed 16 positions to the lanes), their
 * softmax relative to the split's greatest, the weighted sum of values; then the split joins what came
 * before. What a row meets, and in what order, follows from its own position only:
 *   - scores: a plain sum over head_dim in each lane;
 *   - sum of weights: 16 lanes over the split, then the tree; lanes past the row's position hold 0;
 *   - values: a plain sum over the positions up to the row's own, never beyond it: slots not written yet
 *     are not even multiplied by 0. */

#define GROUP_TOKENS 64 /* keys or values widened at a time */
#define HEAD_DIM_MAX 512

struct work {
	const struct attention_item *item;
	uint32_t dim;
	uint32_t group;		 /* query heads of the kv head */
	uint32_t rows;		 /* row_count * group */
	uint32_t position_first; /* of row 0 */
	const uint8_t *keys;	 /* of the layer and head, in block 0 of the pool */
	float *q;		 /* [row][dim], scaled */
	float *scores;		 /* [row][ATTENTION_SPLIT] */
	float *values;		 /* [row][dim]: the split's weighted sum */
	float *total;		 /* [row][dim]: of all splits so far */
	float *wide;		 /* [token][dim]: 64 keys or values in f32 */
	float *lanes;		 /* [tile of 16 tokens][dim][16] */
	float greatest[ATTENTION_ROWS], sum[ATTENTION_ROWS]; /* of all splits so far */
	float split_greatest[ATTENTION_ROWS], split_sum[ATTENTION_ROWS];
};

_Static_assert(sizeof(struct work) + 64 +
			       4 * ((size_t)ATTENTION_ROWS * (3 * HEAD_DIM_MAX + ATTENTION_SPLIT) +
				    2 * GROUP_TOKENS * HEAD_DIM_MAX) <=
		       SCRATCH_BYTES,
	       "the greatest head fits the scratch");

static uint32_t position_of(const struct work *work, uint32_t row)
{
	return work->position_first + row / work->group;
}

/* The first row whose position is at least `position`. */
static uint32_t row_at(const struct work *work, uint32_t position)
{
	return position <= work->position_first ? 0 : (position - work->position_first) * work->group;
}

static struct work *work_begin(const struct attention_item *item, void *scratch)
{
	const struct attention_call *call = item->call;
	const struct kv_layout *layout = &call->kv->layout;
	struct work *work = scratch;
	work->item = item;
	work->dim = layout->head_dim;
	work->group = call->head_count / layout->head_kv_count;
	work->rows = item->row_count * work->group;
	work->position_first = item->run->first_position + item->row_first;
	work->keys = (const uint8_t *)call->kv->base + call->layer * kv_layer_bytes(layout) +
		     item->head_kv * kv_head_bytes(layout);
	work->q = (float *)(void *)((uint8_t *)scratch + (sizeof(*work) + 63) / 64 * 64);
	work->scores = work->q + (size_t)ATTENTION_ROWS * work->dim;
	work->values = work->scores + (size_t)ATTENTION_ROWS * ATTENTION_SPLIT;
	work->total = work->values + (size_t)ATTENTION_ROWS * work->dim;
	work->wide = work->total + (size_t)ATTENTION_ROWS * work->dim;
	work->lanes = work->wide + (size_t)GROUP_TOKENS * work->dim;
	assert(work->rows <= ATTENTION_ROWS && work->dim <= HEAD_DIM_MAX && work->dim % LANES == 0);
	return work;
}

static size_t head_offset(const struct work *work, uint32_t row, size_t stride)
{
	const struct attention_item *item = work->item;
	size_t batch_row = item->run->row_first + item->row_first + row / work->group;
	return batch_row * stride + (size_t)(item->head_kv * work->group + row % work->group) * work->dim;
}

static void scale_queries(struct work *work)
{
	const struct attention_call *call = work->item->call;
	for (uint32_t row = 0; row < work->rows; row++) {
		const float *q = call->q + head_offset(work, row, call->q_stride);
		for (uint32_t i = 0; i < work->dim; i++)
			work->q[(size_t)row * work->dim + i] = q[i] * call->scale;
	}
}

/* Keys (or values) of positions [first, first + count) to work->wide. */
static void widen_tokens(struct work *work, bool values, uint32_t first, uint32_t count)
{
	const struct kv_memory *kv = work->item->call->kv;
	uint32_t block_tokens = kv->layout.block_tokens;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t position = first + i;
		size_t block = work->item->run->blocks[position / block_tokens];
		size_t slot = position % block_tokens + (values ? block_tokens : 0);
		const uint8_t *from = work->keys + block * kv->block_stride +
				      slot * work->dim * elem_bytes(kv->layout.elem);
		float *to = work->wide + (size_t)i * work->dim;
		if (kv->layout.elem == ELEM_F32)
			memcpy(to, from, work->dim * sizeof(*to));
		else
			for (uint32_t d = 0; d < work->dim; d += LANES)
				v_store(to + d, v_widen((const uint16_t *)(const void *)from + d));
	}
}

#if KERNEL_ISA >= 1
/* 8 tokens x 8 of dim. */
static void transpose_8x8(const float *from, size_t from_stride, float *to)
{
	__m256 row[8], pair[8];
	for (int i = 0; i < 4; i++) {
		const float *low = from + i * from_stride, *high = low + 4 * from_stride;
		row[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
		row[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low + 4)),
						  _mm_loadu_ps(high + 4), 1);
	}
	for (int i = 0; i < 8; i += 4) {
		pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
		pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
		pair[i + 2] = _mm256_unpacklo_ps(row[i + 2], row[i + 3]);
		pair[i + 3] = _mm256_unpackhi_ps(row[i + 2], row[i + 3]);
	}
	for (int i = 0; i < 8; i += 4) {
		_mm256_storeu_ps(to + (i + 0) * LANES, _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44));
		_mm256_storeu_ps(to + (i + 1) * LANES, _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee));
		_mm256_storeu_ps(to + (i + 2) * LANES, _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44));
		_mm256_storeu_ps(to + (i + 3) * LANES, _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee));
	}
}
#else
static void transpose_8x8(const float *from, size_t from_stride, float *to)
{
	for (int token = 0; token < 8; token++)
		for (int i = 0; i < 8; i++)
			to[i * LANES + token] = from[token * from_stride + i];
}
#endif

/* work->wide [token][dim] to work->lanes [tile][dim][16]. */
static void tokens_to_lanes(struct work *work, uint32_t tiles)
{
	for (uint32_t token = 0; token < tiles * LANES; token += 8) {
		float *to = work->lanes + (size_t)(token / LANES) * work->dim * LANES + token % LANES;
		for (uint32_t d = 0; d < work->dim; d += 8)
			transpose_8x8(work->wide + (size_t)token * work->dim + d, work->dim, to + (size_t)d * LANES);
	}
}

/* Scores of positions [first, first + count), count <= 64, of the split that begins at `split`. */
static void score_group(struct work *work, uint32_t split, uint32_t first, uint32_t count)
{
	uint32_t tiles = (count + LANES - 1) / LANES, row = row_at(work, first);
	widen_tokens(work, false, first, count);
	memset(work->wide + (size_t)count * work->dim, 0,
	       (size_t)(tiles * LANES - count) * work->dim * sizeof(*work->wide));
	tokens_to_lanes(work, tiles);
	tile_run(TILE_F32, &(struct tile){
				   .x = work->q + (size_t)row * work->dim,
				   .x_stride = work->dim,
				   .w = work->lanes,
				   .w_step = LANES,
				   .w_panel = (size_t)work->dim * LANES,
				   .acc = work->scores + (size_t)row * ATTENTION_SPLIT + (first - split),
				   .acc_stride = ATTENTION_SPLIT,
				   .rows = work->rows - row,
				   .panels = tiles,
				   .steps = work->dim,
			   });
}

/* Scores of one row and split to weights, with their greatest and sum; count positions are seen. */
static void soften_row(struct work *work, uint32_t row, uint32_t count)
{
	float *scores = work->scores + (size_t)row * ATTENTION_SPLIT;
	uint32_t tail = count / LANES * LANES, padded = (count + LANES - 1) / LANES * LANES;
	if (tail < count)
		v_store(scores + tail, v_load_part(scores + tail, count - tail, -INFINITY));
	struct v16 greatest = v_set(-INFINITY), sum = v_set(0.0f);
	for (uint32_t i = 0; i < padded; i += LANES)
		greatest = v_max(greatest, v_load(scores + i));
	work->split_greatest[row] = v_greatest(greatest);
	for (uint32_t i = 0; i < padded; i += LANES) {
		struct v16 weight = v_exp(v_sub(v_load(scores + i), v_set(work->split_greatest[row])));
		v_store(scores + i, weight);
		sum = v_add(sum, weight);
	}
	work->split_sum[row] = v_sum(sum);
}

/* values[rows] += weights of `count` positions from `first` times work->wide */
static void add_values(struct work *work, uint32_t row, uint32_t rows, uint32_t split, uint32_t first, uint32_t count)
{
	tile_run(TILE_F32, &(struct tile){
				   .x = work->scores + (size_t)row * ATTENTION_SPLIT + (first - split),
				   .x_stride = ATTENTION_SPLIT,
				   .w = work->wide,
				   .w_step = work->dim,
				   .w_panel = LANES,
				   .acc = work->values + (size_t)row * work->dim,
				   .acc_stride = work->dim,
				   .rows = rows,
				   .panels = work->dim / LANES,
				   .steps = count,
				   .add = first > split,
			   });
}

static void value_group(struct work *work, uint32_t split, uint32_t first, uint32_t count)
{
	uint32_t row = row_at(work, first);
	widen_tokens(work, true, first, count);
	/* Rows that end within the group, position by position; then those that see all of it together. */
	while (row < work->rows && position_of(work, row) - first + 1 < count) {
		add_values(work, row, work->group, split, first, position_of(work, row) - first + 1);
		row += work->group;
	}
	if (row < work->rows)
		add_values(work, row, work->rows - row, split, first, count);
}

static void join_split(struct work *work, uint32_t row, bool is_first)
{
	float *total = work->total + (size_t)row * work->dim;
	const float *values = work->values + (size_t)row * work->dim;
	if (is_first) {
		work->greatest[row] = work->split_greatest[row];
		work->sum[row] = work->split_sum[row];
		memcpy(total, values, work->dim * sizeof(*total));
		return;
	}
	float old = work->greatest[row], new = work->split_greatest[row];
	float greatest = old > new ? old : new;
	struct v16 old_scale = v_exp(v_set(old - greatest)), new_scale = v_exp(v_set(new - greatest));
	float sum[LANES];
	v_store(sum, v_fma(v_set(work->sum[row]), old_scale, v_mul(v_set(work->split_sum[row]), new_scale)));
	work->sum[row] = sum[0];
	work->greatest[row] = greatest;
	for (uint32_t d = 0; d < work->dim; d += LANES)
		v_store(total + d,
			v_fma(v_load(total + d), old_scale, v_mul(v_load(values + d), new_scale)));
}

static void do_split(struct work *work, uint32_t split, uint32_t end)
{
	uint32_t row_first = row_at(work, split);
	for (uint32_t first = split; first < end; first += GROUP_TOKENS)
		score_group(work, split, first, end - first < GROUP_TOKENS ? end - first : GROUP_TOKENS);
	for (uint32_t row = row_first; row < work->rows; row++) {
		uint32_t seen = position_of(work, row) + 1 - split;
		soften_row(work, row, seen < ATTENTION_SPLIT ? seen : ATTENTION_SPLIT);
	}
	for (uint32_t first = split; first < end; first += GROUP_TOKENS)
		value_group(work, split, first, end - first < GROUP_TOKENS ? end - first : GROUP_TOKENS);
	for (uint32_t row = row_first; row < work->rows; row++)
		join_split(work, row, split == 0);
}

void kernel_attention(const struct attention_item *item, void *scratch)
{
	const struct attention_call *call = item->call;
	struct work *work = work_begin(item, scratch);
	uint32_t end = work->position_first + item->row_count; /* positions that the last row sees */
	scale_queries(work);
	for (uint32_t split = 0; split < end; split += ATTENTION_SPLIT)
		do_split(work, split, end - split < ATTENTION_SPLIT ? end : split + ATTENTION_SPLIT);
	for (uint32_t row = 0; row < work->rows; row++) {
		float *out = call->out + head_offset(work, row, call->out_stride);
		const float *total = work->total + (size_t)row * work->dim;
		float inverse = 1.0f / work->sum[row];
		for (uint32_t d = 0; d < work->dim; d++)
			out[d] = total[d] * inverse;
	}
}
