/* session - one peer's standing with this node (law 3): who it is, which incarnation, and whether it lives.  Pure.
 *
 * A connection becomes a session when both have said Hello.  Beats renew it.  The holder of anything counts from
 * receipt on its own clock; the user stops at its own send time of the last acknowledged beat plus the term less a
 * margin: no deadline crosses a node as a timestamp.  When it ends, `down` is called once, and all that was held
 * for the peer must be freed there and then.
 *
 *   (none) --opened--> GREETING --Hello--> UP --silence 2 s, close, newer incarnation--> (none)
 *
 * Rules: 1 an incarnation lower than one seen of the node is refused for ever, and told which one was seen (Refused);
 *        2 there is at most one session with a node: a newer connection ends the older one; none with another cluster's,
 *          whatever else it says: its names and numbers mean other nodes than ours;
 *        3 who dials: a coordinator every engine and store, an engine every store, of two engines or two stores the
 *          one with the smaller id.  So no pair ever dials both ways.
 *
 *        4 who is full says so (env's crowded) and dials nobody; whoever dials it gets no greeting, so no session begins there to end
 *          at once.  It comes again (every 2 s), and has a place as soon as there is one.
 *
 * Memory: the caller's.  Loop: the core's owner.  Bounds: peer_max sessions, twice as many connections and 16. */
#ifndef NET_SESSION_H
#define NET_SESSION_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "net/env.h"

#define PEER_NONE UINT32_MAX

enum {
	SESSION_NAME_MAX = 63, /* bytes, of a cluster's too */
	SESSION_ADDRESS_MAX = 8192, /* bytes of a link address */
};

/* Times of law 3; one factor scales them all on slow test machines. */
#define SESSION_BEAT_NS    250000000ull
#define SESSION_TERM_NS    2000000000ull
#define SESSION_MARGIN_NS  250000000ull
#define SESSION_REDIAL_NS  200000000ull

struct session_peer {
	uint64_t node;
	uint64_t incarnation;
	Wire__Role role;
	bool has_compat;
	struct id128 compat;
	uint32_t weight;   /* of a store: MiB for blocks */
	uint32_t replicas; /* of a store: copies of each block */
	bool draining;     /* it said so: sessions_note_draining() */
	char name[SESSION_NAME_MAX + 1];
};

struct session_options {
	uint64_t node;
	uint64_t incarnation;
	Wire__Role role;
	const char *name;
	const char *cluster;         /* NULL: "" */
	const struct id128 *compat;  /* NULL: none (coordinator, store) */
	uint32_t weight, replicas;   /* of a store: session_peer */
	const uint8_t *link_address; /* copied */
	size_t link_address_length;
	uint32_t peer_max;
	uint32_t time_factor;        /* multiplies the times above; 0: 1 */
	const struct env *env;       /* outlives the sessions */
	void *context;
	/* Called from within the functions below; may send, must not destroy. */
	void (*up)(void *context, uint32_t peer);
	/* Everything held for it must be free when this returns.  What we use of it ended before: the link to it is closed
	 * a margin earlier (env's link_close), so reads under way have failed by then.  The peer's number may be given to another from the return on. */
	void (*down)(void *context, uint32_t peer, enum err why);
};

struct sessions;

size_t sessions_bytes(const struct session_options *options);
struct sessions *sessions_init(void *memory, const struct session_options *options);

/* Wants a session with a member: dials now and again until there is one.  incarnation: the one announced, 0: any. */
void sessions_want(struct sessions *sessions, uint64_t node, uint64_t incarnation, uint64_t now_ns);
/* Stops dialling; a living session goes on until it ends by itself. */
void sessions_unwant(struct sessions *sessions, uint64_t node);

/* Events of connections.  node: whom we dialled, 0: they dialled us. */
void sessions_opened(struct sessions *sessions, uint32_t conn, uint64_t node, uint64_t now_ns);
void sessions_dial_failed(struct sessions *sessions, uint64_t node, uint64_t now_ns);
void sessions_closed(struct sessions *sessions, uint32_t conn, uint64_t now_ns);
/* Takes Hello and Beat, and returns PEER_NONE; any other message is the core's: its sender is returned, or PEER_NONE
 * when it is of no session (dropped: it comes too early or too late). */
uint32_t sessions_message(struct sessions *sessions, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns);
/* Beats, ends and dials what is due.  Call at least every SESSION_BEAT_NS / 2. */
void sessions_tick(struct sessions *sessions, uint64_t now_ns);
/* Ends a session from this side: the peer broke the protocol.  `down` is called. */
void sessions_end(struct sessions *sessions, uint32_t peer, enum err why, uint64_t now_ns);

/* This node goes on under a higher incarnation: all sessions end (`down` is called), and begin anew.  The link address is
 * that of the new incarnation. */
void sessions_renew(struct sessions *sessions, uint64_t incarnation, const uint8_t *link_address,
		    size_t link_address_length, uint64_t now_ns);

/* Sends to a living session. */
void sessions_send(struct sessions *sessions, uint32_t peer, const Wire__Envelope *envelope);
/* The session with a node, or PEER_NONE. */
uint32_t sessions_find(const struct sessions *sessions, uint64_t node);
/* A living session's peer, NULL when that number is of none. */
const struct session_peer *sessions_peer(const struct sessions *sessions, uint32_t peer);
/* The peer says that it takes no new work, or takes it again. */
void sessions_note_draining(struct sessions *sessions, uint32_t peer, bool draining);
uint32_t sessions_max(const struct sessions *sessions); /* numbers are below it */
uint32_t sessions_count(const struct sessions *sessions);
#endif
