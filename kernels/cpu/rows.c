#include <assert.h>
#include <string.h>
#include "base/bf16.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

/* The work of an element of an operation that calls exp, in those of one that adds. */
#define EXP_WORK 8

struct embed_job {
	const void *table;
	enum elem elem;
	uint32_t dim;
	const uint32_t *tokens;
	float *out;
};

static void embed_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct embed_job *job = arg;
	size_t first = (size_t)job->tokens[row] * job->dim;
	float *out = job->out + (size_t)row * job->dim;
	if (job->elem == ELEM_F32) {
		memcpy(out, (const float *)job->table + first, job->dim * sizeof(*out));
		return;
	}
	const uint16_t *from = (const uint16_t *)job->table + first;
	for (uint32_t i = 0; i < job->dim; i++)
		out[i] = bf16_widen(from[i]);
}

void cpu_embed(struct device *device, const void *table, enum elem elem, uint32_t dim, const uint32_t *tokens,
	      uint32_t rows, float *out)
{
	struct embed_job job = {table, elem, dim, tokens, out};
	cpu_parallel(device, rows, (uint64_t)rows * dim, embed_row, &job);
}

struct norm_job {
	const struct device *device;
	const struct norm_call *call;
};

static void norm_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct norm_job *job = arg;
	cpu_ops(job->device)->rmsnorm(job->call, row, 1);
}

void cpu_rmsnorm(struct device *device, const struct norm_call *call)
{
	assert(call->out_elem == ELEM_F32);
	struct norm_job job = {device, call};
	cpu_parallel(device, call->rows, (uint64_t)call->rows * call->dim, norm_row, &job);
}

struct head_norm_job {
	const struct device *device;
	float *x;
	size_t x_stride;
	uint32_t head_count, dim;
	const float *weight;
	float eps;
};

static void head_norm_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct head_norm_job *job = arg;
	for (uint32_t head = 0; head < job->head_count; head++)
		cpu_ops(job->device)->head_norm(job->x + row * job->x_stride + (size_t)head * job->dim, job->dim,
					    job->weight, job->eps);
}

void cpu_head_norm(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count,
		  uint32_t dim, const float *weight, float eps)
{
	struct head_norm_job job = {device, x, x_stride, head_count, dim, weight, eps};
	cpu_parallel(device, rows, (uint64_t)rows * head_count * dim, head_norm_row, &job);
}

struct add_job {
	float *x;
	const float *add;
	uint32_t dim;
};

static void add_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct add_job *job = arg;
	size_t first = (size_t)row * job->dim;
	for (size_t i = first; i < first + job->dim; i++)
		job->x[i] += job->add[i];
}

void cpu_add(struct device *device, float *x, const float *add, uint32_t rows, uint32_t dim)
{
	struct add_job job = {x, add, dim};
	cpu_parallel(device, rows, (uint64_t)rows * dim, add_row, &job);
}

struct scale_job {
	float *x, by;
	uint32_t dim;
};

static void scale_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct scale_job *job = arg;
	size_t first = (size_t)row * job->dim;
	for (size_t i = first; i < first + job->dim; i++)
		job->x[i] *= job->by;
}

void cpu_scale(struct device *device, float *x, float by, uint32_t rows, uint32_t dim)
{
	struct scale_job job = {x, by, dim};
	cpu_parallel(device, rows, (uint64_t)rows * dim, scale_row, &job);
}

struct glu_job {
	void (*run)(const struct glu *glu, const float *gate, const float *up, uint32_t n, float *out);
	const struct glu_call *call;
};

static void glu_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct glu_job *job = arg;
	const struct glu_call *call = job->call;
	const float *gate = call->x + row * call->x_stride;
	job->run(&call->glu, gate, gate + call->dim, call->dim, (float *)call->out + row * call->out_stride);
}

void cpu_glu(struct device *device, const struct glu_call *call)
{
	assert(call->out_elem == ELEM_F32);
	struct glu_job job = {cpu_ops(device)->glu[call->glu.kind], call};
	cpu_parallel(device, call->rows, (uint64_t)call->rows * call->dim * EXP_WORK, glu_row, &job);
}

struct gather_job {
	const float *x;
	size_t x_stride;
	const uint32_t *index;
	uint32_t dim;
	float *out;
};

static void gather_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct gather_job *job = arg;
	memcpy(job->out + (size_t)row * job->dim, job->x + job->index[row] * job->x_stride,
	       job->dim * sizeof(*job->out));
}

void cpu_gather(struct device *device, const float *x, size_t x_stride, const uint32_t *index, uint32_t count,
	       uint32_t dim, float *out)
{
	struct gather_job job = {x, x_stride, index, dim, out};
	cpu_parallel(device, count, (uint64_t)count * dim, gather_row, &job);
}

#define PIECE 8192 /* elements of a long row of numbers that one item takes */

struct convert_job {
	const float *wide;
	const uint16_t *narrow;
	float *ret_wide;
	uint16_t *ret_narrow;
	size_t count;
};

static void convert_piece(void *arg, uint32_t index, uint32_t worker)
{
	const struct convert_job *job = arg;
	size_t first = (size_t)index * PIECE, end = job->count - first < PIECE ? job->count : first + PIECE;
	for (size_t i = first; i < end; i++) {
		if (job->wide)
			job->ret_narrow[i] = bf16_round(job->wide[i]);
		else
			job->ret_wide[i] = bf16_widen(job->narrow[i]);
	}
}

void cpu_to_bf16(struct device *device, const float *x, size_t count, uint16_t *out)
{
	struct convert_job job = {.wide = x, .ret_narrow = out, .count = count};
	cpu_parallel(device, (uint32_t)((count + PIECE - 1) / PIECE), count, convert_piece, &job);
}

void cpu_from_bf16(struct device *device, const uint16_t *x, size_t count, float *out)
{
	struct convert_job job = {.narrow = x, .ret_wide = out, .count = count};
	cpu_parallel(device, (uint32_t)((count + PIECE - 1) / PIECE), count, convert_piece, &job);
}
