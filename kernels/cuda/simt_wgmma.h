/* simt_wgmma - tensor cores: ldmatrix and mma of one warp, wgmma of a warpgroup (4 warps from a multiple of 4).
 *
 * Owns:   nothing; as simt.h.
 * Loop:   device code; all threads of the warp or warpgroup together.
 * Rules:  1 products of bf16 or e4m3, sums in f32: of e4m3 about 14 bits of each are kept (docs/gpu.md);
 *         2 wgmma runs beside the threads: simt_wgmma_fence() before the first after registers were touched, then any number,
 *           simt_wgmma_commit(), and simt_wgmma_wait<groups left>() before sums are read or operands written;
 *         3 fragments, lane l of warp w: of mma m16n8k16, a[0] row l / 4, columns 2 (l % 4) and the next; a[1] row + 8, a[2] column
 *           + 8, a[3] both; b[0] column l / 4, rows 2 (l % 4) and the next, b[1] row + 8; d[0], d[1] row l / 4, columns 2 (l % 4) and
 *           the next, d[2], d[3] row + 8.  Of wgmma m64nNk16: d[4 j + i] is d[i] of such a tile at row 16 w and column 8 j, a[] as
 *           above at row 16 w; of m64nNk32 a[0] has columns 4 (l % 4) and the next three, a[2] those 16 further. */
#ifndef KERNELS_CUDA_SIMT_WGMMA_H
#define KERNELS_CUDA_SIMT_WGMMA_H
#include "kernels/cuda/simt_async.h"

/* How an operand lies in shared memory: with K innermost (lines of 64 k of one row), or with its other side innermost (lines
 * of 64 rows of one k). */
enum simt_major { SIMT_K_MAJOR = 0, SIMT_MN_MAJOR = 1 };

#ifdef __CUDACC__

/* --- a warp ------------------------------------------------------------------------------------------------ */

/* Four 8 x 8 matrices of bf16, or 8 x 16 of e4m3 (a[] of wgmma m64nNk32); lanes 8 i .. 8 i + 7 give the addresses of the rows (16 bytes) of matrix i.  A lane gets of each the
 * pair at row l / 4, columns 2 (l % 4) and the next; transposed: at rows 2 (l % 4) and the next, column l / 4. */
SIMT_DEVICE void simt_ldmatrix_x4(uint32_t (&ret)[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(ret[0]), "=r"(ret[1]), "=r"(ret[2]), "=r"(ret[3])
		     : "r"(simt_shared_address(row))
		     : "memory");
}

SIMT_DEVICE void simt_ldmatrix_x4_trans(uint32_t (&ret)[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(ret[0]), "=r"(ret[1]), "=r"(ret[2]), "=r"(ret[3])
		     : "r"(simt_shared_address(row))
		     : "memory");
}

/* d += a b */
SIMT_DEVICE void simt_mma_m16n8k16_bf16(float *d, const uint32_t *a, const uint32_t *b)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
		     "{%0, %1, %2, %3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* --- a warpgroup --------------------------------------------------------------------------------------------- */

SIMT_DEVICE void simt_wgmma_fence()
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

SIMT_DEVICE void simt_wgmma_commit()
{
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int left> SIMT_DEVICE void simt_wgmma_wait()
{
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory");
}

/* The compiler neither reads nor moves these registers across this point: around wgmma in flight. */
template <int count> SIMT_DEVICE void simt_wgmma_hold(float (&d)[count])
{
	SIMT_UNROLL
	for (int i = 0; i < count; i++)
		asm volatile("" : "+f"(d[i])::"memory");
}

/* An operand in 128-byte swizzle.  SIMT_K_MAJOR: lines of 64 k; stride_bytes from 8 rows to the next 8 (1024 where they are
 * packed), leading_bytes is not looked at; the next 16 k: shared + 32 bytes.  SIMT_MN_MAJOR: lines of 64 rows of one k;
 * leading_bytes from 64 rows to the next 64, stride_bytes from 8 k to the next 8; the next 16 k: shared + 2 stride_bytes. */
SIMT_DEVICE uint64_t simt_wgmma_operand(const void *shared, uint32_t leading_bytes, uint32_t stride_bytes)
{
	return (uint64_t)((simt_shared_address(shared) & 0x3ffff) >> 4) | (uint64_t)((leading_bytes & 0x3ffff) >> 4) << 16 |
	       (uint64_t)((stride_bytes & 0x3ffff) >> 4) << 32 | (uint64_t)1 << 62;
}

#define SIMT_REGISTERS_4 \
	"%0, %1, %2, %3"
#define SIMT_REGISTERS_8 SIMT_REGISTERS_4 ", " \
	"%4, %5, %6, %7"
#define SIMT_REGISTERS_16 SIMT_REGISTERS_8 ", " \
	"%8, %9, %10, %11, %12, %13, %14, %15"
#define SIMT_REGISTERS_32 SIMT_REGISTERS_16 ", " \
	"%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SIMT_REGISTERS_48 SIMT_REGISTERS_32 ", " \
	"%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define SIMT_REGISTERS_64 SIMT_REGISTERS_48 ", " \
	"%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SIMT_REGISTERS_96 SIMT_REGISTERS_64 ", " \
	"%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, " \
	"%84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define SIMT_REGISTERS_128 SIMT_REGISTERS_96 ", " \
	"%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, " \
	"%113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SIMT_SUMS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SIMT_SUMS_8(d, i)   SIMT_SUMS_4(d, i), SIMT_SUMS_4(d, i + 4)
#define SIMT_SUMS_16(d, i)  SIMT_SUMS_8(d, i), SIMT_SUMS_8(d, i + 8)
#define SIMT_SUMS_32(d, i)  SIMT_SUMS_16(d, i), SIMT_SUMS_16(d, i + 16)
#define SIMT_SUMS_48(d, i)  SIMT_SUMS_32(d, i), SIMT_SUMS_16(d, i + 32)
#define SIMT_SUMS_64(d, i)  SIMT_SUMS_32(d, i), SIMT_SUMS_32(d, i + 32)
#define SIMT_SUMS_96(d, i)  SIMT_SUMS_64(d, i), SIMT_SUMS_32(d, i + 64)
#define SIMT_SUMS_128(d, i) SIMT_SUMS_64(d, i), SIMT_SUMS_64(d, i + 64)

template <int n> struct simt_wgmma_shape;

/* The forms of one N: A from shared memory, the same of e4m3, A from registers.  `accumulate` 0: d = a b, else d += a b. */
#define SIMT_WGMMA_SHAPE(n, sums, desc_a, desc_b, flag, major_a, major_b, reg_b, reg_flag, reg_major_b, a0, a1, a2, a3)         \
	template <> struct simt_wgmma_shape<n> {                                                                               \
		template <int a_major, int b_major>                                                                            \
		static __device__ __forceinline__ void shared(float (&d)[sums], uint64_t a, uint64_t b, int accumulate)        \
		{                                                                                                              \
			asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %" flag ", 0;\n\t"                                    \
				     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" SIMT_REGISTERS_##sums "}, "  \
				     "%" desc_a ", %" desc_b ", p, 1, 1, %" major_a ", %" major_b ";\n\t}"                     \
				     : SIMT_SUMS_##sums(d, 0)                                                                  \
				     : "l"(a), "l"(b), "r"(accumulate), "n"(a_major), "n"(b_major));                           \
		}                                                                                                              \
		static __device__ __forceinline__ void e4m3(float (&d)[sums], uint64_t a, uint64_t b, int accumulate)          \
		{                                                                                                              \
			asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %" flag ", 0;\n\t"                                    \
				     "wgmma.mma_async.sync.aligned.m64n" #n "k32.f32.e4m3.e4m3 {" SIMT_REGISTERS_##sums "}, "  \
				     "%" desc_a ", %" desc_b ", p, 1, 1;\n\t}"                                                 \
				     : SIMT_SUMS_##sums(d, 0)                                                                  \
				     : "l"(a), "l"(b), "r"(accumulate));                                                       \
		}                                                                                                              \
		static __device__ __forceinline__ void e4m3_registers(float (&d)[sums], const uint32_t *a, uint64_t b,         \
								      int accumulate)                                          \
		{                                                                                                              \
			asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %" reg_flag ", 0;\n\t"                                \
				     "wgmma.mma_async.sync.aligned.m64n" #n "k32.f32.e4m3.e4m3 {" SIMT_REGISTERS_##sums "}, "  \
				     "{%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" reg_b ", p, 1, 1;\n\t}"                        \
				     : SIMT_SUMS_##sums(d, 0)                                                                  \
				     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                   \
		}                                                                                                              \
		template <int b_major>                                                                                         \
		static __device__ __forceinline__ void registers(float (&d)[sums], const uint32_t *a, uint64_t b,              \
								 int accumulate)                                               \
		{                                                                                                              \
			asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %" reg_flag ", 0;\n\t"                                \
				     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" SIMT_REGISTERS_##sums "}, "  \
				     "{%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" reg_b ", p, 1, 1, %" reg_major_b ";\n\t}"       \
				     : SIMT_SUMS_##sums(d, 0)                                                                  \
				     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(b_major));     \
		}                                                                                                              \
	}
SIMT_WGMMA_SHAPE(8, 4, "4", "5", "6", "7", "8", "8", "9", "10", "4", "5", "6", "7");
SIMT_WGMMA_SHAPE(16, 8, "8", "9", "10", "11", "12", "12", "13", "14", "8", "9", "10", "11");
SIMT_WGMMA_SHAPE(32, 16, "16", "17", "18", "19", "20", "20", "21", "22", "16", "17", "18", "19");
SIMT_WGMMA_SHAPE(64, 32, "32", "33", "34", "35", "36", "36", "37", "38", "32", "33", "34", "35");
SIMT_WGMMA_SHAPE(96, 48, "48", "49", "50", "51", "52", "52", "53", "54", "48", "49", "50", "51");
SIMT_WGMMA_SHAPE(128, 64, "64", "65", "66", "67", "68", "68", "69", "70", "64", "65", "66", "67");
SIMT_WGMMA_SHAPE(192, 96, "96", "97", "98", "99", "100", "100", "101", "102", "96", "97", "98", "99");
SIMT_WGMMA_SHAPE(256, 128, "128", "129", "130", "131", "132", "132", "133", "134", "128", "129", "130", "131");

/* d[64][n] of the warpgroup, both operands by simt_wgmma_operand(). n: 8, 16, 32, 64, 96, 128, 192, 256. */
template <int n, int a_major = SIMT_K_MAJOR, int b_major = SIMT_K_MAJOR>
SIMT_DEVICE void simt_wgmma(float (&d)[n / 2], uint64_t a, uint64_t b, bool accumulate)
{
	simt_wgmma_shape<n>::template shared<a_major, b_major>(d, a, b, accumulate);
}

/* The same of e4m3, m64nNk32: a line has 128 k, and the next 32 k are 32 bytes further. */
template <int n> SIMT_DEVICE void simt_wgmma_e4m3(float (&d)[n / 2], uint64_t a, uint64_t b, bool accumulate)
{
	simt_wgmma_shape<n>::e4m3(d, a, b, accumulate);
}

/* A from registers, which stay as they are until the wait. */
template <int n, int b_major = SIMT_K_MAJOR>
SIMT_DEVICE void simt_wgmma_registers(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate)
{
	simt_wgmma_shape<n>::template registers<b_major>(d, a, b, accumulate);
}

template <int n> SIMT_DEVICE void simt_wgmma_e4m3_registers(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate)
{
	simt_wgmma_shape<n>::e4m3_registers(d, a, b, accumulate);
}

#else
#include <simt_fake_wgmma.h> /* tests/gpu/fake */
#endif

/* --- of both ----------------------------------------------------------------------------------------------- */

/* The operand so many bytes further, a multiple of 16: one addition, for the address lies in the low word and does not leave it. */
SIMT_DEVICE uint64_t simt_wgmma_further(uint64_t operand, uint32_t bytes)
{
	return (operand & ~(uint64_t)UINT32_MAX) | ((uint32_t)operand + bytes / 16);
}
#endif
