/* speech_calls - calls as JSON, and calls that are a name and JSON. */
#include <string.h>

#include "coordinator/speech_impl.h"

/* What the next call begins with, or ends with that the list is over. */
static const char *const *nexts(const struct speech *speech)
{
	static const char *const hermes[] = {"<tool_call>", NULL}, *const object[] = {"{", NULL};
	static const char *const list[] = {"{", "]", NULL}, *const mistral[] = {"[TOOL_CALLS]", NULL};
	static const char *const deepseek[] = {"<｜tool▁call▁begin｜>", NULL}, *const coder[] = {"<function=", NULL};
	static const char *const phi[] = {"functools[", "<|tool_call|>", NULL};
	switch (speech->options.tools) {
	case TOOL_HERMES:
		return hermes;
	case TOOL_QWEN3_CODER:
		return coder;
	case TOOL_MISTRAL:
		return speech->in_list ? list : mistral;
	case TOOL_PHI4_MINI:
		return speech->in_list ? list : phi;
	case TOOL_DEEPSEEK_V3:
		return deepseek;
	default:
		return object;
	}
}

static enum err begin_call(struct speech *speech, const char *marker)
{
	bool object = strcmp(marker, "{") == 0 || speech->options.tools == TOOL_HERMES;
	bool list = strncmp(marker, "functools", 9) == 0 || strcmp(marker, "<|tool_call|>") == 0;
	speech_clear_call(speech);
	speech->in_list = speech->in_list || list;
	if (!list)
		speech->state = object ? SPEECH_OBJECT
				: speech->options.tools == TOOL_QWEN3_CODER ? SPEECH_FUNCTION_NAME : SPEECH_NAME;
	return strcmp(marker, "{") == 0 ? ERR_OK : speech_take(speech, strlen(marker), speech_raw(speech));
}

enum err speech_between(struct speech *speech, bool final, bool *ret_on)
{
	const char *const *markers = nexts(speech);
	size_t before;
	int found = speech_find(speech, markers, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = speech_take(speech, before, speech_raw(speech));
	if (e != ERR_OK || found < 0)
		return e;
	if (strcmp(markers[found], "]") != 0)
		return begin_call(speech, markers[found]);
	speech->in_list = false;
	return speech_take(speech, 1, speech_raw(speech));
}

/* ---- {"name": ..., "arguments": ...} */

/* What came of the arguments since the last look, as soon as they belong to a name. */
static enum err pass_arguments(struct speech *speech, bool *bad)
{
	struct call_json *json = &speech->json;
	bool good = true;
	enum err e = ERR_OK;
	if (!call_json_is_call(json))
		return ERR_OK;
	if (!speech->in_call)
		e = speech_open_call(speech, json->name.data, json->name.length, &good);
	*bad = !good;
	if (e == ERR_OK && good && json->arguments.length)
		e = speech_add_arguments(speech, json->arguments.data, json->arguments.length);
	buf_clear(&json->arguments);
	return e;
}

static enum err end_object(struct speech *speech)
{
	if (!speech->in_call)
		return speech_no_call(speech);
	speech_end_call(speech);
	return ERR_OK;
}

enum err speech_object(struct speech *speech, bool final, bool *ret_on)
{
	size_t length;
	const char *text = speech_rest(speech, &length);
	enum call_step step = CALL_MORE;
	enum err e = ERR_OK;
	size_t taken = 0;
	bool bad = false;
	(void)final;
	while (e == ERR_OK && taken < length && step == CALL_MORE)
		e = call_json_feed(&speech->json, text[taken++], &step);
	*ret_on = taken > 0;
	if (step == CALL_BAD) /* the byte that was wrong may begin something else */
		taken--;
	if (e == ERR_OK)
		e = speech_take(speech, taken, speech_raw(speech));
	if (e == ERR_OK)
		e = pass_arguments(speech, &bad);
	return e == ERR_OK && (bad || step != CALL_MORE) ? end_object(speech) : e;
}

/* ---- NAME{...} */

static enum err open_named(struct speech *speech, const char *name, size_t length)
{
	bool good;
	enum err e = speech_open_call(speech, name, length, &good);
	if (e != ERR_OK || !good)
		return e == ERR_OK ? speech_no_call(speech) : e;
	speech->value = (struct call_value){0};
	speech->state = SPEECH_ARGUMENTS;
	return ERR_OK;
}

static bool is_blank(const struct buf *text)
{
	for (size_t i = 0; i < text->length; i++)
		if (text->data[i] != ' ' && text->data[i] != '\n')
			return false;
	return true;
}

/* Both to what was said, and to the name. */
static enum err take_name(struct speech *speech, size_t length, struct buf *name)
{
	enum err e = length ? buf_append(name, speech->in.data + speech->at, length) : ERR_OK;
	return e == ERR_OK ? speech_take(speech, length, speech_raw(speech)) : e;
}

/* Mistral: the list of the older form, or NAME up to its arguments.  A call's id may stand between them: ours counts. */
static enum err mistral_name(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const ends[] = {"{", "[ARGS]", "[CALL_ID]", "[", NULL}, *const behind_id[] = {"[ARGS]", NULL};
	size_t before;
	bool had_id = speech->has_id;
	int found = speech_find(speech, had_id ? behind_id : ends, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = take_name(speech, before, had_id ? &speech->key : &speech->header);
	if (e != ERR_OK || found < 0)
		return e;
	if (!had_id && found == 3) { /* [{"name": ...}, ...] */
		if (!is_blank(&speech->header))
			return speech_no_call(speech);
		speech->in_list = true;
		speech->state = SPEECH_BETWEEN;
		return speech_take(speech, 1, speech_raw(speech));
	}
	speech->has_id = !had_id && found == 2;
	if (had_id || found > 0)
		e = speech_take(speech, strlen(had_id ? behind_id[0] : ends[found]), speech_raw(speech));
	return e == ERR_OK && !speech->has_id ? open_named(speech, speech->header.data, speech->header.length) : e;
}

enum err speech_name(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const separators[] = {"<｜tool▁sep｜>", "<｜tool▁call▁end｜>", NULL};
	size_t before;
	if (speech->options.tools == TOOL_MISTRAL)
		return mistral_name(speech, final, ret_on);
	int found = speech_find(speech, separators, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = take_name(speech, before, &speech->header);
	if (e != ERR_OK || found < 0)
		return e;
	e = speech_take(speech, strlen(separators[found]), speech_raw(speech));
	if (e == ERR_OK && found == 1)
		return speech_no_call(speech);
	speech->state = SPEECH_SEPARATED;
	return e;
}

/* V3 has the name here, and ```json behind it; V3.1 had it before. */
enum err speech_separated(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const ends[] = {"{", "<｜tool▁call▁end｜>", NULL};
	size_t before;
	int found = speech_find(speech, ends, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = take_name(speech, before, &speech->key);
	if (e != ERR_OK || found < 0)
		return e;
	if (found == 1)
		return speech_no_call(speech);
	if (is_blank(&speech->key))
		return open_named(speech, speech->header.data, speech->header.length);
	const char *line = memchr(speech->key.data, '\n', speech->key.length);
	return open_named(speech, speech->key.data, line ? (size_t)(line - speech->key.data) : speech->key.length);
}

enum err speech_arguments(struct speech *speech, bool final, bool *ret_on)
{
	size_t length, taken = 0;
	const char *text = speech_rest(speech, &length);
	enum call_step step = CALL_MORE;
	(void)final;
	while (!speech->value.begun && taken < length && (text[taken] == ' ' || text[taken] == '\n'))
		taken++;
	size_t begin = taken;
	while (taken < length && step == CALL_MORE)
		step = call_value_feed(&speech->value, text[taken++]);
	if (step == CALL_ENDED || step == CALL_BAD)
		taken--;
	*ret_on = taken > 0 || step != CALL_MORE;
	enum err e = speech_add_arguments(speech, text + begin, taken - begin);
	if (e == ERR_OK)
		e = speech_take(speech, taken, NULL);
	if (step != CALL_MORE)
		speech_end_call(speech);
	return e;
}
