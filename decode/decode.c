#include "decode/decode.h"

#include <assert.h>

#include "base/carve.h"
#include "base/planted.h"
#include "decode/job.h"
#include "kvstore/key.h"

static const char *const state_names[] = {
#define X(name) #name,
	DECODE_JOBS(X)
#undef X
};

const char *decode_state_name(enum decode_state state)
{
	return state_names[state];
}

/* The drawing in decode.h, as a table: [from][to]. */
static const bool moves[DECODE_STATES][DECODE_STATES] = {
	[DECODE_FREE] = {[DECODE_RESERVED] = true},
	[DECODE_RESERVED] = {[DECODE_WAITING] = true, [DECODE_LOCAL] = true, [DECODE_FREE] = true},
	[DECODE_WAITING] = {[DECODE_RECEIVING] = true, [DECODE_FREE] = true},
	[DECODE_RECEIVING] = {[DECODE_RUNNING] = true, [DECODE_FREE] = true},
	[DECODE_LOCAL] = {[DECODE_RUNNING] = true, [DECODE_FREE] = true},
	[DECODE_RUNNING] = {[DECODE_FREE] = true},
};

void decode_move(struct decode_job *job, enum decode_state to)
{
	assert(moves[job->state][to]);
	job->state = to;
}

static uint32_t blocks_of(const struct decode *d, uint32_t tokens)
{
	return (tokens + d->local->block_tokens - 1) / d->local->block_tokens;
}

static void layout_job(struct carve *carve, const struct decode_options *o, uint32_t block_max, struct decode_job *ret_job)
{
	size_t pieces = (size_t)block_max * o->local->layer_count;
	struct decode_job job = {
		.tokens = carve_take(carve, o->context_max, sizeof(*job.tokens)),
		.keys = carve_take(carve, block_max, sizeof(*job.keys)),
		.blocks = carve_take(carve, block_max, sizeof(*job.blocks)),
		.places = carve_take(carve, block_max, sizeof(*job.places)),
		.digests = carve_take(carve, pieces, sizeof(*job.digests)),
		.pieces = carve_take(carve, pieces, sizeof(*job.pieces)),
		.layers_done = carve_take(carve, block_max, sizeof(*job.layers_done)),
	};
	if (ret_job)
		*ret_job = job;
}

static struct decode *layout(struct carve *carve, const struct decode_options *o)
{
	struct decode *d = carve_take(carve, 1, sizeof(*d));
	uint32_t block_max = o->context_max / o->local->block_tokens + 1;
	struct decode_job *jobs = carve_take(carve, o->job_max, sizeof(*jobs));
	struct decode_choice *choices = carve_take(carve, o->choice_max, sizeof(*choices));
	for (uint32_t i = 0; i < o->job_max; i++)
		layout_job(carve, o, block_max, d ? &jobs[i] : NULL);
	for (uint32_t i = 0; i < o->choice_max; i++) {
		struct decode_choice choice = {
			.tokens = carve_take(carve, o->context_max, sizeof(*choice.tokens)),
			.blocks = carve_take(carve, block_max, sizeof(*choice.blocks)),
		};
		if (d)
			choices[i] = choice;
	}
	if (d)
		*d = (struct decode){.options = *o, .local = o->local, .block_max = block_max, .jobs = jobs,
				     .choices = choices};
	return d;
}

size_t decode_bytes(const struct decode_options *options)
{
	struct carve carve = {0};
	layout(&carve, options);
	return carve.used;
}

struct decode *decode_init(void *memory, const struct decode_options *options)
{
	struct carve carve = {.memory = memory};
	return layout(&carve, options);
}

struct decode_job *decode_find(struct decode *d, const Wire__JobId *id)
{
	struct job_key key = job_key_of(id);
	for (uint32_t i = 0; i < d->options.job_max; i++)
		if (d->jobs[i].state != DECODE_FREE && job_key_equal(&d->jobs[i].key, &key))
			return &d->jobs[i];
	return NULL;
}

static struct decode_job *free_job(struct decode *d)
{
	for (uint32_t i = 0; i < d->options.job_max; i++)
		if (d->jobs[i].state == DECODE_FREE)
			return &d->jobs[i];
	return NULL;
}

/* Blocks that the job may come to need: the context's full ones once, the rest for each choice. */
static uint32_t budget(const struct decode *d, const Wire__Reserve *reserve, const struct sampling *sampling)
{
	uint64_t length = (uint64_t)reserve->prompt_count + sampling->max_tokens;
	if (length > d->options.context_max)
		length = d->options.context_max;
	if (length < reserve->n_tokens)
		length = reserve->n_tokens;
	uint32_t shared = (uint32_t)reserve->n_tokens / d->local->block_tokens;
	uint32_t own = blocks_of(d, (uint32_t)length) - shared;
	return shared + own * (uint32_t)reserve->n_choices;
}

static enum err check_room(const struct decode *d, const Wire__Reserve *reserve, uint32_t need, struct why *why)
{
	if (reserve->n_tokens >= d->options.context_max)
		return why_set(why, ERR_TOO_LARGE, "context of %zu tokens, at most %u with room for an answer",
			       reserve->n_tokens, d->options.context_max - 1);
	if (d->choices_reserved + reserve->n_choices > d->options.choice_max)
		return why_set(why, ERR_AGAIN, "%zu sequences wanted, %u of %u are reserved", reserve->n_choices,
			       d->choices_reserved, d->options.choice_max);
	if (d->local->blocks_reserved + need > d->local->block_budget)
		return why_set(why, need > d->local->block_budget ? ERR_TOO_LARGE : ERR_AGAIN,
			       "%u blocks wanted, %u of %u are reserved", need, d->local->blocks_reserved,
			       d->local->block_budget);
	return ERR_OK;
}

static void take_context(struct decode *d, struct decode_job *job, const Wire__Reserve *reserve)
{
	job->context = (uint32_t)reserve->n_tokens;
	job->prompt_count = planted(PROMPT_COUNT_WRONG) ? job->context : reserve->prompt_count;
	memcpy(job->tokens, reserve->tokens, job->context * sizeof(uint32_t));
	job->choice_count = (uint32_t)reserve->n_choices;
	for (uint32_t i = 0; i < job->choice_count; i++)
		job->choices[i] = (uint16_t)reserve->choices[i];
	job->full_count = job->context / d->local->block_tokens;
	job->context_blocks = blocks_of(d, job->context);
	kv_key_root(&d->local->compat, 0, reserve->tenant_salt.data, reserve->tenant_salt.len, &job->root);
	kv_key_chain(&job->root, job->tokens, job->full_count, d->local->block_tokens, job->keys);
	wire__accounting__init(&job->account);
	job->account.context = job->context;
}

enum err decode_reserve(struct decode *d, uint32_t peer, const Wire__Reserve *reserve, struct why *why)
{
	if (decode_find(d, reserve->job) && !planted(JOB_ACCEPTED_TWICE))
		return why_set(why, ERR_EXISTS, "this job and attempt is reserved already");
	struct sampling sampling;
	enum err e = codec_sampling_get(reserve->sampling, why, &sampling);
	uint32_t need = e == ERR_OK ? budget(d, reserve, &sampling) : 0;
	if (e == ERR_OK)
		e = check_room(d, reserve, need, why);
	if (e != ERR_OK)
		return e;
	struct decode_job *job = free_job(d);
	if (!job)
		return why_set(why, ERR_AGAIN, "all %u places are taken", d->options.job_max);
	struct constraint *constraint;
	e = constraint_take(&d->options.constraints, reserve->structure, strlen(reserve->structure), why, &constraint);
	if (e != ERR_OK)
		return e;
	sampling.structured = constraint != NULL;
	*job = (struct decode_job){.serial = job->serial + 1, .tokens = job->tokens, .keys = job->keys,
				   .blocks = job->blocks, .places = job->places, .digests = job->digests,
				   .pieces = job->pieces, .layers_done = job->layers_done};
	job->key = job_key_of(reserve->job);
	job->coordinator = peer;
	job->partner = reserve->partner;
	job->prefill_peer = PEER_NONE;
	job->local = reserve->half == WIRE__HALF__HALF_BOTH;
	job->sampling = sampling;
	job->constraint = constraint;
	job->block_need = need;
	job->reserved_ns = d->local->now_ns;
	take_context(d, job, reserve);
	d->local->blocks_reserved += need;
	d->choices_reserved += job->choice_count;
	d->count++;
	decode_move(job, DECODE_RESERVED);
	return ERR_OK;
}

void decode_start(struct decode *d, uint32_t peer, const Wire__Start *start)
{
	struct decode_job *job = decode_find(d, start->job);
	if (!job || job->coordinator != peer || job->state != DECODE_RESERVED)
		return;
	job->started_ns = d->local->now_ns;
	decode_move(job, job->local ? DECODE_LOCAL : DECODE_WAITING);
	if (!job->local)
		decode_try_attach(d, job);
}

void decode_send_transfer_end(struct decode *d, struct decode_job *job, enum err e)
{
	if (job->prefill_peer == PEER_NONE)
		return;
	Wire__JobId id = job_key_wire(&job->key);
	Wire__TransferEnd end = WIRE__TRANSFER_END__INIT;
	end.job = &id;
	end.error = e;
	PROTO_ENVELOPE(envelope, TRANSFER_END, transfer_end, &end);
	sessions_send(d->local->sessions, job->prefill_peer, &envelope);
	job->prefill_peer = PEER_NONE;
}

static void send_job_end(struct decode *d, struct decode_job *job, enum err e)
{
	if (job->coordinator == PEER_NONE)
		return; /* rule 1 */
	d->options.flush(d->options.context);
	Wire__JobId id = job_key_wire(&job->key);
	Wire__JobEnd end = WIRE__JOB_END__INIT;
	end.job = &id;
	end.half = job->local ? WIRE__HALF__HALF_BOTH : WIRE__HALF__HALF_DECODE;
	end.error = e;
	end.why = (char *)err_text(e);
	end.accounting = &job->account;
	PROTO_ENVELOPE(envelope, JOB_END, job_end, &end);
	sessions_send(d->local->sessions, job->coordinator, &envelope);
}

void decode_free(struct decode *d, struct decode_job *job)
{
	for (uint32_t i = job->block_count; i > 0; i--)
		kv_pool_unref(d->local->pool, job->blocks[i - 1]);
	for (uint32_t i = 0; i < job->spare_count; i++)
		kv_pool_unref(d->local->pool, job->spares[i]);
	job->block_count = job->spare_count = 0;
	constraint_give(&d->options.constraints, job->constraint);
	job->constraint = NULL;
	d->local->blocks_reserved -= job->block_need;
	d->choices_reserved -= job->choice_count;
	d->count--;
	decode_move(job, DECODE_FREE);
}

void decode_end(struct decode *d, struct decode_job *job, enum err e)
{
	env_trace(d->local->env, "decode of job %llu.%u ends: %s", (unsigned long long)job->key.number,
		  job->key.attempt, err_text(e));
	if (job->state == DECODE_RECEIVING)
		kv_reads_abandon(d->local->reads, DECODE_READ_MODULE, decode_job_index(d, job), job->serial);
	decode_send_transfer_end(d, job, e);
	send_job_end(d, job, e);
	job->coordinator = PEER_NONE;
	decode_end_choices(d, job); /* frees the job with its last choice */
	if (job->choices_left == 0)
		decode_free(d, job);
}

void decode_cancel(struct decode *d, uint32_t peer, const Wire__Cancel *cancel)
{
	struct decode_job *job = decode_find(d, cancel->job);
	if (!job || job->coordinator != peer)
		return;
	if (cancel->one_choice)
		decode_cancel_choice(d, job, cancel->choice);
	else
		decode_end(d, job, ERR_CANCELED);
}

void decode_transfer_end(struct decode *d, uint32_t peer, const Wire__TransferEnd *end)
{
	struct decode_job *job = decode_find(d, end->job);
	if (!job || job->prefill_peer != peer)
		return;
	job->prefill_peer = PEER_NONE; /* it knows already */
	if (job->state == DECODE_RECEIVING)
		decode_end(d, job, end->error == ERR_OK ? ERR_PROTOCOL : (enum err)end->error);
}

void decode_peer_down(struct decode *d, uint32_t peer)
{
	for (uint32_t i = 0; i < d->options.job_max; i++) {
		struct decode_job *job = &d->jobs[i];
		if (job->state == DECODE_FREE)
			continue;
		bool ends = false;
		if (job->coordinator == peer) {
			job->coordinator = PEER_NONE;
			ends = true;
		}
		if (job->prefill_peer == peer) {
			job->prefill_peer = PEER_NONE;
			job->account.miss_gone += job->state == DECODE_RECEIVING;
			ends |= job->state == DECODE_RECEIVING;
		}
		if (ends)
			decode_end(d, job, ERR_PEER_GONE);
	}
}

void decode_tick(struct decode *d)
{
	for (uint32_t i = 0; i < d->options.job_max; i++) {
		struct decode_job *job = &d->jobs[i];
		if (job->state == DECODE_RECEIVING && job->waiting > 0)
			decode_issue_waiting(d, job);
		if (decode_stalls(d, job)) {
			job->account.miss_deadline++;
			decode_end(d, job, ERR_DEADLINE);
			continue;
		}
		if (job->state != DECODE_WAITING)
			continue;
		if (d->local->now_ns >= job->started_ns + d->options.wait_deadline_ns)
			decode_end(d, job, ERR_DEADLINE);
		else
			decode_try_attach(d, job);
	}
	decode_unstall(d);
}

uint32_t decode_count(const struct decode *d)
{
	return d->count;
}

uint32_t decode_choice_count(const struct decode *d)
{
	return d->choices_used;
}

enum decode_state decode_state_at(const struct decode *d, uint32_t job, struct job_key *ret_key)
{
	if (ret_key)
		*ret_key = d->jobs[job].key;
	return d->jobs[job].state;
}
