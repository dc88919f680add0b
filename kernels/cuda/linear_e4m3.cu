#include <assert.h>
#include "kernels/cuda/linear.h"
#include "kernels/cuda/simt.h"

/* A warp rounds a group at a time, four numbers a lane. */
#define EACH	(LINEAR_GROUP / SIMT_LANES)
#define THREADS 256u

struct quantise_job {
	const void *x; /* of call c, row r: x + c x_step + r x_stride */
	size_t x_stride;
	int64_t x_step;
	bool bf16;
	uint32_t rows, k, groups, row_stride, scale_stride;
	uint8_t *out;	/* [call][row][row_stride] e4m3 */
	float *scales; /* [group][scale_stride] of (call, row) */
};

SIMT_DEVICE float input_at(const quantise_job &job, size_t at)
{
	return job.bf16 ? simt_bf16_widen(((const uint16_t *)job.x)[at]) : ((const float *)job.x)[at];
}

/* As kernels/ops.h says, the bits of a CPU.  What pads a row is 0. */
SIMT_KERNEL_OF(quantise_inputs, THREADS, 1)(const quantise_job job)
{
	const size_t row = (size_t)blockIdx.y * job.rows + blockIdx.x;
	const size_t from = blockIdx.x * job.x_stride + (size_t)((int64_t)blockIdx.y * job.x_step);
	for (uint32_t group = simt_warp(); group < job.groups; group += THREADS / SIMT_LANES) {
		const uint32_t k = group * LINEAR_GROUP + simt_lane() * EACH;
		float x[EACH], amax = LINEAR_AMAX_LEAST;
		SIMT_UNROLL
		for (uint32_t i = 0; i < EACH; i++) {
			x[i] = k + i < job.k ? input_at(job, from + k + i) : 0.0f;
			float size = simt_float(simt_bits(x[i]) & 0x7fffffff);
			amax = size > amax ? size : amax;
		}
		const float scale = simt_warp_max(amax) / 448.0f;
		const uint32_t low = simt_e4m3_pair(x[0] / scale, x[1] / scale), high = simt_e4m3_pair(x[2] / scale, x[3] / scale);
		if (k < job.row_stride)
			*(uint32_t *)(job.out + row * job.row_stride + k) = low | high << 16;
		if (simt_lane() == 0)
			job.scales[(size_t)group * job.scale_stride + row] = scale;
	}
}

/* Rounded inputs of one call or several, in scratch. */
struct rounded {
	struct linear_tensor inputs;
	struct linear_row_scales scales;
};

/* Bytes that rounded rows take: their number is made even to 4 for the scales. */
static size_t bytes_of_rows(const struct linear_shape *shape, size_t row_stride, size_t rows)
{
	return rows * row_stride + (rows + 3) / 4 * 4 * linear_groups(shape) * sizeof(float);
}

/* Rows of each call that fit at once. */
static uint32_t rows_at_once(const struct linear_shape *shape, size_t row_stride, uint32_t calls)
{
	size_t four = bytes_of_rows(shape, row_stride, 4) * calls;
	assert(four <= CUDA_SCRATCH_BYTES);
	return (uint32_t)(CUDA_SCRATCH_BYTES / four * 4);
}

static struct rounded quantise(struct device *device, const struct linear_batch *batch, uint32_t row_first, uint32_t rows)
{
	const struct linear_call *call = batch->calls;
	const struct linear_shape *shape = &call->linear->shape;
	struct rounded rounded = {linear_tensor_of(cuda_linear_of(call->linear)), {}};
	uint32_t all = rows * batch->count, stride = (all + 3) / 4 * 4;
	size_t row_bytes = rounded.inputs.row_stride;
	uint8_t *memory = (uint8_t *)cuda_scratch(device, bytes_of_rows(shape, row_bytes, all));
	struct quantise_job job = {};
	job.x = (const uint8_t *)call->x + row_first * call->x_stride * elem_bytes(call->x_elem);
	job.x_stride = call->x_stride;
	job.x_step = batch->x_step;
	job.bf16 = call->x_elem == ELEM_BF16;
	job.rows = rows;
	job.k = shape->k;
	job.groups = linear_groups(shape);
	job.row_stride = (uint32_t)row_bytes;
	job.scale_stride = stride;
	job.out = memory;
	job.scales = (float *)(memory + all * row_bytes);
	rounded.inputs.rows = all;
	rounded.inputs.data = memory;
	rounded.scales = {job.scales, stride};
	cuda_check(cuda_of(device),
		   SIMT_LAUNCH(quantise_inputs, dim3(rows, batch->count), dim3(THREADS), 0, cuda_stream(device), job),
		   "quantise_inputs");
	return rounded;
}

void linear_e4m3_run(struct device *device, const struct linear_batch *batch, const uint16_t *slots)
{
	const struct linear_call *call = batch->calls;
	const struct linear_tensor weights = linear_tensor_of(cuda_linear_of(call->linear));
	uint32_t most = rows_at_once(&call->linear->shape, weights.row_stride, batch->count);
	for (uint32_t row = 0, rows; row < call->rows; row += rows) {
		rows = call->rows - row < most ? call->rows - row : most;
		struct linear_job job = linear_job_of(batch, row, rows);
		const struct rounded rounded = quantise(device, batch, row, rows);
		linear_tiles_run(cuda_of(device), &job, &weights, &rounded.inputs, &rounded.scales, slots);
	}
}

/* Which rows an expert has only the device knows: each kernel takes what of them lies in its window. */
void linear_e4m3_run_experts(struct device *device, const struct linear_call *rows, const struct moe_linear_call *call,
			     const uint16_t *slots)
{
	const struct linear_batch batch = {rows, 1, 0, 0};
	const struct linear_tensor weights = linear_tensor_of(cuda_linear_of(rows->linear));
	uint32_t most = rows_at_once(&rows->linear->shape, weights.row_stride, 1);
	if (call->expert_count == 1) {
		linear_e4m3_run(device, &batch, slots);
		return;
	}
	for (uint32_t row = 0, count; row < call->slot_count; row += count) {
		count = call->slot_count - row < most ? call->slot_count - row : most;
		struct linear_job job = linear_job_of(&batch, 0, count);
		const struct rounded rounded = quantise(device, &batch, row, count);
		job.window_first = row;
		job.window_end = row + count;
		job.group_count = call->expert_count;
		job.first = call->first;
		linear_tiles_run(cuda_of(device), &job, &weights, &rounded.inputs, &rounded.scales, slots);
	}
}
