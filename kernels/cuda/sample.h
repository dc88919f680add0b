/* sample - one row's request as the kernel reads it, and how a row's logits lie in the shared memories of a cluster.
 *
 * A row is cut into slices, one for each block of its cluster, and lies in their shared memory from the first pass to the last; a
 * slice is cut into parts, one for each warp.  What blocks must know of each other goes through two exchanges in turn: a block
 * writes into its own, all meet, all read.  Nobody writes into one that others may still read, because between its two uses lies
 * the meeting of the other.
 *
 * Loop:   device code, but the packing (sample.cu). */
#ifndef KERNELS_CUDA_SAMPLE_H
#define KERNELS_CUDA_SAMPLE_H
#include "kernels/cuda/elementary.h"
#include "kernels/cuda/quad.h"
#include "kernels/sample.h"
#include "kernels/sample_mass.h"

#define SAMPLE_THREADS	  512
#define SAMPLE_WARPS	  (SAMPLE_THREADS / SIMT_LANES)
#define SAMPLE_BLOCKS_MAX 8	/* of a cluster: what every GPU has room for */
#define SAMPLE_SLICE	  16384 /* numbers of a slice while blocks suffice: three blocks a multiprocessor */
#define SAMPLE_STEP	  (SIMT_LANES * QUAD)
#define SAMPLE_UNIT	  (SAMPLE_WARPS * SAMPLE_STEP) /* a slice is so many, times a whole number */
#define SAMPLE_BINS	  256
#define SAMPLE_TOKEN_BITS 24
#define SAMPLE_NONE	  UINT32_MAX

/* A row in the piece that travels; places are bytes from the piece's beginning. */
struct packed_row {
	float temperature, top_p, min_p;
	float repetition, frequency, presence;
	int32_t top_k, logprobs;
	uint32_t choice_count; /* 0: scored */
	uint32_t token;
	uint32_t greedy, changed; /* bool */
	uint32_t seen, seen_count;
	uint32_t biases, bias_count;
	uint32_t masked, masked_count;
	uint32_t allowed; /* SAMPLE_NONE: all */
	uint32_t draws;	  /* [choice_count] random 64 bits each */
	struct sample *samples;
};

struct sample_job {
	const float *logits;
	size_t stride;
	uint32_t n;
	uint32_t blocks; /* of a cluster */
	uint32_t part;	 /* numbers of a warp: a multiple of SAMPLE_STEP */
	const uint8_t *piece; /* rows first */
};

struct sample_exchange {
	uint32_t low[SAMPLE_BINS], high[SAMPLE_BINS]; /* sums of 64 bits, one for each value of a digit */
	uint64_t sums[SAMPLE_WARPS];
	float greatest[SAMPLE_WARPS];
	uint32_t index[SAMPLE_WARPS];
};

struct sample_shared {
	struct sample_exchange exchange[2];
	uint64_t totals[SAMPLE_BINS]; /* of the whole row */
	uint64_t listed[SIMT_LANES];  /* of the slice, those among the row's likeliest */
	uint32_t listed_count;
	uint32_t unused[3];
	/* the slice's scores follow */
};

/* Where a thread stands. */
struct sample_place {
	struct sample_shared *shared;
	float *scores;	/* [SAMPLE_WARPS * part] of the slice */
	uint32_t first; /* the slice's first token */
	uint32_t part, rank, blocks;
	uint32_t turn; /* of the exchanges */
};

struct sample_best {
	float greatest;
	uint32_t index; /* the lowest of equals */
};

/* --- passes over a slice: a thread meets the same numbers in each of them ---------------------------------- */

/* look(score, token) */
template <typename F> SIMT_DEVICE void sample_each(const sample_place &p, F look)
{
	uint32_t begin = simt_warp() * p.part, end = begin + p.part;
	for (uint32_t at = begin + simt_lane() * QUAD; at < end; at += SAMPLE_STEP) {
		quad q = quad_load<true>(p.scores + at, QUAD);
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			look(q.at[i], p.first + at + i);
	}
}

/* score = change(score, token) */
template <typename F> SIMT_DEVICE void sample_change(const sample_place &p, F change)
{
	uint32_t begin = simt_warp() * p.part, end = begin + p.part;
	for (uint32_t at = begin + simt_lane() * QUAD; at < end; at += SAMPLE_STEP) {
		quad q = quad_load<true>(p.scores + at, QUAD);
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			q.at[i] = change(q.at[i], p.first + at + i);
		quad_store<true>(p.scores + at, q, QUAD);
	}
}

/* --- what a cluster knows together --------------------------------------------------------------------------- */

SIMT_DEVICE sample_exchange *sample_exchange_of(const sample_place &p, uint32_t rank)
{
	return reinterpret_cast<sample_exchange *>(simt_cluster_map(&p.shared->exchange[p.turn], rank));
}

SIMT_DEVICE void sample_take(sample_best *best, float greatest, uint32_t index)
{
	if (greatest > best->greatest || (greatest == best->greatest && index < best->index))
		*best = {greatest, index};
}

SIMT_DEVICE void sample_warp_best(sample_best *best)
{
	SIMT_UNROLL
	for (int mask = SIMT_LANES / 2; mask > 0; mask /= 2) {
		float greatest = simt_shuffle_xor(best->greatest, mask);
		uint32_t index = simt_shuffle_xor(best->index, mask);
		sample_take(best, greatest, index);
	}
}

SIMT_DEVICE uint64_t sample_warp_sum(uint64_t x)
{
	SIMT_UNROLL
	for (int mask = SIMT_LANES / 2; mask > 0; mask /= 2)
		x += simt_shuffle_xor(x, mask);
	return x;
}

/* The greatest of the row, from each thread's. */
SIMT_DEVICE sample_best sample_cluster_best(sample_place &p, sample_best best)
{
	sample_exchange *own = &p.shared->exchange[p.turn];
	sample_warp_best(&best);
	if (simt_lane() == 0) {
		own->greatest[simt_warp()] = best.greatest;
		own->index[simt_warp()] = best.index;
	}
	simt_cluster_sync();
	for (uint32_t i = simt_lane(); i < p.blocks * SAMPLE_WARPS; i += SIMT_LANES) {
		const sample_exchange *other = sample_exchange_of(p, i / SAMPLE_WARPS);
		sample_take(&best, other->greatest[i % SAMPLE_WARPS], other->index[i % SAMPLE_WARPS]);
	}
	sample_warp_best(&best);
	p.turn ^= 1;
	return best;
}

/* The sum of the row, from each thread's; what belongs to the warps whose tokens come before goes to *before, if it is asked for. */
SIMT_DEVICE uint64_t sample_cluster_sum(sample_place &p, uint64_t own, uint64_t *before)
{
	uint64_t all = 0, lower = 0;
	own = sample_warp_sum(own);
	if (simt_lane() == 0)
		p.shared->exchange[p.turn].sums[simt_warp()] = own;
	simt_cluster_sync();
	for (uint32_t i = simt_lane(); i < p.blocks * SAMPLE_WARPS; i += SIMT_LANES) {
		uint64_t sum = sample_exchange_of(p, i / SAMPLE_WARPS)->sums[i % SAMPLE_WARPS];
		all += sum;
		lower += i < p.rank * SAMPLE_WARPS + simt_warp() ? sum : 0;
	}
	if (before)
		*before = sample_warp_sum(lower);
	p.turn ^= 1;
	return sample_warp_sum(all);
}
#endif
