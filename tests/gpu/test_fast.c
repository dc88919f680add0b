/* The class "fast": K is split where tiles are few, results are near those of the exact class, and the two do not mix. */
#include <math.h>
#include "base/bf16.h"
#include "kernels/cuda/linear_plan.h"
#include "tests/gpu/fixture.h"

static struct device *fast_open(void)
{
	struct device *device;
	struct why why;
	const struct device_options options = {.kind = DEVICE_CUDA, .fast = true};
	if (device_open(&options, &why, &device) != ERR_OK)
		fail_msg("%s", why.text);
	return device;
}

/* --- the plan: of an H200 --------------------------------------------------------------------------------------- */

static struct linear_plan plan_of(uint32_t n, uint32_t k, uint32_t rows, uint32_t splits_max)
{
	const struct linear_plan_shape shape = {.n = n, .rows = rows, .groups = 1, .segments = 1, .sm_count = 132, .k = k,
						.splits_max = splits_max};
	return linear_plan(&shape);
}

static void few_tiles_are_split_and_many_are_not(void **state)
{
	assert_true(plan_of(4096, 14336, 256, 8).splits > 1);
	assert_true(plan_of(4096, 14336, 128, 8).splits > 1);
	assert_true(plan_of(2048, 8192, 256, 8).splits > 1);
	assert_int_equal(plan_of(28672, 4096, 8192, 8).splits, 1);
	assert_int_equal(plan_of(128256, 4096, 1, 8).splits, 1);
	assert_int_equal(plan_of(4096, 512, 1, 8).splits, 1);
	for (uint32_t rows = 1; rows <= 8192; rows *= 2) {
		assert_int_equal(plan_of(4096, 14336, rows, 1).splits, 1);
		assert_true(plan_of(4096, 14336, rows, 2).splits <= 2);
	}
}

/* --- products ------------------------------------------------------------------------------------------------------ */

enum { N = 72, K = 16384, X_STRIDE = 2 * K, ROWS_MAX = 40 };

struct product {
	uint16_t *weights; /* [N][K] */
	uint16_t *x;	   /* [ROWS_MAX][X_STRIDE] */
	float bias[N];
};

/* y: [rows][N] of y_elem. */
static void *multiply(struct device *device, const struct product *p, uint32_t segments, uint32_t rows, enum elem y_elem)
{
	const struct linear_shape shape = {N, K, ELEM_BF16, segments};
	struct linear *linear;
	size_t bytes = rows * N * elem_bytes(y_elem);
	assert_int_equal(linear_create(device, &shape, &linear), ERR_OK);
	linear_fill(linear, 0, N, p->weights, K);
	assert_int_equal(linear_fill_bias(linear, 0, N, p->bias), ERR_OK);
	void *x = gpu_put(device, p->x, ROWS_MAX * X_STRIDE * sizeof(*p->x)), *y = gpu_nan(device, bytes);
	const struct linear_call call = {linear, x, X_STRIDE, y, N, rows, ELEM_BF16, y_elem};
	op_linear(device, &call, 1);
	assert_int_equal(device_sync(device), ERR_OK);
	dev_free(device, MEM_DEVICE, x, ROWS_MAX * X_STRIDE * sizeof(*p->x));
	void *result = gpu_take(device, y, bytes);
	linear_destroy(linear);
	return result;
}

/* Numbers below 1, so a result is of the order of sqrt(K) / 3 = 43; both classes round each of some thousand sums of that size to 24
 * bits: 2^-14 of the result's size. */
#define TOLERANCE (43.0 / 16384)

static void check_rows(const struct product *p, struct device *fast, struct device *exact, uint32_t rows, uint32_t *differing)
{
	float *y = multiply(fast, p, 1, rows, ELEM_F32), *expected = multiply(exact, p, 1, rows, ELEM_F32);
	uint16_t *halves = multiply(fast, p, 1, rows, ELEM_BF16);
	for (uint32_t i = 0; i < rows * N; i++) {
		assert_near(y[i], expected[i], TOLERANCE);
		assert_int_equal(halves[i], bf16_round(y[i]));
		*differing += y[i] != expected[i];
	}
	free(y);
	free(expected);
	free(halves);
}

static void split_products_are_near_the_exact_ones(void **state)
{
	struct device *fast = fast_open(), *exact = gpu_open(1);
	struct rng rng = {.seed = 1};
	struct product p = {.weights = random_halves(&rng, N * K), .x = random_halves(&rng, ROWS_MAX * X_STRIDE)};
	uint32_t differing = 0;
	for (int i = 0; i < N; i++)
		p.bias[i] = random_float(&rng);
	check_rows(&p, fast, exact, 1, &differing);
	check_rows(&p, fast, exact, 9, &differing);
	check_rows(&p, fast, exact, ROWS_MAX, &differing);
	assert_true(differing > 0); /* they were split indeed */
	/* Segments of row-parallel weights are no part of this class. */
	float *y = multiply(fast, &p, 8, 1, ELEM_F32), *whole = multiply(fast, &p, 1, 1, ELEM_F32);
	assert_memory_equal(y, whole, N * sizeof(*y));
	free(y);
	free(whole);
	free(p.weights);
	free(p.x);
	device_close(fast);
	device_close(exact);
}

/* --- classes --------------------------------------------------------------------------------------------------------- */

static void the_class_says_so_and_a_cpu_has_none(void **state)
{
	struct device *fast = fast_open(), *exact = gpu_open(1), *cpu;
	struct why why;
	assert_non_null(strstr(device_props(fast)->numerics, "/fast"));
	assert_null(strstr(device_props(exact)->numerics, "fast"));
	const struct device_options options = {.kind = DEVICE_CPU, .fast = true};
	assert_int_equal(device_open(&options, &why, &cpu), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "fast"));
	device_close(fast);
	device_close(exact);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(few_tiles_are_split_and_many_are_not),
		cmocka_unit_test(split_products_are_near_the_exact_ones),
		cmocka_unit_test(the_class_says_so_and_a_cpu_has_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
