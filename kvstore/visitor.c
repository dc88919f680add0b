#include "kvstore/visitor.h"

#include <stdlib.h>

#include "proto/job.h"

struct visitor {
	struct visitor_options options;
	struct process *process;
	struct sessions *sessions;
};

/* ---- events */

static void on_opened(void *core, uint32_t conn, uint64_t dialed, uint64_t now_ns)
{
	sessions_opened(((struct visitor *)core)->sessions, conn, dialed, now_ns);
}

static void on_dial_failed(void *core, uint64_t dialed, uint64_t now_ns)
{
	sessions_dial_failed(((struct visitor *)core)->sessions, dialed, now_ns);
}

static void on_closed(void *core, uint32_t conn, uint64_t now_ns)
{
	sessions_closed(((struct visitor *)core)->sessions, conn, now_ns);
}

static void on_message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct visitor *v = core;
	uint32_t peer = sessions_message(v->sessions, conn, envelope, now_ns);
	if (peer != PEER_NONE)
		v->options.message(v->options.context, peer, envelope, now_ns);
}

static void on_tick(void *core, uint64_t now_ns)
{
	struct visitor *v = core;
	sessions_tick(v->sessions, now_ns);
	if (v->options.tick)
		v->options.tick(v->options.context, now_ns);
}

static void on_outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	struct visitor *v = core;
	v->options.read_outcome(v->options.context, op, e, digest, now_ns);
}

static void on_landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	struct visitor *v = core;
	v->options.landing_free(v->options.context, op, now_ns);
}

static void on_member(void *context, const struct member *member, uint64_t now_ns)
{
	struct visitor *v = context;
	bool wanted = v->options.wants ? v->options.wants(v->options.context, member) : member->role == WIRE__ROLE__ROLE_KVSTORE;
	if (wanted)
		sessions_want(v->sessions, member->node, member->incarnation, now_ns);
}

static void on_gone(void *context, uint64_t node, uint64_t now_ns)
{
	struct visitor *v = context;
	(void)now_ns;
	sessions_unwant(v->sessions, node);
	if (v->options.gone)
		v->options.gone(v->options.context, node);
}

static void on_synced(void *context, uint64_t now_ns)
{
	struct visitor *v = context;
	(void)now_ns;
	if (v->options.synced)
		v->options.synced(v->options.context);
}

static void on_drain(void *context)
{
	struct visitor *v = context;
	if (v->options.drain)
		v->options.drain(v->options.context);
}

static void on_renew(void *context, uint64_t incarnation, const uint8_t *link_address, size_t length, uint64_t now_ns)
{
	sessions_renew(((struct visitor *)context)->sessions, incarnation, link_address, length, now_ns);
}

/* ---- beginning and end */

static enum err make_sessions(struct visitor *v)
{
	const struct visitor_options *o = &v->options;
	size_t length;
	const uint8_t *address = process_link_address(v->process, &length);
	struct session_options options = {
		.node = process_node(v->process),
		.incarnation = process_incarnation(v->process),
		.role = o->role,
		.name = o->settings->name,
		.cluster = o->settings->cluster,
		.compat = o->compat,
		.link_address = address,
		.link_address_length = length,
		.peer_max = o->peer_max,
		.time_factor = (uint32_t)o->settings->time_factor,
		.env = process_env(v->process),
		.context = o->context,
		.up = o->up,
		.down = o->down,
	};
	void *memory = malloc(sessions_bytes(&options));
	if (!memory)
		return ERR_NOMEM;
	v->sessions = sessions_init(memory, &options);
	return ERR_OK;
}

enum err visitor_open(const struct visitor_options *options, struct visitor **ret_visitor, struct why *why)
{
	struct visitor *v = calloc(1, sizeof(*v));
	if (!v)
		return ERR_NOMEM;
	v->options = *options;
	struct process_parts parts = {.role = options->role, .with_link = true, .read_max = options->read_max, .context = options->context,
				      .landing = options->landing};
	enum err e = process_open(options->settings, &parts, &v->process, why);
	if (e == ERR_OK)
		e = make_sessions(v);
	if (e != ERR_OK) {
		visitor_close(v);
		return e;
	}
	*ret_visitor = v;
	return ERR_OK;
}

enum err visitor_join(struct visitor *v, struct why *why)
{
	struct process_core core = {
		.shell = {.core = v, .opened = on_opened, .dial_failed = on_dial_failed, .closed = on_closed, .message = on_message,
			  .tick = on_tick, .read_outcome = on_outcome, .landing_free = on_landing_free},
		.context = v,
		.on_member = on_member,
		.on_gone = on_gone,
		.on_synced = on_synced,
		.drain = on_drain,
		.renew = on_renew,
	};
	struct member self = {.role = v->options.role, .device = "none"};
	return process_join(v->process, &core, v->options.member ? &self : NULL, why);
}

struct process *visitor_process(struct visitor *v)
{
	return v->process;
}

struct sessions *visitor_sessions(struct visitor *v)
{
	return v->sessions;
}

void visitor_close(struct visitor *v)
{
	if (!v)
		return;
	process_close(v->process);
	free(v->sessions);
	free(v);
}

/* ---- what is said; the packer reads only, so what it is given may be constant */

static ProtobufCBinaryData key_bytes(const struct id128 *keys, size_t count)
{
	return (ProtobufCBinaryData){count * PROTO_KEY_BYTES, (uint8_t *)(uintptr_t)keys};
}

void visitor_offer(struct visitor *v, uint32_t peer, const struct visitor_offer *o)
{
	Wire__Place place = o->place;
	Wire__Offer offer = WIRE__OFFER__INIT;
	offer.op = o->op;
	offer.key = key_bytes(o->key, 1);
	offer.parent = key_bytes(o->parent, o->parent ? 1 : 0);
	offer.compat = key_bytes(o->compat, 1);
	offer.place = &place;
	offer.digests = (uint64_t *)(uintptr_t)o->digests;
	offer.n_digests = o->layer_count;
	offer.layer_bytes = o->layer_bytes;
	if (o->tenant)
		offer.tenant = (char *)(uintptr_t)o->tenant;
	offer.priority = o->priority;
	PROTO_ENVELOPE(envelope, OFFER, offer, &offer);
	sessions_send(v->sessions, peer, &envelope);
}

void visitor_look_up(struct visitor *v, uint32_t peer, uint64_t op, const struct id128 *keys, uint32_t count,
		     const struct id128 *compat)
{
	Wire__Lookup lookup = WIRE__LOOKUP__INIT;
	lookup.op = op;
	lookup.keys = key_bytes(keys, count);
	lookup.compat = key_bytes(compat, 1);
	PROTO_ENVELOPE(envelope, LOOKUP, lookup, &lookup);
	sessions_send(v->sessions, peer, &envelope);
}

void visitor_release(struct visitor *v, uint32_t peer, uint64_t op)
{
	Wire__Release release = WIRE__RELEASE__INIT;
	release.op = op;
	PROTO_ENVELOPE(envelope, RELEASE, release, &release);
	sessions_send(v->sessions, peer, &envelope);
}

void visitor_ask(struct visitor *v, uint32_t peer, Wire__KvAsk *ask)
{
	PROTO_ENVELOPE(envelope, KV_ASK, kv_ask, ask);
	sessions_send(v->sessions, peer, &envelope);
}

void visitor_ask_load(struct visitor *v, uint32_t peer, uint64_t op)
{
	Wire__KvAsk ask = WIRE__KV_ASK__INIT;
	ask.op = op;
	ask.verb = WIRE__KV_VERB__KV_STAT;
	visitor_ask(v, peer, &ask);
}

void visitor_read(struct visitor *v, const struct visitor_read *r)
{
	const struct env *env = process_env(v->process);
	struct env_read read = {
		.op = r->op,
		.node = r->node,
		.region = r->place->region,
		.offset = r->place->offset + (uint64_t)r->layer * r->layer_bytes,
		.length = r->layer_bytes,
		.generation = r->place->generation,
		.landing = r->landing,
		.landing_offset = r->landing_offset,
		.deadline_ns = r->deadline_ns,
	};
	env->read(env->context, &read);
}
