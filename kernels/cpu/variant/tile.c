#include "kernels/cpu/variant/names.h"
#include "kernels/cpu/variant/tile.h"
#include "kernels/cpu/variant/simd.h"

/* Blocks of (rows x panels) whose accumulators, one row of weights and a broadcast fit the registers:
 * 16 of 128 bits (portable), 16 of 256 bits (AVX2), 32 of 512 bits (AVX-512). More accumulators hide the
 * latency of the additions, more rows save loads of weights: bench/kernels. */
#if KERNEL_ISA >= 2
#define ROWS_MAX 12
#define PANELS_OF(rows) ((rows) <= 6 ? 4 : 2)
#elif KERNEL_ISA == 1
#define ROWS_MAX 6
#define PANELS_OF(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 2 : 1)
#else
#define ROWS_MAX 2
#define PANELS_OF(rows) ((rows) == 1 ? 2 : 1)
#endif
#define PANELS_MAX 4
#define PREFETCH_STEPS 24 /* 1.5 KiB of each panel ahead: bench/kernels */

/* Arrays become registers only where every index is a constant in the text (gcc 12 unrolls too late to
 * see it), hence these two lists in place of loops; what lies outside the block folds away. */
#define COLUMN_EACH(X, m) X(m, 0) X(m, 1) X(m, 2) X(m, 3) X(m, 4) X(m, 5) X(m, 6) X(m, 7)
#define ROW_EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define COLUMNS_MAX 8

#define BEGIN(m, p)             \
	if (m < rows && p < columns) \
		acc[m][p] = t->add ? r_load(out + m * t->acc_stride + p * REG_LANES) : r_set(0.0f);
#define BEGIN_ROW(m) COLUMN_EACH(BEGIN, m)

#define END(m, p)               \
	if (m < rows && p < columns) \
		r_store(out + m * t->acc_stride + p * REG_LANES, acc[m][p]);
#define END_ROW(m) COLUMN_EACH(END, m)

#define WORD(p) (w + p / REGS * w_panel + p % REGS * REG_LANES)
#define WEIGHT(m, p)                                                               \
	if (p < columns) {                                                         \
		if (!odd && p % REGS == 0)                                         \
			__builtin_prefetch(WORD(p) + PREFETCH_STEPS * LANES);      \
		weight[p] = kind != TILE_PAIR ? r_load((const float *)(const void *)WORD(p)) \
			    : odd	      ? r_high_half(WORD(p))               \
					      : r_low_half(WORD(p));               \
	}
#define MULTIPLY(m, p)   \
	if (p < columns) \
		acc[m][p] = kind == TILE_DOT ? r_dot(acc[m][p], weight[p], xm) : r_fma(xm, weight[p], acc[m][p]);
#define WEIGHT_MULTIPLY(m, p) WEIGHT(m, p) MULTIPLY(m, p)
#define MULTIPLY_ROW(m)                                    \
	if (m < rows) {                                    \
		vreg xm = r_set(x[m * x_stride + k]);      \
		COLUMN_EACH(MULTIPLY, m)                   \
	}
/* All columns and rows of one k. */
#define MULTIPLY_ALL(is_odd, k_expression)                 \
	{                                                  \
		const bool odd = is_odd;                   \
		const size_t k = k_expression;             \
		if (rows == 1) {                           \
			vreg xm = r_set(x[k]);             \
			COLUMN_EACH(WEIGHT_MULTIPLY, 0)    \
		} else {                                   \
			COLUMN_EACH(WEIGHT, 0)             \
			ROW_EACH(MULTIPLY_ROW)             \
		}                                          \
	}

/* kind, rows and panels are constants in each instance. */
INLINE void block(const enum tile_kind kind, const uint32_t rows, const uint32_t panels, const struct tile *t,
		  uint32_t row, uint32_t panel)
{
	const uint32_t columns = panels * REGS; /* in registers */
	const size_t x_stride = t->x_stride, w_panel = t->w_panel, w_step = t->w_step, steps = t->steps;
	const float *x = (const float *)t->x + row * x_stride;
	const uint32_t *w = (const uint32_t *)t->w + panel * w_panel;
	float *out = t->acc + row * t->acc_stride + panel * LANES;
	vreg acc[12][COLUMNS_MAX], weight[COLUMNS_MAX];

	ROW_EACH(BEGIN_ROW)
	for (size_t step = 0; step < steps; step++, w += w_step) {
		if (kind != TILE_PAIR) {
			MULTIPLY_ALL(false, step)
			continue;
		}
		MULTIPLY_ALL(false, 2 * step)
		/* The words are read again rather than kept: without this gcc holds both halves and spills. */
		__asm__ volatile("" ::: "memory");
		MULTIPLY_ALL(true, 2 * step + 1)
	}
	ROW_EACH(END_ROW)
}

typedef void block_fn(const struct tile *t, uint32_t row, uint32_t panel);

#define BLOCK(kind, rows)                                                                              \
	static void block_##kind##_##rows(const struct tile *t, uint32_t row, uint32_t panel)          \
	{                                                                                              \
		block(kind, rows, PANELS_OF(rows), t, row, panel);                                     \
	}                                                                                              \
	static void block_##kind##_##rows##_narrow(const struct tile *t, uint32_t row, uint32_t panel) \
	{                                                                                              \
		block(kind, rows, 1, t, row, panel);                                                   \
	}
#define BLOCK_NAMES(kind, rows) {block_##kind##_##rows##_narrow, block_##kind##_##rows}

#if ROWS_MAX == 12
#define ROWS_EACH(X, kind)                                                                                   \
	X(kind, 1) X(kind, 2) X(kind, 3) X(kind, 4) X(kind, 5) X(kind, 6) X(kind, 7) X(kind, 8) X(kind, 9)   \
	X(kind, 10) X(kind, 11) X(kind, 12)
#elif ROWS_MAX == 6
#define ROWS_EACH(X, kind) X(kind, 1) X(kind, 2) X(kind, 3) X(kind, 4) X(kind, 5) X(kind, 6)
#else
#define ROWS_EACH(X, kind) X(kind, 1) X(kind, 2)
#endif
#define BLOCK_ROW(kind, rows) [rows] = BLOCK_NAMES(kind, rows),

ROWS_EACH(BLOCK, TILE_F32)
ROWS_EACH(BLOCK, TILE_PAIR)
#if KERNEL_ISA == 3
ROWS_EACH(BLOCK, TILE_DOT)
#endif

/* [kind][rows][one panel | PANELS_OF(rows)] */
static block_fn *const blocks[][ROWS_MAX + 1][2] = {
	[TILE_F32] = {ROWS_EACH(BLOCK_ROW, TILE_F32)},
	[TILE_PAIR] = {ROWS_EACH(BLOCK_ROW, TILE_PAIR)},
#if KERNEL_ISA == 3
	[TILE_DOT] = {ROWS_EACH(BLOCK_ROW, TILE_DOT)},
#endif
};

static void run_rows(enum tile_kind kind, const struct tile *tile, uint32_t row, uint32_t rows, uint32_t panel,
		     uint32_t panels)
{
	uint32_t wide = PANELS_OF(rows), end = panel + panels;
	for (; panel + wide <= end; panel += wide)
		blocks[kind][rows][1](tile, row, panel);
	for (; panel < end; panel++)
		blocks[kind][rows][0](tile, row, panel);
}

void tile_run(enum tile_kind kind, const struct tile *tile)
{
	if (tile->rows == 0)
		return;
	/* Passes of about equal height: 8 rows as 4 + 4, not 6 + 2. */
	uint32_t passes = (tile->rows + ROWS_MAX - 1) / ROWS_MAX;
	uint32_t wide = PANELS_OF(tile->rows / passes);
	/* Panels outside, rows inside: a piece of weights stays in the first cache for all the rows. */
	for (uint32_t panel = 0; panel < tile->panels; panel += wide) {
		uint32_t panels = tile->panels - panel < wide ? tile->panels - panel : wide;
		for (uint32_t pass = 0; pass < passes; pass++) {
			uint32_t row = (uint32_t)((uint64_t)tile->rows * pass / passes);
			uint32_t end = (uint32_t)((uint64_t)tile->rows * (pass + 1) / passes);
			run_rows(kind, tile, row, end - row, panel, panels);
		}
	}
}

void tile_widen(const uint32_t *words, uint32_t steps, float *out)
{
	for (uint32_t step = 0; step < steps; step++, words += LANES, out += 2 * LANES)
		for (uint32_t i = 0; i < REGS; i++) {
			if (i == 0)
				__builtin_prefetch(words + PREFETCH_STEPS * LANES);
			r_store(out + i * REG_LANES, r_low_half(words + i * REG_LANES));
			r_store(out + LANES + i * REG_LANES, r_high_half(words + i * REG_LANES));
		}
}

void tile_widen_e4m3(const uint8_t *bytes, uint32_t steps, float *out)
{
	for (uint32_t step = 0; step < steps; step++, bytes += LANES, out += LANES) {
		if (step % 4 == 0)
			__builtin_prefetch(bytes + PREFETCH_STEPS * 4 * LANES);
		for (uint32_t i = 0; i < REGS; i++)
			r_store(out + i * REG_LANES, r_e4m3(bytes + i * REG_LANES));
	}
}

uint32_t tile_rows_max(void)
{
	return ROWS_MAX;
}
