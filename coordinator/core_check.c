/* core_check - the invariants of the core, asserted; for tests and simulation. */
#include <assert.h>

#include "coordinator/core_impl.h"

static bool half_lives(const struct half *half)
{
	return half->state == HALF_ASKED || half->state == HALF_HELD || half->state == HALF_RUNNING;
}

static void check_halves(const struct coord *coord, const struct job *job)
{
	for (int i = 0; i < 2; i++) {
		const struct half *half = &job->half[i];
		if (!half_lives(half)) {
			assert(!half->charged.jobs && !half->charged.sequences && !half->charged.tokens);
			continue;
		}
		/* Law 3: nothing is held at a node without a session. */
		assert(node_lives(&coord->registry.nodes[half->node]));
		assert(half->charged.jobs == (job->both ? 2 : 1));
	}
	assert(!(job->both && job->half[1].state != HALF_NONE));
}

static void check_job(const struct coord *coord, const struct job *job)
{
	check_halves(coord, job);
	bool asked = job->half[0].state == HALF_ASKED || job->half[1].state == HALF_ASKED;
	switch (job->state) {
	case JOB_FREE:
	case JOB_QUEUED:
	case JOB_RECOVERING:
		assert(job_halves_over(job));
		break;
	case JOB_RESERVING:
		assert(asked);
		break;
	case JOB_PREFILLING:
	case JOB_DECODING:
		assert(!job_starved(job) && !asked);
		break;
	case JOB_CLOSING:
		assert(!job->choices && !job_halves_over(job));
		break;
	default:
		assert(false);
	}
	assert(job->state == JOB_FREE || job->state == JOB_CLOSING || job->choices);
}

/* Each unfinished choice is in exactly one job, a finished one in none. */
static void check_request(const struct coord *coord, const struct request *request)
{
	uint32_t live = 0, in_jobs = 0;
	for (uint32_t i = 0; i < request->choice_count; i++) {
		const struct job *job = &request->jobs[i];
		check_job(coord, job);
		if (job->state == JOB_FREE)
			continue;
		assert(!(in_jobs & job->choices));
		in_jobs |= job->choices;
	}
	for (uint32_t i = 0; i < request->choice_count; i++) {
		const struct choice *choice = &request->choices[i];
		live += !choice->over;
		assert(choice->over == !(in_jobs >> i & 1));
		assert(choice->tokens.count <= request->sampling.max_tokens);
		assert(!choice->over || !choice->held_count);
	}
	assert(live == request->live);
}

static void check_lists(const struct coord *coord)
{
	uint32_t count = 0, queued = 0;
	const struct job *last = NULL;
	for (const struct job *job = coord->recovering.first; job; job = job->wait_next) {
		assert(job->state == JOB_RECOVERING);
		assert(job->request->used && job->wait_prev == last);
		assert(!last || last->since_ns <= job->since_ns);
		last = job;
		count++;
	}
	assert(count == coord->recovering.count && coord->recovering.last == last);
	fair_check(&coord->fair);
	for (uint32_t i = 0; i < coord->options.requests_max; i++) {
		const struct request *request = &coord->requests[i];
		if (!request->used)
			continue;
		bool waits = request->jobs[0].state == JOB_QUEUED;
		assert(waits == request->place.waiting && waits != request->place.running);
		queued += waits;
	}
	assert(queued == coord->fair.waiting);
}

/* What nodes are charged with is the sum over the halves. */
static void check_work(const struct coord *coord)
{
	for (uint32_t n = 0; n < coord->registry.count_max; n++) {
		struct work sum = {0};
		for (uint32_t i = 0; i < coord->options.requests_max; i++) {
			const struct request *request = &coord->requests[i];
			for (uint32_t j = 0; request->used && j < 2 * request->choice_count; j++) {
				const struct half *half = &request->jobs[j / 2].half[j % 2];
				if (!half_lives(half) || half->node != n)
					continue;
				sum.jobs += half->charged.jobs;
				sum.tokens += half->charged.tokens;
				sum.sequences += half->charged.sequences;
			}
		}
		const struct work *own = &coord->registry.nodes[n].own;
		assert(!coord->registry.nodes[n].id ||
		       (own->jobs == sum.jobs && own->tokens == sum.tokens && own->sequences == sum.sequences));
	}
}

static void check_memory(const struct coord *coord)
{
	uint32_t pages = 0, promised = 0, requests = 0, held = 0, free_held = 0;
	for (uint32_t i = 0; i < coord->options.requests_max; i++) {
		const struct request *request = &coord->requests[i];
		if (!request->used)
			continue;
		requests++;
		promised += request->promised;
		pages += tokens_pages(request->prompt.count) + tokens_pages(request->keys.count);
		for (uint32_t c = 0; c < request->choice_count; c++) {
			pages += tokens_pages(request->choices[c].tokens.count);
			held += request->choices[c].held_count;
		}
	}
	for (uint32_t h = coord->held_free; h != HELD_NONE; h = coord->held[h].next)
		free_held++;
	assert(pages == coord->pool.used && promised == coord->pool.promised && pages <= promised);
	assert(requests == coord->counters.requests);
	assert(held + free_held == coord->options.held_max);
}

void coord_check(const struct coord *coord)
{
	for (uint32_t i = 0; i < coord->options.requests_max; i++)
		if (coord->requests[i].used)
			check_request(coord, &coord->requests[i]);
	check_lists(coord);
	check_work(coord);
	check_memory(coord);
	index_check(coord->index);
}
