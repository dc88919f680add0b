#include "base/options_yaml.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 1 << 20 };

typedef enum err pair_fn(void *context, const char *key, const char *value, struct why *why);

static enum err scalar(pair_fn *pair, void *context, const char *key, struct fy_node *node, const char *path,
		       struct why *why)
{
	if (!fy_node_is_scalar(node))
		return why_set(why, ERR_INVALID, "%s: %s is neither a value nor a list of values", path, key);
	const char *text = fy_node_get_scalar0(node);
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
	if (!root)
		return ERR_OK; /* an empty file */
	if (!fy_node_is_mapping(root))
		return why_set(why, ERR_INVALID, "%s: expected a mapping of option names to values", path);
	void *at = NULL;
	enum err e = ERR_OK;
	struct fy_node_pair *item;
	while (e == ERR_OK && (item = fy_node_mapping_iterate(root, &at)))
		e = entry(pair, context, item, path, why);
	return e;
}

enum err options_yaml(const char *path, pair_fn *pair, void *context, struct why *why)
{
	struct stat stat_buffer;
	if (stat(path, &stat_buffer) != 0)
		return why_set(why, ERR_NOT_FOUND, "%s: cannot be read", path);
	if (stat_buffer.st_size > FILE_MAX)
		return why_set(why, ERR_TOO_LARGE, "%s: over %d bytes", path, FILE_MAX);
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET};
	struct fy_document *document = fy_document_build_from_file(&cfg, path);
	if (!document)
		return why_set(why, ERR_INVALID, "%s: not valid YAML", path);
	enum err e = entries(pair, context, document, path, why);
	fy_document_destroy(document);
	return e;
}
