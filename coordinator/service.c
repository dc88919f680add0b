#include "coordinator/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "coordinator/json_out.h"
#include "coordinator/service_impl.h"
#include "coordinator/trace.h"

enum err service_create(const struct service_options *options, struct service **ret_service)
{
	struct service *service = calloc(1, sizeof(*service));
	struct api_metrics *metrics = calloc(options->model_count + 1, sizeof(*metrics));
	struct quota *quota = calloc(1, sizeof(*quota));
	if (!service || !metrics || !quota || idempotency_create(&service->keys) != ERR_OK) {
		free(quota);
		free(service);
		free(metrics);
		return ERR_NOMEM;
	}
	service->options = *options;
	service->metrics = metrics;
	service->quota = quota;
	*ret_service = service;
	return ERR_OK;
}

void service_destroy(struct service *service)
{
	if (!service)
		return;
	while (service->calls)
		call_free(service->calls);
	idempotency_destroy(service->keys);
	free(service->quota);
	free(service->metrics);
	free(service);
}

void service_attach(struct service *service, struct coord *coord)
{
	service->coord = coord;
}

static uint64_t now(const struct service *service)
{
	return service->options.now_ns(service->options.context);
}

/* ---- hooks of the core */

static void observe_token(struct service_call *call, uint32_t answer)
{
	uint64_t now_ns = now(call->service), before_ns = call->token_ns[answer];
	if (before_ns)
		api_metrics_observe(call->metrics, API_ITL, (double)(now_ns - before_ns) * 1e-9);
	call->token_ns[answer] = now_ns;
	call->metrics->generation_tokens++;
}

static enum coord_more on_token(void *context, const struct coord_token *token)
{
	(void)context;
	struct service_part *part = token->user;
	struct service_call *call = part->call;
	uint32_t index = part->first + token->choice;
	struct answer *answer = &call->answers[index];
	if (call->over || answer->finish != FINISH_NONE)
		return COORD_ENOUGH;
	observe_token(call, index);
	/* The numbers of enum finish are the wire's (base/sampling.h). */
	enum err e = answer_token(answer, token->sample, (enum finish)token->finish, token->stop_token);
	if (e == ERR_OK) {
		call_stream(call, index);
	} else {
		struct api_error error;
		api_error_from(&error, e, "the answer", 0);
		call_fail(call, &error);
	}
	return call->over || answer->finish != FINISH_NONE ? COORD_ENOUGH : COORD_MORE;
}

static void on_scores(void *context, const struct coord_scores *scores)
{
	(void)context;
	struct service_part *part = scores->user;
	if (!part->call->over)
		call_scores(part->call, part, scores);
}

static void on_end(void *context, const struct coord_outcome *outcome)
{
	(void)context;
	struct service_part *part = outcome->user;
	struct service_call *call = part->call;
	part->open = false;
	call->parts_open--;
	call->reply.cached_tokens += outcome->cached_tokens;
	quota_note_end(call, part, outcome);
	api_metrics_outcome(call->metrics, outcome, call->over);
	enum err e = ERR_OK;
	if (call->request.trace && call->traces.length)
		e = buf_text(&call->traces, ",");
	if (call->request.trace && e == ERR_OK)
		e = trace_append(outcome, &call->traces);
	if (e == ERR_OK)
		e = outcome->error;
	if (e != ERR_OK) {
		struct api_error error;
		api_error_from(&error, e, outcome->why.text, outcome->retry_after_ns);
		call_fail(call, &error);
	} else if (call->parts_open == 0 && call->busy == 0) {
		call_finish(call);
	}
	call_free_when_done(call);
}

static void on_route(void *context, uint64_t request, void *user, const struct route_record *record)
{
	(void)request;
	struct service_part *part = user;
	struct service *service = context;
	part->routed = record->prefill != ROUTE_NONE;
	if (part->routed)
		log_debug("request %s: %u tokens: prefill %s (%u of them there), decode %s, cost %.0f", part->call->request_id,
			  record->context, coord_node_name(service->coord, record->prefill), record->cached,
			  coord_node_name(service->coord, record->decode), (double)record->cost);
}

struct coord_hooks service_hooks(struct service *service)
{
	return (struct coord_hooks){.context = service, .on_token = on_token, .on_scores = on_scores, .on_end = on_end,
				    .on_route = on_route};
}

/* ---- calls */

/* Part of every KV key: what differs here shares no KV.  Nothing given: nothing added.  The client's salt comes after the
 * tenant's, so that it can only narrow whom it shares with. */
static uint32_t make_salt(const struct service_call *call, const uint8_t *tenant_salt, uint8_t *ret_salt)
{
	static const uint8_t none[32];
	const char *salt = call->request.cache_salt;
	if (!tenant_salt && !*salt)
		return 0;
	hash_hmac(tenant_salt ? tenant_salt : none, sizeof(none), salt, strlen(salt), ret_salt);
	return 32;
}

static bool model_is_ready(const struct service *service, const char *name)
{
	struct coord_model known[SERVED_MODELS_MAX * 2];
	uint32_t count = coord_models(service->coord, known, SERVED_MODELS_MAX * 2);
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(known[i].name, name) == 0)
			return known[i].ready;
	return false;
}

static void refused(struct service_call *call, enum err e, const struct why *why, uint64_t retry_after_ns)
{
	struct api_error error;
	if (e == ERR_NOT_FOUND)
		e = ERR_UNAVAILABLE; /* we know the model; nobody serves it now */
	api_error_from(&error, e, why->text, retry_after_ns);
	if (e == ERR_UNAVAILABLE && model_is_ready(call->service, call->model->name)) {
		api_error_set(&error, 429, "overloaded", "%s", why->text); /* only full */
		error.retry_after_ns = retry_after_ns ? retry_after_ns : 1000000000;
	}
	call->service->counts.refused++;
	quota_note_refused(call);
	call_fail(call, &error);
}

static enum err submit(struct service_call *call, uint32_t index, const struct service_post *post, struct why *why,
		       uint64_t *ret_retry_after_ns)
{
	uint8_t salt[32];
	struct service_part *part = &call->parts[index];
	struct coord_request request = {
		.user = part,
		.id = call->request_id,
		.model = call->model->name,
		.tenant = post->tenant ? post->tenant : "",
		.salt = salt,
		.salt_length = make_salt(call, post->tenant_salt, salt),
		.tokens = call->prompts.list[index].ids,
		.prompt_count = (uint32_t)call->prompts.list[index].count,
		.choice_count = call->request.n,
		.sampling = call->request.sampling,
		.structure = call->request.structure,
		.class = call->request.class,
		.share = post->limits ? post->limits->share : (struct fair_share){0},
		.deadline_ns = call->deadline_ns,
	};
	part->open = true; /* it may end before coord_submit() returns */
	call->parts_open++;
	uint64_t number = 0;
	enum err e = coord_submit(call->service->coord, &request, now(call->service), why, &number, ret_retry_after_ns);
	part->number = number;
	if (e != ERR_OK) {
		part->open = false;
		call->parts_open--;
	}
	return e;
}

static void observe_call(struct service_call *call)
{
	const struct sampling *sampling = &call->request.sampling;
	for (uint32_t i = 0; i < call->part_count; i++) {
		call->metrics->prompt_tokens += call->prompts.list[i].count;
		api_metrics_observe(call->metrics, API_PROMPT_TOKENS, (double)call->prompts.list[i].count);
	}
	api_metrics_observe(call->metrics, API_N, call->request.n);
	api_metrics_observe(call->metrics, API_MAX_TOKENS, sampling->max_tokens);
}

static void refuse_post(struct service *service, const struct service_post *post, const struct service_sink *sink,
			const struct api_error *error)
{
	struct buf body = {0};
	service->counts.refused++;
	/* Not the message: it may quote what the client sent. */
	log_debug("request %s: %d: %s%s%s", post->request_id ? post->request_id : "", error->status,
		  error->code ? error->code : error->type, error->param[0] ? ", of " : "", error->param);
	enum err e = api_error_body(error, &body);
	struct service_answer answer = {.status = error->status, .retry_after_ns = error->retry_after_ns,
					.retry_is_vain = error->retry_is_vain, .body = e == ERR_OK ? body.data : "{}",
					.length = e == ERR_OK ? body.length : 2};
	sink->reply(sink->context, &answer);
	buf_fini(&body);
}

struct service_call *service_post(struct service *service, const struct service_post *post,
				  const struct service_sink *sink)
{
	struct api_error error = {0};
	service->counts.calls++;
	uint32_t account;
	struct service_call *call = NULL;
	if (quota_admit_request(service, post, &error, &account) == ERR_OK)
		call = call_create(service, post, sink, account, &error);
	if (!call) {
		refuse_post(service, post, sink, &error);
		return NULL;
	}
	observe_call(call);
	call->busy++; /* parts may end, and the call fail, while more parts are submitted */
	for (uint32_t i = 0; i < call->part_count && !call->over; i++) {
		struct why why = {0};
		uint64_t retry_after_ns = 0;
		enum err e = submit(call, i, post, &why, &retry_after_ns);
		if (e != ERR_OK)
			refused(call, e, &why, retry_after_ns);
	}
	call->busy--;
	if (call->parts_open == 0)
		call_finish(call);
	bool over = call->over;
	call_free_when_done(call);
	return over ? NULL : call;
}

static void cancel_parts(struct service_call *call)
{
	call->busy++;
	for (uint32_t i = 0; i < call->part_count; i++)
		if (call->parts[i].open)
			coord_cancel(call->service->coord, call->parts[i].number, now(call->service));
	call->busy--;
	call_free_when_done(call);
}

void service_gone(struct service_call *call)
{
	call->service->counts.gone++;
	call_over(call);
	log_info("request %s: 499: its client left", call->request_id);
	cancel_parts(call);
}

void service_tick(struct service *service)
{
	if (!service->doomed)
		return;
	service->doomed = false;
	for (struct service_call *call = service->calls, *next; call; call = next) {
		next = call->next;
		if (call->over)
			cancel_parts(call);
	}
}

/* ---- what it knows */

bool service_ready(const struct service *service)
{
	for (uint32_t i = 0; i < service->options.model_count; i++)
		if (model_is_ready(service, service->options.models[i].name))
			return true;
	return false;
}

static void put_model(struct json_out *out, const struct served_model *model)
{
	json_out_open(out, '{');
	json_put_text(out, "id", model->name);
	json_put_text(out, "object", "model");
	json_put_unsigned(out, "created", (uint64_t)model->created);
	json_put_text(out, "owned_by", "baton");
	json_put_text(out, "root", model->name);
	json_put_null(out, "parent");
	json_put_unsigned(out, "max_model_len", model->context_max);
	json_put_open(out, "permission", '[');
	json_out_close(out, ']');
	json_out_close(out, '}');
}

enum err service_models(const struct service *service, struct buf *buf)
{
	struct json_out out;
	json_out_init(&out, buf);
	json_out_open(&out, '{');
	json_put_text(&out, "object", "list");
	json_put_open(&out, "data", '[');
	for (uint32_t i = 0; i < service->options.model_count; i++)
		put_model(&out, &service->options.models[i]);
	json_out_close(&out, ']');
	json_out_close(&out, '}');
	return out.e;
}

enum err service_model(const struct service *service, const char *name, struct buf *buf)
{
	for (uint32_t i = 0; i < service->options.model_count; i++) {
		if (strcmp(service->options.models[i].name, name) != 0)
			continue;
		struct json_out out;
		json_out_init(&out, buf);
		put_model(&out, &service->options.models[i]);
		return out.e;
	}
	return ERR_NOT_FOUND;
}

void service_counts(const struct service *service, struct service_counts *ret_counts)
{
	*ret_counts = service->counts;
}

void service_metrics(struct service *service, struct metrics_text *text)
{
	uint32_t count = service->options.model_count;
	for (uint32_t i = 0; i < count; i++)
		service->metrics[i].running = service->metrics[i].waiting = 0;
	for (struct service_call *call = service->calls; call; call = call->next)
		for (uint32_t i = 0; i < call->part_count; i++) {
			call->metrics->running += call->parts[i].open && call->parts[i].routed;
			call->metrics->waiting += call->parts[i].open && !call->parts[i].routed;
		}
	service_tenant_metrics(service, text);
	api_metrics_show(service->metrics, service->options.models, count, text);
}
