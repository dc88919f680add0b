/* One-sided reads: the region's shape and remote key are asked for once, then pieces are read by ucp_get
 * without the server's help.  The reader checks bounds itself, and the generation after the data: generations
 * only grow, and the handle was made when this one was current, so if it still is, it was throughout.
 *
 * Bounds: KEYS_MAX regions of a peer.  One more takes the place of that not read from for longest; who comes while all are
 *         being asked for or read from is told ERR_AGAIN.
 * Rule:   a key goes when no get uses it: each flight holds the regions that it reads (region_hold). */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/ucx_impl.h"

#define KEYS_MAX (2 * REGIONS_MAX) /* those it can have, with their twins */

struct remote_region {
	struct remote_region *next;
	struct ucx_peer *up; /* NULL: closed */
	uint64_t ticket; /* 0: answered */
	unsigned refs;   /* flights that read it */
	bool gone;       /* the peer took it back: not for new reads */
	uint64_t used;   /* up->uses, when it was last held */
	uint16_t rank, index;
	uint8_t kind;
	enum err err; /* ERR_AGAIN until the answer; then ERR_OK or why not */
	struct region_view view; /* base: the address in the server, never dereferenced here */
	ucp_rkey_h key;
};

static void settle(struct piece *piece, enum err e)
{
	struct ucx_flight *flight = piece->flight;
	piece->flight = NULL;
	if (flight) {
		flight->piece = NULL;
		flight_unref(flight);
	}
	piece_settle(piece, e, 0);
}

static struct remote_region *find_kind(const struct ucx_peer *up, const struct handle *from, uint8_t kind)
{
	for (struct remote_region *region = up->regions; region; region = region->next)
		if (!region->gone && region->rank == from->rank && region->kind == kind && region->index == from->region)
			return region;
	return NULL;
}

static struct remote_region *find(struct ucx_peer *up, const struct handle *from)
{
	return find_kind(up, from, from->kind);
}

bool get_in_use(const struct ucx_peer *up)
{
	for (const struct remote_region *region = up->regions; region; region = region->next)
		if (region->kind == MEMORY_CUDA && !region->gone && region->err == ERR_OK)
			return twins_wanted(up->peer->link);
	return false;
}

/* ---- whose keys are here ---- */

static void region_hold(struct remote_region *region)
{
	region->refs++;
	region->used = ++region->up->uses;
}

static void region_let_go(struct remote_region *region)
{
	if (region && --region->refs == 0 && !region->up)
		free(region);
}

void get_flight_ended(struct ucx_flight *flight)
{
	region_let_go(flight->region);
	region_let_go(flight->twin);
}

/* At the end of UCX a get that it never completed may still hold it, then the memory goes with that flight. */
static void region_drop(struct remote_region *region)
{
	struct ucx_peer *up = region->up;
	struct remote_region **at = &up->regions;
	while (*at != region)
		at = &(*at)->next;
	*at = region->next;
	up->region_count--;
	ticket_drop(&up->ucx->keys, region->ticket);
	if (region->key)
		ucp_rkey_destroy(region->key);
	region->up = NULL;
	if (region->refs == 0)
		free(region);
}

static enum err make_room(struct ucx_peer *up)
{
	if (up->region_count < KEYS_MAX)
		return ERR_OK;
	struct remote_region *oldest = NULL;
	for (struct remote_region *region = up->regions; region; region = region->next)
		if (region->refs == 0 && !region->ticket && (!oldest || region->used < oldest->used))
			oldest = region;
	if (!oldest)
		return ERR_AGAIN;
	region_drop(oldest);
	return ERR_OK;
}

/* ---- the two gets of a piece ---- */

static void on_generation(void *request, ucs_status_t status, void *user_data)
{
	struct ucx_flight *flight = user_data;
	struct piece *piece = flight->piece;
	uint64_t generation = flight->generation;
	bool twin = flight->twin != NULL;
	flight_unref(flight);
	if (request)
		ucp_request_free(request);
	if (!piece)
		return;
	if (status != UCS_OK)
		settle(piece, ERR_PEER_GONE);
	else if (generation != piece->from.generation)
		settle(piece, ERR_STALE);
	else if (twin)
		ucx_twin_landed(piece);
	else
		ucx_landed(piece);
}

static void get(struct ucx_peer *up, struct ucx_flight *flight, const struct remote_region *region, void *landing,
                size_t length, uint64_t address, ucp_send_nbx_callback_t done)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMORY_TYPE,
		.cb.send = done,
		.user_data = flight,
		.memory_type = region->kind == MEMORY_CUDA && twins_kind(up->peer->link) == MEMORY_CUDA ? UCS_MEMORY_TYPE_CUDA
													 : UCS_MEMORY_TYPE_HOST,
	};
	flight->refs++;
	ucs_status_ptr_t request = ucp_get_nbx(up->endpoint, landing, length, address, region->key, &param);
	ucx_kick(up->ucx);
	if (!UCS_PTR_IS_PTR(request))
		done(NULL, UCS_PTR_STATUS(request), flight);
}

/* UCX cannot do it after all: from now on the host's memory is read. */
static void give_up_twin(struct ucx_peer *up, struct piece *piece, ucs_status_t status)
{
	struct remote_region *region = piece->flight->twin;
	if (region->err == ERR_OK)
		log_warn("link > peer %016llx: region %u cannot be read from its device: %s", (unsigned long long)up->peer->node, region->index,
			 ucs_status_string(status));
	region->err = ERR_UNSUPPORTED;
	struct ucx_flight *flight = piece->flight;
	piece->flight = NULL;
	flight->piece = NULL;
	flight_unref(flight);
	ucx_twin_judged(piece, false);
}

static void on_data(void *request, ucs_status_t status, void *user_data)
{
	struct ucx_flight *flight = user_data;
	struct piece *piece = flight->piece;
	if (request)
		ucp_request_free(request);
	flight->ucx->twin_count -= flight->twin != NULL;
	struct peer *peer = piece ? piece->read->peer : NULL;
	if (piece && (status != UCS_OK || peer->lost)) {
		bool may_do_without = flight->twin && !peer->lost;
		flight_unref(flight);
		if (may_do_without)
			give_up_twin(peer->impl, piece, status);
		else
			settle(piece, ERR_PEER_GONE);
		return;
	}
	if (piece) {
		struct ucx_peer *up = peer->impl;
		const struct remote_region *region = flight->region;
		const uint64_t *generation;
		const uint8_t *data;
		if (region_view_find(&region->view, &piece->from, &generation, &data) == ERR_OK)
			get(up, flight, region, &flight->generation, sizeof(*generation), (uint64_t)(uintptr_t)generation,
			    on_generation);
	}
	flight_unref(flight);
}

/* ---- keys ---- */

static void on_ask_sent(void *request, ucs_status_t status, void *user_data)
{
	flight_unref(user_data);
	if (request)
		ucp_request_free(request);
}

static enum err ask_region(struct ucx_peer *up, struct remote_region *region)
{
	struct ucx_flight *flight = NULL;
	enum err e = flight_create(up->ucx, NULL, &flight);
	if (e != ERR_OK)
		return e;
	flight->header.region = (struct wire_region){
		.session = up->session,
		.ticket = region->ticket,
		.rank = region->rank,
		.index = region->index,
		.kind = region->kind,
	};
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS,
		.cb.send = on_ask_sent,
		.user_data = flight,
		.flags = UCP_AM_SEND_FLAG_EAGER,
	};
	ucs_status_ptr_t request = ucp_am_send_nbx(up->endpoint, AM_ASK_REGION, &flight->header.region,
	                                           sizeof(flight->header.region), NULL, 0, &param);
	if (!UCS_PTR_IS_PTR(request))
		flight_unref(flight);
	ucx_kick(up->ucx);
	return UCS_PTR_IS_ERR(request) ? ucx_err(UCS_PTR_STATUS(request)) : ERR_OK;
}

/* Pieces wait for the answer, parked. */
static enum err ask(struct remote_region *region)
{
	struct tickets *keys = &region->up->ucx->keys;
	enum err e = ticket_take(keys, region, &region->ticket);
	if (e != ERR_OK)
		return e;
	region->err = ERR_AGAIN;
	e = ask_region(region->up, region);
	if (e == ERR_OK)
		return ERR_OK;
	ticket_drop(keys, region->ticket);
	region->ticket = 0;
	region->err = e;
	return e;
}

static enum err add_region(struct ucx_peer *up, const struct handle *from, struct remote_region **ret_region)
{
	enum err e = make_room(up);
	if (e != ERR_OK)
		return e;
	struct remote_region *region = calloc(1, sizeof(*region));
	if (!region)
		return ERR_NOMEM;
	*region = (struct remote_region){
		.up = up,
		.rank = from->rank,
		.index = from->region,
		.kind = from->kind,
		.used = ++up->uses,
	};
	e = ask(region);
	if (e != ERR_OK) {
		free(region);
		return e;
	}
	region->next = up->regions;
	up->regions = region;
	up->region_count++;
	*ret_region = region;
	return ERR_OK;
}

/* The twin of the region at the peer, if pieces of it may be read from there now; asked for where it is not known yet. */
static struct remote_region *twin_of(struct ucx_peer *up, const struct piece *piece)
{
	if (!twins_take(up->peer->link, piece))
		return NULL;
	struct remote_region *region = find_kind(up, &piece->from, MEMORY_CUDA);
	struct handle named = piece->from;
	named.kind = MEMORY_CUDA;
	if (!region && add_region(up, &named, &region) != ERR_OK)
		return NULL;
	return region->err == ERR_OK ? region : NULL;
}

static void start_gets(struct ucx_peer *up, struct piece *piece, struct remote_region *region)
{
	const uint64_t *generation;
	const uint8_t *data, *twin_data;
	enum err e = region->err;
	if (e == ERR_OK)
		e = region_view_find(&region->view, &piece->from, &generation, &data);
	if (e == ERR_OK)
		e = flight_create(up->ucx, piece, &piece->flight);
	if (e != ERR_OK) {
		settle(piece, e);
		return;
	}
	region_hold(region);
	piece->flight->region = region;
	struct remote_region *twin = twin_of(up, piece);
	if (!twin || region_view_find(&twin->view, &piece->from, &generation, &twin_data) != ERR_OK) {
		get(up, piece->flight, region, piece->landing, piece->from.length, (uint64_t)(uintptr_t)data, on_data);
		return;
	}
	region_hold(twin);
	piece->flight->twin = twin;
	up->ucx->twin_count++;
	get(up, piece->flight, twin, piece->twin, piece->from.length, (uint64_t)(uintptr_t)twin_data, on_data);
}

void get_start(struct peer *peer, struct piece *piece)
{
	struct ucx_peer *up = peer->impl;
	struct remote_region *region = find(up, &piece->from);
	enum err e = piece->from.incarnation == peer->incarnation ? ERR_OK : ERR_MISMATCH;
	if (e == ERR_OK && piece->from.kind != MEMORY_HOST)
		e = ERR_DENIED; /* a twin has no generations: it is read for its region, not by name */
	if (e == ERR_OK && !region)
		e = add_region(up, &piece->from, &region);
	else if (e == ERR_OK && region->err != ERR_OK && region->err != ERR_AGAIN)
		e = ask(region); /* a refusal is not remembered: it may be there by now */
	if (e != ERR_OK)
		settle(piece, e);
	else if (region->err == ERR_AGAIN)
		piece->parked = true;
	else
		start_gets(up, piece, region);
}

static enum err take_region(struct remote_region *region, const struct wire_region *wire, const void *data,
                            size_t length)
{
	enum err e = ucx_wire_err(wire->err);
	if (e != ERR_OK)
		return e == ERR_AGAIN ? ERR_PROTOCOL : e;
	region->view = (struct region_view){
		.base = (const uint8_t *)(uintptr_t)wire->address,
		.slot_bytes = wire->slot_bytes,
		.slot_count = wire->slot_count,
	};
	if (length == 0 || region_shape(wire->slot_bytes, wire->slot_count, &region->view.data_offset,
	                                &region->view.bytes) != ERR_OK)
		return ERR_PROTOCOL;
	if (region->kind == MEMORY_CUDA)
		region->view.data_offset = 0; /* a twin is slots alone */
	return ucx_err(ucp_ep_rkey_unpack(region->up->endpoint, data, &region->key));
}

static void start_parked(struct remote_region *region)
{
	struct peer *peer = region->up->peer;
	region_hold(region); /* also while the last of them settles */
	for (struct piece *piece = peer->active.head, *next; piece; piece = next) {
		next = piece->next;
		if (!piece->parked || find(region->up, &piece->from) != region)
			continue;
		piece->parked = false;
		/* Settling may end the read of the next piece too: begin anew, the parked ones get fewer. */
		start_gets(region->up, piece, region);
		next = peer->active.head;
	}
	region_let_go(region);
}

static ucs_status_t on_region(void *arg, const void *header, size_t header_length, void *data, size_t length,
                              const ucp_am_recv_param_t *param)
{
	struct ucx *ucx = arg;
	struct wire_region wire;
	if (header_length != sizeof(wire) || param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV)
		return UCS_OK;
	memcpy(&wire, header, sizeof(wire));
	struct remote_region *region = ticket_find(&ucx->keys, wire.ticket);
	if (!region || region->up->peer->lost)
		return UCS_OK;
	ticket_drop(&ucx->keys, region->ticket);
	region->ticket = 0;
	region->err = take_region(region, &wire, data, length);
	start_parked(region);
	return UCS_OK;
}

/* What is being asked for is not meant: its answer comes. */
static void forget_gone(struct ucx_peer *up, uint16_t rank, uint16_t index)
{
	for (struct remote_region *region = up->regions, *next; region; region = next) {
		next = region->next;
		if (region->ticket || region->rank != rank || region->index != index)
			continue;
		region->gone = true;
		region->used = 0; /* the first to make room */
		if (region->refs == 0)
			region_drop(region);
	}
}

static ucs_status_t on_region_gone(void *arg, const void *header, size_t header_length, void *data, size_t length,
                                   const ucp_am_recv_param_t *param)
{
	struct ucx *ucx = arg;
	struct wire_region wire;
	if (header_length != sizeof(wire))
		return UCS_OK;
	memcpy(&wire, header, sizeof(wire));
	struct ucx_peer *up = ticket_find(&ucx->peers, wire.ticket);
	if (up)
		forget_gone(up, wire.rank, wire.index);
	return UCS_OK;
}

void get_close(struct ucx_peer *up)
{
	while (up->regions)
		region_drop(up->regions);
}

enum err ucx_get_init(struct ucx *ucx)
{
	enum err e = ucx_handler(ucx, AM_REGION, on_region);
	return e == ERR_OK ? ucx_handler(ucx, AM_REGION_GONE, on_region_gone) : e;
}
