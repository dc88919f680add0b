/* Products on the device: f32 weights bit for bit as the CPU's, bf16 weights against sums in double, and law 1 over numbers of rows
 * that take every tile. */
#include <math.h>
#include "tests/gpu/products.h"
#if defined(__has_include) && __has_include(<fake.h>)
#include "tests/gpu/fake/fake.h"
#endif

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

/* The weights alone: what they are made of is forgotten. */
static struct linear *linear_make(struct device *device, struct rng *rng, struct linear_shape shape)
{
	struct weights w = weights_make(device, rng, shape);
	free(w.raw);
	free(w.wide);
	return w.linear;
}

static const struct product_kind of_bf16 = {linear_make, ELEM_BF16}, of_f32 = {linear_make, ELEM_F32};

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

/* Law 1. */
static void bits_of_a_row_do_not_depend_on_its_company(void **state)
{
	struct device *device = gpu_open(8);
	uint32_t whole = 0, cut = 0;
	bits_do_not_depend_on_company(device, &of_bf16, (struct linear_shape){product_outputs(device, 200), product_inputs(device, 72), ELEM_BF16, 1}, &whole);
	bits_do_not_depend_on_company(device, &of_bf16, (struct linear_shape){70, 90, ELEM_BF16, 1}, &whole);
	bits_do_not_depend_on_company(device, &of_bf16, (struct linear_shape){product_outputs(device, 136), product_inputs(device, 64), ELEM_BF16, 4}, &cut);
	bits_do_not_depend_on_company(device, &of_bf16, (struct linear_shape){72, 144, ELEM_BF16, 8}, &cut);
	assert_int_equal(whole, 8 | 16 | 32 | 64 | 128 | 128 << 16 | 256 << 16);
	assert_int_equal(cut, 8 | 16 | 32 | 64);
	device_close(device);
}

/* What the tests above count on: on each of these multiprocessors (an H20's, an H100's as a PCIe card, an H200's) every tile has its turn. */
static void every_gpu_has_every_tile(void **state)
{
	static const uint32_t counts[] = {78, 114, 132, 144};
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		struct linear_plan_shape wide = {.n = 6144, .groups = 1, .segments = 1, .sm_count = counts[i], .k = 72}, narrow = wide;
		narrow.n = 70;
		uint32_t tiles = tiles_of(&wide) | tiles_of(&narrow);
		assert_int_equal(tiles, 8 | 16 | 32 | 64 | 128 | 128 << 16 | 256 << 16);
		wide.segments = 4, narrow.segments = 8;
		tiles = tiles_of(&wide) | tiles_of(&narrow);
		assert_int_equal(tiles, 8 | 16 | 32 | 64);
	}
}

/* Clusters are of two blocks: one multiprocessor is left over, or there is none for the second. */
static void multiprocessors_may_be_odd(void **state)
{
#if defined(__has_include) && __has_include(<fake.h>)
	enum { ROWS = 300, N = 390, K = 72 };
	struct fake_options options = *fake_now(), before = options;
	float *y[3];
	for (int i = 0; i < 3; i++) {
		options.processors = 1 + 2 * i;
		fake_configure(&options);
		struct device *device = gpu_open(1);
		struct rng rng = {.seed = 10};
		struct linear *linear = linear_make(device, &rng, (struct linear_shape){N, K, ELEM_BF16, 1});
		float *x = random_inputs(&rng, ROWS * K);
		assert_int_equal(tile_of(product_plan(device, linear_shape(linear), 1, ROWS)) >> 16 > 0, i > 0);
		y[i] = run_linear(device, linear, x, ROWS, ELEM_F32);
		assert_memory_equal(y[i], y[0], ROWS * N * sizeof(float));
		free(x);
		linear_destroy(linear);
		device_close(device);
	}
	for (int i = 0; i < 3; i++)
		free(y[i]);
	fake_configure(&before);
#else
	skip();
#endif
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

static void calls_may_be_joined(void **state)
{
	struct device *device = gpu_open(1);
	calls_are_as_alone(device, &of_bf16, (struct linear_shape){72, 40, ELEM_BF16, 1}, 8);
	device_close(device);
}

static void rows_of_experts_are_as_alone(void **state)
{
	static const uint32_t few[8] = {0, 1, 0, 2, 0, 0, 1, 3}, many[8] = {0, 9, 1, 40, 0, 0, 17, 11};
	struct device *device = gpu_open(8);
	experts_are_as_alone(device, &of_bf16, (struct linear_shape){136, 64, ELEM_BF16, 1}, few, 40);
	experts_are_as_alone(device, &of_bf16, (struct linear_shape){136, 64, ELEM_BF16, 1}, many, 40);
	experts_are_as_alone(device, &of_bf16, (struct linear_shape){136, 64, ELEM_BF16, 4}, many, 40);
	experts_are_as_alone(device, &of_f32, (struct linear_shape){136, 64, ELEM_F32, 2}, few, 40);
	experts_take_every_tile(device, &of_bf16, (struct linear_shape){400, product_inputs(device, 64), ELEM_BF16, 1});
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
		cmocka_unit_test(every_gpu_has_every_tile),
		cmocka_unit_test(multiprocessors_may_be_odd),
		cmocka_unit_test(bias_and_rounding_come_last),
		cmocka_unit_test(shards_sum_to_the_bits_of_the_whole),
		cmocka_unit_test(calls_may_be_joined),
		cmocka_unit_test(rows_of_experts_are_as_alone),
		cmocka_unit_test(inputs_may_lie_apart),
		cmocka_unit_test(packed_rows_come_back_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
