#include "coordinator/reply.h"

#include "coordinator/reply_impl.h"

/* ---- fields of all shapes */

void reply_logprobs(struct json_out *out, struct answer *answer)
{
	json_out_key(out, "logprobs");
	if (answer->request->sampling.logprobs >= 0)
		logprobs_put(&answer->logprobs, answer->request->kind, out);
	else
		json_out_null(out);
}

void reply_finish(struct json_out *out, const struct answer *answer)
{
	static const char *const names[] = {[FINISH_STOP] = "stop", [FINISH_LENGTH] = "length"};
	bool calls = answer->finish == FINISH_STOP && answer->speech.call_count > 0;
	json_put_text(out, "finish_reason", calls ? "tool_calls" : names[answer->finish]);
	json_out_key(out, "stop_reason"); /* vLLM's: the string or token of the request that ended it */
	if (answer->stop_string != STOP_NONE)
		json_out_text(out, answer->request->stop.text[answer->stop_string],
			      answer->request->stop.length[answer->stop_string]);
	else if (answer->stop_token >= 0)
		json_out_integer(out, answer->stop_token);
	else
		json_out_null(out);
}

void reply_ids(struct json_out *out, const struct answer *answer)
{
	if (!answer->request->return_token_ids)
		return;
	json_put_open(out, "token_ids", '[');
	if (answer->ids.length)
		json_out_raw(out, answer->ids.data, answer->ids.length);
	json_out_close(out, ']');
}

void reply_prompt_ids(struct json_out *out, const struct reply *reply, uint32_t prompt)
{
	if (!reply->request->return_token_ids)
		return;
	const struct tokens *tokens = &reply->prompts->list[prompt];
	json_put_open(out, "prompt_token_ids", '[');
	for (size_t i = 0; i < tokens->count; i++)
		json_out_unsigned(out, tokens->ids[i]);
	json_out_close(out, ']');
}

void reply_prompt_logprobs(struct json_out *out, const struct reply *reply, uint32_t prompt)
{
	if (!reply->request->prompt_logprobs)
		return;
	const struct buf *entries = &reply->prompt_logprobs[prompt];
	json_put_open(out, "prompt_logprobs", '[');
	json_out_null(out);
	if (entries->length)
		json_out_raw(out, entries->data, entries->length);
	json_out_close(out, ']');
}

/* ---- usage */

/* What happened: one object; of several prompts a list. */
static void put_trace(struct json_out *out, const struct reply *reply)
{
	if (!reply->request->trace || !reply->traces)
		return;
	json_out_key(out, "baton");
	bool list = reply->prompts->count > 1;
	if (list)
		json_out_open(out, '[');
	json_out_raw(out, reply->traces->data, reply->traces->length);
	if (list)
		json_out_close(out, ']');
}

/* ended: only then is it known what was cached, and what happened. */
static void put_usage(struct json_out *out, const struct reply *reply, bool ended)
{
	uint64_t prompt = 0, completion = 0, reasoning = 0;
	for (uint32_t i = 0; i < reply->prompts->count; i++)
		prompt += reply->prompts->list[i].count;
	for (uint32_t i = 0; i < reply->answer_count; i++) {
		completion += reply->answers[i].tokens;
		reasoning += reply->answers[i].reasoning_tokens;
	}
	json_put_open(out, "usage", '{');
	json_put_unsigned(out, "prompt_tokens", prompt);
	json_put_unsigned(out, "completion_tokens", completion);
	json_put_unsigned(out, "total_tokens", prompt + completion);
	if (ended) {
		json_put_open(out, "prompt_tokens_details", '{');
		json_put_unsigned(out, "cached_tokens", reply->cached_tokens);
		json_out_close(out, '}');
		if (reply->answers[0].speaks) {
			json_put_open(out, "completion_tokens_details", '{');
			json_put_unsigned(out, "reasoning_tokens", reasoning);
			json_out_close(out, '}');
		}
		put_trace(out, reply);
	}
	json_out_close(out, '}');
}

/* ---- bodies and events */

static void put_head(struct json_out *out, const struct reply *reply, bool chunk)
{
	static const char *const objects[API_KINDS][2] = {
		[API_COMPLETION] = {"text_completion", "text_completion"},
		[API_CHAT] = {"chat.completion", "chat.completion.chunk"},
		[API_GENERATE] = {"generate", "generate.chunk"},
	};
	json_out_open(out, '{');
	json_put_text(out, reply->request->kind == API_GENERATE ? "request_id" : "id", reply->id);
	json_put_text(out, "object", objects[reply->request->kind][chunk]);
	json_out_key(out, "created");
	json_out_integer(out, reply->created);
	json_put_text(out, "model", reply->model);
	json_put_open(out, "choices", '[');
}

static void open_choice(struct json_out *out, uint32_t index)
{
	json_out_open(out, '{');
	json_put_unsigned(out, "index", index);
}

/* What is new in a choice; of a chat that is not streamed, all of it. */
static void put_choice(struct json_out *out, const struct reply *reply, struct answer *answer, bool chunk)
{
	switch (reply->request->kind) {
	case API_COMPLETION:
		completion_choice(out, reply, answer);
		break;
	case API_CHAT:
		(chunk ? chat_delta : chat_choice)(out, answer);
		break;
	case API_GENERATE:
		generate_choice(out, answer);
		break;
	}
}

enum err reply_whole(const struct reply *reply, struct buf *buf)
{
	struct json_out out;
	json_out_init(&out, buf);
	put_head(&out, reply, false);
	for (uint32_t i = 0; i < reply->answer_count; i++) {
		open_choice(&out, i);
		put_choice(&out, reply, &reply->answers[i], false);
		json_out_close(&out, '}');
	}
	json_out_close(&out, ']');
	put_usage(&out, reply, true);
	if (reply->request->kind == API_CHAT)
		reply_prompt_ids(&out, reply, 0);
	if (reply->request->kind != API_COMPLETION)
		reply_prompt_logprobs(&out, reply, 0);
	json_out_close(&out, '}');
	return out.e;
}

static void event_begin(struct json_out *out, const struct reply *reply, struct buf *buf)
{
	json_out_init(out, buf);
	out->e = buf_text(buf, "data: ");
	put_head(out, reply, true);
}

/* Of an event about a choice; first: the stream's first, which says what was asked. */
static enum err event_end(struct json_out *out, const struct reply *reply, bool first)
{
	json_out_close(out, ']');
	if (first)
		reply_prompt_ids(out, reply, 0);
	if (reply->request->continuous_usage)
		put_usage(out, reply, false);
	else if (reply->request->include_usage)
		json_put_null(out, "usage");
	json_out_close(out, '}');
	return out->e == ERR_OK ? buf_text(out->buf, "\n\n") : out->e;
}

enum err reply_opening(const struct reply *reply, uint32_t index, struct buf *buf)
{
	struct answer *answer = &reply->answers[index];
	if (answer->opened || reply->request->kind != API_CHAT)
		return ERR_OK;
	answer->opened = true;
	struct json_out out;
	event_begin(&out, reply, buf);
	open_choice(&out, index);
	chat_opening(&out);
	json_out_close(&out, '}');
	return event_end(&out, reply, index == 0);
}

enum err reply_chunk(const struct reply *reply, uint32_t index, struct buf *buf)
{
	struct answer *answer = &reply->answers[index];
	struct json_out out;
	event_begin(&out, reply, buf);
	open_choice(&out, index);
	put_choice(&out, reply, answer, true);
	json_out_close(&out, '}');
	answer->opened = true;
	answer_sent(answer);
	return event_end(&out, reply, false);
}

enum err reply_last(const struct reply *reply, struct buf *buf)
{
	if (!reply->request->include_usage && !reply->request->trace)
		return ERR_OK;
	struct json_out out;
	event_begin(&out, reply, buf);
	json_out_close(&out, ']');
	put_usage(&out, reply, true);
	json_out_close(&out, '}');
	return out.e == ERR_OK ? buf_text(buf, "\n\n") : out.e;
}
