/* Methods of texts: "x".name(...). */
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "model/template_text.h"
#include "model/utf8.h"

static bool text_ends(struct text text, struct text with, bool front)
{
	return with.length <= text.length &&
	       memcmp(front ? text.data : text.data + text.length - with.length, with.data, with.length) == 0;
}

/* startswith and endswith take one text or a list of them. */
static bool ends_with_any(struct text text, const struct value *with, bool front)
{
	if (with->kind == VALUE_TEXT)
		return text_ends(text, with->text, front);
	for (size_t i = 0; with->kind == VALUE_LIST && i < with->list->count; i++)
		if (with->list->items[i].kind == VALUE_TEXT && text_ends(text, with->list->items[i].text, front))
			return true;
	return false;
}

#define METHOD(name)                                                                                           \
	static enum err method_##name(struct eval *ev, const struct value *object, const struct arguments *arguments, \
				      struct value *ret_value)

/* The argument's text; ERR_INVALID where it is missing or something else. */
static enum err need_text(struct eval *ev, const struct arguments *arguments, size_t position, const char *name,
			  struct text *ret_text)
{
	const struct value *value = eval_argument(arguments, position, name);
	if (!value || value->kind != VALUE_TEXT)
		return eval_fail(ev, ERR_INVALID, "argument %zu is %s, expected a string", position + 1,
				 value ? value_kind_name(value) : "missing");
	*ret_text = value->text;
	return ERR_OK;
}

static int64_t integer_or(const struct value *value, int64_t fallback)
{
	return value && value->kind == VALUE_INT ? value->integer : fallback;
}

static struct value part_of(struct text text, size_t begin, size_t end)
{
	return (struct value){.kind = VALUE_TEXT, .text = {text.data + begin, end - begin}};
}

static enum err strip(struct eval *ev, const struct value *object, const struct arguments *arguments,
		      enum strip_side side, struct value *ret_value)
{
	const struct value *set = eval_argument(arguments, 0, "chars");
	if (set && set->kind != VALUE_TEXT && set->kind != VALUE_NONE)
		return eval_fail(ev, ERR_INVALID, "strip of %s, expected a string", value_kind_name(set));
	struct text text = object->text;
	text = text_strip(text, set && set->kind == VALUE_TEXT ? &set->text : NULL, side);
	*ret_value = (struct value){.kind = VALUE_TEXT, .text = text};
	uint64_t each = 1 + (set && set->kind == VALUE_TEXT ? set->text.length : 0);
	return eval_step(ev, (object->text.length - text.length) * each / 8);
}

METHOD(strip)
{
	return strip(ev, object, arguments, STRIP_BOTH, ret_value);
}

METHOD(lstrip)
{
	return strip(ev, object, arguments, STRIP_LEFT, ret_value);
}

METHOD(rstrip)
{
	return strip(ev, object, arguments, STRIP_RIGHT, ret_value);
}

static enum err begins_or_ends(struct eval *ev, const struct value *object, const struct arguments *arguments,
			       bool front, struct value *ret_value)
{
	const struct value *with = eval_argument(arguments, 0, "");
	if (!with || (with->kind != VALUE_TEXT && with->kind != VALUE_LIST))
		return eval_fail(ev, ERR_INVALID, "startswith and endswith take a string or a tuple of them");
	*ret_value = value_bool(ends_with_any(object->text, with, front));
	return eval_step(ev, with->kind == VALUE_LIST ? with->list->count : with->text.length / 64);
}

METHOD(startswith)
{
	return begins_or_ends(ev, object, arguments, true, ret_value);
}

METHOD(endswith)
{
	return begins_or_ends(ev, object, arguments, false, ret_value);
}

METHOD(split)
{
	const struct value *by = eval_argument(arguments, 0, "sep"), *most = eval_argument(arguments, 1, "maxsplit");
	return text_split(ev, object->text, by && by->kind == VALUE_TEXT ? &by->text : NULL, integer_or(most, -1),
			  ret_value);
}

METHOD(rsplit)
{
	const struct value *by = eval_argument(arguments, 0, "sep"), *most = eval_argument(arguments, 1, "maxsplit");
	return text_rsplit(ev, object->text, by && by->kind == VALUE_TEXT ? &by->text : NULL, integer_or(most, -1),
			   ret_value);
}

METHOD(splitlines)
{
	const struct value *keep = eval_argument(arguments, 0, "keepends");
	return text_split_lines(ev, object->text, keep && value_truth(keep), ret_value);
}

METHOD(replace)
{
	struct text from, to;
	enum err e = need_text(ev, arguments, 0, "", &from);
	if (e == ERR_OK)
		e = need_text(ev, arguments, 1, "", &to);
	return e == ERR_OK ? text_replace(ev, object->text, from, to, integer_or(eval_argument(arguments, 2, ""), -1),
					  ret_value)
			   : e;
}

METHOD(join)
{
	const struct value *items = eval_argument(arguments, 0, "");
	struct value list;
	if (!items)
		return eval_fail(ev, ERR_INVALID, "join takes a list");
	enum err e = eval_items(ev, items, &list);
	for (size_t i = 0; e == ERR_OK && i < list.list->count; i++)
		if (list.list->items[i].kind != VALUE_TEXT)
			e = eval_fail(ev, ERR_INVALID, "join of %s, expected strings",
				      value_kind_name(&list.list->items[i]));
	return e == ERR_OK ? text_join(ev, &list, object->text, ret_value) : e;
}

/* Where it is, in characters; -1. */
static enum err find(struct eval *ev, const struct value *object, const struct arguments *arguments, bool last,
		     struct value *ret_value)
{
	struct text text = object->text, part;
	enum err e = need_text(ev, arguments, 0, "", &part);
	if (e != ERR_OK)
		return e;
	if (arguments->count > 1)
		return eval_fail(ev, ERR_UNSUPPORTED, "find within bounds is not supported");
	const char *hit = last ? text_find_last(text, part) : text_find(text, part);
	int64_t index = hit ? 0 : -1;
	for (const char *c = text.data; hit && c < hit; c++)
		index += ((unsigned char)*c & 0xc0) != 0x80;
	*ret_value = value_int(index);
	return eval_step(ev, text.length / 16);
}

METHOD(find)
{
	return find(ev, object, arguments, false, ret_value);
}

METHOD(rfind)
{
	return find(ev, object, arguments, true, ret_value);
}

METHOD(index)
{
	enum err e = find(ev, object, arguments, false, ret_value);
	return e == ERR_OK && ret_value->integer < 0 ? eval_fail(ev, ERR_INVALID, "substring not found") : e;
}

METHOD(count)
{
	struct value parts;
	struct text part;
	enum err e = need_text(ev, arguments, 0, "", &part);
	if (e == ERR_OK)
		e = text_split(ev, object->text, &part, -1, &parts);
	if (e == ERR_OK)
		*ret_value = value_int((int64_t)parts.list->count - 1);
	return e;
}

METHOD(removeprefix)
{
	struct text text = object->text, part;
	enum err e = need_text(ev, arguments, 0, "", &part);
	if (e == ERR_OK)
		*ret_value = part_of(text, text_ends(text, part, true) ? part.length : 0, text.length);
	return e;
}

METHOD(removesuffix)
{
	struct text text = object->text, part;
	enum err e = need_text(ev, arguments, 0, "", &part);
	if (e == ERR_OK)
		*ret_value = part_of(text, 0, text.length - (text_ends(text, part, false) ? part.length : 0));
	return e;
}

/* What is before, the separator itself, what is behind. */
METHOD(partition)
{
	struct text text = object->text, by;
	enum err e = need_text(ev, arguments, 0, "", &by);
	if (e == ERR_OK && by.length == 0)
		e = eval_fail(ev, ERR_INVALID, "partition by an empty string");
	if (e == ERR_OK)
		e = value_list_new(&ev->arena, ret_value);
	if (e != ERR_OK)
		return e;
	const char *hit = text_find(text, by);
	size_t at = hit ? (size_t)(hit - text.data) : text.length, end = hit ? at + by.length : at;
	const struct value parts[3] = {part_of(text, 0, at), part_of(text, at, end), part_of(text, end, text.length)};
	for (int i = 0; e == ERR_OK && i < 3; i++)
		e = value_list_add(&ev->arena, ret_value->list, parts[i]);
	if (e == ERR_OK)
		ret_value->list->is_tuple = true;
	return e == ERR_OK ? eval_step(ev, text.length / 16) : e;
}

METHOD(upper)
{
	return text_change_case(ev, object->text, CASE_UPPER, ret_value);
}

METHOD(lower)
{
	return text_change_case(ev, object->text, CASE_LOWER, ret_value);
}

METHOD(capitalize)
{
	return text_change_case(ev, object->text, CASE_CAPITALIZE, ret_value);
}

METHOD(title)
{
	return text_change_case(ev, object->text, CASE_TITLE, ret_value);
}

/* Every character is one of those; of isupper and islower those without a case do not count. */
static enum err all_are(struct eval *ev, struct text text, const char *what, struct value *ret_value)
{
	bool some = false, all = true;
	for (size_t at = 0; at < text.length && all;) {
		uint32_t c = 0xfffd;
		int n = utf8_step((const uint8_t *)text.data + at, text.length - at, &c);
		at += n > 0 ? (size_t)n : 1;
		utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
		bool upper = category == UTF8PROC_CATEGORY_LU, lower = category == UTF8PROC_CATEGORY_LL;
		bool digit = category == UTF8PROC_CATEGORY_ND;
		bool letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
		bool yes = what[0] == 'd' ? digit : what[0] == 's' ? utf8_is_space(c) || (c >= 0x1c && c <= 0x1f)
			   : what[0] == 'a' ? letter || (what[2] == 'n' && digit)
			   : what[0] == 'u' ? upper : lower;
		bool counts = what[0] == 'u' || what[0] == 'l' ? upper || lower || category == UTF8PROC_CATEGORY_LT : true;
		some |= yes;
		all = yes || !counts;
	}
	*ret_value = value_bool(some && all);
	return eval_step(ev, text.length / 8);
}

METHOD(isdigit)
{
	return all_are(ev, object->text, "digit", ret_value);
}

METHOD(isspace)
{
	return all_are(ev, object->text, "space", ret_value);
}

METHOD(isalpha)
{
	return all_are(ev, object->text, "alpha", ret_value);
}

METHOD(isalnum)
{
	return all_are(ev, object->text, "alnum", ret_value);
}

METHOD(isupper)
{
	return all_are(ev, object->text, "upper", ret_value);
}

METHOD(islower)
{
	return all_are(ev, object->text, "lower", ret_value);
}

/* "{} and {name}": what stands between the braces, without a format. */
static enum err format_field(struct eval *ev, struct text field, const struct arguments *arguments, size_t *next,
			     struct buf *out)
{
	char name[64];
	const struct value *value = NULL;
	bool number = field.length > 0 && field.length < 3 && field.data[0] >= '0' && field.data[0] <= '9';
	snprintf(name, sizeof(name), "%.*s", (int)(field.length < 63 ? field.length : 63), field.data);
	if (field.length == 0)
		value = eval_argument(arguments, (*next)++, "");
	else if (number)
		value = eval_argument(arguments, (size_t)strtoul(name, NULL, 10), "");
	else if (strpbrk(name, ".[:!"))
		return eval_fail(ev, ERR_UNSUPPORTED, "format of {%s} is not supported", name);
	else
		value = eval_argument(arguments, SIZE_MAX, name);
	enum err e = value ? eval_charge(ev, value) : ERR_OK;
	if (value)
		return e == ERR_OK ? value_print(out, value) : e;
	return eval_fail(ev, ERR_INVALID, "format has no argument for {%s}", name);
}

METHOD(format)
{
	struct buf out = {.limit = ev->limits.memory_max};
	struct text text = object->text;
	size_t next = 0;
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < text.length; i++) {
		char c = text.data[i], after = i + 1 < text.length ? text.data[i + 1] : 0;
		if ((c != '{' && c != '}') || c == after) {
			e = buf_append(&out, &c, 1);
			i += (c == '{' || c == '}');
			continue;
		}
		const char *close = c == '{' ? memchr(text.data + i, '}', text.length - i) : NULL;
		if (!close) {
			e = eval_fail(ev, ERR_INVALID, "format: a single %c", c);
			continue;
		}
		struct text field = {text.data + i + 1, (size_t)(close - text.data) - i - 1};
		e = format_field(ev, field, arguments, &next, &out);
		i += field.length + 1;
	}
	if (e == ERR_OK)
		e = eval_step(ev, (text.length + out.length) / 8);
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, out.data, out.length, ret_value);
	buf_fini(&out);
	return e;
}

eval_text_method *eval_text_method_find(struct text name)
{
	static const struct {
		const char *name;
		eval_text_method *method;
	} methods[] = {
		{"strip", method_strip}, {"lstrip", method_lstrip}, {"rstrip", method_rstrip},
		{"startswith", method_startswith}, {"endswith", method_endswith},
		{"split", method_split}, {"rsplit", method_rsplit}, {"splitlines", method_splitlines},
		{"replace", method_replace}, {"join", method_join}, {"find", method_find},
		{"rfind", method_rfind}, {"index", method_index}, {"count", method_count},
		{"removeprefix", method_removeprefix}, {"removesuffix", method_removesuffix},
		{"partition", method_partition}, {"upper", method_upper}, {"lower", method_lower},
		{"capitalize", method_capitalize}, {"title", method_title}, {"isdigit", method_isdigit},
		{"isspace", method_isspace}, {"isalpha", method_isalpha}, {"isalnum", method_isalnum},
		{"isupper", method_isupper}, {"islower", method_islower}, {"format", method_format},
	};
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (text_is(name, methods[i].name))
			return methods[i].method;
	return NULL;
}
