/* Values as JSON, as Python's json.dumps() writes it. */
#include <stdlib.h>

#include "model/template_value.h"
#include "model/utf8.h"

#define DEPTH_MAX 64

static enum err print_escaped(struct buf *out, uint32_t character)
{
	if (character >= 0x10000) {
		character -= 0x10000;
		return buf_printf(out, "\\u%04x\\u%04x", 0xd800 + (character >> 10), 0xdc00 + (character & 0x3ff));
	}
	return buf_printf(out, "\\u%04x", character);
}

/* How much of it goes as it is. */
static size_t plain_length(struct text text, bool ascii)
{
	size_t i = 0;
	for (; i < text.length; i++) {
		unsigned char c = (unsigned char)text.data[i];
		if (c < 0x20 || c == '"' || c == '\\' || (ascii && c >= 0x7f))
			break;
	}
	return i;
}

/* A character that is written in another way; returns the bytes that it had. */
static size_t print_special(struct buf *out, struct text rest, enum err *ret_e)
{
	static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
	unsigned char c = (unsigned char)rest.data[0];
	const char *escape = c ? strchr(from, c) : NULL;
	uint32_t character = c;
	int n = c < 0x80 ? 1 : utf8_step((const uint8_t *)rest.data, rest.length, &character);
	*ret_e = escape ? buf_printf(out, "\\%c", to[escape - from]) : print_escaped(out, n > 0 ? character : 0xfffd);
	return n > 0 ? (size_t)n : 1;
}

static enum err print_text(struct buf *out, struct text text, bool ascii)
{
	enum err e = buf_text(out, "\"");
	while (e == ERR_OK && text.length > 0) {
		size_t n = plain_length(text, ascii);
		e = n ? buf_append(out, text.data, n) : ERR_OK;
		if (e == ERR_OK && n < text.length)
			n += print_special(out, (struct text){text.data + n, text.length - n}, &e);
		text.data += n;
		text.length -= n;
	}
	return e == ERR_OK ? buf_text(out, "\"") : e;
}

static enum err print_break(struct buf *out, int indent, int depth)
{
	return indent < 0 ? ERR_OK : buf_printf(out, "\n%*s", indent * depth, "");
}

static int by_key(const void *a, const void *b)
{
	const struct text *x = &((const struct value_pair *)a)->key, *y = &((const struct value_pair *)b)->key;
	size_t length = x->length < y->length ? x->length : y->length;
	int order = length ? memcmp(x->data, y->data, length) : 0;
	return order ? order : (x->length > y->length) - (x->length < y->length);
}

static enum err print_items(struct buf *out, const struct value *value, const struct json_style *style, int depth)
{
	bool is_list = value->kind == VALUE_LIST;
	size_t count = is_list ? value->list->count : value->map->count;
	if (count == 0)
		return buf_text(out, is_list ? "[]" : "{}");
	enum err e = buf_text(out, is_list ? "[" : "{");
	for (size_t i = 0; i < count && e == ERR_OK; i++) {
		if (i)
			e = buf_append(out, style->item_separator.data, style->item_separator.length);
		if (e == ERR_OK)
			e = print_break(out, style->indent, depth + 1);
		if (e == ERR_OK && !is_list)
			e = print_text(out, value->map->pairs[i].key, style->ascii);
		if (e == ERR_OK && !is_list)
			e = buf_append(out, style->key_separator.data, style->key_separator.length);
		if (e == ERR_OK)
			e = value_print_json(out, is_list ? &value->list->items[i] : &value->map->pairs[i].value,
					     style, depth + 1);
	}
	if (e == ERR_OK)
		e = print_break(out, style->indent, depth);
	return e == ERR_OK ? buf_text(out, is_list ? "]" : "}") : e;
}

/* The map itself stays in its order. */
static enum err print_sorted(struct buf *out, const struct value_map *map, const struct json_style *style, int depth)
{
	struct value_map copy = *map;
	copy.pairs = malloc((map->count + 1) * sizeof(*copy.pairs));
	if (!copy.pairs)
		return ERR_NOMEM;
	if (map->count)
		memcpy(copy.pairs, map->pairs, map->count * sizeof(*copy.pairs));
	qsort(copy.pairs, copy.count, sizeof(*copy.pairs), by_key);
	enum err e = print_items(out, &(struct value){.kind = VALUE_MAP, .map = &copy}, style, depth);
	free(copy.pairs);
	return e;
}

enum err value_print_json(struct buf *out, const struct value *value, const struct json_style *style, int depth)
{
	if (depth > DEPTH_MAX)
		return ERR_TOO_LARGE;
	switch (value->kind) {
	case VALUE_NONE:
		return buf_text(out, "null");
	case VALUE_BOOL:
		return buf_text(out, value->boolean ? "true" : "false");
	case VALUE_INT:
		return value_print_integer(out, value->integer);
	case VALUE_FLOAT:
		return value_print_float(out, value->number, "Infinity", "NaN");
	case VALUE_TEXT:
		return print_text(out, value->text, style->ascii);
	case VALUE_LIST:
		return print_items(out, value, style, depth);
	case VALUE_MAP:
		return style->sorted ? print_sorted(out, value->map, style, depth)
				     : print_items(out, value, style, depth);
	default:
		return ERR_INVALID;
	}
}
