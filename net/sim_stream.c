/* sim_stream - connections of the simulated world: ordered and reliable until they break. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/sim_impl.h"
#include "proto/codec.h"

/* Number of an end, as its core knows it: never 0. */
static uint32_t end_number(size_t conn, uint32_t end)
{
	return (uint32_t)(conn + 1) * 2 + end;
}

static struct sim_conn *conn_of(struct sim *sim, uint32_t number, uint32_t *ret_end)
{
	size_t index = number / 2 - 1;
	assert(number >= 2 && index < sim->conn_count);
	*ret_end = number & 1;
	return &sim->conns[index];
}

static void drop_frames(struct sim_lane *lane)
{
	while (lane->first) {
		struct sim_frame *frame = lane->first;
		lane->first = frame->next;
		free(frame);
	}
	lane->last = NULL;
	lane->stalled = false;
}

void sim_streams_free(struct sim *sim)
{
	for (size_t i = 0; i < sim->conn_count; i++)
		for (int end = 0; end < 2; end++)
			drop_frames(&sim->conns[i].lanes[end]);
	free(sim->conns);
}

static void pump_at(struct sim *sim, size_t conn, uint32_t end, uint64_t at_ns)
{
	struct sim_event *event = sim_push(sim, at_ns, SIM_PUMP, SIM_WORLD);
	event->conn = end_number(conn, end);
	sim->conns[conn].lanes[end].pumping = true;
}

/* Extra time of this connection while one of its nodes has its order shaken. */
static uint64_t reorder_ns(const struct sim *sim, const struct sim_conn *conn)
{
	uint64_t extra_ns = 0;
	for (int end = 0; end < 2; end++) {
		const struct sim_node *n = &sim->nodes[conn->nodes[end]];
		if (sim->now_ns < n->reorder_until_ns)
			extra_ns += rng_mix(conn->reorder ^ n->reorder_until_ns) % (n->reorder_ns + 1);
	}
	return extra_ns;
}

static void enqueue(struct sim *sim, size_t index, uint32_t end, struct sim_frame *frame)
{
	struct sim_conn *conn = &sim->conns[index];
	struct sim_lane *lane = &conn->lanes[end];
	uint64_t ready_ns = sim->now_ns + sim_latency(sim, conn->nodes[end], conn->nodes[!end]) + reorder_ns(sim, conn);
	if (ready_ns < lane->last_ready_ns)
		ready_ns = lane->last_ready_ns;
	lane->last_ready_ns = frame->ready_ns = ready_ns;
	frame->next = NULL;
	if (lane->last)
		lane->last->next = frame;
	else
		lane->first = frame;
	lane->last = frame;
	if (!lane->pumping && !lane->stalled)
		pump_at(sim, index, end, lane->first->ready_ns);
}

/* The same once more: right behind it, or past all that comes then. */
static void echo(struct sim *sim, size_t index, uint32_t end, const struct sim_frame *frame)
{
	const struct sim_conn *conn = &sim->conns[index];
	struct sim_frame *again = sim_need(malloc(sizeof(*again) + frame->length));
	memcpy(again, frame, sizeof(*again) + frame->length);
	uint64_t late_ns = sim->nodes[conn->nodes[end]].echo_late_ns;
	if (late_ns == 0) {
		enqueue(sim, index, end, again);
		return;
	}
	uint32_t to = conn->nodes[!end];
	struct sim_event *event = sim_push(sim, frame->ready_ns + rng_below(&sim->rng, late_ns), SIM_MESSAGE, to);
	event->life = conn->lives[!end];
	event->conn = end_number(index, !end);
	event->frame = again;
}

void sim_env_send(void *context, uint32_t number, const Wire__Envelope *envelope)
{
	struct sim_node *n = context;
	uint32_t end;
	struct sim_conn *conn = conn_of(n->sim, number, &end);
	assert(conn->nodes[end] == n->index && conn->lives[end] == n->life);
	n->sim->connection = number / 2 - 1;
	if (n->sim->options.sent)
		n->sim->options.sent(n->sim->options.context, n->index, conn->nodes[!end], envelope);
	if (!conn->open[end] || conn->broken)
		return;
	size_t length = codec_packed_size(envelope);
	assert(length > 0 && length <= PROTO_FRAME_MAX);
	struct sim_frame *frame = sim_need(malloc(sizeof(*frame) + length));
	frame->length = codec_pack(envelope, frame->bytes);
	size_t index = (size_t)(conn - n->sim->conns);
	enqueue(n->sim, index, end, frame);
	if (n->sim->now_ns < n->echo_until_ns && rng_below(&n->sim->rng, 1000) < n->echo_per_thousand)
		echo(n->sim, index, end, frame);
}

static void send_end(struct sim *sim, size_t conn, uint32_t end)
{
	struct sim_frame *frame = sim_need(malloc(sizeof(*frame)));
	frame->length = 0;
	enqueue(sim, conn, end, frame);
}

static void parted(struct sim *sim, const struct sim_conn *conn, uint32_t end)
{
	sim->connection = (uint32_t)(conn - sim->conns);
	if (sim->options.parted)
		sim->options.parted(sim->options.context, conn->nodes[end], conn->nodes[!end]);
}

void sim_env_close(void *context, uint32_t number)
{
	struct sim_node *n = context;
	uint32_t end;
	struct sim_conn *conn = conn_of(n->sim, number, &end);
	if (!conn->open[end])
		return;
	conn->open[end] = false;
	drop_frames(&conn->lanes[!end]);
	parted(n->sim, conn, end);
	if (!conn->broken)
		send_end(n->sim, (size_t)(conn - n->sim->conns), end);
}

void sim_on_pump(struct sim *sim, const struct sim_event *event)
{
	uint32_t end;
	struct sim_conn *conn = conn_of(sim, event->conn, &end);
	struct sim_lane *lane = &conn->lanes[end];
	size_t index = (size_t)(conn - sim->conns);
	lane->pumping = false;
	if (!lane->first)
		return;
	if (sim_blocked(sim, conn->nodes[end], conn->nodes[!end])) {
		lane->stalled = true;
		return;
	}
	if (lane->first->ready_ns > sim->now_ns) { /* the frame this event was for is gone */
		pump_at(sim, index, end, lane->first->ready_ns);
		return;
	}
	struct sim_frame *frame = lane->first;
	lane->first = frame->next;
	if (!lane->first)
		lane->last = NULL;
	uint32_t to = conn->nodes[!end];
	bool alive = conn->open[!end] && conn->lives[!end] == sim->nodes[to].life;
	if (!alive) {
		free(frame);
	} else {
		struct sim_event *told = sim_push(sim, sim->now_ns, frame->length ? SIM_MESSAGE : SIM_CLOSED, to);
		told->conn = end_number(index, !end);
		told->frame = frame;
	}
	if (sim->conns[index].lanes[end].first)
		pump_at(sim, index, end, sim->conns[index].lanes[end].first->ready_ns);
}

bool sim_stream_event(struct sim *sim, const struct sim_event *event)
{
	if (event->kind != SIM_MESSAGE && event->kind != SIM_CLOSED && event->kind != SIM_OPENED)
		return true;
	uint32_t end;
	struct sim_conn *conn = conn_of(sim, event->conn, &end);
	if (!conn->open[end])
		return false; /* the core closed it meanwhile, or heard of its end already */
	if (event->kind == SIM_MESSAGE)
		return !conn->broken;
	if (event->kind == SIM_CLOSED) {
		conn->open[end] = false;
		parted(sim, conn, end);
	}
	return true;
}

/* ---- dialling */

void sim_env_dial(void *context, uint64_t node)
{
	struct sim_node *n = context;
	struct sim *sim = n->sim;
	uint32_t target = sim_index(sim, node);
	bool reachable = target != SIM_WORLD && !sim_blocked(sim, n->index, target) && !sim_blocked(sim, target, n->index);
	if (target == SIM_WORLD || (reachable && !sim->nodes[target].core)) {
		uint64_t at_ns = sim->now_ns + (target == SIM_WORLD ? 0 : sim_latency(sim, n->index, target));
		sim_push(sim, at_ns, SIM_DIAL_FAILED, n->index)->number = node;
		return;
	}
	if (!reachable) {
		uint64_t wait_ns = 500000000 + rng_below(&sim->rng, 1000000000);
		sim_push(sim, sim->now_ns + wait_ns, SIM_DIAL_FAILED, n->index)->number = node;
		return;
	}
	struct sim_event *event = sim_push(sim, sim->now_ns + sim_latency(sim, n->index, target), SIM_CONNECT, SIM_WORLD);
	event->number = (uint64_t)n->index << 32 | target;
	event->life = n->life;
}

void sim_on_connect(struct sim *sim, const struct sim_event *event)
{
	uint32_t from = (uint32_t)(event->number >> 32), to = (uint32_t)event->number;
	struct sim_node *dialer = &sim->nodes[from], *target = &sim->nodes[to];
	if (!dialer->core || dialer->life != event->life)
		return;
	if (!target->core) {
		sim_push(sim, sim->now_ns + sim_latency(sim, to, from), SIM_DIAL_FAILED, from)->number = target->id;
		return;
	}
	if (sim->conn_count == sim->conn_capacity) {
		sim->conn_capacity = sim->conn_capacity ? 2 * sim->conn_capacity : 64;
		sim->conns = sim_need(realloc(sim->conns, sim->conn_capacity * sizeof(*sim->conns)));
	}
	size_t index = sim->conn_count++;
	sim->conns[index] = (struct sim_conn){
		.nodes = {from, to},
		.lives = {dialer->life, target->life},
		.open = {true, true},
		.reorder = rng_next(&sim->rng),
	};
	struct sim_event *accepted = sim_push(sim, sim->now_ns, SIM_OPENED, to);
	accepted->conn = end_number(index, 1);
	uint64_t opened_ns = sim->now_ns + sim_latency(sim, to, from);
	struct sim_event *opened = sim_push(sim, opened_ns, SIM_OPENED, from);
	opened->conn = end_number(index, 0);
	opened->number = target->id;
	sim->conns[index].opened_ns = opened_ns;
	sim->conns[index].lanes[1].last_ready_ns = opened_ns; /* nothing arrives before that */
}

/* ---- breaking */

/* late: the node that hears of it only after late_ns, the other one at once; SIM_WORLD: each after a while. */
static void break_conn(struct sim *sim, size_t index, uint32_t late, uint64_t late_ns)
{
	struct sim_conn *conn = &sim->conns[index];
	conn->broken = true;
	for (uint32_t end = 0; end < 2; end++) {
		drop_frames(&conn->lanes[end]);
		if (!conn->open[end])
			continue;
		uint64_t after_ns = rng_below(&sim->rng, rng_below(&sim->rng, 4) ? 20000000 : 400000000);
		if (late != SIM_WORLD)
			after_ns = conn->nodes[end] == late ? late_ns : 0;
		uint64_t at_ns = sim->now_ns + after_ns;
		if (end == 0 && at_ns < conn->opened_ns)
			at_ns = conn->opened_ns; /* the dialler hears that it opened first */
		struct sim_event *event = sim_push(sim, at_ns, SIM_CLOSED, conn->nodes[end]);
		event->life = conn->lives[end];
		event->conn = end_number(index, end);
	}
}

static void cut(struct sim *sim, uint32_t a, uint32_t b, uint32_t late, uint64_t late_ns)
{
	for (size_t i = 0; i < sim->conn_count; i++) {
		const struct sim_conn *conn = &sim->conns[i];
		bool theirs = (conn->nodes[0] == a && conn->nodes[1] == b) || (conn->nodes[0] == b && conn->nodes[1] == a);
		if (theirs && !conn->broken && (conn->open[0] || conn->open[1]))
			break_conn(sim, i, late, late_ns);
	}
}

void sim_cut(struct sim *sim, uint32_t a, uint32_t b)
{
	cut(sim, a, b, SIM_WORLD, 0);
}

void sim_cut_half(struct sim *sim, uint32_t at_once, uint32_t late, uint64_t after_ns)
{
	cut(sim, at_once, late, late, after_ns);
}

void sim_streams_resume(struct sim *sim)
{
	for (size_t i = 0; i < sim->conn_count; i++)
		for (uint32_t end = 0; end < 2; end++) {
			struct sim_lane *lane = &sim->conns[i].lanes[end];
			if (!lane->stalled)
				continue;
			lane->stalled = false;
			if (lane->first)
				pump_at(sim, i, end, sim->now_ns);
		}
}

/* The kernel closes what the process had open; what was written is delivered first, or lost with a reset. */
void sim_streams_kill(struct sim *sim, uint32_t index)
{
	for (size_t i = 0; i < sim->conn_count; i++) {
		for (uint32_t end = 0; end < 2; end++) {
			struct sim_conn *conn = &sim->conns[i];
			if (conn->nodes[end] != index || !conn->open[end] || conn->lives[end] != sim->nodes[index].life)
				continue;
			conn->open[end] = false;
			drop_frames(&conn->lanes[!end]);
			if (conn->broken)
				continue;
			if (rng_below(&sim->rng, 2))
				drop_frames(&conn->lanes[end]);
			send_end(sim, i, end);
		}
	}
}
