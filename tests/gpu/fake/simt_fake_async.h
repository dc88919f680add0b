/* simt_fake_async - kernels/cuda/simt_async.h for g++.  A copy that runs beside the threads lands as late as it may (fake.h):
 * cp.async when its thread waits, the copy engine's when no thread can go on; until then the place holds NaNs. */
#ifndef TESTS_GPU_FAKE_SIMT_FAKE_ASYNC_H
#define TESTS_GPU_FAKE_SIMT_FAKE_ASYNC_H

/* In the block's dynamic shared memory, as wgmma counts it; anywhere else is a fault. */
uint32_t simt_shared_address(const void *shared);

void simt_cp_async16(void *shared, const void *global, bool valid = true);
void simt_cp_async_commit(void);
void simt_cp_async_left(uint32_t left);

template <int left> SIMT_DEVICE void simt_cp_async_wait()
{
	simt_cp_async_left(left);
}

void simt_mbarrier_init(uint64_t *barrier, uint32_t count);
void simt_mbarrier_arrive(uint64_t *barrier);
void simt_mbarrier_arrive_at(uint64_t *barrier, uint32_t rank);
void simt_mbarrier_arrive_expect(uint64_t *barrier, uint32_t bytes);
bool simt_mbarrier_try_wait(uint64_t *barrier, uint32_t parity);
bool simt_mbarrier_test(uint64_t *barrier, uint32_t parity);
void simt_mbarrier_wait(uint64_t *barrier, uint32_t parity);

void simt_mbarrier_fence_init(void);
void simt_fence_async(void);

SIMT_DEVICE void simt_tma_prefetch(const CUtensorMap *)
{
}

void simt_tma_acquire(const CUtensorMap *map);

/* at: [rank], innermost first; the blocks of the cluster whose bits are set get it, 0: this one. */
void simt_tma_load(void *shared, const CUtensorMap *map, uint64_t *barrier, const int *at, uint32_t rank, uint16_t blocks);
void simt_bulk_load(void *shared, const void *global, uint32_t bytes, uint64_t *barrier);

SIMT_DEVICE void simt_tma_load_2d(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y)
{
	int at[] = {x, y};
	simt_tma_load(shared, map, barrier, at, 2, 0);
}

SIMT_DEVICE void simt_tma_load_3d(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y, int z)
{
	int at[] = {x, y, z};
	simt_tma_load(shared, map, barrier, at, 3, 0);
}

SIMT_DEVICE void simt_tma_load_4d(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y, int z, int w)
{
	int at[] = {x, y, z, w};
	simt_tma_load(shared, map, barrier, at, 4, 0);
}

SIMT_DEVICE void simt_tma_load_2d_cluster(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y, uint16_t blocks)
{
	int at[] = {x, y};
	simt_tma_load(shared, map, barrier, at, 2, blocks);
}

SIMT_DEVICE void simt_tma_load_3d_cluster(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y, int z, uint16_t blocks)
{
	int at[] = {x, y, z};
	simt_tma_load(shared, map, barrier, at, 3, blocks);
}
#endif
