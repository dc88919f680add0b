/* attention_tiles - the pieces of the tensor-core form: how a block's shared memory lies, and the ring between its warpgroups.
 *
 * Owns:   nothing; as attention.h.
 * Loop:   device code.
 * Rules:  1 a block is one warpgroup that loads and one or more that compute; tiles of keys and values pass through a ring of
 *           slots, each with a barrier for "it has landed" and one for "it may be overwritten";
 *         2 a tile in shared memory is panels of 64 dimensions: [panel][64 positions or rows][128 bytes], swizzled by 128 bytes. */
#ifndef KERNELS_CUDA_ATTENTION_TILES_H
#define KERNELS_CUDA_ATTENTION_TILES_H
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/simt_async.h"

#define TILE_SLOTS_MAX	 8
#define ROW_GROUPS_MAX	 3
#define PANEL_BYTES	 (ATTENTION_TILE * 128)
#define PANEL_DIM	 64
#define PANEL_CHUNKS	 8 /* of 16 bytes in a line */
#define WARPGROUP	 128
#define LOAD_WARPS	 (WARPGROUP / SIMT_LANES)
#define WARP_ROWS	 (ATTENTION_TILE / LOAD_WARPS)

struct tiles_shape {
	uint32_t panels; /* of a slot and of a group's queries */
	uint32_t slots;
	uint32_t box_rows; /* of a tile that lie in one block: the copy engine's box, 8 to 64; 0: it cannot, and threads copy */
	uint32_t box_shift; /* its logarithm */
	uint32_t value_lines; /* from a key to its value, in vectors */
};

/* Behind queries and slots. */
struct tiles_tail {
	uint64_t full[TILE_SLOTS_MAX], empty[TILE_SLOTS_MAX];
	/* What each row group computes and each loading warp brings: registers are for sums, and loading warps have few. */
	struct plan_item items[ROW_GROUPS_MAX], loaded[LOAD_WARPS];
	struct attention_plan plan;
};

struct tiles_memory {
	uint8_t *queries; /* [row group][panel] */
	uint8_t *slots;	  /* [slot][panel] */
	struct tiles_tail *tail;
};

SIMT_DEVICE struct tiles_memory tiles_memory_of(uint8_t *shared, const struct tiles_shape *shape, uint32_t row_groups)
{
	struct tiles_memory memory;
	memory.queries = shared;
	memory.slots = shared + row_groups * shape->panels * PANEL_BYTES;
	memory.tail = (struct tiles_tail *)(memory.slots + shape->slots * shape->panels * PANEL_BYTES);
	return memory;
}

/* Where in a tile chunk `chunk` of a row lies. */
SIMT_DEVICE uint32_t tile_offset(uint32_t row, uint32_t chunk)
{
	return chunk / PANEL_CHUNKS * PANEL_BYTES + row * 128 + (chunk % PANEL_CHUNKS ^ row % 8) * 16;
}

/* A place in the ring: each side goes round it for itself. */
struct ring {
	uint32_t slot, parity;
};

SIMT_DEVICE void ring_next(struct ring *ring, uint32_t slots)
{
	ring->slot++;
	if (ring->slot == slots) {
		ring->slot = 0;
		ring->parity ^= 1;
	}
}

/* --- queries ------------------------------------------------------------------------------------------------- */

struct query_part {
	const float *at;
	bool vectors;
};

/* Dimensions [8 chunk, 8 chunk + 8) of a packed row's query. */
SIMT_DEVICE struct query_part query_at(const struct attention_job *job, const struct plan_item *item, uint32_t packed,
				       uint32_t chunk)
{
	uint32_t row = packed / job->group, head = item->head_kv * job->group + (packed - row * job->group), d = chunk * 8;
	size_t batch_row = item->run.row_first + row;
	if (d < job->q_dim)
		return {job->q + batch_row * job->q_stride + (size_t)head * job->q_dim + d, job->q_vectors};
	uint32_t rest = job->head_dim - job->q_dim;
	return {job->q_rest + batch_row * job->q_rest_stride + (size_t)head * rest + d - job->q_dim, job->q_vectors};
}

SIMT_DEVICE uint4 query_load(struct query_part part)
{
	if (!part.vectors)
		return make_uint4(simt_bf16_pair(part.at[0], part.at[1]), simt_bf16_pair(part.at[2], part.at[3]),
				  simt_bf16_pair(part.at[4], part.at[5]), simt_bf16_pair(part.at[6], part.at[7]));
	float4 low = ((const float4 *)part.at)[0], high = ((const float4 *)part.at)[1];
	return make_uint4(simt_bf16_pair(low.x, low.y), simt_bf16_pair(low.z, low.w), simt_bf16_pair(high.x, high.y),
			  simt_bf16_pair(high.z, high.w));
}

/* Rows [first, first + count) of the run's packed rows to a group's tile, rounded to bf16, by `threads` threads; the rows
 * behind them are zero. */
SIMT_DEVICE void queries_load(const struct attention_job *job, const struct plan_item *item, uint32_t first, uint32_t count,
			      uint8_t *tile, uint32_t thread, uint32_t threads)
{
	uint32_t chunks = job->head_dim / 8;
	for (uint32_t i = thread; i < ATTENTION_TILE * chunks; i += threads) {
		uint32_t row = i / chunks, chunk = i - row * chunks;
		uint4 halves = make_uint4(0, 0, 0, 0);
		if (row < count)
			halves = query_load(query_at(job, item, first + row, chunk));
		*(uint4 *)(tile + tile_offset(row, chunk)) = halves;
	}
	simt_fence_async();
}
#endif
