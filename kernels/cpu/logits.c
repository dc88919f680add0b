#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include "kernels/cpu/cpu.h"
#include "base/exact.h"
#include "kernels/ops.h"

#define EXP_WORK 8 /* of one exp, in additions */

struct stats_job {
	const struct device *device;
	const float *logits;
	size_t stride;
	uint32_t n;
	float *ret_max, *ret_logsumexp;
	uint32_t *ret_argmax;
};

static void stats_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct stats_job *job = arg;
	float greatest;
	uint32_t argmax;
	double sum;
	job->device->ops->stats(job->logits + row * job->stride, job->n, &greatest, &argmax, &sum);
	if (job->ret_max)
		job->ret_max[row] = greatest;
	if (job->ret_argmax)
		job->ret_argmax[row] = argmax;
	if (job->ret_logsumexp)
		job->ret_logsumexp[row] = sum > 0 ? (float)((double)greatest + exact_log(sum)) : -INFINITY;
}

void op_logits_stats(struct device *device, const float *logits, size_t stride, uint32_t rows, uint32_t n,
		     float *ret_max, uint32_t *ret_argmax, float *ret_logsumexp)
{
	assert(n > 0);
	struct stats_job job = {device, logits, stride, n, ret_max, ret_logsumexp, ret_argmax};
	cpu_parallel(device, rows, (uint64_t)rows * n * EXP_WORK, stats_row, &job);
}

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
	job->device->ops->soft_cap(job->x + row * job->stride, job->n, job->cap);
}

void op_soft_cap(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap)
{
	assert(cap > 0);
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
	job->device->ops->exp(job->x + first, job->shift, count, job->out + first);
}

void op_exp(struct device *device, const float *x, float shift, uint32_t n, float *out)
{
	struct exp_job job = {device, x, shift, n, out};
	cpu_parallel(device, (n + EXP_PIECE - 1) / EXP_PIECE, (uint64_t)n * EXP_WORK, exp_piece, &job);
}

/* --- top k ------------------------------------------------------------------------------------------- */

/* a comes before b in the result. */
static bool before(const float *logits, uint32_t a, uint32_t b)
{
	return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* A heap whose root is the last of those kept. */
static void sift_down(const float *logits, uint32_t *heap, uint32_t count, uint32_t at)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= count)
			return;
		if (child + 1 < count && before(logits, heap[child], heap[child + 1]))
			child++;
		if (before(logits, heap[child], heap[at]))
			return;
		uint32_t index = heap[at];
		heap[at] = heap[child];
		heap[child] = index;
		at = child;
	}
}

void logits_top_k(const float *logits, uint32_t n, uint32_t k, uint32_t *ret_index, float *ret_value)
{
	assert(k <= n);
	if (k == 0)
		return;
	for (uint32_t i = 0; i < k; i++)
		ret_index[i] = i;
	for (uint32_t i = k / 2; i-- > 0;)
		sift_down(logits, ret_index, k, i);
	for (uint32_t i = k; i < n; i++)
		if (logits[i] > logits[ret_index[0]]) { /* an equal one comes later, and so after */
			ret_index[0] = i;
			sift_down(logits, ret_index, k, 0);
		}
	/* Take the last out to the end until all are in order. */
	for (uint32_t count = k; count > 1; count--) {
		uint32_t last = ret_index[0];
		ret_index[0] = ret_index[count - 1];
		ret_index[count - 1] = last;
		sift_down(logits, ret_index, count - 1, 0);
	}
	for (uint32_t i = 0; i < k; i++)
		ret_value[i] = logits[ret_index[i]];
}
