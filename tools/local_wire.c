#include "tools/local_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/loop.h"
#include "proto/codec.h"

/* A message unpacked takes more room than its frame: pointers, and 4 bytes for a varint of one. */
enum { ARENA_BYTES = 96 << 20 };

enum event_kind { EVENT_OPENED, EVENT_CLOSED, EVENT_MESSAGE };

struct event {
	struct event *next;
	enum event_kind kind;
	int side; /* who hears it */
	uint32_t conn;
	uint64_t dialed;
	size_t length;
	uint8_t frame[];
};

struct side {
	struct local_wire *wire;
	struct env env;
	struct shell_core core;
};

struct local_wire {
	struct loop *loop;
	struct side sides[LOCAL_SIDES];
	uint32_t conn; /* of the connection that is open, the same number for both */
	bool open;
	uint32_t broken; /* the connection whose end both sides are to hear of; 0: none */
	uint64_t failed_dial; /* a node that could not be dialled; 0: none */
	int failed_side;      /* who is to hear of it */
	struct event *first, **last;
	struct loop_task task;
	struct codec_arena arena;
};

static void queue(struct local_wire *wire, struct event *event)
{
	event->next = NULL;
	*wire->last = event;
	wire->last = &event->next;
	loop_post(wire->loop, &wire->task);
}

/* NULL: no memory. */
static struct event *make(int side, enum event_kind kind, uint32_t conn, size_t length)
{
	struct event *event = malloc(sizeof(*event) + length);
	if (event)
		*event = (struct event){.kind = kind, .side = side, .conn = conn, .length = length};
	return event;
}

/* Hooks never fail (net/env.h rule 3): a side that cannot be told at once is told of the end in a later turn. */
static void break_off(struct local_wire *wire)
{
	log_error("no memory for a message: the connection inside ends");
	wire->open = false;
	wire->broken = wire->conn;
	loop_post(wire->loop, &wire->task);
}

static void deliver(struct local_wire *wire, struct event *event)
{
	struct shell_core *core = &wire->sides[event->side].core;
	uint64_t now_ns = loop_now_ns(wire->loop);
	if (event->kind == EVENT_OPENED) {
		core->opened(core->core, event->conn, event->dialed, now_ns);
		return;
	}
	if (event->kind == EVENT_CLOSED) {
		core->closed(core->core, event->conn, now_ns);
		return;
	}
	if (!wire->open || event->conn != wire->conn)
		return; /* closed while it was on its way */
	Wire__Envelope *envelope;
	struct why why = {0};
	if (codec_unpack(&wire->arena, event->frame, event->length, &why, &envelope) == ERR_OK)
		core->message(core->core, event->conn, envelope, now_ns);
	else
		log_error("a message of our own does not unpack: %s", why.text);
}

static void tell_failures(struct local_wire *wire)
{
	uint64_t now_ns = loop_now_ns(wire->loop), node = wire->failed_dial;
	uint32_t broken = wire->broken;
	wire->failed_dial = 0;
	wire->broken = 0;
	for (int i = 0; broken && i < LOCAL_SIDES; i++)
		wire->sides[i].core.closed(wire->sides[i].core.core, broken, now_ns);
	if (node)
		wire->sides[wire->failed_side].core.dial_failed(wire->sides[wire->failed_side].core.core, node, now_ns);
}

static void deliver_all(void *arg)
{
	struct local_wire *wire = arg;
	struct event *event = wire->first;
	wire->first = NULL;
	wire->last = &wire->first;
	for (struct event *next; event; event = next) {
		next = event->next;
		deliver(wire, event);
		free(event);
	}
	tell_failures(wire);
}

/* ---- hooks */

static int other(const struct side *side)
{
	return side == &side->wire->sides[0] ? 1 : 0;
}

static void env_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	struct side *side = context;
	if (!side->wire->open || conn != side->wire->conn)
		return;
	struct event *event = make(other(side), EVENT_MESSAGE, conn, codec_packed_size(envelope));
	if (!event) {
		break_off(side->wire);
		return;
	}
	codec_pack(envelope, event->frame);
	queue(side->wire, event);
}

static void env_close(void *context, uint32_t conn)
{
	struct side *side = context;
	if (!side->wire->open || conn != side->wire->conn)
		return;
	side->wire->open = false;
	struct event *event = make(other(side), EVENT_CLOSED, conn, 0);
	if (event)
		queue(side->wire, event);
	else
		break_off(side->wire);
}

static void env_dial(void *context, uint64_t node)
{
	struct side *side = context;
	struct local_wire *wire = side->wire;
	wire->conn++;
	struct event *mine = make(1 - other(side), EVENT_OPENED, wire->conn, 0);
	struct event *theirs = make(other(side), EVENT_OPENED, wire->conn, 0);
	if (!mine || !theirs) {
		free(mine);
		free(theirs);
		wire->failed_side = 1 - other(side);
		wire->failed_dial = node;
		loop_post(wire->loop, &wire->task);
		return;
	}
	wire->open = true;
	mine->dialed = node;
	queue(wire, mine);
	queue(wire, theirs);
}

static void env_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
	(void)context, (void)node, (void)incarnation, (void)address, (void)length; /* one node: nobody's memory to read */
}

static void env_link_close(void *context, uint64_t node)
{
	(void)context, (void)node;
}

static void env_read(void *context, const struct env_read *read)
{
	(void)context;
	log_error("read %llu of node %016llx, but there is no other node", (unsigned long long)read->op,
		  (unsigned long long)read->node);
	abort(); /* a read must be answered, and a core that starts one here is wrong */
}

static void env_read_cancel(void *context, uint64_t op)
{
	(void)context, (void)op;
}

/* ---- life */

enum err local_wire_create(struct loop *loop, struct local_wire **ret_wire)
{
	struct local_wire *wire = calloc(1, sizeof(*wire));
	if (!wire)
		return ERR_NOMEM;
	wire->arena = (struct codec_arena){.memory = malloc(ARENA_BYTES), .capacity = ARENA_BYTES};
	if (!wire->arena.memory) {
		free(wire);
		return ERR_NOMEM;
	}
	wire->loop = loop;
	wire->last = &wire->first;
	loop_task_init(&wire->task, deliver_all, wire);
	for (int i = 0; i < LOCAL_SIDES; i++) {
		wire->sides[i].wire = wire;
		wire->sides[i].env = (struct env){
			.context = &wire->sides[i],
			.send = env_send,
			.close = env_close,
			.dial = env_dial,
			.link_open = env_link_open,
			.link_close = env_link_close,
			.read = env_read,
			.read_cancel = env_read_cancel,
		};
	}
	*ret_wire = wire;
	return ERR_OK;
}

void local_wire_destroy(struct local_wire *wire)
{
	if (!wire)
		return;
	loop_task_cancel(wire->loop, &wire->task);
	for (struct event *event = wire->first, *next; event; event = next) {
		next = event->next;
		free(event);
	}
	free(wire->arena.memory);
	free(wire);
}

const struct env *local_wire_env(struct local_wire *wire, int side)
{
	return &wire->sides[side].env;
}

void local_wire_attach(struct local_wire *wire, int side, const struct shell_core *core)
{
	wire->sides[side].core = *core;
}
