#include "base/layer_groups.h"
#include "net/identity.h"
#include "net/link_report.h"
#include "node/core_impl.h"
#include "proto/job.h"

static const uint64_t LOAD_INTERVAL_NS = 250000000;

void node_queue_token(void *context, uint32_t peer, const Wire__Token *token)
{
	struct node *n = context;
	if (peer == PEER_NONE)
		return; /* its coordinator is gone: nobody to tell */
	if (n->token_count == NODE_TOKENS_MAX)
		node_flush_tokens(n);
	struct node_token *slot = &n->tokens[n->token_count++];
	slot->peer = peer;
	slot->token = *token;
	slot->job = *token->job;
	slot->token.job = &slot->job;
	if (token->n_top_tokens) {
		memcpy(slot->top_tokens, token->top_tokens, token->n_top_tokens * sizeof(*slot->top_tokens));
		memcpy(slot->top_logprobs, token->top_logprobs, token->n_top_tokens * sizeof(*slot->top_logprobs));
	}
	slot->token.top_tokens = slot->top_tokens;
	slot->token.top_logprobs = slot->top_logprobs;
}

/* One message per coordinator. */
void node_flush_tokens(struct node *n)
{
	for (uint32_t i = 0; i < n->token_count; i++) {
		uint32_t peer = n->tokens[i].peer;
		if (peer == PEER_NONE)
			continue;
		Wire__Tokens tokens = WIRE__TOKENS__INIT;
		tokens.tokens = n->token_pointers;
		for (uint32_t k = i; k < n->token_count; k++) {
			if (n->tokens[k].peer != peer)
				continue;
			n->token_pointers[tokens.n_tokens++] = &n->tokens[k].token;
			n->tokens[k].peer = PEER_NONE;
		}
		PROTO_ENVELOPE(envelope, TOKENS, tokens, &tokens);
		if (sessions_peer(n->local.sessions, peer))
			sessions_send(n->local.sessions, peer, &envelope);
	}
	n->token_count = 0;
}

static bool is_coordinator(const struct node *n, uint32_t peer)
{
	const struct session_peer *info = sessions_peer(n->local.sessions, peer);
	return info && info->role == WIRE__ROLE__ROLE_COORDINATOR;
}

static uint64_t bytes_read_of(const void *reads, uint32_t peer)
{
	return kv_reads_bytes_from(reads, peer);
}

static void send_load(struct node *n, uint32_t peer)
{
	struct node_status status;
	node_status(n, &status);
	Wire__Load load = WIRE__LOAD__INIT;
	load.jobs = status.prefill_jobs + status.decode_jobs;
	load.jobs_max = n->options.job_max;
	load.tokens_waiting = status.tokens_waiting;
	load.sequences = status.sequences;
	load.blocks_used = status.blocks_used;
	load.blocks_cached = status.blocks_cached;
	load.blocks_total = status.blocks_total;
	load.blocks_reserved = status.blocks_reserved;
	Wire__BlockLoad groups[LAYER_GROUPS_MAX], *group_pointers[LAYER_GROUPS_MAX];
	for (uint32_t g = 0; g < status.group_count; g++) {
		wire__block_load__init(&groups[g]);
		groups[g].used = status.groups[g].used;
		groups[g].cached = status.groups[g].cached;
		groups[g].total = status.groups[g].total;
		groups[g].reserved = status.groups[g].reserved;
		groups[g].reservable = status.groups[g].reservable;
		group_pointers[g] = &groups[g];
	}
	load.n_groups = status.group_count;
	load.groups = group_pointers;
	load.sessions = status.sessions;
	load.draining = status.draining;
	load.epoch = status.epoch;
	load.directives_refused = status.directives_refused;
	load.steps = status.steps;
	load.offer_lag = status.offer_lag;
	load.prefill_tokens_per_s = status.prefill_tokens_per_s;
	load.step_seconds = status.step_seconds;
	load.role = n->options.role;

	const struct env *env = n->local.env;
	struct link_report links;
	link_report(env, n->local.sessions, bytes_read_of, n->local.reads, &links, &load);
	uint64_t refused[REFUSAL_COUNT];
	load.n_refused = refusals_report(env, refused);
	load.refused = refused;
	PROTO_ENVELOPE(envelope, LOAD, load, &load);
	sessions_send(n->local.sessions, peer, &envelope);
}

static void send_events(struct node *n, uint32_t peer, bool reset, size_t added, size_t removed)
{
	Wire__KvEvents events = WIRE__KV_EVENTS__INIT;
	events.sequence = ++n->listeners[peer].sequence;
	events.reset = reset;
	events.added = (ProtobufCBinaryData){added * PROTO_KEY_BYTES, n->added};
	events.removed = (ProtobufCBinaryData){removed * PROTO_KEY_BYTES, n->removed};
	PROTO_ENVELOPE(envelope, KV_EVENTS, kv_events, &events);
	sessions_send(n->local.sessions, peer, &envelope);
}

/* Every key of the pool, in as many messages as it takes. */
static void send_snapshot(struct node *n, uint32_t peer)
{
	n->listeners[peer].snapshot_due = false;
	bool reset = true;
	size_t count = 0;
	for (uint32_t block = 0; block < kv_pool_total(n->local.pool); block++) {
		struct id128 key;
		if (!kv_pool_sealed(n->local.pool, block, &key))
			continue;
		memcpy(n->added + count++ * PROTO_KEY_BYTES, key.bytes, PROTO_KEY_BYTES);
		if (count < NODE_EVENTS_MAX)
			continue;
		send_events(n, peer, reset, count, 0);
		reset = false;
		count = 0;
	}
	if (reset || count > 0)
		send_events(n, peer, reset, count, 0);
}

void node_listener_up(struct node *n, uint32_t peer)
{
	n->listeners[peer] = (struct node_listener){.snapshot_due = true};
}

void node_listener_resync(struct node *n, uint32_t peer)
{
	n->listeners[peer].snapshot_due = true;
}

/* A message removes before it adds, so of several events of one key only the last counts. */
static bool superseded(const struct kv_pool_event *events, uint32_t count, uint32_t i)
{
	for (uint32_t k = i + 1; k < count; k++)
		if (id128_equal(&events[k].key, &events[i].key))
			return true;
	return false;
}

static void sort_events(struct node *n, uint32_t count, size_t *ret_added, size_t *ret_removed)
{
	*ret_added = *ret_removed = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (superseded(n->events, count, i))
			continue;
		bool added = n->events[i].added;
		uint8_t *at = added ? n->added + (*ret_added)++ * PROTO_KEY_BYTES
				    : n->removed + (*ret_removed)++ * PROTO_KEY_BYTES;
		memcpy(at, n->events[i].key.bytes, PROTO_KEY_BYTES);
	}
}

static void report_events(struct node *n)
{
	bool lost = false;
	uint32_t count;
	do {
		bool lost_now = false;
		count = kv_pool_events(n->local.pool, n->events, NODE_EVENTS_MAX, &lost_now);
		lost |= lost_now;
		size_t added, removed;
		sort_events(n, count, &added, &removed);
		for (uint32_t peer = 0; count > 0 && peer < n->options.peer_max; peer++)
			if (is_coordinator(n, peer) && !n->listeners[peer].snapshot_due)
				send_events(n, peer, false, added, removed);
	} while (count == NODE_EVENTS_MAX);
	for (uint32_t peer = 0; peer < n->options.peer_max; peer++)
		if (is_coordinator(n, peer) && (lost || n->listeners[peer].snapshot_due))
			send_snapshot(n, peer);
}

void node_report_tick(struct node *n)
{
	report_events(n);
	if (n->local.now_ns < n->load_next_ns)
		return;
	n->load_next_ns = n->local.now_ns + LOAD_INTERVAL_NS;
	for (uint32_t peer = 0; peer < n->options.peer_max; peer++)
		if (is_coordinator(n, peer))
			send_load(n, peer);
}
