/* The log-probabilities of a prompt's own tokens: from the step that computed their rows to the coordinator. */
#include "prefill/job.h"

struct score_parts {
	Wire__TokenScore scores[PROTO_SCORES_MAX];
	Wire__TokenScore *pointers[PROTO_SCORES_MAX];
	uint32_t top_tokens[PROTO_SCORES_MAX][SAMPLING_TOP_LOGPROBS_MAX];
	float top_logprobs[PROTO_SCORES_MAX][SAMPLING_TOP_LOGPROBS_MAX];
};

static void put_score(struct score_parts *parts, uint32_t i, const struct sample *sample)
{
	Wire__TokenScore *score = &parts->scores[i];
	wire__token_score__init(score);
	score->token = sample->token;
	score->logprob = sample->logprob;
	score->rank = sample->rank;
	for (uint32_t k = 0; k < sample->top_count; k++) {
		parts->top_tokens[i][k] = sample->top[k].token;
		parts->top_logprobs[i][k] = sample->top[k].logprob;
	}
	score->n_top_tokens = score->n_top_logprobs = sample->top_count;
	score->top_tokens = parts->top_tokens[i];
	score->top_logprobs = parts->top_logprobs[i];
	parts->pointers[i] = score;
}

void prefill_send_scores(struct prefill *p, struct prefill_job *job, const struct run *run, const struct sample *scores)
{
	struct score_parts parts;
	Wire__JobId id = job_key_wire(&job->key);
	for (uint32_t first = 0; job->coordinator != PEER_NONE && first < run->score_count; first += PROTO_SCORES_MAX) {
		uint32_t left = run->score_count - first;
		uint32_t count = left < PROTO_SCORES_MAX ? left : PROTO_SCORES_MAX;
		for (uint32_t i = 0; i < count; i++)
			put_score(&parts, i, &scores[first + i]);
		Wire__PromptLogprobs message = WIRE__PROMPT_LOGPROBS__INIT;
		message.job = &id;
		message.position = run->score_first + first + 1;
		message.n_scores = count;
		message.scores = parts.pointers;
		PROTO_ENVELOPE(envelope, PROMPT_LOGPROBS, prompt_logprobs, &message);
		sessions_send(p->local->sessions, job->coordinator, &envelope);
	}
}
