/* speech_xml - Qwen3 coder's calls: <function=NAME><parameter=KEY>VALUE</parameter></function>.
 *
 * Values are bare text; the function's definition says what they are, and we write them as JSON. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "coordinator/json_out.h"
#include "coordinator/speech_impl.h"

enum err speech_function(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const begins[] = {"<function=", NULL};
	size_t before, length;
	const char *text = speech_rest(speech, &length);
	int found = speech_find(speech, begins, final, &before);
	size_t blank = 0;
	while (blank < before && strchr(" \t\r\n", text[blank]))
		blank++;
	*ret_on = before > 0 || found >= 0;
	if (blank < before)
		return speech_no_call(speech);
	enum err e = speech_take(speech, before, speech_raw(speech));
	if (e != ERR_OK || found < 0)
		return e;
	speech->state = SPEECH_FUNCTION_NAME;
	return speech_take(speech, strlen(begins[0]), speech_raw(speech));
}

/* Up to ">", into `name`, at most one byte more than a name may have: where it ends must not depend on the pieces.
 * False in *ret_whole: ">" is not there yet. */
static enum err take_tag(struct speech *speech, bool final, struct buf *name, bool *ret_on, bool *ret_whole)
{
	static const char *const ends[] = {">", NULL};
	size_t before, room = CALL_NAME_MAX + 1 - name->length;
	int found = speech_find(speech, ends, final, &before);
	if (before >= room) {
		before = room;
		found = -1;
	}
	*ret_on = before > 0 || found >= 0;
	*ret_whole = found >= 0;
	enum err e = before ? buf_append(name, speech->in.data + speech->at, before) : ERR_OK;
	return e == ERR_OK ? speech_take(speech, before + (found >= 0), speech_raw(speech)) : e;
}

enum err speech_function_name(struct speech *speech, bool final, bool *ret_on)
{
	bool whole, good;
	enum err e = take_tag(speech, final, &speech->header, ret_on, &whole);
	if (e != ERR_OK || (!whole && speech->header.length <= CALL_NAME_MAX))
		return e;
	e = speech_open_call(speech, speech->header.data, whole ? speech->header.length : 0, &good);
	if (e != ERR_OK || !good)
		return e == ERR_OK ? speech_no_call(speech) : e;
	speech->state = SPEECH_PARAMETERS;
	return speech_add_arguments(speech, "{", 1);
}

enum err speech_parameters(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const nexts[] = {"<parameter=", "</function>", "</tool_call>", NULL};
	size_t before;
	int found = speech_find(speech, nexts, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = speech_take(speech, before, NULL);
	if (e != ERR_OK || found < 0)
		return e;
	buf_clear(&speech->key);
	buf_clear(&speech->text);
	speech->state = SPEECH_KEY;
	if (found > 0) {
		e = speech_add_arguments(speech, "}", 1);
		speech_end_call(speech);
	}
	return e == ERR_OK ? speech_take(speech, strlen(nexts[found]), NULL) : e;
}

enum err speech_key(struct speech *speech, bool final, bool *ret_on)
{
	bool whole;
	enum err e = take_tag(speech, final, &speech->key, ret_on, &whole);
	if (e == ERR_OK && (whole || speech->key.length > CALL_NAME_MAX)) /* too long: what follows is its value */
		speech->state = SPEECH_VALUE;
	return e;
}

/* ---- values */

/* Of the parameter at hand; NULL: nobody knows it. */
static const json_t *schema_of(const struct speech *speech)
{
	size_t i;
	json_t *tool;
	json_array_foreach((json_t *)speech->options.definitions, i, tool)
	{
		const json_t *function = json_object_get(tool, "function");
		const json_t *name = json_object_get(function, "name");
		if (json_string_length(name) != speech->header.length ||
		    memcmp(json_string_value(name), speech->header.data, speech->header.length) != 0)
			continue;
		const json_t *properties = json_object_get(json_object_get(function, "parameters"), "properties");
		return json_object_getn(properties, speech->key.data ? speech->key.data : "", speech->key.length);
	}
	return NULL;
}

static const char *type_of(const json_t *schema)
{
	const json_t *type = json_object_get(schema, "type");
	return json_is_string(type) ? json_string_value(type) : "string";
}

bool speech_is_text(const json_t *schema)
{
	static const char *const others[] = {"$ref", "allOf", "anyOf", "oneOf"};
	const json_t *type = json_object_get(schema, "type"), *list = json_object_get(schema, "enum"), *item;
	bool text = !json_is_true(json_object_get(schema, "nullable"));
	size_t i;
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		text &= !json_object_get(schema, others[i]);
	if (type)
		return text && json_is_string(type) && strcmp(json_string_value(type), "string") == 0;
	if (!list)
		return text && json_is_string(json_object_get(schema, "const"));
	json_array_foreach((json_t *)list, i, item)
		text &= json_is_string(item);
	return text;
}

static bool begins_with(const char *type, const char *const *names)
{
	for (; *names; names++)
		if (strncasecmp(type, *names, strlen(*names)) == 0)
			return true;
	return false;
}

static bool put_integer(struct json_out *out, const char *text)
{
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	while (*end == ' ' || *end == '\n')
		end++;
	if (end == text || *end || errno)
		return false;
	json_out_integer(out, number);
	return true;
}

/* A whole number is written as one. */
static bool put_number(struct json_out *out, const char *text, size_t length)
{
	char *end;
	double number = strtod(text, &end);
	if (end == text || *end || !isfinite(number) || strpbrk(text, "xXnN"))
		return false;
	json_t *value = json_loadb(text, length, JSON_DECODE_ANY, NULL);
	if (number == floor(number) && fabs(number) < 9e15)
		json_out_integer(out, (int64_t)number);
	else if (json_is_number(value))
		json_out_raw(out, text, length);
	else
		json_out_fixed(out, number, 9);
	json_decref(value);
	return true;
}

static bool put_json(struct json_out *out, const char *text, size_t length)
{
	json_t *value = json_loadb(text, length, JSON_DECODE_ANY, NULL);
	if (value)
		json_out_raw(out, text, length);
	json_decref(value);
	return value != NULL;
}

/* What cannot be what it should is a text. */
static void put_value(struct json_out *out, const char *type, const char *text, size_t length)
{
	static const char *const integers[] = {"int", "uint", "long", "short", "unsigned", NULL};
	static const char *const numbers[] = {"num", "float", NULL}, *const booleans[] = {"bool", "binary", NULL};
	static const char *const values[] = {"object", "array", "arr", "dict", "list", NULL};
	bool done = false;
	if (strcasecmp(text, "null") == 0) {
		json_out_null(out);
		return;
	}
	if (begins_with(type, integers))
		done = put_integer(out, text);
	else if (begins_with(type, numbers))
		done = put_number(out, text, length);
	else if (begins_with(type, values))
		done = put_json(out, text, length);
	else if (begins_with(type, booleans)) {
		json_out_bool(out, strcasecmp(text, "true") == 0);
		done = true;
	}
	if (!done)
		json_out_text(out, text, length);
}

/* One line end at either side belongs to the form, not to the value. */
static enum err end_value(struct speech *speech)
{
	struct buf pair = {0};
	struct json_out out;
	const char *text = speech->text.data ? speech->text.data : "";
	size_t length = speech->text.length;
	if (length && text[0] == '\n') {
		text++;
		length--;
	}
	if (length && text[length - 1] == '\n')
		speech->text.data[--length + (size_t)(text - speech->text.data)] = 0;
	json_out_init(&out, &pair);
	json_out_text(&out, speech->key.data ? speech->key.data : "", speech->key.length);
	json_out_keyed(&out);
	const json_t *schema = schema_of(speech);
	if (!speech->options.exact)
		put_value(&out, type_of(schema), text, length);
	else if (speech_is_text(schema))
		json_out_text(&out, text, length);
	else
		json_out_raw(&out, text, length);
	enum err e = out.e;
	if (e == ERR_OK && speech->parameters++)
		e = speech_add_arguments(speech, ", ", 2);
	if (e == ERR_OK)
		e = speech_add_arguments(speech, pair.data, pair.length);
	buf_fini(&pair);
	return e;
}

enum err speech_value(struct speech *speech, bool final, bool *ret_on)
{
	static const char *const ends[] = {"</parameter>", NULL};
	size_t before;
	int found = speech_find(speech, ends, final, &before);
	*ret_on = before > 0 || found >= 0;
	enum err e = speech_take(speech, before, &speech->text);
	if (e != ERR_OK || found < 0)
		return e;
	speech->state = SPEECH_PARAMETERS;
	e = end_value(speech);
	return e == ERR_OK ? speech_take(speech, strlen(ends[0]), NULL) : e;
}
