/* linear_plan - into which tiles a product is cut: a function of its shape and the device, of no consequence to its bits, but
 * where K may be split: that is of the class "fast" alone.
 *
 * A tile is `height` outputs (the A operand of wgmma: 64 rows for each warpgroup, of which only the first `height` count where
 * there is one) by `width` rows of the batch (N of wgmma). */
#ifndef KERNELS_CUDA_LINEAR_PLAN_H
#define KERNELS_CUDA_LINEAR_PLAN_H
#include <stdbool.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define LINEAR_SPLITS_MAX	8
#define LINEAR_SEGMENTED_WIDTH_MAX 64 /* beside the sums of a segment, registers hold three levels of the tree */

/* Blocks of a cluster: they have the same rows, which they share, and neighbouring outputs.  Few rows are few bytes. */
#define LINEAR_BLOCKS(width) ((width) >= 64 ? 2 : 1)

struct linear_plan {
	uint32_t height; /* 8 .. 64 in steps of 8, or 128 */
	uint32_t width;	 /* 8, 16, 32, 64, 128; 128 or 256 with a height of 128 */
	uint32_t groups; /* warpgroups that multiply: 1, or 2 with a height of 128, */
	uint32_t splits; /* of K, whose sums are added by a second kernel: 1 unless splits_max says more */
};

struct linear_plan_shape {
	uint32_t n;
	uint32_t rows;	   /* of all groups together, about evenly */
	uint32_t groups;   /* products beside each other: experts, heads; 1 */
	uint32_t segments; /* over 1: narrow tiles only */
	uint32_t sm_count;
	uint32_t k;
	uint32_t splits_max; /* 2, 4 or 8: splits that the product's memory allows; 0 or 1: none, as in classes that are exact */
	bool one_group;	     /* no tile of two warpgroups */
};

/* What a device moves in a cycle, and what a tile costs besides. */
struct linear_rates {
	uint32_t sm_bytes_cycle;  /* second-level cache to one multiprocessor; what a cluster shares is read once by each of its blocks' parts */
	uint32_t l2_bytes_cycle;  /* to all together */
	uint32_t hbm_bytes_cycle;
	uint32_t tile_cycles;	  /* a tile's beginning and end, spread over its inputs */
	uint32_t split_cycles;	  /* a kernel more, for the whole product */
};
extern const struct linear_rates linear_rates_h200; /* and of an H100's, whose memory is slower: tiles differ little by that */

/* The cheapest; among equals the one that comes first. */
struct linear_plan linear_plan(const struct linear_plan_shape *shape);
/* What bounds a product, in 1024ths of a cycle for each 16 inputs of bf16, or 32 of e4m3: 32 bytes of each.  A wgmma of N rows takes N / 2
 * cycles, the rest is the rates'. */
uint64_t linear_plan_cost(const struct linear_plan_shape *shape, const struct linear_plan *plan, const struct linear_rates *rates);

#ifdef __cplusplus
}
#endif
#endif
