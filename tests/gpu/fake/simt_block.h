/* simt_block - the blocks that run now: what the emulator's files share.
 *
 * Owns:   the fibers, the shared memory of CLUSTER_MAX blocks, copies on their way.
 * Loop:   under the fake runtime's lock. */
#ifndef TESTS_GPU_FAKE_SIMT_BLOCK_H
#define TESTS_GPU_FAKE_SIMT_BLOCK_H
#include <string>
#include <vector>
#include "kernels/cuda/simt_wgmma.h"
#include "tests/gpu/fake/fiber.h"

#define CLUSTER_MAX	 8
#define THREADS_MAX	 1024
#define WARPS_MAX	 (THREADS_MAX / SIMT_LANES)
#define BARRIERS_MAX	 16
#define SHARED_STRIDE	 ((size_t)256 << 10) /* from block to block of a cluster */
#define SHARED_RESERVED	 1024		     /* the system's, as on a GPU */
#define SHARED_BYTES_MAX ((size_t)227 << 10)

enum thread_state { THREAD_READY, THREAD_MEETS, THREAD_AT_BARRIER, THREAD_AT_MBARRIER, THREAD_POLLS, THREAD_DONE };

struct simt_block;
struct simt_proxy;

/* 16 bytes of one thread's cp.async. */
struct thread_copy {
	void *to;
	const void *from; /* NULL: zeros */
	uint32_t group;
};

struct simt_thread : simt_place {
	struct fiber fiber;
	struct simt_block *block_of;
	uint32_t index; /* in the block */
	const char *waits_for; /* said when nothing moves any more */
	int barrier;
	uint64_t *mbarrier;
	uint32_t parity;
	std::vector<thread_copy> copies;
	uint32_t copy_group; /* the one being filled */
	std::vector<uint32_t> unfenced; /* where its own copies landed since its last simt_fence_async() */
	std::vector<uint64_t *> barriers_set; /* since its last simt_mbarrier_fence_init() */
	std::vector<const CUtensorMap *> maps_acquired;
};

struct barrier {
	int arrived, expected;
	std::vector<simt_thread *> waiting;
};

/* Where the threads of a warp or a warpgroup come together. */
struct gathering {
	struct simt_meeting meeting;
	const char *what;
	uint32_t arrived;
	simt_thread *members[SIMT_MEMBERS_MAX];
};

struct queued_product {
	struct simt_product of[SIMT_MEMBERS_MAX]; /* of each thread */
	uint32_t a[SIMT_MEMBERS_MAX][4];
	uint32_t group;
};

/* Sums of a warpgroup while products add to them: NaNs are where they were. */
struct held_sums {
	float *at[SIMT_MEMBERS_MAX];
	uint32_t count; /* of each thread */
	std::vector<float> values;
};

struct warpgroup {
	struct gathering gathering;
	std::vector<queued_product> products;
	uint32_t group; /* the one being filled */
	bool fenced;	/* simt_wgmma_fence() since the last wait */
	std::vector<held_sums> held;
	int registers; /* of a thread, since setmaxnreg; 0: as launched */
};

struct simt_block {
	uint32_t thread_count, live;
	uint8_t *shared;
	struct simt_proxy *proxy;
	simt_thread *threads;
	struct barrier barriers[BARRIERS_MAX];
	struct gathering warps[WARPS_MAX];
	struct warpgroup warpgroups[WARPS_MAX / 4];
	const char *reached; /* how another block reached into it since the cluster last met; NULL: none did */
};

/* A copy of the copy engine. */
struct engine_copy {
	simt_block *block; /* whose memory it is */
	uint8_t *to;
	std::vector<uint8_t> bytes; /* already where swizzle wants them: to[at[i]] = bytes[i] for pieces of 16 */
	std::vector<int32_t> at;
	uint64_t *barrier;
};

struct simt_group {
	const struct simt_launch *launch;
	uint32_t block_count;
	simt_block blocks[CLUSTER_MAX];
	std::vector<engine_copy> copies;
	int cluster_arrived;
	uint32_t meetings; /* of all threads of the cluster */
	std::vector<simt_thread *> cluster_waiting;
	uint64_t events; /* anything that may let another thread go on */
};
extern struct simt_group simt_group;

static inline simt_thread *simt_self()
{
	return static_cast<simt_thread *>(simt_here);
}

/* Gives way until the scheduler finds the thread ready. */
void simt_wait(enum thread_state state, const char *waits_for);
/* The running thread reaches into a block: into another only behind a meeting, and none ends before the next. */
void simt_reach(uint32_t rank, const char *how);
/* simt_copies.cc */
bool simt_land_oldest(void);
void simt_land_all_of(simt_thread *thread);
bool simt_mbarrier_over(const uint64_t *barrier, uint32_t parity);

/* What wgmma sees of the block's dynamic shared memory (simt_proxy.cc): ordinary stores and cp.async pass it by until a fence. */
void simt_proxy_begin(simt_block *block, uint32_t rank, size_t shared_bytes);
/* 16 bytes landed there by cp.async of the thread; or by the copy engine, or as NaNs where something will. */
void simt_proxy_copied(simt_thread *thread, const void *at);
void simt_proxy_landed(simt_block *block, const void *at);
/* A copy will land there: nothing reads it now, and what another block sent before was read. */
void simt_proxy_fill(simt_block *block, const void *at);
/* What will land there is for wgmma, from another block. */
void simt_proxy_sent(simt_block *block, const void *at);
/* wgmma of the running thread's warpgroup reads 16 bytes at the address, until it is over. */
void simt_proxy_read(uint32_t address);
void simt_proxy_read_over(uint32_t address);
#endif
