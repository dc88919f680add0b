#include <assert.h>
#include "kernels/cpu/cpu.h"
#include "base/exact.h"
#include "kernels/ops.h"

#define SINCOS_WORK 64 /* of one angle, in additions */

struct angles_job {
	const uint32_t *positions;
	const float *frequency;
	uint32_t half;
	float factor;
	float *ret_cos, *ret_sin;
};

static void angles_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct angles_job *job = arg;
	float position = (float)job->positions[row];
	for (uint32_t i = 0; i < job->half; i++) {
		double sine, cosine;
		float angle = position * job->frequency[i];
		exact_sincos((double)angle, &sine, &cosine);
		job->ret_cos[(size_t)row * job->half + i] = job->factor * (float)cosine;
		job->ret_sin[(size_t)row * job->half + i] = job->factor * (float)sine;
	}
}

void cpu_rope_angles(struct device *device, const uint32_t *positions, uint32_t rows, const float *frequency,
		    uint32_t half, float factor, float *ret_cos, float *ret_sin)
{
	struct angles_job job = {positions, frequency, half, factor, ret_cos, ret_sin};
	cpu_parallel(device, rows, (uint64_t)rows * half * SINCOS_WORK, angles_row, &job);
}

struct rope_job {
	const struct device *device;
	struct rope_call call;
};

static void rope_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct rope_job *job = arg;
	cpu_ops(job->device)->rope(&job->call, row);
}

void cpu_rope(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count, uint32_t dim,
	     uint32_t half, const float *cos, const float *sin)
{
	struct rope_job job = {device, {x, x_stride, head_count, dim, half, cos, sin}};
	cpu_parallel(device, rows, (uint64_t)rows * head_count * half * 4, rope_row, &job);
}
