#include "tests/kernels/fixture.h"
#include <math.h>

static void stats_are_right_on(struct device *device)
{
	static const uint32_t sizes[] = {1, 7, 16, 1000, 1025, 60001};
	struct rng rng = {.seed = 1};
	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		uint32_t n = sizes[s], argmax[3];
		float *logits = random_floats(&rng, 3 * n), max[3], sum[3];
		for (uint32_t i = 0; i < 3 * n; i++)
			logits[i] *= 20;
		logits[2 * n + n / 2] = logits[3 * n - 1] = 21; /* a tie: the lower wins */
		op_logits_stats(device, logits, n, 3, n, max, argmax, sum);
		for (uint32_t row = 0; row < 3; row++) {
			const float *l = logits + row * n;
			uint32_t best = 0;
			double total = 0;
			for (uint32_t i = 0; i < n; i++) {
				best = l[i] > l[best] ? i : best;
				total += exp(l[i]);
			}
			assert_int_equal(argmax[row], best);
			assert_true(max[row] == l[best]);
			assert_near(sum[row], log(total), 3e-6);
		}
		float alone;
		op_logits_stats(device, logits + n, n, 1, n, NULL, NULL, &alone);
		assert_memory_equal(&alone, &sum[1], sizeof(alone));
		free(logits);
	}
}

static void stats_are_right(void **state)
{
	on_each_variant(stats_are_right_on);
}

static void minus_infinity_is_a_legal_logit_on(struct device *device)
{
	float logits[2][20], max[2], sum[2];
	uint32_t argmax[2];
	for (int i = 0; i < 20; i++)
		logits[0][i] = logits[1][i] = -INFINITY;
	logits[0][18] = 3.5f;
	op_logits_stats(device, logits[0], 20, 2, 20, max, argmax, sum);
	assert_true(max[0] == 3.5f && argmax[0] == 18 && sum[0] == 3.5f);
	assert_true(max[1] == -INFINITY && argmax[1] == 0 && sum[1] == -INFINITY);
}

static void minus_infinity_is_a_legal_logit(void **state)
{
	on_each_variant(minus_infinity_is_a_legal_logit_on);
}

static void top_k_is_the_head_of_a_stable_sort(void **state)
{
	struct rng rng = {.seed = 2};
	for (int trial = 0; trial < 300; trial++) {
		enum { N = 60 };
		float logits[N], value[N];
		uint32_t n = 1 + (uint32_t)rng_below(&rng, N), k = (uint32_t)rng_below(&rng, n + 1), index[N], order[N];
		for (uint32_t i = 0; i < n; i++)
			logits[i] = (float)rng_below(&rng, 12) - 6; /* many ties */
		for (uint32_t i = 0; i < n; i++) { /* insertion sort: stable */
			uint32_t at = i;
			for (; at > 0 && logits[order[at - 1]] < logits[i]; at--)
				order[at] = order[at - 1];
			order[at] = i;
		}
		logits_top_k(logits, n, k, index, value);
		for (uint32_t i = 0; i < k; i++) {
			assert_int_equal(index[i], order[i]);
			assert_true(value[i] == logits[order[i]]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stats_are_right),
		cmocka_unit_test(minus_infinity_is_a_legal_logit),
		cmocka_unit_test(top_k_is_the_head_of_a_stable_sort),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
