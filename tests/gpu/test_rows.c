/* Operations on rows on the device: bit for bit the CPU's where nothing is summed, near it where something is, and law 1: the same
 * bits whatever else is in the call and wherever it lies. */
#include <math.h>
#include "base/bf16.h"
#include "tests/gpu/fixture.h"

static const uint32_t dims[] = {1, 3, 16, 37, 100, 1024, 1028, 2050, 4104, 8196};
#define DIM_COUNT (sizeof(dims) / sizeof(*dims))
#define ROWS 3

static struct device *gpu, *cpu;

static int open_both(void **state)
{
	gpu = gpu_open(1);
	cpu = oracle_open();
	return 0;
}

static int close_both(void **state)
{
	device_close(gpu);
	device_close(cpu);
	return 0;
}

static void assert_synced(void)
{
	assert_int_equal(device_sync(gpu), ERR_OK);
}

/* What the device has at `memory` is `expected`; both are given back. */
static void assert_taken(void *memory, void *expected, size_t bytes)
{
	void *got = gpu_take(gpu, memory, bytes);
	assert_memory_equal(got, expected, bytes);
	free(got);
	free(expected);
}

static float *rounded_and_widened(const float *x, size_t count)
{
	float *out = malloc(count * sizeof(*out));
	for (size_t i = 0; i < count; i++)
		out[i] = bf16_widen(bf16_round(x[i]));
	return out;
}

static uint16_t *rounded(const float *x, size_t count)
{
	uint16_t *out = malloc(count * sizeof(*out) + 1);
	for (size_t i = 0; i < count; i++)
		out[i] = bf16_round(x[i]);
	return out;
}

/* --- each number by itself ----------------------------------------------------------------------------------- */

static void embeddings_are_rows_of_the_table(void **state)
{
	struct rng rng = {.seed = 1};
	enum { VOCABULARY = 50 };
	const uint32_t tokens[ROWS] = {49, 0, 7};
	for (size_t c = 0; c < DIM_COUNT; c++) {
		size_t dim = dims[c], bytes = ROWS * dim * sizeof(float);
		float *f32 = random_floats(&rng, VOCABULARY * dim);
		uint16_t *bf16 = random_halves(&rng, VOCABULARY * dim);
		void *on_gpu = gpu_put(gpu, tokens, sizeof(tokens));
		for (int elem = ELEM_F32; elem <= ELEM_BF16; elem++) {
			const void *table = elem == ELEM_F32 ? (const void *)f32 : bf16;
			size_t table_bytes = VOCABULARY * dim * elem_bytes(elem);
			void *there = gpu_put(gpu, table, table_bytes), *out = gpu_nan(gpu, bytes), *expected = malloc(bytes);
			op_embed(gpu, there, elem, dim, on_gpu, ROWS, out);
			op_embed(cpu, table, elem, dim, tokens, ROWS, expected);
			assert_taken(out, expected, bytes);
			dev_free(gpu, MEM_DEVICE, there, table_bytes);
		}
		dev_free(gpu, MEM_DEVICE, on_gpu, sizeof(tokens));
		free(f32);
		free(bf16);
	}
}

static void sums_products_and_conversions_have_the_bits_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 2};
	for (size_t c = 0; c < DIM_COUNT; c++) {
		size_t count = (size_t)ROWS * dims[c], bytes = count * sizeof(float);
		float *x = random_floats(&rng, count), *add = random_floats(&rng, count);
		void *there = gpu_put(gpu, x, bytes), *add_there = gpu_put(gpu, add, bytes);
		void *halves = gpu_nan(gpu, count * 2), *wide = gpu_nan(gpu, bytes);
		op_add(gpu, there, add_there, ROWS, dims[c]);
		op_scale(gpu, there, 0.3f, ROWS, dims[c]);
		op_to_bf16(gpu, there, count, halves);
		op_from_bf16(gpu, halves, count, wide);
		op_add(cpu, x, add, ROWS, dims[c]);
		op_scale(cpu, x, 0.3f, ROWS, dims[c]);
		assert_synced();
		assert_taken(halves, rounded(x, count), count * 2);
		assert_taken(wide, rounded_and_widened(x, count), bytes);
		assert_taken(there, x, bytes);
		dev_free(gpu, MEM_DEVICE, add_there, bytes);
		free(add);
	}
}

static void gathered_rows_are_copies(void **state)
{
	struct rng rng = {.seed = 3};
	const uint32_t index[] = {5, 5, 0, 3};
	for (size_t c = 0; c < DIM_COUNT; c++) {
		size_t dim = dims[c], stride = dim + (c % 2 ? 1 : 4), bytes = 4 * dim * sizeof(float);
		float *x = random_floats(&rng, 6 * stride), *expected = malloc(bytes);
		void *there = gpu_put(gpu, x, 6 * stride * 4), *at = gpu_put(gpu, index, sizeof(index)), *out = gpu_nan(gpu, bytes);
		op_gather(gpu, there, stride, at, 4, dim, out);
		op_gather(cpu, x, stride, index, 4, dim, expected);
		assert_taken(out, expected, bytes);
		dev_free(gpu, MEM_DEVICE, there, 6 * stride * 4);
		dev_free(gpu, MEM_DEVICE, at, sizeof(index));
		free(x);
	}
}

/* Gates from -100 to 100, so that exp is over and under its range, too. */
static void activations_have_the_bits_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 4};
	const struct glu kinds[] = {{GLU_SILU}, {GLU_GELU_TANH}, {GLU_CLAMPED, 1.702f, 7.0f}};
	for (size_t c = 0; c < DIM_COUNT; c++)
		for (size_t k = 0; k < 3; k++) {
			size_t dim = dims[c], stride = 2 * dim + 4 * (c % 3), out_stride = dim + c % 2 * 4;
			size_t bytes = ROWS * out_stride * 4;
			float *x = random_floats(&rng, ROWS * stride), *expected = filled_with_nan(ROWS * out_stride);
			for (size_t i = 0; i < ROWS * stride; i++)
				x[i] *= i % 3 ? 10.0f : 100.0f;
			void *there = gpu_put(gpu, x, ROWS * stride * 4), *out = gpu_nan(gpu, bytes), *halves = gpu_nan(gpu, bytes);
			struct glu_call call = {kinds[k], x, stride, ROWS, dim, expected, out_stride, ELEM_F32};
			op_glu(cpu, &call);
			call.x = there;
			call.out = out;
			op_glu(gpu, &call);
			call.out = halves;
			call.out_elem = ELEM_BF16;
			op_glu(gpu, &call);
			uint16_t *as_bf16 = gpu_take(gpu, halves, bytes), *nearest = rounded(expected, ROWS * out_stride);
			for (size_t row = 0; row < ROWS; row++)
				assert_memory_equal(as_bf16 + row * out_stride, nearest + row * out_stride, dim * 2);
			assert_taken(out, expected, bytes);
			dev_free(gpu, MEM_DEVICE, there, ROWS * stride * 4);
			free(x);
			free(as_bf16);
			free(nearest);
		}
}

/* --- norms ------------------------------------------------------------------------------------------------------ */

/* One call of op_rmsnorm; x and out come back. `shift` numbers before each row's memory: other addresses. */
static void norm_once(const float *x, const float *add, const float *weight, uint32_t rows, uint32_t dim, uint32_t shift,
		      enum elem out_elem, float **ret_x, void **ret_out)
{
	size_t count = (size_t)rows * dim, bytes = count * 4, all = bytes + shift * 4;
	float *at = gpu_nan(gpu, all), *add_at = gpu_nan(gpu, all), *weight_at = gpu_put(gpu, weight, dim * 4);
	void *out = gpu_nan(gpu, bytes);
	assert_int_equal(dev_copy(gpu, at + shift, x, bytes), ERR_OK);
	if (add)
		assert_int_equal(dev_copy(gpu, add_at + shift, add, bytes), ERR_OK);
	op_rmsnorm(gpu, &(struct norm_call){at + shift, add ? add_at + shift : NULL, weight_at, out, rows, dim, 1e-5f, out_elem});
	assert_synced();
	*ret_x = malloc(bytes);
	assert_int_equal(dev_copy(gpu, *ret_x, at + shift, bytes), ERR_OK);
	*ret_out = gpu_take(gpu, out, bytes);
	dev_free(gpu, MEM_DEVICE, at, all);
	dev_free(gpu, MEM_DEVICE, add_at, all);
	dev_free(gpu, MEM_DEVICE, weight_at, dim * 4);
}

static void check_norm(struct rng *rng, uint32_t dim, bool adds)
{
	size_t count = (size_t)ROWS * dim, bytes = count * 4;
	float *x = random_floats(rng, count), *add = adds ? random_floats(rng, count) : NULL, *weight = random_floats(rng, dim);
	float *sum, *expected = malloc(bytes);
	void *out, *halves, *other;
	norm_once(x, add, weight, ROWS, dim, 0, ELEM_F32, &sum, &out);
	free(sum);
	norm_once(x, add, weight, ROWS, dim, 0, ELEM_BF16, &sum, &halves);
	uint16_t *nearest = rounded(out, count);
	assert_memory_equal(halves, nearest, count * 2);
	/* Alone, and at an address where accesses cannot be wide. */
	for (uint32_t row = 0; row < ROWS; row++) {
		float *one;
		size_t at = (size_t)row * dim;
		norm_once(x + at, adds ? add + at : NULL, weight, 1, dim, 1, ELEM_F32, &one, &other);
		assert_memory_equal(one, sum + at, dim * 4);
		assert_memory_equal(other, (float *)out + at, dim * 4);
		free(one);
		free(other);
	}
	op_rmsnorm(cpu, &(struct norm_call){x, add, weight, expected, ROWS, dim, 1e-5f, ELEM_F32});
	assert_memory_equal(sum, x, bytes); /* the sum stays: it is the residual */
	for (size_t i = 0; i < count; i++)
		assert_near(((float *)out)[i], expected[i], 1e-6 * fabs(expected[i]) + 1e-12);
	free(x), free(add), free(weight), free(sum), free(expected), free(out), free(halves), free(nearest);
}

static void rmsnorm_is_near_a_cpus_and_the_same_for_any_rows(void **state)
{
	struct rng rng = {.seed = 5};
	for (size_t c = 0; c < DIM_COUNT; c++) {
		check_norm(&rng, dims[c], false);
		check_norm(&rng, dims[c], true);
	}
}

static void head_norm_is_near_a_cpus_and_the_same_for_any_rows(void **state)
{
	struct rng rng = {.seed = 6};
	const uint32_t head_dims[] = {1, 33, 64, 128, 130, 256, 512, 700};
	enum { HEADS = 3 };
	for (size_t c = 0; c < sizeof(head_dims) / sizeof(*head_dims); c++) {
		uint32_t dim = head_dims[c];
		size_t stride = HEADS * dim + c % 2 * 5, count = ROWS * stride, bytes = count * 4;
		float *x = random_floats(&rng, count), *weight = random_floats(&rng, dim);
		float *there = gpu_put(gpu, x, bytes), *weight_there = gpu_put(gpu, weight, dim * 4), *alone = gpu_nan(gpu, bytes + 4);
		op_head_norm(gpu, there, stride, ROWS, HEADS, dim, weight_there, 1e-6f);
		assert_int_equal(dev_copy(gpu, alone + 1, x, bytes), ERR_OK);
		for (uint32_t row = 0; row < ROWS; row++)
			for (uint32_t head = 0; head < HEADS; head++)
				op_head_norm(gpu, alone + 1 + row * stride + head * dim, stride, 1, 1, dim, weight_there, 1e-6f);
		op_head_norm(cpu, x, stride, ROWS, HEADS, dim, weight, 1e-6f);
		assert_synced();
		float *got = gpu_take(gpu, there, bytes), *got_alone = gpu_take(gpu, alone, bytes + 4);
		assert_memory_equal(got, got_alone + 1, bytes);
		for (size_t i = 0; i < count; i++)
			assert_near(got[i], x[i], 1e-6 * fabs(x[i]) + 1e-12);
		dev_free(gpu, MEM_DEVICE, weight_there, dim * 4);
		free(x), free(weight), free(got), free(got_alone);
	}
}

/* --- rope ---------------------------------------------------------------------------------------------------------- */

static void rope_has_the_bits_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 7};
	const struct {
		uint32_t dim, half, heads;
	} cases[] = {{64, 32, 3}, {128, 64, 9}, {37, 7, 2}, {100, 50, 1}, {80, 10, 2}};
	const uint32_t positions[ROWS] = {0, 77, 131071};
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		uint32_t dim = cases[c].dim, half = cases[c].half, heads = cases[c].heads;
		size_t stride = heads * dim + c % 2 * 3, bytes = ROWS * stride * 4, angle_bytes = ROWS * half * 4;
		float frequency[64], *x = random_floats(&rng, ROWS * stride), *cosine = malloc(angle_bytes), *sine = malloc(angle_bytes);
		for (uint32_t i = 0; i < half; i++)
			frequency[i] = powf(10000.0f, -(float)i / (float)half);
		void *at = gpu_put(gpu, positions, sizeof(positions)), *frequency_at = gpu_put(gpu, frequency, half * 4);
		void *there = gpu_put(gpu, x, bytes), *cosine_at = gpu_nan(gpu, angle_bytes), *sine_at = gpu_nan(gpu, angle_bytes);
		op_rope_angles(gpu, at, ROWS, frequency_at, half, 1.1f, cosine_at, sine_at);
		op_rope(gpu, there, stride, ROWS, heads, dim, half, cosine_at, sine_at);
		op_rope_angles(cpu, positions, ROWS, frequency, half, 1.1f, cosine, sine);
		op_rope(cpu, x, stride, ROWS, heads, dim, half, cosine, sine);
		assert_taken(cosine_at, cosine, angle_bytes);
		assert_taken(sine_at, sine, angle_bytes);
		assert_taken(there, x, bytes);
		dev_free(gpu, MEM_DEVICE, at, sizeof(positions));
		dev_free(gpu, MEM_DEVICE, frequency_at, half * 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(embeddings_are_rows_of_the_table),
		cmocka_unit_test(sums_products_and_conversions_have_the_bits_of_a_cpu),
		cmocka_unit_test(gathered_rows_are_copies),
		cmocka_unit_test(activations_have_the_bits_of_a_cpu),
		cmocka_unit_test(rmsnorm_is_near_a_cpus_and_the_same_for_any_rows),
		cmocka_unit_test(head_norm_is_near_a_cpus_and_the_same_for_any_rows),
		cmocka_unit_test(rope_has_the_bits_of_a_cpu),
	};
	return cmocka_run_group_tests(tests, open_both, close_both);
}
