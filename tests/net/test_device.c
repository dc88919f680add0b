/* Where a network device is reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "net/device.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_loopback_device_has_its_address),
		cmocka_unit_test(a_device_that_is_not_there_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
