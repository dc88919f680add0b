#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "base/rng.h"
#include "coordinator/stop.h"

struct fed {
	struct buf out;
	int match;
};

static struct stop_set set_of(const char *first, const char *second, bool include)
{
	struct stop_set set = {.include = include};
	const char *texts[] = {first, second};
	for (int i = 0; i < 2 && texts[i]; i++) {
		set.text[set.count] = texts[i];
		set.length[set.count++] = strlen(texts[i]);
	}
	return set;
}

/* Feeds pieces until one stops it, then ends it unless it was stopped. */
static struct fed feed(const struct stop_set *set, const char *const *pieces)
{
	struct stopper stopper;
	struct fed fed = {.match = STOP_NONE};
	stopper_init(&stopper, set);
	for (; *pieces && fed.match == STOP_NONE; pieces++)
		assert_int_equal(stopper_feed(&stopper, *pieces, strlen(*pieces), false, &fed.out, &fed.match), ERR_OK);
	if (fed.match == STOP_NONE)
		assert_int_equal(stopper_finish(&stopper, &fed.out), ERR_OK);
	assert_int_equal(buf_append(&fed.out, "", 0), ERR_OK); /* 0-terminated also when empty */
	stopper_fini(&stopper);
	return fed;
}

static void expect(const struct stop_set *set, const char *const *pieces, const char *text, int match)
{
	struct fed fed = feed(set, pieces);
	assert_string_equal(fed.out.data, text);
	assert_int_equal(fed.match, match);
	buf_fini(&fed.out);
}

static void without_stop_strings_everything_goes_through(void **state)
{
	struct stop_set set = {0};
	expect(&set, (const char *[]){"one ", "two", NULL}, "one two", STOP_NONE);
}

static void a_stop_string_and_what_follows_is_cut_off(void **state)
{
	struct stop_set set = set_of("END", NULL, false);
	expect(&set, (const char *[]){"so END it", NULL}, "so ", 0);
	expect(&set, (const char *[]){"so E", "N", "D it", NULL}, "so ", 0);
}

static void it_is_kept_when_asked_for(void **state)
{
	struct stop_set set = set_of("END", NULL, true);
	expect(&set, (const char *[]){"so E", "ND it", NULL}, "so END", 0);
}

static void the_earliest_in_the_text_wins(void **state)
{
	struct stop_set set = set_of("two", "one", false);
	expect(&set, (const char *[]){"a one two", NULL}, "a ", 1);
	struct stop_set same = set_of("ab", "abc", false);
	expect(&same, (const char *[]){"abc", NULL}, "", 0);
}

static void what_only_begins_like_one_is_given_back(void **state)
{
	struct stop_set set = set_of("END", NULL, false);
	expect(&set, (const char *[]){"EN", "EN", NULL}, "ENEN", STOP_NONE);
	struct stop_set twice = set_of("aab", NULL, false);
	expect(&twice, (const char *[]){"aa", "a", "b!", NULL}, "a", 0); /* the doubt moves with the text */
}

static void only_what_is_in_doubt_is_held_back(void **state)
{
	struct stop_set set = set_of("END", NULL, false);
	struct stopper stopper;
	struct buf out = {0};
	int match;
	stopper_init(&stopper, &set);
	assert_int_equal(stopper_feed(&stopper, "come E", 6, false, &out, &match), ERR_OK);
	assert_string_equal(out.data, "come ");
	assert_int_equal(stopper_feed(&stopper, "very", 4, false, &out, &match), ERR_OK);
	assert_string_equal(out.data, "come Every");
	stopper_fini(&stopper);
	buf_fini(&out);
}

static void exempt_text_stops_nothing(void **state)
{
	struct stop_set set = set_of("END", NULL, false);
	struct stopper stopper;
	struct buf out = {0};
	int match;
	stopper_init(&stopper, &set);
	assert_int_equal(stopper_feed(&stopper, "END E", 5, true, &out, &match), ERR_OK);
	assert_int_equal(match, STOP_NONE);
	assert_int_equal(stopper_feed(&stopper, "ND", 2, false, &out, &match), ERR_OK);
	assert_int_equal(match, STOP_NONE); /* it began in exempt text */
	assert_int_equal(stopper_feed(&stopper, "END", 3, false, &out, &match), ERR_OK);
	assert_int_equal(match, 0);
	assert_string_equal(out.data, "END END");
	stopper_fini(&stopper);
	buf_fini(&out);
}

/* However a text is cut into pieces, one stop string cuts it at the same place. */
static void pieces_do_not_matter(void **state)
{
	struct rng rng = {.seed = 5};
	uint32_t matches = 0;
	for (int round = 0; round < 2000; round++) {
		char text[41] = {0}, stop[5] = {0}, parts[41][41] = {0};
		const char *pieces[42] = {0};
		for (int i = 0; i < 40; i++)
			text[i] = "ab"[rng_below(&rng, 2)];
		uint64_t stop_length = 1 + rng_below(&rng, 4);
		for (uint64_t i = 0; i < stop_length; i++)
			stop[i] = "abc"[rng_below(&rng, 3)];
		size_t count = 0;
		for (size_t at = 0, n; at < 40; at += n) {
			n = 1 + rng_below(&rng, 6);
			n = n > 40 - at ? 40 - at : n;
			memcpy(parts[count], text + at, n);
			pieces[count] = parts[count];
			count++;
		}
		struct stop_set set = set_of(stop, NULL, false);
		const char *at = strstr(text, stop);
		matches += at != NULL;
		if (at)
			text[at - text] = 0;
		expect(&set, pieces, text, at ? 0 : STOP_NONE);
	}
	assert_in_range(matches, 500, 1900); /* both ways were tried */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_stop_strings_everything_goes_through),
		cmocka_unit_test(a_stop_string_and_what_follows_is_cut_off),
		cmocka_unit_test(it_is_kept_when_asked_for),
		cmocka_unit_test(the_earliest_in_the_text_wins),
		cmocka_unit_test(what_only_begins_like_one_is_given_back),
		cmocka_unit_test(only_what_is_in_doubt_is_held_back),
		cmocka_unit_test(exempt_text_stops_nothing),
		cmocka_unit_test(pieces_do_not_matter),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
