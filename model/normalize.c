#include "model/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "model/utf8.h"

struct chars {
	utf8proc_int32_t *data;
	size_t count;
	size_t capacity;
};

/* Below U+0300 every character is its own form C and combines with nothing before it; below U+0080 it is
 * its own in all forms. */
static bool is_plain(enum normal_form form, const char *text, size_t length)
{
	uint8_t limit = form == NORMAL_FORM_C ? 0xcc : 0x80;
	for (size_t i = 0; i < length; i++)
		if ((uint8_t)text[i] >= limit)
			return false;
	return true;
}

static enum err reserve(struct chars *chars, size_t more)
{
	if (chars->capacity - chars->count >= more)
		return ERR_OK;
	size_t capacity = chars->capacity * 2 + more;
	utf8proc_int32_t *data = realloc(chars->data, capacity * sizeof(*data));
	if (!data)
		return ERR_NOMEM;
	chars->data = data;
	chars->capacity = capacity;
	return ERR_OK;
}

/* U+FDFA becomes 18 characters in the compatible forms. */
#define DECOMPOSED_MAX 32

static enum err decompose(enum normal_form form, const char *text, size_t length, struct chars *chars)
{
	int boundary = 0;
	bool compatible = form == NORMAL_FORM_KC || form == NORMAL_FORM_KD;
	utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
	for (size_t at = 0; at < length;) {
		uint32_t character = 0;
		int n = utf8_step((const uint8_t *)text + at, length - at, &character);
		enum err e = reserve(chars, DECOMPOSED_MAX);
		if (e != ERR_OK)
			return e;
		utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)character,
							       chars->data + chars->count, DECOMPOSED_MAX, options,
							       &boundary);
		if (got < 0 || got > DECOMPOSED_MAX || n <= 0)
			return ERR_INVALID;
		chars->count += (size_t)got;
		at += (size_t)n;
	}
	return ERR_OK;
}

static uint8_t class_of(utf8proc_int32_t character)
{
	return (uint8_t)utf8proc_get_property(character)->combining_class;
}

/* A stable counting sort by class: a run of marks may be as long as the text, and the library's own
 * ordering would be quadratic in it. */
static void sort_run(utf8proc_int32_t *run, utf8proc_int32_t *spare, size_t count)
{
	size_t places[257] = {0};
	for (size_t i = 0; i < count; i++)
		places[class_of(run[i]) + 1]++;
	for (size_t c = 1; c < 257; c++)
		places[c] += places[c - 1];
	for (size_t i = 0; i < count; i++)
		spare[places[class_of(run[i])]++] = run[i];
	memcpy(run, spare, count * sizeof(*run));
}

static enum err order(struct chars *chars)
{
	utf8proc_int32_t *spare = malloc((chars->count + 1) * sizeof(*spare));
	if (!spare)
		return ERR_NOMEM;
	for (size_t at = 0; at < chars->count;) {
		size_t end = at;
		while (end < chars->count && class_of(chars->data[end]) != 0)
			end++;
		if (end - at > 1)
			sort_run(chars->data + at, spare, end - at);
		at = end + 1;
	}
	free(spare);
	return ERR_OK;
}

/* utf8proc 2.8 takes U+11A7, which only counts the Hangul finals from zero, for a final and drops it behind
 * a syllable; it composes with nothing, so that what lies on its two sides is composed apart. */
#define HANGUL_NO_FINAL 0x11a7

static enum err append_chars(struct buf *out, const utf8proc_int32_t *chars, size_t count)
{
	enum err e = ERR_OK;
	for (size_t i = 0; i < count && e == ERR_OK; i++)
		e = utf8_append(out, (uint32_t)chars[i]);
	return e;
}

static enum err compose(struct buf *out, struct chars *chars)
{
	enum err e = ERR_OK;
	for (size_t at = 0; at < chars->count && e == ERR_OK;) {
		size_t end = at;
		while (end < chars->count && chars->data[end] != HANGUL_NO_FINAL)
			end++;
		utf8proc_ssize_t count = utf8proc_normalize_utf32(chars->data + at, (utf8proc_ssize_t)(end - at),
								  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
		if (count < 0)
			return ERR_INVALID;
		e = append_chars(out, chars->data + at, (size_t)count);
		if (end < chars->count && e == ERR_OK)
			e = utf8_append(out, HANGUL_NO_FINAL);
		at = end + 1;
	}
	return e;
}

enum err normalize(struct buf *out, enum normal_form form, const char *text, size_t length)
{
	if (is_plain(form, text, length))
		return buf_append(out, text, length);
	struct chars chars = {0};
	bool composed = form == NORMAL_FORM_C || form == NORMAL_FORM_KC;
	enum err e = reserve(&chars, length + DECOMPOSED_MAX);
	if (e == ERR_OK)
		e = decompose(form, text, length, &chars);
	if (e == ERR_OK)
		e = order(&chars);
	if (e == ERR_OK)
		e = composed ? compose(out, &chars) : append_chars(out, chars.data, chars.count);
	free(chars.data);
	return e;
}

/* Capital I with a dot is the one letter whose lower case is two characters in every language. */
static enum err append_lowercase(struct buf *out, uint32_t character)
{
	if (character == 0x130)
		return buf_text(out, "i\xcc\x87");
	return utf8_append(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)character));
}

enum err normalize_lowercase(struct buf *out, const char *text, size_t length)
{
	enum err e = ERR_OK;
	for (size_t at = 0; at < length && e == ERR_OK;) {
		uint32_t character = 0;
		int n = utf8_step((const uint8_t *)text + at, length - at, &character);
		if (n <= 0)
			return ERR_INVALID;
		e = append_lowercase(out, character);
		at += (size_t)n;
	}
	return e;
}

static bool is_mark(uint32_t character)
{
	utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)character);
	return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
}

enum err normalize_strip_marks(struct buf *out, const char *text, size_t length)
{
	enum err e = ERR_OK;
	for (size_t at = 0; at < length && e == ERR_OK;) {
		uint32_t character = 0;
		int n = utf8_step((const uint8_t *)text + at, length - at, &character);
		if (n <= 0)
			return ERR_INVALID;
		if (!is_mark(character))
			e = buf_append(out, text + at, (size_t)n);
		at += (size_t)n;
	}
	return e;
}
