/* Twins: regions of peers that lie in the memory of a device as well, and landings that do on ours.  What has both, on one host, is copied
 * from device to device by hooks (link.h, struct link_device), in batches: what waits while the copy thread reads is its next.
 *
 * What another transport reads into a twin (link_ucx_get.c) only has to be looked at, and brought to the host: the same hook does it.
 *
 * Each piece of a peer on this host is prepared as a copy of the host's memory, too.  That is done in its stead where the device's bytes are not those that
 * were promised, or where the device fails: the owner's host memory has what it told of, whatever its device has. */
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "net/link_impl.h"

struct twins {
	struct link *link;
	struct link_device device;
	bool ended;  /* the device is no longer to be used: it failed, or its owner wants it back */
	struct piece *head, **tail; /* waiting */
	struct copy_job job; /* the batch that is read: the copy thread's until its done */
	bool busy;
	enum err e; /* the first of the device's: it is not asked again */
	size_t count;
	struct piece **pieces;          /* [arrivals_max] of the batch */
	struct link_arrival *arrivals;  /* [arrivals_max] */
	size_t *places;                 /* [arrivals_max] of arrivals among pieces */
};

bool twins_wanted(const struct link *link)
{
	return link->twins && !link->twins->ended;
}

uint8_t twins_kind(const struct link *link)
{
	return link->twins->device.kind;
}

bool twins_in_use(const struct peer *peer)
{
	for (const struct peer_map *map = mapped_maps(peer); map && twins_wanted(peer->link); map = map->next)
		if (map->twin && !map->gone)
			return true;
	return false;
}

/* ---- a peer's twin in our address space ---- */

static uint64_t bytes_of(const struct peer_map *map)
{
	return map->view.slot_bytes * map->view.slot_count;
}

static void import_work(struct copy_job *job)
{
	struct peer_map *map = job->arg;
	const struct link_device *device = &map->link->twins->device;
	if (device->import(device->context, map->twin_fd, bytes_of(map), &map->imported, &map->why) != ERR_OK)
		map->imported = NULL;
	close(map->twin_fd);
}

static void import_done(struct copy_job *job)
{
	struct peer_map *map = job->arg;
	struct peer *peer = map->peer;
	map->twin = map->imported;
	if (map->twin)
		log_info("link > peer %016llx: region %u is read from device to device", (unsigned long long)peer->node, map->index);
	else if (twins_wanted(peer->link))
		log_warn("link > peer %016llx: region %u is read through the host's memory: %s", (unsigned long long)peer->node, map->index,
			 map->why.text);
	map_unref(peer, map);
}

void twins_import(struct peer *peer, struct peer_map *map, int fd)
{
	map->twin_fd = fd;
	map->refs++;
	map->job = (struct copy_job){.work = import_work, .done = import_done, .arg = map};
	copy_submit(peer->link->copy, &map->job);
}

static void unimport_work(struct copy_job *job)
{
	struct peer_map *map = job->arg;
	const struct link_device *device = &map->link->twins->device;
	device->unimport(device->context, map->imported, bytes_of(map));
	map->imported = NULL;
}

static void free_done(struct copy_job *job)
{
	struct peer_map *map = job->arg;
	region_view_unmap(&map->view);
	free(map);
}

/* Its peer may be freed before the copy thread comes to it. */
void twins_map_free(struct peer *peer, struct peer_map *map)
{
	map->job = (struct copy_job){.work = unimport_work, .done = free_done, .arg = map};
	if (!map->imported) {
		free_done(&map->job);
	} else if (peer->link->copy_ended) {
		unimport_work(&map->job);
		free_done(&map->job);
	} else {
		copy_submit(peer->link->copy, &map->job);
	}
}

/* ---- reads ---- */

bool twins_take(const struct link *link, const struct piece *piece)
{
	return piece->twin && twins_wanted(link) && (piece->from.offset | piece->from.length) % link->twins->device.align == 0;
}

bool twins_may(const struct peer *peer, const struct piece *piece)
{
	return piece->map && piece->map->twin && twins_take(peer->link, piece);
}

/* Those that are still what was promised; what a NIC brought was looked at behind it. */
static size_t list_arrivals(struct twins *twins)
{
	size_t count = 0;
	for (size_t i = 0; i < twins->count; i++) {
		struct piece *piece = twins->pieces[i];
		piece->job.err = ERR_STALE;
		if (piece->map && region_generation_before(piece->job.generation) != piece->from.generation)
			continue;
		twins->arrivals[count] = (struct link_arrival){
			.to = piece->twin,
			.landing = piece->landing,
			.from = piece->map ? (const uint8_t *)piece->map->twin + piece->from.offset : NULL,
			.length = piece->from.length,
			.digest = piece->digest,
		};
		twins->places[count++] = i;
	}
	return count;
}

static void read_work(struct copy_job *job)
{
	struct twins *twins = job->arg;
	size_t count = list_arrivals(twins);
	if (count && twins->e == ERR_OK)
		twins->e = twins->device.read(twins->device.context, twins->arrivals, count);
	for (size_t i = 0; i < count; i++) {
		struct piece *piece = twins->pieces[twins->places[i]];
		piece->by_device = twins->e == ERR_OK && twins->arrivals[i].landed;
		piece->job.digest = piece->digest;
		if (!piece->map)
			continue;
		if (!piece->by_device)
			copy_now(&piece->job);
		else if (region_generation_after(piece->job.generation) == piece->from.generation)
			piece->job.err = ERR_OK;
	}
}

static void read_next(struct twins *twins)
{
	if (twins->busy || !twins->head)
		return;
	for (twins->count = 0; twins->head && twins->count < twins->device.arrivals_max; twins->count++) {
		struct piece *piece = twins->head;
		twins->head = piece->twin_next;
		piece->twin_state = TWIN_READING;
		twins->pieces[twins->count] = piece;
	}
	if (!twins->head)
		twins->tail = &twins->head;
	twins->busy = true;
	copy_submit(twins->link->copy, &twins->job);
}

static void read_done(struct copy_job *job)
{
	struct twins *twins = job->arg;
	if (twins->e != ERR_OK && !twins->ended) {
		twins->ended = true;
		log_error("link > no more is read from device to device: %s", err_text(twins->e));
	}
	/* What waits meanwhile is another batch: this one's pieces may be gone one after the other. */
	for (size_t i = 0; i < twins->count; i++) {
		struct piece *piece = twins->pieces[i];
		struct peer *peer = piece->read->peer;
		struct peer_map *map = piece->map;
		piece->twin_state = TWIN_NONE;
		if (!map) {
			ucx_twin_judged(piece, piece->by_device);
			continue;
		}
		piece_settle(piece, piece->job.err, piece->job.digest);
		map_unref(peer, map);
	}
	twins->busy = false;
	read_next(twins);
}

void twins_start(struct peer *peer, struct piece *piece)
{
	struct twins *twins = peer->link->twins;
	piece->twin_state = TWIN_WAITING;
	piece->twin_next = NULL;
	*twins->tail = piece;
	twins->tail = &piece->twin_next;
	read_next(twins);
}

bool twins_forget(struct peer *peer, struct piece *piece)
{
	struct twins *twins = peer->link->twins;
	if (piece->twin_state == TWIN_READING)
		return false;
	for (struct piece **at = &twins->head; *at; at = &(*at)->twin_next) {
		if (*at != piece)
			continue;
		*at = piece->twin_next;
		if (!*at)
			twins->tail = at;
		return true;
	}
	assert(!"it waits");
	return false;
}

/* ---- life ---- */

void twins_destroy(struct twins *twins)
{
	if (!twins)
		return;
	assert(!twins->busy && !twins->head);
	free(twins->pieces);
	free(twins->arrivals);
	free(twins->places);
	free(twins);
}

static enum err twins_create(struct link *link, const struct link_device *device)
{
	struct twins *twins = calloc(1, sizeof(*twins));
	if (!twins)
		return ERR_NOMEM;
	twins->link = link;
	twins->device = *device;
	twins->tail = &twins->head;
	twins->job = (struct copy_job){.work = read_work, .done = read_done, .arg = twins};
	twins->pieces = calloc(device->arrivals_max, sizeof(*twins->pieces));
	twins->arrivals = calloc(device->arrivals_max, sizeof(*twins->arrivals));
	twins->places = calloc(device->arrivals_max, sizeof(*twins->places));
	if (!twins->pieces || !twins->arrivals || !twins->places) {
		twins_destroy(twins);
		return ERR_NOMEM;
	}
	link->twins = twins;
	return ERR_OK;
}

enum err link_use_device(struct link *link, const struct link_device *device)
{
	assert(!link->twins && device->arrivals_max > 0 && device->align > 0);
	return twins_create(link, device);
}

/* Pieces that wait are read as all others. */
static void use_host(struct twins *twins)
{
	struct piece *piece = twins->head;
	twins->head = NULL;
	twins->tail = &twins->head;
	for (struct piece *next; piece; piece = next) {
		next = piece->twin_next;
		piece->twin_state = TWIN_NONE;
		if (piece->map)
			copy_submit(twins->link->copy, &piece->job);
		else
			ucx_twin_judged(piece, false);
	}
}

void link_drop_device(struct link *link)
{
	struct twins *twins = link->twins;
	if (!twins)
		return;
	twins->ended = true;
	if (link->ucx)
		ucx_drop_twins(link->ucx);
	use_host(twins);
	copy_flush(link->copy); /* the last batch is over, and what was imported or given back behind it */
	for (struct peer *peer = link->peers; peer; peer = peer->next)
		for (struct peer_map *map = mapped_maps(peer); map; map = map->next) {
			if (map->imported)
				twins->device.unimport(twins->device.context, map->imported, bytes_of(map));
			map->imported = map->twin = NULL;
		}
}
