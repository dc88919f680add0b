/* job_recover - what a failure leaves behind goes on elsewhere (DESIGN 4.7), and the clock of every job. */
#include <assert.h>
#include <string.h>

#include "coordinator/core_impl.h"

#define SUSPECT_NS 5000000000ull

static void count_cause(struct coord *coord, enum cause cause)
{
	struct coord_counters *c = &coord->counters;
	uint64_t *counts[] = {[CAUSE_SESSION] = &c->recoveries_session,
			      [CAUSE_JOB_END] = &c->recoveries_job_end,
			      [CAUSE_SILENCE] = &c->recoveries_silence,
			      [CAUSE_PROTOCOL] = &c->recoveries_protocol,
			      [CAUSE_DRAINING] = &c->moved_draining};
	++*counts[cause];
}

static struct job *free_job(struct request *request)
{
	for (uint32_t i = 0; i < request->choice_count; i++)
		if (request->jobs[i].state == JOB_FREE)
			return &request->jobs[i];
	return NULL;
}

static void reset_halves(struct job *job)
{
	assert(job_halves_over(job));
	job->half[0] = job->half[1] = (struct half){0};
}

/* The choice leaves its job for one of its own, with what the old one has learnt. */
static void split(struct coord *coord, struct job *from, uint32_t choice, uint64_t now_ns)
{
	struct job *job = free_job(from->request);
	assert(job); /* every job has at least one choice, and there is a job for each choice */
	*job = *from;
	job->state = JOB_FREE;
	job->wait_prev = job->wait_next = NULL;
	job->number = ++coord->serial * coord->options.requests_max + from->request->number % coord->options.requests_max;
	job->choices = 1u << choice;
	from->choices &= ~job->choices;
	job_wait(coord, job, JOB_RECOVERING, now_ns);
	job_try(coord, job, now_ns);
}

static bool have_tokens(const struct job *job)
{
	for (uint32_t rest = job->choices; rest; rest &= rest - 1)
		if (job->request->choices[__builtin_ctz(rest)].tokens.count)
			return true;
	return false;
}

static void close_attempt(struct coord *coord, struct job *job, uint32_t half, enum err e, uint64_t now_ns)
{
	struct coord_attempt *attempt = record_of(job);
	if (attempt) {
		attempt->failed = e;
		attempt->failed_at_decode = half == 1;
		attempt->ended_ns = now_ns;
	}
	job_drop_halves(coord, job, ERR_CANCELED);
	job->record = RECORD_NONE;
	for (uint32_t rest = job->choices; rest; rest &= rest - 1)
		choice_drop_held(coord, &job->request->choices[__builtin_ctz(rest)]);
}

/* A started attempt is over without its end; half: whom to keep away from.  The request may be over afterwards. */
void job_fail(struct coord *coord, struct job *job, uint32_t half, enum err e, enum cause cause, uint64_t now_ns)
{
	assert(job->state == JOB_PREFILLING || job->state == JOB_DECODING);
	struct request *request = job->request;
	count_cause(coord, cause);
	env_trace(coord->options.env, "coordinator > request %llu attempt %u: %s failed: %s",
		  (unsigned long long)job->number, job->attempt,
		  core_node(coord, job->half[half].node)->announced.name, err_text(e));
	job_avoid(coord, job, job->half[half].node, AVOID_FAILED);
	close_attempt(coord, job, half, e, now_ns);
	job->last_error = e;
	if (error_is_final(e)) {
		request_fail(coord, request, e, "a node gave the request up", now_ns);
		return;
	}
	if (job->started >= coord->options.attempts_max) {
		request_fail(coord, request, ERR_UNAVAILABLE, "every attempt failed", now_ns);
		return;
	}
	request->outcome.recoveries++;
	coord->counters.choices_recovered += (uint32_t)__builtin_popcount(job->choices);
	reset_halves(job);
	job->retry_ns = now_ns + 20000000ull * job->started;
	job->refusals = 0;
	job->since_ns = now_ns;
	/* Choices without tokens still share one context. */
	while (have_tokens(job) && (job->choices & (job->choices - 1)))
		split(coord, job, 31 - (uint32_t)__builtin_clz(job->choices), now_ns);
	job_wait(coord, job, JOB_RECOVERING, now_ns);
	job_try(coord, job, now_ns);
}

/* ---- a session ended */

static void half_lost(struct coord *coord, struct job *job, uint32_t half, uint64_t now_ns)
{
	job->half[half].cancelled = true; /* nobody is there to be told */
	if (job->state == JOB_RESERVING) {
		job_refused(coord, job, half, ERR_PEER_GONE, now_ns);
		return;
	}
	half_over(coord, &job->half[half]);
	if (job->state == JOB_CLOSING) {
		if (job_halves_over(job))
			job_move(job, JOB_FREE);
		return;
	}
	bool needed = half == 1 || job->both || !job->decode_proven || job_starved(job);
	if (needed)
		job_fail(coord, job, half, ERR_PEER_GONE, CAUSE_SESSION, now_ns);
}

static void request_node_down(struct coord *coord, struct request *request, uint32_t node, uint64_t now_ns)
{
	for (uint32_t r = 0; r < request->outcome.attempts_listed; r++)
		for (int half = 0; half < 2; half++)
			if (request->records[r].node[half] == node)
				request->records[r].open[half] = false;
	for (uint32_t i = 0; request->used && i < request->choice_count; i++) {
		struct job *job = &request->jobs[i];
		uint32_t half = job->state == JOB_FREE ? 2 : job_half_of(job, node);
		if (half < 2)
			half_lost(coord, job, half, now_ns);
	}
	if (request->used)
		request_settle(coord, request, now_ns);
}

void jobs_node_down(struct coord *coord, uint32_t node, uint64_t now_ns)
{
	for (uint32_t i = 0; i < coord->options.requests_max; i++)
		if (coord->requests[i].used)
			request_node_down(coord, &coord->requests[i], node, now_ns);
}

/* ---- the clock */

static void suspect(struct coord *coord, uint32_t node, uint64_t now_ns)
{
	core_node(coord, node)->suspect_until_ns = now_ns + SUSPECT_NS * coord->options.time_factor;
}

static void reserve_silent(struct coord *coord, struct job *job, uint64_t now_ns)
{
	uint32_t half = job->half[0].state == HALF_ASKED ? 0 : 1;
	coord->counters.reserve_timeouts++;
	suspect(coord, job->half[half].node, now_ns);
	job_refused(coord, job, half, ERR_DEADLINE, now_ns);
}

/* Who should have been heard: prefill while a first token lacks, then decode. */
static uint32_t silent_half(const struct job *job)
{
	for (uint32_t rest = job->choices; rest; rest &= rest - 1)
		if (choice_lacks_first(&job->request->choices[__builtin_ctz(rest)]))
			return 0;
	return job->both ? 0 : 1;
}

static void stream_silent(struct coord *coord, struct job *job, uint64_t now_ns)
{
	uint32_t half = silent_half(job);
	suspect(coord, job->half[half].node, now_ns);
	job_fail(coord, job, half, ERR_DEADLINE, CAUSE_SILENCE, now_ns);
}

static void wait_over(struct coord *coord, struct job *job, uint64_t now_ns)
{
	bool nobody = job->nobody_ns && now_ns >= job->nobody_ns + coord->options.spare_ns;
	if (!nobody && now_ns < job->since_ns + coord->options.queue_ns)
		return;
	struct wanted wanted = request_wants(job->request);
	struct why why = {.text = "no node had room in time"};
	wanted.job = job;
	if (nobody)
		pairs_live(coord, &wanted, &why);
	request_fail(coord, job->request, ERR_UNAVAILABLE, why.text, now_ns);
}

/* The longer the queue before it, the longer it may be silent. */
static uint64_t prefill_bound_ns(struct coord *coord, const struct job *job)
{
	struct work work = node_work(core_node(coord, job->half[0].node));
	return coord->options.prefill_ns + (job->uncached + work.tokens) * coord->options.prefill_token_ns;
}

/* A half whose node has been draining for long enough, or 2. */
static uint32_t draining_half(struct coord *coord, const struct job *job, uint64_t now_ns)
{
	for (uint32_t half = 0; half < 2; half++) {
		bool needed = half == 1 ? !job->both : job->state == JOB_PREFILLING || job->both;
		if (!needed || job->half[half].state != HALF_RUNNING)
			continue;
		const struct registry_node *node = core_node(coord, job->half[half].node);
		if (node->draining && now_ns >= node->draining_since_ns + coord->options.move_ns)
			return half;
	}
	return 2;
}

/* The streams of a node that drains go on elsewhere, at a token's edge, if there is an elsewhere; else they stay to their
 * end, or to that of the node.  True: it moved. */
static bool move_off(struct coord *coord, struct job *job, uint64_t now_ns)
{
	if (job->state != JOB_PREFILLING && job->state != JOB_DECODING)
		return false;
	uint32_t half = draining_half(coord, job, now_ns);
	struct wanted wanted = request_wants(job->request);
	if (half == 2 || job->started >= coord->options.attempts_max || !pairs_live(coord, &wanted, NULL))
		return false;
	job_fail(coord, job, half, ERR_DRAINING, CAUSE_DRAINING, now_ns);
	return true;
}

static void job_tick(struct coord *coord, struct job *job, uint64_t now_ns)
{
	const struct coord_options *o = &coord->options;
	if (move_off(coord, job, now_ns))
		return;
	switch (job->state) {
	case JOB_QUEUED:
	case JOB_RECOVERING:
		wait_over(coord, job, now_ns);
		break;
	case JOB_RESERVING:
		if (now_ns >= job->asked_ns + o->reserve_ns)
			reserve_silent(coord, job, now_ns);
		break;
	case JOB_PREFILLING:
		if (now_ns >= job->progress_ns + prefill_bound_ns(coord, job))
			stream_silent(coord, job, now_ns);
		break;
	case JOB_DECODING:
		if (now_ns >= job->progress_ns + o->decode_ns)
			stream_silent(coord, job, now_ns);
		break;
	case JOB_CLOSING:
		if (now_ns < job->since_ns + o->end_ns)
			break;
		job_drop_halves(coord, job, ERR_CANCELED);
		job_move(job, JOB_FREE);
		break;
	default:
		break;
	}
}

static void request_tick(struct coord *coord, struct request *request, uint64_t now_ns)
{
	if (request->live && request->deadline_ns && now_ns >= request->deadline_ns) {
		request_fail(coord, request, ERR_DEADLINE, "the request's deadline passed", now_ns);
		return;
	}
	for (uint32_t i = 0; request->used && i < request->choice_count; i++)
		job_tick(coord, &request->jobs[i], now_ns);
	if (request->used)
		request_settle(coord, request, now_ns);
}

void jobs_tick(struct coord *coord, uint64_t now_ns)
{
	for (uint32_t i = 0; i < coord->options.requests_max; i++)
		if (coord->requests[i].used)
			request_tick(coord, &coord->requests[i], now_ns);
}
