/* simt - the words of CUDA that kernels here are written in: kernels, launches, threads, barriers, warps, numbers.
 *
 * Owns:   nothing.  With simt_async.h and simt_wgmma.h it is the only place that holds PTX or words that only nvcc knows.
 * Loop:   device code, but simt_launch(): the device's one caller.
 * Rules:  1 the same source is compiled twice: by nvcc, and by g++ against tests/gpu/fake/, where each thread is a fiber: so
 *           a kernel says nothing that is not here or plain C++17, and no fused operation but simt_fma() (--fmad=false);
 *         2 warp operations are of whole warps: all 32 lanes come, in the same order (block sizes are multiples of 32);
 *         3 in a launch with clusters shared memory is dynamic. */
#ifndef KERNELS_CUDA_SIMT_H
#define KERNELS_CUDA_SIMT_H
#include <stddef.h>
#include <stdint.h>
#include <cuda_runtime.h>

#define SIMT_LANES 32

#ifdef __CUDACC__

/* SIMT_KERNEL(name)(parameters) { ... }, template before it if any; SIMT_KERNEL_OF where the number of threads of a block is
 * known: at most that many, and at least `blocks` of them on a multiprocessor, so registers are bounded. */
#define SIMT_KERNEL(name)			      static __global__ void name
#define SIMT_KERNEL_OF(name, threads_max, blocks_min) static __global__ void __launch_bounds__(threads_max, blocks_min) name
#define SIMT_DEVICE				      static __device__ __forceinline__
#define SIMT_BOTH				      static __host__ __device__ __forceinline__
#define SIMT_MEMBER			      __device__ __forceinline__
/* Of a parameter that the copy engine reads in place (a tensor map). */
#define SIMT_GRID_CONSTANT const __grid_constant__
#define SIMT_CONSTANT	   static __device__ const
/* SIMT_SHARED float name[n]; of the block, undefined at first. */
#define SIMT_SHARED __shared__
/* The launch's shared_bytes as `name`, aligned to 1024 bytes: what 128-byte swizzle asks for. */
#define SIMT_DYNAMIC_SHARED(type, name)                           \
	extern __shared__ __align__(1024) uint8_t simt_dynamic[]; \
	type *const name = reinterpret_cast<type *>(simt_dynamic)
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_ROLLED _Pragma("unroll 1") /* stays a loop */

/* --- barriers -------------------------------------------------------------------------------------------- */

SIMT_DEVICE void simt_sync()
{
	__syncthreads();
}

SIMT_DEVICE void simt_sync_warp()
{
	__syncwarp();
}

/* Named barriers: id 1 .. 15 (0 is simt_sync()'s), threads a multiple of 32. */
SIMT_DEVICE void simt_barrier_sync(int id, int threads)
{
	asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Counts, and does not wait. */
SIMT_DEVICE void simt_barrier_arrive(int id, int threads)
{
	asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* All threads of all blocks of the cluster. */
SIMT_DEVICE void simt_cluster_sync()
{
	asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

SIMT_DEVICE uint32_t simt_cluster_rank()
{
	uint32_t rank;
	asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
	return rank;
}

/* The same place in the shared memory of another block of the cluster. */
SIMT_DEVICE void *simt_cluster_map(void *shared, uint32_t rank)
{
	uint64_t there;
	asm volatile("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(shared), "r"(rank));
	return reinterpret_cast<void *>(there);
}

/* What this thread wrote is seen by the whole device before what it writes next. */
SIMT_DEVICE void simt_fence_device()
{
	__threadfence();
}

/* A warpgroup gives registers away or takes them (setmaxnreg), 24 .. 240 in steps of 8. */
template <int registers> SIMT_DEVICE void simt_registers_lower()
{
	asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

template <int registers> SIMT_DEVICE void simt_registers_raise()
{
	asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

/* --- warps ----------------------------------------------------------------------------------------------- */

#define SIMT_WARP_ALL 0xffffffffu

template <typename T> SIMT_DEVICE T simt_shuffle_xor(T value, int mask)
{
	return __shfl_xor_sync(SIMT_WARP_ALL, value, mask);
}

template <typename T> SIMT_DEVICE T simt_shuffle(T value, int lane)
{
	return __shfl_sync(SIMT_WARP_ALL, value, lane);
}

/* Of the lane `by` below; lanes that have none keep their own. */
template <typename T> SIMT_DEVICE T simt_shuffle_up(T value, uint32_t by)
{
	return __shfl_up_sync(SIMT_WARP_ALL, value, by);
}

template <typename T> SIMT_DEVICE T simt_shuffle_down(T value, uint32_t by)
{
	return __shfl_down_sync(SIMT_WARP_ALL, value, by);
}

/* A bit for each lane. */
SIMT_DEVICE uint32_t simt_ballot(bool value)
{
	return __ballot_sync(SIMT_WARP_ALL, value);
}

SIMT_DEVICE bool simt_any(bool value)
{
	return __any_sync(SIMT_WARP_ALL, value);
}

/* The lanes that hold the same value. */
SIMT_DEVICE uint32_t simt_match(uint32_t value)
{
	return __match_any_sync(SIMT_WARP_ALL, value);
}

/* --- numbers --------------------------------------------------------------------------------------------- */

SIMT_DEVICE float simt_fma(float a, float b, float c)
{
	return __fmaf_rn(a, b, c);
}

SIMT_DEVICE float simt_sqrt(float x)
{
	return __fsqrt_rn(x);
}

/* The hardware's exp2, 2 ulp: for weights of attention, whose bits are a GPU's own. */
SIMT_DEVICE float simt_exp2_fast(float x)
{
	float result;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
	return result;
}

/* The hardware's reciprocal, 1 ulp. */
SIMT_DEVICE float simt_reciprocal_fast(float x)
{
	float result;
	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
	return result;
}

/* The same value, and the compiler thinks it new: it works out what follows from it where that is used, by an addition or two, and
 * holds no registers for it through a loop. */
template <typename T> SIMT_DEVICE T simt_anew(T value)
{
	if constexpr (sizeof(T) == 8)
		asm volatile("" : "+l"(value));
	else
		asm volatile("" : "+r"(value));
	return value;
}

SIMT_DEVICE uint32_t simt_bits(float x)
{
	return __float_as_uint(x);
}

SIMT_DEVICE float simt_float(uint32_t bits)
{
	return __uint_as_float(bits);
}

/* Two numbers rounded to bf16 (to nearest, ties to even: base/bf16.h; the bits of a NaN are the hardware's), `low` in the low half. */
SIMT_DEVICE uint32_t simt_bf16_pair(float low, float high)
{
	uint32_t pair;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
	return pair;
}

/* Two numbers rounded to e4m3 (base/e4m3.h), `low` in the low byte. */
SIMT_DEVICE uint16_t simt_e4m3_pair(float low, float high)
{
	uint16_t pair;
	asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
	return pair;
}

SIMT_DEVICE uint32_t simt_popcount(uint32_t bits)
{
	return (uint32_t)__popc(bits);
}

SIMT_DEVICE uint64_t simt_multiply_high(uint64_t a, uint64_t b)
{
	return __umul64hi(a, b);
}

/* --- memory ---------------------------------------------------------------------------------------------- */

/* 16 bytes that nobody writes while the kernel runs and that are read once: they leave no trace in L1. */
SIMT_DEVICE uint4 simt_load_once(const void *global)
{
	uint4 v;
	asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(global));
	return v;
}

/* The value of before. */
SIMT_DEVICE uint32_t simt_atomic_add(uint32_t *at, uint32_t value)
{
	return atomicAdd(at, value);
}

/* --- launches -------------------------------------------------------------------------------------------- */

template <typename... P>
static inline cudaError_t simt_launch_list(void (*kernel)(P...), const cudaLaunchConfig_t *config, P... parameters)
{
	void *list[] = {(void *)&parameters..., nullptr};
	return cudaLaunchKernelExC(config, (const void *)kernel, list);
}

/* Blocks of clusters of `cluster` blocks along x; 1: none. */
template <typename... P, typename... A>
static inline cudaError_t simt_launch_cluster(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
					      cudaStream_t stream, uint32_t cluster, A... arguments)
{
	cudaLaunchAttribute attribute = {};
	attribute.id = cudaLaunchAttributeClusterDimension;
	attribute.val.clusterDim.x = cluster;
	attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
	cudaLaunchConfig_t config = {};
	config.gridDim = grid;
	config.blockDim = block;
	config.dynamicSmemBytes = shared_bytes;
	config.stream = stream;
	config.attrs = &attribute;
	config.numAttrs = cluster > 1 ? 1 : 0;
	return simt_launch_list<P...>(kernel, &config, static_cast<P>(arguments)...);
}

/* SIMT_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...): cudaError_t.  Names with commas go in parentheses. */
#define SIMT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
	simt_launch_cluster(kernel, grid, block, shared_bytes, stream, 1, ##__VA_ARGS__)
#define SIMT_LAUNCH_CLUSTER(kernel, cluster, grid, block, shared_bytes, stream, ...) \
	simt_launch_cluster(kernel, grid, block, shared_bytes, stream, cluster, ##__VA_ARGS__)

#else
#include <simt_fake.h> /* tests/gpu/fake: the same words for g++ */
#endif

/* --- of both ----------------------------------------------------------------------------------------------- */

SIMT_DEVICE uint32_t simt_lane()
{
	return threadIdx.x % SIMT_LANES;
}

SIMT_DEVICE uint32_t simt_warp()
{
	return threadIdx.x / SIMT_LANES;
}

SIMT_DEVICE float simt_bf16_widen(uint16_t half)
{
	return simt_float((uint32_t)half << 16);
}

/* The halves of a word of two bf16. */
SIMT_DEVICE float simt_bf16_low(uint32_t pair)
{
	return simt_float(pair << 16);
}

SIMT_DEVICE float simt_bf16_high(uint32_t pair)
{
	return simt_float(pair & 0xffff0000u);
}

SIMT_DEVICE uint16_t simt_bf16_round(float x)
{
	return (uint16_t)simt_bf16_pair(x, 0.0f);
}

/* The sum over a warp, in every lane, by the tree xor 16, 8, 4, 2, 1: the same bits in each, for addition commutes. */
SIMT_DEVICE float simt_warp_sum(float x)
{
	SIMT_UNROLL
	for (int mask = SIMT_LANES / 2; mask > 0; mask /= 2)
		x += simt_shuffle_xor(x, mask);
	return x;
}

/* The sum over a block of so many warps, in order of warps: the same bits in every thread.  Once in a kernel, or with a barrier between. */
template <int warps> SIMT_DEVICE float simt_block_sum(float x)
{
	SIMT_SHARED float of_warp[warps];
	x = simt_warp_sum(x);
	if (simt_lane() == 0)
		of_warp[simt_warp()] = x;
	simt_sync();
	float total = of_warp[0];
	SIMT_UNROLL
	for (int i = 1; i < warps; i++)
		total += of_warp[i];
	return total;
}

SIMT_DEVICE float simt_warp_max(float x)
{
	SIMT_UNROLL
	for (int mask = SIMT_LANES / 2; mask > 0; mask /= 2) {
		float other = simt_shuffle_xor(x, mask);
		x = other > x ? other : x;
	}
	return x;
}
#endif
