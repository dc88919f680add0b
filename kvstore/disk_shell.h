/* disk_shell - the disk_file of a store process: one file, through io_uring or through threads.
 *
 * The file "blocks" in a folder has room for all segments from the start, so a disk that is too small says so at the start.  It
 * is read and written past the page cache (O_DIRECT) where the file system allows that.  io_uring is used where the kernel
 * lets us (containers often do not); else some threads make the same calls one by one.  The name says what is in use.
 *
 * Digests and tags are made off the loop.
 *
 * Owns:   the file, and a lock on the folder: two processes never share one.
 * Loop:   touch only from the loop given to disk_shell_create(); done runs there, never inside submit.
 * Bounds: depth operations under way; memory for those that need a copy: landings that are not aligned to a page. */
#ifndef KVSTORE_DISK_SHELL_H
#define KVSTORE_DISK_SHELL_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "kvstore/disk_file.h"

struct disk_key;
struct loop;
struct disk_shell;

struct disk_shell_options {
	const char *path;      /* a folder; it is made when its parent exists */
	const char *io;        /* "auto", "uring", "plain" */
	uint32_t segment_count;
	uint64_t segment_bytes;
	uint32_t depth;        /* operations under way at once */
	const struct disk_key *key; /* outlives the shell; NULL: records have no tag */
	void *context;
	void *(*landing)(void *context, uint32_t landing, uint32_t offset);
	void (*done)(void *context, uint64_t op, enum err e);
};

/* INVALID: io.  BUSY: another process has the folder.  IO: it cannot be opened, or has not that much room.  UNSUPPORTED: "uring"
 * where the kernel refuses it. */
MUST_USE enum err disk_shell_create(struct loop *loop, const struct disk_shell_options *options,
				    struct disk_shell **ret_shell, struct why *why);
const struct disk_file *disk_shell_file(struct disk_shell *shell);
/* "io_uring, direct" */
const char *disk_shell_name(const struct disk_shell *shell);
/* 64 random bits, not 0: the id of a disk that has none yet. */
MUST_USE enum err disk_shell_id(uint64_t *ret_id, struct why *why);
/* Waits for what is under way; done is not called any more. */
void disk_shell_destroy(struct disk_shell *shell);
#endif
