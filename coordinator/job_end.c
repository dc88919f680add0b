/* job_end - a half says how it ended, and what became of the prompt there. */
#include <assert.h>
#include <string.h>

#include "coordinator/core_impl.h"

/* ---- accounting */

static void copy_name(char out[COORD_NAME_MAX + 1], const char *name)
{
	memcpy(out, name, COORD_NAME_MAX + 1);
}

/* A place for the new attempt; when the list is full, that of an old one that owes nothing (never the first). */
static uint32_t record_take(struct request *request)
{
	if (request->outcome.attempts_listed < COORD_ATTEMPTS_LISTED)
		return request->outcome.attempts_listed++;
	for (uint32_t i = 1; i < COORD_ATTEMPTS_LISTED; i++)
		if (!request->records[i].open[0] && !request->records[i].open[1])
			return i;
	return RECORD_NONE;
}

void record_start(struct coord *coord, struct job *job, uint64_t now_ns)
{
	struct request *request = job->request;
	request->outcome.attempts++;
	coord->counters.attempts++;
	job->record = record_take(request);
	if (job->record == RECORD_NONE)
		return;
	struct coord_attempt *attempt = &request->outcome.attempt[job->record];
	*attempt = (struct coord_attempt){
		.job = job->number,
		.attempt = job->attempt,
		.choices = job->choices,
		.context = job_context(job),
		.both_halves = job->both,
		.started_ns = now_ns,
	};
	struct record *record = &request->records[job->record];
	*record = (struct record){.open = {true, !job->both}, .node = {job->half[0].node, job->half[1].node}};
	copy_name(attempt->prefill_name, core_node(coord, job->half[0].node)->announced.name);
	copy_name(attempt->decode_name, core_node(coord, job->half[job->both ? 0 : 1].node)->announced.name);
}

struct coord_attempt *record_of(const struct job *job)
{
	return job->record == RECORD_NONE ? NULL : &job->request->outcome.attempt[job->record];
}

static void add(struct coord_accounting *sum, const Wire__Accounting *wire)
{
	sum->context += wire->context;
	sum->computed += wire->computed;
	sum->reused += wire->reused;
	sum->fetched += wire->fetched;
	sum->transferred += wire->transferred;
	sum->blocks_read += wire->blocks_read;
	sum->bytes_read += wire->bytes_read;
	sum->miss_not_found += wire->miss_not_found;
	sum->miss_deadline += wire->miss_deadline;
	sum->miss_digest += wire->miss_digest;
	sum->miss_generation += wire->miss_generation;
	sum->miss_gone += wire->miss_gone;
	sum->queue_ns += wire->queue_ns;
	sum->fetch_ns += wire->fetch_ns;
	sum->compute_ns += wire->compute_ns;
	sum->transfer_ns += wire->transfer_ns;
	if (!wire->transport[0])
		return;
	size_t length = strnlen(wire->transport, sizeof(sum->transport) - 1);
	memcpy(sum->transport, wire->transport, length);
	sum->transport[length] = 0;
}

static void account_record(struct request *request, uint32_t r, uint32_t half, const Wire__Accounting *wire)
{
	struct coord_attempt *attempt = &request->outcome.attempt[r];
	request->records[r].open[half] = false;
	add(half ? &attempt->decode : &attempt->prefill, wire);
	if (half)
		attempt->decode_ended = true;
	else
		attempt->prefill_ended = true;
	if (attempt->both_halves)
		attempt->decode_ended = true;
	/* What others had left: not what a later try did, which one that was given up and wakes may find. */
	if (r == 0 && half == 0 && request->outcome.attempts == 1)
		request->outcome.cached_tokens = wire->reused + wire->fetched;
}

/* The listed attempt that this end belongs to, or RECORD_NONE. */
static uint32_t record_find(const struct request *request, uint32_t node, uint32_t half, const Wire__JobId *id)
{
	for (uint32_t r = 0; r < request->outcome.attempts_listed; r++) {
		const struct coord_attempt *attempt = &request->outcome.attempt[r];
		const struct record *record = &request->records[r];
		if (attempt->job == id->number && attempt->attempt == id->attempt && record->open[half] &&
		    record->node[half] == node)
			return r;
	}
	return RECORD_NONE;
}

static void account(struct coord *coord, uint32_t node, const Wire__JobEnd *end, const struct job *job)
{
	struct request *request = request_find(coord, end->job->number);
	if (!request || end->job->coordinator != coord->options.node) {
		coord->counters.messages_stray++;
		return;
	}
	uint32_t half = end->half == WIRE__HALF__HALF_DECODE ? 1 : 0;
	uint32_t r = record_find(request, node, half, end->job);
	bool unlisted = job && job->record == RECORD_NONE && job->half[half].state == HALF_RUNNING;
	if (r == RECORD_NONE && !unlisted) {
		coord->counters.messages_stray++; /* a reservation that was cancelled, or a second end */
		return;
	}
	if (r != RECORD_NONE)
		account_record(request, r, half, end->accounting);
	add(half ? &request->outcome.decode : &request->outcome.prefill, end->accounting);
}

/* ---- what it means for the job */

/* Whom to keep away from: an end that tells of a lost or wrong peer is about the other half. */
static uint32_t blame(const struct job *job, uint32_t half, enum err e)
{
	bool other = err_scope(e) == ERR_SCOPE_PEER || e == ERR_CORRUPT || e == ERR_STALE;
	return other && !job->both ? 1 - half : half;
}

/* Decode could not get what prefill announced, in time or whole: one of the two, or what lies between them. */
static bool tells_of_the_way(const struct job *job, uint32_t half, enum err e)
{
	return half == 1 && !job->both && !job->decode_proven &&
	       (e == ERR_DEADLINE || e == ERR_PEER_GONE || e == ERR_CORRUPT || e == ERR_STALE);
}

static void end_running(struct coord *coord, struct job *job, uint32_t half, enum err e, uint64_t now_ns)
{
	bool last = half == 1 || job->both;
	uint32_t to_blame = blame(job, half, e);
	if (tells_of_the_way(job, half, e))
		job_set_apart(coord, job, now_ns);
	half_over(coord, &job->half[half]);
	if (e != ERR_OK && (last || !job->decode_proven))
		job_fail(coord, job, to_blame, e, CAUSE_JOB_END, now_ns);
	else if (job_starved(job))
		job_fail(coord, job, half, ERR_PROTOCOL, CAUSE_PROTOCOL, now_ns);
}

void jobs_job_end(struct coord *coord, uint32_t node, const Wire__JobEnd *end, uint64_t now_ns)
{
	struct job *job = job_find(coord, end->job);
	account(coord, node, end, job);
	uint32_t half = job ? job_half_of(job, node) : 2;
	if (half < 2) {
		job->half[half].cancelled = true; /* it is gone there */
		if (job->state == JOB_RESERVING) {
			job_refused(coord, job, half, end->error == ERR_OK ? ERR_PROTOCOL : (enum err)end->error, now_ns);
		} else if (job->state == JOB_CLOSING) {
			half_over(coord, &job->half[half]);
			if (job_halves_over(job))
				job_move(job, JOB_FREE);
		} else {
			end_running(coord, job, half, (enum err)end->error, now_ns);
		}
	}
	struct request *request = request_find(coord, end->job->number);
	if (request)
		request_settle(coord, request, now_ns);
}
