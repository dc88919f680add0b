/* baton key new: a key for a client of the API, and the entry that lets it in. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/options.h"
#include "coordinator/access_table.h"
#include "tools/commands.h"

enum { KEY_OPTIONS = 3, KEY_RANDOM_BYTES = 24 };

struct wanted {
	const char *name, *tenant, *role;
};

static enum err check(const struct options *options, const struct wanted *wanted, struct why *why)
{
	if (options->words.count != 1 || strcmp(options->words.items[0], "new") != 0)
		return why_set(why, ERR_INVALID, "expected: baton key new [--tenant T] [--name NAME] [--role user|metrics|admin]");
	if (!access_name_is_good(wanted->name))
		return why_set(why, ERR_INVALID, "--name %s: expected 1 to %d letters, digits and ._-", wanted->name,
			       ACCESS_NAME_MAX);
	if (*wanted->tenant && !access_name_is_good(wanted->tenant))
		return why_set(why, ERR_INVALID, "--tenant %s: expected 1 to %d letters, digits and ._-", wanted->tenant,
			       ACCESS_NAME_MAX);
	if (strcmp(wanted->role, "user") != 0 && strcmp(wanted->role, "metrics") != 0 && strcmp(wanted->role, "admin") != 0)
		return why_set(why, ERR_INVALID, "--role %s: expected user, metrics or admin", wanted->role);
	return ERR_OK;
}

static void hex(const uint8_t *bytes, size_t count, char *ret_text)
{
	for (size_t i = 0; i < count; i++)
		snprintf(ret_text + 2 * i, 3, "%02x", bytes[i]);
}

/* The key goes to standard error and the entry to standard output, so that `>> keys.yaml` never takes the key along. */
static enum err make(const struct wanted *wanted, struct why *why)
{
	uint8_t random[KEY_RANDOM_BYTES];
	char key[16 + 2 * KEY_RANDOM_BYTES] = "sk-baton-", digits[65];
	struct key_digest digest;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return why_set(why, ERR_IO, "the system gives no random numbers");
	hex(random, sizeof(random), key + strlen(key));
	key_digest_of(key, strlen(key), &digest);
	hex(digest.bytes, sizeof(digest.bytes), digits);
	fprintf(stderr, "%s\n", key);
	printf("  - {name: %s, role: %s, ", wanted->name, wanted->role);
	if (*wanted->tenant)
		printf("tenant: %s, ", wanted->tenant);
	printf("sha256: %s}\n", digits);
	explicit_bzero(random, sizeof(random));
	explicit_bzero(key, sizeof(key));
	return ERR_OK;
}

int command_key(int argc, char **argv, char **environment)
{
	struct wanted wanted = {.name = "key", .tenant = "", .role = "user"};
	const struct option table[KEY_OPTIONS] = {
		{"name", OPTION_TEXT, &wanted.name, 0, 0, "NAME", "as it stands in logs"},
		{"tenant", OPTION_TEXT, &wanted.tenant, 0, 0, "T", "who shares KV and quota; none: no tenant"},
		{"role", OPTION_TEXT, &wanted.role, 0, 0, "ROLE", "user, metrics or admin"},
	};
	struct options options = {.program = "baton key", .usage = "new [--tenant T]   (the key: standard error; its entry: output)",
				  .table = table, .count = KEY_OPTIONS, .environment = environment, .positional = true};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help) {
		options_print_help(&options);
	} else if (e == ERR_OK) {
		e = check(&options, &wanted, &why);
		if (e == ERR_OK)
			e = make(&wanted, &why);
	}
	if (e != ERR_OK)
		fprintf(stderr, "baton key: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}
