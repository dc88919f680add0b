/* The less trodden paths of templates against Jinja (golden/template/corners.py), and each of them and of the golden templates
 * under every limit: within it the text is the same, beyond it the rendering is refused and nothing is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "model/template.h"
#include "tests/model/golden.h"

static const char before[] = "before|";

/* What is behind `before`; NULL: an error, which has a reason and has left the buffer as it was. */
static char *render(const struct chat_template *chat_template, const json_t *variables, const struct template_options *limits,
		    enum err *ret_e)
{
	struct buf out = {0};
	struct why why = {0};
	assert_int_equal(buf_text(&out, before), ERR_OK);
	*ret_e = chat_template_render(chat_template, variables, limits, &why, &out);
	assert_memory_equal(out.data, before, sizeof(before) - 1);
	char *text = *ret_e == ERR_OK ? strdup(out.data + sizeof(before) - 1) : NULL;
	if (*ret_e != ERR_OK) {
		assert_int_equal(out.length, sizeof(before) - 1);
		assert_string_not_equal(why.text, "");
	}
	buf_fini(&out);
	return text;
}

struct golden {
	const char *source, *expected; /* NULL: an error */
	const json_t *variables;
};

static bool case_holds(const struct golden *golden)
{
	struct chat_template *chat_template = NULL;
	struct why why = {0};
	enum err e = chat_template_parse(golden->source, strlen(golden->source), &why, &chat_template);
	char *text = e == ERR_OK ? render(chat_template, golden->variables, NULL, &e) : NULL;
	if (e != ERR_OK && !chat_template)
		assert_string_not_equal(why.text, "");
	bool holds = golden->expected ? text && strcmp(text, golden->expected) == 0 : e != ERR_OK;
	if (!holds)
		print_error("template %s\n  gives    %s %s\n  expected %s\n", golden->source, text ? text : err_name(e), why.text,
			    golden->expected ? golden->expected : "an error");
	free(text);
	chat_template_destroy(chat_template);
	return holds;
}

/* The text or an error, whatever the limit; returns whether it was enough. */
static bool same_or_refused(const struct chat_template *chat_template, const struct golden *golden,
			    const struct template_options *limits)
{
	enum err e;
	char *text = render(chat_template, golden->variables, limits, &e);
	if (text && (!golden->expected || strcmp(text, golden->expected) != 0))
		fail_msg("template %s gives %s within steps %llu, memory %llu, output %llu", golden->source, text,
			 (unsigned long long)limits->step_max, (unsigned long long)limits->memory_max,
			 (unsigned long long)limits->output_max);
	if (golden->expected && !text)
		assert_int_equal(e, ERR_TOO_LARGE);
	free(text);
	return e != ERR_TOO_LARGE;
}

/* The same as without limits. */
static bool holds_within_limits(const struct golden *given)
{
	struct chat_template *chat_template = NULL;
	if (chat_template_parse(given->source, strlen(given->source), NULL, &chat_template) != ERR_OK)
		return true;
	enum err e;
	char *expected = render(chat_template, given->variables, NULL, &e);
	const struct golden golden = {given->source, expected, given->variables};
	bool held = false;
	for (uint64_t steps = 1; steps < 2000 && !held; steps++)
		held = same_or_refused(chat_template, &golden, &(struct template_options){.step_max = steps});
	if (!held)
		fail_msg("template %s needs more than 2000 steps", given->source);
	held = false;
	for (uint64_t memory = 1; memory < 65536 && !held; memory += 16)
		held = same_or_refused(chat_template, &golden, &(struct template_options){.memory_max = memory});
	if (!held)
		fail_msg("template %s needs more than 64 KiB", given->source);
	uint64_t length = expected ? strlen(expected) : 0;
	for (uint64_t output = 1; output <= length; output++) {
		held = same_or_refused(chat_template, &golden, &(struct template_options){.output_max = output});
		if (held != (output == length))
			fail_msg("template %s with %llu of %llu bytes of output", given->source, (unsigned long long)output,
				 (unsigned long long)length);
	}
	free(expected);
	chat_template_destroy(chat_template);
	return true;
}

/* How many of the cases of a file hold; *ret_count: of how many. */
static size_t count_holding(const char *file, bool (*holds)(const struct golden *golden), size_t *ret_count)
{
	json_t *root = golden_read(file);
	assert_non_null(root);
	const json_t *cases = json_object_get(root, "cases"), *shared = json_object_get(root, "variables");
	size_t held = 0;
	*ret_count = json_array_size(cases);
	for (size_t i = 0; i < *ret_count; i++) {
		const json_t *one = json_array_get(cases, i), *own = json_object_get(one, "variables");
		held += holds(&(struct golden){.source = json_string_value(json_object_get(one, "template")),
					       .expected = json_string_value(json_object_get(one, "output")),
					       .variables = own ? own : shared});
	}
	json_decref(root);
	return held;
}

static void every_corner_is_as_jinja_has_it(void **state)
{
	size_t count, held = count_holding("template/corners.json", case_holds, &count);
	assert_true(count > 200);
	assert_int_equal(held, count);
}

static void every_limit_gives_the_same_text_or_refuses(void **state)
{
	size_t count, more;
	count_holding("template/corners.json", holds_within_limits, &count);
	count_holding("template/cases.json", holds_within_limits, &more);
	assert_true(count + more > 280);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_corner_is_as_jinja_has_it),
		cmocka_unit_test(every_limit_gives_the_same_text_or_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
