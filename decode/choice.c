#include <assert.h>

#include "base/planted.h"
#include "decode/job.h"
#include "kvstore/key.h"

static struct decode_choice *take_choice(struct decode *d)
{
	for (uint32_t i = 0; i < d->options.choice_max; i++) {
		if (d->choices[i].used)
			continue;
		struct decode_choice *choice = &d->choices[i];
		struct decode_choice kept = {.used = true, .tokens = choice->tokens};
		memcpy(kept.blocks, choice->blocks, sizeof(kept.blocks));
		*choice = kept;
		d->choices_used++;
		return choice;
	}
	assert(!"choices_reserved bounds the choices in use");
	return NULL;
}

/* The last choice takes the job's blocks over, another shares the full ones and copies the partial one. */
static void give_blocks(struct decode *d, struct decode_job *job, struct decode_choice *choice, uint32_t g, bool last)
{
	struct decode_table *from = &job->tables[g];
	struct sequence_table *to = &choice->sequence.tables[g];
	*to = (struct sequence_table){.blocks = choice->blocks[g], .first = from->first, .count = from->count};
	memcpy(to->blocks + from->first, from->blocks + from->first, (from->count - from->first) * sizeof(*to->blocks));
	if (last) {
		from->first = from->count = 0;
		return;
	}
	bool partial = job->context % d->local->block_tokens != 0;
	uint32_t shared = partial ? from->count - 1 : from->count;
	for (uint32_t i = from->first; i < shared; i++)
		kv_pool_ref(d->local->pool, from->blocks[i]);
	if (!partial)
		return;
	uint32_t copy = from->spares[--from->spare_count];
	if (!planted(PARTIAL_BLOCK_NOT_COPIED))
		d->options.copy_block(d->options.context, from->blocks[shared], copy);
	to->blocks[shared] = copy;
}

static bool has_room(const struct decode *d, const struct decode_choice *choice, uint32_t g)
{
	const struct sequence *sequence = &choice->sequence;
	return sequence->tables[g].count * d->local->block_tokens > sequence->computed;
}

/* Room for the KV of the next token in every group, then into the schedule; else it waits for the next tick. */
static void schedule(struct decode *d, struct decode_choice *choice)
{
	for (uint32_t g = 0; g < d->local->group_count; g++)
		for (struct sequence_table *table = &choice->sequence.tables[g]; !has_room(d, choice, g); table->count++)
			if (kv_pool_take(d->local->pool, g, &table->blocks[table->count]) != ERR_OK)
				return;
	choice->scheduled = sched_add(d->options.sched, &choice->sequence) == ERR_OK;
}

static void start_choice(struct decode *d, struct decode_job *job, uint32_t index, bool last)
{
	struct decode_choice *choice = take_choice(d);
	choice->job = decode_job_index(d, job);
	memcpy(choice->tokens, job->tokens, job->context * sizeof(uint32_t));
	choice->tokens[job->context] = job->first[index].token;
	choice->sequence = (struct sequence){
		.id = job->key.number,
		.sampling = &job->sampling,
		.constraint = job->constraint,
		.tokens = choice->tokens,
		.token_count = job->context + 1,
		.prompt_count = job->prompt_count,
		.computed = job->context,
		.choice_count = 1,
		.choices = {planted(CHOICE_NUMBER_LOST) ? (uint16_t)index : job->choices[index]},
		.arrival = d->arrival_next++,
	};
	choice->published = choice->own_first = job->full_count;
	for (uint32_t g = 0; g < d->local->group_count; g++) {
		choice->last_keys[g] = job->full_count > 0 ? job->tables[g].keys[job->full_count - 1] : job->roots[g];
		give_blocks(d, job, choice, g, last);
	}
	job->choices_left++;
	schedule(d, choice);
}

void decode_run(struct decode *d, struct decode_job *job)
{
	decode_move(job, DECODE_RUNNING);
	job->running_ns = d->local->now_ns;
	uint32_t live = 0;
	for (uint32_t i = 0; i < job->choice_count; i++)
		live += job->first_finish[i] == FINISH_NONE && !job->choice_canceled[i];
	for (uint32_t i = 0; i < job->choice_count && live > 0; i++)
		if (job->first_finish[i] == FINISH_NONE && !job->choice_canceled[i])
			start_choice(d, job, i, --live == 0);
	if (job->choices_left == 0)
		decode_end(d, job, ERR_OK);
}

static void drop_blocks(struct decode *d, const struct sequence_table *table)
{
	for (uint32_t i = table->count; i > table->first; i--)
		kv_pool_unref(d->local->pool, table->blocks[i - 1]);
}

void decode_handover(struct decode *d, const struct decode_handover *handover)
{
	Wire__JobId id = job_key_wire(&handover->key);
	struct decode_job *job = decode_find(d, &id);
	bool wanted = job && job->state == DECODE_LOCAL;
	if (wanted && handover->error != ERR_OK) {
		decode_end(d, job, handover->error);
		return;
	}
	if (!wanted) {
		for (uint32_t g = 0; handover->error == ERR_OK && g < d->local->group_count; g++)
			drop_blocks(d, &handover->tables[g]);
		return;
	}
	for (uint32_t g = 0; g < d->local->group_count; g++) {
		const struct sequence_table *from = &handover->tables[g];
		struct decode_table *to = &job->tables[g];
		memcpy(to->blocks + from->first, from->blocks + from->first, (from->count - from->first) * sizeof(*to->blocks));
		to->first = from->first;
		to->count = from->count;
	}
	memcpy(job->first, handover->first, job->choice_count * sizeof(*job->first));
	memcpy(job->first_finish, handover->finish, job->choice_count * sizeof(*job->first_finish));
	job->account = *handover->accounting;
	for (uint32_t g = 0; g < d->local->group_count; g++)
		if (!decode_take_spares(d, job, g)) {
			decode_end(d, job, ERR_AGAIN);
			return;
		}
	decode_run(d, job);
}

/* What a sequence ends with in a windowed group, for whoever goes on from there: of what came before and was not filled
 * here, others have offered it. */
static void offer_window(struct decode *d, struct decode_choice *choice, uint32_t g)
{
	const struct sequence_table *table = &choice->sequence.tables[g];
	struct id128 key, parent;
	bool has_parent = false;
	for (uint32_t i = table->first; i < choice->published; i++) {
		bool sealed = kv_pool_sealed(d->local->pool, table->blocks[i], &key);
		if (sealed && i >= choice->own_first)
			kv_offer_block(d->options.offers, table->blocks[i], &key, has_parent ? &parent : NULL,
				       &d->jobs[choice->job].tenant);
		has_parent = sealed;
		parent = key;
	}
}

static void free_choice(struct decode *d, struct decode_choice *choice)
{
	if (choice->scheduled)
		sched_remove(d->options.sched, &choice->sequence);
	for (uint32_t g = 0; g < d->local->group_count; g++) {
		if (d->local->groups[g].keep != KV_KEEP_ALL)
			offer_window(d, choice, g);
		drop_blocks(d, &choice->sequence.tables[g]);
	}
	choice->used = false;
	d->choices_used--;
	d->jobs[choice->job].choices_left--;
}

/* Rule 2: what a plan in flight names is freed when the step is over. */
static void end_choice(struct decode *d, struct decode_choice *choice)
{
	if (choice->planned)
		choice->ending = true;
	else
		free_choice(d, choice);
}

void decode_end_choices(struct decode *d, struct decode_job *job)
{
	for (uint32_t i = 0; job->choices_left > 0 && i < d->options.choice_max; i++)
		if (d->choices[i].used && d->choices[i].job == decode_job_index(d, job) && !d->choices[i].ending)
			end_choice(d, &d->choices[i]);
}

/* The last choice is gone: the job's end, said unless a whole-job end said it before. */
static void end_when_empty(struct decode *d, struct decode_job *job)
{
	if (job->choices_left > 0)
		return;
	if (job->coordinator != PEER_NONE)
		decode_end(d, job, ERR_OK);
	else
		decode_free(d, job);
}

void decode_cancel_choice(struct decode *d, struct decode_job *job, uint32_t choice_number)
{
	for (uint32_t i = 0; i < job->choice_count; i++)
		if (job->choices[i] == choice_number)
			job->choice_canceled[i] = true;
	if (job->state != DECODE_RUNNING)
		return;
	for (uint32_t i = 0; i < d->options.choice_max; i++) {
		struct decode_choice *choice = &d->choices[i];
		if (!choice->used || choice->ending || choice->job != decode_job_index(d, job) ||
		    choice->sequence.choices[0] != choice_number)
			continue;
		end_choice(d, choice);
		end_when_empty(d, job);
		return;
	}
}

bool decode_owns(const struct decode *d, const struct sequence *sequence)
{
	const uint8_t *at = (const uint8_t *)sequence;
	return at >= (const uint8_t *)d->choices && at < (const uint8_t *)(d->choices + d->options.choice_max);
}

static struct decode_choice *choice_of(struct decode *d, const struct run *run)
{
	size_t offset = (size_t)((const uint8_t *)run->sequence - (const uint8_t *)d->choices);
	return &d->choices[offset / sizeof(struct decode_choice)];
}

void decode_planned(struct decode *d, const struct run *run)
{
	choice_of(d, run)->planned = true;
}

/* A block that the last step filled becomes findable; of a global group it is offered: the next turn of a chat hits. */
static void publish_group(struct decode *d, struct decode_choice *choice, uint32_t g, uint32_t index)
{
	const struct sequence_table *table = &choice->sequence.tables[g];
	uint32_t tokens = d->local->block_tokens;
	struct id128 key, *last = &choice->last_keys[g];
	kv_key_next(last, choice->sequence.tokens + (size_t)index * tokens, tokens, &key);
	if (kv_pool_seal(d->local->pool, table->blocks[index], &key) == ERR_OK && d->local->groups[g].keep == KV_KEEP_ALL)
		kv_offer_block(d->options.offers, table->blocks[index], &key, index > 0 ? last : NULL,
			       &d->jobs[choice->job].tenant);
	*last = key;
}

/* What no token of the sequence will see again is given back. */
static void release(struct decode *d, struct decode_choice *choice, uint32_t g)
{
	struct sequence_table *table = &choice->sequence.tables[g];
	uint32_t keep = d->local->groups[g].keep - planted(WINDOW_RELEASED_EARLY);
	uint32_t first = kv_keep_first(keep, choice->sequence.computed / d->local->block_tokens);
	for (; table->first < first; table->first++) {
		kv_pool_unref(d->local->pool, table->blocks[table->first]);
		table->blocks[table->first] = KV_BLOCK_NONE;
	}
}

static void publish(struct decode *d, struct decode_choice *choice)
{
	if (choice->sequence.computed % d->local->block_tokens != 0)
		return;
	uint32_t index = choice->sequence.computed / d->local->block_tokens - 1;
	for (uint32_t g = 0; g < d->local->group_count; g++) {
		publish_group(d, choice, g, index);
		release(d, choice, g);
	}
	choice->published = index + 1;
}

static enum finish emit(struct decode *d, struct decode_choice *choice, const struct sample *sample)
{
	struct decode_job *job = &d->jobs[choice->job];
	struct sequence *sequence = &choice->sequence;
	Wire__JobId id = job_key_wire(&job->key);
	Wire__Token token = WIRE__TOKEN__INIT;
	uint32_t top_tokens[SAMPLING_TOP_LOGPROBS_MAX];
	float top_logprobs[SAMPLING_TOP_LOGPROBS_MAX];
	for (uint32_t i = 0; i < sample->top_count; i++) {
		top_tokens[i] = sample->top[i].token;
		top_logprobs[i] = sample->top[i].logprob;
	}
	token.job = &id;
	token.choice = sequence->choices[0];
	token.position = sequence->token_count;
	token.token = sample->token;
	token.logprob = sample->logprob;
	token.n_top_tokens = token.n_top_logprobs = sample->top_count;
	token.top_tokens = top_tokens;
	token.top_logprobs = top_logprobs;
	uint32_t length = sequence->token_count + 1;
	enum finish finish = finish_of(&d->options.finish, &job->sampling, sample->token, length - job->prompt_count,
				       length, &token.stop_token);
	token.finish = (Wire__Finish)finish;
	d->options.token(d->options.context, job->coordinator, &token);
	return finish;
}

void decode_step_done(struct decode *d, const struct run *run, const struct sample *samples, enum err e)
{
	struct decode_choice *choice = choice_of(d, run);
	struct decode_job *job = &d->jobs[choice->job];
	choice->planned = false;
	if (choice->ending) {
		free_choice(d, choice);
		end_when_empty(d, job);
		return;
	}
	if (e != ERR_OK) {
		decode_end(d, job, e);
		return;
	}
	publish(d, choice);
	const struct sample *sample = samples + run->sample_first;
	enum finish finish = emit(d, choice, sample);
	if (finish != FINISH_NONE) {
		free_choice(d, choice);
		end_when_empty(d, job);
		return;
	}
	choice->tokens[choice->sequence.token_count++] = sample->token;
	bool grows = false;
	for (uint32_t g = 0; g < d->local->group_count; g++)
		grows |= !has_room(d, choice, g);
	if (!grows)
		return;
	sched_remove(d->options.sched, &choice->sequence);
	choice->scheduled = false;
	schedule(d, choice);
}

void decode_unstall(struct decode *d)
{
	for (uint32_t i = 0; i < d->options.choice_max; i++)
		if (d->choices[i].used && !d->choices[i].scheduled && !d->choices[i].ending)
			schedule(d, &d->choices[i]);
}
