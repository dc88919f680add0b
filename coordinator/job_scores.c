/* job_scores - log-probabilities of a prompt's own tokens to the shell: each once, in order, before the first token. */
#include <string.h>

#include "coordinator/core_impl.h"
#include "proto/codec.h"

bool request_lacks_scores(const struct request *request)
{
	return request->sampling.prompt_logprobs && request->scored + 1 < request->prompt_count;
}

static void read_score(const Wire__TokenScore *wire, struct sample *ret_score)
{
	*ret_score = (struct sample){.token = wire->token, .logprob = wire->logprob, .rank = wire->rank};
	ret_score->top_count = (uint32_t)wire->n_top_tokens;
	for (uint32_t i = 0; i < ret_score->top_count; i++)
		ret_score->top[i] = (struct sample_top){wire->top_tokens[i], wire->top_logprobs[i]};
}

/* From the next one on; what came before is of an attempt whose last words arrived twice. */
static void forward_scores(struct coord *coord, struct request *request, const Wire__PromptLogprobs *message)
{
	struct sample scores[PROTO_SCORES_MAX];
	uint32_t known = request->scored + 1 - message->position;
	uint32_t left = request->prompt_count - 1 - request->scored;
	uint32_t count = (uint32_t)message->n_scores - known;
	count = count < left ? count : left;
	for (uint32_t i = 0; i < count; i++)
		read_score(message->scores[known + i], &scores[i]);
	struct coord_scores event = {request->number, request->user, request->scored + 1, count, scores};
	request->scored += count;
	coord->in_hook = true;
	if (coord->options.hooks.on_scores)
		coord->options.hooks.on_scores(coord->options.hooks.context, &event);
	coord->in_hook = false;
}

void jobs_scores(struct coord *coord, uint32_t node, const Wire__PromptLogprobs *message, uint64_t now_ns)
{
	struct job *job = job_find(coord, message->job);
	uint32_t half = job ? job_half_of(job, node) : 2;
	struct request *request = job ? job->request : NULL;
	if (half != 0 || job->state != JOB_PREFILLING || !request_lacks_scores(request)) {
		coord->counters.messages_stray++;
		return;
	}
	uint32_t next = request->scored + 1;
	job->progress_ns = now_ns;
	if (message->position > next)
		job_fail(coord, job, half, ERR_PROTOCOL, CAUSE_PROTOCOL, now_ns); /* a gap */
	else if (message->position + message->n_scores > next)
		forward_scores(coord, request, message);
}
