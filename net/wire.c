#include "net/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"
#include "proto/codec.h"

static const uint64_t DIAL_TIMEOUT_NS = 2000000000;
/* A message unpacked takes more room than its frame: pointers, and 4 bytes for a varint of one. */
enum { ARENA_BYTES = 96 << 20, URL_MAX = 255 };
/* From this size on a message does not wait for what else the turn has to do: it is on its way while that is done. */
enum { PUSH_BYTES = 16 << 10 };

struct wire_conn {
	struct wire *wire;
	struct stream *stream; /* NULL: free */
	uint32_t id;           /* slot in the low 16 bits, use count above */
	uint64_t dialed;
	bool open;
	bool doomed;           /* closed by the core or overflowing: ends in the next turn */
	bool silent;           /* by the core: it wants no closed event */
	struct loop_task doom;
};

struct wire_address {
	uint64_t node; /* 0: free */
	char url[URL_MAX + 1];
};

/* A dial that failed at once: the event comes in the next turn. */
struct wire_failure {
	struct wire *wire;
	uint64_t node;
	struct loop_task task;
};

struct wire {
	struct loop *loop;
	struct wire_options options;
	struct stream_listener *listener;
	struct wire_conn *conns;
	struct wire_address *addresses;
	struct codec_arena arena;
	struct wire_counts counts;
	bool destroying;
};

static struct wire_conn *find(struct wire *w, uint32_t id)
{
	uint32_t slot = id & 0xffff;
	if (slot >= w->options.conn_max || !w->conns[slot].stream || w->conns[slot].id != id)
		return NULL;
	return &w->conns[slot];
}

static void release(struct wire_conn *conn)
{
	loop_task_cancel(conn->wire->loop, &conn->doom);
	conn->stream = NULL;
	conn->wire->counts.open--;
}

static void doom_now(void *arg)
{
	struct wire_conn *conn = arg;
	struct wire *w = conn->wire;
	uint32_t id = conn->id;
	uint64_t dialed = conn->dialed;
	bool silent = conn->silent, open = conn->open;
	struct stream *stream = conn->stream;
	release(conn);
	stream_close(stream);
	if (silent || w->destroying)
		return;
	if (open)
		w->options.callbacks.closed(w->options.callbacks.context, id);
	else
		w->options.callbacks.dial_failed(w->options.callbacks.context, dialed);
}

static void doom(struct wire_conn *conn, bool silent)
{
	conn->silent |= silent;
	if (conn->doomed)
		return;
	conn->doomed = true;
	loop_post(conn->wire->loop, &conn->doom);
}

static void on_open(struct stream *stream, void *arg)
{
	(void)stream;
	struct wire_conn *conn = arg;
	if (conn->doomed)
		return;
	conn->open = true;
	conn->wire->options.callbacks.opened(conn->wire->options.callbacks.context, conn->id, conn->dialed);
}

/* Rule 2: nobody says to be another. */
static bool is_true(struct wire *w, const struct stream *stream, const Wire__Envelope *envelope)
{
	const struct identity *identity = stream_identity(stream);
	if (!identity || envelope->body_case != WIRE__ENVELOPE__BODY_HELLO)
		return true;
	enum refusal refusal = identity_check_hello(identity, envelope->hello);
	if (refusal == REFUSAL_COUNT)
		return true;
	char text[256];
	snprintf(text, sizeof(text), "it greets as \"%.63s\" with role %d, its certificate names %s \"%s\"",
		 envelope->hello->name, (int)envelope->hello->role, identity->role, identity->name);
	tls_refuse(w->options.tls, refusal, stream_peer(stream), text);
	return false;
}

static void on_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
	struct wire_conn *conn = arg;
	struct wire *w = conn->wire;
	if (conn->doomed)
		return;
	w->counts.frames_in++;
	w->counts.bytes_in += length;
	struct why why = {0};
	Wire__Envelope *envelope;
	if (codec_unpack(&w->arena, data, length, &why, &envelope) != ERR_OK) {
		w->counts.refused_frames++;
		log_warn("%s: %s", stream_peer(stream), why.text);
		doom(conn, false);
		return;
	}
	if (!is_true(w, stream, envelope)) {
		doom(conn, false);
		return;
	}
	w->options.callbacks.message(w->options.callbacks.context, conn->id, envelope);
}

static void on_close(struct stream *stream, enum err e, const char *text, void *arg)
{
	struct wire_conn *conn = arg;
	struct wire *w = conn->wire;
	uint32_t id = conn->id;
	uint64_t dialed = conn->dialed;
	bool silent = conn->silent, open = conn->open;
	log_debug("%s: %s: %s", stream_peer(stream), err_text(e), text);
	release(conn);
	if (silent)
		return;
	if (open)
		w->options.callbacks.closed(w->options.callbacks.context, id);
	else
		w->options.callbacks.dial_failed(w->options.callbacks.context, dialed);
}

static const struct stream_callbacks stream_callbacks = {.on_open = on_open, .on_frame = on_frame, .on_close = on_close};

static struct wire_conn *take_conn(struct wire *w)
{
	for (uint32_t i = 0; i < w->options.conn_max; i++) {
		struct wire_conn *conn = &w->conns[i];
		if (conn->stream)
			continue;
		*conn = (struct wire_conn){.wire = w, .id = ((conn->id >> 16) + 1) << 16 | i};
		loop_task_init(&conn->doom, doom_now, conn);
		return conn;
	}
	return NULL;
}

static void on_accept(struct stream_listener *listener, struct stream *stream, void *arg)
{
	(void)listener;
	struct wire *w = arg;
	struct wire_conn *conn = take_conn(w);
	if (!conn)
		return; /* over the bound: the stream closes it */
	conn->stream = stream;
	conn->open = true;
	w->counts.open++;
	stream_accept(stream, &stream_callbacks, conn);
	w->options.callbacks.opened(w->options.callbacks.context, conn->id, 0);
}

static enum err allocate(struct wire *w)
{
	w->conns = calloc(w->options.conn_max, sizeof(*w->conns));
	w->addresses = calloc(w->options.address_max, sizeof(*w->addresses));
	w->arena = (struct codec_arena){.memory = malloc(ARENA_BYTES), .capacity = ARENA_BYTES};
	return w->conns && w->addresses && w->arena.memory ? ERR_OK : ERR_NOMEM;
}

enum err wire_create(struct loop *loop, const struct wire_options *options, struct wire **ret_wire, struct why *why)
{
	struct wire *w = calloc(1, sizeof(*w));
	if (!w)
		return ERR_NOMEM;
	w->loop = loop;
	w->options = *options;
	w->options.conn_max = options->conn_max ? options->conn_max : 1024;
	w->options.address_max = options->address_max ? options->address_max : 4096;
	enum err e = allocate(w);
	struct stream_options stream_options = {.frame_bytes_max = PROTO_FRAME_MAX, .tls = options->tls,
						.connection_max = w->options.conn_max};
	if (e == ERR_OK && options->listen_url)
		e = stream_listen(loop, options->listen_url, &stream_options, on_accept, w, &w->listener, why);
	if (e != ERR_OK) {
		wire_destroy(w);
		return e;
	}
	*ret_wire = w;
	return ERR_OK;
}

void wire_destroy(struct wire *w)
{
	if (!w)
		return;
	w->destroying = true;
	stream_listener_close(w->listener);
	for (uint32_t i = 0; w->conns && i < w->options.conn_max; i++) {
		struct stream *stream = w->conns[i].stream;
		if (!stream)
			continue;
		release(&w->conns[i]);
		stream_close(stream);
	}
	free(w->conns);
	free(w->addresses);
	free(w->arena.memory);
	free(w);
}

uint16_t wire_port(const struct wire *w)
{
	return w->listener ? stream_listener_port(w->listener) : 0;
}

static struct wire_address *find_address(struct wire *w, uint64_t node)
{
	for (uint32_t i = 0; i < w->options.address_max; i++)
		if (w->addresses[i].node == node)
			return &w->addresses[i];
	return NULL;
}

enum err wire_address_set(struct wire *w, uint64_t node, const char *url)
{
	struct wire_address *address = find_address(w, node);
	if (!address)
		address = find_address(w, 0);
	if (!address || strlen(url) > URL_MAX)
		return ERR_TOO_LARGE;
	address->node = node;
	snprintf(address->url, sizeof(address->url), "%s", url);
	return ERR_OK;
}

void wire_send(void *wire, uint32_t id, const Wire__Envelope *envelope)
{
	struct wire *w = wire;
	struct wire_conn *conn = find(w, id);
	if (!conn || conn->doomed)
		return;
	size_t size = codec_packed_size(envelope);
	uint8_t *payload;
	if (stream_send_in_place(conn->stream, size, &payload) == ERR_OK) {
		codec_pack_sized(envelope, payload, size);
		if (size >= PUSH_BYTES)
			stream_push(conn->stream);
		w->counts.frames_out++;
		w->counts.bytes_out += size;
		return;
	}
	w->counts.overflows++;
	log_warn("%s: does not take its frames (%zu bytes queued); closing", stream_peer(conn->stream),
		 stream_queued_bytes(conn->stream));
	doom(conn, false);
}

void wire_close(void *wire, uint32_t id)
{
	struct wire_conn *conn = find(wire, id);
	if (conn)
		doom(conn, true);
}

static void failure_now(void *arg)
{
	struct wire_failure *failure = arg;
	failure->wire->options.callbacks.dial_failed(failure->wire->options.callbacks.context, failure->node);
	free(failure);
}

static void fail_later(struct wire *w, uint64_t node)
{
	struct wire_failure *failure = calloc(1, sizeof(*failure));
	if (!failure)
		return; /* the session's own term ends the dial */
	*failure = (struct wire_failure){.wire = w, .node = node};
	loop_task_init(&failure->task, failure_now, failure);
	loop_post(w->loop, &failure->task);
}

void wire_dial(void *wire, uint64_t node)
{
	struct wire *w = wire;
	struct wire_address *address = find_address(w, node);
	struct wire_conn *conn = address ? take_conn(w) : NULL;
	if (!conn) {
		fail_later(w, node);
		return;
	}
	conn->dialed = node;
	struct stream_options options = {.frame_bytes_max = PROTO_FRAME_MAX, .tls = w->options.tls, .expect_node = node};
	struct why why = {0};
	if (stream_dial(w->loop, address->url, DIAL_TIMEOUT_NS, &options, &stream_callbacks, conn, &conn->stream,
			&why) != ERR_OK) {
		log_warn("cannot dial %s: %s", address->url, why.text);
		conn->stream = NULL;
		fail_later(w, node);
		return;
	}
	w->counts.open++;
}

void wire_counts(const struct wire *w, struct wire_counts *ret_counts)
{
	*ret_counts = w->counts;
}
