#include "base/options_yaml.h"

#include <errno.h>
#include <libfyaml.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20 };

typedef enum err pair_fn(void *context, const char *key, const char *value, struct why *why);

static enum err scalar(pair_fn *pair, void *context, const char *key, struct fy_node *node, const char *path,
		       struct why *why)
{
	if (!fy_node_is_scalar(node))
		return why_set(why, ERR_INVALID, "%s: %s is neither a value nor a list of values", path, key);
	const char *text = fy_node_get_scalar0(node);
	if (!text && !fy_node_is_null(node))
		return why_set(why, ERR_NOMEM, "%s: %s: no memory for the value", path, key);
	return pair(context, key, text ? text : "", why);
}

static enum err entry(pair_fn *pair, void *context, struct fy_node_pair *item, const char *path, struct why *why)
{
	const char *key = fy_node_get_scalar0(fy_node_pair_key(item));
	if (!key)
		return why_set(why, ERR_INVALID, "%s: a key is no text", path);
	struct fy_node *value = fy_node_pair_value(item);
	if (!fy_node_is_sequence(value))
		return scalar(pair, context, key, value, path, why);
	void *at = NULL;
	enum err e = ERR_OK;
	struct fy_node *node;
	while (e == ERR_OK && (node = fy_node_sequence_iterate(value, &at)))
		e = scalar(pair, context, key, node, path, why);
	return e;
}

static enum err entries(pair_fn *pair, void *context, struct fy_document *document, const char *path, struct why *why)
{
	struct fy_node *root = fy_document_root(document);
	if (!root || !fy_node_is_mapping(root))
		return why_set(why, ERR_INVALID, "%s: expected a mapping of option names to values", path);
	void *at = NULL;
	enum err e = ERR_OK;
	struct fy_node_pair *item;
	while (e == ERR_OK && (item = fy_node_mapping_iterate(root, &at)))
		e = entry(pair, context, item, path, why);
	return e;
}

/* Bytes of the character, 0 when it is none. */
static size_t character(const uint8_t *at, size_t left)
{
	size_t length = at[0] < 0x80 ? 1 : at[0] >= 0xc2 && at[0] < 0xe0 ? 2 : (at[0] & 0xf0) == 0xe0 ? 3 : 4;
	if (length > left || at[0] > 0xf4 || (length > 1 && at[0] < 0xc2))
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

/* libfyaml 0.7 waits for ever for the rest of some half characters: it gets whole ones only. */
static enum err check_text(const char *text, size_t length, const char *path, struct why *why)
{
	size_t line = 1;
	for (size_t at = 0, step; at < length; at += step) {
		step = character((const uint8_t *)text + at, length - at);
		line += text[at] == '\n';
		if (step == 0 || text[at] == 0)
			return why_set(why, ERR_INVALID, "%s: line %zu: expected UTF-8 text", path, line);
	}
	return ERR_OK;
}

static enum err read_file(const char *path, char **ret_text, size_t *ret_length, struct why *why)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return why_set(why, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
	char *text = malloc(FILE_MAX + 1);
	size_t length = text ? fread(text, 1, FILE_MAX + 1, file) : 0;
	enum err e = text ? ERR_OK : why_set(why, ERR_NOMEM, "%s: no memory to read it", path);
	if (ferror(file))
		e = why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
	else if (length > FILE_MAX)
		e = why_set(why, ERR_TOO_LARGE, "%s: over %d bytes", path, FILE_MAX);
	fclose(file);
	if (e == ERR_OK)
		e = check_text(text, length, path, why);
	if (e != ERR_OK) {
		free(text);
		return e;
	}
	*ret_text = text;
	*ret_length = length;
	return ERR_OK;
}

/* Nothing but blank lines and comments; libfyaml takes that for an error. */
static bool is_empty(const char *text, size_t length)
{
	bool comment = false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\n')
			comment = false;
		else if (text[i] == '#')
			comment = true;
		else if (!comment && text[i] != ' ' && text[i] != '\r' && text[i] != '\t')
			return false;
	}
	return true;
}

enum err options_yaml(const char *path, pair_fn *pair, void *context, struct why *why)
{
	char *text = NULL;
	size_t length = 0;
	enum err e = read_file(path, &text, &length, why);
	if (e != ERR_OK || is_empty(text, length)) {
		free(text);
		return e;
	}
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET};
	struct fy_document *document = fy_document_build_from_string(&cfg, text, length);
	e = document ? entries(pair, context, document, path, why) : why_set(why, ERR_INVALID, "%s: not valid YAML", path);
	fy_document_destroy(document);
	free(text);
	return e;
}
