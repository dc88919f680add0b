/* Filters of lists. */
#include "model/template_filters.h"
#include "model/template_text.h"

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

FILTER(items)
{
	if (value->kind == VALUE_UNDEFINED)
		return value_list_new(&ev->arena, ret_value);
	return eval_method(ev, value, (struct text){"items", 5}, arguments, ret_value);
}

/* The arguments behind the first `count` by position, for a filter or test named among those. */
static struct arguments arguments_behind(const struct arguments *arguments, size_t count)
{
	struct arguments rest = {0};
	for (size_t i = count; i < arguments->count; i++) {
		rest.names[rest.count] = arguments->names[i];
		rest.values[rest.count++] = arguments->values[i];
	}
	return rest;
}

static enum err map_attribute(struct eval *ev, const struct value *item, struct text attribute,
			      const struct value *fallback, struct value *ret_value)
{
	enum err e = eval_path(ev, item, attribute, ret_value);
	if (e == ERR_OK && ret_value->kind == VALUE_UNDEFINED && fallback)
		*ret_value = *fallback;
	return e;
}

/* map(attribute="a.b", default=x), or map("filter", its arguments). */
FILTER(map)
{
	const struct value *attribute = eval_argument(arguments, SIZE_MAX, "attribute");
	const struct value *fallback = eval_argument(arguments, SIZE_MAX, "default");
	struct text name = {0};
	enum err e = attribute ? ERR_OK : filter_text_argument(ev, arguments, 0, "filter", "", &name);
	eval_filter *filter = attribute ? NULL : eval_filter_find(name);
	if (e == ERR_OK && !filter && (!attribute || attribute->kind != VALUE_TEXT))
		e = eval_fail(ev, ERR_UNSUPPORTED, "map wants attribute=\"...\" or the name of a filter");
	struct arguments rest = arguments_behind(arguments, 1);
	struct value items, one;
	if (e == ERR_OK)
		e = eval_items(ev, value, &items);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < items.list->count; i++) {
		const struct value *item = &items.list->items[i];
		e = filter ? filter(ev, item, &rest, &one) : map_attribute(ev, item, attribute->text, fallback, &one);
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
	const struct value *attribute = eval_argument(arguments, 1, "attribute");
	enum err e = filter_text_argument(ev, arguments, 0, "d", "", &separator);
	if (e == ERR_OK && attribute) {
		struct arguments by = {.names = {{"attribute", 9}}, .values = {*attribute}, .count = 1};
		e = filter_map(ev, value, &by, &items);
	}
	return e == ERR_OK ? text_join(ev, &items, separator, ret_value) : e;
}

/* Which items to keep: those that, or of which the attribute, passes a test or is true. */
struct choice {
	struct text attribute; /* data NULL: the item itself */
	eval_test *test;       /* NULL: is it true */
	const struct value *argument;
	bool wanted;
};

static enum err is_chosen(struct eval *ev, const struct value *item, const struct choice *choice, bool *ret_chosen)
{
	struct value looked_at = *item;
	enum err e = choice->attribute.data ? eval_path(ev, item, choice->attribute, &looked_at) : ERR_OK;
	bool yes = e == ERR_OK && value_truth(&looked_at);
	if (e == ERR_OK && choice->test)
		e = choice->test(ev, &looked_at, choice->argument, &yes);
	*ret_chosen = yes == choice->wanted;
	return e == ERR_OK ? eval_step(ev, 1) : e;
}

static enum err choose(struct eval *ev, const struct value *value, const struct choice *choice, struct value *ret_value)
{
	struct value items;
	bool chosen = false;
	enum err e = eval_items(ev, value, &items);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < items.list->count; i++) {
		e = is_chosen(ev, &items.list->items[i], choice, &chosen);
		if (e == ERR_OK && chosen)
			e = value_list_add(&ev->arena, ret_value->list, items.list->items[i]);
	}
	return e;
}

/* The attribute's name where there is one, then a test's, then the test's argument. */
static enum err select_by(struct eval *ev, const struct value *value, const struct arguments *arguments, bool by_attribute,
			  bool wanted, struct value *ret_value)
{
	static const struct value nothing = {.kind = VALUE_UNDEFINED};
	struct choice choice = {.argument = &nothing, .wanted = wanted};
	struct text test = {0};
	enum err e = ERR_OK;
	size_t at = by_attribute;
	if (by_attribute)
		e = filter_text_argument(ev, arguments, 0, "attribute", "", &choice.attribute);
	if (e == ERR_OK)
		e = filter_text_argument(ev, arguments, at, "test", "", &test);
	if (e != ERR_OK)
		return e;
	choice.test = test.length ? eval_test_find(test) : NULL;
	if (test.length && !choice.test)
		return eval_fail(ev, ERR_UNSUPPORTED, "there is no test %.*s", (int)test.length, test.data);
	if (eval_argument(arguments, at + 1, ""))
		choice.argument = eval_argument(arguments, at + 1, "");
	return choose(ev, value, &choice, ret_value);
}

FILTER(select)
{
	return select_by(ev, value, arguments, false, true, ret_value);
}

FILTER(reject)
{
	return select_by(ev, value, arguments, false, false, ret_value);
}

FILTER(selectattr)
{
	return select_by(ev, value, arguments, true, true, ret_value);
}

FILTER(rejectattr)
{
	return select_by(ev, value, arguments, true, false, ret_value);
}

/* ---- order */

/* An item and what it is sorted by. */
struct keyed {
	struct value key;
	struct value item;
};

/* Texts without their case, unless that is asked for; of a list or map by attribute. */
static enum err key_of(struct eval *ev, const struct value *item, const struct value *attribute, bool with_case,
		       struct value *ret_key)
{
	*ret_key = *item;
	enum err e = attribute && attribute->kind == VALUE_TEXT ? eval_path(ev, item, attribute->text, ret_key) : ERR_OK;
	if (e == ERR_OK && ret_key->kind == VALUE_TEXT && !with_case)
		e = text_change_case(ev, ret_key->text, CASE_LOWER, ret_key);
	return e;
}

static enum err merge(struct eval *ev, const struct keyed *from, size_t begin, size_t middle, size_t end, bool reverse,
		      struct keyed *to)
{
	size_t a = begin, b = middle;
	enum err e = ERR_OK;
	for (size_t i = begin; e == ERR_OK && i < end; i++) {
		int order = a == middle ? 1 : b == end ? -1 : 0;
		if (order == 0) {
			e = eval_order(ev, (struct text){"<", 1}, &from[a].key, &from[b].key, &order);
			order = reverse ? -order : order;
		}
		to[i] = order > 0 ? from[b++] : from[a++];
	}
	return e == ERR_OK ? eval_step(ev, end - begin) : e;
}

/* Stable, from runs of one item up; `items` ends up in order. */
static enum err merge_sort(struct eval *ev, struct keyed *items, size_t count, bool reverse)
{
	struct keyed *from = items, *to = arena_take(&ev->arena, (count + 1) * sizeof(*to));
	enum err e = to ? ERR_OK : ERR_TOO_LARGE;
	for (size_t run = 1; e == ERR_OK && run < count; run *= 2) {
		for (size_t at = 0; e == ERR_OK && at < count; at += 2 * run) {
			size_t middle = at + run < count ? at + run : count, end = middle + run < count ? middle + run : count;
			e = merge(ev, from, at, middle, end, reverse, to);
		}
		struct keyed *other = from;
		from = to;
		to = other;
	}
	if (e == ERR_OK && from != items)
		memcpy(items, from, count * sizeof(*items));
	return e;
}

static bool flag(const struct arguments *arguments, size_t position, const char *name)
{
	const struct value *value = eval_argument(arguments, position, name);
	return value && value_truth(value);
}

static enum err sort_keyed(struct eval *ev, struct keyed *keyed, size_t count, bool reverse, struct value *ret_value)
{
	enum err e = merge_sort(ev, keyed, count, reverse);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < count; i++)
		e = value_list_add(&ev->arena, ret_value->list, keyed[i].item);
	return e;
}

FILTER(sort)
{
	struct value items;
	enum err e = eval_items(ev, value, &items);
	if (e != ERR_OK)
		return e;
	size_t count = items.list->count;
	struct keyed *keyed = arena_take(&ev->arena, (count + 1) * sizeof(*keyed));
	e = keyed ? ERR_OK : ERR_TOO_LARGE;
	for (size_t i = 0; e == ERR_OK && i < count; i++) {
		keyed[i].item = items.list->items[i];
		e = key_of(ev, &keyed[i].item, eval_argument(arguments, 2, "attribute"),
			   flag(arguments, 1, "case_sensitive"), &keyed[i].key);
	}
	return e == ERR_OK ? sort_keyed(ev, keyed, count, flag(arguments, 0, "reverse"), ret_value) : e;
}

/* The pairs of a map by key, or by="value". */
FILTER(dictsort)
{
	struct value pairs;
	struct text by;
	const struct arguments none = {0};
	enum err e = eval_method(ev, value, (struct text){"items", 5}, &none, &pairs);
	if (e == ERR_OK)
		e = filter_text_argument(ev, arguments, 1, "by", "key", &by);
	if (e != ERR_OK)
		return e;
	size_t count = pairs.list->count;
	struct keyed *keyed = arena_take(&ev->arena, (count + 1) * sizeof(*keyed));
	e = keyed ? ERR_OK : ERR_TOO_LARGE;
	for (size_t i = 0; e == ERR_OK && i < count; i++) {
		keyed[i].item = pairs.list->items[i];
		e = key_of(ev, &keyed[i].item.list->items[text_is(by, "value")], NULL, flag(arguments, 0, "case_sensitive"),
			   &keyed[i].key);
	}
	return e == ERR_OK ? sort_keyed(ev, keyed, count, flag(arguments, 2, "reverse"), ret_value) : e;
}

/* The first of those that are equal. */
FILTER(unique)
{
	struct value items, keys, key;
	enum err e = eval_items(ev, value, &items);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, ret_value);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, &keys);
	for (size_t i = 0; e == ERR_OK && i < items.list->count; i++) {
		bool known = false;
		e = key_of(ev, &items.list->items[i], eval_argument(arguments, 1, "attribute"),
			   flag(arguments, 0, "case_sensitive"), &key);
		if (e == ERR_OK)
			e = eval_contains(ev, &key, &keys, &known);
		if (e == ERR_OK && !known)
			e = value_list_add(&ev->arena, keys.list, key);
		if (e == ERR_OK && !known)
			e = value_list_add(&ev->arena, ret_value->list, items.list->items[i]);
	}
	return e;
}

static enum err extreme(struct eval *ev, const struct value *value, const struct arguments *arguments, int sign,
			struct value *ret_value)
{
	struct value items, key, best;
	enum err e = eval_items(ev, value, &items);
	*ret_value = (struct value){.kind = VALUE_UNDEFINED, .text = {"item of an empty list", 21}};
	for (size_t i = 0; e == ERR_OK && i < items.list->count; i++) {
		int order = sign;
		e = key_of(ev, &items.list->items[i], eval_argument(arguments, 1, "attribute"),
			   flag(arguments, 0, "case_sensitive"), &key);
		if (e == ERR_OK && i > 0)
			e = eval_order(ev, (struct text){"<", 1}, &key, &best, &order);
		if (e == ERR_OK && order * sign > 0) {
			best = key;
			*ret_value = items.list->items[i];
		}
	}
	return e;
}

FILTER(min)
{
	return extreme(ev, value, arguments, -1, ret_value);
}

FILTER(max)
{
	return extreme(ev, value, arguments, 1, ret_value);
}

FILTER(sum)
{
	const struct value *attribute = eval_argument(arguments, 0, "attribute"), *start = eval_argument(arguments, 1, "start");
	struct value items, one;
	enum err e = eval_items(ev, value, &items);
	*ret_value = start ? *start : value_int(0);
	for (size_t i = 0; e == ERR_OK && i < items.list->count; i++) {
		struct value before = *ret_value;
		e = key_of(ev, &items.list->items[i], attribute, true, &one);
		if (e == ERR_OK)
			e = eval_binary(ev, (struct text){"+", 1}, &before, &one, ret_value);
	}
	return e;
}
