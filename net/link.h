/* link - how this process reads the memory of its peers (DESIGN 5, law 2: every transfer is a read).
 *
 * Serves its own regions and reads those of peers over mapped memory (same host), our own TCP inside TLS or plain
 * (net/bulk.h), UCX messages (TCP or shared memory) or one-sided UCX reads.  Addresses travel through the control plane as opaque bytes.
 *
 * Owns:   UCX context and worker, one unix socket, the copy thread, the threads of bulk, mappings of peers' regions and of their twins.
 *         Not the regions, not the landing buffers.
 * Loop:   touch only from the loop given to link_create(); all callbacks run there, never inside the
 *         call that caused them, except from link_destroy().
 * Bounds: link_options.pieces_max pieces of reads open at once; per peer flight_bytes_max bytes on the way, the
 *         rest waits in order.  Nothing is asked of a peer that cannot land at once.
 * Rules:  1 `done` runs exactly once per read, whatever happens: at the latest at its deadline.
 *         2 `landing_free` runs exactly once, after `done`.  Between the two the transport may still WRITE INTO the
 *           landing buffers (a posted read cannot be taken back): they are quarantined, and must not be
 *           read, reused or freed.  When nothing is on the way both run in the same turn.
 *         3 what landed counts only if the piece's err is ERR_OK and its digest is the announced one. */
#ifndef NET_LINK_H
#define NET_LINK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/why.h"
#include "net/region.h"

struct loop;
struct link;
struct link_read;
struct tls;

enum link_transport {
	LINK_AUTO, /* mapped if the peer is on this host, else UCX where `network` is given on both sides, else bulk */
	LINK_MAPPED,
	LINK_UCX_TCP,
	LINK_UCX_SHM,
	LINK_UCX_RDMA,
	LINK_TLS, /* our own TCP, inside TLS */
	LINK_TCP, /* the same in the clear */
};
/* "auto", "mapped", "ucx-tcp", "ucx-shm", "ucx-rdma", "tls", "tcp"; ERR_INVALID names what was expected. */
MUST_USE enum err link_transport_parse(const char *text, enum link_transport *ret_transport, struct why *why);

/* "mapped", "rdma", "ucx-shm", "ucx-tcp", "tls", "tcp" as a set: bit 1 << enum link_transport. */
MUST_USE enum err link_require_parse(const char *const *names, size_t count, uint32_t *ret_required, struct why *why);
enum { LINK_WAYS_TEXT = 64 };
/* The same back as text, "mapped, rdma"; "" of 0. */
void link_require_text(uint32_t required, char text[LINK_WAYS_TEXT]);

struct link_options {
	uint64_t node;
	uint64_t incarnation;
	enum link_transport transport;
	/* What may carry reads of a peer (link_require_parse()); 0: anything.  A peer that none of it reaches is refused:
	 * link_peer_open(), or on_peer_lost() where UCX knows only then, says ERR_UNSUPPORTED. */
	uint32_t required;
	/* The network devices UCX may use and listen on, with commas between them (rails.h).  UCX trusts whoever reaches its port, so these must be networks
	 * that the site declares trusted (DESIGN 11).  NULL: none with LINK_AUTO, "lo" where UCX is asked for. */
	const char *network;
	/* Bulk.  The address to listen at (NULL: none with LINK_AUTO, else "127.0.0.1"), how peers reach it (NULL: the
	 * same), its port (0: a free one).  tls: outlives the link; NULL: plain.  Texts stay the caller's. */
	const char *bulk_host;
	const char *bulk_advertise;
	uint16_t bulk_port;
	uint32_t bulk_lanes; /* threads, and connections to a peer; 0: 2, at most BULK_LANES_MAX */
	struct tls *tls;
	/* Folder of the unix socket; NULL: an abstract name, which reaches the same network namespace only. */
	const char *socket_dir;
	/* ucp_get instead of our messages also over TCP and shared memory.  Always so with RDMA. */
	bool one_sided;
	bool copy_on_loop;         /* no copy thread: slices on the loop (bench/link measures both) */
	uint32_t pieces_max;       /* 0: 65536 */
	uint64_t flight_bytes_max; /* per peer; 0: 32 MiB.  One piece larger than it still goes, alone */
	/* A peer's connection broke, it broke the protocol, or what reaches it is not what is required (ERR_UNSUPPORTED: to open it
	 * again is of no use).  Its reads have completed with ERR_PEER_GONE;
	 * it stays open (and refuses reads) until link_peer_close().  May be NULL. */
	void (*on_peer_lost)(void *context, uint64_t node, uint64_t incarnation, enum err e);
	void *context;
};

/* ERR_UNSUPPORTED when the transport asked for, or each that is required, does not exist here (why says what was found). */
MUST_USE enum err link_create(struct loop *loop, const struct link_options *options, struct link **ret_link,
                              struct why *why);
/* Closes all peers; every open read gets ERR_CANCELED and its landings back before this returns. */
void link_destroy(struct link *link);

/* One piece that goes from the memory of a peer's device to that of ours. */
struct link_arrival {
	void *to;         /* link_read_options.twins */
	void *landing;    /* and its landing in the host's memory */
	const void *from; /* in what import() gave; NULL: a NIC brought it into `to` */
	uint64_t length;
	uint64_t digest;  /* expected */
	bool landed;      /* set by read(): bytes of that digest are in both; else the link copies into the landing what the peer's host memory has */
};
/* A device of this process.  The link knows of its memory no more than this; all but `context` is called by the copy thread, or by the loop
 * where that is done, one call at a time, and may block. */
struct link_device {
	void *context;
	uint8_t kind; /* enum memory_kind of its memory; MEMORY_HOST: of tests */
	/* Memory of `bytes` that a peer's descriptor is of, mapped to be read alone.  fd stays the link's. */
	enum err (*import)(void *context, int fd, uint64_t bytes, void **ret_memory, struct why *why);
	void (*unimport)(void *context, void *memory, uint64_t bytes);
	/* An error: none landed, nothing is written any more, and the device is not asked again. */
	enum err (*read)(void *context, struct link_arrival *arrivals, size_t count);
	uint32_t arrivals_max; /* a call */
	uint32_t align;        /* of pieces in a region */
};
/* Once, before the first peer is opened: peers that have twins of their regions (region_set_twin()) hand them out to us, those on this host
 * as descriptors, others, where UCX reads one-sidedly and can register such memory, as keys.  The struct is copied.  ERR_NOMEM. */
MUST_USE enum err link_use_device(struct link *link, const struct link_device *device);
/* Nothing of the device is used any more when this returns, nor are twins of our regions registered; reads go on through the host's memory.
 * Waits for what is on its way into its memory, 2 s at most; callbacks may run inside. */
void link_drop_device(struct link *link);

/* Lets peers read the region from now on.  ERR_EXISTS: another has that (rank, kind, index).  At most 64. */
MUST_USE enum err link_region_add(struct link *link, struct region *region, struct why *why);
/* New reads of it are refused; served ones are over, or their connection is closed, when this returns. */
void link_region_remove(struct link *link, struct region *region);
/* The handle of a piece of our own region as it is now, to be sent to a peer. */
MUST_USE enum err link_handle(const struct link *link, const struct region *region, uint64_t slot, uint64_t offset,
                              uint64_t length, struct handle *ret_handle);

/* Appends what a peer needs to open us: opaque, below 4 KiB, good for the life of the link. */
MUST_USE enum err link_local_address(const struct link *link, struct buf *address);
/* This node goes on under a higher incarnation: handles and addresses of the old one are refused from now on, so give out
 * link_local_address() anew.  Close all peers before. */
void link_renew(struct link *link, uint64_t incarnation);

/* Connecting goes on in the background: reads may be started at once.  ERR_EXISTS (close the older incarnation
 * first), ERR_PROTOCOL (malformed address), ERR_MISMATCH (address of another node or incarnation),
 * ERR_UNSUPPORTED (no common transport, or none that is required: why says what both have). */
MUST_USE enum err link_peer_open(struct link *link, uint64_t node, uint64_t incarnation, const void *address,
                                 size_t address_length, struct why *why);
/* Its reads complete with ERR_PEER_GONE at once; their landings come back when the endpoint is flushed and closed
 * (a moment later, from the loop).  The node may be opened again at once.  No such peer: nothing happens. */
void link_peer_close(struct link *link, uint64_t node);

struct link_result {
	enum err err;
	uint64_t digest; /* base/digest.h of the bytes that landed; only with ERR_OK */
};

struct link_read_options {
	uint64_t node; /* an open peer, or our own node */
	const struct handle *handles; /* [count], copied */
	void *const *landings;        /* [count], each of handles[i].length bytes */
	size_t count;                 /* 1..4096 */
	/* [count], where each landing lies on our device a second time, or NULL, and what it is expected to have; NULL: none.  A piece that the
	 * peer's device has as well is copied into both, from there; what is not as expected there is read from the host's memory. */
	void *const *twins;
	const uint64_t *digests;
	uint64_t timeout_ns;          /* from now; > 0 */
	/* results[count] in the order of the handles, valid during the call.  Per piece: ERR_OK, ERR_STALE (generation
	 * over), ERR_DENIED (outside the region, or no such region), ERR_MISMATCH (other incarnation),
	 * ERR_PEER_GONE, ERR_DEADLINE, ERR_CANCELED, ERR_AGAIN (one-sided: 128 of the peer's regions are being asked for or read). */
	void (*done)(void *context, const struct link_result *results, size_t count);
	/* The landings are the caller's again (rule 2).  May be NULL where they are never reused or freed early. */
	void (*landing_free)(void *context);
	void *context;
};
/* Starts one read of `count` pieces.  ERR_AGAIN (pieces_max are open), ERR_NOT_FOUND (peer not open), ERR_PEER_GONE
 * (it was lost: close it and open it anew), ERR_INVALID, ERR_NOMEM: nothing was started and no callback
 * will run.  *ret_read (may be NULL) is good until done ran. */
MUST_USE enum err link_read(struct link *link, const struct link_read_options *options, struct link_read **ret_read);
/* done runs from the loop, with ERR_CANCELED for what has not landed yet. */
void link_read_cancel(struct link_read *read);

struct link_counters {
	uint64_t reads;        /* pieces that ended, well or not */
	uint64_t bytes;        /* of pieces that ended well */
	uint64_t device_bytes; /* of these, from device to device */
	uint64_t stale;
	uint64_t refused;      /* DENIED or MISMATCH */
	uint64_t deadline;
	uint64_t canceled;
	uint64_t gone;
	uint64_t busy_ns;      /* sum over good pieces of start to landing */
	uint64_t pieces_open;
	uint64_t pieces_quarantined; /* reported, but the transport may still write */
};
/* ERR_NOT_FOUND: no such peer. */
MUST_USE enum err link_peer_counters(const struct link *link, uint64_t node, struct link_counters *ret_counters);
/* What is really in use: "mapped", "tls", "tcp", "ucx:tcp/lo", "ucx:posix/memory+cma/memory", "connecting", "lost", "none"; "mapped+device",
 * "ucx+device:rc_mlx5/mlx5_0:1 one-sided": what has twins goes from device to device. */
void link_peer_transport(const struct link *link, uint64_t node, char *text, size_t text_bytes);
/* What we served to others over UCX and bulk (a mapped reader does not ask). */
struct link_served {
	uint64_t reads;
	uint64_t bytes;
	uint64_t stale;
	uint64_t refused;
};
void link_served(const struct link *link, struct link_served *ret_served);
#endif
