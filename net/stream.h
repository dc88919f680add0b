/* stream - control connections: one per pair of peers, frames both ways, bounded in every direction.
 *
 * URLs: tcp://host:port, tls+tcp://host:port, ipc:///path.  On the wire: u32 length (little
 * endian), then that many bytes, whose meaning is proto/'s; length 0xffffffff: the sender is finished.
 * There is no reconnecting in here: the owner knows whether it still wants that peer.
 *
 * Owns:   the connection, its send queue (copies) and one receive buffer.
 * Loop:   touch only from the loop given; every callback runs there, never inside a call of this header.
 * Bounds: a frame has at most frame_bytes_max; the send queue at most queue_bytes_max; receiving takes
 *         64 KiB plus one frame; a listener has at most connection_max accepted streams open.
 * Rules:  1 peers are untrusted: a frame over the limit ends the connection (ERR_TOO_LARGE, counted)
 *           before anything is allocated for it;
 *         2 a stream ends exactly once: either the owner calls stream_close(), then no callback comes any
 *           more, or on_close() comes, and the stream is gone when it returns;
 *         3 an accepted peer that says nothing costs a connection: the owner sets a timer for its hello;
 *         4 over TLS nobody is accepted before its certificate was judged (net/acceptor.h). */
#ifndef NET_STREAM_H
#define NET_STREAM_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

struct loop;
struct stream;
struct stream_listener;
struct identity;
struct tls;

struct stream_options {
	uint32_t frame_bytes_max; /* 0: 16 MiB */
	size_t queue_bytes_max;   /* 0: 64 MiB; headers count */
	uint32_t connection_max;  /* listen only; 0: 1024 */
	struct tls *tls;          /* mutual; needed by tls+tcp://, refused by the others; outlives the streams */
	uint64_t expect_node;     /* dial: whom the other side's certificate must name; 0: whoever may be dialled */
};

struct stream_callbacks {
	/* Dialled streams only: connected, and the other side's certificate is good.  It may still refuse ours, which
	 * comes as on_close(ERR_DENIED). */
	void (*on_open)(struct stream *stream, void *arg);
	/* The bytes are valid during the call.  length may be 0.  It may send and close. */
	void (*on_frame)(struct stream *stream, const uint8_t *data, size_t length, void *arg);
	/* After stream_send() said ERR_AGAIN: the queue is half empty again.  May be NULL. */
	void (*on_room)(struct stream *stream, void *arg);
	/* The last callback: PEER_GONE, DEADLINE (dial), DENIED (certificates), TOO_LARGE (the peer's frame), NOMEM,
	 * OK (after stream_finish()).  stream_close() in it is allowed and does nothing. */
	void (*on_close)(struct stream *stream, enum err e, const char *text, void *arg);
};

/* Starts to connect; on_open or on_close follows.  What is sent meanwhile is queued.
 * ERR_INVALID: the URL, or certificates where none belong or lack; ERR_UNSUPPORTED: its scheme. */
MUST_USE enum err stream_dial(struct loop *loop, const char *url, uint64_t timeout_ns,
			      const struct stream_options *options, const struct stream_callbacks *callbacks,
			      void *arg, struct stream **ret_stream, struct why *why);
/* Copies.  ERR_AGAIN: the queue is full, wait for on_room.  ERR_TOO_LARGE: over frame_bytes_max.
 * ERR_PEER_GONE: after stream_finish(). */
MUST_USE enum err stream_send(struct stream *stream, const void *payload, size_t length);
/* The same for a frame in two pieces (a header of ours and somebody's bytes). */
MUST_USE enum err stream_send2(struct stream *stream, const void *head, size_t head_length,
			       const void *tail, size_t tail_length);
/* The same for a frame that is still to be written: *ret_payload has room for it in the queue, and is to be filled before anything
 * else is done with the stream. */
MUST_USE enum err stream_send_in_place(struct stream *stream, size_t length, uint8_t **ret_payload);
/* What is queued goes out now, as far as the kernel takes it, and not at the end of the turn: for a frame that is so large that the
 * system call is little beside it.  Nobody is called, whatever happens. */
void stream_push(struct stream *stream);
/* Bytes accepted by stream_send() and not yet taken by the kernel. */
size_t stream_queued_bytes(const struct stream *stream);
/* The other side's address, "10.0.0.7:4100", for logs; for ipc and while dialling: the URL. */
const char *stream_peer(const struct stream *stream);
/* Whom its certificate names; NULL: plain, or still dialling. */
const struct identity *stream_identity(const struct stream *stream);
/* Sends what is queued and a farewell, whereupon the other side closes: on_close(ERR_OK) on both sides, and
 * nothing is lost on the way.  ERR_DEADLINE after timeout_ns.  Frames that arrive meanwhile are handed over. */
void stream_finish(struct stream *stream, uint64_t timeout_ns);
/* Ends now, in any state; unsent frames are dropped.  NULL is fine. */
void stream_close(struct stream *stream);

/* A new connection: call stream_accept() with its callbacks during this call, or it is closed. */
typedef void stream_accept_fn(struct stream_listener *listener, struct stream *stream, void *arg);
/* ERR_BUSY: the address is taken; ERR_INVALID, ERR_UNSUPPORTED, ERR_IO as above. */
MUST_USE enum err stream_listen(struct loop *loop, const char *url, const struct stream_options *options,
				stream_accept_fn *on_accept, void *arg,
				struct stream_listener **ret_listener, struct why *why);
void stream_accept(struct stream *stream, const struct stream_callbacks *callbacks, void *arg);
/* The port really bound (port 0 asks for a free one); 0 for ipc. */
uint16_t stream_listener_port(const struct stream_listener *listener);

struct stream_counts {
	uint64_t accepted;
	uint64_t frames_in, frames_out;
	uint64_t bytes_in, bytes_out; /* headers included */
	uint64_t closed_too_large;    /* rule 1 */
	uint64_t closed_gone;
	uint64_t accept_failed;
	uint32_t open;                /* now */
};
/* The sum over the streams that this listener accepted, including those that ended. */
void stream_listener_counts(const struct stream_listener *listener, struct stream_counts *ret_counts);
/* Accepts no more; the accepted streams live on.  NULL is fine. */
void stream_listener_close(struct stream_listener *listener);
#endif
