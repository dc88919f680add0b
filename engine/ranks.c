#include "engine/ranks.h"

#include <assert.h>

void ranks_share_rows(const struct ranks *ranks, const struct rank_sum *sums, uint32_t row_count, uint32_t n)
{
	const float *parts[DEVICES_MAX];
	for (uint32_t i = 0; i < ranks->count; i++)
		parts[i] = sums[i].part;
	device_meet(ranks->devices[0]);
	for (uint32_t i = 0; i < ranks->count; i++) {
		const struct collect_call call = {.parts = parts, .part_count = ranks->count, .rows = row_count, .n = n,
						  .out = sums[i].out};
		op_collect(ranks->devices[i], &call);
	}
}

void ranks_sum(const struct ranks *ranks, const struct rank_sum *sums, uint32_t row_count, uint32_t n)
{
	bool split = ranks_split(ranks, row_count);
	if (ranks->count == 1) {
		assert(sums->part == sums->out && !sums->bias);
		return;
	}
	device_meet(ranks->devices[0]);
	for (uint32_t rank = 0; rank < ranks->count; rank++) {
		struct rank_share share = split ? rank_share(ranks, row_count, rank) : (struct rank_share){0, row_count};
		const float *parts[DEVICES_MAX];
		for (uint32_t i = 0; i < ranks->count; i++)
			parts[i] = sums[i].part + (size_t)share.first * n;
		const struct tree_call call = {.parts = parts, .part_count = ranks->count, .rows = share.count, .n = n,
					       .bias = sums[rank].bias,
					       .out = (split ? sums[rank].part : sums[rank].out) + (size_t)share.first * n};
		op_tree_sum(ranks->devices[rank], &call);
	}
	if (split)
		ranks_share_rows(ranks, sums, row_count, n);
}
