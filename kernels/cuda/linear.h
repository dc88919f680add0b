/* linear - weights on the device, and what the kernels that multiply by them share.
 *
 * Owns:   struct cuda_linear its weights and bias; the device the table of entries (cuda.h).
 * Loop:   as device.h.
 * Rules:  1 bf16 weights: an output is the sum over K in order, 16 inputs at a time on the tensor cores, of one segment, and the
 *           binary tree over segments; it is the same wgmma order for each tile and each number of rows;
 *         2 f32 weights: fused multiply-adds in order, the bits of cpu-fma-1;
 *         3 weights of e4m3: the tensor cores sum a group of 128 inputs from 0, 32 at a time; the rest is as ops.h says;
 *         4 weights lie [n][segment][k], each segment padded to a multiple of 16 bytes, as the copy engine reads them; inputs
 *           of bf16 that lie so as they are go to it directly, all others through scratch. */
#ifndef KERNELS_CUDA_LINEAR_H
#define KERNELS_CUDA_LINEAR_H
#include <cuda.h>
#include "kernels/cuda/cuda.h"

#define LINEAR_LINE	 128u /* bytes that one line of a tile has, the span of the swizzle: 64 inputs of bf16, or 128 of e4m3 */

/* Of scratch, for inputs on their way to a kernel: calls that have more run in steps.  Less where tests want steps. */
#ifndef LINEAR_SCRATCH_BYTES
#define LINEAR_SCRATCH_BYTES CUDA_SCRATCH_BYTES
#endif

/* What a kernel of many linears finds of each, in device memory. */
struct linear_entry {
	CUtensorMap maps[2]; /* boxes of 64 and of 128 outputs */
	const void *data;
	const float *bias; /* [n] or NULL */
	const float *scales; /* of e4m3 */
	uint64_t rest[13]; /* to a multiple of 128 bytes, where CUDA 13 has maps begin */
};

struct cuda_linear {
	struct linear base;
	void *data;	      /* [n][segment][segment_stride] */
	float *bias;	      /* [n] or NULL: none was filled */
	float *scales;	      /* of e4m3, behind the weights: [n / scale_outputs][group]; else NULL */
	uint32_t segment_k;
	uint32_t segment_stride; /* elements */
	uint32_t entry;
};

static inline const struct cuda_linear *cuda_linear_of(const struct linear *linear)
{
	return (const struct cuda_linear *)linear;
}

/* Calls of one shape whose inputs and outputs lie at equal distances: one kernel for all. */
struct linear_batch {
	const struct linear_call *calls;
	uint32_t count;
	int64_t x_step, y_step; /* elements */
};

/* Several products of one shape beside each other.  Group g has rows [first[g], first[g + 1]) of x, or `rows` each in order. Of the first kind only
 * those of a window are multiplied, and its first is the first of the inputs in memory. */
struct linear_job {
	uint32_t n, segments, segment_k, segment_stride;
	uint32_t group_count, rows;
	uint32_t window_first, window_end;
	const uint32_t *first; /* [group_count + 1] in device memory, or NULL */
	void *y;	       /* of row r of x, group g: y + r y_stride + g y_group_step */
	size_t y_stride;
	int64_t y_group_step;
	bool y_bf16;
	uint32_t splits;     /* of K: 1, or y has the sums of each, and there is one group */
	size_t y_split_step;
	uint32_t height, out_tiles; /* outputs of a tile; tiles over all outputs, those of a cluster counted as one */
	uint32_t stages;
	const float *bias;		    /* of a job of one group */
	const float *scales;		    /* the same of e4m3 */
	uint32_t scale_outputs, scale_groups;
	const struct linear_entry *entries; /* of others: group g is entries[slots.at[g]] */
};

/* By value to kernels. */
template <int count> struct linear_slots {
	uint16_t at[count];
};
static_assert(CUDA_LINEARS_MAX <= 65536, "a slot's number has 16 bits");

/* At open: finds the driver's function that describes tensors, and lets kernels have their shared memory. */
enum err linear_prepare(struct cuda_device *device);

/* A tensor of bf16 or e4m3 [row][segment][k] as boxes of box_rows lines. */
struct linear_tensor {
	const void *data;
	uint32_t k, segments, rows;
	size_t segment_stride, row_stride; /* elements, of multiples of 16 bytes */
	enum elem elem;
};
struct linear_tensor linear_tensor_of(const struct cuda_linear *linear);
bool linear_map(struct cuda_device *device, const struct linear_tensor *tensor, uint32_t box_rows, CUtensorMap *ret_map);

struct linear_job linear_job_of(const struct linear_batch *batch, uint32_t row_first, uint32_t rows);

/* Shared memory of the kernels of tiles: a head of barriers and, where there are many linears, of the tiles before each; stages; what a
 * low tile at the very end reads beyond itself; scales of rows. */
#define LINEAR_STAGES_MAX    16u
#define LINEAR_BARRIER_BYTES (2 * LINEAR_STAGES_MAX * (uint32_t)sizeof(uint64_t))
#define LINEAR_TAIL_BYTES    (64 * LINEAR_LINE)

template <int slot_count>
constexpr uint32_t linear_head_bytes =
	(LINEAR_BARRIER_BYTES + (slot_count > 1 ? (slot_count + 1) * (uint32_t)sizeof(uint32_t) : 0) + 1023) / 1024 * 1024;

/* What a launch of a kernel of tiles needs beside its job. */
struct linear_launch {
	uint32_t grid;
	size_t shared;
	cudaStream_t stream;
	CUtensorMap weights, inputs, scales; /* the last: of rows, for e4m3 */
	const uint16_t *slots;
};
/* One of the kernels of tiles, by what it is made for. */
struct linear_variant {
	uint32_t width, groups;
	bool segmented, many;
	uint32_t boxes, row_bytes; /* of a stage: boxes of each operand, and bytes of each row beside them */
	cudaError_t (*launch)(const struct linear_launch *launch, const struct linear_job &job);
	const void *kernel;
};
/* Ended by one of width 0. */
extern const struct linear_variant linear_variants_bf16[], linear_variants_e4m3[];

/* Inputs that the map describes, of the type of the weights; those of e4m3 are rows of kernels/ops.h, or those of a k that is no
 * multiple of a group, with the codes padded to one; their scales begin at `scales`, else NULL. */
void linear_tiles_run(struct cuda_device *device, struct linear_job *job, const struct linear_tensor *weights,
		      const struct linear_tensor *inputs, const void *scales, const uint16_t *slots);
/* e4m3 weights: the inputs are rounded first, in as many steps as scratch asks for. */
void linear_e4m3_run(struct device *device, const struct linear_batch *batch, const uint16_t *slots);
void linear_e4m3_run_experts(struct device *device, const struct linear_call *rows, const struct moe_linear_call *call,
			     const uint16_t *slots);
/* f32 weights; the inputs as they are. */
struct linear_f32_input {
	const void *x;
	size_t stride;
	bool bf16;
};
void linear_f32_run(struct cuda_device *device, const struct linear_job *job, const void *weights,
		    const struct linear_f32_input *input, const uint16_t *slots);
#endif
