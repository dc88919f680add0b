#include "model/expression.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/utf8.h"

enum { CHAR_MAX_ = 0x10ffff, RANGES_MAX = 512, UNBOUNDED = UINT32_MAX };

struct range {
	uint32_t low, high;
};

struct ranges {
	uint32_t count;
	struct range list[RANGES_MAX];
};

/* An expression is read again for every time that it is repeated: what is made is a walk over its text. */
struct expression {
	struct grammar_builder *builder;
	enum expression_kind kind;
	const char *text;
	size_t length;
	size_t at;
	uint32_t depth;
};

static void refuse(struct expression *p, const char *what)
{
	build_refuse(p->builder, ERR_INVALID, "pattern, at byte %zu: %s", p->at, what);
	p->at = p->length; /* nothing is read on */
}

static int peek(const struct expression *p)
{
	return p->at < p->length ? (unsigned char)p->text[p->at] : -1;
}

static bool take(struct expression *p, const char *text)
{
	size_t length = strlen(text);
	if (p->length - p->at < length || memcmp(p->text + p->at, text, length) != 0)
		return false;
	p->at += length;
	return true;
}

static bool one_of(int c, const char *set)
{
	return c > 0 && strchr(set, c) != NULL;
}

/* ---- characters */

static void string_char(struct grammar_builder *b, uint32_t from, uint32_t c, uint32_t to)
{
	static const char shorts[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
	const char *at = c ? memchr(shorts, (int)c, sizeof(shorts) - 1) : NULL;
	char text[8];
	int length = at ? snprintf(text, sizeof(text), "\\%c", letters[at - shorts])
			: snprintf(text, sizeof(text), "\\u%04x", (unsigned)c);
	build_text(b, from, text, (size_t)length, to);
}

void expression_chars(struct grammar_builder *b, enum expression_kind kind, uint32_t from, uint32_t low, uint32_t high,
		   uint32_t to)
{
	while (low <= high && b->e == ERR_OK) {
		bool escaped = kind == EXPRESSION_STRING && (low < 0x20 || low == '"' || low == '\\');
		uint32_t end = high;
		if (kind == EXPRESSION_STRING && low < '"' && end >= '"')
			end = '"' - 1;
		else if (kind == EXPRESSION_STRING && low > '"' && low < '\\' && end >= '\\')
			end = '\\' - 1;
		if (escaped)
			string_char(b, from, end = low, to);
		else
			build_chars(b, from, low, end, to);
		low = end + 1;
	}
}

static void add_range(struct expression *p, struct ranges *set, uint32_t low, uint32_t high)
{
	if (set->count == RANGES_MAX)
		refuse(p, "a class of too many parts");
	else
		set->list[set->count++] = (struct range){low, high};
}

static int by_low(const void *a, const void *b)
{
	const struct range *x = a, *y = b;
	return (x->low > y->low) - (x->low < y->low);
}

/* Sorted, without overlaps. */
static void normalize(struct ranges *set)
{
	uint32_t kept = 0;
	qsort(set->list, set->count, sizeof(set->list[0]), by_low);
	for (uint32_t i = 0; i < set->count; i++) {
		struct range *last = kept ? &set->list[kept - 1] : NULL;
		if (last && set->list[i].low <= last->high + 1)
			last->high = set->list[i].high > last->high ? set->list[i].high : last->high;
		else
			set->list[kept++] = set->list[i];
	}
	set->count = kept;
}

static void complement(struct expression *p, struct ranges *set)
{
	struct ranges old = *set;
	uint32_t low = 0;
	normalize(&old);
	set->count = 0;
	for (uint32_t i = 0; i < old.count; i++) {
		if (old.list[i].low > low)
			add_range(p, set, low, old.list[i].low - 1);
		low = old.list[i].high + 1;
	}
	if (low <= CHAR_MAX_)
		add_range(p, set, low, CHAR_MAX_);
}

static void emit(struct expression *p, struct ranges *set, uint32_t from, uint32_t to)
{
	normalize(set);
	for (uint32_t i = 0; i < set->count; i++)
		expression_chars(p->builder, p->kind, from, set->list[i].low, set->list[i].high, to);
}

static uint32_t take_char(struct expression *p)
{
	uint32_t c = 0;
	int n = p->at < p->length ? utf8_step((const uint8_t *)p->text + p->at, p->length - p->at, &c) : 0;
	if (n <= 0) {
		refuse(p, "no UTF-8");
		return 0;
	}
	p->at += (size_t)n;
	return c;
}

static uint32_t take_hex(struct expression *p, int digits)
{
	uint32_t value = 0;
	for (int i = 0; i < digits; i++, p->at++) {
		int c = peek(p);
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			    c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
		if (digit < 0) {
			refuse(p, "hexadecimal digits are expected");
			return 0;
		}
		value = value * 16 + (uint32_t)digit;
	}
	return value;
}

/* \d, \w, \s and their opposites; false: the letter is none. */
static bool take_set(struct expression *p, struct ranges *set)
{
	int c = peek(p);
	struct ranges own = {0};
	if (!one_of(c, "dwsDWS"))
		return false;
	p->at++;
	if (c == 'd' || c == 'D' || c == 'w' || c == 'W')
		add_range(p, &own, '0', '9');
	if (c == 'w' || c == 'W') {
		add_range(p, &own, 'A', 'Z');
		add_range(p, &own, '_', '_');
		add_range(p, &own, 'a', 'z');
	}
	if (c == 's' || c == 'S') {
		add_range(p, &own, '\t', '\r');
		add_range(p, &own, ' ', ' ');
	}
	/* What any dialect calls a space is none of \S. */
	static const struct range spaces[] = {{0x1c, 0x1f}, {0x85, 0x85}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a},
					      {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
					      {0xfeff, 0xfeff}};
	for (size_t i = 0; c == 'S' && i < sizeof(spaces) / sizeof(spaces[0]); i++)
		add_range(p, &own, spaces[i].low, spaces[i].high);
	if (c == 'D' || c == 'W' || c == 'S')
		complement(p, &own);
	for (uint32_t i = 0; i < own.count; i++)
		add_range(p, set, own.list[i].low, own.list[i].high);
	return true;
}

/* Behind a backslash: a character. */
static uint32_t take_escape(struct expression *p)
{
	static const char controls[] = "fnrtv", values[] = "\f\n\r\t\v";
	int c = peek(p);
	if (one_of(c, controls)) {
		p->at++;
		return (uint32_t)values[strchr(controls, c) - controls];
	}
	if (take(p, "x"))
		return take_hex(p, 2);
	if (take(p, "u"))
		return take_hex(p, 4);
	if (take(p, "0"))
		return 0;
	if (c < 0 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
		refuse(p, "this escape is not supported");
		return 0;
	}
	return take_char(p);
}

static uint32_t take_class_char(struct expression *p)
{
	if (!take(p, "\\"))
		return take_char(p);
	if (take(p, "b"))
		return '\b';
	return take_escape(p);
}

/* Behind "[". */
static void take_class(struct expression *p, struct ranges *set)
{
	bool negated = take(p, "^");
	while (p->builder->e == ERR_OK && !take(p, "]")) {
		if (peek(p) < 0) {
			refuse(p, "a class without its end");
			return;
		}
		bool escape = peek(p) == '\\';
		p->at += escape;
		if (escape && take_set(p, set))
			continue;
		p->at -= escape;
		uint32_t low = take_class_char(p), high = low;
		if (peek(p) == '-' && p->at + 1 < p->length && p->text[p->at + 1] != ']') {
			p->at++;
			if (take(p, "\\d") || take(p, "\\w") || take(p, "\\s"))
				refuse(p, "a range that ends in a class");
			high = take_class_char(p);
		}
		if (high < low)
			refuse(p, "a range out of order");
		add_range(p, set, low, high);
	}
	if (negated)
		complement(p, set);
}

/* ---- the expression */

static void alternatives(struct expression *p, uint32_t from, uint32_t to);

static void open_group(struct expression *p)
{
	if (!take(p, "?"))
		return;
	if (take(p, ":"))
		return;
	bool named = take(p, "P<") || (peek(p) == '<' && p->at + 1 < p->length && !one_of(p->text[p->at + 1], "=!"));
	if (!named) {
		refuse(p, "look-around and flags are not supported");
		return;
	}
	const char *end = memchr(p->text + p->at, '>', p->length - p->at);
	if (end)
		p->at = (size_t)(end - p->text) + 1;
	else
		refuse(p, "a name without its end");
}

static void group(struct expression *p, uint32_t from, uint32_t to)
{
	if (++p->depth > EXPRESSION_DEPTH_MAX)
		refuse(p, "groups are nested too deeply");
	open_group(p);
	alternatives(p, from, to);
	if (!take(p, ")"))
		refuse(p, "a group without its end");
	p->depth--;
}

static void dot(struct expression *p, struct ranges *set)
{
	static const uint32_t not[] = {'\n', '\r', 0x2028, 0x2029};
	for (int i = 0; i < 4; i++)
		add_range(p, set, not[i], not[i]);
	complement(p, set);
}

static void atom(struct expression *p, uint32_t from, uint32_t to)
{
	struct ranges set;
	set.count = 0;
	build_count(p->builder, 1);
	if (p->builder->e != ERR_OK)
		return;
	if (take(p, "(")) {
		group(p, from, to);
		return;
	}
	if (take(p, "[")) {
		take_class(p, &set);
	} else if (take(p, ".")) {
		dot(p, &set);
	} else if (take(p, "\\")) {
		if (!take_set(p, &set)) {
			uint32_t c = take_escape(p);
			add_range(p, &set, c, c);
		}
	} else if (one_of(peek(p), "^$*+?")) {
		refuse(p, one_of(peek(p), "^$") ? "an anchor inside is not supported" : "nothing to repeat");
	} else {
		uint32_t c = take_char(p);
		add_range(p, &set, c, c);
	}
	emit(p, &set, from, to);
}

/* Behind a backslash. */
static void skip_escape(struct expression *p)
{
	int c = peek(p);
	p->at++;
	for (int digits = c == 'x' ? 2 : c == 'u' ? 4 : 0; digits > 0 && peek(p) >= 0 && isxdigit(peek(p)); digits--)
		p->at++;
}

static void skip_class(struct expression *p)
{
	for (p->at++; p->at < p->length && p->text[p->at] != ']'; p->at++)
		p->at += p->text[p->at] == '\\';
	p->at++;
}

/* To where the atom ends; whether it is well formed shows when it is read. */
static void skip_atom(struct expression *p)
{
	uint32_t open = 0;
	size_t before = p->at;
	do {
		if (peek(p) == '[') {
			skip_class(p);
			continue;
		}
		open += peek(p) == '(';
		open -= peek(p) == ')' && open > 0;
		if (take(p, "\\"))
			skip_escape(p);
		else
			p->at++;
		while (p->at < p->length && ((unsigned char)p->text[p->at] & 0xc0) == 0x80)
			p->at++;
	} while (open > 0 && p->at < p->length);
	if (p->at > p->length)
		p->at = p->length;
	build_count(p->builder, (uint32_t)(p->at - before));
}

static uint32_t take_number(struct expression *p)
{
	uint32_t value = 0;
	for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
		if (value <= EXPRESSION_COUNT_MAX)
			value = value * 10 + (uint32_t)(peek(p) - '0');
	return value;
}

/* {3}, {3,} or {3,5}; anything else in braces is text. */
static bool take_count(struct expression *p, uint32_t *min, uint32_t *max)
{
	size_t before = p->at;
	if (take(p, "{") && peek(p) >= '0' && peek(p) <= '9') {
		uint32_t least = take_number(p), most = least;
		if (take(p, ","))
			most = peek(p) == '}' ? UNBOUNDED : take_number(p);
		if (take(p, "}")) {
			*min = least;
			*max = most;
			return true;
		}
	}
	p->at = before;
	return false;
}

static void take_quantifier(struct expression *p, uint32_t *min, uint32_t *max)
{
	*min = *max = 1;
	if (take(p, "*"))
		*min = 0, *max = UNBOUNDED;
	else if (take(p, "+"))
		*max = UNBOUNDED;
	else if (take(p, "?"))
		*min = 0;
	else if (!take_count(p, min, max))
		return;
	if (*min > EXPRESSION_COUNT_MAX || (*max > EXPRESSION_COUNT_MAX && *max != UNBOUNDED) || *min > *max)
		refuse(p, "a count too large, or out of order");
	(void)take(p, "?"); /* lazy: the same language */
}

/* The atom at `start`, as often as is asked for. */
static void repeat(struct expression *p, size_t start, uint32_t min, uint32_t max, uint32_t from, uint32_t to)
{
	struct grammar_builder *b = p->builder;
	size_t end = p->at;
	uint32_t copies = max == UNBOUNDED ? min + 1 : max;
	for (uint32_t i = 0; i < copies && b->e == ERR_OK; i++) {
		uint32_t next = build_node(b);
		bool loops = i == min && max == UNBOUNDED;
		if (i >= min)
			build_skip(b, from, to);
		p->at = start;
		if (loops) {
			uint32_t again = build_node(b);
			build_skip(b, from, again);
			from = again;
			build_skip(b, next, again);
		}
		atom(p, from, next);
		from = next;
	}
	build_skip(b, from, to);
	if (b->e == ERR_OK)
		p->at = end;
}

static void sequence(struct expression *p, uint32_t from, uint32_t to)
{
	struct grammar_builder *b = p->builder;
	while (b->e == ERR_OK && peek(p) >= 0 && peek(p) != '|' && peek(p) != ')' &&
	       !(peek(p) == '$' && p->depth == 0)) {
		uint32_t min, max, next = build_node(b);
		size_t start = p->at;
		skip_atom(p);
		take_quantifier(p, &min, &max);
		repeat(p, start, min, max, from, next);
		from = next;
	}
	build_skip(b, from, to);
}

static void any(struct expression *p, uint32_t from, uint32_t to)
{
	uint32_t loop = build_node(p->builder);
	build_skip(p->builder, from, loop);
	expression_chars(p->builder, p->kind, loop, 0, CHAR_MAX_, loop);
	build_skip(p->builder, loop, to);
}

/* One alternative of the whole, with what its anchors leave open around it. */
static void anchored(struct expression *p, uint32_t from, uint32_t to)
{
	struct grammar_builder *b = p->builder;
	bool part = p->kind == EXPRESSION_STRING;
	if (!take(p, "^") && part) {
		uint32_t begun = build_node(b);
		any(p, from, begun);
		from = begun;
	}
	uint32_t read = build_node(b);
	sequence(p, from, read);
	bool ends = take(p, "$");
	if (ends && peek(p) >= 0 && peek(p) != '|')
		refuse(p, "an anchor inside is not supported");
	if (ends || !part)
		build_skip(b, read, to);
	else
		any(p, read, to);
}

static void alternatives(struct expression *p, uint32_t from, uint32_t to)
{
	do {
		if (p->depth == 0)
			anchored(p, from, to);
		else
			sequence(p, from, to);
	} while (p->builder->e == ERR_OK && take(p, "|"));
}

void expression_build(struct grammar_builder *b, enum expression_kind kind, const char *pattern, size_t length, uint32_t from,
		   uint32_t to)
{
	struct expression p = {.builder = b, .kind = kind, .text = pattern, .length = length};
	if (length > EXPRESSION_BYTES_MAX) {
		build_refuse(b, ERR_TOO_LARGE, "a pattern of %zu bytes, at most %d", length, EXPRESSION_BYTES_MAX);
		return;
	}
	alternatives(&p, from, to);
	if (b->e == ERR_OK && p.at < p.length)
		refuse(&p, "a \")\" without its beginning");
}
