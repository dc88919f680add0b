/* ranks - the devices that share each layer of a model out among them (tensor parallelism), and the sums that join their parts.
 *
 * One caller queues everything: a step is phases, and in each it queues work on every rank.  A rank has whole heads, and whole
 * inner numbers of an MLP; what its row-parallel weights say is a part of a sum, which lies in its own memory and is read there by
 * the others (law 2).  Norms, routers, embeddings and the residual stream are at every rank, in the same bits.
 *
 * Owns:   nothing; the devices are the caller's.
 * Loop:   the compute thread.
 * Bounds: DEVICES_MAX ranks.
 * Rules:  1 sums are op_tree_sum's: the bits of one rank that has all of the weights, whoever sums which rows;
 *         2 a part is written behind a meeting (device_meet) that came after the one behind which others read it: two sums
 *           that follow each other have memory of their own for parts. */
#ifndef ENGINE_RANKS_H
#define ENGINE_RANKS_H
#include <stdbool.h>
#include <stdint.h>
#include "kernels/ops.h"

struct ranks {
	uint32_t count; /* 1, 2, 4, 8 */
	struct device *devices[DEVICES_MAX]; /* joined; on a CPU all the same */
};

/* Some of the rows of a step, or of anything that is shared out. */
struct rank_share {
	uint32_t first, count;
};

/* Of `total`, in order, as even as they divide: as op_collect() has it. */
static inline struct rank_share rank_share(const struct ranks *ranks, uint32_t total, uint32_t rank)
{
	uint32_t first = (uint32_t)((uint64_t)total * rank / ranks->count);
	return (struct rank_share){first, (uint32_t)((uint64_t)total * (rank + 1) / ranks->count) - first};
}

/* Many rows: each rank sums some of them and reads the others' sums; few: each sums all, which is one meeting less. */
#define RANKS_ROWS_FEW 32
static inline bool ranks_split(const struct ranks *ranks, uint32_t row_count)
{
	return ranks->count > 1 && row_count > RANKS_ROWS_FEW;
}

struct rank_sum {
	float *part;       /* [row][n] what the rank says; sums of some rows take their place */
	const float *bias; /* [n], added to the whole sum, or NULL */
	float *out;        /* [row][n]; of one rank it is `part` */
};
/* sums: [ranks->count].  A rank's later operations read `out`. */
void ranks_sum(const struct ranks *ranks, const struct rank_sum *sums, uint32_t row_count, uint32_t n);
/* The second half of it: each rank has its share of the rows in `part`, and gets all of them in `out`. */
void ranks_share_rows(const struct ranks *ranks, const struct rank_sum *sums, uint32_t row_count, uint32_t n);
#endif
