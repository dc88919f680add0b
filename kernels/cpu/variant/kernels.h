/* kernels - what the files of this folder give to table.c, under their variant's names. */
#ifndef KERNELS_CPU_VARIANT_KERNELS_H
#define KERNELS_CPU_VARIANT_KERNELS_H
#include "kernels/cpu/variant/names.h"
#include "kernels/cpu/variants.h"

void kernel_linear(const struct linear_block *block, void *scratch);
/* The sum of one segment of weights of e4m3, acc: [row][LINEAR_TASK_PANELS * 16]; `beside` is KERNEL_E4M3_FLOATS. */
void kernel_linear_e4m3(const struct linear_block *block, uint32_t segment, float *acc, float *beside);
#define KERNEL_E4M3_FLOATS                                                                                             \
	(LINEAR_TASK_ROWS * LINEAR_GROUP + LINEAR_TASK_ROWS * LINEAR_TASK_PANELS * PANEL_COLUMNS +                    \
	 LINEAR_TASK_PANELS * (LINEAR_GROUP + 1) * PANEL_COLUMNS)
void kernel_attention(const struct attention_item *item, void *scratch);
void kernel_rmsnorm(const struct norm_call *call, uint32_t row_first, uint32_t row_count);
void kernel_head_norm(float *head, uint32_t dim, const float *weight, float eps);
void kernel_rope(const struct rope_call *call, uint32_t row);
void kernel_swiglu(const struct glu *glu, const float *gate, const float *up, uint32_t n, float *out);
void kernel_geglu(const struct glu *glu, const float *gate, const float *up, uint32_t n, float *out);
void kernel_clamped_glu(const struct glu *glu, const float *gate, const float *up, uint32_t n, float *out);
void kernel_soft_cap(float *x, uint32_t n, float cap);
void kernel_exp(const float *x, float shift, uint32_t n, float *out);
void kernel_combine(const uint16_t *answer, const float *weight, uint32_t top_k, uint32_t dim, float *out);
void kernel_greatest(const float *x, uint32_t n, float *ret_max, uint32_t *ret_argmax);
double kernel_exp_sum(const float *x, float shift, uint32_t n);
uint64_t kernel_masses(const float *x, float shift, uint32_t n);
#endif
