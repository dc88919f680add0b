/* Which experts a row goes to, and the rows of each expert. */
#include <math.h>
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elementary.h"

/* --- routing ---------------------------------------------------------------------------------------------------- */

#define ROUTE_WARPS   4
#define ROUTE_THREADS (ROUTE_WARPS * SIMT_LANES)
#define ROUTE_STEPS   (MOE_EXPERTS_MAX / SIMT_LANES)

struct route_job {
	struct moe_routing routing;
	const float *logits, *bias;
	uint32_t rows;
	uint32_t *ret_expert;
	float *ret_weight;
	const uint32_t *counts; /* of runs, or NULL */
};

/* Of `count` values in shared memory, by all lanes of a warp: the index of the greatest not marked, the lowest of equals.
 * Bit i of a lane's mark stands for value 32 i + lane. */
SIMT_DEVICE uint32_t greatest_unmarked(const float *value, uint32_t count, uint32_t marked)
{
	float greatest = 0.0f;
	uint32_t index = UINT32_MAX;
	for (uint32_t i = 0; i * SIMT_LANES + simt_lane() < count; i++) {
		float other = value[i * SIMT_LANES + simt_lane()];
		if (!(marked >> i & 1) && (index == UINT32_MAX || other > greatest)) {
			greatest = other;
			index = i * SIMT_LANES + simt_lane();
		}
	}
	SIMT_UNROLL
	for (int mask = SIMT_LANES / 2; mask > 0; mask /= 2) {
		float other = simt_shuffle_xor(greatest, mask);
		uint32_t other_index = simt_shuffle_xor(index, mask);
		bool better = other > greatest || (other == greatest && other_index < index);
		if (other_index != UINT32_MAX && (index == UINT32_MAX || better)) {
			greatest = other;
			index = other_index;
		}
	}
	return index;
}

/* The marks of the k greatest. */
SIMT_DEVICE uint32_t mark_greatest(const float *value, uint32_t count, uint32_t k)
{
	uint32_t marked = 0;
	for (uint32_t j = 0; j < k; j++) {
		uint32_t index = greatest_unmarked(value, count, marked);
		if (index % SIMT_LANES == simt_lane())
			marked |= 1u << index / SIMT_LANES;
	}
	return marked;
}

SIMT_DEVICE void score_softmax(const float *logits, uint32_t count, float *score)
{
	float greatest = -INFINITY, sum = 0.0f;
	for (uint32_t e = simt_lane(); e < count; e += SIMT_LANES)
		greatest = logits[e] > greatest ? logits[e] : greatest;
	greatest = simt_warp_max(greatest);
	for (uint32_t e = simt_lane(); e < count; e += SIMT_LANES) {
		score[e] = elementary_exp(logits[e] - greatest);
		sum += score[e];
	}
	sum = simt_warp_sum(sum);
	for (uint32_t e = simt_lane(); e < count; e += SIMT_LANES)
		score[e] /= sum;
}

/* The greatest of a group, or the sum of its two greatest. */
SIMT_DEVICE float group_value(const float *choice, uint32_t size, uint32_t best)
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
SIMT_DEVICE void limit_groups(const struct moe_routing &routing, float *choice, float *value)
{
	uint32_t size = routing.expert_count / routing.group_count;
	for (uint32_t g = simt_lane(); g < routing.group_count; g += SIMT_LANES)
		value[g] = group_value(choice + g * size, size, routing.group_best);
	simt_sync_warp();
	uint32_t marked = mark_greatest(value, routing.group_count, routing.group_top);
	simt_sync_warp();
	for (uint32_t g = simt_lane(), i = 0; g < routing.group_count; g += SIMT_LANES, i++)
		if (!(marked >> i & 1))
			for (uint32_t e = g * size; e < (g + 1) * size; e++)
				choice[e] = -INFINITY;
	simt_sync_warp();
}

/* The marked experts in ascending order; how many lower ones there are before each word of 32 is known to all lanes. */
SIMT_DEVICE void write_chosen(const route_job &job, size_t row, const float *score, uint32_t marked, uint32_t *chosen)
{
	const struct moe_routing &routing = job.routing;
	uint32_t before = 0, lower = (1u << simt_lane()) - 1;
	for (uint32_t i = 0; i * SIMT_LANES < routing.expert_count; i++) {
		uint32_t word = simt_ballot(marked >> i & 1);
		if (word >> simt_lane() & 1)
			chosen[before + simt_popcount(word & lower)] = i * SIMT_LANES + simt_lane();
		before += simt_popcount(word);
	}
	simt_sync_warp();
	float sum = 0.0f;
	for (uint32_t j = 0; j < routing.top_k; j++)
		sum += score[chosen[j]];
	for (uint32_t j = simt_lane(); j < routing.top_k; j += SIMT_LANES) {
		job.ret_expert[row * routing.top_k + j] = chosen[j];
		job.ret_weight[row * routing.top_k + j] =
			score[chosen[j]] / (routing.renormalise ? sum : 1.0f) * routing.scale;
	}
}

/* A warp for each row; scores, choices and values of groups lie in shared memory, [warp][3][expert_count], then [warp][top_k].
 * rows * experts * 4 bytes; top_k + group_top walks over a row's scores in shared memory: some 3 us for 256 experts and 8 of
 * them, whatever the rows up to 1,000. */
SIMT_KERNEL_OF(moe_route, ROUTE_THREADS, 2)(const route_job job)
{
	SIMT_DYNAMIC_SHARED(float, shared);
	const struct moe_routing &routing = job.routing;
	uint32_t count = routing.expert_count, row = blockIdx.x * ROUTE_WARPS + simt_warp();
	float *score = shared + simt_warp() * 3 * count, *choice = score + count, *value = choice + count;
	uint32_t *chosen = reinterpret_cast<uint32_t *>(shared + ROUTE_WARPS * 3 * count) + simt_warp() * routing.top_k;
	if (row >= job.rows)
		return;
	const bool nobody = job.counts && row >= job.counts[CUDA_COUNT_ROW_END];
	const float *logits = job.logits + (nobody ? 0 : (size_t)row * count);
	if (routing.score == MOE_SIGMOID)
		for (uint32_t e = simt_lane(); e < count; e += SIMT_LANES)
			score[e] = elementary_sigmoid(logits[e]);
	else
		score_softmax(logits, count, score);
	for (uint32_t e = simt_lane(); e < count; e += SIMT_LANES)
		choice[e] = job.bias ? score[e] + job.bias[e] : score[e];
	simt_sync_warp();
	if (routing.group_count > 1)
		limit_groups(routing, choice, value);
	write_chosen(job, row, score, mark_greatest(choice, count, routing.top_k), chosen);
}

static size_t route_bytes(uint32_t expert_count, uint32_t top_k)
{
	return ROUTE_WARPS * (3 * (size_t)expert_count + top_k) * sizeof(float);
}

enum err moe_prepare(struct cuda_device *device)
{
	cuda_allow_shared(device, (const void *)moe_route, route_bytes(MOE_EXPERTS_MAX, MOE_TOP_K_MAX));
	return device->failed;
}

void cuda_moe_route(struct device *device, const struct moe_route_call *call)
{
	const struct moe_routing *r = call->routing;
	const route_job job = {*r, call->logits, call->bias, call->rows, call->ret_expert, call->ret_weight,
			       call->runs ? cuda_runs_of(call->runs)->view.counts : NULL};
	size_t shared_bytes = route_bytes(r->expert_count, r->top_k);
	if (!cuda_alive(device) || call->rows == 0)
		return;
	cuda_check(cuda_of(device),
		   SIMT_LAUNCH(moe_route, dim3((call->rows + ROUTE_WARPS - 1) / ROUTE_WARPS), dim3(ROUTE_THREADS), shared_bytes,
			       cuda_stream(device), job),
		   "moe_route");
}

/* --- grouping ------------------------------------------------------------------------------------------------------ */

#define GROUP_WARPS   8 /* an expert each */
#define GROUP_THREADS (GROUP_WARPS * SIMT_LANES)
#define GROUP_TILE    2048 /* slots in shared memory at a time */

struct group_job {
	const uint32_t *expert;
	uint32_t slot_count, expert_count;
	uint32_t *ret_first, *ret_slot;
};

SIMT_DEVICE uint32_t load_tile(const group_job &job, uint32_t first, uint32_t *tile)
{
	uint32_t count = job.slot_count - first < GROUP_TILE ? job.slot_count - first : GROUP_TILE;
	simt_sync();
	for (uint32_t i = threadIdx.x; i < GROUP_TILE; i += GROUP_THREADS)
		tile[i] = i < count ? job.expert[first + i] : UINT32_MAX;
	simt_sync();
	return (count + SIMT_LANES - 1) / SIMT_LANES;
}

/* A warp for each expert walks the list twice: how many slots have a lower expert, which is where its own begin; then its
 * own, in order. No block waits for another, and no order of atomics shows. slots * 8 bytes for each eight experts, out of
 * the second-level cache: 64 MiB for 65,536 slots of 1,024 experts. */
SIMT_KERNEL_OF(moe_group, GROUP_THREADS, 4)(const group_job job)
{
	SIMT_SHARED uint32_t tile[GROUP_TILE];
	uint32_t own = blockIdx.x * GROUP_WARPS + simt_warp(), begin = 0, lower = (1u << simt_lane()) - 1;
	for (uint32_t first = 0; first < job.slot_count; first += GROUP_TILE) {
		uint32_t words = load_tile(job, first, tile);
		for (uint32_t i = 0; i < words; i++)
			begin += simt_popcount(simt_ballot(tile[i * SIMT_LANES + simt_lane()] < own));
	}
	if (simt_lane() == 0 && own < job.expert_count)
		job.ret_first[own] = begin;
	if (simt_lane() == 0 && own == job.expert_count - 1)
		job.ret_first[job.expert_count] = job.slot_count;
	for (uint32_t first = 0; first < job.slot_count; first += GROUP_TILE) {
		uint32_t words = load_tile(job, first, tile);
		for (uint32_t i = 0; i < words; i++) {
			uint32_t mine = simt_ballot(own < job.expert_count && tile[i * SIMT_LANES + simt_lane()] == own);
			if (mine >> simt_lane() & 1)
				job.ret_slot[begin + simt_popcount(mine & lower)] = first + i * SIMT_LANES + simt_lane();
			begin += simt_popcount(mine);
		}
	}
}

void cuda_moe_group(struct device *device, const uint32_t *expert, uint32_t slot_count, uint32_t expert_count,
		   uint32_t *ret_first, uint32_t *ret_slot)
{
	const group_job job = {expert, slot_count, expert_count, ret_first, ret_slot};
	if (cuda_alive(device))
		cuda_check(cuda_of(device),
			   SIMT_LAUNCH(moe_group, dim3((expert_count + GROUP_WARPS - 1) / GROUP_WARPS), dim3(GROUP_THREADS), 0,
				       cuda_stream(device), job),
			   "moe_group");
}
