/* The words of kernels/cuda/simt*.h against what is plainly computed: of a GPU, or of the fake device, there in each order of threads.  A
 * layout that is not what the hardware means by it shows here as itself. */
#include "base/bf16.h"
#include "base/e4m3.h"
#include "base/rng.h"
#include "tests/gpu/own_kernels.h"
#include <math.h>
#include <vector>

static cudaStream_t stream;

/* Each order, copies early and late. */
static void on_each_order(void (*test)(void))
{
#if !ON_FAKE
	ok(cudaStreamCreate(&stream));
	test();
	ok(cudaStreamSynchronize(stream));
	ok(cudaStreamDestroy(stream));
#else
	for (int i = 0; i < 5; i++) {
		struct fake_options options = *fake_now();
		options.order = (enum fake_order)(i % 3);
		options.late_copies = i < 3;
		options.seed = (uint64_t)i;
		struct fake_options before = fake_configure(&options);
		ok(cudaStreamCreate(&stream));
		test();
		ok(cudaStreamSynchronize(stream));
		ok(cudaStreamDestroy(stream));
		fake_configure(&before);
		assert_int_equal(fake_device_used(), 0);
		assert_int_equal(fake_object_count(), 0);
	}
#endif
}

template <typename T> static void host_copy(T *to, T *from, size_t count)
{
	ok(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToHost, stream));
	ok(cudaFree(from));
}

/* --- threads, warps, barriers ------------------------------------------------------------------------------ */

SIMT_KERNEL(reverse_block)(const uint32_t *x, uint32_t *out)
{
	SIMT_SHARED uint32_t kept[128];
	uint32_t first = (blockIdx.x + blockIdx.y * gridDim.x) * blockDim.x;
	for (int round = 0; round < 3; round++) {
		kept[threadIdx.x] = round == 0 ? x[first + threadIdx.x] : kept[threadIdx.x] + 1;
		simt_sync();
		uint32_t other = kept[blockDim.x - 1 - threadIdx.x];
		simt_sync();
		kept[threadIdx.x] = other;
	}
	simt_sync();
	out[first + threadIdx.x] = kept[threadIdx.x];
}

static void blocks_share_memory_between_barriers()
{
	enum { COUNT = 128 * 6 };
	uint32_t x[COUNT], out[COUNT];
	for (uint32_t i = 0; i < COUNT; i++)
		x[i] = i * i;
	uint32_t *from = device_copy(x, COUNT), *to = device_copy<uint32_t>(nullptr, COUNT);
	ok(SIMT_LAUNCH(reverse_block, dim3(2, 3), 128, 0, stream, from, to));
	host_copy(out, to, COUNT);
	ok(cudaFree(from));
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(out[i], x[i / 128 * 128 + 127 - i % 128] + 2);
}

static void barriers_hold_all_threads(void **)
{
	on_each_order(blocks_share_memory_between_barriers);
}

SIMT_KERNEL(warp_words)(uint32_t *out)
{
	uint32_t lane = simt_lane(), *mine = out + threadIdx.x * 8;
	mine[0] = simt_shuffle_xor(lane * 10, 5);
	mine[1] = simt_shuffle(lane * 10, 7);
	mine[2] = simt_shuffle_up(lane * 10, 3);
	mine[3] = simt_shuffle_down(lane * 10, 3);
	mine[4] = simt_ballot(lane % 3 == 0);
	mine[5] = simt_any(lane == 9 && simt_warp() == 1);
	mine[6] = simt_match(lane / 8);
	mine[7] = (uint32_t)simt_warp_sum((float)lane) + (uint32_t)simt_warp_max(-(float)lane) * 1000;
}

static void warps_exchange_words()
{
	uint32_t out[64 * 8];
	uint32_t *to = device_copy<uint32_t>(nullptr, 64 * 8);
	ok(SIMT_LAUNCH(warp_words, 1, 64, 0, stream, to));
	host_copy(out, to, 64 * 8);
	for (uint32_t thread = 0; thread < 64; thread++) {
		uint32_t lane = thread % 32, *mine = out + thread * 8;
		assert_int_equal(mine[0], (lane ^ 5) * 10);
		assert_int_equal(mine[1], 70);
		assert_int_equal(mine[2], (lane < 3 ? lane : lane - 3) * 10);
		assert_int_equal(mine[3], (lane > 28 ? lane : lane + 3) * 10);
		assert_int_equal(mine[4], 0x49249249);
		assert_int_equal(mine[5], thread / 32);
		assert_int_equal(mine[6], 0xffu << lane / 8 * 8);
		assert_int_equal(mine[7], 496);
	}
}

static void lanes_exchange_words(void **)
{
	on_each_order(warps_exchange_words);
}

/* Warp 0 fills, warps 1 .. 3 read: pairs of named barriers. */
SIMT_KERNEL(named)(uint32_t *out)
{
	SIMT_SHARED uint32_t kept[32];
	uint32_t sum = 0;
	for (uint32_t round = 0; round < 4; round++) {
		if (simt_warp() == 0) {
			if (round > 0)
				simt_barrier_sync(2, 128);
			kept[threadIdx.x] = round * 100 + threadIdx.x;
			simt_barrier_arrive(1, 128);
		} else {
			simt_barrier_sync(1, 128);
			sum += kept[31 - simt_lane()];
			if (round < 3)
				simt_barrier_arrive(2, 128);
		}
	}
	out[threadIdx.x] = sum;
}

static void named_barriers_are_pairs()
{
	uint32_t out[128];
	uint32_t *to = device_copy<uint32_t>(nullptr, 128);
	ok(SIMT_LAUNCH(named, 1, 128, 0, stream, to));
	host_copy(out, to, 128);
	for (uint32_t i = 0; i < 128; i++)
		assert_int_equal(out[i], i < 32 ? 0 : 600 + 4 * (31 - i % 32));
}

static void named_barriers_hold(void **)
{
	on_each_order(named_barriers_are_pairs);
}

SIMT_KERNEL(cluster_ring)(uint32_t *out)
{
	SIMT_DYNAMIC_SHARED(uint32_t, kept);
	kept[threadIdx.x] = simt_cluster_rank() * 100 + threadIdx.x;
	simt_cluster_sync();
	uint32_t next = (simt_cluster_rank() + 1) % 4;
	out[blockIdx.x * 32 + threadIdx.x] = *static_cast<uint32_t *>(simt_cluster_map(&kept[threadIdx.x], next));
	simt_cluster_sync();
}

static void clusters_see_each_other()
{
	uint32_t out[256];
	uint32_t *to = device_copy<uint32_t>(nullptr, 256);
	ok(SIMT_LAUNCH_CLUSTER(cluster_ring, 4, 8, 32, 128, stream, to));
	host_copy(out, to, 256);
	for (uint32_t i = 0; i < 256; i++)
		assert_int_equal(out[i], (i / 32 + 1) % 4 * 100 + i % 32);
}

static void blocks_of_a_cluster_run_together(void **)
{
	on_each_order(clusters_see_each_other);
}

#if ON_FAKE
/* --- what a GPU leaves undefined ends the process --------------------------------------------------------------- */

/* A kernel that must end the process. */
static void assert_dies(void (*kernel)(void *), void *arg)
{
	int status = run_apart(kernel, arg);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

SIMT_KERNEL(split_warp)(uint32_t *out)
{
	out[threadIdx.x] = threadIdx.x < 16 ? simt_shuffle(1u, 0) : simt_shuffle_xor(1u, 1);
}

SIMT_KERNEL(lost_lanes)(uint32_t *out)
{
	if (threadIdx.x != 3)
		out[threadIdx.x] = simt_ballot(true);
}

SIMT_KERNEL(half_barrier)(uint32_t *out)
{
	if (threadIdx.x < 32)
		simt_barrier_sync(1, 64);
	out[threadIdx.x] = 0;
}

SIMT_KERNEL(unset_mbarrier)(uint32_t *out)
{
	SIMT_DYNAMIC_SHARED(uint64_t, barrier);
	simt_mbarrier_wait(barrier, 0);
	out[threadIdx.x] = 0;
}

SIMT_KERNEL(never_opened)(uint32_t *out)
{
	SIMT_DYNAMIC_SHARED(uint64_t, barrier);
	if (threadIdx.x == 0)
		simt_mbarrier_init(barrier, 2);
	simt_sync();
	if (threadIdx.x == 0)
		simt_mbarrier_arrive(barrier);
	simt_mbarrier_wait(barrier, 0);
	out[threadIdx.x] = 0;
}

/* One word behind the memory, and behind the launch's shared memory. */
SIMT_KERNEL(beyond_memory)(uint32_t *out)
{
	out[threadIdx.x + 1] = 0;
}

SIMT_KERNEL(beyond_shared)(uint32_t *out)
{
	SIMT_DYNAMIC_SHARED(uint8_t, shared);
	shared[threadIdx.x + 1] = 0;
	out[threadIdx.x] = 0;
}

static void run_kernel(void *kernel)
{
	uint32_t *to = device_copy<uint32_t>(nullptr, 64);
	ok(SIMT_LAUNCH(reinterpret_cast<void (*)(uint32_t *)>(kernel), 1, 64, 64, nullptr, to));
}

static void faults_end_the_process(void **)
{
	void (*kernels[])(uint32_t *) = {split_warp, lost_lanes, half_barrier, unset_mbarrier, never_opened};
	for (auto kernel : kernels)
		assert_dies(run_kernel, reinterpret_cast<void *>(kernel));
#ifdef __SANITIZE_ADDRESS__
	assert_dies(run_kernel, reinterpret_cast<void *>(beyond_memory));
	assert_dies(run_kernel, reinterpret_cast<void *>(beyond_shared));
#else
	(void)beyond_memory, (void)beyond_shared;
#endif
}

#endif

/* --- copies ------------------------------------------------------------------------------------------------------- */

SIMT_KERNEL(async_rows)(const float *x, float *out, bool wait)
{
	SIMT_DYNAMIC_SHARED(float, kept);
	simt_cp_async16(kept + threadIdx.x * 4, x + threadIdx.x * 4);
	simt_cp_async_commit();
	simt_cp_async16(kept + 128 + threadIdx.x * 4, x + 128 + threadIdx.x * 4, threadIdx.x % 2 == 0);
	simt_cp_async_commit();
	if (wait)
		simt_cp_async_wait<1>();
	simt_sync();
	for (int i = 0; i < 4; i++)
		out[threadIdx.x * 4 + i] = kept[127 - threadIdx.x * 4 - i];
	simt_cp_async_wait<0>();
	simt_sync();
	for (int i = 0; i < 4; i++)
		out[128 + threadIdx.x * 4 + i] = kept[255 - threadIdx.x * 4 - i];
}

static void copies_of_threads_land()
{
	float x[256], out[256];
	for (int i = 0; i < 256; i++)
		x[i] = (float)i;
	float *from = device_copy(x, 256), *to = device_copy<float>(nullptr, 256);
	ok(SIMT_LAUNCH(async_rows, 1, 32, 1024, stream, from, to, false));
	ok(cudaMemcpyAsync(out, to, 1024, cudaMemcpyDeviceToHost, stream));
	ok(cudaStreamSynchronize(stream));
#if ON_FAKE
	bool missing = false; /* nobody waited: NaNs are where copies will be */
	for (int i = 0; i < 128; i++)
		missing |= out[i] != out[i];
	assert_int_equal(missing, fake_now()->late_copies);
#endif
	ok(SIMT_LAUNCH(async_rows, 1, 32, 1024, stream, from, to, true));
	host_copy(out, to, 256);
	ok(cudaFree(from));
	for (int i = 0; i < 128; i++) {
		assert_true(out[i] == x[127 - i]);
		assert_true(out[128 + i] == ((127 - i) / 4 % 2 == 0 ? x[255 - i] : 0.0f));
	}
}

static void copies_land_when_waited_for(void **)
{
	on_each_order(copies_of_threads_land);
}

typedef CUresult encode_fn(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
			   const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

static CUtensorMap map_of(const void *base, int rank, const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
			  CUtensorMapSwizzle swizzle)
{
	CUtensorMap map;
	cuuint32_t ones[] = {1, 1, 1, 1};
	void *encode;
	enum cudaDriverEntryPointQueryResult found;
	ok(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault, &found));
	assert_int_equal(((encode_fn *)encode)(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, (uint32_t)rank, const_cast<void *>(base),
						dims, strides, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
						CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
			 CUDA_SUCCESS);
	return map;
}

/* A ring of two stages, filled by warp 1, read by warp 0: out gets every tile of 8 rows of 64. */
SIMT_KERNEL(ring)(SIMT_GRID_CONSTANT CUtensorMap map, uint32_t tiles, uint16_t *out)
{
	SIMT_DYNAMIC_SHARED(uint8_t, stage);
	SIMT_SHARED uint64_t full[2], empty[2];
	if (threadIdx.x == 0)
		for (int i = 0; i < 2; i++) {
			simt_mbarrier_init(&full[i], 1);
			simt_mbarrier_init(&empty[i], 32);
		}
	simt_mbarrier_fence_init();
	simt_sync();
	if (simt_warp() == 1 && simt_lane() == 0) {
		for (uint32_t i = 0; i < tiles; i++) {
			simt_mbarrier_wait(&empty[i % 2], i / 2 % 2 ^ 1);
			simt_mbarrier_arrive_expect(&full[i % 2], 1024);
			simt_tma_load_3d(stage + i % 2 * 1024, &map, &full[i % 2], 8, (int)i * 8 - 4, 1);
		}
	} else if (simt_warp() == 0) {
		for (uint32_t i = 0; i < tiles; i++) {
			while (!simt_mbarrier_try_wait(&full[i % 2], i / 2 % 2)) {
			}
			for (uint32_t row = 0; row < 8; row++)
				for (uint32_t j = 0; j < 2; j++) {
					uint32_t byte = (simt_lane() * 2 + j) * 2;
					memcpy(&out[(i * 8 + row) * 64 + simt_lane() * 2 + j],
					       stage + i % 2 * 1024 + row * 128 + (byte ^ row % 8 * 16), 2);
				}
			simt_mbarrier_arrive(&empty[i % 2]);
		}
	}
}

static void the_engine_fills_a_ring()
{
	enum { ROWS = 36, WIDTH = 96, TILES = 5 };
	uint16_t x[2][ROWS][WIDTH], out[TILES * 8][64];
	for (int i = 0; i < 2 * ROWS * WIDTH; i++)
		x[i / WIDTH / ROWS][i / WIDTH % ROWS][i % WIDTH] = (uint16_t)(i + 1);
	uint16_t *from = device_copy(&x[0][0][0], sizeof(x) / 2), *to = device_copy<uint16_t>(nullptr, sizeof(out) / 2);
	cuuint64_t dims[] = {WIDTH - 32, ROWS, 2}, strides[] = {WIDTH * 2, WIDTH * ROWS * 2};
	cuuint32_t box[] = {64, 8, 1};
	CUtensorMap map = map_of(from, 3, dims, strides, box, CU_TENSOR_MAP_SWIZZLE_128B);
	ok(SIMT_LAUNCH(ring, 1, 64, 2048, stream, map, TILES, to));
	host_copy(&out[0][0], to, sizeof(out) / 2);
	ok(cudaFree(from));
	for (int row = 0; row < TILES * 8; row++)
		for (int i = 0; i < 64; i++)
			assert_int_equal(out[row][i], row < 4 || i >= 56 ? 0 : x[1][row - 4][i + 8]);
}

static void tiles_come_swizzled_with_zeros_beyond(void **)
{
	on_each_order(the_engine_fills_a_ring);
}

/* A tile of 16 rows of 64 as it lies swizzled. */
SIMT_DEVICE void write_tile(const uint8_t *tile, uint16_t *out)
{
	for (uint32_t row = 0; row < 16; row++)
		for (uint32_t j = 0; j < 2; j++) {
			uint32_t byte = (simt_lane() * 2 + j) * 2;
			memcpy(&out[row * 64 + simt_lane() * 2 + j], tile + row * 128 + (byte ^ row % 8 * 16), 2);
		}
}

/* Each block of two brings half of a tile to both, by a map in memory that it acquires. */
SIMT_KERNEL(halves_for_both)(const CUtensorMap *maps, uint16_t *out)
{
	SIMT_DYNAMIC_SHARED(uint8_t, tile);
	uint64_t *full = reinterpret_cast<uint64_t *>(tile + 2048);
	uint32_t rank = simt_cluster_rank();
	if (threadIdx.x == 0) {
		simt_mbarrier_init(full, 1);
		simt_mbarrier_fence_init();
	}
	simt_cluster_sync();
	if (threadIdx.x == 0) {
		simt_mbarrier_arrive_expect(full, 2048);
		simt_tma_acquire(&maps[1]);
		simt_tma_load_3d_cluster(tile + rank * 1024, &maps[1], full, 8, (int)rank * 8, 1, 3);
	}
	simt_mbarrier_wait(full, 0);
	write_tile(tile, out + blockIdx.x * 1024);
	simt_cluster_sync();
}

static void the_engine_serves_a_cluster()
{
	enum { ROWS = 16, WIDTH = 96 };
	uint16_t x[2][ROWS][WIDTH], out[4][ROWS][64];
	for (int i = 0; i < 2 * ROWS * WIDTH; i++)
		x[i / WIDTH / ROWS][i / WIDTH % ROWS][i % WIDTH] = (uint16_t)(i * 7 + 1);
	uint16_t *from = device_copy(&x[0][0][0], sizeof(x) / 2), *to = device_copy<uint16_t>(nullptr, sizeof(out) / 2);
	cuuint64_t dims[] = {WIDTH, ROWS, 2}, strides[] = {WIDTH * 2, WIDTH * ROWS * 2};
	cuuint32_t box[] = {64, 8, 1};
	const CUtensorMap maps[2] = {map_of(to, 3, dims, strides, box, CU_TENSOR_MAP_SWIZZLE_128B),
				     map_of(from, 3, dims, strides, box, CU_TENSOR_MAP_SWIZZLE_128B)};
	CUtensorMap *in_memory = device_copy(maps, 2);
	ok(SIMT_LAUNCH_CLUSTER(halves_for_both, 2, 4, 32, 2048 + 8, stream, in_memory, to));
	host_copy(&out[0][0][0], to, sizeof(out) / 2);
	ok(cudaFree(from));
	ok(cudaFree(in_memory));
	for (int block = 0; block < 4; block++)
		for (int row = 0; row < ROWS; row++)
			for (int i = 0; i < 64; i++)
				assert_int_equal(out[block][row][i], x[1][row][i + 8]);
}

static void tiles_come_to_all_blocks_of_a_cluster(void **)
{
	on_each_order(the_engine_serves_a_cluster);
}

/* --- tensor cores --------------------------------------------------------------------------------------------------- */

static uint16_t small_half(uint32_t i) /* integers -8 .. 7: sums are exact in any order */
{
	return bf16_round((float)((int)(i * 2654435761u >> 28) - 8));
}

SIMT_KERNEL(warp_product)(const uint16_t *a, const uint16_t *b, float *d, bool trans)
{
	SIMT_DYNAMIC_SHARED(uint16_t, tile); /* a [16][16], then b [8][16] or [16][8] */
	for (uint32_t i = threadIdx.x; i < 256; i += 32)
		tile[i] = a[i];
	for (uint32_t i = threadIdx.x; i < 128; i += 32)
		tile[256 + i] = b[i];
	simt_sync();
	uint32_t lane = simt_lane(), row = lane % 16, wa[4], wb[4];
	float sum[4] = {1, 1, 1, 1};
	simt_ldmatrix_x4(wa, tile + row * 16 + lane / 16 * 8);
	if (trans)
		simt_ldmatrix_x4_trans(wb, tile + 256 + lane % 16 * 8);
	else
		simt_ldmatrix_x4(wb, tile + 256 + lane % 8 * 16 + lane / 8 % 2 * 8);
	simt_mma_m16n8k16_bf16(sum, wa, wb);
	for (uint32_t i = 0; i < 4; i++)
		d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

static void a_warp_multiplies()
{
	for (int trans = 0; trans < 2; trans++) {
		uint16_t a[16][16], b[8][16], b_lying[128];
		float d[16][8];
		for (uint32_t i = 0; i < 256; i++)
			a[i / 16][i % 16] = small_half(i);
		for (uint32_t i = 0; i < 128; i++) {
			b[i / 16][i % 16] = small_half(1000 + i);
			b_lying[trans ? i % 16 * 8 + i / 16 : i] = b[i / 16][i % 16];
		}
		uint16_t *da = device_copy(&a[0][0], 256), *db = device_copy(b_lying, 128);
		float *dd = device_copy<float>(nullptr, 128);
		ok(SIMT_LAUNCH(warp_product, 1, 32, 768, stream, da, db, dd, trans != 0));
		host_copy(&d[0][0], dd, 128);
		ok(cudaFree(da));
		ok(cudaFree(db));
		for (int m = 0; m < 16; m++)
			for (int n = 0; n < 8; n++) {
				float sum = 1;
				for (int k = 0; k < 16; k++)
					sum += bf16_widen(a[m][k]) * bf16_widen(b[n][k]);
				assert_true(d[m][n] == sum);
			}
	}
}

static void mma_is_a_product(void **)
{
	on_each_order(a_warp_multiplies);
}

/* Where element `byte` of line `line` of a swizzled tile lies. */
SIMT_DEVICE uint32_t swizzled(uint32_t line, uint32_t byte)
{
	return line * 128 + (byte ^ line % 8 * 16);
}

/* a [64][32] and b [n][32], each k-major or the other way; d = a b twice over, once from registers. */
template <int n, int a_major, int b_major>
SIMT_KERNEL_OF(group_product, 128, 1)(const uint16_t *a, const uint16_t *b, float *d)
{
	SIMT_DYNAMIC_SHARED(uint8_t, tile);
	uint8_t *tile_b = tile + 8192;
	for (uint32_t i = threadIdx.x; i < 64 * 32; i += 128) {
		uint32_t row = i / 32, k = i % 32;
		uint32_t at = a_major == SIMT_K_MAJOR ? swizzled(row, k * 2) : swizzled(k, row * 2);
		memcpy(tile + at, &a[i], 2);
	}
	for (uint32_t i = threadIdx.x; i < n * 32; i += 128) {
		uint32_t row = i / 32, k = i % 32;
		uint32_t at = b_major == SIMT_K_MAJOR ? swizzled(row, k * 2) : row / 64 * 4096 + swizzled(k, row % 64 * 2);
		memcpy(tile_b + at, &b[i], 2);
	}
	simt_fence_async();
	simt_sync();
	float sum[n / 2];
	uint32_t words[2][4];
	SIMT_UNROLL
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t row = simt_warp() * 16 + simt_lane() / 4, column = i / 4 * 16 + simt_lane() % 4 * 2;
		const uint16_t *pair = a + (row + i % 2 * 8) * 32 + column + i % 4 / 2 * 8;
		words[i / 4][i % 4] = pair[0] | (uint32_t)pair[1] << 16;
	}
	simt_wgmma_fence();
	SIMT_UNROLL
	for (uint32_t k = 0; k < 2; k++) {
		uint32_t a_step = a_major == SIMT_K_MAJOR ? 32 : 2048, b_step = b_major == SIMT_K_MAJOR ? 32 : 2048;
		uint64_t with = simt_wgmma_operand(tile_b + k * b_step, 4096, 1024);
		simt_wgmma<n, a_major, b_major>(sum, simt_wgmma_operand(tile + k * a_step, 4096, 1024), with, k > 0);
		simt_wgmma_registers<n, b_major>(sum, words[k], with, true);
	}
	simt_wgmma_commit();
	simt_wgmma_wait<0>();
	SIMT_UNROLL
	for (uint32_t i = 0; i < n / 2; i++) {
		uint32_t row = simt_warp() * 16 + simt_lane() / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + simt_lane() % 4 * 2 + i % 2;
		d[row * n + column] = sum[i];
	}
}

template <int n, int a_major, int b_major> static void check_group_product()
{
	static uint16_t a[64][32], b[n][32];
	static float d[64][n];
	for (uint32_t i = 0; i < 64 * 32; i++)
		a[i / 32][i % 32] = small_half(i);
	for (uint32_t i = 0; i < n * 32; i++)
		b[i / 32][i % 32] = small_half(5000 + i);
	uint16_t *da = device_copy(&a[0][0], 64 * 32), *db = device_copy(&b[0][0], n * 32);
	float *dd = device_copy<float>(nullptr, 64 * n);
	ok(SIMT_LAUNCH((group_product<n, a_major, b_major>), 1, 128, 8192 + 16384, stream, da, db, dd));
	host_copy(&d[0][0], dd, 64 * n);
	ok(cudaFree(da));
	ok(cudaFree(db));
	for (int m = 0; m < 64; m++)
		for (int j = 0; j < n; j++) {
			float sum = 0;
			for (int k = 0; k < 32; k++)
				sum += 2 * bf16_widen(a[m][k]) * bf16_widen(b[j][k]);
			assert_true(d[m][j] == sum);
		}
}

static void a_warpgroup_multiplies()
{
	check_group_product<8, SIMT_K_MAJOR, SIMT_K_MAJOR>();
	check_group_product<128, SIMT_K_MAJOR, SIMT_MN_MAJOR>();
	check_group_product<64, SIMT_MN_MAJOR, SIMT_K_MAJOR>();
	check_group_product<128, SIMT_MN_MAJOR, SIMT_MN_MAJOR>();
}

static void wgmma_is_a_product(void **)
{
	on_each_order(a_warpgroup_multiplies);
}

/* --- law 1 ------------------------------------------------------------------------------------------------------------- */

/* A line of K, 128 bytes: 64 bf16 or 128 e4m3. */
enum { LINE = 128, PRODUCT_N = 256 };
enum product_form { SHARED, REGISTERS, E4M3_SHARED, E4M3_REGISTERS };

/* d[64][n] of lines a [64] and b [n]. */
template <int n, int form>
SIMT_KERNEL_OF(line_product, 128, 1)(const uint8_t *a, const uint8_t *b, float *d)
{
	SIMT_DYNAMIC_SHARED(uint8_t, tile);
	uint8_t *tile_b = tile + 64 * LINE;
	for (uint32_t i = threadIdx.x; i < 64 * LINE; i += 128)
		tile[swizzled(i / LINE, i % LINE)] = a[i];
	for (uint32_t i = threadIdx.x; i < n * LINE; i += 128)
		tile_b[swizzled(i / LINE, i % LINE)] = b[i];
	simt_fence_async();
	simt_sync();
	float sum[n / 2];
	uint32_t held[4][4], row = simt_warp() * 16 + simt_lane() % 16;
	SIMT_UNROLL
	for (uint32_t step = 0; step < 4; step++)
		simt_ldmatrix_x4(held[step], tile + swizzled(row, step * 32 + simt_lane() / 16 * 16));
	simt_wgmma_fence();
	SIMT_UNROLL
	for (uint32_t step = 0; step < 4; step++) {
		uint64_t with = simt_wgmma_operand(tile_b + step * 32, 0, 1024), by = simt_wgmma_operand(tile + step * 32, 0, 1024);
		if constexpr (form == SHARED)
			simt_wgmma<n>(sum, by, with, step > 0);
		else if constexpr (form == REGISTERS)
			simt_wgmma_registers<n>(sum, held[step], with, step > 0);
		else if constexpr (form == E4M3_SHARED)
			simt_wgmma_e4m3<n>(sum, by, with, step > 0);
		else
			simt_wgmma_e4m3_registers<n>(sum, held[step], with, step > 0);
	}
	simt_wgmma_commit();
	simt_wgmma_wait<0>();
	SIMT_UNROLL
	for (uint32_t i = 0; i < n / 2; i++)
		d[(simt_warp() * 16 + simt_lane() / 4 + i % 4 / 2 * 8) * n + i / 4 * 8 + simt_lane() % 4 * 2 + i % 2] = sum[i];
}

struct lines {
	uint8_t a[64 * LINE], b[PRODUCT_N * LINE];
};

/* Numbers of the form's kind: small integers, whose sums are exact, or any. */
static void fill_lines(struct lines *lines, bool e4m3, bool exact)
{
	struct rng rng = {77, 0};
	uint8_t *at = lines->a;
	for (uint32_t i = 0; i < (64 + PRODUCT_N) * LINE / (e4m3 ? 1 : 2); i++) {
		float value = 2.0f * rng_unit(rng_next(&rng)) - 1.0f;
		value = exact ? floorf(3.0f * value) : value * exp2f(floorf(6.0f * rng_unit(rng_next(&rng))));
		uint16_t half = bf16_round(value);
		if (e4m3)
			at[i] = e4m3_round(value);
		else
			memcpy(at + 2 * i, &half, 2);
	}
}

static float number_at(const uint8_t *line, uint32_t k, bool e4m3)
{
	uint16_t half;
	memcpy(&half, line + 2 * k, 2);
	return e4m3 ? e4m3_widen(line[k]) : bf16_widen(half);
}

template <int n, int form> static std::vector<float> line_product_of(const struct lines *lines)
{
	std::vector<float> d(64 * n);
	const size_t bytes = 64 * LINE + n * LINE;
	uint8_t *a = device_copy(lines->a, sizeof(lines->a)), *b = device_copy(lines->b, n * LINE);
	float *to = device_copy<float>(nullptr, d.size());
	ok(SIMT_LAUNCH((line_product<n, form>), 1, 128, bytes, stream, a, b, to));
	host_copy(d.data(), to, d.size());
	ok(cudaFree(a));
	ok(cudaFree(b));
	return d;
}

/* The first n columns of the widest product. */
template <int n, int form> static void check_width(const struct lines *lines, const std::vector<float> &widest)
{
	std::vector<float> d = line_product_of<n, form>(lines);
	for (uint32_t row = 0; row < 64; row++)
		if (memcmp(&d[row * n], &widest[row * PRODUCT_N], n * sizeof(float)) != 0)
			fail_msg("form %d: row %u of %d columns has other bits than of %d", form, row, n, PRODUCT_N);
}

template <int form> static void check_widths()
{
	const bool e4m3 = form == E4M3_SHARED || form == E4M3_REGISTERS;
	static struct lines lines;
	fill_lines(&lines, e4m3, true);
	std::vector<float> d = line_product_of<PRODUCT_N, form>(&lines);
	for (uint32_t row = 0; row < 64; row++)
		for (uint32_t column = 0; column < PRODUCT_N; column++) {
			float sum = 0;
			for (uint32_t k = 0; k < (e4m3 ? LINE : LINE / 2); k++)
				sum += number_at(lines.a + row * LINE, k, e4m3) * number_at(lines.b + column * LINE, k, e4m3);
			assert_true(d[row * PRODUCT_N + column] == sum);
		}
	fill_lines(&lines, e4m3, false);
	d = line_product_of<PRODUCT_N, form>(&lines);
	check_width<8, form>(&lines, d);
	check_width<16, form>(&lines, d);
	check_width<32, form>(&lines, d);
	check_width<64, form>(&lines, d);
	check_width<96, form>(&lines, d);
	check_width<128, form>(&lines, d);
	check_width<192, form>(&lines, d);
}

static void every_form_and_width_multiplies()
{
	check_widths<SHARED>();
	check_widths<REGISTERS>();
	check_widths<E4M3_SHARED>();
	check_widths<E4M3_REGISTERS>();
}

/* What law 1 rests on: the order of a sum follows from K alone. */
static void bits_do_not_depend_on_the_width(void **)
{
	ok(cudaStreamCreate(&stream));
	every_form_and_width_multiplies();
	ok(cudaStreamDestroy(stream));
}

/* Operands from registers and from shared memory: the same sums. */
static void bits_do_not_depend_on_where_weights_lie(void **)
{
	static struct lines lines;
	ok(cudaStreamCreate(&stream));
	fill_lines(&lines, false, false);
	std::vector<float> d = line_product_of<64, SHARED>(&lines), other = line_product_of<64, REGISTERS>(&lines);
	assert_memory_equal(d.data(), other.data(), d.size() * sizeof(float));
	fill_lines(&lines, true, false);
	d = line_product_of<64, E4M3_SHARED>(&lines), other = line_product_of<64, E4M3_REGISTERS>(&lines);
	assert_memory_equal(d.data(), other.data(), d.size() * sizeof(float));
	ok(cudaStreamDestroy(stream));
}

int main()
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(barriers_hold_all_threads),
		cmocka_unit_test(lanes_exchange_words),
		cmocka_unit_test(named_barriers_hold),
		cmocka_unit_test(blocks_of_a_cluster_run_together),
#if ON_FAKE
		cmocka_unit_test(faults_end_the_process),
#endif
		cmocka_unit_test(copies_land_when_waited_for),
		cmocka_unit_test(tiles_come_swizzled_with_zeros_beyond),
		cmocka_unit_test(tiles_come_to_all_blocks_of_a_cluster),
		cmocka_unit_test(mma_is_a_product),
		cmocka_unit_test(wgmma_is_a_product),
		cmocka_unit_test(bits_do_not_depend_on_the_width),
		cmocka_unit_test(bits_do_not_depend_on_where_weights_lie),
	};
	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
