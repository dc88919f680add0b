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
};

/* Behind queries and slots. */
struct tiles_tail {
	uint64_t full[TILE_SLOTS_MAX], empty[TILE_SLOTS_MAX];
	struct plan_item items[ROW_GROUPS_MAX]; /* what each row group computes: registers are for sums */
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

/* --- loading ------------------------------------------------------------------------------------------------- */

struct loader {
	const struct attention_job *job;
	const struct tiles_shape *shape;
	struct tiles_memory memory;
	struct ring next;   /* to be filled */
	struct ring landed; /* the oldest whose landing was not told */
	uint32_t behind;    /* fillings that were not told yet */
};

SIMT_DEVICE void loader_tell(struct loader *loader)
{
	simt_fence_async();
	simt_sync_warp();
	if (simt_lane() == 0)
		simt_mbarrier_arrive(&loader->memory.tail->full[loader->landed.slot]);
	ring_next(&loader->landed, loader->shape->slots);
	loader->behind--;
}

/* Waits for the oldest filling when as many are under way as may be: all slots but one that others read until they have seen the next. */
SIMT_DEVICE void loader_commit(struct loader *loader)
{
	simt_cp_async_commit();
	ring_next(&loader->next, loader->shape->slots);
	loader->behind++;
	if (loader->shape->slots >= 8 && loader->behind > 6) {
		simt_cp_async_wait<6>();
		loader_tell(loader);
	} else if (loader->shape->slots < 8 && loader->shape->slots >= 5 && loader->behind > 3) {
		simt_cp_async_wait<3>();
		loader_tell(loader);
	} else if (loader->shape->slots == 4 && loader->behind > 2) {
		simt_cp_async_wait<2>();
		loader_tell(loader);
	} else if (loader->shape->slots < 4 && loader->shape->slots >= 2 && loader->behind > 1) {
		simt_cp_async_wait<1>();
		loader_tell(loader);
	} else if (loader->shape->slots == 1) {
		simt_cp_async_wait<0>();
		loader_tell(loader);
	}
}

/* Waits for all that is under way. */
SIMT_DEVICE void loader_end(struct loader *loader)
{
	simt_cp_async_wait<0>();
	while (loader->behind > 0)
		loader_tell(loader);
}

/* 16 rows of a warp that lie one behind the other, whole panels each: `count` of them (1, 2, 4, 8) from `first`. Lanes go
 * along a row, or along as many rows as they cover: then row * 128 and the swizzle are an exclusive-or with what a lane keeps,
 * and constants. */
template <int panels, int first, int count> SIMT_DEVICE void loader_copy(uint8_t *slot, const uint8_t *from)
{
	constexpr uint32_t lanes = count < 4 ? count * PANEL_CHUNKS : SIMT_LANES; /* along a row */
	constexpr uint32_t rows = SIMT_LANES / lanes, pieces = count * PANEL_CHUNKS / lanes;
	uint32_t row = simt_lane() / lanes, chunk = simt_lane() % lanes;
	uint32_t to = simt_anew(tile_offset(row, chunk) + first * PANEL_BYTES + simt_warp() * WARP_ROWS * 128);
	from += row * (panels * 128) + first * 128 + chunk * 16;
	SIMT_UNROLL
	for (uint32_t i = 0; i < WARP_ROWS / rows * pieces; i++) {
		uint32_t down = i / pieces * rows, along = i % pieces * lanes;
		simt_cp_async16(slot + ((to ^ down % 8 * 16) + down * 128 + along / PANEL_CHUNKS * PANEL_BYTES),
				from + down * (panels * 128) + along * 16, true);
	}
}

template <int panels> SIMT_DEVICE void loader_copy_all(uint8_t *slot, const uint8_t *from)
{
	constexpr int count = panels < 8 ? panels : 8;
	loader_copy<panels, 0, count>(slot, from);
	if constexpr (panels > count)
		loader_copy<panels, count, panels - count>(slot, from);
}

/* 16 rows of a warp, each somewhere; lane i < 16 knows where row i begins, or that it is none: NULL, and becomes zeros. */
SIMT_DEVICE void loader_gather(const struct loader *loader, uint8_t *slot, const uint8_t *row_at, uint32_t offset)
{
	uint32_t chunks = loader->job->vector_bytes / 16, row = simt_lane() / chunks, chunk = simt_lane() % chunks;
	uint32_t row_step = SIMT_LANES / chunks, chunk_step = SIMT_LANES % chunks, first = simt_warp() * WARP_ROWS;
	for (uint32_t i = 0; i < WARP_ROWS * chunks; i += SIMT_LANES) {
		uint64_t begin = simt_shuffle((uint64_t)(uintptr_t)row_at, (int)row);
		const uint8_t *from = begin ? (const uint8_t *)(uintptr_t)begin + offset + chunk * 16 : loader->job->keys;
		simt_cp_async16(slot + tile_offset(first + row, chunk), from, begin != 0);
		row += row_step;
		chunk += chunk_step;
		row += chunk >= chunks;
		chunk -= chunk >= chunks ? chunks : 0;
	}
}

/* The rows of a warp in a tile. */
struct loader_rows {
	const uint8_t *at; /* of lane i < 16 */
	const uint8_t *first; /* all behind it, one after the other; NULL: gather them */
};

template <int panels>
SIMT_DEVICE struct loader_rows loader_find(const struct loader *loader, const struct plan_item *item, uint32_t tile)
{
	const struct attention_job *job = loader->job;
	uint32_t first = tile + simt_warp() * WARP_ROWS, position = first + simt_lane() % WARP_ROWS;
	bool is = position >= item->low && position < item->end, whole = first >= item->low && first + WARP_ROWS <= item->end;
	struct loader_rows rows = {NULL, NULL};
	if (is)
		rows.at = attention_key(job, &item->run, position) + item->head_kv * job->head_bytes;
	if (whole && job->head_dim == panels * PANEL_DIM && job->block_tokens % WARP_ROWS == 0)
		rows.first = rows.at - (size_t)(simt_lane() % WARP_ROWS) * job->vector_bytes;
	return rows;
}

template <int panels>
SIMT_DEVICE void loader_fill(struct loader *loader, const struct loader_rows *rows, uint32_t offset)
{
	uint8_t *slot = loader->memory.slots + loader->next.slot * loader->shape->panels * PANEL_BYTES;
	uint64_t *empty = &loader->memory.tail->empty[loader->next.slot];
	/* Of two slots both may be read at once: what is under way is told before one is waited for. */
	if (loader->shape->slots == 2 && simt_any(!simt_mbarrier_test(empty, loader->next.parity ^ 1)))
		loader_end(loader);
	simt_mbarrier_wait(empty, loader->next.parity ^ 1);
	if (rows->first)
		loader_copy_all<panels>(slot, rows->first + offset);
	else
		loader_gather(loader, slot, rows->at, offset);
	loader_commit(loader);
}

template <int panels> SIMT_DEVICE void loader_item(struct loader *loader, const struct plan_item *item)
{
	const struct attention_job *job = loader->job;
	uint32_t split = attention_split(job), first = item->split_first * split, end = item->split_end * split;
	uint32_t low = item->low / ATTENTION_TILE * ATTENTION_TILE;
	first = first > low ? first : low;
	end = end < item->end ? end : item->end;
	for (uint32_t tile = first; tile < end; tile += ATTENTION_TILE) {
		struct loader_rows rows = loader_find<panels>(loader, item, tile);
		loader_fill<panels>(loader, &rows, 0);
		if (job->value_offset > 0)
			loader_fill<panels>(loader, &rows, job->value_offset);
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
