/* link_impl - the inside of the link: peers, pieces, and what a transport must do.  Only net/link*.c and net/ucx.c
 * include it.
 *
 * A read is `count` pieces.  The life of a piece:
 *
 *     WAITING --peer_pump--> ACTIVE --piece_settle--> SETTLED
 *        |                     |                         ^
 *        |                     +--read_end_early--> QUARANTINED --piece_settle, peer_closed--+
 *        +--------------------read_end_early-----------------> SETTLED
 *
 * The read is reported (done) when all pieces are settled or when it ends early; its landings are free when
 * all pieces are settled. */
#ifndef NET_LINK_IMPL_H
#define NET_LINK_IMPL_H
#include "net/bulk.h"
#include "net/copy.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/region_impl.h"

#define REGIONS_MAX 64
#define READ_PIECES_MAX 4096
#define SOCKET_NAME_MAX 107

struct ucx;
struct local;
struct peer;
struct peer_map;
struct twins;

enum piece_state { PIECE_WAITING, PIECE_ACTIVE, PIECE_QUARANTINED, PIECE_SETTLED };

struct piece {
	struct link_read *read;
	struct piece *prev, *next; /* in the peer's list of its state */
	enum piece_state state;
	struct handle from;
	void *landing;
	/* the transport's */
	struct copy_job job;
	struct peer_map *map; /* mapped: held during the copy */
	void *twin;           /* of the landing, on our device; NULL: none */
	uint64_t digest;      /* expected there */
	enum { TWIN_NONE, TWIN_WAITING, TWIN_READING } twin_state;
	struct piece *twin_next;
	bool by_device;       /* it came from device to device */
	struct bulk_read read_bulk; /* bulk */
	struct ucx_flight *flight; /* UCX: what its requests hold instead of the piece */
	bool copying;         /* UCX: landed; the copy thread digests */
	bool parked;          /* one-sided: waits for the region's key */
};

/* A peer's region in our address space.  Lives while something uses it, also after the peer took it back. */
struct peer_map {
	struct peer_map *next;
	struct region_view view;
	uint16_t rank;
	uint8_t kind;
	uint16_t index;
	bool gone; /* the peer took it back: not for new reads */
	size_t refs; /* copies, and an import under way */
	/* link_twin.c */
	struct link *link; /* which outlives it, as `peer` does while it is held */
	struct peer *peer;
	bool has_twin;  /* the peer said so */
	int twin_fd;    /* while it is imported */
	void *imported; /* by the copy thread */
	void *twin;     /* NULL: not to be read */
	struct copy_job job;
	struct why why;
};

struct piece_list {
	struct piece *head, *tail;
	size_t count;
};

struct link_read {
	struct peer *peer;
	size_t count;
	size_t settled;
	bool reported;
	uint64_t start_ns;
	struct loop_timer *timer;
	struct loop_task cancel_task;
	void (*done)(void *context, const struct link_result *results, size_t count);
	void (*landing_free)(void *context);
	void *context;
	struct link_result *results;
	struct piece pieces[];
};

/* What a transport does for a peer.  All on the loop; `start`, `close` only from peer_turn(), never from inside a
 * callback of the transport's library. */
struct transport {
	/* May pieces be started now?  Calls peer_wake() when the answer turns true. */
	bool (*is_ready)(struct peer *peer);
	/* The piece is ACTIVE.  Ends in one piece_settle(), now or later. */
	void (*start)(struct peer *peer, struct piece *piece);
	/* True: the transport has let go, and will neither write to the landing nor settle the piece. */
	bool (*forget)(struct peer *peer, struct piece *piece);
	/* Nothing is asked any more.  Ends in one peer_closed(); pieces whose landing the library still has settle
	 * by themselves, before or after it. */
	void (*close)(struct peer *peer);
	/* The peer is freed: what impl holds goes. */
	void (*fini)(struct peer *peer);
	void (*describe)(const struct peer *peer, char *text, size_t text_bytes);
};

struct peer {
	struct link *link;
	struct peer *next;
	uint64_t node;
	uint64_t incarnation;
	const struct transport *transport;
	void *impl;
	bool named; /* link_read() finds it: opened and not closed by the caller */
	bool lost;
	bool close_started;
	bool closed;
	enum err lost_err; /* what its reads get */
	enum err loss;     /* still to be told to the owner of the link */
	struct loop_task task; /* peer_turn */
	struct piece_list waiting, active, quarantined;
	uint64_t flight_bytes;
	struct link_counters counters;
};

struct link {
	struct loop *loop;
	struct link_options options;
	uint32_t pieces_open;
	bool destroying;
	struct copy *copy;
	bool copy_ended;     /* nothing is handed to it any more */
	struct twins *twins; /* NULL: no device */
	struct local *local; /* unix socket */
	struct ucx *ucx;     /* NULL: none */
	struct bulk *bulk;   /* NULL: none */
	bool bulk_stopped;
	struct peer *peers;  /* named ones and those still closing */
	struct region *regions[REGIONS_MAX];
	size_t region_count;
	struct link_served served;
};

enum { LINK_HOST_MAX = 253 };
enum link_bulk { LINK_BULK_NONE, LINK_BULK_TCP, LINK_BULK_TLS };

/* What travels as an address. */
struct link_address {
	uint64_t node;
	uint64_t incarnation;
	uint8_t boot_id[16]; /* same host: same boot */
	char socket_name[SOCKET_NAME_MAX + 1];
	uint8_t ucx_transport; /* enum link_transport; LINK_MAPPED: no UCX */
	const uint8_t *ucx_address;
	uint16_t ucx_address_length;
	enum link_bulk bulk;
	uint16_t bulk_port;
	char bulk_host[LINK_HOST_MAX + 1];
};

/* link_address.c */
MUST_USE enum err link_address_pack(const struct link_address *address, struct buf *buf);
/* ucx_address points into data. */
MUST_USE enum err link_address_parse(const void *data, size_t length, struct link_address *ret_address);
void link_boot_id(uint8_t ret_id[16]);

/* link_require.c */
bool link_may(const struct link *link, enum link_transport way);
/* Is there anything here that is required? */
MUST_USE enum err link_require_check(const struct link *link, struct why *why);
/* ERR_UNSUPPORTED: nothing that is required reaches that peer. */
enum err link_require_refuse(const struct link *link, const struct link_address *address, bool same_host, struct why *why);

/* link_read.c */
void piece_settle(struct piece *piece, enum err e, uint64_t digest);
/* Every read of the peer ends now with peer->lost_err. */
void peer_end_reads(struct peer *peer);
void peer_pump(struct peer *peer);
void peer_settle_quarantined(struct peer *peer);

/* link.c */
struct peer *link_peer_find(const struct link *link, uint64_t node);
const struct region *link_region_find(const struct link *link, uint16_t rank, uint8_t kind, uint16_t index);
void peer_wake(struct peer *peer);
/* From the transport, wherever it notices (UCX does inside a send too): the connection is over.  Reads end
 * and close() is called in the peer's next turn, never in here. */
void peer_lost(struct peer *peer, enum err e);
void peer_closed(struct peer *peer);

/* link_mapped.c: our own regions, and those of peers on this host */
extern const struct transport transport_self;
void map_unref(struct peer *peer, struct peer_map *map);
/* Each map of the peer, if it is one on this host. */
struct peer_map *mapped_maps(const struct peer *peer);
MUST_USE enum err mapped_peer_open(struct peer *peer, const struct link_address *address);

/* link_twin.c: from the memory of a peer's device to ours */
void twins_destroy(struct twins *twins); /* NULL is fine; the copy thread has ended */
bool twins_wanted(const struct link *link);
/* The kind of our device's memory (enum memory_kind). */
uint8_t twins_kind(const struct link *link);
/* Imports what the descriptor, ours from now on, is of: map->twin is there some time after. */
void twins_import(struct peer *peer, struct peer_map *map, int fd);
/* Can our device take this piece? */
bool twins_take(const struct link *link, const struct piece *piece);
/* Has its peer, on this host, a twin of it? */
bool twins_may(const struct peer *peer, const struct piece *piece);
/* Reads it, and lets go of the map, which the caller holds; or, of another transport, looks at what landed in its twin: ucx_twin_judged(). */
void twins_start(struct peer *peer, struct piece *piece);
/* As transport.forget, of a piece that was started so. */
bool twins_forget(struct peer *peer, struct piece *piece);
bool twins_in_use(const struct peer *peer);
/* Ends the map's life, its twin first. */
void twins_map_free(struct peer *peer, struct peer_map *map);

/* link_bulk.c */
MUST_USE enum err bulk_link_open(struct peer *peer, const struct link_address *address, struct why *why);

/* link_local.c: the unix socket that hands out memfds and notices death */
MUST_USE enum err local_create(struct link *link, struct local **ret_local, struct why *why);
void local_destroy(struct local *local);
const char *local_name(const struct local *local);
void local_region_added(struct local *local, const struct region *region);
void local_region_removed(struct local *local, const struct region *region);

/* What goes over the unix socket, one datagram each. */
enum { LOCAL_MAGIC = 0x4b4e4c42, LOCAL_VERSION = 1 };
enum local_kind { LOCAL_HELLO = 1, LOCAL_REGION, LOCAL_REGION_GONE, LOCAL_READY, LOCAL_TWIN };
struct local_message {
	uint32_t magic;
	uint16_t version;
	uint16_t what; /* enum local_kind */
	uint64_t node; /* HELLO: of the sender */
	uint64_t incarnation;
	uint16_t rank; /* REGION: with the memfd; TWIN: with the descriptor of the same slots on a device */
	uint8_t kind;
	uint8_t takes_twins; /* HELLO: it has a device.  Who does not say so is sent none, nor knows what they are */
	uint16_t index;
	uint16_t zero2;
	uint64_t slot_bytes;
	uint64_t slot_count;
	uint64_t ticket; /* HELLO of a UCX reader: as in its UCX hello, so that the end of this tells of that */
};
/* Connects, checks that the other end runs as our user and says hello. */
MUST_USE enum err local_connect(const struct link *link, const char *name, uint64_t ticket, int *ret_fd);
/* One message; *ret_fd is -1 or a descriptor that is the caller's.  ERR_AGAIN, ERR_PEER_GONE, ERR_PROTOCOL. */
MUST_USE enum err local_receive(int fd, struct local_message *ret_message, int *ret_fd);

/* ucx.c, link_ucx*.c */
MUST_USE enum err ucx_create(struct link *link, struct ucx **ret_ucx, struct why *why);
/* Closes what is open, waits for it (bounded), ends worker and context: no landing is written afterwards. */
void ucx_destroy(struct ucx *ucx);
enum link_transport ucx_transport(const struct ucx *ucx);
void ucx_local_address(const struct ucx *ucx, const uint8_t **ret_address, uint16_t *ret_length);
MUST_USE enum err ucx_peer_open(struct peer *peer, const struct link_address *address, struct why *why);
MUST_USE enum err ucx_region_added(struct ucx *ucx, const struct region *region, struct why *why);
/* A reader on this host closed its unix socket or died: shared memory does not tell UCX. */
void ucx_client_gone(struct ucx *ucx, uint64_t node, uint64_t incarnation, uint64_t ticket);
void ucx_region_removed(struct ucx *ucx, const struct region *region);
/* What landed in the piece's twin is as expected, and in its landing as well; or not: the peer's host memory is to be read. */
void ucx_twin_judged(struct piece *piece, bool good);
/* Nothing lands in twins any more, none of ours is registered. */
void ucx_drop_twins(struct ucx *ucx);
#endif
