/* cublas_lt - cuBLASLt's best for a product: of all algorithms that it names for a shape, each timed, the fastest.
 *
 * The library is looked for when the program runs; without it there is no figure, and who judges says so.  What of its interface is used is
 * declared here, so that no header of it is needed where this is built; tests/gpu/test_cublas_lt.c holds it against the header. */
#ifndef BENCH_GPU_CUBLAS_LT_H
#define BENCH_GPU_CUBLAS_LT_H
#include <stddef.h>
#include <stdint.h>

#include "bench/gpu/bench.h"

/* Numbers of cuBLAS 13, of the attributes and types used here. */
enum {
	LT_TYPE_F32 = 0,
	LT_TYPE_BF16 = 14,
	LT_TYPE_E4M3 = 28,
	LT_COMPUTE_F32 = 68,
	LT_TRANSPOSED = 1,
	LT_DESC_TRANS_A = 3,
	LT_DESC_SCALE_A = 17, /* device pointers */
	LT_DESC_SCALE_B = 18,
	LT_DESC_FAST_SUM = 25,
	LT_DESC_SCALE_MODE_A = 31,
	LT_DESC_SCALE_MODE_B = 32,
	LT_SCALE_OF_ROW_128 = 4,   /* of 128 inputs of a row */
	LT_SCALE_OF_BLOCK_128 = 5, /* of 128 x 128 weights */
	LT_PREF_WORKSPACE_BYTES = 1,
};

struct lt_algo {
	uint64_t data[8];
};
struct lt_candidate {
	struct lt_algo algo;
	size_t workspace_bytes;
	int state; /* 0: usable */
	float waves;
	int reserved[4];
};

enum lt_scales { LT_SCALES_NONE, LT_SCALES_ONE, LT_SCALES_128 }; /* of bf16; one a tensor; as DeepSeek's */

/* y[rows][n] of bf16 = x[rows][k] w[n][k]^T; weights take turns. */
struct lt_product {
	uint32_t n, k, rows;
	enum elem elem;
	enum lt_scales scales;
	const void *const *weights; /* [copies] on the device: n * k numbers each */
	uint32_t copies;
	const void *x;
	void *y;
};

struct lt;
/* NULL: there is no library, or it refuses; said on standard error and in a line {"missing": "cublasLt", "why": …}. */
struct lt *lt_open(struct bench *bench);
void lt_close(struct lt *lt); /* NULL is fine */
/* Prints the figure {"name": …, "by": …, "us": …, "candidates": …}, or with a "why" in place of "us" where the library has nothing. */
void lt_measure(struct lt *lt, const char *name, const char *by, const struct lt_product *product);
#endif
