#include "prefill/prefill.h"

#include <assert.h>

#include "base/carve.h"
#include "base/layer_groups.h"
#include "base/planted.h"
#include "kvstore/key.h"
#include "prefill/job.h"

enum { PACE_TOKENS_MIN = 16 }; /* of a prompt that says what a token costs */

static const char *const state_names[] = {
#define X(name) #name,
	PREFILL_JOBS(X)
#undef X
};

const char *prefill_state_name(enum prefill_state state)
{
	return state_names[state];
}

/* The drawing in prefill.h, as a table: [from][to]. */
static const bool moves[PREFILL_STATES][PREFILL_STATES] = {
	[PREFILL_FREE] = {[PREFILL_RESERVED] = true},
	[PREFILL_RESERVED] = {[PREFILL_FETCHING] = true, [PREFILL_FREE] = true},
	[PREFILL_FETCHING] = {[PREFILL_BLOCKED] = true, [PREFILL_FREE] = true},
	[PREFILL_BLOCKED] = {[PREFILL_COMPUTING] = true, [PREFILL_FREE] = true},
	[PREFILL_COMPUTING] = {[PREFILL_BLOCKED] = true, [PREFILL_HANDING] = true, [PREFILL_FREE] = true},
	[PREFILL_HANDING] = {[PREFILL_FREE] = true},
};

static void move(struct prefill_job *job, enum prefill_state to)
{
	assert(moves[job->state][to]);
	job->state = to;
}

static uint32_t blocks_of(const struct prefill *p, uint32_t tokens)
{
	return kv_local_blocks(p->local, tokens);
}

static void layout_job(struct carve *carve, const struct prefill_options *o, uint32_t block_max,
		       struct prefill_job *ret_job)
{
	struct prefill_job job = {.tokens = carve_take(carve, o->context_max, sizeof(*job.tokens))};
	for (uint32_t g = 0; g < o->local->group_count; g++) {
		job.blocks[g] = carve_take(carve, block_max, sizeof(*job.blocks[g]));
		job.keys[g] = carve_take(carve, block_max, sizeof(*job.keys[g]));
	}
	if (ret_job)
		*ret_job = job;
}

static struct prefill *layout(struct carve *carve, const struct prefill_options *o)
{
	struct prefill *p = carve_take(carve, 1, sizeof(*p));
	uint32_t block_max = o->context_max / o->local->block_tokens + 1;
	struct prefill_job *jobs = carve_take(carve, o->job_max, sizeof(*jobs));
	Wire__Place *places = carve_take(carve, block_max, sizeof(*places));
	Wire__Place **place_pointers = carve_take(carve, block_max, sizeof(*place_pointers));
	uint64_t *digests = carve_take(carve, block_max, sizeof(*digests));
	for (uint32_t i = 0; i < o->job_max; i++)
		layout_job(carve, o, block_max, p ? &jobs[i] : NULL);
	for (uint32_t g = 0; g < o->local->group_count; g++) {
		bool *present = carve_take(carve, block_max, sizeof(*present));
		if (p)
			p->present[g] = present;
	}
	if (p) {
		p->options = *o;
		p->local = o->local;
		p->block_max = block_max;
		p->jobs = jobs;
		p->places = places;
		p->place_pointers = place_pointers;
		p->digests = digests;
	}
	return p;
}

size_t prefill_bytes(const struct prefill_options *options)
{
	struct carve carve = {0};
	layout(&carve, options);
	return carve.used;
}

struct prefill *prefill_init(void *memory, const struct prefill_options *options)
{
	struct carve carve = {.memory = memory};
	return layout(&carve, options);
}

void prefill_set_fetches(struct prefill *p, struct kv_fetches *fetches)
{
	p->options.fetches = fetches;
}

static struct prefill_job *find(struct prefill *p, const Wire__JobId *id)
{
	struct job_key key = job_key_of(id);
	for (uint32_t i = 0; i < p->options.job_max; i++)
		if (p->jobs[i].state != PREFILL_FREE && job_key_equal(&p->jobs[i].key, &key))
			return &p->jobs[i];
	return NULL;
}

static struct prefill_job *free_job(struct prefill *p)
{
	for (uint32_t i = 0; i < p->options.job_max; i++)
		if (p->jobs[i].state == PREFILL_FREE)
			return &p->jobs[i];
	return NULL;
}

static void take_context(struct prefill *p, struct prefill_job *job, const Wire__Reserve *reserve)
{
	uint32_t count = (uint32_t)reserve->n_tokens;
	memcpy(job->tokens, reserve->tokens, count * sizeof(uint32_t));
	job->sequence = (struct sequence){
		.id = job->key.number,
		.sampling = &job->sampling,
		.constraint = job->constraint,
		.tokens = job->tokens,
		.token_count = count,
		.prompt_count = reserve->prompt_count,
		.score_first = reserve->scored,
		.score_end = job->sampling.prompt_logprobs ? reserve->prompt_count - 1 : 0,
		.choice_count = (uint16_t)reserve->n_choices,
		.arrival = p->arrival_next++,
		.handed_over = true,
	};
	for (size_t i = 0; i < reserve->n_choices; i++)
		job->sequence.choices[i] = (uint16_t)reserve->choices[i];
	job->full_count = count / p->local->block_tokens;
	job->block_need = blocks_of(p, count);
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		struct id128 root;
		kv_key_root(&p->local->compat, g, reserve->tenant_salt.data, reserve->tenant_salt.len, &root);
		kv_key_chain(&root, job->tokens, job->full_count, p->local->block_tokens, job->keys[g]);
		job->sequence.tables[g].blocks = job->blocks[g];
	}
}

static void take_holders(struct prefill_job *job, const Wire__Reserve *reserve)
{
	job->holder_count = reserve->n_holders < PREFILL_HOLDERS_MAX ? reserve->n_holders : PREFILL_HOLDERS_MAX;
	for (size_t i = 0; i < job->holder_count; i++) {
		job->holders[i] = *reserve->holders[i];
		job->holder_pointers[i] = &job->holders[i];
	}
}

enum err prefill_reserve(struct prefill *p, uint32_t peer, const Wire__Reserve *reserve, struct why *why)
{
	if (find(p, reserve->job))
		return why_set(why, ERR_EXISTS, "this job and attempt is reserved already");
	if (reserve->n_tokens >= p->options.context_max)
		return why_set(why, ERR_TOO_LARGE, "context of %zu tokens, at most %u with room for an answer",
			       reserve->n_tokens, p->options.context_max - 1);
	/* A local job's blocks are promised by its decode half, which takes them over. */
	bool local = reserve->half == WIRE__HALF__HALF_BOTH;
	uint32_t need[LAYER_GROUPS_MAX] = {0};
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		const struct kv_group *group = &p->local->groups[g];
		uint32_t blocks = blocks_of(p, (uint32_t)reserve->n_tokens);
		need[g] = local ? 0 : kv_group_span(p->local, g, p->options.chunk_tokens, blocks);
		if (group->reserved + need[g] > group->budget)
			return why_set(why, ERR_AGAIN, "%u blocks wanted, %u of %u are reserved", need[g], group->reserved,
				       group->budget);
	}
	struct prefill_job *job = free_job(p);
	if (!job)
		return why_set(why, ERR_AGAIN, "all %u places of the queue are taken", p->options.job_max);
	struct sampling sampling;
	struct constraint *constraint;
	enum err e = codec_sampling_get(reserve->sampling, why, &sampling);
	if (e == ERR_OK)
		e = constraint_take(&p->options.constraints, reserve->structure, strlen(reserve->structure), why, &constraint);
	if (e != ERR_OK)
		return e;
	sampling.structured = constraint != NULL;
	struct prefill_job kept = {.serial = job->serial + 1, .tokens = job->tokens};
	memcpy(kept.blocks, job->blocks, sizeof(kept.blocks));
	memcpy(kept.keys, job->keys, sizeof(kept.keys));
	*job = kept;
	job->key = job_key_of(reserve->job);
	job->coordinator = peer;
	job->partner = reserve->partner;
	kv_tenant_take(&job->tenant, reserve);
	job->local = local;
	memcpy(job->promised, need, sizeof(need));
	job->decode_peer = PEER_NONE;
	job->sampling = sampling;
	job->constraint = constraint;
	job->reserved_ns = p->local->now_ns;
	take_context(p, job, reserve);
	take_holders(job, reserve);
	for (uint32_t g = 0; g < p->local->group_count; g++)
		p->local->groups[g].reserved += need[g];
	p->count++;
	move(job, PREFILL_RESERVED);
	return ERR_OK;
}

static Wire__Accounting account(const struct prefill *p, const struct prefill_job *job)
{
	Wire__Accounting accounting = WIRE__ACCOUNTING__INIT;
	accounting.context = job->sequence.token_count;
	accounting.reused = job->reused;
	accounting.fetched = job->fetched;
	uint32_t here = accounting.reused + accounting.fetched;
	accounting.computed = job->sequence.computed > here ? job->sequence.computed - here : 0;
	accounting.blocks_read = job->counts.blocks_read;
	accounting.bytes_read = job->counts.bytes_read;
	accounting.miss_not_found = job->counts.miss_not_found;
	accounting.miss_deadline = job->counts.miss_deadline;
	accounting.miss_digest = job->counts.miss_digest;
	accounting.miss_generation = job->counts.miss_generation;
	accounting.miss_gone = job->counts.miss_gone;
	accounting.queue_ns = job->started_ns - job->reserved_ns;
	accounting.fetch_ns = job->computing_ns > job->started_ns ? job->computing_ns - job->started_ns : 0;
	accounting.compute_ns = job->done_ns > job->computing_ns ? job->done_ns - job->computing_ns : 0;
	return accounting;
}

static void send_job_end(struct prefill *p, struct prefill_job *job, enum err e)
{
	if (job->coordinator == PEER_NONE || job->local)
		return; /* rule 1; a local job's one end is said by decode */
	Wire__Accounting accounting = account(p, job);
	Wire__JobId id = job_key_wire(&job->key);
	Wire__JobEnd end = WIRE__JOB_END__INIT;
	end.job = &id;
	end.half = WIRE__HALF__HALF_PREFILL;
	end.error = e;
	end.why = (char *)err_text(e);
	end.accounting = &accounting;
	PROTO_ENVELOPE(envelope, JOB_END, job_end, &end);
	sessions_send(p->local->sessions, job->coordinator, &envelope);
}

static void free_blocks(struct prefill *p, struct prefill_job *job)
{
	/* Tails first, so that the beginning of a chain is evicted last. */
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		struct sequence_table *table = &job->sequence.tables[g];
		for (uint32_t i = table->count; i > table->first; i--)
			kv_pool_unref(p->local->pool, table->blocks[i - 1]);
		table->first = table->count = 0;
	}
}

static void end_now(struct prefill *p, struct prefill_job *job, enum err e)
{
	if (job->state == PREFILL_FETCHING)
		kv_fetch_cancel(p->options.fetches, (uint32_t)(job - p->jobs));
	if (job->state == PREFILL_COMPUTING)
		sched_remove(p->options.sched, &job->sequence);
	env_trace(p->local->env, "prefill of job %llu.%u ends: %s", (unsigned long long)job->key.number,
		  job->key.attempt, err_text(e));
	send_job_end(p, job, e);
	if (job->local && e != ERR_OK) {
		struct prefill_handover handover = {.key = job->key, .error = e};
		p->options.handover(p->options.context, &handover);
	}
	free_blocks(p, job);
	constraint_give(&p->options.constraints, job->constraint);
	job->constraint = NULL;
	for (uint32_t g = 0; g < p->local->group_count; g++)
		if (!planted(RESERVATION_STRANDED) || job->state != PREFILL_RESERVED)
			p->local->groups[g].reserved -= job->promised[g];
	p->count--;
	job->ending = false;
	move(job, PREFILL_FREE);
}

/* Rule 2: what a plan in flight names waits for the step. */
static void end(struct prefill *p, struct prefill_job *job, enum err e)
{
	if (!job->planned || planted(PLANNED_FREED)) {
		end_now(p, job, e);
		return;
	}
	job->ending = true;
	job->end_error = e;
}

static void send_transfer_end(struct prefill *p, struct prefill_job *job, enum err e)
{
	if (job->decode_peer == PEER_NONE || planted(PREFILL_ABORT_NOT_TOLD))
		return;
	Wire__JobId id = job_key_wire(&job->key);
	Wire__TransferEnd transfer_end = WIRE__TRANSFER_END__INIT;
	transfer_end.job = &id;
	transfer_end.error = e;
	PROTO_ENVELOPE(envelope, TRANSFER_END, transfer_end, &transfer_end);
	sessions_send(p->local->sessions, job->decode_peer, &envelope);
	job->decode_peer = PEER_NONE;
}

/* Leading blocks that need not be computed.  The last token always is, its logits are wanted; and so is every row that
 * is scored. */
static uint32_t reusable_blocks(const struct prefill *p, const struct prefill_job *job)
{
	const struct sequence *s = &job->sequence;
	uint32_t tokens = s->score_first < s->score_end ? s->score_first : s->token_count - !planted(WHOLE_CONTEXT_REUSED);
	return tokens / p->local->block_tokens;
}

/* Leading blocks that can be used as they lie in the pool. */
static uint32_t usable_blocks(struct prefill *p, const struct prefill_job *job)
{
	uint32_t limit = reusable_blocks(p, job);
	struct kv_presence groups[LAYER_GROUPS_MAX];
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		uint32_t keep = p->local->groups[g].keep, n = 0;
		for (; n < limit; n++) {
			p->present[g][n] = kv_pool_find(p->local->pool, &job->keys[g][n]) != KV_BLOCK_NONE;
			if (!p->present[g][n] && keep == KV_KEEP_ALL)
				limit = n; /* nobody can use what follows */
		}
		groups[g] = (struct kv_presence){p->present[g], planted(WINDOW_NOT_LOOKED_UP) && keep != KV_KEEP_ALL ? 0 : keep};
	}
	return kv_prefix(groups, p->local->group_count, limit);
}

static void drop_table(struct prefill *p, struct sequence_table *table, uint32_t end)
{
	for (uint32_t i = table->count; i > end; i--)
		kv_pool_unref(p->local->pool, table->blocks[i - 1]);
	table->count = end;
}

/* Refers to what of the first n blocks of a group is needed; n is usable, and before it was less. */
static void refer(struct prefill *p, struct prefill_job *job, uint32_t g, uint32_t n)
{
	struct sequence_table *table = &job->sequence.tables[g];
	if (table->count > n)
		drop_table(p, table, n);
	if (table->count == 0)
		table->first = table->count = kv_keep_first(p->local->groups[g].keep, n);
	for (; table->count < n; table->count++) {
		table->blocks[table->count] = kv_pool_find(p->local->pool, &job->keys[g][table->count]);
		kv_pool_ref(p->local->pool, table->blocks[table->count]);
	}
}

/* While it fetches, a job refers to what it has of global groups; what a windowed one needs depends on the end. */
static uint32_t refer_early(struct prefill *p, struct prefill_job *job)
{
	uint32_t n = usable_blocks(p, job);
	for (uint32_t g = 0; g < p->local->group_count; g++)
		if (p->local->groups[g].keep == KV_KEEP_ALL)
			refer(p, job, g, n);
	job->reused = n * p->local->block_tokens;
	return n;
}

/* Waiting must never be slower than computing (DESIGN 4.4): as long as reading that many tokens here takes by what it
 * took lately, twice over, since a node that is busy with others is slower at both. */
static uint64_t patience_ns(const struct prefill *p, uint32_t tokens)
{
	uint64_t longest_ns = p->options.fetch_deadline_ns;
	if (p->token_ns == 0)
		return longest_ns;
	uint64_t ns = 2 * p->token_ns * tokens;
	if (ns < p->options.fetch_floor_ns)
		ns = p->options.fetch_floor_ns;
	return ns < longest_ns ? ns : longest_ns;
}

/* What a token of a finished prompt cost, behind whatever else was computed; an average that forgets: 1/8 each. */
static void learn_pace(struct prefill *p, const struct prefill_job *job)
{
	uint32_t computed = account(p, job).computed;
	if (computed < PACE_TOKENS_MIN)
		return;
	uint64_t ns = (job->done_ns - job->computing_ns) / computed;
	p->token_ns = p->token_ns ? (7 * p->token_ns + ns) / 8 : ns;
}

static bool start_fetch(struct prefill *p, struct prefill_job *job, uint32_t have)
{
	uint32_t reusable = reusable_blocks(p, job);
	if (reusable == have || (reusable - have) * p->local->block_tokens < p->options.fetch_min_tokens)
		return false;
	struct kv_fetch_request request = {
		.cookie = (uint32_t)(job - p->jobs),
		.key_count = reusable,
		.tenant = &job->tenant,
		.have = have,
		.holders = job->holder_pointers,
		.holder_count = job->holder_count,
		.deadline_ns = p->local->now_ns + patience_ns(p, (reusable - have) * p->local->block_tokens),
	};
	for (uint32_t g = 0; g < p->local->group_count; g++)
		request.keys[g] = job->keys[g];
	return kv_fetch_start(p->options.fetches, &request) == ERR_OK;
}

/* Blocks of a group that the next chunk writes to: of a global one all at once, as they are never given back before. */
static bool take_blocks(struct prefill *p, struct prefill_job *job, uint32_t g)
{
	struct sequence_table *table = &job->sequence.tables[g];
	uint32_t end = job->block_need;
	if (p->local->groups[g].keep != KV_KEEP_ALL)
		end = blocks_of(p, job->sequence.computed + p->options.chunk_tokens);
	for (end = end < job->block_need ? end : job->block_need; table->count < end; table->count++)
		if (kv_pool_take(p->local->pool, g, &table->blocks[table->count]) != ERR_OK)
			return false;
	return true;
}

static bool take_all(struct prefill *p, struct prefill_job *job)
{
	for (uint32_t g = 0; g < p->local->group_count; g++)
		if (!take_blocks(p, job, g))
			return false;
	return true;
}

/* Takes the blocks it needs and joins the schedule; stays BLOCKED while there is no room. */
static void try_compute(struct prefill *p, struct prefill_job *job)
{
	if (!take_all(p, job) || sched_add(p->options.sched, &job->sequence) != ERR_OK)
		return;
	move(job, PREFILL_COMPUTING);
	if (job->computing_ns == 0)
		job->computing_ns = p->local->now_ns;
	prefill_announce_all(p, job);
}

static void begin_compute(struct prefill *p, struct prefill_job *job)
{
	uint32_t n = usable_blocks(p, job), tokens = n * p->local->block_tokens;
	for (uint32_t g = 0; g < p->local->group_count; g++)
		refer(p, job, g, n);
	job->reused = job->reused < tokens ? job->reused : tokens;
	job->fetched = tokens - job->reused;
	move(job, PREFILL_BLOCKED);
	job->blocks_complete = n;
	job->sequence.computed = tokens;
	env_trace(p->local->env, "take job %llu.%u: %u tokens, %u reused, %u fetched",
		  (unsigned long long)job->key.number, job->key.attempt, job->sequence.token_count, job->reused,
		  job->fetched);
	try_compute(p, job);
}

void prefill_start(struct prefill *p, uint32_t peer, const Wire__Start *start)
{
	struct prefill_job *job = find(p, start->job);
	if (!job || job->coordinator != peer || job->state != PREFILL_RESERVED)
		return;
	job->started_ns = p->local->now_ns;
	move(job, PREFILL_FETCHING);
	if (!start_fetch(p, job, refer_early(p, job)))
		begin_compute(p, job);
}

void prefill_fetched(struct prefill *p, uint32_t cookie, const struct kv_fetch_counts *counts)
{
	struct prefill_job *job = &p->jobs[cookie];
	assert(job->state == PREFILL_FETCHING);
	job->counts = *counts;
	begin_compute(p, job);
}

void prefill_cancel(struct prefill *p, uint32_t peer, const Wire__Cancel *cancel)
{
	struct prefill_job *job = find(p, cancel->job);
	if (!job || job->coordinator != peer || cancel->one_choice || job->ending)
		return;
	send_transfer_end(p, job, ERR_CANCELED);
	end(p, job, ERR_CANCELED);
}

void prefill_attach(struct prefill *p, uint32_t peer, const Wire__Attach *attach)
{
	struct prefill_job *job = find(p, attach->job);
	bool same = memcmp(attach->compat.data, p->local->compat.bytes, PROTO_KEY_BYTES) == 0;
	const struct session_peer *who = sessions_peer(p->local->sessions, peer);
	if (!job || job->ending || !same || who->node != job->partner) {
		Wire__TransferEnd refusal = WIRE__TRANSFER_END__INIT;
		refusal.job = attach->job;
		refusal.error = same ? ERR_NOT_FOUND : ERR_MISMATCH;
		PROTO_ENVELOPE(envelope, TRANSFER_END, transfer_end, &refusal);
		sessions_send(p->local->sessions, peer, &envelope);
		return;
	}
	job->decode_peer = peer;
	for (uint32_t g = 0; g < p->local->group_count; g++)
		job->blocks_have[g] = g < attach->n_have ? attach->have[g] : 0;
	prefill_announce_all(p, job);
	if (job->state == PREFILL_HANDING)
		prefill_send_first(p, job);
}

void prefill_transfer_end(struct prefill *p, uint32_t peer, const Wire__TransferEnd *transfer_end)
{
	struct prefill_job *job = find(p, transfer_end->job);
	if (!job || job->decode_peer != peer || job->ending)
		return;
	job->decode_peer = PEER_NONE;
	enum err e = (enum err)transfer_end->error;
	end(p, job, e == ERR_OK && job->state != PREFILL_HANDING ? ERR_PROTOCOL : e);
}

void prefill_peer_down(struct prefill *p, uint32_t peer)
{
	for (uint32_t i = 0; i < p->options.job_max; i++) {
		struct prefill_job *job = &p->jobs[i];
		if (job->state == PREFILL_FREE)
			continue;
		bool was_coordinator = job->coordinator == peer;
		bool was_decode = job->decode_peer == peer;
		if (was_coordinator)
			job->coordinator = PEER_NONE;
		if (was_decode)
			job->decode_peer = PEER_NONE;
		if (was_coordinator && !was_decode)
			send_transfer_end(p, job, ERR_PEER_GONE);
		if ((was_coordinator || was_decode) && !job->ending)
			end(p, job, ERR_PEER_GONE);
	}
}

bool prefill_owns(const struct prefill *p, const struct sequence *sequence)
{
	const uint8_t *at = (const uint8_t *)sequence;
	return at >= (const uint8_t *)p->jobs && at < (const uint8_t *)(p->jobs + p->options.job_max);
}

static struct prefill_job *job_of(struct prefill *p, const struct run *run)
{
	size_t offset = (size_t)((const uint8_t *)run->sequence - (const uint8_t *)p->jobs);
	return &p->jobs[offset / sizeof(struct prefill_job)];
}

void prefill_planned(struct prefill *p, const struct run *run)
{
	struct prefill_job *job = job_of(p, run);
	job->planned = true;
	job->chunk_first = run->first / p->local->block_tokens;
	job->chunk_count = blocks_of(p, run->first + run->count) - job->chunk_first;
	job->chunk_layers = 0;
}

void prefill_layer_done(struct prefill *p, const struct run *run, uint32_t layer)
{
	struct prefill_job *job = job_of(p, run);
	job->chunk_layers = layer + 1;
	if (!job->ending)
		prefill_announce(p, job, layer, job->chunk_first, job->chunk_count);
}

/* The first block that is worth offering to the store: of a windowed group what a token after the longest beginning sees
 * that another prompt, or this one again, can use; what lies before is of use to nobody. */
static uint32_t offered_first(const struct prefill *p, const struct prefill_job *job, uint32_t g)
{
	return kv_keep_first(p->local->groups[g].keep, (job->sequence.token_count - 1) / p->local->block_tokens);
}

/* Blocks that the chunk filled become findable, and are offered to the store. */
static void publish_group(struct prefill *p, struct prefill_job *job, uint32_t g)
{
	const struct id128 *keys = job->keys[g];
	uint32_t filled = job->sequence.computed / p->local->block_tokens;
	for (uint32_t i = job->blocks_complete; i < job->full_count && i < filled; i++)
		if (kv_pool_seal(p->local->pool, job->blocks[g][i], &keys[i]) == ERR_OK && i >= offered_first(p, job, g))
			kv_offer_block(p->options.offers, job->blocks[g][i], &keys[i], i > 0 ? &keys[i - 1] : NULL, &job->tenant);
}

/* What no token still to be computed sees is given back: what was sealed stays cached as long as there is room. */
static void release(struct prefill *p, struct prefill_job *job, uint32_t g)
{
	struct sequence_table *table = &job->sequence.tables[g];
	uint32_t keep = p->local->groups[g].keep - planted(WINDOW_RELEASED_EARLY);
	uint32_t first = kv_keep_first(keep, job->sequence.computed / p->local->block_tokens);
	for (; table->first < first; table->first++)
		if (table->first < table->count) {
			kv_pool_unref(p->local->pool, table->blocks[table->first]);
			table->blocks[table->first] = KV_BLOCK_NONE;
		}
}

static void publish(struct prefill *p, struct prefill_job *job)
{
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		publish_group(p, job, g);
		release(p, job, g);
	}
	job->blocks_complete = blocks_of(p, job->sequence.computed);
	job->chunk_count = job->chunk_layers = 0;
}

/* The blocks of the next chunk; without room for them the job leaves the schedule until there is. */
static void go_on(struct prefill *p, struct prefill_job *job)
{
	if (take_all(p, job))
		return;
	sched_remove(p->options.sched, &job->sequence);
	move(job, PREFILL_BLOCKED);
}

static void hand_over_locally(struct prefill *p, struct prefill_job *job)
{
	Wire__Accounting accounting = account(p, job);
	struct sequence_table tables[LAYER_GROUPS_MAX];
	struct prefill_handover handover = {
		.accounting = &accounting,
		.key = job->key,
		.tables = tables,
		.first = job->first,
		.finish = job->first_finish,
	};
	memcpy(tables, job->sequence.tables, sizeof(tables));
	for (uint32_t g = 0; g < p->local->group_count; g++)
		job->sequence.tables[g].first = job->sequence.tables[g].count = 0; /* the references go with it */
	p->options.handover(p->options.context, &handover);
	end_now(p, job, ERR_OK);
}

static void sampled(struct prefill *p, struct prefill_job *job, const struct sample *samples)
{
	struct sequence *sequence = &job->sequence;
	uint32_t generated = sequence->token_count - sequence->prompt_count + 1;
	for (uint32_t i = 0; i < sequence->choice_count; i++) {
		job->first[i] = samples[i];
		job->first_finish[i] = finish_of(&p->options.finish, &job->sampling, samples[i].token, generated,
						 sequence->token_count + 1, &job->first_stop[i]);
	}
	sched_remove(p->options.sched, sequence);
	move(job, PREFILL_HANDING);
	job->done_ns = p->local->now_ns;
	learn_pace(p, job);
	prefill_build_first(p, job);
	for (uint32_t i = 0; i < sequence->choice_count; i++)
		p->options.token(p->options.context, job->coordinator, &p->token_values[i]);
	p->options.flush(p->options.context);
	if (job->local)
		hand_over_locally(p, job);
	else
		prefill_send_first(p, job);
}

void prefill_step_done(struct prefill *p, const struct run *run, const struct sample *samples, enum err e)
{
	struct prefill_job *job = job_of(p, run);
	job->planned = false;
	if (job->ending || e != ERR_OK) {
		if (!job->ending)
			send_transfer_end(p, job, e);
		end_now(p, job, job->ending ? job->end_error : e);
		return;
	}
	publish(p, job);
	if (run->score_count > 0)
		prefill_send_scores(p, job, run, samples + run->score_index);
	if (run->sample_count > 0)
		sampled(p, job, samples + run->sample_first);
	else
		go_on(p, job);
}

void prefill_tick(struct prefill *p)
{
	for (uint32_t i = 0; i < p->options.job_max; i++)
		if (p->jobs[i].state == PREFILL_BLOCKED)
			try_compute(p, &p->jobs[i]);
		else if (planted(SESSION_SHORTER_THAN_QUEUE) && p->jobs[i].state == PREFILL_HANDING &&
			 p->local->now_ns > p->jobs[i].done_ns + 100000000)
			end_now(p, &p->jobs[i], ERR_OK);
}

uint32_t prefill_count(const struct prefill *p)
{
	return p->count;
}

uint64_t prefill_tokens_waiting(const struct prefill *p)
{
	uint64_t tokens = 0;
	for (uint32_t i = 0; i < p->options.job_max; i++)
		if (p->jobs[i].state > PREFILL_FREE && p->jobs[i].state < PREFILL_COMPUTING)
			tokens += p->jobs[i].sequence.token_count;
	return tokens;
}

enum prefill_state prefill_state_at(const struct prefill *p, uint32_t job, struct job_key *ret_key)
{
	if (ret_key)
		*ret_key = p->jobs[job].key;
	return p->jobs[job].state;
}
