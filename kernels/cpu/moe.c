#include <assert.h>
#include <string.h>
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

struct route_job {
	const struct device *device;
	const struct moe_route_call *call;
};

/* The k greatest, among equals the lower expert, in ascending order of expert. */
static void pick_experts(const float *probability, uint32_t expert_count, uint32_t top_k, uint32_t *ret_expert)
{
	uint64_t taken[MOE_EXPERTS_MAX / 64] = {0};
	for (uint32_t j = 0; j < top_k; j++) {
		uint32_t best = UINT32_MAX;
		for (uint32_t e = 0; e < expert_count; e++)
			if (!(taken[e / 64] >> e % 64 & 1) &&
			    (best == UINT32_MAX || probability[e] > probability[best]))
				best = e;
		taken[best / 64] |= UINT64_C(1) << best % 64;
	}
	for (uint32_t e = 0, j = 0; e < expert_count; e++)
		if (taken[e / 64] >> e % 64 & 1)
			ret_expert[j++] = e;
}

static void route_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct route_job *job = arg;
	const struct moe_route_call *call = job->call;
	const float *logits = call->logits + (size_t)row * call->expert_count;
	uint32_t *expert = call->ret_expert + (size_t)row * call->top_k;
	float *weight = call->ret_weight + (size_t)row * call->top_k;
	float probability[MOE_EXPERTS_MAX], greatest, total = 0.0f, chosen = 0.0f;
	uint32_t argmax;
	double sum;

	job->device->ops->stats(logits, call->expert_count, &greatest, &argmax, &sum);
	job->device->ops->exp(logits, greatest, call->expert_count, probability);
	total = (float)sum;
	for (uint32_t e = 0; e < call->expert_count; e++)
		probability[e] /= total;
	pick_experts(probability, call->expert_count, call->top_k, expert);
	for (uint32_t j = 0; j < call->top_k; j++)
		chosen += probability[expert[j]];
	for (uint32_t j = 0; j < call->top_k; j++)
		weight[j] = probability[expert[j]] / (call->renormalise ? chosen : 1.0f);
}

void op_moe_route(struct device *device, const struct moe_route_call *call)
{
	assert(call->expert_count <= MOE_EXPERTS_MAX && call->top_k <= MOE_TOP_K_MAX);
	assert(call->top_k > 0 && call->top_k <= call->expert_count);
	struct route_job job = {device, call};
	cpu_parallel(device, call->rows, (uint64_t)call->rows * call->expert_count * (16 + call->top_k), route_row,
		     &job);
}

void moe_group(const uint32_t *expert, uint32_t slot_count, uint32_t expert_count, uint32_t *ret_first,
	       uint32_t *ret_slot)
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

struct travel_job {
	const float *x;
	uint32_t dim;
	const uint32_t *slot;
	uint32_t top_k;
	float *out;
	uint16_t *answer;
};

static void gather_row(void *arg, uint32_t index, uint32_t worker)
{
	const struct travel_job *job = arg;
	const float *from = job->x + (size_t)(job->slot[index] / job->top_k) * job->dim;
	float *to = job->out + (size_t)index * job->dim;
	for (uint32_t i = 0; i < job->dim; i++)
		to[i] = bf16_widen(bf16_round(from[i]));
}

void op_moe_gather(struct device *device, const float *x, uint32_t dim, const uint32_t *slot, uint32_t slot_count,
		   uint32_t top_k, float *out)
{
	struct travel_job job = {.x = x, .dim = dim, .slot = slot, .top_k = top_k, .out = out};
	cpu_parallel(device, slot_count, (uint64_t)slot_count * dim, gather_row, &job);
}

static void scatter_row(void *arg, uint32_t index, uint32_t worker)
{
	const struct travel_job *job = arg;
	const float *from = job->x + (size_t)index * job->dim;
	uint16_t *to = job->answer + (size_t)job->slot[index] * job->dim;
	for (uint32_t i = 0; i < job->dim; i++)
		to[i] = bf16_round(from[i]);
}

void op_moe_scatter(struct device *device, const float *x, uint32_t dim, const uint32_t *slot, uint32_t slot_count,
		    uint16_t *answer)
{
	struct travel_job job = {.x = x, .dim = dim, .slot = slot, .answer = answer};
	cpu_parallel(device, slot_count, (uint64_t)slot_count * dim, scatter_row, &job);
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
	job->device->ops->combine(job->answer + slot * job->dim, job->weight + slot, job->top_k, job->dim,
				  job->out + (size_t)row * job->dim);
}

void op_moe_combine(struct device *device, const uint16_t *answer, const float *weight, uint32_t rows,
		    uint32_t top_k, uint32_t dim, float *out)
{
	struct combine_job job = {device, answer, weight, top_k, dim, out};
	cpu_parallel(device, rows, (uint64_t)rows * top_k * dim, combine_row, &job);
}
