/* Products by weights of e4m3.  A line is a group of 128 inputs: its products are summed on the tensor cores from 0, and the sum, times
 * both scales, is added to the row's sums in f32 by the threads: tensor cores keep about 14 bits of a sum of e4m3, which does for 128
 * products and not for thousands.
 *
 * The scales of a tile's rows come with its inputs, from the ends of the rows; those of its outputs each thread reads for itself: one
 * number a group where two warpgroups multiply (16 outputs of a warp then have one scale), else two. */
#include "kernels/cuda/linear_tile.h"

#define LINEAR_SCALES 4u /* of each row that a stage brings: 16 bytes, the least that the copy engine takes */
#define WIDEST	      128 /* rows whose sums of a group registers hold, beside those of all groups of up to 256 rows */

struct linear_e4m3 {
	static constexpr uint32_t line_k = LINEAR_GROUP, row_bytes = LINEAR_SCALES * sizeof(float);
	/* At most LINEAR_SCALES.  Each box of a stage has sums of its own in registers: one is added while the next is multiplied, but where
	 * another warpgroup multiplies meanwhile. */
	template <int width, int groups> static constexpr uint32_t boxes = groups == 2 ? 1 : width <= 16 ? 4 : 2;

	/* Scales of a thread's outputs; beyond the last those of the last, whose sums nobody writes. */
	struct outputs {
		const float *scales[2]; /* [group] */
	};
	static SIMT_MEMBER void find(const struct linear_job &job, const struct linear_tile &tile, const float *scales,
				     struct outputs *ret)
	{
		uint32_t first = tile.out_first + threadIdx.x / SIMT_LANES * 16 + simt_lane() / 4;
		SIMT_UNROLL
		for (uint32_t i = 0; i < 2; i++) {
			uint32_t out = first + 8 * i < job.n ? first + 8 * i : job.n - 1;
			ret->scales[i] = scales + (size_t)(out / job.scale_outputs) * job.scale_groups;
		}
	}

	template <int width, int groups>
	static SIMT_MEMBER void fetch_rows(const struct linear_job &job, const struct linear_stages &s, const CUtensorMap *inputs,
					   const CUtensorMap *scales, uint32_t stage, uint32_t segment, uint32_t k, int row);
	template <int width, int groups>
	static SIMT_MEMBER void multiply(const struct linear_job &job, const struct linear_stages &s, struct linear_turn *turn,
					 const struct outputs &outputs, uint32_t segment, float (&sums)[width / 2]);
};

/* Inputs are not cut into segments: beyond the end of one they are the next one's, and have weights of 0 and scales of 0. */
template <int width, int groups>
SIMT_MEMBER void linear_e4m3::fetch_rows(const struct linear_job &job, const struct linear_stages &s, const CUtensorMap *inputs,
					 const CUtensorMap *scales, uint32_t stage, uint32_t segment, uint32_t k, int row)
{
	constexpr int blocks = LINEAR_BLOCKS(width), own = width / blocks;
	const uint32_t first = blocks > 1 ? simt_cluster_rank() * own : 0, at = segment * job.segment_k + k;
	uint8_t *b = s.memory + stage * s.bytes + boxes<width, groups> * s.a_bytes + first * LINEAR_LINE;
	float *of_rows = s.scales + (stage * width + first) * LINEAR_SCALES;
	row += (int)first;
	SIMT_UNROLL
	for (uint32_t box = 0; box < boxes<width, groups>; box++)
		linear_load<blocks>(b + box * s.b_bytes, inputs, &s.full[stage], (int)(at + box * line_k), 0, row);
	if (blocks == 1)
		simt_tma_load_2d(of_rows, scales, &s.full[stage], (int)(at / line_k), row);
	else
		simt_tma_load_2d_cluster(of_rows, scales, &s.full[stage], (int)(at / line_k), row, (1 << blocks) - 1);
}

/* sums[first ...] += part * (scale of the row * scale of the output); of_rows: of the group, LINEAR_SCALES apart.  `alike`: both
 * outputs of a thread have the first one's scale. */
template <int first, bool alike, int count, int all>
SIMT_DEVICE void add_part(const float *of_rows, const float (&of_outs)[2], const float (&part)[count], float (&sums)[all])
{
	SIMT_UNROLL
	for (uint32_t j = 0; j < count / 4; j++) {
		const float *rows = of_rows + (8 * j + simt_lane() % 4 * 2) * LINEAR_SCALES;
		const float even = rows[0], odd = rows[LINEAR_SCALES];
		SIMT_UNROLL
		for (uint32_t i = 0; i < 2; i++) {
			float *sum = &sums[first + 4 * j + 2 * i];
			sum[0] = simt_fma(part[4 * j + 2 * i], even * of_outs[alike ? 0 : i], sum[0]);
			sum[1] = simt_fma(part[4 * j + 2 * i + 1], odd * of_outs[alike ? 0 : i], sum[1]);
		}
	}
}

/* Adds the parts of boxes from `box` on, each as soon as it is whole. */
template <int box, int first, bool alike, int boxes, int count, int all>
SIMT_DEVICE void add_parts(const float *of_rows, const float (&of_outs)[boxes][2], float (&parts)[boxes][count], float (&sums)[all])
{
	if constexpr (box < boxes) {
		simt_wgmma_wait<boxes - 1 - box>();
		simt_wgmma_hold(parts[box]);
		add_part<first / 2, alike>(of_rows + first * LINEAR_SCALES + box, of_outs[box], parts[box], sums);
		add_parts<box + 1, first, alike>(of_rows, of_outs, parts, sums);
	}
}

/* The lines of a warpgroup's outputs: in shared memory, boxes so far apart; or one box in registers, which products of many rows read once
 * in place of once for each WIDEST rows. */
struct lines_there {
	uint64_t operand;
	uint32_t box_bytes;
};
struct lines_held {
	uint32_t words[LINEAR_GROUP / 32][4];
};

SIMT_DEVICE void hold_lines(const uint8_t *a, struct lines_held *ret)
{
	const uint32_t line = simt_warp() % 4 * 16 + simt_lane() % 16, swizzle = line % 8 * 16;
	SIMT_UNROLL
	for (uint32_t step = 0; step < LINEAR_GROUP / 32; step++)
		simt_ldmatrix_x4(ret->words[step], a + line * LINEAR_LINE + ((32 * step + simt_lane() / 16 * 16) ^ swizzle));
}

template <int width>
SIMT_DEVICE void multiply_step(float (&part)[width / 2], const lines_there &a, uint32_t box, uint32_t step, uint64_t b)
{
	simt_wgmma_e4m3<width>(part, simt_wgmma_further(a.operand, box * a.box_bytes + 32 * step), b, step > 0);
}

template <int width> SIMT_DEVICE void multiply_step(float (&part)[width / 2], const lines_held &a, uint32_t, uint32_t step, uint64_t b)
{
	simt_wgmma_e4m3_registers<width>(part, a.words[step], b, step > 0);
}

/* Rows [first, first + width) of a stage: products of each box, then into sums. */
template <int first, int width, bool alike, int boxes, class lines, int all>
SIMT_DEVICE void multiply_rows(const struct linear_stages &s, const lines &a, uint64_t b, const float *of_rows,
			       const float (&of_outs)[boxes][2], float (&sums)[all])
{
	float parts[boxes][width / 2];
	SIMT_UNROLL
	for (uint32_t box = 0; box < boxes; box++)
		simt_wgmma_hold(parts[box]);
	simt_wgmma_fence();
	SIMT_UNROLL
	for (uint32_t box = 0; box < boxes; box++) {
		SIMT_UNROLL
		for (uint32_t step = 0; step < LINEAR_GROUP / 32; step++)
			multiply_step<width>(parts[box], a, box, step,
					     simt_wgmma_further(b, box * s.b_bytes + first * LINEAR_LINE + 32 * step));
		simt_wgmma_commit();
	}
	add_parts<0, first, alike>(of_rows, of_outs, parts, sums);
}

template <int width, int groups>
SIMT_MEMBER void linear_e4m3::multiply(const struct linear_job &job, const struct linear_stages &s, struct linear_turn *turn,
				       const struct outputs &outputs, uint32_t segment, float (&sums)[width / 2])
{
	constexpr int blocks = LINEAR_BLOCKS(width);
	constexpr uint32_t count = boxes<width, groups>;
	constexpr bool alike = groups == 2;
	const uint32_t half = groups == 1 ? 0 : threadIdx.x / 128 * 64 * LINEAR_LINE; /* the warpgroup's outputs within the tile */
	uint32_t group = segment * job.segment_k / LINEAR_GROUP;
	SIMT_UNROLL
	for (int i = 0; i < width / 2; i++)
		sums[i] = 0.0f;
	for (uint32_t k = 0; k < job.segment_k; k += count * line_k, group += count) {
		float of_outs[count][2];
		SIMT_UNROLL
		for (uint32_t box = 0; box < count; box++)
			for (uint32_t i = 0; i < (alike ? 1 : 2); i++)
				of_outs[box][i] = k + box * line_k < job.segment_k ? outputs.scales[i][group + box] : 0.0f;
		const uint8_t *a = s.memory + turn->stage * s.bytes + half, *b = a - half + count * s.a_bytes;
		const float *of_rows = s.scales + turn->stage * width * LINEAR_SCALES;
		const uint64_t b_lines = simt_wgmma_operand(b, 0, 8 * LINEAR_LINE);
		simt_mbarrier_wait(&s.full[turn->stage], turn->parity);
		if constexpr (width > WIDEST) {
			static_assert(width == 2 * WIDEST && count == 1, "two halves of the rows, one box");
			lines_held lines;
			hold_lines(a, &lines);
			multiply_rows<0, WIDEST, alike>(s, lines, b_lines, of_rows, of_outs, sums);
			multiply_rows<WIDEST, WIDEST, alike>(s, lines, b_lines, of_rows, of_outs, sums);
		} else {
			const lines_there lines = {simt_wgmma_operand(a, 0, 8 * LINEAR_LINE), s.a_bytes};
			multiply_rows<0, width, alike>(s, lines, b_lines, of_rows, of_outs, sums);
		}
		simt_sync_warp();
		linear_give_back<blocks>(s, turn->stage);
		linear_turn_next(turn, s);
	}
}

const struct linear_variant linear_variants_e4m3[] = {
	LINEAR_VARIANTS(linear_e4m3, 8, 1, false),   LINEAR_VARIANTS(linear_e4m3, 16, 1, false),
	LINEAR_VARIANTS(linear_e4m3, 32, 1, false),  LINEAR_VARIANTS(linear_e4m3, 64, 1, false),
	LINEAR_VARIANTS(linear_e4m3, 128, 1, false), LINEAR_VARIANTS(linear_e4m3, 128, 2, false),
	LINEAR_VARIANTS(linear_e4m3, 256, 2, false), LINEAR_VARIANTS(linear_e4m3, 8, 1, true),
	LINEAR_VARIANTS(linear_e4m3, 16, 1, true),   LINEAR_VARIANTS(linear_e4m3, 32, 1, true),
	LINEAR_VARIANTS(linear_e4m3, 64, 1, true),   {},
};
