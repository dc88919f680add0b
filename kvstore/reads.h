/* reads - the reads of peers' blocks that are under way on an engine node.  Pure.
 *
 * Each read lands in one layer of one local block and holds a reference on that block until the transport says that
 * the landing is free: so a landing whose read was abandoned is in quarantine by reference count alone (law 2).
 * The digest of what landed is compared here with the announced one: what does not match is ERR_CORRUPT.
 *
 * Memory: the caller's.  Loop: the node's.  Bounds: read_max under way; more are ERR_AGAIN. */
#ifndef KVSTORE_READS_H
#define KVSTORE_READS_H
#include <stdbool.h>
#include <stddef.h>
#include "kvstore/local.h"

/* Whose read it is: the module's number, and two of its own. */
struct kv_read_owner {
	uint8_t module;
	uint32_t job;
	uint32_t serial;  /* of the job slot's use: a later user of the slot is another */
	uint32_t group;
	uint32_t block_index;
	uint32_t layer; /* of the group */
};

struct kv_read_request {
	uint64_t node;
	uint32_t region;
	uint64_t offset;     /* of the block in the peer's region */
	uint64_t generation;
	uint32_t landing;    /* local block */
	uint32_t layer;      /* of the landing's layer group */
	uint64_t digest;     /* expected */
	uint64_t deadline_ns;
	struct kv_read_owner owner;
};

/* peer_max: of the sessions. */
size_t kv_reads_bytes(uint32_t read_max, uint32_t peer_max);
struct kv_reads *kv_reads_init(void *memory, uint32_t read_max, uint32_t peer_max, struct kv_local *local);
MUST_USE enum err kv_reads_start(struct kv_reads *reads, const struct kv_read_request *request);
/* Asks the transport to end all reads of one job; their outcomes are not reported any more. */
void kv_reads_abandon(struct kv_reads *reads, uint8_t module, uint32_t job, uint32_t serial);
/* The env's two answers.  Each returns whether a verdict is to be told now: a bad one at the outcome, a good one only
 * when the landing is free, since until then the transport may write there again.  An abandoned read tells nobody. */
bool kv_reads_outcome(struct kv_reads *reads, uint64_t op, enum err e, uint64_t digest,
		      struct kv_read_owner *ret_owner, enum err *ret_verdict);
bool kv_reads_landing_free(struct kv_reads *reads, uint64_t op, struct kv_read_owner *ret_owner,
			   enum err *ret_verdict);
uint32_t kv_reads_count(const struct kv_reads *reads);
uint32_t kv_reads_room(const struct kv_reads *reads);
/* Verified bytes that came from the peer of a session since that node was first read from. */
uint64_t kv_reads_bytes_from(const struct kv_reads *reads, uint32_t peer);
#endif
