/* stream_impl - what the files of stream share.  Only net/stream*.c includes it.
 *
 * A stream's life:
 *
 *   stream_dial --> DIALING --on_dialed--> OPEN --end / stream_close--> ENDED --on_reap--> freed
 *   accepted -----------------------------^
 *
 * In ENDED no task, timer or watch of ours is left but the reaping, which is posted so that memory outlives the call
 * that ended the stream.  What is sent goes out by a task, so that the frames of one turn go out together. */
#ifndef NET_STREAM_IMPL_H
#define NET_STREAM_IMPL_H
#include <stdbool.h>

#include "base/buf.h"
#include "net/channel.h"
#include "net/dialer.h"
#include "net/loop.h"
#include "net/stream.h"

enum {
	STREAM_RECEIVE_BYTES = 64 << 10,
	STREAM_HEADER_BYTES = 4,
	STREAM_PEER_BYTES = 128,
};
/* The length that says: no more frames from me, please close.  Closing first would lose frames: TCP resets
 * when unread data is left. */
#define STREAM_LENGTH_END 0xffffffffu

enum stream_state { STREAM_DIALING, STREAM_OPEN, STREAM_ENDED };

struct stream {
	struct loop *loop;
	enum stream_state state;
	struct stream_callbacks callbacks;
	void *arg;
	struct stream_listener *listener; /* that accepted it; NULL: dialled */
	struct dialer *dialer;
	struct channel *channel;
	struct loop_watch *watch;
	unsigned watched;                 /* what the watch asks for */
	struct loop_task receive_task, send_task, reap_task;
	struct loop_timer *finish_timer;  /* made by stream_finish() */
	uint32_t frame_bytes_max;
	size_t queue_bytes_max;

	uint8_t *buffer; /* STREAM_RECEIVE_BYTES, the first `filled` are waiting */
	size_t filled;
	uint8_t *frame;  /* one that does not fit the buffer; NULL: none */
	size_t frame_length, frame_filled;

	struct buf out;
	size_t out_sent; /* of it */
	size_t out_peak; /* of late */
	bool room_wanted;
	bool finishing, peer_finished, accepted;
	char peer[STREAM_PEER_BYTES];
};

/* Limits and memory; the connection comes later. */
enum err stream_create(struct loop *loop, const struct stream_options *options, struct stream **ret_stream);
/* Takes the channel and begins to receive.  If this fails the stream is to be ended. */
MUST_USE enum err stream_connected(struct stream *stream, struct channel *channel);
/* It ended by itself: the owner, who has its callbacks set, is told. */
void stream_end(struct stream *stream, enum err e);

/* stream_listen.c: the listener lives until it is closed and the last of its streams has ended. */
struct stream_counts *stream_listener_tally(struct stream_listener *listener);
void stream_listener_forget(struct stream_listener *listener);
#endif
