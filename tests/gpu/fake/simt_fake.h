/* simt_fake - kernels/cuda/simt.h for g++: each CUDA thread is a fiber, a block's fibers take turns on one core.
 *
 * Owns:   nothing; tests/gpu/fake/simt_run.cc owns the fibers.
 * Loop:   any host thread; launches run one at a time, under the fake runtime's lock.
 * Bounds: 1024 threads a block, clusters of 8 blocks, 227 KiB of shared memory.
 * Rules:  1 as kernels/cuda/simt.h, and what a GPU leaves undefined ends the process with a message: lanes of a warp at
 *           different operations, a barrier that nobody opens, a copy that nobody waits for. */
#ifndef TESTS_GPU_FAKE_SIMT_FAKE_H
#define TESTS_GPU_FAKE_SIMT_FAKE_H
#include <math.h>
#include <string.h>
#include <functional>
#include <tuple>
#include "base/bf16.h"
#include "base/e4m3.h"

#define SIMT_KERNEL(name)			      static void name
#define SIMT_KERNEL_OF(name, threads_max, blocks_min) static void name
#define SIMT_DEVICE				      static inline __attribute__((unused))
#define SIMT_BOTH				      static inline __attribute__((unused))
#define SIMT_MEMBER			      inline
#define SIMT_GRID_CONSTANT			      const
#define SIMT_CONSTANT				      static const
#define SIMT_SHARED				      static
#define SIMT_DYNAMIC_SHARED(type, name)		      type *const name = static_cast<type *>(simt_dynamic_shared())
#define SIMT_UNROLL
#define SIMT_ROLLED

/* Where the running thread stands. */
struct simt_place {
	uint3 thread, block;
	dim3 block_dim, grid_dim;
	uint32_t rank; /* of its block in the cluster */
};
extern struct simt_place *simt_here;
#define threadIdx (simt_here->thread)
#define blockIdx  (simt_here->block)
#define blockDim  (simt_here->block_dim)
#define gridDim	  (simt_here->grid_dim)

void *simt_dynamic_shared(void);
/* Ends the process, naming kernel, block and thread. */
__attribute__((noreturn, format(printf, 1, 2))) void simt_fault(const char *format, ...);

/* --- meeting ----------------------------------------------------------------------------------------------- */

#define SIMT_MEMBERS_MAX 128 /* a warpgroup */

struct simt_meeting {
	const void *in[SIMT_MEMBERS_MAX];
	void *out[SIMT_MEMBERS_MAX];
	uint32_t count;
};
typedef void simt_meeting_fn(const struct simt_meeting *meeting);

/* All lanes of the warp, or all 128 of the warpgroup, come to the operation `what`; the last runs fn over what each brought. */
void simt_meet_warp(const char *what, const void *in, void *out, simt_meeting_fn *fn);
void simt_meet_warpgroup(const char *what, const void *in, void *out, simt_meeting_fn *fn);

void simt_sync(void);
void simt_barrier_sync(int id, int threads);
void simt_barrier_arrive(int id, int threads);
void simt_cluster_sync(void);
void *simt_cluster_map(void *shared, uint32_t rank);
/* Lets others run: in a loop that waits for memory. */
void simt_poll(void);

SIMT_DEVICE uint32_t simt_cluster_rank()
{
	return simt_here->rank;
}

SIMT_DEVICE void simt_fence_device()
{
}

void simt_registers_move(int registers, bool raises);

template <int registers> SIMT_DEVICE void simt_registers_lower()
{
	static_assert(registers >= 24 && registers <= 240 && registers % 8 == 0, "as setmaxnreg takes them");
	simt_registers_move(registers, false);
}

template <int registers> SIMT_DEVICE void simt_registers_raise()
{
	static_assert(registers >= 24 && registers <= 240 && registers % 8 == 0, "as setmaxnreg takes them");
	simt_registers_move(registers, true);
}

/* --- warps --------------------------------------------------------------------------------------------------- */

#define SIMT_WARP_ALL 0xffffffffu

template <typename T> struct simt_word {
	T value;
	int32_t argument;
};

enum simt_way { SIMT_XOR, SIMT_FROM, SIMT_UP, SIMT_DOWN };

template <typename T, int way> static void simt_move(const struct simt_meeting *meeting)
{
	for (int lane = 0; lane < (int)meeting->count; lane++) {
		int by = static_cast<const simt_word<T> *>(meeting->in[lane])->argument;
		int from = way == SIMT_XOR ? lane ^ by : way == SIMT_FROM ? by & 31 : way == SIMT_UP ? lane - by : lane + by;
		from = from < 0 || from > 31 ? lane : from;
		*static_cast<T *>(meeting->out[lane]) = static_cast<const simt_word<T> *>(meeting->in[from])->value;
	}
}

template <typename T, int way> static inline T simt_moved(const char *what, T value, int argument)
{
	static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a register or two");
	simt_word<T> in = {value, argument};
	T out;
	simt_meet_warp(what, &in, &out, simt_move<T, way>);
	return out;
}

template <typename T> SIMT_DEVICE T simt_shuffle_xor(T value, int mask)
{
	return simt_moved<T, SIMT_XOR>("shuffle_xor", value, mask);
}

template <typename T> SIMT_DEVICE T simt_shuffle(T value, int lane)
{
	return simt_moved<T, SIMT_FROM>("shuffle", value, lane);
}

template <typename T> SIMT_DEVICE T simt_shuffle_up(T value, uint32_t by)
{
	return simt_moved<T, SIMT_UP>("shuffle_up", value, (int)by);
}

template <typename T> SIMT_DEVICE T simt_shuffle_down(T value, uint32_t by)
{
	return simt_moved<T, SIMT_DOWN>("shuffle_down", value, (int)by);
}

void simt_sync_warp(void);
uint32_t simt_ballot(bool value);
bool simt_any(bool value);
uint32_t simt_match(uint32_t value);

/* --- numbers --------------------------------------------------------------------------------------------------- */

SIMT_DEVICE float simt_fma(float a, float b, float c)
{
	return fmaf(a, b, c);
}

template <typename T> SIMT_DEVICE T simt_anew(T value)
{
	return value;
}

SIMT_DEVICE float simt_sqrt(float x)
{
	return sqrtf(x);
}

SIMT_DEVICE float simt_exp2_fast(float x)
{
	float result = exp2f(x);
	return result < 0x1p-126f ? 0.0f : result;
}

SIMT_DEVICE float simt_reciprocal_fast(float x)
{
	return 1.0f / x;
}

SIMT_DEVICE uint32_t simt_bits(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

SIMT_DEVICE float simt_float(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof(x));
	return x;
}

SIMT_DEVICE uint32_t simt_bf16_pair(float low, float high)
{
	return bf16_round(low) | (uint32_t)bf16_round(high) << 16;
}

SIMT_DEVICE uint16_t simt_e4m3_pair(float low, float high)
{
	return (uint16_t)(e4m3_round(low) | e4m3_round(high) << 8);
}

SIMT_DEVICE uint32_t simt_popcount(uint32_t bits)
{
	return (uint32_t)__builtin_popcount(bits);
}

SIMT_DEVICE uint64_t simt_multiply_high(uint64_t a, uint64_t b)
{
	return (uint64_t)((unsigned __int128)a * b >> 64);
}

SIMT_DEVICE uint4 simt_load_once(const void *global)
{
	if ((uintptr_t)global % 16 != 0)
		simt_fault("a load of 16 bytes at %p", global);
	uint4 v;
	memcpy(&v, global, sizeof(v));
	return v;
}

SIMT_DEVICE uint32_t simt_atomic_add(uint32_t *at, uint32_t value)
{
	uint32_t before = *at;
	*at += value;
	return before;
}

/* --- launches ---------------------------------------------------------------------------------------------------- */

struct simt_launch {
	const void *kernel;
	const char *name;
	dim3 grid, block;
	size_t shared_bytes;
	uint32_t cluster;
	std::function<void()> body; /* of one thread */
};

/* Queues it on the stream (streams.cc). */
cudaError_t simt_queue(const struct simt_launch &launch, cudaStream_t stream);
/* Runs it now (simt_run.cc). */
void simt_run(const struct simt_launch &launch);

template <typename... P, typename... A>
static inline cudaError_t simt_launch_named(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
					    cudaStream_t stream, uint32_t cluster, A... arguments)
{
	std::tuple<P...> parameters(static_cast<P>(arguments)...);
	return simt_queue({(const void *)kernel, name, grid, block, shared_bytes, cluster,
			   [kernel, parameters] { std::apply(kernel, parameters); }},
			  stream);
}

#define SIMT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
	simt_launch_named(#kernel, kernel, grid, block, shared_bytes, stream, 1, ##__VA_ARGS__)
#define SIMT_LAUNCH_CLUSTER(kernel, cluster, grid, block, shared_bytes, stream, ...) \
	simt_launch_named(#kernel, kernel, grid, block, shared_bytes, stream, cluster, ##__VA_ARGS__)
#endif
