/* service_call - one call from its body to its end at the sink. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/hash.h"
#include "base/log.h"
#include "coordinator/json_out.h"
#include "coordinator/service_impl.h"
#include "model/model_dir.h"

/* ---- beginning */

enum err service_pick_model(const struct service *service, const char *name, const struct served_model **ret_model,
			    struct api_error *error)
{
	for (uint32_t i = 0; i < service->options.model_count; i++) {
		if (name && strcmp(service->options.models[i].name, name) != 0)
			continue;
		*ret_model = &service->options.models[i];
		return ERR_OK;
	}
	api_error_set(error, 404, "model_not_found", "The model `%s` does not exist.", name ? name : "");
	snprintf(error->param, sizeof(error->param), "model");
	return ERR_NOT_FOUND;
}

/* What the nodes that serve it now can do may be less than what the model can. */
uint32_t service_context(const struct service *service, const struct served_model *model)
{
	struct coord_model known[SERVED_MODELS_MAX * 2];
	uint32_t count = coord_models(service->coord, known, SERVED_MODELS_MAX * 2);
	uint32_t most = model->context_max;
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(known[i].name, model->name) == 0 && known[i].context_max && known[i].context_max < most)
			most = known[i].context_max;
	return most;
}

/* What follows from tenant and idempotency key: the seed, the name in the table, the answer's id. */
struct derived {
	uint64_t seed;
	struct id128 name;
	uint64_t id[2];
};
_Static_assert(sizeof(struct derived) <= 2 * 32, "two digests hold it");

static void derive(const struct service_post *post, struct derived *ret_derived)
{
	uint8_t digests[2][32];
	const char *tenant = post->tenant ? post->tenant : "";
	for (int i = 0; i < 2; i++) {
		struct sha256 sha;
		sha256_init(&sha);
		sha256_add(&sha, tenant, strlen(tenant) + 1);
		sha256_add(&sha, post->idempotency_key, strlen(post->idempotency_key));
		if (i > 0)
			sha256_add(&sha, "", 1);
		sha256_end(&sha, digests[i]);
	}
	memcpy(ret_derived, digests, sizeof(*ret_derived));
}

/* So few bytes never come in parts. */
static enum err random_bytes(void *bytes, size_t length)
{
	return getrandom(bytes, length, 0) == (ssize_t)length ? ERR_OK : ERR_IO;
}

/* Without a key all of it is drawn. */
static enum err settle_identity(struct service_call *call, const struct service_post *post, struct derived *ret_derived)
{
	enum err e = ERR_OK;
	if (post->idempotency_key)
		derive(post, ret_derived);
	else
		e = random_bytes(ret_derived, sizeof(*ret_derived));
	if (e == ERR_OK && !call->request.has_seed)
		call->request.sampling.seed = ret_derived->seed;
	return e;
}

static void digest_request(const struct service_post *post, struct id128 *ret_digest)
{
	struct sha256 sha;
	uint8_t digest[32], kind = (uint8_t)post->kind;
	sha256_init(&sha);
	sha256_add(&sha, &kind, 1);
	sha256_add(&sha, post->body, post->length);
	sha256_end(&sha, digest);
	memcpy(ret_digest->bytes, digest, sizeof(ret_digest->bytes));
}

static enum err check_key(const struct service_post *post, struct api_error *error)
{
	size_t length = post->idempotency_key ? strlen(post->idempotency_key) : 1;
	if (length > 0 && length <= IDEMPOTENCY_KEY_MAX)
		return ERR_OK;
	return api_error_field(error, "Idempotency-Key", "Idempotency-Key: %zu bytes, expected 1 to %d", length,
			       IDEMPOTENCY_KEY_MAX);
}

/* Last of all: a request that was refused has not used its key. */
static enum err take_key(struct service_call *call, const struct service_post *post, const struct derived *derived,
			 uint64_t now_ns, struct api_error *error)
{
	struct id128 request;
	if (!post->idempotency_key)
		return ERR_OK;
	digest_request(post, &request);
	enum err e = idempotency_begin(call->service->keys, &derived->name, &request, now_ns, &call->ticket);
	if (e == ERR_EXISTS)
		api_error_set(error, 422, "idempotency_key_reused",
			      "This Idempotency-Key was given for another request. A key belongs to one request.");
	else if (e == ERR_BUSY)
		api_error_set(error, 409, "idempotency_key_in_use", "The request with this Idempotency-Key still runs.");
	if (e == ERR_BUSY)
		error->retry_after_ns = 1000000000;
	return e;
}

/* The shorter one of the service's and the client's. */
static uint64_t deadline_of(const struct service *service, const struct service_post *post, uint64_t now_ns)
{
	uint64_t limit = service->options.request_timeout_ns;
	if (post->timeout_ns && (!limit || post->timeout_ns < limit))
		limit = post->timeout_ns;
	return limit ? now_ns + limit : 0;
}

/* The tokens of a prompt with what the model says of each: from the first, of which it says nothing. */
static bool echoes_scores(const struct api_request *request)
{
	return request->echo && request->sampling.logprobs >= 0;
}

static enum err begin_echo(struct answer *answer, const struct api_request *request, const struct tokens *prompt)
{
	if (echoes_scores(request))
		return answer_echo_token(answer, prompt->ids[0], NULL, prompt->count == 1);
	return request->echo ? answer_echo(answer, prompt->ids, prompt->count) : ERR_OK;
}

/* Counts what the call may come to hold, before any of it is computed. */
static enum err take_scores(struct service_call *call, struct api_error *error)
{
	const struct api_request *request = &call->request;
	struct service *service = call->service;
	uint64_t entries = 0;
	uint64_t copies = (echoes_scores(request) ? request->n : 0) + request->prompt_logprobs;
	for (uint32_t i = 0; i < call->prompts.count; i++)
		entries += copies * call->prompts.list[i].count * request->sampling.prompt_logprobs;
	if (entries > SERVICE_SCORES_MAX / 16)
		return api_error_field(error, request->prompt_logprobs ? "prompt_logprobs" : "logprobs",
				       "%llu log-probabilities of prompt tokens, at most %d in one request",
				       (unsigned long long)entries, SERVICE_SCORES_MAX / 16);
	if (entries + service->score_entries > SERVICE_SCORES_MAX) {
		api_error_set(error, 429, "overloaded", "too many log-probabilities of prompts are on their way");
		error->retry_after_ns = 1000000000;
		return ERR_AGAIN;
	}
	call->score_entries = entries;
	service->score_entries += entries;
	return ERR_OK;
}

static struct speech_options speech_of(const struct service_call *call)
{
	const struct api_request *request = &call->request;
	if (request->kind != API_CHAT)
		return (struct speech_options){0};
	return (struct speech_options){
		.tools = request->tools ? call->model->tool_format : TOOL_NONE,
		.reasoning = call->model->reasoning_format,
		.prompt_end = call->prompts.end,
		.prompt_end_length = call->prompts.end_length,
		.one_call = request->one_call,
		.definitions = request->tools,
		.exact = request->must_call,
	};
}

static enum err make_answers(struct service_call *call, const struct derived *derived,
			     const struct speech_options *speech)
{
	const struct api_request *request = &call->request;
	uint32_t count = call->prompts.count * request->n;
	call->answers = calloc(count, sizeof(*call->answers));
	call->token_ns = calloc(count, sizeof(*call->token_ns));
	call->parts = calloc(call->prompts.count, sizeof(*call->parts));
	call->prompt_logprobs = calloc(call->prompts.count, sizeof(*call->prompt_logprobs));
	if (!call->answers || !call->token_ns || !call->parts || !call->prompt_logprobs)
		return ERR_NOMEM;
	call->part_count = call->prompts.count;
	call->reply.answers = call->answers;
	call->reply.answer_count = count;
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < count; i++) {
		const struct tokens *prompt = &call->prompts.list[i / request->n];
		answer_init(&call->answers[i], request, call->model->dir->tokenizer, speech, i / request->n);
		call->answers[i].call_seed = hash_xxh3(derived->id, sizeof(derived->id), i);
		if (e == ERR_OK)
			e = begin_echo(&call->answers[i], request, prompt);
	}
	for (uint32_t i = 0; i < call->part_count; i++)
		call->parts[i] = (struct service_part){.call = call, .first = i * request->n};
	return e;
}

static void fill_reply(struct service_call *call, const struct derived *derived)
{
	struct reply *reply = &call->reply;
	reply->request = &call->request;
	reply->prompts = &call->prompts;
	reply->model = call->model->name;
	reply->created = (int64_t)time(NULL);
	reply->prompt_logprobs = call->prompt_logprobs;
	reply->traces = &call->traces;
	static const char *const prefixes[API_KINDS] = {
		[API_COMPLETION] = "cmpl", [API_CHAT] = "chatcmpl", [API_GENERATE] = "generate"};
	static const char *const given_prefixes[API_KINDS] = {
		[API_COMPLETION] = "cmpl-", [API_CHAT] = "chatcmpl-", [API_GENERATE] = ""};
	if (call->request.request_id)
		snprintf(reply->id, sizeof(reply->id), "%s%s", given_prefixes[call->request.kind], call->request.request_id);
	else
		snprintf(reply->id, sizeof(reply->id), "%s-%016llx%016llx", prefixes[call->request.kind],
			 (unsigned long long)derived->id[0], (unsigned long long)derived->id[1]);
}

static enum err fill_call(struct service_call *call, const struct service_post *post, struct api_error *error)
{
	struct service *service = call->service;
	struct derived derived;
	uint64_t now_ns = service->options.now_ns(service->options.context);
	enum err e = check_key(post, error);
	if (e == ERR_OK)
		e = api_request_parse(post->kind, post->body, post->length, &call->request, error);
	if (e != ERR_OK)
		return e;
	call->request.trace |= post->trace;
	e = service_pick_model(service, call->request.model, &call->model, error);
	if (e != ERR_OK)
		return e;
	if (call->request.tools && call->model->tool_format == TOOL_NONE)
		return api_error_field(error, "tools", "tools: how %s writes calls is not known (--tool-call-parser)",
				       call->model->name);
	call->metrics = &service->metrics[call->model - service->options.models];
	call->deadline_ns = deadline_of(service, post, now_ns);
	e = settle_identity(call, post, &derived);
	if (e != ERR_OK)
		return e;
	uint32_t context_max = service_context(service, call->model);
	if (post->limits && post->limits->context_max && post->limits->context_max < context_max)
		context_max = post->limits->context_max;
	e = prompts_make(&call->request, call->model, context_max, &call->prompts, error);
	struct speech_options speech = speech_of(call);
	if (e == ERR_OK)
		e = service_settle_structure(call, &speech, error);
	if (e == ERR_OK)
		e = take_scores(call, error);
	if (e == ERR_OK)
		e = make_answers(call, &derived, &speech);
	if (e == ERR_OK)
		fill_reply(call, &derived);
	if (e == ERR_OK)
		e = quota_admit_tokens(call, post, error);
	return e == ERR_OK ? take_key(call, post, &derived, now_ns, error) : e;
}

struct service_call *call_create(struct service *service, const struct service_post *post,
				 const struct service_sink *sink, uint32_t account, struct api_error *error)
{
	struct service_call *call = calloc(1, sizeof(*call));
	if (!call) {
		api_error_set(error, 500, NULL, "out of memory");
		return NULL;
	}
	call->service = service;
	call->sink = *sink;
	call->account = account;
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
	quota_call_over(call);
	for (uint32_t i = 0; call->answers && i < call->reply.answer_count; i++)
		answer_fini(&call->answers[i]);
	for (uint32_t i = 0; call->prompt_logprobs && i < call->part_count; i++)
		buf_fini(&call->prompt_logprobs[i]);
	service->score_entries -= call->score_entries;
	free(call->prompt_logprobs);
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

void call_over(struct service_call *call)
{
	call->over = true;
	idempotency_end(call->service->keys, call->ticket);
	call->ticket = IDEMPOTENCY_NONE;
}

static void end_sink(struct service_call *call)
{
	call_over(call);
	call->service->doomed |= call->parts_open > 0;
}

static bool flush(struct service_call *call)
{
	bool good = call->out.length == 0 || call->sink.stream_write(call->sink.context, call->out.data, call->out.length,
								      call->echoed_bytes);
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
		struct service_answer answer = {.status = error->status, .retry_after_ns = error->retry_after_ns,
						.retry_is_vain = error->retry_is_vain,
						.body = e == ERR_OK ? call->out.data : "{}",
						.length = e == ERR_OK ? call->out.length : 2};
		call->sink.reply(call->sink.context, &answer);
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

static void stream_chunk(struct service_call *call, uint32_t answer, bool echo)
{
	if (!call->request.stream || !start_stream(call))
		return;
	enum err e = reply_chunk(&call->reply, answer, &call->out);
	if (e == ERR_OK && echo)
		call->echoed_bytes += call->out.length;
	if (e != ERR_OK)
		fail_with(call, e);
	else if (!flush(call))
		too_slow(call);
}

void call_stream(struct service_call *call, uint32_t answer)
{
	stream_chunk(call, answer, false);
}

static enum err keep_score(struct service_call *call, uint32_t prompt, const struct sample *score)
{
	struct buf *entries = &call->prompt_logprobs[prompt];
	struct json_out out;
	enum err e = entries->length ? buf_text(entries, ",") : ERR_OK;
	json_out_init(&out, entries);
	return e == ERR_OK ? logprobs_put_prompt(call->model->dir->tokenizer, score, call->request.prompt_top, &out) : e;
}

static enum err echo_score(struct service_call *call, const struct service_part *part, uint32_t position,
			   const struct sample *score)
{
	const struct tokens *prompt = &call->prompts.list[part - call->parts];
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < call->request.n && e == ERR_OK; i++)
		e = answer_echo_token(&call->answers[part->first + i], prompt->ids[position], score,
				      position + 1 == prompt->count);
	return e;
}

void call_scores(struct service_call *call, const struct service_part *part, const struct coord_scores *scores)
{
	bool echoes = echoes_scores(&call->request);
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < scores->count && e == ERR_OK; i++) {
		if (call->request.prompt_logprobs)
			e = keep_score(call, (uint32_t)(part - call->parts), &scores->scores[i]);
		if (e == ERR_OK && echoes)
			e = echo_score(call, part, scores->position + i, &scores->scores[i]);
	}
	if (e != ERR_OK)
		fail_with(call, e);
	for (uint32_t i = 0; echoes && i < call->request.n && !call->over; i++)
		stream_chunk(call, part->first + i, true);
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
	struct service_answer answer = {.status = 200, .body = call->out.data, .length = call->out.length};
	call->sink.reply(call->sink.context, &answer);
	end_sink(call);
}
