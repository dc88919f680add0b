/* fit - which rates (kernels/cuda/linear_plan.h) would have chosen the best tiles of those that were measured.
 *
 * A choice's price is its time over the best one's: 1 where the plan is right.  Pure. */
#ifndef BENCH_GPU_FIT_H
#define BENCH_GPU_FIT_H
#include <stdbool.h>
#include <stdint.h>

#include "bench/gpu/forced_plan.h"

/* A product in all tiles that were measured. */
struct fit_point {
	struct linear_plan_shape shape;
	uint32_t count;
	struct linear_plan plans[FORCED_PLANS_MAX];
	double us[FORCED_PLANS_MAX];
};

struct fit_price {
	double mean, worst;
	uint32_t behind; /* points whose price is over FIT_BEHIND */
};
#define FIT_BEHIND 1.05

/* Number of the tile that these rates choose; of the fastest. */
uint32_t fit_choice(const struct fit_point *point, const struct linear_rates *rates);
uint32_t fit_best(const struct fit_point *point);
struct fit_price fit_price_of(const struct fit_point *points, uint32_t count, const struct linear_rates *rates);
/* From `start` on: one rate after the other takes the value, within 1/3 and 3 of where it began, that lowers the mean price by more than noise,
 * until none does. */
struct linear_rates fit_rates(const struct fit_point *points, uint32_t count, const struct linear_rates *start);
#endif
