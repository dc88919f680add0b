#include "kvstore/disk_shell.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "kvstore/disk_key.h"
#include "kvstore/disk_payload.h"
#include "kvstore/disk_shell_impl.h"

/* ---- operations */

static uint32_t padded(uint32_t bytes)
{
	return (bytes + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES * DISK_PAGE_BYTES;
}

static void add_part(struct disk_request *r, void *data, size_t bytes)
{
	if (bytes)
		r->parts[r->part_count++] = (struct iovec){data, bytes};
}

/* What is to be decoded goes into memory of its own. */
static int add_stored(struct disk_request *r)
{
	r->landing = r->shell->options.landing(r->shell->options.context, r->io.landing, 0);
	r->bounce = aligned_alloc(DISK_PAGE_BYTES, r->io.stored_bytes);
	if (!r->bounce)
		return ENOMEM;
	add_part(r, r->bounce, r->io.stored_bytes);
	return 0;
}

/* The landing as parts of whole pages. */
static int add_landing(struct disk_shell *s, struct disk_request *r)
{
	uint32_t bytes = r->io.landing_bytes, rest = bytes % DISK_PAGE_BYTES;
	r->landing = s->options.landing(s->options.context, r->io.landing, 0);
	if (s->direct && (uintptr_t)r->landing % DISK_PAGE_BYTES != 0) {
		r->bounce = aligned_alloc(DISK_PAGE_BYTES, padded(bytes));
		if (!r->bounce)
			return ENOMEM;
		memset(r->bounce + padded(bytes) - DISK_PAGE_BYTES, 0, DISK_PAGE_BYTES);
		if (r->io.kind == DISK_WRITE)
			memcpy(r->bounce, r->landing, bytes);
		add_part(r, r->bounce, padded(bytes));
		return 0;
	}
	add_part(r, r->landing, bytes - rest);
	if (rest) {
		memset(r->tail, 0, DISK_PAGE_BYTES);
		if (r->io.kind == DISK_WRITE)
			memcpy(r->tail, r->landing + bytes - rest, rest);
		add_part(r, r->tail, DISK_PAGE_BYTES);
	}
	return 0;
}

bool disk_request_advance(struct disk_request *r, size_t bytes)
{
	assert(bytes <= r->left);
	r->at += bytes;
	r->left -= bytes;
	while (bytes > 0) {
		size_t part = bytes < r->parts[0].iov_len ? bytes : r->parts[0].iov_len;
		r->parts[0].iov_base = (uint8_t *)r->parts[0].iov_base + part;
		r->parts[0].iov_len -= part;
		bytes -= part;
		if (r->parts[0].iov_len == 0) {
			r->part_count--;
			memmove(r->parts, r->parts + 1, (size_t)r->part_count * sizeof(*r->parts));
		}
	}
	return r->left == 0;
}

void disk_request_arrived(struct disk_request *r)
{
	uint32_t bytes = r->io.landing_bytes, rest = bytes % DISK_PAGE_BYTES;
	if (r->io.kind != DISK_READ || bytes == 0 || r->io.stored_bytes > 0)
		return;
	if (r->bounce)
		memcpy(r->landing, r->bounce, bytes);
	else if (rest)
		memcpy(r->landing + bytes - rest, r->tail, rest);
}

/* Of the payload as it lies on disk. */
static void tag(struct disk_request *r)
{
	const uint8_t *payload = r->landing;
	uint32_t bytes = r->io.landing_bytes;
	enum disk_encoding encoding;
	uint64_t sum;
	if (r->io.stored_bytes > 0) {
		payload = r->bounce;
		disk_peek_stored(r->io.head, r->io.stored_bytes, &encoding, &bytes, &sum);
	} else if (bytes == 0) {
		payload = r->io.head + DISK_PAGE_BYTES;
		disk_peek_stored(r->io.head, r->io.head_bytes - DISK_PAGE_BYTES, &encoding, &bytes, &sum);
	}
	if (disk_key_tag(r->shell->options.key, r->io.head, payload, bytes, r->io.tag) != ERR_OK)
		r->error = ENOMEM;
}

void disk_request_sign(struct disk_request *r)
{
	if (r->io.kind == DISK_WRITE && r->io.tag)
		tag(r);
}

static void decode(struct disk_request *r)
{
	const struct disk_io *io = &r->io;
	struct why why = {""};
	r->corrupt = disk_payload_decode(io->head, r->bounce, io->stored_bytes, r->landing, io->landing_bytes, &why) != ERR_OK;
	if (r->corrupt)
		log_warn("disk %s: record in segment %u at %llu: %s", r->shell->options.path, io->segment,
			 (unsigned long long)io->offset, why.text);
}

void disk_request_encode(struct disk_request *r)
{
	disk_payload_encode(r->landing, r->io.landing_bytes, r->io.head + DISK_PAGE_BYTES, r->io.ret_coded);
}

void disk_request_digest(struct disk_request *r)
{
	if (r->io.kind != DISK_READ || r->io.landing_bytes == 0)
		return;
	if (r->io.stored_bytes > 0)
		decode(r);
	for (uint32_t i = 0; i < r->io.landing_bytes / r->io.layer_bytes; i++)
		r->io.ret_digests[i] = digest_of(r->landing + (size_t)i * r->io.layer_bytes, r->io.layer_bytes);
	if (r->io.tag)
		tag(r);
}

static enum err tag_of(void *context, const uint8_t *header, const void *payload, size_t length, uint8_t ret_tag[DISK_TAG_BYTES])
{
	return disk_key_tag(((struct disk_shell *)context)->options.key, header, payload, length, ret_tag);
}

static const char *kind_name(enum disk_io_kind kind)
{
	static const char *const names[] = {"read", "write", "sync", "trim", "encode"};
	return names[kind];
}

void disk_request_done(struct disk_request *r)
{
	struct disk_shell *s = r->shell;
	uint64_t op = r->io.op;
	int error = r->error;
	enum err e = error ? ERR_IO : r->corrupt ? ERR_CORRUPT : ERR_OK;
	if (error)
		log_warn("disk %s: %s of segment %u at %llu: %s", s->options.path, kind_name(r->io.kind), r->io.segment,
			 (unsigned long long)r->io.offset, strerror(error));
	free(r->bounce);
	r->bounce = NULL;
	r->next = s->free_first;
	s->free_first = r;
	s->under_way--;
	if (!s->closing)
		s->options.done(s->options.context, op, e);
}

static void on_submit(void *context, const struct disk_io *io)
{
	struct disk_shell *s = context;
	struct disk_request *r = s->free_first;
	assert(r); /* depth is the sum of what the tier has under way */
	s->free_first = r->next;
	s->under_way++;
	r->io = *io;
	r->at = io->segment * s->options.segment_bytes + io->offset;
	r->part_count = r->error = 0;
	r->corrupt = false;
	r->left = 0;
	if (io->kind == DISK_ENCODE) {
		r->landing = s->options.landing(s->options.context, io->landing, 0);
		s->backend->submit(s, r);
		return;
	}
	add_part(r, io->head, io->head_bytes);
	if (io->stored_bytes > 0)
		r->error = add_stored(r);
	else if (io->landing_bytes)
		r->error = add_landing(s, r);
	r->left = io->head_bytes + (io->stored_bytes ? io->stored_bytes : padded(io->landing_bytes));
	s->backend->submit(s, r);
}

/* ---- the file */

static enum err why_errno(struct why *why, enum err e, const char *what, const char *path)
{
	return why_set(why, e, "%s %s: %s", what, path, strerror(errno));
}

static enum err lock_folder(struct disk_shell *s, struct why *why)
{
	const char *path = s->options.path;
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return why_errno(why, ERR_IO, "making the folder", path);
	s->folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->folder_fd < 0)
		return why_errno(why, ERR_IO, "opening the folder", path);
	s->lock_fd = openat(s->folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return why_errno(why, ERR_IO, "opening the lock in", path);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return why_set(why, ERR_BUSY, "%s is in use by another process", path);
	return ERR_OK;
}

/* All the room there will be, now; where the file system cannot promise it, it is said when it is missing. */
static enum err reserve(struct disk_shell *s, struct why *why)
{
	uint64_t bytes = s->options.segment_count * s->options.segment_bytes;
	if (ftruncate(s->fd, (off_t)bytes) != 0)
		return why_errno(why, ERR_IO, "sizing the file of blocks in", s->options.path);
	int result = fallocate(s->fd, 0, 0, (off_t)bytes);
	if (result != 0 && (errno == ENOSPC || errno == EFBIG))
		return why_set(why, ERR_IO, "%s has no room for %llu MiB of blocks", s->options.path, (unsigned long long)bytes >> 20);
	if (result != 0 && errno != EOPNOTSUPP)
		return why_errno(why, ERR_IO, "taking room in", s->options.path);
	if (fsync(s->fd) != 0 || fsync(s->folder_fd) != 0)
		return why_errno(why, ERR_IO, "making durable", s->options.path);
	return ERR_OK;
}

static enum err open_file(struct disk_shell *s, struct why *why)
{
	int flags = O_RDWR | O_CREAT | O_CLOEXEC;
	s->direct = true;
	s->fd = openat(s->folder_fd, "blocks", flags | O_DIRECT, 0600);
	if (s->fd < 0 && errno == EINVAL) {
		s->direct = false;
		s->fd = openat(s->folder_fd, "blocks", flags, 0600);
	}
	if (s->fd < 0)
		return why_errno(why, ERR_IO, "opening the file of blocks in", s->options.path);
	return reserve(s, why);
}

/* ---- life */

static enum err choose_backend(struct disk_shell *s, struct why *why)
{
	const char *io = s->options.io;
	bool any = strcmp(io, "auto") == 0;
	enum err e = ERR_UNSUPPORTED;
	if (!any && strcmp(io, "uring") != 0 && strcmp(io, "plain") != 0)
		return why_set(why, ERR_INVALID, "--disk-io is \"%s\", expected auto, uring or plain", io);
	if (any || strcmp(io, "uring") == 0) {
		s->backend = &disk_uring;
		e = s->backend->create(s, why);
		if (any && e != ERR_OK)
			log_info("disk %s: plain threads, because %s", s->options.path, why->text);
	}
	if (e != ERR_OK && strcmp(io, "uring") != 0) {
		s->backend = &disk_threads;
		e = s->backend->create(s, why);
	}
	if (e != ERR_OK)
		s->backend = NULL;
	return e;
}

static enum err make_requests(struct disk_shell *s)
{
	uint32_t depth = s->options.depth;
	s->requests = calloc(depth, sizeof(*s->requests));
	s->tails = aligned_alloc(DISK_PAGE_BYTES, (size_t)depth * DISK_PAGE_BYTES);
	if (!s->requests || !s->tails)
		return ERR_NOMEM;
	for (uint32_t i = 0; i < depth; i++) {
		s->requests[i].shell = s;
		s->requests[i].tail = s->tails + (size_t)i * DISK_PAGE_BYTES;
		s->requests[i].next = s->free_first;
		s->free_first = &s->requests[i];
	}
	return ERR_OK;
}

enum err disk_shell_create(struct loop *loop, const struct disk_shell_options *options, struct disk_shell **ret_shell,
			   struct why *why)
{
	assert(options->depth > 0 && options->segment_bytes % DISK_PAGE_BYTES == 0);
	struct disk_shell *s = calloc(1, sizeof(*s));
	if (!s)
		return ERR_NOMEM;
	s->options = *options;
	s->loop = loop;
	s->folder_fd = s->lock_fd = s->fd = -1;
	s->file = (struct disk_file){.context = s, .submit = on_submit, .digest = digest_of,
				     .tag = options->key ? tag_of : NULL};
	enum err e = make_requests(s);
	if (e == ERR_OK)
		e = lock_folder(s, why);
	if (e == ERR_OK)
		e = open_file(s, why);
	if (e == ERR_OK)
		e = choose_backend(s, why);
	if (e != ERR_OK) {
		disk_shell_destroy(s);
		return e;
	}
	snprintf(s->name, sizeof(s->name), "%s, %s", s->backend->name, s->direct ? "direct" : "through the page cache");
	*ret_shell = s;
	return ERR_OK;
}

const struct disk_file *disk_shell_file(struct disk_shell *shell)
{
	return &shell->file;
}

const char *disk_shell_name(const struct disk_shell *shell)
{
	return shell->name;
}

enum err disk_shell_id(uint64_t *ret_id, struct why *why)
{
	uint64_t id;
	if (getrandom(&id, sizeof(id), 0) != sizeof(id))
		return why_set(why, ERR_IO, "no random numbers: %s", strerror(errno));
	*ret_id = id | 1;
	return ERR_OK;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void disk_shell_destroy(struct disk_shell *s)
{
	if (!s)
		return;
	s->closing = true;
	if (s->backend)
		s->backend->destroy(s);
	assert(s->under_way == 0);
	close_fd(s->fd);
	close_fd(s->lock_fd);
	close_fd(s->folder_fd);
	free(s->tails);
	free(s->requests);
	free(s);
}
