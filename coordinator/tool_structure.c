#include "coordinator/tool_structure.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static json_t *literal(const char *text)
{
	return json_pack("{s:s}", "literal", text);
}

static json_t *token(const char *name)
{
	return json_pack("{s:s}", "token", name);
}

/* Of `count` parts, which it takes; NULL: no memory, here or for a part. */
static json_t *sequence(size_t count, json_t *const parts[])
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, parts[i]);
	if (json_array_size(list) == count)
		return json_pack("{s:o}", "sequence", list);
	json_decref(list); /* no memory for one of them */
	return NULL;
}
#define SEQUENCE(...) sequence(sizeof((json_t *[]){__VA_ARGS__}) / sizeof(json_t *), (json_t *[]){__VA_ARGS__})

/* The arguments of a function: its parameters' schema; without one, any object. */
static json_t *arguments(const json_t *function)
{
	json_t *schema = json_object_get(function, "parameters");
	return schema ? json_pack("{s:O}", "json", schema) : json_pack("{s:{s:s}}", "json", "type", "object");
}

/* {"name": "f", "arguments": {...}}, the second key by its family's name. */
static json_t *object_call(const json_t *function, const char *key)
{
	json_t *name = json_object_get(function, "name");
	char *quoted = json_dumps(name, JSON_ENCODE_ANY);
	json_t *begin = json_sprintf("{\"name\": %s, \"%s\": ", quoted ? quoted : "", key);
	free(quoted);
	return SEQUENCE(json_pack("{s:o}", "literal", begin), arguments(function), literal("}"));
}

static json_t *named(const json_t *function, const char *format)
{
	return json_pack("{s:o}", "literal", json_sprintf(format, json_string_value(json_object_get(function, "name"))));
}

/* ---- Qwen3 coder: parameters as bare text, in the order of the schema, each at most once */

/* Any text but one with the tag that ends it: behind each "<" stands nothing that goes on with "/parameter>". */
static json_t *free_text(void)
{
	static const char tag[] = "/parameter>";
	struct buf pattern = {0};
	enum err e = buf_text(&pattern, "[^<]*(?:<");
	for (size_t i = 0; e == ERR_OK && tag[i]; i++)
		e = buf_printf(&pattern, tag[i + 1] ? "(?:[^<%c][^<]*|%c" : "(?:[^<%c][^<]*", tag[i], tag[i]);
	for (size_t i = 0; e == ERR_OK && tag[i]; i++)
		e = buf_text(&pattern, ")?");
	if (e == ERR_OK)
		e = buf_text(&pattern, ")*");
	json_t *part = e == ERR_OK ? json_pack("{s:s}", "regex", pattern.data) : NULL;
	buf_fini(&pattern);
	return part;
}

/* One of the texts of a list; those with the tag cannot be written. */
static json_t *listed_text(const json_t *list)
{
	json_t *texts = json_array(), *text;
	size_t i;
	json_array_foreach((json_t *)list, i, text)
		if (json_is_string(text) && !strstr(json_string_value(text), "</parameter>"))
			json_array_append_new(texts, json_pack("{s:O}", "literal", text));
	return json_pack("{s:o}", "choice", texts);
}

static json_t *text_value(const json_t *schema)
{
	static const char *const bounds[] = {"pattern", "format", "minLength", "maxLength"};
	json_t *one = json_object_get(schema, "const"), *list = json_object_get(schema, "enum");
	if (one) {
		json_t *alone = json_pack("[O]", one), *value = listed_text(alone);
		json_decref(alone);
		return value;
	}
	if (list)
		return listed_text(list);
	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
		if (json_object_get(schema, bounds[i]))
			return json_pack("{s:O}", "bare", schema);
	return free_text();
}

/* With the places that a reference may name: they stand at the root of the parameters. */
static json_t *json_value(const json_t *parameters, json_t *schema)
{
	static const char *const places[] = {"$defs", "definitions"};
	json_t *whole = json_is_object(schema) ? json_copy(schema) : json_incref(schema);
	for (size_t i = 0; i < 2 && json_is_object(schema); i++) {
		json_t *place = json_object_get(parameters, places[i]);
		if (place && !json_object_get(whole, places[i]))
			json_object_set(whole, places[i], place);
	}
	return json_pack("{s:o, s:b}", "json", whole, "in_markup", 1);
}

static bool is_required(const json_t *parameters, const char *name)
{
	size_t i;
	json_t *item;
	json_array_foreach(json_object_get(parameters, "required"), i, item)
		if (json_is_string(item) && strcmp(json_string_value(item), name) == 0)
			return true;
	return false;
}

static json_t *parameter(const json_t *parameters, const char *name, json_t *schema)
{
	json_t *value = speech_is_text(schema) ? text_value(schema) : json_value(parameters, schema);
	json_t *whole = SEQUENCE(json_pack("{s:o}", "literal", json_sprintf("<parameter=%s>\n", name)), value,
				 literal("\n</parameter>\n"));
	return is_required(parameters, name) ? whole : json_pack("{s:[o,o]}", "choice", literal(""), whole);
}

static enum err check_parameters(const json_t *function, struct why *why)
{
	static const char *const known[] = {"type", "properties", "required", "additionalProperties", "$defs", "definitions",
					    "$schema", "$id", "title", "description", "strict"};
	const json_t *parameters = json_object_get(function, "parameters"), *properties = json_object_get(parameters, "properties");
	const char *name = json_string_value(json_object_get(function, "name")), *key;
	json_t *value;
	size_t i;
	json_object_foreach((json_t *)parameters, key, value)
	{
		bool found = false;
		for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			found |= strcmp(key, known[i]) == 0;
		if (!found)
			return why_set(why, ERR_UNSUPPORTED, "%.64s: parameters with \"%.60s\" cannot be forced in the format qwen3_coder",
				       name, key);
	}
	json_object_foreach((json_t *)properties, key, value)
		if (strlen(key) > CALL_NAME_MAX || strpbrk(key, "<>\n"))
			return why_set(why, ERR_UNSUPPORTED,
				       "%.64s: a parameter named \"%.60s\" cannot be written in the format qwen3_coder", name, key);
	json_array_foreach(json_object_get(parameters, "required"), i, value)
		if (!json_is_string(value) || !json_object_get(properties, json_string_value(value)))
			return why_set(why, ERR_UNSUPPORTED, "%.64s: \"required\" is expected to name properties", name);
	return ERR_OK;
}

static json_t *xml_call(const json_t *function)
{
	json_t *parameters = json_object_get(function, "parameters"), *list = json_array(), *schema;
	const char *name;
	json_object_foreach(json_object_get(parameters, "properties"), name, schema)
		if (json_array_append_new(list, parameter(parameters, name, schema)) != 0) {
			json_decref(list);
			return NULL;
		}
	return SEQUENCE(token("<tool_call>"), named(function, "\n<function=%s>\n"), json_pack("{s:o}", "sequence", list),
			literal("</function>\n"), token("</tool_call>"));
}

static json_t *one_call(const struct tool_structure_options *options, const json_t *function)
{
	switch (options->format) {
	case TOOL_HERMES:
		return SEQUENCE(token("<tool_call>"), literal("\n"), object_call(function, "arguments"), literal("\n"),
				token("</tool_call>"));
	case TOOL_QWEN3_CODER:
		return xml_call(function);
	case TOOL_LLAMA3_JSON:
		return object_call(function, "parameters");
	case TOOL_MISTRAL:
		return options->names_first ? SEQUENCE(token("[TOOL_CALLS]"), named(function, "%s"), token("[ARGS]"), arguments(function))
					    : object_call(function, "arguments");
	case TOOL_DEEPSEEK_V3:
		return SEQUENCE(token("<｜tool▁call▁begin｜>"), literal("function"), token("<｜tool▁sep｜>"),
				named(function, "%s\n```json\n"), arguments(function), literal("\n```"), token("<｜tool▁call▁end｜>"));
	case TOOL_PHI4_MINI:
		return object_call(function, "arguments");
	case TOOL_OPENAI:
		return SEQUENCE(token("<|channel|>"), named(function, "commentary to=functions.%s "), token("<|constrain|>"),
				literal("json"), token("<|message|>"), arguments(function));
	default:
		return NULL;
	}
}

/* At least one; then as many as the model likes, unless it may call only one. */
static json_t *repeated(json_t *call, bool one, const char *separator)
{
	return one ? call : json_pack("{s:o, s:i, s:s*}", "repeat", call, "min", 1, "separator", separator);
}

static json_t *wrapped(const struct tool_structure_options *options, json_t *call)
{
	bool one = options->one_call || options->name;
	switch (options->format) {
	case TOOL_HERMES:
	case TOOL_QWEN3_CODER:
		return repeated(call, one, "\n");
	case TOOL_LLAMA3_JSON:
		return repeated(call, one, "; ");
	case TOOL_MISTRAL:
		return options->names_first ? repeated(call, one, NULL)
					    : SEQUENCE(token("[TOOL_CALLS]"), literal("["), repeated(call, one, ", "), literal("]"));
	case TOOL_DEEPSEEK_V3:
		return SEQUENCE(token("<｜tool▁calls▁begin｜>"), repeated(call, one, "\n"), token("<｜tool▁calls▁end｜>"));
	case TOOL_PHI4_MINI:
		return SEQUENCE(literal("functools["), repeated(call, one, ", "), literal("]"));
	default: /* OpenAI's stop after a call */
		return call;
	}
}

enum err tool_structure(const struct tool_structure_options *options, struct why *why, json_t **ret_structure)
{
	if (options->format == TOOL_NONE)
		return why_set(why, ERR_UNSUPPORTED, "calls of the format none cannot be forced, only \"auto\" and \"none\"");
	json_t *choice = json_array(), *tool;
	size_t i;
	json_array_foreach((json_t *)options->tools, i, tool)
	{
		const json_t *function = json_object_get(tool, "function");
		if (options->name && strcmp(options->name, json_string_value(json_object_get(function, "name"))) != 0)
			continue;
		enum err e = options->format == TOOL_QWEN3_CODER ? check_parameters(function, why) : ERR_OK;
		if (e != ERR_OK) {
			json_decref(choice);
			return e;
		}
		if (json_array_append_new(choice, one_call(options, function)) != 0) {
			json_decref(choice);
			return ERR_NOMEM;
		}
	}
	json_t *calls = wrapped(options, json_pack("{s:o}", "choice", choice));
	*ret_structure = calls;
	return calls ? ERR_OK : ERR_NOMEM;
}

/* An answer that begins within a thought ends it before it keeps to its structure. */
#define THOUGHT_ENDS "{\"regex\":\"[^<]*\"},{\"token\":\"</think>\"},{\"literal\":\"\\n\\n\"}"

/* Where every message has a header: one thought at most, without a marker in it, and then the answer's message. */
#define THOUGHT_FIRST                                                                                                  \
	"{\"repeat\":{\"sequence\":[{\"token\":\"<|channel|>\"},{\"literal\":\"analysis\"},{\"token\":\"<|message|>\"},"   \
	"{\"regex\":\"([^<]|<+[^<|])*\"},{\"token\":\"<|end|>\"},{\"token\":\"<|start|>\"},{\"literal\":\"assistant\"}]},"  \
	"\"max\":1}"
#define FINAL_BEGINS "{\"token\":\"<|channel|>\"},{\"literal\":\"final\"},{\"token\":\"<|message|>\"}"

enum err tool_structure_precede(const char *structure, enum tool_precedence what, char **ret_structure)
{
	static const char *const parts[] = {
		[TOOL_THOUGHT_ENDS] = THOUGHT_ENDS,
		[TOOL_CALL_CHANNEL] = THOUGHT_FIRST,
		[TOOL_FINAL_CHANNEL] = THOUGHT_FIRST "," FINAL_BEGINS,
	};
	struct buf text = {0};
	enum err e = buf_printf(&text, "{\"sequence\":[%s,%s]}", parts[what], structure);
	if (e == ERR_OK)
		*ret_structure = text.data;
	return e;
}
