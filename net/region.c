#include "net/region.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/region_impl.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HEADER_BYTES 4096u
#define HUGE_PAGE_BYTES ((uint64_t)2 << 20)
#define REGION_BYTES_MAX ((uint64_t)1 << 46)

struct region {
	struct region_options options;
	struct region_view view;
	uint8_t *memory; /* view.base, writable */
	int fd;
	struct region_twin twin;
	pthread_t toucher;
	bool has_toucher;
	_Atomic bool goes; /* the toucher is to end */
};

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

enum err region_shape(uint64_t slot_bytes, uint64_t slot_count, uint64_t *ret_data_offset, uint64_t *ret_bytes)
{
	if (slot_bytes == 0 || slot_bytes % 64 != 0 || slot_count == 0)
		return ERR_INVALID;
	if (slot_count > REGION_BYTES_MAX / slot_bytes)
		return ERR_TOO_LARGE;
	uint64_t align = slot_bytes * slot_count >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : HEADER_BYTES;
	*ret_data_offset = round_up(HEADER_BYTES + slot_count * sizeof(uint64_t), align);
	*ret_bytes = round_up(*ret_data_offset + slot_bytes * slot_count, align);
	return ERR_OK;
}

static uint64_t *generation_of(const struct region *region, uint64_t slot)
{
	assert(slot < region->view.slot_count);
	return (uint64_t *)(region->memory + HEADER_BYTES) + slot;
}

/* A memfd of that length that can neither shrink nor grow. */
static enum err create_memory(uint64_t bytes, int *ret_fd, struct why *why)
{
	int fd = memfd_create("baton-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return why_set(why, ERR_IO, "memfd_create: %s", strerror(errno));
	if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		enum err e = errno == ENOMEM || errno == ENOSPC ? ERR_NOMEM : ERR_IO;
		why_set(why, e, "region of %llu bytes: %s", (unsigned long long)bytes, strerror(errno));
		close(fd);
		return e;
	}
	*ret_fd = fd;
	return ERR_OK;
}

static enum err map_memory(struct region *region, struct why *why)
{
	region->memory = mmap(NULL, region->view.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
	if (region->memory == MAP_FAILED)
		return why_set(why, ERR_NOMEM, "mapping a region of %llu bytes: %s",
		               (unsigned long long)region->view.bytes, strerror(errno));
	/* Advice: refused where the host does not allow huge pages for shared memory, which costs speed only. */
	(void)madvise(region->memory, region->view.bytes, MADV_HUGEPAGE);
	/* What prompts became does not belong into a core file. */
	(void)madvise(region->memory, region->view.bytes, MADV_DONTDUMP);
	/* From here on nobody, we included, can map it writable once more: law 2 held by the kernel.  Kernels
	 * before 5.1 lack this seal; the receiver maps read-only anyway. */
	(void)fcntl(region->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
	return ERR_OK;
}

/* What others write meanwhile stays as it is. */
static void touch(struct region *region)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	for (uint64_t at = 0, bytes; at < region->view.bytes && !region->goes; at += bytes) {
		uint64_t left = region->view.bytes - at;
		bytes = left < HUGE_PAGE_BYTES ? left : HUGE_PAGE_BYTES;
		if (madvise(region->memory + at, bytes, MADV_POPULATE_WRITE) == 0)
			continue;
		if (errno != EINVAL)
			break; /* no memory now: pages come as they are used, then */
		for (uint64_t i = 0; i < bytes; i += page) /* kernels before 5.14 */
			__atomic_fetch_or(region->memory + at + i, 0, __ATOMIC_RELAXED);
	}
}

static void *touch_behind(void *region)
{
	touch(region);
	return NULL;
}

enum err region_create(const struct region_options *options, struct region **ret_region, struct why *why)
{
	struct region *region = calloc(1, sizeof(*region));
	if (!region)
		return ERR_NOMEM;
	region->options = *options;
	region->twin.fd = -1;
	region->view.slot_bytes = options->slot_bytes;
	region->view.slot_count = options->slot_count;
	enum err e = region_shape(options->slot_bytes, options->slot_count, &region->view.data_offset,
	                          &region->view.bytes);
	if (e != ERR_OK) {
		why_set(why, e, "region of %llu slots of %llu bytes: expected slots of a multiple of 64 bytes, "
		        "together below 2^46", (unsigned long long)options->slot_count,
		        (unsigned long long)options->slot_bytes);
		goto free_region;
	}
	e = create_memory(region->view.bytes, &region->fd, why);
	if (e != ERR_OK)
		goto free_region;
	e = map_memory(region, why);
	if (e != ERR_OK)
		goto close_fd;
	region->view.base = region->memory;
	if (options->touch == REGION_TOUCH)
		touch(region);
	for (uint64_t slot = 0; slot < options->slot_count; slot++)
		*generation_of(region, slot) = 1;
	if (options->touch == REGION_TOUCH_BEHIND)
		region->has_toucher = pthread_create(&region->toucher, NULL, touch_behind, region) == 0;
	*ret_region = region;
	return ERR_OK;

close_fd:
	close(region->fd);
free_region:
	free(region);
	return e;
}

void region_destroy(struct region *region)
{
	if (!region)
		return;
	region->goes = true;
	if (region->has_toucher)
		pthread_join(region->toucher, NULL);
	munmap(region->memory, region->view.bytes);
	close(region->fd);
	if (region->twin.fd >= 0)
		close(region->twin.fd);
	free(region);
}

const struct region_options *region_options(const struct region *region)
{
	return &region->options;
}

void *region_slot(const struct region *region, uint64_t slot)
{
	assert(slot < region->view.slot_count);
	return region->memory + region->view.data_offset + slot * region->view.slot_bytes;
}

uint64_t region_slot_generation(const struct region *region, uint64_t slot)
{
	return __atomic_load_n(generation_of(region, slot), __ATOMIC_ACQUIRE);
}

uint64_t *region_generations(struct region *region)
{
	return generation_of(region, 0);
}

uint64_t region_slot_renew(struct region *region, uint64_t slot)
{
	uint64_t *generation = generation_of(region, slot);
	uint64_t next = __atomic_load_n(generation, __ATOMIC_RELAXED) + 1;
	__atomic_store_n(generation, next, __ATOMIC_RELAXED);
	/* No write to the slot may become visible before the new generation does. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return next;
}

enum err region_bounds(uint64_t slot_bytes, uint64_t slot_count, uint64_t offset, uint64_t length)
{
	if (length == 0 || slot_bytes == 0 || offset / slot_bytes >= slot_count)
		return ERR_DENIED;
	if (length > slot_bytes || offset % slot_bytes > slot_bytes - length)
		return ERR_DENIED;
	return ERR_OK;
}

enum err region_view_map(int fd, uint64_t slot_bytes, uint64_t slot_count, struct region_view *ret_view)
{
	struct region_view view = {.slot_bytes = slot_bytes, .slot_count = slot_count};
	struct stat stat;
	int seals = fcntl(fd, F_GET_SEALS);
	if (region_shape(slot_bytes, slot_count, &view.data_offset, &view.bytes) != ERR_OK)
		return ERR_PROTOCOL;
	/* Without the seal its owner could cut it short, and our next load would be a SIGBUS. */
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &stat) < 0 || (uint64_t)stat.st_size < view.bytes)
		return ERR_PROTOCOL;
	void *base = mmap(NULL, view.bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return ERR_NOMEM;
	(void)madvise(base, view.bytes, MADV_DONTDUMP);
	view.base = base;
	*ret_view = view;
	return ERR_OK;
}

void region_view_unmap(struct region_view *view)
{
	if (view->base)
		munmap((void *)view->base, view->bytes);
	*view = (struct region_view){0};
}

const struct region_view *region_view(const struct region *region)
{
	return &region->view;
}

int region_fd(const struct region *region)
{
	return region->fd;
}

void region_set_twin(struct region *region, const struct region_twin *twin)
{
	assert(region->twin.fd < 0 && !region->twin.memory);
	region->twin = *twin;
}

const struct region_twin *region_twin(const struct region *region)
{
	return &region->twin;
}

enum err region_view_find(const struct region_view *view, const struct handle *handle, const uint64_t **ret_generation,
                          const uint8_t **ret_data)
{
	enum err e = region_bounds(view->slot_bytes, view->slot_count, handle->offset, handle->length);
	if (e != ERR_OK)
		return e;
	*ret_generation = (const uint64_t *)(view->base + HEADER_BYTES) + handle->offset / view->slot_bytes;
	*ret_data = view->base + view->data_offset + handle->offset;
	return ERR_OK;
}

enum err region_serve(const struct region *region, uint64_t offset, uint64_t length, uint64_t generation, const uint8_t **ret_data)
{
	struct handle handle = {.offset = offset, .length = length};
	const uint64_t *now = NULL;
	enum err e = region_view_find(&region->view, &handle, &now, ret_data);
	if (e != ERR_OK)
		return e;
	return region_generation_before(now) == generation ? ERR_OK : ERR_STALE;
}
