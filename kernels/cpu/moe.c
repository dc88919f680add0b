#include <assert.h>
#include <math.h>
#include <string.h>
#include "base/bf16.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

/* --- routing ------------------------------------------------------------------------------------------- */

struct route_job {
	const struct device *device;
	const struct moe_route_call *call;
	uint32_t row_end; /* rows from here on are nobody's */
};

/* Marks the k greatest, among equals the lower index, by a bit each. */
static void mark_greatest(const float *value, uint32_t count, uint32_t k, uint64_t *ret_marked)
{
	for (uint32_t j = 0; j < k; j++) {
		uint32_t best = UINT32_MAX;
		for (uint32_t i = 0; i < count; i++)
			if (!(ret_marked[i / 64] >> i % 64 & 1) && (best == UINT32_MAX || value[i] > value[best]))
				best = i;
		ret_marked[best / 64] |= UINT64_C(1) << best % 64;
	}
}

/* The greatest of a group, or the sum of its two greatest. */
static float group_value(const float *choice, uint32_t size, uint32_t best)
{
	float first = -INFINITY, second = -INFINITY;
	for (uint32_t i = 0; i < size; i++) {
		float lesser = choice[i] < first ? choice[i] : first;
		first = choice[i] > first ? choice[i] : first;
		second = lesser > second ? lesser : second;
	}
	return best == 2 ? first + second : first;
}

/* Experts outside the greatest groups cannot be chosen. */
static void limit_groups(const struct moe_routing *routing, float *choice)
{
	uint32_t size = routing->expert_count / routing->group_count;
	uint64_t marked[MOE_EXPERTS_MAX / 64] = {0};
	float value[MOE_EXPERTS_MAX];
	for (uint32_t g = 0; g < routing->group_count; g++)
		value[g] = group_value(choice + (size_t)g * size, size, routing->group_best);
	mark_greatest(value, routing->group_count, routing->group_top, marked);
	for (uint32_t e = 0; e < routing->expert_count; e++)
		if (!(marked[e / size / 64] >> e / size % 64 & 1))
			choice[e] = -INFINITY;
}

static void softmax(const struct device *device, const float *logits, uint32_t count, float *ret_score)
{
	float greatest;
	uint32_t argmax;
	cpu_ops(device)->greatest(logits, count, &greatest, &argmax);
	cpu_ops(device)->exp(logits, greatest, count, ret_score);
	float total = (float)cpu_ops(device)->exp_sum(logits, greatest, count);
	for (uint32_t i = 0; i < count; i++)
		ret_score[i] /= total;
}

static void sigmoid(const struct device *device, const float *x, uint32_t count, float *ret_score)
{
	for (uint32_t i = 0; i < count; i++)
		ret_score[i] = -x[i];
	cpu_ops(device)->exp(ret_score, 0.0f, count, ret_score);
	for (uint32_t i = 0; i < count; i++)
		ret_score[i] = 1.0f / (1.0f + ret_score[i]);
}

/* The experts of a row, in ascending order. */
static void choose(const struct moe_routing *routing, const float *score, const float *bias, uint32_t *ret_expert)
{
	uint64_t marked[MOE_EXPERTS_MAX / 64] = {0};
	float choice[MOE_EXPERTS_MAX];
	for (uint32_t e = 0; e < routing->expert_count; e++)
		choice[e] = bias ? score[e] + bias[e] : score[e];
	if (routing->group_count > 1)
		limit_groups(routing, choice);
	mark_greatest(choice, routing->expert_count, routing->top_k, marked);
	for (uint32_t e = 0, j = 0; e < routing->expert_count; e++)
		if (marked[e / 64] >> e % 64 & 1)
			ret_expert[j++] = e;
}

static void route_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct route_job *job = arg;
	const struct moe_routing *routing = job->call->routing;
	const float *logits = job->call->logits + (row < job->row_end ? (size_t)row * routing->expert_count : 0);
	uint32_t *expert = job->call->ret_expert + (size_t)row * routing->top_k;
	float *weight = job->call->ret_weight + (size_t)row * routing->top_k;
	float score[MOE_EXPERTS_MAX] = {0}, chosen = 0.0f;

	if (routing->score == MOE_SIGMOID)
		sigmoid(job->device, logits, routing->expert_count, score);
	else
		softmax(job->device, logits, routing->expert_count, score);
	choose(routing, score, job->call->bias, expert);
	for (uint32_t j = 0; j < routing->top_k; j++)
		chosen += score[expert[j]];
	for (uint32_t j = 0; j < routing->top_k; j++)
		weight[j] = score[expert[j]] / (routing->renormalise ? chosen : 1.0f) * routing->scale;
}

void cpu_moe_route(struct device *device, const struct moe_route_call *call)
{
	const struct moe_routing *r = call->routing;
	struct route_job job = {device, call, call->runs ? kv_runs_row_end(call->runs) : call->rows};
	cpu_parallel(device, call->rows, (uint64_t)call->rows * r->expert_count * (16 + r->top_k), route_row, &job);
}

/* --- rows to experts and back ---------------------------------------------------------------------------- */

void cpu_moe_group(struct device *device, const uint32_t *expert, uint32_t slot_count, uint32_t expert_count,
		   uint32_t *ret_first, uint32_t *ret_slot)
{
	memset(ret_first, 0, (expert_count + 1) * sizeof(*ret_first));
	for (uint32_t slot = 0; slot < slot_count; slot++) {
		assert(expert[slot] < expert_count);
		ret_first[expert[slot] + 1]++;
	}
	for (uint32_t e = 0; e < expert_count; e++)
		ret_first[e + 1] += ret_first[e];
	/* Counting sort: ret_first[e] runs to the end of e's slots, then all move back by one place. */
	for (uint32_t slot = 0; slot < slot_count; slot++)
		ret_slot[ret_first[expert[slot]]++] = slot;
	memmove(ret_first + 1, ret_first, expert_count * sizeof(*ret_first));
	ret_first[0] = 0;
}

static void gather_row(void *arg, uint32_t index, uint32_t worker)
{
	const struct moe_gather_call *call = arg;
	const float *from = (const float *)call->x + (size_t)(call->slot[index] / call->top_k) * call->dim;
	float *to = (float *)call->out + (size_t)index * call->dim;
	for (uint32_t i = 0; i < call->dim; i++)
		to[i] = bf16_widen(bf16_round(from[i]));
}

void cpu_moe_gather(struct device *device, const struct moe_gather_call *call)
{
	struct moe_gather_call job = *call;
	assert(call->elem == ELEM_F32 && call->out_elem == ELEM_F32);
	cpu_parallel(device, call->slot_count, (uint64_t)call->slot_count * call->dim, gather_row, &job);
}

void cpu_moe_linear(struct device *device, const struct moe_linear_call *call)
{
	struct linear_call calls[MOE_EXPERTS_MAX];
	const struct linear_shape *shape = linear_shape(call->linears[0]);
	size_t count = 0;
	assert(call->x_elem == ELEM_F32 && call->first[call->expert_count] == call->slot_count);
	for (uint32_t e = 0; e < call->expert_count; e++) {
		size_t first = call->first[e];
		uint32_t rows = call->first[e + 1] - call->first[e];
		if (rows > 0)
			calls[count++] = (struct linear_call){
				.linear = call->linears[e], .x = (const float *)call->x + first * shape->k,
				.x_stride = shape->k, .y = call->y + first * shape->n, .y_stride = shape->n, .rows = rows};
	}
	cpu_linear(device, calls, count);
}

static void scatter_row(void *arg, uint32_t index, uint32_t worker)
{
	const struct moe_scatter_call *call = arg;
	uint32_t slot = call->slot[index], dim = call->dim;
	if (slot < call->first || slot >= call->end)
		return;
	const float *bias = call->bias ? call->bias + (size_t)call->expert[slot] * dim : NULL;
	uint16_t *to = call->answer + (size_t)slot * dim;
	for (uint32_t i = 0; i < dim; i++) {
		float sum = cpu_tree_of(call->parts, call->part_count, (size_t)index * dim + i);
		to[i] = bf16_round(bias ? sum + bias[i] : sum);
	}
}

void cpu_moe_scatter(struct device *device, const struct moe_scatter_call *call)
{
	struct moe_scatter_call job = *call;
	cpu_parallel(device, call->slot_count, (uint64_t)call->slot_count * call->dim, scatter_row, &job);
}

struct combine_job {
	const struct device *device;
	const uint16_t *answer;
	const float *weight;
	uint32_t top_k, dim;
	float *out;
};

static void combine_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct combine_job *job = arg;
	size_t slot = (size_t)row * job->top_k;
	cpu_ops(job->device)->combine(job->answer + slot * job->dim, job->weight + slot, job->top_k, job->dim,
				  job->out + (size_t)row * job->dim);
}

void cpu_moe_combine(struct device *device, const uint16_t *answer, const float *weight, uint32_t rows,
		    uint32_t top_k, uint32_t dim, float *out)
{
	struct combine_job job = {device, answer, weight, top_k, dim, out};
	cpu_parallel(device, rows, (uint64_t)rows * top_k * dim, combine_row, &job);
}

struct gated_job {
	const struct device *device;
	float *x;
	const float *add, *gate;
	uint32_t dim;
};

static void gated_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct gated_job *job = arg;
	float *x = job->x + (size_t)row * job->dim, gate;
	const float *add = job->add + (size_t)row * job->dim;
	sigmoid(job->device, &job->gate[row], 1, &gate);
	for (uint32_t i = 0; i < job->dim; i++)
		x[i] += gate * add[i];
}

void cpu_add_gated(struct device *device, float *x, const float *add, const float *gate, uint32_t rows, uint32_t dim)
{
	struct gated_job job = {device, x, add, gate, dim};
	cpu_parallel(device, rows, (uint64_t)rows * dim, gated_row, &job);
}
