/* Functions: name(...). */
#include "model/template_eval.h"

bool eval_is_function(struct text name)
{
	return text_is(name, "raise_exception") || text_is(name, "namespace") || text_is(name, "dict") ||
	       text_is(name, "range") || text_is(name, "strftime_now");
}

static enum err set_pair(struct eval *ev, struct value_map *map, struct text key, struct value value)
{
	enum err e = eval_step(ev, map->count / 8);
	return e == ERR_OK ? value_map_set(&ev->arena, map, key, value) : e;
}

/* dict(mapping): its pairs. */
static enum err copy_pairs(struct eval *ev, const struct value *from, struct value_map *map)
{
	if (from->kind != VALUE_MAP)
		return eval_fail(ev, ERR_UNSUPPORTED, "namespace and dict take a mapping, and arguments by name");
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < from->map->count; i++)
		e = set_pair(ev, map, from->map->pairs[i].key, from->map->pairs[i].value);
	return e;
}

static enum err call_map(struct eval *ev, const struct arguments *arguments, bool is_namespace,
			 struct value *ret_value)
{
	enum err e = value_map_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < arguments->count; i++)
		e = arguments->names[i].data
			    ? set_pair(ev, ret_value->map, arguments->names[i], arguments->values[i])
			    : copy_pairs(ev, &arguments->values[i], ret_value->map);
	if (e == ERR_OK)
		ret_value->map->is_namespace = is_namespace;
	return e;
}

static enum err call_range(struct eval *ev, const struct arguments *arguments, struct value *ret_value)
{
	int64_t numbers[3] = {0, 0, 1};
	for (size_t i = 0; i < arguments->count; i++)
		if (i >= 3 || arguments->values[i].kind != VALUE_INT)
			return eval_fail(ev, ERR_INVALID, "range takes one to three integers");
	if (arguments->count == 0)
		return eval_fail(ev, ERR_INVALID, "range takes one to three integers");
	for (size_t i = 0; i < arguments->count; i++)
		numbers[arguments->count == 1 ? 1 : i] = arguments->values[i].integer;
	if (numbers[2] == 0)
		return eval_fail(ev, ERR_INVALID, "range of step 0");
	enum err e = value_list_new(&ev->arena, ret_value);
	for (int64_t i = numbers[0]; e == ERR_OK && (numbers[2] > 0 ? i < numbers[1] : i > numbers[1]);) {
		e = eval_step(ev, 1);
		if (e == ERR_OK)
			e = value_list_add(&ev->arena, ret_value->list, value_int(i));
		if (__builtin_add_overflow(i, numbers[2], &i))
			break;
	}
	return e;
}

static enum err call_raise(struct eval *ev, const struct arguments *arguments)
{
	const struct value *message = eval_argument(arguments, 0, "message");
	struct value text = value_text("raise_exception");
	enum err e = message ? eval_to_text(ev, message, &text) : ERR_OK;
	int length = (int)(text.text.length < 300 ? text.text.length : 300);
	return e == ERR_OK ? eval_fail(ev, ERR_INVALID, "%.*s", length, text.text.data) : e;
}

static enum err call_function(struct eval *ev, struct text name, const struct arguments *arguments,
			      struct value *ret_value)
{
	if (text_is(name, "namespace") || text_is(name, "dict"))
		return call_map(ev, arguments, name.data[0] == 'n', ret_value);
	if (text_is(name, "range"))
		return call_range(ev, arguments, ret_value);
	if (text_is(name, "raise_exception"))
		return call_raise(ev, arguments);
	const struct value *format = eval_argument(arguments, 0, "format");
	if (!format || format->kind != VALUE_TEXT)
		return eval_fail(ev, ERR_INVALID, "strftime_now takes a format");
	return eval_strftime(ev, format->text, ret_value);
}

enum err eval_call_value(struct eval *ev, const struct value *callee, const struct arguments *arguments,
			 struct value *ret_value)
{
	if (callee->kind == VALUE_MACRO)
		return eval_call_macro(ev, callee->macro, arguments, ret_value);
	if (callee->kind == VALUE_FUNCTION)
		return call_function(ev, callee->text, arguments, ret_value);
	if (callee->kind == VALUE_UNDEFINED)
		return eval_fail(ev, ERR_INVALID, "'%.*s' is undefined", (int)callee->text.length, callee->text.data);
	if (callee->kind == VALUE_METHOD)
		return eval_fail(ev, ERR_UNSUPPORTED, "method %.*s kept for later is not supported",
				 (int)callee->text.length, callee->text.data);
	return eval_fail(ev, ERR_INVALID, "%s is no function", value_kind_name(callee));
}
