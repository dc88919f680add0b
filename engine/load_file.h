/* load_file - one file of weights, read past the page cache where that helps.
 *
 * Owns:   its descriptors, until load_file_close().
 * Thread: one at a time; blocks.
 * Rules:  1 what the page cache has is copied from there; the rest is read directly (O_DIRECT), which leaves the cache to
 *           others, and plainly where the file system refuses that;
 *         2 a file that is not the one that was opened, ends early or gives an error is an error that names file and offset. */
#ifndef ENGINE_LOAD_FILE_H
#define ENGINE_LOAD_FILE_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "base/why.h"

struct weights;

#define LOAD_ALIGN 4096 /* of memory, offsets and lengths of direct reads: no disk wants more */

/* The system's call, for tests in its place: bytes read, 0 at the file's end, or -1 and errno. */
struct load_hooks {
	void *context;
	ssize_t (*read)(void *context, int fd, void *to, size_t bytes, uint64_t offset, int flags);
};

struct load_file {
	const char *name;
	int fd;
	int direct_fd; /* -1: refused */
	uint64_t cached_bytes; /* of those read, what came from the page cache at once */
	const struct load_hooks *hooks; /* NULL: preadv2() */
};

/* Zeroed memory that is not open, or a file that is: closed before. */
MUST_USE enum err load_file_open(const struct weights *weights, uint32_t shard_index, const struct load_hooks *hooks,
				 struct why *why, struct load_file *file);
void load_file_close(struct load_file *file);

/* Memory for a read of so many bytes. */
static inline size_t load_file_room(size_t bytes)
{
	return (bytes + 2 * LOAD_ALIGN - 1) / LOAD_ALIGN * LOAD_ALIGN;
}

/* Reads them into memory (LOAD_ALIGN; load_file_room(bytes)); they begin at the address returned in it. */
MUST_USE enum err load_file_read(struct load_file *file, uint64_t offset, size_t bytes, uint8_t *memory, struct why *why,
				 uint8_t **ret_data);
#endif
