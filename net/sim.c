#include "net/sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "net/sim_impl.h"
#include "proto/codec.h"

enum { ARENA_BYTES = 1 << 20, EVENTS_MAX = 100000000 };

void *sim_need(void *memory)
{
	if (!memory) {
		fputs("simulation: out of memory\n", stderr);
		abort();
	}
	return memory;
}

/* ---- the queue */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->serial < b->serial;
}

static void grow(struct sim_queue *q)
{
	if (q->count < q->capacity)
		return;
	q->capacity = q->capacity ? 2 * q->capacity : 256;
	q->events = sim_need(realloc(q->events, q->capacity * sizeof(*q->events)));
}

/* The place of a new event with that time and the next serial number; the caller fills in the rest. */
static struct sim_event *heap_insert(struct sim *sim, const struct sim_event *event)
{
	struct sim_queue *q = &sim->queue;
	grow(q);
	size_t i = q->count++;
	for (; i > 0 && before(event, &q->events[(i - 1) / 2]); i = (i - 1) / 2)
		q->events[i] = q->events[(i - 1) / 2];
	q->events[i] = *event;
	return &q->events[i];
}

static struct sim_event heap_pop(struct sim *sim)
{
	struct sim_queue *q = &sim->queue;
	struct sim_event first = q->events[0], last = q->events[--q->count];
	size_t i = 0;
	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= q->count)
			break;
		if (child + 1 < q->count && before(&q->events[child + 1], &q->events[child]))
			child++;
		if (!before(&q->events[child], &last))
			break;
		q->events[i] = q->events[child];
		i = child;
	}
	q->events[i] = last;
	return first;
}

struct sim_event *sim_push(struct sim *sim, uint64_t at_ns, enum sim_event_kind kind, uint32_t node)
{
	struct sim_event event = {
		.at_ns = at_ns < sim->now_ns ? sim->now_ns : at_ns,
		.serial = sim->serial++,
		.kind = kind,
		.node = node,
		.life = node == SIM_WORLD ? 0 : sim->nodes[node].life,
	};
	return heap_insert(sim, &event);
}

/* ---- life */

struct sim *sim_create(const struct sim_options *options)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	if (!sim)
		return NULL;
	sim->options = *options;
	if (!sim->options.latency_ns)
		sim->options.latency_ns = 200000;
	if (!sim->options.tick_ns)
		sim->options.tick_ns = 50000000;
	sim->rng.seed = options->seed;
	sim->arena = malloc(ARENA_BYTES);
	if (!sim->arena) {
		free(sim);
		return NULL;
	}
	return sim;
}

void sim_destroy(struct sim *sim)
{
	if (!sim)
		return;
	for (size_t i = 0; i < sim->queue.count; i++)
		free(sim->queue.events[i].frame);
	for (uint32_t i = 0; i < sim->node_count; i++) {
		for (size_t j = 0; j < sim->nodes[i].pending.count; j++)
			free(sim->nodes[i].pending.events[j].frame);
		free(sim->nodes[i].pending.events);
	}
	sim_streams_free(sim);
	sim_reads_free(sim);
	free(sim->queue.events);
	free(sim->arena);
	buf_fini(&sim->text);
	free(sim);
}

static void env_trace_line(void *context, const char *format, ...)
{
	struct sim_node *node = context;
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	sim_line(node->sim, node->index, text);
}

static void env_outranked(void *context, uint64_t incarnation, bool lives)
{
	struct sim_node *node = context;
	const struct sim_options *options = &node->sim->options;
	if (options->outranked)
		options->outranked(options->context, node->index, incarnation, lives);
}

uint32_t sim_add(struct sim *sim, uint64_t node, const char *name)
{
	assert(sim->node_count < SIM_NODES_MAX && node != 0);
	uint32_t index = sim->node_count++;
	struct sim_node *n = &sim->nodes[index];
	n->id = node;
	n->sim = sim;
	n->index = index;
	n->clock_rate = SIM_RATE_ONE;
	n->clock_local_ns = 1000000000 + rng_below(&sim->rng, 1000000000000);
	snprintf(n->name, sizeof(n->name), "%s", name);
	n->env = (struct env){
		.context = n,
		.send = sim_env_send,
		.close = sim_env_close,
		.dial = sim_env_dial,
		.link_open = sim_env_link_open,
		.link_close = sim_env_link_close,
		.link_name = sim_env_link_name,
		.link_required = sim_env_link_required,
		.read = sim_env_read,
		.read_cancel = sim_env_read_cancel,
		.outranked = env_outranked,
		.trace = env_trace_line,
	};
	return index;
}

const struct env *sim_env(struct sim *sim, uint32_t index)
{
	return &sim->nodes[index].env;
}

void sim_renew(struct sim *sim, uint32_t index, uint64_t incarnation)
{
	sim->nodes[index].incarnation = incarnation;
}

void sim_start(struct sim *sim, uint32_t index, uint64_t incarnation, const struct sim_node_ops *ops, void *core)
{
	struct sim_node *n = &sim->nodes[index];
	assert(!n->core && core);
	n->ops = ops;
	n->core = core;
	n->incarnation = incarnation;
	n->life++;
	memset(n->linked, 0, sizeof(n->linked));
	sim_push(sim, sim->now_ns + rng_below(&sim->rng, sim->options.tick_ns), SIM_TICK, index);
}

bool sim_up(const struct sim *sim, uint32_t index)
{
	return sim->nodes[index].core != NULL;
}

void sim_kill(struct sim *sim, uint32_t index)
{
	struct sim_node *n = &sim->nodes[index];
	if (!n->core)
		return;
	sim_line(sim, index, "dies");
	sim_streams_kill(sim, index);
	sim_reads_kill(sim, index);
	n->core = NULL;
	n->stopped = false;
	n->life++;
	for (size_t i = 0; i < n->pending.count; i++)
		free(n->pending.events[i].frame);
	n->pending.count = 0;
}

void sim_stop(struct sim *sim, uint32_t index)
{
	if (!sim->nodes[index].core || sim->nodes[index].stopped)
		return;
	sim_line(sim, index, "is stopped");
	sim->nodes[index].stopped = true;
}

bool sim_stopped(const struct sim *sim, uint32_t index)
{
	return sim->nodes[index].stopped;
}

/* All that happened meanwhile comes at once, in order; only its timer may come before or after. */
void sim_continue(struct sim *sim, uint32_t index)
{
	struct sim_node *n = &sim->nodes[index];
	if (!n->stopped)
		return;
	sim_line(sim, index, "goes on");
	n->stopped = false;
	bool tick_first = rng_below(&sim->rng, 2);
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < n->pending.count; i++) {
			struct sim_event event = n->pending.events[i];
			bool in_round = (round == 0) == (tick_first == (event.kind == SIM_TICK));
			if (!in_round)
				continue;
			event.at_ns = sim->now_ns;
			event.serial = sim->serial++;
			heap_insert(sim, &event);
		}
	n->pending.count = 0;
}

/* ---- clocks */

uint64_t sim_now(const struct sim *sim)
{
	return sim->now_ns;
}

uint64_t sim_local(const struct sim *sim, uint32_t index)
{
	const struct sim_node *n = &sim->nodes[index];
	unsigned __int128 passed = (unsigned __int128)(sim->now_ns - n->clock_world_ns) * n->clock_rate;
	return n->clock_local_ns + (uint64_t)(passed / SIM_RATE_ONE);
}

uint64_t sim_world_time(const struct sim *sim, uint32_t index, uint64_t local_ns)
{
	const struct sim_node *n = &sim->nodes[index];
	if (local_ns <= n->clock_local_ns)
		return n->clock_world_ns;
	unsigned __int128 passed = (unsigned __int128)(local_ns - n->clock_local_ns) * SIM_RATE_ONE;
	return n->clock_world_ns + (uint64_t)(passed / n->clock_rate);
}

void sim_skew(struct sim *sim, uint32_t index, uint32_t rate)
{
	struct sim_node *n = &sim->nodes[index];
	n->clock_local_ns = sim_local(sim, index);
	n->clock_world_ns = sim->now_ns;
	n->clock_rate = rate;
}

void sim_step(struct sim *sim, uint32_t index, uint64_t forward_ns)
{
	sim_skew(sim, index, sim->nodes[index].clock_rate);
	sim->nodes[index].clock_local_ns += forward_ns;
}

/* ---- what happened */

void sim_mark(struct sim *sim, uint64_t word)
{
	sim->digest = rng_mix(sim->digest ^ word);
}

static void write_line(struct sim *sim, uint32_t index, const char *text)
{
	const char *name = index == SIM_WORLD ? "world" : sim->nodes[index].name;
	if (!sim->options.story)
		return;
	enum err e = buf_printf(&sim->text, "[%6llu] %-13s > %s\n", (unsigned long long)(sim->now_ns / 1000000), name,
				text);
	if (e != ERR_OK)
		sim->options.story = false; /* over a gigabyte */
}

void sim_line(struct sim *sim, uint32_t index, const char *text)
{
	sim_mark(sim, hash_xxh3(text, strlen(text), sim->now_ns + index));
	write_line(sim, index, text);
}

void sim_note(struct sim *sim, uint32_t index, const char *format, ...)
{
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	write_line(sim, index, text);
}

void sim_story(struct sim *sim, uint32_t index, const char *format, ...)
{
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	sim_line(sim, index, text);
}

const char *sim_text(const struct sim *sim)
{
	return sim->text.data ? sim->text.data : "";
}

uint64_t sim_digest(const struct sim *sim)
{
	return sim->digest;
}

void sim_counters(const struct sim *sim, struct sim_counters *ret_counters)
{
	*ret_counters = sim->counters;
}

uint64_t sim_random(struct sim *sim, uint64_t bound)
{
	return rng_below(&sim->rng, bound);
}

uint32_t sim_connection(const struct sim *sim)
{
	return sim->connection;
}

uint32_t sim_index(const struct sim *sim, uint64_t node)
{
	for (uint32_t i = 0; i < sim->node_count; i++)
		if (sim->nodes[i].id == node)
			return i;
	return SIM_WORLD;
}

/* ---- running */

void sim_at(struct sim *sim, uint64_t at_ns, uint32_t on_node, void (*fn)(void *context, uint64_t number),
	    void *context, uint64_t number)
{
	struct sim_event *event =
		sim_push(sim, at_ns, on_node == SIM_WORLD ? SIM_WORLD_CALL : SIM_CALL, on_node);
	event->fn = fn;
	event->context = context;
	event->number = number;
}

static void deliver(struct sim *sim, struct sim_node *n, const struct sim_event *event)
{
	struct codec_arena arena = {.memory = sim->arena, .capacity = ARENA_BYTES};
	struct why why;
	Wire__Envelope *envelope;
	enum err e = codec_unpack(&arena, event->frame->bytes, event->frame->length, &why, &envelope);
	if (e != ERR_OK) {
		fprintf(stderr, "simulation: a frame to %s is refused: %s\n", n->name, why.text);
		abort();
	}
	sim_mark(sim, hash_xxh3(event->frame->bytes, event->frame->length, 0));
	sim->counters.frames++;
	sim->counters.frame_bytes += event->frame->length;
	const struct sim_conn *conn = &sim->conns[event->conn / 2 - 1];
	uint32_t sender = !(event->conn & 1), from = conn->nodes[sender];
	bool alive = sim->nodes[from].core && conn->lives[sender] == sim->nodes[from].life;
	sim->connection = event->conn / 2 - 1;
	if (sim->options.tap)
		sim->options.tap(sim->options.context, from, n->index, alive, envelope);
	n->ops->message(n->core, event->conn, envelope, sim_local(sim, n->index));
}

static void node_event(struct sim *sim, const struct sim_event *event)
{
	struct sim_node *n = &sim->nodes[event->node];
	uint64_t now_ns = sim_local(sim, n->index);
	sim_mark(sim, sim->now_ns << 8 ^ (uint64_t)event->kind << 4 ^ event->node);
	switch (event->kind) {
	case SIM_TICK:
		sim_push(sim, sim->now_ns + sim->options.tick_ns, SIM_TICK, n->index);
		n->ops->tick(n->core, now_ns);
		break;
	case SIM_OPENED:
		n->ops->opened(n->core, event->conn, event->number, now_ns);
		break;
	case SIM_CLOSED:
		n->ops->closed(n->core, event->conn, now_ns);
		break;
	case SIM_DIAL_FAILED:
		n->ops->dial_failed(n->core, event->number, now_ns);
		break;
	case SIM_MESSAGE:
		deliver(sim, n, event);
		break;
	case SIM_READ_DONE:
		n->ops->read_done(n->core, event->number, event->err, event->digest, now_ns);
		break;
	case SIM_LANDING_FREE:
		sim_read_freed(sim, event);
		n->ops->landing_free(n->core, event->number, now_ns);
		break;
	default:
		event->fn(event->context, event->number);
	}
}

static void stash(struct sim_node *n, const struct sim_event *event)
{
	for (size_t i = 0; event->kind == SIM_TICK && i < n->pending.count; i++)
		if (n->pending.events[i].kind == SIM_TICK)
			return; /* a timer that is late fires once */
	grow(&n->pending);
	n->pending.events[n->pending.count++] = *event;
}

static void run_event(struct sim *sim, const struct sim_event *event)
{
	if (event->node != SIM_WORLD) {
		struct sim_node *n = &sim->nodes[event->node];
		if (!n->core || n->life != event->life) {
			free(event->frame);
			return;
		}
		if (n->stopped) {
			stash(n, event);
			return;
		}
		if (sim_stream_event(sim, event))
			node_event(sim, event);
		free(event->frame);
		return;
	}
	switch (event->kind) {
	case SIM_CONNECT:
		sim_on_connect(sim, event);
		break;
	case SIM_PUMP:
		sim_on_pump(sim, event);
		break;
	case SIM_SAMPLE:
		sim_on_sample(sim, event);
		break;
	case SIM_DEADLINE:
		sim_on_deadline(sim, event);
		break;
	default:
		event->fn(event->context, event->number);
	}
}

void sim_run(struct sim *sim, uint64_t until_ns)
{
	while (sim->queue.count > 0 && sim->queue.events[0].at_ns <= until_ns) {
		struct sim_event event = heap_pop(sim);
		sim->now_ns = event.at_ns;
		sim->counters.events++;
		assert(sim->counters.events < EVENTS_MAX); /* somebody runs in a circle */
		run_event(sim, &event);
	}
	if (until_ns > sim->now_ns)
		sim->now_ns = until_ns;
}
