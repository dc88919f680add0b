/* request - from acceptance to the one on_end. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/core_impl.h"
#include "proto/codec.h"

#define RETRY_NOBODY_NS 2000000000ull
#define RETRY_FULL_NS   1000000000ull

/* Another node would say the same. */
bool error_is_final(enum err e)
{
	return e == ERR_INVALID || e == ERR_TOO_LARGE || e == ERR_UNSUPPORTED || e == ERR_DENIED;
}

/* ---- the end */

static void count_end(struct coord *coord, const struct coord_outcome *outcome)
{
	struct coord_counters *c = &coord->counters;
	c->cached_tokens += outcome->cached_tokens;
	switch (outcome->error) {
	case ERR_OK:
		c->ended_ok++;
		break;
	case ERR_CANCELED:
		c->ended_canceled++;
		break;
	case ERR_DEADLINE:
		c->ended_deadline++;
		break;
	case ERR_UNAVAILABLE:
		c->ended_unavailable++;
		break;
	default:
		c->ended_other++;
	}
}

static void free_request(struct coord *coord, struct request *request)
{
	admission_end(coord, request);
	for (uint32_t i = 0; i < request->choice_count; i++) {
		choice_drop_held(coord, &request->choices[i]);
		tokens_free(&coord->pool, &request->choices[i].tokens);
	}
	tokens_free(&coord->pool, &request->prompt);
	tokens_free(&coord->pool, &request->keys);
	tokens_release(&coord->pool, request->promised);
	request->used = false;
	request->next_free = coord->request_free;
	coord->request_free = (uint32_t)(request - coord->requests);
	coord->counters.requests--;
}

void request_end(struct coord *coord, struct request *request, uint64_t now_ns)
{
	struct coord_outcome *outcome = &request->outcome;
	for (uint32_t i = 0; i < request->choice_count; i++) {
		assert(request->jobs[i].state == JOB_FREE);
		outcome->finish[i] = request->choices[i].finish;
		outcome->generated[i] = request->choices[i].tokens.count;
	}
	for (uint32_t i = 0; i < outcome->attempts_listed; i++)
		if (!outcome->attempt[i].ended_ns)
			outcome->attempt[i].ended_ns = now_ns;
	outcome->timings.total_ns = now_ns - request->accepted_ns;
	count_end(coord, outcome);
	env_trace(coord->options.env, "coordinator > request %llu ends: %s", (unsigned long long)request->number,
		  err_text(outcome->error));
	coord->in_hook = true;
	coord->options.hooks.on_end(coord->options.hooks.context, outcome);
	coord->in_hook = false;
	free_request(coord, request);
}

void request_fail(struct coord *coord, struct request *request, enum err e, const char *why, uint64_t now_ns)
{
	for (uint32_t i = 0; i < request->choice_count; i++) {
		struct job *job = &request->jobs[i];
		if (job->state == JOB_FREE)
			continue;
		if (job->state == JOB_QUEUED || job->state == JOB_RECOVERING)
			job_unwait(coord, job);
		job_drop_halves(coord, job, e == ERR_OK ? ERR_CANCELED : e);
		if (job->last_error != ERR_OK)
			why_set(&request->outcome.why, e, "%s; last: %s", why, err_text(job->last_error));
		job_move(job, JOB_FREE);
	}
	request->outcome.error = e;
	if (!request->outcome.why.text[0])
		why_set(&request->outcome.why, e, "%s", why);
	if (e == ERR_UNAVAILABLE)
		request->outcome.retry_after_ns = RETRY_NOBODY_NS;
	request_end(coord, request, now_ns);
}

static bool owed(const struct request *request)
{
	for (uint32_t r = 0; r < request->outcome.attempts_listed; r++)
		if (request->records[r].open[0] || request->records[r].open[1])
			return true;
	return false;
}

void request_settle(struct coord *coord, struct request *request, uint64_t now_ns)
{
	if (request->live)
		return;
	for (uint32_t i = 0; i < request->choice_count; i++)
		if (request->jobs[i].state != JOB_FREE)
			return;
	if (!owed(request) || now_ns >= request->over_ns + coord->options.end_ns)
		request_end(coord, request, now_ns);
}

/* ---- acceptance */

static enum err check_texts(const struct coord_request *r, struct why *why)
{
	const char *texts[] = {r->id, r->model, r->tenant};
	const char *names[] = {"request id", "model", "tenant"};
	for (int i = 0; i < 3; i++)
		if (!texts[i] || strnlen(texts[i], COORD_TEXT_MAX + 1) > COORD_TEXT_MAX)
			return why_set(why, ERR_INVALID, "%s: over %d bytes", names[i], COORD_TEXT_MAX);
	if (r->salt_length > COORD_SALT_MAX)
		return why_set(why, ERR_INVALID, "tenant salt: %u bytes, at most %d", r->salt_length, COORD_SALT_MAX);
	return ERR_OK;
}

static enum err check(const struct coord *coord, const struct coord_request *r, struct why *why)
{
	if (coord->draining)
		return why_set(why, ERR_DRAINING, "this coordinator is draining");
	if (r->prompt_count < 1)
		return why_set(why, ERR_INVALID, "the prompt has no token");
	if (r->choice_count < 1 || r->choice_count > coord->options.choices_max)
		return why_set(why, ERR_INVALID, "n is %u, expected 1 to %u", r->choice_count, coord->options.choices_max);
	if (r->sampling.max_tokens < 1)
		return why_set(why, ERR_INVALID, "max_tokens is 0, expected at least 1");
	if (r->sampling.prompt_logprobs > SAMPLING_TOP_LOGPROBS_MAX + 1)
		return why_set(why, ERR_INVALID, "prompt_logprobs %u", r->sampling.prompt_logprobs);
	if (r->structure && strnlen(r->structure, PROTO_STRUCTURE_MAX + 1) > PROTO_STRUCTURE_MAX)
		return why_set(why, ERR_INVALID, "structure: over %d bytes", PROTO_STRUCTURE_MAX);
	if (r->class >= COORD_CLASSES)
		return why_set(why, ERR_INVALID, "class %d", (int)r->class);
	if ((uint64_t)r->prompt_count + r->sampling.max_tokens > coord->options.context_max)
		return why_set(why, ERR_TOO_LARGE, "%u prompt tokens and max_tokens %u are over the context of %u tokens",
			       r->prompt_count, r->sampling.max_tokens, coord->options.context_max);
	return check_texts(r, why);
}

/* Is the model known, does the context fit any of its nodes, and does a pair of them live? */
static enum err check_nodes(const struct coord *coord, const struct coord_request *r, struct why *why)
{
	struct wanted wanted = {.model = r->model, .tokens = r->prompt_count + r->sampling.max_tokens};
	bool known = false, fits = false;
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		const struct registry_node *node = &coord->registry.nodes[i];
		if (!node->id || !node_serves(node, r->model))
			continue;
		known = true;
		fits |= !node->announced.context_max || wanted.tokens <= node->announced.context_max;
	}
	if (!known)
		return why_set(why, ERR_NOT_FOUND, "no node serves model %s", r->model);
	if (!fits)
		return why_set(why, ERR_TOO_LARGE, "%u prompt tokens and max_tokens %u are over the model's context",
			       r->prompt_count, r->sampling.max_tokens);
	return pairs_live(coord, &wanted, why) ? ERR_OK : ERR_UNAVAILABLE;
}

static uint32_t pages_of(const struct coord_request *r)
{
	uint64_t keys = (uint64_t)r->prompt_count / BLOCK_TOKENS_MIN * 4;
	return tokens_pages(r->prompt_count) + tokens_pages(keys) + r->choice_count * tokens_pages(r->sampling.max_tokens);
}

static void copy_request(struct coord *coord, struct request *request, const struct coord_request *r,
			 uint64_t now_ns)
{
	request->user = r->user;
	strcpy(request->id, r->id); /* lengths: check_texts() */
	strcpy(request->model, r->model);
	strcpy(request->tenant, r->tenant);
	if (r->salt_length)
		memcpy(request->salt, r->salt, r->salt_length);
	request->salt_length = r->salt_length;
	request->sampling = r->sampling;
	request->structure = r->structure ? r->structure : "";
	request->class = r->class;
	request->prompt_count = r->prompt_count;
	request->choice_count = request->live = r->choice_count;
	request->place = (struct fair_item){
		.tenant = fair_tenant(&coord->fair, r->tenant, &r->share),
		.class = (uint8_t)r->class,
		.cost = admission_guess(request),
	};
	request->deadline_ns = r->deadline_ns;
	request->accepted_ns = now_ns;
	tokens_append(&coord->pool, &request->prompt, r->tokens, r->prompt_count);
	for (uint32_t i = 0; i < r->choice_count; i++) {
		request->choices[i] = (struct choice){0};
		request->jobs[i] = (struct job){.request = request, .record = RECORD_NONE};
	}
}

static struct request *take_request(struct coord *coord, uint32_t pages)
{
	uint32_t index = coord->request_free;
	if (index == UINT32_MAX || !tokens_promise(&coord->pool, pages))
		return NULL;
	struct request *request = &coord->requests[index];
	coord->request_free = request->next_free;
	struct choice *choices = request->choices;
	struct job *jobs = request->jobs;
	memset(request, 0, sizeof(*request));
	request->used = true;
	request->choices = choices;
	request->jobs = jobs;
	request->promised = pages;
	request->number = ++coord->serial * coord->options.requests_max + index;
	coord->counters.requests++;
	return request;
}

static enum err refuse_full(struct coord *coord, struct why *why, uint64_t *ret_retry_after_ns)
{
	coord->counters.refused_unavailable++;
	*ret_retry_after_ns = RETRY_FULL_NS;
	return why_set(why, ERR_UNAVAILABLE, "all nodes are busy and the queue is full");
}

static enum err refuse(struct coord *coord, enum err e, uint64_t *ret_retry_after_ns)
{
	*ret_retry_after_ns = e == ERR_UNAVAILABLE ? RETRY_NOBODY_NS : 0;
	if (e == ERR_UNAVAILABLE)
		coord->counters.refused_unavailable++;
	else
		coord->counters.refused_other++;
	return e;
}

static void begin(struct coord *coord, struct request *request, uint64_t now_ns)
{
	struct coord_outcome *outcome = &request->outcome;
	outcome->request = request->number;
	outcome->user = request->user;
	outcome->choice_count = request->choice_count;
	coord->counters.accepted++;
	coord->counters.prompt_tokens += request->prompt_count;
	struct job *job = &request->jobs[0];
	job->number = request->number;
	job->choices = (1u << request->choice_count) - 1;
	job_wait(coord, job, JOB_QUEUED, now_ns);
}

/* What finds no pair at once may have to go. */
static enum err admit(struct coord *coord, struct request *request, uint64_t now_ns, struct why *why,
		      uint64_t *ret_retry_after_ns)
{
	bool first = coord->fair.waiting == 0;
	begin(coord, request, now_ns);
	if (!first)
		jobs_pump(coord, now_ns);
	else if (fair_may_run(&coord->fair, request->place.tenant))
		job_try(coord, &request->jobs[0], now_ns);
	pace_tick(&coord->pace, coord->fair.waiting > 0, now_ns);
	return request->place.waiting ? admission_check(coord, request, now_ns, why, ret_retry_after_ns) : ERR_OK;
}

static void unbegin(struct coord *coord, struct request *request)
{
	job_unwait(coord, &request->jobs[0]);
	job_move(&request->jobs[0], JOB_FREE);
	coord->counters.accepted--;
	coord->counters.prompt_tokens -= request->prompt_count;
	free_request(coord, request);
}

/* Membership and sessions come a moment after the API: a coordinator that was started again must not refuse what the
 * cluster can do. */
static bool opening(const struct coord *coord, uint64_t now_ns)
{
	return coord->options.opening_ns && now_ns < coord->opened_ns + coord->options.opening_ns;
}

enum err coord_submit(struct coord *coord, const struct coord_request *r, uint64_t now_ns, struct why *why,
		      uint64_t *ret_request, uint64_t *ret_retry_after_ns)
{
	assert(!coord->in_hook);
	if (!coord->opened_ns)
		coord->opened_ns = now_ns;
	enum err e = check(coord, r, why);
	if (e == ERR_OK)
		e = check_nodes(coord, r, why);
	if ((e == ERR_NOT_FOUND || e == ERR_UNAVAILABLE) && opening(coord, now_ns))
		e = ERR_OK;
	if (e != ERR_OK)
		return refuse(coord, e, ret_retry_after_ns);
	struct request *request = take_request(coord, pages_of(r));
	if (!request)
		return refuse_full(coord, why, ret_retry_after_ns);
	copy_request(coord, request, r, now_ns);
	e = admit(coord, request, now_ns, why, ret_retry_after_ns);
	if (e != ERR_OK) {
		unbegin(coord, request);
		coord->counters.refused_unavailable++;
		return e;
	}
	*ret_request = request->number;
	return ERR_OK;
}

/* ---- the client's side */

static struct request *find_exact(struct coord *coord, uint64_t number)
{
	struct request *request = request_find(coord, number);
	return request && request->number == number ? request : NULL;
}

void coord_cancel(struct coord *coord, uint64_t number, uint64_t now_ns)
{
	assert(!coord->in_hook);
	struct request *request = find_exact(coord, number);
	if (!request)
		return;
	request_fail(coord, request, ERR_CANCELED, "the client is gone", now_ns);
	jobs_pump(coord, now_ns);
}

void coord_choice_done(struct coord *coord, uint64_t number, uint32_t choice, uint64_t now_ns)
{
	assert(!coord->in_hook);
	struct request *request = find_exact(coord, number);
	if (!request || choice >= request->choice_count || request->choices[choice].over)
		return;
	for (uint32_t i = 0; i < request->choice_count; i++) {
		struct job *job = &request->jobs[i];
		if (job->state == JOB_FREE || !(job->choices >> choice & 1))
			continue;
		choice_end(coord, job, choice, WIRE__FINISH__FINISH_STOP, true, now_ns);
		return;
	}
}
