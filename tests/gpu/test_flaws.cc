/* What the hardware leaves undefined between its ways to memory and registers: kernels that are right but for one fence, wait or
 * alignment end the process on the fake device. */
#include "tests/gpu/fake/fake.h"
#include "tests/gpu/own_kernels.h"

/* Runs a kernel that must end the process. */
static void assert_dies(void (*run)(void *), void *kernel)
{
	assert_true(WIFSIGNALED(run_apart(run, kernel)));
}

static CUresult encode(CUtensorMap *ret_map, void *base, uint32_t rank, const uint64_t *dims, const uint64_t *strides, const uint32_t *box)
{
	uint32_t ones[] = {1, 1, 1};
	return cuTensorMapEncodeTiled(ret_map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, base, dims, strides, box, ones,
				      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
				      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

enum flaw { SOUND, STORES_UNFENCED, COPIES_SOUND, COPIES_UNFENCED, SUMS_UNFENCED, SUMS_WRITTEN, NOT_WAITED, OPERAND_BETWEEN };

template <int flaw> SIMT_KERNEL(flawed_product)(uint32_t *out)
{
	SIMT_DYNAMIC_SHARED(uint8_t, tile);
	for (uint32_t i = threadIdx.x * 16; i < 16384; i += 128 * 16)
		if (flaw == COPIES_SOUND || flaw == COPIES_UNFENCED)
			simt_cp_async16(tile + i, out);
		else
			*reinterpret_cast<uint4 *>(tile + i) = make_uint4(0, 0, 0, 0);
	simt_cp_async_commit();
	simt_cp_async_wait<0>();
	if (flaw != STORES_UNFENCED && flaw != COPIES_UNFENCED)
		simt_fence_async();
	simt_sync();
	float sums[4] = {1, 2, 3, 4};
	if (flaw != SUMS_UNFENCED)
		simt_wgmma_fence();
	uint64_t operand = simt_wgmma_operand(tile + (flaw == OPERAND_BETWEEN ? 128 : 0), 0, 1024);
	simt_wgmma<8>(sums, operand, operand, true);
	simt_wgmma_commit();
	bool early = sums[3] == sums[3]; /* what is read here is nothing */
	if (flaw == SUMS_WRITTEN)
		sums[0] = 5;
	if (flaw != NOT_WAITED)
		simt_wgmma_wait<0>();
	out[threadIdx.x] = early ? UINT32_MAX : (uint32_t)sums[3];
}

static void run_product_kernel(void *kernel)
{
	uint32_t zeros[128] = {}, *to = device_copy(zeros, 128);
	ok(SIMT_LAUNCH(reinterpret_cast<void (*)(uint32_t *)>(kernel), 1, 128, 16384, nullptr, to));
	ok(cudaMemcpy(zeros, to, sizeof(zeros), cudaMemcpyDeviceToHost));
	ok(cudaFree(to));
	for (uint32_t i = 0; i < 128; i++)
		assert_int_equal(zeros[i], 4);
}

static void products_see_what_was_fenced(void **)
{
	void (*flawed[])(uint32_t *) = {flawed_product<STORES_UNFENCED>, flawed_product<COPIES_UNFENCED>, flawed_product<SUMS_UNFENCED>,
					flawed_product<SUMS_WRITTEN>,	 flawed_product<NOT_WAITED>,	  flawed_product<OPERAND_BETWEEN>};
	run_product_kernel(reinterpret_cast<void *>(flawed_product<SOUND>));
	run_product_kernel(reinterpret_cast<void *>(flawed_product<COPIES_SOUND>));
	for (auto kernel : flawed)
		assert_dies(run_product_kernel, reinterpret_cast<void *>(kernel));
}

template <bool fenced, uint32_t expected> SIMT_KERNEL(engine_barrier)(uint32_t *out)
{
	SIMT_DYNAMIC_SHARED(uint64_t, barrier);
	if (threadIdx.x == 0) {
		simt_mbarrier_init(barrier, 1);
		if (fenced)
			simt_mbarrier_fence_init();
		simt_mbarrier_arrive_expect(barrier, expected);
		simt_bulk_load(barrier + 2, out, 16, barrier);
		if (expected == 16)
			simt_mbarrier_wait(barrier, 0);
	}
}

static void run_kernel(void *kernel)
{
	uint32_t *to = device_copy<uint32_t>(nullptr, 64);
	ok(SIMT_LAUNCH(reinterpret_cast<void (*)(uint32_t *)>(kernel), 1, 64, 64, nullptr, to));
	ok(cudaDeviceSynchronize());
	ok(cudaFree(to));
}

static void the_engine_finds_barriers_that_were_fenced(void **)
{
	run_kernel(reinterpret_cast<void *>(engine_barrier<true, 16>));
	assert_dies(run_kernel, reinterpret_cast<void *>(engine_barrier<false, 16>));
	assert_dies(run_kernel, reinterpret_cast<void *>(engine_barrier<true, 1u << 20>));
}

template <bool acquired> SIMT_KERNEL(far_map)(const CUtensorMap *map)
{
	SIMT_DYNAMIC_SHARED(uint8_t, tile);
	uint64_t *barrier = reinterpret_cast<uint64_t *>(tile + 1024);
	if (threadIdx.x == 0) {
		simt_mbarrier_init(barrier, 1);
		simt_mbarrier_fence_init();
		if (acquired)
			simt_tma_acquire(map);
		simt_mbarrier_arrive_expect(barrier, 1024);
		simt_tma_load_2d(tile, map, barrier, 0, 0);
		simt_mbarrier_wait(barrier, 0);
	}
}

static void run_map_kernel(void *kernel)
{
	uint64_t dims[] = {64, 8}, strides[] = {128};
	uint32_t box[] = {64, 8};
	uint16_t *x = device_copy<uint16_t>(nullptr, 64 * 8);
	CUtensorMap map, *there;
	assert_int_equal(encode(&map, x, 2, dims, strides, box), CUDA_SUCCESS);
	there = device_copy(&map, 1);
	ok(SIMT_LAUNCH(reinterpret_cast<void (*)(const CUtensorMap *)>(kernel), 1, 32, 2048, nullptr, there));
	ok(cudaFree(there));
	ok(cudaFree(x));
}

static void maps_in_memory_are_acquired(void **)
{
	run_map_kernel(reinterpret_cast<void *>(far_map<true>));
	assert_dies(run_map_kernel, reinterpret_cast<void *>(far_map<false>));
}

enum { MET_LATE = SOUND + 1, ARRIVES_EARLY, LEFT_EARLY, REFILLED_UNREAD, GIVEN_BACK_EARLY };

/* Two blocks send each other half of a tile, twice, to one place. */
template <int flaw> SIMT_KERNEL(shared_tile)(SIMT_GRID_CONSTANT CUtensorMap map, uint32_t *out)
{
	enum { HALF = 4096, ROUNDS = 2 };
	SIMT_DYNAMIC_SHARED(uint8_t, tile);
	uint64_t *full = reinterpret_cast<uint64_t *>(tile + 2 * HALF), *empty = full + 1;
	const bool own = flaw == REFILLED_UNREAD; /* does not ask the other */
	const uint32_t rank = simt_cluster_rank(), first = rank * HALF;
	if (threadIdx.x == 0) {
		simt_mbarrier_init(full, 1);
		simt_mbarrier_init(empty, own ? 4 : 8);
		simt_mbarrier_fence_init();
		if (flaw == ARRIVES_EARLY)
			simt_mbarrier_arrive_at(empty, rank ^ 1);
	}
	simt_sync();
	if (flaw != MET_LATE)
		simt_cluster_sync();
	float sums[4] = {};
	for (uint32_t round = 0; round < ROUNDS && simt_warp() == 4; round++)
		if (simt_lane() == 0) {
			simt_mbarrier_wait(empty, round % 2 ^ 1);
			simt_mbarrier_arrive_expect(full, 2 * HALF);
			simt_tma_load_2d_cluster(tile + first, &map, full, 0, (int)rank * 32, 3);
		}
	for (uint32_t round = 0; round < ROUNDS && simt_warp() < 4; round++) {
		simt_mbarrier_wait(full, round % 2);
		for (int i = 0; i < 50 && flaw == REFILLED_UNREAD && rank == 1; i++)
			simt_sync_warp();
		simt_wgmma_fence();
		uint64_t operand = simt_wgmma_operand(tile, 0, 1024);
		simt_wgmma<8>(sums, operand, operand, round > 0);
		for (int step = 1; step < 4; step++)
			simt_wgmma<8>(sums, simt_wgmma_further(operand, 32 * step), operand, true);
		simt_wgmma_commit();
		if (flaw != GIVEN_BACK_EARLY)
			simt_wgmma_wait<0>();
		if (own && simt_lane() == 0)
			simt_mbarrier_arrive(empty);
		if (!own && simt_lane() < 2)
			simt_mbarrier_arrive_at(empty, simt_lane());
		for (int i = 0; i < 50 && flaw == GIVEN_BACK_EARLY; i++)
			simt_sync_warp();
		simt_wgmma_wait<0>();
	}
	if (flaw != LEFT_EARLY)
		simt_cluster_sync();
	if (simt_warp() < 4)
		out[rank * 128 + threadIdx.x] = (uint32_t)sums[3];
}

static void run_shared_kernel(void *kernel)
{
	uint64_t dims[] = {64, 64}, strides[] = {128};
	uint32_t box[] = {64, 32}, zeros[256] = {}, *to = device_copy(zeros, 256);
	uint16_t ones[64 * 64];
	for (uint16_t &one : ones)
		one = 0x3f80;
	uint16_t *x = device_copy(ones, 64 * 64);
	CUtensorMap map;
	assert_int_equal(encode(&map, x, 2, dims, strides, box), CUDA_SUCCESS);
	ok(SIMT_LAUNCH_CLUSTER(reinterpret_cast<void (*)(const CUtensorMap, uint32_t *)>(kernel), 2, 2, 160, 3 * 4096, nullptr, map, to));
	ok(cudaMemcpy(zeros, to, sizeof(zeros), cudaMemcpyDeviceToHost));
	ok(cudaFree(to));
	ok(cudaFree(x));
	for (uint32_t sum : zeros)
		assert_int_equal(sum, 2 * 64);
}

/* Before they met there may be no block to reach into, nor after one has ended; and what one fills the other still reads. */
static void blocks_of_a_cluster_reach_where_they_may(void **)
{
	void (*flawed[])(const CUtensorMap, uint32_t *) = {shared_tile<MET_LATE>, shared_tile<ARRIVES_EARLY>, shared_tile<LEFT_EARLY>,
							   shared_tile<REFILLED_UNREAD>, shared_tile<GIVEN_BACK_EARLY>};
	run_shared_kernel(reinterpret_cast<void *>(shared_tile<SOUND>));
	for (auto kernel : flawed)
		assert_dies(run_shared_kernel, reinterpret_cast<void *>(kernel));
}

template <int lower, int raise> SIMT_KERNEL(registers)(uint32_t *)
{
	if (threadIdx.x < 128)
		simt_registers_lower<lower>();
	else if (raise > 0 || threadIdx.x < 160)
		simt_registers_raise<raise == 0 ? 32 : raise>();
}

static void run_registers_kernel(void *kernel)
{
	ok(SIMT_LAUNCH(reinterpret_cast<void (*)(uint32_t *)>(kernel), 1, 384, 0, nullptr, nullptr));
	ok(cudaDeviceSynchronize());
}

static void warpgroups_share_registers(void **)
{
	run_registers_kernel(reinterpret_cast<void *>(registers<40, 232>));
	assert_dies(run_registers_kernel, reinterpret_cast<void *>(registers<56, 240>)); /* 68608 */
	assert_dies(run_registers_kernel, reinterpret_cast<void *>(registers<40, 0>)); /* one warp of four */
}

/* Strides that are no whole numbers of what lies within them. */
static void maps_are_as_the_manual_has_them(void **)
{
	alignas(16) static uint8_t memory[16];
	CUtensorMap map;
	uint32_t box[] = {64, 1, 8};
	const uint64_t dims[] = {64, 2, 8}, strides[][2] = {{128, 256}, {128, 320}, {128, 128}, {112, 224}, {128, 248}};
	for (int i = 0; i < 5; i++)
		assert_int_equal(encode(&map, memory, 3, dims, strides[i], box), i == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(alignof(CUtensorMap), 128);
}

int main()
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(products_see_what_was_fenced),
		cmocka_unit_test(the_engine_finds_barriers_that_were_fenced),
		cmocka_unit_test(maps_in_memory_are_acquired),
		cmocka_unit_test(blocks_of_a_cluster_reach_where_they_may),
		cmocka_unit_test(warpgroups_share_registers),
		cmocka_unit_test(maps_are_as_the_manual_has_them),
	};
	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
