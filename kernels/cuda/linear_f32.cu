#include <assert.h>
#include <string.h>
#include "kernels/cuda/linear.h"
#include "kernels/cuda/simt.h"

/* A block has OUTS outputs of ROWS rows, a thread one of each; K passes through shared memory in pieces. */
enum { OUTS = 32, ROWS = 8, PIECE = 32, THREADS = OUTS * ROWS };

struct f32_job {
	struct linear_job job;
	struct linear_f32_input input;
	const float *weights; /* of a job of one group */
};

SIMT_DEVICE float input_at(const linear_f32_input &input, size_t row, uint32_t k)
{
	size_t at = row * input.stride + k;
	return input.bf16 ? simt_bf16_widen(((const uint16_t *)input.x)[at]) : ((const float *)input.x)[at];
}

/* The sum of one segment in order. */
SIMT_DEVICE float segment_sum(const f32_job &f, const float *weights, uint32_t out, uint32_t row, uint32_t row_end, uint32_t k_first)
{
	SIMT_SHARED float w[OUTS][PIECE + 1];
	SIMT_SHARED float x[ROWS][PIECE];
	const uint32_t column = threadIdx.x % OUTS, line = threadIdx.x / OUTS;
	size_t row_k = (size_t)f.job.segments * f.job.segment_stride;
	uint32_t k_count = f.job.segment_k;
	float sum = 0.0f;
	for (uint32_t k = 0; k < k_count; k += PIECE) {
		uint32_t at = k + column;
		simt_sync();
		for (uint32_t o = line; o < OUTS; o += ROWS)
			w[o][column] = out + o < f.job.n && at < k_count ? weights[(out + o) * row_k + k_first + at] : 0.0f;
		x[line][column] = row + line < row_end && at < k_count ? input_at(f.input, row + line, k_first + at) : 0.0f;
		simt_sync();
		for (uint32_t i = 0; i < PIECE && k + i < k_count; i++)
			sum = simt_fma(x[line][i], w[column][i], sum);
	}
	return sum;
}

/* Blocks: outputs, rows of a group, groups. */
template <int slot_count> SIMT_KERNEL_OF(linear_f32, THREADS, 1)(const f32_job f, const linear_slots<slot_count> slots)
{
	const linear_job &job = f.job;
	const uint32_t group = blockIdx.z, out = blockIdx.x * OUTS;
	const linear_entry *entry = slot_count > 1 ? &job.entries[slots.at[group]] : nullptr;
	const float *weights = slot_count > 1 ? (const float *)entry->data : f.weights;
	const float *bias = slot_count > 1 ? entry->bias : job.bias;
	uint32_t row = (job.first ? job.first[group] : 0) + blockIdx.y * ROWS;
	uint32_t row_end = job.first ? job.first[group + 1] : job.rows;
	if (row >= row_end)
		return;
	float one = 0.0f, two = 0.0f, four = 0.0f, sum = 0.0f;
	for (uint32_t segment = 0; segment < job.segments; segment++) {
		sum = segment_sum(f, weights, out, row, row_end, segment * job.segment_k);
		if ((segment & 1) == 0) {
			one = sum;
			continue;
		}
		sum = one + sum;
		if ((segment & 3) == 3)
			sum = two + sum;
		else
			two = sum;
		if ((segment & 7) == 7)
			sum = four + sum;
		else if ((segment & 3) == 3)
			four = sum;
	}
	uint32_t o = out + threadIdx.x % OUTS;
	row += threadIdx.x / OUTS;
	if (o >= job.n || row >= row_end)
		return;
	if (bias)
		sum += bias[o];
	if (job.y_bf16)
		((uint16_t *)job.y)[row * job.y_stride + o] = simt_bf16_round(sum);
	else
		((float *)job.y)[row * job.y_stride + o] = sum;
}

template <int slot_count>
static cudaError_t launch(const struct f32_job *f, cudaStream_t stream, const uint16_t *slots)
{
	linear_slots<slot_count> list = {};
	if (slots)
		memcpy(list.at, slots, f->job.group_count * sizeof(*slots));
	dim3 grid((f->job.n + OUTS - 1) / OUTS, (f->job.rows + ROWS - 1) / ROWS, f->job.group_count);
	return SIMT_LAUNCH(linear_f32<slot_count>, grid, dim3(THREADS), 0, stream, *f, list);
}

void linear_f32_run(struct cuda_device *device, const struct linear_job *job, const void *weights,
		    const struct linear_f32_input *input, const uint16_t *slots)
{
	const struct f32_job f = {*job, *input, (const float *)weights};
	cudaError_t e = job->first ? launch<MOE_EXPERTS_MAX>(&f, device->stream, slots) : launch<1>(&f, device->stream, NULL);
	cuda_check(device, e, "linear_f32");
}
