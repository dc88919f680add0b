/* runs - the runs of a step in device memory: written by the host into one of two pinned pieces, copied in order with
 * operations to the one place that kernels read. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cuda.h"

/* Offsets of what lies in a piece: counts, runs, rows, tables. */
struct places {
	size_t runs, rows, tables, bytes;
};

static struct places places_of(const struct kv_runs_bounds *bounds)
{
	struct places at;
	at.runs = CUDA_COUNTS * sizeof(uint32_t);
	at.rows = at.runs + bounds->runs_max * sizeof(struct cuda_run);
	at.tables = at.rows + bounds->rows_max * sizeof(uint32_t);
	at.bytes = at.tables + (size_t)bounds->runs_max * bounds->blocks_max * sizeof(uint32_t);
	return at;
}

static enum err allocate(struct cuda_device *device, struct cuda_runs *runs)
{
	for (uint32_t i = 0; i < 2; i++)
		if (!cuda_enter(device) || !CUDA_TRY(device, cudaEventCreateWithFlags(&runs->done[i], cudaEventDisableTiming)))
			return device->failed;
	enum err e = dev_alloc(&device->base, MEM_DEVICE, runs->bytes, (void **)&runs->memory);
	return e == ERR_OK ? dev_alloc(&device->base, MEM_PINNED, 2 * runs->bytes, (void **)&runs->staged) : e;
}

enum err cuda_kv_runs_create(struct device *base, const struct kv_runs_bounds *bounds, struct kv_runs **ret_runs)
{
	struct cuda_runs *runs = (struct cuda_runs *)calloc(1, sizeof(*runs));
	if (!runs)
		return ERR_NOMEM;
	struct places at = places_of(bounds);
	runs->base.device = base;
	runs->bytes = at.bytes;
	enum err e = allocate(cuda_of(base), runs);
	if (e != ERR_OK) {
		cuda_kv_runs_destroy(&runs->base);
		return e;
	}
	runs->view.counts = (const uint32_t *)runs->memory;
	runs->view.runs = (const struct cuda_run *)(runs->memory + at.runs);
	runs->view.run_of_row = (const uint32_t *)(runs->memory + at.rows);
	runs->view.tables = (const uint32_t *)(runs->memory + at.tables);
	*ret_runs = &runs->base;
	return ERR_OK;
}

void cuda_kv_runs_destroy(struct kv_runs *base)
{
	struct cuda_runs *runs = (struct cuda_runs *)base;
	for (uint32_t i = 0; i < 2; i++)
		if (runs->done[i])
			(void)cudaEventDestroy(runs->done[i]);
	dev_free(base->device, MEM_DEVICE, runs->memory, runs->bytes);
	dev_free(base->device, MEM_PINNED, runs->staged, 2 * runs->bytes);
	free(runs);
}

/* Fills a piece; returns the bytes of it that are in use. */
static size_t write_piece(struct cuda_runs *runs, uint8_t *piece)
{
	const struct kv_runs_bounds *bounds = &runs->base.bounds;
	struct places at = places_of(bounds);
	uint32_t *counts = (uint32_t *)piece, *rows = (uint32_t *)(piece + at.rows), *tables = (uint32_t *)(piece + at.tables);
	struct cuda_run *to = (struct cuda_run *)(piece + at.runs);
	uint32_t table = 0, tiles = 0;
	memset(rows, 0xff, bounds->rows_max * sizeof(uint32_t)); /* CUDA_RUN_NONE */
	runs->rows_longest = runs->positions_longest = 0;
	for (uint32_t i = 0; i < runs->base.count; i++) {
		const struct kv_run *run = &runs->base.list[i];
		uint32_t end = run->first_position + run->row_count;
		uint32_t blocks = (end + bounds->block_tokens - 1) / bounds->block_tokens;
		to[i] = (struct cuda_run){run->first_position, run->row_first, run->row_count, table, run->digest};
		for (uint32_t row = 0; row < run->row_count; row++)
			rows[run->row_first + row] = i;
		memcpy(tables + table, run->blocks, blocks * sizeof(uint32_t));
		table += blocks;
		tiles += (end + 63) / 64;
		runs->rows_longest = run->row_count > runs->rows_longest ? run->row_count : runs->rows_longest;
		runs->positions_longest = end > runs->positions_longest ? end : runs->positions_longest;
	}
	counts[CUDA_COUNT_RUNS] = runs->base.count;
	counts[CUDA_COUNT_ROWS] = runs->base.row_count;
	counts[CUDA_COUNT_ROWS_LONGEST] = runs->rows_longest;
	counts[CUDA_COUNT_POSITIONS] = runs->positions_longest;
	counts[CUDA_COUNT_ROW_END] = kv_runs_row_end(&runs->base);
	counts[CUDA_COUNT_TILES] = tiles;
	return at.tables + table * sizeof(uint32_t);
}

void cuda_kv_runs_set(struct kv_runs *base)
{
	struct cuda_runs *runs = (struct cuda_runs *)base;
	struct cuda_device *device = cuda_of(base->device);
	uint32_t piece = runs->next++ % 2;
	assert(!device->recording);
	if (!cuda_alive(base->device) || (runs->used[piece] && !cuda_await(device, runs->done[piece])))
		return;
	uint8_t *staged = runs->staged + piece * runs->bytes;
	size_t bytes = write_piece(runs, staged);
	if (CUDA_TRY(device, cudaMemcpyAsync(runs->memory, staged, bytes, cudaMemcpyHostToDevice, device->stream)))
		runs->used[piece] = CUDA_TRY(device, cudaEventRecord(runs->done[piece], device->stream));
}
