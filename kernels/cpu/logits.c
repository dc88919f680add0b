#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

#define EXP_WORK 8 /* of one exp, in additions */

struct cap_job {
	const struct device *device;
	float *x;
	size_t stride;
	uint32_t n;
	float cap;
};

static void cap_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct cap_job *job = arg;
	cpu_ops(job->device)->soft_cap(job->x + row * job->stride, job->n, job->cap);
}

void cpu_soft_cap(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap)
{
	struct cap_job job = {device, x, x_stride, n, cap};
	cpu_parallel(device, rows, (uint64_t)rows * n * EXP_WORK, cap_row, &job);
}

struct exp_job {
	const struct device *device;
	const float *x;
	float shift;
	uint32_t n;
	float *out;
};

#define EXP_PIECE 8192 /* a multiple of the lanes */

static void exp_piece(void *arg, uint32_t index, uint32_t worker)
{
	const struct exp_job *job = arg;
	uint32_t first = index * EXP_PIECE, count = job->n - first < EXP_PIECE ? job->n - first : EXP_PIECE;
	cpu_ops(job->device)->exp(job->x + first, job->shift, count, job->out + first);
}

void cpu_exp(struct device *device, const float *x, float shift, uint32_t n, float *out)
{
	struct exp_job job = {device, x, shift, n, out};
	cpu_parallel(device, (n + EXP_PIECE - 1) / EXP_PIECE, (uint64_t)n * EXP_WORK, exp_piece, &job);
}
