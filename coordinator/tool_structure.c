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

static json_t *one_call(const struct tool_structure_options *options, const json_t *function)
{
	switch (options->format) {
	case TOOL_HERMES:
		return SEQUENCE(token("<tool_call>"), literal("\n"), object_call(function, "arguments"), literal("\n"),
				token("</tool_call>"));
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

enum err tool_structure(const struct tool_structure_options *options, json_t **ret_structure)
{
	if (options->format == TOOL_NONE || options->format == TOOL_QWEN3_CODER)
		return ERR_UNSUPPORTED;
	json_t *choice = json_array(), *tool;
	size_t i;
	json_array_foreach((json_t *)options->tools, i, tool)
	{
		const json_t *function = json_object_get(tool, "function");
		if (options->name && strcmp(options->name, json_string_value(json_object_get(function, "name"))) != 0)
			continue;
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
