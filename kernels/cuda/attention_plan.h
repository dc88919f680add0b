/* attention_plan - which blocks do what: items of work of all runs, found by each block for itself.
 *
 * Owns:   a struct attention_plan in the block's shared memory.
 * Loop:   device code, all threads of a block.
 * Rules:  1 the grid is fixed and the counts are read from device memory, so that a recorded launch serves any runs;
 *         2 an item is a tile of rows of a run and a kv head; either with all its splits, which a block then walks and
 *           answers, or with one of them, whose sums attention_merge() joins. Which, no bit depends on (attention.h, rule 2):
 *           a run is shared out when walking it would keep one block busy for long after the others, and its sums find room. */
#ifndef KERNELS_CUDA_ATTENTION_PLAN_H
#define KERNELS_CUDA_ATTENTION_PLAN_H
#include "kernels/cuda/attention.h"

#define PLAN_WARPS_MAX 16
#define PLAN_SHARE     4 /* a walked item is at most that part of what a block has to do: the tail stays short */

struct attention_plan {
	uint32_t item_first[ATTENTION_RUNS_MAX + 1];
	uint32_t partial_first[ATTENTION_RUNS_MAX]; /* or ATTENTION_WALKED */
	uint32_t warp_sums[PLAN_WARPS_MAX + 1];
};

/* Which runs a launch serves: those of at most rows_max packed rows, and more than rows_min. */
struct plan_limits {
	uint32_t rows_min, rows_max;
	uint32_t tile_rows;
	uint32_t partial_first, partial_rows; /* its part of the room for partial sums */
};

struct plan_item {
	struct cuda_run run;
	uint32_t run_index;
	uint32_t head_kv;
	uint32_t row_first, row_count; /* packed rows */
	uint32_t low, end;	       /* positions that any of the rows sees */
	uint32_t split_first, split_end;
	uint32_t partial; /* of row_first, or ATTENTION_WALKED */
};

/* values[i] = the sum of those before it; the last becomes the sum of all `count`. */
SIMT_DEVICE void plan_scan(uint32_t *values, uint32_t count, uint32_t *warp_sums)
{
	uint32_t each = (count + blockDim.x - 1) / blockDim.x, first = threadIdx.x * each;
	uint32_t last = first + each < count ? first + each : count, sum = 0;
	simt_sync();
	for (uint32_t i = first; i < last; i++)
		sum += values[i];
	uint32_t upto = sum;
	for (uint32_t by = 1; by < SIMT_LANES; by *= 2) {
		uint32_t other = simt_shuffle_up(upto, by);
		upto += simt_lane() >= by ? other : 0;
	}
	if (simt_lane() == SIMT_LANES - 1)
		warp_sums[simt_warp()] = upto;
	simt_sync();
	uint32_t before = upto - sum;
	for (uint32_t warp = 0; warp < simt_warp(); warp++)
		before += warp_sums[warp];
	for (uint32_t i = first; i < last; i++) {
		uint32_t value = values[i];
		values[i] = before;
		before += value;
	}
	if (threadIdx.x == blockDim.x - 1)
		values[count] = before;
	simt_sync();
}

SIMT_DEVICE uint32_t plan_tiles(const struct attention_job *job, const struct plan_limits *limits, const struct cuda_run *run)
{
	uint32_t rows = run->row_count * job->group;
	return rows > limits->rows_min && rows <= limits->rows_max ? (rows + limits->tile_rows - 1) / limits->tile_rows : 0;
}

SIMT_DEVICE struct attention_splits plan_splits(const struct attention_job *job, const struct cuda_run *run)
{
	return attention_splits_of(job, run->first_position, run->first_position + run->row_count);
}

/* Splits times tiles times heads of all runs, in the end of item_first. */
SIMT_DEVICE void plan_work(const struct attention_job *job, const struct plan_limits *limits, struct attention_plan *plan,
			   uint32_t count)
{
	for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
		const struct cuda_run run = job->runs.runs[i];
		struct attention_splits splits = plan_splits(job, &run);
		plan->item_first[i] = plan_tiles(job, limits, &run) * (splits.end - splits.first) * job->head_kv_count;
	}
	plan_scan(plan->item_first, count, plan->warp_sums);
}

/* Partial rows that the runs which should be shared out need, as a sum; what is more than all room counts as little more. */
SIMT_DEVICE void plan_partials(const struct attention_job *job, const struct plan_limits *limits, struct attention_plan *plan,
			       uint32_t count)
{
	uint32_t walk_max = plan->item_first[count] / (gridDim.x * PLAN_SHARE);
	walk_max = walk_max > 1 ? walk_max : 1;
	simt_sync();
	for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
		const struct cuda_run run = job->runs.runs[i];
		struct attention_splits splits = plan_splits(job, &run);
		uint32_t tiles = plan_tiles(job, limits, &run), split_count = splits.end - splits.first;
		bool shared = tiles > 0 && split_count > walk_max;
		uint64_t rows = shared ? (uint64_t)split_count * run.row_count * job->head_count : 0;
		plan->partial_first[i] = shared ? 0 : ATTENTION_WALKED;
		plan->item_first[i] = (uint32_t)(rows <= limits->partial_rows ? rows : limits->partial_rows + 1);
	}
	plan_scan(plan->item_first, count, plan->warp_sums);
}

SIMT_DEVICE void plan_items(const struct attention_job *job, const struct plan_limits *limits, struct attention_plan *plan,
			    uint32_t count)
{
	/* item_first[i] is partial rows, and the neighbour's thread wants its own still. */
	for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
		bool fits = plan->item_first[i + 1] <= limits->partial_rows;
		if (plan->partial_first[i] != ATTENTION_WALKED)
			plan->partial_first[i] = fits ? limits->partial_first + plan->item_first[i] : ATTENTION_WALKED;
	}
	simt_sync();
	for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
		const struct cuda_run run = job->runs.runs[i];
		struct attention_splits splits = plan_splits(job, &run);
		uint32_t each = plan->partial_first[i] == ATTENTION_WALKED ? 1 : splits.end - splits.first;
		uint32_t tiles = plan_tiles(job, limits, &run);
		plan->item_first[i] = tiles * each * job->head_kv_count;
		if (blockIdx.x == 0 && tiles > 0) /* for attention_merge(); each run is one launch's */
			job->partial_first[i] = plan->partial_first[i];
	}
	plan_scan(plan->item_first, count, plan->warp_sums);
}

/* Returns how many items there are. All threads of the block; block sizes up to 32 PLAN_WARPS_MAX. */
SIMT_DEVICE uint32_t plan_make(const struct attention_job *job, const struct plan_limits *limits, struct attention_plan *plan)
{
	uint32_t count = job->runs.counts[0];
	count = count < ATTENTION_RUNS_MAX ? count : ATTENTION_RUNS_MAX;
	plan_work(job, limits, plan, count);
	plan_partials(job, limits, plan, count);
	plan_items(job, limits, plan, count);
	return plan->item_first[count];
}

SIMT_DEVICE uint32_t plan_run_of(const struct attention_job *job, const struct attention_plan *plan, uint32_t item)
{
	uint32_t low = 0, high = job->runs.counts[0]; /* item_first[low] <= item < item_first[high] */
	while (high - low > 1) {
		uint32_t middle = (low + high) / 2;
		if (plan->item_first[middle] <= item)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* The number of a block's next item. Items of a run grow less, so every other round goes backwards: no block has the greatest of each. */
SIMT_DEVICE uint32_t plan_number(uint32_t round)
{
	return round * gridDim.x + (round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x);
}

/* The item with that number: heads side by side, for they share the table; the last tiles of rows, which see most, first. */
SIMT_DEVICE struct plan_item plan_item_at(const struct attention_job *job, const struct plan_limits *limits,
					  const struct attention_plan *plan, uint32_t number)
{
	struct plan_item item;
	item.run_index = plan_run_of(job, plan, number);
	item.run = job->runs.runs[item.run_index];
	struct attention_splits splits = plan_splits(job, &item.run);
	uint32_t tiles = plan_tiles(job, limits, &item.run), rest = number - plan->item_first[item.run_index];
	uint32_t rows = item.run.row_count * job->group, partial = plan->partial_first[item.run_index];
	item.head_kv = rest % job->head_kv_count;
	rest /= job->head_kv_count;
	item.row_first = (tiles - 1 - rest % tiles) * limits->tile_rows;
	item.row_count = rows - item.row_first < limits->tile_rows ? rows - item.row_first : limits->tile_rows;
	uint32_t first = item.run.first_position + item.row_first / job->group;
	item.end = item.run.first_position + (item.row_first + item.row_count - 1) / job->group + 1;
	item.low = attention_low(job, first);
	struct attention_splits own = attention_splits_of(job, first, item.end);
	item.split_first = own.first;
	item.split_end = own.end;
	item.partial = ATTENTION_WALKED;
	if (partial != ATTENTION_WALKED) {
		uint32_t split = rest / tiles;
		item.partial = partial + attention_partial(job, &item.run, split, item.head_kv, item.row_first);
		split += splits.first;
		/* None of the tile's own: an item without work. */
		item.split_first = split >= own.first ? split : own.end;
		item.split_end = split < own.end ? split + 1 : item.split_first;
		item.split_end = item.split_end < item.split_first ? item.split_first : item.split_end;
	}
	return item;
}
#endif
