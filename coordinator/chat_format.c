/* chat_format - a choice of /v1/chat/completions. */
#include <stdio.h>

#include "base/hash.h"
#include "coordinator/reply_impl.h"

/* ---- calls */

/* Mistral's templates take nine letters and digits, the others anything. */
static void make_id(const struct answer *answer, uint32_t call, char id[40])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	uint64_t number = hash_xxh3(&call, sizeof(call), answer->call_seed);
	if (answer->speech.options.tools != TOOL_MISTRAL) {
		snprintf(id, 40, "call_%016llx%08llx", (unsigned long long)number,
			 (unsigned long long)(answer->call_seed & 0xffffffff));
		return;
	}
	for (int i = 0; i < 9; i++, number /= 62)
		id[i] = letters[number % 62];
	id[9] = 0;
}

/* The arguments behind the first `from` bytes. */
static void put_function(struct json_out *out, const struct spoken_call *call, bool named, size_t from)
{
	json_put_open(out, "function", '{');
	if (named) {
		json_out_key(out, "name");
		json_out_text(out, call->name.data, call->name.length);
	}
	json_out_key(out, "arguments");
	json_out_text(out, call->arguments.length ? call->arguments.data + from : "", call->arguments.length - from);
	json_out_close(out, '}');
}

static void put_head(struct json_out *out, const struct answer *answer, uint32_t call)
{
	char id[40];
	make_id(answer, call, id);
	json_put_text(out, "id", id);
	json_put_text(out, "type", "function");
}

static void put_calls(struct json_out *out, const struct answer *answer)
{
	json_put_open(out, "tool_calls", '[');
	for (uint32_t i = 0; i < answer->speech.call_count; i++) {
		json_out_open(out, '{');
		put_head(out, answer, i);
		put_function(out, &answer->speech.calls[i], true, 0);
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
}

/* Calls of which the client lacks something: it has the first calls_sent names, and all arguments but the last one's end. */
static void put_new_calls(struct json_out *out, const struct answer *answer)
{
	const struct speech *speech = &answer->speech;
	uint32_t first = answer->calls_sent;
	if (first && speech->calls[first - 1].arguments.length > answer->arguments_sent)
		first--;
	if (first == speech->call_count)
		return;
	json_put_open(out, "tool_calls", '[');
	for (uint32_t i = first; i < speech->call_count; i++) {
		bool known = i < answer->calls_sent;
		json_out_open(out, '{');
		json_put_unsigned(out, "index", i);
		if (!known)
			put_head(out, answer, i);
		put_function(out, &speech->calls[i], !known, known ? answer->arguments_sent : 0);
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
}

/* ---- what else is said */

static void put_content(struct json_out *out, const struct answer *answer)
{
	json_out_key(out, "content");
	json_out_text(out, answer->text.data ? answer->text.data : "", answer->text.length);
}

/* Under the name that vLLM has now, and under that which it had. */
static void put_reasoning(struct json_out *out, const struct answer *answer)
{
	static const char *const names[] = {"reasoning", "reasoning_content"};
	for (int i = 0; i < 2 && answer->reasoning.length; i++) {
		json_out_key(out, names[i]);
		json_out_text(out, answer->reasoning.data, answer->reasoning.length);
	}
}

void chat_choice(struct json_out *out, struct answer *answer)
{
	bool silent = answer->text.length == 0 && (answer->speech.call_count || answer->reasoning.length);
	json_put_open(out, "message", '{');
	json_put_text(out, "role", "assistant");
	if (silent)
		json_put_null(out, "content");
	else
		put_content(out, answer);
	put_reasoning(out, answer);
	if (answer->speech.call_count)
		put_calls(out, answer);
	json_out_close(out, '}');
	reply_logprobs(out, answer);
	reply_finish(out, answer);
	reply_ids(out, answer);
}

void chat_opening(struct json_out *out)
{
	json_put_open(out, "delta", '{');
	json_put_text(out, "role", "assistant");
	json_put_text(out, "content", "");
	json_out_close(out, '}');
	json_put_null(out, "logprobs");
	json_put_null(out, "finish_reason");
}

void chat_delta(struct json_out *out, struct answer *answer)
{
	json_put_open(out, "delta", '{');
	if (answer->text.length || !answer->speaks)
		put_content(out, answer);
	put_reasoning(out, answer);
	put_new_calls(out, answer);
	json_out_close(out, '}');
	reply_logprobs(out, answer);
	reply_finish(out, answer);
	reply_ids(out, answer);
}
