/* admission - who may wait, and whom a queue that is full sends away.
 *
 * A request that finds no pair at once waits, unless its tenant waits with all that it may, the wait that is to be expected
 * for it (what is ahead of it, over how fast waiting work begins) is over wait_max_ns or its own deadline, or there is no
 * place left.  The last place is not the first comer's: a lower class gives way to a higher one, and the tenant that waits
 * with most for its weight to the others; so flex is shed first, priority last, and nobody keeps others out by being many. */
#include <assert.h>
#include <stddef.h>

#include "coordinator/core_impl.h"

#define RETRY_FULL_NS 1000000000ull

enum {
	DECODE_COST = 4,       /* a token of an answer takes about as long as so many of a prompt, in a full batch */
	ANSWER_GUESS_MAX = 256, /* tokens that an answer is taken for, where more may come */
};

uint64_t admission_guess(const struct request *request)
{
	uint64_t answer = request->sampling.max_tokens < ANSWER_GUESS_MAX ? request->sampling.max_tokens : ANSWER_GUESS_MAX;
	return request->prompt_count + DECODE_COST * answer * request->choice_count;
}

/* What it was in the end: tokens that were found cost nothing. */
static uint64_t cost_of(const struct request *request)
{
	uint64_t cost = request->prompt_count - (request->outcome.cached_tokens < request->prompt_count ?
						 request->outcome.cached_tokens : request->prompt_count);
	for (uint32_t i = 0; i < request->choice_count; i++)
		cost += (uint64_t)DECODE_COST * request->choices[i].tokens.count;
	return cost;
}

void admission_end(struct coord *coord, struct request *request)
{
	fair_end(&coord->fair, &request->place, cost_of(request));
}

struct request *admission_request(struct fair_item *item)
{
	return (struct request *)(void *)((char *)item - offsetof(struct request, place));
}

uint64_t admission_wait_ns(const struct coord *coord, const struct request *request)
{
	const struct fair_item *place = &request->place;
	/* It may be among what waits. */
	uint64_t own = place->waiting ? 0 : place->cost;
	uint64_t ahead = fair_ahead(&coord->fair, place->tenant, place->class, own);
	if (place->waiting)
		ahead -= ahead < place->cost ? ahead : place->cost;
	return pace_wait_ns(&coord->pace, ahead);
}

static uint64_t retry_ns(uint64_t wait_ns, uint64_t bound_ns)
{
	uint64_t over = wait_ns > bound_ns ? wait_ns - bound_ns : 0;
	return over > RETRY_FULL_NS ? over : RETRY_FULL_NS;
}

static void send_away(struct coord *coord, struct request *victim, uint64_t now_ns)
{
	uint64_t wait_ns = admission_wait_ns(coord, victim);
	coord->counters.shed++;
	victim->outcome.retry_after_ns = retry_ns(wait_ns, 0);
	request_fail(coord, victim, ERR_AGAIN, "all nodes are busy, and others come first", now_ns);
}

static enum err check_tenant(const struct coord *coord, const struct request *request, struct why *why)
{
	const struct fair_tenant *tenant = &coord->fair.tenants[request->place.tenant];
	if (!tenant->share.waiting_max || tenant->waiting <= tenant->share.waiting_max)
		return ERR_OK;
	return why_set(why, ERR_AGAIN, "%u requests of this tenant wait already, as many as may", tenant->waiting - 1);
}

static enum err check_wait(const struct coord *coord, const struct request *request, uint64_t now_ns, struct why *why,
			   uint64_t *ret_retry_after_ns)
{
	uint64_t wait_ns = admission_wait_ns(coord, request), bound_ns = coord->options.wait_max_ns;
	if (request->deadline_ns && request->deadline_ns > now_ns && request->deadline_ns - now_ns < bound_ns)
		bound_ns = request->deadline_ns - now_ns;
	if (wait_ns <= bound_ns)
		return ERR_OK;
	*ret_retry_after_ns = retry_ns(wait_ns, bound_ns);
	return why_set(why, ERR_UNAVAILABLE, "all nodes are busy: the wait would be about %llu s",
		       (unsigned long long)(wait_ns / 1000000000));
}

/* The request waits.  What is not OK is refused by the caller. */
enum err admission_check(struct coord *coord, struct request *request, uint64_t now_ns, struct why *why,
			 uint64_t *ret_retry_after_ns)
{
	assert(request->place.waiting);
	*ret_retry_after_ns = RETRY_FULL_NS;
	enum err e = check_tenant(coord, request, why);
	if (e == ERR_OK)
		e = check_wait(coord, request, now_ns, why, ret_retry_after_ns);
	if (e != ERR_OK || coord->fair.waiting <= coord->options.queue_max)
		return e;
	struct fair_item *victim = fair_victim(&coord->fair, &request->place);
	if (victim == &request->place)
		return why_set(why, ERR_UNAVAILABLE, "all nodes are busy and the queue is full");
	send_away(coord, admission_request(victim), now_ns);
	return ERR_OK;
}
