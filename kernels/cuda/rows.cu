/* Rows of activations: embeddings, norms, sums, activations, gathers, conversions.
 *
 * None of them does over one operation a byte (an H200 has 14 f32 operations for each byte of HBM), so each is a copy with
 * something on the way, and its ceiling is the copy's: bytes below are what must move, once each, in accesses of 16 bytes a thread
 * that lie side by side in a warp. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elementary.h"
#include "kernels/cuda/head.h"

/* --- each number by itself --------------------------------------------------------------------------------- */

template <typename from_t> struct embed_op {
	const from_t *table;
	const uint32_t *tokens;
	float *out;
	size_t dim;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t row, size_t at, size_t left) const
	{
		return quad_load<wide>(table + tokens[row] * dim + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t row, size_t at, size_t left, const quad &v) const
	{
		quad_store<wide>(out + row * dim + at, v, left);
	}
};

template <typename from_t>
static cudaError_t embed_run(cudaStream_t stream, const void *table, uint32_t dim, const uint32_t *tokens, uint32_t rows, float *out)
{
	const from_t *from = (const from_t *)table;
	bool wide = quad_wide(table, dim * sizeof(*from)) && quad_wide(out, dim * sizeof(*out));
	const embed_op<from_t> o = {from, tokens, out, dim};
	return each_run(o, wide, rows, dim, stream);
}

/* rows * dim * (4 + 2 or 4) bytes. */
void cuda_embed(struct device *device, const void *table, enum elem elem, uint32_t dim, const uint32_t *tokens,
	       uint32_t rows, float *out)
{
	if (!cuda_alive(device))
		return;
	cudaError_t e = elem == ELEM_F32 ? embed_run<float>(cuda_stream(device), table, dim, tokens, rows, out)
					 : embed_run<uint16_t>(cuda_stream(device), table, dim, tokens, rows, out);
	cuda_check(cuda_of(device), e, "embed");
}

struct quad_pair {
	quad x, y;
};

struct add_op {
	float *x;
	const float *add;
	typedef quad_pair loaded;

	template <bool wide> SIMT_MEMBER quad_pair load(size_t, size_t at, size_t left) const
	{
		return {quad_load<wide>(x + at, left), quad_load<wide>(add + at, left)};
	}
	template <bool wide> SIMT_MEMBER void store(size_t, size_t at, size_t left, const quad_pair &v) const
	{
		quad sum;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			sum.at[i] = v.x.at[i] + v.y.at[i];
		quad_store<wide>(x + at, sum, left);
	}
};

/* 12 bytes a number. */
void cuda_add(struct device *device, float *x, const float *add, uint32_t rows, uint32_t dim)
{
	const add_op o = {x, add};
	bool wide = quad_wide(x, 0) && quad_wide(add, 0);
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, wide, 1, (size_t)rows * dim, cuda_stream(device)), "add");
}

struct scale_op {
	float *x, by;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t, size_t at, size_t left) const
	{
		return quad_load<wide>(x + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t, size_t at, size_t left, const quad &v) const
	{
		quad product;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			product.at[i] = v.at[i] * by;
		quad_store<wide>(x + at, product, left);
	}
};

/* 8 bytes a number. */
void cuda_scale(struct device *device, float *x, float by, uint32_t rows, uint32_t dim)
{
	const scale_op o = {x, by};
	bool wide = quad_wide(x, 0);
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, wide, 1, (size_t)rows * dim, cuda_stream(device)), "scale");
}

template <typename from_t, typename to_t> struct convert_op {
	const from_t *from;
	to_t *to;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t, size_t at, size_t left) const
	{
		return quad_load<wide>(from + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t, size_t at, size_t left, const quad &v) const
	{
		quad_store<wide>(to + at, v, left);
	}
};

/* 6 bytes a number. */
void cuda_to_bf16(struct device *device, const float *x, size_t count, uint16_t *out)
{
	const convert_op<float, uint16_t> o = {x, out};
	bool wide = quad_wide(x, 0) && quad_wide(out, 0);
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, wide, 1, count, cuda_stream(device)), "to_bf16");
}

void cuda_from_bf16(struct device *device, const uint16_t *x, size_t count, float *out)
{
	const convert_op<uint16_t, float> o = {x, out};
	bool wide = quad_wide(x, 0) && quad_wide(out, 0);
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, wide, 1, count, cuda_stream(device)), "from_bf16");
}

struct gather_op {
	const float *x;
	size_t x_stride;
	const uint32_t *index;
	float *out;
	size_t dim;
	typedef quad loaded;

	template <bool wide> SIMT_MEMBER quad load(size_t row, size_t at, size_t left) const
	{
		return quad_load<wide>(x + index[row] * x_stride + at, left);
	}
	template <bool wide> SIMT_MEMBER void store(size_t row, size_t at, size_t left, const quad &v) const
	{
		quad_store<wide>(out + row * dim + at, v, left);
	}
};

/* 8 bytes a number. */
void cuda_gather(struct device *device, const float *x, size_t x_stride, const uint32_t *index, uint32_t count,
		uint32_t dim, float *out)
{
	const gather_op o = {x, x_stride, index, out, dim};
	bool wide = quad_wide(x, x_stride * 4) && quad_wide(out, (size_t)dim * 4);
	if (cuda_alive(device))
		cuda_check(cuda_of(device), each_run(o, wide, count, dim, cuda_stream(device)), "gather");
}

/* --- glu ------------------------------------------------------------------------------------------------------ */

SIMT_DEVICE float activate_silu(float x)
{
	return x / (1.0f + elementary_exp(0.0f - x));
}

SIMT_DEVICE float activate_gelu(float x)
{
	float cube = x * x * x;
	float u = -1.5957691216f * simt_fma(0.044715f, cube, x);
	return x / (1.0f + elementary_exp(u));
}

SIMT_DEVICE float activate_clamped(const struct glu &glu, float gate, float *up)
{
	gate = gate < glu.limit ? gate : glu.limit;
	float most = *up < glu.limit ? *up : glu.limit;
	*up = (most > -glu.limit ? most : -glu.limit) + 1.0f;
	return gate / (1.0f + elementary_exp(-glu.alpha * gate));
}

template <int kind, typename to_t> struct glu_op {
	struct glu glu;
	const float *x;
	size_t x_stride;
	quad_rows<to_t> out;
	typedef quad_pair loaded;

	template <bool wide> SIMT_MEMBER quad_pair load(size_t row, size_t at, size_t left) const
	{
		const float *gate = x + row * x_stride + at;
		return {quad_load<wide>(gate, left), quad_load<wide>(gate + out.dim, left)};
	}
	template <bool wide> SIMT_MEMBER void store(size_t row, size_t at, size_t left, const quad_pair &v) const
	{
		quad result;
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++) {
			float gate = v.x.at[i], up = v.y.at[i];
			float active = kind == GLU_SILU	     ? activate_silu(gate) :
				       kind == GLU_GELU_TANH ? activate_gelu(gate) :
							       activate_clamped(glu, gate, &up);
			result.at[i] = active * up;
		}
		out.template store<wide>(row, at, left, result);
	}
};

template <int kind, typename to_t> static cudaError_t glu_run(cudaStream_t stream, const struct glu_call *call)
{
	to_t *out = (to_t *)call->out;
	bool wide = quad_wide(call->x, call->x_stride * 4) && quad_wide(out, call->out_stride * sizeof(*out));
	const glu_op<kind, to_t> o = {call->glu, call->x, call->x_stride, {out, call->out_stride, call->dim}};
	return each_run(o, wide, call->rows, call->dim, stream);
}

template <typename to_t> static cudaError_t glu_of(cudaStream_t stream, const struct glu_call *call)
{
	switch (call->glu.kind) {
	case GLU_SILU:
		return glu_run<GLU_SILU, to_t>(stream, call);
	case GLU_GELU_TANH:
		return glu_run<GLU_GELU_TANH, to_t>(stream, call);
	default:
		return glu_run<GLU_CLAMPED, to_t>(stream, call);
	}
}

/* rows * dim * (8 + 1, 2 or 4) bytes; some 25 operations a number, 2.5 a byte: below what HBM leaves room for. */
void cuda_glu(struct device *device, const struct glu_call *call)
{
	if (!cuda_alive(device))
		return;
	cudaError_t e = call->out_elem == ELEM_F32	 ? glu_of<float>(cuda_stream(device), call)
			: call->out_elem == ELEM_BF16 ? glu_of<uint16_t>(cuda_stream(device), call)
						      : glu_of<e4m3_code>(cuda_stream(device), call);
	cuda_check(cuda_of(device), e, "glu");
}

/* --- norms ------------------------------------------------------------------------------------------------------ */

#define NORM_THREADS 256
#define NORM_WARPS   (NORM_THREADS / SIMT_LANES)
#define NORM_STEP    (NORM_THREADS * QUAD) /* quad q of a row belongs to thread q % NORM_THREADS, whatever the rows */

template <typename to_t> struct norm_job {
	float *x;
	const float *add, *weight;
	to_t *out; /* or NULL */
	size_t dim;
	float eps;
	quad_rows<e4m3_code> narrow; /* to: or NULL */
};

template <bool wide, typename to_t>
SIMT_DEVICE void norm_store(const norm_job<to_t> &job, size_t row, size_t at, const quad &v)
{
	if (job.out)
		quad_store<wide>(job.out + row * job.dim + at, v, job.dim - at);
	if (job.narrow.to)
		job.narrow.template store<wide>(row, at, job.dim - at, v);
}

/* x, with what is added to it. */
template <bool wide, typename to_t> SIMT_DEVICE quad norm_load(const norm_job<to_t> &job, size_t row, size_t at)
{
	quad v = quad_load<wide>(job.x + row * job.dim + at, job.dim - at);
	if (job.add) {
		quad more = quad_load<wide>(job.add + row * job.dim + at, job.dim - at);
		SIMT_UNROLL
		for (int i = 0; i < QUAD; i++)
			v.at[i] += more.at[i];
	}
	return v;
}

/* A block for each row, which it holds in registers: `held` quads a thread, all of them in flight at once. */
template <int held, bool wide, typename to_t> SIMT_KERNEL_OF(rmsnorm_held, NORM_THREADS, 2)(const norm_job<to_t> job)
{
	size_t row = blockIdx.x, first = threadIdx.x * QUAD;
	quad v[held] = {};
	float sum = 0.0f;
	SIMT_UNROLL
	for (int j = 0; j < held; j++)
		if (first + j * NORM_STEP < job.dim)
			v[j] = norm_load<wide>(job, row, first + j * NORM_STEP);
	SIMT_UNROLL
	for (int j = 0; j < held; j++)
		sum = quad_squares(v[j], sum);
	float inverse = 1.0f / simt_sqrt(simt_block_sum<NORM_WARPS>(sum) / (float)job.dim + job.eps);
	SIMT_UNROLL
	for (int j = 0; j < held; j++) {
		size_t at = first + j * NORM_STEP, left = job.dim - at;
		if (at >= job.dim)
			break;
		if (job.add)
			quad_store<wide>(job.x + row * job.dim + at, v[j], left);
		quad weight = quad_load<wide>(job.weight + at, left);
		norm_store<wide>(job, row, at, quad_normalised(v[j], inverse, weight));
	}
}

/* Rows that registers do not hold are read a second time, out of the second-level cache. */
template <bool wide, typename to_t> SIMT_KERNEL_OF(rmsnorm_long, NORM_THREADS, 2)(const norm_job<to_t> job)
{
	size_t row = blockIdx.x;
	float sum = 0.0f;
	for (size_t at = threadIdx.x * QUAD; at < job.dim; at += NORM_STEP) {
		quad v = norm_load<wide>(job, row, at);
		if (job.add)
			quad_store<wide>(job.x + row * job.dim + at, v, job.dim - at);
		sum = quad_squares(v, sum);
	}
	float inverse = 1.0f / simt_sqrt(simt_block_sum<NORM_WARPS>(sum) / (float)job.dim + job.eps);
	for (size_t at = threadIdx.x * QUAD; at < job.dim; at += NORM_STEP) {
		quad v = quad_load<wide>(job.x + row * job.dim + at, job.dim - at);
		quad weight = quad_load<wide>(job.weight + at, job.dim - at);
		norm_store<wide>(job, row, at, quad_normalised(v, inverse, weight));
	}
}

template <bool wide, typename to_t> static cudaError_t norm_launch(cudaStream_t stream, const norm_job<to_t> &job, uint32_t rows)
{
	dim3 grid(rows), block(NORM_THREADS);
	size_t steps = (job.dim + NORM_STEP - 1) / NORM_STEP;
	if (steps <= 1)
		return SIMT_LAUNCH((rmsnorm_held<1, wide, to_t>), grid, block, 0, stream, job);
	if (steps <= 2)
		return SIMT_LAUNCH((rmsnorm_held<2, wide, to_t>), grid, block, 0, stream, job);
	if (steps <= 4)
		return SIMT_LAUNCH((rmsnorm_held<4, wide, to_t>), grid, block, 0, stream, job);
	if (steps <= 8)
		return SIMT_LAUNCH((rmsnorm_held<8, wide, to_t>), grid, block, 0, stream, job);
	return SIMT_LAUNCH((rmsnorm_long<wide, to_t>), grid, block, 0, stream, job);
}

template <typename to_t> static cudaError_t norm_run(cudaStream_t stream, const struct norm_call *call)
{
	to_t *out = (to_t *)call->out;
	size_t x_bytes = (size_t)call->dim * 4;
	const quad_rows<e4m3_code> narrow = {(e4m3_code *)call->narrow, elem_row_bytes(ELEM_E4M3, call->dim), call->dim};
	const norm_job<to_t> job = {call->x, call->add, call->weight, out, call->dim, call->eps, narrow};
	bool wide = quad_wide(call->x, x_bytes) && quad_wide(call->weight, 0) && quad_wide(out, call->dim * sizeof(*out)) &&
		    (!call->add || quad_wide(call->add, x_bytes));
	return wide ? norm_launch<true>(stream, job, call->rows) : norm_launch<false>(stream, job, call->rows);
}

/* rows * dim * (4 + 2 or 4) bytes, 8 more where something is added first, 1 where it is written as e4m3 as well. */
void cuda_rmsnorm(struct device *device, const struct norm_call *call)
{
	if (!cuda_alive(device) || call->rows == 0)
		return;
	cudaError_t e = call->out_elem == ELEM_F32 ? norm_run<float>(cuda_stream(device), call)
						   : norm_run<uint16_t>(cuda_stream(device), call);
	cuda_check(cuda_of(device), e, "rmsnorm");
}

struct head_norm_job {
	float *x;
	size_t x_stride;
	uint32_t count, head_count, dim; /* count: of heads of all rows */
	const float *weight;
	float eps;
};

/* A warp for each head, which it holds; longer ones than any model has are read twice. */
template <bool wide> SIMT_KERNEL_OF(head_norm, NORM_THREADS, 4)(const head_norm_job job)
{
	uint32_t index = blockIdx.x * NORM_WARPS + simt_warp(), beyond = HEAD_STEPS * HEAD_STEP + simt_lane() * QUAD;
	if (index >= job.count)
		return;
	float *x = job.x + index / job.head_count * job.x_stride + (size_t)(index % job.head_count) * job.dim;
	head_part head = head_load<wide>(x, job.dim);
	float sum = head_squares(head);
	for (uint32_t at = beyond; at < job.dim; at += HEAD_STEP)
		sum = quad_squares(quad_load<wide>(x + at, job.dim - at), sum);
	float inverse = head_inverse(sum, job.dim, job.eps);
	head_normalise<wide>(&head, inverse, job.weight, job.dim);
	head_store<wide>(head, x, job.dim);
	for (uint32_t at = beyond; at < job.dim; at += HEAD_STEP) {
		quad weight = quad_load<wide>(job.weight + at, job.dim - at);
		quad_store<wide>(x + at, quad_normalised(quad_load<wide>(x + at, job.dim - at), inverse, weight), job.dim - at);
	}
}

/* 8 bytes a number. */
void cuda_head_norm(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count, uint32_t dim,
		   const float *weight, float eps)
{
	const head_norm_job job = {x, x_stride, rows * head_count, head_count, dim, weight, eps};
	dim3 grid((job.count + NORM_WARPS - 1) / NORM_WARPS), block(NORM_THREADS);
	if (!cuda_alive(device) || job.count == 0)
		return;
	cudaError_t e = quad_wide(x, x_stride * 4) && quad_wide(weight, (size_t)dim * 4)
				? SIMT_LAUNCH(head_norm<true>, grid, block, 0, cuda_stream(device), job)
				: SIMT_LAUNCH(head_norm<false>, grid, block, 0, cuda_stream(device), job);
	cuda_check(cuda_of(device), e, "head_norm");
}
