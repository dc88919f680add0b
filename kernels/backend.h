/* backend - what stands behind device.h and ops.h: a table of functions for each kind of device.
 *
 * Owns:   nothing; a backend embeds struct device, linear, kv_runs and sample_scratch as the first member of its own.
 * Loop:   as device.h and ops.h.
 * Rules:  1 device.c and ops.c check what is true of every device and call the table; a backend checks what is
 *           true of itself alone;
 *         2 only files of kernels/ include this. */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H
#include "kernels/ops.h"
#include "kernels/peer_memory.h"
#include "kernels/sample.h"
#ifdef __cplusplus
extern "C" {
#endif

struct backend {
	/* device.h */
	void (*close)(struct device *device);
	enum err (*join)(struct device *const *devices, uint32_t count, struct why *why);
	void (*meet)(struct device *device);
	enum err (*sync)(struct device *device);
	uint64_t (*mark)(struct device *device);
	enum err (*wait)(struct device *device, uint64_t mark);
	bool (*replay)(struct device *device, uint64_t key);
	bool (*recorded)(struct device *device);
	double (*read_rate)(struct device *device);
	enum err (*alloc)(struct device *device, enum mem_kind kind, size_t bytes, void **ret_memory);
	void (*free)(struct device *device, enum mem_kind kind, void *memory, size_t bytes);
	enum err (*copy)(struct device *device, void *to, const void *from, size_t bytes);
	void (*copy_lines)(struct device *device, const struct copy_lines *lines);
	void (*fetch)(struct device *device, const struct fetch_piece *pieces, size_t count);
	enum err (*pin)(struct device *device, void *memory, size_t bytes);
	void (*unpin)(struct device *device, void *memory, size_t bytes);
	void (*zero)(struct device *device, void *memory, size_t bytes);

	/* peer_memory.h; NULL: no other process can read its memory */
	enum err (*export_memory)(struct device *device, const void *memory, int *ret_fd, struct why *why);
	enum err (*import_memory)(struct device *device, int fd, size_t bytes, bool writable, void **ret_memory, struct why *why);
	void (*unimport_memory)(struct device *device, void *memory, size_t bytes);
	enum err (*reader_create)(struct device *device, struct dev_reader **ret_reader);
	void (*reader_destroy)(struct dev_reader *reader);
	enum err (*reader_read)(struct dev_reader *reader, const struct dev_piece *pieces, size_t count, uint64_t *ret_digests);

	/* ops.h, in its order */
	enum err (*linear_create)(struct device *device, const struct linear_shape *shape, struct linear **ret_linear);
	void (*linear_destroy)(struct linear *linear);
	void (*linear_fill)(struct linear *linear, uint32_t first, uint32_t count, const void *source,
			    size_t source_stride);
	void (*linear_fill_scales)(struct linear *linear, uint32_t first, uint32_t count, const float *source);
	enum err (*linear_fill_bias)(struct linear *linear, uint32_t first, uint32_t count, const float *source);
	void (*linear)(struct device *device, const struct linear_call *calls, size_t call_count);
	void (*tree_sum)(struct device *device, const struct tree_call *call);
	void (*collect)(struct device *device, const struct collect_call *call);
	void (*embed)(struct device *device, const void *table, enum elem elem, uint32_t dim, const uint32_t *tokens,
		      uint32_t rows, float *out);
	void (*embed_linear)(struct device *device, const struct linear *table, const uint32_t *tokens, uint32_t rows,
			     float *out);
	void (*rmsnorm)(struct device *device, const struct norm_call *call);
	void (*head_norm)(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count,
			  uint32_t dim, const float *weight, float eps);
	void (*add)(struct device *device, float *x, const float *add, uint32_t rows, uint32_t dim);
	void (*scale)(struct device *device, float *x, float by, uint32_t rows, uint32_t dim);
	void (*glu)(struct device *device, const struct glu_call *call);
	void (*gather)(struct device *device, const float *x, size_t x_stride, const uint32_t *index, uint32_t count,
		       uint32_t dim, float *out);
	void (*rope_angles)(struct device *device, const uint32_t *positions, uint32_t rows, const float *frequency,
			    uint32_t half, float factor, float *ret_cos, float *ret_sin);
	void (*rope)(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count, uint32_t dim,
		     uint32_t half, const float *cos, const float *sin);
	enum err (*kv_runs_create)(struct device *device, const struct kv_runs_bounds *bounds, struct kv_runs **ret_runs);
	void (*kv_runs_destroy)(struct kv_runs *runs);
	void (*kv_runs_set)(struct kv_runs *runs);
	void (*kv_write)(struct device *device, const struct kv_write_call *call);
	void (*qkv)(struct device *device, const struct qkv_call *call);
	void (*kv_digest)(struct device *device, const struct kv_digest_call *call);
	void (*attention)(struct device *device, const struct attention_call *call);
	void (*moe_route)(struct device *device, const struct moe_route_call *call);
	void (*moe_group)(struct device *device, const uint32_t *expert, uint32_t slot_count, uint32_t expert_count,
			  uint32_t *ret_first, uint32_t *ret_slot);
	void (*moe_gather)(struct device *device, const struct moe_gather_call *call);
	void (*moe_linear)(struct device *device, const struct moe_linear_call *call);
	void (*moe_scatter)(struct device *device, const struct moe_scatter_call *call);
	void (*moe_combine)(struct device *device, const uint16_t *answer, const float *weight, uint32_t rows,
			    uint32_t top_k, uint32_t dim, float *out);
	void (*add_gated)(struct device *device, float *x, const float *add, const float *gate, uint32_t rows,
			  uint32_t dim);
	void (*to_bf16)(struct device *device, const float *x, size_t count, uint16_t *out);
	void (*from_bf16)(struct device *device, const uint16_t *x, size_t count, float *out);
	void (*soft_cap)(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap);
	void (*exp)(struct device *device, const float *x, float shift, uint32_t n, float *out);

	/* sample.h */
	enum err (*sample_create)(struct device *device, uint32_t vocab_size, struct sample_scratch **ret_scratch);
	void (*sample_destroy)(struct sample_scratch *scratch);
	void (*sample)(struct sample_scratch *scratch, const struct sample_call *call);
};

struct device {
	const struct backend *backend;
	struct device_props props;
};

struct dev_reader {
	struct device *device;
};

struct linear {
	struct linear_shape shape;
	struct device *device;
	size_t bytes; /* packed */
};

struct kv_runs {
	struct device *device;
	struct kv_runs_bounds bounds;
	const struct kv_run *list; /* [count], as last set: host memory */
	uint32_t count;
	uint32_t row_count; /* of all runs */
	uint32_t padding;   /* rows behind them */
};

/* The last row that a run has, and one. */
static inline uint32_t kv_runs_row_end(const struct kv_runs *runs)
{
	uint32_t end = 0;
	for (uint32_t i = 0; i < runs->count; i++)
		end = runs->list[i].row_first + runs->list[i].row_count > end ? runs->list[i].row_first + runs->list[i].row_count : end;
	return end;
}

struct sample_scratch {
	struct device *device;
	uint32_t vocab_size;
};

/* Scales of ELEM_E4M3 weights lie [outputs / scale_outputs][groups] in f32. */
static inline uint32_t linear_groups(const struct linear_shape *shape)
{
	return (shape->k + LINEAR_GROUP - 1) / LINEAR_GROUP;
}

static inline size_t linear_scale_bytes(const struct linear_shape *shape)
{
	if (shape->elem != ELEM_E4M3)
		return 0;
	return (size_t)((shape->n - 1) / shape->scale_outputs + 1) * linear_groups(shape) * sizeof(float);
}

/* One for each kind of device that this build has.  `why` says what is missing. */
enum err cpu_device_open(const struct device_options *options, struct why *why, struct device **ret_device);
enum err cuda_device_open(const struct device_options *options, struct why *why, struct device **ret_device);
void cuda_device_make_current(uint32_t index);

#ifdef __cplusplus
}
#endif
#endif
