/* shell - binds a pure core to the world: streams carry its messages, the link its reads.
 *
 * Every process that runs a core (engine node, store, coordinator) has one.  It owns the core's `struct env`, and
 * forwards what happens to the core's event functions with the loop's clock.
 *
 * Owns:   the wire, the reads under way.  Not the link, not the core.
 * Loop:   the one given.
 * Bounds: links to peer_max nodes, twice as many connections and 64 (1,024 at least); read_max reads under way: the core's own bound.  Each is found by its op in a few steps (op_table.h), as a core takes back all
 *         of a fetch at once. */
#ifndef NET_SHELL_H
#define NET_SHELL_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "net/env.h"
#include "net/wire.h"

struct link;
struct loop;
struct shell;
struct tls;

/* The core's event functions, as the shell calls them. */
struct shell_core {
	void *core;
	void (*opened)(void *core, uint32_t conn, uint64_t dialed, uint64_t now_ns);
	void (*dial_failed)(void *core, uint64_t dialed, uint64_t now_ns);
	void (*closed)(void *core, uint32_t conn, uint64_t now_ns);
	void (*message)(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns);
	void (*tick)(void *core, uint64_t now_ns);
	/* Only with a link. */
	void (*read_outcome)(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns);
	void (*landing_free)(void *core, uint64_t op, uint64_t now_ns);
};

struct shell_options {
	const char *listen_url;
	const char *cluster; /* for what is said of strangers */
	struct tls *tls;    /* NULL: plain */
	uint64_t tick_ns;   /* 0: 20 ms */
	struct link *link;  /* NULL: a coordinator reads nobody's memory */
	uint32_t link_required; /* link_options.required: for env's hook of that name */
	uint32_t read_max;
	uint32_t peer_max;  /* sessions of the core, 1..4096 */
	/* The memory of a landing (env_read: landing, landing_offset). */
	void *context;
	void *(*landing)(void *context, uint32_t landing, uint32_t offset);
	/* Where it lies on our device as well, or NULL (link.h).  NULL hook: nowhere. */
	void *(*twin)(void *context, uint32_t landing, uint32_t offset);
	/* env's hook of that name. */
	void *outranked_context;
	void (*outranked)(void *context, uint64_t incarnation, bool lives);
	bool trace;         /* the core's story goes to the log, at level debug */
};

MUST_USE enum err shell_create(struct loop *loop, const struct shell_options *options, struct shell **ret_shell,
			       struct why *why);
/* The core's env; outlives the core. */
const struct env *shell_env(struct shell *shell);
/* Before the loop runs; events flow from now on. */
void shell_attach(struct shell *shell, const struct shell_core *core);
/* The core hears nothing any more: what reads are to end with the link end unheard. */
void shell_detach(struct shell *shell);
/* The link to a node broke while its session may live: opens it anew, at most twice a second (link.h, on_peer_lost).
 * refused: what reaches it is not what is required, and will not be before it comes again with another address. */
void shell_link_lost(struct shell *shell, uint64_t node, bool refused);
struct wire *shell_wire(struct shell *shell);
/* Closes all; the core hears nothing any more.  Destroy the link before: its callbacks end here. */
void shell_destroy(struct shell *shell);
#endif
