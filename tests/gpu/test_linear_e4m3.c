/* Products of weights of e4m3 on the device: against sums in double, bit for bit against the CPU where tensor cores are the fake
 * device's, and law 1 over numbers of rows that take every tile. */
#include "tests/gpu/products.h"
#include "tests/kernels/weights_e4m3.h"
#if defined(__has_include) && __has_include(<fake.h>)
#define EXACT 1
#else
#define EXACT 0
#endif

/* The weights alone: what they are made of is forgotten. */
static struct linear *linear_make(struct device *device, struct rng *rng, struct linear_shape shape)
{
	struct weights_e4m3 w = weights_e4m3_make(device, rng, shape);
	free(w.codes);
	free(w.scales);
	return w.linear;
}

static const struct product_kind of_e4m3 = {linear_make, ELEM_F32};

static const struct linear_shape shapes[] = {
	{1, 1, ELEM_E4M3, 1, 1},	{31, 34, ELEM_E4M3, 1, 16},    {64, 128, ELEM_E4M3, 1, 64},  {200, 264, ELEM_E4M3, 1, 128},
	{130, 1300, ELEM_E4M3, 1, 128}, {40, 2048, ELEM_E4M3, 8, 8},   {136, 512, ELEM_E4M3, 4, 64}, {16, 256, ELEM_E4M3, 2, 2},
	{260, 384, ELEM_E4M3, 1, 4},
};
#define SHAPES (sizeof(shapes) / sizeof(*shapes))

/* A tensor core brings 32 products and the sum so far to the greatest exponent among them and cuts off what is below its 2^-13: of a
 * group at most 4 * 33 / 2^13 of the terms' size, if all but one were lost; in random sums a hundredth of that. */
#define SIZE_PART (1.0 / 512)

static void products_are_right(void **state)
{
	struct device *device = gpu_open(1);
	struct rng rng = {.seed = 1};
	for (size_t s = 0; s < SHAPES; s++) {
		struct weights_e4m3 w = weights_e4m3_make(device, &rng, shapes[s]);
		uint32_t n = w.shape.n, k = w.shape.k;
		for (uint32_t rows = 1; rows <= 33; rows += rows < 3 ? 1 : 10) {
			float *x = random_inputs(&rng, (size_t)rows * k);
			float *y = run_linear(device, w.linear, x, rows, rows % 2 ? ELEM_F32 : ELEM_BF16);
			for (uint32_t i = 0; i < rows * n; i++) {
				double size, sum = product_e4m3(&w, x + (size_t)(i / n) * k, i % n, &size);
				assert_near(y[i], sum, (EXACT ? 1e-6 : SIZE_PART) * size + 1e-12);
			}
			free(x);
			free(y);
		}
		weights_e4m3_free(&w);
	}
	device_close(device);
}

/* Inputs are rounded alike, scales and parts are added alike; where sums of products are exact in any order, so are all bits. */
static void bits_are_the_cpus_where_sums_are_exact(void **state)
{
	struct device *device = gpu_open(8), *cpu = oracle_open();
	if (strcmp(device_props(cpu)->numerics, "cpu-fma-1") != 0)
		skip();
	struct rng rng = {.seed = 2}, same = {.seed = 2};
	for (size_t s = 0; s < SHAPES; s++) {
		struct weights_e4m3 w = weights_e4m3_make(device, &rng, shapes[s]), oracle = weights_e4m3_make(cpu, &same, shapes[s]);
		uint32_t n = w.shape.n, k = w.shape.k;
		enum { ROWS = 11 };
		float *x = random_floats(&rng, ROWS * k), *bias = random_floats(&rng, n), *expected = filled_with_nan(ROWS * n);
		/* On a GPU two inputs of each group: the greatest, whose weights are 0, and one that is rounded: no sum is cut off. */
		for (uint32_t i = 0; i < ROWS * k && !EXACT; i++) {
			uint32_t at = i % k % 128, even = i / k * 14 % 128;
			x[i] = at == even ? 1.0f : at == even + 1 ? x[i] : 0.0f;
		}
		for (size_t i = 0; i < (size_t)n * k && !EXACT; i++)
			w.codes[i] = i % k % 2 ? w.codes[i] : 0;
		linear_fill(w.linear, 0, n, w.codes, k);
		linear_fill(oracle.linear, 0, n, w.codes, k);
		assert_int_equal(linear_fill_bias(w.linear, 0, n, bias), ERR_OK);
		assert_int_equal(linear_fill_bias(oracle.linear, 0, n, bias), ERR_OK);
		float *y = run_linear(device, w.linear, x, ROWS, ELEM_F32);
		const struct linear_call call = {.linear = oracle.linear, .x = x, .x_stride = k, .y = expected, .y_stride = n,
						 .rows = ROWS};
		op_linear(cpu, &call, 1);
		assert_memory_equal(y, expected, ROWS * n * sizeof(float));
		same = rng;
		free(x);
		free(y);
		free(bias);
		free(expected);
		weights_e4m3_free(&w);
		weights_e4m3_free(&oracle);
	}
	device_close(device);
	device_close(cpu);
}

/* --- law 1 ----------------------------------------------------------------------------------------------- */

static void bits_of_a_row_do_not_depend_on_its_company(void **state)
{
	struct device *device = gpu_open(8);
	uint32_t whole = 0, cut = 0;
	bits_do_not_depend_on_company(device, &of_e4m3, (struct linear_shape){product_outputs(device, 200), product_inputs(device, 140), ELEM_E4M3, 1, 64}, &whole);
	bits_do_not_depend_on_company(device, &of_e4m3, (struct linear_shape){70, 300, ELEM_E4M3, 1, 32}, &whole);
	bits_do_not_depend_on_company(device, &of_e4m3, (struct linear_shape){product_outputs(device, 136), product_inputs(device, 512), ELEM_E4M3, 4, 8}, &cut);
	assert_int_equal(whole, 8 | 16 | 32 | 64 | 128 | 128 << 16 | 256 << 16);
	assert_int_equal(cut, 8 | 16 | 32 | 64);
	device_close(device);
}

/* --- several at once --------------------------------------------------------------------------------------- */

static void calls_may_be_joined(void **state)
{
	struct device *device = gpu_open(1);
	calls_are_as_alone(device, &of_e4m3, (struct linear_shape){72, 140, ELEM_E4M3, 1, 8}, 3);
	device_close(device);
}

static void rows_of_experts_are_as_alone(void **state)
{
	static const uint32_t few[8] = {0, 1, 0, 2, 0, 0, 1, 3}, many[8] = {0, 9, 1, 40, 0, 0, 17, 11};
	struct device *device = gpu_open(8);
	experts_are_as_alone(device, &of_e4m3, (struct linear_shape){136, 140, ELEM_E4M3, 1, 8}, few, 16);
	experts_are_as_alone(device, &of_e4m3, (struct linear_shape){136, 140, ELEM_E4M3, 1, 8}, many, 16);
	experts_are_as_alone(device, &of_e4m3, (struct linear_shape){72, 512, ELEM_E4M3, 4, 8}, many, 16);
	experts_are_as_alone(device, &of_e4m3, (struct linear_shape){72, 140, ELEM_E4M3, 1, 8}, many + 1, 1);
	experts_take_every_tile(device, &of_e4m3, (struct linear_shape){400, product_inputs(device, 140), ELEM_E4M3, 1, 64});
	/* On the fake device scratch has room for 62 of these rows. */
	experts_are_as_alone(device, &of_e4m3, (struct linear_shape){8, 128 * 128, ELEM_E4M3, 1, 8}, many, 8);
	device_close(device);
}

/* --- rows of e4m3 -------------------------------------------------------------------------------------------- */

/* What a norm, an activation and a gather write as e4m3 is what a product makes of what they write as f32. */
static float *multiply(struct device *device, const struct linear *linear, const void *x, enum elem x_elem, uint32_t rows)
{
	const struct linear_shape *shape = linear_shape(linear);
	void *out = gpu_nan(device, (size_t)rows * shape->n * sizeof(float));
	const struct linear_call call = {.linear = linear, .x = x, .x_elem = x_elem, .rows = rows, .y = out, .y_stride = shape->n,
					 .x_stride = elem_row_bytes(x_elem, shape->k) / elem_bytes(x_elem)};
	op_linear(device, &call, 1);
	assert_int_equal(device_sync(device), ERR_OK);
	return gpu_take(device, out, (size_t)rows * shape->n * sizeof(float));
}

static void check_rows(struct device *device, struct weights_e4m3 *w, void *f32, void *narrow, uint32_t rows)
{
	float *expected = multiply(device, w->linear, f32, ELEM_F32, rows), *y = multiply(device, w->linear, narrow, ELEM_E4M3, rows);
	assert_memory_equal(y, expected, (size_t)rows * w->shape.n * sizeof(float));
	free(expected);
	free(y);
}

static void rows_may_be_written_as_e4m3_on(struct device *device, struct linear_shape shape)
{
	enum { ROWS = 5, TOP_K = 2 };
	struct rng rng = {.seed = 8};
	struct weights_e4m3 w = weights_e4m3_make(device, &rng, shape);
	uint32_t dim = shape.k, slot[ROWS * TOP_K];
	size_t f32_bytes = (size_t)ROWS * TOP_K * dim * sizeof(float), narrow_bytes = ROWS * TOP_K * elem_row_bytes(ELEM_E4M3, dim);
	float *numbers = random_floats(&rng, (size_t)2 * ROWS * dim), *weight = random_floats(&rng, dim);
	void *x = gpu_put(device, numbers, (size_t)2 * ROWS * dim * sizeof(float));
	void *weights = gpu_put(device, weight, dim * sizeof(float));
	void *f32 = gpu_nan(device, f32_bytes), *narrow = gpu_nan(device, narrow_bytes);
	assert_true(device_props(device)->input_e4m3);
	/* Both at once, then the narrow one alone. */
	for (int both = 1; both >= 0; both--) {
		op_rmsnorm(device, &(struct norm_call){.x = x, .weight = weights, .out = both ? f32 : NULL, .narrow = narrow,
						       .rows = ROWS, .dim = dim, .eps = 1e-6f});
		check_rows(device, &w, f32, narrow, ROWS);
	}
	struct glu_call glu = {.glu = {GLU_SILU}, .x = x, .x_stride = 2 * (size_t)dim, .rows = ROWS, .dim = dim, .out = f32, .out_stride = dim};
	op_glu(device, &glu);
	glu.out = narrow;
	glu.out_elem = ELEM_E4M3;
	glu.out_stride = elem_row_bytes(ELEM_E4M3, dim);
	op_glu(device, &glu);
	check_rows(device, &w, f32, narrow, ROWS);
	for (uint32_t i = 0; i < ROWS * TOP_K; i++)
		slot[i] = (i * 7 + 3) % (ROWS * TOP_K);
	void *slots = gpu_put(device, slot, sizeof(slot));
	struct moe_gather_call gather = {.x = x, .dim = dim, .slot = slots, .slot_count = ROWS * TOP_K, .top_k = TOP_K, .out = f32};
	op_moe_gather(device, &gather);
	gather.out = narrow;
	gather.out_elem = ELEM_E4M3;
	op_moe_gather(device, &gather);
	check_rows(device, &w, f32, narrow, ROWS * TOP_K);
	dev_free(device, MEM_DEVICE, slots, sizeof(slot));
	dev_free(device, MEM_DEVICE, x, (size_t)2 * ROWS * dim * sizeof(float));
	dev_free(device, MEM_DEVICE, weights, dim * sizeof(float));
	dev_free(device, MEM_DEVICE, f32, f32_bytes);
	dev_free(device, MEM_DEVICE, narrow, narrow_bytes);
	free(numbers);
	free(weight);
	weights_e4m3_free(&w);
}

/* One group, several, more than a thread of a norm holds, and so many that the row is read twice. */
static void rows_may_be_written_as_e4m3(void **state)
{
	static const uint32_t groups[] = {1, 3, 9, 17, 66};
	struct device *device = gpu_open(8);
	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++)
		rows_may_be_written_as_e4m3_on(device, (struct linear_shape){72, groups[i] * 128, ELEM_E4M3, 1, 8});
	rows_may_be_written_as_e4m3_on(device, (struct linear_shape){72, 6 * 128, ELEM_E4M3, 2, 8});
	device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(products_are_right),
		cmocka_unit_test(bits_are_the_cpus_where_sums_are_exact),
		cmocka_unit_test(bits_of_a_row_do_not_depend_on_its_company),
		cmocka_unit_test(calls_may_be_joined),
		cmocka_unit_test(rows_of_experts_are_as_alone),
		cmocka_unit_test(rows_may_be_written_as_e4m3),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
