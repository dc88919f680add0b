/* The server's side of bulk: who may ask, what is checked, and the sending straight from the region. */
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/log.h"
#include "net/bulk_impl.h"
#include "net/identity.h"

/* Between the handshake and the HELLO. */
static const uint64_t HELLO_NS = 2000000000;

enum {
	BULK_COPY_BYTES = 8 << 10, /* up to here copying is cheaper than a part or a record of its own */
	TLS_RECORD_BYTES = 16 << 10,
	PARTS_MAX = 32,
	PARTS_BYTES = 512 << 10,   /* then no further piece is looked at before these are sent */
};

struct bulk_client {
	struct bulk_lane *lane;
	struct bulk_lane *next_lane; /* greeted: it goes on there; else NULL */
	uint32_t reader_lane;
	struct bulk_client *prev, *next;
	struct channel *channel;
	struct loop_watch *watch;
	unsigned watched;
	struct loop_timer *timer;  /* until the HELLO */
	struct loop_task again;    /* its turn was over before its bytes were */
	struct loop_task arrive;   /* at the lane that its HELLO named */
	bool is_greeted;
	bool is_leaving;           /* refused: closed when the WELCOME is out */
	bool is_reading_halted;    /* for want of room, not of bytes: nothing will make the descriptor ready */
	uint64_t node, incarnation;
	uint8_t in[4096];
	size_t in_length;
	/* asks: a ring; head is the next to be answered */
	struct bulk_ask asks[BULK_ASKS_MAX];
	uint64_t asks_head, asks_tail; /* ever growing */
	/* what goes out: parts of `out`, and of pieces straight from their regions, in their order */
	uint8_t out[BULK_OUT_BYTES];
	size_t out_length;
	struct iovec parts[PARTS_MAX];
	const struct region *regions[PARTS_MAX]; /* NULL: the part is of `out` */
	size_t part_first, part_count;           /* [first, count) are to be sent */
	size_t parts_bytes;
	char peer[128];
};

static void client_link(struct bulk_client *client, struct bulk_lane *lane)
{
	client->lane = lane;
	client->prev = NULL;
	client->next = lane->clients;
	if (lane->clients)
		lane->clients->prev = client;
	lane->clients = client;
}

/* Leaves the lane and what runs on its loop. */
static void client_unlink(struct bulk_client *client)
{
	struct bulk_lane *lane = client->lane;
	if (client->prev)
		client->prev->next = client->next;
	else
		lane->clients = client->next;
	if (client->next)
		client->next->prev = client->prev;
	loop_task_cancel(lane->loop, &client->again);
	loop_watch_destroy(client->watch);
	loop_timer_destroy(client->timer);
	client->watch = NULL;
	client->timer = NULL;
}

static void client_free(struct bulk_client *client)
{
	struct bulk *bulk = client->lane->bulk;
	client_unlink(client);
	__atomic_sub_fetch(&bulk->client_count, 1, __ATOMIC_RELAXED);
	channel_close(client->channel);
	free(client);
}

/* ---- what is asked ---- */

static const struct region *find_region(const struct bulk_lane *lane, const struct bulk_ask *ask)
{
	for (size_t i = 0; i < lane->region_count; i++) {
		const struct region_options *options = region_options(lane->regions[i]);
		if (options->rank == ask->rank && options->kind == ask->kind && options->index == ask->region)
			return lane->regions[i];
	}
	return NULL;
}

/* Rule 1. */
static enum err check_ask(const struct bulk_lane *lane, const struct bulk_ask *ask, const struct region **ret_region,
			  const uint8_t **ret_data)
{
	if (ask->cancel)
		return ERR_CANCELED;
	if (ask->node != lane->bulk->options.node || ask->incarnation != bulk_incarnation(lane->bulk))
		return ERR_MISMATCH;
	const struct region *region = find_region(lane, ask);
	if (!region)
		return ERR_DENIED;
	*ret_region = region;
	return region_serve(region, ask->offset, ask->length, ask->generation, ret_data);
}

static void count(struct bulk *bulk, enum err e, uint64_t length)
{
	uint64_t *counter = e == ERR_OK	     ? &bulk->served.reads
			    : e == ERR_STALE ? &bulk->served.stale
					     : &bulk->served.refused;
	if (e == ERR_CANCELED)
		return;
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
	if (e == ERR_OK)
		__atomic_add_fetch(&bulk->served.bytes, length, __ATOMIC_RELAXED);
}

static void add_part(struct bulk_client *client, const struct region *region, const void *data, size_t length)
{
	client->parts[client->part_count] = (struct iovec){(void *)data, length}; /* sendmsg only reads it */
	client->regions[client->part_count++] = region;
	client->parts_bytes += length;
}

/* Behind what was appended last, it is of the same part. */
static void append(struct bulk_client *client, const void *data, size_t length)
{
	uint8_t *end = client->out + client->out_length;
	memcpy(end, data, length);
	client->out_length += length;
	size_t last = client->part_count - 1; /* before the first: no part's number */
	if (last < PARTS_MAX && !client->regions[last]) {
		client->parts[last].iov_len += length;
		client->parts_bytes += length;
	} else if (length > 0) {
		add_part(client, NULL, end, length);
	}
}

/* How much of a piece is sent from `out`, behind its header: small pieces share a packet or record whole.  Of a large one
 * what fills the record over TLS, else nothing: it goes out from where it lies. */
static size_t part_to_copy(const struct bulk_client *client, uint64_t length)
{
	size_t part = BULK_OUT_BYTES - client->out_length;
	if (length > BULK_COPY_BYTES && !client->lane->bulk->options.tls)
		part = 0;
	else if (length > BULK_COPY_BYTES)
		part = TLS_RECORD_BYTES - client->out_length % TLS_RECORD_BYTES;
	return length < part ? (size_t)length : part;
}

static void answer(struct bulk_client *client, const struct bulk_ask *ask)
{
	const struct region *region = NULL;
	const uint8_t *data = NULL;
	enum err e = check_ask(client->lane, ask, &region, &data);
	struct bulk_answer header = {.number = ask->number, .err = (uint32_t)e, .length = e == ERR_OK ? ask->length : 0};
	count(client->lane->bulk, e, ask->length);
	append(client, &header, sizeof(header));
	if (e != ERR_OK)
		return;
	size_t part = part_to_copy(client, ask->length);
	append(client, data, part);
	if (part < ask->length)
		add_part(client, region, data + part, ask->length - part);
}

static bool has_output(const struct bulk_client *client)
{
	return client->part_first < client->part_count;
}

/* Over TLS a part goes out by itself, so nothing is gained by looking at the piece behind a large one. */
static bool has_room(const struct bulk_client *client)
{
	if (client->lane->bulk->options.tls && client->part_count > 0 && client->regions[client->part_count - 1])
		return false;
	return client->out_length + sizeof(struct bulk_answer) < BULK_OUT_BYTES && client->part_count + 2 <= PARTS_MAX &&
	       client->parts_bytes < PARTS_BYTES;
}

static void fill(struct bulk_client *client)
{
	if (has_output(client))
		return;
	client->out_length = client->part_first = client->part_count = client->parts_bytes = 0;
	while (client->asks_head < client->asks_tail && has_room(client))
		answer(client, &client->asks[client->asks_head++ % BULK_ASKS_MAX]);
}

static void account_sent(struct bulk_client *client, size_t sent)
{
	while (sent > 0) {
		struct iovec *part = &client->parts[client->part_first];
		size_t of_part = sent < part->iov_len ? sent : part->iov_len;
		part->iov_base = (uint8_t *)part->iov_base + of_part;
		part->iov_len -= of_part;
		sent -= of_part;
		client->part_first += part->iov_len == 0;
	}
}

/* ERR_AGAIN: the socket is full or the turn is over. */
static enum err send_some(struct bulk_client *client, size_t *budget)
{
	size_t sent = 0;
	enum err e = channel_write_parts(client->channel, client->parts + client->part_first, client->part_count - client->part_first, &sent);
	account_sent(client, sent);
	*budget = sent < *budget ? *budget - sent : 0;
	return e == ERR_OK && *budget == 0 ? ERR_AGAIN : e;
}

/* ---- what comes in ---- */

static void welcome(struct bulk_client *client, enum err e)
{
	struct bulk_welcome welcome = {.magic = BULK_MAGIC, .err = (uint32_t)e};
	append(client, &welcome, sizeof(welcome));
	client->is_leaving = e != ERR_OK;
}

/* A reader that comes again has no use for its older connection, which is of the same lane on both sides. */
static void drop_older(struct bulk_client *client)
{
	for (struct bulk_client *other = client->lane->clients, *next; other; other = next) {
		next = other->next;
		if (other != client && other->is_greeted && other->node == client->node &&
		    other->reader_lane == client->reader_lane && other->incarnation <= client->incarnation)
			client_free(other);
	}
}

static enum err take_hello(struct bulk_client *client, const struct bulk_hello *hello)
{
	const struct bulk_options *options = &client->lane->bulk->options;
	const struct identity *identity = channel_identity(client->channel);
	if (hello->magic != BULK_MAGIC)
		return ERR_PROTOCOL;
	if (identity && identity_node(identity) != hello->node) {
		channel_refuse(client->channel, REFUSAL_NAME, client->peer, "it asks for bulk under another node's id");
		return ERR_DENIED;
	}
	bool is_us = hello->server_node == options->node && hello->server_incarnation == bulk_incarnation(client->lane->bulk);
	client->node = hello->node;
	client->incarnation = hello->incarnation;
	client->is_greeted = true;
	client->reader_lane = hello->lane;
	client->next_lane = &client->lane->bulk->lanes[hello->lane % options->lanes];
	loop_timer_cancel(client->timer);
	welcome(client, hello->version != BULK_VERSION ? ERR_UNSUPPORTED : is_us ? ERR_OK : ERR_MISMATCH);
	if (client->next_lane != client->lane)
		return ERR_OK;
	client->next_lane = NULL;
	drop_older(client);
	return ERR_OK;
}

/* An ask still waiting is marked; one that is out cannot be taken back. */
static void take_back(struct bulk_client *client, uint64_t number)
{
	for (uint64_t i = client->asks_head; i < client->asks_tail; i++)
		if (client->asks[i % BULK_ASKS_MAX].number == number)
			client->asks[i % BULK_ASKS_MAX].cancel = 1;
}

/* How many bytes of the input were used; 0: not enough, or no room. */
static size_t take_message(struct bulk_client *client, const uint8_t *at, size_t length, enum err *ret_err)
{
	if (!client->is_greeted) {
		struct bulk_hello hello;
		if (length < sizeof(hello))
			return 0;
		memcpy(&hello, at, sizeof(hello));
		*ret_err = take_hello(client, &hello);
		return sizeof(hello);
	}
	struct bulk_ask ask;
	if (client->next_lane || length < sizeof(ask) || client->asks_tail - client->asks_head == BULK_ASKS_MAX)
		return 0;
	memcpy(&ask, at, sizeof(ask));
	if (ask.cancel)
		take_back(client, ask.number);
	else
		client->asks[client->asks_tail++ % BULK_ASKS_MAX] = ask;
	return sizeof(ask);
}

static enum err take_messages(struct bulk_client *client)
{
	enum err e = ERR_OK;
	size_t at = 0;
	for (size_t used; e == ERR_OK && (used = take_message(client, client->in + at, client->in_length - at, &e)) > 0;)
		at += used;
	client->in_length -= at;
	memmove(client->in, client->in + at, client->in_length);
	return e;
}

/* Until nothing more is there or there is no room: then the asks wait in the socket. */
static enum err receive(struct bulk_client *client)
{
	enum err e = take_messages(client);
	client->is_reading_halted = false;
	while (e == ERR_OK && !client->next_lane && client->in_length < sizeof(client->in)) {
		size_t got = 0;
		e = channel_read(client->channel, client->in + client->in_length, sizeof(client->in) - client->in_length, &got);
		if (e != ERR_OK)
			break;
		client->in_length += got;
		e = take_messages(client);
	}
	client->is_reading_halted = e == ERR_OK;
	return e == ERR_AGAIN ? ERR_OK : e;
}

/* ---- turns ---- */

static enum err watch_right(struct bulk_client *client, bool turn_over)
{
	bool full = client->in_length == sizeof(client->in);
	unsigned wanted = (full || client->is_leaving ? 0u : LOOP_READ) |
			  ((has_output(client) && !turn_over) || channel_wants_write(client->channel) ? LOOP_WRITE : 0u);
	if (turn_over || (client->is_reading_halted && !full))
		loop_post(client->lane->loop, &client->again);
	if (wanted == client->watched)
		return ERR_OK;
	client->watched = wanted;
	return loop_watch_set(client->watch, wanted);
}

static enum err turn(struct bulk_client *client)
{
	size_t budget = BULK_TURN_BYTES;
	enum err e = client->is_leaving ? ERR_OK : receive(client);
	while (e == ERR_OK && !client->next_lane) {
		fill(client);
		if (!has_output(client))
			break;
		e = send_some(client, &budget);
		/* Asks that waited in our buffer for room in the ring. */
		if (e == ERR_OK && client->in_length >= sizeof(struct bulk_ask))
			e = take_messages(client);
	}
	if (client->is_leaving && !has_output(client))
		return ERR_MISMATCH;
	if (client->next_lane)
		return e;
	return e == ERR_OK || e == ERR_AGAIN ? watch_right(client, budget == 0) : e;
}

/* All that is not of the loop goes along: what was read already, and the WELCOME. */
static void hand_over(struct bulk_client *client)
{
	client_unlink(client);
	loop_post(client->next_lane->loop, &client->arrive);
}

static void run_turn(struct bulk_client *client)
{
	if (turn(client) != ERR_OK)
		client_free(client);
	else if (client->next_lane)
		hand_over(client);
}

static void on_ready(struct loop_watch *watch, unsigned ready, void *arg)
{
	run_turn(arg);
}

static void on_again(void *arg)
{
	run_turn(arg);
}

static void on_silence(struct loop_timer *timer, void *arg)
{
	struct bulk_client *client = arg;
	channel_refuse(client->channel, REFUSAL_TIMEOUT, client->peer, "no greeting on the bulk port in time");
	client_free(client);
}

/* ---- life ---- */

static enum err watch(struct bulk_client *client)
{
	struct loop *loop = client->lane->loop;
	enum err e = loop_watch_create(loop, channel_fd(client->channel), LOOP_READ, on_ready, client, &client->watch);
	if (e != ERR_OK)
		return e;
	client->watched = LOOP_READ;
	/* What came with the handshake or to the other lane makes nothing ready. */
	loop_post(loop, &client->again);
	return ERR_OK;
}

static enum err client_start(struct bulk_client *client)
{
	enum err e = loop_timer_create(client->lane->loop, on_silence, client, &client->timer);
	if (e != ERR_OK)
		return e;
	loop_timer_arm(client->timer, HELLO_NS);
	return watch(client);
}

static void on_arrive(void *arg)
{
	struct bulk_client *client = arg;
	client_link(client, client->next_lane);
	client->next_lane = NULL;
	if (client->lane->is_stopped || watch(client) != ERR_OK) {
		client_free(client);
		return;
	}
	drop_older(client);
}

void bulk_serve_accept(void *arg, struct channel *channel, const char *peer)
{
	struct bulk *bulk = arg;
	uint32_t count = __atomic_load_n(&bulk->client_count, __ATOMIC_RELAXED);
	struct bulk_client *client = count < BULK_CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		log_warn("bulk > %s refused: %u connections of readers are there", peer, count);
		channel_close(channel);
		return;
	}
	client->channel = channel;
	strncpy(client->peer, peer, sizeof(client->peer) - 1);
	loop_task_init(&client->again, on_again, client);
	loop_task_init(&client->arrive, on_arrive, client);
	client_link(client, &bulk->lanes[0]);
	__atomic_add_fetch(&bulk->client_count, 1, __ATOMIC_RELAXED);
	if (client_start(client) != ERR_OK)
		client_free(client);
}

static bool is_sending(const struct bulk_client *client, const struct region *region)
{
	for (size_t i = client->part_first; i < client->part_count; i++)
		if (client->regions[i] == region)
			return true;
	return false;
}

void bulk_serve_drop_region(struct bulk_lane *lane, const struct region *region)
{
	for (struct bulk_client *client = lane->clients, *next; client; client = next) {
		next = client->next;
		if (is_sending(client, region))
			client_free(client);
	}
}

void bulk_serve_close(struct bulk_lane *lane)
{
	while (lane->clients)
		client_free(lane->clients);
}
