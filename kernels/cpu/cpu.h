/* cpu - the CPU device from inside: what its operations share. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H
#include "kernels/cpu/threads.h"
#include "kernels/cpu/variants.h"

struct cpu_device {
	struct device base;
	const struct kernel_ops *ops;
	struct threads *threads;
	uint8_t *scratch; /* [worker][SCRATCH_BYTES] */
};

static inline const struct kernel_ops *cpu_ops(const struct device *device)
{
	return ((const struct cpu_device *)device)->ops;
}

static inline void *cpu_scratch(const struct device *device, uint32_t worker)
{
	return ((const struct cpu_device *)device)->scratch + (size_t)worker * SCRATCH_BYTES;
}

/* Runs the items on the workers, or here when `work` (elements touched or multiplications, roughly) is too
 * small to be worth a call to others. */
void cpu_parallel(struct device *device, uint32_t count, uint64_t work, threads_fn *fn, void *arg);

/* Behind kernels/backend.h, each as there. */
enum err cpu_linear_create(struct device *device, const struct linear_shape *shape, struct linear **ret_linear);
void cpu_linear_destroy(struct linear *linear);
void cpu_linear_fill(struct linear *linear, uint32_t first, uint32_t count, const void *source, size_t source_stride);
void cpu_linear_fill_scales(struct linear *linear, uint32_t first, uint32_t count, const float *source);
enum err cpu_linear_fill_bias(struct linear *linear, uint32_t first, uint32_t count, const float *source);
void cpu_linear(struct device *device, const struct linear_call *calls, size_t call_count);
void cpu_tree_sum(struct device *device, const struct tree_call *call);
void cpu_collect(struct device *device, const struct collect_call *call);
float cpu_tree_of(const float *const *parts, uint32_t count, size_t i); /* of the numbers at i */
void cpu_embed(struct device *device, const void *table, enum elem elem, uint32_t dim, const uint32_t *tokens,
	       uint32_t rows, float *out);
void cpu_embed_linear(struct device *device, const struct linear *table, const uint32_t *tokens, uint32_t rows,
		      float *out);
void cpu_rmsnorm(struct device *device, const struct norm_call *call);
void cpu_head_norm(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count,
		   uint32_t dim, const float *weight, float eps);
void cpu_add(struct device *device, float *x, const float *add, uint32_t rows, uint32_t dim);
void cpu_scale(struct device *device, float *x, float by, uint32_t rows, uint32_t dim);
void cpu_glu(struct device *device, const struct glu_call *call);
void cpu_gather(struct device *device, const float *x, size_t x_stride, const uint32_t *index, uint32_t count,
		uint32_t dim, float *out);
void cpu_rope_angles(struct device *device, const uint32_t *positions, uint32_t rows, const float *frequency,
		     uint32_t half, float factor, float *ret_cos, float *ret_sin);
void cpu_rope(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count, uint32_t dim,
	      uint32_t half, const float *cos, const float *sin);
enum err cpu_kv_runs_create(struct device *device, const struct kv_runs_bounds *bounds, struct kv_runs **ret_runs);
void cpu_kv_runs_destroy(struct kv_runs *runs);
void cpu_kv_runs_set(struct kv_runs *runs);
void cpu_kv_write(struct device *device, const struct kv_write_call *call);
void cpu_qkv(struct device *device, const struct qkv_call *call);
void cpu_kv_digest(struct device *device, const struct kv_digest_call *call);
void cpu_attention(struct device *device, const struct attention_call *call);
void cpu_moe_route(struct device *device, const struct moe_route_call *call);
void cpu_moe_group(struct device *device, const uint32_t *expert, uint32_t slot_count, uint32_t expert_count,
		   uint32_t *ret_first, uint32_t *ret_slot);
void cpu_moe_gather(struct device *device, const struct moe_gather_call *call);
void cpu_moe_linear(struct device *device, const struct moe_linear_call *call);
void cpu_moe_scatter(struct device *device, const struct moe_scatter_call *call);
void cpu_moe_combine(struct device *device, const uint16_t *answer, const float *weight, uint32_t rows,
		     uint32_t top_k, uint32_t dim, float *out);
void cpu_add_gated(struct device *device, float *x, const float *add, const float *gate, uint32_t rows, uint32_t dim);
void cpu_to_bf16(struct device *device, const float *x, size_t count, uint16_t *out);
void cpu_from_bf16(struct device *device, const uint16_t *x, size_t count, float *out);
void cpu_soft_cap(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap);
void cpu_exp(struct device *device, const float *x, float shift, uint32_t n, float *out);
enum err cpu_sample_create(struct device *device, uint32_t vocab_size, struct sample_scratch **ret_scratch);
void cpu_sample_destroy(struct sample_scratch *scratch);
void cpu_sample(struct sample_scratch *scratch, const struct sample_call *call);
#endif
