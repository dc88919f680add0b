/* host_memory - how much memory this machine, and the control groups that the process is in, have left for it.
 *
 * The kernel promises memory that it does not have, and takes a process away when the pages are wanted: hours later, since a store's slabs
 * get theirs as sizes first need them (docs/decisions/memory-is-checked-and-touched-later.md).  So who will want much asks here first.
 * Regions are memfds: neither the size of /dev/shm nor its mount options bound them; a control group counts their pages.
 *
 * Loop: any thread; reads small files.  Bounds: 64 groups on the way up.  Swap is no memory. */
#ifndef NET_HOST_MEMORY_H
#define NET_HOST_MEMORY_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

struct host_memory {
	uint64_t available;   /* bytes, with what the kernel would give back of its caches; UINT64_MAX: nobody says */
	char bounded_by[200]; /* "MemAvailable of the machine", "memory.max of /kubepods/pod1" */
};

/* The least of MemAvailable and of what each group up to the topmost leaves (v2: memory.max, v1: memory.limit_in_bytes).
 * root: "" for this machine, or a folder with its proc/ and sys/. */
void host_memory_read(const char *root, struct host_memory *ret_memory);
/* ERR_NOMEM: `bytes`, and a margin of 1/32 and 64 MiB, are not there; `why` names them, the bound and the option they are from. */
MUST_USE enum err host_memory_check(const struct host_memory *memory, uint64_t bytes, const char *option, struct why *why);
/* What of it may be asked for. */
uint64_t host_memory_most(const struct host_memory *memory);
#endif
