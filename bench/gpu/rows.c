#include <stdio.h>

#include "bench/gpu/bench.h"

/* What memory bounds: each byte is counted once read and once written. */
enum { ROWS = 8192, HIDDEN = 4096, INNER = 14336 };

struct rows {
	struct bench *bench;
	struct norm_call norm;
	struct glu_call glu;
};

static void norm(void *context, uint32_t index)
{
	struct rows *rows = context;
	op_rmsnorm(rows->bench->device, &rows->norm);
}

static void glu(void *context, uint32_t index)
{
	struct rows *rows = context;
	op_glu(rows->bench->device, &rows->glu);
}

/* What comes before attention, of an 8B model's heads, queries and keys normalised: of a chunk, where bytes count, and of a decode step,
 * where the launch does. */
enum { HEADS = 32, KEYS = 8, DIM = 128, TOKENS = 64 };

struct qkv {
	struct bench *bench;
	struct qkv_call call;
};

static void qkv(void *context, uint32_t index)
{
	struct qkv *q = context;
	op_qkv(q->bench->device, &q->call);
}

/* Positions 0 to rows - 1 of one sequence; angles and weights are whatever lies in `weight`. */
static void measure_qkv(struct bench *bench, uint32_t rows, const char *name)
{
	static uint32_t table[ROWS / TOKENS];
	const uint32_t blocks = (rows + TOKENS - 1) / TOKENS;
	const struct kv_layout layout = {.layer_count = 1, .head_kv_count = KEYS, .head_dim = DIM, .block_tokens = TOKENS, .elem = ELEM_BF16};
	const struct kv_runs_bounds bounds = {1, rows, blocks, TOKENS};
	const struct kv_run run = {.blocks = table, .row_count = rows};
	const size_t stride = (HEADS + 2 * KEYS) * DIM, x_bytes = rows * stride * 4, angle_bytes = (size_t)rows * DIM / 2 * 4;
	struct kv_memory kv = {.layout = layout, .block_stride = kv_block_bytes(&layout), .layer_stride = kv_layer_bytes(&layout)};
	struct kv_runs *runs;
	for (uint32_t i = 0; i < blocks; i++)
		table[i] = i;
	bench_check(kv_runs_create(bench->device, &bounds, &runs), "runs");
	kv_runs_set(runs, &run, 1);
	kv.base = bench_alloc(bench, blocks * kv.block_stride);
	float *x = bench_alloc(bench, x_bytes), *angles = bench_alloc(bench, angle_bytes), *weight = bench_alloc(bench, DIM * 4);
	bench_fill_f32(bench, x, x_bytes / 4, 1);
	bench_fill_f32(bench, angles, angle_bytes / 4, 1);
	struct qkv q = {bench, {.kv = &kv, .runs = runs, .x = x, .x_stride = stride, .rows = rows, .head_count = HEADS, .q_norm = weight,
				.k_norm = weight, .eps = 1e-6f, .half = DIM / 2, .cos = angles, .sin = angles}};
	bench_measure(bench, name, (struct work){.bytes = (double)rows * DIM * (8 * HEADS + 6 * 2 * KEYS)}, qkv, &q);
	bench_check(device_sync(bench->device), "device");
	bench_free(bench, kv.base, blocks * kv.block_stride);
	bench_free(bench, x, x_bytes);
	bench_free(bench, angles, angle_bytes);
	bench_free(bench, weight, DIM * 4);
	kv_runs_destroy(runs);
}

void bench_rows(struct bench *bench)
{
	size_t hidden = (size_t)ROWS * HIDDEN * 4, inner = (size_t)ROWS * INNER * 8;
	float *x = bench_alloc(bench, hidden), *add = bench_alloc(bench, hidden), *gate_up = bench_alloc(bench, inner);
	float *weight = bench_alloc(bench, HIDDEN * 4);
	void *out = bench_alloc(bench, inner);
	struct rows rows = {bench,
			    {.x = x, .add = add, .weight = weight, .out = out, .rows = ROWS, .dim = HIDDEN, .eps = 1e-5f,
			     .out_elem = ELEM_BF16},
			    {.glu = {GLU_SILU, 0, 0}, .x = gate_up, .x_stride = 2 * INNER, .rows = ROWS, .dim = INNER, .out = out,
			     .out_stride = INNER, .out_elem = ELEM_BF16}};
	bench_fill_f32(bench, x, hidden / 4, 1);
	bench_fill_f32(bench, gate_up, inner / 4, 1);
	bench_measure(bench, "rmsnorm/8192 x 4096", (struct work){.bytes = 3.5 * (double)hidden}, norm, &rows);
	bench_measure(bench, "glu/8192 x 14336", (struct work){.bytes = 1.25 * (double)inner}, glu, &rows);
	bench_free(bench, x, hidden);
	bench_free(bench, add, hidden);
	bench_free(bench, gate_up, inner);
	bench_free(bench, weight, HIDDEN * 4);
	bench_free(bench, out, inner);
	measure_qkv(bench, ROWS, "qkv/8192 rows of 32 and 8 heads of 128");
	measure_qkv(bench, 1, "qkv/1 row");
}
