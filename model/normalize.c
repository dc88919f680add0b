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

/* Below U+0300 every character is its own form C and combines with nothing before it. */
static bool is_plain(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((uint8_t)text[i] >= 0xcc)
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

static enum err decompose(const char *text, size_t length, struct chars *chars)
{
	int boundary = 0;
	for (size_t at = 0; at < length;) {
		uint32_t character = 0;
		int n = utf8_step((const uint8_t *)text + at, length - at, &character);
		enum err e = reserve(chars, 8);
		if (e != ERR_OK)
			return e;
		utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)character,
							       chars->data + chars->count, 8,
							       UTF8PROC_STABLE | UTF8PROC_COMPOSE, &boundary);
		if (got < 0 || got > 8 || n <= 0)
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
		for (utf8proc_ssize_t i = 0; i < count && e == ERR_OK; i++)
			e = utf8_append(out, (uint32_t)chars->data[at + (size_t)i]);
		if (end < chars->count && e == ERR_OK)
			e = utf8_append(out, HANGUL_NO_FINAL);
		at = end + 1;
	}
	return e;
}

enum err normalize_nfc(struct buf *out, const char *text, size_t length)
{
	if (is_plain(text, length))
		return buf_append(out, text, length);
	struct chars chars = {0};
	enum err e = reserve(&chars, length + 8);
	if (e == ERR_OK)
		e = decompose(text, length, &chars);
	if (e == ERR_OK)
		e = order(&chars);
	if (e == ERR_OK)
		e = compose(out, &chars);
	free(chars.data);
	return e;
}
