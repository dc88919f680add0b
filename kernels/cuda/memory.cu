/* memory - what dev_alloc() gave out, and the way of bytes between host and device.
 *
 * The kind of a memory is looked up by its address, so that a copy knows whether the driver may read it while the caller
 * goes on: pinned memory of ours is read where it lies, other memory of the host passes through pinned pieces. */
#include <assert.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernels/cuda/cuda.h"

#define HOST_ALIGN 64
#define COPIES_END_NS 200000000u

/* --- ranges, by address ---------------------------------------------------------------------------------- */

/* How many begin at or before the address. */
static size_t ranges_before(const struct cuda_device *device, const void *at)
{
	size_t low = 0, high = device->range_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (device->ranges[middle].begin <= (const uint8_t *)at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool range_add(struct cuda_device *device, struct cuda_range range)
{
	bool room = true;
	pthread_mutex_lock(&device->lock);
	if (device->range_count == device->range_room) {
		size_t more = device->range_room ? 2 * device->range_room : 64;
		void *ranges = realloc(device->ranges, more * sizeof(range));
		room = ranges != NULL;
		device->ranges = room ? (struct cuda_range *)ranges : device->ranges;
		device->range_room = room ? more : device->range_room;
	}
	if (room) {
		size_t at = ranges_before(device, range.begin);
		memmove(device->ranges + at + 1, device->ranges + at, (device->range_count - at) * sizeof(range));
		device->ranges[at] = range;
		device->range_count++;
	}
	pthread_mutex_unlock(&device->lock);
	return room;
}

static void range_remove(struct cuda_device *device, const void *begin)
{
	pthread_mutex_lock(&device->lock);
	size_t at = ranges_before(device, begin);
	assert(at > 0 && device->ranges[at - 1].begin == begin);
	memmove(device->ranges + at - 1, device->ranges + at, (device->range_count - at) * sizeof(*device->ranges));
	device->range_count--;
	pthread_mutex_unlock(&device->lock);
}

bool cuda_range_add(struct cuda_device *device, void *memory, size_t bytes)
{
	return range_add(device, (struct cuda_range){(uint8_t *)memory, bytes, MEM_DEVICE});
}

void cuda_range_remove(struct cuda_device *device, const void *memory)
{
	range_remove(device, memory);
}

static enum mem_kind kind_at(struct cuda_device *device, const void *at)
{
	enum mem_kind kind = MEM_HOST;
	pthread_mutex_lock(&device->lock);
	size_t before = ranges_before(device, at);
	if (before > 0 && (size_t)((const uint8_t *)at - device->ranges[before - 1].begin) < device->ranges[before - 1].bytes)
		kind = device->ranges[before - 1].kind;
	pthread_mutex_unlock(&device->lock);
	return kind;
}

/* Of any of the joined devices: what one of them gave out all may read. */
static enum mem_kind kind_of(struct cuda_device *device, const void *at)
{
	enum mem_kind kind = kind_at(device, at);
	for (uint32_t i = 0; i < device->joined_count && kind == MEM_HOST; i++)
		if (device->joined[i] != device)
			kind = kind_at(device->joined[i], at);
	return kind;
}

/* --- memory ------------------------------------------------------------------------------------------------- */

/* What any thread asks must not fail the operations: the error is the caller's alone. */
static enum err error_of(cudaError_t error)
{
	if (error == cudaSuccess)
		return ERR_OK;
	(void)cudaGetLastError();
	return error == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE;
}

static enum err take(struct cuda_device *device, enum mem_kind kind, size_t bytes, void **ret_memory)
{
	if (kind != MEM_HOST && !cuda_enter(device))
		return ERR_DEVICE;
	if (kind == MEM_HOST) {
		size_t whole = (bytes + HOST_ALIGN - 1) / HOST_ALIGN * HOST_ALIGN;
		*ret_memory = aligned_alloc(HOST_ALIGN, whole);
		if (*ret_memory)
			memset(*ret_memory, 0, whole);
		return *ret_memory ? ERR_OK : ERR_NOMEM;
	}
	if (kind == MEM_PINNED) {
		enum err e = error_of(cudaMallocHost(ret_memory, bytes));
		if (e == ERR_OK)
			memset(*ret_memory, 0, bytes);
		return e;
	}
	enum err e = kind == MEM_SHARED ? cuda_shared_take(bytes, ret_memory) : error_of(cudaMalloc(ret_memory, bytes));
	if (e == ERR_OK)
		e = error_of(cudaMemsetAsync(*ret_memory, 0, bytes, device->memory_stream));
	return e == ERR_OK ? error_of(cudaStreamSynchronize(device->memory_stream)) : e;
}

static void give_back(enum mem_kind kind, void *memory, size_t bytes)
{
	if (kind == MEM_HOST)
		free(memory);
	else if (kind == MEM_PINNED)
		(void)cudaFreeHost(memory);
	else if (kind == MEM_SHARED)
		cuda_shared_give_back(memory, bytes);
	else
		(void)cudaFree(memory);
}

enum err cuda_alloc(struct device *base, enum mem_kind kind, size_t bytes, void **ret_memory)
{
	void *memory = NULL;
	enum err e = take(cuda_of(base), kind, bytes, &memory);
	if (e == ERR_OK && !range_add(cuda_of(base), (struct cuda_range){(uint8_t *)memory, bytes, kind == MEM_SHARED ? MEM_DEVICE : kind}))
		e = ERR_NOMEM;
	if (e != ERR_OK && memory)
		give_back(kind, memory, bytes);
	if (e == ERR_OK)
		*ret_memory = memory;
	return e;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What was queued before an error is on its way still, unless the device is lost, which says so at once.  Behind another device that is
 * lost it waits for ever: longer than any copy takes nobody waits for that. */
static void await_quietly(struct cuda_device *device, cudaStream_t stream, uint64_t until_ns)
{
	if (!stream)
		return;
	if (device->joined_count == 1)
		(void)cudaStreamSynchronize(stream);
	else
		while (cudaStreamQuery(stream) == cudaErrorNotReady && now_ns() < until_ns)
			sched_yield();
	(void)cudaGetLastError();
}

/* That freeing pinned memory waits for copies which use it is nowhere promised.  Without an error its owner has waited for them. */
static void let_copies_end(struct cuda_device *device)
{
	if (device->failed == ERR_OK)
		return;
	uint64_t until_ns = now_ns() + COPIES_END_NS;
	for (uint32_t i = 0; i < device->joined_count; i++) {
		await_quietly(device, device->joined[i]->stream, until_ns);
		await_quietly(device, device->joined[i]->fetch_stream, until_ns);
	}
}

/* CUDA itself waits for operations that may still use a device's memory. */
void cuda_free(struct device *base, enum mem_kind kind, void *memory, size_t bytes)
{
	range_remove(cuda_of(base), memory);
	if (kind == MEM_SHARED)
		(void)cuda_enter(cuda_of(base));
	if (kind == MEM_PINNED)
		let_copies_end(cuda_of(base));
	give_back(kind, memory, bytes);
}

/* --- copies --------------------------------------------------------------------------------------------------- */

/* The next one, once what was in it before has been copied. */
uint8_t *cuda_stage_begin(struct cuda_device *device)
{
	struct cuda_stage *stage = &device->stages[device->stage_next];
	assert(!device->recording);
	if (!cuda_alive(&device->base) || (stage->used && !cuda_await(device, stage->done)))
		return NULL;
	stage->used = false;
	return stage->memory;
}

void cuda_stage_end(struct cuda_device *device, void *to, size_t bytes)
{
	struct cuda_stage *stage = &device->stages[device->stage_next];
	device->stage_next = (device->stage_next + 1) % CUDA_STAGES;
	if (CUDA_TRY(device, cudaMemcpyAsync(to, stage->memory, bytes, cudaMemcpyHostToDevice, device->stream)))
		stage->used = CUDA_TRY(device, cudaEventRecord(stage->done, device->stream));
}

static void copy_staged(struct cuda_device *device, uint8_t *to, const uint8_t *from, size_t bytes)
{
	for (size_t at = 0, part; at < bytes; at += part) {
		part = bytes - at < CUDA_STAGE_BYTES ? bytes - at : CUDA_STAGE_BYTES;
		uint8_t *piece = cuda_stage_begin(device);
		if (!piece)
			return;
		memcpy(piece, from + at, part);
		cuda_stage_end(device, to + at, part);
	}
}

static void copy_from_device(struct cuda_device *device, void *to, const void *from, size_t bytes)
{
	if (CUDA_TRY(device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, device->stream)))
		(void)cuda_await_stream(device, device->stream);
}

enum err cuda_copy(struct device *base, void *to, const void *from, size_t bytes)
{
	struct cuda_device *device = cuda_of(base);
	enum mem_kind to_kind = kind_of(device, to), from_kind = kind_of(device, from);
	assert(!device->recording || (to_kind == MEM_DEVICE && from_kind == MEM_DEVICE));
	if (!cuda_alive(base) || bytes == 0)
		return device->failed;
	if (to_kind != MEM_DEVICE && from_kind != MEM_DEVICE) {
		/* Operations write pinned memory too. */
		if (cuda_await_stream(device, device->stream))
			memcpy(to, from, bytes);
	} else if (to_kind != MEM_DEVICE) {
		copy_from_device(device, to, from, bytes);
	} else if (from_kind == MEM_HOST) {
		copy_staged(device, (uint8_t *)to, (const uint8_t *)from, bytes);
	} else {
		CUDA_TRY(device, cudaMemcpyAsync(to, from, bytes,
						 from_kind == MEM_DEVICE ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice,
						 device->stream));
	}
	return device->failed;
}

void cuda_copy_lines(struct device *base, const struct copy_lines *lines)
{
	struct cuda_device *device = cuda_of(base);
	assert(!device->recording && kind_of(device, lines->to) == MEM_DEVICE && kind_of(device, lines->from) != MEM_HOST);
	if (cuda_alive(base))
		CUDA_TRY(device, cudaMemcpy2DAsync(lines->to, lines->to_stride, lines->from, lines->from_stride, lines->bytes, lines->count,
						   cudaMemcpyDefault, device->stream));
}

/* One call for all pieces, and copy engines do it: a kernel that stores into the host's memory would take multiprocessors for as long as
 * the bytes take over PCIe, and the blocks of a product would wait for them (docs/gpu.md). */
static cudaError_t copy_out(cudaStream_t stream, const struct fetch_piece *pieces, size_t count)
{
	void *to[DEV_FETCH_PIECES_MAX];
	const void *from[DEV_FETCH_PIECES_MAX];
	size_t bytes[DEV_FETCH_PIECES_MAX], first = 0;
	struct cudaMemcpyAttributes all = {};
	all.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
	all.flags = cudaMemcpyFlagPreferOverlapWithCompute;
	for (size_t i = 0; i < count; i++)
		to[i] = pieces[i].to, from[i] = pieces[i].from, bytes[i] = pieces[i].bytes;
	return cudaMemcpyBatchAsync(to, from, bytes, count, &all, &first, 1, stream);
}

void cuda_fetch(struct device *base, const struct fetch_piece *pieces, size_t count)
{
	struct cuda_device *device = cuda_of(base);
	assert(!device->recording);
	for (size_t i = 0; i < count; i++)
		assert(kind_of(device, pieces[i].to) == MEM_PINNED && kind_of(device, pieces[i].from) == MEM_DEVICE);
	if (!cuda_alive(base))
		return;
	if (CUDA_TRY(device, cudaEventRecord(device->fetch_from, device->stream)) &&
	    CUDA_TRY(device, cudaStreamWaitEvent(device->fetch_stream, device->fetch_from, 0)) &&
	    CUDA_TRY(device, copy_out(device->fetch_stream, pieces, count)))
		device->fetching = true;
}

enum err cuda_pin(struct device *base, void *memory, size_t bytes)
{
	enum err e = error_of(cudaHostRegister(memory, bytes, cudaHostRegisterPortable));
	if (e != ERR_OK)
		return e;
	if (range_add(cuda_of(base), (struct cuda_range){(uint8_t *)memory, bytes, MEM_PINNED}))
		return ERR_OK;
	(void)cudaHostUnregister(memory);
	return ERR_NOMEM;
}

void cuda_unpin(struct device *base, void *memory, size_t bytes)
{
	range_remove(cuda_of(base), memory);
	let_copies_end(cuda_of(base));
	(void)cudaHostUnregister(memory);
}

void cuda_zero(struct device *base, void *memory, size_t bytes)
{
	struct cuda_device *device = cuda_of(base);
	if (bytes > 0 && cuda_alive(base))
		CUDA_TRY(device, cudaMemsetAsync(memory, 0, bytes, device->stream));
}
