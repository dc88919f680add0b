/* Filters: value | name(arguments). */
#include <stdlib.h>

#include "model/template_text.h"

#define FILTER(name)                                                                                       \
	static enum err filter_##name(struct eval *ev, const struct value *value, const struct arguments *arguments, \
				      struct value *ret_value)

/* The argument as text; the fallback where it is absent. */
static enum err argument_text(struct eval *ev, const struct arguments *arguments, size_t position,
			      const char *name, const char *fallback, struct text *ret_text)
{
	const struct value *value = eval_argument(arguments, position, name);
	*ret_text = (struct text){fallback, strlen(fallback)};
	if (value && value->kind != VALUE_TEXT)
		return eval_fail(ev, ERR_INVALID, "argument %s is %s, expected a string", name, value_kind_name(value));
	if (value)
		*ret_text = value->text;
	return ERR_OK;
}

FILTER(trim)
{
	struct value text;
	enum err e = eval_to_text(ev, value, &text);
	const struct value *set = eval_argument(arguments, 0, "chars");
	if (e == ERR_OK)
		text.text = text_strip(text.text, set && set->kind == VALUE_TEXT ? &set->text : NULL, STRIP_BOTH);
	*ret_value = text;
	return e;
}

FILTER(tojson)
{
	const struct value *indent = eval_argument(arguments, 0, "indent");
	int spaces = indent && indent->kind == VALUE_INT && indent->integer >= 0 && indent->integer <= 16
			     ? (int)indent->integer
			     : -1;
	struct buf out = {.limit = ev->limits.memory_max};
	enum err e = value_print_json(&out, value, spaces, 0);
	if (e == ERR_INVALID)
		eval_fail(ev, e, "tojson of %s is not possible", value_kind_name(value));
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
	if (e == ERR_OK)
		e = eval_step(ev, out.length / 16);
	buf_fini(&out);
	return e;
}

FILTER(length)
{
	struct value items;
	if (value->kind == VALUE_MAP) {
		*ret_value = value_int((int64_t)value->map->count);
		return ERR_OK;
	}
	enum err e = eval_items(ev, value, &items);
	if (e == ERR_OK)
		*ret_value = value_int((int64_t)items.list->count);
	return e;
}

FILTER(default)
{
	const struct value *fallback = eval_argument(arguments, 0, "default_value");
	const struct value *also_false = eval_argument(arguments, 1, "boolean");
	bool use = value->kind == VALUE_UNDEFINED || (also_false && value_truth(also_false) && !value_truth(value));
	*ret_value = !use ? *value : fallback ? *fallback : value_text("");
	return ERR_OK;
}

static enum err cased(struct eval *ev, const struct value *value, enum text_case to, struct value *ret_value)
{
	struct value text;
	enum err e = eval_to_text(ev, value, &text);
	return e == ERR_OK ? text_change_case(ev, text.text, to, ret_value) : e;
}

FILTER(upper)
{
	return cased(ev, value, CASE_UPPER, ret_value);
}

FILTER(lower)
{
	return cased(ev, value, CASE_LOWER, ret_value);
}

FILTER(capitalize)
{
	return cased(ev, value, CASE_CAPITALIZE, ret_value);
}

FILTER(title)
{
	return cased(ev, value, CASE_TITLE, ret_value);
}

/* The items' attribute where one is named. */
FILTER(map)
{
	const struct value *attribute = eval_argument(arguments, SIZE_MAX, "attribute");
	if (!attribute || attribute->kind != VALUE_TEXT)
		return eval_fail(ev, ERR_UNSUPPORTED, "map without attribute=\"...\" is not supported");
	struct value items, one;
	enum err e = eval_items(ev, value, &items);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < items.list->count; i++) {
		e = eval_attribute(ev, &items.list->items[i], attribute->text, &one);
		if (e == ERR_OK)
			e = eval_step(ev, 1);
		if (e == ERR_OK)
			e = value_list_add(&ev->arena, ret_value->list, one);
	}
	return e;
}

FILTER(join)
{
	struct text separator;
	struct value items = *value;
	enum err e = argument_text(ev, arguments, 0, "d", "", &separator);
	if (e == ERR_OK && eval_argument(arguments, SIZE_MAX, "attribute"))
		e = filter_map(ev, value, arguments, &items);
	return e == ERR_OK ? text_join(ev, &items, separator, ret_value) : e;
}

FILTER(string)
{
	return eval_to_text(ev, value, ret_value);
}

FILTER(int)
{
	*ret_value = value_int(value->kind == VALUE_INT ? value->integer : 0);
	if (value->kind == VALUE_BOOL)
		ret_value->integer = value->boolean;
	if (value->kind == VALUE_FLOAT && value->number > -9e18 && value->number < 9e18)
		ret_value->integer = (int64_t)value->number;
	if (value->kind == VALUE_TEXT && value->text.length < 20) {
		char digits[24] = {0};
		memcpy(digits, value->text.data, value->text.length);
		ret_value->integer = strtoll(digits, NULL, 10);
	}
	return ERR_OK;
}

FILTER(list)
{
	struct value items, empty;
	enum err e = eval_items(ev, value, &items);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, &empty);
	return e == ERR_OK ? eval_binary(ev, (struct text){"+", 1}, &empty, &items, ret_value) : e;
}

static enum err end_item(struct eval *ev, const struct value *value, bool last, struct value *ret_value)
{
	struct value items;
	enum err e = eval_items(ev, value, &items);
	struct value index = value_int(last ? -1 : 0);
	return e == ERR_OK ? eval_item(ev, &items, &index, ret_value) : e;
}

FILTER(first)
{
	return end_item(ev, value, false, ret_value);
}

FILTER(last)
{
	return end_item(ev, value, true, ret_value);
}

FILTER(reverse)
{
	const struct value parts[3] = {{0}, {0}, {.kind = VALUE_INT, .integer = -1}};
	return eval_slice(ev, value, parts, ret_value);
}

FILTER(safe)
{
	*ret_value = *value; /* nothing is escaped anyway */
	return ERR_OK;
}

FILTER(replace)
{
	struct text from, to;
	struct value text;
	enum err e = argument_text(ev, arguments, 0, "old", "", &from);
	if (e == ERR_OK)
		e = argument_text(ev, arguments, 1, "new", "", &to);
	if (e == ERR_OK)
		e = eval_to_text(ev, value, &text);
	return e == ERR_OK ? text_replace(ev, text.text, from, to, -1, ret_value) : e;
}

FILTER(items)
{
	if (value->kind == VALUE_UNDEFINED)
		return value_list_new(&ev->arena, ret_value);
	return eval_method(ev, value, (struct text){"items", 5}, arguments, ret_value);
}

/* selectattr(name, test, argument): the items of which the attribute passes the test, or is true. */
static enum err select_attribute(struct eval *ev, const struct value *value, const struct arguments *arguments,
				 bool wanted, struct value *ret_value)
{
	struct text attribute, test;
	struct value items, one;
	enum err e = argument_text(ev, arguments, 0, "attribute", "", &attribute);
	if (e == ERR_OK)
		e = argument_text(ev, arguments, 1, "test", "", &test);
	eval_test *passes = e == ERR_OK && test.length ? eval_test_find(test) : NULL;
	if (e == ERR_OK && test.length && !passes)
		e = eval_fail(ev, ERR_UNSUPPORTED, "there is no test %.*s", (int)test.length, test.data);
	if (e == ERR_OK)
		e = eval_items(ev, value, &items);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, ret_value);
	const struct value nothing = {0}, *argument = eval_argument(arguments, 2, "argument");
	for (size_t i = 0; e == ERR_OK && i < items.list->count; i++) {
		e = eval_attribute(ev, &items.list->items[i], attribute, &one);
		if (e == ERR_OK)
			e = eval_step(ev, 1);
		bool yes = e == ERR_OK && (passes ? passes(&one, argument ? argument : &nothing) : value_truth(&one));
		if (e == ERR_OK && yes == wanted)
			e = value_list_add(&ev->arena, ret_value->list, items.list->items[i]);
	}
	return e;
}

FILTER(selectattr)
{
	return select_attribute(ev, value, arguments, true, ret_value);
}

FILTER(rejectattr)
{
	return select_attribute(ev, value, arguments, false, ret_value);
}

eval_filter *eval_filter_find(struct text name)
{
	static const struct {
		const char *name;
		eval_filter *filter;
	} filters[] = {
		{"trim", filter_trim},           {"tojson", filter_tojson},
		{"length", filter_length},       {"count", filter_length},
		{"default", filter_default},     {"d", filter_default},
		{"upper", filter_upper},         {"lower", filter_lower},
		{"capitalize", filter_capitalize}, {"title", filter_title},
		{"join", filter_join},           {"string", filter_string},
		{"int", filter_int},             {"list", filter_list},
		{"first", filter_first},         {"last", filter_last},
		{"reverse", filter_reverse},     {"safe", filter_safe},
		{"replace", filter_replace},     {"items", filter_items},
		{"map", filter_map},             {"selectattr", filter_selectattr},
		{"rejectattr", filter_rejectattr},
	};
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
		if (text_is(name, filters[i].name))
			return filters[i].filter;
	return NULL;
}
