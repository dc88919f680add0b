/* Who a certificate says one is, and what each may do with whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "net/identity.h"

static void identities_are_read_strictly(void **state)
{
	struct identity identity;
	struct why why;
	const char *good = "spiffe://prod.eu-1/baton/engine/node_7.a";
	assert_int_equal(identity_parse(good, strlen(good), &why, &identity), ERR_OK);
	assert_string_equal(identity.cluster, "prod.eu-1");
	assert_string_equal(identity.name, "node_7.a");
	assert_true(identity_has_role(&identity, WIRE__ROLE__ROLE_DECODE));
	assert_false(identity_has_role(&identity, WIRE__ROLE__ROLE_KVSTORE));
	assert_false(identity_has_role(&identity, WIRE__ROLE__ROLE_COORDINATOR));
	static const char *const bad[] = {
		"", "spiffe://", "spiffe://c", "spiffe://c/baton", "spiffe://c/baton/prefill", "spiffe://c/baton/prefill/",
		"spiffe:///baton/prefill/a", "spiffe://c/bato/prefill/a", "spiffe://c/batons/prefill/a",
		"spiffe://c/baton/king/a", "spiffe://c/baton/prefill/a/", "spiffe://c/baton/prefill/a/b",
		"spiffe://c/baton/prefill/a b", "spiffe://c/baton/prefill/a%20", "spiffe://c/baton//a", "https://c/baton/prefill/a",
		"SPIFFE://c/baton/prefill/a", "spiffe://c/baton/prefillx/a",
		"spiffe://c/baton/prefill/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (identity_parse(bad[i], strlen(bad[i]), &why, &identity) == ERR_OK)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(identity_parse("spiffe://c/baton/prefill/a\0b", 28, &why, &identity), ERR_INVALID);
	char name_63[] = "spiffe://c/baton/prefill/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	assert_int_equal(identity_parse(name_63, strlen(name_63), &why, &identity), ERR_OK);
}

static void the_role_matrix_is_that_of_the_sessions(void **state)
{
	const Wire__Role roles[] = {WIRE__ROLE__ROLE_COORDINATOR, WIRE__ROLE__ROLE_PREFILL, WIRE__ROLE__ROLE_DECODE,
				    WIRE__ROLE__ROLE_BOTH, WIRE__ROLE__ROLE_KVSTORE, WIRE__ROLE__ROLE_OPERATOR};
	/* from each, to each */
	static const char *const may[] = {".xxxx.", ".xxxx.", ".xxxx.", ".xxxx.", "....x.", "....x."};
	for (int from = 0; from < 6; from++)
		for (int to = 0; to < 6; to++)
			assert_int_equal(role_may_dial(roles[from], roles[to]), may[from][to] == 'x');
	assert_false(role_may_dial(WIRE__ROLE__ROLE_NONE, WIRE__ROLE__ROLE_PREFILL));
	assert_false(role_may_dial((Wire__Role)77, (Wire__Role)99));
}

static void an_operator_shares_memory_with_stores_only(void **state)
{
	static const char *const roles[] = {"coordinator", "prefill", "decode", "both", "engine", "kvstore", "operator"};
	static const char *const may[] = {".......", ".xxxxx.", ".xxxxx.", ".xxxxx.", ".xxxxx.", ".xxxxxx", ".....x."};
	struct identity identities[7];
	struct why why;
	for (int i = 0; i < 7; i++) {
		char uri[IDENTITY_URI_MAX + 1];
		assert_int_equal(identity_format("c", roles[i], "name", &why, uri), ERR_OK);
		assert_int_equal(identity_parse(uri, strlen(uri), &why, &identities[i]), ERR_OK);
	}
	for (int one = 0; one < 7; one++)
		for (int other = 0; other < 7; other++)
			assert_int_equal(identity_may_read(&identities[one], &identities[other]), may[one][other] == 'x');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identities_are_read_strictly),
		cmocka_unit_test(the_role_matrix_is_that_of_the_sessions),
		cmocka_unit_test(an_operator_shares_memory_with_stores_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
