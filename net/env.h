/* env - the world as a pure core sees it: what a step may ask the shell to do.
 *
 * A core is a step function: an event goes in with the time, actions come out as calls of these hooks.  The real
 * shell binds them to streams and links, the simulated one to a seeded queue; the core is the same object code.
 *
 * Rules: 1 a hook only queues or performs; it never calls back into the core (no re-entrance): whatever comes of
 *          it arrives later as an event;
 *        2 what a hook is given by pointer is valid during the call only;
 *        3 hooks never fail: a send on a broken connection is dropped, and its end arrives as an event. */
#ifndef NET_ENV_H
#define NET_ENV_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "proto/baton.pb-c.h"

/* One read of a peer's bytes into a local block (DESIGN law 2).  Place and lengths are of the peer's region. */
struct env_read {
	uint64_t op;           /* the core's number for it, unique while it lives */
	uint64_t node;         /* whose memory */
	uint32_t region;
	uint64_t offset;       /* in the peer's region */
	uint32_t length;       /* bytes */
	uint64_t generation;   /* of the slot that holds offset */
	uint32_t landing;      /* local block number */
	uint32_t landing_offset; /* bytes into that block */
	uint64_t digest;       /* expected.  The core compares; a shell may choose by it where to read */
	uint64_t deadline_ns;  /* absolute, of this node's monotonic clock */
};

#define ENV_LINK_REFUSED "refused"

struct env {
	void *context;
	/* Sends on an open connection, in order. */
	void (*send)(void *context, uint32_t conn, const Wire__Envelope *envelope);
	/* Closes; no closed event follows. */
	void (*close)(void *context, uint32_t conn);
	/* Connects to a member by id; an opened or a dial-failed event follows. */
	void (*dial)(void *context, uint64_t node);
	/* A session began: the link may read from this peer at this address; it ended: every read of it ends too. */
	void (*link_open)(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length);
	void (*link_close)(void *context, uint64_t node);
	/* Starts a read.  Two events answer it, in this order, each exactly once: its outcome (OK with the digest of
	 * what landed, or why not), and that the landing may be used again.  After an abandoned read (deadline, cancel,
	 * peer gone) the second may come much later: the landing is in quarantine until then. */
	void (*read)(void *context, const struct env_read *read);
	/* Asks for an early end; the outcome is then CANCELED unless it was under way already. */
	void (*read_cancel)(void *context, uint64_t op);
	/* What carries reads from this node, as people call it: "mapped", "ucx:tcp"; ENV_LINK_REFUSED: nothing that is required
	 * reaches it.  NULL hook: not known. */
	const char *(*link_name)(void *context, uint64_t node);
	/* What alone may carry reads: "mapped, rdma".  NULL hook, "": anything. */
	const char *(*link_required)(void *context);
	/* Bytes that came from this node's device to ours, since the link to it was opened.  NULL hook: none. */
	uint64_t (*link_device_bytes)(void *context, uint64_t node);
	/* A peer refused this process: it knows a later life of this node's name, and whether that one lives.  NULL: whoever
	 * shares its name with nobody (net/claim.h says what follows). */
	void (*outranked)(void *context, uint64_t incarnation, bool lives);
	/* A peer of another cluster greeted, and there is no session with it.  NULL: nobody wants to know. */
	void (*stranger)(void *context, const char *name, const char *cluster);
	/* There are as many sessions as may be, `most`, and that one more gets none.  NULL: nobody wants to know. */
	void (*crowded)(void *context, const char *name, uint32_t most);
	/* Connections not let in so far, for a reason (enum refusal).  NULL hook: not counted. */
	uint64_t (*refused)(void *context, unsigned reason);
	/* One line of the story: "prefill 1 > take request 7: 2048 tokens, 512 cached".  NULL: not wanted. */
	void (*trace)(void *context, const char *format, ...) __attribute__((format(printf, 2, 3)));
};

#define env_trace(env, ...)                                                \
	do {                                                               \
		if ((env)->trace)                                          \
			(env)->trace((env)->context, __VA_ARGS__);         \
	} while (0)
#endif
