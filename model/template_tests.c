/* Tests: x is name. */
#include "model/template_eval.h"

#define TEST(name)                                                                                              \
	static enum err test_##name(struct eval *ev, const struct value *value, const struct value *argument,   \
				    bool *ret_yes)
/* A test that looks at the value alone. */
#define KIND(name, condition)         \
	TEST(name)                    \
	{                             \
		*ret_yes = condition; \
		return ERR_OK;        \
	}

KIND(defined, value->kind != VALUE_UNDEFINED)
KIND(undefined, value->kind == VALUE_UNDEFINED)
KIND(none, value->kind == VALUE_NONE)
KIND(string, value->kind == VALUE_TEXT)
KIND(number, value_is_number(value))
KIND(integer, value->kind == VALUE_INT)
KIND(float, value->kind == VALUE_FLOAT)
KIND(boolean, value->kind == VALUE_BOOL)
KIND(yes, value->kind == VALUE_BOOL && value->boolean)
KIND(no, value->kind == VALUE_BOOL && !value->boolean)
KIND(mapping, value->kind == VALUE_MAP && !value->map->is_namespace && !value->map->is_loop)
KIND(sequence, value->kind == VALUE_LIST || value->kind == VALUE_TEXT || value->kind == VALUE_UNDEFINED ||
		       (value->kind == VALUE_MAP && !value->map->is_namespace && !value->map->is_loop))
KIND(callable, value->kind == VALUE_FUNCTION || value->kind == VALUE_METHOD || value->kind == VALUE_MACRO)
KIND(filter, value->kind == VALUE_TEXT && eval_filter_find(value->text))
KIND(test, value->kind == VALUE_TEXT && eval_test_find(value->text))

TEST(equal)
{
	return eval_equal(ev, value, argument, ret_yes);
}

TEST(unequal)
{
	enum err e = eval_equal(ev, value, argument, ret_yes);
	*ret_yes = !*ret_yes;
	return e;
}

/* Values that are only what they are; of others one may be made twice. */
TEST(same)
{
	*ret_yes = false;
	return value->kind == argument->kind ? eval_equal(ev, value, argument, ret_yes) : ERR_OK;
}

TEST(in)
{
	return eval_contains(ev, value, argument, ret_yes);
}

static enum err ordered(struct eval *ev, const struct value *value, const struct value *argument, const char *operator,
			bool *ret_yes)
{
	int order = 0;
	enum err e = eval_order(ev, (struct text){operator, strlen(operator)}, value, argument, &order);
	*ret_yes = operator[0] == '<' ? order < 0 : order > 0;
	*ret_yes |= operator[1] == '=' && order == 0;
	return e;
}

TEST(less)
{
	return ordered(ev, value, argument, "<", ret_yes);
}

TEST(at_most)
{
	return ordered(ev, value, argument, "<=", ret_yes);
}

TEST(greater)
{
	return ordered(ev, value, argument, ">", ret_yes);
}

TEST(at_least)
{
	return ordered(ev, value, argument, ">=", ret_yes);
}

static enum err remainder_is(struct eval *ev, const struct value *value, int64_t divisor, int64_t wanted, bool *ret_yes)
{
	struct value by = value_int(divisor), rest;
	enum err e = eval_binary(ev, (struct text){"%", 1}, value, &by, &rest);
	*ret_yes = e == ERR_OK && value_number(&rest) == (double)wanted;
	return e;
}

TEST(even)
{
	return remainder_is(ev, value, 2, 0, ret_yes);
}

TEST(odd)
{
	return remainder_is(ev, value, 2, 1, ret_yes);
}

TEST(divisible)
{
	if (argument->kind != VALUE_INT)
		return eval_fail(ev, ERR_INVALID, "divisibleby %s, expected an integer", value_kind_name(argument));
	return remainder_is(ev, value, argument->integer, 0, ret_yes);
}

/* As Python's: some letter has a case, and none the other one. */
static enum err cased(struct eval *ev, const struct value *value, const char *method, bool *ret_yes)
{
	struct value text, yes;
	const struct arguments none = {0};
	enum err e = eval_to_text(ev, value, &text);
	if (e == ERR_OK)
		e = eval_method(ev, &text, (struct text){method, strlen(method)}, &none, &yes);
	*ret_yes = e == ERR_OK && yes.boolean;
	return e;
}

TEST(lower)
{
	return cased(ev, value, "islower", ret_yes);
}

TEST(upper)
{
	return cased(ev, value, "isupper", ret_yes);
}

eval_test *eval_test_find(struct text name)
{
	static const struct {
		const char *name;
		eval_test *test;
	} tests[] = {
		{"defined", test_defined},   {"undefined", test_undefined}, {"none", test_none},
		{"string", test_string},     {"number", test_number},       {"integer", test_integer},
		{"float", test_float},       {"boolean", test_boolean},     {"true", test_yes},
		{"false", test_no},       {"mapping", test_mapping},     {"sequence", test_sequence},
		{"iterable", test_sequence}, {"callable", test_callable},   {"equalto", test_equal},
		{"eq", test_equal},          {"==", test_equal},            {"sameas", test_same},
		{"ne", test_unequal},        {"!=", test_unequal},          {"even", test_even},
		{"odd", test_odd},           {"divisibleby", test_divisible}, {"in", test_in},
		{"lt", test_less},           {"lessthan", test_less},       {"<", test_less},
		{"le", test_at_most},        {"<=", test_at_most},          {"gt", test_greater},
		{"greaterthan", test_greater}, {">", test_greater},         {"ge", test_at_least},
		{">=", test_at_least},       {"lower", test_lower},         {"upper", test_upper},
		{"filter", test_filter},     {"test", test_test},
	};
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (text_is(name, tests[i].name))
			return tests[i].test;
	return NULL;
}
