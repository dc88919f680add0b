/* speech - what a model says is taken apart: what it thinks, what it answers, which tools it calls.
 *
 * Text comes in piece by piece, cut anywhere; what comes out does not depend on the cuts.  A beginning of a marker is held
 * back until it is one or not; what looked like a call and is none comes out as content.  Arguments come out as they are
 * written, once the call's name is known.  The formats are those that the families publish (README).
 * Owns its buffers.  Pure values.
 * Bounds: SPEECH_CALLS_MAX calls; what is kept is at most what came in.  Time is linear in the text. */
#ifndef COORDINATOR_SPEECH_H
#define COORDINATOR_SPEECH_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "coordinator/call_json.h"

enum { SPEECH_CALLS_MAX = 128 };

enum tool_format {
	TOOL_NONE,
	TOOL_HERMES,      /* <tool_call>{"name", "arguments"}</tool_call> */
	TOOL_QWEN3_CODER, /* <tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call> */
	TOOL_LLAMA3_JSON, /* the whole answer, or behind <|python_tag|>: {"name", "parameters"}; ... */
	TOOL_MISTRAL,     /* [TOOL_CALLS] [{"name", "arguments"}, ...], or [TOOL_CALLS]NAME{...}, or ...NAME[ARGS]{...} */
	TOOL_DEEPSEEK_V3, /* <｜tool▁calls▁begin｜> ... <｜tool▁sep｜> ...: with ```json, or (V3.1) without */
	TOOL_PHI4_MINI,   /* functools[{"name", "arguments"}, ...], also behind <|tool_call|> */
	TOOL_OPENAI,      /* channels: commentary to=functions.NAME */
	TOOL_FORMATS,
};

enum reasoning_format {
	REASONING_NONE,
	REASONING_THINK,  /* <think> ... </think>, where the answer begins with it or the prompt ended with it */
	REASONING_DEEPSEEK_R1, /* ... </think>, <think> or not */
	REASONING_OPENAI, /* channels: analysis */
	REASONING_FORMATS,
};

/* As vLLM names them.  FORMATS where there is none of that name. */
enum tool_format tool_format_find(const char *name);
enum reasoning_format reasoning_format_find(const char *name);
const char *tool_format_name(enum tool_format format);
const char *reasoning_format_name(enum reasoning_format format);

struct speech_options {
	enum tool_format tools;
	enum reasoning_format reasoning;
	const char *prompt_end;    /* the last bytes of the prompt: thinking may have begun there.  NULL: nothing */
	size_t prompt_end_length;
	bool one_call;             /* those behind the first are dropped */
	const json_t *definitions; /* the request's tools, for formats that say no types; NULL */
	bool exact;                /* calls are forced (tool_structure.h): bare values are what their schemas say */
};

struct spoken_call {
	struct buf name;
	struct buf arguments;
};

struct speech {
	struct speech_options options;
	struct buf content, reasoning;
	struct spoken_call *calls; /* [call_count] */
	uint32_t call_count;
	bool thinks;               /* the last byte was of the reasoning */
	/* How it is taken apart: only speech*.c look at these. */
	int state;
	struct buf in;             /* came and is not understood yet */
	size_t at;                 /* of it: what is behind this is new */
	struct buf raw;            /* of the call that may be none */
	struct buf header;         /* the name at hand, or a channel's */
	struct call_json json;
	struct call_value value;
	struct buf key, text;      /* of a parameter */
	uint32_t parameters;       /* of the call at hand */
	bool in_list, in_call, muted, has_id;
};

void speech_init(struct speech *speech, const struct speech_options *options);
void speech_fini(struct speech *speech);
MUST_USE enum err speech_feed(struct speech *speech, const char *text, size_t length);
/* Nothing more comes. */
MUST_USE enum err speech_finish(struct speech *speech);

/* Special tokens are shown to nobody; but these say what a text is. */
bool speech_is_marker(const struct speech_options *options, const char *text, size_t length);
/* The first that comes is a thought, up to </think>. */
bool speech_thinks_first(const struct speech_options *options);
/* A bare value of this schema is a text; else it is JSON.  For calls that are forced. */
bool speech_is_text(const json_t *schema);
/* Every message has a header, which names its channel. */
bool speech_has_channels(const struct speech_options *options);
/* There is anything to take apart. */
bool speech_wanted(const struct speech_options *options);
#endif
