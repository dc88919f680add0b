#include "coordinator/access_table.h"

#include <libfyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/options.h"

enum { FILE_MAX = 1 << 20 };

bool access_name_is_good(const char *name)
{
	size_t length = strlen(name);
	return length > 0 && length <= ACCESS_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == length;
}

enum err access_table_add(struct access_table *table, const struct access_key *key, const struct key_digest *digest,
			  struct why *why)
{
	if (table->key_count == ACCESS_KEYS_MAX)
		return why_set(why, ERR_TOO_LARGE, "over %d keys", ACCESS_KEYS_MAX);
	uint32_t other = key_find(table->digests, table->key_count, digest);
	if (other != KEY_NONE)
		return why_set(why, ERR_EXISTS, "key %s is the same as key %s", key->name, table->keys[other].name);
	table->digests[table->key_count] = *digest;
	table->keys[table->key_count++] = *key;
	return ERR_OK;
}

const struct access_limits *access_table_limits(const struct access_table *table, const char *tenant)
{
	for (uint32_t i = 0; i < table->tenant_count; i++)
		if (strcmp(table->tenants[i].name, tenant) == 0)
			return &table->tenants[i].limits;
	return &table->defaults;
}

/* ---- the file ---- */

struct reader {
	struct access_table *table;
	const char *path;
	struct why *why;
};

/* Of mapping's pairs, in order; NULL key: the end or something that is no text. */
struct pair {
	const char *key;
	struct fy_node *value;
	const char *text; /* of a scalar value */
};

static bool next_pair(struct fy_node *mapping, void **at, struct pair *ret_pair)
{
	struct fy_node_pair *item = fy_node_mapping_iterate(mapping, at);
	if (!item)
		return false;
	*ret_pair = (struct pair){.key = fy_node_get_scalar0(fy_node_pair_key(item)), .value = fy_node_pair_value(item)};
	ret_pair->key = ret_pair->key ? ret_pair->key : "";
	if (fy_node_is_scalar(ret_pair->value))
		ret_pair->text = fy_node_get_scalar0(ret_pair->value);
	return true;
}

static enum err unknown_field(struct reader *r, const char *where, const char *key, const char *const *names, size_t count)
{
	const char *near = options_nearest(key, names, count);
	return why_set(r->why, ERR_INVALID, "%s: %s: unknown field \"%.60s\"%s%s%s", r->path, where, key,
		       near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static enum err read_limit(struct reader *r, const char *where, const struct pair *pair, struct access_limits *limits)
{
	static const char *const names[] = {"weight", "requests-per-minute", "tokens-per-minute", "concurrent", "queued",
					    "context"};
	uint32_t *const values[] = {&limits->weight, &limits->requests_per_minute, &limits->tokens_per_minute,
				    &limits->concurrent, &limits->queued, &limits->context};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(pair->key, names[i]) != 0)
			continue;
		unsigned long max = i == 0 ? ACCESS_WEIGHT_MAX : INT32_MAX;
		char *end = NULL;
		const char *text = pair->text ? pair->text : "";
		unsigned long number = strspn(text, "0123456789") == strlen(text) ? strtoul(text, &end, 10) : 0;
		if (!end || end == text || number > max || strlen(text) > 10)
			return why_set(r->why, ERR_INVALID, "%s: %s: %s is \"%.40s\", expected a number from 0 to %lu", r->path,
				       where, pair->key, text, max);
		*values[i] = (uint32_t)number;
		return ERR_OK;
	}
	return unknown_field(r, where, pair->key, names, sizeof(names) / sizeof(names[0]));
}

static enum err read_limits(struct reader *r, const char *where, struct fy_node *node, struct access_limits *limits)
{
	struct pair pair;
	void *at = NULL;
	enum err e = ERR_OK;
	if (!fy_node_is_mapping(node))
		return why_set(r->why, ERR_INVALID, "%s: %s: expected a mapping of limits", r->path, where);
	while (e == ERR_OK && next_pair(node, &at, &pair))
		e = read_limit(r, where, &pair, limits);
	return e;
}

static enum err read_tenants(struct reader *r, struct fy_node *node)
{
	struct access_table *table = r->table;
	struct pair pair;
	void *at = NULL;
	enum err e = ERR_OK;
	if (!fy_node_is_mapping(node))
		return why_set(r->why, ERR_INVALID, "%s: tenants: expected a mapping of names to limits", r->path);
	while (e == ERR_OK && next_pair(node, &at, &pair)) {
		char where[ACCESS_NAME_MAX + 16];
		if (!access_name_is_good(pair.key))
			return why_set(r->why, ERR_INVALID, "%s: tenants: name \"%.70s\", expected 1 to %d letters, digits and ._-",
				       r->path, pair.key, ACCESS_NAME_MAX);
		if (table->tenant_count == ACCESS_TENANTS_MAX)
			return why_set(r->why, ERR_TOO_LARGE, "%s: over %d tenants", r->path, ACCESS_TENANTS_MAX);
		struct access_tenant *tenant = &table->tenants[table->tenant_count++];
		*tenant = (struct access_tenant){.limits = table->defaults};
		strcpy(tenant->name, pair.key); /* length: access_name_is_good() */
		snprintf(where, sizeof(where), "tenant %s", tenant->name);
		e = read_limits(r, where, pair.value, &tenant->limits);
	}
	return e;
}

static bool is_tenant(const struct access_table *table, const char *name)
{
	for (uint32_t i = 0; i < table->tenant_count; i++)
		if (strcmp(table->tenants[i].name, name) == 0)
			return true;
	return false;
}

/* A key may name a tenant that needs no limits of its own: it is one from then on. */
static enum err meet_tenant(struct reader *r, const char *name)
{
	struct access_table *table = r->table;
	if (!*name || is_tenant(table, name))
		return ERR_OK;
	if (table->tenant_count == ACCESS_TENANTS_MAX)
		return why_set(r->why, ERR_TOO_LARGE, "%s: over %d tenants", r->path, ACCESS_TENANTS_MAX);
	struct access_tenant *tenant = &table->tenants[table->tenant_count++];
	*tenant = (struct access_tenant){.limits = table->defaults};
	strcpy(tenant->name, name);
	return ERR_OK;
}

static enum err read_role(struct reader *r, const char *text, enum access_role *ret_role)
{
	static const char *const roles[] = {"user", "metrics", "admin"};
	for (int i = 0; i < 3; i++) {
		if (strcmp(text, roles[i]) != 0)
			continue;
		*ret_role = (enum access_role)i;
		return ERR_OK;
	}
	return why_set(r->why, ERR_INVALID, "%s: keys: role \"%.40s\", expected user, metrics or admin", r->path, text);
}

static enum err read_key_field(struct reader *r, const struct pair *pair, struct access_key *key, struct key_digest *digest,
			       bool *ret_hashed)
{
	static const char *const names[] = {"name", "tenant", "role", "sha256"};
	const char *text = pair->text ? pair->text : "";
	if (strcmp(pair->key, "role") == 0)
		return read_role(r, text, &key->role);
	if (strcmp(pair->key, "sha256") == 0) {
		*ret_hashed = key_digest_parse(text, digest);
		return *ret_hashed ? ERR_OK : why_set(r->why, ERR_INVALID, "%s: keys: sha256 of key %s: expected 64 hex digits",
						      r->path, key->name[0] ? key->name : "(no name yet)");
	}
	bool is_name = strcmp(pair->key, "name") == 0;
	if (!is_name && strcmp(pair->key, "tenant") != 0)
		return unknown_field(r, "keys", pair->key, names, sizeof(names) / sizeof(names[0]));
	if (!access_name_is_good(text))
		return why_set(r->why, ERR_INVALID, "%s: keys: %s \"%.70s\", expected 1 to %d letters, digits and ._-", r->path,
			       pair->key, text, ACCESS_NAME_MAX);
	strcpy(is_name ? key->name : key->tenant, text); /* length: access_name_is_good() */
	return ERR_OK;
}

static enum err read_key(struct reader *r, struct fy_node *node)
{
	struct access_key key = {0};
	struct key_digest digest = {{0}};
	struct pair pair;
	void *at = NULL;
	bool hashed = false;
	enum err e = ERR_OK;
	if (!fy_node_is_mapping(node))
		return why_set(r->why, ERR_INVALID, "%s: keys: expected entries {name, sha256, tenant, role}", r->path);
	while (e == ERR_OK && next_pair(node, &at, &pair))
		e = read_key_field(r, &pair, &key, &digest, &hashed);
	if (e != ERR_OK)
		return e;
	if (!key.name[0] || !hashed)
		return why_set(r->why, ERR_INVALID, "%s: keys: entry %u has no %s", r->path, r->table->key_count + 1,
			       key.name[0] ? "sha256" : "name");
	e = meet_tenant(r, key.tenant);
	if (e == ERR_OK)
		e = access_table_add(r->table, &key, &digest, r->why);
	if (e != ERR_OK)
		why_prefix(r->why, "%s", r->path);
	return e;
}

static enum err read_keys(struct reader *r, struct fy_node *node)
{
	struct fy_node *item;
	void *at = NULL;
	enum err e = ERR_OK;
	if (!fy_node_is_sequence(node))
		return why_set(r->why, ERR_INVALID, "%s: keys: expected a list of entries", r->path);
	while (e == ERR_OK && (item = fy_node_sequence_iterate(node, &at)))
		e = read_key(r, item);
	return e;
}

/* Defaults first, wherever they stand: tenants begin with them, and keys may name tenants. */
static enum err read_sections(struct reader *r, struct fy_node *root)
{
	static const char *const names[] = {"defaults", "tenants", "keys"};
	struct fy_node *sections[3] = {NULL};
	struct pair pair;
	void *at = NULL;
	if (!fy_node_is_mapping(root))
		return why_set(r->why, ERR_INVALID, "%s: expected the sections defaults, tenants and keys", r->path);
	while (next_pair(root, &at, &pair)) {
		int i = 0;
		while (i < 3 && strcmp(pair.key, names[i]) != 0)
			i++;
		if (i == 3)
			return unknown_field(r, "top level", pair.key, names, 3);
		sections[i] = pair.value;
	}
	enum err e = sections[0] ? read_limits(r, "defaults", sections[0], &r->table->defaults) : ERR_OK;
	if (e == ERR_OK && sections[1])
		e = read_tenants(r, sections[1]);
	if (e == ERR_OK && sections[2])
		e = read_keys(r, sections[2]);
	return e;
}

enum err access_table_read(struct access_table *table, const char *path, struct why *why)
{
	struct reader reader = {table, path, why};
	struct stat stat_buffer;
	if (stat(path, &stat_buffer) != 0)
		return why_set(why, ERR_NOT_FOUND, "%s: cannot be read", path);
	if (stat_buffer.st_size > FILE_MAX)
		return why_set(why, ERR_TOO_LARGE, "%s: over %d bytes", path, FILE_MAX);
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET};
	struct fy_document *document = fy_document_build_from_file(&cfg, path);
	if (!document)
		return why_set(why, ERR_INVALID, "%s: not valid YAML", path);
	struct fy_node *root = fy_document_root(document);
	enum err e = root ? read_sections(&reader, root) : ERR_OK;
	fy_document_destroy(document);
	return e;
}
