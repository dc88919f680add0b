/* job_reserve - both halves or neither: Reserve, the answers, Start, and the waiting for a pair. */
#include <assert.h>
#include <string.h>

#include "coordinator/core_impl.h"
#include "proto/codec.h"

enum { PUMP_TRIES_MAX = 16 };

#define BACKOFF_NS     20000000ull  /* after the first refusal; doubles */
#define BACKOFF_MAX_NS 320000000ull
#define FULL_NS        50000000ull  /* how long a node that refused is taken for full: until it may have reported */

/* Everything that a Reserve points to. */
struct reserve_parts {
	Wire__Reserve reserve;
	Wire__JobId id;
	Wire__Sampling sampling;
	Wire__TokenBias biases[SAMPLING_BIAS_MAX];
	Wire__TokenBias *bias_pointers[SAMPLING_BIAS_MAX];
	uint32_t choices[SAMPLING_CHOICES_MAX];
	Wire__Holder holders[HOLDERS_MAX];
	Wire__Holder *holder_pointers[HOLDERS_MAX];
};

/* The deepest holders of the context, without the receiver: hints where to read from. */
static void put_holders(const struct coord *coord, struct reserve_parts *parts, uint32_t receiver)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		uint32_t depth = coord->scratch.depths[i];
		if (!depth || i == receiver || !node_lives(&coord->registry.nodes[i]))
			continue;
		if (count == HOLDERS_MAX && depth <= parts->holders[count - 1].blocks)
			continue;
		uint32_t at = count < HOLDERS_MAX ? count++ : count - 1;
		for (; at > 0 && parts->holders[at - 1].blocks < depth; at--)
			parts->holders[at] = parts->holders[at - 1];
		wire__holder__init(&parts->holders[at]);
		parts->holders[at].node = coord->registry.nodes[i].id;
		parts->holders[at].blocks = depth;
	}
	for (uint32_t i = 0; i < count; i++)
		parts->holder_pointers[i] = &parts->holders[i];
	parts->reserve.n_holders = count;
	parts->reserve.holders = parts->holder_pointers;
}

static void put_request(struct coord *coord, struct reserve_parts *parts, const struct job *job, uint64_t now_ns)
{
	struct request *request = job->request;
	Wire__Reserve *reserve = &parts->reserve;
	wire__reserve__init(reserve);
	core_job_id(coord, job, &parts->id);
	reserve->job = &parts->id;
	reserve->model = request->model;
	reserve->tenant = request->tenant;
	reserve->tenant_salt = (ProtobufCBinaryData){request->salt_length, request->salt};
	reserve->priority = request->class == COORD_FLEX ? WIRE__PRIORITY__PRIORITY_LOW : WIRE__PRIORITY__PRIORITY_NORMAL;
	reserve->request = request->id;
	reserve->tokens = coord->scratch.tokens;
	reserve->n_tokens = job_context(job);
	reserve->prompt_count = request->prompt_count;
	reserve->scored = request->scored;
	reserve->choices = parts->choices;
	for (uint32_t rest = job->choices; rest; rest &= rest - 1)
		parts->choices[reserve->n_choices++] = (uint32_t)__builtin_ctz(rest);
	codec_sampling_put(&request->sampling, &parts->sampling, parts->biases, parts->bias_pointers);
	reserve->sampling = &parts->sampling;
	reserve->structure = (char *)request->structure; /* read only: packing does not write */
	if (request->deadline_ns)
		reserve->deadline_ns = request->deadline_ns > now_ns ? request->deadline_ns - now_ns : 1;
}

static void send_reserve(struct coord *coord, struct reserve_parts *parts, const struct job *job, uint32_t half)
{
	Wire__Reserve *reserve = &parts->reserve;
	struct registry_node *node = core_node(coord, job->half[half].node);
	reserve->half = job->both ? WIRE__HALF__HALF_BOTH : half == 0 ? WIRE__HALF__HALF_PREFILL : WIRE__HALF__HALF_DECODE;
	reserve->compat = (ProtobufCBinaryData){sizeof(node->compat.bytes), node->compat.bytes};
	if (!job->both) {
		const struct registry_node *partner = core_node(coord, job->half[1 - half].node);
		reserve->partner = partner->id;
		reserve->partner_incarnation = partner->incarnation;
	}
	put_holders(coord, parts, job->half[half].node);
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_RESERVE;
	envelope.reserve = reserve;
	core_send(coord, job->half[half].node, &envelope);
}

static void bind_halves(struct coord *coord, struct job *job, const struct route_record *route)
{
	uint32_t uncached = route->cached < route->context ? route->context - route->cached : 1;
	uint32_t sequences = (uint32_t)__builtin_popcount(job->choices);
	job->both = route->prefill == route->decode;
	job->uncached = uncached;
	job->half[0] = (struct half){.state = HALF_ASKED, .node = route->prefill};
	job->half[1] = job->both ? (struct half){0} : (struct half){.state = HALF_ASKED, .node = route->decode};
	half_charge(coord, &job->half[0], (struct work){uncached, job->both ? sequences : 0, job->both ? 2 : 1});
	if (!job->both)
		half_charge(coord, &job->half[1], (struct work){0, sequences, 1});
}

void job_ask(struct coord *coord, struct job *job, const struct route_record *route, uint64_t now_ns)
{
	struct request *request = job->request;
	if (job->state == JOB_QUEUED) {
		pace_begin(&coord->pace, request->place.cost);
		fair_run(&coord->fair, &request->place);
	} else {
		job_unwait(coord, job);
	}
	job_move(job, JOB_RESERVING);
	job->attempt++;
	job->asked_ns = now_ns;
	job->decode_proven = false;
	job->record = RECORD_NONE;
	if (!request->outcome.attempts)
		request->outcome.timings.queue_ns = now_ns - request->accepted_ns;
	if (!request->pinned)
		request->compat = core_node(coord, route->prefill)->compat;
	bind_halves(coord, job, route);
	struct reserve_parts parts;
	put_request(coord, &parts, job, now_ns);
	env_trace(coord->options.env, "coordinator > request %llu attempt %u: ask %s and %s, %u of %u tokens cached",
		  (unsigned long long)job->number, job->attempt, core_node(coord, route->prefill)->announced.name,
		  core_node(coord, route->decode)->announced.name, route->cached, route->context);
	for (uint32_t half = 0; half < (job->both ? 1 : 2); half++)
		send_reserve(coord, &parts, job, half);
}

static void send_start(struct coord *coord, struct job *job)
{
	Wire__JobId id;
	core_job_id(coord, job, &id);
	Wire__Start start = WIRE__START__INIT;
	start.job = &id;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_START;
	envelope.start = &start;
	for (int i = 0; i < 2; i++) {
		if (job->half[i].state == HALF_NONE)
			continue;
		job->half[i].state = HALF_RUNNING;
		core_send(coord, job->half[i].node, &envelope);
	}
}

static void start(struct coord *coord, struct job *job, uint64_t now_ns)
{
	struct request *request = job->request;
	job_move(job, JOB_PREFILLING);
	job->started++;
	job->refusals = 0;
	job->since_ns = job->retry_ns = 0;
	job->progress_ns = now_ns;
	for (uint32_t rest = job->choices; rest; rest &= rest - 1) {
		struct choice *choice = &request->choices[__builtin_ctz(rest)];
		choice->base = choice->tokens.count;
	}
	if (!request->outcome.attempts)
		request->outcome.timings.reserve_ns = now_ns - job->asked_ns;
	record_start(coord, job, now_ns);
	send_start(coord, job);
}

/* The expected half of a wire half on a job. */
static bool half_fits(const struct job *job, uint32_t half, Wire__Half wire)
{
	return wire == (job->both ? WIRE__HALF__HALF_BOTH : half == 0 ? WIRE__HALF__HALF_PREFILL : WIRE__HALF__HALF_DECODE);
}

/* A node holds what nobody here waits for: its Reserve came twice, or late, after the job's end there.  Rule 5: it is
 * cancelled, for nobody else would. */
static void release_stray(struct coord *coord, uint32_t node, const Wire__Reserved *reserved)
{
	if (reserved->error != ERR_OK || reserved->job->coordinator != coord->options.node)
		return;
	Wire__Cancel cancel = WIRE__CANCEL__INIT;
	cancel.job = reserved->job;
	cancel.error = ERR_CANCELED;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_CANCEL;
	envelope.cancel = &cancel;
	core_send(coord, node, &envelope);
}

void jobs_reserved(struct coord *coord, uint32_t node, const Wire__Reserved *reserved, uint64_t now_ns)
{
	struct job *job = job_find(coord, reserved->job);
	uint32_t half = job ? job_half_of(job, node) : 2;
	if (half == 2 || job->state != JOB_RESERVING || job->half[half].state != HALF_ASKED ||
	    !half_fits(job, half, reserved->half)) {
		coord->counters.messages_stray++;
		if (half == 2)
			release_stray(coord, node, reserved);
		return;
	}
	if (reserved->error != ERR_OK) {
		job->half[half].cancelled = true; /* nothing is held there */
		job_refused(coord, job, half, (enum err)reserved->error, now_ns);
		return;
	}
	job->half[half].state = HALF_HELD;
	if (job->half[1 - half].state == HALF_HELD || job->both)
		start(coord, job, now_ns);
}

static uint64_t backoff_ns(uint32_t refusals)
{
	uint64_t ns = BACKOFF_NS << (refusals < 5 ? refusals : 5);
	return ns < BACKOFF_MAX_NS ? ns : BACKOFF_MAX_NS;
}

/* The pair is given up before its start: the other half is cancelled, and another pair is tried. */
void job_refused(struct coord *coord, struct job *job, uint32_t half, enum err e, uint64_t now_ns)
{
	assert(job->state == JOB_RESERVING);
	struct registry_node *node = core_node(coord, job->half[half].node);
	coord->counters.reserve_refusals++;
	job_drop_halves(coord, job, ERR_CANCELED);
	job->last_error = e;
	if (error_is_final(e) && e != ERR_TOO_LARGE) {
		request_fail(coord, job->request, e, "a node refused the request", now_ns);
		return;
	}
	if (e == ERR_AGAIN)
		node->full_until_ns = now_ns + FULL_NS;
	else if (e == ERR_DRAINING)
		registry_draining(node, true, now_ns);
	job_avoid(coord, job, job->half[half].node,
		  e == ERR_TOO_LARGE ? AVOID_ALWAYS : e == ERR_AGAIN ? AVOID_REFUSED : AVOID_FAILED);
	job->retry_ns = now_ns + backoff_ns(job->refusals++);
	job_wait(coord, job, job->started ? JOB_RECOVERING : JOB_QUEUED, now_ns);
	if (job_try(coord, job, now_ns) == TRY_NOBODY && e == ERR_TOO_LARGE)
		request_fail(coord, job->request, e, "no node can hold the request", now_ns);
}

/* ---- waiting */

struct pump {
	const struct job *stuck[PUMP_TRIES_MAX]; /* nothing is free now for them, nor for their like */
	uint32_t stuck_count;
};

static bool alike(const struct request *a, const struct request *b)
{
	return strcmp(a->model, b->model) == 0 && a->pinned == b->pinned &&
	       (!a->pinned || id128_equal(&a->compat, &b->compat));
}

static const struct job *find_stuck(const struct pump *pump, const struct job *job)
{
	for (uint32_t i = 0; i < pump->stuck_count; i++)
		if (alike(pump->stuck[i]->request, job->request))
			return pump->stuck[i];
	return NULL;
}

/* A job that could not be placed holds back its like behind it: a long queue costs one try. */
static void pump_job(struct coord *coord, struct job *job, struct pump *pump, uint64_t now_ns)
{
	if (now_ns < job->retry_ns)
		return; /* what it need not avoid was tried when it was refused */
	const struct job *stuck = find_stuck(pump, job);
	if (!stuck && job_try(coord, job, now_ns) != TRY_ASKED)
		pump->stuck[pump->stuck_count++] = job;
	else if (stuck)
		job->nobody_ns = !stuck->nobody_ns ? 0 : job->nobody_ns ? job->nobody_ns : now_ns;
}

static void pump_class(struct coord *coord, uint8_t class, struct pump *pump, uint64_t now_ns)
{
	struct fair_item *item;
	fair_walk(&coord->fair, class);
	while (pump->stuck_count < PUMP_TRIES_MAX && (item = fair_next(&coord->fair)))
		pump_job(coord, &admission_request(item)->jobs[0], pump, now_ns);
}

void jobs_pump(struct coord *coord, uint64_t now_ns)
{
	struct pump pump = {0};
	for (struct job *job = coord->recovering.first, *next; job && pump.stuck_count < PUMP_TRIES_MAX; job = next) {
		next = job->wait_next;
		pump_job(coord, job, &pump, now_ns);
	}
	for (uint8_t class = 0; class < COORD_CLASSES && coord->fair.waiting; class++)
		if (coord->fair.cost[class])
			pump_class(coord, class, &pump, now_ns);
	pace_tick(&coord->pace, coord->fair.waiting > 0, now_ns);
}
