/* simt_fake_wgmma - kernels/cuda/simt_wgmma.h for g++.  Products are exact in f32 and added one by one, K ascending: the very
 * sums of the CPU backend, which a tensor core only comes near to.  wgmma reads shared memory and adds when its warpgroup waits. */
#ifndef TESTS_GPU_FAKE_SIMT_FAKE_WGMMA_H
#define TESTS_GPU_FAKE_SIMT_FAKE_WGMMA_H

void simt_ldmatrix(uint32_t *ret, const void *row, bool transposed);
void simt_mma_m16n8k16_bf16(float *d, const uint32_t *a, const uint32_t *b);

SIMT_DEVICE void simt_ldmatrix_x4(uint32_t (&ret)[4], const void *row)
{
	simt_ldmatrix(ret, row, false);
}

SIMT_DEVICE void simt_ldmatrix_x4_trans(uint32_t (&ret)[4], const void *row)
{
	simt_ldmatrix(ret, row, true);
}

struct simt_product {
	uint32_t n;
	float *d;	   /* [n / 2] of this thread */
	const uint32_t *a; /* [4] of this thread, or NULL: by a_operand */
	uint64_t a_operand, b_operand;
	int a_major, b_major;
	bool accumulate;
	bool e4m3; /* 32 k, else 16 of bf16 */
};
void simt_wgmma_queue(const struct simt_product *product);
void simt_wgmma_fence(void);
void simt_wgmma_commit(void);
void simt_wgmma_left(uint32_t left);

template <int left> SIMT_DEVICE void simt_wgmma_wait()
{
	simt_wgmma_left(left);
}

template <int count> SIMT_DEVICE void simt_wgmma_hold(float (&)[count])
{
}

SIMT_DEVICE uint64_t simt_wgmma_operand(const void *shared, uint32_t leading_bytes, uint32_t stride_bytes)
{
	return (uint64_t)(simt_shared_address(shared) >> 4) | (uint64_t)((leading_bytes & 0x3ffff) >> 4) << 16 |
	       (uint64_t)((stride_bytes & 0x3ffff) >> 4) << 32 | (uint64_t)1 << 62;
}

template <int n> constexpr bool simt_is_wgmma_shape()
{
	return n == 8 || n == 16 || n == 32 || n == 64 || n == 96 || n == 128 || n == 192 || n == 256;
}

template <int n, int a_major = SIMT_K_MAJOR, int b_major = SIMT_K_MAJOR>
SIMT_DEVICE void simt_wgmma(float (&d)[n / 2], uint64_t a, uint64_t b, bool accumulate)
{
	static_assert(simt_is_wgmma_shape<n>(), "as kernels/cuda/simt_wgmma.h has them");
	struct simt_product product = {n, d, nullptr, a, b, a_major, b_major, accumulate, false};
	simt_wgmma_queue(&product);
}

template <int n> SIMT_DEVICE void simt_wgmma_e4m3(float (&d)[n / 2], uint64_t a, uint64_t b, bool accumulate)
{
	static_assert(simt_is_wgmma_shape<n>(), "as kernels/cuda/simt_wgmma.h has them");
	struct simt_product product = {n, d, nullptr, a, b, SIMT_K_MAJOR, SIMT_K_MAJOR, accumulate, true};
	simt_wgmma_queue(&product);
}

template <int n, int b_major = SIMT_K_MAJOR>
SIMT_DEVICE void simt_wgmma_registers(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate)
{
	static_assert(simt_is_wgmma_shape<n>(), "as kernels/cuda/simt_wgmma.h has them");
	struct simt_product product = {n, d, a, 0, b, SIMT_K_MAJOR, b_major, accumulate, false};
	simt_wgmma_queue(&product);
}

template <int n> SIMT_DEVICE void simt_wgmma_e4m3_registers(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate)
{
	static_assert(simt_is_wgmma_shape<n>(), "as kernels/cuda/simt_wgmma.h has them");
	struct simt_product product = {n, d, a, 0, b, SIMT_K_MAJOR, SIMT_K_MAJOR, accumulate, true};
	simt_wgmma_queue(&product);
}
#endif
