/* request_structure - what an answer must look like: OpenAI's response_format and vLLM's structured_outputs, with the guided_
 * fields that those were before.  All become one structure (model/structure.h), as a text that travels with the request. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/json_in.h"
#include "coordinator/request_impl.h"
#include "proto/codec.h"

enum { CHOICES_MAX = 1024 };

/* `key` is the field within f that asked for it, `param` the one of the request. */
static void set_structure(struct fields *f, struct api_request *r, const char *key, const char *param, json_t *structure)
{
	char *text = structure && f->e == ERR_OK ? json_dumps(structure, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	if (f->e == ERR_OK && r->structure)
		field_refuse(f, key, "only one structure may be asked for, and there is %s too", r->structure_param);
	else if (f->e == ERR_OK && !text)
		field_refuse(f, key, "cannot be written down");
	else if (text && strlen(text) > PROTO_STRUCTURE_MAX)
		field_refuse(f, key, "of %zu bytes, at most %d", strlen(text), PROTO_STRUCTURE_MAX);
	json_decref(structure);
	if (f->e != ERR_OK) {
		free(text);
		return;
	}
	r->structure = text;
	r->structure_param = param;
}

static void set_schema(struct fields *f, struct api_request *r, const char *key, const char *param, const json_t *schema)
{
	if (json_is_object(schema) || json_is_boolean(schema))
		set_structure(f, r, key, param, json_pack("{s:O}", "json", (json_t *)schema));
	else
		field_refuse(f, key, "expected a JSON schema: an object");
}

static void set_any_object(struct fields *f, struct api_request *r, const char *key, const char *param)
{
	set_structure(f, r, key, param, json_pack("{s:{s:s}}", "json", "type", "object"));
}

static void read_response_format(struct fields *f, struct api_request *r)
{
	const json_t *format = field_get(f, "response_format");
	const char *type = json_string_value(json_object_get(format, "type"));
	if (!format || (type && strcmp(type, "text") == 0))
		return;
	if (type && strcmp(type, "json_object") == 0)
		set_any_object(f, r, "response_format", "response_format");
	else if (type && strcmp(type, "json_schema") == 0)
		set_schema(f, r, "response_format", "response_format",
			   json_object_get(json_object_get(format, "json_schema"), "schema"));
	else
		field_refuse(f, "response_format",
			     "expected a type of text, json_object, or json_schema with its json_schema.schema");
}

/* A schema, or a text that is one. */
static void read_json(struct fields *f, struct api_request *r, const char *key, const char *param)
{
	const json_t *schema = field_get(f, key);
	if (!json_is_string(schema)) {
		if (schema)
			set_schema(f, r, key, param, schema);
		return;
	}
	json_t *parsed = f->e == ERR_OK ? json_in_object(json_string_value(schema), json_string_length(schema), f->error) : NULL;
	if (parsed)
		set_schema(f, r, key, param, parsed);
	else
		f->e = f->e == ERR_OK ? ERR_INVALID : f->e;
	json_decref(parsed);
}

static void read_regex(struct fields *f, struct api_request *r, const char *key, const char *param)
{
	const json_t *regex = field_get(f, key);
	if (json_is_string(regex))
		set_structure(f, r, key, param, json_pack("{s:O}", "regex", (json_t *)regex));
	else if (regex)
		field_refuse(f, key, "expected a regular expression as a text");
}

static void read_choice(struct fields *f, struct api_request *r, const char *key, const char *param)
{
	const json_t *list = field_get(f, key);
	size_t count = json_array_size(list);
	bool good = json_is_array(list) && count >= 1 && count <= CHOICES_MAX;
	if (!list)
		return;
	json_t *parts = json_array();
	for (size_t i = 0; good && i < count; i++) {
		json_t *item = json_array_get(list, i);
		good = json_is_string(item) && json_string_length(item) > 0 &&
		       json_array_append_new(parts, json_pack("{s:O}", "literal", item)) == 0;
	}
	if (good)
		set_structure(f, r, key, param, json_pack("{s:O}", "choice", parts));
	else
		field_refuse(f, key, "expected a list of 1 to %d texts that are not empty", CHOICES_MAX);
	json_decref(parts);
}

static void read_structured_outputs(struct fields *f, struct api_request *r)
{
	static const char *const lacking[] = {"grammar", "structural_tag", "whitespace_pattern"};
	const json_t *outputs = field_get(f, "structured_outputs");
	struct fields inner = {.object = outputs, .prefix = "structured_outputs.", .error = f->error, .e = f->e};
	if (!outputs)
		return;
	if (!json_is_object(outputs)) {
		field_refuse(f, "structured_outputs", "expected an object");
		return;
	}
	for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++)
		if (field_get(&inner, lacking[i]))
			field_refuse(&inner, lacking[i], "not supported; json, regex, choice and json_object are");
	read_json(&inner, r, "json", "structured_outputs");
	read_regex(&inner, r, "regex", "structured_outputs");
	read_choice(&inner, r, "choice", "structured_outputs");
	if (field_bool(&inner, "json_object", false))
		set_any_object(&inner, r, "json_object", "structured_outputs");
	f->e = inner.e;
}

void request_read_structure(struct fields *f, struct api_request *r)
{
	read_response_format(f, r);
	read_structured_outputs(f, r);
	read_json(f, r, "guided_json", "guided_json");
	read_regex(f, r, "guided_regex", "guided_regex");
	read_choice(f, r, "guided_choice", "guided_choice");
	if (field_get(f, "guided_grammar"))
		field_refuse(f, "guided_grammar", "not supported; guided_json, guided_regex and guided_choice are");
	if (field_get(f, "guided_whitespace_pattern"))
		field_refuse(f, "guided_whitespace_pattern", "not supported");
}
