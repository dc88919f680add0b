#include <stdio.h>

#include "bench/gpu/bench.h"
#include "bench/gpu/shapes.h"

/* What memory bounds: each byte is counted once read and once written. */
enum { ROWS = SHAPES_ROWS, HIDDEN = SHAPES_HIDDEN, INNER = SHAPES_INNER };

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
	char name[64];
	snprintf(name, sizeof(name), "rmsnorm/%d x %d", ROWS, HIDDEN);
	bench_measure(bench, name, (struct work){.bytes = 3.5 * (double)hidden}, norm, &rows);
	snprintf(name, sizeof(name), "glu/%d x %d", ROWS, INNER);
	bench_measure(bench, name, (struct work){.bytes = 1.25 * (double)inner}, glu, &rows);
	bench_free(bench, x, hidden);
	bench_free(bench, add, hidden);
	bench_free(bench, gate_up, inner);
	bench_free(bench, weight, HIDDEN * 4);
	bench_free(bench, out, inner);
}
