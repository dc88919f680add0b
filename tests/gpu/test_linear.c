/* Products on the device: f32 weights bit for bit as the CPU's, bf16 weights against sums in double, and law 1 over numbers of rows
 * that take every tile. */
#include <math.h>
#include "base/bf16.h"
#include "kernels/cuda/linear_plan.h"
#include "tests/gpu/fixture.h"

struct weights {
	struct linear_shape shape;
	void *raw;   /* as on disk, [n][k] */
	float *wide; /* the same in f32 */
	struct linear *linear;
};

static struct weights weights_make(struct device *device, struct rng *rng, struct linear_shape shape)
{
	struct weights w = {.shape = shape};
	size_t count = (size_t)shape.n * shape.k;
	w.raw = shape.elem == ELEM_F32 ? (void *)random_floats(rng, count) : (void *)random_halves(rng, count);
	w.wide = malloc(count * sizeof(float));
	for (size_t i = 0; i < count; i++)
		w.wide[i] = shape.elem == ELEM_F32 ? ((float *)w.raw)[i] : widened(((uint16_t *)w.raw)[i]);
	assert_int_equal(linear_create(device, &shape, &w.linear), ERR_OK);
	linear_fill(w.linear, 0, shape.n, w.raw, shape.k);
	return w;
}

static void weights_free(struct weights *w)
{
	linear_destroy(w->linear);
	free(w->raw);
	free(w->wide);
}

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

static const struct linear_shape bf16_shapes[] = {
	{1, 2, ELEM_BF16, 1},	   {31, 34, ELEM_BF16, 1},   {64, 64, ELEM_BF16, 1},  {200, 264, ELEM_BF16, 1},
	{130, 1100, ELEM_BF16, 1}, {40, 4800, ELEM_BF16, 8}, {65, 16, ELEM_BF16, 8}, {136, 256, ELEM_BF16, 4},
	{16, 64, ELEM_BF16, 2},    {260, 72, ELEM_BF16, 1}, /* on 4 multiprocessors: low tiles, and each next to one written before */
};
#define BF16_SHAPES (sizeof(bf16_shapes) / sizeof(*bf16_shapes))

/* Inputs are rounded to bf16, so products are exact, and k sums of numbers below 1 in f32: k * 2^-24 times the sum's size, of the
 * order of sqrt(k); tensor cores cut off below the greatest term of 16, so twice that and more. */
static void bf16_products_are_right(void **state)
{
	struct device *device = gpu_open(1);
	struct rng rng = {.seed = 1};
	for (size_t s = 0; s < BF16_SHAPES; s++) {
		struct weights w = weights_make(device, &rng, bf16_shapes[s]);
		uint32_t n = w.shape.n, k = w.shape.k;
		for (uint32_t rows = 1; rows <= 33; rows += rows < 3 ? 1 : 10) {
			float *x = random_floats(&rng, (size_t)rows * k);
			float *y = run_linear(device, w.linear, x, rows, rows % 2 ? ELEM_F32 : ELEM_BF16);
			for (uint32_t row = 0; row < rows; row++)
				for (uint32_t i = 0; i < n; i++) {
					double sum = 0;
					for (uint32_t j = 0; j < k; j++)
						sum += (double)widened(bf16_round(x[(size_t)row * k + j])) *
						       w.wide[(size_t)i * k + j];
					assert_near(y[(size_t)row * n + i], sum, 4e-7 * k + 1e-7);
				}
			free(x);
			free(y);
		}
		weights_free(&w);
	}
	device_close(device);
}

/* Plain fused multiply-adds in order. */
static void f32_products_have_the_bits_of_the_cpu(void **state)
{
	static const struct linear_shape shapes[] = {{1, 2, ELEM_F32, 1},	{17, 3, ELEM_F32, 1},  {100, 258, ELEM_F32, 1},
						     {48, 512, ELEM_F32, 8}, {33, 24, ELEM_F32, 8}, {33, 24, ELEM_F32, 4},
						     {40, 64, ELEM_F32, 2}};
	struct device *device = gpu_open(8), *cpu = oracle_open();
	if (strcmp(device_props(cpu)->numerics, "cpu-fma-1") != 0)
		skip();
	struct rng rng = {.seed = 2};
	for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
		struct weights w = weights_make(device, &rng, shapes[s]);
		struct linear *oracle;
		assert_int_equal(linear_create(cpu, &w.shape, &oracle), ERR_OK);
		linear_fill(oracle, 0, w.shape.n, w.raw, w.shape.k);
		float *bias = random_floats(&rng, w.shape.n), *x = random_floats(&rng, 11 * w.shape.k);
		for (int with_bias = 0; with_bias < 2; with_bias++) {
			float *y = run_linear(device, w.linear, x, 11, ELEM_F32), *expected = filled_with_nan(11 * w.shape.n);
			struct linear_call call = {oracle, x, w.shape.k, expected, w.shape.n, 11, ELEM_F32, ELEM_F32};
			op_linear(cpu, &call, 1);
			assert_memory_equal(y, expected, 11 * w.shape.n * sizeof(float));
			assert_int_equal(linear_fill_bias(w.linear, 0, w.shape.n, bias), ERR_OK);
			assert_int_equal(linear_fill_bias(oracle, 0, w.shape.n, bias), ERR_OK);
			free(y);
			free(expected);
		}
		free(bias);
		free(x);
		linear_destroy(oracle);
		weights_free(&w);
	}
	device_close(device);
	device_close(cpu);
}

/* The tile that a call of so many rows takes, as a bit of its width, and of its second warpgroup. */
static uint32_t tile_of(const struct device *device, const struct linear_shape *shape, uint32_t rows)
{
	const struct linear_plan_shape plan_shape = {shape->n, rows, 1, shape->segments, device_props(device)->thread_count};
	struct linear_plan plan = linear_plan(&plan_shape);
	return plan.width << (plan.groups == 2 ? 16 : 0);
}

enum { ROWS_MOST = 8192, COMPANIES_MAX = 24 };

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

/* Each row alone, then in companies that bring every tile its turn: the same bits.  The inputs of rows repeat. */
static void bits_of_a_row_do_not_depend_on_its_company_in(struct device *device, struct linear_shape shape, uint32_t *tiles)
{
	enum { OWN = 37 };
	struct rng rng = {.seed = 3};
	struct weights w = weights_make(device, &rng, shape);
	uint32_t n = shape.n, k = shape.k, companies[COMPANIES_MAX];
	uint32_t count = list_companies(device, &shape, companies, tiles);
	float *x = malloc((size_t)ROWS_MOST * k * sizeof(float)), *alone = malloc((size_t)OWN * n * sizeof(float));
	float *own = random_floats(&rng, (size_t)OWN * k);
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
	weights_free(&w);
}

/* Law 1. */
static void bits_of_a_row_do_not_depend_on_its_company(void **state)
{
	struct device *device = gpu_open(8);
	uint32_t whole = 0, cut = 0;
	bits_of_a_row_do_not_depend_on_its_company_in(device, (struct linear_shape){200, 72, ELEM_BF16, 1}, &whole);
	bits_of_a_row_do_not_depend_on_its_company_in(device, (struct linear_shape){70, 90, ELEM_BF16, 1}, &whole);
	bits_of_a_row_do_not_depend_on_its_company_in(device, (struct linear_shape){136, 64, ELEM_BF16, 4}, &cut);
	bits_of_a_row_do_not_depend_on_its_company_in(device, (struct linear_shape){72, 144, ELEM_BF16, 8}, &cut);
	assert_int_equal(whole, 8 | 16 | 32 | 64 | 128 | 128 << 16 | 256 << 16);
	assert_int_equal(cut, 8 | 16 | 32 | 64);
	device_close(device);
}

/* A bias comes after the last term; outputs may be bf16. */
static void bias_and_rounding_come_last(void **state)
{
	struct device *device = gpu_open(1);
	struct rng rng = {.seed = 4};
	struct weights w = weights_make(device, &rng, (struct linear_shape){72, 136, ELEM_BF16, 1});
	enum { ROWS = 5, N = 72, K = 136 };
	float *x = random_floats(&rng, ROWS * K), *bias = random_floats(&rng, N);
	float *plain = run_linear(device, w.linear, x, ROWS, ELEM_F32);
	bias[N - 1] = 0;
	assert_int_equal(linear_fill_bias(w.linear, 30, N - 1 - 30, bias + 30), ERR_OK);
	assert_int_equal(linear_fill_bias(w.linear, 0, 30, bias), ERR_OK);
	float *y = run_linear(device, w.linear, x, ROWS, ELEM_F32);
	for (int i = 0; i < ROWS * N; i++)
		assert_true(y[i] == plain[i] + bias[i % N]);
	void *in = gpu_put(device, x, ROWS * K * sizeof(float)), *out = gpu_nan(device, ROWS * N * sizeof(uint16_t));
	const struct linear_call call = {w.linear, in, K, out, N, ROWS, ELEM_F32, ELEM_BF16};
	op_linear(device, &call, 1);
	uint16_t *halves = gpu_take(device, out, ROWS * N * sizeof(uint16_t));
	for (int i = 0; i < ROWS * N; i++)
		assert_int_equal(halves[i], bf16_round(y[i]));
	dev_free(device, MEM_DEVICE, in, ROWS * K * sizeof(float));
	free(halves);
	free(x);
	free(bias);
	free(plain);
	free(y);
	weights_free(&w);
	device_close(device);
}

/* Shards of degree 1, 2, 4, 8 sum to the bits of the whole. */
static void shards_sum_to_the_bits_of_the_whole(void **state)
{
	enum { N = 72, K = 8 * 56, ROWS = 9 };
	struct device *device = gpu_open(8);
	struct rng rng = {.seed = 5};
	for (int elem = ELEM_F32; elem <= ELEM_BF16; elem++) {
		struct weights w = weights_make(device, &rng, (struct linear_shape){N, K, elem, 8});
		float *x = random_floats(&rng, ROWS * K), *whole = run_linear(device, w.linear, x, ROWS, ELEM_F32);
		for (uint32_t degree = 1; degree <= 8; degree *= 2) {
			const float *parts[8];
			uint32_t part = K / degree;
			for (uint32_t rank = 0; rank < degree; rank++) {
				struct linear_shape shape = {N, part, elem, 8 / degree};
				struct linear *linear;
				assert_int_equal(linear_create(device, &shape, &linear), ERR_OK);
				linear_fill(linear, 0, N, (uint8_t *)w.raw + rank * part * elem_bytes(elem), K);
				float own[ROWS * K];
				for (uint32_t row = 0; row < ROWS; row++)
					memcpy(own + row * part, x + row * K + rank * part, part * sizeof(float));
				float *y = run_linear(device, linear, own, ROWS, ELEM_F32);
				parts[rank] = gpu_put(device, y, ROWS * N * sizeof(float));
				free(y);
				linear_destroy(linear);
			}
			void *out = gpu_nan(device, ROWS * N * sizeof(float));
			const struct tree_call tree = {.parts = parts, .part_count = degree, .rows = ROWS, .n = N, .out = out};
			op_tree_sum(device, &tree);
			float *sum = gpu_take(device, out, ROWS * N * sizeof(float));
			assert_memory_equal(sum, whole, ROWS * N * sizeof(float));
			for (uint32_t rank = 0; rank < degree; rank++)
				dev_free(device, MEM_DEVICE, (void *)parts[rank], ROWS * N * sizeof(float));
			free(sum);
		}
		free(x);
		free(whole);
		weights_free(&w);
	}
	device_close(device);
}

/* Several calls at once (as the heads of latent attention: strided inputs and outputs) give what each gives. */
static void calls_may_be_joined(void **state)
{
	enum { HEADS = 5, N = 72, K = 40, ROWS = 37, X_STRIDE = HEADS * K + 8, Y_STRIDE = HEADS * N };
	struct device *device = gpu_open(1);
	struct rng rng = {.seed = 6};
	float *x = random_floats(&rng, ROWS * X_STRIDE), *own = malloc(ROWS * K * sizeof(float));
	void *in = gpu_put(device, x, ROWS * X_STRIDE * sizeof(float));
	void *out = gpu_nan(device, ROWS * Y_STRIDE * sizeof(float));
	struct weights w[HEADS];
	struct linear_call calls[HEADS];
	for (int h = 0; h < HEADS; h++) {
		w[h] = weights_make(device, &rng, (struct linear_shape){N, K, ELEM_BF16, 1});
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
		weights_free(&w[h]);
	}
	dev_free(device, MEM_DEVICE, in, ROWS * X_STRIDE * sizeof(float));
	free(own);
	free(x);
	free(y);
	device_close(device);
}

/* Experts: whatever rows each has, a row gets what it gets alone.  Biases are each expert's own. */
static void rows_of_experts_are_as_alone_on(struct device *device, enum elem elem, uint32_t segments, const uint32_t *counts)
{
	enum { EXPERTS = 40, N = 136, K = 64, MOST = 400 };
	struct rng rng = {.seed = 7};
	struct weights w[EXPERTS];
	const struct linear *linears[EXPERTS];
	uint32_t first[EXPERTS + 1] = {0};
	for (int e = 0; e < EXPERTS; e++) {
		w[e] = weights_make(device, &rng, (struct linear_shape){N, K, elem, segments});
		float *bias = random_floats(&rng, N);
		assert_int_equal(linear_fill_bias(w[e].linear, 0, N, bias), ERR_OK);
		free(bias);
		linears[e] = w[e].linear;
		first[e + 1] = first[e] + counts[e % 8];
	}
	uint32_t total = first[EXPERTS];
	float *x = random_floats(&rng, MOST * K);
	assert_true(total <= MOST);
	enum elem x_elem = elem == ELEM_BF16 ? ELEM_BF16 : ELEM_F32;
	uint16_t halves[MOST * K];
	for (int i = 0; i < MOST * K; i++)
		halves[i] = bf16_round(x[i]);
	void *in = gpu_put(device, elem == ELEM_BF16 ? (void *)halves : x, MOST * K * elem_bytes(x_elem));
	void *starts = gpu_put(device, first, sizeof(first)), *out = gpu_nan(device, (MOST + 1) * N * sizeof(float));
	const struct moe_linear_call call = {.linears = linears, .expert_count = EXPERTS, .first = starts, .slot_count = total,
					     .x = in, .y = out, .x_elem = x_elem};
	op_moe_linear(device, &call);
	float *y = gpu_take(device, out, (MOST + 1) * N * sizeof(float));
	for (int e = 0; e < EXPERTS; e++)
		for (uint32_t row = first[e]; row < first[e + 1]; row++) {
			float *expected = run_linear(device, w[e].linear, x + row * K, 1, x_elem);
			assert_memory_equal(y + row * N, expected, N * sizeof(float));
			free(expected);
		}
	assert_memory_equal(y + (size_t)total * N, &(uint32_t){UINT32_MAX}, 4);
	for (int e = 0; e < EXPERTS; e++)
		weights_free(&w[e]);
	dev_free(device, MEM_DEVICE, in, MOST * K * elem_bytes(x_elem));
	dev_free(device, MEM_DEVICE, starts, sizeof(first));
	free(x);
	free(y);
}

static void rows_of_experts_are_as_alone(void **state)
{
	static const uint32_t few[8] = {0, 1, 0, 2, 0, 0, 1, 3}, many[8] = {0, 9, 1, 40, 0, 0, 17, 11};
	struct device *device = gpu_open(8);
	rows_of_experts_are_as_alone_on(device, ELEM_BF16, 1, few);
	rows_of_experts_are_as_alone_on(device, ELEM_BF16, 1, many);
	rows_of_experts_are_as_alone_on(device, ELEM_BF16, 4, many);
	rows_of_experts_are_as_alone_on(device, ELEM_F32, 2, few);
	device_close(device);
}

/* Rows of bf16 at any distance; the stride of a single row says nothing. */
static void inputs_may_lie_apart(void **state)
{
	enum { N = 40, K = 64, ROWS = 5 };
	static const uint32_t strides[] = {64, 72, 67, 128};
	struct device *device = gpu_open(8);
	struct rng rng = {.seed = 9};
	for (uint32_t segments = 1; segments <= 4; segments *= 4) {
		struct weights w = weights_make(device, &rng, (struct linear_shape){N, K, ELEM_BF16, segments});
		float *x = random_floats(&rng, ROWS * K), *expected = run_linear(device, w.linear, x, ROWS, ELEM_F32);
		for (uint32_t i = 0; i < sizeof(strides) / sizeof(*strides); i++)
			for (uint32_t rows = 1; rows <= ROWS; rows += ROWS - 1) {
				uint16_t apart[ROWS * 128];
				memset(apart, 0xff, sizeof(apart));
				for (uint32_t j = 0; j < rows * K; j++)
					apart[j / K * strides[i] + j % K] = bf16_round(x[j]);
				void *in = gpu_put(device, apart, sizeof(apart)), *out = gpu_nan(device, ROWS * N * sizeof(float));
				const struct linear_call call = {w.linear, in, strides[i], out, N, rows, ELEM_BF16, ELEM_F32};
				op_linear(device, &call, 1);
				float *y = gpu_take(device, out, ROWS * N * sizeof(float));
				assert_memory_equal(y, expected, rows * N * sizeof(float));
				dev_free(device, MEM_DEVICE, in, sizeof(apart));
				free(y);
			}
		free(x);
		free(expected);
		weights_free(&w);
	}
	device_close(device);
}

static void packed_rows_come_back_whole(void **state)
{
	struct device *device = gpu_open(8);
	struct rng rng = {.seed = 8};
	for (int elem = ELEM_F32; elem <= ELEM_BF16; elem++)
		for (uint32_t segments = 1; segments <= 2; segments++) {
			struct weights w = weights_make(device, &rng, (struct linear_shape){50, 36, elem, segments});
			const uint32_t tokens[] = {49, 0, 17, 17, 31};
			void *list = gpu_put(device, tokens, sizeof(tokens)), *out = gpu_nan(device, 5 * 36 * sizeof(float));
			op_embed_linear(device, w.linear, list, 5, out);
			float *rows = gpu_take(device, out, 5 * 36 * sizeof(float));
			for (int i = 0; i < 5; i++)
				assert_memory_equal(rows + i * 36, w.wide + tokens[i] * 36, 36 * sizeof(float));
			dev_free(device, MEM_DEVICE, list, sizeof(tokens));
			free(rows);
			weights_free(&w);
		}
	device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bf16_products_are_right),
		cmocka_unit_test(f32_products_have_the_bits_of_the_cpu),
		cmocka_unit_test(bits_of_a_row_do_not_depend_on_its_company),
		cmocka_unit_test(bias_and_rounding_come_last),
		cmocka_unit_test(shards_sum_to_the_bits_of_the_whole),
		cmocka_unit_test(calls_may_be_joined),
		cmocka_unit_test(rows_of_experts_are_as_alone),
		cmocka_unit_test(inputs_may_lie_apart),
		cmocka_unit_test(packed_rows_come_back_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
