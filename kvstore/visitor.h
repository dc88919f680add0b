/* visitor - who deals with the stores of a cluster and is no engine: `baton kv`, benchmarks, tests.
 *
 * A process (net/process.h) without a core: it learns from etcd who is there, has sessions like everybody, and speaks about blocks in
 * the very messages that an engine does.  What to say and when is its owner's.
 *
 * Owns:   the process, the sessions.
 * Loop:   the process's; every callback runs on it, and none after visitor_close().
 * Bounds: peer_max sessions, read_max reads under way. */
#ifndef KVSTORE_VISITOR_H
#define KVSTORE_VISITOR_H
#include <stdbool.h>
#include <stdint.h>
#include "base/id128.h"
#include "net/process.h"
#include "net/session.h"

struct visitor;

struct visitor_options {
	const struct process_settings *settings; /* outlives it */
	Wire__Role role;                         /* OPERATOR, or an engine's */
	const struct id128 *compat;              /* NULL: none */
	uint32_t peer_max, read_max;
	bool member;                             /* it announces itself; else it only sees who is there */
	void *context;
	void *(*landing)(void *context, uint32_t landing, uint32_t offset);
	/* Is a session with this member wanted?  NULL: with every store.  gone, synced, tick and drain may be NULL as well. */
	bool (*wants)(void *context, const struct member *member);
	void (*gone)(void *context, uint64_t node);
	void (*synced)(void *context);
	void (*tick)(void *context, uint64_t now_ns);
	void (*drain)(void *context);
	void (*up)(void *context, uint32_t peer);
	void (*down)(void *context, uint32_t peer, enum err why);
	void (*message)(void *context, uint32_t peer, const Wire__Envelope *envelope, uint64_t now_ns);
	/* net/shell.h: each read has one outcome, then one landing that is free. */
	void (*read_outcome)(void *context, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns);
	void (*landing_free)(void *context, uint64_t op, uint64_t now_ns);
};

/* Errors: process_open()'s, NOMEM.  Nobody is dialled before visitor_join(). */
MUST_USE enum err visitor_open(const struct visitor_options *options, struct visitor **ret_visitor, struct why *why);
MUST_USE enum err visitor_join(struct visitor *visitor, struct why *why);
struct process *visitor_process(struct visitor *visitor);
struct sessions *visitor_sessions(struct visitor *visitor);
void visitor_close(struct visitor *visitor);

/* ---- what is said to stores; peer: of a living session */

struct visitor_offer {
	uint64_t op;
	const struct id128 *key, *parent; /* parent NULL: first of its chain */
	const struct id128 *compat;
	Wire__Place place;                /* in a region of ours */
	const uint64_t *digests;          /* [layer_count] */
	uint32_t layer_count, layer_bytes;
	const char *tenant;               /* NULL: "" */
	Wire__Priority priority;
};
void visitor_offer(struct visitor *visitor, uint32_t peer, const struct visitor_offer *offer);
void visitor_look_up(struct visitor *visitor, uint32_t peer, uint64_t op, const struct id128 *keys, uint32_t count,
		     const struct id128 *compat);
void visitor_release(struct visitor *visitor, uint32_t peer, uint64_t op);
/* ask->op is the caller's to choose. */
void visitor_ask(struct visitor *visitor, uint32_t peer, Wire__KvAsk *ask);
void visitor_ask_load(struct visitor *visitor, uint32_t peer, uint64_t op);

/* Reads one layer of a block that lies at a place of that node's. */
struct visitor_read {
	uint64_t op, node;
	const Wire__Place *place;
	uint32_t layer, layer_bytes;
	uint32_t landing, landing_offset; /* options.landing's */
	uint64_t deadline_ns;             /* of the loop's clock */
};
void visitor_read(struct visitor *visitor, const struct visitor_read *read);
#endif
