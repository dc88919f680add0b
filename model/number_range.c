#include "model/number_range.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- decimals */

/* Digits and an exponent: the point is moved, zeros are filled in. */
static void place(const char *digits, int count, int point, struct decimal *d)
{
	uint16_t n = 0;
	for (int i = 0; i < point || i == 0; i++)
		d->digits[n++] = point <= 0 ? '0' : i < count ? digits[i] : '0';
	d->whole = n;
	for (int i = point; i < count; i++)
		d->digits[n++] = i < 0 ? '0' : digits[i];
	while (n > d->whole && d->digits[n - 1] == '0')
		n--;
	d->rest = (uint16_t)(n - d->whole);
}

enum err decimal_of(const json_t *number, struct decimal *ret_decimal)
{
	char text[64], digits[32];
	double value = json_number_value(number);
	if (!json_is_number(number) || !isfinite(value))
		return ERR_INVALID;
	*ret_decimal = (struct decimal){0};
	if (json_is_integer(number)) {
		long long whole = json_integer_value(number);
		int n = snprintf(text, sizeof(text), "%lld", whole);
		ret_decimal->negative = whole < 0;
		place(text + (whole < 0), n - (whole < 0), n - (whole < 0), ret_decimal);
		return ERR_OK;
	}
	for (int precision = 0; precision < 17; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision, fabs(value));
		if (strtod(text, NULL) == fabs(value))
			break;
	}
	int count = 0;
	for (const char *at = text; *at && *at != 'e'; at++)
		if (*at != '.')
			digits[count++] = *at;
	ret_decimal->negative = value < 0;
	place(digits, count, value == 0 ? 1 : atoi(strchr(text, 'e') + 1) + 1, ret_decimal);
	return ERR_OK;
}

static int digit_at(const struct decimal *d, uint32_t i)
{
	return i < (uint32_t)d->whole + d->rest ? d->digits[i] - '0' : 0;
}

static bool is_zero(const struct decimal *d)
{
	for (uint32_t i = 0; i < (uint32_t)d->whole + d->rest; i++)
		if (d->digits[i] != '0')
			return false;
	return true;
}

static int compare(const struct decimal *a, const struct decimal *b)
{
	bool minus_a = a->negative && !is_zero(a), minus_b = b->negative && !is_zero(b);
	if (minus_a != minus_b)
		return minus_a ? -1 : 1;
	int order = (a->whole > b->whole) - (a->whole < b->whole);
	uint32_t most = a->whole + (a->rest > b->rest ? a->rest : b->rest);
	for (uint32_t i = 0; order == 0 && i < most; i++)
		order = digit_at(a, i) - digit_at(b, i);
	return minus_a ? -order : order;
}

void number_range_from(struct number_range *r, const struct decimal *bound, bool open)
{
	int order = r->has_low ? compare(bound, &r->low) : 1;
	if (order < 0)
		return;
	r->low_open = open || (order == 0 && r->low_open);
	r->low = *bound;
	r->has_low = true;
}

void number_range_to(struct number_range *r, const struct decimal *bound, bool open)
{
	int order = r->has_high ? compare(bound, &r->high) : -1;
	if (order > 0)
		return;
	r->high_open = open || (order == 0 && r->high_open);
	r->high = *bound;
	r->has_high = true;
}

/* ---- sizes between two bounds; a bound is tight while all digits so far are its own */

struct sizes {
	struct grammar_builder *builder;
	const struct decimal *low, *high; /* NULL: none */
	bool low_open, high_open;
	bool integer;
	uint32_t to;
	uint32_t whole;    /* digits before the point, of the numbers being made */
	uint32_t rest[NUMBER_DIGITS_MAX + 1];        /* nodes: behind the point so many more digits may follow, any */
	uint32_t nodes[NUMBER_DIGITS_MAX + 1][2][2]; /* behind so many digits, by tightness */
};

static bool may_end(const struct sizes *s, uint32_t at, bool tight_low, bool tight_high)
{
	bool above = false, below = false;
	for (uint32_t i = at; s->low && i < (uint32_t)s->low->whole + s->low->rest; i++)
		below |= s->low->digits[i] != '0';
	for (uint32_t i = at; s->high && i < (uint32_t)s->high->whole + s->high->rest; i++)
		above |= s->high->digits[i] != '0';
	return !(tight_low && (below || s->low_open)) && !(tight_high && !above && s->high_open);
}

static uint32_t behind(struct sizes *s, uint32_t at, bool tight_low, bool tight_high);

/* The digits that may follow, in runs that lead to the same node. */
static void digits(struct sizes *s, uint32_t node, uint32_t at, bool tight_low, bool tight_high)
{
	int least = tight_low ? digit_at(s->low, at) : 0, most = tight_high ? digit_at(s->high, at) : 9;
	if (at == 0 && s->whole > 1 && least == 0)
		least = 1;
	for (int digit = least, end; digit <= most; digit = end + 1) {
		bool low = tight_low && digit == digit_at(s->low, at), high = tight_high && digit == digit_at(s->high, at);
		end = digit;
		while (!low && !high && end < most && !(tight_high && end + 1 == digit_at(s->high, at)))
			end++;
		build_bytes(s->builder, node, (uint8_t)('0' + digit), (uint8_t)('0' + end), behind(s, at + 1, low, high));
	}
}

static uint32_t digits_max(const struct sizes *s)
{
	bool point = !s->integer && s->whole < NUMBER_EXACT_DIGITS;
	return point ? NUMBER_EXACT_DIGITS : s->whole;
}

/* The end of the digits before the point, or of some after it. */
static void finish(struct sizes *s, uint32_t node, uint32_t at, bool tight_low, bool tight_high)
{
	struct grammar_builder *b = s->builder;
	bool point = at == s->whole;
	if (may_end(s, at, tight_low, tight_high))
		build_skip(b, node, s->to);
	if (at == digits_max(s))
		return;
	uint32_t next = point ? build_node(b) : node;
	if (point)
		build_bytes(b, node, '.', '.', next);
	digits(s, next, at, tight_low, tight_high);
}

/* The node behind `at` digits. */
static uint32_t behind(struct sizes *s, uint32_t at, bool tight_low, bool tight_high)
{
	bool loose = at > s->whole && !tight_low && !tight_high;
	uint32_t *node = loose ? &s->rest[digits_max(s) - at] : &s->nodes[at][tight_low][tight_high];
	if (*node || s->builder->e != ERR_OK)
		return *node;
	uint32_t made = *node = build_node(s->builder);
	if (at < s->whole)
		digits(s, made, at, tight_low, tight_high);
	else
		finish(s, made, at, tight_low, tight_high);
	return made;
}

static void sizes_build(struct sizes *s, uint32_t from)
{
	for (s->whole = 1; s->whole <= NUMBER_DIGITS_MAX && s->builder->e == ERR_OK; s->whole++) {
		if (s->low && s->whole < s->low->whole)
			continue;
		if (s->high && s->whole > s->high->whole)
			break;
		bool low = s->low && s->whole == s->low->whole, high = s->high && s->whole == s->high->whole;
		memset(s->nodes, 0, sizeof(s->nodes));
		uint32_t start = build_node(s->builder);
		build_skip(s->builder, from, start);
		digits(s, start, 0, low, high);
	}
}

void number_range_build(struct grammar_builder *b, const struct number_range *r, uint32_t from, uint32_t to)
{
	static const struct decimal zero = {.whole = 1, .digits = "0"};
	bool from_minus = !r->has_low || compare(&r->low, &zero) < 0;
	int top = r->has_high ? compare(&r->high, &zero) : 1;
	if (top >= 0) {
		bool above = r->has_low && compare(&r->low, &zero) >= 0;
		struct sizes s = {.builder = b, .to = to, .integer = r->integer, .low = above ? &r->low : NULL,
				  .low_open = above && r->low_open, .high = r->has_high ? &r->high : NULL,
				  .high_open = r->high_open};
		sizes_build(&s, from);
	}
	if (!from_minus)
		return;
	uint32_t minus = build_node(b);
	build_bytes(b, from, '-', '-', minus);
	struct sizes s = {.builder = b, .to = to, .integer = r->integer, .low = top <= 0 ? &r->high : NULL,
			  .low_open = top <= 0 && r->high_open, .high = r->has_low ? &r->low : NULL,
			  .high_open = r->low_open};
	sizes_build(&s, minus);
}
