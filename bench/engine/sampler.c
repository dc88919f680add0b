/* bench_sampler - microseconds of CPU time to choose one token of a vocabulary of 128 Ki, beside a full sort. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "engine/sampler.h"
#include "kernels/device.h"

enum { VOCAB = 128 * 1024, REPEATS = 31 };

static double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int descending_f32(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x < y) - (x > y);
}

static void report(const char *what, double *us)
{
	qsort(us, REPEATS, sizeof(*us), ascending);
	printf("| %s | %.0f / **%.0f** / %.0f us |\n", what, us[0], us[REPEATS / 2], us[REPEATS - 1]);
}

static void measure(struct sampler *sampler, const float *logits, const char *what, struct sampling sampling)
{
	double us[REPEATS];
	const uint16_t choice = 0;
	const uint32_t token = 1;
	struct sample sample;
	sampling.repetition_penalty = 1;
	const struct sampler_row row = {.sampling = &sampling, .tokens = &token, .token_count = 1, .prompt_count = 1,
					.choices = &choice, .choice_count = 1};
	for (uint32_t i = 0; i < REPEATS; i++) {
		double start = now_us();
		sampling.seed = i;
		sampler_begin(sampler, logits);
		sampler_sample(sampler, &row, &sample);
		sampler_end(sampler);
		us[i] = now_us() - start;
	}
	report(what, us);
}

static void measure_sort(const float *logits)
{
	double us[REPEATS];
	float *copy = malloc(VOCAB * sizeof(*copy));
	for (uint32_t i = 0; copy && i < REPEATS; i++) {
		for (uint32_t j = 0; j < VOCAB; j++)
			copy[j] = logits[j];
		double start = now_us();
		qsort(copy, VOCAB, sizeof(*copy), descending_f32);
		us[i] = now_us() - start;
	}
	free(copy);
	report("qsort of the logits, for comparison", us);
}

int main(void)
{
	struct device *device;
	struct sampler *sampler;
	float *logits = malloc(VOCAB * sizeof(*logits));
	struct rng rng = {.seed = 1};
	const struct device_options device_options = {.kind = DEVICE_CPU, .thread_count = 1};
	if (!logits || device_open(&device_options, NULL, &device) != ERR_OK)
		return 1;
	const struct sampler_options options = {.device = device, .vocab_size = VOCAB};
	if (sampler_create(&options, &sampler) != ERR_OK)
		return 1;
	for (uint32_t i = 0; i < VOCAB; i++) {
		logits[i] = 0;
		for (int j = 0; j < 12; j++)
			logits[i] += rng_unit(rng_next(&rng)) - 0.5f;
		logits[i] *= 3;
	}
	printf("| one row of %d | least / **median** / greatest of %d |\n|---|---|\n", VOCAB, REPEATS);
	measure(sampler, logits, "greedy", (struct sampling){.top_p = 1, .logprobs = -1});
	measure(sampler, logits, "greedy, 20 logprobs", (struct sampling){.top_p = 1, .logprobs = 20});
	measure(sampler, logits, "temperature", (struct sampling){.temperature = 1, .top_p = 1, .logprobs = -1});
	measure(sampler, logits, "top_k 50", (struct sampling){.temperature = 1, .top_p = 1, .top_k = 50, .logprobs = -1});
	measure(sampler, logits, "top_p 0.95", (struct sampling){.temperature = 1, .top_p = 0.95f, .logprobs = -1});
	measure(sampler, logits, "top_k 50000, top_p 0.95, min_p 0.001",
		(struct sampling){.temperature = 1, .top_p = 0.95f, .top_k = 50000, .min_p = 0.001f, .logprobs = -1});
	measure_sort(logits);
	sampler_destroy(sampler);
	device_close(device);
	free(logits);
	return 0;
}
