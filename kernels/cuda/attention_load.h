/* attention_load - a block's loading warpgroup: tiles of keys and values on their way to the ring.
 *
 * Where blocks of the pool have room for whole boxes (box_rows_of()), the copy engine brings a tile: a warp for keys and one for
 * values, a lane of which names the boxes; the others have nothing to do. Tiles that reach beyond what the item's rows see are
 * gathered by that warp, for what nobody sees is not read and becomes zeros. In pools of other shapes four warps copy, 16 rows
 * each.
 *
 * Owns:   nothing; as attention.h.
 * Loop:   device code.
 * Rules:  1 a slot that the copy engine fills is told by the engine, to its barrier; one that threads filled is told by them, when
 *           their copies have landed and are fenced: in order, as late as others need not wait for it. */
#ifndef KERNELS_CUDA_ATTENTION_LOAD_H
#define KERNELS_CUDA_ATTENTION_LOAD_H
#include "kernels/cuda/attention_tiles.h"

struct loader {
	const struct attention_job *job;
	const struct tiles_shape *shape;
	struct tiles_memory memory;
	const CUtensorMap *map; /* [block][line of a token's key or value][dimension] of the layer; not looked at without boxes */
	struct ring next;   /* to be filled */
	struct ring landed; /* the oldest whose landing was not told */
	uint32_t behind;    /* fillings from there on */
	uint32_t copied;    /* a bit for each slot: threads fill it, and have not told */
};

/* --- the ring ------------------------------------------------------------------------------------------------ */

SIMT_DEVICE void loader_tell(struct loader *loader)
{
	uint32_t bit = 1u << loader->landed.slot;
	if (loader->copied & bit) {
		simt_fence_async();
		simt_sync_warp();
		if (simt_lane() == 0)
			simt_mbarrier_arrive(&loader->memory.tail->full[loader->landed.slot]);
		loader->copied &= ~bit;
	}
	ring_next(&loader->landed, loader->shape->slots);
	loader->behind--;
}

/* Waits for all that is under way. */
SIMT_DEVICE void loader_end(struct loader *loader)
{
	simt_cp_async_wait<0>();
	while (loader->behind > 0)
		loader_tell(loader);
}

/* A slot that nobody reads any more. What others may have to see before they leave one is told before it is waited for: of two
 * slots both may be read at once, and the engine fills as many as there are. */
SIMT_DEVICE uint8_t *loader_begin(struct loader *loader)
{
	uint64_t *empty = &loader->memory.tail->empty[loader->next.slot];
	bool all_out = loader->shape->box_rows > 0 || loader->shape->slots == 2;
	if (all_out && loader->copied != 0 && simt_any(!simt_mbarrier_test(empty, loader->next.parity ^ 1)))
		loader_end(loader);
	simt_mbarrier_wait(empty, loader->next.parity ^ 1);
	return loader->memory.slots + loader->next.slot * loader->shape->panels * PANEL_BYTES;
}

/* The slot's filling is under way, or another warp's; waits for the oldest when as many are as may be: all slots but one that others read until they have seen the next. */
SIMT_DEVICE void loader_commit(struct loader *loader)
{
	ring_next(&loader->next, loader->shape->slots);
	if (loader->copied == 0) { /* all told, or to be by the engine */
		loader->landed = loader->next;
		loader->behind = 0;
		return;
	}
	simt_cp_async_commit();
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

/* --- by threads ---------------------------------------------------------------------------------------------- */

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

/* 16 rows of a tile from row `first` on, each somewhere; lane i < 16 knows where row i of them begins, or that it is none: NULL,
 * and becomes zeros. */
SIMT_DEVICE void loader_gather(const struct loader *loader, uint8_t *slot, uint32_t first, const uint8_t *row_at, uint32_t offset)
{
	uint32_t chunks = loader->job->vector_bytes / 16, row = simt_lane() / chunks, chunk = simt_lane() % chunks;
	uint32_t row_step = SIMT_LANES / chunks, chunk_step = SIMT_LANES % chunks;
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

/* Where the key of a position lies; NULL: no row of the item sees it. */
SIMT_DEVICE const uint8_t *loader_key(const struct loader *loader, const struct plan_item *item, uint32_t position)
{
	if (position < item->low || position >= item->end)
		return NULL;
	return attention_key(loader->job, &item->run, position) + item->head_kv * loader->job->head_bytes;
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
	uint32_t first = tile + simt_warp() * WARP_ROWS;
	bool whole = first >= item->low && first + WARP_ROWS <= item->end;
	struct loader_rows rows = {loader_key(loader, item, first + simt_lane() % WARP_ROWS), NULL};
	if (whole && job->head_dim == panels * PANEL_DIM && job->block_tokens % WARP_ROWS == 0)
		rows.first = rows.at - (size_t)(simt_lane() % WARP_ROWS) * job->vector_bytes;
	return rows;
}

/* A quarter of a tile by each warp. */
template <int panels>
SIMT_DEVICE void loader_fill(struct loader *loader, const struct loader_rows *rows, uint32_t offset)
{
	uint8_t *slot = loader_begin(loader);
	if (rows->first)
		loader_copy_all<panels>(slot, rows->first + offset);
	else
		loader_gather(loader, slot, simt_warp() * WARP_ROWS, rows->at, offset);
	loader->copied |= 1u << loader->next.slot;
	loader_commit(loader);
}

/* The whole tile by one warp. */
SIMT_DEVICE void loader_fill_alone(struct loader *loader, const struct plan_item *item, uint32_t tile, uint32_t offset)
{
	uint8_t *slot = loader_begin(loader);
	SIMT_ROLLED
	for (uint32_t row = 0; row < ATTENTION_TILE; row += WARP_ROWS)
		loader_gather(loader, slot, row, loader_key(loader, item, tile + row + simt_lane() % WARP_ROWS), offset);
	loader->copied |= 1u << loader->next.slot;
	loader_commit(loader);
}

/* --- by the copy engine -------------------------------------------------------------------------------------- */

/* Where boxes of the item lie: lane i knows that of position first + i box_rows. So a table is read once for 32 of them. */
struct loader_boxes {
	uint32_t first;
	uint32_t block, line; /* of the map; the line of the key */
};

SIMT_DEVICE void loader_look(const struct loader *loader, const struct plan_item *item, uint32_t first, struct loader_boxes *boxes)
{
	const struct attention_job *job = loader->job;
	uint32_t rows = loader->shape->box_rows, position = first + simt_lane() * rows;
	*boxes = {first, 0, 0};
	if (position + rows <= item->low || position >= item->end)
		return;
	uint32_t index = position / job->block_tokens;
	boxes->block = job->runs.tables[item->run.table + index] - job->block_first;
	boxes->line = item->head_kv * (uint32_t)(job->head_bytes / job->vector_bytes) + position - index * job->block_tokens;
}

/* A tile that is all seen: keys, or what lies `lines` behind them. */
SIMT_DEVICE void loader_fetch(struct loader *loader, const struct loader_boxes *boxes, uint32_t tile, uint32_t lines)
{
	uint8_t *slot = loader_begin(loader);
	uint64_t *full = &loader->memory.tail->full[loader->next.slot];
	uint32_t rows = loader->shape->box_rows, from = (tile - boxes->first) >> loader->shape->box_shift;
	uint32_t panels = (loader->job->head_dim + PANEL_DIM - 1) / PANEL_DIM;
	if (simt_lane() == 0)
		simt_mbarrier_arrive_expect(full, panels * PANEL_BYTES);
	for (uint32_t row = 0; row < ATTENTION_TILE; row += rows, from++) {
		int block = (int)simt_shuffle(boxes->block, (int)from), line = (int)(simt_shuffle(boxes->line, (int)from) + lines);
		for (uint32_t panel = 0; simt_lane() == 0 && panel < panels; panel++)
			simt_tma_load_3d(slot + panel * PANEL_BYTES + row * 128, loader->map, full, (int)(panel * PANEL_DIM), line, block);
	}
	loader_commit(loader);
}

/* --- an item --------------------------------------------------------------------------------------------------- */

struct loader_tiles {
	uint32_t first, end; /* positions */
};

SIMT_DEVICE struct loader_tiles loader_tiles_of(const struct attention_job *job, const struct plan_item *item)
{
	uint32_t split = attention_split(job), first = item->split_first * split, end = item->split_end * split;
	uint32_t low = item->low / ATTENTION_TILE * ATTENTION_TILE;
	return {first > low ? first : low, end < item->end ? end : item->end};
}

/* By four warps. */
template <int panels> SIMT_DEVICE void loader_item(struct loader *loader, const struct plan_item *item)
{
	struct loader_tiles tiles = loader_tiles_of(loader->job, item);
	for (uint32_t tile = tiles.first; tile < tiles.end; tile += ATTENTION_TILE) {
		struct loader_rows rows = loader_find<panels>(loader, item, tile);
		loader_fill<panels>(loader, &rows, 0);
		if (loader->job->value_offset > 0)
			loader_fill<panels>(loader, &rows, loader->job->value_offset);
	}
}

/* By one for keys and one for values, and the copy engine. */
SIMT_DEVICE void loader_item_alone(struct loader *loader, const struct plan_item *item)
{
	const struct attention_job *job = loader->job;
	struct loader_tiles tiles = loader_tiles_of(job, item);
	struct loader_boxes boxes = {};
	uint32_t look = tiles.first;
	for (uint32_t tile = tiles.first; tile < tiles.end; tile += ATTENTION_TILE) {
		bool whole = tile >= item->low && tile + ATTENTION_TILE <= item->end;
		if (tile >= look) {
			loader_look(loader, item, tile, &boxes);
			look = tile + SIMT_LANES * loader->shape->box_rows;
		}
		for (uint32_t value = 0; value < (job->value_offset > 0 ? 2 : 1); value++) {
			if (value != simt_warp())
				loader_commit(loader);
			else if (whole)
				loader_fetch(loader, &boxes, tile, value * loader->shape->value_lines);
			else
				loader_fill_alone(loader, item, tile, value * job->value_offset);
		}
	}
}
#endif
