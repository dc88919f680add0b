/* Device memory that other processes map: the driver's virtual memory, whose allocations have descriptors (CUDA IPC's newer half), and
 * a stream that copies from theirs.
 *
 * The driver's functions are asked for by name, as linear_tiles.cu does: no program here is linked with libcuda. */
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>
#include <cuda.h>
#include "base/log.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/kv_digest.h"
#include "kernels/peer_memory.h"

/* --- the driver ---------------------------------------------------------------------------------------------- */

typedef CUresult create_fn(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop, unsigned long long flags);
typedef CUresult release_fn(CUmemGenericAllocationHandle handle);
typedef CUresult reserve_fn(CUdeviceptr *at, size_t size, size_t alignment, CUdeviceptr wish, unsigned long long flags);
typedef CUresult unreserve_fn(CUdeviceptr at, size_t size);
typedef CUresult map_fn(CUdeviceptr at, size_t size, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags);
typedef CUresult unmap_fn(CUdeviceptr at, size_t size);
typedef CUresult access_fn(CUdeviceptr at, size_t size, const CUmemAccessDesc *access, size_t count);
typedef CUresult export_fn(void *shareable, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type, unsigned long long flags);
typedef CUresult import_fn(CUmemGenericAllocationHandle *handle, void *shareable, CUmemAllocationHandleType type);
typedef CUresult granularity_fn(size_t *granularity, const CUmemAllocationProp *prop, CUmemAllocationGranularity_flags option);
typedef CUresult retain_fn(CUmemGenericAllocationHandle *handle, void *at);

struct driver {
	create_fn *create;
	release_fn *release;
	reserve_fn *reserve;
	unreserve_fn *unreserve;
	map_fn *map;
	unmap_fn *unmap;
	access_fn *access;
	export_fn *give;
	import_fn *take;
	granularity_fn *granularity;
	retain_fn *retain;
	int ordinal;
};

static bool find(const char *name, void *ret_function)
{
	enum cudaDriverEntryPointQueryResult found;
	return cudaGetDriverEntryPointByVersion(name, (void **)ret_function, 12000, cudaEnableDefault, &found) == cudaSuccess &&
	       found == cudaDriverEntryPointSuccess;
}

/* Makes the device current on this thread, too: it may be anybody's. */
static bool find_driver(struct driver *d)
{
	*d = {};
	bool found = cudaGetDevice(&d->ordinal) == cudaSuccess && cudaSetDevice(d->ordinal) == cudaSuccess && find("cuMemCreate", &d->create) &&
		     find("cuMemRelease", &d->release) && find("cuMemAddressReserve", &d->reserve) && find("cuMemAddressFree", &d->unreserve) &&
		     find("cuMemMap", &d->map) && find("cuMemUnmap", &d->unmap) && find("cuMemSetAccess", &d->access) &&
		     find("cuMemExportToShareableHandle", &d->give) && find("cuMemImportFromShareableHandle", &d->take) &&
		     find("cuMemGetAllocationGranularity", &d->granularity) && find("cuMemRetainAllocationHandle", &d->retain);
	if (!found)
		(void)cudaGetLastError();
	return found;
}

/* Of this device, with a descriptor; a NIC may register it too. */
static CUmemAllocationProp props_of(const struct driver *d)
{
	CUmemAllocationProp prop = {};
	prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	prop.location.id = d->ordinal;
	prop.allocFlags.gpuDirectRDMACapable = 1;
	return prop;
}

/* Memory comes in pages of the device's, 2 MiB as a rule. */
static bool whole_pages(const struct driver *d, const CUmemAllocationProp *prop, size_t bytes, size_t *ret_bytes)
{
	size_t page;
	if (d->granularity(&page, prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS || page == 0)
		return false;
	*ret_bytes = (bytes + page - 1) / page * page;
	return true;
}

static enum err error_of(CUresult result)
{
	return result == CUDA_SUCCESS ? ERR_OK : result == CUDA_ERROR_OUT_OF_MEMORY ? ERR_NOMEM : ERR_DEVICE;
}

/* The handle is given up in any case: what is mapped keeps the memory. */
static enum err map_handle(const struct driver *d, CUmemGenericAllocationHandle handle, size_t bytes, bool writable, void **ret_memory)
{
	CUdeviceptr at = 0;
	CUmemAccessDesc access = {};
	access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	access.location.id = d->ordinal;
	access.flags = writable ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_READ;
	enum err e = error_of(d->reserve(&at, bytes, 0, 0, 0));
	if (e != ERR_OK) {
		(void)d->release(handle);
		return e;
	}
	CUresult mapped = d->map(at, bytes, 0, handle, 0);
	CUresult allowed = mapped == CUDA_SUCCESS ? d->access(at, bytes, &access, 1) : mapped;
	(void)d->release(handle);
	if (allowed == CUDA_SUCCESS) {
		*ret_memory = (void *)at;
		return ERR_OK;
	}
	if (mapped == CUDA_SUCCESS)
		(void)d->unmap(at, bytes);
	(void)d->unreserve(at, bytes);
	return error_of(allowed);
}

static void unmap(const struct driver *d, void *memory, size_t bytes)
{
	CUmemAllocationProp prop = props_of(d);
	size_t whole = bytes;
	if (!whole_pages(d, &prop, bytes, &whole))
		return;
	(void)d->unmap((CUdeviceptr)memory, whole);
	(void)d->unreserve((CUdeviceptr)memory, whole);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

enum err cuda_shared_take(size_t bytes, void **ret_memory)
{
	struct driver d;
	CUmemGenericAllocationHandle handle;
	size_t whole;
	if (!find_driver(&d))
		return ERR_UNSUPPORTED;
	CUmemAllocationProp prop = props_of(&d);
	if (!whole_pages(&d, &prop, bytes, &whole))
		return ERR_DEVICE;
	CUresult created = d.create(&handle, whole, &prop, 0);
	/* Where no NIC may register GPU memory, neighbours may still read it. */
	if (created != CUDA_SUCCESS && created != CUDA_ERROR_OUT_OF_MEMORY) {
		prop.allocFlags.gpuDirectRDMACapable = 0;
		created = d.create(&handle, whole, &prop, 0);
	}
	return created == CUDA_SUCCESS ? map_handle(&d, handle, whole, true, ret_memory) : error_of(created);
}

/* Everything queued has run: as cudaFree() waits, so do we.  Not while a step is recorded, by whatever thread: a wait for the whole device spoils
 * any recording, and does not wait. */
void cuda_shared_give_back(void *memory, size_t bytes)
{
	struct driver d;
	if (!find_driver(&d))
		return;
	(void)cudaDeviceSynchronize();
	unmap(&d, memory, bytes);
}

enum err cuda_export(struct device *base, const void *memory, int *ret_fd, struct why *why)
{
	struct driver d;
	CUmemGenericAllocationHandle handle;
	int fd = -1;
	if (!cuda_enter(cuda_of(base)) || !find_driver(&d))
		return why_set(why, ERR_UNSUPPORTED, "%s: its driver cannot share memory", base->props.name);
	if (d.retain(&handle, (void *)memory) != CUDA_SUCCESS)
		return why_set(why, ERR_UNSUPPORTED, "%s: this memory was not allocated to be shared", base->props.name);
	CUresult given = d.give(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
	(void)d.release(handle);
	if (given != CUDA_SUCCESS)
		return why_set(why, ERR_UNSUPPORTED, "%s: its driver gives no descriptor (error %d)", base->props.name, (int)given);
	*ret_fd = fd;
	return ERR_OK;
}

enum err cuda_import(struct device *base, int fd, size_t bytes, bool writable, void **ret_memory, struct why *why)
{
	struct driver d;
	CUmemGenericAllocationHandle handle;
	void *memory = NULL;
	size_t whole;
	if (!cuda_enter(cuda_of(base)) || !find_driver(&d))
		return why_set(why, ERR_UNSUPPORTED, "%s: its driver cannot share memory", base->props.name);
	CUmemAllocationProp prop = props_of(&d);
	if (!whole_pages(&d, &prop, bytes, &whole))
		return why_set(why, ERR_DEVICE, "%s: the size of its pages is not known", base->props.name);
	CUresult taken = d.take(&handle, (void *)(uintptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
	if (taken != CUDA_SUCCESS)
		return why_set(why, ERR_PROTOCOL, "%s: the descriptor is of no device memory (error %d)", base->props.name, (int)taken);
	enum err e = map_handle(&d, handle, whole, writable, &memory);
	if (e == ERR_DEVICE)
		return why_set(why, ERR_PROTOCOL, "%s: the peer's memory cannot be mapped: expected %zu bytes of it", base->props.name, bytes);
	if (e == ERR_OK && !cuda_range_add(cuda_of(base), memory, bytes)) {
		unmap(&d, memory, bytes);
		e = ERR_NOMEM;
	}
	if (e != ERR_OK)
		return why_set(why, e, "%s: mapping %zu bytes of a peer", base->props.name, bytes);
	*ret_memory = memory;
	return ERR_OK;
}

void cuda_unimport(struct device *base, void *memory, size_t bytes)
{
	struct driver d;
	cuda_range_remove(cuda_of(base), memory);
	if (cuda_enter(cuda_of(base)) && find_driver(&d))
		unmap(&d, memory, bytes);
}

/* --- reads -------------------------------------------------------------------------------------------------------- */

struct cuda_reader {
	struct dev_reader base;
	cudaStream_t stream;
	struct digest_piece *pieces; /* [DEV_READ_PIECES_MAX] pinned: the kernel reads them there */
	uint64_t *digests;	     /* [DEV_READ_PIECES_MAX] pinned */
	enum err failed;	     /* the first error stays: what it lost is not to be known */
};

static struct cuda_reader *reader_of(struct dev_reader *reader)
{
	return (struct cuda_reader *)reader;
}

void cuda_reader_destroy(struct dev_reader *base)
{
	struct cuda_reader *reader = reader_of(base);
	if (reader->stream) {
		(void)cudaStreamSynchronize(reader->stream);
		(void)cudaStreamDestroy(reader->stream);
	}
	dev_free(base->device, MEM_PINNED, reader->pieces, DEV_READ_PIECES_MAX * sizeof(*reader->pieces));
	dev_free(base->device, MEM_PINNED, reader->digests, DEV_READ_PIECES_MAX * sizeof(*reader->digests));
	free(reader);
}

enum err cuda_reader_create(struct device *device, struct dev_reader **ret_reader)
{
	struct cuda_reader *reader = (struct cuda_reader *)calloc(1, sizeof(*reader));
	void *pieces = NULL, *digests = NULL;
	if (!reader)
		return ERR_NOMEM;
	reader->base.device = device;
	enum err e = dev_alloc(device, MEM_PINNED, DEV_READ_PIECES_MAX * sizeof(*reader->pieces), &pieces);
	reader->pieces = (struct digest_piece *)pieces;
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_PINNED, DEV_READ_PIECES_MAX * sizeof(*reader->digests), &digests);
	reader->digests = (uint64_t *)digests;
	if (e == ERR_OK && (!cuda_enter(cuda_of(device)) || cudaStreamCreateWithFlags(&reader->stream, cudaStreamNonBlocking) != cudaSuccess))
		e = ERR_DEVICE;
	if (e != ERR_OK) {
		cuda_reader_destroy(&reader->base);
		return e;
	}
	*ret_reader = &reader->base;
	return ERR_OK;
}

static cudaError_t queue_pieces(struct cuda_reader *reader, const struct dev_piece *pieces, size_t count)
{
	size_t bytes_max = 0;
	for (size_t i = 0; i < count; i++) {
		cudaError_t error = cudaSuccess;
		if (pieces[i].from)
			error = cudaMemcpyAsync(pieces[i].to, pieces[i].from, pieces[i].bytes, cudaMemcpyDeviceToDevice, reader->stream);
		if (error != cudaSuccess)
			return error;
		reader->pieces[i] = {(const uint64_t *)pieces[i].to, (uint32_t)pieces[i].bytes};
		bytes_max = pieces[i].bytes > bytes_max ? pieces[i].bytes : bytes_max;
	}
	cudaError_t error = cuda_digest_pieces(reader->pieces, (uint32_t)count, (uint32_t)bytes_max, reader->digests, reader->stream);
	for (size_t i = 0; i < count && error == cudaSuccess; i++)
		if (pieces[i].host)
			error = cudaMemcpyAsync(pieces[i].host, pieces[i].to, pieces[i].bytes, cudaMemcpyDeviceToHost, reader->stream);
	return error;
}

enum err cuda_reader_read(struct dev_reader *base, const struct dev_piece *pieces, size_t count, uint64_t *ret_digests)
{
	struct cuda_reader *reader = reader_of(base);
	if (reader->failed != ERR_OK || !cuda_enter(cuda_of(base->device)))
		return reader->failed != ERR_OK ? reader->failed : ERR_DEVICE;
	cudaError_t error = queue_pieces(reader, pieces, count);
	/* Also what was queued before one failed: the caller has the memory back. */
	cudaError_t ended = cudaStreamSynchronize(reader->stream);
	if (error == cudaSuccess)
		error = ended;
	if (error != cudaSuccess) {
		(void)cudaGetLastError();
		log_error("reading a neighbour's device memory: %s", cudaGetErrorString(error));
		reader->failed = ERR_DEVICE;
		return ERR_DEVICE;
	}
	for (size_t i = 0; i < count; i++)
		ret_digests[i] = reader->digests[i];
	return ERR_OK;
}
