/* The reader's side of bulk, on the lanes' threads: one connection per peer and lane, asks in a row, answers in the same order, each straight into its
 * landing. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/bulk_impl.h"

static const uint64_t DIAL_NS = 3000000000;

/* An ask that was not answered yet; outlives its read when that was canceled. */
struct bulk_flight {
	struct bulk_flight *next;
	struct bulk_read *read; /* NULL: nobody wants it any more */
	uint64_t number;
};

/* ---- the end of a read ---- */

static void tell_done(struct bulk *bulk, struct bulk_read *read, enum err e, uint64_t digest)
{
	read->flight = NULL;
	read->err = e;
	read->digest = digest;
	loop_post(bulk->home, &read->done_task);
}

static void pop_flight(struct bulk_conn *conn)
{
	struct bulk_flight *flight = conn->head;
	conn->head = flight->next;
	if (!conn->head)
		conn->tail = &conn->head;
	free(flight);
}

/* Closes the connection; every read of it is done. */
static void hang_up(struct bulk_conn *conn)
{
	struct loop *loop = conn->lane->loop;
	conn->is_lost = true;
	dialer_cancel(conn->dialer);
	loop_watch_destroy(conn->watch);
	channel_close(conn->channel);
	loop_task_cancel(loop, &conn->turn_task);
	conn->dialer = NULL;
	conn->watch = NULL;
	conn->channel = NULL;
	buf_fini(&conn->out);
	while (conn->head) {
		if (conn->head->read)
			tell_done(conn->lane->bulk, conn->head->read, ERR_PEER_GONE, 0);
		pop_flight(conn);
	}
}

static void lose(struct bulk_conn *conn, enum err e)
{
	if (conn->is_lost)
		return;
	hang_up(conn);
	conn->lost_err = e == ERR_OK ? ERR_PEER_GONE : e;
	loop_post(conn->lane->bulk->home, &conn->lost_task);
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

static enum err take_welcome(struct bulk_conn *conn)
{
	struct bulk_welcome welcome;
	memcpy(&welcome, conn->header, sizeof(welcome));
	conn->header_length = 0;
	enum err e = welcome.magic == BULK_MAGIC ? wire_err(welcome.err) : ERR_PROTOCOL;
	if (e != ERR_OK)
		return e;
	conn->is_welcome = true;
	loop_post(conn->lane->bulk->home, &conn->ready_task);
	return ERR_OK;
}

static void end_answer(struct bulk_conn *conn)
{
	struct bulk_read *read = conn->head->read;
	if (read)
		tell_done(conn->lane->bulk, read, ERR_OK, digest_end(&conn->digest));
	pop_flight(conn);
}

static enum err take_answer(struct bulk_conn *conn)
{
	struct bulk_answer answer;
	memcpy(&answer, conn->header, sizeof(answer));
	conn->header_length = 0;
	struct bulk_flight *flight = conn->head;
	enum err e = wire_err(answer.err);
	if (!flight || flight->number != answer.number || e == ERR_PROTOCOL || (e != ERR_OK && answer.length != 0))
		return ERR_PROTOCOL;
	if (e != ERR_OK) {
		if (flight->read)
			tell_done(conn->lane->bulk, flight->read, e, 0);
		pop_flight(conn);
		return ERR_OK;
	}
	/* Of an abandoned ask the length is the server's word: its bytes go nowhere. */
	if (answer.length == 0 || (flight->read && answer.length != flight->read->from.length))
		return ERR_PROTOCOL;
	conn->left = answer.length;
	conn->landed = conn->leaf_length = 0;
	digest_init(&conn->digest, (size_t)answer.length);
	return ERR_OK;
}

static enum err take_header_if_whole(struct bulk_conn *conn)
{
	size_t wanted = conn->is_welcome ? sizeof(struct bulk_answer) : sizeof(struct bulk_welcome);
	if (conn->header_length < wanted)
		return ERR_OK;
	return conn->is_welcome ? take_answer(conn) : take_welcome(conn);
}

static enum err receive_header(struct bulk_conn *conn, size_t *ret_got)
{
	size_t wanted = conn->is_welcome ? sizeof(struct bulk_answer) : sizeof(struct bulk_welcome);
	enum err e = channel_read(conn->channel, conn->header + conn->header_length, wanted - conn->header_length, ret_got);
	if (e != ERR_OK)
		return e;
	conn->header_length += *ret_got;
	return take_header_if_whole(conn);
}

/* What came lies in the lane's scratch, behind what was left of a leaf before: whole leaves go to the landing and into the digest
 * in one pass, the rest waits for its leaf.  The kernel's copy into scratch stays in the nearest caches, where one into the landing
 * would have to be fetched again for the digest: it was a fifth of the time of a read (bench/results/kv.md). */
static void land(struct bulk_conn *conn, uint8_t *landing, size_t length)
{
	const uint8_t *scratch = conn->lane->scratch;
	size_t whole = conn->left == 0 ? length : length / DIGEST_LEAF_BYTES * DIGEST_LEAF_BYTES;
	digest_add_copy(&conn->digest, landing + conn->landed, scratch, whole);
	conn->landed += whole;
	conn->leaf_length = length - whole;
	memcpy(conn->leaf, scratch + whole, conn->leaf_length);
}

/* Rule 2: into the landing, or nowhere.  Behind the end of an answer comes the header of the next. */
static enum err receive_bytes(struct bulk_conn *conn, size_t *ret_got)
{
	struct bulk_read *read = conn->head->read;
	uint8_t *scratch = conn->lane->scratch;
	size_t before = conn->leaf_length, room = BULK_SCRATCH_BYTES - before;
	room = conn->left < room ? (size_t)conn->left : room;
	size_t behind = room == conn->left ? sizeof(conn->header) : 0;
	memcpy(scratch, conn->leaf, before);
	enum err e = channel_read2(conn->channel, scratch + before, room, conn->header, behind, ret_got);
	if (e != ERR_OK)
		return e;
	size_t got = *ret_got < room ? *ret_got : room;
	conn->header_length = *ret_got - got;
	conn->left -= got;
	if (read)
		land(conn, read->landing, before + got);
	if (conn->left == 0)
		end_answer(conn);
	return take_header_if_whole(conn);
}

/* ---- turns ---- */

static enum err send_out(struct bulk_conn *conn)
{
	while (conn->out_sent < conn->out.length) {
		size_t sent = 0;
		enum err e = channel_write(conn->channel, conn->out.data + conn->out_sent, conn->out.length - conn->out_sent, &sent);
		if (e != ERR_OK)
			return e == ERR_AGAIN ? ERR_OK : e;
		conn->out_sent += sent;
	}
	buf_clear(&conn->out);
	conn->out_sent = 0;
	return ERR_OK;
}

static enum err turn(struct bulk_conn *conn)
{
	enum err e = send_out(conn);
	size_t budget = BULK_TURN_BYTES;
	while (e == ERR_OK && budget > 0) {
		size_t got = 0;
		e = conn->left ? receive_bytes(conn, &got) : receive_header(conn, &got);
		budget = got < budget ? budget - got : 0;
	}
	if (budget == 0)
		loop_post(conn->lane->loop, &conn->turn_task);
	if (e != ERR_OK && e != ERR_AGAIN)
		return e;
	bool blocked = conn->out_sent < conn->out.length || channel_wants_write(conn->channel);
	unsigned wanted = LOOP_READ | (blocked ? LOOP_WRITE : 0u);
	if (wanted == conn->watched)
		return ERR_OK;
	conn->watched = wanted;
	return loop_watch_set(conn->watch, wanted);
}

static void run_turn(struct bulk_conn *conn)
{
	if (conn->is_lost || !conn->channel)
		return;
	enum err e = turn(conn);
	if (e != ERR_OK)
		lose(conn, e);
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
	struct bulk_conn *conn = arg;
	const struct bulk *bulk = conn->lane->bulk;
	conn->dialer = NULL;
	conn->channel = channel;
	if (e == ERR_OK)
		e = loop_watch_create(conn->lane->loop, channel_fd(channel), LOOP_READ, on_ready, conn, &conn->watch);
	conn->watched = LOOP_READ;
	struct bulk_hello hello = {
		.magic = BULK_MAGIC,
		.version = BULK_VERSION,
		.node = bulk->options.node,
		.incarnation = bulk_incarnation(bulk),
		.server_node = conn->peer->options.node,
		.server_incarnation = conn->peer->options.incarnation,
		.lane = conn->lane->index,
	};
	if (e == ERR_OK)
		e = buf_append(&conn->out, &hello, sizeof(hello));
	if (e != ERR_OK)
		lose(conn, e);
	else
		run_turn(conn);
}

static void open_now(void *arg)
{
	struct bulk_conn *conn = arg;
	struct bulk_lane *lane = conn->lane;
	struct dialer_options options = {
		.timeout_ns = DIAL_NS,
		.tls = lane->bulk->options.tls,
		.purpose = TLS_BULK,
		.expect_node = conn->peer->options.node,
	};
	struct why why;
	enum err e = lane->is_stopped ? ERR_CANCELED
				      : dialer_start(lane->loop, conn->peer->url, &options, on_dialed, conn, &conn->dialer, &why);
	if (e != ERR_OK) {
		lose(conn, e);
		return;
	}
	conn->is_linked = true;
	conn->next = lane->conns;
	lane->conns = conn;
}

static void unlink_conn(struct bulk_conn *conn)
{
	struct bulk_conn **at = &conn->lane->conns;
	while (conn->is_linked && *at != conn)
		at = &(*at)->next;
	if (conn->is_linked)
		*at = conn->next;
	conn->is_linked = false;
}

static void close_now(void *arg)
{
	struct bulk_conn *conn = arg;
	if (!conn->is_lost)
		hang_up(conn);
	unlink_conn(conn);
	loop_post(conn->lane->bulk->home, &conn->closed_task);
}

void bulk_read_close(struct bulk_lane *lane)
{
	while (lane->conns) {
		struct bulk_conn *conn = lane->conns;
		lose(conn, ERR_CANCELED);
		unlink_conn(conn);
	}
}

/* ---- reads, on the thread ---- */

static enum err ask(struct bulk_conn *conn, struct bulk_read *read)
{
	struct bulk_flight *flight = malloc(sizeof(*flight));
	if (!flight)
		return ERR_NOMEM;
	const struct handle *from = &read->from;
	struct bulk_ask message = {
		.number = conn->number + 1,
		.node = from->node,
		.incarnation = from->incarnation,
		.offset = from->offset,
		.length = from->length,
		.generation = from->generation,
		.rank = from->rank,
		.region = from->region,
		.kind = from->kind,
	};
	enum err e = buf_append(&conn->out, &message, sizeof(message));
	if (e != ERR_OK) {
		free(flight);
		return e;
	}
	*flight = (struct bulk_flight){.read = read, .number = ++conn->number};
	read->flight = flight;
	*conn->tail = flight;
	conn->tail = &flight->next;
	loop_post(conn->lane->loop, &conn->turn_task);
	return ERR_OK;
}

void bulk_conn_start(void *arg)
{
	struct bulk_read *read = arg;
	struct bulk_conn *conn = read->conn;
	enum err e = conn->is_lost ? ERR_PEER_GONE : ask(conn, read);
	if (e != ERR_OK)
		tell_done(conn->lane->bulk, read, e, 0);
}

/* The server is told, so that it does not send what nobody wants; without memory for that it just sends. */
void bulk_conn_cancel(void *arg)
{
	struct bulk_read *read = arg;
	struct bulk_conn *conn = read->conn;
	struct bulk_flight *flight = read->flight;
	if (flight) {
		struct bulk_ask message = {.number = flight->number, .cancel = 1};
		flight->read = NULL;
		read->flight = NULL;
		if (buf_append(&conn->out, &message, sizeof(message)) == ERR_OK)
			loop_post(conn->lane->loop, &conn->turn_task);
	}
	loop_post(conn->lane->bulk->home, &read->ack_task);
}

void bulk_conn_init(struct bulk_conn *conn, struct bulk_peer *peer, struct bulk_lane *lane)
{
	conn->lane = lane;
	conn->peer = peer;
	conn->tail = &conn->head;
	conn->out.limit = 16 << 20; /* asks of far more pieces than a peer's flight may have */
	loop_task_init(&conn->open_task, open_now, conn);
	loop_task_init(&conn->close_task, close_now, conn);
	loop_task_init(&conn->turn_task, on_turn, conn);
}
