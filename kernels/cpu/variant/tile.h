/* tile - the one micro-kernel: acc[row][column] = the sum over k, in order, of x[row][k] * w[k][column].
 *
 * Columns lie in lanes, so the order over k is plain and the same for any width of register, number of
 * rows and blocking: the accumulators may be put down in memory between blocks of k without a trace.
 * `linear` runs it over packed panels of weights, attention over tiles of keys and values. */
#ifndef KERNELS_CPU_VARIANT_TILE_H
#define KERNELS_CPU_VARIANT_TILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tile_kind {
	TILE_F32,  /* w: floats, a step is one k */
	TILE_PAIR, /* w: words of two bf16, low k and high k + 1; a step is two k; x is f32 */
	TILE_DOT,  /* the same words; x are such words too, rounded: AVX-512 bf16 only */
};

struct tile {
	const void *x; /* [row][k] f32, or [row][step] words for TILE_DOT */
	size_t x_stride;
	const void *w;	/* [step][16] of each panel; 4 bytes an element */
	size_t w_step;	/* elements from step to step */
	size_t w_panel; /* elements from panel to panel */
	float *acc;	/* [row][panel * 16] */
	size_t acc_stride;
	uint32_t rows, panels, steps;
	bool add; /* go on from what acc holds; else from 0 */
};

void tile_run(enum tile_kind kind, const struct tile *tile);
/* One panel of words to f32, for TILE_F32: out[2 * steps][16]. Worth it from TILE_WIDEN_ROWS rows on: the
 * bits are the same. */
void tile_widen(const uint32_t *words, uint32_t steps, float *out);
#define TILE_WIDEN_ROWS 16
/* [steps][16] bytes of e4m3 (base/e4m3.h) to f32, for TILE_F32.  No NaN. */
void tile_widen_e4m3(const uint8_t *bytes, uint32_t steps, float *out);
/* Rows that one pass of the micro-kernel takes. */
uint32_t tile_rows_max(void);
#endif
