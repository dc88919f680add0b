/* variants - the kernels of one instruction set, as a table; serial, over the part of a call they get.
 *
 * The operations (kernels/cpu/<family>.c) check, split the work by rows, columns or heads, never along a
 * sum, and call these from the workers. */
#ifndef KERNELS_CPU_VARIANTS_H
#define KERNELS_CPU_VARIANTS_H
#include <stddef.h>
#include <stdint.h>
#include "kernels/backend.h"

/* Scratch of one worker: the greatest user is attention over latents of 640. */
#define SCRATCH_BYTES (1u << 20)

/* Rows and columns of one task of op_linear: inputs of that many rows stay in the second cache. */
#define LINEAR_TASK_ROWS   96
#define LINEAR_TASK_PANELS 4
#define PANEL_COLUMNS	   16

/* Packed: [panel][step][16] of 4-byte elements. f32: a step is one k. bf16: a step is a pair of k, the
 * even one in the low half of the word, as the dot product instruction wants them. e4m3: [panel][k][16] bytes, so that
 * 4 words hold one k. */
struct cpu_linear {
	struct linear base;
	void *data;
	float *scales; /* of e4m3: [output / scale_outputs][group], else NULL */
	float *bias; /* [n], or NULL: 0 */
	size_t panel_stride; /* elements of 4 bytes; a cache line more than the panel, see linear.c */
	uint32_t panel_count;
};

static inline const struct cpu_linear *cpu_linear_of(const struct linear_call *call)
{
	return (const struct cpu_linear *)call->linear;
}

struct linear_block {
	const struct linear_call *call;
	uint32_t row_first, row_count;	   /* <= LINEAR_TASK_ROWS */
	uint32_t panel_first, panel_count; /* <= LINEAR_TASK_PANELS */
};

/* Query rows that attention handles at once: positions times heads of one group. */
#define ATTENTION_ROWS	     64
#define ATTENTION_ITEM_HEADS 4 /* heads of a group that are not shared out further: below, reading is most of it */

struct attention_item {
	const struct attention_call *call;
	const struct kv_run *run;
	uint32_t head_kv;
	uint32_t head_first, head_count; /* query heads, of the group of head_kv */
	uint32_t row_first, row_count;	 /* rows of the run; row_count * head_count <= ATTENTION_ROWS */
};

struct rope_call {
	float *x;
	size_t x_stride;
	uint32_t head_count, dim, half;
	const float *cos, *sin;
};

struct kernel_ops {
	const char *name;
	const char *numerics;
	void (*linear_block)(const struct linear_block *block, void *scratch);
	void (*attention)(const struct attention_item *item, void *scratch);
	void (*rmsnorm)(const struct norm_call *call, uint32_t row_first, uint32_t row_count);
	void (*head_norm)(float *head, uint32_t dim, const float *weight, float eps);
	void (*rope)(const struct rope_call *call, uint32_t row);
	/* [enum glu_kind]: out[i] = activation(gate[i]) * up[i] */
	void (*glu[3])(const struct glu *glu, const float *gate, const float *up, uint32_t n, float *out);
	/* x[i] = cap * tanh(x[i] / cap) */
	void (*soft_cap)(float *x, uint32_t n, float cap);
	void (*exp)(const float *x, float shift, uint32_t n, float *out);
	void (*combine)(const uint16_t *answer, const float *weight, uint32_t top_k, uint32_t dim, float *out);
	/* of n > 0 values: the greatest and its first index */
	void (*greatest)(const float *x, uint32_t n, float *ret_max, uint32_t *ret_argmax);
	/* of exp(x - shift) */
	double (*exp_sum)(const float *x, float shift, uint32_t n);
	/* the sum of the masses (kernels/sample_mass.h) of exp(x - shift) */
	uint64_t (*masses)(const float *x, float shift, uint32_t n);
};

extern const struct kernel_ops kernel_ops_portable;
#if defined(__x86_64__)
extern const struct kernel_ops kernel_ops_avx2, kernel_ops_avx512, kernel_ops_avx512bf16;
#endif
#endif
