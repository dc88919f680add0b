/* Tests (x is name), functions (name(...)) and methods (x.name(...)). */
#include <stdlib.h>

#include "model/template_text.h"

#define TEST(name) static bool test_##name(const struct value *value, const struct value *argument)

TEST(defined) { return value->kind != VALUE_UNDEFINED; }
TEST(undefined) { return value->kind == VALUE_UNDEFINED; }
TEST(none) { return value->kind == VALUE_NONE; }
TEST(string) { return value->kind == VALUE_TEXT; }
TEST(number) { return value_is_number(value); }
TEST(integer) { return value->kind == VALUE_INT; }
TEST(float) { return value->kind == VALUE_FLOAT; }
TEST(boolean) { return value->kind == VALUE_BOOL; }
TEST(true) { return value->kind == VALUE_BOOL && value->boolean; }
TEST(false) { return value->kind == VALUE_BOOL && !value->boolean; }
TEST(mapping) { return value->kind == VALUE_MAP; }
TEST(sequence) { return value->kind == VALUE_LIST || value->kind == VALUE_TEXT || value->kind == VALUE_MAP; }
TEST(callable) { return value->kind == VALUE_FUNCTION; }
TEST(equal) { return value_equal(value, argument, 0); }
TEST(unequal) { return !value_equal(value, argument, 0); }
TEST(even) { return value->kind == VALUE_INT && value->integer % 2 == 0; }
TEST(odd) { return value->kind == VALUE_INT && value->integer % 2 != 0; }
TEST(divisible)
{
	return value->kind == VALUE_INT && argument->kind == VALUE_INT && argument->integer > 0 &&
	       value->integer % argument->integer == 0;
}
TEST(in)
{
	bool found = false;
	if (argument->kind == VALUE_TEXT && value->kind == VALUE_TEXT)
		return value->text.length == 0 ||
		       memmem(argument->text.data, argument->text.length, value->text.data, value->text.length);
	if (argument->kind == VALUE_MAP && value->kind == VALUE_TEXT)
		return value_map_get(argument->map, value->text) != NULL;
	for (size_t i = 0; argument->kind == VALUE_LIST && i < argument->list->count && !found; i++)
		found = value_equal(value, &argument->list->items[i], 0);
	return found;
}

eval_test *eval_test_find(struct text name)
{
	static const struct {
		const char *name;
		eval_test *test;
	} tests[] = {
		{"defined", test_defined},   {"undefined", test_undefined}, {"none", test_none},
		{"string", test_string},     {"number", test_number},       {"integer", test_integer},
		{"float", test_float},       {"boolean", test_boolean},     {"true", test_true},
		{"false", test_false},       {"mapping", test_mapping},     {"sequence", test_sequence},
		{"iterable", test_sequence}, {"callable", test_callable},   {"equalto", test_equal},
		{"eq", test_equal},          {"sameas", test_equal},        {"ne", test_unequal},
		{"even", test_even},         {"odd", test_odd},             {"divisibleby", test_divisible},
		{"in", test_in},
	};
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (text_is(name, tests[i].name))
			return tests[i].test;
	return NULL;
}

bool eval_is_function(struct text name)
{
	return text_is(name, "raise_exception") || text_is(name, "namespace") || text_is(name, "dict") ||
	       text_is(name, "range");
}

static enum err call_map(struct eval *ev, const struct arguments *arguments, bool is_namespace,
			 struct value *ret_value)
{
	enum err e = value_map_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < arguments->count; i++) {
		if (!arguments->names[i].data)
			return eval_fail(ev, ERR_UNSUPPORTED, "namespace and dict take arguments by name only");
		e = value_map_set(&ev->arena, ret_value->map, arguments->names[i], arguments->values[i]);
	}
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

enum err eval_function(struct eval *ev, struct text name, const struct arguments *arguments,
		       struct value *ret_value)
{
	if (text_is(name, "namespace") || text_is(name, "dict"))
		return call_map(ev, arguments, name.data[0] == 'n', ret_value);
	if (text_is(name, "range"))
		return call_range(ev, arguments, ret_value);
	const struct value *message = eval_argument(arguments, 0, "message");
	struct value text = value_text("raise_exception");
	enum err e = message ? eval_to_text(ev, message, &text) : ERR_OK;
	return e == ERR_OK ? eval_fail(ev, ERR_INVALID, "%.*s",
				       (int)(text.text.length < 300 ? text.text.length : 300), text.text.data)
			   : e;
}

static bool text_ends(struct text text, struct text with, bool front)
{
	return with.length <= text.length &&
	       memcmp(front ? text.data : text.data + text.length - with.length, with.data, with.length) == 0;
}

/* startswith and endswith take one text or a list of them. */
static bool ends_with_any(struct text text, const struct value *with, bool front)
{
	if (with->kind == VALUE_TEXT)
		return text_ends(text, with->text, front);
	for (size_t i = 0; with->kind == VALUE_LIST && i < with->list->count; i++)
		if (with->list->items[i].kind == VALUE_TEXT && text_ends(text, with->list->items[i].text, front))
			return true;
	return false;
}

static enum err no_method(struct eval *ev, const struct value *object, struct text name)
{
	if (object->kind == VALUE_UNDEFINED)
		return eval_fail(ev, ERR_INVALID, "'%.*s' is undefined", (int)object->text.length,
				 object->text.data ? object->text.data : "");
	return eval_fail(ev, ERR_UNSUPPORTED, "%s has no method %.*s", value_kind_name(object), (int)name.length,
			 name.data);
}

static enum err text_method(struct eval *ev, const struct value *object, struct text name,
			    const struct arguments *arguments, struct value *ret_value)
{
	struct text text = object->text;
	const struct value *first = eval_argument(arguments, 0, ""), *second = eval_argument(arguments, 1, "");
	const struct value *third = eval_argument(arguments, 2, "");
	const struct text *set = first && first->kind == VALUE_TEXT ? &first->text : NULL;
	bool left = text_is(name, "lstrip"), right = text_is(name, "rstrip");
	if (left || right || text_is(name, "strip")) {
		enum strip_side side = left ? STRIP_LEFT : right ? STRIP_RIGHT : STRIP_BOTH;
		*ret_value = (struct value){.kind = VALUE_TEXT, .text = text_strip(text, set, side)};
		return ERR_OK;
	}
	if (first && (text_is(name, "startswith") || text_is(name, "endswith"))) {
		*ret_value = value_bool(ends_with_any(text, first, name.data[0] == 's'));
		return ERR_OK;
	}
	int64_t count_max = second && second->kind == VALUE_INT ? second->integer : -1;
	if (text_is(name, "split"))
		return text_split(ev, text, set, count_max, ret_value);
	if (text_is(name, "replace") && set && second && second->kind == VALUE_TEXT)
		return text_replace(ev, text, *set, second->text,
				    third && third->kind == VALUE_INT ? third->integer : -1, ret_value);
	if (text_is(name, "join") && first)
		return text_join(ev, first, text, ret_value);
	static const char *const cases[] = {"upper", "lower", "capitalize", "title"};
	for (int i = 0; i < 4; i++)
		if (text_is(name, cases[i]))
			return text_change_case(ev, text, (enum text_case)i, ret_value);
	return no_method(ev, object, name);
}

/* items, keys and values of a map, as a list. */
static enum err map_list(struct eval *ev, const struct value_map *map, char which, struct value *ret_value)
{
	enum err e = value_list_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < map->count; i++) {
		struct value key = {.kind = VALUE_TEXT, .text = map->pairs[i].key}, item = key;
		if (which == 'v')
			item = map->pairs[i].value;
		if (which == 'i') {
			e = value_list_new(&ev->arena, &item);
			if (e == ERR_OK)
				e = value_list_add(&ev->arena, item.list, key);
			if (e == ERR_OK)
				e = value_list_add(&ev->arena, item.list, map->pairs[i].value);
		}
		if (e == ERR_OK)
			e = value_list_add(&ev->arena, ret_value->list, item);
	}
	return e == ERR_OK ? eval_step(ev, map->count) : e;
}

static enum err map_method(struct eval *ev, const struct value *object, struct text name,
			   const struct arguments *arguments, struct value *ret_value)
{
	const struct value *key = eval_argument(arguments, 0, "key"), *fallback = eval_argument(arguments, 1, "default");
	if (text_is(name, "items") || text_is(name, "keys") || text_is(name, "values"))
		return map_list(ev, object->map, name.data[0], ret_value);
	if (!text_is(name, "get") || !key)
		return no_method(ev, object, name);
	const struct value *found = key->kind == VALUE_TEXT ? value_map_get(object->map, key->text) : NULL;
	*ret_value = found ? *found : fallback ? *fallback : (struct value){.kind = VALUE_NONE};
	return eval_step(ev, object->map->count / 8);
}

enum err eval_method(struct eval *ev, const struct value *object, struct text name,
		     const struct arguments *arguments, struct value *ret_value)
{
	if (object->kind == VALUE_TEXT)
		return text_method(ev, object, name, arguments, ret_value);
	if (object->kind == VALUE_MAP)
		return map_method(ev, object, name, arguments, ret_value);
	return no_method(ev, object, name);
}
