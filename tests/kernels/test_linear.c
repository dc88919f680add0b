#include "tests/kernels/fixture.h"
#include <math.h>

struct weights {
	struct linear_shape shape;
	float *f32; /* [n][k], whatever the type */
	void *raw;  /* as on disk */
	struct linear *linear;
};

static struct weights weights_make(struct device *device, struct rng *rng, struct linear_shape shape)
{
	struct weights w = {.shape = shape};
	size_t count = (size_t)shape.n * shape.k;
	if (shape.elem == ELEM_F32) {
		w.f32 = random_floats(rng, count);
		w.raw = malloc(count * 4);
		memcpy(w.raw, w.f32, count * 4);
	} else {
		w.raw = random_halves(rng, count);
		w.f32 = malloc(count * 4);
		for (size_t i = 0; i < count; i++)
			w.f32[i] = widened(((uint16_t *)w.raw)[i]);
	}
	assert_int_equal(linear_create(device, &shape, &w.linear), ERR_OK);
	linear_fill(w.linear, 0, shape.n, w.raw, shape.k);
	return w;
}

static void weights_free(struct weights *w)
{
	linear_destroy(w->linear);
	free(w->f32);
	free(w->raw);
}

static const struct linear_shape shapes[] = {
	{1, 2, ELEM_F32, 1},	  {17, 3, ELEM_F32, 1},	    {64, 64, ELEM_F32, 1},   {100, 258, ELEM_F32, 1},
	{48, 512, ELEM_F32, 8},	  {33, 24, ELEM_F32, 8},    {1, 2, ELEM_BF16, 1},    {31, 34, ELEM_BF16, 1},
	{64, 64, ELEM_BF16, 1},	  {130, 4100, ELEM_BF16, 1}, {40, 4800, ELEM_BF16, 8}, {65, 16, ELEM_BF16, 8},
	{16, 64, ELEM_BF16, 2},
};
#define SHAPE_COUNT (sizeof(shapes) / sizeof(*shapes))

static void run_linear(struct device *device, const struct linear *linear, const float *x, float *y, uint32_t rows)
{
	const struct linear_shape *shape = linear_shape(linear);
	struct linear_call call = {linear, x, shape->k, y, shape->n, rows};
	op_linear(device, &call, 1);
}

/* Against a sum in double. k terms of at most 1: k * 2^-24 * a few, worst near sqrt(k); and with rounded
 * inputs 2^-9 of each term at most, added as a random walk: five times its length. */
static void product_is_right_on(struct device *device)
{
	struct rng rng = {.seed = 1};
	for (size_t s = 0; s < SHAPE_COUNT; s++) {
		struct weights w = weights_make(device, &rng, shapes[s]);
		uint32_t n = w.shape.n, k = w.shape.k;
		for (uint32_t rows = 0; rows <= 13; rows++) {
			float *x = random_floats(&rng, (size_t)(rows + 1) * k), *y = filled_with_nan((size_t)(rows + 1) * n);
			run_linear(device, w.linear, x, y, rows);
			for (uint32_t row = 0; row < rows; row++)
				for (uint32_t i = 0; i < n; i++) {
					double sum = 0, size = 0;
					for (uint32_t j = 0; j < k; j++) {
						double term = (double)x[(size_t)row * k + j] * w.f32[(size_t)i * k + j];
						sum += term;
						size += term * term;
					}
					int rounded = rounds_inputs(device) && w.shape.elem == ELEM_BF16;
					double tolerance = rounded ? 0.01 * (1e-3 + sqrt(size)) : 1e-6 * k + 1e-7;
					assert_near(y[(size_t)row * n + i], sum, tolerance);
				}
			assert_memory_equal(&y[(size_t)rows * n], &(uint32_t){UINT32_MAX}, 4); /* not one more */
			free(x);
			free(y);
		}
		weights_free(&w);
	}
}

static void product_is_right(void **state)
{
	on_each_variant(product_is_right_on);
}

/* Filled for some outputs only, in two parts; the others have none. */
static void a_bias_is_added_to_the_whole_sum_on(struct device *device)
{
	struct rng rng = {.seed = 6};
	for (size_t s = 0; s < SHAPE_COUNT; s++) {
		struct weights w = weights_make(device, &rng, shapes[s]);
		uint32_t n = w.shape.n, rows = 5, half = n / 2;
		float *x = random_floats(&rng, (size_t)rows * w.shape.k), *bias = random_floats(&rng, n);
		float *plain = filled_with_nan((size_t)rows * n), *y = filled_with_nan((size_t)rows * n);
		run_linear(device, w.linear, x, plain, rows);
		bias[n - 1] = 0;
		assert_int_equal(linear_fill_bias(w.linear, half, n - 1 - half, bias + half), ERR_OK);
		assert_int_equal(linear_fill_bias(w.linear, 0, half, bias), ERR_OK);
		run_linear(device, w.linear, x, y, rows);
		for (uint32_t i = 0; i < rows * n; i++)
			assert_true(y[i] == plain[i] + bias[i % n]);
		free(x);
		free(bias);
		free(plain);
		free(y);
		weights_free(&w);
	}
}

static void a_bias_is_added_to_the_whole_sum(void **state)
{
	on_each_variant(a_bias_is_added_to_the_whole_sum_on);
}

/* Row by row, then in random subsets, orders and numbers of threads: the same bits. 230 rows cross the
 * boundaries of all blocks. */
static void bits_of_a_row_do_not_depend_on_its_company_on(struct device *device)
{
	struct rng rng = {.seed = 2};
	const char *variant = device_props(device)->variant;
	struct device *others[] = {device_named(variant, 1), device_named(variant, 3)};
	for (size_t s = 0; s < SHAPE_COUNT; s++) {
		struct weights w = weights_make(device, &rng, shapes[s]);
		uint32_t n = w.shape.n, k = w.shape.k, row_max = s == 9 || s == 10 ? 103 : 230;
		float *x = random_floats(&rng, (size_t)row_max * k), *y = filled_with_nan((size_t)row_max * n);
		float *some_x = malloc((size_t)row_max * k * 4), *some_y = malloc((size_t)row_max * n * 4);
		for (uint32_t row = 0; row < row_max; row++)
			run_linear(device, w.linear, x + (size_t)row * k, y + (size_t)row * n, 1);
		for (int trial = 0; trial < 12; trial++) {
			uint32_t rows = 1 + (uint32_t)rng_below(&rng, trial < 8 ? 16 : row_max), chosen[230];
			for (uint32_t i = 0; i < rows; i++) {
				chosen[i] = (uint32_t)rng_below(&rng, row_max);
				memcpy(some_x + (size_t)i * k, x + (size_t)chosen[i] * k, k * 4);
			}
			run_linear(trial % 3 ? others[trial % 3 - 1] : device, w.linear, some_x, some_y, rows);
			for (uint32_t i = 0; i < rows; i++)
				assert_memory_equal(some_y + (size_t)i * n, y + (size_t)chosen[i] * n, n * 4);
		}
		free(x);
		free(y);
		free(some_x);
		free(some_y);
		weights_free(&w);
	}
	device_close(others[0]);
	device_close(others[1]);
}

static void bits_of_a_row_do_not_depend_on_its_company(void **state)
{
	on_each_variant(bits_of_a_row_do_not_depend_on_its_company_on);
}

/* The shard `rank` of `degree`: k / degree inputs, 8 / degree segments. */
static void run_shard(struct device *device, const struct weights *w, const float *x, uint32_t rows, uint32_t degree,
		      uint32_t rank, float *y)
{
	uint32_t part = w->shape.k / degree;
	struct linear_shape shape = {w->shape.n, part, w->shape.elem, LINEAR_SEGMENTS / degree};
	struct linear *linear;
	assert_int_equal(linear_create(device, &shape, &linear), ERR_OK);
	const uint8_t *raw = (const uint8_t *)w->raw + rank * part * elem_bytes(w->shape.elem);
	linear_fill(linear, 0, shape.n, raw, w->shape.k);
	struct linear_call call = {linear, x + rank * part, w->shape.k, y, shape.n, rows};
	op_linear(device, &call, 1);
	linear_destroy(linear);
}

static void shards_sum_to_the_bits_of_the_whole_on(struct device *device)
{
	struct rng rng = {.seed = 3};
	for (int elem = ELEM_F32; elem <= ELEM_BF16; elem++) {
		struct weights w = weights_make(device, &rng, (struct linear_shape){72, 8 * 54, elem, LINEAR_SEGMENTS});
		enum { ROWS = 9 };
		float *x = random_floats(&rng, ROWS * w.shape.k);
		float whole[ROWS * 72], sum[ROWS * 72], shard[LINEAR_SEGMENTS][ROWS * 72];
		run_linear(device, w.linear, x, whole, ROWS);
		for (uint32_t degree = 1; degree <= 8; degree *= 2) {
			const float *parts[LINEAR_SEGMENTS];
			for (uint32_t rank = 0; rank < degree; rank++) {
				run_shard(device, &w, x, ROWS, degree, rank, shard[rank]);
				parts[rank] = shard[rank];
			}
			const struct tree_call tree = {.parts = parts, .part_count = degree, .rows = ROWS, .n = 72, .out = sum};
			op_tree_sum(device, &tree);
			assert_memory_equal(sum, whole, sizeof(whole));
		}
		free(x);
		weights_free(&w);
	}
}

static void shards_sum_to_the_bits_of_the_whole(void **state)
{
	on_each_variant(shards_sum_to_the_bits_of_the_whole_on);
}

/* Two matrices in one, filled in pieces, and several calls at once (one with no rows) give what each gives. */
static void calls_and_fills_may_be_joined_on(struct device *device)
{
	struct rng rng = {.seed = 4};
	struct linear_shape shape = {40, 96, ELEM_BF16, 1}, both_shape = {80, 96, ELEM_BF16, 1};
	struct weights a = weights_make(device, &rng, shape), b = weights_make(device, &rng, shape);
	struct linear *both;
	assert_int_equal(linear_create(device, &both_shape, &both), ERR_OK);
	linear_fill(both, 40, 40, b.raw, 96);
	linear_fill(both, 0, 7, a.raw, 96);
	linear_fill(both, 7, 33, (uint16_t *)a.raw + 7 * 96, 96);

	float *x = random_floats(&rng, 5 * 96), ya[5 * 40], yb[5 * 40], y[5 * 80];
	struct linear_call calls[] = {{a.linear, x, 96, ya, 40, 5}, {a.linear, x, 96, ya, 40, 0}, {b.linear, x, 96, yb, 40, 5}};
	op_linear(device, calls, 3);
	run_linear(device, both, x, y, 5);
	for (int row = 0; row < 5; row++) {
		assert_memory_equal(y + row * 80, ya + row * 40, 40 * 4);
		assert_memory_equal(y + row * 80 + 40, yb + row * 40, 40 * 4);
	}
	linear_destroy(both);
	weights_free(&a);
	weights_free(&b);
	free(x);
}

static void calls_and_fills_may_be_joined(void **state)
{
	on_each_variant(calls_and_fills_may_be_joined_on);
}

static void packed_rows_come_back_whole_on(struct device *device)
{
	struct rng rng = {.seed = 5};
	for (int elem = ELEM_F32; elem <= ELEM_BF16; elem++) {
		struct weights w = weights_make(device, &rng, (struct linear_shape){50, 34, elem, 1});
		uint32_t tokens[] = {49, 0, 17, 17, 31};
		float out[5 * 34], plain[5 * 34];
		op_embed_linear(device, w.linear, tokens, 5, out);
		op_embed(device, w.raw, elem, 34, tokens, 5, plain);
		for (int i = 0; i < 5; i++)
			assert_memory_equal(out + i * 34, w.f32 + tokens[i] * 34, 34 * 4);
		assert_memory_equal(out, plain, sizeof(out));
		weights_free(&w);
	}
}

static void packed_rows_come_back_whole(void **state)
{
	on_each_variant(packed_rows_come_back_whole_on);
}

static void fused_variants_agree_bit_for_bit(void **state)
{
	const char *names[DEVICE_VARIANTS_MAX];
	uint32_t count = device_variants(names), found = 0;
	float y[2][7 * 50];
	for (uint32_t i = 0; i < count; i++) {
		struct device *device = device_named(names[i], 1);
		if (strcmp(device_props(device)->numerics, "cpu-fma-1") == 0) {
			struct rng rng = {.seed = 6};
			struct weights w = weights_make(device, &rng, (struct linear_shape){50, 640, ELEM_BF16, 8});
			float *x = random_floats(&rng, 7 * 640);
			run_linear(device, w.linear, x, y[found++], 7);
			free(x);
			weights_free(&w);
		}
		device_close(device);
	}
	if (found < 2) {
		print_message("           skipped, this CPU has %u variant of the class\n", found);
		skip();
	}
	assert_memory_equal(y[0], y[1], sizeof(y[0]));
}

static void shapes_that_do_not_divide_are_refused(void **state)
{
	struct device *device = device_named("portable", 1);
	static const struct linear_shape wrong[] = {
		{4, 12, ELEM_F32, 8}, {4, 24, ELEM_BF16, 8}, {4, 3, ELEM_BF16, 1}, {4, 48, ELEM_F32, 3}, {4, 48, ELEM_F32, 0},
		{4, 64, ELEM_F32, 16},
	};
	struct linear *linear;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_int_equal(linear_create(device, &wrong[i], &linear), ERR_INVALID);
	device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(product_is_right),
		cmocka_unit_test(a_bias_is_added_to_the_whole_sum),
		cmocka_unit_test(bits_of_a_row_do_not_depend_on_its_company),
		cmocka_unit_test(shards_sum_to_the_bits_of_the_whole),
		cmocka_unit_test(calls_and_fills_may_be_joined),
		cmocka_unit_test(packed_rows_come_back_whole),
		cmocka_unit_test(fused_variants_agree_bit_for_bit),
		cmocka_unit_test(shapes_that_do_not_divide_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
