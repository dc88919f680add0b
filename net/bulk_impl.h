/* bulk_impl - the inside of bulk, and what goes over its connections.  Only net/bulk*.c include it.
 *
 *   reader                                       server
 *     HELLO (who, whom, lane) -------------------> is that us, and does the certificate name that reader?
 *     <------------------------------------------ WELCOME (error)
 *     ASK (number, handle) ----------------------> checks incarnation, bounds, generation
 *     <------------------------------------------ ANSWER (number, error, length) and the bytes
 *
 * A reader has a connection a lane, and so many HELLOs; the first lane of the server greets, and hands the connection to the
 * lane that the HELLO names.  Answers come in the order of the asks.  An ASK with `cancel` set takes back the ask of that number: it is still
 * answered, with CANCELED and no bytes unless its bytes are under way already. */
#ifndef NET_BULK_IMPL_H
#define NET_BULK_IMPL_H
#include <pthread.h>
#include <stdint.h>

#include "base/digest.h"
#include "net/acceptor.h"
#include "net/bulk.h"
#include "net/dialer.h"
#include "net/region_impl.h"

enum {
	BULK_MAGIC = 0x4b4c5542, /* "BULK" */
	BULK_VERSION = 2, /* 2: lanes */
	BULK_OUT_BYTES = 64 << 10,
	BULK_SCRATCH_BYTES = 256 << 10, /* 64 KiB reach 0.9 of it, 32 KiB 0.8 (bench/results/kv.md) */
	BULK_REGIONS_MAX = 64,
	BULK_TURN_BYTES = 1 << 20, /* of one connection before the others have their turn */
};

/* One machine's layout (little-endian, no holes): checked by length, magic and version. */
struct bulk_hello {
	uint32_t magic;
	uint32_t version;
	uint64_t node, incarnation;               /* of the reader */
	uint64_t server_node, server_incarnation; /* whom it takes us for */
	uint32_t lane;                            /* of the reader's; ours is that modulo ours */
	uint32_t zero;
};
struct bulk_welcome {
	uint32_t magic;
	uint32_t err;
};
struct bulk_ask {
	uint64_t number; /* 1, 2, … of this connection */
	uint64_t node, incarnation, offset, length, generation;
	uint16_t rank, region;
	uint8_t kind, cancel, zero[2];
};
struct bulk_answer {
	uint64_t number;
	uint64_t length;
	uint32_t err;
	uint32_t zero;
};
_Static_assert(sizeof(struct bulk_hello) == 48 && sizeof(struct bulk_ask) == 56 && sizeof(struct bulk_answer) == 24,
	       "no holes");

struct bulk_client;
struct bulk_conn;

/* A thread with its loop, and the connections that live there.  All but the first two rows is the thread's. */
struct bulk_lane {
	struct bulk *bulk;
	uint32_t index;
	struct loop *loop;
	pthread_t thread;
	bool has_thread;
	struct loop_task stop_task;
	bool is_stopped;
	struct bulk_client *clients;
	struct bulk_conn *conns;
	const struct region *regions[BULK_REGIONS_MAX];
	size_t region_count;
	uint8_t *scratch; /* BULK_SCRATCH_BYTES: what just came, good until the next read of the lane */
};

struct bulk {
	struct loop *home;
	struct bulk_options options;
	uint64_t incarnation;       /* atomic: ours now, options has the first */
	uint16_t port;
	struct acceptor *acceptor;  /* on the first lane */
	uint32_t client_count;      /* atomic */
	struct link_served served;  /* atomic */
	struct bulk_lane lanes[BULK_LANES_MAX]; /* [options.lanes] */
};

static inline uint64_t bulk_incarnation(const struct bulk *bulk)
{
	return __atomic_load_n(&bulk->incarnation, __ATOMIC_ACQUIRE);
}

/* bulk_serve.c, on the lane's thread */
void bulk_serve_accept(void *bulk, struct channel *channel, const char *peer);
void bulk_serve_close(struct bulk_lane *lane);
/* Ends the connections of readers whom the region is being sent to. */
void bulk_serve_drop_region(struct bulk_lane *lane, const struct region *region);

/* A reader's connection to one lane of a peer.  What belongs to the home loop is said; the rest is the thread's. */
struct bulk_conn {
	struct bulk_lane *lane;
	struct bulk_peer *peer;
	struct bulk_conn *next;
	struct loop_task open_task, close_task;              /* run on the thread */
	struct loop_task ready_task, lost_task, closed_task; /* run at home */
	uint64_t flight_bytes; /* home's: of reads started here and not over */
	enum err lost_err;
	bool is_linked;  /* in lane->conns */
	bool is_lost;    /* or closed: nothing goes out any more */
	bool is_welcome;
	struct dialer *dialer;
	struct channel *channel;
	struct loop_watch *watch;
	unsigned watched;
	struct loop_task turn_task; /* asks to send, or a turn that was over too soon */
	struct buf out;
	size_t out_sent;
	uint64_t number;            /* of the last ask */
	struct bulk_flight *head, **tail;
	struct bulk_read *done_head, **done_tail; /* in this turn */
	/* the answer being received */
	uint64_t left;              /* bytes of it not taken yet; 0: a header comes next */
	uint64_t landed;            /* digested too: whole leaves, but for the end */
	uint8_t rest[DIGEST_LEAF_BYTES]; /* what came of the next leaf or header */
	size_t rest_length;
	struct digest digest;
};

struct bulk_peer {
	struct bulk *bulk;
	struct bulk_peer_options options;
	char url[320];
	uint32_t ready_count, closed_count;
	bool is_lost;
	struct bulk_conn conns[]; /* [lanes] */
};

/* bulk_read.c */
void bulk_conn_init(struct bulk_conn *conn, struct bulk_peer *peer, struct bulk_lane *lane);
/* The tasks of a read that run on the thread. */
void bulk_conn_start(void *read);
void bulk_conn_cancel(void *read);
/* On the lane's thread. */
void bulk_read_close(struct bulk_lane *lane);
#endif
