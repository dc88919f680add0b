#include "kernels/peer_memory.h"

#include <assert.h>

#include "kernels/backend.h"

enum err dev_export(struct device *device, const void *memory, int *ret_fd, struct why *why)
{
	if (!device->backend->export_memory)
		return why_set(why, ERR_UNSUPPORTED, "%s: its memory is the host's, which regions share", device->props.name);
	return device->backend->export_memory(device, memory, ret_fd, why);
}

enum err dev_import(struct device *device, int fd, size_t bytes, bool writable, void **ret_memory, struct why *why)
{
	if (!device->backend->import_memory)
		return why_set(why, ERR_UNSUPPORTED, "%s: it reads no other device's memory", device->props.name);
	if (bytes == 0 || bytes > SIZE_MAX / 2)
		return why_set(why, ERR_PROTOCOL, "device memory of %zu bytes", bytes);
	return device->backend->import_memory(device, fd, bytes, writable, ret_memory, why);
}

void dev_unimport(struct device *device, void *memory, size_t bytes)
{
	if (memory)
		device->backend->unimport_memory(device, memory, bytes);
}

enum err dev_reader_create(struct device *device, struct dev_reader **ret_reader)
{
	return device->backend->reader_create ? device->backend->reader_create(device, ret_reader) : ERR_UNSUPPORTED;
}

void dev_reader_destroy(struct dev_reader *reader)
{
	if (reader)
		reader->device->backend->reader_destroy(reader);
}

enum err dev_reader_read(struct dev_reader *reader, const struct dev_piece *pieces, size_t count, uint64_t *ret_digests)
{
	assert(count <= DEV_READ_PIECES_MAX);
	for (size_t i = 0; i < count; i++) {
		const struct dev_piece *piece = &pieces[i];
		assert(piece->bytes > 0 && piece->bytes <= DEV_READ_BYTES_MAX && piece->bytes % 16 == 0);
		assert((uintptr_t)piece->to % 16 == 0 && (uintptr_t)piece->from % 16 == 0);
	}
	return count ? reader->device->backend->reader_read(reader, pieces, count, ret_digests) : ERR_OK;
}
