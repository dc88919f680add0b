/* speech_channels - OpenAI's open models: messages with a header, which names a channel and who is spoken to.
 *
 *   <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>commentary to=functions.NAME<|message|>{...}<|call|>
 *
 * The analysis is reasoning, as is what is said to tools that are built in; the rest is content, or a call. */
#include <string.h>

#include "coordinator/speech_impl.h"

/* The word behind `what`, up to a space. */
static const char *word_behind(const struct buf *header, const char *what, size_t *ret_length)
{
	const char *at = header->length ? memmem(header->data, header->length, what, strlen(what)) : NULL;
	if (!at)
		return NULL;
	at += strlen(what);
	size_t left = header->length - (size_t)(at - header->data);
	const char *end = memchr(at, ' ', left);
	*ret_length = end ? (size_t)(end - at) : left;
	return at;
}

static enum err begin_body(struct speech *speech)
{
	size_t length = 0;
	bool good = true;
	const char *to = word_behind(&speech->header, "to=", &length);
	bool function = to && length > 10 && memcmp(to, "functions.", 10) == 0;
	enum err e = ERR_OK;
	speech->state = SPEECH_BODY;
	speech->thinks = !function && (to || (speech->header.length && memmem(speech->header.data, speech->header.length,
									      "analysis", strlen("analysis"))));
	if (function && speech->options.tools == TOOL_OPENAI)
		e = speech_open_call(speech, to + 10, length - 10, &good);
	if (!good)
		speech->thinks = true;
	return e;
}

enum err speech_header(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const markers[] = {"<|message|>", "<|start|>", "<|channel|>", "<|constrain|>", "<|end|>",
					      "<|call|>", "<|return|>", NULL};
	size_t before;
	int found = speech_find(speech, markers, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = speech_take(speech, before, &speech->header);
	if (e != ERR_OK || found < 0)
		return e;
	if (found == 0)
		e = begin_body(speech);
	else if (found == 1)
		buf_clear(&speech->header);
	else
		e = buf_text(&speech->header, " ");
	return e == ERR_OK ? speech_take(speech, strlen(markers[found]), NULL) : e;
}

/* A call without a word means one without arguments. */
enum err speech_end_body(struct speech *speech)
{
	bool bare = speech->in_call && !speech->muted && speech->calls[speech->call_count - 1].arguments.length == 0;
	speech->thinks = false;
	enum err e = bare ? speech_add_arguments(speech, "{}", 2) : ERR_OK;
	speech->in_call = false;
	return e;
}

enum err speech_body(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const ends[] = {"<|end|>", "<|start|>", "<|call|>", "<|return|>", "<|channel|>", NULL};
	size_t before;
	int found = speech_find(speech, ends, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = speech->in_call
			     ? speech_add_arguments(speech, before ? speech->in.data + speech->at : "", before)
			     : before ? buf_append(speech->thinks ? &speech->reasoning : &speech->content,
						   speech->in.data + speech->at, before)
				      : ERR_OK;
	if (e == ERR_OK)
		e = speech_take(speech, before, NULL);
	if (e != ERR_OK || found < 0)
		return e;
	e = speech_end_body(speech);
	speech->state = SPEECH_HEADER;
	buf_clear(&speech->header);
	return e != ERR_OK || found == 4 ? e : speech_take(speech, strlen(ends[found]), NULL);
}
