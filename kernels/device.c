#include "kernels/device.h"

#include <assert.h>

#include "kernels/backend.h"

enum err device_open(const struct device_options *options, struct why *why, struct device **ret_device)
{
	if (options->kind == DEVICE_CPU)
		return cpu_device_open(options, why, ret_device);
#ifdef BATON_CUDA
	return cuda_device_open(options, why, ret_device);
#else
	return why_set(why, ERR_UNSUPPORTED, "device: this build has no CUDA");
#endif
}

void device_make_current(enum device_kind kind, uint32_t index)
{
#ifdef BATON_CUDA
	if (kind == DEVICE_CUDA)
		cuda_device_make_current(index);
#endif
}

void device_close(struct device *device)
{
	if (device)
		device->backend->close(device);
}

const struct device_props *device_props(const struct device *device)
{
	return &device->props;
}

enum err device_join(struct device *const *devices, uint32_t count, struct why *why)
{
	assert(count > 0 && count <= DEVICES_MAX);
	return count > 1 ? devices[0]->backend->join(devices, count, why) : ERR_OK;
}

void device_meet(struct device *device)
{
	device->backend->meet(device);
}

enum err device_sync(struct device *device)
{
	return device->backend->sync(device);
}

uint64_t device_mark(struct device *device)
{
	return device->backend->mark(device);
}

enum err device_wait(struct device *device, uint64_t mark)
{
	return device->backend->wait(device, mark);
}

bool device_replay(struct device *device, uint64_t key)
{
	return device->backend->replay(device, key);
}

bool device_recorded(struct device *device)
{
	return device->backend->recorded(device);
}

double device_read_rate(struct device *device)
{
	return device->backend->read_rate(device);
}

enum err dev_alloc(struct device *device, enum mem_kind kind, size_t bytes, void **ret_memory)
{
	if (bytes == 0 || bytes > SIZE_MAX / 2)
		return ERR_NOMEM;
	return device->backend->alloc(device, kind, bytes, ret_memory);
}

void dev_free(struct device *device, enum mem_kind kind, void *memory, size_t bytes)
{
	if (memory)
		device->backend->free(device, kind, memory, bytes);
}

enum err dev_copy(struct device *device, void *to, const void *from, size_t bytes)
{
	return device->backend->copy(device, to, from, bytes);
}

void dev_copy_lines(struct device *device, const struct copy_lines *lines)
{
	if (lines->count > 0 && lines->bytes > 0)
		device->backend->copy_lines(device, lines);
}

void dev_fetch(struct device *device, const struct fetch_piece *pieces, size_t count)
{
	assert(count <= DEV_FETCH_PIECES_MAX);
	for (size_t i = 0; i < count; i++)
		assert(pieces[i].bytes > 0);
	if (count > 0)
		device->backend->fetch(device, pieces, count);
}

enum err dev_pin(struct device *device, void *memory, size_t bytes)
{
	return device->backend->pin(device, memory, bytes);
}

void dev_unpin(struct device *device, void *memory, size_t bytes)
{
	device->backend->unpin(device, memory, bytes);
}

void dev_zero(struct device *device, void *memory, size_t bytes)
{
	device->backend->zero(device, memory, bytes);
}
