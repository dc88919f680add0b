/* registry - the nodes: what they announced, whether a session lives, what they have to do.  Pure.
 *
 * A node is in while its key is there or its session lives: a key that vanishes under a living session is noise
 * (DESIGN 6).  What a node reports is 250 ms old, so what this coordinator has given it since is counted here:
 * `own` is exact, `other` is what the last report showed beyond that (the work of other coordinators).
 *
 * Memory: the caller's.  Loop: the core's.  Bounds: nodes_max nodes. */
#ifndef COORDINATOR_REGISTRY_H
#define COORDINATOR_REGISTRY_H
#include "base/layer_groups.h"
#include "coordinator/core.h"

#define NODE_NONE UINT32_MAX

enum { REGISTRY_REFUSED_MAX = 64 }; /* links of a node: as many as it reports (net/link_report.h) */

struct work {
	uint64_t tokens;    /* of prompts, not yet computed */
	uint32_t sequences;
	uint32_t jobs;
};

struct registry_node {
	uint64_t id; /* 0: the slot is free */
	bool member;
	struct coord_member announced;
	/* of the session */
	uint32_t peer; /* PEER_NONE: none */
	uint64_t incarnation;
	Wire__Role role;
	struct id128 compat;
	/* what it has to do */
	struct work own, other;
	/* as last reported; load_ns 0: never */
	uint64_t load_ns;
	uint32_t jobs_max, blocks_used, blocks_cached, blocks_total, blocks_reserved, sessions;
	uint32_t group_count; /* as reported */
	struct coord_blocks groups[LAYER_GROUPS_MAX];
	uint64_t steps, offer_lag;
	struct coord_replica replica;
	float prefill_tokens_per_s, step_seconds;
	bool draining;
	uint64_t draining_since_ns; /* as seen here */
	uint64_t epoch, directives_refused;
	/* what this coordinator, leading, has directed */
	enum coord_wish wish;
	uint64_t wished_ns; /* said last; 0: is to be said */
	uint32_t transport_count;
	struct coord_transport transports[COORD_TRANSPORTS_MAX];
	/* Lives of nodes that it cannot read, for nothing that it requires reaches them. */
	struct {
		uint64_t node, incarnation;
	} links_refused[REGISTRY_REFUSED_MAX];
	uint32_t links_refused_count;
	char links_required[COORD_REQUIRED_MAX + 1];
	uint64_t refused[REFUSAL_COUNT];
	struct coord_disk disk;
	/* overlays of this coordinator */
	uint64_t suspect_until_ns;
	uint64_t full_until_ns; /* it refused for want of room */
	uint64_t resync_ns;     /* when a snapshot was asked for; 0: not waiting */
};

struct registry {
	struct registry_node *nodes; /* [nodes_max] */
	uint32_t nodes_max;
	uint32_t count_max; /* slots at and beyond were never used */
};

size_t registry_bytes(uint32_t nodes_max);
void registry_init(struct registry *registry, void *memory, uint32_t nodes_max);

/* The slot of a node, or NODE_NONE. */
uint32_t registry_find(const struct registry *registry, uint64_t id);
/* Puts or replaces what a node announces.  ERR_AGAIN: no slot is free. */
MUST_USE enum err registry_member_set(struct registry *registry, const struct coord_member *member, uint32_t *ret_slot);
void registry_member_remove(struct registry *registry, uint32_t slot);
/* ERR_AGAIN: no slot is free. */
MUST_USE enum err registry_up(struct registry *registry, const struct session_peer *info, uint32_t peer,
			      uint32_t *ret_slot);
void registry_down(struct registry *registry, uint32_t slot);
/* The node says that it drains, in a report or a refusal. */
void registry_draining(struct registry_node *node, bool draining, uint64_t now_ns);
void registry_load(struct registry_node *node, const Wire__Load *load, uint64_t now_ns);

bool node_serves(const struct registry_node *node, const char *model);
/* The link by which reader would read owner is refused. */
bool node_refuses(const struct registry_node *reader, const struct registry_node *owner);
static inline bool node_lives(const struct registry_node *node)
{
	return node->id && node->peer != PEER_NONE;
}
static inline bool node_prefills(const struct registry_node *node)
{
	return node->role == WIRE__ROLE__ROLE_PREFILL || node->role == WIRE__ROLE__ROLE_BOTH;
}
static inline bool node_decodes(const struct registry_node *node)
{
	return node->role == WIRE__ROLE__ROLE_DECODE || node->role == WIRE__ROLE__ROLE_BOTH;
}
/* What it has to do, with what was given since its last report. */
static inline struct work node_work(const struct registry_node *node)
{
	return (struct work){node->own.tokens + node->other.tokens, node->own.sequences + node->other.sequences,
			     node->own.jobs + node->other.jobs};
}
#endif
