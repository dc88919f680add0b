#include "tests/coordinator/scripted_core.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum err coord_submit(struct coord *coord, const struct coord_request *request, uint64_t now_ns, struct why *why,
		      uint64_t *ret_request, uint64_t *ret_retry_after_ns)
{
	(void)now_ns;
	assert(!coord->in_hook && coord->count < SCRIPTED_REQUESTS_MAX && request->prompt_count <= SCRIPTED_TOKENS_MAX);
	if (coord->refuse != ERR_OK && coord->accept == 0) {
		*ret_retry_after_ns = 1500000000;
		return why_set(why, coord->refuse, "refused by the script");
	}
	coord->accept -= coord->accept > 0;
	struct scripted_request *r = &coord->requests[coord->count];
	*r = (struct scripted_request){.user = request->user, .prompt_count = request->prompt_count,
				       .choice_count = request->choice_count, .sampling = request->sampling,
				       .salt_length = request->salt_length, .deadline_ns = request->deadline_ns, .open = true};
	snprintf(r->structure, sizeof(r->structure), "%s", request->structure ? request->structure : "");
	memcpy(r->tokens, request->tokens, request->prompt_count * sizeof(uint32_t));
	snprintf(r->model, sizeof(r->model), "%s", request->model);
	*ret_request = ++coord->count;
	return ERR_OK;
}

enum coord_more scripted_token(struct coord *coord, uint32_t request, uint32_t choice, uint32_t token,
			       Wire__Finish finish, uint32_t stop_token)
{
	struct scripted_request *r = &coord->requests[request];
	assert(r->open);
	struct sample sample = {.token = token, .logprob = -0.1f, .top_count = 1, .top = {{token, -0.1f}}};
	struct coord_token event = {.request = request + 1, .user = r->user, .choice = choice,
				    .position = r->prompt_count + r->given[choice]++, .sample = &sample, .finish = finish,
				    .stop_token = stop_token};
	coord->in_hook = true;
	enum coord_more more = coord->hooks.on_token(coord->hooks.context, &event);
	coord->in_hook = false;
	return more;
}

void scripted_scores(struct coord *coord, uint32_t request, uint32_t position, uint32_t count)
{
	struct scripted_request *r = &coord->requests[request];
	struct sample scores[SCRIPTED_SCORES_MAX] = {0};
	assert(r->open && count <= SCRIPTED_SCORES_MAX && position + count <= r->prompt_count);
	for (uint32_t i = 0; i < count; i++)
		scores[i] = (struct sample){.token = r->tokens[position + i], .logprob = -0.5f * (float)(position + i), .rank = 2,
					    .top_count = r->sampling.prompt_logprobs > 1, .top = {{30, -0.25f}}};
	struct coord_scores event = {request + 1, r->user, position, count, scores};
	coord->in_hook = true;
	coord->hooks.on_scores(coord->hooks.context, &event);
	coord->in_hook = false;
}

void scripted_end(struct coord *coord, uint32_t request, enum err e)
{
	struct scripted_request *r = &coord->requests[request];
	assert(r->open);
	r->open = false;
	struct coord_outcome outcome = {.request = request + 1, .user = r->user, .error = e,
					.choice_count = r->choice_count, .cached_tokens = 2, .attempts = 1};
	snprintf(outcome.why.text, sizeof(outcome.why.text), "as the script says");
	outcome.retry_after_ns = e == ERR_UNAVAILABLE ? 2000000000 : 0;
	memcpy(outcome.generated, r->given, sizeof(r->given));
	coord->in_hook = true;
	coord->hooks.on_end(coord->hooks.context, &outcome);
	coord->in_hook = false;
}

void coord_cancel(struct coord *coord, uint64_t request, uint64_t now_ns)
{
	(void)now_ns;
	assert(!coord->in_hook);
	coord->requests[request - 1].canceled = true;
	scripted_end(coord, (uint32_t)request - 1, ERR_CANCELED);
}

uint32_t coord_models(const struct coord *coord, struct coord_model *out, uint32_t max)
{
	assert(max > 0);
	out[0] = (struct coord_model){.name = "demo", .context_max = coord->context_max, .ready = coord->ready};
	return 1;
}

const char *coord_node_name(const struct coord *coord, uint32_t node)
{
	(void)coord, (void)node;
	return "scripted";
}

struct coord_tenant_load coord_tenant_load(const struct coord *coord, const char *tenant)
{
	(void)coord, (void)tenant;
	return (struct coord_tenant_load){0};
}
