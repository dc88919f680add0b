/* The reader's side of bulk: one connection per peer, asks in a row, answers in the same order, each straight into its
 * landing. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "net/bulk_impl.h"

static const uint64_t DIAL_NS = 3000000000;

/* An ask that was not answered yet; outlives its read when that was canceled. */
struct bulk_flight {
	struct bulk_flight *next;
	struct bulk_read *read; /* NULL: nobody wants it any more */
	uint64_t number;
};

/* What belongs to the home loop is the tasks that run there; the rest is the thread's. */
struct bulk_peer {
	struct bulk *bulk;
	struct bulk_peer *next;
	struct bulk_peer_options options;
	char url[320];
	struct loop_task open_task, close_task;             /* run on the thread */
	struct loop_task ready_task, lost_task, closed_task; /* run at home */
	enum err lost_err;
	bool is_linked;  /* in bulk->peers */
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
	/* the answer being received */
	uint8_t header[sizeof(struct bulk_answer)];
	size_t header_length;
	uint64_t left;              /* bytes of it still to come */
	uint64_t landed;
};

/* ---- the end of a read ---- */

static void tell_done(struct bulk *bulk, struct bulk_read *read, enum err e, uint64_t digest)
{
	read->flight = NULL;
	read->err = e;
	read->digest = digest;
	loop_post(bulk->home, &read->done_task);
}

static void pop_flight(struct bulk_peer *peer)
{
	struct bulk_flight *flight = peer->head;
	peer->head = flight->next;
	if (!peer->head)
		peer->tail = &peer->head;
	free(flight);
}

/* Closes the connection; every read of it is done. */
static void hang_up(struct bulk_peer *peer)
{
	struct loop *loop = peer->bulk->loop;
	peer->is_lost = true;
	dialer_cancel(peer->dialer);
	loop_watch_destroy(peer->watch);
	channel_close(peer->channel);
	loop_task_cancel(loop, &peer->turn_task);
	peer->dialer = NULL;
	peer->watch = NULL;
	peer->channel = NULL;
	buf_fini(&peer->out);
	while (peer->head) {
		if (peer->head->read)
			tell_done(peer->bulk, peer->head->read, ERR_PEER_GONE, 0);
		pop_flight(peer);
	}
}

static void lose(struct bulk_peer *peer, enum err e)
{
	if (peer->is_lost)
		return;
	hang_up(peer);
	peer->lost_err = e == ERR_OK ? ERR_PEER_GONE : e;
	loop_post(peer->bulk->home, &peer->lost_task);
}

/* ---- receiving ---- */

/* Only what a server may say. */
static enum err wire_err(uint32_t number)
{
	switch (number) {
	case ERR_OK:
	case ERR_STALE:
	case ERR_DENIED:
	case ERR_MISMATCH:
	case ERR_UNSUPPORTED:
	case ERR_CANCELED:
		return (enum err)number;
	default:
		return ERR_PROTOCOL;
	}
}

static enum err take_welcome(struct bulk_peer *peer)
{
	struct bulk_welcome welcome;
	memcpy(&welcome, peer->header, sizeof(welcome));
	peer->header_length = 0;
	enum err e = welcome.magic == BULK_MAGIC ? wire_err(welcome.err) : ERR_PROTOCOL;
	if (e != ERR_OK)
		return e;
	peer->is_welcome = true;
	loop_post(peer->bulk->home, &peer->ready_task);
	return ERR_OK;
}

static void end_answer(struct bulk_peer *peer)
{
	struct bulk_read *read = peer->head->read;
	if (read)
		tell_done(peer->bulk, read, ERR_OK, digest_of(read->landing, (size_t)read->from.length));
	pop_flight(peer);
}

static enum err take_answer(struct bulk_peer *peer)
{
	struct bulk_answer answer;
	memcpy(&answer, peer->header, sizeof(answer));
	peer->header_length = 0;
	struct bulk_flight *flight = peer->head;
	enum err e = wire_err(answer.err);
	if (!flight || flight->number != answer.number || e == ERR_PROTOCOL || (e != ERR_OK && answer.length != 0))
		return ERR_PROTOCOL;
	if (e != ERR_OK) {
		if (flight->read)
			tell_done(peer->bulk, flight->read, e, 0);
		pop_flight(peer);
		return ERR_OK;
	}
	/* Of an abandoned ask the length is the server's word: its bytes go nowhere. */
	if (answer.length == 0 || (flight->read && answer.length != flight->read->from.length))
		return ERR_PROTOCOL;
	peer->left = answer.length;
	peer->landed = 0;
	return ERR_OK;
}

static enum err receive_header(struct bulk_peer *peer, size_t *ret_got)
{
	size_t wanted = peer->is_welcome ? sizeof(struct bulk_answer) : sizeof(struct bulk_welcome);
	enum err e = channel_read(peer->channel, peer->header + peer->header_length, wanted - peer->header_length, ret_got);
	if (e != ERR_OK)
		return e;
	peer->header_length += *ret_got;
	if (peer->header_length < wanted)
		return ERR_OK;
	return peer->is_welcome ? take_answer(peer) : take_welcome(peer);
}

/* Rule 2: into the landing, or nowhere. */
static enum err receive_bytes(struct bulk_peer *peer, size_t *ret_got)
{
	struct bulk_read *read = peer->head->read;
	size_t room = read || peer->left < BULK_OUT_BYTES ? (size_t)peer->left : BULK_OUT_BYTES;
	uint8_t *at = read ? (uint8_t *)read->landing + peer->landed : peer->bulk->scratch;
	enum err e = channel_read(peer->channel, at, room, ret_got);
	if (e != ERR_OK)
		return e;
	peer->landed += *ret_got;
	peer->left -= *ret_got;
	if (peer->left == 0)
		end_answer(peer);
	return ERR_OK;
}

/* ---- turns ---- */

static enum err send_out(struct bulk_peer *peer)
{
	while (peer->out_sent < peer->out.length) {
		size_t sent = 0;
		enum err e = channel_write(peer->channel, peer->out.data + peer->out_sent, peer->out.length - peer->out_sent, &sent);
		if (e != ERR_OK)
			return e == ERR_AGAIN ? ERR_OK : e;
		peer->out_sent += sent;
	}
	buf_clear(&peer->out);
	peer->out_sent = 0;
	return ERR_OK;
}

static enum err turn(struct bulk_peer *peer)
{
	enum err e = send_out(peer);
	size_t budget = BULK_TURN_BYTES;
	while (e == ERR_OK && budget > 0) {
		size_t got = 0;
		e = peer->left ? receive_bytes(peer, &got) : receive_header(peer, &got);
		budget = got < budget ? budget - got : 0;
	}
	if (budget == 0)
		loop_post(peer->bulk->loop, &peer->turn_task);
	if (e != ERR_OK && e != ERR_AGAIN)
		return e;
	bool blocked = peer->out_sent < peer->out.length || channel_wants_write(peer->channel);
	unsigned wanted = LOOP_READ | (blocked ? LOOP_WRITE : 0u);
	if (wanted == peer->watched)
		return ERR_OK;
	peer->watched = wanted;
	return loop_watch_set(peer->watch, wanted);
}

static void run_turn(struct bulk_peer *peer)
{
	if (peer->is_lost || !peer->channel)
		return;
	enum err e = turn(peer);
	if (e != ERR_OK)
		lose(peer, e);
}

static void on_ready(struct loop_watch *watch, unsigned ready, void *arg)
{
	run_turn(arg);
}

static void on_turn(void *arg)
{
	run_turn(arg);
}

/* ---- opening and closing, on the thread ---- */

static void on_dialed(void *arg, enum err e, const char *text, struct channel *channel)
{
	struct bulk_peer *peer = arg;
	const struct bulk_options *ours = &peer->bulk->options;
	peer->dialer = NULL;
	peer->channel = channel;
	if (e == ERR_OK)
		e = loop_watch_create(peer->bulk->loop, channel_fd(channel), LOOP_READ, on_ready, peer, &peer->watch);
	peer->watched = LOOP_READ;
	struct bulk_hello hello = {
		.magic = BULK_MAGIC,
		.version = BULK_VERSION,
		.node = ours->node,
		.incarnation = ours->incarnation,
		.server_node = peer->options.node,
		.server_incarnation = peer->options.incarnation,
	};
	if (e == ERR_OK)
		e = buf_append(&peer->out, &hello, sizeof(hello));
	if (e != ERR_OK)
		lose(peer, e);
	else
		run_turn(peer);
}

static void open_now(void *arg)
{
	struct bulk_peer *peer = arg;
	struct bulk *bulk = peer->bulk;
	struct dialer_options options = {
		.timeout_ns = DIAL_NS,
		.tls = bulk->options.tls,
		.purpose = TLS_BULK,
		.expect_node = peer->options.node,
	};
	struct why why;
	enum err e = bulk->is_stopped ? ERR_CANCELED
				      : dialer_start(bulk->loop, peer->url, &options, on_dialed, peer, &peer->dialer, &why);
	if (e != ERR_OK) {
		lose(peer, e);
		return;
	}
	peer->is_linked = true;
	peer->next = bulk->peers;
	bulk->peers = peer;
}

static void unlink_peer(struct bulk_peer *peer)
{
	struct bulk_peer **at = &peer->bulk->peers;
	while (peer->is_linked && *at != peer)
		at = &(*at)->next;
	if (peer->is_linked)
		*at = peer->next;
	peer->is_linked = false;
}

static void close_now(void *arg)
{
	struct bulk_peer *peer = arg;
	if (!peer->is_lost)
		hang_up(peer);
	unlink_peer(peer);
	loop_post(peer->bulk->home, &peer->closed_task);
}

void bulk_read_close(struct bulk *bulk)
{
	while (bulk->peers) {
		struct bulk_peer *peer = bulk->peers;
		lose(peer, ERR_CANCELED);
		unlink_peer(peer);
	}
}

/* ---- reads, on the thread ---- */

static enum err ask(struct bulk_peer *peer, struct bulk_read *read)
{
	struct bulk_flight *flight = malloc(sizeof(*flight));
	if (!flight)
		return ERR_NOMEM;
	const struct handle *from = &read->from;
	struct bulk_ask message = {
		.number = peer->number + 1,
		.node = from->node,
		.incarnation = from->incarnation,
		.offset = from->offset,
		.length = from->length,
		.generation = from->generation,
		.rank = from->rank,
		.region = from->region,
		.kind = from->kind,
	};
	enum err e = buf_append(&peer->out, &message, sizeof(message));
	if (e != ERR_OK) {
		free(flight);
		return e;
	}
	*flight = (struct bulk_flight){.read = read, .number = ++peer->number};
	read->flight = flight;
	*peer->tail = flight;
	peer->tail = &flight->next;
	loop_post(peer->bulk->loop, &peer->turn_task);
	return ERR_OK;
}

static void start_now(void *arg)
{
	struct bulk_read *read = arg;
	struct bulk_peer *peer = read->peer;
	enum err e = peer->is_lost ? ERR_PEER_GONE : ask(peer, read);
	if (e != ERR_OK)
		tell_done(peer->bulk, read, e, 0);
}

/* The server is told, so that it does not send what nobody wants; without memory for that it just sends. */
static void cancel_now(void *arg)
{
	struct bulk_read *read = arg;
	struct bulk_peer *peer = read->peer;
	struct bulk_flight *flight = read->flight;
	if (flight) {
		struct bulk_ask message = {.number = flight->number, .cancel = 1};
		flight->read = NULL;
		read->flight = NULL;
		if (buf_append(&peer->out, &message, sizeof(message)) == ERR_OK)
			loop_post(peer->bulk->loop, &peer->turn_task);
	}
	loop_post(peer->bulk->home, &read->ack_task);
}

/* ---- at home ---- */

static void on_ready_home(void *arg)
{
	struct bulk_peer *peer = arg;
	peer->options.ready(peer->options.arg);
}

static void on_lost_home(void *arg)
{
	struct bulk_peer *peer = arg;
	peer->options.lost(peer->options.arg, peer->lost_err);
}

static void on_closed_home(void *arg)
{
	struct bulk_peer *peer = arg;
	peer->options.closed(peer->options.arg);
}

/* A cancel that is on its way is answered by `canceled`, which comes behind this. */
static void on_done_home(void *arg)
{
	struct bulk_read *read = arg;
	if (!read->is_canceled)
		read->done(read);
}

static void on_ack_home(void *arg)
{
	struct bulk_read *read = arg;
	read->canceled(read);
}

enum err bulk_peer_open(struct bulk *bulk, const struct bulk_peer_options *options, struct bulk_peer **ret_peer)
{
	struct bulk_peer *peer = calloc(1, sizeof(*peer));
	if (!peer)
		return ERR_NOMEM;
	peer->bulk = bulk;
	peer->options = *options;
	peer->options.url = peer->url;
	strncpy(peer->url, options->url, sizeof(peer->url) - 1);
	peer->tail = &peer->head;
	peer->out.limit = 16 << 20; /* asks of far more pieces than a peer's flight may have */
	loop_task_init(&peer->open_task, open_now, peer);
	loop_task_init(&peer->close_task, close_now, peer);
	loop_task_init(&peer->turn_task, on_turn, peer);
	loop_task_init(&peer->ready_task, on_ready_home, peer);
	loop_task_init(&peer->lost_task, on_lost_home, peer);
	loop_task_init(&peer->closed_task, on_closed_home, peer);
	loop_post(bulk->loop, &peer->open_task);
	*ret_peer = peer;
	return ERR_OK;
}

void bulk_peer_close(struct bulk_peer *peer)
{
	loop_post(peer->bulk->loop, &peer->close_task);
}

void bulk_peer_free(struct bulk_peer *peer)
{
	struct loop *home = peer->bulk->home;
	loop_task_cancel(home, &peer->ready_task);
	loop_task_cancel(home, &peer->lost_task);
	loop_task_cancel(home, &peer->closed_task);
	assert(!peer->channel && !peer->dialer && !peer->head);
	free(peer);
}

void bulk_read_start(struct bulk_peer *peer, struct bulk_read *read)
{
	read->peer = peer;
	read->flight = NULL;
	read->is_canceled = false;
	loop_task_init(&read->start_task, start_now, read);
	loop_task_init(&read->cancel_task, cancel_now, read);
	loop_task_init(&read->done_task, on_done_home, read);
	loop_task_init(&read->ack_task, on_ack_home, read);
	loop_post(peer->bulk->loop, &read->start_task);
}

void bulk_read_cancel(struct bulk_read *read)
{
	if (read->is_canceled)
		return;
	read->is_canceled = true;
	loop_post(read->peer->bulk->loop, &read->cancel_task);
}

void bulk_read_forget(struct bulk_read *read)
{
	struct loop *home = read->peer->bulk->home;
	loop_task_cancel(home, &read->done_task);
	loop_task_cancel(home, &read->ack_task);
}
