#include "kernels/cuda/linear.h"
#include "kernels/cuda/quad.h"

#define THREADS 256u /* a warp rounds a group at a time */

struct quantise_job {
	const void *x; /* of call c, row r: x + c x_step + r x_stride */
	size_t x_stride;
	int64_t x_step;
	bool bf16;
	uint32_t rows, k, groups, row_bytes;
	uint8_t *out; /* [call][row]: codes of whole groups, then their scales */
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
	const quad_rows<e4m3_code> out = {(e4m3_code *)job.out, job.row_bytes, (size_t)job.groups * LINEAR_GROUP};
	for (uint32_t group = simt_warp(); group < job.groups; group += THREADS / SIMT_LANES) {
		const uint32_t k = group * LINEAR_GROUP + simt_lane() * QUAD;
		quad x;
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			x.at[i] = k + i < job.k ? input_at(job, from + k + i) : 0.0f;
		out.template store<true>(row, k, QUAD, x);
	}
}

/* Codes of whole groups. */
static uint32_t padded(const struct linear_shape *shape)
{
	return linear_groups(shape) * LINEAR_GROUP;
}

/* Rows of each call that scratch has room for. */
static uint32_t rows_at_once(const struct linear_shape *shape, uint32_t calls)
{
	return (uint32_t)(LINEAR_SCRATCH_BYTES / (elem_row_bytes(ELEM_E4M3, padded(shape)) * calls));
}

static struct linear_tensor inputs_of(const struct linear_call *call, const void *data, uint32_t rows)
{
	const struct linear_shape *shape = &call->linear->shape;
	const size_t stride = elem_row_bytes(ELEM_E4M3, padded(shape));
	return {data, shape->k, 1, rows, stride, stride, ELEM_E4M3};
}

/* Rows of all calls of the batch, in scratch. */
static struct linear_tensor quantise(struct device *device, const struct linear_batch *batch, uint32_t row_first, uint32_t rows)
{
	const struct linear_call *call = batch->calls;
	struct quantise_job job = {};
	job.x = (const uint8_t *)call->x + row_first * call->x_stride * elem_bytes(call->x_elem);
	job.x_stride = call->x_stride;
	job.x_step = batch->x_step;
	job.bf16 = call->x_elem == ELEM_BF16;
	job.rows = rows;
	job.k = call->linear->shape.k;
	job.groups = linear_groups(&call->linear->shape);
	job.row_bytes = (uint32_t)elem_row_bytes(ELEM_E4M3, padded(&call->linear->shape));
	job.out = (uint8_t *)cuda_scratch(device, (size_t)rows * batch->count * job.row_bytes);
	cuda_check(cuda_of(device),
		   SIMT_LAUNCH(quantise_inputs, dim3(rows, batch->count), dim3(THREADS), 0, cuda_stream(device), job),
		   "quantise_inputs");
	return inputs_of(call, job.out, rows * batch->count);
}

static void run_tiles(struct device *device, struct linear_job *job, const struct linear_call *call,
		      const struct linear_tensor *inputs, const uint16_t *slots)
{
	const struct linear_tensor weights = linear_tensor_of(cuda_linear_of(call->linear));
	linear_tiles_run(cuda_of(device), job, &weights, inputs, (const uint8_t *)inputs->data + padded(&call->linear->shape), slots);
}

/* Inputs of e4m3 go to the copy engine as they are. */
static void run_narrow(struct device *device, const struct linear_batch *batch, const uint16_t *slots)
{
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct linear_call *call = &batch->calls[i];
		const struct linear_batch one = {call, 1, 0, 0};
		struct linear_job job = linear_job_of(&one, 0, call->rows);
		struct linear_tensor inputs = inputs_of(call, call->x, call->rows);
		inputs.row_stride = call->x_stride;
		run_tiles(device, &job, call, &inputs, slots + i);
	}
}

void linear_e4m3_run(struct device *device, const struct linear_batch *batch, const uint16_t *slots)
{
	const struct linear_call *call = batch->calls;
	uint32_t most = rows_at_once(&call->linear->shape, batch->count);
	if (call->x_elem == ELEM_E4M3) {
		run_narrow(device, batch, slots);
		return;
	}
	for (uint32_t row = 0, rows; row < call->rows; row += rows) {
		rows = call->rows - row < most ? call->rows - row : most;
		struct linear_job job = linear_job_of(batch, row, rows);
		const struct linear_tensor inputs = quantise(device, batch, row, rows);
		run_tiles(device, &job, call, &inputs, slots);
	}
}

/* Which rows an expert has only the device knows: each kernel takes what of them lies in its window. */
static void run_window(struct device *device, const struct linear_call *rows, const struct moe_linear_call *call,
		       const struct linear_tensor *inputs, uint32_t first, const uint16_t *slots)
{
	const struct linear_batch batch = {rows, 1, 0, 0};
	struct linear_job job = linear_job_of(&batch, 0, inputs->rows);
	job.window_first = first;
	job.window_end = first + inputs->rows;
	job.group_count = call->expert_count;
	job.first = call->first;
	run_tiles(device, &job, rows, inputs, slots);
}

void linear_e4m3_run_experts(struct device *device, const struct linear_call *rows, const struct moe_linear_call *call,
			     const uint16_t *slots)
{
	const struct linear_batch batch = {rows, 1, 0, 0};
	uint32_t most = rows_at_once(&rows->linear->shape, 1);
	if (call->expert_count == 1) {
		linear_e4m3_run(device, &batch, slots);
		return;
	}
	if (rows->x_elem == ELEM_E4M3) {
		const struct linear_tensor inputs = inputs_of(rows, rows->x, rows->rows);
		run_window(device, rows, call, &inputs, 0, slots);
		return;
	}
	for (uint32_t row = 0, count; row < call->slot_count; row += count) {
		count = call->slot_count - row < most ? call->slot_count - row : most;
		const struct linear_tensor inputs = quantise(device, &batch, row, count);
		run_window(device, rows, call, &inputs, row, slots);
	}
}
