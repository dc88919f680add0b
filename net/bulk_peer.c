/* A peer of bulk as the home loop has it: a connection in each lane, and which of them carries the next piece. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/bulk_impl.h"

static void on_ready(void *arg)
{
	struct bulk_peer *peer = ((struct bulk_conn *)arg)->peer;
	if (++peer->ready_count == peer->bulk->options.lanes)
		peer->options.ready(peer->options.arg);
}

/* Told once, by the first. */
static void on_lost(void *arg)
{
	struct bulk_conn *conn = arg;
	struct bulk_peer *peer = conn->peer;
	if (peer->is_lost)
		return;
	peer->is_lost = true;
	peer->options.lost(peer->options.arg, conn->lost_err);
}

static void on_closed(void *arg)
{
	struct bulk_peer *peer = ((struct bulk_conn *)arg)->peer;
	if (++peer->closed_count == peer->bulk->options.lanes)
		peer->options.closed(peer->options.arg);
}

enum err bulk_peer_open(struct bulk *bulk, const struct bulk_peer_options *options, struct bulk_peer **ret_peer)
{
	uint32_t lanes = bulk->options.lanes;
	/* The state of a digest wants its alignment. */
	size_t bytes = sizeof(struct bulk_peer) + lanes * sizeof(struct bulk_conn);
	size_t align = _Alignof(struct bulk_peer);
	struct bulk_peer *peer = aligned_alloc(align, (bytes + align - 1) / align * align);
	if (!peer)
		return ERR_NOMEM;
	memset(peer, 0, bytes);
	peer->bulk = bulk;
	peer->options = *options;
	peer->options.url = peer->url;
	strncpy(peer->url, options->url, sizeof(peer->url) - 1);
	for (uint32_t i = 0; i < lanes; i++) {
		struct bulk_conn *conn = &peer->conns[i];
		bulk_conn_init(conn, peer, &bulk->lanes[i]);
		loop_task_init(&conn->ready_task, on_ready, conn);
		loop_task_init(&conn->lost_task, on_lost, conn);
		loop_task_init(&conn->closed_task, on_closed, conn);
		loop_post(conn->lane->loop, &conn->open_task);
	}
	*ret_peer = peer;
	return ERR_OK;
}

void bulk_peer_close(struct bulk_peer *peer)
{
	for (uint32_t i = 0; i < peer->bulk->options.lanes; i++)
		loop_post(peer->conns[i].lane->loop, &peer->conns[i].close_task);
}

void bulk_peer_free(struct bulk_peer *peer)
{
	struct loop *home = peer->bulk->home;
	for (uint32_t i = 0; i < peer->bulk->options.lanes; i++) {
		struct bulk_conn *conn = &peer->conns[i];
		loop_task_cancel(home, &conn->ready_task);
		loop_task_cancel(home, &conn->lost_task);
		loop_task_cancel(home, &conn->closed_task);
		assert(!conn->channel && !conn->dialer && !conn->head);
	}
	free(peer);
}

/* ---- reads ---- */

static void leave_lane(struct bulk_read *read)
{
	if (!read->is_over)
		read->conn->flight_bytes -= read->from.length;
	read->is_over = true;
}

/* A cancel that is on its way is answered by `canceled`, which comes behind this. */
static void on_done(void *arg)
{
	struct bulk_read *read = arg;
	leave_lane(read);
	if (!read->is_canceled)
		read->done(read);
}

static void on_ack(void *arg)
{
	struct bulk_read *read = arg;
	leave_lane(read);
	read->canceled(read);
}

static struct bulk_conn *freest(struct bulk_peer *peer)
{
	struct bulk_conn *best = &peer->conns[0];
	for (uint32_t i = 1; i < peer->bulk->options.lanes; i++)
		if (peer->conns[i].flight_bytes < best->flight_bytes)
			best = &peer->conns[i];
	return best;
}

void bulk_read_start(struct bulk_peer *peer, struct bulk_read *read)
{
	read->conn = freest(peer);
	read->conn->flight_bytes += read->from.length;
	read->flight = NULL;
	read->is_canceled = read->is_over = false;
	loop_task_init(&read->start_task, bulk_conn_start, read);
	loop_task_init(&read->cancel_task, bulk_conn_cancel, read);
	loop_task_init(&read->done_task, on_done, read);
	loop_task_init(&read->ack_task, on_ack, read);
	loop_post(read->conn->lane->loop, &read->start_task);
}

void bulk_read_cancel(struct bulk_read *read)
{
	if (read->is_canceled)
		return;
	read->is_canceled = true;
	loop_post(read->conn->lane->loop, &read->cancel_task);
}

void bulk_read_forget(struct bulk_read *read)
{
	struct loop *home = read->conn->lane->bulk->home;
	loop_task_cancel(home, &read->done_task);
	loop_task_cancel(home, &read->ack_task);
}
