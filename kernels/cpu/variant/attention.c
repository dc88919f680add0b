#include "kernels/cpu/variant/kernels.h"
#include "kernels/cpu/variant/simd.h"
#include "kernels/cpu/variant/tile.h"
#include <assert.h>
#include <math.h>

/* One kv head, up to 64 query rows of one run: positions times heads of the group, positions outside.
 * For each split of 256 positions: scores (queries times keys, transposed 16 positions to the lanes), their
 * softmax relative to the split's greatest, the weighted sum of values; then the split joins what came
 * before. What a row meets, and in what order, follows from its own position only:
 *   - scores: a plain sum over head_dim in each lane;
 *   - sum of weights: 16 lanes over the split, then the tree; lanes past the row's position hold 0;
 *   - values: a plain sum over the positions up to the row's own, never beyond it: slots not written yet
 *     are not even multiplied by 0.
 * A sink, a score of the head without a value, joins the sum of weights at the very end.
 * With a window the same holds from the row's first position on: splits before it are left out, lanes before it
 * hold 0, values before it are not touched. */

#define GROUP_TOKENS 64 /* keys or values widened at a time */
#define TILE_GAP     16 /* elements between tiles of keys: they must not share the sets of a cache */

struct work {
	const struct attention_item *item;
	uint32_t key_dim, value_dim;
	uint32_t heads;		 /* of the item */
	uint32_t rows;		 /* row_count * heads */
	uint32_t position_first; /* of row 0 */
	uint32_t window;	 /* positions that a row sees; UINT32_MAX: all */
	uint32_t low;		 /* the first that row 0 sees: blocks before it may be gone, and are not looked at */
	const uint8_t *keys;	 /* of the layer and head, in block 0 of the pool */
	size_t vector_bytes;	 /* from token to token */
	size_t value_offset;	 /* bytes from a token's key to its value: 0 where it is the first part of the key */
	float *q;		 /* [row][key_dim], scaled */
	float *scores;		 /* [row][ATTENTION_SPLIT] */
	float *values;		 /* [row][value_dim]: the split's weighted sum */
	float *total;		 /* [row][value_dim]: of all splits so far */
	float *wide;		 /* 64 values in f32, [token][value_dim]; or keys, [tile][key_dim][16] */
	uint32_t *lanes;	 /* keys as [tile of 16 tokens][word][16]: f32, or pairs of bf16 */
	float greatest[ATTENTION_ROWS], sum[ATTENTION_ROWS]; /* of all splits so far */
	float split_greatest[ATTENTION_ROWS], split_sum[ATTENTION_ROWS];
};

_Static_assert(sizeof(struct work) + 64 +
			       4 * ((size_t)ATTENTION_ROWS * (LATENT_DIM_MAX + 2 * HEAD_DIM_MAX + ATTENTION_SPLIT) +
				    2 * (GROUP_TOKENS * LATENT_DIM_MAX + TILE_GAP * GROUP_TOKENS / LANES)) <=
		       SCRATCH_BYTES,
	       "the greatest key fits the scratch");

static uint32_t position_of(const struct work *work, uint32_t row)
{
	return work->position_first + row / work->heads;
}

/* The first row whose position is at least `position`. */
static uint32_t row_at(const struct work *work, uint32_t position)
{
	return position <= work->position_first ? 0 : (position - work->position_first) * work->heads;
}

/* The first position that the row sees. */
static uint32_t low_of(const struct work *work, uint32_t row)
{
	uint32_t position = position_of(work, row);
	return position < work->window ? 0 : position + 1 - work->window;
}

/* The first row that does not see `position` any more, being too far behind it. */
static uint32_t row_past(const struct work *work, uint32_t position)
{
	uint64_t end = (uint64_t)position + work->window;
	if (end >= work->position_first + work->item->row_count)
		return work->rows;
	return row_at(work, (uint32_t)end);
}

static struct work *work_begin(const struct attention_item *item, void *scratch)
{
	const struct attention_call *call = item->call;
	const struct kv_layout *layout = &call->kv->layout;
	struct work *work = scratch;
	work->item = item;
	work->key_dim = layout->head_dim;
	work->value_dim = kv_value_dim(layout);
	work->heads = item->head_count;
	work->rows = item->row_count * work->heads;
	work->position_first = item->run->first_position + item->row_first;
	work->window = call->window == 0 ? UINT32_MAX : call->window;
	work->keys = (const uint8_t *)call->kv->base + call->layer * call->kv->layer_stride +
		     item->head_kv * kv_head_bytes(layout);
	work->vector_bytes = layout->head_dim * elem_bytes(layout->elem);
	work->value_offset = layout->kind == KV_LATENT ? 0 : layout->block_tokens * work->vector_bytes;
	work->q = (float *)(void *)((uint8_t *)scratch + (sizeof(*work) + 63) / 64 * 64);
	work->scores = work->q + (size_t)ATTENTION_ROWS * work->key_dim;
	work->values = work->scores + (size_t)ATTENTION_ROWS * ATTENTION_SPLIT;
	work->total = work->values + (size_t)ATTENTION_ROWS * work->value_dim;
	work->wide = work->total + (size_t)ATTENTION_ROWS * work->value_dim;
	work->lanes = (uint32_t *)(void *)(work->wide + GROUP_TOKENS * (size_t)work->key_dim +
					       TILE_GAP * GROUP_TOKENS / LANES);
	work->low = low_of(work, 0);
	assert(work->rows <= ATTENTION_ROWS);
	return work;
}

/* Elements from the start of a batch's rows to the item's row, where each of its heads has `dim`. */
static size_t head_offset(const struct work *work, uint32_t row, size_t stride, uint32_t dim)
{
	const struct attention_item *item = work->item;
	size_t batch_row = item->run->row_first + item->row_first + row / work->heads;
	return batch_row * stride + (size_t)(item->head_first + row % work->heads) * dim;
}

static void scale_part(const float *from, uint32_t dim, float scale, float *to)
{
	for (uint32_t i = 0; i < dim; i++)
		to[i] = from[i] * scale;
}

static void scale_queries(struct work *work)
{
	const struct attention_call *call = work->item->call;
	uint32_t dim = call->q_rest ? work->value_dim : work->key_dim, rest = work->key_dim - dim;
	for (uint32_t row = 0; row < work->rows; row++) {
		float *to = work->q + (size_t)row * work->key_dim;
		scale_part(call->q + head_offset(work, row, call->q_stride, dim), dim, call->scale, to);
		if (rest > 0)
			scale_part(call->q_rest + head_offset(work, row, call->q_rest_stride, rest), rest,
				   call->scale, to + dim);
	}
}

static const uint8_t *token_at(const struct work *work, bool value, uint32_t position)
{
	const struct kv_memory *kv = work->item->call->kv;
	size_t block = work->item->run->blocks[position / kv->layout.block_tokens] - kv->block_first;
	size_t slot = position % kv->layout.block_tokens;
	return work->keys + block * kv->block_stride + slot * work->vector_bytes + (value ? work->value_offset : 0);
}

static void prefetch_token(const struct work *work, bool value, uint32_t position)
{
	const uint8_t *token = token_at(work, value, position);
	for (size_t i = 0; i < work->vector_bytes; i += 64)
		__builtin_prefetch(token + i, 0, 2);
}

#if KERNEL_ISA >= 1
/* 8 words of 8 tokens to 8 rows of 16 lanes, of which the tokens are 8. */
static void transpose_8x8(const uint8_t *const tokens[8], size_t offset, uint32_t *to)
{
	__m256 row[8], pair[8];
	float *out = (float *)(void *)to;
	for (int i = 0; i < 4; i++) {
		const float *low = (const float *)(const void *)(tokens[i] + offset);
		const float *high = (const float *)(const void *)(tokens[i + 4] + offset);
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
		_mm256_storeu_ps(out + (i + 0) * LANES, _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44));
		_mm256_storeu_ps(out + (i + 1) * LANES, _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee));
		_mm256_storeu_ps(out + (i + 2) * LANES, _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44));
		_mm256_storeu_ps(out + (i + 3) * LANES, _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee));
	}
}
#else
static void transpose_8x8(const uint8_t *const tokens[8], size_t offset, uint32_t *to)
{
	for (int token = 0; token < 8; token++)
		for (size_t i = 0; i < 8; i++)
			memcpy(&to[i * LANES + token], tokens[token] + offset + i * 4, 4);
}
#endif

/* Keys of positions [first, first + count) to work->lanes. Whole tiles are written: the lanes past the last
 * repeat it, those before the first that is seen repeat that, nobody looks at them. On the way it asks for the keys that come next and the values of these:
 * blocks lie anywhere, and no prefetcher of a CPU crosses a page. */
static void keys_to_lanes(struct work *work, uint32_t first, uint32_t count, uint32_t end)
{
	uint32_t words = (uint32_t)(work->vector_bytes / 4);
	for (uint32_t i = 0; i < (count + LANES - 1) / LANES * LANES; i += 8) {
		const uint8_t *tokens[8];
		for (uint32_t j = 0; j < 8; j++) {
			uint32_t position = first + (i + j < count ? i + j : count - 1);
			position = position < work->low ? work->low : position;
			tokens[j] = token_at(work, false, position);
			if (work->value_offset > 0)
				prefetch_token(work, true, position);
			if (position + GROUP_TOKENS < end)
				prefetch_token(work, false, position + GROUP_TOKENS);
		}
		uint32_t *to = work->lanes + (i / LANES) * ((size_t)words * LANES + TILE_GAP) + i % LANES;
		for (uint32_t word = 0; word < words; word += 8)
			transpose_8x8(tokens, word * 4, to + (size_t)word * LANES);
	}
}

/* Scores of positions [first, first + count), count <= 64, of the split that begins at `split`. */
static void score_group(struct work *work, uint32_t split, uint32_t first, uint32_t count, uint32_t end)
{
	uint32_t tiles = (count + LANES - 1) / LANES, row = row_at(work, first);
	uint32_t row_end = row_past(work, first + count - 1);
	bool pairs = work->item->call->kv->layout.elem == ELEM_BF16;
	struct tile tile = {
		.x = work->q + (size_t)row * work->key_dim,
		.x_stride = work->key_dim,
		.w = work->lanes,
		.w_step = LANES,
		.w_panel = (size_t)(pairs ? work->key_dim / 2 : work->key_dim) * LANES + TILE_GAP,
		.acc = work->scores + (size_t)row * ATTENTION_SPLIT + (first - split),
		.acc_stride = ATTENTION_SPLIT,
		.rows = row_end - row,
		.panels = tiles,
		.steps = pairs ? work->key_dim / 2 : work->key_dim,
	};
	keys_to_lanes(work, first, count, end);
	if (pairs && tile.rows >= TILE_WIDEN_ROWS) {
		size_t wide_panel = (size_t)work->key_dim * LANES + TILE_GAP;
		for (uint32_t i = 0; i < tiles; i++)
			tile_widen(work->lanes + i * tile.w_panel, tile.steps, work->wide + i * wide_panel);
		pairs = false;
		tile.w = work->wide;
		tile.w_panel = wide_panel;
		tile.steps *= 2;
	}
	tile_run(pairs ? TILE_PAIR : TILE_F32, &tile);
}

/* Values of positions [first, first + count) to work->wide, but for those that no row sees. */
static void widen_values(struct work *work, uint32_t first, uint32_t count)
{
	for (uint32_t i = first < work->low ? work->low - first : 0; i < count; i++) {
		const uint8_t *from = token_at(work, true, first + i);
		float *to = work->wide + (size_t)i * work->value_dim;
		if (work->item->call->kv->layout.elem == ELEM_F32)
			memcpy(to, from, work->value_dim * sizeof(*to));
		else
			for (uint32_t d = 0; d < work->value_dim; d += LANES)
				v_store(to + d, v_widen((const uint16_t *)(const void *)from + d));
	}
}

/* Scores of one row and split to weights, with their greatest and sum; those of [first, end) are seen. */
static void soften_row(struct work *work, uint32_t row, uint32_t first, uint32_t end)
{
	float *scores = work->scores + (size_t)row * ATTENTION_SPLIT, cap = work->item->call->score_cap;
	uint32_t begin = first / LANES * LANES, tail = end / LANES * LANES, padded = (end + LANES - 1) / LANES * LANES;
	for (uint32_t i = begin; cap > 0 && i < padded; i += LANES)
		v_store(scores + i, v_soft_cap(v_load(scores + i), cap));
	for (uint32_t i = begin; i < first; i++)
		scores[i] = -INFINITY;
	if (tail < end)
		v_store(scores + tail, v_load_part(scores + tail, end - tail, -INFINITY));
	struct v16 greatest = v_set(-INFINITY), sum = v_set(0.0f);
	for (uint32_t i = begin; i < padded; i += LANES)
		greatest = v_max(greatest, v_load(scores + i));
	work->split_greatest[row] = v_greatest(greatest);
	for (uint32_t i = begin; i < padded; i += LANES) {
		struct v16 weight = v_exp(v_sub(v_load(scores + i), v_set(work->split_greatest[row])));
		v_store(scores + i, weight);
		sum = v_add(sum, weight);
	}
	work->split_sum[row] = v_sum(sum);
}

struct span {
	uint32_t first, end; /* positions */
};

/* values[rows] += weights of the positions of `seen` times theirs, which begin in work->wide with `group`.  With a
 * window the sums began as zeros: rows come in at positions of their own. */
static void add_values(struct work *work, uint32_t row, uint32_t rows, uint32_t split, uint32_t group, struct span seen)
{
	tile_run(TILE_F32, &(struct tile){
				   .x = work->scores + (size_t)row * ATTENTION_SPLIT + (seen.first - split),
				   .x_stride = ATTENTION_SPLIT,
				   .w = work->wide + (size_t)(seen.first - group) * work->value_dim,
				   .w_step = work->value_dim,
				   .w_panel = LANES,
				   .acc = work->values + (size_t)row * work->value_dim,
				   .acc_stride = work->value_dim,
				   .rows = rows,
				   .panels = work->value_dim / LANES,
				   .steps = seen.end - seen.first,
				   .add = group > split || work->window != UINT32_MAX,
			   });
}

static void value_group(struct work *work, uint32_t split, uint32_t first, uint32_t count)
{
	uint32_t row = row_at(work, first), row_end = row_past(work, first + count - 1);
	widen_values(work, first, count);
	/* Rows that begin or end within the group, position by position; those that see all of it together. */
	while (row < row_end) {
		struct span seen = {low_of(work, row), position_of(work, row) + 1};
		bool whole = seen.first <= first && seen.end >= first + count;
		uint32_t rows = whole ? row_past(work, first) - row : work->heads;
		seen.first = seen.first > first ? seen.first : first;
		seen.end = seen.end < first + count ? seen.end : first + count;
		add_values(work, row, rows, split, first, seen);
		row += rows;
	}
}

static void join_split(struct work *work, uint32_t row, bool is_first)
{
	float *total = work->total + (size_t)row * work->value_dim;
	const float *values = work->values + (size_t)row * work->value_dim;
	if (is_first) {
		work->greatest[row] = work->split_greatest[row];
		work->sum[row] = work->split_sum[row];
		memcpy(total, values, work->value_dim * sizeof(*total));
		return;
	}
	float old = work->greatest[row], new = work->split_greatest[row];
	float greatest = old > new ? old : new;
	struct v16 old_scale = v_exp(v_set(old - greatest)), new_scale = v_exp(v_set(new - greatest));
	float sum[LANES];
	v_store(sum, v_fma(v_set(work->sum[row]), old_scale, v_mul(v_set(work->split_sum[row]), new_scale)));
	work->sum[row] = sum[0];
	work->greatest[row] = greatest;
	for (uint32_t d = 0; d < work->value_dim; d += LANES)
		v_store(total + d,
			v_fma(v_load(total + d), old_scale, v_mul(v_load(values + d), new_scale)));
}

static void do_split(struct work *work, uint32_t split, uint32_t item_end)
{
	uint32_t end = item_end - split < ATTENTION_SPLIT ? item_end : split + ATTENTION_SPLIT;
	uint32_t row_first = row_at(work, split), row_end = row_past(work, end - 1), low = work->low;
	uint32_t begin = low > split ? low / GROUP_TOKENS * GROUP_TOKENS : split;
	for (uint32_t first = begin; first < end; first += GROUP_TOKENS)
		score_group(work, split, first, end - first < GROUP_TOKENS ? end - first : GROUP_TOKENS, item_end);
	for (uint32_t row = row_first; row < row_end; row++) {
		uint32_t past = position_of(work, row) + 1 - split;
		low = low_of(work, row);
		soften_row(work, row, low > split ? low - split : 0, past < ATTENTION_SPLIT ? past : ATTENTION_SPLIT);
	}
	if (work->window != UINT32_MAX)
		memset(work->values + (size_t)row_first * work->value_dim, 0,
		       (size_t)(row_end - row_first) * work->value_dim * sizeof(*work->values));
	for (uint32_t first = begin; first < end; first += GROUP_TOKENS)
		value_group(work, split, first, end - first < GROUP_TOKENS ? end - first : GROUP_TOKENS);
	for (uint32_t row = row_first; row < row_end; row++)
		join_split(work, row, split == low_of(work, row) / ATTENTION_SPLIT * ATTENTION_SPLIT);
}

/* What the row's weighted sum is multiplied by.  A sink is one more score, which may be the greatest. */
static float share_of(const struct work *work, uint32_t row)
{
	const float *sinks = work->item->call->sinks;
	if (!sinks)
		return 1.0f / work->sum[row];
	float sink = sinks[work->item->head_first + row % work->heads], old = work->greatest[row];
	float greatest = old > sink ? old : sink, share[LANES];
	struct v16 scale = v_exp(v_set(old - greatest)), weight = v_exp(v_set(sink - greatest));
	v_store(share, v_div(scale, v_fma(v_set(work->sum[row]), scale, weight)));
	return share[0];
}

void kernel_attention(const struct attention_item *item, void *scratch)
{
	const struct attention_call *call = item->call;
	struct work *work = work_begin(item, scratch);
	uint32_t end = work->position_first + item->row_count; /* positions that the last row sees */
	scale_queries(work);
	for (uint32_t split = work->low / ATTENTION_SPLIT * ATTENTION_SPLIT; split < end; split += ATTENTION_SPLIT)
		do_split(work, split, end);
	for (uint32_t row = 0; row < work->rows; row++) {
		float *out = (float *)call->out + head_offset(work, row, call->out_stride, work->value_dim);
		const float *total = work->total + (size_t)row * work->value_dim;
		float share = share_of(work, row);
		for (uint32_t d = 0; d < work->value_dim; d++)
			out[d] = total[d] * share;
	}
}
