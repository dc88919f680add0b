/* linear_tile_e4m3 - the kernel that multiplies by weights of e4m3: linear_tile.h with boxes of 128 inputs, one group of scales
 * each.  A group's products are summed on the tensor cores from 0, and the sum, times both scales, is added to the row's sums in
 * f32 by the threads: tensor cores keep about 14 bits of a sum of e4m3, which does for 128 products and not for thousands.
 *
 * The scales of a tile's rows come with its inputs, from the ends of the rows; those of its outputs each thread reads for itself, two
 * numbers a group that lie behind those of the group before. */
#ifndef KERNELS_CUDA_LINEAR_TILE_E4M3_H
#define KERNELS_CUDA_LINEAR_TILE_E4M3_H
#include "kernels/cuda/linear_tile.h"

#define LINEAR_SCALES 4u /* of each row that a stage brings: 16 bytes, the least that the copy engine takes */

/* As linear_boxes(), at most LINEAR_SCALES; each box of a stage has sums of its own in registers. */
SIMT_BOTH constexpr uint32_t linear_e4m3_boxes(uint32_t width)
{
	return width <= 16 ? 4 : width == 32 ? 2 : 1;
}

/* Inputs are not cut into segments: beyond the end of one they are the next one's, and have weights of 0 and scales of 0. */
template <int width, int groups>
SIMT_DEVICE void linear_e4m3_fetch(const struct linear_job &job, const struct linear_stages &s, const CUtensorMap *weights,
				   const CUtensorMap *inputs, const CUtensorMap *scales, const struct linear_tile &tile,
				   struct linear_turn *turn)
{
	constexpr uint32_t boxes = linear_e4m3_boxes(width);
	const int row = (int)(tile.row_first - job.window_first);
	for (uint32_t segment = 0; segment < job.segments; segment++)
		for (uint32_t k = 0; k < job.segment_k; k += boxes * LINEAR_GROUP) {
			uint64_t *full = &s.full[turn->stage];
			uint8_t *a = s.memory + turn->stage * s.bytes, *b = a + boxes * s.a_bytes;
			simt_mbarrier_wait(&s.empty[turn->stage], turn->parity ^ 1);
			simt_mbarrier_arrive_expect(full, s.bytes + LINEAR_SCALES * width * (uint32_t)sizeof(float));
			SIMT_UNROLL
			for (uint32_t box = 0; box < boxes; box++) {
				int at = (int)(k + box * LINEAR_GROUP);
				simt_tma_load_3d(a + box * s.a_bytes, weights, full, at, (int)segment, (int)tile.out_first);
				simt_tma_load_3d(b + box * s.b_bytes, inputs, full, (int)(segment * job.segment_k) + at, 0, row);
			}
			simt_tma_load_2d(s.scales + turn->stage * LINEAR_SCALES * width, scales, full,
					 (int)((segment * job.segment_k + k) / LINEAR_GROUP), row);
			linear_turn_next(turn, job.stages);
		}
}

/* The scales of a thread's two outputs; beyond the last those of the last, whose sums nobody writes. */
struct linear_out_scales {
	const float *of[2]; /* [group] */
};

SIMT_DEVICE void linear_find_scales(const struct linear_job &job, const struct linear_tile &tile, const float *scales,
				    struct linear_out_scales *ret)
{
	uint32_t first = tile.out_first + threadIdx.x / SIMT_LANES * 16 + simt_lane() / 4;
	SIMT_UNROLL
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t out = first + 8 * i < job.n ? first + 8 * i : job.n - 1;
		ret->of[i] = scales + (size_t)(out / job.scale_outputs) * job.scale_groups;
	}
}

/* sums += part * (scale of the row * scale of the output); of_rows: of the group, LINEAR_SCALES apart. */
template <int width>
SIMT_DEVICE void linear_add_part(const float *of_rows, const float (&of_outs)[2], const float (&part)[width / 2],
				 float (&sums)[width / 2])
{
	SIMT_UNROLL
	for (uint32_t j = 0; j < width / 8; j++) {
		const float *rows = of_rows + (8 * j + simt_lane() % 4 * 2) * LINEAR_SCALES;
		const float first = rows[0], second = rows[LINEAR_SCALES];
		SIMT_UNROLL
		for (uint32_t i = 0; i < 2; i++) {
			sums[4 * j + 2 * i] = simt_fma(part[4 * j + 2 * i], first * of_outs[i], sums[4 * j + 2 * i]);
			sums[4 * j + 2 * i + 1] = simt_fma(part[4 * j + 2 * i + 1], second * of_outs[i], sums[4 * j + 2 * i + 1]);
		}
	}
}

/* One segment into sums. */
template <int width, int groups>
SIMT_DEVICE void linear_e4m3_multiply(const struct linear_job &job, const struct linear_stages &s, struct linear_turn *turn,
				      const struct linear_out_scales &out_scales, uint32_t segment, float (&sums)[width / 2])
{
	constexpr uint32_t boxes = linear_e4m3_boxes(width);
	const uint32_t half = threadIdx.x / 128 * 64 * LINEAR_LINE; /* the warpgroup's outputs within the tile */
	uint32_t group = segment * job.segment_k / LINEAR_GROUP;
	SIMT_UNROLL
	for (int i = 0; i < width / 2; i++)
		sums[i] = 0.0f;
	for (uint32_t k = 0; k < job.segment_k; k += boxes * LINEAR_GROUP, group += boxes) {
		float parts[boxes][width / 2], of_outs[boxes][2];
		SIMT_UNROLL
		for (uint32_t box = 0; box < boxes; box++)
			for (uint32_t i = 0; i < 2; i++)
				of_outs[box][i] = k + box * LINEAR_GROUP < job.segment_k ? out_scales.of[i][group + box] : 0.0f;
		const uint8_t *a = s.memory + turn->stage * s.bytes + half, *b = a - half + boxes * s.a_bytes;
		simt_mbarrier_wait(&s.full[turn->stage], turn->parity);
		SIMT_UNROLL
		for (uint32_t box = 0; box < boxes; box++)
			simt_wgmma_hold(parts[box]);
		simt_wgmma_fence();
		SIMT_UNROLL
		for (uint32_t box = 0; box < boxes; box++) {
			uint64_t a_box = simt_wgmma_operand(a + box * s.a_bytes, 0, 8 * LINEAR_LINE);
			uint64_t b_box = simt_wgmma_operand(b + box * s.b_bytes, 0, 8 * LINEAR_LINE);
			SIMT_UNROLL
			for (uint32_t step = 0; step < LINEAR_GROUP / 32; step++) /* 32 bytes further: 2 in the operand's unit */
				simt_wgmma_e4m3<width>(parts[box], a_box + 2 * step, b_box + 2 * step, step > 0);
		}
		simt_wgmma_commit();
		simt_wgmma_wait<0>();
		SIMT_UNROLL
		for (uint32_t box = 0; box < boxes; box++) {
			simt_wgmma_hold(parts[box]);
			linear_add_part<width>(s.scales + turn->stage * LINEAR_SCALES * width + box, of_outs[box], parts[box], sums);
		}
		simt_sync_warp();
		if (simt_lane() == 0)
			simt_mbarrier_arrive(&s.empty[turn->stage]);
		linear_turn_next(turn, job.stages);
	}
}

template <int width, int groups>
SIMT_DEVICE void linear_e4m3_multiply_segments(const struct linear_job &job, const struct linear_stages &s,
					       struct linear_turn *turn, const struct linear_out_scales &out_scales,
					       float (&sums)[width / 2])
{
	linear_tree<width> tree = {};
	for (uint32_t segment = 0; segment < job.segments; segment++) {
		linear_e4m3_multiply<width, groups>(job, s, turn, out_scales, segment, sums);
		linear_join<width>(segment, &tree, sums);
	}
}

template <int width, int groups, bool segmented, int slot_count>
SIMT_KERNEL_OF(linear_tiles_e4m3, groups * 128 + 32, 1)(SIMT_GRID_CONSTANT CUtensorMap weights, SIMT_GRID_CONSTANT CUtensorMap inputs,
							SIMT_GRID_CONSTANT CUtensorMap scales, const linear_job job,
							const linear_slots<slot_count> slots)
{
	SIMT_DYNAMIC_SHARED(uint8_t, shared);
	SIMT_SHARED uint32_t before[slot_count + 1];
	linear_stages s = {shared + LINEAR_HEAD_BYTES, (uint64_t *)shared, (uint64_t *)shared + LINEAR_STAGES_MAX,
			   job.height * LINEAR_LINE, width * LINEAR_LINE, 0, nullptr};
	s.bytes = linear_e4m3_boxes(width) * (s.a_bytes + s.b_bytes);
	s.scales = (float *)(s.memory + job.stages * s.bytes + LINEAR_TAIL_BYTES);
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
			linear_e4m3_fetch<width, groups>(job, s, map, &inputs, &scales, tile, &turn);
		}
		return;
	}
	for (uint32_t index = blockIdx.x; linear_tile_at<slot_count>(job, width, before, index, &tile); index += gridDim.x) {
		float sums[width / 2] = {};
		linear_out_scales out_scales;
		linear_find_scales(job, tile, slot_count > 1 ? job.entries[slots.at[tile.group]].scales : job.scales, &out_scales);
		if (segmented)
			linear_e4m3_multiply_segments<width, groups>(job, s, &turn, out_scales, sums);
		else
			linear_e4m3_multiply<width, groups>(job, s, &turn, out_scales, 0, sums);
		linear_write<width>(job, tile, slot_count > 1 ? job.entries[slots.at[tile.group]].bias : job.bias, sums);
	}
}
#endif
