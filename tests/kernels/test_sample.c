/* The choice of tokens, on every variant of this CPU: against a plain sum and a stable sort.  What requests ask besides is in
 * tests/engine/test_sampler.c. */
#include "tests/kernels/fixture.h"
#include "kernels/sample.h"
#include <math.h>

static struct sample score_of(struct device *device, const float *logits, uint32_t n, uint32_t token, int32_t logprobs)
{
	struct sample_scratch *scratch;
	struct sample sample;
	const struct sample_row row = {.token = token, .logprobs = logprobs, .ret_samples = &sample};
	const struct sample_call call = {.logits = logits, .stride = n, .rows = &row, .row_count = 1};
	assert_int_equal(sample_scratch_create(device, n, &scratch), ERR_OK);
	op_sample(scratch, &call);
	assert_int_equal(device_sync(device), ERR_OK);
	sample_scratch_destroy(scratch);
	return sample;
}

static void log_probabilities_are_right_on(struct device *device)
{
	static const uint32_t sizes[] = {1, 7, 16, 1000, 1025, 60001};
	struct rng rng = {.seed = 1};
	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		uint32_t n = sizes[s], best = 0;
		float *logits = random_floats(&rng, n);
		double total = 0;
		for (uint32_t i = 0; i < n; i++)
			logits[i] *= 20;
		logits[n / 2] = logits[n - 1] = 21; /* a tie: the lower wins */
		for (uint32_t i = 0; i < n; i++) {
			best = logits[i] > logits[best] ? i : best;
			total += exp((double)logits[i]);
		}
		struct sample sample = score_of(device, logits, n, n - 1, 1);
		assert_int_equal(sample.top[0].token, best);
		assert_int_equal(sample.rank, n == 1 ? 1 : 2);
		assert_near(sample.logprob, 21 - log(total), 3e-6);
		free(logits);
	}
}

static void log_probabilities_are_right(void **state)
{
	on_each_variant(log_probabilities_are_right_on);
}

static void minus_infinity_is_a_legal_logit_on(struct device *device)
{
	float logits[20];
	for (int i = 0; i < 20; i++)
		logits[i] = -INFINITY;
	struct sample sample = score_of(device, logits, 20, 3, 2);
	assert_true(sample.logprob == -INFINITY && sample.rank == 4);
	assert_true(sample.top_count == 2 && sample.top[1].token == 1 && sample.top[1].logprob == -INFINITY);
	logits[18] = 3.5f;
	sample = score_of(device, logits, 20, 18, 2);
	assert_true(sample.logprob == 0 && sample.rank == 1 && sample.top[0].token == 18 && sample.top[1].token == 0);
}

static void minus_infinity_is_a_legal_logit(void **state)
{
	on_each_variant(minus_infinity_is_a_legal_logit_on);
}

static void alternatives_are_the_head_of_a_stable_sort(void **state)
{
	struct device *device = device_named("portable", 1);
	struct rng rng = {.seed = 2};
	for (int trial = 0; trial < 300; trial++) {
		enum { N = 60 };
		float logits[N];
		uint32_t n = 1 + (uint32_t)rng_below(&rng, N), order[N];
		uint32_t k = (uint32_t)rng_below(&rng, SAMPLING_TOP_LOGPROBS_MAX + 1), at = (uint32_t)rng_below(&rng, n);
		for (uint32_t i = 0; i < n; i++)
			logits[i] = (float)rng_below(&rng, 12) - 6; /* many ties */
		for (uint32_t i = 0; i < n; i++) { /* insertion sort: stable */
			uint32_t place = i;
			for (; place > 0 && logits[order[place - 1]] < logits[i]; place--)
				order[place] = order[place - 1];
			order[place] = i;
		}
		struct sample sample = score_of(device, logits, n, order[at], (int32_t)k);
		assert_int_equal(sample.top_count, k < n ? k : n);
		assert_int_equal(sample.rank, at + 1);
		for (uint32_t i = 0; i < sample.top_count; i++)
			assert_int_equal(sample.top[i].token, order[i]);
	}
	device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_probabilities_are_right),
		cmocka_unit_test(minus_infinity_is_a_legal_logit),
		cmocka_unit_test(alternatives_are_the_head_of_a_stable_sort),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
