#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "coordinator/json_out.h"
#include "coordinator/metrics_text.h"

static void nesting_and_commas(void **state)
{
	struct buf buf = {0};
	struct json_out out;
	json_out_init(&out, &buf);
	json_out_open(&out, '{');
	json_put_text(&out, "a", "x");
	json_put_open(&out, "b", '[');
	json_out_integer(&out, -1);
	json_out_null(&out);
	json_out_open(&out, '{');
	json_out_close(&out, '}');
	json_out_bool(&out, true);
	json_out_close(&out, ']');
	json_put_text(&out, "c", NULL);
	json_out_close(&out, '}');
	assert_int_equal(out.e, ERR_OK);
	assert_string_equal(buf.data, "{\"a\":\"x\",\"b\":[-1,null,{},true],\"c\":null}");
	buf_fini(&buf);
}

static void written(const char *text, size_t length, const char *expected)
{
	struct buf buf = {0};
	struct json_out out;
	json_out_init(&out, &buf);
	json_out_text(&out, text, length);
	assert_string_equal(buf.data, expected);
	buf_fini(&buf);
}

static void texts_are_escaped(void **state)
{
	written("a\"b\\c\n\t\x01\x7f", 9, "\"a\\\"b\\\\c\\n\\t\\u0001\\u007f\"");
	written("a\0b", 3, "\"a\\u0000b\"");
	written("\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82", 9, "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82\"");
}

static void what_is_no_utf8_is_replaced(void **state)
{
	written("\xff", 1, "\"\xef\xbf\xbd\"");
	written("a\xc3", 2, "\"a\xef\xbf\xbd\"");                                 /* cut off */
	written("\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");                    /* overlong */
	written("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");    /* a surrogate */
}

/* A log-probability is the same float when it is read back. */
static void floats_are_exact(void **state)
{
	struct rng rng = {.seed = 3};
	struct buf buf = {0};
	for (int i = 0; i < 20000; i++) {
		float value = -ldexpf(rng_unit(rng_next(&rng)), (int)rng_below(&rng, 30) - 20);
		struct json_out out;
		buf_clear(&buf);
		json_out_init(&out, &buf);
		json_out_open(&out, '[');
		json_out_float(&out, value);
		json_out_close(&out, ']');
		json_t *json = json_loads(buf.data, 0, NULL);
		assert_true(json_is_real(json_array_get(json, 0)));
		assert_true((float)json_real_value(json_array_get(json, 0)) == value);
		json_decref(json);
	}
	buf_fini(&buf);
}

static void no_number_is_a_number(void **state)
{
	static const float odd[] = {-INFINITY, INFINITY, NAN};
	static const char *const expected[] = {"-9999.0", "9999.0", "-9999.0"};
	for (int i = 0; i < 3; i++) {
		struct buf buf = {0};
		struct json_out out;
		json_out_init(&out, &buf);
		json_out_float(&out, odd[i]);
		assert_string_equal(buf.data, expected[i]);
		buf_fini(&buf);
	}
}

static void an_error_stays(void **state)
{
	struct buf buf = {.limit = 4};
	struct json_out out;
	json_out_init(&out, &buf);
	json_out_text(&out, "too long", 8);
	json_out_null(&out);
	assert_int_equal(out.e, ERR_TOO_LARGE);
	buf_fini(&buf);
}

static void a_histogram_counts_up(void **state)
{
	static const struct histogram_bounds bounds = {2, {0.1, 1}};
	struct histogram histogram = {0};
	struct buf buf = {0};
	struct metrics_text text = {.buf = &buf};
	histogram_add(&histogram, &bounds, 0.1); /* a bound belongs to its bucket */
	histogram_add(&histogram, &bounds, 0.5);
	histogram_add(&histogram, &bounds, 7);
	metrics_family(&text, "x_seconds", "histogram", "Of x.");
	metrics_histogram(&text, (const char *[]){"m", "a\"b", NULL}, &bounds, &histogram);
	assert_int_equal(text.e, ERR_OK);
	assert_string_equal(buf.data, "# HELP x_seconds Of x.\n# TYPE x_seconds histogram\n"
				      "x_seconds_bucket{m=\"a\\\"b\",le=\"0.1\"} 1\n"
				      "x_seconds_bucket{m=\"a\\\"b\",le=\"1\"} 2\n"
				      "x_seconds_bucket{m=\"a\\\"b\",le=\"+Inf\"} 3\n"
				      "x_seconds_sum{m=\"a\\\"b\"} 7.6\n"
				      "x_seconds_count{m=\"a\\\"b\"} 3\n");
	buf_fini(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nesting_and_commas),
		cmocka_unit_test(texts_are_escaped),
		cmocka_unit_test(what_is_no_utf8_is_replaced),
		cmocka_unit_test(floats_are_exact),
		cmocka_unit_test(no_number_is_a_number),
		cmocka_unit_test(an_error_stays),
		cmocka_unit_test(a_histogram_counts_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
