/* bulk_impl - the inside of bulk, and what goes over its connections.  Only net/bulk*.c include it.
 *
 *   reader                                       server
 *     HELLO (who, whom) -------------------------> is that us, and does the certificate name that reader?
 *     <------------------------------------------ WELCOME (error)
 *     ASK (number, handle) ----------------------> checks incarnation, bounds, generation
 *     <------------------------------------------ ANSWER (number, error, length) and the bytes
 *
 * Answers come in the order of the asks.  An ASK with `cancel` set takes back the ask of that number: it is still
 * answered, with CANCELED and no bytes unless its bytes are under way already. */
#ifndef NET_BULK_IMPL_H
#define NET_BULK_IMPL_H
#include <pthread.h>
#include <stdint.h>

#include "net/acceptor.h"
#include "net/bulk.h"
#include "net/dialer.h"
#include "net/region_impl.h"

enum {
	BULK_MAGIC = 0x4b4c5542, /* "BULK" */
	BULK_VERSION = 1,
	BULK_OUT_BYTES = 64 << 10,
	BULK_REGIONS_MAX = 64,
	BULK_TURN_BYTES = 1 << 20, /* of one connection before the others have their turn */
};

/* One machine's layout (little-endian, no holes): checked by length, magic and version. */
struct bulk_hello {
	uint32_t magic;
	uint32_t version;
	uint64_t node, incarnation;               /* of the reader */
	uint64_t server_node, server_incarnation; /* whom it takes us for */
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
_Static_assert(sizeof(struct bulk_hello) == 40 && sizeof(struct bulk_ask) == 56 && sizeof(struct bulk_answer) == 24,
	       "no holes");

struct bulk_client;

struct bulk {
	struct loop *home;
	struct bulk_options options;
	pthread_t thread;
	bool has_thread;
	uint16_t port;
	struct loop_task stop_task;
	/* the thread's: */
	struct loop *loop;
	bool is_stopped;
	struct acceptor *acceptor;
	struct bulk_client *clients;
	uint32_t client_count;
	struct bulk_peer *peers;
	const struct region *regions[BULK_REGIONS_MAX];
	size_t region_count;
	uint8_t *scratch;          /* BULK_OUT_BYTES, for what nobody wants any more */
	struct link_served served; /* atomic */
};

/* bulk_serve.c, on the thread */
void bulk_serve_accept(void *bulk, struct channel *channel, const char *peer);
void bulk_serve_close(struct bulk *bulk);
/* Ends the connections of readers whom the region is being sent to. */
void bulk_serve_drop_region(struct bulk *bulk, const struct region *region);

/* bulk_read.c, on the thread */
void bulk_read_close(struct bulk *bulk);
#endif
