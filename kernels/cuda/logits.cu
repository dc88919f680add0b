/* Logits: soft caps, exps. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elementary.h"
#include "kernels/cuda/quad.h"

struct cap_op {
	float *x;
	size_t stride;
	float cap;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t row, size_t at, size_t left) const
	{
		return quad_load<wide>(x + row * stride + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t row, size_t at, size_t left, const quad &v) const
	{
		quad capped;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			capped.at[i] = cap * elementary_tanh(v.at[i] / cap);
		quad_store<wide>(x + row * stride + at, capped, left);
	}
};

/* 8 bytes a number, some 40 operations. */
void cuda_soft_cap(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap)
{
	const cap_op o = {x, x_stride, cap};
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, quad_wide(x, x_stride * 4), rows, n, cuda_stream(device)), "soft_cap");
}

struct exp_op {
	const float *x;
	float shift, *out;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t, size_t at, size_t left) const
	{
		return quad_load<wide>(x + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t, size_t at, size_t left, const quad &v) const
	{
		quad result;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			result.at[i] = elementary_exp(v.at[i] - shift);
		quad_store<wide>(out + at, result, left);
	}
};

/* 8 bytes a number. */
void cuda_exp(struct device *device, const float *x, float shift, uint32_t n, float *out)
{
	const exp_op o = {x, shift, out};
	bool wide = quad_wide(x, 0) && quad_wide(out, 0);
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, wide, 1, n, cuda_stream(device)), "exp");
}
