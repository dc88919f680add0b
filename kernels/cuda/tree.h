/* tree - sums of parts, four numbers at a time: the binary tree over shards, wherever their memory is.
 *
 * Owns:   nothing.
 * Loop:   device code.
 * Rules:  1 all parts' loads are under way before the first is added: those of other devices take a microsecond. */
#ifndef KERNELS_CUDA_TREE_H
#define KERNELS_CUDA_TREE_H
#include "kernels/cuda/quad.h"

#define TREE_THREADS 256
#define TREE_PIECE   (TREE_THREADS * QUAD)

struct tree_parts {
	const float *at[LINEAR_SEGMENTS];
};

template <int count> SIMT_DEVICE quad tree_of(const quad *parts)
{
	if constexpr (count == 1) {
		return parts[0];
	} else {
		quad low = tree_of<count / 2>(parts), high = tree_of<count / 2>(parts + count / 2);
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			low.at[i] += high.at[i];
		return low;
	}
}

/* Numbers `at` … of a row of n, and the bias of these, if there is one. */
template <int count, bool wide> SIMT_DEVICE quad tree_load(const tree_parts &parts, size_t first, const float *bias, size_t left)
{
	quad all[count], add = {};
	SIMT_UNROLL
	for (int p = 0; p < count; p++)
		all[p] = quad_load<wide>(parts.at[p] + first, left);
	if (bias)
		add = quad_load<wide>(bias, left);
	quad sum = tree_of<count>(all);
	SIMT_UNROLL
	for (int i = 0; i < QUAD; i++)
		sum.at[i] = bias ? sum.at[i] + add.at[i] : sum.at[i];
	return sum;
}

/* Parts, and what else is touched, in whole quads. */
static inline bool tree_wide(const tree_parts &parts, uint32_t part_count, const float *bias, uint32_t n)
{
	bool wide = n % QUAD == 0 && quad_wide(bias, 0);
	for (uint32_t i = 0; i < part_count; i++)
		wide = wide && quad_wide(parts.at[i], 0);
	return wide;
}
#endif
