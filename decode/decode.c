#include "decode/decode.h"

#include <assert.h>

#include "base/carve.h"
#include "base/layer_groups.h"
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
	return kv_local_blocks(d->local, tokens);
}

static void layout_table(struct carve *carve, uint32_t block_max, uint32_t layer_count, struct decode_table *ret_table)
{
	size_t pieces = (size_t)block_max * layer_count;
	*ret_table = (struct decode_table){
		.keys = carve_take(carve, block_max, sizeof(*ret_table->keys)),
		.blocks = carve_take(carve, block_max, sizeof(*ret_table->blocks)),
		.places = carve_take(carve, block_max, sizeof(*ret_table->places)),
		.digests = carve_take(carve, pieces, sizeof(*ret_table->digests)),
		.pieces = carve_take(carve, pieces, sizeof(*ret_table->pieces)),
		.layers_done = carve_take(carve, block_max, sizeof(*ret_table->layers_done)),
	};
}

static void layout_job(struct carve *carve, const struct decode_options *o, uint32_t block_max, struct decode_job *ret_job)
{
	struct decode_job job = {.tokens = carve_take(carve, o->context_max, sizeof(*job.tokens))};
	for (uint32_t g = 0; g < o->local->group_count; g++)
		layout_table(carve, block_max, o->local->groups[g].layer_count, &job.tables[g]);
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
		struct decode_choice choice = {.tokens = carve_take(carve, o->context_max, sizeof(*choice.tokens))};
		for (uint32_t g = 0; g < o->local->group_count; g++)
			choice.blocks[g] = carve_take(carve, block_max, sizeof(*choice.blocks[g]));
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

/* Tokens of a sequence of the job at most. */
static uint32_t length_of(const struct decode *d, const Wire__Reserve *reserve, const struct sampling *sampling)
{
	uint64_t length = (uint64_t)reserve->prompt_count + sampling->max_tokens;
	if (length > d->options.context_max)
		length = d->options.context_max;
	if (length < reserve->n_tokens)
		length = reserve->n_tokens;
	return (uint32_t)length;
}

/* Blocks that the job may come to need: the context's full ones once, the rest for each choice; of a windowed group what
 * each choice sees at most, and what reading the prompt here takes before. */
static uint32_t budget(const struct decode *d, const Wire__Reserve *reserve, const struct sampling *sampling, uint32_t g)
{
	uint32_t choices = (uint32_t)reserve->n_choices, blocks = blocks_of(d, length_of(d, reserve, sampling));
	uint32_t shared = (uint32_t)reserve->n_tokens / d->local->block_tokens;
	uint32_t all = shared + (blocks - shared) * choices;
	if (d->local->groups[g].keep == KV_KEEP_ALL)
		return all;
	bool local = reserve->half == WIRE__HALF__HALF_BOTH;
	uint32_t running = kv_group_span(d->local, g, 1, blocks) * choices;
	uint32_t reading = local ? kv_group_span(d->local, g, d->options.chunk_tokens, blocks) : 0;
	uint32_t need = running > reading ? running : reading;
	return need < all ? need : all;
}

static enum err check_blocks(const struct kv_group *group, uint32_t need, struct why *why)
{
	if (group->reserved + need <= group->budget)
		return ERR_OK;
	return why_set(why, need > group->budget ? ERR_TOO_LARGE : ERR_AGAIN, "%u blocks wanted, %u of %u are reserved", need,
		       group->reserved, group->budget);
}

static enum err check_room(const struct decode *d, const Wire__Reserve *reserve, const uint32_t *need, struct why *why)
{
	if (reserve->n_tokens >= d->options.context_max)
		return why_set(why, ERR_TOO_LARGE, "context of %zu tokens, at most %u with room for an answer",
			       reserve->n_tokens, d->options.context_max - 1);
	if (d->choices_reserved + reserve->n_choices > d->options.choice_max)
		return why_set(why, ERR_AGAIN, "%zu sequences wanted, %u of %u are reserved", reserve->n_choices,
			       d->choices_reserved, d->options.choice_max);
	enum err e = ERR_OK;
	for (uint32_t g = 0; e == ERR_OK && g < d->local->group_count; g++)
		e = check_blocks(&d->local->groups[g], need[g], why);
	return e;
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
	for (uint32_t g = 0; g < d->local->group_count; g++) {
		kv_key_root(&d->local->compat, g, reserve->tenant_salt.data, reserve->tenant_salt.len, &job->roots[g]);
		kv_key_chain(&job->roots[g], job->tokens, job->full_count, d->local->block_tokens, job->tables[g].keys);
	}
	wire__accounting__init(&job->account);
	job->account.context = job->context;
}

/* All but what was laid out for it. */
static void clear_job(struct decode_job *job)
{
	struct decode_job kept = {.serial = job->serial + 1, .tokens = job->tokens};
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++) {
		const struct decode_table *table = &job->tables[g];
		kept.tables[g] = (struct decode_table){.keys = table->keys, .blocks = table->blocks, .places = table->places,
						       .digests = table->digests, .pieces = table->pieces,
						       .layers_done = table->layers_done};
	}
	*job = kept;
}

enum err decode_reserve(struct decode *d, uint32_t peer, const Wire__Reserve *reserve, struct why *why)
{
	if (decode_find(d, reserve->job) && !planted(JOB_ACCEPTED_TWICE))
		return why_set(why, ERR_EXISTS, "this job and attempt is reserved already");
	struct sampling sampling;
	enum err e = codec_sampling_get(reserve->sampling, why, &sampling);
	uint32_t need[LAYER_GROUPS_MAX] = {0};
	for (uint32_t g = 0; e == ERR_OK && g < d->local->group_count; g++)
		need[g] = budget(d, reserve, &sampling, g);
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
	clear_job(job);
	job->key = job_key_of(reserve->job);
	job->coordinator = peer;
	job->partner = reserve->partner;
	kv_tenant_take(&job->tenant, reserve);
	job->prefill_peer = PEER_NONE;
	job->local = reserve->half == WIRE__HALF__HALF_BOTH;
	job->sampling = sampling;
	job->constraint = constraint;
	memcpy(job->block_need, need, sizeof(need));
	job->reserved_ns = d->local->now_ns;
	take_context(d, job, reserve);
	for (uint32_t g = 0; g < d->local->group_count; g++)
		d->local->groups[g].reserved += need[g];
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

static void free_table(struct decode *d, struct decode_table *table)
{
	for (uint32_t i = table->count; i > table->first; i--)
		kv_pool_unref(d->local->pool, table->blocks[i - 1]);
	for (uint32_t i = 0; i < table->spare_count; i++)
		kv_pool_unref(d->local->pool, table->spares[i]);
	table->first = table->count = table->spare_count = 0;
}

void decode_free(struct decode *d, struct decode_job *job)
{
	for (uint32_t g = 0; g < d->local->group_count; g++)
		free_table(d, &job->tables[g]);
	constraint_give(&d->options.constraints, job->constraint);
	job->constraint = NULL;
	for (uint32_t g = 0; g < d->local->group_count; g++)
		d->local->groups[g].reserved -= job->block_need[g];
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
