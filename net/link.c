/* The link itself: regions we serve, peers we read from, and which transport each gets. */
#include "net/link.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/link_impl.h"

#define PIECES_MAX_DEFAULT 65536
#define LANES_DEFAULT 2 /* two loopback streams carry 1.4 times as much as one (bench/results/kv.md) */
#define FLIGHT_BYTES_DEFAULT ((uint64_t)32 << 20)

static const char *const transport_names[] = {
	[LINK_AUTO] = "auto",
	[LINK_MAPPED] = "mapped",
	[LINK_UCX_TCP] = "ucx-tcp",
	[LINK_UCX_SHM] = "ucx-shm",
	[LINK_UCX_RDMA] = "ucx-rdma",
	[LINK_TLS] = "tls",
	[LINK_TCP] = "tcp",
};

enum err link_transport_parse(const char *text, enum link_transport *ret_transport, struct why *why)
{
	for (size_t i = 0; i < sizeof(transport_names) / sizeof(*transport_names); i++) {
		if (strcmp(text, transport_names[i]) != 0)
			continue;
		*ret_transport = (enum link_transport)i;
		return ERR_OK;
	}
	return why_set(why, ERR_INVALID, "transport '%s': expected auto, mapped, ucx-tcp, ucx-shm, ucx-rdma, tls or tcp", text);
}

/* ---- peers ---- */

struct peer *link_peer_find(const struct link *link, uint64_t node)
{
	for (struct peer *peer = link->peers; peer; peer = peer->next)
		if (peer->named && peer->node == node)
			return peer;
	return NULL;
}

static void peer_free(struct peer *peer)
{
	struct link *link = peer->link;
	for (struct peer **at = &link->peers; *at; at = &(*at)->next) {
		if (*at != peer)
			continue;
		*at = peer->next;
		break;
	}
	loop_task_cancel(link->loop, &peer->task);
	if (peer->transport)
		peer->transport->fini(peer);
	free(peer);
}

static bool is_empty(const struct peer *peer)
{
	return !peer->waiting.head && !peer->active.head && !peer->quarantined.head;
}

static void tell_loss(struct peer *peer)
{
	const struct link_options *options = &peer->link->options;
	enum err e = peer->loss;
	peer->loss = ERR_OK;
	if (options->on_peer_lost && peer->named)
		options->on_peer_lost(options->context, peer->node, peer->incarnation, e);
}

/* One turn of a peer: whatever may call the transport's library or the user happens here. */
static void peer_turn(void *arg)
{
	struct peer *peer = arg;
	if (!peer->lost) {
		peer_pump(peer);
		return;
	}
	peer_end_reads(peer);
	if (peer->loss != ERR_OK)
		tell_loss(peer);
	if (!peer->close_started) {
		peer->close_started = true;
		peer->transport->close(peer);
	}
	if (peer->closed)
		peer_settle_quarantined(peer);
	if (peer->closed && !peer->named && is_empty(peer) && !peer->link->destroying)
		peer_free(peer);
}

void peer_wake(struct peer *peer)
{
	loop_post(peer->link->loop, &peer->task);
}

void peer_lost(struct peer *peer, enum err e)
{
	if (peer->lost)
		return;
	peer->lost = true;
	peer->lost_err = ERR_PEER_GONE;
	peer->loss = e;
	log_info("link > peer %016llx lost: %s", (unsigned long long)peer->node, err_text(e));
	peer_wake(peer);
}

void peer_closed(struct peer *peer)
{
	assert(peer->close_started && !peer->closed);
	peer->closed = true;
	peer_wake(peer);
}

static enum err peer_create(struct link *link, uint64_t node, uint64_t incarnation, struct peer **ret_peer)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	if (!peer)
		return ERR_NOMEM;
	peer->link = link;
	peer->node = node;
	peer->incarnation = incarnation;
	loop_task_init(&peer->task, peer_turn, peer);
	*ret_peer = peer;
	return ERR_OK;
}

static void peer_add(struct peer *peer)
{
	peer->named = true;
	peer->next = peer->link->peers;
	peer->link->peers = peer;
}

static bool is_same_host(const struct link_address *address)
{
	static const uint8_t unknown[16];
	uint8_t ours[16];
	link_boot_id(ours);
	return memcmp(ours, unknown, sizeof(ours)) != 0 && memcmp(ours, address->boot_id, sizeof(ours)) == 0;
}

/* What reaches a peer by UCX is known when it answers; here only whether it may be asked. */
static bool may_ucx(const struct link *link, const struct link_address *address)
{
	if (!link->ucx || (address->ucx_address_length == 0 && link->bulk))
		return false;
	enum link_transport ours = ucx_transport(link->ucx);
	return link_may(link, ours) || (ours == LINK_UCX_RDMA && link_may(link, LINK_UCX_TCP));
}

/* Mapped where it is asked for or possible, else UCX where both sides have it, else bulk: of these what is required. */
static enum err choose_and_open(struct peer *peer, const struct link_address *address, struct why *why)
{
	struct link *link = peer->link;
	enum link_transport wanted = link->options.transport;
	bool same_host = is_same_host(address);
	if (link_may(link, LINK_MAPPED) && (wanted == LINK_MAPPED || (wanted == LINK_AUTO && same_host))) {
		enum err e = mapped_peer_open(peer, address);
		if (e == ERR_OK)
			return ERR_OK;
		if (wanted == LINK_MAPPED)
			return why_set(why, e, "connecting to the peer's socket '%s': %s", address->socket_name,
			               err_text(e));
		log_info("link > peer %016llx is on this host, but its socket '%s' does not answer: %s",
		         (unsigned long long)peer->node, address->socket_name, err_text(e));
	}
	if (may_ucx(link, address))
		return ucx_peer_open(peer, address, why);
	if (link->bulk && link_may(link, link->options.tls ? LINK_TLS : LINK_TCP))
		return bulk_link_open(peer, address, why);
	if (link->options.required)
		return link_require_refuse(link, address, same_host, why);
	return why_set(why, ERR_UNSUPPORTED, "peer offers no mapped memory, and this link has neither UCX nor a bulk port");
}

enum err link_peer_open(struct link *link, uint64_t node, uint64_t incarnation, const void *address,
                        size_t address_length, struct why *why)
{
	struct link_address parsed;
	if (link_peer_find(link, node))
		return why_set(why, ERR_EXISTS, "peer %016llx is open already", (unsigned long long)node);
	if (link_address_parse(address, address_length, &parsed) != ERR_OK)
		return why_set(why, ERR_PROTOCOL, "link address of %zu bytes: malformed", address_length);
	if (parsed.node != node || parsed.incarnation != incarnation)
		return why_set(why, ERR_MISMATCH, "link address is of node %016llx, expected %016llx (or other incarnation)",
		               (unsigned long long)parsed.node, (unsigned long long)node);
	struct peer *peer = NULL;
	enum err e = peer_create(link, node, incarnation, &peer);
	if (e != ERR_OK)
		return e;
	e = choose_and_open(peer, &parsed, why);
	if (e != ERR_OK) {
		free(peer);
		return e;
	}
	peer_add(peer);
	return ERR_OK;
}

/* Callbacks come from peer_turn(), never from here. */
static void peer_unname(struct peer *peer, enum err e)
{
	peer->named = false;
	if (!peer->lost)
		peer->lost_err = e;
	peer->lost = true;
	peer_wake(peer);
}

void link_renew(struct link *link, uint64_t incarnation)
{
	link->options.incarnation = incarnation;
	if (link->bulk)
		bulk_renew(link->bulk, incarnation);
	struct peer *self = link_peer_find(link, link->options.node);
	if (self)
		self->incarnation = incarnation;
}

void link_peer_close(struct link *link, uint64_t node)
{
	struct peer *peer = link_peer_find(link, node);
	if (peer && peer->transport != &transport_self)
		peer_unname(peer, ERR_PEER_GONE);
}

enum err link_peer_counters(const struct link *link, uint64_t node, struct link_counters *ret_counters)
{
	const struct peer *peer = link_peer_find(link, node);
	if (!peer)
		return ERR_NOT_FOUND;
	*ret_counters = peer->counters;
	ret_counters->pieces_open = peer->waiting.count + peer->active.count;
	ret_counters->pieces_quarantined = peer->quarantined.count;
	return ERR_OK;
}

void link_peer_transport(const struct link *link, uint64_t node, char *text, size_t text_bytes)
{
	const struct peer *peer = link_peer_find(link, node);
	if (!peer || peer->lost)
		snprintf(text, text_bytes, "%s", peer ? "lost" : "none");
	else
		peer->transport->describe(peer, text, text_bytes);
}

/* ---- regions ---- */

const struct region *link_region_find(const struct link *link, uint16_t rank, uint8_t kind, uint16_t index)
{
	for (size_t i = 0; i < link->region_count; i++) {
		const struct region_options *options = region_options(link->regions[i]);
		if (options->rank == rank && options->kind == kind && options->index == index)
			return link->regions[i];
	}
	return NULL;
}

enum err link_region_add(struct link *link, struct region *region, struct why *why)
{
	const struct region_options *options = region_options(region);
	if (link_region_find(link, options->rank, options->kind, options->index))
		return why_set(why, ERR_EXISTS, "region %u of rank %u, kind %u is there already", options->index,
		               options->rank, options->kind);
	if (link->region_count == REGIONS_MAX)
		return why_set(why, ERR_TOO_LARGE, "%d regions at most", REGIONS_MAX);
	if (link->ucx) {
		enum err e = ucx_region_added(link->ucx, region, why);
		if (e != ERR_OK)
			return e;
	}
	if (link->bulk)
		bulk_region_add(link->bulk, region);
	link->regions[link->region_count++] = region;
	local_region_added(link->local, region);
	return ERR_OK;
}

void link_region_remove(struct link *link, struct region *region)
{
	for (size_t i = 0; i < link->region_count; i++) {
		if (link->regions[i] != region)
			continue;
		link->regions[i] = link->regions[--link->region_count];
		local_region_removed(link->local, region);
		copy_flush(link->copy);
		if (link->bulk)
			bulk_region_remove(link->bulk, region);
		if (link->ucx)
			ucx_region_removed(link->ucx, region);
		return;
	}
}

enum err link_handle(const struct link *link, const struct region *region, uint64_t slot, uint64_t offset,
                     uint64_t length, struct handle *ret_handle)
{
	const struct region_options *options = region_options(region);
	uint64_t at = slot * options->slot_bytes + offset;
	if (slot >= options->slot_count || offset >= options->slot_bytes)
		return ERR_DENIED;
	enum err e = region_bounds(options->slot_bytes, options->slot_count, at, length);
	if (e != ERR_OK)
		return e;
	*ret_handle = (struct handle){
		.node = link->options.node,
		.incarnation = link->options.incarnation,
		.rank = options->rank,
		.kind = options->kind,
		.region = options->index,
		.offset = at,
		.length = length,
		.generation = region_slot_generation(region, slot),
	};
	return ERR_OK;
}

/* ---- life ---- */

enum err link_local_address(const struct link *link, struct buf *buf)
{
	struct link_address address = {
		.node = link->options.node,
		.incarnation = link->options.incarnation,
		.ucx_transport = LINK_MAPPED,
	};
	link_boot_id(address.boot_id);
	snprintf(address.socket_name, sizeof(address.socket_name), "%s", local_name(link->local));
	if (link->ucx) {
		address.ucx_transport = (uint8_t)ucx_transport(link->ucx);
		ucx_local_address(link->ucx, &address.ucx_address, &address.ucx_address_length);
	}
	if (link->bulk) {
		const struct link_options *o = &link->options;
		address.bulk = o->tls ? LINK_BULK_TLS : LINK_BULK_TCP;
		address.bulk_port = bulk_port(link->bulk);
		snprintf(address.bulk_host, sizeof(address.bulk_host), "%s", o->bulk_advertise ? o->bulk_advertise : o->bulk_host);
	}
	return link_address_pack(&address, buf);
}

/* We may read our own regions too: then there is one code path in `baton solo`. */
static enum err add_self(struct link *link)
{
	struct peer *self = NULL;
	enum err e = peer_create(link, link->options.node, link->options.incarnation, &self);
	if (e != ERR_OK)
		return e;
	self->transport = &transport_self;
	peer_add(self);
	return ERR_OK;
}

static void set_defaults(struct link_options *options)
{
	if (!options->pieces_max)
		options->pieces_max = PIECES_MAX_DEFAULT;
	if (!options->flight_bytes_max)
		options->flight_bytes_max = FLIGHT_BYTES_DEFAULT;
	if (!options->bulk_lanes)
		options->bulk_lanes = LANES_DEFAULT;
	bool is_auto = options->transport == LINK_AUTO;
	if (!options->network && !is_auto)
		options->network = "lo";
	if (!options->bulk_host && !is_auto)
		options->bulk_host = "127.0.0.1";
}

static bool wants_ucx(const struct link_options *options)
{
	enum link_transport transport = options->transport;
	return transport == LINK_AUTO ? options->network != NULL
				      : transport == LINK_UCX_TCP || transport == LINK_UCX_SHM || transport == LINK_UCX_RDMA;
}

static bool wants_bulk(const struct link_options *options)
{
	enum link_transport transport = options->transport;
	return transport == LINK_AUTO ? options->bulk_host != NULL : transport == LINK_TLS || transport == LINK_TCP;
}

static enum err open_bulk(struct link *link, struct why *why)
{
	const struct link_options *o = &link->options;
	if (o->bulk_lanes > BULK_LANES_MAX)
		return why_set(why, ERR_INVALID, "%u lanes, expected 1 to %d", o->bulk_lanes, BULK_LANES_MAX);
	if (o->transport == LINK_TLS && !o->tls)
		return why_set(why, ERR_INVALID, "transport tls needs certificates");
	if (o->transport == LINK_TCP && o->tls)
		return why_set(why, ERR_INVALID, "transport tcp is in the clear, but certificates are given: expected tls");
	struct bulk_options options = {
		.node = o->node, .incarnation = o->incarnation, .tls = o->tls, .host = o->bulk_host, .port = o->bulk_port,
		.lanes = o->bulk_lanes,
	};
	enum err e = bulk_create(link->loop, &options, &link->bulk, why);
	if (e == ERR_OK)
		log_info("link > bulk at %s://%s:%u", o->tls ? "tls+tcp" : "tcp", o->bulk_host, bulk_port(link->bulk));
	return e;
}

enum err link_create(struct loop *loop, const struct link_options *options, struct link **ret_link, struct why *why)
{
	struct link *link = calloc(1, sizeof(*link));
	if (!link)
		return ERR_NOMEM;
	link->loop = loop;
	link->options = *options;
	set_defaults(&link->options);
	enum err e = copy_create(loop, options->copy_on_loop, &link->copy);
	if (e != ERR_OK)
		goto free_link;
	e = local_create(link, &link->local, why);
	if (e != ERR_OK)
		goto destroy_copy;
	if (wants_ucx(&link->options))
		e = ucx_create(link, &link->ucx, why);
	if (e != ERR_OK)
		goto destroy_local;
	if (wants_bulk(&link->options))
		e = open_bulk(link, why);
	if (e == ERR_OK)
		e = link_require_check(link, why);
	if (e == ERR_OK)
		e = add_self(link);
	if (e != ERR_OK)
		goto destroy_ucx;
	*ret_link = link;
	return ERR_OK;

destroy_ucx:
	bulk_destroy(link->bulk);
	ucx_destroy(link->ucx);
destroy_local:
	local_destroy(link->local);
destroy_copy:
	copy_destroy(link->copy);
free_link:
	free(link);
	return e;
}

void link_destroy(struct link *link)
{
	if (!link)
		return;
	link->destroying = true;
	for (struct peer *peer = link->peers; peer; peer = peer->next) {
		peer_unname(peer, ERR_CANCELED);
		peer_turn(peer);
	}
	/* After these four no thread and no library can write into a landing any more. */
	copy_flush(link->copy);
	link->copy_ended = true;
	copy_destroy(link->copy);
	ucx_destroy(link->ucx);
	link->ucx = NULL;
	if (link->bulk)
		bulk_stop(link->bulk);
	link->bulk_stopped = true;
	local_destroy(link->local);
	while (link->peers) {
		peer_settle_quarantined(link->peers);
		peer_free(link->peers);
	}
	bulk_destroy(link->bulk);
	twins_destroy(link->twins);
	free(link);
}

void link_served(const struct link *link, struct link_served *ret_served)
{
	*ret_served = link->served;
	if (link->bulk)
		bulk_served(link->bulk, ret_served);
}
