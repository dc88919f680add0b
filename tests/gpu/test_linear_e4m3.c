/* Products of weights of e4m3 on the device: against sums in double, bit for bit against the CPU where tensor cores are the fake
 * device's, and law 1 over numbers of rows that take every tile. */
#include "base/bf16.h"
#include "kernels/cuda/linear_plan.h"
#include "tests/gpu/fixture.h"
#include "tests/kernels/weights_e4m3.h"
#if defined(__has_include) && __has_include(<fake.h>)
#define EXACT 1
#else
#define EXACT 0
#endif

/* x is [rows][k] f32 on the host, given to the device as f32 or, rounded, as bf16; y comes back. */
static float *run_linear(struct device *device, const struct linear *linear, const float *x, uint32_t rows, enum elem x_elem)
{
	const struct linear_shape *shape = linear_shape(linear);
	size_t count = (size_t)rows * shape->k, y_bytes = (size_t)(rows + 1) * shape->n * sizeof(float);
	uint16_t *halves = malloc(count * sizeof(*halves) + 1);
	for (size_t i = 0; i < count; i++)
		halves[i] = bf16_round(x[i]);
	size_t x_bytes = count * elem_bytes(x_elem);
	void *in = gpu_put(device, x_elem == ELEM_F32 ? (const void *)x : halves, x_bytes), *out = gpu_nan(device, y_bytes);
	const struct linear_call call = {.linear = linear, .x = in, .x_stride = shape->k, .x_elem = x_elem, .y = out,
					 .y_stride = shape->n, .rows = rows};
	op_linear(device, &call, 1);
	assert_int_equal(device_sync(device), ERR_OK);
	float *y = gpu_take(device, out, y_bytes);
	dev_free(device, MEM_DEVICE, in, x_bytes);
	free(halves);
	assert_memory_equal(&y[(size_t)rows * shape->n], &(uint32_t){UINT32_MAX}, 4); /* not one more */
	return y;
}

/* Inputs that are numbers of bf16: both ways of giving them are one. */
static float *random_inputs(struct rng *rng, size_t count)
{
	float *x = random_floats(rng, count);
	for (size_t i = 0; i < count; i++)
		x[i] = widened(bf16_round(x[i]));
	return x;
}

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

/* The tile that a call of so many rows takes, as a bit of its width, and of its second warpgroup. */
static uint32_t tile_of(const struct device *device, const struct linear_shape *shape, uint32_t rows)
{
	const struct linear_plan_shape plan_shape = {.n = shape->n, .rows = rows, .groups = 1, .segments = shape->segments, .k = shape->k,
						     .sm_count = device_props(device)->thread_count,
						     .one_group = shape->scale_outputs % 16 != 0};
	struct linear_plan plan = linear_plan(&plan_shape);
	return plan.width << (plan.groups == 2 ? 16 : 0);
}

enum { ROWS_MOST = 4096, COMPANIES_MAX = 24 };

/* Numbers of rows at which a new kind of tile has its first turn, and the one before. */
static uint32_t list_companies(const struct device *device, const struct linear_shape *shape, uint32_t ret_rows[COMPANIES_MAX],
			       uint32_t *tiles)
{
	uint32_t count = 0, seen = 0;
	for (uint32_t rows = 1; rows <= ROWS_MOST && count + 2 <= COMPANIES_MAX; rows += rows < 64 ? 1 : 7) {
		uint32_t tile = tile_of(device, shape, rows);
		if (seen & tile)
			continue;
		seen |= tile;
		if (rows > 1)
			ret_rows[count++] = rows - 1;
		ret_rows[count++] = rows;
	}
	*tiles |= seen;
	return count;
}

static void bits_of_a_row_do_not_depend_on_its_company_in(struct device *device, struct linear_shape shape, uint32_t *tiles)
{
	enum { OWN = 37 };
	struct rng rng = {.seed = 3};
	struct weights_e4m3 w = weights_e4m3_make(device, &rng, shape);
	uint32_t n = shape.n, k = shape.k, companies[COMPANIES_MAX];
	uint32_t count = list_companies(device, &shape, companies, tiles);
	float *x = malloc((size_t)ROWS_MOST * k * sizeof(float)), *alone = malloc((size_t)OWN * n * sizeof(float));
	float *own = random_inputs(&rng, (size_t)OWN * k);
	for (uint32_t row = 0; row < ROWS_MOST; row++)
		memcpy(x + (size_t)row * k, own + (size_t)(row % OWN) * k, k * sizeof(float));
	for (uint32_t row = 0; row < OWN; row++) {
		float *y = run_linear(device, w.linear, x + (size_t)row * k, 1, ELEM_F32);
		memcpy(alone + (size_t)row * n, y, n * sizeof(float));
		free(y);
	}
	for (uint32_t c = 0; c < count; c++) {
		float *y = run_linear(device, w.linear, x, companies[c], c % 2 ? ELEM_F32 : ELEM_BF16);
		for (uint32_t row = 0; row < companies[c]; row++)
			assert_memory_equal(y + (size_t)row * n, alone + (size_t)(row % OWN) * n, n * sizeof(float));
		free(y);
	}
	free(x);
	free(alone);
	free(own);
	weights_e4m3_free(&w);
}

static void bits_of_a_row_do_not_depend_on_its_company(void **state)
{
	struct device *device = gpu_open(8);
	uint32_t whole = 0, cut = 0;
	bits_of_a_row_do_not_depend_on_its_company_in(device, (struct linear_shape){200, 140, ELEM_E4M3, 1, 64}, &whole);
	bits_of_a_row_do_not_depend_on_its_company_in(device, (struct linear_shape){70, 300, ELEM_E4M3, 1, 32}, &whole);
	bits_of_a_row_do_not_depend_on_its_company_in(device, (struct linear_shape){136, 512, ELEM_E4M3, 4, 8}, &cut);
	assert_int_equal(whole, 8 | 16 | 32 | 64 | 128 | 128 << 16 | 256 << 16);
	assert_int_equal(cut, 8 | 16 | 32 | 64);
	device_close(device);
}

/* --- several at once --------------------------------------------------------------------------------------- */

/* As the heads of a layer might: strided inputs and outputs, one kernel. */
static void calls_may_be_joined(void **state)
{
	enum { HEADS = 5, N = 72, K = 140, ROWS = 37, X_STRIDE = HEADS * K + 3, Y_STRIDE = HEADS * N };
	struct device *device = gpu_open(1);
	struct rng rng = {.seed = 6};
	float *x = random_floats(&rng, ROWS * X_STRIDE), *own = malloc(ROWS * K * sizeof(float));
	void *in = gpu_put(device, x, ROWS * X_STRIDE * sizeof(float)), *out = gpu_nan(device, ROWS * Y_STRIDE * sizeof(float));
	struct weights_e4m3 w[HEADS];
	struct linear_call calls[HEADS];
	for (int h = 0; h < HEADS; h++) {
		w[h] = weights_e4m3_make(device, &rng, (struct linear_shape){N, K, ELEM_E4M3, 1, 8});
		calls[h] = (struct linear_call){w[h].linear, (float *)in + h * K, X_STRIDE, (float *)out + h * N, Y_STRIDE, ROWS,
						ELEM_F32, ELEM_F32};
	}
	op_linear(device, calls, HEADS);
	float *y = gpu_take(device, out, ROWS * Y_STRIDE * sizeof(float));
	for (int h = 0; h < HEADS; h++) {
		for (int row = 0; row < ROWS; row++)
			memcpy(own + row * K, x + row * X_STRIDE + h * K, K * sizeof(float));
		float *expected = run_linear(device, w[h].linear, own, ROWS, ELEM_F32);
		for (int row = 0; row < ROWS; row++)
			assert_memory_equal(y + row * Y_STRIDE + h * N, expected + row * N, N * sizeof(float));
		free(expected);
		weights_e4m3_free(&w[h]);
	}
	dev_free(device, MEM_DEVICE, in, ROWS * X_STRIDE * sizeof(float));
	free(own);
	free(x);
	free(y);
	device_close(device);
}

/* Whatever rows each expert has, a row gets what it gets alone. */
static void rows_of_experts_are_as_alone_on(struct device *device, struct linear_shape shape, const uint32_t *counts,
					    uint32_t expert_count)
{
	enum { EXPERTS_MAX = 16 };
	struct rng rng = {.seed = 7};
	struct weights_e4m3 w[EXPERTS_MAX];
	const struct linear *linears[EXPERTS_MAX];
	uint32_t first[EXPERTS_MAX + 1] = {0}, n = shape.n, k = shape.k;
	for (uint32_t e = 0; e < expert_count; e++) {
		w[e] = weights_e4m3_make(device, &rng, shape);
		float *bias = random_floats(&rng, n);
		assert_int_equal(linear_fill_bias(w[e].linear, 0, n, bias), ERR_OK);
		free(bias);
		linears[e] = w[e].linear;
		first[e + 1] = first[e] + counts[e % 8];
	}
	uint32_t total = first[expert_count];
	float *x = random_floats(&rng, (size_t)total * k);
	void *in = gpu_put(device, x, (size_t)total * k * sizeof(float));
	void *starts = gpu_put(device, first, sizeof(first)), *out = gpu_nan(device, (total + 1) * n * sizeof(float));
	const struct moe_linear_call call = {.linears = linears, .expert_count = expert_count, .first = starts, .slot_count = total,
					     .x = in, .y = out, .x_elem = ELEM_F32};
	op_moe_linear(device, &call);
	assert_int_equal(device_sync(device), ERR_OK);
	float *y = gpu_take(device, out, (total + 1) * n * sizeof(float));
	for (uint32_t e = 0; e < expert_count; e++)
		for (uint32_t row = first[e]; row < first[e + 1]; row++) {
			float *expected = run_linear(device, w[e].linear, x + (size_t)row * k, 1, ELEM_F32);
			assert_memory_equal(y + row * n, expected, n * sizeof(float));
			free(expected);
		}
	assert_memory_equal(y + (size_t)total * n, &(uint32_t){UINT32_MAX}, 4);
	for (uint32_t e = 0; e < expert_count; e++)
		weights_e4m3_free(&w[e]);
	dev_free(device, MEM_DEVICE, in, (size_t)total * k * sizeof(float));
	dev_free(device, MEM_DEVICE, starts, sizeof(first));
	free(x);
	free(y);
}

static void rows_of_experts_are_as_alone(void **state)
{
	static const uint32_t few[8] = {0, 1, 0, 2, 0, 0, 1, 3}, many[8] = {0, 9, 1, 40, 0, 0, 17, 11};
	struct device *device = gpu_open(8);
	rows_of_experts_are_as_alone_on(device, (struct linear_shape){136, 140, ELEM_E4M3, 1, 8}, few, 16);
	rows_of_experts_are_as_alone_on(device, (struct linear_shape){136, 140, ELEM_E4M3, 1, 8}, many, 16);
	rows_of_experts_are_as_alone_on(device, (struct linear_shape){72, 512, ELEM_E4M3, 4, 8}, many, 16);
	rows_of_experts_are_as_alone_on(device, (struct linear_shape){72, 140, ELEM_E4M3, 1, 8}, many + 1, 1);
	/* On the fake device scratch has room for 62 of these rows. */
	rows_of_experts_are_as_alone_on(device, (struct linear_shape){8, 128 * 128, ELEM_E4M3, 1, 8}, many, 8);
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
