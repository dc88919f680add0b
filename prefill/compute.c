/* Which jobs compute: before each plan, what is here by then is gone over, and who may go on is in the schedule.
 *
 * A prompt whose blocks are being fetched comes from both ends: its fetch reads from the end backwards (kvstore/fetch.h), and
 * while nobody else wants the engine it is computed from the beginning; where they meet it goes over what has come. */
#include <assert.h>

#include "base/planted.h"
#include "prefill/job.h"

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

static uint32_t blocks_computed(const struct prefill *p, const struct prefill_job *job)
{
	assert(job->sequence.computed % p->local->block_tokens == 0);
	return job->sequence.computed / p->local->block_tokens;
}

/* ---- going on */

/* The beginning that is here, once: from then on the job holds what it has computed or gone over. */
static void begin(struct prefill *p, struct prefill_job *job)
{
	if (job->begun)
		return;
	uint32_t n = prefill_blocks_usable(p, job, 0), tokens = n * p->local->block_tokens;
	prefill_blocks_refer(p, job, 0, n);
	job->begun = true;
	job->reused = job->reused < tokens ? job->reused : tokens;
	job->fetched = tokens - job->reused;
	job->blocks_complete = n;
	job->sequence.computed = tokens;
	env_trace(p->local->env, "take job %llu.%u: %u tokens, %u reused, %u fetched",
		  (unsigned long long)job->key.number, job->key.attempt, job->sequence.token_count, job->reused,
		  job->fetched);
}

/* What lies behind what it has computed is here by now: others brought or computed it. */
static void skip(struct prefill *p, struct prefill_job *job)
{
	uint32_t tokens = p->local->block_tokens, from = blocks_computed(p, job);
	uint32_t n = prefill_blocks_usable(p, job, from);
	if (n == from)
		return;
	prefill_blocks_refer(p, job, from, n);
	*(job->fetching || job->counts.blocks_read > 0 ? &job->fetched : &job->reused) += (n - from) * tokens;
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
	uint32_t next = blocks_computed(p, job);
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

static bool join(struct prefill *p, struct prefill_job *job)
{
	if (sched_add(p->options.sched, &job->sequence) != ERR_OK)
		return false;
	prefill_move(job, PREFILL_COMPUTING);
	if (job->computing_ns == 0)
		job->computing_ns = p->local->now_ns;
	prefill_announce_all(p, job);
	return true;
}

static void leave(struct prefill *p, struct prefill_job *job, enum prefill_state to)
{
	sched_remove(p->options.sched, &job->sequence);
	prefill_move(job, to);
}

/* Joins the schedule; stays BLOCKED while it may not. */
static void try_compute(struct prefill *p, struct prefill_job *job)
{
	if (may_compute(p, job))
		join(p, job);
}

static void begin_compute(struct prefill *p, struct prefill_job *job)
{
	begin(p, job);
	prefill_move(job, PREFILL_BLOCKED);
	try_compute(p, job);
}

/* ---- beside a fetch */

void prefill_fetch_start(struct prefill *p, struct prefill_job *job)
{
	uint32_t have = prefill_blocks_refer_early(p, job), reusable = prefill_blocks_reusable(p, job);
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
	job->fetching = reusable > have && (reusable - have) * p->local->block_tokens >= p->options.fetch_min_tokens;
	if (job->fetching && kv_fetch_start(p->options.fetches, &request) == ERR_OK)
		return;
	job->fetching = false;
	begin_compute(p, job);
}

void prefill_fetch_stop(struct prefill *p, struct prefill_job *job)
{
	if (job->fetching && !planted(FETCH_OUTLIVES_JOB))
		kv_fetch_cancel(p->options.fetches, (uint32_t)(job - p->jobs), &job->counts);
	job->fetching = false;
}

void prefill_fetched(struct prefill *p, uint32_t cookie, const struct kv_fetch_counts *counts)
{
	struct prefill_job *job = &p->jobs[cookie];
	assert(job->fetching && !job->ending);
	job->fetching = false;
	job->counts = *counts;
	if (job->state == PREFILL_FETCHING)
		begin_compute(p, job);
	else if (!job->planned)
		skip(p, job); /* else before the next plan: what came is among the pool's newest */
}

/* By computing a chunk it does not lose: the engine has nothing else to do, what is missing takes longer to come, and the job has
 * waited as long as it does in any case: before that nobody can say how fast it comes. */
static bool pays_beside(const struct prefill *p, const struct prefill_job *job)
{
	uint32_t others = sched_count(p->options.sched) - (job->state == PREFILL_COMPUTING);
	if (others > 0 || p->local->now_ns - job->started_ns <= p->options.fetch_floor_ns)
		return false;
	return kv_fetch_left_ns(p->options.fetches, (uint32_t)(job - p->jobs)) > p->token_ns * p->options.chunk_tokens;
}

/* The next chunk is the job's own; what lies behind it is the fetch's, which is not waited for meanwhile. */
static bool may_compute_beside(struct prefill *p, struct prefill_job *job)
{
	uint32_t end = blocks_computed(p, job) + p->options.chunk_tokens / p->local->block_tokens;
	uint32_t reusable = prefill_blocks_reusable(p, job), left = reusable > end ? reusable - end : 0;
	kv_fetch_advance(p->options.fetches, (uint32_t)(job - p->jobs), end,
			 p->local->now_ns + patience_ns(p, left * p->local->block_tokens));
	return prefill_blocks_take(p, job);
}

static void try_beside(struct prefill *p, struct prefill_job *job)
{
	bool computing = job->state == PREFILL_COMPUTING;
	bool pays = pays_beside(p, job);
	if (pays) {
		begin(p, job);
		skip(p, job);
		pays = may_compute_beside(p, job);
	}
	if (!pays && computing)
		leave(p, job, PREFILL_FETCHING);
	else if (pays && !computing && join(p, job))
		job->beside = true;
}

/* ---- before each plan */

/* A fetch that the job has overtaken ends: what lies behind is computed in any case. */
static bool still_fetches(struct prefill *p, struct prefill_job *job)
{
	if (!job->fetching || !job->begun || blocks_computed(p, job) < prefill_blocks_reusable(p, job))
		return job->fetching;
	prefill_fetch_stop(p, job);
	if (job->state == PREFILL_FETCHING)
		prefill_move(job, PREFILL_BLOCKED);
	return false;
}

static void prepare(struct prefill *p, struct prefill_job *job)
{
	if (job->state == PREFILL_BLOCKED)
		try_compute(p, job);
	else if (job->state == PREFILL_COMPUTING && !may_compute(p, job))
		leave(p, job, PREFILL_BLOCKED);
	else if (planted(SESSION_SHORTER_THAN_QUEUE) && job->state == PREFILL_HANDING &&
		 p->local->now_ns > job->done_ns + 100000000)
		prefill_end_now(p, job, ERR_OK);
}

void prefill_prepare(struct prefill *p)
{
	for (uint32_t i = 0; i < p->options.job_max; i++)
		if (!still_fetches(p, &p->jobs[i]))
			prepare(p, &p->jobs[i]);
	for (uint32_t i = 0; i < p->options.job_max; i++)
		if (p->jobs[i].fetching)
			try_beside(p, &p->jobs[i]);
}
