/* ucx_impl - the inside of the UCX links.  Only net/ucx.c and net/link_ucx*.c include it; nobody else names UCX.
 *
 *   reader                                       server
 *     HELLO (our worker address) ----------------> creates an endpoint back to us
 *     <------------------------------------------ WELCOME (session)
 *     ASK (session, ticket, handle) -------------> checks incarnation, bounds, generation
 *     <------------------------------------------ ANSWER (ticket, error) + the bytes
 *   one-sided instead of ASK:
 *     ASK_REGION (rank, kind, index) ------------> 
 *     <------------------------------------------ REGION (shape, address) + remote key
 *     ucp_get of the bytes, then ucp_get of the slot's generation
 *     <------------------------------------------ REGION_GONE (rank, index), later, to whoever has a key of this server's
 *   and a second time with kind MEMORY_CUDA, by readers that have a device: of the region's twin, without generations */
#ifndef NET_UCX_IMPL_H
#define NET_UCX_IMPL_H
#include <ucp/api/ucp.h>
#include "net/link_impl.h"

#define UCX_CLIENTS_MAX 4096
#define UCX_SERVES_MAX 16384
#define UCX_WIRE_VERSION 1

enum { AM_HELLO = 1, AM_WELCOME, AM_ASK, AM_ANSWER, AM_ASK_REGION, AM_REGION, AM_REGION_GONE };

/* Headers of our messages: one machine's layout, checked by length and version.  Data follows as the payload. */
struct wire_hello {
	uint32_t version;
	uint32_t zero;
	uint64_t ticket; /* of the reader's peer: comes back in WELCOME */
	uint64_t node, incarnation;               /* of the reader */
	uint64_t server_node, server_incarnation; /* whom it takes us for */
};
struct wire_welcome {
	uint64_t ticket;
	uint64_t session; /* to be named in every ASK */
	uint32_t err;
	uint32_t zero;
};
struct wire_ask {
	uint64_t session;
	uint64_t ticket;
	uint64_t node, incarnation;
	uint64_t offset, length, generation;
	uint16_t rank, region;
	uint8_t kind, zero[3];
};
struct wire_answer {
	uint64_t ticket;
	uint32_t err;
	uint32_t zero;
};
struct wire_region { /* asked: session to kind; answered: with the rest, and the key as payload */
	uint64_t session;
	uint64_t ticket; /* gone: of the reader's peer, as in WELCOME */
	uint64_t slot_bytes, slot_count;
	uint64_t address; /* of the mapping, in the server */
	uint32_t err;
	uint16_t rank, index;
	uint8_t kind, zero[7];
};

/* Something that was asked for, by number: late and foreign answers find nothing. */
struct ticket {
	void *object;
	uint32_t round; /* times this place was used */
	uint32_t next_free;
};
struct tickets {
	struct ticket *places;
	uint32_t capacity, used, free_head;
};
MUST_USE enum err ticket_take(struct tickets *tickets, void *object, uint64_t *ret_number);
void *ticket_find(const struct tickets *tickets, uint64_t number);
void ticket_drop(struct tickets *tickets, uint64_t number);

struct ucx_region {
	const struct region *region;
	/* [enum memory_kind]: the region, and its twin on a device */
	struct ucx_memory {
		ucp_mem_h memory; /* NULL: not registered, messages only */
		void *key;
		size_t key_length;
	} of[2];
};

struct ucx_client;
struct ucx_serve;
struct ucx_hello;
struct ucx_peer;

struct ucx {
	struct link *link;
	enum link_transport transport;
	bool one_sided; /* gets are possible: memory is registered */
	bool knows_cuda;
	ucp_context_h context;
	ucp_worker_h worker;
	ucp_address_t *address;
	size_t address_length;
	int event_fd;
	struct loop_watch *watch;
	struct loop_task progress_task;
	struct loop_timer *retry_timer; /* while there is nothing to do but wait, unannounced */
	size_t closing;      /* endpoints whose close is under way */
	size_t flight_count; /* until 0, UCX may still look at our memory */
	size_t twin_count;   /* gets into twins of our landings */
	/* reader */
	struct ucx_peer *readers;
	struct tickets peers;   /* struct ucx_peer, from HELLO to WELCOME */
	struct tickets flights; /* struct ucx_flight */
	struct tickets keys;    /* struct remote_region */
	/* server: link_ucx_serve.c */
	struct ucx_region regions[REGIONS_MAX];
	size_t region_count;
	struct tickets sessions; /* struct ucx_client */
	struct ucx_client *clients;
	struct ucx_hello *hellos; /* to be answered from serve_task */
	struct loop_task serve_task;
	struct ucx_serve *serves;
	size_t serve_count;
};

/* ucx.c */
/* Something was posted: let the worker move.  Any time on the loop. */
void ucx_kick(struct ucx *ucx);
MUST_USE enum err ucx_endpoint_create(struct ucx *ucx, const void *address, void (*lost)(void *arg, ucp_ep_h ep,
                                      ucs_status_t status), void *arg, ucp_ep_h *ret_endpoint);
/* Without flushing: a stopped peer would never let it end.  closed runs when nothing of it is left; maybe at once.
 * Not from inside a UCX callback. */
void ucx_endpoint_close(struct ucx *ucx, ucp_ep_h endpoint, void (*closed)(void *arg), void *arg);
MUST_USE enum err ucx_handler(struct ucx *ucx, unsigned id, ucp_am_recv_callback_t fn);
/* "tcp/lo", "posix/memory+cma/memory" */
void ucx_endpoint_lanes(ucp_ep_h endpoint, char *text, size_t text_bytes);
enum err ucx_err(ucs_status_t status);
/* An error number off the wire: only those a server may send. */
enum err ucx_wire_err(uint32_t number);

/* link_ucx.c */
MUST_USE enum err ucx_reader_init(struct ucx *ucx);
void ucx_reader_fini(struct ucx *ucx); /* before the worker goes: remote keys */
struct ucx_flight {
	struct ucx *ucx;
	struct piece *piece; /* NULL: the read let go */
	uint64_t ticket;     /* 0: answered */
	unsigned refs;       /* the piece, and each UCX request under way */
	uint64_t generation; /* one-sided: landing of the slot's generation, read after the data */
	struct remote_region *region, *twin; /* one-sided, held: whose slot it is; and, if not NULL, from where the data come into the piece's twin */
	union {
		struct wire_ask ask;
		struct wire_region region;
	} header;
};
struct ucx_peer {
	struct ucx_peer *next;
	struct ucx *ucx;
	struct peer *peer;
	ucp_ep_h endpoint;
	uint64_t ticket;
	uint64_t session;
	bool welcome;
	bool one_sided;
	int tether_fd; /* -1: none.  Shared memory does not tell of death; the end of this socket does */
	struct loop_watch *tether;
	struct wire_hello hello;
	struct remote_region *regions;
	size_t region_count;
	uint64_t uses;
};
MUST_USE enum err flight_create(struct ucx *ucx, struct piece *piece, struct ucx_flight **ret_flight);
void flight_unref(struct ucx_flight *flight);
/* The bytes are in the landing: digest, then settle. */
void ucx_landed(struct piece *piece);
/* They are in the twin of the landing: the device looks at them, then the piece settles, or is read anew. */
void ucx_twin_landed(struct piece *piece);

/* link_ucx_get.c */
MUST_USE enum err ucx_get_init(struct ucx *ucx);
void get_start(struct peer *peer, struct piece *piece);
void get_close(struct ucx_peer *up);
/* Nothing of it is under way: the regions that it read are free of it. */
void get_flight_ended(struct ucx_flight *flight);
bool get_in_use(const struct ucx_peer *up); /* of a peer's device */

/* link_ucx_serve.c */
void ucx_unregister(struct ucx *ucx, struct ucx_memory *memory);
MUST_USE enum err ucx_serve_init(struct ucx *ucx);
void ucx_serve_close(struct ucx *ucx);
#endif
