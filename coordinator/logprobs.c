#include "coordinator/logprobs.h"

#include <stdio.h>
#include <string.h>

#include "model/detokenize.h"
#include "model/tokenizer.h"

/* ---- chat */

static void put_spelling(struct json_out *out, const struct tokenizer *tokenizer, uint32_t token)
{
	struct buf text = {0};
	if (detokenize(tokenizer, &token, 1, false, &text) != ERR_OK)
		out->e = ERR_NOMEM;
	json_out_text(out, text.data ? text.data : "", text.length);
	buf_fini(&text);
}

static void put_bytes(struct json_out *out, const struct tokenizer *tokenizer, uint32_t token)
{
	const uint8_t *bytes;
	size_t length;
	json_put_open(out, "bytes", '[');
	if (tokenizer_token_bytes(tokenizer, token, &bytes, &length) == ERR_OK)
		for (size_t i = 0; i < length; i++)
			json_out_unsigned(out, bytes[i]);
	json_out_close(out, ']');
}

/* The fields of one token, in an object that is open. */
static void put_token(struct json_out *out, const struct tokenizer *tokenizer, uint32_t token, float logprob)
{
	json_out_key(out, "token");
	put_spelling(out, tokenizer, token);
	json_out_key(out, "logprob");
	json_out_float(out, logprob);
	put_bytes(out, tokenizer, token);
}

static void chat_entry(struct json_out *out, const struct tokenizer *tokenizer, const struct sample *sample)
{
	json_out_open(out, '{');
	put_token(out, tokenizer, sample->token, sample->logprob);
	json_put_open(out, "top_logprobs", '[');
	for (uint32_t i = 0; i < sample->top_count; i++) {
		json_out_open(out, '{');
		put_token(out, tokenizer, sample->top[i].token, sample->top[i].logprob);
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
	json_out_close(out, '}');
}

/* ---- completions */

static enum err spell(const struct tokenizer *tokenizer, uint32_t token, struct buf *text)
{
	return detokenize(tokenizer, &token, 1, false, text);
}

/* Different tokens may be spelled alike (halves of characters): a key is written once, the likeliest. */
static bool is_repeated(const struct buf *texts, uint32_t i)
{
	for (uint32_t j = 0; j < i; j++)
		if (texts[j].length == texts[i].length && memcmp(texts[j].data, texts[i].data, texts[i].length) == 0)
			return true;
	return false;
}

/* The likeliest, and the chosen one in any case. */
static void put_top(struct json_out *out, const struct tokenizer *tokenizer, const struct sample *sample)
{
	struct buf texts[SAMPLING_TOP_LOGPROBS_MAX + 1] = {0};
	uint32_t count = sample->top_count;
	json_out_open(out, '{');
	for (uint32_t i = 0; i <= count; i++) {
		uint32_t token = i < count ? sample->top[i].token : sample->token;
		if (spell(tokenizer, token, &texts[i]) != ERR_OK || buf_reserve(&texts[i], 1) != ERR_OK) {
			out->e = ERR_NOMEM;
			break;
		}
		if (is_repeated(texts, i))
			continue;
		json_out_text(out, texts[i].data, texts[i].length);
		json_out_keyed(out);
		json_out_float(out, i < count ? sample->top[i].logprob : sample->logprob);
	}
	json_out_close(out, '}');
	for (uint32_t i = 0; i <= count; i++)
		buf_fini(&texts[i]);
}

/* ---- both */

static enum err begin_item(struct buf *list, struct json_out *out)
{
	json_out_init(out, list);
	return list->length ? buf_text(list, ",") : ERR_OK;
}

/* known false: of the token nothing but its spelling is. */
static enum err completion_entry(struct logprobs *logprobs, const struct tokenizer *tokenizer,
				 const struct sample *sample, uint64_t offset, bool known)
{
	for (int i = 0; i < LOGPROB_LISTS; i++) {
		struct json_out out;
		enum err e = begin_item(&logprobs->list[i], &out);
		if (e != ERR_OK)
			return e;
		if (i == 0)
			put_spelling(&out, tokenizer, sample->token);
		else if (i < 3 && !known)
			json_out_null(&out);
		else if (i == 1)
			json_out_float(&out, sample->logprob);
		else if (i == 2)
			put_top(&out, tokenizer, sample);
		else
			json_out_unsigned(&out, offset);
		if (out.e != ERR_OK)
			return out.e;
	}
	return ERR_OK;
}

enum err logprobs_add(struct logprobs *logprobs, enum api_kind kind, const struct tokenizer *tokenizer,
		      const struct sample *sample, uint64_t offset)
{
	if (kind == API_COMPLETION)
		return completion_entry(logprobs, tokenizer, sample, offset, true);
	struct json_out out;
	enum err e = begin_item(&logprobs->list[0], &out);
	if (e != ERR_OK)
		return e;
	chat_entry(&out, tokenizer, sample);
	return out.e;
}

enum err logprobs_add_unknown(struct logprobs *logprobs, const struct tokenizer *tokenizer, uint32_t token,
			      uint64_t offset)
{
	struct sample sample = {.token = token};
	return completion_entry(logprobs, tokenizer, &sample, offset, false);
}

static void put_ranked(struct json_out *out, const struct tokenizer *tokenizer, uint32_t token, float logprob,
		       uint32_t rank)
{
	char key[16];
	snprintf(key, sizeof(key), "%u", token);
	json_out_key(out, key);
	json_out_open(out, '{');
	json_out_key(out, "logprob");
	json_out_float(out, logprob);
	json_put_unsigned(out, "rank", rank);
	json_out_key(out, "decoded_token");
	put_spelling(out, tokenizer, token);
	json_out_close(out, '}');
}

enum err logprobs_put_prompt(const struct tokenizer *tokenizer, const struct sample *sample, uint32_t top_max,
			     struct json_out *out)
{
	uint32_t count = sample->top_count < top_max ? sample->top_count : top_max;
	json_out_open(out, '{');
	put_ranked(out, tokenizer, sample->token, sample->logprob, sample->rank);
	for (uint32_t i = 0; i < count; i++)
		if (sample->top[i].token != sample->token)
			put_ranked(out, tokenizer, sample->top[i].token, sample->top[i].logprob, i + 1);
	json_out_close(out, '}');
	return out->e;
}

void logprobs_put(struct logprobs *logprobs, enum api_kind kind, struct json_out *out)
{
	static const char *const names[API_KINDS][LOGPROB_LISTS] = {
		[API_COMPLETION] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"},
		[API_CHAT] = {"content"},
		[API_GENERATE] = {"content"},
	};
	json_out_open(out, '{');
	for (int i = 0; i < LOGPROB_LISTS && names[kind][i]; i++) {
		struct buf *list = &logprobs->list[i];
		json_put_open(out, names[kind][i], '[');
		if (list->length)
			json_out_raw(out, list->data, list->length);
		json_out_close(out, ']');
		buf_clear(list);
	}
	json_out_close(out, '}');
}

void logprobs_fini(struct logprobs *logprobs)
{
	for (int i = 0; i < LOGPROB_LISTS; i++)
		buf_fini(&logprobs->list[i]);
}
