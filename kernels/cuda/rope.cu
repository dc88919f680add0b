/* Rope: angles once a step, then every head of every layer turned in place. */
#include "base/exact_inline.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/quad.h"

#define ROPE_THREADS 256

struct angles_job {
	const uint32_t *positions;
	const float *frequency;
	uint32_t count, half; /* count: of angles of all rows */
	float factor;
	float *ret_cos, *ret_sin;
};

/* rows * half angles of some 150 operations in f64 each, divisions among them: 8192 rows of 64 are 20 us, once a step. */
SIMT_KERNEL_OF(rope_angles, ROPE_THREADS, 2)(const angles_job job)
{
	uint32_t index = blockIdx.x * ROPE_THREADS + threadIdx.x;
	if (index >= job.count)
		return;
	double sine, cosine;
	float angle = (float)job.positions[index / job.half] * job.frequency[index % job.half];
	exact_sincos_inline((double)angle, &sine, &cosine);
	job.ret_cos[index] = job.factor * (float)cosine;
	job.ret_sin[index] = job.factor * (float)sine;
}

void cuda_rope_angles(struct device *device, const uint32_t *positions, uint32_t rows, const float *frequency,
		     uint32_t half, float factor, float *ret_cos, float *ret_sin)
{
	const angles_job job = {positions, frequency, rows * half, half, factor, ret_cos, ret_sin};
	if (!cuda_alive(device) || job.count == 0)
		return;
	cuda_check(cuda_of(device),
		   SIMT_LAUNCH(rope_angles, dim3((job.count + ROPE_THREADS - 1) / ROPE_THREADS), dim3(ROPE_THREADS), 0,
			       cuda_stream(device), job),
		   "rope_angles");
}

struct rope_job {
	float *x;
	size_t x_stride;
	uint32_t head_count, dim, half, quads; /* quads: of half a head */
	const float *cos, *sin;
};

/* A thread turns four pairs: two accesses of 16 bytes of the row (and two of angles, which all heads share and which stay in the
 * cache) in flight for each of 2048 threads. Products and sums are rounded one by one, as the CPU's. */
template <bool wide> SIMT_KERNEL_OF(rope, ROPE_THREADS, 4)(const rope_job job)
{
	size_t row = blockIdx.x;
	uint32_t index = blockIdx.y * ROPE_THREADS + threadIdx.x, head = index / job.quads, at = index % job.quads * QUAD;
	if (head >= job.head_count)
		return;
	float *x = job.x + row * job.x_stride + (size_t)head * job.dim + at;
	uint32_t left = job.half - at;
	quad a = quad_load<wide>(x, left), b = quad_load<wide>(x + job.half, left), first, second;
	quad cosine = quad_load<wide>(job.cos + row * job.half + at, left);
	quad sine = quad_load<wide>(job.sin + row * job.half + at, left);
	SIMT_UNROLL
	for (int i = 0; i < QUAD; i++) {
		first.at[i] = a.at[i] * cosine.at[i] - b.at[i] * sine.at[i];
		second.at[i] = b.at[i] * cosine.at[i] + a.at[i] * sine.at[i];
	}
	quad_store<wide>(x, first, left);
	quad_store<wide>(x + job.half, second, left);
}

/* rows * heads * 2 half * 8 bytes, and rows * half * 8 of angles. */
void cuda_rope(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count, uint32_t dim,
	      uint32_t half, const float *cos, const float *sin)
{
	size_t half_bytes = (size_t)half * 4;
	bool wide = quad_wide(x, x_stride * 4) && quad_wide(cos, half_bytes) && quad_wide(sin, half_bytes) && dim % QUAD == 0;
	const rope_job job = {x, x_stride, head_count, dim, half, (half + QUAD - 1) / QUAD, cos, sin};
	dim3 grid(rows, (head_count * job.quads + ROPE_THREADS - 1) / ROPE_THREADS);
	if (!cuda_alive(device) || rows == 0 || grid.y == 0)
		return;
	cudaError_t e = wide ? SIMT_LAUNCH(rope<true>, grid, dim3(ROPE_THREADS), 0, cuda_stream(device), job)
			     : SIMT_LAUNCH(rope<false>, grid, dim3(ROPE_THREADS), 0, cuda_stream(device), job);
	cuda_check(cuda_of(device), e, "rope");
}
