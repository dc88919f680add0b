/* bench_gpu - kernels and whole steps on a GPU; bench/gpu/run builds and starts it, section by section (measure.py).
 *
 *     bench_gpu exact|fast SECONDS SECTION... >FIGURES.jsonl        progress on standard error
 *
 * Nothing is begun after SECONDS; what was not is said.  Sections: below.  In the class "fast" what it may change is worth measuring:
 * products, attention, models. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bf16.h"
#include "base/e4m3.h"
#include "bench/gpu/bench.h"
#include "bench/gpu/shapes.h"

/* Of the runtime that the backend is linked with: waits for streams of others too. */
int cudaDeviceSynchronize(void);

enum { PATTERN = 1 << 20 };

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
	static uint8_t some[PATTERN];
	size_t bytes = elem_row_bytes(ELEM_E4M3, k);
	uint32_t together = (uint32_t)(sizeof(some) / bytes);
	struct rng rng = {.seed = k};
	for (uint32_t r = 0; r < together; r++) {
		uint8_t *row = some + r * bytes;
		for (uint32_t i = 0; i < k; i++)
			row[i] = e4m3_round((2 * rng_unit(rng_next(&rng)) - 1) * E4M3_GREATEST);
		for (uint32_t i = 0; i < k / LINEAR_GROUP; i++)
			memcpy(row + k + i * sizeof(float), &(float){1 / E4M3_GREATEST}, sizeof(float));
	}
	for (uint32_t row = 0, count; row < rows; row += count) {
		count = rows - row < together ? rows - row : together;
		bench_check(dev_copy(bench->device, (uint8_t *)memory + row * bytes, some, count * bytes), "copy");
	}
}

void *bench_inputs(struct bench *bench, enum elem elem, uint32_t rows, uint32_t k)
{
	void *x = bench_alloc(bench, rows * elem_row_bytes(elem, k));
	if (elem == ELEM_E4M3)
		bench_fill_e4m3(bench, x, rows, k);
	else
		bench_fill_bf16(bench, x, (size_t)rows * k, 1);
	return x;
}

/* --- figures ----------------------------------------------------------------------------------------------- */

double bench_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool bench_over(struct bench *bench, const char *what)
{
	bool over = bench_now() > bench->ends;
	if (over)
		printf("{\"skipped\": \"%s\", \"class\": \"%s\"}\n", what, bench->numerics_class);
	fflush(stdout);
	return over;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void wait_idle(struct bench *bench)
{
	bench_check(device_sync(bench->device), "device");
	bench_check(cudaDeviceSynchronize() == 0 ? ERR_OK : ERR_DEVICE, "device");
}

static double time_calls(struct bench *bench, uint32_t count, void (*run)(void *context, uint32_t index), void *context)
{
	wait_idle(bench);
	double begin = bench_now();
	for (uint32_t i = 0; i < count; i++)
		run(context, i);
	wait_idle(bench);
	return (bench_now() - begin) / count;
}

double bench_time(struct bench *bench, int rounds, double pass_s, void (*run)(void *context, uint32_t index), void *context)
{
	double times[SHAPES_ROUNDS];
	time_calls(bench, 1, run, context);
	double once = time_calls(bench, 2, run, context);
	uint32_t count = once > pass_s ? 1 : (uint32_t)(pass_s / once) + 1;
	rounds = rounds < SHAPES_ROUNDS ? rounds : SHAPES_ROUNDS;
	for (int i = 0; i < rounds; i++)
		times[i] = time_calls(bench, count, run, context);
	qsort(times, (size_t)rounds, sizeof(*times), by_value);
	return times[rounds / 2];
}

static void print_figure(const struct bench *bench, const char *name, double seconds, struct work work)
{
	printf("{\"name\": \"%s\", \"class\": \"%s\", \"us\": %.2f", name, bench->numerics_class, seconds * 1e6);
	if (work.flops > 0)
		printf(", \"tflops\": %.1f", work.flops / seconds * 1e-12);
	if (work.bytes > 0)
		printf(", \"gbytes\": %.0f, \"of_copy\": %.3f", work.bytes / seconds * 1e-9, work.bytes / seconds / bench->copy_rate);
	printf("}\n");
	fflush(stdout);
	fprintf(stderr, "%-44s %10.2f us %8.1f TFLOP/s %8.0f GB/s\n", name, seconds * 1e6, work.flops / seconds * 1e-12,
		work.bytes / seconds * 1e-9);
}

void bench_measure(struct bench *bench, const char *name, struct work work, void (*run)(void *context, uint32_t index),
		   void *context)
{
	if (!bench_over(bench, name))
		print_figure(bench, name, bench_time(bench, SHAPES_ROUNDS, SHAPES_PASS_SECONDS, run, context), work);
}

/* --- the program --------------------------------------------------------------------------------------------- */

static const struct section {
	const char *name;
	void (*run)(struct bench *bench);
} sections[] = {
	{"products", bench_products}, {"experts", bench_experts},   {"attention", bench_attention}, {"models", bench_models},
	{"rows", bench_rows},	      {"sample", bench_sample},	    {"handover", bench_handover},   {"sweep", bench_sweep},
	{"fetch", bench_fetch},	      {"pin", bench_pin},
};

static const struct section *find_section(const char *name)
{
	for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++)
		if (strcmp(sections[i].name, name) == 0)
			return &sections[i];
	fprintf(stderr, "bench_gpu: no section \"%s\"\n", name);
	return NULL;
}

static int usage(void)
{
	fprintf(stderr, "usage: bench_gpu exact|fast SECONDS SECTION...; sections:");
	for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++)
		fprintf(stderr, " %s", sections[i].name);
	fprintf(stderr, "\n");
	return 2;
}

static int run(struct bench *bench, char **names, int count)
{
	const struct device_props *props = device_props(bench->device);
	bench->copy_rate = device_read_rate(bench->device);
	printf("{\"device\": \"%s\", \"class\": \"%s\", \"numerics\": \"%s\", \"multiprocessors\": %u, \"copy_gbytes\": %.0f}\n",
	       props->name, bench->numerics_class, props->numerics, props->thread_count, bench->copy_rate * 1e-9);
	fflush(stdout);
	for (int i = 0; i < count; i++) {
		const struct section *section = find_section(names[i]);
		if (!section)
			return 2;
		section->run(bench);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "neighbour") == 0)
		return bench_neighbour();
	if (argc < 4 || (strcmp(argv[1], "exact") != 0 && strcmp(argv[1], "fast") != 0))
		return usage();
	struct bench bench = {.ends = bench_now() + atof(argv[2]), .numerics_class = argv[1]};
	struct why why;
	const struct device_options options = {.kind = DEVICE_CUDA, .fast = strcmp(argv[1], "fast") == 0};
	if (device_open(&options, &why, &bench.device) != ERR_OK) {
		fprintf(stderr, "bench_gpu: %s\n", why.text);
		return 1;
	}
	int status = run(&bench, argv + 3, argc - 3);
	device_close(bench.device);
	return status;
}
