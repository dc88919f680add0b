/* solo_node - an engine node without a network: engine, KV memory and the pure node core, in the caller's process.
 *
 * Owns:   all of these.  Loop: the one given. */
#ifndef TOOLS_SOLO_NODE_H
#define TOOLS_SOLO_NODE_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "coordinator/core.h"
#include "net/env.h"
#include "net/shell.h"

struct loop;
struct model_dir;
struct solo_node;

struct solo_node_options {
	const struct model_dir *model; /* with weights; outlives the node */
	const struct env *env;
	const char *device;            /* NULL or "auto", "cpu", "cuda" */
	const char *numerics;          /* NULL: exact */
	const char *isa;               /* NULL: the best there is */
	uint32_t threads;              /* 0: one a core */
	uint64_t kv_bytes;
	uint32_t block_tokens;
	uint32_t chunk_tokens;
	uint32_t batch_tokens_max;
	uint32_t context_max;
};

MUST_USE enum err solo_node_create(struct loop *loop, const struct solo_node_options *options, struct solo_node **ret_node,
				   struct why *why);
void solo_node_destroy(struct solo_node *node);
/* Its event functions. */
struct shell_core solo_node_core(struct solo_node *node);
/* What it would announce. */
void solo_node_member(const struct solo_node *node, struct coord_member *ret_member);
#endif
