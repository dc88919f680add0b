#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engine/driver.h"

/* The demonstration models against what transformers computes with them in f32 (tools/demo_model/golden.py). */

enum { TOKENS_MAX = 2048, GREEDY = 32, END_OF_TEXT = 0, END_OF_TURN = 4 };

/* Of a probability.  The reference keeps KV in f32, we in bf16, and experts' rows are rounded to bf16 here only; where
 * two experts are nearly as good the rounding may choose the other one, which moves tokens that are unlikely anyway.
 * Arithmetic alone is compared far more closely by the tiny models: tests/engine/test_golden.c. */
#define TOLERANCE 2e-2

static struct driver driver;
static double worst;

static const struct sample *step_to_end(struct stream *stream)
{
	while (stream->sequence.computed < stream->sequence.token_count) {
		struct plan plan = {0};
		plan_add(&plan, stream, 256);
		driver_step(&driver, &plan);
	}
	return &driver.samples[0];
}

/* The reference's logits as log-probabilities: shifted by their log-sum-exp. */
static double shift_of(const json_t *logits)
{
	double greatest = -INFINITY, sum = 0;
	for (size_t i = 0; i < json_array_size(logits); i++)
		greatest = fmax(greatest, json_real_value(json_array_get(logits, i)));
	for (size_t i = 0; i < json_array_size(logits); i++)
		sum += exp(json_real_value(json_array_get(logits, i)) - greatest);
	return greatest + log(sum);
}

static void compare_top(const struct sample *sample, const json_t *logits)
{
	double shift = shift_of(logits);
	assert_int_equal(sample->top_count, SAMPLING_TOP_LOGPROBS_MAX);
	for (uint32_t i = 0; i < sample->top_count; i++) {
		double reference = json_real_value(json_array_get(logits, sample->top[i].token)) - shift;
		double difference = fabs(exp((double)sample->top[i].logprob) - exp(reference));
		worst = fmax(worst, difference);
		if (!(difference <= TOLERANCE))
			fail_msg("probability %.6f, the reference says %.6f", exp((double)sample->top[i].logprob), exp(reference));
	}
}

/* Equal tokens up to the end of the answer, unless the reference's is within twice the tolerance of ours: then it is taken.
 * What a model says after its end token it never learned: there the experts are nearly tied. */
static void compare_greedy(struct stream *stream, const struct sample *sample, const json_t *greedy)
{
	for (uint32_t i = 0; i < GREEDY; i++) {
		uint32_t token = (uint32_t)json_integer_value(json_array_get(greedy, i));
		for (uint32_t j = 0; sample->token != token; j++) {
			if (j == sample->top_count || exp((double)sample->logprob) - exp((double)sample->top[j].logprob) > 2 * TOLERANCE)
				fail_msg("token %u is %u (probability %.4f), the reference says %u", i, sample->token,
					 exp((double)sample->logprob), token);
			if (sample->top[j].token == token)
				break;
		}
		if (token == END_OF_TEXT || token == END_OF_TURN)
			return;
		stream_append(stream, token);
		if (i + 1 < GREEDY)
			sample = step_to_end(stream);
	}
}

static void check_case(const json_t *entry)
{
	uint32_t prompt[TOKENS_MAX];
	const json_t *ids = json_object_get(entry, "ids");
	uint32_t count = (uint32_t)json_array_size(ids);
	assert_true(count > 0 && count + GREEDY <= TOKENS_MAX);
	for (uint32_t i = 0; i < count; i++)
		prompt[i] = (uint32_t)json_integer_value(json_array_get(ids, i));
	struct stream stream;
	stream_open(&stream, &driver, prompt, count, count + GREEDY);
	stream.sampling.logprobs = SAMPLING_TOP_LOGPROBS_MAX;
	const struct sample *sample = step_to_end(&stream);
	compare_top(sample, json_object_get(entry, "logits"));
	compare_greedy(&stream, sample, json_object_get(entry, "greedy"));
	stream_close(&stream, &driver);
}

static void check_model(const char *name)
{
	char path[256];
	snprintf(path, sizeof(path), "models/%s", name);
	const struct driver_options options = {.path = path, .isa = driver_isa_of_f32_rows(), .block_tokens = 16,
					       .batch_tokens_max = 256, .block_count = TOKENS_MAX / 16};
	driver_open(&driver, &options);
	snprintf(path, sizeof(path), "tests/golden/%s/logits.json", name);
	json_t *cases = json_load_file(path, 0, NULL);
	assert_true(json_array_size(cases) > 0);
	worst = 0;
	for (size_t i = 0; i < json_array_size(cases); i++)
		check_case(json_array_get(cases, i));
	print_message("%s: largest difference of a probability %.2g (allowed %.2g)\n", name, worst, TOLERANCE);
	json_decref(cases);
	driver_close(&driver);
}

static void the_dense_model_agrees_with_transformers(void **state)
{
	check_model("demo");
}

static void the_mixture_agrees_with_transformers(void **state)
{
	check_model("demo-moe");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_dense_model_agrees_with_transformers),
		cmocka_unit_test(the_mixture_agrees_with_transformers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
