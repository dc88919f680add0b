#include "model/json_rules.h"

#include <string.h>

#include "model/number_range.h"
#include "model/expression.h"
#include "model/utf8.h"

static void literal(struct json_rules *r, const char *text, uint32_t from, uint32_t to)
{
	build_text(r->builder, from, text, strlen(text), to);
}

/* One byte on to a new node. */
static uint32_t on(struct json_rules *r, char byte, uint32_t from)
{
	uint32_t next = build_node(r->builder);
	build_bytes(r->builder, from, (uint8_t)byte, (uint8_t)byte, next);
	return next;
}

/* ---- white space */

static void indentation(struct json_rules *r, char byte, uint32_t most, uint32_t from, uint32_t to)
{
	for (uint32_t i = 0; i < most && r->builder->e == ERR_OK; i++) {
		from = on(r, byte, from);
		build_skip(r->builder, from, to);
	}
}

static void space_rule(struct json_rules *r, uint32_t from, uint32_t to)
{
	literal(r, " ", from, to);
	uint32_t line = on(r, '\n', from);
	build_skip(r->builder, line, to);
	indentation(r, ' ', JSON_INDENT_MAX, line, to);
	indentation(r, '\t', JSON_INDENT_MAX / 4, line, to);
}

void json_space(struct json_rules *r, uint32_t from, uint32_t to)
{
	build_skip(r->builder, from, to);
	json_rule_call(r, RULE_SPACE, from, to);
}

/* ---- texts */

static void hex(struct json_rules *r, const char *ranges, uint32_t from, uint32_t to)
{
	for (; *ranges; ranges += 2)
		build_bytes(r->builder, from, (uint8_t)ranges[0], (uint8_t)ranges[1], to);
}

/* Four hexadecimal digits, the first two as given. */
static void unit(struct json_rules *r, const char *first, const char *second, uint32_t from, uint32_t to)
{
	static const char any[] = "09AFaf";
	uint32_t nodes[3];
	for (int i = 0; i < 3; i++)
		nodes[i] = build_node(r->builder);
	hex(r, first, from, nodes[0]);
	hex(r, second, nodes[0], nodes[1]);
	hex(r, any, nodes[1], nodes[2]);
	hex(r, any, nodes[2], to);
}

static void escape(struct json_rules *r, uint32_t from, uint32_t to)
{
	uint32_t slash = on(r, '\\', from);
	for (const char *at = "\"\\/bfnrt"; *at; at++)
		build_bytes(r->builder, slash, (uint8_t)*at, (uint8_t)*at, to);
	uint32_t u = on(r, 'u', slash), high = build_node(r->builder);
	unit(r, "09ACEFacef", "09AFaf", u, to);
	unit(r, "DDdd", "07", u, to);
	unit(r, "DDdd", "89ABab", u, high);
	unit(r, "DDdd", "CFcf", on(r, 'u', on(r, '\\', high)), to);
}

static void plain(struct json_rules *r, uint32_t from, uint32_t to)
{
	build_bytes(r->builder, from, 0x20, '"' - 1, to);
	build_bytes(r->builder, from, '"' + 1, '\\' - 1, to);
	build_bytes(r->builder, from, '\\' + 1, 0x7f, to);
}

static void tail_rule(struct json_rules *r, uint32_t from, uint32_t to)
{
	build_chars(r->builder, from, 0x80, 0x10ffff, to);
	escape(r, from, to);
}

void json_char(struct json_rules *r, uint32_t from, uint32_t to)
{
	plain(r, from, to);
	json_rule_call(r, RULE_TAIL, from, to);
}

static void string_rule(struct json_rules *r, uint32_t from, uint32_t to)
{
	uint32_t inside = on(r, '"', from);
	json_char(r, inside, inside);
	literal(r, "\"", inside, to);
}

void json_text(struct json_rules *r, const char *text, size_t length, uint32_t from, uint32_t to)
{
	for (size_t at = 0; at < length && r->builder->e == ERR_OK;) {
		uint32_t c = 0, next = build_node(r->builder);
		int n = utf8_step((const uint8_t *)text + at, length - at, &c);
		if (n <= 0) {
			build_refuse(r->builder, ERR_INVALID, "a text that is no UTF-8");
			return;
		}
		expression_chars(r->builder, EXPRESSION_STRING, from, c, c, next);
		at += (size_t)n;
		from = next;
	}
	build_skip(r->builder, from, to);
}

void json_quoted(struct json_rules *r, const char *text, size_t length, uint32_t from, uint32_t to)
{
	uint32_t end = build_node(r->builder);
	json_text(r, text, length, on(r, '"', from), end);
	literal(r, "\"", end, to);
}

/* ---- numbers */

static void integer_rule(struct json_rules *r, uint32_t from, uint32_t to)
{
	const struct number_range all = {.integer = true};
	number_range_build(r->builder, &all, from, to);
}

/* As far as two digits of an exponent go: finite in every reader. */
static void number_rule(struct json_rules *r, uint32_t from, uint32_t to)
{
	const struct number_range all = {0};
	uint32_t read = build_node(r->builder), e = build_node(r->builder), sign = build_node(r->builder);
	uint32_t digit = build_node(r->builder);
	number_range_build(r->builder, &all, from, read);
	build_skip(r->builder, read, to);
	hex(r, "eeEE", read, e);
	hex(r, "++--", e, sign);
	build_skip(r->builder, e, sign);
	hex(r, "09", sign, digit);
	hex(r, "09", digit, to);
	build_skip(r->builder, digit, to);
}

/* ---- any value */

static void value_rule(struct json_rules *r, uint32_t from, uint32_t to)
{
	static const enum json_rule kinds[] = {RULE_STRING, RULE_NUMBER, RULE_OBJECT, RULE_ARRAY};
	for (int i = 0; i < 4; i++)
		json_rule_call(r, kinds[i], from, to);
	literal(r, "true", from, to);
	literal(r, "false", from, to);
	literal(r, "null", from, to);
}

/* open ( item ("," item)* )? close, with white space where a writer puts it. */
static void list(struct json_rules *r, const char *brackets, uint32_t item, uint32_t item_end, uint32_t from, uint32_t to)
{
	struct grammar_builder *b = r->builder;
	uint32_t open = on(r, brackets[0], from), close = build_node(b);
	build_bytes(b, open, (uint8_t)brackets[1], (uint8_t)brackets[1], to);
	json_space(r, open, item);
	json_space(r, on(r, ',', item_end), item);
	json_space(r, item_end, close);
	build_bytes(b, close, (uint8_t)brackets[1], (uint8_t)brackets[1], to);
}

static void object_rule(struct json_rules *r, uint32_t from, uint32_t to)
{
	uint32_t item = build_node(r->builder), key = build_node(r->builder), value = build_node(r->builder);
	uint32_t end = build_node(r->builder);
	json_rule_call(r, RULE_STRING, item, key);
	json_space(r, on(r, ':', key), value);
	json_rule_call(r, RULE_VALUE, value, end);
	list(r, "{}", item, end, from, to);
}

static void array_rule(struct json_rules *r, uint32_t from, uint32_t to)
{
	uint32_t item = build_node(r->builder), end = build_node(r->builder);
	json_rule_call(r, RULE_VALUE, item, end);
	list(r, "[]", item, end, from, to);
}

static bool all_text_is_usable(const struct grammar_builder *b)
{
	for (uint32_t byte = 0x20; b->usable && byte <= 0xf4; byte++)
		if (!b->usable[byte] && byte != 0xc0 && byte != 0xc1)
			return false;
	return true;
}

void json_rule_call(struct json_rules *r, enum json_rule which, uint32_t from, uint32_t to)
{
	static void (*const makers[RULE_COUNT])(struct json_rules *, uint32_t, uint32_t) = {
		[RULE_SPACE] = space_rule, [RULE_TAIL] = tail_rule, [RULE_STRING] = string_rule,
		[RULE_NUMBER] = number_rule, [RULE_INTEGER] = integer_rule, [RULE_VALUE] = value_rule,
		[RULE_OBJECT] = object_rule, [RULE_ARRAY] = array_rule,
	};
	struct grammar_builder *b = r->builder;
	if (!r->made[which]) {
		uint32_t rule = build_rule(b);
		r->made[which] = rule + 1;
		if (which == RULE_TAIL && all_text_is_usable(b))
			b->text_tail = rule;
		if (b->e == ERR_OK)
			makers[which](r, b->rules[rule].start, b->rules[rule].end);
	}
	if (b->e == ERR_OK)
		build_call(b, from, r->made[which] - 1, to);
}
