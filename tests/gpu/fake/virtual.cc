/* Virtual memory of the fake driver.  An allocation is a memfd: another process that gets the descriptor has the very memory, as it
 * would on one GPU, and a mapping that may only be read faults on a write. */
#include <cuda.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/gpu/fake/fake.h"
#include "tests/gpu/fake/runtime.h"

#define PAGE_BYTES ((size_t)2 << 20)
#define POISON	   0xff

struct allocation {
	int fd;
	size_t size;
	bool ours; /* created here: it counts as this device's memory */
	uint32_t handles, mappings;
};

struct mapping {
	size_t size; /* of what is reserved */
	CUmemGenericAllocationHandle handle; /* 0: nothing is mapped */
	int protection;
};

static std::map<CUmemGenericAllocationHandle, allocation> allocations;
static std::map<uint8_t *, mapping> mappings;
static CUmemGenericAllocationHandle next_handle = 1;
static bool is_open;

#define DRIVER_CALL(name)                                      \
	std::lock_guard<std::recursive_mutex> lock(fake_lock); \
	if (fake_device_lost(fake_current()) || fake_fails(name)) \
	return CUDA_ERROR_OUT_OF_MEMORY

static void forget_if_unused(CUmemGenericAllocationHandle handle)
{
	auto found = allocations.find(handle);
	if (found->second.handles + found->second.mappings > 0)
		return;
	close(found->second.fd);
	if (found->second.ours)
		fake_device_give_back(found->second.size);
	allocations.erase(found);
}

static CUmemGenericAllocationHandle add_allocation(int fd, size_t size, bool ours)
{
	allocations[next_handle] = {fd, size, ours, 1, 0};
	return next_handle++;
}

static std::pair<uint8_t *const, mapping> *mapping_of(const void *memory)
{
	uint8_t *at = const_cast<uint8_t *>(static_cast<const uint8_t *>(memory));
	auto next = mappings.upper_bound(at);
	if (next == mappings.begin())
		return nullptr;
	auto *found = &*--next;
	return at < found->first + found->second.size ? found : nullptr;
}

bool fake_virtual_has(const void *memory)
{
	return mapping_of(memory) != nullptr;
}

bool fake_virtual_holds(const void *memory, size_t bytes)
{
	const auto *found = mapping_of(memory);
	return found && found->second.handle && found->second.protection != PROT_NONE &&
	       static_cast<const uint8_t *>(memory) + bytes <= found->first + found->second.size;
}

static void protect(const std::pair<uint8_t *const, mapping> &one)
{
	if (one.second.handle && mprotect(one.first, one.second.size, is_open ? one.second.protection : PROT_NONE) != 0)
		abort();
}

void fake_virtual_open(bool open)
{
	is_open = open;
	for (const auto &one : mappings)
		protect(one);
}

size_t fake_virtual_count()
{
	return allocations.size() + mappings.size();
}

/* --- the driver's functions ------------------------------------------------------------------------------------ */

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *, CUmemAllocationGranularity_flags)
{
	DRIVER_CALL("cuMemGetAllocationGranularity");
	*granularity = PAGE_BYTES;
	return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop, unsigned long long flags)
{
	DRIVER_CALL("cuMemCreate");
	if (size == 0 || size % PAGE_BYTES != 0 || flags != 0 || prop->location.id != fake_current() ||
	    prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || (fake_now()->no_rdma && prop->allocFlags.gpuDirectRDMACapable))
		return CUDA_ERROR_INVALID_VALUE;
	if (!fake_device_take(size))
		return CUDA_ERROR_OUT_OF_MEMORY;
	int fd = memfd_create("fake-device", MFD_CLOEXEC);
	void *memory = fd >= 0 && ftruncate(fd, (off_t)size) == 0 ? mmap(nullptr, size, PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (memory == MAP_FAILED)
		abort();
	memset(memory, POISON, PAGE_BYTES);
	munmap(memory, size);
	*handle = add_allocation(fd, size, true);
	return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	auto found = allocations.find(handle);
	if (found == allocations.end() || found->second.handles == 0)
		return CUDA_ERROR_INVALID_VALUE;
	found->second.handles--;
	forget_if_unused(handle);
	return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *at, size_t size, size_t, CUdeviceptr, unsigned long long)
{
	DRIVER_CALL("cuMemAddressReserve");
	if (size == 0 || size % PAGE_BYTES != 0)
		return CUDA_ERROR_INVALID_VALUE;
	void *memory = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	mappings[static_cast<uint8_t *>(memory)] = {size, 0, PROT_NONE};
	*at = reinterpret_cast<CUdeviceptr>(memory);
	return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr at, size_t size)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	auto found = mappings.find(reinterpret_cast<uint8_t *>(at));
	if (found == mappings.end() || found->second.handle || found->second.size != size)
		return CUDA_ERROR_INVALID_VALUE;
	munmap(found->first, size);
	mappings.erase(found);
	return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr at, size_t size, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long)
{
	DRIVER_CALL("cuMemMap");
	auto to = mappings.find(reinterpret_cast<uint8_t *>(at));
	auto from = allocations.find(handle);
	if (to == mappings.end() || to->second.handle || to->second.size != size || from == allocations.end() || offset != 0 ||
	    size > from->second.size)
		return CUDA_ERROR_INVALID_VALUE;
	/* Writable for all that the kernel knows only where it may be: what a peer mapped to read, it cannot write. */
	if (mmap(to->first, size, PROT_NONE, MAP_SHARED | MAP_FIXED, from->second.fd, 0) == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	to->second.handle = handle;
	from->second.mappings++;
	return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr at, size_t size)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	auto found = mappings.find(reinterpret_cast<uint8_t *>(at));
	if (found == mappings.end() || !found->second.handle || found->second.size != size)
		return CUDA_ERROR_INVALID_VALUE;
	CUmemGenericAllocationHandle handle = found->second.handle;
	if (mmap(found->first, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		abort();
	found->second.handle = 0;
	found->second.protection = PROT_NONE;
	allocations[handle].mappings--;
	forget_if_unused(handle);
	return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr at, size_t size, const CUmemAccessDesc *access, size_t count)
{
	DRIVER_CALL("cuMemSetAccess");
	auto found = mappings.find(reinterpret_cast<uint8_t *>(at));
	if (found == mappings.end() || !found->second.handle || found->second.size != size || count != 1 || access->location.id != fake_current())
		return CUDA_ERROR_INVALID_VALUE;
	found->second.protection = access->flags == CU_MEM_ACCESS_FLAGS_PROT_READ ? PROT_READ : PROT_READ | PROT_WRITE;
	protect(*found);
	return CUDA_SUCCESS;
}

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
				      unsigned long long)
{
	DRIVER_CALL("cuMemExportToShareableHandle");
	auto found = allocations.find(handle);
	if (found == allocations.end() || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	int fd = dup(found->second.fd);
	if (fd < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(shareable, &fd, sizeof(fd));
	return CUDA_SUCCESS;
}

/* Any other file is none of the driver's. */
static bool is_allocation(int fd, struct stat *ret_stat)
{
	char path[64], target[64] = "";
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fstat(fd, ret_stat) == 0 && readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "fake-device");
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable, CUmemAllocationHandleType type)
{
	DRIVER_CALL("cuMemImportFromShareableHandle");
	struct stat stat;
	int fd = (int)reinterpret_cast<uintptr_t>(shareable);
	if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || !is_allocation(fd, &stat))
		return CUDA_ERROR_INVALID_VALUE;
	int kept = dup(fd);
	if (kept < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*handle = add_allocation(kept, (size_t)stat.st_size, false);
	return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *at)
{
	DRIVER_CALL("cuMemRetainAllocationHandle");
	const auto *found = mapping_of(at);
	if (!found || !found->second.handle)
		return CUDA_ERROR_INVALID_VALUE;
	*handle = found->second.handle;
	allocations[*handle].handles++;
	return CUDA_SUCCESS;
}
