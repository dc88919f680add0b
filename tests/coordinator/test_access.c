#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/access.h"
#include "tests/scratch.h"

/* SHA-256 of "acme-key", "beta-key", "scrape-key", "root-key". */
static char digests[4][65];
static const char *const plain[4] = {"acme-key", "beta-key", "scrape-key", "root-key"};

struct files {
	char keys[64], secret[64];
};

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int setup(void **state)
{
	static struct files files;
	for (int k = 0; k < 4; k++) {
		struct key_digest digest;
		key_digest_of(plain[k], strlen(plain[k]), &digest);
		for (int i = 0; i < 32; i++)
			snprintf(digests[k] + 2 * i, 3, "%02x", digest.bytes[i]);
	}
	scratch_path(files.keys, sizeof(files.keys), "keys");
	scratch_path(files.secret, sizeof(files.secret), "salt");
	char text[2048];
	snprintf(text, sizeof(text),
		 "defaults: {concurrent: 9}\n"
		 "tenants:\n"
		 "  acme: {weight: 3, requests-per-minute: 60, tokens-per-minute: 1000, queued: 4, context: 128}\n"
		 "keys:\n"
		 "  - {name: acme-web, tenant: acme, sha256: %s}\n"
		 "  - {name: beta-web, tenant: beta, role: user, sha256: %s}\n"
		 "  - {name: prometheus, role: metrics, sha256: %s}\n"
		 "  - {name: oncall, role: admin, sha256: %s}\n",
		 digests[0], digests[1], digests[2], digests[3]);
	write_file(files.keys, text);
	write_file(files.secret, "0123456789abcdef");
	*state = &files;
	return 0;
}

static int teardown(void **state)
{
	struct files *files = *state;
	unlink(files->keys);
	unlink(files->secret);
	return 0;
}

static struct access *with_keys(const struct files *files)
{
	struct access_options options = {.keys_file = files->keys, .tenant_salt_file = files->secret};
	struct access *access;
	struct why why = {0};
	if (access_create(NULL, &options, &access, &why) != ERR_OK)
		fail_msg("%s", why.text);
	return access;
}

static enum access_verdict ask(struct access *access, enum access_class class, const char *key, const char *tenant,
			       struct access_grant *grant)
{
	char header[256];
	struct access_grant ignored;
	snprintf(header, sizeof(header), "Bearer %s", key ? key : "");
	struct access_question question = {.class = class, .authorization = key ? header : NULL, .tenant = tenant};
	return access_judge(access, &question, grant ? grant : &ignored);
}

/* The table of access.h, cell by cell. */
static void every_class_answers_every_role_as_the_table_says(void **state)
{
	static const char *const keys[] = {NULL, "wrong", "acme-key", "scrape-key", "root-key"};
	enum { Y = ACCESS_GRANTED, M = ACCESS_KEY_MISSING, W = ACCESS_KEY_WRONG, F = ACCESS_FORBIDDEN };
	static const int expected[4][5] = {
		[ACCESS_PUBLIC] = {Y, Y, Y, Y, Y},
		[ACCESS_API] = {M, W, Y, F, Y},
		[ACCESS_METRICS] = {M, W, F, Y, Y},
		[ACCESS_ADMIN] = {M, W, F, F, Y},
	};
	struct access *access = with_keys(*state);
	for (int class = 0; class < 4; class++)
		for (int k = 0; k < 5; k++)
			assert_int_equal(ask(access, (enum access_class)class, keys[k], NULL, NULL), expected[class][k]);
	struct access_counts counts;
	access_counts(access, &counts);
	assert_int_equal(counts.key_missing, 3);
	assert_int_equal(counts.key_wrong, 3);
	assert_int_equal(counts.forbidden, 4);
	access_destroy(access);
}

static void a_key_that_is_nearly_right_is_wrong(void **state)
{
	static const char *const wrong[] = {"acme-ke", "acme-keyy", "Acme-key", "acme-key ", "", " "};
	struct access *access = with_keys(*state);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_not_equal(ask(access, ACCESS_API, wrong[i], NULL, NULL), ACCESS_GRANTED);
	char *giant = malloc(16001);
	memset(giant, 'a', 16000);
	giant[16000] = 0;
	memcpy(giant, "Bearer acme-key", 15);
	struct access_question question = {.class = ACCESS_API, .authorization = giant};
	struct access_grant grant;
	assert_int_equal(access_judge(access, &question, &grant), ACCESS_KEY_WRONG);
	static const char *const schemes[] = {"acme-key", "Basic acme-key", "Beareracme-key", "Bearer"};
	for (size_t i = 0; i < 4; i++) {
		question.authorization = schemes[i];
		assert_int_equal(access_judge(access, &question, &grant), ACCESS_KEY_MISSING);
	}
	free(giant);
	access_destroy(access);
}

static void a_digest_is_no_key(void **state)
{
	struct access *access = with_keys(*state);
	assert_int_equal(ask(access, ACCESS_API, digests[0], NULL, NULL), ACCESS_KEY_WRONG);
	access_destroy(access);
}

static void tenants_have_salts_of_their_own_and_every_coordinator_the_same(void **state)
{
	const struct files *files = *state;
	struct access *one = with_keys(files), *two = with_keys(files);
	struct access_grant a, a2, b, named;
	assert_int_equal(ask(one, ACCESS_API, "acme-key", NULL, &a), ACCESS_GRANTED);
	assert_int_equal(ask(two, ACCESS_API, "acme-key", NULL, &a2), ACCESS_GRANTED);
	assert_int_equal(ask(one, ACCESS_API, "beta-key", NULL, &b), ACCESS_GRANTED);
	assert_string_equal(a.tenant, "acme");
	assert_true(a.salted && a2.salted && b.salted);
	assert_memory_equal(a.salt, a2.salt, ACCESS_SALT_BYTES);
	assert_memory_not_equal(a.salt, b.salt, ACCESS_SALT_BYTES);
	/* The secret is part of it. */
	struct access_options options = {.keys_file = files->keys};
	struct access *bare;
	assert_int_equal(access_create(NULL, &options, &bare, NULL), ERR_OK);
	assert_int_equal(ask(bare, ACCESS_API, "acme-key", NULL, &named), ACCESS_GRANTED);
	assert_memory_not_equal(a.salt, named.salt, ACCESS_SALT_BYTES);
	access_destroy(one);
	access_destroy(two);
	access_destroy(bare);
}

static void only_administrators_may_name_another_tenant(void **state)
{
	struct access *access = with_keys(*state);
	struct access_grant grant;
	assert_int_equal(ask(access, ACCESS_API, "beta-key", "acme", &grant), ACCESS_GRANTED);
	assert_string_equal(grant.tenant, "beta");
	assert_int_equal(ask(access, ACCESS_API, "root-key", "acme", &grant), ACCESS_GRANTED);
	assert_string_equal(grant.tenant, "acme");
	assert_int_equal(grant.limits.weight, 3);
	assert_int_equal(ask(access, ACCESS_API, "root-key", "a\"b", &grant), ACCESS_TENANT_WRONG);
	access_destroy(access);
}

static void limits_are_the_tenants_or_the_defaults(void **state)
{
	struct access *access = with_keys(*state);
	struct access_grant grant;
	assert_int_equal(ask(access, ACCESS_API, "acme-key", NULL, &grant), ACCESS_GRANTED);
	assert_int_equal(grant.limits.weight, 3);
	assert_int_equal(grant.limits.requests_per_minute, 60);
	assert_int_equal(grant.limits.tokens_per_minute, 1000);
	assert_int_equal(grant.limits.queued, 4);
	assert_int_equal(grant.limits.context, 128);
	assert_int_equal(grant.limits.concurrent, 9);
	assert_int_equal(ask(access, ACCESS_API, "beta-key", NULL, &grant), ACCESS_GRANTED);
	assert_int_equal(grant.limits.weight, 0);
	assert_int_equal(grant.limits.concurrent, 9);
	access_destroy(access);
}

static void without_keys_this_host_may_all_and_others_the_api(void **state)
{
	(void)state;
	struct access_options options = {0};
	struct access *access;
	assert_int_equal(access_create(NULL, &options, &access, NULL), ERR_OK);
	struct access_question question = {.class = ACCESS_ADMIN};
	struct access_grant grant;
	assert_int_equal(access_judge(access, &question, &grant), ACCESS_FORBIDDEN);
	question.from_this_host = true;
	assert_int_equal(access_judge(access, &question, &grant), ACCESS_GRANTED);
	question = (struct access_question){.class = ACCESS_API, .tenant = "acme"};
	assert_int_equal(access_judge(access, &question, &grant), ACCESS_GRANTED);
	assert_string_equal(grant.tenant, "acme");
	assert_true(grant.salted);
	question.tenant = NULL;
	assert_int_equal(access_judge(access, &question, &grant), ACCESS_GRANTED);
	assert_false(grant.salted);
	access_destroy(access);
}

static void a_file_of_keys_without_keys_lets_nobody_in(void **state)
{
	const struct files *files = *state;
	char path[80];
	snprintf(path, sizeof(path), "%s.empty", files->keys);
	write_file(path, "keys: [] # none yet\n");
	struct access_options options = {.keys_file = path};
	struct access *access;
	assert_int_equal(access_create(NULL, &options, &access, NULL), ERR_OK);
	assert_int_equal(ask(access, ACCESS_API, NULL, NULL, NULL), ACCESS_KEY_MISSING);
	assert_int_equal(ask(access, ACCESS_API, "any", NULL, NULL), ACCESS_KEY_WRONG);
	assert_int_equal(ask(access, ACCESS_PUBLIC, NULL, NULL, NULL), ACCESS_GRANTED);
	access_destroy(access);
	unlink(path);
}

static void keys_of_the_command_line_outlive_a_reload_and_a_wrong_file_changes_nothing(void **state)
{
	const struct files *files = *state;
	char path[80], text[256];
	snprintf(path, sizeof(path), "%s.reload", files->keys);
	snprintf(text, sizeof(text), "keys:\n  - {name: a, tenant: acme, sha256: %s}\n", digests[0]);
	write_file(path, text);
	struct option_list users = {1, {"given-key"}}, admins = {1, {"given-root"}};
	struct access_options options = {.api_keys = &users, .admin_keys = &admins, .keys_file = path};
	struct access *access;
	struct why why = {0};
	assert_int_equal(access_create(NULL, &options, &access, &why), ERR_OK);
	assert_int_equal(ask(access, ACCESS_API, "acme-key", NULL, NULL), ACCESS_GRANTED);
	snprintf(text, sizeof(text), "keys:\n  - {name: b, tenant: beta, sha256: %s}\n", digests[1]);
	write_file(path, text);
	assert_int_equal(access_reload(access, &why), ERR_OK);
	assert_int_equal(ask(access, ACCESS_API, "acme-key", NULL, NULL), ACCESS_KEY_WRONG);
	assert_int_equal(ask(access, ACCESS_API, "beta-key", NULL, NULL), ACCESS_GRANTED);
	write_file(path, "keys: [{name: c}]\n");
	assert_int_equal(access_reload(access, &why), ERR_INVALID);
	assert_int_equal(ask(access, ACCESS_API, "beta-key", NULL, NULL), ACCESS_GRANTED);
	assert_int_equal(ask(access, ACCESS_API, "given-key", NULL, NULL), ACCESS_GRANTED);
	assert_int_equal(ask(access, ACCESS_ADMIN, "given-key", NULL, NULL), ACCESS_FORBIDDEN);
	assert_int_equal(ask(access, ACCESS_ADMIN, "given-root", NULL, NULL), ACCESS_GRANTED);
	access_destroy(access);
	unlink(path);
}

static void what_is_wrong_in_a_file_is_named(void **state)
{
	const struct files *files = *state;
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"keys: [{name: a}]", "entry 1 has no sha256"},
		{"keys: [{sha256: 00}]", "64 hex digits"},
		{"keys: [{name: a, sha256: 00}]", "of key a: expected 64 hex digits"},
		{"keys: [{name: 'a b', sha256: 00}]", "name \"a b\""},
		{"keys: [{nane: a}]", "did you mean \"name\""},
		{"keys: [{name: a, role: root}]", "expected user, metrics or admin"},
		{"keys: {a: b}", "expected a list"},
		{"keys: [a]", "expected entries"},
		{"tenants: [a]", "expected a mapping"},
		{"tenants: {a/b: {}}", "name \"a/b\""},
		{"tenants: {a: {weigth: 1}}", "did you mean \"weight\""},
		{"tenants: {a: {weight: 1001}}", "expected a number from 0 to 1000"},
		{"tenants: {a: {concurrent: -1}}", "expected a number"},
		{"tenants: {a: {concurrent: 99999999999}}", "expected a number"},
		{"tenants: {a: {concurrent: [1]}}", "expected a number"},
		{"tenants: {a: 5}", "expected a mapping of limits"},
		{"defaults: 5", "expected a mapping of limits"},
		{"keyz: []", "did you mean \"keys\""},
		{"[1, 2]", "expected the sections"},
		{"keys: [", "not valid YAML"},
	};
	char path[80];
	snprintf(path, sizeof(path), "%s.wrong", files->keys);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct access_table *table = calloc(1, sizeof(*table));
		struct why why = {0};
		write_file(path, cases[i].text);
		assert_int_equal(access_table_read(table, path, &why), ERR_INVALID);
		if (!strstr(why.text, cases[i].says) || !strstr(why.text, path))
			fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].text, why.text, cases[i].says);
		free(table);
	}
	unlink(path);
}

static void one_key_may_not_be_there_twice(void **state)
{
	const struct files *files = *state;
	char path[80], text[400];
	struct why why = {0};
	snprintf(path, sizeof(path), "%s.twice", files->keys);
	snprintf(text, sizeof(text), "keys:\n  - {name: a, sha256: %s}\n  - {name: b, sha256: %s}\n", digests[0], digests[0]);
	write_file(path, text);
	struct access_table *table = calloc(1, sizeof(*table));
	assert_int_equal(access_table_read(table, path, &why), ERR_EXISTS);
	assert_non_null(strstr(why.text, "key b is the same as key a"));
	free(table);
	unlink(path);
}

static void more_keys_or_tenants_than_fit_are_refused(void **state)
{
	struct access_table *table = calloc(1, sizeof(*table));
	struct access_key key = {.name = "k"};
	struct key_digest digest = {{0}};
	(void)state;
	for (uint32_t i = 0; i < ACCESS_KEYS_MAX; i++) {
		memcpy(digest.bytes, &i, sizeof(i));
		assert_int_equal(access_table_add(table, &key, &digest, NULL), ERR_OK);
	}
	digest.bytes[8] = 1;
	assert_int_equal(access_table_add(table, &key, &digest, NULL), ERR_TOO_LARGE);
	free(table);
}

static void a_salt_file_that_is_too_short_is_refused(void **state)
{
	const struct files *files = *state;
	char path[80];
	struct why why = {0};
	struct access *access;
	snprintf(path, sizeof(path), "%s.short", files->secret);
	write_file(path, "short");
	struct access_options options = {.tenant_salt_file = path};
	assert_int_equal(access_create(NULL, &options, &access, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "5 bytes, expected 16"));
	unlink(path);
	assert_int_equal(access_create(NULL, &options, &access, &why), ERR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_class_answers_every_role_as_the_table_says),
		cmocka_unit_test(a_key_that_is_nearly_right_is_wrong),
		cmocka_unit_test(a_digest_is_no_key),
		cmocka_unit_test(tenants_have_salts_of_their_own_and_every_coordinator_the_same),
		cmocka_unit_test(only_administrators_may_name_another_tenant),
		cmocka_unit_test(limits_are_the_tenants_or_the_defaults),
		cmocka_unit_test(without_keys_this_host_may_all_and_others_the_api),
		cmocka_unit_test(a_file_of_keys_without_keys_lets_nobody_in),
		cmocka_unit_test(keys_of_the_command_line_outlive_a_reload_and_a_wrong_file_changes_nothing),
		cmocka_unit_test(what_is_wrong_in_a_file_is_named),
		cmocka_unit_test(one_key_may_not_be_there_twice),
		cmocka_unit_test(more_keys_or_tenants_than_fit_are_refused),
		cmocka_unit_test(a_salt_file_that_is_too_short_is_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
