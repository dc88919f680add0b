#include "model/regex_rewrite.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* White_Space, and its complement: \s of PCRE2 also takes U+180E, which is none since Unicode 6.3. */
#define SPACE                                                                                     \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
	"\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                      \
	"\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}" \
	"\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* \w of UTS 18; that of PCRE2 10.42 has neither marks nor connectors.  Outside of a class Oniguruma asks another table for
 * Latin-1, in which superscripts and fractions are words too. */
#define WORD_IN_CLASS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD          WORD_IN_CLASS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

struct rewrite {
	const char *at;
	const char *end;
	bool in_class;
	bool class_start; /* just behind [ or [^ */
	struct why *why;
	struct buf *out;
};

static enum err refuse(const struct rewrite *r, const char *what, size_t length)
{
	return why_set(r->why, ERR_UNSUPPORTED, "regex: %.*s is not supported", (int)length, what);
}

/* \uHHHH, \xHH and \x{H...}: at stands behind the letter. */
static enum err rewrite_hex(struct rewrite *r, char letter)
{
	size_t digits = 0, room = (size_t)(r->end - r->at), max = letter == 'u' ? 4 : 2;
	if (letter == 'x' && room > 0 && *r->at == '{') {
		const char *close = memchr(r->at, '}', room);
		if (!close || close - r->at > 9)
			return refuse(r, "\\x{ without its }", 17);
		enum err e = buf_printf(r->out, "\\x%.*s", (int)(close + 1 - r->at), r->at);
		r->at = close + 1;
		return e;
	}
	while (digits < max && digits < room && isxdigit((unsigned char)r->at[digits]))
		digits++;
	if (digits != max)
		return refuse(r, r->at - 2, 2);
	enum err e = buf_printf(r->out, "\\x{%.*s}", (int)digits, r->at);
	r->at += digits;
	return e;
}

static enum err rewrite_property(struct rewrite *r, char letter)
{
	const char *close = memchr(r->at, '}', (size_t)(r->end - r->at));
	if (r->at == r->end || *r->at != '{' || !close)
		return refuse(r, "\\p without {name}", 17);
	enum err e = buf_printf(r->out, "\\%c%.*s", letter, (int)(close + 1 - r->at), r->at);
	r->at = close + 1;
	return e;
}

/* A set such as \s: bare inside a class, with its own brackets outside. */
static enum err emit_set(struct rewrite *r, const char *set, bool negated)
{
	if (r->in_class && negated)
		return refuse(r, "\\W in a class", 13);
	return buf_printf(r->out, r->in_class ? "%s%s" : negated ? "%s[^%s]" : "%s[%s]", "", set);
}

static enum err rewrite_boundary(struct rewrite *r, char letter)
{
	if (r->in_class)
		return letter == 'b' ? buf_text(r->out, "\\x{8}") : refuse(r, "\\B in a class", 13);
	return buf_text(r->out, letter == 'b'
					? "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
					: "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
}

/* at stands on the character behind the backslash. */
static enum err rewrite_escape(struct rewrite *r)
{
	char c = *r->at++;
	switch (c) {
	case 's':
		return emit_set(r, SPACE, false);
	case 'S':
		return emit_set(r, NOT_SPACE, false);
	case 'w':
		return emit_set(r, r->in_class ? WORD_IN_CLASS : WORD, false);
	case 'W':
		return emit_set(r, WORD, true);
	case 'd':
		return buf_text(r->out, "\\p{Nd}");
	case 'D':
		return buf_text(r->out, "\\P{Nd}");
	case 'h':
		return emit_set(r, "0-9a-fA-F", false);
	case 'v':
		return buf_text(r->out, "\\x{b}");
	case 'b':
	case 'B':
		return rewrite_boundary(r, c);
	case 'p':
	case 'P':
		return rewrite_property(r, c);
	case 'x':
	case 'u':
		return rewrite_hex(r, c);
	case 'r':
	case 'n':
	case 't':
	case 'f':
	case 'a':
	case 'e':
		return buf_printf(r->out, "\\%c", c);
	case 'A':
	case 'z':
	case 'Z':
		if (!r->in_class)
			return buf_printf(r->out, "\\%c", c);
		break;
	default:
		if (ispunct((unsigned char)c) || c == ' ')
			return buf_printf(r->out, "\\%c", c);
	}
	return refuse(r, r->at - 2, 2);
}

/* at stands behind "(?". Only groups and lookarounds that mean the same on both sides. */
static enum err check_group(struct rewrite *r)
{
	size_t room = (size_t)(r->end - r->at);
	static const char *const same[] = {":", "=", "!", ">", "<=", "<!", "i:", "i)", "-i:", "-i)"};
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		size_t length = strlen(same[i]);
		if (room >= length && memcmp(r->at, same[i], length) == 0) {
			r->at += length;
			return buf_printf(r->out, "(?%s", same[i]);
		}
	}
	return refuse(r, r->at - 2, room < 2 ? 2 + room : 4);
}

/* {n,m} is greedy there too, but {n,m}+ is a repeat of a repeat, not a possessive one; {,m} is {0,m}. */
static enum err rewrite_braces(struct rewrite *r)
{
	const char *close = memchr(r->at, '}', (size_t)(r->end - r->at));
	if (close && close + 1 < r->end && close[1] == '+')
		return refuse(r, "{n,m}+", 6);
	bool from_zero = r->at < r->end && *r->at == ',';
	return buf_text(r->out, from_zero ? "{0" : "{");
}

static enum err rewrite_in_class(struct rewrite *r, char c)
{
	bool start = r->class_start;
	r->class_start = false;
	if (c == '[')
		return refuse(r, "a class within a class", 22);
	if (c == '&' && r->at < r->end && *r->at == '&')
		return refuse(r, "&& in a class", 13);
	if (c == '^' && start) {
		r->class_start = r->at[-2] == '[';
		return buf_text(r->out, "^");
	}
	if (c == ']' && !start)
		r->in_class = false;
	return buf_append(r->out, &c, 1);
}

static enum err rewrite_outside(struct rewrite *r, char c)
{
	if (c == '[') {
		r->in_class = r->class_start = true;
	} else if (c == '(' && r->at < r->end && *r->at == '?') {
		r->at++;
		return check_group(r);
	} else if (c == '(' && r->at < r->end && *r->at == '*') {
		return refuse(r, "(*", 2);
	} else if (c == '{') {
		return rewrite_braces(r);
	}
	return buf_append(r->out, &c, 1);
}

enum err regex_rewrite(const char *pattern, size_t length, struct why *why, struct buf *out)
{
	if (length > REGEX_PATTERN_MAX)
		return why_set(why, ERR_TOO_LARGE, "regex: %zu bytes, expected at most %zu", length, REGEX_PATTERN_MAX);
	struct rewrite r = {.at = pattern, .end = pattern + length, .why = why, .out = out};
	enum err e = ERR_OK;
	while (r.at < r.end && e == ERR_OK) {
		char c = *r.at++;
		if (c == 0) {
			e = refuse(&r, "a zero byte", 11);
		} else if (c == '\\' && r.at < r.end) {
			r.class_start = false;
			e = rewrite_escape(&r);
		} else {
			e = r.in_class ? rewrite_in_class(&r, c) : rewrite_outside(&r, c);
		}
	}
	return e;
}
