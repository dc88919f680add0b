/* forced_plan - products in a tile of the caller's choice, in programs that are linked with --wrap=linear_plan: the product itself
 * has no such door.
 *
 * Loop:   one thread. */
#ifndef BENCH_GPU_FORCED_PLAN_H
#define BENCH_GPU_FORCED_PLAN_H
#include "kernels/cuda/linear_plan.h"

/* 5 widths x 8 heights of one warpgroup, and 2 of two. */
#define FORCED_PLANS_MAX 42

/* From here on each product takes this tile; NULL: its own. */
void forced_plan_set(const struct linear_plan *plan);
/* The product that was asked for last. */
const struct linear_plan_shape *forced_plan_asked(void);
/* All tiles that a product of that shape may be forced to take; returns how many. */
uint32_t forced_plans(const struct linear_plan_shape *shape, struct linear_plan *ret_plans /* [FORCED_PLANS_MAX] */);
#endif
