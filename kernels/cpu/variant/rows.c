#include "kernels/cpu/variant/kernels.h"
#include "kernels/cpu/variant/simd.h"
#include "kernels/sample_mass.h"
#include <math.h>
#include <stdbool.h>

/* 1 / rms of n values: squares summed in 16 lanes, then the tree. */
static float inverse_rms(const float *x, uint32_t n, float eps)
{
	struct v16 sum = v_set(0.0f);
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		struct v16 a = v_load(x + i);
		sum = v_fma(a, a, sum);
	}
	if (i < n) {
		struct v16 a = v_load_part(x + i, n - i, 0.0f);
		sum = v_fma(a, a, sum);
	}
	return 1.0f / sqrtf(v_sum(sum) / (float)n + eps);
}

static void normalise(const float *x, uint32_t n, const float *weight, float eps, float *out)
{
	float inverse = inverse_rms(x, n, eps);
	for (uint32_t i = 0; i < n; i++)
		out[i] = x[i] * inverse * weight[i];
}

void kernel_rmsnorm(const struct norm_call *call, uint32_t row_first, uint32_t row_count)
{
	for (uint32_t row = row_first; row < row_first + row_count; row++) {
		float *x = call->x + (size_t)row * call->dim;
		if (call->add) {
			const float *add = call->add + (size_t)row * call->dim;
			for (uint32_t i = 0; i < call->dim; i++)
				x[i] += add[i];
		}
		normalise(x, call->dim, call->weight, call->eps, (float *)call->out + (size_t)row * call->dim);
	}
}

void kernel_head_norm(float *head, uint32_t dim, const float *weight, float eps)
{
	normalise(head, dim, weight, eps, head);
}

/* (a, b) -> (a cos - b sin, b cos + a sin), a and b from the two halves. Products and sums rounded one by
 * one (no fused operation here), so all variants agree. */
void kernel_rope(const struct rope_call *call, uint32_t row)
{
	const float *cosine = call->cos + (size_t)row * call->half, *sine = call->sin + (size_t)row * call->half;
	for (uint32_t head = 0; head < call->head_count; head++) {
		float *a = call->x + row * call->x_stride + (size_t)head * call->dim, *b = a + call->half;
		for (uint32_t i = 0; i < call->half; i++) {
			float first = a[i], second = b[i];
			a[i] = first * cosine[i] - second * sine[i];
			b[i] = second * cosine[i] + first * sine[i];
		}
	}
}

static struct v16 silu(struct v16 x)
{
	return v_div(x, v_add(v_set(1.0f), v_exp(v_sub(v_set(0.0f), x))));
}

/* x / 2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static struct v16 gelu_tanh(struct v16 x)
{
	struct v16 cube = v_mul(v_mul(x, x), x);
	struct v16 u = v_mul(v_set(-1.5957691216f), v_fma(v_set(0.044715f), cube, x));
	return v_div(x, v_add(v_set(1.0f), v_exp(u)));
}

/* gate * sigmoid(alpha * gate), clamped above; `up` becomes up + 1, clamped on both sides. */
INLINE struct v16 clamped(const struct glu *glu, struct v16 gate, struct v16 *up)
{
	struct v16 limit = v_set(glu->limit), one = v_set(1.0f);
	gate = v_min(gate, limit);
	*up = v_add(v_max(v_min(*up, limit), v_set(-glu->limit)), one);
	return v_div(gate, v_add(one, v_exp(v_mul(v_set(-glu->alpha), gate))));
}

INLINE struct v16 activate(const enum glu_kind kind, const struct glu *glu, struct v16 gate, struct v16 *up)
{
	return kind == GLU_SILU ? silu(gate) : kind == GLU_GELU_TANH ? gelu_tanh(gate) : clamped(glu, gate, up);
}

INLINE void glu_of(const enum glu_kind kind, const struct glu *glu, const float *gate, const float *up, uint32_t n,
		   float *out)
{
	for (uint32_t i = 0; i < n; i += LANES) {
		bool whole = i + LANES <= n;
		struct v16 x = whole ? v_load(gate + i) : v_load_part(gate + i, n - i, 0.0f);
		struct v16 times = whole ? v_load(up + i) : v_load_part(up + i, n - i, 0.0f);
		struct v16 active = activate(kind, glu, x, &times), result = v_mul(active, times);
		if (whole)
			v_store(out + i, result);
		else
			v_store_part(out + i, result, n - i);
	}
}

void kernel_swiglu(const struct glu *glu, const float *gate, const float *up, uint32_t n, float *out)
{
	glu_of(GLU_SILU, glu, gate, up, n, out);
}

void kernel_geglu(const struct glu *glu, const float *gate, const float *up, uint32_t n, float *out)
{
	glu_of(GLU_GELU_TANH, glu, gate, up, n, out);
}

void kernel_clamped_glu(const struct glu *glu, const float *gate, const float *up, uint32_t n, float *out)
{
	glu_of(GLU_CLAMPED, glu, gate, up, n, out);
}

void kernel_soft_cap(float *x, uint32_t n, float cap)
{
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		v_store(x + i, v_soft_cap(v_load(x + i), cap));
	if (i < n)
		v_store_part(x + i, v_soft_cap(v_load_part(x + i, n - i, 0.0f), cap), n - i);
}

void kernel_exp(const float *x, float shift, uint32_t n, float *out)
{
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		v_store(out + i, v_exp(v_sub(v_load(x + i), v_set(shift))));
	if (i < n)
		v_store_part(out + i, v_exp(v_sub(v_load_part(x + i, n - i, shift), v_set(shift))), n - i);
}

void kernel_combine(const uint16_t *answer, const float *weight, uint32_t top_k, uint32_t dim, float *out)
{
	uint32_t i = 0;
	for (; i + LANES <= dim; i += LANES) {
		struct v16 sum = v_set(0.0f);
		for (uint32_t j = 0; j < top_k; j++)
			sum = v_fma(v_set(weight[j]), v_widen(answer + (size_t)j * dim + i), sum);
		v_store(out + i, sum);
	}
	for (; i < dim; i++) { /* one lane does for a short tail */
		struct v16 sum = v_set(0.0f);
		for (uint32_t j = 0; j < top_k; j++) {
			uint32_t bits = (uint32_t)answer[(size_t)j * dim + i] << 16;
			float value;
			memcpy(&value, &bits, sizeof(value));
			sum = v_fma(v_set(weight[j]), v_set(value), sum);
		}
		v_store_part(out + i, sum, 1);
	}
}

static float greatest_of(const float *x, uint32_t n)
{
	struct v16 greatest = v_set(-INFINITY);
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		greatest = v_max(v_load(x + i), greatest);
	if (i < n)
		greatest = v_max(v_load_part(x + i, n - i, -INFINITY), greatest);
	return v_greatest(greatest);
}

void kernel_greatest(const float *x, uint32_t n, float *ret_max, uint32_t *ret_argmax)
{
	float greatest = greatest_of(x, n);
	uint32_t index = 0;
	while (index + 1 < n && x[index] != greatest)
		index++;
	*ret_max = greatest;
	*ret_argmax = index;
}

/* Runs of 1024 in f32, their sums in double. */
double kernel_exp_sum(const float *x, float shift, uint32_t n)
{
	double total = 0.0;
	for (uint32_t first = 0; first < n; first += 1024) {
		uint32_t end = n - first < 1024 ? n : first + 1024, i = first;
		struct v16 sum = v_set(0.0f);
		for (; i + LANES <= end; i += LANES)
			sum = v_add(sum, v_exp(v_sub(v_load(x + i), v_set(shift))));
		if (i < end)
			sum = v_add(sum, v_exp(v_sub(v_load_part(x + i, end - i, -INFINITY), v_set(shift))));
		total += (double)v_sum(sum);
	}
	return total;
}

uint64_t kernel_masses(const float *x, float shift, uint32_t n)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < n; i += LANES) {
		float lanes[LANES];
		struct v16 a = n - i < LANES ? v_load_part(x + i, n - i, -INFINITY) : v_load(x + i);
		v_store(lanes, v_exp(v_sub(a, v_set(shift))));
		for (int j = 0; j < LANES; j++)
			sum += sample_mass(lanes[j]);
	}
	return sum;
}
