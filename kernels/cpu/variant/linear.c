#include "kernels/cpu/variant/kernels.h"
#include "kernels/cpu/variant/simd.h"
#include "kernels/cpu/variant/tile.h"
#include <assert.h>
#include "base/bf16.h"

/* k in one piece for each kind of call: with many rows a piece of the weights (256 x 64 bytes) should stay
 * in the first cache while they pass over it; with few, the fewer interruptions the better. */
#define PIECE_MANY_ROWS 256
#define PIECE_FEW_ROWS	4096

#define ACC_STRIDE (LINEAR_TASK_PANELS * PANEL_COLUMNS)
#define ACC_FLOATS (LINEAR_TASK_ROWS * ACC_STRIDE) /* of one segment */

/* Beside the accumulators: weights of a piece widened, or its inputs rounded. Of one panel, and a cache line
 * that keeps panels off each other's sets: without it the prefetches evict the piece (0.68 of the peak for
 * 0.94, bench/kernels on the first Zen). */
#define WIDE_FLOATS (PIECE_MANY_ROWS * PANEL_COLUMNS + 16)
_Static_assert(LINEAR_SEGMENTS * ACC_FLOATS * 4 + LINEAR_TASK_PANELS * WIDE_FLOATS * 4 <= SCRATCH_BYTES &&
		       LINEAR_SEGMENTS * ACC_FLOATS * 4 + LINEAR_TASK_ROWS * PIECE_MANY_ROWS * 2 <= SCRATCH_BYTES &&
		       LINEAR_SEGMENTS * ACC_FLOATS * 4 + 12 * PIECE_FEW_ROWS * 2 <= SCRATCH_BYTES &&
		       LINEAR_SEGMENTS * ACC_FLOATS * 4 + KERNEL_E4M3_FLOATS * 4 <= SCRATCH_BYTES,
	       "the scratch has room");

static enum tile_kind kind_of(enum elem elem)
{
	if (elem == ELEM_F32)
		return TILE_F32;
	return KERNEL_ISA == 3 ? TILE_DOT : TILE_PAIR;
}

/* The inputs of one piece as bf16, for the dot product. */
static void round_inputs(const struct linear_block *block, uint32_t k_first, uint32_t k_count, uint16_t *rounded)
{
	for (uint32_t row = 0; row < block->row_count; row++) {
		const float *x = (const float *)block->call->x + (block->row_first + row) * block->call->x_stride + k_first;
		for (uint32_t k = 0; k < k_count; k++)
			rounded[(size_t)row * k_count + k] = bf16_round(x[k]);
	}
}

/* acc (+)= x[k_first .. k_first + k_count) W */
static void multiply_piece(const struct linear_block *block, uint32_t k_first, uint32_t k_count, bool add,
			   float *acc, void *beside)
{
	const struct cpu_linear *linear = cpu_linear_of(block->call);
	enum tile_kind kind = kind_of(linear->base.shape.elem);
	uint32_t k_step = kind == TILE_F32 ? 1 : 2;
	struct tile tile = {
		.x = (const float *)block->call->x + block->row_first * block->call->x_stride + k_first,
		.x_stride = block->call->x_stride,
		.w = (const uint32_t *)linear->data + block->panel_first * linear->panel_stride +
		     (size_t)(k_first / k_step) * PANEL_COLUMNS,
		.w_step = PANEL_COLUMNS,
		.w_panel = linear->panel_stride,
		.acc = acc,
		.acc_stride = ACC_STRIDE,
		.rows = block->row_count,
		.panels = block->panel_count,
		.steps = k_count / k_step,
		.add = add,
	};
	if (kind == TILE_DOT) {
		round_inputs(block, k_first, k_count, beside);
		tile.x = beside;
		tile.x_stride = k_count / 2;
	} else if (kind == TILE_PAIR && block->row_count >= TILE_WIDEN_ROWS) {
		assert(k_count <= PIECE_MANY_ROWS);
		for (uint32_t panel = 0; panel < block->panel_count; panel++)
			tile_widen((const uint32_t *)tile.w + panel * linear->panel_stride, tile.steps,
				   (float *)beside + (size_t)panel * WIDE_FLOATS);
		kind = TILE_F32;
		tile.w = beside;
		tile.w_panel = WIDE_FLOATS;
		tile.steps = k_count;
	}
	tile_run(kind, &tile);
}

static void multiply_segment(const struct linear_block *block, uint32_t segment, float *acc, void *beside)
{
	const struct linear_shape *shape = &block->call->linear->shape;
	uint32_t segment_k = shape->k / shape->segments;
	uint32_t piece_max = block->row_count <= tile_rows_max() ? PIECE_FEW_ROWS : PIECE_MANY_ROWS;
	for (uint32_t k = 0; k < segment_k; k += piece_max)
		multiply_piece(block, segment * segment_k + k, segment_k - k < piece_max ? segment_k - k : piece_max, k > 0, acc,
			       beside);
}

/* acc[0] = the binary tree over the segments: neighbours first. */
static void join_segments(float *acc, uint32_t segments, uint32_t rows)
{
	for (uint32_t apart = 1; apart < segments; apart *= 2)
		for (uint32_t segment = 0; segment < segments; segment += 2 * apart) {
			float *to = acc + (size_t)segment * ACC_FLOATS;
			const float *from = to + (size_t)apart * ACC_FLOATS;
			for (uint32_t i = 0; i < rows * ACC_STRIDE; i++)
				to[i] += from[i];
		}
}

static void store_block(const struct linear_block *block, const float *acc)
{
	const struct linear_call *call = block->call;
	uint32_t first = block->panel_first * PANEL_COLUMNS, count = block->panel_count * PANEL_COLUMNS;
	if (count > call->linear->shape.n - first)
		count = call->linear->shape.n - first;
	const float *bias = cpu_linear_of(call)->bias ? cpu_linear_of(call)->bias + first : NULL;
	for (uint32_t row = 0; row < block->row_count; row++) {
		float *y = (float *)call->y + (block->row_first + row) * call->y_stride + first;
		memcpy(y, acc + (size_t)row * ACC_STRIDE, count * sizeof(*acc));
		for (uint32_t i = 0; bias && i < count; i++)
			y[i] += bias[i];
	}
}

void kernel_linear(const struct linear_block *block, void *scratch)
{
	const struct linear_shape *shape = &block->call->linear->shape;
	float *acc = scratch; /* [segment][row][column of the task] */
	void *beside = acc + (size_t)LINEAR_SEGMENTS * ACC_FLOATS;

	assert(block->row_count <= LINEAR_TASK_ROWS && block->panel_count <= LINEAR_TASK_PANELS);
	for (uint32_t segment = 0; segment < shape->segments; segment++)
		if (shape->elem == ELEM_E4M3)
			kernel_linear_e4m3(block, segment, acc + (size_t)segment * ACC_FLOATS, beside);
		else
			multiply_segment(block, segment, acc + (size_t)segment * ACC_FLOATS, beside);
	join_segments(acc, shape->segments, block->row_count);
	store_block(block, acc);
}
