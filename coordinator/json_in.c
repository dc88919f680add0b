#include "coordinator/json_in.h"

#include <string.h>

struct counts {
	size_t depth, deepest, nodes, values;
};

/* One past the closing quote, or the end. */
static size_t skip_text(const char *body, size_t length, size_t at)
{
	while (at < length && body[at] != '"')
		at += body[at] == '\\' ? 2 : 1;
	return at < length ? at + 1 : length;
}

static struct counts count(const char *body, size_t length)
{
	struct counts c = {.values = 1};
	for (size_t at = 0; at < length;) {
		switch (body[at++]) {
		case '"':
			c.nodes++;
			at = skip_text(body, length, at);
			break;
		case '{':
		case '[':
			c.nodes++;
			c.values++;
			c.deepest = ++c.depth > c.deepest ? c.depth : c.deepest;
			break;
		case '}':
		case ']':
			c.depth -= c.depth > 0;
			break;
		case ',':
			c.values++;
			break;
		default:
			break;
		}
	}
	return c;
}

static enum err check(const char *body, size_t length, struct api_error *error)
{
	struct counts c = count(body, length);
	if (c.deepest > JSON_IN_DEPTH_MAX)
		return api_error_field(error, NULL, "the body is nested %zu deep, expected at most %d", c.deepest,
				       JSON_IN_DEPTH_MAX);
	if (c.nodes > JSON_IN_NODES_MAX || c.values > JSON_IN_VALUES_MAX)
		return api_error_field(error, NULL,
				       "the body has %zu texts, lists and objects and %zu values, expected at most %d and %d",
				       c.nodes, c.values, JSON_IN_NODES_MAX, JSON_IN_VALUES_MAX);
	return ERR_OK;
}

json_t *json_in_object(const char *body, size_t length, struct api_error *ret_error)
{
	json_error_t at;
	if (check(body, length, ret_error) != ERR_OK)
		return NULL;
	json_t *object = json_loadb(body, length, JSON_REJECT_DUPLICATES, &at);
	if (!object && json_error_code(&at) == json_error_out_of_memory) {
		api_error_from(ret_error, ERR_NOMEM, "no memory for the body", 0);
		return NULL;
	}
	if (!object) {
		api_error_field(ret_error, NULL, "the body is not JSON: %s (line %d, column %d)", at.text, at.line, at.column);
		return NULL;
	}
	if (json_is_object(object))
		return object;
	json_decref(object);
	api_error_field(ret_error, NULL, "the body is JSON, but no object");
	return NULL;
}
