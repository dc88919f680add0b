/* linear_plan - into which tiles a product is cut: a function of its shape and the device, of no consequence to its bits.
 *
 * A tile is `height` outputs (the A operand of wgmma: 64 rows for each warpgroup, of which only the first `height` count where
 * there is one) by `width` rows of the batch (N of wgmma). */
#ifndef KERNELS_CUDA_LINEAR_PLAN_H
#define KERNELS_CUDA_LINEAR_PLAN_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define LINEAR_WIDTH_MAX	256
#define LINEAR_E4M3_WIDTH_MAX 128 /* registers hold the sums of a group beside those of all */
#define LINEAR_SEGMENTED_WIDTH_MAX 64 /* beside the sums of a segment, registers hold three levels of the tree */

struct linear_plan {
	uint32_t height; /* 8 .. 64 in steps of 8, or 128 */
	uint32_t width;	 /* 8, 16, 32, 64, 128; 128 or 256 with a height of 128 */
	uint32_t groups; /* warpgroups that multiply: 1, or 2 with a height of 128 */
};

struct linear_plan_shape {
	uint32_t n;
	uint32_t rows;	   /* of all groups together, about evenly */
	uint32_t groups;   /* products beside each other: experts, heads; 1 */
	uint32_t segments; /* over 1: narrow tiles only */
	uint32_t sm_count;
	uint32_t width_max; /* 0: LINEAR_WIDTH_MAX */
};

struct linear_plan linear_plan(const struct linear_plan_shape *shape);

#ifdef __cplusplus
}
#endif
#endif
