#include "coordinator/speech.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/speech_impl.h"

enum { BLANK_MAX = 64 }; /* so much whitespace may stand before <think> */

/* ---- formats */

static const char *const tool_names[TOOL_FORMATS] = {
	[TOOL_NONE] = "none", [TOOL_HERMES] = "hermes", [TOOL_QWEN3_CODER] = "qwen3_coder", [TOOL_LLAMA3_JSON] = "llama3_json",
	[TOOL_MISTRAL] = "mistral", [TOOL_DEEPSEEK_V3] = "deepseek_v3", [TOOL_PHI4_MINI] = "phi4_mini_json",
	[TOOL_OPENAI] = "openai",
};
static const char *const reasoning_names[REASONING_FORMATS] = {
	[REASONING_NONE] = "none", [REASONING_THINK] = "qwen3", [REASONING_DEEPSEEK_R1] = "deepseek_r1",
	[REASONING_OPENAI] = "openai_gptoss",
};

enum tool_format tool_format_find(const char *name)
{
	static const struct {
		const char *name;
		enum tool_format format;
	} aliases[] = {{"qwen3_xml", TOOL_QWEN3_CODER}, {"llama4_json", TOOL_LLAMA3_JSON}, {"deepseek_v31", TOOL_DEEPSEEK_V3}};
	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (strcmp(name, aliases[i].name) == 0)
			return aliases[i].format;
	int format = 0;
	while (format < TOOL_FORMATS && strcmp(name, tool_names[format]) != 0)
		format++;
	return (enum tool_format)format;
}

enum reasoning_format reasoning_format_find(const char *name)
{
	int format = 0;
	while (format < REASONING_FORMATS && strcmp(name, reasoning_names[format]) != 0)
		format++;
	return (enum reasoning_format)format;
}

const char *tool_format_name(enum tool_format format)
{
	return tool_names[format];
}

const char *reasoning_format_name(enum reasoning_format format)
{
	return reasoning_names[format];
}

/* What begins calls, where nothing was called yet. */
static const char *const none[] = {NULL};
static const char *const begins[TOOL_FORMATS][3] = {
	[TOOL_HERMES] = {"<tool_call>"},         [TOOL_QWEN3_CODER] = {"<tool_call>"},
	[TOOL_LLAMA3_JSON] = {"<|python_tag|>"}, [TOOL_MISTRAL] = {"[TOOL_CALLS]"},
	[TOOL_DEEPSEEK_V3] = {"<｜tool▁calls▁begin｜>"}, [TOOL_PHI4_MINI] = {"functools[", "<|tool_call|>"},
};
static const enum speech_state first_states[TOOL_FORMATS] = {
	[TOOL_HERMES] = SPEECH_OBJECT, [TOOL_QWEN3_CODER] = SPEECH_FUNCTION, [TOOL_LLAMA3_JSON] = SPEECH_OBJECT,
	[TOOL_MISTRAL] = SPEECH_NAME,  [TOOL_DEEPSEEK_V3] = SPEECH_BETWEEN,  [TOOL_PHI4_MINI] = SPEECH_BETWEEN,
};

bool speech_has_channels(const struct speech_options *options)
{
	return options->tools == TOOL_OPENAI || options->reasoning == REASONING_OPENAI;
}

bool speech_is_marker(const struct speech_options *options, const char *text, size_t length)
{
	static const char *const calls[] = {
		"<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<｜tool▁calls▁begin｜>",
		"<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "<|tool_call|>", "<|/tool_call|>",
	};
	static const char *const thoughts[] = {"<think>", "</think>"};
	static const char *const channels[] = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>",
					       "<|call|>", "<|return|>"};
	bool openai = speech_has_channels(options);
	const char *const *list = openai ? channels : options->tools ? calls : NULL;
	size_t count = openai ? sizeof(channels) / sizeof(channels[0]) : sizeof(calls) / sizeof(calls[0]);
	bool found = false;
	for (size_t i = 0; list && i < count && !found; i++)
		found = strlen(list[i]) == length && memcmp(list[i], text, length) == 0;
	for (size_t i = 0; options->reasoning && !openai && i < 2 && !found; i++)
		found = strlen(thoughts[i]) == length && memcmp(thoughts[i], text, length) == 0;
	return found;
}

bool speech_wanted(const struct speech_options *options)
{
	return options->tools != TOOL_NONE || options->reasoning != REASONING_NONE;
}

/* ---- what came */

/* 0: not here; length: it is; less: what there is may become one. */
static size_t match(const char *text, size_t left, const char *marker)
{
	size_t length = strlen(marker), both = left < length ? left : length;
	return memcmp(text, marker, both) == 0 ? both : 0;
}

int speech_find(const struct speech *speech, const char *const *markers, bool final, size_t *ret_before)
{
	size_t length;
	const char *text = speech_rest(speech, &length);
	for (size_t i = 0; i < length; i++)
		for (int k = 0; markers[k]; k++) {
			size_t matched = text[i] == markers[k][0] ? match(text + i, length - i, markers[k]) : 0;
			bool whole = matched == strlen(markers[k]);
			if (!matched || (!whole && final))
				continue;
			*ret_before = i;
			return whole ? k : -1;
		}
	*ret_before = length;
	return -1;
}

enum err speech_take(struct speech *speech, size_t length, struct buf *to)
{
	enum err e = to && length ? buf_append(to, speech->in.data + speech->at, length) : ERR_OK;
	speech->at += e == ERR_OK ? length : 0;
	return e;
}

struct buf *speech_raw(struct speech *speech)
{
	return speech->in_call || speech->call_count ? NULL : &speech->raw;
}

/* ---- calls */

void speech_clear_call(struct speech *speech)
{
	buf_clear(&speech->header);
	buf_clear(&speech->key);
	call_json_reset(&speech->json);
	speech->has_id = false;
}

enum err speech_open_call(struct speech *speech, const char *name, size_t length, bool *ret_good)
{
	while (length && call_is_space(*name)) {
		name++;
		length--;
	}
	while (length && call_is_space(name[length - 1]))
		length--;
	*ret_good = length > 0 && length <= CALL_NAME_MAX && speech->call_count < SPEECH_CALLS_MAX;
	if (!*ret_good)
		return ERR_OK;
	speech->muted = speech->options.one_call && speech->call_count > 0;
	speech->in_call = true;
	speech->parameters = 0;
	buf_clear(&speech->raw);
	if (speech->muted)
		return ERR_OK;
	struct spoken_call *calls = realloc(speech->calls, (speech->call_count + 1) * sizeof(*calls));
	if (!calls)
		return ERR_NOMEM;
	speech->calls = calls;
	calls[speech->call_count] = (struct spoken_call){0};
	return buf_append(&calls[speech->call_count++].name, name, length);
}

enum err speech_add_arguments(struct speech *speech, const char *text, size_t length)
{
	if (speech->muted || !length)
		return ERR_OK;
	return buf_append(&speech->calls[speech->call_count - 1].arguments, text, length);
}

void speech_end_call(struct speech *speech)
{
	speech->in_call = false;
	speech->state = SPEECH_BETWEEN;
}

enum err speech_no_call(struct speech *speech)
{
	enum err e = ERR_OK;
	if (speech->raw.length)
		e = buf_append(&speech->content, speech->raw.data, speech->raw.length);
	buf_clear(&speech->raw);
	speech->in_list = false;
	speech->state = speech->call_count ? SPEECH_BETWEEN : SPEECH_TEXT;
	return e;
}

/* ---- states before a call */

static bool prompt_ends_with(const struct speech_options *options, const char *wanted)
{
	size_t length = options->prompt_end ? options->prompt_end_length : 0, wanted_length = strlen(wanted);
	while (length && call_is_space(options->prompt_end[length - 1]))
		length--;
	return length >= wanted_length && memcmp(options->prompt_end + length - wanted_length, wanted, wanted_length) == 0;
}

bool speech_thinks_first(const struct speech_options *options)
{
	if (options->reasoning == REASONING_DEEPSEEK_R1)
		return !prompt_ends_with(options, "</think>");
	return options->reasoning == REASONING_THINK && prompt_ends_with(options, "<think>");
}

static enum err text_begins(struct speech *speech)
{
	speech->state = SPEECH_TEXT;
	return ERR_OK;
}

/* The first thing that is no whitespace decides: <think>, an answer that is a call, or text. */
static enum err start(struct speech *speech, bool final, bool *ret_on)
{
	const struct speech_options *options = &speech->options;
	size_t length, blank = 0;
	const char *text = speech_rest(speech, &length);
	bool may_think = options->reasoning == REASONING_THINK || options->reasoning == REASONING_DEEPSEEK_R1;
	while (blank < length && call_is_space(text[blank]))
		blank++;
	size_t matched = may_think && blank < length ? match(text + blank, length - blank, "<think>") : 0;
	bool tagged = matched == strlen("<think>");
	bool undecided = blank == length || (matched == length - blank && !tagged);
	if (may_think && !final && undecided && blank < BLANK_MAX)
		return ERR_OK;
	if (!length)
		return ERR_OK;
	*ret_on = true;
	speech->state = tagged || speech_thinks_first(options) ? SPEECH_THINK : SPEECH_TEXT;
	if (tagged)
		return speech_take(speech, blank + matched, NULL);
	if (speech->state == SPEECH_TEXT && options->tools == TOOL_LLAMA3_JSON && text[0] == '{')
		speech->state = SPEECH_OBJECT;
	return ERR_OK;
}

static enum err think(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const ends[] = {"</think>", NULL};
	size_t before;
	int found = speech_find(speech, ends, final, &before);
	*ret_on = before > 0 || found >= 0;
	speech->thinks = true;
	enum err e = speech_take(speech, before, &speech->reasoning);
	if (e != ERR_OK || found < 0)
		return e;
	speech->thinks = false;
	e = speech_take(speech, strlen(ends[0]), NULL);
	return e == ERR_OK ? text_begins(speech) : e;
}

static enum err text(struct speech *speech, bool final, bool *ret_on)
{
	enum tool_format format = speech->options.tools;
	const char *const *markers = format ? begins[format] : none;
	size_t before;
	int found = speech_find(speech, markers, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = speech_take(speech, before, &speech->content);
	if (e != ERR_OK || found < 0)
		return e;
	speech->state = first_states[format];
	speech->in_list = format == TOOL_PHI4_MINI;
	speech_clear_call(speech);
	return speech_take(speech, strlen(markers[found]), &speech->raw);
}

/* ---- the whole */

static enum err step(struct speech *speech, bool final, bool *ret_on)
{
	static speech_step *const steps[] = {
		[SPEECH_START] = start, [SPEECH_THINK] = think, [SPEECH_TEXT] = text, [SPEECH_OBJECT] = speech_object,
		[SPEECH_BETWEEN] = speech_between, [SPEECH_NAME] = speech_name, [SPEECH_SEPARATED] = speech_separated,
		[SPEECH_ARGUMENTS] = speech_arguments, [SPEECH_FUNCTION] = speech_function,
		[SPEECH_FUNCTION_NAME] = speech_function_name, [SPEECH_PARAMETERS] = speech_parameters,
		[SPEECH_KEY] = speech_key, [SPEECH_VALUE] = speech_value, [SPEECH_HEADER] = speech_header,
		[SPEECH_BODY] = speech_body,
	};
	*ret_on = false;
	return steps[speech->state](speech, final, ret_on);
}

static enum err run(struct speech *speech, bool final)
{
	bool on = true;
	enum err e = ERR_OK;
	while (e == ERR_OK && on)
		e = step(speech, final, &on);
	size_t left = speech->in.length - speech->at;
	if (left && speech->at)
		memmove(speech->in.data, speech->in.data + speech->at, left);
	speech->in.length = left;
	speech->at = 0;
	return e;
}

void speech_init(struct speech *speech, const struct speech_options *options)
{
	*speech = (struct speech){.options = *options};
	if (speech_has_channels(options))
		speech->state = SPEECH_HEADER;
	/* The prompt is borrowed during this call only: what it means is remembered. */
	const char *meaning = prompt_ends_with(options, "<think>")    ? "<think>"
			      : prompt_ends_with(options, "</think>") ? "</think>"
								      : NULL;
	speech->options.prompt_end = meaning;
	speech->options.prompt_end_length = meaning ? strlen(meaning) : 0;
}

void speech_fini(struct speech *speech)
{
	for (uint32_t i = 0; i < speech->call_count; i++) {
		buf_fini(&speech->calls[i].name);
		buf_fini(&speech->calls[i].arguments);
	}
	free(speech->calls);
	call_json_fini(&speech->json);
	struct buf *const all[] = {&speech->content, &speech->reasoning, &speech->in, &speech->raw, &speech->header,
				   &speech->key, &speech->text};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		buf_fini(all[i]);
}

enum err speech_feed(struct speech *speech, const char *text_of, size_t length)
{
	enum err e = length ? buf_append(&speech->in, text_of, length) : ERR_OK;
	return e == ERR_OK ? run(speech, false) : e;
}

/* What was begun and cannot be a call any more is content. */
enum err speech_finish(struct speech *speech)
{
	enum err e = run(speech, true);
	if (e == ERR_OK && speech->state == SPEECH_BODY)
		return speech_end_body(speech);
	bool silent = !speech->content.length && !speech->reasoning.length && !speech->call_count;
	if (e == ERR_OK && speech->state == SPEECH_HEADER && silent && speech->header.length) /* it knows no channels */
		e = buf_append(&speech->content, speech->header.data, speech->header.length);
	if (e == ERR_OK && !speech->in_call && speech->call_count == 0) {
		e = speech_no_call(speech);
		if (e == ERR_OK)
			e = run(speech, true);
	}
	return e;
}
