/* service_call - one call from its body to its end at the sink. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/hash.h"
#include "base/log.h"
#include "coordinator/service_impl.h"
#include "model/model_dir.h"

/* ---- beginning */

static const struct served_model *find_model(const struct service *service, const char *name)
{
	for (uint32_t i = 0; i < service->options.model_count; i++)
		if (strcmp(service->options.models[i].name, name) == 0)
			return &service->options.models[i];
	return NULL;
}

/* What the nodes that serve it now can do may be less than what the model can. */
static uint32_t context_of(const struct service *service, const struct served_model *model)
{
	struct coord_model known[SERVED_MODELS_MAX * 2];
	uint32_t count = coord_models(service->coord, known, SERVED_MODELS_MAX * 2);
	uint32_t most = model->context_max;
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(known[i].name, model->name) == 0 && known[i].context_max && known[i].context_max < most)
			most = known[i].context_max;
	return most;
}

static uint64_t derived_seed(const struct service_post *post)
{
	struct sha256 sha;
	uint8_t digest[32];
	uint64_t seed;
	const char *tenant = post->tenant ? post->tenant : "";
	sha256_init(&sha);
	sha256_add(&sha, tenant, strlen(tenant) + 1);
	sha256_add(&sha, post->idempotency_key, strlen(post->idempotency_key));
	sha256_end(&sha, digest);
	memcpy(&seed, digest, sizeof(seed));
	return seed;
}

/* 16 bytes never come in parts. */
static enum err random_bytes(void *bytes, size_t length)
{
	return getrandom(bytes, length, 0) == (ssize_t)length ? ERR_OK : ERR_IO;
}

static enum err settle_seed(struct service_call *call, const struct service_post *post)
{
	if (call->request.has_seed)
		return ERR_OK;
	if (!post->idempotency_key || !*post->idempotency_key)
		return random_bytes(&call->request.sampling.seed, sizeof(call->request.sampling.seed));
	call->request.sampling.seed = derived_seed(post);
	return ERR_OK;
}

static enum err make_answers(struct service_call *call)
{
	const struct api_request *request = &call->request;
	uint32_t count = call->prompts.count * request->n;
	call->answers = calloc(count, sizeof(*call->answers));
	call->token_ns = calloc(count, sizeof(*call->token_ns));
	call->parts = calloc(call->prompts.count, sizeof(*call->parts));
	if (!call->answers || !call->token_ns || !call->parts)
		return ERR_NOMEM;
	call->part_count = call->prompts.count;
	call->reply.answers = call->answers;
	call->reply.answer_count = count;
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < count; i++) {
		const struct tokens *prompt = &call->prompts.list[i / request->n];
		answer_init(&call->answers[i], request, call->model->dir->tokenizer, i / request->n);
		if (request->echo && e == ERR_OK)
			e = answer_echo(&call->answers[i], prompt->ids, prompt->count);
	}
	for (uint32_t i = 0; i < call->part_count; i++)
		call->parts[i] = (struct service_part){.call = call, .first = i * request->n};
	return e;
}

static enum err fill_reply(struct service_call *call)
{
	uint64_t random[2];
	enum err e = random_bytes(random, sizeof(random));
	if (e != ERR_OK)
		return e;
	struct reply *reply = &call->reply;
	reply->request = &call->request;
	reply->prompts = &call->prompts;
	reply->model = call->model->name;
	reply->created = (int64_t)time(NULL);
	reply->traces = &call->traces;
	snprintf(reply->id, sizeof(reply->id), "%s-%016llx%016llx", call->request.kind == API_CHAT ? "chatcmpl" : "cmpl",
		 (unsigned long long)random[0], (unsigned long long)random[1]);
	return ERR_OK;
}

static enum err fill_call(struct service_call *call, const struct service_post *post, struct api_error *error)
{
	struct service *service = call->service;
	enum err e = api_request_parse(post->kind, post->body, post->length, &call->request, error);
	if (e != ERR_OK)
		return e;
	call->request.trace |= post->trace;
	call->model = find_model(service, call->request.model);
	if (!call->model) {
		api_error_set(error, 404, "model_not_found", "The model `%s` does not exist.", call->request.model);
		snprintf(error->param, sizeof(error->param), "model");
		return ERR_NOT_FOUND;
	}
	call->metrics = &service->metrics[call->model - service->options.models];
	e = settle_seed(call, post);
	if (e == ERR_OK)
		e = prompts_make(&call->request, call->model, context_of(service, call->model), &call->prompts, error);
	if (e == ERR_OK)
		e = make_answers(call);
	return e == ERR_OK ? fill_reply(call) : e;
}

struct service_call *call_create(struct service *service, const struct service_post *post,
				 const struct service_sink *sink, struct api_error *error)
{
	struct service_call *call = calloc(1, sizeof(*call));
	if (!call) {
		api_error_set(error, 500, NULL, "out of memory");
		return NULL;
	}
	call->service = service;
	call->sink = *sink;
	snprintf(call->request_id, sizeof(call->request_id), "%s", post->request_id ? post->request_id : "");
	enum err e = fill_call(call, post, error);
	if (e == ERR_OK) {
		call->next = service->calls;
		if (call->next)
			call->next->prev = call;
		service->calls = call;
		service->counts.calls_open++;
		return call;
	}
	if (!error->status)
		api_error_from(error, e, NULL, 0);
	call_free(call);
	return NULL;
}

/* ---- end */

void call_free(struct service_call *call)
{
	struct service *service = call->service;
	bool listed = call->prev || call->next || service->calls == call;
	if (listed)
		service->counts.calls_open--;
	if (call->next)
		call->next->prev = call->prev;
	if (call->prev)
		call->prev->next = call->next;
	else if (listed)
		service->calls = call->next;
	for (uint32_t i = 0; call->answers && i < call->reply.answer_count; i++)
		answer_fini(&call->answers[i]);
	free(call->answers);
	free(call->token_ns);
	free(call->parts);
	prompts_fini(&call->prompts);
	api_request_fini(&call->request);
	buf_fini(&call->out);
	buf_fini(&call->traces);
	free(call);
}

void call_free_when_done(struct service_call *call)
{
	if (call->over && call->parts_open == 0 && call->busy == 0)
		call_free(call);
}

static void end_sink(struct service_call *call)
{
	call->over = true;
	call->service->doomed |= call->parts_open > 0;
}

static bool flush(struct service_call *call)
{
	bool good = call->out.length == 0 || call->sink.stream_write(call->sink.context, call->out.data, call->out.length);
	buf_clear(&call->out);
	return good;
}

void call_fail(struct service_call *call, const struct api_error *error)
{
	if (call->over)
		return;
	buf_clear(&call->out);
	enum err e = call->streaming ? buf_text(&call->out, "data: ") : ERR_OK;
	if (e == ERR_OK)
		e = api_error_body(error, &call->out);
	if (e == ERR_OK && call->streaming)
		e = buf_text(&call->out, "\n\n");
	log_info("request %s: %d: %s", call->request_id, error->status, error->message);
	if (!call->streaming) {
		call->sink.reply(call->sink.context, error->status, error->retry_after_ns,
				 e == ERR_OK ? call->out.data : "{}", e == ERR_OK ? call->out.length : 2);
	} else {
		(void)flush(call);
		call->sink.stream_end(call->sink.context); /* never with [DONE]: clients would take it for whole */
	}
	end_sink(call);
}

static void fail_with(struct service_call *call, enum err e)
{
	struct api_error error;
	api_error_from(&error, e, NULL, 0);
	call_fail(call, &error);
}

static bool start_stream(struct service_call *call)
{
	if (call->streaming)
		return true;
	call->streaming = true;
	call->sink.stream_start(call->sink.context);
	for (uint32_t i = 0; i < call->reply.answer_count; i++) {
		enum err e = reply_opening(&call->reply, i, &call->out);
		if (e == ERR_OK)
			continue;
		fail_with(call, e);
		return false;
	}
	return true;
}

static void too_slow(struct service_call *call)
{
	call->service->counts.slow_readers++;
	log_warn("request %s: its client does not read; given up", call->request_id);
	call->sink.stream_end(call->sink.context);
	end_sink(call);
}

void call_stream(struct service_call *call, uint32_t answer)
{
	if (!call->request.stream || !start_stream(call))
		return;
	enum err e = reply_chunk(&call->reply, answer, &call->out);
	if (e != ERR_OK)
		fail_with(call, e);
	else if (!flush(call))
		too_slow(call);
}

static void finish_stream(struct service_call *call)
{
	if (!start_stream(call))
		return;
	enum err e = reply_last(&call->reply, &call->out);
	if (e == ERR_OK)
		e = buf_text(&call->out, REPLY_DONE);
	if (e != ERR_OK) {
		fail_with(call, e);
		return;
	}
	(void)flush(call); /* a slow reader may have what is left: it is bounded */
	call->sink.stream_end(call->sink.context);
	end_sink(call);
}

void call_finish(struct service_call *call)
{
	if (call->over)
		return;
	if (call->request.stream) {
		finish_stream(call);
		return;
	}
	enum err e = reply_whole(&call->reply, &call->out);
	if (e != ERR_OK) {
		fail_with(call, e);
		return;
	}
	call->sink.reply(call->sink.context, 200, 0, call->out.data, call->out.length);
	end_sink(call);
}
