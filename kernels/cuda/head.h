/* head - a head of a row, held by a warp: its norm.
 *
 * Owns:   nothing.
 * Loop:   device code, all lanes of a warp.
 * Rules:  1 quad q of a head belongs to lane q % 32, whoever holds it and for whatever: so a norm has one order of its sum. */
#ifndef KERNELS_CUDA_HEAD_H
#define KERNELS_CUDA_HEAD_H
#include "kernels/cuda/quad.h"

#define HEAD_STEP  (SIMT_LANES * QUAD)
#define HEAD_STEPS (HEAD_DIM_MAX / HEAD_STEP)

/* What a lane holds: quads 0 where the head has none. */
struct head_part {
	quad v[HEAD_STEPS];
};

SIMT_DEVICE float quad_squares(const quad &v, float sum)
{
	SIMT_UNROLL
	for (int i = 0; i < QUAD; i++)
		sum = simt_fma(v.at[i], v.at[i], sum);
	return sum;
}

SIMT_DEVICE quad quad_normalised(const quad &v, float inverse, const quad &weight)
{
	quad out;
	SIMT_UNROLL
	for (int i = 0; i < QUAD; i++)
		out.at[i] = v.at[i] * inverse * weight.at[i];
	return out;
}

template <bool wide> SIMT_DEVICE head_part head_load(const float *x, uint32_t dim)
{
	head_part head = {};
	SIMT_UNROLL
	for (uint32_t j = 0; j < HEAD_STEPS; j++) {
		uint32_t at = j * HEAD_STEP + simt_lane() * QUAD;
		if (at < dim)
			head.v[j] = quad_load<wide>(x + at, dim - at);
	}
	return head;
}

/* The lane's part of the sum of squares. */
SIMT_DEVICE float head_squares(const head_part &head)
{
	float sum = 0.0f;
	SIMT_UNROLL
	for (uint32_t j = 0; j < HEAD_STEPS; j++)
		sum = quad_squares(head.v[j], sum);
	return sum;
}

SIMT_DEVICE float head_inverse(float lane_sum, uint32_t dim, float eps)
{
	return 1.0f / simt_sqrt(simt_warp_sum(lane_sum) / (float)dim + eps);
}

template <bool wide> SIMT_DEVICE void head_normalise(head_part *head, float inverse, const float *weight, uint32_t dim)
{
	SIMT_UNROLL
	for (uint32_t j = 0; j < HEAD_STEPS; j++) {
		uint32_t at = j * HEAD_STEP + simt_lane() * QUAD;
		if (at < dim)
			head->v[j] = quad_normalised(head->v[j], inverse, quad_load<wide>(weight + at, dim - at));
	}
}

template <bool wide, typename to_t> SIMT_DEVICE void head_store(const head_part &head, to_t *to, uint32_t dim)
{
	SIMT_UNROLL
	for (uint32_t j = 0; j < HEAD_STEPS; j++) {
		uint32_t at = j * HEAD_STEP + simt_lane() * QUAD;
		if (at < dim)
			quad_store<wide>(to + at, head.v[j], dim - at);
	}
}
#endif
