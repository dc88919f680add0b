/* sizes - how large an engine node is where nobody says: by the device it computes on.  Pure.
 *
 * On a CPU what a laptop does well; on a GPU what its kernels are planned for (docs/gpu.md), and all the memory that is there. */
#ifndef NODE_SIZES_H
#define NODE_SIZES_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

/* 0: to be chosen. */
struct node_sizes {
	uint64_t block_tokens;
	uint64_t seq_max;
	uint64_t batch_tokens_max;
	uint64_t chunk_tokens;
};

/* Chooses what is 0, in the bounds of what is not.  ERR_INVALID: what was given does not go together, and `why` names the options. */
MUST_USE enum err node_sizes_choose(struct node_sizes *sizes, bool gpu, struct why *why);

/* Bytes of KV blocks, which lie in the host's memory, and on a GPU there as well. */
struct kv_room {
	uint64_t asked;  /* --kv-bytes; 0: what there is */
	uint64_t device; /* that the devices have room for, of `utilization`; UINT64_MAX: they compute in the host's */
	uint64_t device_all; /* the same, of all their memory */
	uint64_t host;   /* that may be asked of it (net/host_memory.h) */
};

/* *ret_bound: what set it, for the log.  ERR_NOMEM: more was asked for than is there. */
MUST_USE enum err node_kv_bytes(const struct kv_room *room, struct why *why, uint64_t *ret_bytes, const char **ret_bound);
#endif
