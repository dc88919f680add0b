#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "base/hash.h"
#include "model/template.h"
#include "tests/model/golden.h"

static enum err render(const char *source, const char *variables, const struct template_options *limits,
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

/* 2026-03-04 15:06:07, as make.py has it. */
#define NOW 1772636767

static bool case_holds(const json_t *test)
{
	const char *source = json_string_value(json_object_get(test, "template"));
	const char *expected = json_string_value(json_object_get(test, "output"));
	struct chat_template *chat_template = NULL;
	struct buf out = {0};
	struct why why = {0};
	enum err e = chat_template_parse(source, strlen(source), &why, &chat_template);
	if (e == ERR_OK)
		e = chat_template_render(chat_template, json_object_get(test, "variables"), &(struct template_options){.now_s = NOW},
					 &why, &out);
	bool holds = expected ? e == ERR_OK && strcmp(out.data ? out.data : "", expected) == 0 : e != ERR_OK;
	if (!holds)
		print_error("template %s\n  gives    %s (%s)\n  expected %s\n", source,
			    e == ERR_OK ? out.data : err_name(e), why.text, expected ? expected : "an error");
	chat_template_destroy(chat_template);
	buf_fini(&out);
	return holds;
}

/* What strftime_now makes of a format at a time; an error where that is what stands in `expected` behind a "!". */
static void a_date_is_written_as_the_c_locale_has_it(void **state)
{
	static const struct {
		uint64_t now_s;
		const char *format, *expected;
	} cases[] = {
		{NOW, "'%a %A %b %B %d %e %H %I %j %m %M %p %S %y %Y %F %T %%'",
		 "Wed Wednesday Mar March 04  4 15 03 063 03 06 PM 07 26 2026 2026-03-04 15:06:07 %"},
		{NOW, "'%-d.%-m. %-I %-e %-j 100%'", "4.3. 3 4 63 100%"},
		{1772582400, "'%H %-H %I %p'", "00 0 12 AM"},
		{NOW, "'%Q'", "!strftime_now has no %Q"}, {NOW, "'%-'", "!strftime_now has no %-"}, {NOW, "'%-Q'", "!strftime_now has no %Q"},
		{1000000000000, "'%Y'", "!no year of four digits"}, {NOW, "", "!strftime_now takes a format"}, {NOW, "5", "!strftime_now takes a format"},
		{NOW, "''", ""},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char source[128];
		struct chat_template *chat_template = NULL;
		struct buf out = {0};
		struct why why = {0};
		snprintf(source, sizeof(source), "{{ strftime_now(%s) }}", cases[i].format);
		assert_int_equal(chat_template_parse(source, strlen(source), &why, &chat_template), ERR_OK);
		json_t *none = json_object();
		enum err e = chat_template_render(chat_template, none, &(struct template_options){.now_s = cases[i].now_s}, &why, &out);
		json_decref(none);
		bool fails = cases[i].expected[0] == '!';
		if (fails ? e == ERR_OK || !strstr(why.text, cases[i].expected + 1)
			  : e != ERR_OK || strcmp(out.data ? out.data : "", cases[i].expected) != 0)
			fail_msg("%s gives \"%s\" (%s), expected \"%s\"", source, out.data ? out.data : "", why.text, cases[i].expected);
		chat_template_destroy(chat_template);
		buf_fini(&out);
	}
}

static void every_golden_template_gives_what_jinja_gives(void **state)
{
	json_t *root = golden_read("template/cases.json");
	assert_non_null(root);
	const json_t *cases = json_object_get(root, "cases");
	size_t held = 0, count = json_array_size(cases);
	for (size_t i = 0; i < count; i++)
		held += case_holds(json_array_get(cases, i));
	assert_true(count > 130);
	assert_int_equal(held, count);
	json_decref(root);
}

/* [length, half a SHA-256 in hexadecimal], or null where Jinja raises. */
static bool mark_fits(const json_t *mark, enum err e, const struct buf *out)
{
	static const char hex[] = "0123456789abcdef";
	struct sha256 sha;
	uint8_t digest[32];
	char text[33] = {0};
	if (json_is_null(mark) || e != ERR_OK)
		return json_is_null(mark) && (e == ERR_INVALID || e == ERR_UNSUPPORTED);
	sha256_init(&sha);
	sha256_add(&sha, out->data ? out->data : "", out->length);
	sha256_end(&sha, digest);
	for (int i = 0; i < 16; i++) {
		text[2 * i] = hex[digest[i] >> 4];
		text[2 * i + 1] = hex[digest[i] & 15];
	}
	return (json_int_t)out->length == json_integer_value(json_array_get(mark, 0)) &&
	       strcmp(text, json_string_value(json_array_get(mark, 1))) == 0;
}

static char *read_form(const char *name, size_t *ret_length)
{
	static char text[1 << 16];
	char path[4096];
	snprintf(path, sizeof(path), "%s/template/forms/%s.jinja", GOLDEN_DIR, name);
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	*ret_length = fread(text, 1, sizeof(text), file);
	fclose(file);
	return text;
}

static uint32_t form_misfits(const char *name, const json_t *marks, const json_t *root)
{
	size_t length;
	struct why why = {0};
	struct chat_template *chat_template = NULL;
	uint32_t wrong = 0;
	const char *chat;
	json_t *variables;
	const char *source = read_form(name, &length);
	if (chat_template_parse(source, length, &why, &chat_template) != ERR_OK)
		fail_msg("%s: %s", name, why.text);
	struct template_options options = {.now_s = json_integer_value(json_object_get(root, "now"))};
	json_object_foreach(json_object_get(root, "chats"), chat, variables) {
		struct buf out = {0};
		enum err e = chat_template_render(chat_template, variables, &options, &why, &out);
		if (!mark_fits(json_object_get(marks, chat), e, &out)) {
			print_error("form %s, chat %s: %s %s\n%s\n", name, chat, err_name(e), why.text, out.data ? out.data : "");
			wrong++;
		}
		buf_fini(&out);
	}
	chat_template_destroy(chat_template);
	return wrong;
}

static void forms_of_all_families_give_what_jinja_gives_for_every_chat(void **state)
{
	json_t *root = golden_read("template/forms.json"), *marks;
	assert_non_null(root);
	const char *name;
	uint32_t wrong = 0;
	assert_true(json_object_size(json_object_get(root, "forms")) >= 24);
	assert_true(json_object_size(json_object_get(root, "chats")) >= 36);
	json_object_foreach(json_object_get(root, "forms"), name, marks)
		wrong += form_misfits(name, marks, root);
	assert_int_equal(wrong, 0);
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
	assert_int_equal(render(source, "{}", &(struct template_options){.step_max = 10000}, &why, &out),
			 ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "steps"));
}

static void growing_text_stops_at_the_memory_limit(void **state)
{
	struct buf out = {0};
	struct why why = {0};
	const char *source = "{% set ns = namespace(s='aaaaaaaa') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}"
			     "{% endfor %}";
	assert_int_equal(render(source, "{}", &(struct template_options){.memory_max = 1 << 20}, &why, &out),
			 ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "memory limit"));
}

static void long_output_stops_and_leaves_the_buffer_as_it_was(void **state)
{
	struct buf out = {0};
	struct why why = {0};
	assert_int_equal(buf_text(&out, "before"), ERR_OK);
	enum err e = render("{% for a in range(1000) %}0123456789{% endfor %}", "{}",
			    &(struct template_options){.output_max = 1000}, &why, &out);
	assert_int_equal(e, ERR_TOO_LARGE);
	assert_string_equal(out.data, "before");
	buf_fini(&out);
}

/* Each would take seconds to centuries; all end at a limit. */
static void hostile_templates_end_at_a_limit(void **state)
{
	static const char *const hostile[] = {
		"{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}",
		"{% set s = 'ab' * 1000000 %}{% for a in range(100000) %}{% set t = s|replace('b', 'c')|upper %}{% endfor %}",
		"{% set s = ' ' * 1000000 %}{% for a in range(100000) %}{% set t = s|trim %}{% set u = s.split() %}{% endfor %}",
		"{% set s = 'ab' * 1000000 %}{% for a in range(100000) %}{% set t = s.rfind('bb') %}{% set u = s == s ~ '' %}{% endfor %}",
		"{% set ns = namespace(l=[1]) %}{% for a in range(50) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
		"{% set ns = namespace(l=[1]) %}{% for a in range(50) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
		"{% set ns = namespace(l=[1], m=[1]) %}{% for a in range(50) %}{% set ns.l = [ns.l, ns.l] %}"
		"{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
		"{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
		"{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(30) }}",
		"{% set l = range(20000)|list %}{% for a in range(100000) %}{% set t = l|unique|sort(reverse=true)|list %}{% endfor %}",
		"{% set f = range(100000)|map('float')|list %}{% for a in range(100000) %}{{ f }}{{ f|tojson }}{% endfor %}",
		"{% set l = range(200000)|list %}{% for a in range(100000) %}{% set t = l + l %}{% set u = -1 in l %}{% endfor %}",
	};
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		struct buf out = {0};
		struct why why = {0};
		assert_int_equal(render(hostile[i], "{}", NULL, &why, &out), ERR_TOO_LARGE);
		assert_int_equal(out.length, 0);
		buf_fini(&out);
	}
}

static void what_a_template_takes_is_known(void **state)
{
	static const struct {
		const char *source;
		bool takes_parts;
	} cases[] = {
		{"{% for m in messages %}{{ m.content }}{% endfor %}", false},
		{"{% for m in messages %}{% for part in m['content'] %}{{ part.text }}{% endfor %}{% endfor %}", true},
		{"{% for item in message.content | list %}{% endfor %}", true},
		{"{% macro r(content) %}{% for item in content %}{% endfor %}{% endmacro %}", true},
		{"{% if 'x' in message.content %}{% endif %}", false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct chat_template *chat_template;
		assert_int_equal(chat_template_parse(cases[i].source, strlen(cases[i].source), NULL, &chat_template), ERR_OK);
		assert_int_equal(chat_template_takes_parts(chat_template), cases[i].takes_parts);
		chat_template_destroy(chat_template);
	}
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
	assert_int_equal(render("\n{% include 'x' %}", "{}", NULL, &why, &out), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "line 2: \"include\""));
	assert_int_equal(render("{{ a | xmlattr }}", "{}", NULL, &why, &out), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "\"xmlattr\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_date_is_written_as_the_c_locale_has_it),
		cmocka_unit_test(every_golden_template_gives_what_jinja_gives),
		cmocka_unit_test(forms_of_all_families_give_what_jinja_gives_for_every_chat),
		cmocka_unit_test(exception_of_the_template_is_the_reason),
		cmocka_unit_test(endless_work_stops_at_the_step_limit),
		cmocka_unit_test(growing_text_stops_at_the_memory_limit),
		cmocka_unit_test(long_output_stops_and_leaves_the_buffer_as_it_was),
		cmocka_unit_test(hostile_templates_end_at_a_limit),
		cmocka_unit_test(what_a_template_takes_is_known),
		cmocka_unit_test(deep_nesting_is_refused),
		cmocka_unit_test(what_is_not_supported_is_named_with_its_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
