#include "coordinator/core.h"

#include <assert.h>
#include <string.h>

#include "base/layer_groups.h"
#include "coordinator/core_impl.h"
#include "proto/codec.h"

enum {
	SWEEP_SLOTS = 16384, /* of the index, in one tick: a quarter of a millisecond, bench/coordinator/index */
};

#define RESYNC_NS 1000000000ull

/* ---- memory */

/* Carves the parts out of one run of memory; with base NULL it only measures. */
struct carver {
	uint8_t *base;
	size_t used;
};

static void *carve(struct carver *carver, size_t bytes)
{
	void *part = carver->base ? carver->base + carver->used : NULL;
	carver->used += (bytes + 63) / 64 * 64;
	return part;
}

static uint32_t or_default(uint32_t value, uint32_t preset)
{
	return value ? value : preset;
}

static uint64_t time_of(uint64_t value, uint64_t preset, uint32_t factor)
{
	return (value ? value : preset) * factor;
}

static struct coord_options resolve(const struct coord_options *given)
{
	struct coord_options o = *given;
	o.nodes_max = or_default(o.nodes_max, 64);
	o.requests_max = or_default(o.requests_max, 1024);
	o.choices_max = or_default(o.choices_max, SAMPLING_CHOICES_MAX);
	o.queue_max = or_default(o.queue_max, 256);
	o.tenants_max = or_default(o.tenants_max, 128);
	o.context_max = or_default(o.context_max, 32768);
	o.tokens_max = o.tokens_max ? o.tokens_max : 16u << 20;
	o.blocks_max = or_default(o.blocks_max, 1u << 20);
	o.held_max = or_default(o.held_max, 1024);
	o.attempts_max = or_default(o.attempts_max, 16);
	o.time_factor = or_default(o.time_factor, 1);
	o.reserve_ns = time_of(o.reserve_ns, 2000000000ull, o.time_factor);
	o.prefill_ns = time_of(o.prefill_ns, 60000000000ull, o.time_factor);
	o.prefill_token_ns = time_of(o.prefill_token_ns, 2000000ull, o.time_factor);
	o.decode_ns = time_of(o.decode_ns, 20000000000ull, o.time_factor);
	o.queue_ns = time_of(o.queue_ns, 30000000000ull, o.time_factor);
	o.wait_max_ns = time_of(o.wait_max_ns, 10000000000ull, o.time_factor);
	o.spare_ns = time_of(o.spare_ns, 10000000000ull, o.time_factor);
	o.opening_ns *= o.time_factor;
	o.move_ns = time_of(o.move_ns, 1000000000ull, o.time_factor);
	o.end_ns = time_of(o.end_ns, 1000000000ull, o.time_factor);
	const struct route_weights none = {0};
	if (memcmp(&o.weights, &none, sizeof(none)) == 0)
		o.weights = route_weights_default();
	assert(o.node != 0 && o.choices_max <= SAMPLING_CHOICES_MAX && o.context_max <= PROTO_CONTEXT_MAX);
	return o;
}

static struct session_options session_options(struct coord *coord, const struct coord_options *o);

/* Every part of the core, in one place: the sum that coord_bytes() gives. */
static struct coord *lay_out(void *memory, const struct coord_options *o, size_t *ret_bytes)
{
	struct carver carver = {.base = memory};
	struct coord *coord = carve(&carver, sizeof(*coord));
	struct session_options session = session_options(coord, o);
	struct index_options index = {o->nodes_max, o->blocks_max};
	uint32_t pages = tokens_pages(o->tokens_max), keys_max = o->context_max / BLOCK_TOKENS_MIN + 1;
	void *sessions = carve(&carver, sessions_bytes(&session));
	void *blocks = carve(&carver, index_bytes(&index));
	void *nodes = carve(&carver, registry_bytes(o->nodes_max));
	void *stores = carve(&carver, store_loads_bytes(o->nodes_max));
	void *tenants = carve(&carver, fair_bytes(o->tenants_max));
	void *words = carve(&carver, tokens_bytes(pages));
	struct request *requests = carve(&carver, o->requests_max * sizeof(struct request));
	struct choice *choices = carve(&carver, (size_t)o->requests_max * o->choices_max * sizeof(struct choice));
	struct job *jobs = carve(&carver, (size_t)o->requests_max * o->choices_max * sizeof(struct job));
	struct scratch scratch = {
		.tokens = carve(&carver, o->context_max * sizeof(uint32_t)),
		.keys = {carve(&carver, keys_max * sizeof(struct id128)), carve(&carver, keys_max * sizeof(struct id128))},
		.kept = carve(&carver, keys_max * sizeof(struct id128)),
		.matches = carve(&carver, o->nodes_max * sizeof(struct index_match)),
		.depths = carve(&carver, o->nodes_max * sizeof(uint32_t)),
		.candidates = carve(&carver, o->nodes_max * sizeof(struct route_candidate)),
	};
	uint32_t *slots = carve(&carver, session.peer_max * sizeof(uint32_t));
	struct held *held = carve(&carver, o->held_max * sizeof(struct held));
	*ret_bytes = carver.used;
	if (!memory)
		return NULL;
	*coord = (struct coord){.options = *o, .scratch = scratch, .slots = slots, .held = held, .keys_max = keys_max,
				.requests = requests};
	coord->sessions = sessions_init(sessions, &session);
	coord->index = index_init(blocks, &index);
	registry_init(&coord->registry, nodes, o->nodes_max);
	store_loads_init(&coord->stores, stores, o->nodes_max);
	fair_init(&coord->fair, tenants, o->tenants_max);
	tokens_init(&coord->pool, words, pages);
	for (uint32_t i = 0; i < o->requests_max; i++) {
		requests[i].used = false;
		requests[i].next_free = i + 1 < o->requests_max ? i + 1 : UINT32_MAX;
		requests[i].choices = choices + (size_t)i * o->choices_max;
		requests[i].jobs = jobs + (size_t)i * o->choices_max;
	}
	for (uint32_t i = 0; i < o->held_max; i++)
		held[i].next = i + 1 < o->held_max ? i + 1 : HELD_NONE;
	for (uint32_t i = 0; i < session.peer_max; i++)
		slots[i] = NODE_NONE;
	return coord;
}

size_t coord_bytes(const struct coord_options *options)
{
	struct coord_options resolved = resolve(options);
	size_t bytes;
	lay_out(NULL, &resolved, &bytes);
	return bytes;
}

struct coord *coord_init(void *memory, const struct coord_options *options)
{
	assert(memory && (uintptr_t)memory % 16 == 0);
	struct coord_options resolved = resolve(options);
	assert(resolved.env && resolved.hooks.on_token && resolved.hooks.on_end);
	size_t bytes;
	return lay_out(memory, &resolved, &bytes);
}

/* ---- sending */

void core_send(struct coord *coord, uint32_t node, const Wire__Envelope *envelope)
{
	uint32_t peer = core_node(coord, node)->peer;
	if (peer == PEER_NONE)
		return;
	Wire__Envelope out = *envelope;
	out.version = PROTO_VERSION;
	sessions_send(coord->sessions, peer, &out);
}

void core_job_id(const struct coord *coord, const struct job *job, Wire__JobId *ret_id)
{
	wire__job_id__init(ret_id);
	ret_id->coordinator = coord->options.node;
	ret_id->number = job->number;
	ret_id->attempt = job->attempt;
}

static void ask_snapshot(struct coord *coord, uint32_t node)
{
	Wire__KvResync resync = WIRE__KV_RESYNC__INIT;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_KV_RESYNC;
	envelope.kv_resync = &resync;
	core_send(coord, node, &envelope);
	core_node(coord, node)->resync_ns = coord->now_ns;
}

/* ---- sessions */

static void on_up(void *context, uint32_t peer)
{
	struct coord *coord = context;
	const struct session_peer *info = sessions_peer(coord->sessions, peer);
	coord->slots[peer] = NODE_NONE;
	if (info->role == WIRE__ROLE__ROLE_COORDINATOR)
		return;
	uint32_t node;
	if (registry_up(&coord->registry, info, peer, &node) != ERR_OK)
		return; /* over nodes_max: the session lives, and nothing is given to it */
	coord->slots[peer] = node;
	direct_node_up(coord, node, coord->now_ns);
	index_node_up(coord->index, node);
	ask_snapshot(coord, node);
	env_trace(coord->options.env, "coordinator > %s is up", core_node(coord, node)->announced.name);
}

static void on_down(void *context, uint32_t peer, enum err why)
{
	struct coord *coord = context;
	uint32_t node = coord->slots[peer];
	coord->slots[peer] = NODE_NONE;
	if (node == NODE_NONE)
		return;
	env_trace(coord->options.env, "coordinator > %s is down: %s", core_node(coord, node)->announced.name,
		  err_text(why));
	/* First nothing new goes there, then what is there moves. */
	registry_down(&coord->registry, node);
	index_node_down(coord->index, node);
	jobs_node_down(coord, node, coord->now_ns);
}

static struct session_options session_options(struct coord *coord, const struct coord_options *o)
{
	return (struct session_options){
		.node = o->node,
		.incarnation = o->incarnation,
		.role = WIRE__ROLE__ROLE_COORDINATOR,
		.name = o->name,
		.cluster = o->cluster,
		.peer_max = o->nodes_max,
		.time_factor = o->time_factor,
		.env = o->env,
		.context = coord,
		.up = on_up,
		.down = on_down,
	};
}

static void enter(struct coord *coord, uint64_t now_ns)
{
	assert(!coord->in_hook);  /* rule 1 */
	assert(now_ns >= coord->now_ns); /* rule 3 */
	coord->now_ns = now_ns;
}

void coord_opened(struct coord *coord, uint32_t conn, uint64_t node, uint64_t now_ns)
{
	enter(coord, now_ns);
	sessions_opened(coord->sessions, conn, node, now_ns);
}

void coord_dial_failed(struct coord *coord, uint64_t node, uint64_t now_ns)
{
	enter(coord, now_ns);
	sessions_dial_failed(coord->sessions, node, now_ns);
}

void coord_closed(struct coord *coord, uint32_t conn, uint64_t now_ns)
{
	enter(coord, now_ns);
	sessions_closed(coord->sessions, conn, now_ns);
	jobs_pump(coord, now_ns);
}

void coord_renew(struct coord *coord, uint64_t incarnation, uint64_t now_ns)
{
	enter(coord, now_ns);
	sessions_renew(coord->sessions, incarnation, NULL, 0, now_ns);
	jobs_pump(coord, now_ns);
}

/* ---- messages */

static void take_events(struct coord *coord, uint32_t node, const Wire__KvEvents *wire)
{
	struct index_events events = {
		.sequence = wire->sequence,
		.reset = wire->reset,
		.added = wire->added.data,
		.removed = wire->removed.data,
		.added_count = (uint32_t)(wire->added.len / PROTO_KEY_BYTES),
		.removed_count = (uint32_t)(wire->removed.len / PROTO_KEY_BYTES),
	};
	if (index_events(coord->index, node, &events) == ERR_STALE)
		ask_snapshot(coord, node);
	if (index_synced(coord->index, node))
		core_node(coord, node)->resync_ns = 0;
}

static void dispatch(struct coord *coord, uint32_t node, const Wire__Envelope *envelope, uint64_t now_ns)
{
	switch (envelope->body_case) {
	case WIRE__ENVELOPE__BODY_LOAD:
		registry_load(core_node(coord, node), envelope->load, now_ns);
		if (envelope->load->store)
			store_loads_take(&coord->stores, core_node(coord, node)->id, envelope->load->store);
		jobs_pump(coord, now_ns);
		break;
	case WIRE__ENVELOPE__BODY_KV_EVENTS:
		take_events(coord, node, envelope->kv_events);
		break;
	case WIRE__ENVELOPE__BODY_RESERVED:
		jobs_reserved(coord, node, envelope->reserved, now_ns);
		break;
	case WIRE__ENVELOPE__BODY_TOKENS:
		jobs_tokens(coord, node, envelope->tokens, now_ns);
		break;
	case WIRE__ENVELOPE__BODY_DIRECTIVE_DONE:
		direct_done(coord, envelope->directive_done, now_ns);
		break;
	case WIRE__ENVELOPE__BODY_PROMPT_LOGPROBS:
		jobs_scores(coord, node, envelope->prompt_logprobs, now_ns);
		break;
	case WIRE__ENVELOPE__BODY_JOB_END:
		jobs_job_end(coord, node, envelope->job_end, now_ns);
		jobs_pump(coord, now_ns);
		break;
	default:
		coord->counters.messages_stray++; /* not for a coordinator */
	}
}

void coord_message(struct coord *coord, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	enter(coord, now_ns);
	uint32_t peer = sessions_message(coord->sessions, conn, envelope, now_ns);
	if (peer != PEER_NONE && coord->slots[peer] != NODE_NONE)
		dispatch(coord, coord->slots[peer], envelope, now_ns);
}

void coord_tick(struct coord *coord, uint64_t now_ns)
{
	enter(coord, now_ns);
	if (!coord->opened_ns)
		coord->opened_ns = now_ns;
	sessions_tick(coord->sessions, now_ns);
	direct_tick(coord, now_ns);
	jobs_tick(coord, now_ns);
	jobs_pump(coord, now_ns);
	index_sweep(coord->index, SWEEP_SLOTS);
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		const struct registry_node *node = core_node(coord, i);
		if (node->id && node->resync_ns && now_ns >= node->resync_ns + RESYNC_NS * coord->options.time_factor)
			ask_snapshot(coord, i);
	}
}

/* ---- members */

enum err coord_member_set(struct coord *coord, const struct coord_member *member, uint64_t now_ns)
{
	enter(coord, now_ns);
	if (member->role == WIRE__ROLE__ROLE_COORDINATOR)
		return ERR_OK;
	bool engine = member->role != WIRE__ROLE__ROLE_KVSTORE;
	if (!member->node || member->role == WIRE__ROLE__ROLE_NONE || member->model_count > COORD_MODELS_MAX ||
	    (engine && !member->block_tokens) || member->group_count > LAYER_GROUPS_MAX)
		return ERR_INVALID;
	uint32_t node;
	enum err e = registry_member_set(&coord->registry, member, &node);
	if (e != ERR_OK)
		return e;
	sessions_want(coord->sessions, member->node, member->incarnation, now_ns);
	sessions_tick(coord->sessions, now_ns); /* dials at once */
	jobs_pump(coord, now_ns);
	return ERR_OK;
}

static void member_gone(struct coord *coord, uint32_t node)
{
	sessions_unwant(coord->sessions, core_node(coord, node)->id);
	registry_member_remove(&coord->registry, node);
}

void coord_member_remove(struct coord *coord, uint64_t id, uint64_t now_ns)
{
	enter(coord, now_ns);
	uint32_t node = id ? registry_find(&coord->registry, id) : NODE_NONE;
	if (node != NODE_NONE)
		member_gone(coord, node);
}

void coord_members_only(struct coord *coord, const uint64_t *nodes, uint32_t count, uint64_t now_ns)
{
	enter(coord, now_ns);
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		const struct registry_node *node = core_node(coord, i);
		bool listed = !node->id || !node->member;
		for (uint32_t n = 0; n < count && !listed; n++)
			listed = nodes[n] == node->id;
		if (!listed)
			member_gone(coord, i);
	}
}

void coord_drain(struct coord *coord)
{
	coord->draining = true;
}

void coord_undrain(struct coord *coord)
{
	coord->draining = false;
}

uint32_t coord_requests(const struct coord *coord)
{
	return coord->counters.requests;
}
