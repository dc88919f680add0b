/* Mapped memory: peers on this host hand us the memfds of their regions over a unix socket; we map them
 * read-only and copy.  The owner need not run for that.  Our own regions are read by the same code.
 *
 * Small pieces are copied at once on the loop, larger ones by the copy thread: a 1 MiB copy takes 100..250 us of
 * cold memory, during which a heartbeat would wait; waking the thread for 4 KiB takes longer than copying
 * them (bench/link). */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/link_impl.h"

#define INLINE_BYTES_MAX ((uint64_t)32 << 10)

struct mapped {
	int fd;
	struct loop_watch *watch;
	bool ready; /* all regions that it had at connect are mapped */
	bool asked_for_twins;
	bool closing;
	struct peer_map *maps;
	size_t map_count;
};

/* ---- copies: both kinds of peers ---- */

static void on_copied(struct copy_job *job)
{
	struct piece *piece = job->arg;
	struct peer *peer = piece->read->peer;
	struct peer_map *map = piece->map;
	piece_settle(piece, job->err, job->digest);
	if (map)
		map_unref(peer, map);
}

static enum err prepare_copy(struct piece *piece, const struct region_view *view)
{
	const uint64_t *generation = NULL;
	const uint8_t *data = NULL;
	enum err e = region_view_find(view, &piece->from, &generation, &data);
	if (e != ERR_OK)
		return e;
	piece->job = (struct copy_job){
		.dst = piece->landing,
		.src = data,
		.length = piece->from.length,
		.generation = generation,
		.generation_wanted = piece->from.generation,
		.done = on_copied,
		.arg = piece,
	};
	return ERR_OK;
}

static void start_copy(struct peer *peer, struct piece *piece, const struct region_view *view)
{
	enum err e = prepare_copy(piece, view);
	if (e != ERR_OK) {
		piece_settle(piece, e, 0);
		return;
	}
	if (piece->map)
		piece->map->refs++;
	if (twins_may(peer, piece)) {
		twins_start(peer, piece);
		return;
	}
	if (piece->from.length > INLINE_BYTES_MAX) {
		copy_submit(peer->link->copy, &piece->job);
		return;
	}
	copy_now(&piece->job);
	on_copied(&piece->job);
}

static bool forget_copy(struct peer *peer, struct piece *piece)
{
	bool forgotten = piece->twin_state == TWIN_NONE ? copy_cancel(peer->link->copy, &piece->job) : twins_forget(peer, piece);
	if (!forgotten)
		return false;
	if (piece->map)
		map_unref(peer, piece->map);
	return true;
}

static enum err check_incarnation(const struct peer *peer, const struct piece *piece)
{
	if (piece->from.incarnation != peer->incarnation)
		return ERR_MISMATCH;
	return piece->from.generation ? ERR_OK : ERR_STALE;
}

/* ---- ourselves ---- */

static bool self_is_ready(struct peer *peer)
{
	return true;
}

static void self_start(struct peer *peer, struct piece *piece)
{
	const struct region *region = link_region_find(peer->link, piece->from.rank, piece->from.kind, piece->from.region);
	enum err e = check_incarnation(peer, piece);
	if (e == ERR_OK && !region)
		e = ERR_DENIED;
	if (e != ERR_OK)
		piece_settle(piece, e, 0);
	else
		start_copy(peer, piece, region_view(region));
}

static void self_close(struct peer *peer)
{
	peer_closed(peer);
}

static void self_fini(struct peer *peer)
{
}

static void self_describe(const struct peer *peer, char *text, size_t text_bytes)
{
	snprintf(text, text_bytes, "self");
}

const struct transport transport_self = {
	.is_ready = self_is_ready,
	.start = self_start,
	.forget = forget_copy,
	.close = self_close,
	.fini = self_fini,
	.describe = self_describe,
};

/* ---- peers on this host ---- */

static struct peer_map *map_find(const struct mapped *mapped, const struct handle *handle)
{
	for (struct peer_map *map = mapped->maps; map; map = map->next)
		if (!map->gone && map->rank == handle->rank && map->kind == handle->kind && map->index == handle->region)
			return map;
	return NULL;
}

static void map_free(struct peer *peer, struct peer_map *map)
{
	struct mapped *mapped = peer->impl;
	for (struct peer_map **at = &mapped->maps; *at; at = &(*at)->next) {
		if (*at != map)
			continue;
		*at = map->next;
		mapped->map_count--;
		break;
	}
	twins_map_free(peer, map);
}

static bool has_copies(const struct mapped *mapped)
{
	for (const struct peer_map *map = mapped->maps; map; map = map->next)
		if (map->refs)
			return true;
	return false;
}

void map_unref(struct peer *peer, struct peer_map *map)
{
	struct mapped *mapped = peer->impl;
	map->refs--;
	if (map->refs == 0 && map->gone)
		map_free(peer, map);
	if (mapped->closing && !has_copies(mapped)) {
		mapped->closing = false;
		peer_closed(peer);
	}
}

static enum err add_map(struct peer *peer, const struct local_message *message, int fd)
{
	struct mapped *mapped = peer->impl;
	if (fd < 0 || mapped->map_count == REGIONS_MAX * 2)
		return ERR_PROTOCOL;
	struct peer_map *map = calloc(1, sizeof(*map));
	if (!map)
		return ERR_NOMEM;
	enum err e = region_view_map(fd, message->slot_bytes, message->slot_count, &map->view);
	if (e != ERR_OK) {
		free(map);
		return e;
	}
	map->rank = message->rank;
	map->kind = message->kind;
	map->index = message->index;
	map->peer = peer;
	map->link = peer->link;
	map->next = mapped->maps;
	mapped->maps = map;
	mapped->map_count++;
	return ERR_OK;
}

static struct peer_map *map_named(const struct mapped *mapped, const struct local_message *message)
{
	return map_find(mapped, &(struct handle){.rank = message->rank, .kind = message->kind, .region = message->index});
}

static void drop_map(struct peer *peer, const struct local_message *message)
{
	struct peer_map *map = map_named(peer->impl, message);
	if (!map)
		return;
	map->gone = true;
	if (map->refs == 0)
		map_free(peer, map);
}

/* Of a region of that shape, once, and only if we asked. */
static enum err add_twin(struct peer *peer, const struct local_message *message, int *fd)
{
	const struct mapped *mapped = peer->impl;
	struct peer_map *map = map_named(mapped, message);
	if (*fd < 0 || !mapped->asked_for_twins || !map || map->has_twin || map->view.slot_bytes != message->slot_bytes ||
	    map->view.slot_count != message->slot_count)
		return ERR_PROTOCOL;
	map->has_twin = true;
	if (!twins_wanted(peer->link))
		return ERR_OK;
	twins_import(peer, map, *fd);
	*fd = -1;
	return ERR_OK;
}

static enum err take_message(struct peer *peer, const struct local_message *message, int *fd)
{
	struct mapped *mapped = peer->impl;
	switch (message->what) {
	case LOCAL_HELLO:
		return message->node == peer->node && message->incarnation == peer->incarnation ? ERR_OK : ERR_MISMATCH;
	case LOCAL_REGION:
		return add_map(peer, message, *fd);
	case LOCAL_REGION_GONE:
		drop_map(peer, message);
		return ERR_OK;
	case LOCAL_TWIN:
		return add_twin(peer, message, fd);
	case LOCAL_READY:
		mapped->ready = true;
		peer_wake(peer);
		return ERR_OK;
	}
	return ERR_PROTOCOL;
}

/* ERR_AGAIN: nothing waits. */
static enum err receive_one(struct peer *peer)
{
	struct local_message message;
	int fd = -1;
	enum err e = local_receive(((struct mapped *)peer->impl)->fd, &message, &fd);
	if (e == ERR_OK)
		e = take_message(peer, &message, &fd);
	if (fd >= 0)
		close(fd);
	return e;
}

static void on_readable(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct peer *peer = arg;
	struct mapped *mapped = peer->impl;
	enum err e = receive_one(peer);
	if (e == ERR_OK || e == ERR_AGAIN)
		return;
	loop_watch_destroy(mapped->watch);
	mapped->watch = NULL;
	peer_lost(peer, e);
}

static bool mapped_is_ready(struct peer *peer)
{
	return ((struct mapped *)peer->impl)->ready;
}

/* A region is shared before anybody is told of what is in it, but that goes another way: the word of it may still wait here. */
static struct peer_map *find_or_hear_of(struct peer *peer, const struct handle *handle)
{
	struct mapped *mapped = peer->impl;
	struct peer_map *map = map_find(mapped, handle);
	enum err e = ERR_OK;
	for (int i = 0; !map && e == ERR_OK && i < 2 * REGIONS_MAX; i++) {
		e = receive_one(peer);
		map = map_find(mapped, handle);
	}
	if (e != ERR_OK && e != ERR_AGAIN)
		shutdown(mapped->fd, SHUT_RDWR); /* on_readable() finds its end */
	return map;
}

static void mapped_start(struct peer *peer, struct piece *piece)
{
	piece->map = find_or_hear_of(peer, &piece->from);
	enum err e = check_incarnation(peer, piece);
	if (e == ERR_OK && !piece->map)
		e = ERR_DENIED;
	if (e != ERR_OK)
		piece_settle(piece, e, 0);
	else
		start_copy(peer, piece, &piece->map->view);
}

static void mapped_close(struct peer *peer)
{
	struct mapped *mapped = peer->impl;
	loop_watch_destroy(mapped->watch);
	close(mapped->fd);
	mapped->watch = NULL;
	mapped->fd = -1;
	if (has_copies(mapped))
		mapped->closing = true;
	else
		peer_closed(peer);
}

static void mapped_fini(struct peer *peer)
{
	struct mapped *mapped = peer->impl;
	while (mapped->maps)
		map_free(peer, mapped->maps);
	free(mapped);
}

static void mapped_describe(const struct peer *peer, char *text, size_t text_bytes)
{
	const struct mapped *mapped = peer->impl;
	const char *name = twins_in_use(peer) ? "mapped+device" : "mapped";
	snprintf(text, text_bytes, "%s", mapped->ready ? name : "connecting");
}

static const struct transport transport_mapped = {
	.is_ready = mapped_is_ready,
	.start = mapped_start,
	.forget = forget_copy,
	.close = mapped_close,
	.fini = mapped_fini,
	.describe = mapped_describe,
};

struct peer_map *mapped_maps(const struct peer *peer)
{
	return peer->transport == &transport_mapped ? ((struct mapped *)peer->impl)->maps : NULL;
}

enum err mapped_peer_open(struct peer *peer, const struct link_address *address)
{
	struct mapped *mapped = calloc(1, sizeof(*mapped));
	if (!mapped)
		return ERR_NOMEM;
	enum err e = local_connect(peer->link, address->socket_name, 0, &mapped->fd);
	if (e != ERR_OK)
		goto free_mapped;
	e = loop_watch_create(peer->link->loop, mapped->fd, LOOP_READ, on_readable, peer, &mapped->watch);
	if (e != ERR_OK)
		goto close_fd;
	mapped->asked_for_twins = twins_wanted(peer->link);
	peer->impl = mapped;
	peer->transport = &transport_mapped;
	return ERR_OK;

close_fd:
	close(mapped->fd);
free_mapped:
	free(mapped);
	return e;
}
