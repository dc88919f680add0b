#include "bench/gpu/fit.h"

/* What a change of a rate must bring: times have some noise, and constants that move for it say nothing. */
#define GAIN_LEAST 0.0005
enum { STEPS = 24, PASSES_MAX = 12, RATES = 4 };
#define STEP_RATIO 1.0468 /* 24 of them are 3 */

uint32_t fit_choice(const struct fit_point *point, const struct linear_rates *rates)
{
	uint32_t choice = 0;
	uint64_t least = UINT64_MAX;
	for (uint32_t i = 0; i < point->count; i++) {
		uint64_t cost = linear_plan_cost(&point->shape, &point->plans[i], rates);
		choice = cost < least ? i : choice;
		least = cost < least ? cost : least;
	}
	return choice;
}

uint32_t fit_best(const struct fit_point *point)
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < point->count; i++)
		best = point->us[i] < point->us[best] ? i : best;
	return best;
}

struct fit_price fit_price_of(const struct fit_point *points, uint32_t count, const struct linear_rates *rates)
{
	struct fit_price price = {0};
	for (uint32_t i = 0; i < count; i++) {
		double one = points[i].us[fit_choice(&points[i], rates)] / points[i].us[fit_best(&points[i])];
		price.mean += one / count;
		price.worst = one > price.worst ? one : price.worst;
		price.behind += one > FIT_BEHIND;
	}
	return price;
}

/* Splits are of the class "fast", which is not swept. */
static uint32_t *rate_of(struct linear_rates *rates, uint32_t which)
{
	uint32_t *all[RATES] = {&rates->sm_bytes_cycle, &rates->l2_bytes_cycle, &rates->hbm_bytes_cycle, &rates->tile_cycles};
	return all[which];
}

/* Values of one rate from a third of `from` to three of it. */
static struct linear_rates best_along(const struct fit_point *points, uint32_t count, struct linear_rates rates, uint32_t which,
				      uint32_t from, double *price)
{
	struct linear_rates best = rates;
	double value = from / 3.0;
	for (int step = 0; step <= 2 * STEPS; step++, value *= STEP_RATIO) {
		*rate_of(&rates, which) = value < 1 ? 1 : (uint32_t)(value + 0.5);
		double mean = fit_price_of(points, count, &rates).mean;
		if (mean < *price - GAIN_LEAST) {
			*price = mean;
			best = rates;
		}
	}
	return best;
}

struct linear_rates fit_rates(const struct fit_point *points, uint32_t count, const struct linear_rates *start)
{
	struct linear_rates rates = *start, first = *start;
	double price = fit_price_of(points, count, &rates).mean, before = price + 1;
	for (int pass = 0; pass < PASSES_MAX && price < before; pass++) {
		before = price;
		for (uint32_t which = 0; which < RATES; which++)
			rates = best_along(points, count, rates, which, *rate_of(&first, which), &price);
	}
	return rates;
}
