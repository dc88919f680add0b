/* linear_tile - the kernel that multiplies by bf16 weights: a warp of the copy engine fills stages of shared memory, one or two
 * warpgroups multiply what is there and write sums.  Persistent: a block takes tiles in its turn, and the copies for the next
 * begin while the sums of the last are written.
 *
 *   full[stage]    the stage's bytes are there            [producer expects them, the copy engine brings them]
 *   empty[stage]   nobody multiplies by them any more     [each warp of the warpgroups arrives]
 *
 * A tile of less than 64 outputs leaves the last lines of the A operand to whatever lies behind it in shared memory: a row of
 * A reaches its own row of sums alone, and those are not written.  A stage is always multiplied whole: beyond the end of a
 * segment the copy engine brings zeros, whose products change nothing but the sign of a sum that is 0, and that is made +. */
#ifndef KERNELS_CUDA_LINEAR_TILE_H
#define KERNELS_CUDA_LINEAR_TILE_H
#include "kernels/cuda/linear.h"
#include "kernels/cuda/simt_wgmma.h"

#define LINEAR_STAGES_MAX 16
#define LINEAR_BAND	  12u /* outputs' tiles that are walked beside each other: their weights stay in the second-level cache */
#define LINEAR_HEAD_BYTES 1024u /* barriers */
#define LINEAR_TAIL_BYTES (64u * LINEAR_LINE) /* what a low tile at the very end reads beyond itself */

#define LINEAR_BOX_K	  64u /* inputs of bf16 in a line */

/* Boxes of lines in a stage: few rows make small boxes, and a barrier costs the same for each stage. */
SIMT_BOTH constexpr uint32_t linear_boxes(uint32_t width, uint32_t groups)
{
	return groups == 2 ? 1 : width <= 16 ? 4 : 2;
}

struct linear_tile {
	uint32_t group;
	uint32_t out_first;
	uint32_t row_first, row_end; /* of x; the end is the group's */
	uint32_t split;		     /* of K: a tile each (class "fast") */
};

/* Steps of the stages, the same for who fills and who empties them. */
struct linear_turn {
	uint32_t stage, parity;
};

SIMT_DEVICE void linear_turn_next(struct linear_turn *turn, uint32_t stages)
{
	if (++turn->stage == stages) {
		turn->stage = 0;
		turn->parity ^= 1;
	}
}

/* The rows of group g. */
SIMT_DEVICE uint32_t linear_row_first(const struct linear_job &job, uint32_t g)
{
	if (!job.first)
		return g * job.rows;
	return job.first[g] > job.window_first ? job.first[g] : job.window_first;
}

SIMT_DEVICE uint32_t linear_row_end(const struct linear_job &job, uint32_t g)
{
	if (!job.first)
		return (g + 1) * job.rows;
	uint32_t first = linear_row_first(job, g), end = job.first[g + 1] < job.window_end ? job.first[g + 1] : job.window_end;
	return end > first ? end : first;
}

/* Number `index` within a group's tiles: bands of outputs, within them rows outside, outputs inside. */
SIMT_DEVICE void linear_place(const struct linear_job &job, uint32_t width, uint32_t index, struct linear_tile *tile)
{
	uint32_t row_tiles = (tile->row_end - tile->row_first + width - 1) / width;
	uint32_t out = index / (LINEAR_BAND * row_tiles) * LINEAR_BAND, rest = index % (LINEAR_BAND * row_tiles);
	uint32_t across = job.out_tiles - out < LINEAR_BAND ? job.out_tiles - out : LINEAR_BAND;
	tile->out_first = (out + rest % across) * job.height;
	tile->row_first += rest / across * width;
}

/* Tiles before group g, for all g: by the first warp, 32 groups at a time. */
SIMT_DEVICE void linear_count_tiles(const struct linear_job &job, uint32_t width, uint32_t *before)
{
	uint32_t sum = 0;
	if (simt_warp() != 0)
		return;
	for (uint32_t first = 0; first < job.group_count; first += SIMT_LANES) {
		uint32_t g = first + simt_lane(), tiles = 0;
		if (g < job.group_count)
			tiles = (linear_row_end(job, g) - linear_row_first(job, g) + width - 1) / width * job.out_tiles;
		for (uint32_t by = 1; by < SIMT_LANES; by *= 2) {
			uint32_t other = simt_shuffle_up(tiles, by);
			tiles += simt_lane() >= by ? other : 0;
		}
		if (g < job.group_count)
			before[g + 1] = sum + tiles;
		sum += simt_shuffle(tiles, SIMT_LANES - 1);
	}
	if (simt_lane() == 0)
		before[0] = 0;
}

/* false: there are fewer tiles. */
template <int slot_count>
SIMT_DEVICE bool linear_tile_at(const struct linear_job &job, uint32_t width, const uint32_t *before, uint32_t index,
				struct linear_tile *tile)
{
	if (slot_count == 1) {
		uint32_t tiles = (job.rows + width - 1) / width * job.out_tiles;
		*tile = {0, 0, 0, job.rows, index / tiles};
		if (tile->split >= job.splits)
			return false;
		linear_place(job, width, index % tiles, tile);
		return true;
	}
	uint32_t low = 0, high = job.group_count;
	if (index >= before[high])
		return false;
	while (low + 1 < high) {
		uint32_t middle = (low + high) / 2;
		if (before[middle] <= index)
			low = middle;
		else
			high = middle;
	}
	tile->group = low;
	tile->split = 0;
	tile->row_first = linear_row_first(job, low);
	tile->row_end = linear_row_end(job, low);
	linear_place(job, width, index - before[low], tile);
	return true;
}

/* --- the warp of the copy engine ------------------------------------------------------------------------- */

struct linear_stages {
	uint8_t *memory; /* [stages][boxes][height lines], then as many of `width` lines */
	uint64_t *full, *empty;
	uint32_t a_bytes, b_bytes, bytes; /* of a box of each, and of a stage */
	float *scales; /* of e4m3: [stages][width][LINEAR_SCALES] of rows */
};

template <int width, int groups>
SIMT_DEVICE void linear_fetch(const struct linear_job &job, const struct linear_stages &s, const CUtensorMap *weights,
			      const CUtensorMap *inputs, const struct linear_tile &tile, struct linear_turn *turn)
{
	constexpr uint32_t boxes = linear_boxes(width, groups);
	for (uint32_t segment = 0; segment < job.segments; segment++)
		for (uint32_t k = 0; k < job.segment_k; k += boxes * LINEAR_BOX_K) {
			uint64_t *full = &s.full[turn->stage];
			uint8_t *a = s.memory + turn->stage * s.bytes, *b = a + boxes * s.a_bytes;
			simt_mbarrier_wait(&s.empty[turn->stage], turn->parity ^ 1);
			simt_mbarrier_arrive_expect(full, s.bytes);
			SIMT_UNROLL
			for (uint32_t box = 0; box < boxes; box++) {
				int at = (int)(k + box * LINEAR_BOX_K);
				int part = (int)(segment + tile.split);
				simt_tma_load_3d(a + box * s.a_bytes, weights, full, at, part, (int)tile.out_first);
				simt_tma_load_3d(b + box * s.b_bytes, inputs, full, at, part,
						 (int)(tile.row_first - job.window_first));
			}
			linear_turn_next(turn, job.stages);
		}
}

/* --- the warpgroups ------------------------------------------------------------------------------------------ */

/* One segment into sums.  The last stage is still being multiplied when the next is begun: a stage is given back one step
 * later. */
template <int width, int groups>
SIMT_DEVICE void linear_multiply(const struct linear_job &job, const struct linear_stages &s, struct linear_turn *turn,
				 float (&sums)[width / 2])
{
	constexpr uint32_t boxes = linear_boxes(width, groups);
	const uint32_t half = threadIdx.x / 128 * 64 * LINEAR_LINE; /* the warpgroup's outputs within the tile */
	uint32_t before = LINEAR_STAGES_MAX;
	simt_wgmma_hold(sums);
	for (uint32_t k = 0; k < job.segment_k; k += boxes * LINEAR_BOX_K) {
		const uint8_t *a = s.memory + turn->stage * s.bytes + half, *b = a - half + boxes * s.a_bytes;
		simt_mbarrier_wait(&s.full[turn->stage], turn->parity);
		simt_wgmma_fence();
		SIMT_UNROLL
		for (uint32_t box = 0; box < boxes; box++) {
			uint64_t a_box = simt_wgmma_operand(a + box * s.a_bytes, 0, 8 * LINEAR_LINE);
			uint64_t b_box = simt_wgmma_operand(b + box * s.b_bytes, 0, 8 * LINEAR_LINE);
			SIMT_UNROLL
			for (uint32_t step = 0; step < LINEAR_BOX_K / 16; step++) /* 32 bytes further: 2 in the operand's unit */
				simt_wgmma<width>(sums, a_box + 2 * step, b_box + 2 * step, k + box + step > 0);
		}
		simt_wgmma_commit();
		simt_wgmma_wait<1>();
		if (before < LINEAR_STAGES_MAX && simt_lane() == 0)
			simt_mbarrier_arrive(&s.empty[before]);
		before = turn->stage;
		linear_turn_next(turn, job.stages);
	}
	simt_wgmma_wait<0>();
	simt_wgmma_hold(sums);
	if (simt_lane() == 0)
		simt_mbarrier_arrive(&s.empty[before]);
}

/* Each segment joined with its neighbours as soon as they are whole: the tree of ops.h. */
template <int width> struct linear_tree {
	float one[width / 2], two[width / 2], four[width / 2];
};

template <int width>
SIMT_DEVICE void linear_join(uint32_t segment, struct linear_tree<width> *tree, float (&sums)[width / 2])
{
	bool joins[3] = {(segment & 1) == 1, (segment & 3) == 3, (segment & 7) == 7};
	SIMT_UNROLL
	for (int i = 0; i < width / 2; i++) {
		sums[i] = joins[0] ? tree->one[i] + sums[i] : sums[i];
		sums[i] = joins[1] ? tree->two[i] + sums[i] : sums[i];
		sums[i] = joins[2] ? tree->four[i] + sums[i] : sums[i];
		tree->one[i] = !joins[0] ? sums[i] : tree->one[i];
		tree->two[i] = joins[0] && !joins[1] ? sums[i] : tree->two[i];
		tree->four[i] = joins[1] && !joins[2] ? sums[i] : tree->four[i];
	}
}

template <int width, int groups>
SIMT_DEVICE void linear_multiply_segments(const struct linear_job &job, const struct linear_stages &s, struct linear_turn *turn,
					  float (&sums)[width / 2])
{
	linear_tree<width> tree = {};
	for (uint32_t segment = 0; segment < job.segments; segment++) {
		linear_multiply<width, groups>(job, s, turn, sums);
		linear_join<width>(segment, &tree, sums);
	}
}

/* A thread has outputs o and o + 8 of two neighbouring rows in each 8: eight threads write 32 bytes of one row. */
template <int width>
SIMT_DEVICE void linear_write(const struct linear_job &job, const struct linear_tile &tile, const float *bias,
			      const float (&sums)[width / 2])
{
	uint32_t within = threadIdx.x / SIMT_LANES * 16 + simt_lane() / 4;
	SIMT_UNROLL
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t out = tile.out_first + within + 8 * i;
		if (within + 8 * i >= job.height || out >= job.n)
			continue;
		float add = bias ? bias[out] : 0.0f;
		int64_t column = (int64_t)tile.group * job.y_group_step + (int64_t)(tile.split * job.y_split_step) + out;
		SIMT_UNROLL
		for (uint32_t j = 0; j < width / 4; j++) {
			uint32_t row = tile.row_first + j / 2 * 8 + simt_lane() % 4 * 2 + j % 2;
			float sum = sums[j / 2 * 4 + 2 * i + j % 2] + 0.0f;
			int64_t at = (int64_t)(row * job.y_stride) + column;
			if (bias)
				sum += add;
			if (row < tile.row_end && job.y_bf16)
				((uint16_t *)job.y)[at] = simt_bf16_round(sum);
			else if (row < tile.row_end)
				((float *)job.y)[at] = sum;
		}
	}
}

/* --- the kernel ---------------------------------------------------------------------------------------------- */

SIMT_DEVICE void linear_begin(const struct linear_stages &s, uint32_t stages, uint32_t warps)
{
	if (threadIdx.x == 0) {
		for (uint32_t i = 0; i < stages; i++) {
			simt_mbarrier_init(&s.full[i], 1);
			simt_mbarrier_init(&s.empty[i], warps);
		}
		simt_mbarrier_fence_init();
	}
	simt_sync();
}

template <int width, int groups, bool segmented, int slot_count>
SIMT_KERNEL_OF(linear_tiles, groups * 128 + 32, 1)(SIMT_GRID_CONSTANT CUtensorMap weights, SIMT_GRID_CONSTANT CUtensorMap inputs,
						   const linear_job job, const linear_slots<slot_count> slots)
{
	SIMT_DYNAMIC_SHARED(uint8_t, shared);
	SIMT_SHARED uint32_t before[slot_count + 1];
	linear_stages s = {shared + LINEAR_HEAD_BYTES, (uint64_t *)shared, (uint64_t *)shared + LINEAR_STAGES_MAX,
			   job.height * LINEAR_LINE, width * LINEAR_LINE, 0, nullptr};
	s.bytes = linear_boxes(width, groups) * (s.a_bytes + s.b_bytes);
	if (slot_count > 1)
		linear_count_tiles(job, width, before);
	linear_begin(s, job.stages, groups * 4);

	linear_turn turn = {0, 0};
	linear_tile tile;
	if (threadIdx.x / 128 == groups) {
		uint32_t known = UINT32_MAX; /* the group whose map the copy engine has seen */
		for (uint32_t index = blockIdx.x; linear_tile_at<slot_count>(job, width, before, index, &tile) && simt_lane() == 0;
		     index += gridDim.x) {
			const CUtensorMap *map = slot_count > 1 ? &job.entries[slots.at[tile.group]].maps[groups - 1] : &weights;
			if (slot_count > 1 && tile.group != known)
				simt_tma_acquire(map);
			known = tile.group;
			linear_fetch<width, groups>(job, s, map, &inputs, tile, &turn);
		}
		return;
	}
	for (uint32_t index = blockIdx.x; linear_tile_at<slot_count>(job, width, before, index, &tile); index += gridDim.x) {
		float sums[width / 2] = {};
		if (segmented)
			linear_multiply_segments<width, groups>(job, s, &turn, sums);
		else
			linear_multiply<width, groups>(job, s, &turn, sums);
		linear_write<width>(job, tile, slot_count > 1 ? job.entries[slots.at[tile.group]].bias : job.bias, sums);
	}
}
#endif
