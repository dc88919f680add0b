/* quad - four numbers at a time: one access of 16 bytes where addresses allow it, four of 4 where not, the same numbers.
 *
 * Owns:   nothing.
 * Loop:   device code.
 * Rules:  1 whether accesses are wide is of no consequence to a result: wide kernels are for rows of whole quads at multiples of 16
 *           bytes, which is what models have, and hold no branch that would keep loads from being in flight together. */
#ifndef KERNELS_CUDA_QUAD_H
#define KERNELS_CUDA_QUAD_H
#include "kernels/cuda/simt.h"
#include "kernels/ops.h"

#define QUAD 4

struct quad {
	float at[QUAD];
};

/* Do rows at this address, so many bytes apart, begin at multiples of 16?  An operation is wide where all that it touches is. */
static inline bool quad_wide(const void *memory, size_t stride_bytes)
{
	return (uintptr_t)memory % 16 == 0 && stride_bytes % 16 == 0;
}

/* The first `left` of four, 0 for those that are not there. */
template <bool wide> SIMT_DEVICE quad quad_load(const float *from, size_t left)
{
	quad q;
	if constexpr (wide) {
		float4 v = *reinterpret_cast<const float4 *>(from);
		q.at[0] = v.x, q.at[1] = v.y, q.at[2] = v.z, q.at[3] = v.w;
	} else {
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			q.at[i] = i < left ? from[i] : 0.0f;
	}
	return q;
}

template <bool wide> SIMT_DEVICE quad quad_load(const uint16_t *from, size_t left)
{
	quad q;
	if constexpr (wide) {
		uint2 v = *reinterpret_cast<const uint2 *>(from);
		q.at[0] = simt_bf16_low(v.x), q.at[1] = simt_bf16_high(v.x);
		q.at[2] = simt_bf16_low(v.y), q.at[3] = simt_bf16_high(v.y);
	} else {
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			q.at[i] = i < left ? simt_bf16_widen(from[i]) : 0.0f;
	}
	return q;
}

template <bool wide> SIMT_DEVICE void quad_store(float *to, const quad &q, size_t left)
{
	if constexpr (wide) {
		*reinterpret_cast<float4 *>(to) = make_float4(q.at[0], q.at[1], q.at[2], q.at[3]);
	} else {
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			if (i < left)
				to[i] = q.at[i];
	}
}

/* Rounded to bf16. */
template <bool wide> SIMT_DEVICE void quad_store(uint16_t *to, const quad &q, size_t left)
{
	if constexpr (wide) {
		uint2 v = make_uint2(simt_bf16_pair(q.at[0], q.at[1]), simt_bf16_pair(q.at[2], q.at[3]));
		*reinterpret_cast<uint2 *>(to) = v;
	} else {
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			if (i < left)
				to[i] = simt_bf16_round(q.at[i]);
	}
}

/* Numbers of ELEM_E4M3, to be told from other bytes. */
struct e4m3_code {
	uint8_t byte;
};

/* Rows of a type, at a distance of `stride`; those of e4m3 are rows of kernels/ops.h. */
template <typename to_t> struct quad_rows {
	to_t *to;
	size_t stride; /* elements */
	size_t dim;

	template <bool wide> SIMT_MEMBER void store(size_t row, size_t at, size_t left, const quad &v) const
	{
		quad_store<wide>(to + row * stride + at, v, left);
	}
};

/* A warp stores a group of 128 together: all its lanes come, with quads side by side. */
template <> struct quad_rows<e4m3_code> {
	e4m3_code *to;
	size_t stride; /* bytes */
	size_t dim;

	template <bool> SIMT_MEMBER void store(size_t row, size_t at, size_t, const quad &v) const
	{
		uint8_t *codes = (uint8_t *)to + row * stride;
		float amax = LINEAR_AMAX_LEAST;
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++) {
			float size = simt_float(simt_bits(v.at[i]) & 0x7fffffff);
			amax = size > amax ? size : amax;
		}
		const float scale = simt_warp_max(amax) / 448.0f;
		const uint32_t low = simt_e4m3_pair(v.at[0] / scale, v.at[1] / scale);
		const uint32_t high = simt_e4m3_pair(v.at[2] / scale, v.at[3] / scale);
		*(uint32_t *)(codes + at) = low | high << 16;
		if (at % LINEAR_GROUP == 0)
			*(float *)(codes + dim + at / LINEAR_GROUP * sizeof(float)) = scale;
	}
};

/* --- each number of some rows ------------------------------------------------------------------------------ */

/* An operation on rows of `dim` numbers is a struct with
 *     struct loaded;    what one quad needs
 *     template <bool wide> loaded load(size_t row, size_t at, size_t left) const;
 *     template <bool wide> void store(size_t row, size_t at, size_t left, const loaded &) const;
 * A thread loads EACH_UNROLL quads, then stores them: so many accesses of 16 bytes are in flight for each thread, 64 KiB of a
 * multiprocessor's 2048 threads for every array read, which is beyond the 40 KiB that HBM's rate times its delay asks for. */
#define EACH_THREADS 256
#define EACH_UNROLL  2
#define EACH_PIECE   (EACH_THREADS * EACH_UNROLL * QUAD)

template <typename op, bool wide> SIMT_KERNEL_OF(each_quad, EACH_THREADS, 4)(const op o, uint32_t pieces, size_t dim)
{
	size_t row = blockIdx.x / pieces, first = (size_t)(blockIdx.x % pieces) * EACH_PIECE + threadIdx.x * QUAD;
	typename op::loaded v[EACH_UNROLL] = {};
	SIMT_UNROLL
	for (uint32_t u = 0; u < EACH_UNROLL; u++) {
		size_t at = first + u * EACH_THREADS * QUAD;
		if (at < dim)
			v[u] = o.template load<wide>(row, at, dim - at);
	}
	SIMT_UNROLL
	for (uint32_t u = 0; u < EACH_UNROLL; u++) {
		size_t at = first + u * EACH_THREADS * QUAD;
		if (at < dim)
			o.template store<wide>(row, at, dim - at, v[u]);
	}
}

template <typename op> static cudaError_t each_run(const op &o, bool wide, size_t rows, size_t dim, cudaStream_t stream)
{
	uint32_t pieces = (uint32_t)((dim + EACH_PIECE - 1) / EACH_PIECE);
	if (rows == 0 || dim == 0)
		return cudaSuccess;
	dim3 grid((uint32_t)(rows * pieces)), block(EACH_THREADS);
	if (wide && dim % QUAD == 0)
		return SIMT_LAUNCH((each_quad<op, true>), grid, block, 0, stream, o, pieces, dim);
	return SIMT_LAUNCH((each_quad<op, false>), grid, block, 0, stream, o, pieces, dim);
}
#endif
