/* Reads and their pieces: from link_read() to the last callback.  The transports only settle pieces. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/link_impl.h"

/* A pump starts at most this many pieces before the loop turns: small ones are copied on the way. */
#define PUMP_PIECES_MAX 128

static void list_push(struct piece_list *list, struct piece *piece)
{
	piece->next = NULL;
	piece->prev = list->tail;
	if (list->tail)
		list->tail->next = piece;
	else
		list->head = piece;
	list->tail = piece;
	list->count++;
}

static void list_remove(struct piece_list *list, struct piece *piece)
{
	if (piece->prev)
		piece->prev->next = piece->next;
	else
		list->head = piece->next;
	if (piece->next)
		piece->next->prev = piece->prev;
	else
		list->tail = piece->prev;
	list->count--;
}

static struct piece_list *list_of(struct peer *peer, enum piece_state state)
{
	switch (state) {
	case PIECE_WAITING:
		return &peer->waiting;
	case PIECE_ACTIVE:
		return &peer->active;
	case PIECE_QUARANTINED:
		return &peer->quarantined;
	case PIECE_SETTLED:
		break;
	}
	return NULL;
}

static void piece_move(struct piece *piece, enum piece_state state)
{
	static const bool allowed[4][4] = {
		[PIECE_WAITING] = {[PIECE_ACTIVE] = true, [PIECE_SETTLED] = true},
		[PIECE_ACTIVE] = {[PIECE_QUARANTINED] = true, [PIECE_SETTLED] = true},
		[PIECE_QUARANTINED] = {[PIECE_SETTLED] = true},
	};
	struct peer *peer = piece->read->peer;
	assert(allowed[piece->state][state]);
	bool was_on_the_way = piece->state == PIECE_ACTIVE || piece->state == PIECE_QUARANTINED;
	list_remove(list_of(peer, piece->state), piece);
	piece->state = state;
	if (state != PIECE_SETTLED)
		list_push(list_of(peer, state), piece);
	if (state == PIECE_ACTIVE)
		peer->flight_bytes += piece->from.length;
	if (state == PIECE_SETTLED && was_on_the_way)
		peer->flight_bytes -= piece->from.length;
}

static void count_result(struct peer *peer, const struct link_read *read, size_t index, uint64_t now_ns)
{
	struct link_counters *counters = &peer->counters;
	counters->reads++;
	switch (read->results[index].err) {
	case ERR_OK:
		counters->bytes += read->pieces[index].from.length;
		counters->device_bytes += read->pieces[index].by_device ? read->pieces[index].from.length : 0;
		counters->busy_ns += now_ns - read->start_ns;
		break;
	case ERR_STALE:
		counters->stale++;
		break;
	case ERR_DENIED:
	case ERR_MISMATCH:
		counters->refused++;
		break;
	case ERR_DEADLINE:
		counters->deadline++;
		break;
	case ERR_CANCELED:
		counters->canceled++;
		break;
	default:
		counters->gone++;
		break;
	}
}

static void report(struct link_read *read)
{
	uint64_t now_ns = loop_now_ns(read->peer->link->loop);
	assert(!read->reported);
	read->reported = true;
	loop_timer_cancel(read->timer);
	loop_task_cancel(read->peer->link->loop, &read->cancel_task);
	for (size_t i = 0; i < read->count; i++)
		count_result(read->peer, read, i, now_ns);
	read->done(read->context, read->results, read->count);
}

static void finish(struct link_read *read)
{
	struct peer *peer = read->peer;
	peer->link->pieces_open -= (uint32_t)read->count;
	loop_timer_destroy(read->timer);
	if (read->landing_free)
		read->landing_free(read->context);
	free(read->results);
	free(read);
	/* Room for what waits, or the last one out of a closed peer. */
	if (peer->waiting.head || peer->lost)
		peer_wake(peer);
}

void piece_settle(struct piece *piece, enum err e, uint64_t digest)
{
	struct link_read *read = piece->read;
	if (!read->reported)
		read->results[piece - read->pieces] = (struct link_result){e, e == ERR_OK ? digest : 0};
	piece_move(piece, PIECE_SETTLED);
	read->settled++;
	if (read->settled < read->count) {
		if (read->peer->waiting.head)
			peer_wake(read->peer);
		return;
	}
	if (!read->reported)
		report(read);
	finish(read);
}

/* Takes back what the transport lets go; the rest is quarantined.  Then reports. */
static void read_end_early(struct link_read *read, enum err e)
{
	struct peer *peer = read->peer;
	assert(!read->reported);
	for (size_t i = 0; i < read->count; i++) {
		struct piece *piece = &read->pieces[i];
		if (piece->state == PIECE_SETTLED)
			continue;
		read->results[i] = (struct link_result){e, 0};
		if (piece->state == PIECE_ACTIVE && !peer->transport->forget(peer, piece)) {
			piece_move(piece, PIECE_QUARANTINED);
			continue;
		}
		piece_move(piece, PIECE_SETTLED);
		read->settled++;
	}
	report(read);
	if (read->settled == read->count)
		finish(read);
}

static void on_deadline(struct loop_timer *timer, void *arg)
{
	read_end_early(arg, ERR_DEADLINE);
}

static void on_cancel(void *arg)
{
	read_end_early(arg, ERR_CANCELED);
}

void peer_end_reads(struct peer *peer)
{
	/* Each round moves the head out of its list: ended reads have no piece in either. */
	while (peer->waiting.head || peer->active.head) {
		struct piece *piece = peer->waiting.head ? peer->waiting.head : peer->active.head;
		read_end_early(piece->read, peer->lost_err);
	}
}

void peer_settle_quarantined(struct peer *peer)
{
	for (struct piece *piece = peer->quarantined.head; piece;) {
		if (!peer->transport->forget(peer, piece)) {
			piece = piece->next;
			continue;
		}
		/* Its read may be freed with others of its pieces: none of them is left in a list then. */
		piece_settle(piece, ERR_PEER_GONE, 0);
		piece = peer->quarantined.head;
	}
}

static bool has_room(const struct peer *peer, const struct piece *piece)
{
	return peer->flight_bytes == 0 ||
	       peer->flight_bytes + piece->from.length <= peer->link->options.flight_bytes_max;
}

void peer_pump(struct peer *peer)
{
	for (int i = 0; i < PUMP_PIECES_MAX; i++) {
		struct piece *piece = peer->waiting.head;
		if (!piece || peer->lost || !peer->transport->is_ready(peer) || !has_room(peer, piece))
			return;
		piece_move(piece, PIECE_ACTIVE);
		peer->transport->start(peer, piece);
	}
	peer_wake(peer);
}

static enum err check_options(const struct link *link, const struct link_read_options *options, struct peer **ret_peer)
{
	if (link->destroying)
		return ERR_CANCELED;
	if (options->count == 0 || options->count > READ_PIECES_MAX || options->timeout_ns == 0 || !options->done)
		return ERR_INVALID;
	for (size_t i = 0; i < options->count; i++)
		if (options->handles[i].node != options->node || options->handles[i].length == 0)
			return ERR_INVALID;
	if (options->count > link->options.pieces_max - link->pieces_open)
		return ERR_AGAIN;
	*ret_peer = link_peer_find(link, options->node);
	if (!*ret_peer)
		return ERR_NOT_FOUND;
	return (*ret_peer)->lost ? ERR_PEER_GONE : ERR_OK;
}

static enum err read_create(struct peer *peer, const struct link_read_options *options, struct link_read **ret_read)
{
	struct link_read *read = calloc(1, sizeof(*read) + options->count * sizeof(read->pieces[0]));
	if (!read)
		return ERR_NOMEM;
	read->peer = peer;
	read->count = options->count;
	read->done = options->done;
	read->landing_free = options->landing_free;
	read->context = options->context;
	read->start_ns = loop_now_ns(peer->link->loop);
	loop_task_init(&read->cancel_task, on_cancel, read);
	read->results = calloc(options->count, sizeof(*read->results));
	enum err e = read->results ? loop_timer_create(peer->link->loop, on_deadline, read, &read->timer) : ERR_NOMEM;
	if (e != ERR_OK) {
		free(read->results);
		free(read);
		return e;
	}
	*ret_read = read;
	return ERR_OK;
}

enum err link_read(struct link *link, const struct link_read_options *options, struct link_read **ret_read)
{
	struct peer *peer = NULL;
	enum err e = check_options(link, options, &peer);
	if (e != ERR_OK)
		return e;
	struct link_read *read = NULL;
	e = read_create(peer, options, &read);
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < options->count; i++) {
		struct piece *piece = &read->pieces[i];
		*piece = (struct piece){.read = read, .from = options->handles[i], .landing = options->landings[i]};
		if (options->twins && options->digests) {
			piece->twin = options->twins[i];
			piece->digest = options->digests[i];
		}
		list_push(&peer->waiting, piece);
	}
	link->pieces_open += (uint32_t)options->count;
	loop_timer_arm(read->timer, options->timeout_ns);
	peer_wake(peer);
	if (ret_read)
		*ret_read = read;
	return ERR_OK;
}

void link_read_cancel(struct link_read *read)
{
	loop_post(read->peer->link->loop, &read->cancel_task);
}
