/* simt_async - copies that run beside the threads: cp.async by each thread, the copy engine (TMA) with its barriers.
 *
 * Owns:   nothing; as simt.h.
 * Loop:   device code.
 * Rules:  1 a tensor map comes to a kernel as SIMT_GRID_CONSTANT CUtensorMap parameter, or lies in global memory;
 *         2 shared memory that ordinary stores wrote is read by the copy engine or wgmma only after simt_fence_async() in
 *           each writing thread and a barrier behind it;
 *         3 tiles are in 128-byte swizzle, at addresses that are multiples of 1024: byte b of line r of 128 bytes lies at
 *           128 r + (b ^ (r % 8 * 16)); boxes are at most 64 bf16 wide. */
#ifndef KERNELS_CUDA_SIMT_ASYNC_H
#define KERNELS_CUDA_SIMT_ASYNC_H
#include <cuda.h>
#include "kernels/cuda/simt.h"

#ifdef __CUDACC__

SIMT_DEVICE uint32_t simt_shared_address(const void *shared)
{
	return (uint32_t)__cvta_generic_to_shared(shared);
}

/* --- by each thread ---------------------------------------------------------------------------------------- */

/* 16 bytes, both addresses multiples of 16; zeros where not `valid` (global is then not read). */
SIMT_DEVICE void simt_cp_async16(void *shared, const void *global, bool valid = true)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(simt_shared_address(shared)), "l"(global),
		     "r"(valid ? 16 : 0)
		     : "memory");
}

SIMT_DEVICE void simt_cp_async_commit()
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/* This thread's copies have landed, but for those of its `left` newest groups; others see them behind a barrier. */
template <int left> SIMT_DEVICE void simt_cp_async_wait()
{
	asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

/* --- barriers in shared memory ------------------------------------------------------------------------------- */

/* One thread; then simt_mbarrier_fence_init() and a barrier of all before others use it.  A phase ends when `count` have arrived
 * and all bytes expected have come. */
SIMT_DEVICE void simt_mbarrier_init(uint64_t *barrier, uint32_t count)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(simt_shared_address(barrier)), "r"(count) : "memory");
}

SIMT_DEVICE void simt_mbarrier_fence_init()
{
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

SIMT_DEVICE void simt_mbarrier_arrive(uint64_t *barrier)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(simt_shared_address(barrier)) : "memory");
}

/* Arrives, and adds to the bytes that this phase waits for. */
SIMT_DEVICE void simt_mbarrier_arrive_expect(uint64_t *barrier, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(simt_shared_address(barrier)),
		     "r"(bytes)
		     : "memory");
}

/* At the barrier in the same place of block `rank` of the cluster, of this one too, behind a simt_cluster_sync(): says that shared memory
 * was read, so that the copy engine may fill it again.  (Of the scope of a block, as public kernels have it: that of a cluster would wait
 * for all that the thread ever wrote.) */
SIMT_DEVICE void simt_mbarrier_arrive_at(uint64_t *barrier, uint32_t rank)
{
	asm volatile("{\n\t.reg .b32 there;\n\tmapa.shared::cluster.u32 there, %0, %1;\n\t"
		     "mbarrier.arrive.shared::cluster.b64 _, [there];\n\t}" ::"r"(simt_shared_address(barrier)),
		     "r"(rank)
		     : "memory");
}

/* Has the phase of this parity ended?  Waits a moment for it.  The first phase has parity 0; the one "before" it, 1, has ended. */
SIMT_DEVICE bool simt_mbarrier_try_wait(uint64_t *barrier, uint32_t parity)
{
	uint32_t done;
	asm volatile("{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
		     : "=r"(done)
		     : "r"(simt_shared_address(barrier)), "r"(parity)
		     : "memory");
	return done != 0;
}

/* The same, but at once: for who has something else to do meanwhile, for that moment is the hardware's to choose. */
SIMT_DEVICE bool simt_mbarrier_test(uint64_t *barrier, uint32_t parity)
{
	uint32_t done;
	asm volatile("{\n\t.reg .pred p;\n\tmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
		     : "=r"(done)
		     : "r"(simt_shared_address(barrier)), "r"(parity)
		     : "memory");
	return done != 0;
}

SIMT_DEVICE void simt_mbarrier_wait(uint64_t *barrier, uint32_t parity)
{
	while (!simt_mbarrier_try_wait(barrier, parity)) {
	}
}

/* --- the copy engine ------------------------------------------------------------------------------------------- */

SIMT_DEVICE void simt_fence_async()
{
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

SIMT_DEVICE void simt_tma_prefetch(const CUtensorMap *map)
{
	asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* Before the first use of a map that lies in global memory: what the host copied there is what the copy engine reads. */
SIMT_DEVICE void simt_tma_acquire(const CUtensorMap *map)
{
	asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}

/* The map's box at (x, y, ...), x innermost, to shared memory; the barrier gets the bytes of the whole box, zeros where the box
 * reaches beyond the tensor.  One thread. */
SIMT_DEVICE void simt_tma_load_2d(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
			     "r"(simt_shared_address(shared)),
		     "l"(map), "r"(simt_shared_address(barrier)), "r"(x), "r"(y)
		     : "memory");
}

SIMT_DEVICE void simt_tma_load_3d(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y, int z)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
			     "r"(simt_shared_address(shared)),
		     "l"(map), "r"(simt_shared_address(barrier)), "r"(x), "r"(y), "r"(z)
		     : "memory");
}

SIMT_DEVICE void simt_tma_load_4d(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y, int z, int w)
{
	asm volatile(
		"cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::
			"r"(simt_shared_address(shared)),
		"l"(map), "r"(simt_shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
		: "memory");
}

/* The box to the same place in each block of the cluster whose bit is set, and its bytes to the barrier of each: behind a
 * simt_cluster_sync(), and another before a block ends that was reached into. */
SIMT_DEVICE void simt_tma_load_2d_cluster(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y, uint16_t blocks)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
		     "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(simt_shared_address(shared)),
		     "l"(map), "r"(simt_shared_address(barrier)), "r"(x), "r"(y), "h"(blocks)
		     : "memory");
}

SIMT_DEVICE void simt_tma_load_3d_cluster(void *shared, const CUtensorMap *map, uint64_t *barrier, int x, int y, int z, uint16_t blocks)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
		     "[%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(simt_shared_address(shared)),
		     "l"(map), "r"(simt_shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(blocks)
		     : "memory");
}

/* Plain bytes; addresses and length are multiples of 16. */
SIMT_DEVICE void simt_bulk_load(void *shared, const void *global, uint32_t bytes, uint64_t *barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
			     simt_shared_address(shared)),
		     "l"(global), "r"(bytes), "r"(simt_shared_address(barrier))
		     : "memory");
}

#else
#include <simt_fake_async.h> /* tests/gpu/fake */
#endif
#endif
