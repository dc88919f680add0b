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
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
	buf_fini(&out);
	return e;
}

static const char *find(struct text text, struct text what)
{
	return what.length && text.length ? memmem(text.data, text.length, what.data, what.length) : NULL;
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
	while (e == ERR_OK && count_max-- != 0 && (hit = find(text, from))) {
		e = buf_append(&out, text.data, (size_t)(hit - text.data));
		if (e == ERR_OK)
			e = buf_append(&out, to.data, to.length);
		text = behind(text, hit + from.length);
	}
	if (e == ERR_OK)
		e = buf_append(&out, text.data, text.length);
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
	while (e == ERR_OK && count_max-- != 0 && (hit = separator ? find(text, *separator) : find_space(text))) {
		e = add_part(ev, ret_value->list, text.data, hit);
		text = behind(text, hit + (separator ? separator->length : 0));
		if (!separator)
			text = text_strip(text, NULL, STRIP_LEFT);
	}
	if (e == ERR_OK && (separator || text.length > 0))
		e = add_part(ev, ret_value->list, text.data, text.data + text.length);
	return e;
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
			e = value_print(&out, &list.list->items[i]);
		if (e == ERR_OK)
			e = eval_step(ev, 1);
	}
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
	buf_fini(&out);
	return e;
}
