/* Errors, the device, its memory. */
#include "tests/gpu/fake/runtime.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <map>
#include <string>
#include <cuda.h>
#include "tests/gpu/fake/fake.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#define ALIGN_BYTES	256
#define PAGE_BYTES	4096
#define SHARED_USUAL	(48 << 10)
#define SHARED_OPTIN	(227 << 10)
#define MALLOC_POISON	0xff /* NaN */
#define POISON_BYTES_MAX ((size_t)4 << 20) /* of an allocation: more would cost more than it finds */

std::recursive_mutex fake_lock;
static struct fake_options options = {true, true, FAKE_TURNS, 0, (size_t)1 << 30, 4, false, false, false, 1, false, -1};

/* --- failures ---------------------------------------------------------------------------------------------- */

struct failure {
	uint32_t left;
	int error;
};
static std::map<std::string, failure> failures;
static std::map<std::string, uint64_t> calls;
static cudaError_t lost[FAKE_DEVICES_MAX], last;
static thread_local int current;

const struct fake_options *fake_now()
{
	return &options;
}

struct fake_options fake_configure(const struct fake_options *changed)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	struct fake_options before = options;
	fake_drain_all();
	assert(changed->device_bytes <= FAKE_DEVICE_BYTES_MAX && changed->devices > 0 && changed->devices <= FAKE_DEVICES_MAX);
	options = *changed;
	return before;
}

void fake_fail(const char *call, uint32_t nth, int error)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	assert(nth > 0 && error != cudaSuccess);
	failures[call] = {nth, error};
}

void fake_heal()
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	failures.clear();
	calls.clear();
	for (cudaError_t &one : lost)
		one = cudaSuccess;
	last = cudaSuccess;
	fake_complete_events();
}

uint64_t fake_call_count(const char *call)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	return calls[call];
}

static cudaError_t failure_of(const char *call)
{
	calls[call]++;
	auto found = failures.find(call);
	if (found == failures.end() || --found->second.left > 0)
		return cudaSuccess;
	cudaError_t error = (cudaError_t)found->second.error;
	failures.erase(found);
	return error;
}

bool fake_fails(const char *call)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	return failure_of(call) != cudaSuccess;
}

cudaError_t fake_enter(const char *call)
{
	cudaError_t error = failure_of(call);
	if (strcmp(call, "kernel") == 0 || strcmp(call, "copy") == 0)
		return error;
	return lost[current] ? lost[current] : fake_error(error);
}

cudaError_t fake_error(cudaError_t error)
{
	if (error && error != cudaErrorNotReady)
		last = error;
	return error;
}

int fake_current()
{
	return current;
}

void fake_lose_device(int device, cudaError_t error)
{
	if (!lost[device])
		lost[device] = error;
}

bool fake_device_lost(int device)
{
	return lost[device] != cudaSuccess;
}

cudaError_t cudaGetLastError()
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	cudaError_t error = lost[current] ? lost[current] : last;
	last = cudaSuccess;
	return error;
}

cudaError_t cudaPeekAtLastError()
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	return lost[current] ? lost[current] : last;
}

static const struct {
	cudaError_t error;
	const char *name, *text;
} errors[] = {
	{cudaSuccess, "cudaSuccess", "no error"},
	{cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
	{cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
	{cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
	{cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
	{cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
	{cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
	{cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
	{cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
	 "operation not permitted when stream is capturing"},
	{cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
	 "operation failed due to a previous error during capture"},
};

const char *cudaGetErrorString(cudaError_t error)
{
	for (const auto &e : errors)
		if (e.error == error)
			return e.text;
	return "unknown error";
}

const char *cudaGetErrorName(cudaError_t error)
{
	for (const auto &e : errors)
		if (e.error == error)
			return e.name;
	return "cudaErrorUnknown";
}

/* --- the device ---------------------------------------------------------------------------------------------- */

static bool there_is(int device)
{
	return device >= 0 && device < options.devices && !options.absent;
}

cudaError_t cudaGetDeviceCount(int *count)
{
	FAKE_CALL("cudaGetDeviceCount");
	*count = options.absent ? 0 : options.devices;
	return options.absent ? fake_error(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	if (cudaError_t error = failure_of("cudaSetDevice"))
		return fake_error(error);
	if (!there_is(device))
		return fake_error(cudaErrorInvalidDevice);
	current = device;
	return lost[device];
}

cudaError_t cudaGetDevice(int *device)
{
	FAKE_CALL("cudaGetDevice");
	*device = current;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *props, int device)
{
	FAKE_CALL("cudaGetDeviceProperties");
	if (!there_is(device))
		return fake_error(cudaErrorInvalidDevice);
	*props = {};
	strcpy(props->name, "NVIDIA fake");
	props->totalGlobalMem = options.device_bytes;
	props->sharedMemPerBlock = SHARED_USUAL;
	props->sharedMemPerBlockOptin = SHARED_OPTIN;
	props->sharedMemPerMultiprocessor = 228 << 10;
	props->major = 9;
	props->multiProcessorCount = options.processors;
	props->l2CacheSize = 50 << 20;
	props->memoryBusWidth = 6144;
	props->regsPerMultiprocessor = 65536;
	props->maxThreadsPerMultiProcessor = 2048;
	return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
	FAKE_CALL("cudaDeviceGetAttribute");
	if (!there_is(device))
		return fake_error(cudaErrorInvalidDevice);
	switch (attribute) {
	case cudaDevAttrMaxSharedMemoryPerBlock:
		*value = SHARED_USUAL;
		break;
	case cudaDevAttrMultiProcessorCount:
		*value = options.processors;
		break;
	case cudaDevAttrL2CacheSize:
		*value = 50 << 20;
		break;
	case cudaDevAttrComputeCapabilityMajor:
		*value = 9;
		break;
	case cudaDevAttrComputeCapabilityMinor:
		*value = 0;
		break;
	case cudaDevAttrMaxSharedMemoryPerBlockOptin:
		*value = SHARED_OPTIN;
		break;
	}
	return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = 13000;
	return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	*version = 13000;
	return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
	FAKE_CALL("cudaDeviceSynchronize");
	if (fake_is_capturing())
		return fake_spoil_captures();
	fake_drain_all();
	return lost[current];
}

static bool allowed[FAKE_DEVICES_MAX][FAKE_DEVICES_MAX]; /* the first reads the second's */

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
	FAKE_CALL("cudaDeviceCanAccessPeer");
	if (!there_is(device) || !there_is(peer))
		return fake_error(cudaErrorInvalidDevice);
	*can = device != peer && !options.no_access;
	return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned)
{
	FAKE_CALL("cudaDeviceEnablePeerAccess");
	if (!there_is(peer) || peer == current || options.no_access)
		return fake_error(cudaErrorInvalidDevice);
	if (allowed[current][peer])
		return fake_error(cudaErrorPeerAccessAlreadyEnabled);
	allowed[current][peer] = true;
	return cudaSuccess;
}

cudaError_t cudaDeviceReset()
{
	FAKE_CALL("cudaDeviceReset");
	return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned, unsigned long long,
					     enum cudaDriverEntryPointQueryResult *result)
{
	FAKE_CALL("cudaGetDriverEntryPointByVersion");
	static const std::map<std::string, void *> symbols = {
		{"cuTensorMapEncodeTiled", reinterpret_cast<void *>(cuTensorMapEncodeTiled)},
		{"cuMemCreate", reinterpret_cast<void *>(cuMemCreate)},
		{"cuMemRelease", reinterpret_cast<void *>(cuMemRelease)},
		{"cuMemAddressReserve", reinterpret_cast<void *>(cuMemAddressReserve)},
		{"cuMemAddressFree", reinterpret_cast<void *>(cuMemAddressFree)},
		{"cuMemMap", reinterpret_cast<void *>(cuMemMap)},
		{"cuMemUnmap", reinterpret_cast<void *>(cuMemUnmap)},
		{"cuMemSetAccess", reinterpret_cast<void *>(cuMemSetAccess)},
		{"cuMemExportToShareableHandle", reinterpret_cast<void *>(cuMemExportToShareableHandle)},
		{"cuMemImportFromShareableHandle", reinterpret_cast<void *>(cuMemImportFromShareableHandle)},
		{"cuMemGetAllocationGranularity", reinterpret_cast<void *>(cuMemGetAllocationGranularity)},
		{"cuMemRetainAllocationHandle", reinterpret_cast<void *>(cuMemRetainAllocationHandle)},
	};
	auto found = symbols.find(symbol);
	bool known = found != symbols.end() && !(options.no_peers && strncmp(symbol, "cuMem", 5) == 0);
	*function = known ? found->second : nullptr;
	*result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
	return cudaSuccess;
}

/* --- memory ---------------------------------------------------------------------------------------------------- */

/* Of each device a piece of addresses; beyond `end` nothing was ever allocated. */
static struct arena {
	uint8_t *begin;
	size_t end, used;
	bool open;
} arenas[FAKE_DEVICES_MAX];
static std::map<uint8_t *, size_t> device_memory, pinned_memory;
static size_t pinned_used, virtual_used;
static int open_depth;

static void map_arena(struct arena *arena)
{
	if (arena->begin)
		return;
	void *memory = mmap(nullptr, FAKE_DEVICE_BYTES_MAX, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert(memory != MAP_FAILED);
	madvise(memory, FAKE_DEVICE_BYTES_MAX, MADV_HUGEPAGE);
	arena->begin = static_cast<uint8_t *>(memory);
}

static struct arena *arena_of(const void *memory)
{
	for (struct arena &one : arenas)
		if (one.begin && memory >= one.begin && memory < one.begin + FAKE_DEVICE_BYTES_MAX)
			return &one;
	return nullptr;
}

static void protect(struct arena *arena, bool open)
{
	size_t bytes = (arena->end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	if (bytes > 0 && mprotect(arena->begin, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
		abort();
	arena->open = open;
}

void fake_view_memory(int device)
{
	for (int i = 0; i < FAKE_DEVICES_MAX; i++) {
		bool open = device < 0 || device == i || allowed[device][i];
		if (arenas[i].begin && arenas[i].open != open)
			protect(&arenas[i], open);
	}
}

void fake_open_memory()
{
	if (open_depth++ > 0)
		return;
	fake_view_memory(-1);
	fake_virtual_open(true);
}

void fake_close_memory()
{
	if (--open_depth > 0)
		return;
	for (struct arena &one : arenas)
		if (one.open)
			protect(&one, false);
	fake_virtual_open(false);
}

/* Whole pages of zeros are given back to the system, which gives zeros again. */
void fake_set_memory(void *memory, int value, size_t bytes)
{
	uint8_t *begin = static_cast<uint8_t *>(memory), *end = begin + bytes;
	const uintptr_t page = PAGE_BYTES;
	uint8_t *first = reinterpret_cast<uint8_t *>(((uintptr_t)begin + page - 1) / page * page);
	uint8_t *last = reinterpret_cast<uint8_t *>((uintptr_t)end / page * page);
	if (value != 0 || fake_memory_of(memory) != FAKE_DEVICE || fake_virtual_has(memory) || first >= last) {
		memset(memory, value, bytes);
		return;
	}
	memset(begin, 0, (size_t)(first - begin));
	memset(last, 0, (size_t)(end - last));
	if (madvise(first, (size_t)(last - first), MADV_DONTNEED) != 0)
		abort();
}

/* The first gap; every allocation has ALIGN_BYTES behind it that belong to nobody. */
static uint8_t *find_room(const struct arena *arena, size_t bytes)
{
	uint8_t *at = arena->begin, *end = at + FAKE_DEVICE_BYTES_MAX;
	for (auto taken = device_memory.lower_bound(at); taken != device_memory.end() && taken->first < end; ++taken) {
		if ((size_t)(taken->first - at) >= bytes + ALIGN_BYTES)
			break;
		at = taken->first + (taken->second + 2 * ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
	}
	return (size_t)(at - arena->begin) + bytes + ALIGN_BYTES <= FAKE_DEVICE_BYTES_MAX ? at : nullptr;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
	FAKE_CALL("cudaMalloc");
	struct arena *arena = &arenas[current];
	if (fake_any_capture())
		return fake_spoil_captures();
	map_arena(arena);
	uint8_t *at = bytes <= options.device_bytes - arena->used ? find_room(arena, bytes) : nullptr;
	if (!at)
		return fake_error(cudaErrorMemoryAllocation);
	fake_open_memory();
	size_t end = (size_t)(at - arena->begin) + bytes + ALIGN_BYTES;
	if (end > arena->end) {
		arena->end = end;
		protect(arena, true);
	}
	ASAN_UNPOISON_MEMORY_REGION(at, bytes);
	ASAN_POISON_MEMORY_REGION(at + bytes, (end - bytes - (size_t)(at - arena->begin)));
	memset(at, MALLOC_POISON, bytes < POISON_BYTES_MAX ? bytes : POISON_BYTES_MAX);
	fake_close_memory();
	device_memory[at] = bytes;
	arena->used += bytes;
	*memory = at;
	return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
	FAKE_CALL("cudaFree");
	if (!memory)
		return cudaSuccess;
	if (fake_any_capture())
		return fake_spoil_captures();
	auto found = device_memory.find(static_cast<uint8_t *>(memory));
	if (found == device_memory.end())
		return fake_error(cudaErrorInvalidValue);
	fake_drain_all(); /* as the real one waits */
	ASAN_POISON_MEMORY_REGION(found->first, found->second);
	arena_of(memory)->used -= found->second;
	device_memory.erase(found);
	return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
	FAKE_CALL("cudaMemGetInfo");
	*free_bytes = options.device_bytes - arenas[current].used;
	*total_bytes = options.device_bytes;
	return cudaSuccess;
}

bool fake_device_take(size_t bytes)
{
	if (bytes > options.device_bytes - arenas[current].used - virtual_used)
		return false;
	virtual_used += bytes;
	return true;
}

void fake_device_give_back(size_t bytes)
{
	virtual_used -= bytes;
}

size_t fake_device_used()
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	size_t used = virtual_used;
	for (const struct arena &one : arenas)
		used += one.used;
	return used;
}

size_t fake_pinned_used()
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	return pinned_used;
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned)
{
	FAKE_CALL("cudaHostAlloc");
	if (fake_any_capture())
		return fake_spoil_captures();
	void *at = nullptr;
	if (posix_memalign(&at, PAGE_BYTES, bytes > 0 ? bytes : 1) != 0)
		return fake_error(cudaErrorMemoryAllocation);
	memset(at, MALLOC_POISON, bytes < POISON_BYTES_MAX ? bytes : POISON_BYTES_MAX);
	pinned_memory[static_cast<uint8_t *>(at)] = bytes;
	pinned_used += bytes;
	*memory = at;
	return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
	return cudaHostAlloc(memory, bytes, cudaHostAllocDefault);
}

static cudaError_t forget_pinned(void *memory)
{
	auto found = pinned_memory.find(static_cast<uint8_t *>(memory));
	if (found == pinned_memory.end())
		return fake_error(cudaErrorInvalidValue);
	if (fake_copies_queued(memory, found->second)) {
		fprintf(stderr, "pinned memory is freed under a copy that is still to run\n");
		abort();
	}
	pinned_used -= found->second;
	pinned_memory.erase(found);
	return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
	FAKE_CALL("cudaFreeHost");
	cudaError_t error = memory ? forget_pinned(memory) : cudaSuccess;
	if (!error)
		free(memory);
	return error;
}

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned)
{
	FAKE_CALL("cudaHostRegister");
	pinned_memory[static_cast<uint8_t *>(memory)] = bytes;
	pinned_used += bytes;
	return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *memory)
{
	FAKE_CALL("cudaHostUnregister");
	return forget_pinned(memory);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned)
{
	FAKE_CALL("cudaHostGetDevicePointer");
	if (fake_memory_of(host) != FAKE_PINNED)
		return fake_error(cudaErrorInvalidValue);
	*device = host;
	return cudaSuccess;
}

/* The allocation that `memory` lies in. */
static const std::pair<uint8_t *const, size_t> *allocation(const std::map<uint8_t *, size_t> &all, const void *memory)
{
	uint8_t *at = const_cast<uint8_t *>(static_cast<const uint8_t *>(memory));
	auto next = all.upper_bound(at);
	if (next == all.begin())
		return nullptr;
	const auto *found = &*--next;
	return at < found->first + found->second ? found : nullptr;
}

enum fake_memory fake_memory_of(const void *memory)
{
	if (arena_of(memory) || fake_virtual_has(memory))
		return FAKE_DEVICE;
	return allocation(pinned_memory, memory) ? FAKE_PINNED : FAKE_PAGEABLE;
}

bool fake_memory_holds(const void *memory, size_t bytes)
{
	enum fake_memory kind = fake_memory_of(memory);
	if (kind == FAKE_PAGEABLE || bytes == 0)
		return true;
	if (fake_virtual_has(memory))
		return fake_virtual_holds(memory, bytes);
	const auto *found = allocation(kind == FAKE_DEVICE ? device_memory : pinned_memory, memory);
	return found && static_cast<const uint8_t *>(memory) + bytes <= found->first + found->second;
}
