/* Filters: value | name(arguments); those of lists are in template_list_filters.c. */
#include <stdlib.h>

#include "model/template_filters.h"
#include "model/template_text.h"

enum err filter_text_argument(struct eval *ev, const struct arguments *arguments, size_t position, const char *name,
			      const char *fallback, struct text *ret_text)
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
	if (e != ERR_OK)
		return e;
	static const struct arguments none = {0};
	struct arguments chars = {.values = {set ? *set : (struct value){.kind = VALUE_NONE}}, .count = 1};
	return eval_method(ev, &text, (struct text){"strip", 5}, set ? &chars : &none, ret_value);
}

/* separators=(", ", ": "), as a list of two texts. */
static enum err read_separators(struct eval *ev, const struct value *pair, struct json_style *style)
{
	if (pair->kind != VALUE_LIST || pair->list->count != 2 || pair->list->items[0].kind != VALUE_TEXT ||
	    pair->list->items[1].kind != VALUE_TEXT)
		return eval_fail(ev, ERR_INVALID, "tojson: separators is %s, expected two strings", value_kind_name(pair));
	style->item_separator = pair->list->items[0].text;
	style->key_separator = pair->list->items[1].text;
	return ERR_OK;
}

static enum err read_style(struct eval *ev, const struct arguments *arguments, struct json_style *style)
{
	const struct value *ascii = eval_argument(arguments, 0, "ensure_ascii");
	const struct value *indent = eval_argument(arguments, 1, "indent");
	const struct value *separators = eval_argument(arguments, 2, "separators");
	const struct value *sorted = eval_argument(arguments, 3, "sort_keys");
	bool indents = indent && indent->kind != VALUE_NONE;
	*style = (struct json_style){.indent = -1, .item_separator = {", ", 2}, .key_separator = {": ", 2},
				     .ascii = ascii && value_truth(ascii), .sorted = sorted && value_truth(sorted)};
	if (indents && (indent->kind != VALUE_INT || indent->integer < 0 || indent->integer > 16))
		return eval_fail(ev, ERR_UNSUPPORTED, "tojson: an indent that is not 0 to 16");
	if (indents) {
		style->indent = (int)indent->integer;
		style->item_separator.length = 1;
	}
	return separators && separators->kind != VALUE_NONE ? read_separators(ev, separators, style) : ERR_OK;
}

FILTER(tojson)
{
	struct json_style style;
	struct buf out = {.limit = ev->limits.memory_max};
	enum err e = read_style(ev, arguments, &style);
	for (int i = 0; e == ERR_OK && i < (style.sorted ? 16 : 1); i++)
		e = eval_charge(ev, value);
	if (e == ERR_OK) {
		e = value_print_json(&out, value, &style, 0);
		if (e == ERR_INVALID)
			eval_fail(ev, e, "tojson of %s is not possible", value_kind_name(value));
	}
	if (e == ERR_OK)
		e = eval_step(ev, out.length / 64); /* indents come on top of the value */
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
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

FILTER(string)
{
	return eval_to_text(ev, value, ret_value);
}

/* A whole text as a number, as Python reads it; false: it is none. */
static bool read_number(struct text text, double *ret_number)
{
	char digits[64], *end;
	text = text_strip(text, NULL, STRIP_BOTH);
	if (text.length == 0 || text.length >= sizeof(digits) || memchr(text.data, 'x', text.length) ||
	    memchr(text.data, 'X', text.length))
		return false;
	memcpy(digits, text.data, text.length);
	digits[text.length] = 0;
	*ret_number = strtod(digits, &end);
	return *end == 0;
}

static bool read_integer(struct text text, int64_t *ret_integer)
{
	char digits[32], *end;
	text = text_strip(text, NULL, STRIP_BOTH);
	if (text.length == 0 || text.length >= 19)
		return false;
	memcpy(digits, text.data, text.length);
	digits[text.length] = 0;
	int64_t integer = strtoll(digits, &end, 10);
	if (*end)
		return false;
	*ret_integer = integer;
	return true;
}

FILTER(int)
{
	const struct value *fallback = eval_argument(arguments, 0, "default");
	double number = value_is_number(value) ? value_number(value) : 0;
	bool known = value_is_number(value);
	*ret_value = value_int(value->kind == VALUE_INT ? value->integer : 0);
	if (value->kind == VALUE_INT || (value->kind == VALUE_TEXT && read_integer(value->text, &ret_value->integer)))
		return ERR_OK;
	if (value->kind == VALUE_TEXT)
		known = read_number(value->text, &number);
	if (known && number > -9e18 && number < 9e18)
		ret_value->integer = (int64_t)number;
	else if (fallback)
		*ret_value = *fallback;
	return ERR_OK;
}

FILTER(float)
{
	const struct value *fallback = eval_argument(arguments, 0, "default");
	double number = 0;
	bool known = value->kind == VALUE_TEXT ? read_number(value->text, &number) : value_is_number(value);
	if (value_is_number(value))
		number = value_number(value);
	*ret_value = known || !fallback ? (struct value){.kind = VALUE_FLOAT, .number = number} : *fallback;
	return ERR_OK;
}

FILTER(abs)
{
	struct value zero = value_int(0);
	if (!value_is_number(value))
		return eval_fail(ev, ERR_INVALID, "abs of %s, expected a number", value_kind_name(value));
	if (value_number(value) < 0)
		return eval_binary(ev, (struct text){"-", 1}, &zero, value, ret_value);
	*ret_value = value->kind == VALUE_BOOL ? value_int(value->boolean) : *value;
	return ERR_OK;
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
	enum err e = filter_text_argument(ev, arguments, 0, "old", "", &from);
	if (e == ERR_OK)
		e = filter_text_argument(ev, arguments, 1, "new", "", &to);
	if (e == ERR_OK)
		e = eval_to_text(ev, value, &text);
	return e == ERR_OK ? text_replace(ev, text.text, from, to, -1, ret_value) : e;
}

/* Lines but the first (unless asked for) begin with so many spaces; empty ones only when asked for. */
FILTER(indent)
{
	const struct value *width = eval_argument(arguments, 0, "width"), *first = eval_argument(arguments, 1, "first");
	const struct value *blank = eval_argument(arguments, 2, "blank");
	struct text pad = {"                                ", 4};
	struct value text, lines;
	if (width && width->kind == VALUE_TEXT)
		pad = width->text;
	else if (width && (width->kind != VALUE_INT || width->integer < 0 || width->integer > 32))
		return eval_fail(ev, ERR_UNSUPPORTED, "indent: a width that is not 0 to 32");
	else if (width)
		pad.length = (size_t)width->integer;
	enum err e = eval_to_text(ev, value, &text);
	if (e == ERR_OK)
		e = text_split_lines(ev, text.text, false, &lines);
	/* Jinja adds a line end before it splits: an empty last line is one. */
	bool ended = e == ERR_OK && (!text.text.length || text.text.data[text.text.length - 1] == '\n');
	struct buf out = {.limit = ev->limits.memory_max};
	size_t count = e == ERR_OK ? lines.list->count + ended : 0;
	for (size_t i = 0; e == ERR_OK && i < count; i++) {
		struct text line = i < lines.list->count ? lines.list->items[i].text : (struct text){"", 0};
		bool pads = i == 0 ? first && value_truth(first) : line.length || (blank && value_truth(blank));
		if (i)
			e = buf_text(&out, "\n");
		if (e == ERR_OK && pads)
			e = buf_append(&out, pad.data, pad.length);
		if (e == ERR_OK)
			e = buf_append(&out, line.data, line.length);
	}
	if (e == ERR_OK)
		e = eval_step(ev, out.length / 16);
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
	buf_fini(&out);
	return e;
}

eval_filter *eval_filter_find(struct text name)
{
	static const struct {
		const char *name;
		eval_filter *filter;
	} filters[] = {
		{"trim", filter_trim}, {"tojson", filter_tojson}, {"length", filter_length},
		{"default", filter_default}, {"upper", filter_upper}, {"lower", filter_lower},
		{"capitalize", filter_capitalize}, {"title", filter_title}, {"string", filter_string},
		{"int", filter_int}, {"float", filter_float}, {"abs", filter_abs}, {"safe", filter_safe},
		{"replace", filter_replace}, {"indent", filter_indent}, {"count", filter_length},
		{"d", filter_default}, {"join", filter_join}, {"list", filter_list}, {"first", filter_first},
		{"last", filter_last}, {"reverse", filter_reverse}, {"items", filter_items},
		{"map", filter_map}, {"select", filter_select}, {"reject", filter_reject},
		{"selectattr", filter_selectattr}, {"rejectattr", filter_rejectattr}, {"sort", filter_sort},
		{"unique", filter_unique}, {"dictsort", filter_dictsort}, {"sum", filter_sum},
		{"min", filter_min}, {"max", filter_max},
	};
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
		if (text_is(name, filters[i].name))
			return filters[i].filter;
	return NULL;
}
