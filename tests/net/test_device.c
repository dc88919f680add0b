/* Where a network device is reached, and what may listen beyond this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "net/device.h"
#include "net/exposure.h"

static void the_loopback_device_has_its_address(void **state)
{
	char text[DEVICE_ADDRESS_MAX];
	struct why why = {0};
	assert_int_equal(device_address("lo", text, &why), ERR_OK);
	assert_string_equal(text, "127.0.0.1");
}

static void a_device_that_is_not_there_is_named(void **state)
{
	char text[DEVICE_ADDRESS_MAX];
	struct why why = {0};
	assert_int_equal(device_address("nowhere0", text, &why), ERR_NOT_FOUND);
	assert_string_equal(why.text, "there is no network device \"nowhere0\"");
}

static void nothing_listens_beyond_this_machine_by_default(void **state)
{
	struct why why;
	static const struct {
		const char *host;
		bool tls, insecure, allowed;
	} cases[] = {
		{"127.0.0.1", false, false, true}, {"127.8.9.1", false, false, true}, {"::1", false, false, true},
		{"localhost", false, false, true}, {"0.0.0.0", false, false, false},  {"::", false, false, false},
		{"10.0.0.7", false, false, false}, {"fe80::1", false, false, false},  {"db.example", false, false, false},
		{"::ffff:10.0.0.7", false, false, false}, {"0.0.0.0", true, false, true}, {"0.0.0.0", false, true, true},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum err e = exposure_check("--listen", cases[i].host, cases[i].tls, cases[i].insecure, "--tls", &why);
		assert_int_equal(e, cases[i].allowed ? ERR_OK : ERR_DENIED);
	}
	assert_int_equal(exposure_check("--listen", "0.0.0.0", false, false, "--tls-ca-file", &why), ERR_DENIED);
	assert_non_null(strstr(why.text, "--insecure"));
	assert_non_null(strstr(why.text, "0.0.0.0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_loopback_device_has_its_address),
		cmocka_unit_test(a_device_that_is_not_there_is_named),
		cmocka_unit_test(nothing_listens_beyond_this_machine_by_default),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
