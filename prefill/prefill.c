#include "prefill/prefill.h"

#include <assert.h>

#include "base/carve.h"
#include "base/layer_groups.h"
#include "base/planted.h"
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

void prefill_move(struct prefill_job *job, enum prefill_state to)
{
	assert(moves[job->state][to]);
	job->state = to;
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

struct prefill_job *prefill_find(struct prefill *p, const Wire__JobId *id)
{
	struct job_key key = job_key_of(id);
	for (uint32_t i = 0; i < p->options.job_max; i++)
		if (p->jobs[i].state != PREFILL_FREE && job_key_equal(&p->jobs[i].key, &key))
			return &p->jobs[i];
	return NULL;
}

static void end_now(struct prefill *p, struct prefill_job *job, enum err e)
{
	if (job->state == PREFILL_FETCHING)
		kv_fetch_cancel(p->options.fetches, (uint32_t)(job - p->jobs));
	if (job->state == PREFILL_COMPUTING)
		sched_remove(p->options.sched, &job->sequence);
	env_trace(p->local->env, "prefill of job %llu.%u ends: %s", (unsigned long long)job->key.number,
		  job->key.attempt, err_text(e));
	prefill_send_job_end(p, job, e);
	if (job->local && e != ERR_OK) {
		struct prefill_handover handover = {.key = job->key, .error = e};
		p->options.handover(p->options.context, &handover);
	}
	prefill_blocks_free(p, job);
	constraint_give(&p->options.constraints, job->constraint);
	job->constraint = NULL;
	for (uint32_t g = 0; g < p->local->group_count; g++)
		if (!planted(RESERVATION_STRANDED) || job->state != PREFILL_RESERVED)
			p->local->groups[g].reserved -= job->promised[g];
	p->count--;
	job->ending = false;
	prefill_move(job, PREFILL_FREE);
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
	uint32_t computed = prefill_account(p, job).computed;
	if (computed < PACE_TOKENS_MIN)
		return;
	uint64_t ns = (job->done_ns - job->computing_ns) / computed;
	p->token_ns = p->token_ns ? (7 * p->token_ns + ns) / 8 : ns;
}

static bool start_fetch(struct prefill *p, struct prefill_job *job, uint32_t have)
{
	uint32_t reusable = prefill_blocks_reusable(p, job);
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

/* What lies behind what it has computed is here by now: others brought or computed it. */
static void skip(struct prefill *p, struct prefill_job *job)
{
	uint32_t tokens = p->local->block_tokens, from = job->sequence.computed / tokens;
	uint32_t n = prefill_blocks_usable(p, job, from);
	if (n == from)
		return;
	prefill_blocks_refer(p, job, from, n);
	job->reused += (n - from) * tokens;
	job->sequence.computed = n * tokens;
	job->blocks_complete = n;
	env_trace(p->local->env, "job %llu.%u goes on at token %u: %u are here", (unsigned long long)job->key.number,
		  job->key.attempt, n * tokens, (n - from) * tokens);
	for (uint32_t layer = 0; layer < p->local->layer_count; layer++)
		prefill_announce(p, job, layer, from, n - from);
}

/* Another that came earlier computes the very block that this one lacks next. */
static bool has_twin(const struct prefill *p, const struct prefill_job *job)
{
	uint32_t next = job->sequence.computed / p->local->block_tokens;
	for (uint32_t i = 0; next < prefill_blocks_reusable(p, job) && i < p->options.job_max; i++) {
		const struct prefill_job *other = &p->jobs[i];
		if (other->state == PREFILL_COMPUTING && other->sequence.arrival < job->sequence.arrival &&
		    other->sequence.computed == job->sequence.computed && next < other->full_count &&
		    id128_equal(&other->keys[0][next], &job->keys[0][next]))
			return true;
	}
	return false;
}

/* What the next chunk wants: nobody else to compute it, and room. */
static bool may_compute(struct prefill *p, struct prefill_job *job)
{
	skip(p, job);
	return !has_twin(p, job) && prefill_blocks_take(p, job);
}

/* Joins the schedule; stays BLOCKED while it may not. */
static void try_compute(struct prefill *p, struct prefill_job *job)
{
	if (!may_compute(p, job) || sched_add(p->options.sched, &job->sequence) != ERR_OK)
		return;
	prefill_move(job, PREFILL_COMPUTING);
	if (job->computing_ns == 0)
		job->computing_ns = p->local->now_ns;
	prefill_announce_all(p, job);
}

/* Leaves the schedule until it may go on. */
static void try_go_on(struct prefill *p, struct prefill_job *job)
{
	if (may_compute(p, job))
		return;
	sched_remove(p->options.sched, &job->sequence);
	prefill_move(job, PREFILL_BLOCKED);
}

static void begin_compute(struct prefill *p, struct prefill_job *job)
{
	uint32_t n = prefill_blocks_usable(p, job, 0), tokens = n * p->local->block_tokens;
	prefill_blocks_refer(p, job, 0, n);
	job->reused = job->reused < tokens ? job->reused : tokens;
	job->fetched = tokens - job->reused;
	prefill_move(job, PREFILL_BLOCKED);
	job->blocks_complete = n;
	job->sequence.computed = tokens;
	env_trace(p->local->env, "take job %llu.%u: %u tokens, %u reused, %u fetched",
		  (unsigned long long)job->key.number, job->key.attempt, job->sequence.token_count, job->reused,
		  job->fetched);
	try_compute(p, job);
}

void prefill_start(struct prefill *p, uint32_t peer, const Wire__Start *start)
{
	struct prefill_job *job = prefill_find(p, start->job);
	if (!job || job->coordinator != peer || job->state != PREFILL_RESERVED)
		return;
	job->started_ns = p->local->now_ns;
	prefill_move(job, PREFILL_FETCHING);
	if (!start_fetch(p, job, prefill_blocks_refer_early(p, job)))
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
	struct prefill_job *job = prefill_find(p, cancel->job);
	if (!job || job->coordinator != peer || cancel->one_choice || job->ending)
		return;
	prefill_send_transfer_end(p, job, ERR_CANCELED);
	end(p, job, ERR_CANCELED);
}

void prefill_attach(struct prefill *p, uint32_t peer, const Wire__Attach *attach)
{
	struct prefill_job *job = prefill_find(p, attach->job);
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
	struct prefill_job *job = prefill_find(p, transfer_end->job);
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
			prefill_send_transfer_end(p, job, ERR_PEER_GONE);
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
	job->chunk_count = kv_local_blocks(p->local, run->first + run->count) - job->chunk_first;
	job->chunk_layers = 0;
}

void prefill_layer_done(struct prefill *p, const struct run *run, uint32_t layer)
{
	struct prefill_job *job = job_of(p, run);
	job->chunk_layers = layer + 1;
	if (!job->ending)
		prefill_announce(p, job, layer, job->chunk_first, job->chunk_count);
}

static void hand_over_locally(struct prefill *p, struct prefill_job *job)
{
	Wire__Accounting accounting = prefill_account(p, job);
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
	prefill_move(job, PREFILL_HANDING);
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
			prefill_send_transfer_end(p, job, e);
		end_now(p, job, job->ending ? job->end_error : e);
		return;
	}
	prefill_blocks_publish(p, job);
	if (run->score_count > 0)
		prefill_send_scores(p, job, run, samples + run->score_index);
	if (run->sample_count > 0)
		sampled(p, job, samples + run->sample_first);
}

void prefill_prepare(struct prefill *p)
{
	for (uint32_t i = 0; i < p->options.job_max; i++) {
		struct prefill_job *job = &p->jobs[i];
		if (job->state == PREFILL_COMPUTING)
			try_go_on(p, job);
		else if (job->state == PREFILL_BLOCKED)
			try_compute(p, job);
		else if (planted(SESSION_SHORTER_THAN_QUEUE) && job->state == PREFILL_HANDING &&
			 p->local->now_ns > job->done_ns + 100000000)
			end_now(p, job, ERR_OK);
	}
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
			tokens += p->jobs[i].sequence.token_count - p->jobs[i].sequence.computed;
	return tokens;
}

enum prefill_state prefill_state_at(const struct prefill *p, uint32_t job, struct job_key *ret_key)
{
	if (ret_key)
		*ret_key = p->jobs[job].key;
	return p->jobs[job].state;
}
