/* bench - what the benchmarks of a GPU share: timing, weights and activations of random numbers, one line of JSON a figure.
 *
 * A figure is the median of ROUNDS times of enough calls in a row to fill PASS_SECONDS, by the wall's clock from an idle device to
 * an idle device: so it holds the launches too, as far as the device does not hide them. */
#ifndef BENCH_GPU_BENCH_H
#define BENCH_GPU_BENCH_H
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/device.h"
#include "kernels/ops.h"

struct bench {
	struct device *device;
	double copy_rate; /* bytes a second read and written by copies: the ceiling of what memory bounds */
};

/* What a call moves and multiplies, to be set against its time; 0: not said. */
struct work {
	double bytes, flops;
};

/* Calls run(context, i) for i = 0, 1, …; prints the figure under its name. */
void bench_measure(struct bench *bench, const char *name, struct work work, void (*run)(void *context, uint32_t index),
		   void *context);
/* Ends the program where there is no memory. */
void *bench_alloc(struct bench *bench, size_t bytes);
void bench_free(struct bench *bench, void *memory, size_t bytes);
/* bf16 of random numbers in (-1, 1) times `scale`, repeating every 1 Mi. */
void bench_fill_bf16(struct bench *bench, void *memory, size_t count, float scale);
void bench_fill_f32(struct bench *bench, void *memory, size_t count, float scale);
/* Of bf16 or e4m3. */
struct linear *bench_linear(struct bench *bench, enum elem elem, uint32_t n, uint32_t k, uint32_t segments);
/* Bytes that weights of so many take with their scales. */
double bench_weight_bytes(enum elem elem, double count);
/* Rows of e4m3 (kernels/ops.h) of random numbers, k a multiple of 128. */
void bench_fill_e4m3(struct bench *bench, void *memory, uint32_t rows, uint32_t k);
void bench_check(enum err e, const char *what);

void bench_products(struct bench *bench);
void bench_attention(struct bench *bench);
void bench_rows(struct bench *bench);
void bench_fetch(struct bench *bench);
void bench_sample(struct bench *bench);
void bench_models(struct bench *bench);
void bench_handover(struct bench *bench);
/* The other process of bench_handover(): its exit status. */
int bench_neighbour(void);
#endif
