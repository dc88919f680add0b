#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "base/buf.h"
#include "base/why.h"

static void text_is_terminated_and_grows(void **state)
{
	struct buf buf = {0};
	for (int i = 0; i < 100; i++)
		assert_int_equal(buf_printf(&buf, "%d,", i), ERR_OK);
	assert_int_equal(strlen(buf.data), buf.length);
	assert_memory_equal(buf.data + buf.length - 3, "99,", 3);
	buf_fini(&buf);
}

static void limit_refuses_and_leaves_the_buffer_as_it_was(void **state)
{
	struct buf buf = {.limit = 4};
	assert_int_equal(buf_text(&buf, "abcd"), ERR_OK);
	assert_int_equal(buf_text(&buf, "e"), ERR_TOO_LARGE);
	assert_string_equal(buf.data, "abcd");
	buf_fini(&buf);
}

static void reason_gets_its_place_in_front(void **state)
{
	struct why why = {0};
	assert_int_equal(why_set(&why, ERR_INVALID, "hidden_size is %d, expected > 0", 0), ERR_INVALID);
	why_prefix(&why, "%s", "config.json");
	assert_string_equal(why.text, "config.json: hidden_size is 0, expected > 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_terminated_and_grows),
		cmocka_unit_test(limit_refuses_and_leaves_the_buffer_as_it_was),
		cmocka_unit_test(reason_gets_its_place_in_front),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
