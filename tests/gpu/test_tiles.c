/* The tile of a product costs no bits: of one product all tiles, forced one after the other, give the same; and which rates of the plan fit what
 * was measured (bench/gpu/fit.h). */
#include "bench/gpu/fit.h"
#include "bench/gpu/forced_plan.h"
#include "tests/gpu/products.h"
#include "tests/kernels/weights_e4m3.h"

static struct linear *weights_of(struct device *device, struct rng *rng, struct linear_shape shape)
{
	struct linear *linear;
	if (shape.elem == ELEM_E4M3) {
		struct weights_e4m3 w = weights_e4m3_make(device, rng, shape);
		free(w.codes);
		free(w.scales);
		return w.linear;
	}
	uint16_t *raw = random_halves(rng, (size_t)shape.n * shape.k);
	assert_int_equal(linear_create(device, &shape, &linear), ERR_OK);
	linear_fill(linear, 0, shape.n, raw, shape.k);
	free(raw);
	return linear;
}

static bool same_plan(struct linear_plan a, struct linear_plan b)
{
	return a.height == b.height && a.width == b.width && a.groups == b.groups && a.splits == b.splits;
}

/* How many tiles were tried, the product's own among them. */
static uint32_t all_tiles_agree(struct device *device, struct linear_shape shape, uint32_t rows)
{
	struct linear_plan plans[FORCED_PLANS_MAX];
	struct rng rng = {.seed = 1};
	struct linear *linear = weights_of(device, &rng, shape);
	float *x = random_inputs(&rng, (size_t)rows * shape.k), *own = run_linear(device, linear, x, rows, ELEM_F32);
	const struct linear_plan_shape asked = *forced_plan_asked();
	assert_int_equal(asked.n, shape.n);
	assert_int_equal(asked.rows, rows);
	uint32_t count = forced_plans(&asked, plans), own_among = 0;
	for (uint32_t i = 0; i < count; i++) {
		forced_plan_set(&plans[i]);
		float *y = run_linear(device, linear, x, rows, ELEM_F32);
		forced_plan_set(NULL);
		assert_memory_equal(y, own, (size_t)rows * shape.n * sizeof(float));
		own_among += same_plan(plans[i], linear_plan(&asked));
		free(y);
	}
	assert_int_equal(own_among, 1);
	free(own);
	free(x);
	linear_destroy(linear);
	return count;
}

static void every_tile_gives_the_same_bits(void **state)
{
	struct device *device = gpu_open(8);
	static const uint32_t rows[] = {1, 9, 70};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		assert_int_equal(all_tiles_agree(device, (struct linear_shape){200, 264, ELEM_BF16, 1}, rows[i]), FORCED_PLANS_MAX);
		assert_int_equal(all_tiles_agree(device, (struct linear_shape){136, 384, ELEM_E4M3, 1, 128}, rows[i]), FORCED_PLANS_MAX);
	}
	/* Registers hold a tree of segments too; scales of fewer than 16 outputs are for one warpgroup. */
	assert_int_equal(all_tiles_agree(device, (struct linear_shape){72, 512, ELEM_BF16, 8}, 70), 32);
	assert_int_equal(all_tiles_agree(device, (struct linear_shape){72, 256, ELEM_E4M3, 1, 8}, 9), 40);
	device_close(device);
}

/* --- rates --------------------------------------------------------------------------------------------------- */

enum { POINTS = 48 };

/* A device that is as the plan's account of it has it, but with other rates. */
static void measure(struct fit_point *points, const struct linear_rates *rates)
{
	static const uint32_t n_of[] = {2048, 4096, 6144, 28672};
	for (uint32_t p = 0; p < POINTS; p++) {
		struct fit_point *point = &points[p];
		point->shape = (struct linear_plan_shape){.n = n_of[p % 4], .rows = 1u << p / 4, .groups = 1, .segments = 1, .sm_count = 132,
							  .k = 4096};
		point->count = forced_plans(&point->shape, point->plans);
		for (uint32_t i = 0; i < point->count; i++)
			point->us[i] = (double)linear_plan_cost(&point->shape, &point->plans[i], rates);
	}
}

static void rates_that_are_right_stay(void **state)
{
	static struct fit_point points[POINTS];
	measure(points, &linear_rates_h200);
	const struct linear_rates fitted = fit_rates(points, POINTS, &linear_rates_h200);
	const struct fit_price price = fit_price_of(points, POINTS, &linear_rates_h200);
	assert_memory_equal(&fitted, &linear_rates_h200, sizeof(fitted));
	assert_true(price.mean < 1.0 + 1e-9 && price.worst == 1 && price.behind == 0);
}

static void rates_that_are_wrong_are_mended(void **state)
{
	static struct fit_point points[POINTS];
	static const struct linear_rates real[] = {{70, 4600, 2450, 2, 3000}, {40, 2600, 2450, 5, 3000}, {40, 2000, 2450, 2, 3000},
						   {20, 2000, 2450, 6, 3000}};
	for (size_t i = 0; i < sizeof(real) / sizeof(*real); i++) {
		measure(points, &real[i]);
		const struct linear_rates fitted = fit_rates(points, POINTS, &linear_rates_h200);
		const struct fit_price before = fit_price_of(points, POINTS, &linear_rates_h200), after = fit_price_of(points, POINTS, &fitted);
		assert_true(before.mean > 1.005 && before.worst > FIT_BEHIND && before.behind > 0);
		assert_true(after.mean - 1 < (before.mean - 1) / 4);
		assert_true(after.behind < before.behind);
	}
}

/* The plan of a product is the cheapest of all its tiles. */
static void choices_are_those_of_the_plan(void **state)
{
	static struct fit_point points[POINTS];
	measure(points, &linear_rates_h200);
	for (uint32_t p = 0; p < POINTS; p++) {
		const struct fit_point *point = &points[p];
		assert_true(same_plan(point->plans[fit_choice(point, &linear_rates_h200)], linear_plan(&point->shape)));
		assert_int_equal(fit_best(point), fit_choice(point, &linear_rates_h200));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_tile_gives_the_same_bits),
		cmocka_unit_test(choices_are_those_of_the_plan),
		cmocka_unit_test(rates_that_are_right_stay),
		cmocka_unit_test(rates_that_are_wrong_are_mended),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
