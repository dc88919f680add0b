/* bench_kernels - the kernels against this machine's own limits, measured in the same run.
 *
 * Every figure is the median of rounds that alternate between the kernel and its limit, with the least
 * and the greatest beside it: on a shared machine only the ratio of neighbours in time means something.
 * One thread is measured in its own CPU time, so that being put aside for others does not count. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "kernels/device.h"
#include "kernels/ops.h"

#define ROUNDS 9

static double seconds_of(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* For figures of a device: CPU time where one thread does all, else the wall's. */
static double device_now(const struct device *device)
{
	return seconds_of(device_props(device)->thread_count == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC);
}

struct sample {
	double values[ROUNDS];
	int count;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(const struct sample *sample)
{
	struct sample sorted = *sample;
	qsort(sorted.values, (size_t)sorted.count, sizeof(double), by_value);
	return sorted.values[sorted.count / 2];
}

static void print_sample(const char *name, const char *unit, const struct sample *sample)
{
	struct sample sorted = *sample;
	qsort(sorted.values, (size_t)sorted.count, sizeof(double), by_value);
	printf("%-46s %8.2f / %8.2f / %8.2f %s\n", name, sorted.values[0], sorted.values[sorted.count / 2],
	       sorted.values[sorted.count - 1], unit);
}

static void add(struct sample *sample, double value)
{
	sample->values[sample->count++] = value;
}

/* --- limits ---------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx2,fma"))) static double fma_rate(uint64_t rounds)
{
	__m256 acc[12], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
	for (int i = 0; i < 12; i++)
		acc[i] = _mm256_set1_ps((float)i);
	double begin = seconds_of(CLOCK_THREAD_CPUTIME_ID);
	for (uint64_t r = 0; r < rounds; r++) {
#define FMA(i) acc[i] = _mm256_fmadd_ps(acc[i], a, b);
		FMA(0) FMA(1) FMA(2) FMA(3) FMA(4) FMA(5) FMA(6) FMA(7) FMA(8) FMA(9) FMA(10) FMA(11)
	}
	double seconds = seconds_of(CLOCK_THREAD_CPUTIME_ID) - begin;
	float sum[8];
	for (int i = 1; i < 12; i++)
		acc[0] = _mm256_add_ps(acc[0], acc[i]);
	_mm256_storeu_ps(sum, acc[0]);
	return sum[0] == 12345.0f ? 0 : (double)rounds * 12 * 16 / seconds;
}

__attribute__((target("avx512f"))) static double fma_rate_512(uint64_t rounds)
{
	__m512 acc[12], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
	for (int i = 0; i < 12; i++)
		acc[i] = _mm512_set1_ps((float)i);
	double begin = seconds_of(CLOCK_THREAD_CPUTIME_ID);
	for (uint64_t r = 0; r < rounds; r++) {
#define FMA_512(i) acc[i] = _mm512_fmadd_ps(acc[i], a, b);
		FMA_512(0) FMA_512(1) FMA_512(2) FMA_512(3) FMA_512(4) FMA_512(5)
		FMA_512(6) FMA_512(7) FMA_512(8) FMA_512(9) FMA_512(10) FMA_512(11)
	}
	double seconds = seconds_of(CLOCK_THREAD_CPUTIME_ID) - begin;
	float sum[16];
	for (int i = 1; i < 12; i++)
		acc[0] = _mm512_add_ps(acc[0], acc[i]);
	_mm512_storeu_ps(sum, acc[0]);
	return sum[0] == 12345.0f ? 0 : (double)rounds * 12 * 32 / seconds;
}
#endif

/* FLOP/s of one CPU with the widest fused multiply-add the variant uses; 0: not known for it. */
static double peak_rate(const struct device *device)
{
	const char *variant = device_props(device)->variant;
#if defined(__x86_64__)
	if (strncmp(variant, "avx512", 6) == 0)
		return fma_rate_512(1000000);
	if (strcmp(variant, "avx2") == 0)
		return fma_rate(1000000);
#endif
	(void)variant;
	return 0;
}

#define READ_BYTES (UINT64_C(256) << 20)

/* Bytes a second out of memory: of one thread, read four lines ahead in four streams as the kernels do; of
 * more, what the device says. */
static double read_rate(struct device *device)
{
	if (device_props(device)->thread_count > 1)
		return device_read_rate(device);
	static void *memory;
	if (!memory) {
		if (dev_alloc(device, MEM_HOST, READ_BYTES, &memory) != ERR_OK)
			return 0;
		memset(memory, 1, READ_BYTES);
	}
	const size_t quarter = READ_BYTES / 32;
	const uint64_t *words = memory;
	uint64_t sums[4] = {0};
	double begin = device_now(device);
	for (size_t i = 0; i < quarter; i += 8)
		for (size_t stream = 0; stream < 4; stream++) {
			const uint64_t *line = words + stream * quarter + i;
			__builtin_prefetch(line + 24 * 8);
			for (size_t j = 0; j < 8; j++)
				sums[stream] += line[j];
		}
	double seconds = device_now(device) - begin;
	return sums[0] + sums[1] + sums[2] + sums[3] == 0 ? 0 : (double)READ_BYTES / seconds;
}

/* --- linear ---------------------------------------------------------------------------------------- */

struct bench {
	struct device *device;
	struct linear *linear;
	float *x, *y;
	uint32_t n, k;
};

static void die(const char *what)
{
	fprintf(stderr, "bench_kernels: %s\n", what);
	exit(1);
}

static struct bench bench_make(struct device *device, uint32_t n, uint32_t k, enum elem elem, uint32_t segments,
			       uint32_t rows)
{
	struct bench b = {.device = device, .n = n, .k = k};
	struct rng rng = {.seed = 1};
	if (linear_create(device, &(struct linear_shape){n, k, elem, segments}, &b.linear) != ERR_OK)
		die("out of memory");
	b.x = malloc((size_t)rows * k * 4);
	b.y = malloc((size_t)rows * n * 4);
	uint32_t *row = malloc((size_t)k * 4);
	if (!b.x || !b.y || !row)
		die("out of memory");
	for (uint32_t i = 0; i < n; i++) {
		/* Sane numbers as either type: exponents near 1, random mantissas. */
		for (uint32_t j = 0; j < k; j++)
			row[j] = 0x3f003f00u | (uint32_t)(rng_next(&rng) & 0x807f807fu);
		linear_fill(b.linear, i, 1, row, k);
	}
	for (size_t i = 0; i < (size_t)rows * k; i++)
		b.x[i] = rng_unit(rng_next(&rng)) - 0.5f;
	free(row);
	return b;
}

static void bench_free(struct bench *b)
{
	linear_destroy(b->linear);
	free(b->x);
	free(b->y);
}

/* Seconds of one call, the median of five. */
static double linear_seconds(struct bench *b, uint32_t rows)
{
	struct sample sample = {.count = 0};
	for (int i = 0; i < 5; i++) {
		double begin = device_now(b->device);
		op_linear(b->device, &(struct linear_call){b->linear, b->x, b->k, b->y, b->n, rows}, 1);
		add(&sample, device_now(b->device) - begin);
	}
	return median(&sample);
}

static void bench_decode(struct device *device, uint32_t n, uint32_t k, enum elem elem, uint32_t segments)
{
	struct bench b = bench_make(device, n, k, elem, segments, 8);
	struct sample rate = {.count = 0}, limit = rate, ratio = rate, eight = rate;
	for (int round = 0; round < ROUNDS; round++) {
		double one = linear_seconds(&b, 1), many = linear_seconds(&b, 8), read = read_rate(device);
		double bytes = (double)n * k * (double)elem_bytes(elem);
		add(&rate, bytes / one * 1e-9);
		add(&limit, read * 1e-9);
		add(&ratio, bytes / one / read);
		add(&eight, many / one);
	}
	printf("linear %s %u x %u, %u segment%s, %u thread%s\n", elem == ELEM_F32 ? "f32" : "bf16", n, k, segments,
	       segments > 1 ? "s" : "", device_props(device)->thread_count,
	       device_props(device)->thread_count > 1 ? "s" : "");
	print_sample("  one row", "GB/s of weights", &rate);
	print_sample("  memory read limit", "GB/s", &limit);
	print_sample("  ratio to it", "", &ratio);
	print_sample("  eight rows / one row", "x the time", &eight);
	bench_free(&b);
}

static void bench_gemm(struct device *device, uint32_t rows, uint32_t n, uint32_t k, enum elem elem, uint32_t segments)
{
	struct bench b = bench_make(device, n, k, elem, segments, rows);
	struct sample rate = {.count = 0}, limit = rate, ratio = rate;
	for (int round = 0; round < ROUNDS; round++) {
		double peak = peak_rate(device) * device_props(device)->thread_count;
		double flops = 2.0 * rows * n * k / linear_seconds(&b, rows);
		add(&rate, flops * 1e-9);
		add(&limit, peak * 1e-9);
		add(&ratio, peak > 0 ? flops / peak : 0);
	}
	printf("linear %s %u rows x %u x %u, %u segment%s, %u thread%s\n", elem == ELEM_F32 ? "f32" : "bf16", rows, n,
	       k, segments, segments > 1 ? "s" : "", device_props(device)->thread_count,
	       device_props(device)->thread_count > 1 ? "s" : "");
	print_sample("  rate", "GFLOP/s", &rate);
	print_sample("  peak of one CPU x threads", "GFLOP/s", &limit);
	print_sample("  ratio to it", "", &ratio);
	bench_free(&b);
}

/* --- attention ------------------------------------------------------------------------------------- */

struct attention_shape {
	const char *name;
	uint32_t heads;
	struct kv_layout layout;
};

/* Llama 3.1 8B; DeepSeek-V2-Lite and V3, a layer of which reads 1152 bytes a token for all heads. */
static const struct attention_shape grouped = {"32/8 heads of 128", 32, {1, 8, 128, 16, ELEM_BF16, KV_HEADS, 0}};
static const struct attention_shape latent_lite = {"16 heads over latents", 16, {1, 1, 576, 16, ELEM_BF16, KV_LATENT, 512}};
static const struct attention_shape latent = {"128 heads over latents", 128, {1, 1, 576, 16, ELEM_BF16, KV_LATENT, 512}};

struct attention_bench {
	struct kv_memory kv;
	size_t kv_bytes;
	float *q, *out;
	uint32_t *blocks;
	struct kv_run *list;
	struct kv_runs *runs;
	struct attention_call call;
};

static void attention_make(struct device *device, const struct attention_shape *shape, uint32_t rows, uint32_t context,
			   uint32_t sequences, struct attention_bench *b)
{
	const struct kv_layout *layout = &shape->layout;
	uint32_t blocks_each = (context + rows) / layout->block_tokens + 1, value = kv_value_dim(layout);
	size_t q_row = (size_t)shape->heads * layout->head_dim, rest_row = (size_t)shape->heads * (layout->head_dim - value);
	*b = (struct attention_bench){.kv = {.layout = *layout, .block_stride = kv_block_bytes(layout),
						   .layer_stride = kv_layer_bytes(layout)}};
	b->kv_bytes = b->kv.block_stride * blocks_each * sequences;
	b->q = calloc(rows * sequences * q_row, 4);
	b->out = calloc(rows * sequences * q_row, 4);
	b->blocks = calloc((size_t)blocks_each * sequences, sizeof(*b->blocks));
	b->list = calloc(sequences, sizeof(*b->list));
	if (!b->q || !b->out || !b->blocks || !b->list || dev_alloc(device, MEM_DEVICE, b->kv_bytes, &b->kv.base) != ERR_OK)
		die("out of memory");
	struct rng rng = {.seed = 2};
	for (size_t i = 0; i < b->kv_bytes / 4; i++)
		((uint32_t *)b->kv.base)[i] = 0x3f003f00u | (uint32_t)(rng_next(&rng) & 0x807f807fu);
	for (size_t i = 0; i < rows * sequences * q_row; i++)
		b->q[i] = rng_unit(rng_next(&rng)) - 0.5f;
	for (uint32_t s = 0; s < sequences; s++) {
		b->list[s] = (struct kv_run){b->blocks + (size_t)s * blocks_each, context, s * rows, rows};
		for (uint32_t i = 0; i < blocks_each; i++)
			b->blocks[(size_t)s * blocks_each + i] = i * sequences + s;
	}
	const struct kv_runs_bounds bounds = {sequences, rows * sequences, blocks_each, layout->block_tokens};
	if (kv_runs_create(device, &bounds, &b->runs) != ERR_OK)
		die("out of memory");
	kv_runs_set(b->runs, b->list, sequences);
	b->call = (struct attention_call){&b->kv, 0, b->runs, shape->heads, b->q, q_row - rest_row, b->out,
					  q_row - rest_row, .scale = 0.0883883f, .q_rest_stride = rest_row};
	if (layout->kind == KV_LATENT)
		b->call.q_rest = b->q + rows * sequences * (q_row - rest_row);
}

static void attention_free(struct device *device, struct attention_bench *b)
{
	dev_free(device, MEM_DEVICE, b->kv.base, b->kv_bytes);
	free(b->q);
	free(b->out);
	free(b->blocks);
	kv_runs_destroy(b->runs);
	free(b->list);
}

/* The limit is the greater of two times: to read the KV once, and to multiply. */
static void bench_attention(struct device *device, const struct attention_shape *shape, uint32_t rows, uint32_t context,
			    uint32_t sequences)
{
	struct attention_bench b;
	attention_make(device, shape, rows, context, sequences, &b);
	uint32_t threads = device_props(device)->thread_count;
	double bytes = (double)kv_layer_bytes(&shape->layout) * (context + rows) / shape->layout.block_tokens * sequences;
	double dims = shape->layout.head_dim + kv_value_dim(&shape->layout);
	double flop = 2.0 * shape->heads * dims * rows * (context + rows / 2.0) * sequences;
	struct sample rate = {.count = 0}, flops = rate, read_ratio = rate, flop_ratio = rate;
	for (int round = 0; round < ROUNDS; round++) {
		double begin = device_now(device);
		op_attention(device, &b.call);
		double seconds = device_now(device) - begin, read = read_rate(device), peak = peak_rate(device) * threads;
		add(&rate, bytes / seconds * 1e-9);
		add(&read_ratio, bytes / seconds / read);
		add(&flops, flop / seconds * 1e-9);
		add(&flop_ratio, peak > 0 ? flop / seconds / peak : 0);
	}
	printf("attention %s, bf16 KV, %u sequence%s x %u row%s at %u, %u thread%s\n", shape->name, sequences,
	       sequences > 1 ? "s" : "", rows, rows > 1 ? "s" : "", context, threads, threads > 1 ? "s" : "");
	print_sample("  rate", "GB/s of KV", &rate);
	print_sample("  ratio to the memory read limit", "", &read_ratio);
	print_sample("  rate", "GFLOP/s", &flops);
	print_sample("  ratio to the peak", "", &flop_ratio);
	attention_free(device, &b);
}

static void bench_all(struct device *device)
{
	const struct device_props *props = device_props(device);
	printf("# %s, variant %s (%s), %u threads; least / median / greatest of %d rounds\n", props->name, props->variant,
	       props->numerics, props->thread_count, ROUNDS);
	bench_decode(device, 4096, 4096, ELEM_BF16, 1);
	bench_decode(device, 4096, 4096, ELEM_BF16, 8);
	bench_decode(device, 4096, 4096, ELEM_F32, 1);
	bench_gemm(device, 64, 2048, 2048, ELEM_F32, 1);
	bench_gemm(device, 256, 2048, 2048, ELEM_F32, 1);
	bench_gemm(device, 256, 2048, 2048, ELEM_BF16, 1);
	bench_gemm(device, 256, 2048, 2048, ELEM_BF16, 8);
	bench_attention(device, &grouped, 1, 2048, 8);
	bench_attention(device, &grouped, 256, 0, 1);
	bench_attention(device, &grouped, 256, 2048, 1);
	bench_attention(device, &latent_lite, 1, 2048, 8);
	bench_attention(device, &latent_lite, 256, 2048, 1);
	bench_attention(device, &latent, 1, 2048, 8);
	bench_attention(device, &latent, 32, 2048, 1);
	fflush(stdout);
}

/* bench_kernels [variant [threads]] */
int main(int argc, char **argv)
{
	struct why why;
	struct device *device;
	struct device_options options = {.variant = argc > 1 ? argv[1] : NULL,
					 .thread_count = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1};
	if (device_open(&options, &why, &device) != ERR_OK) {
		fprintf(stderr, "bench_kernels: %s\n", why.text);
		return 1;
	}
	bench_all(device);
	device_close(device);
	return 0;
}
