/* bench_gpu - kernels and whole steps on a GPU; bench/gpu/run builds and starts it.
 *
 *     bench_gpu [fast] >RESULTS.json        progress on standard error
 *
 * In the class "fast" what it may change is measured: products, attention, whole steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bf16.h"
#include "base/e4m3.h"
#include "bench/gpu/bench.h"

enum { ROUNDS = 5, PATTERN = 1 << 20 };
#define PASS_SECONDS 0.05

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_check(enum err e, const char *what)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "bench_gpu: %s: %s\n", what, err_text(e));
	exit(1);
}

void *bench_alloc(struct bench *bench, size_t bytes)
{
	void *memory = NULL;
	bench_check(dev_alloc(bench->device, MEM_DEVICE, bytes, &memory), "device memory");
	return memory;
}

void bench_free(struct bench *bench, void *memory, size_t bytes)
{
	dev_free(bench->device, MEM_DEVICE, memory, bytes);
}

void bench_fill_bf16(struct bench *bench, void *memory, size_t count, float scale)
{
	static uint16_t pattern[PATTERN];
	struct rng rng = {.seed = count};
	for (size_t i = 0; i < PATTERN && i < count; i++)
		pattern[i] = bf16_round((2 * rng_unit(rng_next(&rng)) - 1) * scale);
	for (size_t at = 0, part; at < count; at += part) {
		part = count - at < PATTERN ? count - at : PATTERN;
		bench_check(dev_copy(bench->device, (uint16_t *)memory + at, pattern, part * sizeof(*pattern)), "copy");
	}
}

void bench_fill_f32(struct bench *bench, void *memory, size_t count, float scale)
{
	static float pattern[PATTERN];
	struct rng rng = {.seed = count};
	for (size_t i = 0; i < PATTERN && i < count; i++)
		pattern[i] = (2 * rng_unit(rng_next(&rng)) - 1) * scale;
	for (size_t at = 0, part; at < count; at += part) {
		part = count - at < PATTERN ? count - at : PATTERN;
		bench_check(dev_copy(bench->device, (float *)memory + at, pattern, part * sizeof(*pattern)), "copy");
	}
}

struct linear *bench_linear(struct bench *bench, enum elem elem, uint32_t n, uint32_t k, uint32_t segments)
{
	static uint16_t halves[1 << 17];
	static uint8_t codes[1 << 17];
	static float scales[1 << 10];
	const struct linear_shape shape = {n, k, elem, segments, LINEAR_GROUP};
	struct rng rng = {.seed = n};
	struct linear *linear;
	bench_check(linear_create(bench->device, &shape, &linear), "weights");
	for (uint32_t i = 0; i < k + 64; i++) {
		float number = 2 * rng_unit(rng_next(&rng)) - 1;
		halves[i] = bf16_round(number * 0.02f);
		codes[i] = e4m3_round(number * E4M3_GREATEST);
		scales[i / LINEAR_GROUP] = 0.02f / E4M3_GREATEST;
	}
	/* Rows are the same numbers, shifted. */
	for (uint32_t first = 0, count; first < n; first += count) {
		count = n - first < 64 ? n - first : 64;
		linear_fill(linear, first, count, elem == ELEM_BF16 ? (const void *)halves : codes, 1);
	}
	if (elem == ELEM_E4M3)
		linear_fill_scales(linear, 0, n, scales);
	return linear;
}

double bench_weight_bytes(enum elem elem, double count)
{
	return elem == ELEM_E4M3 ? count * (1 + 4.0 / LINEAR_GROUP / LINEAR_GROUP) : 2 * count;
}

void bench_fill_e4m3(struct bench *bench, void *memory, uint32_t rows, uint32_t k)
{
	static uint8_t row[1 << 17];
	size_t bytes = elem_row_bytes(ELEM_E4M3, k);
	struct rng rng = {.seed = k};
	for (uint32_t i = 0; i < k; i++)
		row[i] = e4m3_round((2 * rng_unit(rng_next(&rng)) - 1) * E4M3_GREATEST);
	for (uint32_t i = 0; i < k / LINEAR_GROUP; i++)
		memcpy(row + k + i * sizeof(float), &(float){1 / E4M3_GREATEST}, sizeof(float));
	for (uint32_t i = 0; i < rows; i++)
		bench_check(dev_copy(bench->device, (uint8_t *)memory + i * bytes, row, bytes), "copy");
}

/* --- figures ----------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double time_calls(struct bench *bench, uint32_t count, void (*run)(void *context, uint32_t index), void *context)
{
	bench_check(device_sync(bench->device), "device");
	double begin = now_s();
	for (uint32_t i = 0; i < count; i++)
		run(context, i);
	bench_check(device_sync(bench->device), "device");
	return (now_s() - begin) / count;
}

static void print_figure(const struct bench *bench, const char *name, double seconds, struct work work)
{
	static bool more;
	printf("%s\n    {\"name\": \"%s\", \"us\": %.2f", more ? "," : "", name, seconds * 1e6);
	if (work.flops > 0)
		printf(", \"tflops\": %.1f", work.flops / seconds * 1e-12);
	if (work.bytes > 0)
		printf(", \"gbytes\": %.0f, \"of_copy\": %.3f", work.bytes / seconds * 1e-9, work.bytes / seconds / bench->copy_rate);
	printf("}");
	fflush(stdout);
	fprintf(stderr, "%-44s %10.2f us %8.1f TFLOP/s %8.0f GB/s\n", name, seconds * 1e6, work.flops / seconds * 1e-12,
		work.bytes / seconds * 1e-9);
	more = true;
}

void bench_measure(struct bench *bench, const char *name, struct work work, void (*run)(void *context, uint32_t index),
		   void *context)
{
	double times[ROUNDS];
	time_calls(bench, 2, run, context);
	double once = time_calls(bench, 3, run, context);
	uint32_t count = once > PASS_SECONDS ? 1 : (uint32_t)(PASS_SECONDS / once) + 1;
	for (int i = 0; i < ROUNDS; i++)
		times[i] = time_calls(bench, count, run, context);
	qsort(times, ROUNDS, sizeof(*times), by_value);
	print_figure(bench, name, times[ROUNDS / 2], work);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "neighbour") == 0)
		return bench_neighbour();
	struct bench bench = {0};
	struct why why;
	bool fast = argc > 1 && strcmp(argv[1], "fast") == 0;
	const struct device_options options = {.kind = DEVICE_CUDA, .fast = fast};
	if (device_open(&options, &why, &bench.device) != ERR_OK) {
		fprintf(stderr, "bench_gpu: %s\n", why.text);
		return 1;
	}
	const struct device_props *props = device_props(bench.device);
	bench.copy_rate = device_read_rate(bench.device);
	printf("{\n  \"device\": \"%s\", \"numerics\": \"%s\", \"multiprocessors\": %u,\n  \"copy_gbytes\": %.0f,\n  \"figures\": [",
	       props->name, props->numerics, props->thread_count, bench.copy_rate * 1e-9);
	if (!fast) {
		bench_rows(&bench);
		bench_fetch(&bench);
		bench_sample(&bench);
	}
	bench_products(&bench);
	bench_attention(&bench);
	if (!fast)
		bench_handover(&bench);
	bench_models(&bench);
	printf("\n  ]\n}\n");
	device_close(bench.device);
	return 0;
}
