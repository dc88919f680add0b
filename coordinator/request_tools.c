/* request_tools - the fields that say which tools the model may call, and how it is to think. */
#include <stdio.h>
#include <string.h>

#include "coordinator/request_impl.h"

enum { TOOLS_MAX = 128, TOOL_NAME_MAX = 64 };

/* "tools[3].function" in errors. */
static struct fields within(struct fields *f, const json_t *object, char *prefix, size_t size, const char *format, size_t i)
{
	snprintf(prefix, size, format, i);
	return (struct fields){.object = object, .prefix = prefix, .error = f->error, .e = f->e};
}

static void read_tool(struct fields *f, size_t i, const json_t *tool)
{
	char prefix[48];
	struct fields outer = within(f, tool, prefix, sizeof(prefix), "tools[%zu].", i);
	const char *type = field_text(&outer, "type", 32, "function");
	if (!json_is_object(tool) || strcmp(type, "function") != 0)
		field_refuse(&outer, "type", "only functions are supported: {\"type\": \"function\", \"function\": {...}}");
	f->e = outer.e;
	char deeper[64];
	struct fields inner = within(f, json_object_get(tool, "function"), deeper, sizeof(deeper), "tools[%zu].function.", i);
	const char *name = field_text(&inner, "name", TOOL_NAME_MAX, "");
	if (!*name)
		field_refuse(&inner, "name", "expected a text of 1 to %d bytes", TOOL_NAME_MAX);
	const json_t *parameters = field_get(&inner, "parameters");
	if (parameters && !json_is_object(parameters))
		field_refuse(&inner, "parameters", "expected a JSON schema, an object");
	(void)field_text(&inner, "description", 1 << 16, "");
	f->e = inner.e;
}

static void read_list(struct fields *f, struct api_request *r)
{
	const json_t *tools = field_get(f, "tools");
	size_t i;
	json_t *tool;
	if (!tools)
		return;
	if (!json_is_array(tools) || json_array_size(tools) > TOOLS_MAX) {
		field_refuse(f, "tools", "expected a list of at most %d tools", TOOLS_MAX);
		return;
	}
	json_array_foreach((json_t *)tools, i, tool)
		read_tool(f, i, tool);
	if (json_array_size(tools) > 0)
		r->tools = tools;
}

/* {"type": "function", "function": {"name": ...}}: one of the tools. */
static void read_called(struct fields *f, struct api_request *r, const json_t *choice)
{
	const char *type = json_string_value(json_object_get(choice, "type"));
	const char *name = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
	size_t i;
	json_t *tool;
	if (!type || strcmp(type, "function") != 0 || !name) {
		field_refuse(f, "tool_choice", "expected {\"type\": \"function\", \"function\": {\"name\": ...}}");
		return;
	}
	json_array_foreach((json_t *)r->tools, i, tool)
	{
		const char *there = json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
		if (there && strcmp(there, name) == 0)
			r->called_tool = there;
	}
	if (!r->called_tool)
		field_refuse(f, "tool_choice", "none of the tools has that name");
}

/* auto unless told; none: the model does not hear of the tools. */
static void read_choice(struct fields *f, struct api_request *r)
{
	const json_t *choice = field_get(f, "tool_choice");
	const char *name = json_string_value(choice);
	if (!choice || (name && strcmp(name, "none") == 0)) {
		r->tools = choice ? NULL : r->tools;
		return;
	}
	r->must_call = json_is_object(choice) || (name && strcmp(name, "required") == 0);
	if (!r->tools)
		field_refuse(f, "tool_choice", "only with \"tools\"");
	else if (json_is_object(choice))
		read_called(f, r, choice);
	else if (!name || (!r->must_call && strcmp(name, "auto") != 0))
		field_refuse(f, "tool_choice", "expected \"none\", \"auto\", \"required\" or a function by name");
	if (r->must_call && r->structure)
		field_refuse(f, "tool_choice", "a call cannot be forced together with %s", r->structure_param);
}

static void read_documents(struct fields *f, struct api_request *r)
{
	size_t i;
	json_t *document;
	r->documents = field_get(f, "documents");
	if (r->documents && !json_is_array(r->documents))
		field_refuse(f, "documents", "expected a list of objects");
	json_array_foreach((json_t *)r->documents, i, document)
		if (!json_is_object(document))
			field_refuse(f, "documents", "item %zu is no object", i);
}

static void read_effort(struct fields *f, struct api_request *r)
{
	static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
	r->reasoning_effort = field_text(f, "reasoning_effort", 32, NULL);
	bool known = !r->reasoning_effort;
	for (size_t i = 0; i < sizeof(efforts) / sizeof(efforts[0]) && !known; i++)
		known = strcmp(efforts[i], r->reasoning_effort) == 0;
	if (!known)
		field_refuse(f, "reasoning_effort", "expected none, minimal, low, medium, high, xhigh or max");
}

void request_read_tools(struct fields *f, struct api_request *r)
{
	read_list(f, r);
	read_choice(f, r);
	read_documents(f, r);
	read_effort(f, r);
	r->one_call = !field_bool(f, "parallel_tool_calls", true);
	r->include_reasoning = field_bool(f, "include_reasoning", true);
	if (json_array_size(field_get(f, "functions")) > 0 || field_get(f, "function_call"))
		field_refuse(f, field_get(f, "functions") ? "functions" : "function_call",
			     "the older form is not supported: use \"tools\" and \"tool_choice\"");
}
