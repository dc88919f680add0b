/* bulk - reads of peers' memory over our own TCP, inside TLS or plain: lanes that encrypt, send and receive.
 *
 * Serves the regions it is told of, and reads those of peers.  A lane is a thread with a loop of its own, so that beats
 * never wait behind a megabyte being encrypted; a reader has a connection to a peer in each lane, and the next piece goes
 * where the least is under way.  The functions below are called from the home loop, and answers come there by posts.
 *
 * Owns:   the threads, their loops, the listening socket, all connections.  Not regions, not landings.
 * Loop:   the home loop; callbacks run there, never inside a call of this header.
 * Bounds: BULK_LANES_MAX lanes; BULK_CLIENTS_MAX connections of readers, each with BULK_ASKS_MAX asks waiting (then its socket is not read) and 64 KiB to send.
 * Rules:  1 nothing of an ask is believed: incarnation, region, bounds and generation are checked, in this order, before
 *           a byte is sent; and over TLS the reader is who its certificate says;
 *         2 only a lane's thread writes into a landing, and after `done` or `canceled` it does not any more: what still comes
 *           for it is thrown away.  So nothing stays in quarantine longer than a message to the thread takes;
 *         3 when bulk_region_remove() returns no sending reads the region. */
#ifndef NET_BULK_H
#define NET_BULK_H
#include <stdbool.h>
#include "base/err.h"
#include "base/why.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/region.h"

struct bulk;
struct bulk_conn;
struct bulk_flight;
struct bulk_peer;
struct tls;

enum { BULK_LANES_MAX = 8, BULK_CLIENTS_MAX = 2048, BULK_ASKS_MAX = 256 };

struct bulk_options {
	uint64_t node, incarnation;
	struct tls *tls;  /* NULL: plain */
	const char *host; /* an address, to listen at */
	uint16_t port;    /* 0: a free one */
	uint32_t lanes;   /* 1..BULK_LANES_MAX */
};
MUST_USE enum err bulk_create(struct loop *home, const struct bulk_options *options, struct bulk **ret_bulk, struct why *why);
uint16_t bulk_port(const struct bulk *bulk);
/* Ends the threads: no landing is written and no region read afterwards.  Reads and peers are the caller's to forget,
 * by bulk_read_forget() and bulk_peer_free(), before or after; no callback runs any more. */
void bulk_stop(struct bulk *bulk);
void bulk_destroy(struct bulk *bulk);
/* We go on under that incarnation: asks of the older one are refused from now on. */
void bulk_renew(struct bulk *bulk, uint64_t incarnation);
/* Both wait for the threads, which are never long away. */
void bulk_region_add(struct bulk *bulk, const struct region *region);
void bulk_region_remove(struct bulk *bulk, const struct region *region);
/* Adds what was served to the sum. */
void bulk_served(const struct bulk *bulk, struct link_served *sum);

struct bulk_peer_options {
	uint64_t node, incarnation;
	const char *url; /* "tls+tcp://10.0.0.7:4200" */
	void *arg;
	void (*ready)(void *arg);            /* all lanes are */
	void (*lost)(void *arg, enum err e); /* one is: its reads are done before, those of others go on until they are canceled */
	void (*closed)(void *arg);           /* the last one, after bulk_peer_close() */
};
MUST_USE enum err bulk_peer_open(struct bulk *bulk, const struct bulk_peer_options *options, struct bulk_peer **ret_peer);
void bulk_peer_close(struct bulk_peer *peer);
/* After closed(), or after bulk_stop(). */
void bulk_peer_free(struct bulk_peer *peer);

/* One piece on its way; embed it, it stays where it is until done or canceled. */
struct bulk_read {
	struct handle from;
	void *landing;
	void (*done)(struct bulk_read *read);     /* err and digest are set; not after bulk_read_cancel() */
	void (*canceled)(struct bulk_read *read); /* the landing is the caller's */
	enum err err;
	uint64_t digest;
	/* bulk's: */
	struct bulk_conn *conn;
	struct bulk_flight *flight; /* the thread's */
	struct bulk_read *done_next; /* the thread's */
	bool is_canceled, is_over;  /* the home loop's */
	struct loop_task start_task, cancel_task, done_task, ack_task;
};
void bulk_read_start(struct bulk_peer *peer, struct bulk_read *read);
void bulk_read_cancel(struct bulk_read *read);
/* After bulk_stop(): nothing of it is queued any more. */
void bulk_read_forget(struct bulk_read *read);
#endif
