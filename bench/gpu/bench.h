/* bench - what the benchmarks of a GPU share: timing, weights and activations of random numbers, one line of JSON a figure.
 *
 * A figure is the median of some times of enough calls in a row to fill a pass (shapes.h), by the wall's clock from an idle device to
 * an idle device: so it holds the launches too, as far as the device does not hide them.  It is written as soon as it is known: what
 * was measured before a section's time is up, or its process ends, stays.
 *
 *     {"device": …, "class": "exact", "numerics": …, "multiprocessors": …, "copy_gbytes": …}     first
 *     {"name": …, "class": "exact", "us": …, "tflops": …, "gbytes": …, "of_copy": …}             a figure of ours
 *     {"name": …, "by": "cublasLt", "us": …}                                                    of somebody else
 *     {"skipped": …}                                                                            no time was left for it, and what follows */
#ifndef BENCH_GPU_BENCH_H
#define BENCH_GPU_BENCH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/device.h"
#include "kernels/ops.h"

struct bench {
	struct device *device;
	double copy_rate; /* bytes a second read and written by copies: the ceiling of what memory bounds */
	double ends;	  /* of bench_now(): nothing is begun after it */
	const char *numerics_class; /* "exact", "fast" */
};

/* What a call moves and multiplies, to be set against its time; 0: not said. */
struct work {
	double bytes, flops;
};

double bench_now(void);
/* True: no time is left, and `what` is written down as skipped. */
bool bench_over(struct bench *bench, const char *what);
/* Calls run(context, i) for i = 0, 1, …; prints the figure under its name, unless time is up. */
void bench_measure(struct bench *bench, const char *name, struct work work, void (*run)(void *context, uint32_t index),
		   void *context);
/* Seconds of a call: the median of `rounds` times of calls that fill pass_s together. */
double bench_time(struct bench *bench, int rounds, double pass_s, void (*run)(void *context, uint32_t index), void *context);
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
/* [rows][k] of random numbers, of bf16 or rows of e4m3. */
void *bench_inputs(struct bench *bench, enum elem elem, uint32_t rows, uint32_t k);
void bench_check(enum err e, const char *what);

void bench_products(struct bench *bench);
void bench_experts(struct bench *bench);
void bench_attention(struct bench *bench);
void bench_rows(struct bench *bench);
void bench_fetch(struct bench *bench);
void bench_sample(struct bench *bench);
void bench_models(struct bench *bench);
void bench_handover(struct bench *bench);
void bench_sweep(struct bench *bench);
void bench_pin(struct bench *bench);
/* The other process of bench_handover(): its exit status. */
int bench_neighbour(void);
#endif
