#include "model/template_text.h"

#include <utf8proc.h>

#include "model/utf8.h"

static bool in_set(uint32_t character, const struct text *set)
{
	if (!set) /* str.strip() also takes the separators 0x1c to 0x1f */
		return utf8_is_space(character) || (character >= 0x1c && character <= 0x1f);
	for (size_t at = 0; at < set->length;) {
		uint32_t one = 0;
		int n = utf8_step((const uint8_t *)set->data + at, set->length - at, &one);
		if (n <= 0)
			return false;
		if (one == character)
			return true;
		at += (size_t)n;
	}
	return false;
}

struct text text_strip(struct text text, const struct text *set, enum strip_side side)
{
	uint32_t character;
	while ((side & STRIP_LEFT) && text.length > 0) {
		int n = utf8_step((const uint8_t *)text.data, text.length, &character);
		if (n <= 0 || !in_set(character, set))
			break;
		text.data += n;
		text.length -= (size_t)n;
	}
	while ((side & STRIP_RIGHT) && text.length > 0) {
		size_t at = utf8_before(text.data, text.length, &character);
		if (!in_set(character, set))
			break;
		text.length = at;
	}
	return text;
}

static uint32_t change(uint32_t character, enum text_case to, bool starts)
{
	bool upper = to == CASE_UPPER || (starts && to != CASE_LOWER);
	return (uint32_t)(upper ? utf8proc_toupper((utf8proc_int32_t)character)
				: utf8proc_tolower((utf8proc_int32_t)character));
}

enum err text_change_case(struct eval *ev, struct text text, enum text_case to, struct value *ret_value)
{
	struct buf out = {.limit = ev->limits.memory_max};
	bool starts = true;
	enum err e = eval_step(ev, text.length / 8);
	for (size_t at = 0; e == ERR_OK && at < text.length;) {
		uint32_t character = 0xfffd;
		int n = utf8_step((const uint8_t *)text.data + at, text.length - at, &character);
		e = utf8_append(&out, change(character, to, starts));
		starts = to == CASE_TITLE && !(utf8_is_word(character) && character != '_');
		at += n > 0 ? (size_t)n : 1;
	}
	if (e == ERR_OK)
		e = eval_step(ev, out.length / 16);
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
	buf_fini(&out);
	return e;
}

const char *text_find(struct text text, struct text part)
{
	return part.length == 0 ? text.data : text.length ? memmem(text.data, text.length, part.data, part.length) : NULL;
}

/* A byte that ends a match is looked for first, so that long texts without one are passed quickly. */
const char *text_find_last(struct text text, struct text part)
{
	if (part.length == 0)
		return text.data + text.length;
	while (text.length >= part.length) {
		const char *at = memrchr(text.data, part.data[0], text.length - part.length + 1);
		if (!at || memcmp(at, part.data, part.length) == 0)
			return at;
		text.length = (size_t)(at - text.data) + part.length - 1;
	}
	return NULL;
}

static struct text behind(struct text text, const char *at)
{
	return (struct text){at, text.length - (size_t)(at - text.data)};
}

enum err text_replace(struct eval *ev, struct text text, struct text from, struct text to, int64_t count_max,
		      struct value *ret_value)
{
	struct buf out = {.limit = ev->limits.memory_max};
	enum err e = eval_step(ev, text.length / 16);
	const char *hit;
	while (e == ERR_OK && count_max-- != 0 && (hit = from.length ? text_find(text, from) : NULL)) {
		e = buf_append(&out, text.data, (size_t)(hit - text.data));
		if (e == ERR_OK)
			e = buf_append(&out, to.data, to.length);
		text = behind(text, hit + from.length);
	}
	if (e == ERR_OK)
		e = buf_append(&out, text.data, text.length);
	if (e == ERR_OK)
		e = eval_step(ev, out.length / 16);
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
	buf_fini(&out);
	return e;
}

static enum err add_part(struct eval *ev, struct value_list *list, const char *begin, const char *end)
{
	return value_list_add(&ev->arena, list,
			      (struct value){.kind = VALUE_TEXT, .text = {begin, (size_t)(end - begin)}});
}

static const char *find_space(struct text text)
{
	uint32_t character;
	for (size_t at = 0; at < text.length;) {
		int n = utf8_step((const uint8_t *)text.data + at, text.length - at, &character);
		if (n > 0 && in_set(character, NULL))
			return text.data + at;
		at += n > 0 ? (size_t)n : 1;
	}
	return NULL;
}

enum err text_split(struct eval *ev, struct text text, const struct text *separator, int64_t count_max,
		    struct value *ret_value)
{
	enum err e = value_list_new(&ev->arena, ret_value);
	if (e == ERR_OK && separator && separator->length == 0)
		return eval_fail(ev, ERR_INVALID, "split by an empty string");
	if (e == ERR_OK)
		e = eval_step(ev, text.length / 16);
	if (!separator)
		text = text_strip(text, NULL, count_max < 0 ? STRIP_BOTH : STRIP_LEFT);
	const char *hit;
	while (e == ERR_OK && count_max-- != 0 && (hit = separator ? text_find(text, *separator) : find_space(text))) {
		e = add_part(ev, ret_value->list, text.data, hit);
		text = behind(text, hit + (separator ? separator->length : 0));
		if (!separator)
			text = text_strip(text, NULL, STRIP_LEFT);
	}
	if (e == ERR_OK && (separator || text.length > 0))
		e = add_part(ev, ret_value->list, text.data, text.data + text.length);
	return e;
}

static void reverse(struct value_list *list)
{
	for (size_t i = 0; i < list->count / 2; i++) {
		struct value other = list->items[i];
		list->items[i] = list->items[list->count - 1 - i];
		list->items[list->count - 1 - i] = other;
	}
}

enum err text_rsplit(struct eval *ev, struct text text, const struct text *separator, int64_t count_max,
		     struct value *ret_value)
{
	if (!separator || count_max < 0)
		return count_max < 0 ? text_split(ev, text, separator, -1, ret_value)
				     : eval_fail(ev, ERR_UNSUPPORTED, "rsplit by whitespace up to a count is not supported");
	enum err e = value_list_new(&ev->arena, ret_value);
	if (e == ERR_OK && separator->length == 0)
		return eval_fail(ev, ERR_INVALID, "split by an empty string");
	if (e == ERR_OK)
		e = eval_step(ev, text.length / 16 * (1 + separator->length / 16));
	const char *hit;
	while (e == ERR_OK && count_max-- != 0 && (hit = text_find_last(text, *separator))) {
		e = add_part(ev, ret_value->list, hit + separator->length, text.data + text.length);
		text.length = (size_t)(hit - text.data);
	}
	if (e == ERR_OK)
		e = add_part(ev, ret_value->list, text.data, text.data + text.length);
	if (e == ERR_OK)
		reverse(ret_value->list);
	return e;
}

static bool ends_line(uint32_t c)
{
	return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

enum err text_split_lines(struct eval *ev, struct text text, bool keep_ends, struct value *ret_value)
{
	enum err e = value_list_new(&ev->arena, ret_value);
	size_t begin = 0, at = 0;
	if (e == ERR_OK)
		e = eval_step(ev, text.length / 8);
	while (e == ERR_OK && at < text.length) {
		uint32_t c = 0xfffd;
		int n = utf8_step((const uint8_t *)text.data + at, text.length - at, &c);
		size_t end = at;
		at += n > 0 ? (size_t)n : 1;
		if (!ends_line(c))
			continue;
		at += c == '\r' && at < text.length && text.data[at] == '\n';
		e = add_part(ev, ret_value->list, text.data + begin, text.data + (keep_ends ? at : end));
		begin = at;
	}
	return e == ERR_OK && begin < at ? add_part(ev, ret_value->list, text.data + begin, text.data + at) : e;
}

enum err text_join(struct eval *ev, const struct value *items, struct text separator, struct value *ret_value)
{
	struct buf out = {.limit = ev->limits.memory_max};
	struct value list;
	enum err e = eval_items(ev, items, &list);
	for (size_t i = 0; e == ERR_OK && i < list.list->count; i++) {
		if (i)
			e = buf_append(&out, separator.data, separator.length);
		if (e == ERR_OK)
			e = eval_charge(ev, &list.list->items[i]);
		if (e == ERR_OK)
			e = value_print(&out, &list.list->items[i]);
	}
	if (e == ERR_OK)
		e = eval_step(ev, out.length / 16);
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
	buf_fini(&out);
	return e;
}
