#include "coordinator/json_out.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void json_out_init(struct json_out *out, struct buf *buf)
{
	*out = (struct json_out){.buf = buf, .empty = {true}};
}

static void put(struct json_out *out, const char *data, size_t length)
{
	if (out->e == ERR_OK)
		out->e = buf_append(out->buf, data, length);
}

/* A comma where one belongs. */
static void begin(struct json_out *out)
{
	if (!out->keyed && !out->empty[out->depth])
		put(out, ",", 1);
	out->empty[out->depth] = false;
	out->keyed = false;
}

void json_out_open(struct json_out *out, char bracket)
{
	begin(out);
	put(out, &bracket, 1);
	assert(out->depth + 1 < JSON_OUT_DEPTH_MAX);
	out->empty[++out->depth] = true;
}

void json_out_close(struct json_out *out, char bracket)
{
	assert(out->depth > 0 && !out->keyed);
	out->depth--;
	put(out, &bracket, 1);
}

/* Bytes of the character that begins here, 0: it is no UTF-8 (RFC 3629: no overlongs, no surrogates). */
static size_t utf8_length(const unsigned char *at, size_t left)
{
	size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
	if (length == 0 || length > left)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
	bool beyond = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90);
	return overlong || beyond ? 0 : length;
}

static void put_escaped(struct json_out *out, unsigned char c)
{
	static const char names[] = "btn\0fr"; /* of 8 to 13 */
	char text[8];
	if (c == '"' || c == '\\')
		snprintf(text, sizeof(text), "\\%c", c);
	else if (c >= 8 && c <= 13 && c != 11)
		snprintf(text, sizeof(text), "\\%c", names[c - 8]);
	else
		snprintf(text, sizeof(text), "\\u%04x", c);
	put(out, text, strlen(text));
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void json_out_text(struct json_out *out, const char *text, size_t length)
{
	begin(out);
	put(out, "\"", 1);
	const unsigned char *at = (const unsigned char *)text, *end = at + length;
	while (at < end) {
		const unsigned char *plain = at;
		while (at < end && is_plain(*at))
			at++;
		put(out, (const char *)plain, (size_t)(at - plain));
		if (at == end)
			break;
		size_t n = utf8_length(at, (size_t)(end - at));
		if (n == 0)
			put(out, "\xef\xbf\xbd", 3);
		else if (n == 1)
			put_escaped(out, *at);
		else
			put(out, (const char *)at, n);
		at += n ? n : 1;
	}
	put(out, "\"", 1);
}

void json_out_keyed(struct json_out *out)
{
	put(out, ":", 1);
	out->keyed = true;
}

void json_out_key(struct json_out *out, const char *key)
{
	json_out_text(out, key, strlen(key));
	json_out_keyed(out);
}

static void put_number(struct json_out *out, const char *text)
{
	begin(out);
	put(out, text, strlen(text));
}

void json_out_raw(struct json_out *out, const char *json, size_t length)
{
	begin(out);
	put(out, json, length);
}

void json_out_integer(struct json_out *out, int64_t value)
{
	char text[32];
	snprintf(text, sizeof(text), "%lld", (long long)value);
	put_number(out, text);
}

void json_out_unsigned(struct json_out *out, uint64_t value)
{
	char text[32];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	put_number(out, text);
}

void json_out_bool(struct json_out *out, bool value)
{
	put_number(out, value ? "true" : "false");
}

void json_out_null(struct json_out *out)
{
	put_number(out, "null");
}

void json_out_float(struct json_out *out, float value)
{
	char text[40];
	if (!(value > -9999.0f))
		value = -9999.0f; /* minus infinity, and what is no number */
	else if (value > 9999.0f)
		value = 9999.0f;
	snprintf(text, sizeof(text), "%.9g", (double)value);
	if (!strpbrk(text, ".e"))
		strcat(text, ".0");
	put_number(out, text);
}

void json_out_fixed(struct json_out *out, double value, int digits)
{
	char text[64];
	snprintf(text, sizeof(text), "%.*f", digits, isfinite(value) ? value : 0.0);
	put_number(out, text);
}

void json_put_text(struct json_out *out, const char *key, const char *text)
{
	json_out_key(out, key);
	if (text)
		json_out_text(out, text, strlen(text));
	else
		json_out_null(out);
}

void json_put_unsigned(struct json_out *out, const char *key, uint64_t value)
{
	json_out_key(out, key);
	json_out_unsigned(out, value);
}

void json_put_bool(struct json_out *out, const char *key, bool value)
{
	json_out_key(out, key);
	json_out_bool(out, value);
}

void json_put_null(struct json_out *out, const char *key)
{
	json_out_key(out, key);
	json_out_null(out);
}

void json_put_open(struct json_out *out, const char *key, char bracket)
{
	json_out_key(out, key);
	json_out_open(out, bracket);
}
