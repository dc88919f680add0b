#include "engine/load_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "model/safetensors.h"

enum err load_file_open(const struct weights *weights, uint32_t shard_index, const struct load_hooks *hooks,
			struct why *why, struct load_file *file)
{
	int fd, direct_fd = -1;
	load_file_close(file);
	enum err e = weights_shard_open(weights, shard_index, 0, why, &fd);
	if (e != ERR_OK)
		return e;
	e = weights_shard_open(weights, shard_index, O_DIRECT, why, &direct_fd);
	if (e != ERR_OK && e != ERR_UNSUPPORTED) {
		close(fd);
		return e;
	}
	*file = (struct load_file){.name = weights_shard_name(weights, shard_index), .fd = fd,
				   .direct_fd = e == ERR_OK ? direct_fd : -1, .hooks = hooks};
	return ERR_OK;
}

void load_file_close(struct load_file *file)
{
	if (!file->name)
		return;
	close(file->fd);
	if (file->direct_fd >= 0)
		close(file->direct_fd);
	*file = (struct load_file){0};
}

static ssize_t read_some(const struct load_file *file, int fd, void *to, size_t bytes, uint64_t offset, int flags)
{
	struct iovec piece = {to, bytes};
	ssize_t got;
	do
		got = file->hooks ? file->hooks->read(file->hooks->context, fd, to, bytes, offset, flags)
				  : preadv2(fd, &piece, 1, (off_t)offset, flags);
	while (got < 0 && errno == EINTR);
	return got;
}

/* Whole pages around what is still missing; returns how many bytes there are now. */
static size_t read_directly(struct load_file *file, uint64_t offset, size_t bytes, size_t got, uint8_t *memory)
{
	uint64_t begin = offset / LOAD_ALIGN * LOAD_ALIGN, end = (offset + bytes + LOAD_ALIGN - 1) / LOAD_ALIGN * LOAD_ALIGN;
	while (got < bytes && file->direct_fd >= 0) {
		uint64_t at = (offset + got) / LOAD_ALIGN * LOAD_ALIGN;
		ssize_t more = read_some(file, file->direct_fd, memory + (at - begin), end - at, at, 0);
		if (more < 0 && errno == EINVAL) {
			close(file->direct_fd);
			file->direct_fd = -1;
		}
		if (more <= 0 || at + (uint64_t)more <= offset + got)
			break;
		got = at + (uint64_t)more - offset;
	}
	return got < bytes ? got : bytes;
}

enum err load_file_read(struct load_file *file, uint64_t offset, size_t bytes, uint8_t *memory, struct why *why,
			uint8_t **ret_data)
{
	uint8_t *data = memory + offset % LOAD_ALIGN;
	ssize_t cached = read_some(file, file->fd, data, bytes, offset, RWF_NOWAIT);
	size_t got = cached > 0 ? (size_t)cached : 0;
	file->cached_bytes += got;
	got = read_directly(file, offset, bytes, got, memory);
	while (got < bytes) {
		ssize_t more = read_some(file, file->fd, data + got, bytes - got, offset + got, 0);
		if (more < 0)
			return why_set(why, ERR_IO, "%s: reading %zu bytes at %llu: %s", file->name, bytes - got,
				       (unsigned long long)(offset + got), strerror(errno));
		if (more == 0)
			return why_set(why, ERR_CORRUPT, "%s: ends at %llu, expected %zu more bytes: it was changed while it was read",
				       file->name, (unsigned long long)(offset + got), bytes - got);
		got += (size_t)more;
	}
	*ret_data = data;
	return ERR_OK;
}
