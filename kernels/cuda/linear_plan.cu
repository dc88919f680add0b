#include "kernels/cuda/linear_plan.h"

/* Those of an H200 as its data sheet and others' measurements have them, to be replaced by what bench/gpu's sweep says. */
const struct linear_rates linear_rates_h200 = {40, 4600, 2450, 2, 3000};

#define BYTES_OF_STEP 32u
#define SCALE	      1024u /* cycles are counted in such parts */

static uint64_t greater(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What splits cost for each 16 inputs: of the whole product sums of f32 written and read, and a kernel. */
static uint64_t splitting_cost(const struct linear_plan_shape *shape, uint32_t splits, const struct linear_rates *rates)
{
	uint64_t bytes = (uint64_t)shape->rows * shape->n * sizeof(float) * splits;
	return splits == 1 ? 0 : (rates->split_cycles + 2 * bytes / rates->l2_bytes_cycle) * SCALE * 16 / shape->k;
}

uint64_t linear_plan_cost(const struct linear_plan_shape *shape, const struct linear_plan *plan, const struct linear_rates *rates)
{
	uint64_t rows_each = (shape->rows + shape->groups - 1) / shape->groups;
	uint64_t row_tiles = (rows_each + plan->width - 1) / plan->width;
	/* The blocks of a cluster take tiles together, and each reads its part of the rows. */
	uint64_t blocks = LINEAR_BLOCKS(plan->width), clusters = shape->sm_count / blocks;
	uint64_t together = (shape->n + blocks * plan->height - 1) / (blocks * plan->height) * row_tiles * shape->groups;
	uint64_t tiles = blocks * together, rounds = (together * plan->splits + clusters - 1) / clusters;
	uint64_t bytes = (plan->height + plan->width / blocks) * BYTES_OF_STEP;
	uint64_t multiplying = rounds * plan->groups * plan->width / 2 * SCALE / plan->splits;
	uint64_t reading = rounds * bytes * SCALE / rates->sm_bytes_cycle / plan->splits;
	uint64_t cost = greater(multiplying, reading);
	cost = greater(cost, tiles * bytes * SCALE / rates->l2_bytes_cycle);
	cost = greater(cost, (uint64_t)shape->n * shape->groups * BYTES_OF_STEP * SCALE / rates->hbm_bytes_cycle);
	/* What does not bound is not free: where memory bounds all alike, the more multiprocessors ask for it the better. */
	cost += reading / 4 + multiplying / 16;
	return cost + rounds * rates->tile_cycles * SCALE + splitting_cost(shape, plan->splits, rates);
}

/* The cheapest; among equals the one that comes first. */
static void consider(const struct linear_plan_shape *shape, struct linear_plan plan, struct linear_plan *best, uint64_t *best_cost)
{
	if (shape->sm_count < LINEAR_BLOCKS(plan.width))
		return;
	do {
		uint64_t cost = linear_plan_cost(shape, &plan, &linear_rates_h200);
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
