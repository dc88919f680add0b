#include "coordinator/answer.h"

void answer_init(struct answer *answer, const struct api_request *request, const struct tokenizer *tokenizer,
		 const struct speech_options *speech, uint32_t prompt)
{
	*answer = (struct answer){.request = request, .prompt = prompt, .stop_string = STOP_NONE, .stop_token = -1};
	detokenizer_init(&answer->detokenizer, tokenizer, request->skip_special_tokens);
	detokenizer_init(&answer->echo, tokenizer, request->skip_special_tokens);
	stopper_init(&answer->stopper, &request->stop);
	answer->speaks = speech_wanted(speech);
	speech_init(&answer->speech, speech);
}

void answer_fini(struct answer *answer)
{
	detokenizer_fini(&answer->detokenizer);
	detokenizer_fini(&answer->echo);
	stopper_fini(&answer->stopper);
	logprobs_fini(&answer->logprobs);
	speech_fini(&answer->speech);
	buf_fini(&answer->heard);
	buf_fini(&answer->text);
	buf_fini(&answer->reasoning);
	buf_fini(&answer->ids);
	buf_fini(&answer->piece);
}

static uint64_t count_characters(const struct buf *text)
{
	uint64_t count = 0;
	for (size_t i = 0; i < text->length; i++)
		count += ((unsigned char)text->data[i] & 0xc0) != 0x80;
	return count;
}

enum err answer_echo(struct answer *answer, const uint32_t *ids, size_t count)
{
	enum err e = detokenize(answer->detokenizer.tokenizer, ids, count, answer->request->skip_special_tokens, &answer->text);
	answer->characters = count_characters(&answer->text);
	return e;
}

enum err answer_echo_token(struct answer *answer, uint32_t id, const struct sample *sample, bool last)
{
	const struct api_request *request = answer->request;
	const struct tokenizer *tokenizer = answer->echo.tokenizer;
	uint64_t offset = answer->characters;
	struct buf *piece = &answer->piece;
	buf_clear(piece);
	enum err e = detokenizer_feed(&answer->echo, id, piece);
	if (e == ERR_OK && last)
		e = detokenizer_finish(&answer->echo, piece);
	answer->characters += count_characters(piece);
	if (e == ERR_OK && piece->length)
		e = buf_append(&answer->text, piece->data, piece->length);
	if (e != ERR_OK)
		return e;
	if (!sample)
		return logprobs_add_unknown(&answer->logprobs, tokenizer, id, offset);
	struct sample shown = *sample; /* more may have been computed than this list wants */
	uint32_t most = (uint32_t)request->sampling.logprobs;
	shown.top_count = shown.top_count < most ? shown.top_count : most;
	return logprobs_add(&answer->logprobs, request->kind, tokenizer, &shown, offset);
}

/* Special tokens are left out, but for those that say what is a thought and what a call. */
static bool is_hidden(const struct answer *answer, uint32_t token)
{
	const struct tokenizer *tokenizer = answer->detokenizer.tokenizer;
	const uint8_t *bytes;
	size_t length;
	if (!answer->request->skip_special_tokens || !answer->speaks || !tokenizer_is_special(tokenizer, token))
		return answer->request->skip_special_tokens;
	return tokenizer_token_bytes(tokenizer, token, &bytes, &length) != ERR_OK ||
	       !speech_is_marker(&answer->speech.options, (const char *)bytes, length);
}

/* A token that stops the answer is no part of its text, unless the client wants it. */
static enum err to_text(struct answer *answer, const struct sample *sample, enum finish finish)
{
	struct buf *piece = &answer->piece;
	buf_clear(piece);
	enum err e = ERR_OK;
	answer->detokenizer.skip_special_tokens = is_hidden(answer, sample->token);
	if (finish != FINISH_STOP || answer->request->stop.include)
		e = detokenizer_feed(&answer->detokenizer, sample->token, piece);
	if (e == ERR_OK && finish != FINISH_NONE)
		e = detokenizer_finish(&answer->detokenizer, piece);
	answer->characters += count_characters(piece);
	return e;
}

/* What was said goes to where it belongs. */
static enum err to_speech(struct answer *answer)
{
	struct speech *speech = &answer->speech;
	struct buf *heard = &answer->heard;
	enum err e = speech_feed(speech, heard->data ? heard->data : "", heard->length);
	bool thinks = speech->thinks || speech->reasoning.length > 0;
	if (e == ERR_OK && answer->finish != FINISH_NONE)
		e = speech_finish(speech);
	if (e == ERR_OK && speech->content.length)
		e = buf_append(&answer->text, speech->content.data, speech->content.length);
	if (e == ERR_OK && speech->reasoning.length && answer->request->include_reasoning)
		e = buf_append(&answer->reasoning, speech->reasoning.data, speech->reasoning.length);
	answer->reasoning_tokens += thinks;
	buf_clear(heard);
	buf_clear(&speech->content);
	buf_clear(&speech->reasoning);
	return e;
}

static enum err to_stopper(struct answer *answer, enum finish finish)
{
	struct buf *out = answer->speaks ? &answer->heard : &answer->text;
	bool exempt = answer->tokens < answer->request->sampling.min_tokens;
	enum err e = stopper_feed(&answer->stopper, answer->piece.data ? answer->piece.data : "", answer->piece.length, exempt,
				  out, &answer->stop_string);
	if (e != ERR_OK)
		return e;
	answer->finish = answer->stop_string != STOP_NONE ? FINISH_STOP : finish;
	if (answer->stop_string == STOP_NONE && finish != FINISH_NONE)
		e = stopper_finish(&answer->stopper, out);
	return e == ERR_OK && answer->speaks ? to_speech(answer) : e;
}

enum err answer_token(struct answer *answer, const struct sample *sample, enum finish finish, uint32_t stop_token)
{
	const struct api_request *request = answer->request;
	uint64_t offset = answer->characters;
	if (request->echo_only) { /* nobody asked for this token */
		answer->finish = FINISH_LENGTH;
		return ERR_OK;
	}
	answer->tokens++;
	if (stop_token)
		answer->stop_token = request->sampling.stop_ids[stop_token - 1];
	enum err e = to_text(answer, sample, finish);
	if (e == ERR_OK)
		e = to_stopper(answer, finish);
	if (e == ERR_OK && request->sampling.logprobs >= 0)
		e = logprobs_add(&answer->logprobs, request->kind, answer->detokenizer.tokenizer, sample, offset);
	if (e == ERR_OK && request->return_token_ids)
		e = buf_printf(&answer->ids, "%s%u", answer->ids.length ? "," : "", sample->token);
	return e;
}

void answer_sent(struct answer *answer)
{
	buf_clear(&answer->text);
	buf_clear(&answer->reasoning);
	answer->calls_sent = answer->speech.call_count;
	answer->arguments_sent = answer->calls_sent ? answer->speech.calls[answer->calls_sent - 1].arguments.length : 0;
	buf_clear(&answer->ids); /* the logprobs were emptied when they were put */
}
