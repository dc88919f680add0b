/* wire - the control streams of one process as the pure cores see them: numbered connections that carry envelopes.
 *
 * Listens, dials members by id (from an address book that the membership fills), packs and unpacks, and hands
 * events to the core's shell.  Its send, close and dial have the shape of `struct env`'s hooks.
 *
 * Owns:   the listener, the streams, one arena for the message being handled.
 * Loop:   the one given; events come from the loop, never inside a call of this header (net/env.h rule 1).
 * Bounds: conn_max connections, address_max addresses, one frame of PROTO_FRAME_MAX being unpacked.
 * Rules:  1 a peer whose frame does not unpack is closed: it broke the protocol;
 *         2 over TLS a Hello says what its sender's certificate says, or the connection is closed and counted
 *           (tls_refused): name, id and role; and whoever is dialled by id must have that id's certificate;
 *         3 a peer that does not take its frames (queue full) is closed: its session would end anyway, and nobody
 *           may wait for it. */
#ifndef NET_WIRE_H
#define NET_WIRE_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "proto/baton.pb-c.h"

struct loop;
struct tls;
struct wire;

struct wire_callbacks {
	void *context;
	void (*opened)(void *context, uint32_t conn, uint64_t dialed);
	void (*dial_failed)(void *context, uint64_t dialed);
	void (*closed)(void *context, uint32_t conn);
	void (*message)(void *context, uint32_t conn, const Wire__Envelope *envelope);
};

struct wire_options {
	const char *listen_url;       /* "tcp://127.0.0.1:0"; NULL: dials only */
	uint32_t conn_max;            /* 0: 1024 */
	uint32_t address_max;         /* 0: 4096 */
	struct tls *tls;              /* outlives the wire; NULL: plain */
	struct wire_callbacks callbacks;
};

MUST_USE enum err wire_create(struct loop *loop, const struct wire_options *options, struct wire **ret_wire,
			      struct why *why);
void wire_destroy(struct wire *wire);
uint16_t wire_port(const struct wire *wire);
/* Where a member listens; replaces what was known. */
MUST_USE enum err wire_address_set(struct wire *wire, uint64_t node, const char *url);

/* The hooks; context is the wire. */
void wire_send(void *wire, uint32_t conn, const Wire__Envelope *envelope);
void wire_close(void *wire, uint32_t conn);
void wire_dial(void *wire, uint64_t node);

struct wire_counts {
	uint64_t frames_in, frames_out, bytes_in, bytes_out;
	uint64_t refused_frames; /* rule 1 */
	uint64_t overflows;      /* rule 3 */
	uint32_t open;
};
void wire_counts(const struct wire *wire, struct wire_counts *ret_counts);
#endif
