/* peer_memory - memory of a device that other processes of this machine read, and how they read it.
 *
 * The owner allocates MEM_SHARED (device.h) and hands out a descriptor, as it hands out its regions' memfds (SCM_RIGHTS).  A reader maps
 * what is behind it and copies on its own device: no byte passes through the host.  docs/decisions/device-memory-by-descriptor.md
 *
 * Owns:   a reader its stream and staging; imported memory is the caller's until dev_unimport().
 * Loop:   export, import and unimport any thread; a reader one thread at a time, beside the compute thread.
 * Bounds: DEV_READ_PIECES_MAX pieces a call, each of DEV_READ_BYTES_MAX.
 * Rules:  1 imported memory is mapped read-only, so that no fault of ours writes into a peer's (law 2); bench/gpu alone asks for more, to
 *           measure what writing would bring;
 *         2 memory lives until its owner has freed it and all that imported it have given it back: that of a dead owner can still be read;
 *         3 a read says what landed, by its digest; whether that was still what was promised is the caller's to find out. */
#ifndef KERNELS_PEER_MEMORY_H
#define KERNELS_PEER_MEMORY_H
#include "kernels/device.h"
#ifdef __cplusplus
extern "C" {
#endif

#define DEV_READ_PIECES_MAX 256
#define DEV_READ_BYTES_MAX  (UINT64_C(16) << 20)

/* `memory` as dev_alloc(MEM_SHARED) gave it.  The descriptor is the caller's to close.  ERR_UNSUPPORTED: no other process can read this
 * device's memory, and why says what is missing. */
MUST_USE enum err dev_export(struct device *device, const void *memory, int *ret_fd, struct why *why);
/* fd: a peer's, and still the caller's afterwards; bytes: as allocated there.  ERR_PROTOCOL: it is no such descriptor, or of less memory;
 * ERR_UNSUPPORTED, ERR_NOMEM. */
MUST_USE enum err dev_import(struct device *device, int fd, size_t bytes, bool writable, void **ret_memory, struct why *why);
/* Nothing may be reading it any more.  NULL is fine. */
void dev_unimport(struct device *device, void *memory, size_t bytes);

struct dev_reader;
MUST_USE enum err dev_reader_create(struct device *device, struct dev_reader **ret_reader);
void dev_reader_destroy(struct dev_reader *reader); /* NULL is fine */

struct dev_piece {
	void *to;         /* MEM_DEVICE or MEM_SHARED of ours; a multiple of 16 */
	const void *from; /* imported, or our own; a multiple of 16.  NULL: the bytes are in `to`, a NIC brought them */
	size_t bytes;     /* a multiple of 16, 16 to DEV_READ_BYTES_MAX */
	void *host;       /* NULL, or MEM_PINNED that gets what landed as well */
};
/* Copies the pieces beside operations and waits for them; ret_digests[count] are of what landed (base/digest.h).  An error is the
 * device's, or of a source that is not there any more; nothing is written any more then either. */
MUST_USE enum err dev_reader_read(struct dev_reader *reader, const struct dev_piece *pieces, size_t count, uint64_t *ret_digests);

#ifdef __cplusplus
}
#endif
#endif
