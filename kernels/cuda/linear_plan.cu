#include "kernels/cuda/linear_plan.h"

/* What bounds a product, in cycles for each 16 inputs of bf16, or 32 of e4m3: 32 bytes of each.  A wgmma of N rows takes N / 2 cycles;
 * the rest are bytes a cycle of an H200 as its data sheet and others' measurements have them, to be replaced by our own (bench/gpu). */
#define BYTES_OF_STEP	32u
#define SM_BYTES_CYCLE	40u   /* second-level cache to one multiprocessor; what a cluster shares is read once by each of its blocks' parts */
#define L2_BYTES_CYCLE	4600u /* to all together */
#define HBM_BYTES_CYCLE 2450u
#define TILE_CYCLES	2u    /* a tile's beginning and end, spread over its inputs */
#define SPLIT_CYCLES	3000u /* a kernel more, for the whole product */
#define SCALE		1024u /* cycles are counted in such parts */

static uint64_t greater(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What splits cost for each 16 inputs: of the whole product sums of f32 written and read, and a kernel. */
static uint64_t splitting_cost(const struct linear_plan_shape *shape, uint32_t splits)
{
	uint64_t bytes = (uint64_t)shape->rows * shape->n * sizeof(float) * splits;
	return splits == 1 ? 0 : (SPLIT_CYCLES + 2 * bytes / L2_BYTES_CYCLE) * SCALE * 16 / shape->k;
}

static uint64_t cost_of(const struct linear_plan_shape *shape, const struct linear_plan *plan)
{
	uint64_t rows_each = (shape->rows + shape->groups - 1) / shape->groups;
	uint64_t row_tiles = (rows_each + plan->width - 1) / plan->width;
	/* The blocks of a cluster take tiles together, and each reads its part of the rows. */
	uint64_t blocks = LINEAR_BLOCKS(plan->width), clusters = shape->sm_count / blocks;
	uint64_t together = (shape->n + blocks * plan->height - 1) / (blocks * plan->height) * row_tiles * shape->groups;
	uint64_t tiles = blocks * together, rounds = (together * plan->splits + clusters - 1) / clusters;
	uint64_t bytes = (plan->height + plan->width / blocks) * BYTES_OF_STEP;
	uint64_t multiplying = rounds * plan->groups * plan->width / 2 * SCALE / plan->splits;
	uint64_t reading = rounds * bytes * SCALE / SM_BYTES_CYCLE / plan->splits;
	uint64_t cost = greater(multiplying, reading);
	cost = greater(cost, tiles * bytes * SCALE / L2_BYTES_CYCLE);
	cost = greater(cost, (uint64_t)shape->n * shape->groups * BYTES_OF_STEP * SCALE / HBM_BYTES_CYCLE);
	/* What does not bound is not free: where memory bounds all alike, the more multiprocessors ask for it the better. */
	cost += reading / 4 + multiplying / 16;
	return cost + rounds * TILE_CYCLES * SCALE + splitting_cost(shape, plan->splits);
}

/* The cheapest; among equals the one that comes first. */
static void consider(const struct linear_plan_shape *shape, struct linear_plan plan, struct linear_plan *best, uint64_t *best_cost)
{
	if (shape->sm_count < LINEAR_BLOCKS(plan.width))
		return;
	do {
		uint64_t cost = cost_of(shape, &plan);
		if (cost < *best_cost) {
			*best_cost = cost;
			*best = plan;
		}
		plan.splits *= 2;
	} while (plan.splits <= shape->splits_max);
}

struct linear_plan linear_plan(const struct linear_plan_shape *shape)
{
	struct linear_plan best = {64, 8, 1, 1};
	uint64_t best_cost = UINT64_MAX;
	uint32_t width_max = shape->segments > 1 ? LINEAR_SEGMENTED_WIDTH_MAX : 128;
	/* Weights of many groups are described in device memory, for one height of each kind. */
	uint32_t height_min = shape->groups > 1 ? 64 : 8;
	for (uint32_t width = 8; width <= width_max; width *= 2)
		for (uint32_t height = 64; height >= height_min; height -= 8)
			consider(shape, {height, width, 1, 1}, &best, &best_cost);
	bool two_groups = shape->segments == 1 && !shape->one_group;
	for (uint32_t width = 128; two_groups && width <= 256; width *= 2)
		consider(shape, {128, width, 2, 1}, &best, &best_cost);
	return best;
}
