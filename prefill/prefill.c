#include "prefill/prefill.h"

#include <assert.h>

#include "base/carve.h"
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
	[PREFILL_COMPUTING] = {[PREFILL_HANDING] = true, [PREFILL_FREE] = true},
	[PREFILL_HANDING] = {[PREFILL_FREE] = true},
};

static void move(struct prefill_job *job, enum prefill_state to)
{
	assert(moves[job->state][to]);
	job->state = to;
}

static uint32_t blocks_of(const struct prefill *p, uint32_t tokens)
{
	return (tokens + p->local->block_tokens - 1) / p->local->block_tokens;
}

static struct prefill *layout(struct carve *carve, const struct prefill_options *o)
{
	struct prefill *p = carve_take(carve, 1, sizeof(*p));
	uint32_t block_max = o->context_max / o->local->block_tokens + 1;
	struct prefill_job *jobs = carve_take(carve, o->job_max, sizeof(*jobs));
	Wire__Place *places = carve_take(carve, block_max, sizeof(*places));
	Wire__Place **place_pointers = carve_take(carve, block_max, sizeof(*place_pointers));
	uint64_t *digests = carve_take(carve, block_max, sizeof(*digests));
	for (uint32_t i = 0; i < o->job_max; i++) {
		struct prefill_job job = {
			.tokens = carve_take(carve, o->context_max, sizeof(*job.tokens)),
			.blocks = carve_take(carve, block_max, sizeof(*job.blocks)),
			.keys = carve_take(carve, block_max, sizeof(*job.keys)),
		};
		if (p)
			jobs[i] = job;
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
		.blocks = job->blocks,
		.choice_count = (uint16_t)reserve->n_choices,
		.arrival = p->arrival_next++,
		.handed_over = true,
	};
	for (size_t i = 0; i < reserve->n_choices; i++)
		job->sequence.choices[i] = (uint16_t)reserve->choices[i];
	job->full_count = count / p->local->block_tokens;
	job->block_need = blocks_of(p, count);
	kv_key_root(&p->local->compat, 0, reserve->tenant_salt.data, reserve->tenant_salt.len, &job->root);
	kv_key_chain(&job->root, job->tokens, job->full_count, p->local->block_tokens, job->keys);
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
	uint32_t need = local ? 0 : blocks_of(p, (uint32_t)reserve->n_tokens);
	if (p->local->blocks_reserved + need > p->local->block_budget)
		return why_set(why, ERR_AGAIN, "%u blocks wanted, %u of %u are reserved", need, p->local->blocks_reserved,
			       p->local->block_budget);
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
	struct prefill_job kept = {.serial = job->serial + 1, .tokens = job->tokens, .blocks = job->blocks,
				   .keys = job->keys};
	*job = kept;
	job->key = job_key_of(reserve->job);
	job->coordinator = peer;
	job->partner = reserve->partner;
	job->local = local;
	job->blocks_promised = need;
	job->decode_peer = PEER_NONE;
	job->sampling = sampling;
	job->constraint = constraint;
	job->reserved_ns = p->local->now_ns;
	take_context(p, job, reserve);
	take_holders(job, reserve);
	p->local->blocks_reserved += need;
	p->count++;
	move(job, PREFILL_RESERVED);
	return ERR_OK;
}

static Wire__Accounting account(const struct prefill *p, const struct prefill_job *job)
{
	Wire__Accounting accounting = WIRE__ACCOUNTING__INIT;
	accounting.context = job->sequence.token_count;
	accounting.reused = job->reused;
	accounting.fetched = job->counts.fetched * p->local->block_tokens;
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
	for (uint32_t i = job->sequence.block_count; i > 0; i--)
		kv_pool_unref(p->local->pool, job->blocks[i - 1]);
	job->sequence.block_count = 0;
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
	if (!planted(RESERVATION_STRANDED) || job->state != PREFILL_RESERVED)
		p->local->blocks_reserved -= job->blocks_promised;
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

/* Leading blocks that this node has already. */
static void reuse(struct prefill *p, struct prefill_job *job)
{
	uint32_t reusable = reusable_blocks(p, job);
	uint32_t n = 0;
	for (; n < reusable; n++) {
		uint32_t block = kv_pool_find(p->local->pool, &job->keys[n]);
		if (block == KV_BLOCK_NONE)
			break;
		kv_pool_ref(p->local->pool, block);
		job->blocks[n] = block;
	}
	job->sequence.block_count = n;
	job->reused = n * p->local->block_tokens;
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

static bool start_fetch(struct prefill *p, struct prefill_job *job)
{
	uint32_t have = job->sequence.block_count;
	uint32_t reusable = reusable_blocks(p, job);
	if (reusable == have || (reusable - have) * p->local->block_tokens < p->options.fetch_min_tokens)
		return false;
	struct kv_fetch_request request = {
		.cookie = (uint32_t)(job - p->jobs),
		.keys = job->keys + have,
		.key_count = reusable - have,
		.holders = job->holder_pointers,
		.holder_count = job->holder_count,
		.chain_offset = have,
		.deadline_ns = p->local->now_ns + patience_ns(p, (reusable - have) * p->local->block_tokens),
	};
	return kv_fetch_start(p->options.fetches, &request) == ERR_OK;
}

/* Takes the rest of the blocks and joins the schedule; stays BLOCKED while there is no room. */
static void try_compute(struct prefill *p, struct prefill_job *job)
{
	while (job->sequence.block_count < job->block_need) {
		uint32_t block;
		if (kv_pool_take(p->local->pool, &block) != ERR_OK)
			return;
		job->blocks[job->sequence.block_count++] = block;
	}
	if (sched_add(p->options.sched, &job->sequence) != ERR_OK)
		return;
	move(job, PREFILL_COMPUTING);
	job->computing_ns = p->local->now_ns;
	prefill_announce_all(p, job);
}

static void begin_compute(struct prefill *p, struct prefill_job *job)
{
	move(job, PREFILL_BLOCKED);
	job->blocks_complete = job->sequence.block_count;
	job->sequence.computed = job->blocks_complete * p->local->block_tokens;
	env_trace(p->local->env, "take job %llu.%u: %u tokens, %u reused, %u fetched",
		  (unsigned long long)job->key.number, job->key.attempt, job->sequence.token_count, job->reused,
		  job->counts.fetched * p->local->block_tokens);
	try_compute(p, job);
}

void prefill_start(struct prefill *p, uint32_t peer, const Wire__Start *start)
{
	struct prefill_job *job = find(p, start->job);
	if (!job || job->coordinator != peer || job->state != PREFILL_RESERVED)
		return;
	job->started_ns = p->local->now_ns;
	move(job, PREFILL_FETCHING);
	reuse(p, job);
	if (!start_fetch(p, job))
		begin_compute(p, job);
}

void prefill_fetched(struct prefill *p, uint32_t cookie, const uint32_t *blocks, const struct kv_fetch_counts *counts)
{
	struct prefill_job *job = &p->jobs[cookie];
	assert(job->state == PREFILL_FETCHING);
	for (uint32_t i = 0; i < counts->fetched; i++)
		job->blocks[job->sequence.block_count++] = blocks[i];
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
	job->blocks_have = attach->blocks_have;
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

/* Blocks that the chunk filled become findable, and are offered to the store. */
static void publish(struct prefill *p, struct prefill_job *job)
{
	for (uint32_t i = job->blocks_complete; i < job->full_count && (i + 1) * p->local->block_tokens <= job->sequence.computed;
	     i++) {
		if (kv_pool_seal(p->local->pool, job->blocks[i], &job->keys[i]) == ERR_OK)
			kv_offer_block(p->options.offers, job->blocks[i], &job->keys[i],
				       i > 0 ? &job->keys[i - 1] : NULL);
	}
	job->blocks_complete = blocks_of(p, job->sequence.computed);
	job->chunk_count = job->chunk_layers = 0;
}

static void hand_over_locally(struct prefill *p, struct prefill_job *job)
{
	Wire__Accounting accounting = account(p, job);
	struct prefill_handover handover = {
		.accounting = &accounting,
		.key = job->key,
		.blocks = job->blocks,
		.block_count = job->sequence.block_count,
		.first = job->first,
		.finish = job->first_finish,
	};
	job->sequence.block_count = 0; /* the references go with it */
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
