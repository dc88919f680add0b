/* job - the states of a job, what it holds at its two nodes, and where it waits.
 *
 *             coord_submit             job_ask                jobs_reserved (both)        first token
 *      FREE ----------------> QUEUED -----------> RESERVING ------------------> PREFILLING ----------> DECODING
 *       |                       ^  job_refused        |  |  ^                        |                     |
 *       |                       +---------------------+  |  | job_ask                |      job_fail       |
 *       |   split                            job_refused |  |                        v                     v
 *       +--------------------------------------------> RECOVERING <------------------+---------------------+
 *                                                                                    |  last choice ends   |
 *      FREE <----------------------------- CLOSING <---------------------------------+---------------------+
 *           both JobEnds, or end_ns
 *
 * Every state may go to FREE when the request fails or is cancelled: what is held is cancelled on the way. */
#include <assert.h>
#include <string.h>

#include "base/planted.h"
#include "coordinator/core_impl.h"
#include "proto/codec.h"

static const uint8_t moves[JOB_STATES] = {
	[JOB_FREE] = 1 << JOB_QUEUED | 1 << JOB_RECOVERING,
	[JOB_QUEUED] = 1 << JOB_RESERVING | 1 << JOB_FREE,
	[JOB_RESERVING] = 1 << JOB_PREFILLING | 1 << JOB_QUEUED | 1 << JOB_RECOVERING | 1 << JOB_FREE,
	[JOB_PREFILLING] = 1 << JOB_DECODING | 1 << JOB_CLOSING | 1 << JOB_RECOVERING | 1 << JOB_FREE,
	[JOB_DECODING] = 1 << JOB_CLOSING | 1 << JOB_RECOVERING | 1 << JOB_FREE,
	[JOB_RECOVERING] = 1 << JOB_RESERVING | 1 << JOB_FREE,
	[JOB_CLOSING] = 1 << JOB_FREE,
};

const char *job_state_text(enum job_state state)
{
	static const char *const texts[JOB_STATES] = {"free",       "queued",   "reserving",  "prefilling",
						      "decoding", "recovering", "closing"};
	return texts[state];
}

bool job_may_move(enum job_state from, enum job_state to)
{
	return moves[from] >> to & 1;
}

void job_move(struct job *job, enum job_state to)
{
	assert(job_may_move(job->state, to));
	job->state = to;
}

/* ---- waiting lists */

/* A job that waited before keeps its time of arrival, and with it its place and its bound. */
void job_wait(struct coord *coord, struct job *job, enum job_state state, uint64_t now_ns)
{
	job_move(job, state);
	if (!job->since_ns)
		job->since_ns = now_ns;
	if (state == JOB_QUEUED) {
		fair_wait(&coord->fair, &job->request->place, job->since_ns);
		return;
	}
	struct wait_list *list = &coord->recovering;
	struct job *after = list->last;
	while (after && after->since_ns > job->since_ns)
		after = after->wait_prev;
	job->wait_prev = after;
	job->wait_next = after ? after->wait_next : list->first;
	*(after ? &after->wait_next : &list->first) = job;
	*(job->wait_next ? &job->wait_next->wait_prev : &list->last) = job;
	list->count++;
}

void job_unwait(struct coord *coord, struct job *job)
{
	assert(job->state == JOB_QUEUED || job->state == JOB_RECOVERING);
	if (job->state == JOB_QUEUED) {
		fair_leave(&coord->fair, &job->request->place);
		return;
	}
	struct wait_list *list = &coord->recovering;
	*(job->wait_prev ? &job->wait_prev->wait_next : &list->first) = job->wait_next;
	*(job->wait_next ? &job->wait_next->wait_prev : &list->last) = job->wait_prev;
	job->wait_prev = job->wait_next = NULL;
	list->count--;
}

/* ---- halves */

void half_charge(struct coord *coord, struct half *half, struct work work)
{
	struct work *own = &core_node(coord, half->node)->own;
	half->charged = work;
	own->tokens += work.tokens;
	own->sequences += work.sequences;
	own->jobs += work.jobs;
}

void half_discharge(struct coord *coord, struct half *half)
{
	struct work *own = &core_node(coord, half->node)->own;
	own->tokens -= half->charged.tokens;
	own->sequences -= half->charged.sequences;
	own->jobs -= half->charged.jobs;
	half->charged = (struct work){0};
}

void half_over(struct coord *coord, struct half *half)
{
	if (half->state == HALF_NONE || half->state == HALF_OVER)
		return;
	half_discharge(coord, half);
	half->state = HALF_OVER;
}

void half_cancel(struct coord *coord, const struct job *job, struct half *half, enum err why)
{
	if (half->state == HALF_NONE || half->state == HALF_OVER || half->cancelled)
		return;
	Wire__JobId id;
	core_job_id(coord, job, &id);
	Wire__Cancel cancel = WIRE__CANCEL__INIT;
	cancel.job = &id;
	cancel.error = why;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_CANCEL;
	envelope.cancel = &cancel;
	if (!planted(ABORT_NOT_TOLD))
		core_send(coord, half->node, &envelope);
	half->cancelled = true;
}

void job_drop_halves(struct coord *coord, struct job *job, enum err why)
{
	for (int i = 0; i < 2; i++) {
		half_cancel(coord, job, &job->half[i], why);
		half_over(coord, &job->half[i]);
	}
}

bool job_halves_over(const struct job *job)
{
	for (int i = 0; i < 2; i++)
		if (job->half[i].state != HALF_NONE && job->half[i].state != HALF_OVER)
			return false;
	return true;
}

uint32_t job_half_of(const struct job *job, uint32_t node)
{
	for (uint32_t i = 0; i < 2; i++)
		if (job->half[i].state != HALF_NONE && job->half[i].state != HALF_OVER && job->half[i].node == node)
			return i;
	return 2;
}

/* ---- nodes to avoid */

void job_avoid(struct coord *coord, struct job *job, uint32_t node, uint32_t level)
{
	uint64_t incarnation = core_node(coord, node)->incarnation;
	for (int i = 0; i < AVOIDED_MAX; i++) {
		struct avoided *a = &job->avoided[i];
		if (!a->level || a->node != node || a->incarnation != incarnation)
			continue;
		if (level > a->level)
			a->level = level;
		return;
	}
	job->avoided[job->avoided_next] = (struct avoided){node, incarnation, level};
	job->avoided_next = (job->avoided_next + 1) % AVOIDED_MAX;
}

uint32_t job_avoids(const struct coord *coord, const struct job *job, uint32_t node)
{
	for (int i = 0; i < AVOIDED_MAX; i++)
		if (job->avoided[i].level && job->avoided[i].node == node &&
		    job->avoided[i].incarnation == coord->registry.nodes[node].incarnation)
			return job->avoided[i].level;
	return 0;
}

/* ---- by number */

uint32_t job_context(const struct job *job)
{
	uint32_t first = (uint32_t)__builtin_ctz(job->choices);
	return job->request->prompt_count + job->request->choices[first].tokens.count;
}

/* Numbers are serial * requests_max + the request's slot: found without a table. */
struct request *request_find(struct coord *coord, uint64_t number)
{
	struct request *request = &coord->requests[number % coord->options.requests_max];
	return request->used ? request : NULL;
}

struct job *job_find(struct coord *coord, const Wire__JobId *id)
{
	struct request *request = id->coordinator == coord->options.node ? request_find(coord, id->number) : NULL;
	for (uint32_t i = 0; request && i < request->choice_count; i++) {
		struct job *job = &request->jobs[i];
		if (job->state != JOB_FREE && job->number == id->number)
			return job->attempt == id->attempt || planted(OLDER_ATTEMPT_ACCEPTED) ? job : NULL;
	}
	return NULL;
}
