/* linear - weights on the device, and what the kernels that multiply by them share.
 *
 * Owns:   struct cuda_linear its weights and bias; the device the table of entries (cuda.h).
 * Loop:   as device.h.
 * Rules:  1 bf16 weights: an output is the sum over K in order, 16 inputs at a time on the tensor cores, of one segment, and the
 *           binary tree over segments; it is the same wgmma order for each tile and each number of rows;
 *         2 f32 weights: fused multiply-adds in order, the bits of cpu-fma-1;
 *         3 weights lie [n][segment][k], each segment padded to a multiple of 16 bytes, as the copy engine reads them; inputs
 *           of bf16 that lie so as they are go to it directly, all others through scratch. */
#ifndef KERNELS_CUDA_LINEAR_H
#define KERNELS_CUDA_LINEAR_H
#include <cuda.h>
#include "kernels/cuda/cuda.h"

#define LINEAR_BOX_K 64u /* inputs that one line of a tile has: 128 bytes, the span of the swizzle */

/* What a kernel of many linears finds of each, in device memory. */
struct linear_entry {
	CUtensorMap maps[2]; /* boxes of 64 and of 128 outputs */
	const void *data;
	const float *bias; /* [n] or NULL */
	uint64_t rest[6];  /* to a multiple of 64 bytes, where maps must begin */
};

struct cuda_linear {
	struct linear base;
	void *data;	      /* [n][segment][segment_stride] */
	float *bias;	      /* [n] or NULL: none was filled */
	uint32_t segment_k;
	uint32_t segment_stride; /* elements */
	uint32_t entry;
};

static inline const struct cuda_linear *cuda_linear_of(const struct linear *linear)
{
	return (const struct cuda_linear *)linear;
}

/* Several products of one shape beside each other.  Group g has rows [first[g], first[g + 1]) of x, or `rows` each in order. */
struct linear_job {
	uint32_t n, segments, segment_k, segment_stride;
	uint32_t group_count, rows;
	const uint32_t *first; /* [group_count + 1] in device memory, or NULL */
	void *y;	       /* of row r of x, group g: y + r y_stride + g y_group_step */
	size_t y_stride;
	int64_t y_group_step;
	bool y_bf16;
	uint32_t splits;     /* of K: 1, or y has the sums of each, and there is one group */
	size_t y_split_step;
	uint32_t height, out_tiles; /* outputs of a tile, and tiles over all outputs */
	uint32_t stages;
	const float *bias;		    /* of a job of one group */
	const struct linear_entry *entries; /* of others: group g is entries[slots.at[g]] */
};

/* By value to kernels. */
template <int count> struct linear_slots {
	uint16_t at[count];
};
static_assert(CUDA_LINEARS_MAX <= 65536, "a slot's number has 16 bits");

/* At open: finds the driver's function that describes tensors, and lets kernels have their shared memory. */
enum err linear_prepare(struct cuda_device *device);

/* A tensor of bf16 [row][segment][k] as boxes of box_rows rows and 64 of k. */
struct linear_tensor {
	const void *data;
	uint32_t k, segments, rows;
	size_t segment_stride, row_stride; /* elements, multiples of 8 */
};
bool linear_map(struct cuda_device *device, const struct linear_tensor *tensor, uint32_t box_rows, CUtensorMap *ret_map);

/* bf16 weights, bf16 inputs that the map describes. */
void linear_tiles_run(struct cuda_device *device, struct linear_job *job, const struct linear_tensor *weights,
		      const struct linear_tensor *inputs, const uint16_t *slots);
/* f32 weights; the inputs as they are. */
struct linear_f32_input {
	const void *x;
	size_t stride;
	bool bf16;
};
void linear_f32_run(struct cuda_device *device, const struct linear_job *job, const void *weights,
		    const struct linear_f32_input *input, const uint16_t *slots);
#endif
