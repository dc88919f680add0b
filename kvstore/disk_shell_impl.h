/* disk_shell_impl - what the shells of the SSD tier share; nobody else includes it. */
#ifndef KVSTORE_DISK_SHELL_IMPL_H
#define KVSTORE_DISK_SHELL_IMPL_H
#include <stdbool.h>
#include <sys/uio.h>
#include "kvstore/disk_shell.h"
#include "net/copy.h"
#include "net/loop.h"

/* Head, landing, and the page that its last bytes share with nothing. */
enum { DISK_PARTS_MAX = 3 };

/* One operation on its way. */
struct disk_request {
	struct disk_io io;
	uint64_t at;       /* in the file; moves on with what is done */
	uint64_t left;     /* bytes */
	struct iovec parts[DISK_PARTS_MAX];
	int part_count;
	uint8_t *tail;     /* [DISK_PAGE_BYTES] */
	uint8_t *bounce;   /* of a landing that is not aligned, or of a payload that is to be decoded; NULL: none */
	uint8_t *landing;
	int error;         /* errno */
	bool corrupt;      /* what was read cannot be decoded */
	struct copy_job job; /* io_uring: what is done off the loop */
	struct disk_shell *shell;
	struct disk_request *next;
};

struct disk_backend {
	const char *name;
	/* UNSUPPORTED: not here. */
	enum err (*create)(struct disk_shell *shell, struct why *why);
	void (*submit)(struct disk_shell *shell, struct disk_request *request);
	void (*destroy)(struct disk_shell *shell);
};
extern const struct disk_backend disk_threads, disk_uring;

struct disk_shell {
	struct disk_shell_options options;
	struct loop *loop;
	struct disk_file file;
	const struct disk_backend *backend;
	void *state; /* the backend's */
	char name[40];
	int folder_fd, lock_fd, fd;
	bool direct;
	bool closing;
	uint32_t under_way;
	struct disk_request *requests; /* [depth] */
	struct disk_request *free_first;
	uint8_t *tails;
};

/* Any thread: so many bytes of it are done; true: and that was the rest. */
bool disk_request_advance(struct disk_request *request, size_t bytes);
/* Any thread: a read has come: what went through copies is where it belongs. */
void disk_request_arrived(struct disk_request *request);
/* Any thread: the tag of what is to be written; decoding, digests and tag of what was read; what a landing is encoded to. */
void disk_request_sign(struct disk_request *request);
void disk_request_digest(struct disk_request *request);
void disk_request_encode(struct disk_request *request);
/* Loop: it is over. */
void disk_request_done(struct disk_request *request);
#endif
