/* Expressions, one function per level of precedence, loosest first. */
#include <stdlib.h>

#include "model/template_eval.h"
#include "model/template_parse_impl.h"

static struct node *parse_unary(struct parser *p, bool with_filter);

static struct node *new_constant(struct parser *p, struct value constant)
{
	struct node *node = parse_new(p, NODE_CONSTANT);
	node->constant = constant;
	return node;
}

static struct node *new_pair(struct parser *p, enum node_kind kind, struct node *a, struct node *b)
{
	struct node *node = parse_new(p, kind);
	node->a = a;
	node->b = b;
	return node;
}

struct node *parse_tuple(struct parser *p)
{
	struct node *first = parse_expression(p);
	if (!parse_is(p, TOKEN_OPERATOR, ","))
		return first;
	struct node *list = parse_new(p, NODE_LIST);
	parse_push(p, &list->items, first);
	while (parse_accept(p, TOKEN_OPERATOR, ","))
		parse_push(p, &list->items, parse_expression(p));
	return list;
}

enum { INTEGER_DIGITS_MAX = 18, FLOAT_DIGITS_MAX = 38 };

static struct node *parse_number(struct parser *p)
{
	char digits[FLOAT_DIGITS_MAX + 2] = {0};
	size_t length = 0, max = p->at->kind == TOKEN_FLOAT ? FLOAT_DIGITS_MAX : INTEGER_DIGITS_MAX;
	struct text text = p->at->text;
	for (size_t i = 0; i < text.length && length <= max; i++)
		if (text.data[i] != '_')
			digits[length++] = text.data[i];
	if (length > max)
		parse_fail(p, ERR_INVALID, "expected an integer of at most 18 digits, or a float of 38");
	struct value value = p->at->kind == TOKEN_FLOAT ? (struct value){.kind = VALUE_FLOAT, .number = strtod(digits, NULL)}
							: value_int(strtoll(digits, NULL, 10));
	p->at++;
	return new_constant(p, value);
}

static struct node *parse_word(struct parser *p)
{
	static const struct {
		const char *name;
		struct value value;
	} words[] = {
		{"true", {.kind = VALUE_BOOL, .boolean = true}}, {"True", {.kind = VALUE_BOOL, .boolean = true}},
		{"false", {.kind = VALUE_BOOL}},                 {"False", {.kind = VALUE_BOOL}},
		{"none", {.kind = VALUE_NONE}},                  {"None", {.kind = VALUE_NONE}},
	};
	struct text name = parse_name(p);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (text_is(name, words[i].name))
			return new_constant(p, words[i].value);
	struct node *node = parse_new(p, NODE_NAME);
	node->text = name;
	return node;
}

/* At the bracket behind: ( or [; both end with a comma or not. */
static struct node *parse_list(struct parser *p, const char *close)
{
	struct node *list = parse_new(p, NODE_LIST);
	bool comma = false;
	while (p->e == ERR_OK && !parse_is(p, TOKEN_OPERATOR, close)) {
		parse_push(p, &list->items, parse_expression(p));
		comma = parse_accept(p, TOKEN_OPERATOR, ",");
		if (!comma)
			break;
	}
	parse_expect(p, TOKEN_OPERATOR, close);
	bool bracketed = close[0] == ')' && list->items.count == 1 && !comma;
	return bracketed ? list->items.items[0] : list;
}

static struct node *parse_map(struct parser *p)
{
	struct node *map = parse_new(p, NODE_MAP);
	while (p->e == ERR_OK && !parse_is(p, TOKEN_OPERATOR, "}")) {
		parse_push(p, &map->items, parse_expression(p));
		parse_expect(p, TOKEN_OPERATOR, ":");
		parse_push(p, &map->items, parse_expression(p));
		if (!parse_accept(p, TOKEN_OPERATOR, ","))
			break;
	}
	parse_expect(p, TOKEN_OPERATOR, "}");
	return map;
}

/* String literals that follow each other are one. */
static struct node *parse_strings(struct parser *p)
{
	struct node *node = new_constant(p, (struct value){.kind = VALUE_TEXT, .text = (p->at++)->text});
	while (p->e == ERR_OK && p->at->kind == TOKEN_TEXT) {
		struct node *more = new_constant(p, (struct value){.kind = VALUE_TEXT, .text = (p->at++)->text});
		node = new_pair(p, NODE_BINARY, node, more);
		node->text = (struct text){"~", 1};
	}
	return node;
}

static struct node *parse_primary(struct parser *p)
{
	if (p->e == ERR_OK && p->at->kind == TOKEN_TEXT)
		return parse_strings(p);
	if (p->e == ERR_OK && (p->at->kind == TOKEN_INT || p->at->kind == TOKEN_FLOAT))
		return parse_number(p);
	if (p->e == ERR_OK && p->at->kind == TOKEN_NAME)
		return parse_word(p);
	if (parse_accept(p, TOKEN_OPERATOR, "("))
		return parse_list(p, ")");
	if (parse_accept(p, TOKEN_OPERATOR, "["))
		return parse_list(p, "]");
	if (parse_accept(p, TOKEN_OPERATOR, "{"))
		return parse_map(p);
	parse_fail(p, ERR_INVALID, "expected an expression");
	return &p->nothing;
}

/* Behind the opening bracket. */
static void parse_arguments(struct parser *p, struct node_list *list)
{
	while (p->e == ERR_OK && !parse_is(p, TOKEN_OPERATOR, ")")) {
		bool named = p->at->kind == TOKEN_NAME && p->at[1].kind == TOKEN_OPERATOR &&
			     text_is(p->at[1].text, "=");
		struct node *argument = NULL;
		if (named) {
			argument = parse_new(p, NODE_NAMED);
			argument->text = parse_name(p);
			p->at++;
			argument->a = parse_expression(p);
		} else {
			argument = parse_expression(p);
		}
		parse_push(p, list, argument);
		if (!parse_accept(p, TOKEN_OPERATOR, ","))
			break;
	}
	parse_expect(p, TOKEN_OPERATOR, ")");
}

/* Behind the [ : an item, or a slice. */
static struct node *parse_subscript(struct parser *p, struct node *a)
{
	struct node *parts[3] = {NULL, NULL, NULL};
	int part = 0;
	while (p->e == ERR_OK && !parse_is(p, TOKEN_OPERATOR, "]")) {
		if (parse_accept(p, TOKEN_OPERATOR, ":")) {
			if (++part == 3)
				parse_fail(p, ERR_INVALID, "a slice has at most three parts");
		} else {
			parts[part] = parse_expression(p);
			if (!parse_is(p, TOKEN_OPERATOR, ":"))
				break;
		}
	}
	parse_expect(p, TOKEN_OPERATOR, "]");
	if (part == 0) {
		if (!parts[0])
			parse_fail(p, ERR_INVALID, "expected an index");
		return new_pair(p, NODE_ITEM, a, parts[0]);
	}
	struct node *slice = new_pair(p, NODE_SLICE, a, NULL);
	for (int i = 0; i < 3; i++)
		parse_push(p, &slice->items, parts[i]);
	return slice;
}

static struct node *parse_postfix(struct parser *p, struct node *node)
{
	while (p->e == ERR_OK) {
		if (parse_accept(p, TOKEN_OPERATOR, ".")) {
			node = new_pair(p, NODE_ATTRIBUTE, node, NULL);
			node->text = parse_name(p);
		} else if (parse_accept(p, TOKEN_OPERATOR, "[")) {
			node = parse_subscript(p, node);
		} else if (parse_accept(p, TOKEN_OPERATOR, "(")) {
			node = new_pair(p, NODE_CALL, node, NULL);
			parse_arguments(p, &node->items);
		} else {
			break;
		}
	}
	return node;
}

/* "is divisibleby 3": an argument without brackets. */
static bool at_bare_argument(const struct parser *p)
{
	if (p->e != ERR_OK)
		return false;
	if (p->at->kind == TOKEN_NAME)
		return !text_is(p->at->text, "else") && !text_is(p->at->text, "or") && !text_is(p->at->text, "and") &&
		       !text_is(p->at->text, "if") && !text_is(p->at->text, "is") && !text_is(p->at->text, "in") &&
		       !text_is(p->at->text, "not");
	return p->at->kind == TOKEN_TEXT || p->at->kind == TOKEN_INT || p->at->kind == TOKEN_FLOAT ||
	       parse_is(p, TOKEN_OPERATOR, "[") || parse_is(p, TOKEN_OPERATOR, "{");
}

static struct node *parse_test(struct parser *p, struct node *a)
{
	struct node *test = new_pair(p, NODE_TEST, a, NULL);
	test->negated = parse_accept(p, TOKEN_NAME, "not");
	test->text = parse_name(p);
	if (p->e == ERR_OK && !eval_test_find(test->text)) {
		p->at--;
		parse_fail(p, ERR_UNSUPPORTED, "this test is not supported");
	}
	if (parse_accept(p, TOKEN_OPERATOR, "("))
		parse_arguments(p, &test->items);
	else if (at_bare_argument(p))
		parse_push(p, &test->items, parse_postfix(p, parse_primary(p)));
	return test;
}

static struct node *parse_filters(struct parser *p, struct node *node)
{
	while (p->e == ERR_OK) {
		if (parse_accept(p, TOKEN_OPERATOR, "|")) {
			node = new_pair(p, NODE_FILTER, node, NULL);
			node->text = parse_name(p);
			if (p->e == ERR_OK && !eval_filter_find(node->text)) {
				p->at--;
				parse_fail(p, ERR_UNSUPPORTED, "this filter is not supported");
			}
			if (parse_accept(p, TOKEN_OPERATOR, "("))
				parse_arguments(p, &node->items);
		} else if (parse_accept(p, TOKEN_NAME, "is")) {
			node = parse_test(p, node);
		} else if (parse_accept(p, TOKEN_OPERATOR, "(")) { /* the result of a filter is called */
			node = new_pair(p, NODE_CALL, node, NULL);
			parse_arguments(p, &node->items);
		} else {
			break;
		}
	}
	return node;
}

static struct node *parse_unary(struct parser *p, bool with_filter)
{
	if (!parse_enter(p))
		return &p->nothing;
	struct node *node;
	if (parse_accept(p, TOKEN_OPERATOR, "-"))
		node = new_pair(p, NODE_NEGATE, parse_unary(p, false), NULL);
	else if (parse_accept(p, TOKEN_OPERATOR, "+"))
		node = parse_unary(p, false);
	else
		node = parse_postfix(p, parse_primary(p));
	if (with_filter)
		node = parse_filters(p, node);
	p->depth--;
	return node;
}

/* Levels of operators of the same strength, from the strongest. */
static const char *const levels[][5] = {
	{"**", NULL}, {"*", "/", "//", "%", NULL}, {"~", NULL}, {"+", "-", NULL}};

static struct node *parse_level(struct parser *p, int level)
{
	struct node *node = level < 0 ? parse_unary(p, true) : parse_level(p, level - 1);
	for (int i = 0; level >= 0 && levels[level][i];) {
		if (!parse_accept(p, TOKEN_OPERATOR, levels[level][i])) {
			i++;
			continue;
		}
		node = new_pair(p, NODE_BINARY, node, level == 0 ? parse_unary(p, true) : parse_level(p, level - 1));
		node->text = (struct text){levels[level][i], strlen(levels[level][i])};
		i = 0;
	}
	return node;
}

static bool accept_comparison(struct parser *p, struct text *ret_operator, bool *ret_negated)
{
	static const char *const operators[] = {"==", "!=", "<=", ">=", "<", ">"};
	*ret_negated = false;
	for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
		if (parse_accept(p, TOKEN_OPERATOR, operators[i])) {
			*ret_operator = (struct text){operators[i], strlen(operators[i])};
			return true;
		}
	*ret_operator = (struct text){"in", 2};
	if (parse_accept(p, TOKEN_NAME, "in"))
		return true;
	*ret_negated = parse_is(p, TOKEN_NAME, "not") && p->at[1].kind == TOKEN_NAME && text_is(p->at[1].text, "in");
	if (*ret_negated)
		p->at += 2;
	return *ret_negated;
}

/* a < b < c is a < b and b < c. */
static struct node *parse_comparison(struct parser *p)
{
	struct node *left = parse_level(p, 3), *result = NULL;
	struct text operator;
	bool negated;
	while (accept_comparison(p, &operator, &negated)) {
		struct node *right = parse_level(p, 3);
		struct node *one = new_pair(p, NODE_BINARY, left, right);
		one->text = operator;
		one->negated = negated;
		result = result ? new_pair(p, NODE_AND, result, one) : one;
		left = right;
	}
	return result ? result : left;
}

static struct node *parse_not(struct parser *p)
{
	if (!parse_enter(p))
		return &p->nothing;
	struct node *node = parse_accept(p, TOKEN_NAME, "not") ? new_pair(p, NODE_NOT, parse_not(p), NULL)
							       : parse_comparison(p);
	p->depth--;
	return node;
}

static struct node *parse_and(struct parser *p)
{
	struct node *node = parse_not(p);
	while (parse_accept(p, TOKEN_NAME, "and"))
		node = new_pair(p, NODE_AND, node, parse_not(p));
	return node;
}

struct node *parse_or(struct parser *p)
{
	if (!parse_enter(p))
		return &p->nothing;
	struct node *node = parse_and(p);
	while (parse_accept(p, TOKEN_NAME, "or"))
		node = new_pair(p, NODE_OR, node, parse_and(p));
	p->depth--;
	return node;
}

struct node *parse_expression(struct parser *p)
{
	if (!parse_enter(p))
		return &p->nothing;
	struct node *node = parse_or(p);
	while (parse_accept(p, TOKEN_NAME, "if")) {
		struct node *choice = parse_new(p, NODE_CHOICE);
		choice->b = node;
		choice->a = parse_or(p);
		if (parse_accept(p, TOKEN_NAME, "else"))
			parse_push(p, &choice->items, parse_expression(p));
		node = choice;
	}
	p->depth--;
	return node;
}
