#include "node/core.h"

#include <assert.h>

#include "base/carve.h"
#include "base/layer_groups.h"
#include "node/core_impl.h"
#include "proto/job.h"

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

static void peer_up(void *context, uint32_t peer)
{
	struct node *n = context;
	if (sessions_peer(n->local.sessions, peer)->role == WIRE__ROLE__ROLE_COORDINATOR)
		node_listener_up(n, peer);
}

/* Law 3: all that was held for the peer is free when this returns. */
static void peer_down(void *context, uint32_t peer, enum err why)
{
	(void)why;
	struct node *n = context;
	decode_peer_down(n->decode, peer);
	prefill_peer_down(n->prefill, peer);
	kv_fetch_peer_down(n->fetches, peer);
	kv_offer_peer_down(n->offers, peer);
	kv_hold_peer_down(n->hold, peer);
}

static void fetched(void *context, uint32_t cookie, const struct kv_fetch_counts *counts)
{
	struct node *n = context;
	prefill_fetched(n->prefill, cookie, counts);
}

static void handed_over(void *context, const struct prefill_handover *handover)
{
	struct node *n = context;
	struct decode_handover to_decode = {
		.key = handover->key,
		.error = handover->error,
		.tables = handover->tables,
		.first = handover->first,
		.finish = handover->finish,
		.accounting = handover->accounting,
	};
	decode_handover(n->decode, &to_decode);
}

static void copy_block(void *context, uint32_t from, uint32_t to)
{
	struct node *n = context;
	n->options.copy_block(n->options.context, from, to);
}

static struct session_options session_options(struct node *n, const struct node_options *o)
{
	return (struct session_options){
		.node = o->node,
		.incarnation = o->incarnation,
		.role = o->role,
		.name = o->name,
		.cluster = o->cluster,
		.compat = &o->compat,
		.link_address = o->link_address,
		.link_address_length = o->link_address_length,
		.peer_max = o->peer_max,
		.time_factor = o->time_factor,
		.env = o->env,
		.context = n,
		.up = peer_up,
		.down = peer_down,
	};
}

static void flush_tokens(void *context)
{
	node_flush_tokens(context);
}

static struct prefill_options prefill_options(struct node *n, const struct node_options *o, struct kv_local *local)
{
	return (struct prefill_options){
		.job_max = o->job_max,
		.context_max = o->context_max,
		.chunk_tokens = o->chunk_tokens,
		.fetch_deadline_ns = or_default(o->fetch_deadline_ns, 1000000000),
		.fetch_floor_ns = 200000000 * or_default(o->time_factor, 1),
		.fetch_min_tokens = o->fetch_min_tokens,
		.finish = {o->eos_ids, o->eos_count, o->context_max},
		.constraints = o->constraints,
		.local = local,
		.context = n,
		.token = node_queue_token,
		.flush = flush_tokens,
		.handover = handed_over,
	};
}

static struct decode_options decode_options(struct node *n, const struct node_options *o, struct kv_local *local)
{
	return (struct decode_options){
		.job_max = o->job_max,
		.choice_max = o->seq_max,
		.context_max = o->context_max,
		.chunk_tokens = o->chunk_tokens,
		.read_deadline_ns = or_default(o->read_deadline_ns, 2000000000),
		.wait_deadline_ns = or_default(o->wait_deadline_ns, 5000000000),
		.stall_ns = 400000000 * or_default(o->time_factor, 1),
		.finish = {o->eos_ids, o->eos_count, o->context_max},
		.constraints = o->constraints,
		.local = local,
		.context = n,
		.token = node_queue_token,
		.flush = flush_tokens,
		.copy_block = copy_block,
	};
}

/* Jobs may reserve all blocks but what others may pin (offers and holds, each bounded). */
static void fill_group(struct kv_group *group, const struct node_group *o, uint32_t block_first, uint32_t block_tokens)
{
	assert(o->layer_count > 0 && o->block_count > o->offer_max + o->hold_max);
	*group = (struct kv_group){
		.layer_count = o->layer_count,
		.layer_bytes = o->layer_bytes,
		.keep = kv_keep(o->window, block_tokens),
		.block_first = block_first,
		.block_count = o->block_count,
		.offer_max = o->offer_max,
		.hold_max = o->hold_max,
		.budget = o->block_count - o->offer_max - o->hold_max,
	};
}

static void fill_local(struct kv_local *local, const struct node_options *o)
{
	*local = (struct kv_local){
		.env = o->env,
		.node = o->node,
		.compat = o->compat,
		.block_tokens = o->block_tokens,
		.group_count = o->group_count,
		.layers = o->layers,
	};
	assert(o->group_count > 0 && o->group_count <= LAYER_GROUPS_MAX);
	uint32_t first = 0;
	for (uint32_t g = 0; g < o->group_count; g++) {
		fill_group(&local->groups[g], &o->groups[g], first, o->block_tokens);
		first += o->groups[g].block_count;
		local->layer_count += o->groups[g].layer_count;
	}
}

static struct kv_pool_options pool_options(const struct node_options *o)
{
	struct kv_pool_options pool = {.group_count = o->group_count, .event_max = 4096};
	for (uint32_t g = 0; g < o->group_count; g++)
		pool.groups[g] = (struct kv_pool_group){o->groups[g].block_count, o->groups[g].generations};
	return pool;
}

/* Everything once: `n` NULL only counts.  The parts know each other through n->local. */
static void build(struct carve *carve, struct node *n, const struct node_options *o)
{
	struct kv_local counting;
	struct kv_local *local = n ? &n->local : &counting;
	fill_local(local, o);
	struct session_options session = session_options(n, o);
	struct kv_pool_options pool = pool_options(o);
	struct sched_options sched = {o->seq_max, o->batch_tokens_max, o->chunk_tokens, o->block_tokens, o->group_count};
	struct kv_fetch_options fetch = {.fetch_max = o->job_max, .block_max = o->context_max / o->block_tokens + 1,
					 .local = local, .context = n, .done = fetched};
	struct kv_offer_options offer = {.peer_max = o->peer_max, .window = 64, .local = local};
	struct prefill_options prefill = prefill_options(n, o, local);
	struct decode_options decode = decode_options(n, o, local);

	void *digests[LAYER_GROUPS_MAX] = {NULL};
	for (uint32_t g = 0; g < o->group_count; g++)
		digests[g] = carve_take(carve, (size_t)o->groups[g].block_count * o->groups[g].layer_count, sizeof(uint64_t));
	void *session_memory = carve_take(carve, 1, sessions_bytes(&session));
	void *pool_memory = carve_take(carve, 1, kv_pool_bytes(&pool));
	void *sched_memory = carve_take(carve, 1, sched_bytes(&sched));
	void *reads_memory = carve_take(carve, 1, kv_reads_bytes(o->read_max, o->peer_max));
	void *hold_memory = carve_take(carve, 1, kv_hold_bytes(local));
	void *fetch_memory = carve_take(carve, 1, kv_fetches_bytes(&fetch));
	void *offer_memory = carve_take(carve, 1, kv_offers_bytes(&offer));
	void *prefill_memory = carve_take(carve, 1, prefill_bytes(&prefill));
	void *decode_memory = carve_take(carve, 1, decode_bytes(&decode));
	void *tokens = carve_take(carve, NODE_TOKENS_MAX, sizeof(struct node_token));
	void *token_pointers = carve_take(carve, NODE_TOKENS_MAX, sizeof(Wire__Token *));
	void *listeners = carve_take(carve, o->peer_max, sizeof(struct node_listener));
	void *events = carve_take(carve, NODE_EVENTS_MAX, sizeof(struct kv_pool_event));
	void *added = carve_take(carve, NODE_EVENTS_MAX, PROTO_KEY_BYTES);
	void *removed = carve_take(carve, NODE_EVENTS_MAX, PROTO_KEY_BYTES);
	if (!n)
		return;
	for (uint32_t g = 0; g < o->group_count; g++)
		local->groups[g].digests = digests[g];
	local->sessions = sessions_init(session_memory, &session);
	local->pool = kv_pool_init(pool_memory, &pool);
	local->reads = kv_reads_init(reads_memory, o->read_max, o->peer_max, local);
	n->sched = sched_init(sched_memory, &sched);
	n->hold = kv_hold_init(hold_memory, local);
	n->fetches = kv_fetches_init(fetch_memory, &fetch);
	n->offers = kv_offers_init(offer_memory, &offer);
	prefill.sched = decode.sched = n->sched;
	prefill.fetches = n->fetches;
	prefill.offers = decode.offers = n->offers;
	n->prefill = prefill_init(prefill_memory, &prefill);
	n->decode = decode_init(decode_memory, &decode);
	n->tokens = tokens;
	n->token_pointers = token_pointers;
	n->listeners = listeners;
	n->events = events;
	n->added = added;
	n->removed = removed;
}

size_t node_bytes(const struct node_options *options)
{
	struct carve carve = {0};
	carve_take(&carve, 1, sizeof(struct node));
	build(&carve, NULL, options);
	return carve.used;
}

struct node *node_init(void *memory, const struct node_options *options)
{
	struct carve carve = {.memory = memory};
	struct node *n = carve_take(&carve, 1, sizeof(*n));
	n->options = *options;
	build(&carve, n, &n->options);
	return n;
}

/* Every event ends so: tokens go out, and the engine gets work. */
static void settle(struct node *n)
{
	node_flush_tokens(n);
	node_pump(n);
}

void node_member(struct node *n, uint64_t id, uint64_t incarnation, Wire__Role role, const struct id128 *compat,
		 uint64_t now_ns)
{
	bool engine = role == WIRE__ROLE__ROLE_PREFILL || role == WIRE__ROLE__ROLE_DECODE || role == WIRE__ROLE__ROLE_BOTH;
	bool ours = engine && id > n->options.node && compat && id128_equal(compat, &n->options.compat);
	if (role == WIRE__ROLE__ROLE_KVSTORE || ours)
		sessions_want(n->local.sessions, id, incarnation, now_ns);
}

void node_member_gone(struct node *n, uint64_t id, uint64_t now_ns)
{
	(void)now_ns;
	sessions_unwant(n->local.sessions, id);
}

void node_opened(struct node *n, uint32_t conn, uint64_t dialed, uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	sessions_opened(n->local.sessions, conn, dialed, now_ns);
}

void node_dial_failed(struct node *n, uint64_t dialed, uint64_t now_ns)
{
	sessions_dial_failed(n->local.sessions, dialed, now_ns);
}

void node_closed(struct node *n, uint32_t conn, uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	sessions_closed(n->local.sessions, conn, now_ns);
	settle(n);
}

void node_renew(struct node *n, uint64_t incarnation, const uint8_t *link_address, size_t link_address_length,
		uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	sessions_renew(n->local.sessions, incarnation, link_address, link_address_length, now_ns);
	settle(n);
}

/* *ret_alone: the decode half is reserved, and prefill has refused the other. */
static enum err reserve(struct node *n, uint32_t peer, const Wire__Reserve *message, struct why *why, bool *ret_alone)
{
	if (n->draining)
		return why_set(why, ERR_DRAINING, "this node is draining");
	if (memcmp(message->compat.data, n->options.compat.bytes, PROTO_KEY_BYTES) != 0)
		return why_set(why, ERR_MISMATCH, "this node serves another model, class or layout");
	for (size_t i = 0; n->options.vocab_size && i < message->n_tokens; i++)
		if (message->tokens[i] >= n->options.vocab_size)
			return why_set(why, ERR_INVALID, "token %u is beyond the vocabulary of %u", message->tokens[i],
				       n->options.vocab_size);
	if (message->half == WIRE__HALF__HALF_PREFILL)
		return prefill_reserve(n->prefill, peer, message, why);
	enum err e = decode_reserve(n->decode, peer, message, why);
	if (e != ERR_OK || message->half == WIRE__HALF__HALF_DECODE)
		return e;
	e = prefill_reserve(n->prefill, peer, message, why);
	*ret_alone = e != ERR_OK;
	return e;
}

static void take_reserve(struct node *n, uint32_t peer, const Wire__Reserve *message)
{
	struct why why = {0};
	bool alone = false;
	enum err e = reserve(n, peer, message, &why, &alone);
	Wire__Reserved reserved = WIRE__RESERVED__INIT;
	reserved.job = message->job;
	reserved.half = message->half;
	reserved.error = e;
	reserved.why = why.text;
	PROTO_ENVELOPE(envelope, RESERVED, reserved, &reserved);
	sessions_send(n->local.sessions, peer, &envelope);
	if (!alone)
		return;
	/* Both halves or neither. */
	Wire__Cancel cancel = WIRE__CANCEL__INIT;
	cancel.job = message->job;
	decode_cancel(n->decode, peer, &cancel);
}

/* What the coordinator that leads wants of this node; an older epoch is refused (net/fence.h). */
static void take_directive(struct node *n, uint32_t peer, const Wire__Directive *directive)
{
	enum err e = fence_judge(&n->fence, directive->epoch, sessions_peer(n->local.sessions, peer)->node);
	if (e == ERR_OK && directive->kind != WIRE__DIRECTIVE_KIND__DIRECTIVE_LEAD && !n->leaving) {
		n->draining = directive->kind == WIRE__DIRECTIVE_KIND__DIRECTIVE_DRAIN;
		env_trace(n->local.env, "%s, by epoch %llu", n->draining ? "drain" : "undrain",
			  (unsigned long long)directive->epoch);
	}
	Wire__DirectiveDone done = WIRE__DIRECTIVE_DONE__INIT;
	done.epoch = n->fence.epoch;
	done.kind = directive->kind;
	done.error = e;
	PROTO_ENVELOPE(envelope, DIRECTIVE_DONE, directive_done, &done);
	sessions_send(n->local.sessions, peer, &envelope);
}

static void from_coordinator(struct node *n, uint32_t peer, const Wire__Envelope *envelope)
{
	switch (envelope->body_case) {
	case WIRE__ENVELOPE__BODY_RESERVE:
		take_reserve(n, peer, envelope->reserve);
		break;
	case WIRE__ENVELOPE__BODY_START:
		decode_start(n->decode, peer, envelope->start);
		prefill_start(n->prefill, peer, envelope->start);
		break;
	case WIRE__ENVELOPE__BODY_CANCEL:
		prefill_cancel(n->prefill, peer, envelope->cancel);
		decode_cancel(n->decode, peer, envelope->cancel);
		break;
	case WIRE__ENVELOPE__BODY_DIRECTIVE:
		take_directive(n, peer, envelope->directive);
		break;
	case WIRE__ENVELOPE__BODY_KV_RESYNC:
		node_listener_resync(n, peer);
		break;
	default:
		break;
	}
}

static void from_peer(struct node *n, uint32_t peer, const Wire__Envelope *envelope)
{
	switch (envelope->body_case) {
	case WIRE__ENVELOPE__BODY_ATTACH:
		prefill_attach(n->prefill, peer, envelope->attach);
		break;
	case WIRE__ENVELOPE__BODY_ANNOUNCE:
		decode_announce(n->decode, peer, envelope->announce);
		break;
	case WIRE__ENVELOPE__BODY_PREFILLED:
		decode_prefilled(n->decode, peer, envelope->prefilled);
		break;
	case WIRE__ENVELOPE__BODY_TRANSFER_END:
		decode_transfer_end(n->decode, peer, envelope->transfer_end);
		prefill_transfer_end(n->prefill, peer, envelope->transfer_end);
		break;
	case WIRE__ENVELOPE__BODY_LOOKUP:
		kv_hold_lookup(n->hold, peer, envelope->lookup);
		break;
	case WIRE__ENVELOPE__BODY_RELEASE:
		kv_hold_release(n->hold, peer, envelope->release->op);
		break;
	case WIRE__ENVELOPE__BODY_FOUND:
		kv_fetch_found(n->fetches, peer, envelope->found);
		break;
	case WIRE__ENVELOPE__BODY_LOAD: /* of a store that drains, or does no longer */
		sessions_note_draining(n->local.sessions, peer, envelope->load->draining);
		break;
	case WIRE__ENVELOPE__BODY_OFFER_DONE:
		kv_offer_done(n->offers, peer, envelope->offer_done);
		break;
	default:
		break;
	}
}

void node_message(struct node *n, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	uint32_t peer = sessions_message(n->local.sessions, conn, envelope, now_ns);
	if (peer == PEER_NONE) {
		settle(n);
		return;
	}
	if (sessions_peer(n->local.sessions, peer)->role == WIRE__ROLE__ROLE_COORDINATOR)
		from_coordinator(n, peer, envelope);
	else
		from_peer(n, peer, envelope);
	settle(n);
}

static void read_done(struct node *n, const struct kv_read_owner *owner, enum err verdict)
{
	if (owner->module == KV_FETCH_MODULE)
		kv_fetch_read_done(n->fetches, owner, verdict);
	else
		decode_read_done(n->decode, owner, verdict);
	settle(n);
}

void node_read_outcome(struct node *n, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	struct kv_read_owner owner;
	enum err verdict;
	if (kv_reads_outcome(n->local.reads, op, e, digest, &owner, &verdict))
		read_done(n, &owner, verdict);
}

void node_landing_free(struct node *n, uint64_t op, uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	struct kv_read_owner owner;
	enum err verdict;
	if (kv_reads_landing_free(n->local.reads, op, &owner, &verdict))
		read_done(n, &owner, verdict);
}

void node_tick(struct node *n, uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	sessions_tick(n->local.sessions, now_ns);
	kv_fetch_tick(n->fetches);
	decode_tick(n->decode);
	kv_offer_tick(n->offers);
	node_report_tick(n);
	settle(n);
}

void node_drain(struct node *n)
{
	n->draining = n->leaving = true;
}

bool node_idle(const struct node *n)
{
	return prefill_count(n->prefill) == 0 && decode_count(n->decode) == 0 && kv_hold_count(n->hold) == 0 &&
	       kv_offer_lag(n->offers) == 0 && !n->in_flight;
}

static void add_group(const struct node *n, uint32_t g, struct node_status *status)
{
	struct node_group_status group = {
		.used = kv_pool_used(n->local.pool, g),
		.cached = kv_pool_cached(n->local.pool, g),
		.free = kv_pool_free(n->local.pool, g),
		.total = n->local.groups[g].block_count,
		.reserved = n->local.groups[g].reserved,
		.reservable = n->local.groups[g].budget,
	};
	status->groups[g] = group;
	status->blocks_used += group.used;
	status->blocks_cached += group.cached;
	status->blocks_free += group.free;
	status->blocks_total += group.total;
	status->blocks_reserved += group.reserved;
}

void node_status(const struct node *n, struct node_status *ret_status)
{
	*ret_status = (struct node_status){
		.prefill_jobs = prefill_count(n->prefill),
		.decode_jobs = decode_count(n->decode),
		.sequences = decode_choice_count(n->decode),
		.group_count = n->local.group_count,
		.sessions = sessions_count(n->local.sessions),
		.reads = kv_reads_count(n->local.reads),
		.holds = kv_hold_count(n->hold),
		.fetches = kv_fetch_count(n->fetches),
		.offer_lag = kv_offer_lag(n->offers),
		.offers_dropped = kv_offer_dropped(n->offers),
		.tokens_waiting = prefill_tokens_waiting(n->prefill) + sched_tokens_waiting(n->sched),
		.steps = n->steps,
		.prompt_tokens = n->prompt_tokens,
		.generation_tokens = n->generation_tokens,
		.prefill_tokens_per_s = n->prefill_tokens_per_s,
		.step_seconds = n->step_seconds,
		.draining = n->draining,
		.epoch = n->fence.epoch,
		.directives_refused = n->fence.refused,
	};
	for (uint32_t g = 0; g < n->local.group_count; g++)
		add_group(n, g, ret_status);
}

struct sessions *node_sessions(struct node *n)
{
	return n->local.sessions;
}

void node_check(const struct node *n)
{
	kv_pool_check(n->local.pool);
	bool quiet = node_idle(n) && kv_reads_count(n->local.reads) == 0 && kv_fetch_count(n->fetches) == 0;
	for (uint32_t g = 0; g < n->local.group_count; g++) {
		const struct kv_group *group = &n->local.groups[g];
		assert(kv_pool_free(n->local.pool, g) + kv_pool_cached(n->local.pool, g) + kv_pool_used(n->local.pool, g) ==
		       group->block_count);
		assert(!quiet || kv_pool_used(n->local.pool, g) == 0);
		assert(!quiet || group->reserved == 0);
		assert(group->reserved <= group->budget);
	}
}

const char *node_job_state(const struct node *n, uint64_t coordinator, uint64_t number, uint32_t attempt, Wire__Half half)
{
	struct job_key wanted = {coordinator, number, attempt}, key;
	for (uint32_t i = 0; i < n->options.job_max; i++) {
		if (half != WIRE__HALF__HALF_DECODE && prefill_state_at(n->prefill, i, &key) != PREFILL_FREE &&
		    job_key_equal(&key, &wanted))
			return prefill_state_name(prefill_state_at(n->prefill, i, NULL));
		if (half != WIRE__HALF__HALF_PREFILL && decode_state_at(n->decode, i, &key) != DECODE_FREE &&
		    job_key_equal(&key, &wanted))
			return decode_state_name(decode_state_at(n->decode, i, NULL));
	}
	return NULL;
}
