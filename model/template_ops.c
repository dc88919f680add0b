/* Operators, items and slices, as Python has them. */
#include <math.h>

#include "model/template_eval.h"
#include "model/utf8.h"

enum err eval_charge(struct eval *ev, const struct value *value)
{
	uint64_t before = ev->limits.step_max - ev->steps + 1, left = before;
	(void)value_charge(value, 0, &left);
	return eval_step(ev, before - left);
}

enum err eval_to_text(struct eval *ev, const struct value *value, struct value *ret_text)
{
	if (value->kind == VALUE_TEXT) {
		*ret_text = *value;
		return ERR_OK;
	}
	struct buf out = {.limit = ev->limits.memory_max};
	enum err e = eval_charge(ev, value);
	if (e == ERR_OK)
		e = value_print(&out, value);
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_text);
	buf_fini(&out);
	return e;
}

static enum err wrong(struct eval *ev, struct text operator, const struct value *a, const struct value *b)
{
	const struct value *missing = a->kind == VALUE_UNDEFINED ? a : b;
	if (missing->kind == VALUE_UNDEFINED)
		return eval_fail(ev, ERR_INVALID, "'%.*s' is undefined", (int)missing->text.length,
				 missing->text.data ? missing->text.data : "");
	return eval_fail(ev, ERR_INVALID, "%s %.*s %s is not possible", value_kind_name(a), (int)operator.length,
			 operator.data, value_kind_name(b));
}

/* A text that was made last grows in place: what is built piece by piece costs no more than it is long. */
static enum err concatenate(struct eval *ev, struct text a, struct text b, struct value *ret_value)
{
	const char *begin = a.data;
	uint64_t copied = b.length;
	if (!a.length || !arena_extend(&ev->arena, a.data + a.length, b.length)) {
		char *copy = arena_take_text(&ev->arena, a.length + b.length);
		if (!copy)
			return eval_fail(ev, ERR_TOO_LARGE, "over the memory limit");
		if (a.length)
			memcpy(copy, a.data, a.length);
		begin = copy;
		copied += a.length;
	}
	if (b.length)
		memcpy((char *)begin + a.length, b.data, b.length);
	*ret_value = (struct value){.kind = VALUE_TEXT, .text = {begin, a.length + b.length}};
	return eval_step(ev, copied / 64);
}

static enum err join_lists(struct eval *ev, const struct value *a, const struct value *b, struct value *ret_value)
{
	enum err e = value_list_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < a->list->count + b->list->count; i++) {
		const struct value *item = i < a->list->count ? &a->list->items[i] : &b->list->items[i - a->list->count];
		e = value_list_add(&ev->arena, ret_value->list, *item);
	}
	return e == ERR_OK ? eval_step(ev, a->list->count + b->list->count) : e;
}

static enum err repeat(struct eval *ev, struct text text, int64_t times, struct value *ret_value)
{
	size_t count = times > 0 ? (size_t)times : 0, bytes;
	if (__builtin_mul_overflow(text.length, count, &bytes) || bytes > ev->limits.memory_max)
		return eval_fail(ev, ERR_TOO_LARGE, "over the memory limit");
	char *copy = arena_take(&ev->arena, bytes + 1);
	if (!copy)
		return eval_fail(ev, ERR_TOO_LARGE, "over the memory limit");
	for (size_t i = 0; text.length && i < count; i++)
		memcpy(copy + i * text.length, text.data, text.length);
	*ret_value = (struct value){.kind = VALUE_TEXT, .text = {copy, bytes}};
	return eval_step(ev, text.length ? count : 0);
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static enum err power(struct eval *ev, int64_t a, int64_t b, int64_t *ret)
{
	int64_t result = 1;
	if (b < 0 || b > 64)
		return eval_fail(ev, ERR_UNSUPPORTED, "an exponent outside 0 to 64");
	for (int64_t i = 0; i < b; i++)
		if (__builtin_mul_overflow(result, a, &result))
			return eval_fail(ev, ERR_TOO_LARGE, "a number over 64 bits");
	*ret = result;
	return ERR_OK;
}

static enum err integers(struct eval *ev, struct text op, int64_t a, int64_t b, struct value *ret_value)
{
	int64_t result = 0;
	bool over = false;
	enum err e = ERR_OK;
	bool divides = text_is(op, "//") || text_is(op, "%");
	if (divides && b == 0)
		return eval_fail(ev, ERR_INVALID, "division by zero");
	if (divides && b == -1) /* INT64_MIN / -1 has no result */
		over = text_is(op, "//") && __builtin_sub_overflow((int64_t)0, a, &result);
	else if (text_is(op, "//"))
		result = floor_div(a, b);
	else if (text_is(op, "%"))
		result = a - floor_div(a, b) * b;
	else if (text_is(op, "+"))
		over = __builtin_add_overflow(a, b, &result);
	else if (text_is(op, "-"))
		over = __builtin_sub_overflow(a, b, &result);
	else if (text_is(op, "*"))
		over = __builtin_mul_overflow(a, b, &result);
	else
		e = power(ev, a, b, &result);
	if (over)
		return eval_fail(ev, ERR_TOO_LARGE, "a number over 64 bits");
	*ret_value = value_int(result);
	return e;
}

static enum err numbers(struct eval *ev, struct text op, const struct value *a, const struct value *b,
			struct value *ret_value)
{
	bool whole = a->kind != VALUE_FLOAT && b->kind != VALUE_FLOAT;
	if (whole && !text_is(op, "/"))
		return integers(ev, op, a->kind == VALUE_INT ? a->integer : a->boolean,
				b->kind == VALUE_INT ? b->integer : b->boolean, ret_value);
	double x = value_number(a), y = value_number(b), result = 0;
	if (y == 0 && (op.data[0] == '/' || op.data[0] == '%'))
		return eval_fail(ev, ERR_INVALID, "division by zero");
	if (text_is(op, "+"))
		result = x + y;
	else if (text_is(op, "-"))
		result = x - y;
	else if (text_is(op, "*"))
		result = x * y;
	else if (text_is(op, "/"))
		result = x / y;
	else if (text_is(op, "//"))
		result = floor(x / y);
	else if (text_is(op, "%"))
		result = x - floor(x / y) * y;
	else
		result = pow(x, y);
	*ret_value = (struct value){.kind = VALUE_FLOAT, .number = result};
	return ERR_OK;
}

static int compare_text(struct text a, struct text b)
{
	size_t length = a.length < b.length ? a.length : b.length;
	int order = length ? memcmp(a.data, b.data, length) : 0;
	return order ? order : (a.length > b.length) - (a.length < b.length);
}

enum err eval_order(struct eval *ev, struct text op, const struct value *a, const struct value *b, int *ret_order)
{
	if (a->kind == VALUE_TEXT && b->kind == VALUE_TEXT)
		*ret_order = compare_text(a->text, b->text);
	else if (a->kind == VALUE_INT && b->kind == VALUE_INT)
		*ret_order = (a->integer > b->integer) - (a->integer < b->integer);
	else if (value_is_number(a) && value_is_number(b))
		*ret_order = (value_number(a) > value_number(b)) - (value_number(a) < value_number(b));
	else
		return wrong(ev, op, a, b);
	return eval_step(ev, a->kind == VALUE_TEXT ? a->text.length / 64 : 0);
}

static enum err compare(struct eval *ev, struct text op, const struct value *a, const struct value *b,
			struct value *ret_value)
{
	int order = 0;
	enum err e = eval_order(ev, op, a, b, &order);
	bool or_equal = op.length == 2;
	*ret_value = value_bool((op.data[0] == '<' ? order < 0 : order > 0) || (or_equal && order == 0));
	return e;
}

enum err eval_equal(struct eval *ev, const struct value *a, const struct value *b, bool *ret_equal)
{
	uint64_t before = ev->limits.step_max - ev->steps + 1, left = before;
	*ret_equal = value_equal(a, b, 0, &left);
	return eval_step(ev, before - left);
}

enum err eval_contains(struct eval *ev, const struct value *item, const struct value *container, bool *ret_found)
{
	bool found = false;
	enum err e = ERR_OK;
	if (container->kind == VALUE_TEXT && item->kind == VALUE_TEXT) {
		struct text text = container->text, part = item->text;
		found = part.length == 0 || memmem(text.data, text.length, part.data, part.length);
		e = eval_step(ev, text.length / 16);
	} else if (container->kind == VALUE_LIST) {
		for (size_t i = 0; e == ERR_OK && i < container->list->count && !found; i++)
			e = eval_equal(ev, item, &container->list->items[i], &found);
		e = e == ERR_OK ? eval_step(ev, container->list->count / 8) : e;
	} else if (container->kind == VALUE_MAP && !container->map->is_namespace) {
		found = item->kind == VALUE_TEXT && value_map_get(container->map, item->text);
		e = eval_step(ev, container->map->count / 8);
	} else if (container->kind != VALUE_UNDEFINED) {
		e = wrong(ev, (struct text){"in", 2}, item, container);
	}
	*ret_found = found;
	return e;
}

static enum err tilde(struct eval *ev, const struct value *a, const struct value *b, struct value *ret_value)
{
	struct value left, right;
	enum err e = eval_to_text(ev, a, &left);
	if (e == ERR_OK)
		e = eval_to_text(ev, b, &right);
	return e == ERR_OK ? concatenate(ev, left.text, right.text, ret_value) : e;
}

enum err eval_binary(struct eval *ev, struct text op, const struct value *a, const struct value *b,
		     struct value *ret_value)
{
	if (text_is(op, "~"))
		return tilde(ev, a, b, ret_value);
	bool yes = false;
	if (text_is(op, "==") || text_is(op, "in") || text_is(op, "!=")) {
		enum err e = op.data[0] == 'i' ? eval_contains(ev, a, b, &yes) : eval_equal(ev, a, b, &yes);
		*ret_value = value_bool(yes == (op.data[0] != '!'));
		return e;
	}
	if (op.data[0] == '<' || op.data[0] == '>')
		return compare(ev, op, a, b, ret_value);
	if (value_is_number(a) && value_is_number(b))
		return numbers(ev, op, a, b, ret_value);
	if (text_is(op, "+") && a->kind == VALUE_TEXT && b->kind == VALUE_TEXT)
		return concatenate(ev, a->text, b->text, ret_value);
	if (text_is(op, "+") && a->kind == VALUE_LIST && b->kind == VALUE_LIST)
		return join_lists(ev, a, b, ret_value);
	if (text_is(op, "*") && a->kind == VALUE_TEXT && b->kind == VALUE_INT)
		return repeat(ev, a->text, b->integer, ret_value);
	return wrong(ev, op, a, b);
}

static enum err undefined(struct eval *ev, const struct value *object)
{
	return eval_fail(ev, ERR_INVALID, "'%.*s' is undefined", (int)object->text.length,
			 object->text.data ? object->text.data : "");
}

/* Python's methods hide keys of the same name, but only behind a dot. */
static enum err find_attribute(struct eval *ev, const struct value *object, struct text name, bool dot,
			       struct value *ret_value)
{
	if (object->kind == VALUE_UNDEFINED)
		return undefined(ev, object);
	bool method = eval_is_method(object, name);
	const struct value *found = object->kind == VALUE_MAP && !(dot && method) ? value_map_get(object->map, name) : NULL;
	*ret_value = found ? *found : (struct value){.kind = method ? VALUE_METHOD : VALUE_UNDEFINED, .text = name};
	return object->kind == VALUE_MAP ? eval_step(ev, object->map->count / 8) : ERR_OK;
}

enum err eval_attribute(struct eval *ev, const struct value *object, struct text name, struct value *ret_value)
{
	return find_attribute(ev, object, name, true, ret_value);
}

enum err eval_path(struct eval *ev, const struct value *object, struct text path, struct value *ret_value)
{
	enum err e = ERR_OK;
	*ret_value = *object;
	while (e == ERR_OK) {
		const char *dot = path.length ? memchr(path.data, '.', path.length) : NULL;
		struct text part = {path.data, dot ? (size_t)(dot - path.data) : path.length};
		int64_t index = 0;
		bool number = part.length > 0 && part.length < 10;
		for (size_t i = 0; number && i < part.length; i++) {
			number = part.data[i] >= '0' && part.data[i] <= '9';
			index = index * 10 + (part.data[i] - '0');
		}
		struct value from = *ret_value;
		struct value key = number ? value_int(index) : (struct value){.kind = VALUE_TEXT, .text = part};
		e = eval_item(ev, &from, &key, ret_value);
		if (!dot)
			break;
		path = (struct text){dot + 1, path.length - part.length - 1};
	}
	return e;
}

/* Where each character begins costs a walk; `count` characters. */
static size_t text_offset(struct text text, size_t characters)
{
	size_t at = 0;
	while (characters > 0 && at < text.length) {
		at++;
		while (at < text.length && ((uint8_t)text.data[at] & 0xc0) == 0x80)
			at++;
		characters--;
	}
	return at;
}

static size_t text_count(struct text text)
{
	size_t count = 0;
	for (size_t i = 0; i < text.length; i++)
		count += ((uint8_t)text.data[i] & 0xc0) != 0x80;
	return count;
}

static struct value text_at(struct text text, size_t index)
{
	size_t begin = text_offset(text, index);
	struct text rest = {text.data + begin, text.length - begin};
	rest.length = text_offset(rest, 1);
	return (struct value){.kind = VALUE_TEXT, .text = rest};
}

enum err eval_item(struct eval *ev, const struct value *object, const struct value *key, struct value *ret_value)
{
	if (object->kind == VALUE_UNDEFINED)
		return undefined(ev, object);
	if (key->kind == VALUE_TEXT)
		return find_attribute(ev, object, key->text, false, ret_value);
	*ret_value = (struct value){.kind = VALUE_UNDEFINED, .text = {"item", 4}};
	bool is_text = object->kind == VALUE_TEXT;
	if (key->kind != VALUE_INT || (!is_text && object->kind != VALUE_LIST))
		return ERR_OK;
	int64_t count = (int64_t)(is_text ? text_count(object->text) : object->list->count);
	int64_t index = key->integer < 0 ? key->integer + count : key->integer;
	if (index >= 0 && index < count)
		*ret_value = is_text ? text_at(object->text, (size_t)index) : object->list->items[index];
	return is_text ? eval_step(ev, object->text.length / 16) : ERR_OK;
}

/* Python's rules for one end of a slice: negative counts from the end, then it is put in range. */
static int64_t bound(const struct value *value, int64_t count, int64_t low, int64_t high, int64_t absent)
{
	if (value->kind != VALUE_INT)
		return absent;
	int64_t at = value->integer < 0 ? value->integer + count : value->integer;
	return at < low ? low : at > high ? high : at;
}

enum err eval_slice(struct eval *ev, const struct value *object, const struct value parts[3],
		    struct value *ret_value)
{
	bool is_text = object->kind == VALUE_TEXT;
	if (!is_text && object->kind != VALUE_LIST)
		return eval_fail(ev, ERR_INVALID, "%s has no slices", value_kind_name(object));
	int64_t step = parts[2].kind == VALUE_INT ? parts[2].integer : 1;
	if (step == 0)
		return eval_fail(ev, ERR_INVALID, "a slice of step 0");
	int64_t count = (int64_t)(is_text ? text_count(object->text) : object->list->count);
	bool down = step < 0;
	int64_t start = bound(&parts[0], count, down ? -1 : 0, down ? count - 1 : count, down ? count - 1 : 0);
	int64_t stop = bound(&parts[1], count, down ? -1 : 0, down ? count - 1 : count, down ? -1 : count);
	if (is_text && step == 1) { /* the common one: a part of the text, not copied */
		size_t begin = text_offset(object->text, (size_t)start);
		size_t end = stop > start ? text_offset(object->text, (size_t)stop) : begin;
		*ret_value = (struct value){.kind = VALUE_TEXT, .text = {object->text.data + begin, end - begin}};
		return eval_step(ev, object->text.length / 16);
	}
	struct value items, list;
	enum err e = eval_items(ev, object, &items);
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, &list);
	if (e == ERR_OK && !is_text)
		list.list->is_tuple = object->list->is_tuple;
	for (int64_t i = start; e == ERR_OK && (down ? i > stop : i < stop);) {
		e = eval_step(ev, 1);
		if (e == ERR_OK)
			e = value_list_add(&ev->arena, list.list, items.list->items[i]);
		if (__builtin_add_overflow(i, step, &i))
			break;
	}
	if (e != ERR_OK || !is_text) {
		*ret_value = list;
		return e;
	}
	struct buf joined = {0};
	for (size_t i = 0; e == ERR_OK && i < list.list->count; i++)
		e = value_print(&joined, &list.list->items[i]);
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, joined.data, joined.length, ret_value);
	buf_fini(&joined);
	return e;
}

enum err eval_items(struct eval *ev, const struct value *value, struct value *ret_list)
{
	if (value->kind == VALUE_LIST) {
		*ret_list = *value;
		return ERR_OK;
	}
	enum err e = value_list_new(&ev->arena, ret_list);
	if (value->kind == VALUE_MAP) {
		e = e == ERR_OK ? eval_step(ev, value->map->count) : e;
		for (size_t i = 0; e == ERR_OK && i < value->map->count; i++)
			e = value_list_add(&ev->arena, ret_list->list,
					   (struct value){.kind = VALUE_TEXT, .text = value->map->pairs[i].key});
	} else if (value->kind == VALUE_TEXT) {
		struct text rest = value->text;
		e = e == ERR_OK ? eval_step(ev, rest.length) : e;
		while (e == ERR_OK && rest.length > 0) {
			struct value one = text_at(rest, 0);
			e = value_list_add(&ev->arena, ret_list->list, one);
			rest.data += one.text.length;
			rest.length -= one.text.length;
		}
	} else if (e == ERR_OK && value->kind != VALUE_UNDEFINED) {
		e = eval_fail(ev, ERR_INVALID, "%s can not be iterated over", value_kind_name(value));
	}
	return e;
}
