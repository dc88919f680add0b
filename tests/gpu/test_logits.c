/* Logits on the device: caps and exps have the CPU's bits. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caps_and_exps_have_the_bits_of_a_cpu),
	};
	return cmocka_run_group_tests(tests, open_both, close_both);
}
