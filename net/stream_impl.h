/* stream_impl - what the files of stream share.  Only net/stream*.c includes it.
 *
 * A stream's life:
 *
 *   stream_dial --> DIALING --on_dialed--> OPEN --stream_end / stream_close--> ENDED --on_reap--> freed
 *   accepted -----------------------------^
 *
 * In ENDED all of NNG's callbacks have run (nng_aio_stop waits for them) and no task of ours is queued but
 * the reaping, which is posted so that memory outlives the call that ended the stream. */
#ifndef NET_STREAM_IMPL_H
#define NET_STREAM_IMPL_H
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdbool.h>

#include "net/loop.h"
#include "net/stream.h"

enum {
	STREAM_RECEIVE_BYTES = 64 << 10,
	STREAM_HEADER_BYTES = 4,
	STREAM_PEER_BYTES = 128,
	STREAM_IOV_MAX = 8, /* what an NNG operation takes */
};
/* The length that says: no more frames from me, please close.  Closing first would lose frames: TCP resets
 * when unread data is left, NNG drops what came together with the end of an ipc connection. */
#define STREAM_LENGTH_END 0xffffffffu

enum stream_state { STREAM_DIALING, STREAM_OPEN, STREAM_ENDED };

struct stream_out {
	struct stream_out *next;
	size_t length; /* header included */
	uint8_t bytes[];
};

struct stream {
	struct loop *loop;
	enum stream_state state;
	struct stream_callbacks callbacks;
	void *arg;
	struct stream_listener *listener; /* that accepted it; NULL: dialled */
	nng_stream *nng;
	nng_stream_dialer *dialer;
	nng_aio *dial_aio, *receive_aio, *send_aio;
	struct loop_task dial_task, receive_task, send_task, reap_task;
	struct loop_timer *finish_timer; /* made by stream_finish() */
	uint32_t frame_bytes_max;
	size_t queue_bytes_max;

	uint8_t *buffer; /* STREAM_RECEIVE_BYTES, the first `filled` are waiting */
	size_t filled;
	uint8_t *frame;  /* one that does not fit the buffer; NULL: none */
	size_t frame_length, frame_filled;

	struct stream_out *out_head, **out_tail;
	size_t out_sent;     /* of the head */
	size_t queued_bytes;
	bool sending, room_wanted;
	bool finishing, peer_finished, accepted;
	char peer[STREAM_PEER_BYTES];
};

/* Limits, memory and NNG's operations; the connection comes later.  stream_free(): before it came. */
enum err stream_create(struct loop *loop, const struct stream_options *options, struct stream **ret_stream);
void stream_free(struct stream *stream);
/* Takes the connection and begins to receive. */
void stream_connected(struct stream *stream, nng_stream *nng);

/* stream_listen.c: the listener lives until it is closed and the last of its streams has ended. */
struct stream_counts *stream_listener_tally(struct stream_listener *listener);
void stream_listener_forget(struct stream_listener *listener);

/* stream_nng.c: NNG's dialers, listeners, addresses and errors, with our options applied. */
enum err stream_error(int nng_error);
enum err stream_dialer_make(const char *url, const struct stream_options *options,
			    nng_stream_dialer **ret_dialer, struct why *why);
/* Listens when it returns. */
enum err stream_listener_make(const char *url, const struct stream_options *options,
			      nng_stream_listener **ret_listener, struct why *why);
/* Writes stream->peer. */
void stream_peer_text(struct stream *stream);
#endif
