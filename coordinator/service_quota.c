/* service_quota - a call's dealings with its tenant's quota: one request before it is read, its tokens before it is routed,
 * and what it did not use when it is over. */
#include <string.h>

#include "coordinator/service_impl.h"

static uint64_t now(const struct service *service)
{
	return service->options.now_ns(service->options.context);
}

static const char *tenant_of(const struct service_post *post)
{
	return post->tenant ? post->tenant : "";
}

static void fill_error(struct api_error *error, enum err e, const char *what, uint32_t limit, uint64_t retry_after_ns)
{
	if (e == ERR_TOO_LARGE) {
		api_error_set(error, 429, "insufficient_quota",
			      "This request could need more %s than its tenant's %u a minute. Please ask for less.", what, limit);
		error->retry_is_vain = true;
		return;
	}
	api_error_set(error, 429, "rate_limit_exceeded", "Rate limit reached: %u %s a minute. Please try again in %llu ms.",
		      limit, what, (unsigned long long)(retry_after_ns / 1000000));
	error->retry_after_ns = retry_after_ns;
}

enum err quota_admit_request(struct service *service, const struct service_post *post, struct api_error *error,
			     uint32_t *ret_account)
{
	const struct service_limits none = {0}, *limits = post->limits ? post->limits : &none;
	uint64_t retry_after_ns;
	*ret_account = quota_account(service->quota, tenant_of(post), &limits->quota, now(service));
	enum err e = quota_take_request(service->quota, *ret_account, now(service), &retry_after_ns);
	if (e != ERR_OK)
		fill_error(error, e, "requests", limits->quota.requests_per_minute, retry_after_ns);
	return e;
}

/* All that it could need. */
static uint64_t tokens_of(const struct service_call *call)
{
	uint64_t tokens = (uint64_t)call->reply.answer_count * call->request.sampling.max_tokens;
	for (uint32_t i = 0; i < call->prompts.count; i++)
		tokens += call->prompts.list[i].count;
	return tokens;
}

enum err quota_admit_tokens(struct service_call *call, const struct service_post *post, struct api_error *error)
{
	struct quota *quota = call->service->quota;
	uint64_t retry_after_ns, tokens = tokens_of(call);
	enum err e = quota_take_tokens(quota, call->account, tokens, now(call->service), &retry_after_ns);
	if (e == ERR_OK) {
		call->tokens_taken = tokens;
		call->charged = true;
	} else {
		fill_error(error, e, "tokens", post->limits->quota.tokens_per_minute, retry_after_ns);
	}
	return e;
}

void quota_note_end(struct service_call *call, const struct service_part *part, const struct coord_outcome *outcome)
{
	struct quota_use *use = &call->service->quota->accounts[call->account].use;
	uint64_t prompt = call->prompts.list[part - call->parts].count, generated = 0;
	for (uint32_t i = 0; i < outcome->choice_count; i++)
		generated += outcome->generated[i];
	if (outcome->attempts == 0)
		return; /* it never began */
	call->tokens_used += prompt + generated;
	use->prompt_tokens += prompt;
	use->generated_tokens += generated;
	use->cached_tokens += outcome->cached_tokens;
}

void quota_note_refused(struct service_call *call)
{
	call->service->quota->accounts[call->account].use.refused++;
}

void quota_call_over(struct service_call *call)
{
	if (call->charged)
		quota_settle(call->service->quota, call->account, call->tokens_taken, call->tokens_used, now(call->service));
	call->charged = false;
}

bool service_rates(const struct service *service, const char *tenant, struct service_rates *ret_rates)
{
	uint64_t now_ns = now(service);
	for (uint32_t i = 0; i < service->quota->count; i++) {
		struct quota_account *account = &service->quota->accounts[i];
		if (strcmp(account->name, tenant) != 0)
			continue;
		*ret_rates = (struct service_rates){.requests = account->requests.limit, .tokens = account->tokens.limit};
		quota_show(&account->requests, now_ns, &ret_rates->requests_left, &ret_rates->requests_full_in_ns);
		quota_show(&account->tokens, now_ns, &ret_rates->tokens_left, &ret_rates->tokens_full_in_ns);
		return ret_rates->requests || ret_rates->tokens;
	}
	return false;
}

/* ---- metrics ---- */

static void show_counter(const struct service *service, struct metrics_text *text, const char *name, const char *help,
			 size_t offset)
{
	metrics_family(text, name, "counter", help);
	for (uint32_t i = 0; i < QUOTA_ACCOUNTS_MAX; i++) {
		const struct quota_account *account = &service->quota->accounts[i];
		const char *labels[] = {"tenant", account->name, NULL};
		if (account->used)
			metrics_line(text, labels, (double)*(const uint64_t *)((const char *)&account->use + offset));
	}
}

static void show_load(const struct service *service, struct metrics_text *text, const char *name, const char *help,
		      bool running)
{
	metrics_family(text, name, "gauge", help);
	for (uint32_t i = 0; i < QUOTA_ACCOUNTS_MAX; i++) {
		const struct quota_account *account = &service->quota->accounts[i];
		const char *labels[] = {"tenant", account->name, NULL};
		if (!account->used)
			continue;
		struct coord_tenant_load load = coord_tenant_load(service->coord, account->name);
		metrics_line(text, labels, running ? load.running : load.waiting);
	}
}

void service_tenant_metrics(const struct service *service, struct metrics_text *text)
{
	show_counter(service, text, "baton_tenant_requests_total", "Requests of a tenant.", offsetof(struct quota_use, requests));
	show_counter(service, text, "baton_tenant_refused_total", "Of them refused, by a quota or for want of room.",
		     offsetof(struct quota_use, refused));
	show_counter(service, text, "baton_tenant_prompt_tokens_total", "Tokens of its prompts.",
		     offsetof(struct quota_use, prompt_tokens));
	show_counter(service, text, "baton_tenant_generation_tokens_total", "Tokens of its answers.",
		     offsetof(struct quota_use, generated_tokens));
	show_counter(service, text, "baton_tenant_cached_tokens_total", "Tokens of its prompts that were found in a cache.",
		     offsetof(struct quota_use, cached_tokens));
	show_load(service, text, "baton_tenant_requests_running", "Its requests that have their nodes.", true);
	show_load(service, text, "baton_tenant_requests_waiting", "Its requests that wait for nodes.", false);
}
