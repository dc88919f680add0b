#include "coordinator/access.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "net/loop.h"

enum { KEY_BYTES_MAX = 512 };

/* A mounted secret is replaced by a link to another folder: only looking at the path again sees that. */
static const uint64_t WATCH_NS = 1000000000;

/* What tells one state of a file from another. */
struct file_state {
	uint64_t inode, bytes, changed_ns;
};

struct access {
	struct access_options options;
	struct access_table *table;
	uint8_t secret[ACCESS_SECRET_MAX];
	size_t secret_length;
	struct file_state seen;
	struct loop_timer *timer;
	struct loop_signal *signal;
	struct access_counts counts;
};

const char *access_class_text(enum access_class class)
{
	static const char *const texts[] = {"admin", "metrics", "api", "public"};
	return texts[class];
}

/* ---- files ---- */

static struct file_state state_of(const char *path)
{
	struct stat s;
	if (!path || stat(path, &s) != 0)
		return (struct file_state){0};
	return (struct file_state){(uint64_t)s.st_ino, (uint64_t)s.st_size,
				   (uint64_t)s.st_mtim.tv_sec * 1000000000u + (uint64_t)s.st_mtim.tv_nsec};
}

static enum err read_secret(struct access *access, struct why *why)
{
	const char *path = access->options.tenant_salt_file;
	if (!path)
		return ERR_OK;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, access->secret, sizeof(access->secret));
	int failure = errno;
	if (fd >= 0)
		close(fd);
	if (length < 0)
		return why_set(why, ERR_NOT_FOUND, "--tenant-salt-file %s: %s", path, strerror(failure));
	if (length < ACCESS_SECRET_MIN || length == ACCESS_SECRET_MAX)
		return why_set(why, ERR_INVALID, "--tenant-salt-file %s: %zd bytes, expected %d to %d", path, length,
			       ACCESS_SECRET_MIN, ACCESS_SECRET_MAX - 1);
	access->secret_length = (size_t)length;
	return ERR_OK;
}

/* The keys of the command line, which stay over every reading of the file, then the file's. */
static enum err fill(const struct access *access, const struct access_table *before, struct access_table *table,
		     struct why *why)
{
	for (uint32_t i = 0; before && i < before->key_count; i++) {
		if (!strchr(before->keys[i].name, '#'))
			continue;
		enum err e = access_table_add(table, &before->keys[i], &before->digests[i], why);
		if (e != ERR_OK)
			return e;
	}
	return access->options.keys_file ? access_table_read(table, access->options.keys_file, why) : ERR_OK;
}

/* "#" is in no name of a file. */
static enum err add_plain(struct access_table *table, const struct option_list *keys, const char *flag,
			  enum access_role role, struct why *why)
{
	for (size_t i = 0; keys && i < keys->count; i++) {
		struct access_key key = {.role = role};
		struct key_digest digest;
		snprintf(key.name, sizeof(key.name), "%s#%zu", flag, i + 1);
		key_digest_of(keys->items[i], strlen(keys->items[i]), &digest);
		enum err e = access_table_add(table, &key, &digest, why);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

enum err access_reload(struct access *access, struct why *why)
{
	struct access_table *table = calloc(1, sizeof(*table));
	if (!table)
		return ERR_NOMEM;
	access->seen = state_of(access->options.keys_file);
	enum err e = fill(access, access->table, table, why);
	if (e != ERR_OK) {
		access->counts.reload_errors++;
		free(table);
		return e;
	}
	explicit_bzero(access->table, sizeof(*access->table));
	free(access->table);
	access->table = table;
	access->counts.reloads++;
	return ERR_OK;
}

static void reload_and_say(struct access *access)
{
	struct why why = {0};
	if (access_reload(access, &why) == ERR_OK)
		log_info("keys: read again: %u keys, %u tenants", access->table->key_count, access->table->tenant_count);
	else
		log_error("keys: %s; what was read before stays in force", why.text);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct access *access = arg;
	struct file_state now = state_of(access->options.keys_file);
	loop_timer_arm(timer, WATCH_NS);
	if (memcmp(&now, &access->seen, sizeof(now)) != 0)
		reload_and_say(access);
}

static void on_signal(struct loop_signal *signal, int number, void *arg)
{
	(void)signal;
	(void)number;
	reload_and_say(arg);
}

/* ---- life ---- */

static enum err watch(struct access *access, struct loop *loop)
{
	enum err e = loop_signal_create(loop, SIGHUP, on_signal, access, &access->signal);
	if (e == ERR_OK)
		e = loop_timer_create(loop, on_timer, access, &access->timer);
	if (e == ERR_OK)
		loop_timer_arm(access->timer, WATCH_NS);
	return e;
}

enum err access_create(struct loop *loop, const struct access_options *options, struct access **ret_access,
		       struct why *why)
{
	struct access *access = calloc(1, sizeof(*access));
	if (!access)
		return ERR_NOMEM;
	access->options = *options;
	access->options.api_keys = access->options.admin_keys = NULL; /* not kept */
	access->table = calloc(1, sizeof(*access->table));
	enum err e = access->table ? add_plain(access->table, options->api_keys, "api-key", ACCESS_USER, why) : ERR_NOMEM;
	if (e == ERR_OK)
		e = add_plain(access->table, options->admin_keys, "admin-key", ACCESS_ADMINISTRATOR, why);
	if (e == ERR_OK)
		e = read_secret(access, why);
	if (e == ERR_OK)
		e = access_reload(access, why);
	if (e == ERR_OK && loop && options->keys_file)
		e = watch(access, loop);
	if (e != ERR_OK) {
		access_destroy(access);
		return e;
	}
	*ret_access = access;
	return ERR_OK;
}

void access_destroy(struct access *access)
{
	if (!access)
		return;
	loop_timer_destroy(access->timer);
	loop_signal_destroy(access->signal);
	free(access->table);
	explicit_bzero(access, sizeof(*access));
	free(access);
}

/* ---- judging ---- */

/* What follows "Bearer "; NULL: something else was sent, or nothing. */
static const char *bearer(const char *authorization)
{
	if (!authorization || strncasecmp(authorization, "bearer ", 7) != 0)
		return NULL;
	const char *key = authorization + 7 + strspn(authorization + 7, " ");
	return *key ? key : NULL;
}

static bool may(const struct access *access, enum access_class class, enum access_role role)
{
	switch (class) {
	case ACCESS_PUBLIC:
		return true;
	case ACCESS_API:
		return role != ACCESS_METRICS_READER;
	case ACCESS_METRICS:
		return role != ACCESS_USER || access->options.metrics_public;
	case ACCESS_ADMIN:
		break;
	}
	return role == ACCESS_ADMINISTRATOR;
}

static bool is_open(const struct access *access, enum access_class class)
{
	return class == ACCESS_PUBLIC || (class == ACCESS_METRICS && access->options.metrics_public);
}

static uint32_t find_key(const struct access *access, const char *key)
{
	struct key_digest digest;
	size_t length = strnlen(key, KEY_BYTES_MAX + 1);
	if (length > KEY_BYTES_MAX)
		return KEY_NONE;
	key_digest_of(key, length, &digest);
	uint32_t found = key_find(access->table->digests, access->table->key_count, &digest);
	explicit_bzero(&digest, sizeof(digest));
	return found;
}

static void salt_of(const struct access *access, struct access_grant *grant)
{
	grant->salted = grant->tenant[0] || access->secret_length;
	if (grant->salted)
		hash_hmac(access->secret, access->secret_length, grant->tenant, strlen(grant->tenant), grant->salt);
}

static enum access_verdict finish(const struct access *access, const struct access_question *question,
				  bool trusted, struct access_grant *grant)
{
	if (trusted && question->tenant && *question->tenant) {
		if (!access_name_is_good(question->tenant))
			return ACCESS_TENANT_WRONG;
		strcpy(grant->tenant, question->tenant); /* length: access_name_is_good() */
	}
	grant->limits = *access_table_limits(access->table, grant->tenant);
	salt_of(access, grant);
	return ACCESS_GRANTED;
}

static enum access_verdict judge(const struct access *access, const struct access_question *question,
				 struct access_grant *grant)
{
	const char *key = bearer(question->authorization);
	if (is_open(access, question->class))
		return ACCESS_GRANTED;
	if (!access_has_keys(access)) {
		if (question->class == ACCESS_ADMIN && !question->from_this_host)
			return ACCESS_FORBIDDEN;
		return finish(access, question, true, grant);
	}
	if (!key)
		return ACCESS_KEY_MISSING;
	uint32_t found = find_key(access, key);
	if (found == KEY_NONE)
		return ACCESS_KEY_WRONG;
	const struct access_key *entry = &access->table->keys[found];
	if (!may(access, question->class, entry->role))
		return ACCESS_FORBIDDEN;
	strcpy(grant->key, entry->name);
	strcpy(grant->tenant, entry->tenant);
	return finish(access, question, entry->role == ACCESS_ADMINISTRATOR, grant);
}

enum access_verdict access_judge(struct access *access, const struct access_question *question,
				 struct access_grant *ret_grant)
{
	*ret_grant = (struct access_grant){.key = ""};
	enum access_verdict verdict = judge(access, question, ret_grant);
	access->counts.key_missing += verdict == ACCESS_KEY_MISSING;
	access->counts.key_wrong += verdict == ACCESS_KEY_WRONG;
	access->counts.forbidden += verdict == ACCESS_FORBIDDEN;
	return verdict;
}

bool access_has_keys(const struct access *access)
{
	return access->table->key_count > 0 || access->options.keys_file;
}

void access_counts(const struct access *access, struct access_counts *ret_counts)
{
	*ret_counts = access->counts;
	ret_counts->keys = access->table->key_count;
	ret_counts->tenants = access->table->tenant_count;
}
