/* Methods: x.name(...), and which there are. */
#include "model/template_text.h"

/* Those that change what they are called on are not there: Jinja's sandbox hides them. */
static const char *const text_methods[] = {
	"capitalize", "casefold",   "center",  "count",        "encode",       "endswith", "expandtabs", "find",
	"format",     "format_map", "index",   "isalnum",      "isalpha",      "isascii",  "isdecimal",  "isdigit",
	"isidentifier", "islower",  "isnumeric", "isprintable", "isspace",     "istitle",  "isupper",    "join",
	"ljust",      "lower",      "lstrip",  "maketrans",    "partition",    "removeprefix", "removesuffix", "replace",
	"rfind",      "rindex",     "rjust",   "rpartition",   "rsplit",       "rstrip",   "split",      "splitlines",
	"startswith", "strip",      "swapcase", "title",       "translate",    "upper",    "zfill",
};
static const char *const list_methods[] = {"copy", "count", "index"};
static const char *const map_methods[] = {"copy", "fromkeys", "get", "items", "keys", "values"};

static bool is_among(struct text name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (text_is(name, names[i]))
			return true;
	return false;
}
#define AMONG(name, names) is_among(name, names, sizeof(names) / sizeof((names)[0]))

bool eval_is_method(const struct value *object, struct text name)
{
	if (object->kind == VALUE_TEXT)
		return AMONG(name, text_methods);
	if (object->kind == VALUE_LIST)
		return AMONG(name, list_methods);
	if (object->kind == VALUE_MAP && object->map->is_loop)
		return text_is(name, "cycle") || text_is(name, "changed");
	return object->kind == VALUE_MAP && !object->map->is_namespace && AMONG(name, map_methods);
}

static enum err no_method(struct eval *ev, const struct value *object, struct text name)
{
	if (object->kind == VALUE_UNDEFINED)
		return eval_fail(ev, ERR_INVALID, "'%.*s' is undefined", (int)object->text.length,
				 object->text.data ? object->text.data : "");
	return eval_fail(ev, ERR_UNSUPPORTED, "%s has no method %.*s", value_kind_name(object), (int)name.length,
			 name.data);
}

static enum err list_method(struct eval *ev, const struct value *object, struct text name,
			    const struct arguments *arguments, struct value *ret_value)
{
	const struct value *wanted = eval_argument(arguments, 0, "");
	bool index = text_is(name, "index"), same = false;
	int64_t count = 0;
	if (!wanted || (!index && !text_is(name, "count")))
		return no_method(ev, object, name);
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < object->list->count; i++) {
		e = eval_equal(ev, wanted, &object->list->items[i], &same);
		if (e == ERR_OK && same && index) {
			*ret_value = value_int((int64_t)i);
			return ERR_OK;
		}
		count += same;
	}
	if (e == ERR_OK && index)
		e = eval_fail(ev, ERR_INVALID, "index: the list has no such item");
	*ret_value = value_int(count);
	return e;
}

/* loop.cycle(a, b): one after the other, iteration by iteration. */
static enum err loop_cycle(struct eval *ev, const struct value *object, const struct arguments *arguments,
			   struct value *ret_value)
{
	const struct value *index = value_map_get(object->map, (struct text){"index0", 6});
	if (arguments->count == 0 || !index || index->kind != VALUE_INT)
		return eval_fail(ev, ERR_INVALID, "loop.cycle takes at least one argument");
	*ret_value = arguments->values[(size_t)index->integer % arguments->count];
	return ERR_OK;
}

/* items, keys and values of a map, as a list. */
static enum err map_list(struct eval *ev, const struct value_map *map, char which, struct value *ret_value)
{
	enum err e = value_list_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < map->count; i++) {
		struct value key = {.kind = VALUE_TEXT, .text = map->pairs[i].key}, item = key;
		if (which == 'v')
			item = map->pairs[i].value;
		if (which == 'i') {
			e = value_list_new(&ev->arena, &item);
			if (e == ERR_OK)
				e = value_list_add(&ev->arena, item.list, key);
			if (e == ERR_OK)
				e = value_list_add(&ev->arena, item.list, map->pairs[i].value);
			if (e == ERR_OK)
				item.list->is_tuple = true;
		}
		if (e == ERR_OK)
			e = value_list_add(&ev->arena, ret_value->list, item);
	}
	return e == ERR_OK ? eval_step(ev, map->count) : e;
}

static enum err map_get(struct eval *ev, const struct value_map *map, const struct arguments *arguments,
			struct value *ret_value)
{
	const struct value *key = eval_argument(arguments, 0, ""), *fallback = eval_argument(arguments, 1, "");
	if (!key)
		return eval_fail(ev, ERR_INVALID, "get takes a key");
	const struct value *found = key->kind == VALUE_TEXT ? value_map_get(map, key->text) : NULL;
	*ret_value = found ? *found : fallback ? *fallback : (struct value){.kind = VALUE_NONE};
	return eval_step(ev, map->count / 8);
}

/* Also what a template put there itself: ns.some_macro(x). */
static enum err map_method(struct eval *ev, const struct value *object, struct text name,
			   const struct arguments *arguments, struct value *ret_value)
{
	if (object->map->is_loop && text_is(name, "cycle"))
		return loop_cycle(ev, object, arguments, ret_value);
	if (!eval_is_method(object, name)) {
		struct value callee;
		enum err e = eval_attribute(ev, object, name, &callee);
		return e == ERR_OK ? eval_call_value(ev, &callee, arguments, ret_value) : e;
	}
	if (text_is(name, "items") || text_is(name, "keys") || text_is(name, "values"))
		return map_list(ev, object->map, name.data[0], ret_value);
	return text_is(name, "get") ? map_get(ev, object->map, arguments, ret_value) : no_method(ev, object, name);
}

enum err eval_method(struct eval *ev, const struct value *object, struct text name,
		     const struct arguments *arguments, struct value *ret_value)
{
	eval_text_method *of_text = object->kind == VALUE_TEXT ? eval_text_method_find(name) : NULL;
	if (of_text)
		return of_text(ev, object, arguments, ret_value);
	if (object->kind == VALUE_LIST)
		return list_method(ev, object, name, arguments, ret_value);
	return object->kind == VALUE_MAP ? map_method(ev, object, name, arguments, ret_value)
					 : no_method(ev, object, name);
}
