/* Copies that run beside the threads, and the barriers that say when they have landed. */
#include <string.h>
#include <algorithm>
#include "tests/gpu/fake/fake.h"
#include "tests/gpu/fake/runtime.h"
#include "tests/gpu/fake/simt_block.h"
#include "tests/gpu/fake/tensor_map.h"

uint32_t simt_shared_address(const void *shared)
{
	const uint8_t *base = simt_self()->block_of->shared;
	const uint8_t *at = static_cast<const uint8_t *>(shared);
	if (at < base || at >= base + SHARED_STRIDE)
		simt_fault("%p is not in the block's dynamic shared memory", shared);
	return (uint32_t)(at - base);
}

/* --- cp.async ---------------------------------------------------------------------------------------------- */

void simt_cp_async16(void *shared, const void *global, bool valid)
{
	simt_thread *self = simt_self();
	if ((uintptr_t)shared % 16 != 0 || (valid && (uintptr_t)global % 16 != 0))
		simt_fault("cp_async16 to %p from %p", shared, global);
	simt_proxy_fill(self->block_of, shared);
	memset(shared, 0xff, 16);
	simt_proxy_landed(self->block_of, shared);
	self->copies.push_back({shared, valid ? global : nullptr, self->copy_group});
	if (!fake_now()->late_copies)
		simt_land_all_of(self);
}

static void land(simt_thread *thread, const thread_copy *copy)
{
	if (copy->from)
		memcpy(copy->to, copy->from, 16);
	else
		memset(copy->to, 0, 16);
	simt_proxy_copied(thread, copy->to);
}

void simt_land_all_of(simt_thread *thread)
{
	for (const thread_copy &copy : thread->copies)
		land(thread, &copy);
	thread->copies.clear();
}

void simt_cp_async_commit()
{
	simt_self()->copy_group++;
}

void simt_cp_async_left(uint32_t left)
{
	simt_thread *self = simt_self();
	size_t kept = 0;
	for (size_t i = 0; i < self->copies.size(); i++) {
		if (self->copies[i].group + left < self->copy_group)
			land(self, &self->copies[i]);
		else
			self->copies[kept++] = self->copies[i];
	}
	self->copies.resize(kept);
}

/* --- barriers in shared memory ------------------------------------------------------------------------------- */

/* What lies in the 64 bits. */
struct mbarrier {
	uint64_t phase : 1, expected : 20, pending : 20;
	int64_t bytes : 23; /* to come; below 0: come before they were announced */
};
static_assert(sizeof(struct mbarrier) == 8, "as on a GPU");

#define MBARRIER_COUNT_MAX 0xfffff
#define MBARRIER_BYTES_MAX 0xfffff

static struct mbarrier load(const uint64_t *at)
{
	struct mbarrier barrier;
	memcpy(&barrier, at, sizeof(barrier));
	if (barrier.expected == MBARRIER_COUNT_MAX || barrier.expected == 0)
		simt_fault("the mbarrier at %p was not set up", (const void *)at);
	return barrier;
}

static void store(uint64_t *at, struct mbarrier barrier)
{
	if (barrier.bytes > MBARRIER_BYTES_MAX || barrier.bytes < -MBARRIER_BYTES_MAX)
		simt_fault("the mbarrier at %p is to count %lld bytes, at most %d", (void *)at, (long long)barrier.bytes, MBARRIER_BYTES_MAX);
	if (barrier.pending == 0 && barrier.bytes == 0) {
		barrier.phase ^= 1;
		barrier.pending = barrier.expected;
		simt_group.events++;
	}
	memcpy(at, &barrier, sizeof(barrier));
}

void simt_mbarrier_init(uint64_t *at, uint32_t count)
{
	if ((uintptr_t)at % 8 != 0 || count == 0 || count >= MBARRIER_COUNT_MAX)
		simt_fault("an mbarrier of %u at %p", count, (void *)at);
	struct mbarrier barrier = {0, count, count, 0};
	memcpy(at, &barrier, sizeof(barrier));
	simt_self()->barriers_set.push_back(at);
}

void simt_mbarrier_fence_init()
{
	simt_self()->barriers_set.clear();
}

/* Only behind that fence does the copy engine find it. */
static void check_fenced(const uint64_t *at)
{
	for (uint32_t b = 0; b < simt_group.block_count; b++)
		for (uint32_t i = 0; i < simt_group.blocks[b].thread_count; i++)
			for (const uint64_t *set : simt_group.blocks[b].threads[i].barriers_set)
				if (set == at)
					simt_fault("a copy to the mbarrier at %p: no simt_mbarrier_fence_init() after its set-up", (const void *)at);
}

static void arrive(uint64_t *at, uint32_t bytes)
{
	struct mbarrier barrier = load(at);
	if (barrier.pending == 0)
		simt_fault("one more than %u arrive at the mbarrier at %p", (unsigned)barrier.expected, (void *)at);
	barrier.bytes += bytes;
	barrier.pending--;
	store(at, barrier);
}

void simt_mbarrier_arrive(uint64_t *at)
{
	arrive(at, 0);
}

void simt_mbarrier_arrive_expect(uint64_t *at, uint32_t bytes)
{
	arrive(at, bytes);
}

bool simt_mbarrier_over(const uint64_t *at, uint32_t parity)
{
	return load(at).phase != (parity & 1);
}

bool simt_mbarrier_test(uint64_t *at, uint32_t parity)
{
	return simt_mbarrier_over(at, parity);
}

bool simt_mbarrier_try_wait(uint64_t *at, uint32_t parity)
{
	if (!simt_mbarrier_over(at, parity))
		simt_wait(THREAD_POLLS, "an mbarrier's parity");
	return simt_mbarrier_over(at, parity);
}

void simt_mbarrier_wait(uint64_t *at, uint32_t parity)
{
	simt_thread *self = simt_self();
	self->mbarrier = at;
	self->parity = parity & 1;
	while (!simt_mbarrier_over(at, parity))
		simt_wait(THREAD_AT_MBARRIER, "an mbarrier's parity");
}

/* --- the copy engine ------------------------------------------------------------------------------------------- */

static void land(const engine_copy *copy)
{
	for (size_t i = 0; i < copy->at.size(); i++) {
		memcpy(copy->to + copy->at[i], &copy->bytes[i * 16], 16);
		simt_proxy_landed(copy->block, copy->to + copy->at[i]);
	}
	struct mbarrier barrier = load(copy->barrier);
	barrier.bytes -= (int64_t)copy->bytes.size();
	store(copy->barrier, barrier);
}

bool simt_land_oldest()
{
	if (simt_group.copies.empty())
		return false;
	engine_copy copy = std::move(simt_group.copies.front());
	simt_group.copies.erase(simt_group.copies.begin());
	land(&copy);
	return true;
}

/* To shared memory at `to`, where 16 bytes at offset o from the block's memory lie at swizzle(o). */
static void queue(simt_block *block, uint8_t *to, uint64_t *barrier, const std::vector<uint8_t> &bytes, uint32_t address, bool swizzled)
{
	engine_copy copy = {block, to, bytes, {}, barrier};
	bool sent = swizzled && block != simt_self()->block_of;
	check_fenced(barrier);
	for (size_t at = 0; at < bytes.size(); at += 16) {
		uint32_t there = address + (uint32_t)at;
		copy.at.push_back((int32_t)((swizzled ? there ^ (there >> 7 & 7) << 4 : there) - address));
		simt_proxy_fill(block, to + copy.at.back());
		memset(to + copy.at.back(), 0xff, 16);
		simt_proxy_landed(block, to + copy.at.back());
		if (sent)
			simt_proxy_sent(block, to + copy.at.back());
	}
	if (fake_now()->late_copies)
		simt_group.copies.push_back(copy);
	else
		land(&copy);
}

/* The same barrier of another block of the cluster. */
static uint64_t *in_block(uint64_t *barrier, uint32_t rank)
{
	if (rank == simt_here->rank)
		return barrier;
	return reinterpret_cast<uint64_t *>(simt_group.blocks[rank].shared + simt_shared_address(barrier));
}

void simt_mbarrier_arrive_at(uint64_t *barrier, uint32_t rank)
{
	simt_reach(rank, "arrived at its mbarrier");
	arrive(in_block(barrier, rank), 0);
}

void simt_tma_acquire(const CUtensorMap *map)
{
	if (fake_memory_of(map) != FAKE_DEVICE)
		simt_fault("the tensor map at %p is not in the device's memory", (const void *)map);
	simt_self()->maps_acquired.push_back(map);
}

/* A parameter's map needs no acquiring. */
static bool is_acquired(const CUtensorMap *map)
{
	const auto &maps = simt_self()->maps_acquired;
	return fake_memory_of(map) != FAKE_DEVICE || std::find(maps.begin(), maps.end(), map) != maps.end();
}

void simt_tma_load(void *shared, const CUtensorMap *map, uint64_t *barrier, const int *at, uint32_t rank, uint16_t blocks)
{
	if (!is_acquired(map))
		simt_fault("the tensor map at %p lies in the device's memory and was not acquired", (const void *)map);
	const struct tensor_map *tensor = tensor_map_of(map);
	if (!tensor || tensor->rank != rank)
		simt_fault("no tensor map of rank %u at %p", rank, (const void *)map);
	uint32_t address = simt_shared_address(shared), here = simt_here->rank;
	if (address % (tensor->swizzled ? 1024 : 128) != 0)
		simt_fault("a tile to shared memory at %u: swizzled ones lie at multiples of 1024, others of 128", address);
	std::vector<uint8_t> bytes = tensor_map_box(tensor, at);
	for (uint32_t b = 0; b < simt_group.block_count; b++)
		if (blocks == 0 ? b == here : blocks >> b & 1) {
			simt_reach(b, "sent a tile to it");
			queue(&simt_group.blocks[b], simt_group.blocks[b].shared + address, in_block(barrier, b), bytes, address,
			      tensor->swizzled);
		}
}

void simt_bulk_load(void *shared, const void *global, uint32_t bytes, uint64_t *barrier)
{
	if ((uintptr_t)shared % 16 != 0 || (uintptr_t)global % 16 != 0 || bytes % 16 != 0)
		simt_fault("%u bytes to %p from %p: all are multiples of 16", bytes, shared, global);
	const uint8_t *from = static_cast<const uint8_t *>(global);
	queue(simt_self()->block_of, static_cast<uint8_t *>(shared), barrier, std::vector<uint8_t>(from, from + bytes), 0, false);
}
