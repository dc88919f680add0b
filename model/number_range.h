/* number_range - the numbers between two bounds, digit by digit, become part of a grammar.
 *
 * Numbers are written without an exponent, with at most NUMBER_DIGITS_MAX digits, so that none is endless; those with a
 * point with at most NUMBER_EXACT_DIGITS, so that a reader's nearest double lies on the same side of every bound.
 * A bound is a decimal, exactly as a schema wrote it. */
#ifndef MODEL_NUMBER_RANGE_H
#define MODEL_NUMBER_RANGE_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "model/grammar_build.h"

enum { NUMBER_DIGITS_MAX = 20, NUMBER_EXACT_DIGITS = 15, DECIMAL_DIGITS_MAX = 340 };

struct decimal {
	bool negative;
	uint16_t whole; /* digits before the point: at least one, and no needless zeros */
	uint16_t rest;  /* after it */
	char digits[DECIMAL_DIGITS_MAX * 2];
};

struct number_range {
	bool has_low, low_open; /* open: the bound itself is outside */
	bool has_high, high_open;
	struct decimal low, high;
	bool integer;
};

/* Of a JSON number.  ERR_INVALID: it is none. */
MUST_USE enum err decimal_of(const json_t *number, struct decimal *ret_decimal);
/* Raises the lower end to a bound, or lowers the upper one; ends that are there already stay if they are tighter. */
void number_range_from(struct number_range *range, const struct decimal *bound, bool open);
void number_range_to(struct number_range *range, const struct decimal *bound, bool open);

void number_range_build(struct grammar_builder *builder, const struct number_range *range, uint32_t from, uint32_t to);
#endif
