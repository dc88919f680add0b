/* A member's record: what we announce is read back, what others announce is believed within bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "net/member.h"

static struct member full(void)
{
	struct member m = {.node = UINT64_MAX, .incarnation = 1763800000000000001u, .role = WIRE__ROLE__ROLE_PREFILL, .pid = 77,
			   .has_compat = true, .block_tokens = 16, .context_max = 4096, .prefill_tokens_per_s = 1234.5,
			   .step_seconds = 0.25, .model_count = 2, .tensor_parallel_size = 4};
	for (int i = 0; i < 16; i++)
		m.compat.bytes[i] = (uint8_t)(i * 17);
	strcpy(m.models[0], "demo");
	strcpy(m.models[1], "d\xc3\xa9mo \"2\"");
	strcpy(m.name, "prefill-1");
	strcpy(m.url, "tcp://10.0.0.7:4100");
	strcpy(m.device, "cpu avx2, 2 threads");
	return m;
}

static void a_record_is_read_back_as_it_was_written(void **state)
{
	struct member m = full(), again;
	char text[MEMBER_RECORD_MAX];
	struct why why = {0};
	assert_int_equal(member_format(&m, text), ERR_OK);
	assert_int_equal(member_parse(text, strlen(text), &why, &again), ERR_OK);
	assert_true(again.node == m.node && again.incarnation == m.incarnation && again.role == m.role && again.pid == 77);
	assert_true(again.has_compat && again.block_tokens == 16 && again.context_max == 4096 && again.model_count == 2);
	assert_memory_equal(again.compat.bytes, m.compat.bytes, 16);
	assert_string_equal(again.models[1], m.models[1]);
	assert_string_equal(again.name, m.name);
	assert_string_equal(again.url, m.url);
	assert_string_equal(again.device, m.device);
	assert_int_equal(again.tensor_parallel_size, 4);
	assert_true(again.prefill_tokens_per_s == m.prefill_tokens_per_s && again.step_seconds == m.step_seconds);
}

static void a_record_without_compat_has_none(void **state)
{
	struct member m = full(), again;
	char text[MEMBER_RECORD_MAX];
	m.has_compat = false;
	assert_int_equal(member_format(&m, text), ERR_OK);
	assert_int_equal(member_parse(text, strlen(text), NULL, &again), ERR_OK);
	assert_false(again.has_compat);
}

/* Replaces the first `from` of the full record. */
static enum err parse_with(const char *from, const char *to, struct why *why)
{
	struct member m = full(), again;
	char text[MEMBER_RECORD_MAX], changed[MEMBER_RECORD_MAX + 64];
	assert_int_equal(member_format(&m, text), ERR_OK);
	const char *at = strstr(text, from);
	assert_non_null(at);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	return member_parse(changed, strlen(changed), why, &again);
}

static void a_value_out_of_bounds_is_refused_by_name(void **state)
{
	static const struct {
		const char *from, *to, *named;
	} cases[] = {
		{"\"18446744073709551615\"", "\"18446744073709551616\"", "\"node\""},
		{"\"18446744073709551615\"", "\"-1\"", "\"node\""},
		{"\"18446744073709551615\"", "\" 5\"", "\"node\""},
		{"\"18446744073709551615\"", "\"0\"", "\"node\""},
		{"\"18446744073709551615\"", "7", "\"node\""},
		{"\"1763800000000000001\"", "\"12x\"", "\"incarnation\""},
		{"\"pid\":77", "\"pid\":-1", "\"pid\""},
		{"\"pid\":77", "\"pid\":2147483648", "\"pid\""},
		{"\"block_tokens\":16", "\"block_tokens\":1.5", "\"block_tokens\""},
		{"\"context_max\":4096", "\"context_max\":null", "\"context_max\""},
		{"1234.5", "-1", "\"prefill_tokens_per_s\""},
		{"1234.5", "1e300", "\"prefill_tokens_per_s\""},
		{"0.25", "-0.5", "\"step_seconds\""},
		{"\"00112233", "\"0x112233", "\"compat\""},
		{"\"00112233", "\"+0112233", "\"compat\""},
		{"\"00112233", "\"0112233", "\"compat\""},
		{"\"role\":\"prefill\"", "\"role\":\"king\"", "\"role\""},
		{"\"role\":\"prefill\"", "\"role\":\"operator\"", "\"role\""},
		{"\"models\":[\"demo\"", "\"models\":[\"a\",\"b\",\"c\",\"d\"", "\"models\""},
		{"\"models\":[\"demo\"", "\"models\":[5", "model 0"},
		{"\"name\":\"prefill-1\"", "\"name\":5", "\"name\""},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct why why = {0};
		assert_int_equal(parse_with(cases[i].from, cases[i].to, &why), ERR_INVALID);
		if (!strstr(why.text, cases[i].named))
			fail_msg("%s -> %s: \"%s\" does not name %s", cases[i].from, cases[i].to, why.text, cases[i].named);
	}
}

static void windows_of_layer_groups_are_read_back(void **state)
{
	struct member m = full(), again;
	char text[MEMBER_RECORD_MAX];
	m.group_count = 2;
	m.windows[1] = 512;
	assert_int_equal(member_format(&m, text), ERR_OK);
	assert_int_equal(member_parse(text, strlen(text), NULL, &again), ERR_OK);
	assert_int_equal(again.group_count, 2);
	assert_int_equal(again.windows[0], 0);
	assert_int_equal(again.windows[1], 512);
}

static void wrong_windows_are_refused(void **state)
{
	static const char *const cases[][2] = {
		{"3", "\"windows\" is no list"}, {"[0,1,2]", "\"windows\" is no list"},
		{"[0,\"1\"]", "window 1 is no number"}, {"[-1]", "window 0 is no number"}, {"[0,0.5]", "window 1 is no number"},
		{"[2147483648]", "window 0 is no number"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char to[128];
		struct why why = {0};
		snprintf(to, sizeof(to), "\"windows\":%s", cases[i][0]);
		assert_int_equal(parse_with("\"windows\":[]", to, &why), ERR_INVALID);
		if (!strstr(why.text, cases[i][1]))
			fail_msg("%s: \"%s\" lacks %s", cases[i][0], why.text, cases[i][1]);
	}
}

static void what_is_no_record_is_refused(void **state)
{
	static char large[MEMBER_RECORD_MAX + 1];
	struct member m;
	struct why why = {0};
	memset(large, ' ', sizeof(large));
	assert_int_equal(member_parse(large, sizeof(large), &why, &m), ERR_TOO_LARGE);
	assert_int_equal(member_parse("", 0, &why, &m), ERR_INVALID);
	assert_int_equal(member_parse("[]", 2, &why, &m), ERR_INVALID);
	assert_int_equal(member_parse("{}", 2, &why, &m), ERR_INVALID);
}

static void a_name_is_always_the_same_node(void **state)
{
	assert_true(member_node_id("prefill-1") == member_node_id("prefill-1"));
	assert_true(member_node_id("prefill-1") != member_node_id("prefill-2"));
	assert_string_equal(member_role_text(WIRE__ROLE__ROLE_KVSTORE), "kvstore");
	assert_string_equal(member_role_text(WIRE__ROLE__ROLE_NONE), "none");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_is_read_back_as_it_was_written),
		cmocka_unit_test(a_record_without_compat_has_none),
		cmocka_unit_test(a_value_out_of_bounds_is_refused_by_name),
		cmocka_unit_test(windows_of_layer_groups_are_read_back),
		cmocka_unit_test(wrong_windows_are_refused),
		cmocka_unit_test(what_is_no_record_is_refused),
		cmocka_unit_test(a_name_is_always_the_same_node),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
