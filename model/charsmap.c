#include "model/charsmap.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "model/utf8.h"

/* ---- loading */

static int sextet(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static enum err from_base64(const char *base64, struct buf *bytes)
{
	uint32_t bits = 0;
	int have = 0;
	enum err e = ERR_OK;
	for (; *base64 && *base64 != '=' && e == ERR_OK; base64++) {
		int value = sextet(*base64);
		if (value < 0)
			return ERR_INVALID;
		bits = bits << 6 | (uint32_t)value;
		have += 6;
		if (have < 8)
			continue;
		have -= 8;
		e = buf_append(bytes, &(char){(char)(bits >> have)}, 1);
	}
	return e;
}

static uint32_t unit_at(const char *bytes)
{
	const uint8_t *b = (const uint8_t *)bytes;
	return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static enum err read_table(struct charsmap *map, const struct buf *bytes, struct why *why)
{
	size_t table = bytes->length >= 4 ? unit_at(bytes->data) : 0;
	if (table < 4 || table % 4 || table > bytes->length - 4)
		return why_set(why, ERR_INVALID, "precompiled_charsmap: %zu bytes with a table of %zu, expected a table within",
			       bytes->length, table);
	map->unit_count = table / 4;
	map->texts_length = bytes->length - 4 - table;
	map->units = malloc(table);
	map->texts = calloc(1, map->texts_length + 1);
	if (!map->units || !map->texts)
		return ERR_NOMEM;
	for (size_t i = 0; i < map->unit_count; i++)
		map->units[i] = unit_at(bytes->data + 4 + 4 * i);
	memcpy(map->texts, bytes->data + 4 + table, map->texts_length);
	if (!utf8_is_valid(map->texts, map->texts_length))
		return why_set(why, ERR_INVALID, "precompiled_charsmap: its replacements are no UTF-8");
	return ERR_OK;
}

enum err charsmap_load(struct charsmap *map, const char *base64, struct why *why)
{
	struct buf bytes = {.limit = CHARSMAP_BYTES_MAX};
	enum err e = from_base64(base64, &bytes);
	if (e == ERR_OK)
		e = read_table(map, &bytes, why);
	else if (e != ERR_NOMEM)
		why_set(why, e, "precompiled_charsmap: expected base64 of at most %zu bytes", CHARSMAP_BYTES_MAX);
	buf_fini(&bytes);
	return e;
}

void charsmap_fini(struct charsmap *map)
{
	free(map->units);
	free(map->texts);
	*map = (struct charsmap){0};
}

/* ---- use */

static uint32_t offset_of(uint32_t unit)
{
	return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* What the shortest prefix of the text that the table has becomes; NULL: none is in it. */
static const char *find(const struct charsmap *map, const char *text, size_t length)
{
	size_t at = offset_of(map->units[0]);
	for (size_t i = 0; i < length && text[i]; i++) {
		uint8_t byte = (uint8_t)text[i];
		at ^= byte;
		if (at >= map->unit_count)
			return NULL;
		uint32_t unit = map->units[at];
		if ((unit & 0x800000ffu) != byte)
			return NULL;
		at ^= offset_of(unit);
		if (!(unit & 0x100))
			continue;
		uint32_t value = at < map->unit_count ? map->units[at] & 0x7fffffff : UINT32_MAX;
		bool whole = value <= map->texts_length && ((uint8_t)map->texts[value] & 0xc0) != 0x80;
		return whole ? map->texts + value : NULL;
	}
	return NULL;
}

static enum err replace_characters(const struct charsmap *map, const char *text, size_t length, struct buf *out)
{
	enum err e = ERR_OK;
	for (size_t at = 0; at < length && e == ERR_OK;) {
		uint32_t character;
		int n = utf8_step((const uint8_t *)text + at, length - at, &character);
		if (n <= 0)
			return ERR_INVALID;
		const char *replaced = find(map, text + at, (size_t)n);
		e = replaced ? buf_text(out, replaced) : buf_append(out, text + at, (size_t)n);
		at += (size_t)n;
	}
	return e;
}

static enum err replace_cluster(const struct charsmap *map, const char *text, size_t length, struct buf *out)
{
	const char *replaced = length < 6 ? find(map, text, length) : NULL;
	return replaced ? buf_text(out, replaced) : replace_characters(map, text, length, out);
}

/* The end of the grapheme cluster that begins at `begin`. */
static size_t cluster_end(const char *text, size_t length, size_t begin, utf8proc_int32_t *state)
{
	uint32_t left = 0, right = 0;
	int n = utf8_step((const uint8_t *)text + begin, length - begin, &left);
	size_t at = begin + (size_t)(n > 0 ? n : 1);
	while (at < length) {
		n = utf8_step((const uint8_t *)text + at, length - at, &right);
		if (n <= 0 || utf8proc_grapheme_break_stateful((utf8proc_int32_t)left, (utf8proc_int32_t)right, state))
			break;
		left = right;
		at += (size_t)n;
	}
	return at;
}

enum err charsmap_apply(const struct charsmap *map, const char *text, size_t length, struct buf *out)
{
	enum err e = ERR_OK;
	utf8proc_int32_t state = 0;
	for (size_t at = 0; at < length && e == ERR_OK;) {
		size_t end = cluster_end(text, length, at, &state);
		e = replace_cluster(map, text + at, end - at, out);
		at = end;
	}
	return e;
}
