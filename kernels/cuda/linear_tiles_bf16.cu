/* Products by weights of bf16: 16 inputs a wgmma, one sum from the first input of a segment to its last. */
#include "kernels/cuda/linear_tile.h"

struct linear_bf16 {
	static constexpr uint32_t line_k = 64, row_bytes = 0;
	/* Few rows make small boxes, and a barrier costs the same for each stage. */
	template <int width, int groups> static constexpr uint32_t boxes = groups == 2 ? 1 : width <= 16 ? 4 : 2;

	struct outputs {
	};
	static SIMT_MEMBER void find(const struct linear_job &, const struct linear_tile &, const float *, struct outputs *)
	{
	}

	template <int width, int groups>
	static SIMT_MEMBER void fetch_rows(const struct linear_job &, const struct linear_stages &s, const CUtensorMap *inputs,
					   const CUtensorMap *, uint32_t stage, uint32_t segment, uint32_t k, int row);
	template <int width, int groups>
	static SIMT_MEMBER void multiply(const struct linear_job &job, const struct linear_stages &s, struct linear_turn *turn,
					 const struct outputs &, uint32_t, float (&sums)[width / 2]);
};

template <int width, int groups>
SIMT_MEMBER void linear_bf16::fetch_rows(const struct linear_job &, const struct linear_stages &s, const CUtensorMap *inputs,
					 const CUtensorMap *, uint32_t stage, uint32_t segment, uint32_t k, int row)
{
	constexpr int blocks = LINEAR_BLOCKS(width), own = width / blocks;
	const uint32_t first = blocks > 1 ? simt_cluster_rank() * own : 0;
	uint8_t *b = s.memory + stage * s.bytes + boxes<width, groups> * s.a_bytes + first * LINEAR_LINE;
	SIMT_UNROLL
	for (uint32_t box = 0; box < boxes<width, groups>; box++)
		linear_load<blocks>(b + box * s.b_bytes, inputs, &s.full[stage], (int)(k + box * line_k), (int)segment, row + (int)first);
}

/* The last stage is still being multiplied when the next is begun: a stage is given back one step later. */
template <int width, int groups>
SIMT_MEMBER void linear_bf16::multiply(const struct linear_job &job, const struct linear_stages &s, struct linear_turn *turn,
				       const struct outputs &, uint32_t, float (&sums)[width / 2])
{
	constexpr int blocks = LINEAR_BLOCKS(width);
	constexpr uint32_t count = boxes<width, groups>;
	const uint32_t half = groups == 1 ? 0 : threadIdx.x / 128 * 64 * LINEAR_LINE; /* the warpgroup's outputs within the tile */
	uint32_t before = LINEAR_STAGES_MAX;
	simt_wgmma_hold(sums);
	for (uint32_t k = 0; k < job.segment_k; k += count * line_k) {
		const uint8_t *a = s.memory + turn->stage * s.bytes + half, *b = a - half + count * s.a_bytes;
		simt_mbarrier_wait(&s.full[turn->stage], turn->parity);
		simt_wgmma_fence();
		SIMT_UNROLL
		for (uint32_t box = 0; box < count; box++) {
			uint64_t a_box = simt_wgmma_operand(a + box * s.a_bytes, 0, 8 * LINEAR_LINE);
			uint64_t b_box = simt_wgmma_operand(b + box * s.b_bytes, 0, 8 * LINEAR_LINE);
			SIMT_UNROLL
			for (uint32_t step = 0; step < line_k / 16; step++)
				simt_wgmma<width>(sums, simt_wgmma_further(a_box, 32 * step), simt_wgmma_further(b_box, 32 * step),
						  k + box + step > 0);
		}
		simt_wgmma_commit();
		simt_wgmma_wait<1>();
		if (before < LINEAR_STAGES_MAX)
			linear_give_back<blocks>(s, before);
		before = turn->stage;
		linear_turn_next(turn, s);
	}
	simt_wgmma_wait<0>();
	simt_wgmma_hold(sums);
	linear_give_back<blocks>(s, before);
}

const struct linear_variant linear_variants_bf16[] = {
	LINEAR_VARIANTS(linear_bf16, 8, 1, false),   LINEAR_VARIANTS(linear_bf16, 16, 1, false),
	LINEAR_VARIANTS(linear_bf16, 32, 1, false),  LINEAR_VARIANTS(linear_bf16, 64, 1, false),
	LINEAR_VARIANTS(linear_bf16, 128, 1, false), LINEAR_VARIANTS(linear_bf16, 128, 2, false),
	LINEAR_VARIANTS(linear_bf16, 256, 2, false), LINEAR_VARIANTS(linear_bf16, 8, 1, true),
	LINEAR_VARIANTS(linear_bf16, 16, 1, true),   LINEAR_VARIANTS(linear_bf16, 32, 1, true),
	LINEAR_VARIANTS(linear_bf16, 64, 1, true),   {},
};
