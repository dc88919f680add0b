#include "coordinator/call_json.h"

#include <jansson.h>
#include <string.h>

/* ---- the end of a value */

static enum call_step feed_bracket(struct call_value *value, char c)
{
	if (c == '{' || c == '[') {
		if (value->depth == CALL_DEPTH_MAX)
			return CALL_BAD;
		value->open[value->depth++] = c;
		return CALL_MORE;
	}
	if (value->depth == 0 || value->open[value->depth - 1] != (c == '}' ? '{' : '['))
		return CALL_BAD;
	return --value->depth == 0 ? CALL_END : CALL_MORE;
}

static enum call_step feed_text(struct call_value *value, char c)
{
	if (value->escaped)
		value->escaped = false;
	else if (c == '\\')
		value->escaped = true;
	else if (c == '"')
		value->in_text = false;
	return value->in_text || value->depth ? CALL_MORE : CALL_END;
}

enum call_step call_value_feed(struct call_value *value, char c)
{
	if (value->in_text)
		return feed_text(value, c);
	bool bracket = c == '{' || c == '[' || c == '}' || c == ']';
	if (!value->begun) {
		value->begun = true;
		value->scalar = c != '"' && !bracket;
		value->is_text = c == '"';
		if (value->scalar && !strchr("-0123456789tfn", c))
			return CALL_BAD;
	} else if (value->scalar && (bracket || c == ',' || call_is_space(c))) {
		return CALL_ENDED;
	}
	if (c == '"') {
		value->in_text = true;
		return CALL_MORE;
	}
	return bracket ? feed_bracket(value, c) : CALL_MORE;
}

/* ---- the object */

static enum call_step end_key(struct call_json *call)
{
	const char *key = call->text.data;
	size_t length = call->text.length;
	bool arguments = (length == 11 && memcmp(key, "\"arguments\"", 11) == 0) ||
			 (length == 12 && memcmp(key, "\"parameters\"", 12) == 0);
	call->takes_name = length == 6 && memcmp(key, "\"name\"", 6) == 0 && !call->has_name;
	call->takes_arguments = arguments && !call->has_arguments;
	call->state = CALL_AT_COLON;
	buf_clear(&call->text);
	return CALL_MORE;
}

/* ERR_INVALID: no text that JSON knows. */
static enum err decode_name(struct call_json *call)
{
	json_error_t error;
	json_t *name = call->value.is_text ? json_loadb(call->text.data, call->text.length, JSON_DECODE_ANY, &error) : NULL;
	enum err e = name && json_string_length(name) > 0
			     ? buf_append(&call->name, json_string_value(name), json_string_length(name))
			     : ERR_INVALID;
	json_decref(name);
	call->has_name = e == ERR_OK;
	buf_clear(&call->text);
	return e;
}

static enum err end_value(struct call_json *call, enum call_step *step)
{
	enum err e = call->takes_name ? decode_name(call) : ERR_OK;
	call->state = CALL_AT_COMMA;
	if (e != ERR_INVALID)
		return e;
	*step = CALL_BAD;
	return ERR_OK;
}

static enum err feed_comma(struct call_json *call, char c, enum call_step *step)
{
	if (c == ',')
		call->state = CALL_AT_KEY;
	else if (c == '}')
		*step = CALL_END;
	else if (!call_is_space(c))
		*step = CALL_BAD;
	return ERR_OK;
}

static enum err feed_value(struct call_json *call, char c, enum call_step *step)
{
	if (!call->value.begun && call_is_space(c))
		return ERR_OK;
	enum call_step of_value = call_value_feed(&call->value, c);
	struct buf *to = call->takes_name ? &call->text : call->takes_arguments ? &call->arguments : NULL;
	if (of_value == CALL_BAD || (call->takes_name && call->text.length > CALL_NAME_MAX)) {
		*step = CALL_BAD;
		return ERR_OK;
	}
	call->has_arguments |= call->takes_arguments;
	enum err e = to && of_value != CALL_ENDED ? buf_append(to, &c, 1) : ERR_OK;
	if (e == ERR_OK && of_value != CALL_MORE)
		e = end_value(call, step);
	return e == ERR_OK && of_value == CALL_ENDED && *step == CALL_MORE ? feed_comma(call, c, step) : e;
}

static enum err feed_key(struct call_json *call, char c, enum call_step *step)
{
	enum call_step of_key = call_value_feed(&call->value, c);
	enum err e = ERR_OK;
	if (call->text.length <= CALL_NAME_MAX)
		e = buf_append(&call->text, &c, 1);
	if (of_key == CALL_END)
		*step = end_key(call);
	return e;
}

static void begin_value(struct call_json *call, int state)
{
	call->value = (struct call_value){0};
	call->state = state;
}

enum err call_json_feed(struct call_json *call, char c, enum call_step *ret_step)
{
	*ret_step = CALL_MORE;
	if (call->state == CALL_IN_VALUE)
		return feed_value(call, c, ret_step);
	if (call->state == CALL_IN_KEY)
		return feed_key(call, c, ret_step);
	if (call->state == CALL_AT_COMMA)
		return feed_comma(call, c, ret_step);
	if (call_is_space(c))
		return ERR_OK;
	if (call->state == CALL_AT_OPEN && c == '{') {
		call->state = CALL_AT_KEY;
	} else if (call->state == CALL_AT_KEY && c == '"') {
		begin_value(call, CALL_IN_KEY);
		return feed_key(call, c, ret_step);
	} else if (call->state == CALL_AT_KEY && c == '}') {
		*ret_step = CALL_END;
	} else if (call->state == CALL_AT_COLON && c == ':') {
		begin_value(call, CALL_IN_VALUE);
	} else {
		*ret_step = CALL_BAD;
	}
	return ERR_OK;
}

bool call_json_is_call(const struct call_json *call)
{
	return call->has_name && call->has_arguments;
}

void call_json_reset(struct call_json *call)
{
	struct buf text = call->text, name = call->name, arguments = call->arguments;
	buf_clear(&text);
	buf_clear(&name);
	buf_clear(&arguments);
	*call = (struct call_json){.text = text, .name = name, .arguments = arguments};
}

void call_json_fini(struct call_json *call)
{
	buf_fini(&call->text);
	buf_fini(&call->name);
	buf_fini(&call->arguments);
}
