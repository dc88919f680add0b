/* speech_impl - the states of taking apart what a model says, between the files of speech.
 *
 *   START -> THINK -> TEXT -> the call's states by format -> BETWEEN -> next call
 *   OpenAI's channels: HEADER -> BODY -> HEADER
 *
 * Each state's function looks at what came and is not understood, takes what it can, and says whether it got on: it took
 * something or went to another state.  `final`: nothing more comes, so what may be half a marker is none. */
#ifndef COORDINATOR_SPEECH_IMPL_H
#define COORDINATOR_SPEECH_IMPL_H
#include "coordinator/speech.h"

enum speech_state {
	SPEECH_START,     /* nothing came yet */
	SPEECH_THINK,     /* up to </think> */
	SPEECH_TEXT,      /* content, up to a marker that begins a call */
	SPEECH_OBJECT,    /* a call as JSON */
	SPEECH_BETWEEN,   /* what follows is another call, or nothing to anybody */
	SPEECH_NAME,      /* a call's name, or its kind, up to what separates it */
	SPEECH_SEPARATED, /* DeepSeek: behind the separator, up to the arguments */
	SPEECH_ARGUMENTS, /* a JSON value */
	SPEECH_FUNCTION,  /* Qwen3 coder: up to <function= */
	SPEECH_FUNCTION_NAME,
	SPEECH_PARAMETERS, /* up to <parameter= or </function> */
	SPEECH_KEY,
	SPEECH_VALUE,
	SPEECH_HEADER,    /* OpenAI: up to <|message|> */
	SPEECH_BODY,
};

typedef enum err speech_step(struct speech *speech, bool final, bool *ret_on);
speech_step speech_object, speech_between, speech_name, speech_separated, speech_arguments; /* speech_calls.c */
speech_step speech_function, speech_function_name, speech_parameters, speech_key, speech_value; /* speech_xml.c */
speech_step speech_header, speech_body; /* speech_channels.c */

MUST_USE enum err speech_end_body(struct speech *speech);

/* What is not understood yet. */
static inline const char *speech_rest(const struct speech *speech, size_t *ret_length)
{
	*ret_length = speech->in.length - speech->at;
	return *ret_length ? speech->in.data + speech->at : "";
}
/* Looks for the first of `markers` (NULL behind the last).  The text before it, or before what may become one, is *ret_before
 * bytes long; returns the marker's index, or -1. */
int speech_find(const struct speech *speech, const char *const *markers, bool final, size_t *ret_before);
/* Moves on by so many bytes, which go to `to` unless NULL. */
MUST_USE enum err speech_take(struct speech *speech, size_t length, struct buf *to);
/* As long as no call is open, what was taken may have to be content after all. */
struct buf *speech_raw(struct speech *speech);

void speech_clear_call(struct speech *speech);
MUST_USE enum err speech_open_call(struct speech *speech, const char *name, size_t length, bool *ret_good);
MUST_USE enum err speech_add_arguments(struct speech *speech, const char *text, size_t length);
void speech_end_call(struct speech *speech);
/* It was no call: content, if there was none before. */
MUST_USE enum err speech_no_call(struct speech *speech);
#endif
