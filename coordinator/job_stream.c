/* job_stream - tokens from nodes to the shell: exactly the next position of each choice, once. */
#include <assert.h>
#include <string.h>

#include "base/planted.h"
#include "coordinator/core_impl.h"

/* A choice that has not had a token in the running attempt: prefill gives the first one. */
bool choice_lacks_first(const struct choice *choice)
{
	return choice->tokens.count == choice->base;
}

static bool running(const struct half *half)
{
	return half->state == HALF_RUNNING;
}

bool job_starved(const struct job *job)
{
	const struct half *last = &job->half[job->both ? 0 : 1];
	for (uint32_t rest = job->choices; rest; rest &= rest - 1) {
		const struct choice *choice = &job->request->choices[__builtin_ctz(rest)];
		if (!running(choice_lacks_first(choice) ? &job->half[0] : last))
			return true;
	}
	return false;
}

/* ---- held tokens: decode may be heard before prefill, they are different connections */

void choice_drop_held(struct coord *coord, struct choice *choice)
{
	if (choice->held_count) {
		coord->held[choice->held_last].next = coord->held_free;
		coord->held_free = choice->held_first;
	}
	choice->held_count = 0;
}

static bool hold(struct coord *coord, struct choice *choice, const Wire__Token *token, const struct sample *sample)
{
	uint32_t h = coord->held_free;
	if (h == HELD_NONE)
		return false;
	coord->held_free = coord->held[h].next;
	coord->held[h] = (struct held){HELD_NONE, token->position, token->finish, token->stop_token, *sample};
	if (choice->held_count++)
		coord->held[choice->held_last].next = h;
	else
		choice->held_first = h;
	choice->held_last = h;
	coord->counters.tokens_held++;
	return true;
}

static struct held unhold(struct coord *coord, struct choice *choice)
{
	uint32_t h = choice->held_first;
	struct held held = coord->held[h];
	choice->held_first = held.next;
	choice->held_count--;
	coord->held[h].next = coord->held_free;
	coord->held_free = h;
	return held;
}

/* ---- the end of a choice */

static void cancel_choice(struct coord *coord, struct job *job, uint32_t number)
{
	Wire__JobId id;
	core_job_id(coord, job, &id);
	Wire__Cancel cancel = WIRE__CANCEL__INIT;
	cancel.job = &id;
	cancel.one_choice = true;
	cancel.choice = number;
	cancel.error = ERR_CANCELED;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_CANCEL;
	envelope.cancel = &cancel;
	for (int i = 0; i < 2; i++)
		if (job->half[i].state != HALF_NONE && job->half[i].state != HALF_OVER)
			core_send(coord, job->half[i].node, &envelope);
}

/* Its last choice is over: what runs says JobEnd by itself, or because it is told. */
static void job_close(struct coord *coord, struct job *job, bool tell, uint64_t now_ns)
{
	bool waits = job->state == JOB_QUEUED || job->state == JOB_RECOVERING;
	if (waits)
		job_unwait(coord, job);
	if (waits || job->state == JOB_RESERVING) {
		job_drop_halves(coord, job, ERR_CANCELED);
		job_move(job, JOB_FREE);
		return;
	}
	job_move(job, JOB_CLOSING);
	job->since_ns = now_ns;
	for (int i = 0; i < 2 && tell; i++)
		half_cancel(coord, job, &job->half[i], ERR_CANCELED);
	if (job_halves_over(job))
		job_move(job, JOB_FREE);
}

/* tell: the nodes do not know yet.  The request may be over afterwards. */
void choice_end(struct coord *coord, struct job *job, uint32_t number, Wire__Finish finish, bool tell, uint64_t now_ns)
{
	struct request *request = job->request;
	struct choice *choice = &request->choices[number];
	assert(!choice->over && job->choices >> number & 1);
	choice->over = true;
	choice->finish = finish;
	choice_drop_held(coord, choice);
	if (tell && (job->choices & (job->choices - 1)))
		cancel_choice(coord, job, number);
	job->choices &= ~(1u << number);
	request->live--;
	if (!request->live)
		request->over_ns = now_ns;
	if (!job->choices)
		job_close(coord, job, tell, now_ns);
	request_settle(coord, request, now_ns);
}

/* ---- forwarding */

static void note_first(struct coord *coord, struct job *job, bool by_decode, uint64_t now_ns)
{
	struct coord_attempt *attempt = record_of(job);
	struct coord_timings *timings = &job->request->outcome.timings;
	if (job->state == JOB_PREFILLING) {
		job_move(job, JOB_DECODING);
		/* What was charged for the prompt is done. */
		core_node(coord, job->half[0].node)->own.tokens -= job->half[0].charged.tokens;
		job->half[0].charged.tokens = 0;
		if (attempt)
			attempt->first_token_ns = now_ns;
		if (!timings->first_token_ns) {
			timings->first_token_ns = now_ns - job->request->accepted_ns;
			timings->prefill_ns = attempt ? now_ns - attempt->started_ns : 0;
		}
	}
	if (!by_decode || !attempt || attempt->decode_token_ns)
		return;
	attempt->decode_token_ns = now_ns;
	if (!timings->transfer_ns && attempt == &job->request->outcome.attempt[0])
		timings->transfer_ns = now_ns - attempt->first_token_ns;
}

/* The next token of a choice.  Returns false when the choice is over with it. */
static bool forward(struct coord *coord, struct job *job, uint32_t number, const struct held *next, uint64_t now_ns)
{
	struct request *request = job->request;
	struct choice *choice = &request->choices[number];
	tokens_append(&coord->pool, &choice->tokens, &next->sample.token, 1);
	request->pinned = true;
	coord->counters.tokens_forwarded++;
	Wire__Finish finish = next->finish;
	if (finish == WIRE__FINISH__FINISH_NONE && choice->tokens.count >= request->sampling.max_tokens)
		finish = WIRE__FINISH__FINISH_LENGTH;
	struct coord_token token = {request->number, request->user, number, next->position, &next->sample, finish,
				    next->stop_token};
	coord->in_hook = true;
	enum coord_more more = coord->options.hooks.on_token(coord->options.hooks.context, &token);
	coord->in_hook = false;
	if (finish == WIRE__FINISH__FINISH_NONE && more == COORD_MORE)
		return true;
	bool told = finish != WIRE__FINISH__FINISH_NONE;
	choice_end(coord, job, number, told ? finish : WIRE__FINISH__FINISH_STOP, !told, now_ns);
	return false;
}

/* proto/check.c has counted the alternatives. */
static void read_sample(const Wire__Token *token, struct sample *ret_sample)
{
	*ret_sample = (struct sample){.token = token->token, .logprob = token->logprob};
	ret_sample->top_count = (uint32_t)token->n_top_tokens;
	for (uint32_t i = 0; i < ret_sample->top_count; i++)
		ret_sample->top[i] = (struct sample_top){token->top_tokens[i], token->top_logprobs[i]};
}

/* A later position than the next: only decode running ahead of prefill's first token, without a gap, may do that. */
static bool may_hold(const struct job *job, const struct choice *choice, uint32_t half, const Wire__Token *token,
		     uint32_t next)
{
	return half == 1 && choice_lacks_first(choice) && token->position == next + 1 + choice->held_count;
}

static void take(struct coord *coord, struct job *job, uint32_t half, const Wire__Token *token, uint64_t now_ns)
{
	struct request *request = job->request;
	struct choice *choice = &request->choices[token->choice];
	uint32_t next = request->prompt_count + choice->tokens.count;
	bool is_held = token->position > next && token->position <= next + choice->held_count;
	bool checked = !planted(POSITION_NOT_CHECKED);
	if (((token->position < next && !planted(REPEATED_TOKEN_FORWARDED)) || is_held) && checked) {
		coord->counters.tokens_dropped++;
		return;
	}
	struct held now = {HELD_NONE, token->position, token->finish, token->stop_token, {0}};
	read_sample(token, &now.sample);
	job->progress_ns = now_ns;
	job->decode_proven |= half == 1;
	if (token->position > next && checked) {
		if (!may_hold(job, choice, half, token, next) || !hold(coord, choice, token, &now.sample))
			job_fail(coord, job, half, ERR_PROTOCOL, CAUSE_PROTOCOL, now_ns);
		return;
	}
	if (request_lacks_scores(request)) { /* they come before it, on the same stream */
		job_fail(coord, job, half, ERR_PROTOCOL, CAUSE_PROTOCOL, now_ns);
		return;
	}
	note_first(coord, job, half == 1, now_ns);
	bool more = forward(coord, job, token->choice, &now, now_ns);
	while (more && choice->held_count) {
		struct held held = unhold(coord, choice);
		note_first(coord, job, true, now_ns);
		more = forward(coord, job, token->choice, &held, now_ns);
	}
	if (more && job_starved(job))
		job_fail(coord, job, job->both ? 0 : 1, ERR_PROTOCOL, CAUSE_PROTOCOL, now_ns);
}

static void take_token(struct coord *coord, uint32_t node, const Wire__Token *token, uint64_t now_ns)
{
	struct job *job = job_find(coord, token->job);
	uint32_t half = job ? job_half_of(job, node) : 2;
	bool streams = job && (job->state == JOB_PREFILLING || job->state == JOB_DECODING);
	if (half == 2 || !streams || token->choice >= job->request->choice_count ||
	    !(job->choices >> token->choice & 1)) {
		coord->counters.tokens_dropped++;
		return;
	}
	take(coord, job, half, token, now_ns);
}

void jobs_tokens(struct coord *coord, uint32_t node, const Wire__Tokens *tokens, uint64_t now_ns)
{
	for (size_t i = 0; i < tokens->n_tokens; i++)
		take_token(coord, node, tokens->tokens[i], now_ns);
}
