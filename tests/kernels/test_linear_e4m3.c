/* Products of weights of e4m3: against torch (tests/golden/fp8/make.py), against sums in double over inputs rounded by
 * base/e4m3.h, and law 1. */
#include "tests/kernels/fixture.h"
#include <jansson.h>
#include <math.h>
#include "base/e4m3.h"
#include "tests/kernels/weights_e4m3.h"

static void run_linear(struct device *device, const struct linear *linear, const float *x, float *y, uint32_t rows)
{
	const struct linear_shape *shape = linear_shape(linear);
	const struct linear_call call = {.linear = linear, .x = x, .x_stride = shape->k, .y = y, .y_stride = shape->n, .rows = rows};
	op_linear(device, &call, 1);
}

/* --- numbers ------------------------------------------------------------------------------------------- */

/* Every code is rounded to itself, and what lies between two goes to the nearer, a tie to the even one. */
static void numbers_are_rounded_to_the_nearest(void **state)
{
	for (int sign = 0; sign < 2; sign++)
		for (int code = 0; code < 0x7e; code++) {
			uint8_t low = (uint8_t)(code | sign << 7), high = (uint8_t)(low + 1);
			float a = e4m3_widen(low), b = e4m3_widen(high), middle = (a + b) / 2;
			assert_int_equal(e4m3_round(a), low);
			assert_int_equal(e4m3_round(middle), code % 2 ? high : low);
			assert_int_equal(e4m3_round(nextafterf(middle, a)), low);
			assert_int_equal(e4m3_round(nextafterf(middle, b)), high);
		}
	assert_int_equal(e4m3_round(448.0f), 0x7e);
	assert_int_equal(e4m3_round(1e9f), 0x7e);
	assert_int_equal(e4m3_round(-INFINITY), 0xfe);
	assert_int_equal(e4m3_round(NAN) & 0x7f, 0x7f);
	assert_true(isnan(e4m3_widen(0x7f)) && isnan(e4m3_widen(0xff)));
}

/* --- products ------------------------------------------------------------------------------------------ */

static float *numbers_of(const json_t *list, size_t count)
{
	float *x = malloc(count * sizeof(*x));
	size_t each = json_array_size(json_array_get(list, 0));
	for (size_t i = 0; i < count; i++)
		x[i] = (float)json_number_value(json_array_get(json_array_get(list, i / each), i % each));
	return x;
}

/* The same rounding, and sums of so many products in f32: their size times 2^-24 times a few. */
static void products_are_those_of_torch_on(struct device *device)
{
	json_t *golden = json_load_file("tests/golden/fp8/product.json", 0, NULL);
	assert_non_null(golden);
	uint32_t n = (uint32_t)json_integer_value(json_object_get(golden, "n"));
	uint32_t k = (uint32_t)json_integer_value(json_object_get(golden, "k"));
	const json_t *expected = json_object_get(golden, "y"), *size = json_object_get(golden, "size");
	uint32_t rows = (uint32_t)json_array_size(expected), groups = (k + 127) / 128;
	float *x = numbers_of(json_object_get(golden, "x"), (size_t)rows * k), *y = filled_with_nan((size_t)rows * n);
	float *scales = numbers_of(json_object_get(golden, "scales"), (size_t)groups * 2);
	uint8_t *codes = malloc((size_t)n * k);
	for (uint32_t i = 0; i < n * k; i++)
		codes[i] = (uint8_t)(i % 254 < 127 ? i % 254 : i % 254 + 1);
	struct linear *linear;
	const struct linear_shape shape = {.n = n, .k = k, .elem = ELEM_E4M3, .segments = 1, .scale_outputs = 128};
	assert_int_equal(linear_create(device, &shape, &linear), ERR_OK);
	assert_true(linear_bytes(linear) >= n * k && linear_bytes(linear) < 2 * n * k);
	linear_fill(linear, 0, n, codes, k);
	linear_fill_scales(linear, 0, 128, scales);
	linear_fill_scales(linear, 128, n - 128, scales + groups);
	run_linear(device, linear, x, y, rows);
	for (uint32_t i = 0; i < rows * n; i++)
		assert_near(y[i], json_real_value(json_array_get(json_array_get(expected, i / n), i % n)),
			    2e-7 * json_real_value(json_array_get(size, i / n)));
	linear_destroy(linear);
	json_decref(golden);
	free(codes);
	free(scales);
	free(x);
	free(y);
}

static void products_are_those_of_torch(void **state)
{
	on_each_variant(products_are_those_of_torch_on);
}

static const struct linear_shape shapes[] = {
	{1, 1, ELEM_E4M3, 1, 1},      {17, 3, ELEM_E4M3, 1, 2},       {64, 128, ELEM_E4M3, 1, 64},
	{100, 258, ELEM_E4M3, 1, 16}, {130, 2048, ELEM_E4M3, 8, 128}, {40, 1280, ELEM_E4M3, 2, 8},
};
#define SHAPE_COUNT (sizeof(shapes) / sizeof(*shapes))

static void products_are_right_on(struct device *device)
{
	struct rng rng = {.seed = 1};
	for (size_t s = 0; s < SHAPE_COUNT; s++) {
		struct weights_e4m3 w = weights_e4m3_make(device, &rng, shapes[s]);
		uint32_t n = shapes[s].n, k = shapes[s].k;
		for (uint32_t rows = 0; rows <= 13; rows += rows < 2 ? 1 : 11) {
			float *x = random_floats(&rng, (size_t)(rows + 1) * k), *y = filled_with_nan((size_t)(rows + 1) * n);
			run_linear(device, w.linear, x, y, rows);
			for (uint32_t i = 0; i < rows * n; i++) {
				double size, sum = product_e4m3(&w, x + (size_t)(i / n) * k, i % n, &size);
				assert_near(y[i], sum, 1e-6 * size + 1e-12);
			}
			assert_memory_equal(&y[(size_t)rows * n], &(uint32_t){UINT32_MAX}, 4); /* not one more */
			free(x);
			free(y);
		}
		weights_e4m3_free(&w);
	}
}

static void products_are_right(void **state)
{
	on_each_variant(products_are_right_on);
}

/* Law 1: alone, and in any company, order and number of threads; 230 rows cross the boundaries of all blocks. */
static void bits_of_a_row_do_not_depend_on_its_company_on(struct device *device)
{
	struct rng rng = {.seed = 2};
	struct device *other = device_named(device_props(device)->variant, 3);
	for (size_t s = 0; s < SHAPE_COUNT; s++) {
		struct weights_e4m3 w = weights_e4m3_make(device, &rng, shapes[s]);
		uint32_t n = shapes[s].n, k = shapes[s].k, row_max = s < 4 ? 230 : 101;
		float *x = random_floats(&rng, (size_t)row_max * k), *y = filled_with_nan((size_t)row_max * n);
		float *some_x = malloc((size_t)row_max * k * 4), *some_y = malloc((size_t)row_max * n * 4);
		for (uint32_t row = 0; row < row_max; row++)
			run_linear(device, w.linear, x + (size_t)row * k, y + (size_t)row * n, 1);
		for (int trial = 0; trial < 6; trial++) {
			uint32_t rows = 1 + (uint32_t)rng_below(&rng, trial < 4 ? 16 : row_max), chosen[230];
			for (uint32_t i = 0; i < rows; i++) {
				chosen[i] = (uint32_t)rng_below(&rng, row_max);
				memcpy(some_x + (size_t)i * k, x + (size_t)chosen[i] * k, k * 4);
			}
			run_linear(trial % 2 ? other : device, w.linear, some_x, some_y, rows);
			for (uint32_t i = 0; i < rows; i++)
				assert_memory_equal(some_y + (size_t)i * n, y + (size_t)chosen[i] * n, n * 4);
		}
		free(x);
		free(y);
		free(some_x);
		free(some_y);
		weights_e4m3_free(&w);
	}
	device_close(other);
}

static void bits_of_a_row_do_not_depend_on_its_company(void **state)
{
	on_each_variant(bits_of_a_row_do_not_depend_on_its_company_on);
}

/* The shard `rank` of `degree`: inputs, weights and scales of its part of K. */
static void run_shard(struct device *device, const struct weights_e4m3 *w, const float *x, uint32_t rows, uint32_t degree,
		      uint32_t rank, float *y)
{
	uint32_t part = w->shape.k / degree, groups = part / LINEAR_GROUP;
	struct linear_shape shape = w->shape;
	struct linear *linear;
	shape.k = part;
	shape.segments /= degree;
	assert_int_equal(linear_create(device, &shape, &linear), ERR_OK);
	linear_fill(linear, 0, shape.n, w->codes + rank * part, w->shape.k);
	for (uint32_t n = 0; n < shape.n; n += shape.scale_outputs) {
		uint32_t count = shape.n - n < shape.scale_outputs ? shape.n - n : shape.scale_outputs;
		linear_fill_scales(linear, n, count, w->scales + (size_t)n / shape.scale_outputs * groups * degree + rank * groups);
	}
	const struct linear_call call = {.linear = linear, .x = x + rank * part, .x_stride = w->shape.k, .y = y,
					 .y_stride = shape.n, .rows = rows};
	op_linear(device, &call, 1);
	linear_destroy(linear);
}

static void shards_sum_to_the_bits_of_the_whole_on(struct device *device)
{
	enum { N = 72, K = 8 * 256, ROWS = 9 };
	struct rng rng = {.seed = 3};
	struct weights_e4m3 w = weights_e4m3_make(device, &rng, (struct linear_shape){N, K, ELEM_E4M3, 8, 32});
	float *x = random_floats(&rng, ROWS * K), whole[ROWS * N], sum[ROWS * N], shard[8][ROWS * N];
	run_linear(device, w.linear, x, whole, ROWS);
	for (uint32_t degree = 1; degree <= 8; degree *= 2) {
		const float *parts[8];
		for (uint32_t rank = 0; rank < degree; rank++) {
			run_shard(device, &w, x, ROWS, degree, rank, shard[rank]);
			parts[rank] = shard[rank];
		}
		op_tree_sum(device, &(struct tree_call){.parts = parts, .part_count = degree, .rows = ROWS, .n = N, .out = sum});
		assert_memory_equal(sum, whole, sizeof(whole));
	}
	free(x);
	weights_e4m3_free(&w);
}

static void shards_sum_to_the_bits_of_the_whole(void **state)
{
	on_each_variant(shards_sum_to_the_bits_of_the_whole_on);
}

static void segments_that_cut_a_group_are_refused(void **state)
{
	struct device *device = device_named("portable", 1);
	struct linear *linear;
	const struct linear_shape cut = {16, 256 + 128, ELEM_E4M3, 2, 16};
	assert_int_equal(linear_create(device, &cut, &linear), ERR_INVALID);
	device_close(device);
}

/* All variants with fused multiply-adds give the same bits. */
static void fused_variants_agree(void **state)
{
	const char *names[DEVICE_VARIANTS_MAX];
	uint32_t count = device_variants(names), n = shapes[3].n, k = shapes[3].k;
	float *first = NULL;
	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(names[i], "portable") == 0)
			continue;
		struct rng rng = {.seed = 5};
		struct device *device = device_named(names[i], 2);
		struct weights_e4m3 w = weights_e4m3_make(device, &rng, shapes[3]);
		float *x = random_floats(&rng, 7 * k), *y = filled_with_nan(7 * n);
		run_linear(device, w.linear, x, y, 7);
		if (first)
			assert_memory_equal(y, first, 7 * n * sizeof(*y));
		free(first);
		first = y;
		free(x);
		weights_e4m3_free(&w);
		device_close(device);
	}
	free(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_rounded_to_the_nearest),
		cmocka_unit_test(products_are_those_of_torch),
		cmocka_unit_test(products_are_right),
		cmocka_unit_test(bits_of_a_row_do_not_depend_on_its_company),
		cmocka_unit_test(shards_sum_to_the_bits_of_the_whole),
		cmocka_unit_test(segments_that_cut_a_group_are_refused),
		cmocka_unit_test(fused_variants_agree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
