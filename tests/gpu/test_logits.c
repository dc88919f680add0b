/* Logits on the device: caps and exps have the CPU's bits, statistics are exact but for the sum. */
#include <math.h>
#include "tests/gpu/fixture.h"

static const uint32_t counts[] = {1, 5, 32, 1000, 4096, 4100, 8191, 70001};
#define COUNTS (sizeof(counts) / sizeof(*counts))
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

static void caps_and_exps_have_the_bits_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 1};
	for (size_t c = 0; c < COUNTS; c++) {
		size_t n = counts[c], stride = n + c % 2 * 3, bytes = ROWS * stride * 4;
		float *x = random_floats(&rng, ROWS * stride), *exps = malloc(n * 4);
		for (size_t i = 0; i < ROWS * stride; i++)
			x[i] *= i % 5 ? 3.0f : 120.0f;
		void *there = gpu_put(gpu, x, bytes), *out = gpu_nan(gpu, n * 4);
		op_exp(gpu, there, 1.5f, n, out);
		op_soft_cap(gpu, there, stride, ROWS, n, 30.0f);
		op_exp(cpu, x, 1.5f, n, exps);
		op_soft_cap(cpu, x, stride, ROWS, n, 30.0f);
		assert_int_equal(device_sync(gpu), ERR_OK);
		float *got = gpu_take(gpu, out, n * 4), *capped = gpu_take(gpu, there, bytes);
		assert_memory_equal(got, exps, n * 4);
		assert_memory_equal(capped, x, bytes);
		free(x), free(exps), free(got), free(capped);
	}
}

struct stats {
	float greatest[ROWS], logsumexp[ROWS];
	uint32_t argmax[ROWS];
};

static struct stats stats_on_gpu(const float *x, size_t stride, uint32_t rows, uint32_t n, uint32_t shift)
{
	struct stats got;
	size_t bytes = rows * stride * 4;
	float *there = gpu_nan(gpu, bytes + 4 * shift), *greatest = gpu_nan(gpu, sizeof(got.greatest));
	float *logsumexp = gpu_nan(gpu, sizeof(got.logsumexp));
	uint32_t *argmax = gpu_nan(gpu, sizeof(got.argmax));
	assert_int_equal(dev_copy(gpu, there + shift, x, bytes), ERR_OK);
	op_logits_stats(gpu, there + shift, stride, rows, n, greatest, argmax, logsumexp);
	assert_int_equal(device_sync(gpu), ERR_OK);
	assert_int_equal(dev_copy(gpu, got.greatest, greatest, sizeof(got.greatest)), ERR_OK);
	assert_int_equal(dev_copy(gpu, got.logsumexp, logsumexp, sizeof(got.logsumexp)), ERR_OK);
	assert_int_equal(dev_copy(gpu, got.argmax, argmax, sizeof(got.argmax)), ERR_OK);
	dev_free(gpu, MEM_DEVICE, there, bytes + 4 * shift);
	dev_free(gpu, MEM_DEVICE, greatest, sizeof(got.greatest));
	dev_free(gpu, MEM_DEVICE, logsumexp, sizeof(got.logsumexp));
	dev_free(gpu, MEM_DEVICE, argmax, sizeof(got.argmax));
	return got;
}

static void statistics_are_those_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 2};
	for (size_t c = 0; c < COUNTS; c++) {
		size_t n = counts[c], stride = n + c % 2 * 4;
		float *x = random_floats(&rng, ROWS * stride);
		for (size_t i = 0; i < n; i += 3)
			x[i] = -INFINITY;
		x[stride + n - 1] = 20.0f;
		x[stride + n / 2] = 20.0f; /* the lower of two equals */
		for (size_t i = 0; i < n; i++)
			x[2 * stride + i] = c % 2 ? -INFINITY : x[2 * stride + i] * 40;
		struct stats got = stats_on_gpu(x, stride, ROWS, n, 0), expected;
		op_logits_stats(cpu, x, stride, ROWS, n, expected.greatest, expected.argmax, expected.logsumexp);
		assert_memory_equal(got.greatest, expected.greatest, sizeof(got.greatest));
		assert_memory_equal(got.argmax, expected.argmax, sizeof(got.argmax));
		for (int row = 0; row < ROWS; row++) {
			if (expected.logsumexp[row] == -INFINITY)
				assert_true(got.logsumexp[row] == -INFINITY);
			else
				assert_near(got.logsumexp[row], expected.logsumexp[row], 2e-6);
			struct stats alone = stats_on_gpu(x + row * stride, stride, 1, n, 1);
			assert_memory_equal(&alone.greatest[0], &got.greatest[row], 4);
			assert_memory_equal(&alone.logsumexp[0], &got.logsumexp[row], 4);
			assert_int_equal(alone.argmax[0], got.argmax[row]);
		}
		free(x);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caps_and_exps_have_the_bits_of_a_cpu),
		cmocka_unit_test(statistics_are_those_of_a_cpu),
	};
	return cmocka_run_group_tests(tests, open_both, close_both);
}
