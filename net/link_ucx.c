/* The reader's side of UCX messages: hello, asks, answers, and the end of a peer. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "net/ucx_impl.h"

/* Digested on the loop up to here (3..6 us), by the copy thread above. */
#define DIGEST_INLINE_MAX ((uint64_t)64 << 10)

/* ---- flights: what UCX requests hold of a piece ---- */

enum err flight_create(struct ucx *ucx, struct piece *piece, struct ucx_flight **ret_flight)
{
	struct ucx_flight *flight = calloc(1, sizeof(*flight));
	if (!flight)
		return ERR_NOMEM;
	*flight = (struct ucx_flight){.ucx = ucx, .piece = piece, .refs = 1};
	ucx->flight_count++;
	*ret_flight = flight;
	return ERR_OK;
}

void flight_unref(struct ucx_flight *flight)
{
	if (--flight->refs > 0)
		return;
	if (flight->ticket)
		ticket_drop(&flight->ucx->flights, flight->ticket);
	get_flight_ended(flight);
	flight->ucx->flight_count--;
	free(flight);
}

/* The piece lets go of its flight: no answer finds it any more. */
static void flight_leave(struct piece *piece)
{
	struct ucx_flight *flight = piece->flight;
	if (!flight)
		return;
	piece->flight = NULL;
	flight->piece = NULL;
	if (flight->ticket)
		ticket_drop(&flight->ucx->flights, flight->ticket);
	flight->ticket = 0;
	flight_unref(flight);
}

static void settle(struct piece *piece, enum err e, uint64_t digest)
{
	flight_leave(piece);
	piece_settle(piece, e, digest);
}

static void on_digested(struct copy_job *job)
{
	struct piece *piece = job->arg;
	piece->copying = false;
	settle(piece, job->err, job->digest);
}

void ucx_landed(struct piece *piece)
{
	struct link *link = piece->read->peer->link;
	flight_leave(piece);
	/* Nobody wants the digest of an abandoned piece. */
	if (piece->state == PIECE_QUARANTINED || link->destroying) {
		piece_settle(piece, ERR_CANCELED, 0);
		return;
	}
	if (piece->from.length <= DIGEST_INLINE_MAX) {
		piece_settle(piece, ERR_OK, digest_of(piece->landing, piece->from.length));
		return;
	}
	piece->copying = true;
	piece->job = (struct copy_job){
		.dst = piece->landing,
		.length = piece->from.length,
		.done = on_digested,
		.arg = piece,
	};
	copy_submit(link->copy, &piece->job);
}

/* In its twin, to be looked at there. */
void ucx_twin_landed(struct piece *piece)
{
	struct peer *peer = piece->read->peer;
	flight_leave(piece);
	if (piece->state == PIECE_QUARANTINED || peer->link->destroying)
		piece_settle(piece, ERR_CANCELED, 0);
	else if (!twins_take(peer->link, piece))
		ucx_twin_judged(piece, false); /* its device went away meanwhile */
	else
		twins_start(peer, piece);
}

void ucx_twin_judged(struct piece *piece, bool good)
{
	struct peer *peer = piece->read->peer;
	if (good) {
		piece_settle(piece, ERR_OK, piece->digest);
	} else if (piece->state == PIECE_QUARANTINED || peer->link->destroying || peer->lost) {
		piece_settle(piece, peer->lost ? ERR_PEER_GONE : ERR_CANCELED, 0);
	} else {
		piece->twin = NULL;
		get_start(peer, piece);
	}
}

/* ---- asking ---- */

static void on_ask_sent(void *request, ucs_status_t status, void *user_data)
{
	flight_unref(user_data);
	if (request)
		ucp_request_free(request);
}

static enum err send_ask(struct ucx_peer *up, struct ucx_flight *flight)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS,
		.cb.send = on_ask_sent,
		.user_data = flight,
		.flags = UCP_AM_SEND_FLAG_EAGER,
	};
	flight->refs++;
	ucs_status_ptr_t request = ucp_am_send_nbx(up->endpoint, AM_ASK, &flight->header.ask, sizeof(flight->header.ask),
	                                           NULL, 0, &param);
	if (!UCS_PTR_IS_PTR(request))
		flight_unref(flight);
	ucx_kick(up->ucx);
	return UCS_PTR_IS_ERR(request) ? ucx_err(UCS_PTR_STATUS(request)) : ERR_OK;
}

static void ask_start(struct peer *peer, struct piece *piece)
{
	struct ucx_peer *up = peer->impl;
	struct ucx_flight *flight = NULL;
	enum err e = flight_create(up->ucx, piece, &flight);
	if (e != ERR_OK) {
		piece_settle(piece, e, 0);
		return;
	}
	piece->flight = flight;
	e = ticket_take(&up->ucx->flights, flight, &flight->ticket);
	const struct handle *from = &piece->from;
	flight->header.ask = (struct wire_ask){
		.session = up->session,
		.ticket = flight->ticket,
		.node = from->node,
		.incarnation = from->incarnation,
		.offset = from->offset,
		.length = from->length,
		.generation = from->generation,
		.rank = from->rank,
		.region = from->region,
		.kind = from->kind,
	};
	if (e == ERR_OK)
		e = send_ask(up, flight);
	if (e != ERR_OK)
		settle(piece, e, 0);
}

static void start(struct peer *peer, struct piece *piece)
{
	struct ucx_peer *up = peer->impl;
	if (up->one_sided)
		get_start(peer, piece);
	else
		ask_start(peer, piece);
}

/* ---- answers ---- */

static void on_received(void *request, ucs_status_t status, size_t length, void *user_data)
{
	struct ucx_flight *flight = user_data;
	struct piece *piece = flight->piece;
	flight_unref(flight);
	if (request)
		ucp_request_free(request);
	if (!piece)
		return;
	if (status == UCS_OK)
		ucx_landed(piece);
	else
		settle(piece, ERR_PEER_GONE, 0);
}

/* Rendezvous: from here on the transport writes into the landing. */
static void receive(struct ucx *ucx, struct ucx_flight *flight, void *data)
{
	struct piece *piece = flight->piece;
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
		.cb.recv_am = on_received,
		.user_data = flight,
	};
	ticket_drop(&ucx->flights, flight->ticket);
	flight->ticket = 0;
	flight->refs++;
	ucs_status_ptr_t request = ucp_am_recv_data_nbx(ucx->worker, data, piece->landing, piece->from.length, &param);
	ucx_kick(ucx);
	if (UCS_PTR_IS_PTR(request))
		return;
	on_received(NULL, UCS_PTR_STATUS(request), piece->from.length, flight);
}

static ucs_status_t on_answer(void *arg, const void *header, size_t header_length, void *data, size_t length,
                              const ucp_am_recv_param_t *param)
{
	struct ucx *ucx = arg;
	struct wire_answer answer;
	if (header_length != sizeof(answer))
		return UCS_OK;
	memcpy(&answer, header, sizeof(answer));
	struct ucx_flight *flight = ticket_find(&ucx->flights, answer.ticket);
	if (!flight || !flight->piece)
		return UCS_OK; /* abandoned: late bytes go nowhere */
	struct piece *piece = flight->piece;
	enum err e = ucx_wire_err(answer.err);
	if (e == ERR_OK && length != piece->from.length)
		e = ERR_PROTOCOL;
	if (e != ERR_OK)
		settle(piece, e, 0);
	else if (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV)
		receive(ucx, flight, data);
	else
		settle(piece, ERR_OK, digest_copy(piece->landing, data, length));
	return UCS_OK;
}

/* UCX falls back by itself; where something is required, that ends here. */
static enum err check_way(const struct ucx_peer *up, const char *lanes, bool rdma)
{
	const struct link *link = up->peer->link;
	enum link_transport way = rdma ? LINK_UCX_RDMA : up->ucx->transport == LINK_UCX_SHM ? LINK_UCX_SHM : LINK_UCX_TCP;
	if (link_may(link, way) && (rdma || link->options.transport != LINK_UCX_RDMA))
		return ERR_OK;
	log_error("link > peer %016llx refused: UCX reaches it over %s, and %s; `baton doctor` on both says what is missing",
	          (unsigned long long)up->peer->node, lanes,
	          link_may(link, way) ? "--link-transport is ucx-rdma" : "--require-transport wants something else");
	return ERR_UNSUPPORTED;
}

static ucs_status_t on_welcome(void *arg, const void *header, size_t header_length, void *data, size_t length,
                               const ucp_am_recv_param_t *param)
{
	struct ucx *ucx = arg;
	struct wire_welcome welcome;
	if (header_length != sizeof(welcome))
		return UCS_OK;
	memcpy(&welcome, header, sizeof(welcome));
	struct ucx_peer *up = ticket_find(&ucx->peers, welcome.ticket);
	if (!up || up->welcome || up->peer->lost)
		return UCS_OK;
	enum err e = ucx_wire_err(welcome.err);
	char lanes[128];
	ucx_endpoint_lanes(up->endpoint, lanes, sizeof(lanes));
	bool rdma = strstr(lanes, "rc_") || strstr(lanes, "dc_");
	if (e == ERR_OK)
		e = check_way(up, lanes, rdma);
	if (e != ERR_OK) {
		peer_lost(up->peer, e);
		return UCS_OK;
	}
	up->session = welcome.session;
	up->welcome = true;
	up->one_sided = ucx->one_sided && (rdma || ucx->link->options.one_sided);
	log_info("link > peer %016llx reached over ucx:%s%s", (unsigned long long)up->peer->node, lanes,
	         up->one_sided ? ", one-sided" : "");
	peer_wake(up->peer);
	return UCS_OK;
}

/* ---- the transport ---- */

static bool is_ready(struct peer *peer)
{
	return ((struct ucx_peer *)peer->impl)->welcome;
}

static bool forget(struct peer *peer, struct piece *piece)
{
	if (piece->twin_state != TWIN_NONE)
		return twins_forget(peer, piece);
	if (piece->copying) {
		if (!copy_cancel(peer->link->copy, &piece->job))
			return false;
		piece->copying = false;
		return true;
	}
	/* Not answered yet, or waiting for a key: nobody has the landing.  Else UCX has, until it completes the request:
	 * a forced close completes BEFORE the requests of its endpoint do, and bytes that were on the way land
	 * in between.  Without a worker nobody is left to write. */
	if (peer->link->ucx && !piece->parked && !piece->flight->ticket)
		return false;
	piece->parked = false;
	flight_leave(piece);
	return true;
}

static void on_endpoint_closed(void *arg)
{
	struct ucx_peer *up = arg;
	peer_closed(up->peer);
}

static void end_tether(struct ucx_peer *up)
{
	loop_watch_destroy(up->tether);
	up->tether = NULL;
	if (up->tether_fd >= 0)
		close(up->tether_fd);
	up->tether_fd = -1;
}

static void ucx_close(struct peer *peer)
{
	struct ucx_peer *up = peer->impl;
	end_tether(up);
	ticket_drop(&up->ucx->peers, up->ticket);
	ucx_endpoint_close(up->ucx, up->endpoint, on_endpoint_closed, up);
}

/* Its last piece has settled: no get uses the keys any more.  Without a worker, ucx_reader_fini() was here. */
static void fini(struct peer *peer)
{
	struct ucx_peer *up = peer->impl;
	if (peer->link->ucx) {
		get_close(up);
		for (struct ucx_peer **at = &up->ucx->readers; *at; at = &(*at)->next) {
			if (*at != up)
				continue;
			*at = up->next;
			break;
		}
	}
	free(up);
}

static void describe(const struct peer *peer, char *text, size_t text_bytes)
{
	const struct ucx_peer *up = peer->impl;
	char lanes[128];
	if (!up->welcome) {
		snprintf(text, text_bytes, "connecting");
		return;
	}
	ucx_endpoint_lanes(up->endpoint, lanes, sizeof(lanes));
	snprintf(text, text_bytes, "ucx%s:%s%s", get_in_use(up) ? "+device" : "", lanes, up->one_sided ? " one-sided" : "");
}

static const struct transport transport_ucx = {
	.is_ready = is_ready,
	.start = start,
	.forget = forget,
	.close = ucx_close,
	.fini = fini,
	.describe = describe,
};

/* ---- opening ---- */

static void on_lost(void *arg, ucp_ep_h ep, ucs_status_t status)
{
	struct ucx_peer *up = arg;
	log_debug("link > UCX endpoint to %016llx: %s", (unsigned long long)up->peer->node, ucs_status_string(status));
	peer_lost(up->peer, ERR_PEER_GONE);
}

static void on_tether(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct ucx_peer *up = arg;
	struct local_message message;
	int fd = -1;
	enum err e = local_receive(up->tether_fd, &message, &fd);
	if (fd >= 0)
		close(fd);
	if (e == ERR_OK || e == ERR_AGAIN)
		return;
	end_tether(up);
	peer_lost(up->peer, ERR_PEER_GONE);
}

static enum err open_tether(struct ucx_peer *up, const struct link_address *address)
{
	if (up->ucx->transport != LINK_UCX_SHM)
		return ERR_OK;
	enum err e = local_connect(up->peer->link, address->socket_name, up->ticket, &up->tether_fd);
	if (e != ERR_OK)
		return e;
	e = loop_watch_create(up->peer->link->loop, up->tether_fd, LOOP_READ, on_tether, up, &up->tether);
	if (e != ERR_OK)
		end_tether(up);
	return e;
}

static void on_hello_sent(void *request, ucs_status_t status, void *user_data)
{
	if (request)
		ucp_request_free(request);
}

static enum err send_hello(struct ucx_peer *up)
{
	struct ucx *ucx = up->ucx;
	up->hello = (struct wire_hello){
		.version = UCX_WIRE_VERSION,
		.ticket = up->ticket,
		.node = ucx->link->options.node,
		.incarnation = ucx->link->options.incarnation,
		.server_node = up->peer->node,
		.server_incarnation = up->peer->incarnation,
	};
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_FLAGS,
		.cb.send = on_hello_sent,
		.flags = UCP_AM_SEND_FLAG_EAGER,
	};
	ucs_status_ptr_t request = ucp_am_send_nbx(up->endpoint, AM_HELLO, &up->hello, sizeof(up->hello), ucx->address,
	                                           ucx->address_length, &param);
	ucx_kick(ucx);
	return UCS_PTR_IS_ERR(request) ? ucx_err(UCS_PTR_STATUS(request)) : ERR_OK;
}

static bool is_compatible(enum link_transport ours, enum link_transport theirs)
{
	if (ours == LINK_UCX_SHM || theirs == LINK_UCX_SHM)
		return ours == theirs;
	return theirs == LINK_UCX_TCP || theirs == LINK_UCX_RDMA;
}

enum err ucx_peer_open(struct peer *peer, const struct link_address *address, struct why *why)
{
	struct ucx *ucx = peer->link->ucx;
	if (!is_compatible(ucx->transport, address->ucx_transport) || address->ucx_address_length == 0)
		return why_set(why, ERR_UNSUPPORTED, "peer speaks UCX transport %u, we %u: no common one",
		               address->ucx_transport, ucx->transport);
	struct ucx_peer *up = calloc(1, sizeof(*up));
	if (!up)
		return ERR_NOMEM;
	*up = (struct ucx_peer){.ucx = ucx, .peer = peer, .tether_fd = -1};
	enum err e = ticket_take(&ucx->peers, up, &up->ticket);
	if (e == ERR_OK)
		e = open_tether(up, address);
	if (e != ERR_OK)
		goto drop_ticket;
	e = ucx_endpoint_create(ucx, address->ucx_address, on_lost, up, &up->endpoint);
	if (e != ERR_OK) {
		why_set(why, e, "UCX endpoint: %s", err_text(e));
		goto drop_ticket;
	}
	up->next = ucx->readers;
	ucx->readers = up;
	peer->impl = up;
	peer->transport = &transport_ucx;
	e = send_hello(up);
	/* The endpoint is there: its loss is told like any other. */
	if (e != ERR_OK)
		peer_lost(peer, e);
	return ERR_OK;

drop_ticket:
	ticket_drop(&ucx->peers, up->ticket);
	end_tether(up);
	free(up);
	return e;
}

void ucx_reader_fini(struct ucx *ucx)
{
	for (struct ucx_peer *up = ucx->readers; up; up = up->next)
		get_close(up);
}

enum err ucx_reader_init(struct ucx *ucx)
{
	enum err e = ucx_handler(ucx, AM_WELCOME, on_welcome);
	return e == ERR_OK ? ucx_handler(ucx, AM_ANSWER, on_answer) : e;
}
