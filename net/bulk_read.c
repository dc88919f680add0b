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

/* The same with the end of the turn: one wake-up of the home loop for all that ended in it. */
static void tell_done_soon(struct bulk_conn *conn, struct bulk_read *read, enum err e, uint64_t digest)
{
	read->flight = NULL;
	read->err = e;
	read->digest = digest;
	read->done_next = NULL;
	*conn->done_tail = read;
	conn->done_tail = &read->done_next;
}

static void tell_all_done(struct bulk_conn *conn)
{
	struct bulk_read *read = conn->done_head;
	conn->done_head = NULL;
	conn->done_tail = &conn->done_head;
	while (read) {
		struct bulk_read *next = read->done_next; /* once it is posted it may be gone */
		loop_post(conn->lane->bulk->home, &read->done_task);
		read = next;
	}
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

static enum err take_welcome(struct bulk_conn *conn, const uint8_t *at)
{
	struct bulk_welcome welcome;
	memcpy(&welcome, at, sizeof(welcome));
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
		tell_done_soon(conn, read, ERR_OK, digest_end(&conn->digest));
	pop_flight(conn);
}

static enum err take_answer(struct bulk_conn *conn, const uint8_t *at)
{
	struct bulk_answer answer;
	memcpy(&answer, at, sizeof(answer));
	struct bulk_flight *flight = conn->head;
	enum err e = wire_err(answer.err);
	if (!flight || flight->number != answer.number || e == ERR_PROTOCOL || (e != ERR_OK && answer.length != 0))
		return ERR_PROTOCOL;
	if (e != ERR_OK) {
		if (flight->read)
			tell_done_soon(conn, flight->read, e, 0);
		pop_flight(conn);
		return ERR_OK;
	}
	/* Of an abandoned ask the length is the server's word: its bytes go nowhere. */
	if (answer.length == 0 || (flight->read && answer.length != flight->read->from.length))
		return ERR_PROTOCOL;
	conn->left = answer.length;
	conn->landed = 0;
	digest_init(&conn->digest, (size_t)answer.length);
	return ERR_OK;
}

static size_t take_header(struct bulk_conn *conn, const uint8_t *at, size_t length, enum err *ret_err)
{
	size_t wanted = conn->is_welcome ? sizeof(struct bulk_answer) : sizeof(struct bulk_welcome);
	if (length < wanted)
		return 0;
	*ret_err = conn->is_welcome ? take_answer(conn, at) : take_welcome(conn, at);
	return wanted;
}

/* Rule 2: into the landing, or nowhere; whole leaves, but for the end. */
static size_t take_bytes(struct bulk_conn *conn, const uint8_t *at, size_t length)
{
	struct bulk_read *read = conn->head->read;
	size_t taken = length < conn->left ? length / DIGEST_LEAF_BYTES * DIGEST_LEAF_BYTES : (size_t)conn->left;
	if (read)
		digest_add_copy(&conn->digest, (uint8_t *)read->landing + conn->landed, at, taken);
	conn->landed += taken;
	conn->left -= taken;
	if (conn->left == 0)
		end_answer(conn);
	return taken;
}

/* What came lies in the lane's scratch, behind what was left over before: many small answers, or a part of a large one.  Bytes go from
 * there to their landing and into the digest in one pass.  The kernel's copy into scratch stays in the nearest caches, where one into
 * the landing would have to be fetched again for the digest: it was a fifth of the time of a read (bench/results/kv.md). */
static enum err take_all(struct bulk_conn *conn, size_t length)
{
	const uint8_t *scratch = conn->lane->scratch;
	enum err e = ERR_OK;
	size_t at = 0, taken;
	do {
		taken = conn->left ? take_bytes(conn, scratch + at, length - at) : take_header(conn, scratch + at, length - at, &e);
		at += taken;
	} while (e == ERR_OK && taken > 0);
	conn->rest_length = length - at; /* below a leaf or a header */
	memcpy(conn->rest, scratch + at, e == ERR_OK ? conn->rest_length : 0);
	return e;
}

static enum err receive(struct bulk_conn *conn, size_t *ret_got)
{
	uint8_t *scratch = conn->lane->scratch;
	size_t before = conn->rest_length;
	memcpy(scratch, conn->rest, before);
	enum err e = channel_read(conn->channel, scratch + before, BULK_SCRATCH_BYTES - before, ret_got);
	return e == ERR_OK ? take_all(conn, before + *ret_got) : e;
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
		e = receive(conn, &got);
		budget = got < budget ? budget - got : 0;
	}
	if (budget == 0)
		loop_post(conn->lane->loop, &conn->turn_task);
	if (e != ERR_OK && e != ERR_AGAIN)
		return e;
	/* Each wake-up costs as much as some 10 KiB; of an answer under way the rest is sure to come. */
	channel_wake_at(conn->channel, conn->left ? conn->left - conn->rest_length : 0);
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
	tell_all_done(conn);
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
	conn->done_tail = &conn->done_head;
	conn->out.limit = 16 << 20; /* asks of far more pieces than a peer's flight may have */
	loop_task_init(&conn->open_task, open_now, conn);
	loop_task_init(&conn->close_task, close_now, conn);
	loop_task_init(&conn->turn_task, on_turn, conn);
}
