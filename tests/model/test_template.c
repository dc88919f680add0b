#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "model/template.h"
#include "tests/model/golden.h"

static enum err render(const char *source, const char *variables, const struct template_limits *limits,
		       struct why *why, struct buf *out)
{
	struct chat_template *chat_template;
	enum err e = chat_template_parse(source, strlen(source), why, &chat_template);
	if (e != ERR_OK)
		return e;
	json_t *json = json_loads(variables, 0, NULL);
	assert_non_null(json);
	e = chat_template_render(chat_template, json, limits, why, out);
	json_decref(json);
	chat_template_destroy(chat_template);
	return e;
}

static bool case_holds(const json_t *test)
{
	const char *source = json_string_value(json_object_get(test, "template"));
	const char *expected = json_string_value(json_object_get(test, "output"));
	struct chat_template *chat_template = NULL;
	struct buf out = {0};
	struct why why = {0};
	enum err e = chat_template_parse(source, strlen(source), &why, &chat_template);
	if (e == ERR_OK)
		e = chat_template_render(chat_template, json_object_get(test, "variables"), NULL, &why, &out);
	bool holds = expected ? e == ERR_OK && strcmp(out.data ? out.data : "", expected) == 0 : e != ERR_OK;
	if (!holds)
		print_error("template %s\n  gives    %s (%s)\n  expected %s\n", source,
			    e == ERR_OK ? out.data : err_name(e), why.text, expected ? expected : "an error");
	chat_template_destroy(chat_template);
	buf_fini(&out);
	return holds;
}

static void every_golden_template_gives_what_jinja_gives(void **state)
{
	json_t *root = golden_read("template/cases.json");
	assert_non_null(root);
	const json_t *cases = json_object_get(root, "cases");
	size_t held = 0, count = json_array_size(cases);
	for (size_t i = 0; i < count; i++)
		held += case_holds(json_array_get(cases, i));
	assert_true(count > 80);
	assert_int_equal(held, count);
	json_decref(root);
}

static void exception_of_the_template_is_the_reason(void **state)
{
	struct buf out = {0};
	struct why why = {0};
	enum err e = render("a\n{{ raise_exception('roles must alternate') }}", "{}", NULL, &why, &out);
	assert_int_equal(e, ERR_INVALID);
	assert_string_equal(why.text, "chat template: line 2: roles must alternate");
	assert_int_equal(out.length, 0);
}

static void endless_work_stops_at_the_step_limit(void **state)
{
	struct buf out = {0};
	struct why why = {0};
	const char *source = "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}"
			     "{% set x = 1 %}{% endfor %}{% endfor %}{% endfor %}";
	assert_int_equal(render(source, "{}", &(struct template_limits){.step_max = 10000}, &why, &out),
			 ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "steps"));
}

static void growing_text_stops_at_the_memory_limit(void **state)
{
	struct buf out = {0};
	struct why why = {0};
	const char *source = "{% set ns = namespace(s='aaaaaaaa') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}"
			     "{% endfor %}";
	assert_int_equal(render(source, "{}", &(struct template_limits){.memory_max = 1 << 20}, &why, &out),
			 ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "memory limit"));
}

static void long_output_stops_and_leaves_the_buffer_as_it_was(void **state)
{
	struct buf out = {0};
	struct why why = {0};
	assert_int_equal(buf_text(&out, "before"), ERR_OK);
	enum err e = render("{% for a in range(1000) %}0123456789{% endfor %}", "{}",
			    &(struct template_limits){.output_max = 1000}, &why, &out);
	assert_int_equal(e, ERR_TOO_LARGE);
	assert_string_equal(out.data, "before");
	buf_fini(&out);
}

static void deep_nesting_is_refused(void **state)
{
	struct buf out = {0}, source = {0};
	struct why why = {0};
	assert_int_equal(buf_text(&source, "{{ "), ERR_OK);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(buf_text(&source, "("), ERR_OK);
	assert_int_equal(buf_text(&source, "1"), ERR_OK);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(buf_text(&source, ")"), ERR_OK);
	assert_int_equal(buf_text(&source, " }}"), ERR_OK);
	assert_int_equal(render(source.data, "{}", NULL, &why, &out), ERR_TOO_LARGE);
	buf_clear(&source);
	assert_int_equal(buf_text(&source, "{{ 1"), ERR_OK);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(buf_text(&source, "+1"), ERR_OK);
	assert_int_equal(buf_text(&source, " }}"), ERR_OK);
	assert_int_equal(render(source.data, "{}", NULL, &why, &out), ERR_TOO_LARGE);
	buf_fini(&source);
}

static void what_is_not_supported_is_named_with_its_line(void **state)
{
	struct buf out = {0};
	struct why why = {0};
	assert_int_equal(render("\n{% macro x() %}{% endmacro %}", "{}", NULL, &why, &out), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "line 2: \"macro\""));
	assert_int_equal(render("{{ a | xmlattr }}", "{}", NULL, &why, &out), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "\"xmlattr\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_golden_template_gives_what_jinja_gives),
		cmocka_unit_test(exception_of_the_template_is_the_reason),
		cmocka_unit_test(endless_work_stops_at_the_step_limit),
		cmocka_unit_test(growing_text_stops_at_the_memory_limit),
		cmocka_unit_test(long_output_stops_and_leaves_the_buffer_as_it_was),
		cmocka_unit_test(deep_nesting_is_refused),
		cmocka_unit_test(what_is_not_supported_is_named_with_its_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
