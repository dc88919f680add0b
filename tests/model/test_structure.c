#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "base/rng.h"
#include "model/mask.h"
#include "model/structure.h"
#include "model/tokenizer.h"
#include "tests/model/golden.h"

struct world {
	struct tokenizer *tokenizer;
	struct token_trie *trie;
	struct mask_maker *maker;
	struct matcher matcher, other;
};

static int setup(void **state)
{
	static struct world world;
	struct why why = {0};
	assert_int_equal(tokenizer_load(GOLDEN_DIR "/tokenizer/llama3.json", &why, &world.tokenizer), ERR_OK);
	assert_int_equal(token_trie_create(world.tokenizer, &world.trie), ERR_OK);
	assert_int_equal(mask_maker_create(world.trie, &world.maker), ERR_OK);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	mask_maker_destroy(w->maker);
	token_trie_destroy(w->trie);
	tokenizer_destroy(w->tokenizer);
	return 0;
}

static struct grammar *compile(struct world *w, const char *structure)
{
	const struct structure_tokens tokens = {w->tokenizer, w->trie};
	struct grammar *grammar = NULL;
	struct why why = {0};
	enum err e = structure_compile(structure, strlen(structure), &tokens, &why, &grammar);
	if (e != ERR_OK)
		print_error("%.200s: %s\n", structure, why.text);
	assert_int_equal(e, ERR_OK);
	return grammar;
}

static bool reads(struct world *w, const struct grammar *grammar, const char *text)
{
	matcher_begin(&w->matcher, grammar);
	return matcher_read(&w->matcher, (const uint8_t *)text, strlen(text));
}

static bool accepts(struct world *w, const struct grammar *grammar, const char *text)
{
	return reads(w, grammar, text) && matcher_accepts(&w->matcher);
}

/* ---- documents, against what the jsonschema package says of them */

static bool ends_here(const json_t *ends, size_t length)
{
	for (size_t i = 0; i < json_array_size(ends); i++)
		if ((size_t)json_integer_value(json_array_get(ends, i)) == length)
			return true;
	return false;
}

/* Every beginning of the text that is a document is accepted, no other is, and what leads to one is read. */
static bool text_holds(struct world *w, const struct grammar *grammar, const char *text, const json_t *ends)
{
	size_t last = 0;
	for (size_t i = 0; i < json_array_size(ends); i++)
		last = (size_t)json_integer_value(json_array_get(ends, i));
	matcher_begin(&w->matcher, grammar);
	for (size_t at = 0; text[at]; at++) {
		bool read = matcher_read(&w->matcher, (const uint8_t *)text + at, 1);
		if ((!read && at < last) || (read && matcher_accepts(&w->matcher)) != ends_here(ends, at + 1)) {
			print_error("%s: wrong at byte %zu\n", text, at);
			return false;
		}
		if (!read)
			break;
	}
	return true;
}

static void documents_are_accepted_exactly_when_jsonschema_says_they_are_valid(void **state)
{
	struct world *w = *state;
	json_t *cases = golden_read("structure/cases.json");
	assert_true(json_array_size(cases) >= 60);
	size_t wrong = 0;
	for (size_t i = 0; i < json_array_size(cases); i++) {
		const json_t *one = json_array_get(cases, i), *texts = json_object_get(one, "texts");
		json_t *structure = json_pack("{s:O}", "json", json_object_get(one, "schema"));
		char *written = json_dumps(structure, 0);
		struct grammar *grammar = compile(w, written);
		for (size_t k = 0; k < json_array_size(texts); k++) {
			const json_t *text = json_array_get(texts, k);
			if (text_holds(w, grammar, json_string_value(json_array_get(text, 0)), json_array_get(text, 1)))
				continue;
			print_error("  schema %s\n", written);
			wrong++;
		}
		grammar_destroy(grammar);
		free(written);
		json_decref(structure);
	}
	assert_int_equal(wrong, 0);
	json_decref(cases);
}

static void a_listed_key_comes_once(void **state)
{
	struct world *w = *state;
	struct grammar *g = compile(w, "{\"json\":{\"properties\":{\"b\":{}},\"additionalProperties\":true}}");
	assert_true(accepts(w, g, "{\"b\":1,\"c\":1}"));
	assert_false(reads(w, g, "{\"b\":1,\"b\""));
	assert_false(reads(w, g, "{\"c\":1,\"b\""));
	assert_false(reads(w, g, "{\"\\u0062\""));
	grammar_destroy(g);
}

static void half_a_surrogate_pair_is_no_character(void **state)
{
	struct world *w = *state;
	struct grammar *g = compile(w, "{\"json\":{\"type\":\"string\"}}");
	assert_true(accepts(w, g, "\"\\ud83d\\ude00\""));
	assert_false(reads(w, g, "\"\\ud83d\""));
	assert_false(reads(w, g, "\"\\ud83d\\u0041"));
	assert_false(reads(w, g, "\"\\ude00"));
	grammar_destroy(g);
}

static void white_space_and_numbers_have_an_end(void **state)
{
	struct world *w = *state;
	struct grammar *g = compile(w, "{\"json\":{\"type\":\"object\"}}");
	assert_true(reads(w, g, "{\n        \"a\": "));
	assert_false(reads(w, g, "{  "));
	assert_false(reads(w, g, "{\n\n"));
	assert_false(reads(w, g, " {"));
	assert_false(reads(w, g, "{} "));
	assert_true(accepts(w, g, "{\"a\":12345678901234567890}"));
	assert_false(reads(w, g, "{\"a\":123456789012345678901"));
	assert_false(reads(w, g, "{\"a\":1e100"));
	grammar_destroy(g);
}

/* ---- masks */

static bool allowed(const uint64_t *mask, uint32_t id)
{
	return mask[id / 64] >> id % 64 & 1;
}

static void check_mask(struct world *w, const struct grammar *grammar, const struct matcher_state *state, const uint64_t *mask)
{
	for (uint32_t id = 0; id < w->trie->vocab_size; id++) {
		const uint8_t *bytes;
		uint8_t spelling[TOKEN_SPELLING];
		size_t length;
		if (token_trie_bytes(w->tokenizer, id, spelling, &bytes, &length) != ERR_OK || length == 0) {
			assert_false(allowed(mask, id));
			continue;
		}
		/* A byte that UTF-8 never has is no text, though a grammar may read it as the mark of an added token. */
		bool text = bytes == spelling || !memchr(bytes, TOKEN_MARK, length);
		matcher_load(&w->other, grammar, state);
		bool read = text && matcher_read(&w->other, bytes, length);
		if (allowed(mask, id) != read)
			print_error("token %u of %zu bytes: \"%.*s\"\n", id, length, (int)length, (const char *)bytes);
		assert_int_equal(allowed(mask, id), read);
	}
}

static void walk(struct world *w, const struct grammar *grammar, struct rng *rng, int steps)
{
	struct matcher_state state = {0};
	struct mask_cache *cache;
	uint64_t mask[64];
	assert_true(mask_words(w->trie) <= 64);
	assert_int_equal(mask_cache_create(grammar, &cache), ERR_OK);
	matcher_begin(&w->matcher, grammar);
	for (int i = 0; i < steps; i++) {
		assert_int_equal(mask_fill(w->maker, cache, &w->matcher, mask), ERR_OK);
		assert_int_equal(matcher_save(&w->matcher, &state), ERR_OK);
		check_mask(w, grammar, &state, mask);
		uint32_t id = (uint32_t)rng_below(rng, w->trie->vocab_size), tries = 0;
		for (; !allowed(mask, id) && tries < w->trie->vocab_size; tries++)
			id = (id + 1) % w->trie->vocab_size;
		if (!allowed(mask, id)) {
			assert_true(matcher_accepts(&w->matcher));
			break;
		}
		const uint8_t *bytes;
		uint8_t spelling[TOKEN_SPELLING];
		size_t length;
		assert_int_equal(token_trie_bytes(w->tokenizer, id, spelling, &bytes, &length), ERR_OK);
		assert_true(matcher_read(&w->matcher, bytes, length));
	}
	mask_cache_destroy(cache);
	matcher_state_fini(&state);
}

static void a_mask_allows_exactly_the_tokens_that_can_be_read(void **state)
{
	static const char *const structures[] = {
		"{\"json\":{\"type\":\"object\"}}",
		"{\"json\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/items\"}}}}",
		"{\"json\":{\"type\":\"string\",\"minLength\":3,\"maxLength\":9}}",
		"{\"json\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"maximum\":500},\"b\":{\"enum\":[\"x\",\"xy\"]}}}}",
		"{\"regex\":\"(a|ab|abc)*[^x]?\"}",
		"{\"sequence\":[{\"token\":\"<mask>\"},{\"literal\":\"{\"},{\"json\":{\"type\":\"boolean\"}},{\"literal\":\"}\"}]}",
	};
	struct world *w = *state;
	struct rng rng = {.seed = 7};
	for (size_t i = 0; i < sizeof(structures) / sizeof(structures[0]); i++) {
		struct grammar *grammar = compile(w, structures[i]);
		for (int k = 0; k < 6; k++)
			walk(w, grammar, &rng, 25);
		grammar_destroy(grammar);
	}
}

static void a_deep_document_can_be_finished_and_goes_no_deeper(void **state)
{
	struct world *w = *state;
	struct grammar *g = compile(w, "{\"json\":{}}");
	struct matcher_state saved = {0};
	struct mask_cache *cache;
	uint64_t mask[64];
	int depth = 0;
	assert_int_equal(mask_cache_create(g, &cache), ERR_OK);
	matcher_begin(&w->matcher, g);
	for (bool more = true; more; depth += more) {
		assert_int_equal(mask_fill(w->maker, cache, &w->matcher, mask), ERR_OK);
		assert_int_equal(matcher_save(&w->matcher, &saved), ERR_OK);
		check_mask(w, g, &saved, mask);
		matcher_load(&w->other, g, &saved);
		more = matcher_read(&w->other, (const uint8_t *)"[", 1);
		if (more)
			assert_true(matcher_read(&w->matcher, (const uint8_t *)"[", 1));
	}
	assert_in_range(depth, GRAMMAR_DEPTH_MAX - 1, GRAMMAR_DEPTH_MAX + 1);
	for (; depth > 0; depth--)
		assert_true(matcher_read(&w->matcher, (const uint8_t *)"]", 1));
	assert_true(matcher_accepts(&w->matcher));
	mask_cache_destroy(cache);
	matcher_state_fini(&saved);
	grammar_destroy(g);
}

/* ---- what is refused */

static enum err refusal(struct world *w, const char *structure, struct why *why)
{
	const struct structure_tokens tokens = {w->tokenizer, w->trie};
	struct grammar *grammar;
	enum err e = structure_compile(structure, strlen(structure), &tokens, why, &grammar);
	if (e == ERR_OK)
		grammar_destroy(grammar);
	return e;
}

static void what_is_not_understood_is_named_with_its_place(void **state)
{
	static const char *const cases[][2] = {
		{"{\"json\":{\"properties\":{\"a\":{\"multipleOf\":3}}}}", "#/properties/a: \"multipleOf\""},
		{"{\"json\":{\"items\":{\"anyOf\":[{},{\"not\":{}}]}}}", "#/items/anyOf/1: \"not\""},
		{"{\"json\":{\"$ref\":\"#/$defs/x\"}}", "\"#/$defs/x\" is not a place"},
		{"{\"json\":{\"type\":\"strin\"}}", "\"type\" is expected"},
		{"{\"json\":{\"type\":\"string\",\"format\":\"colour\"}}", "\"format\": \"colour\""},
		{"{\"json\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}}", "refers to itself"},
		{"{\"json\":{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}}", "nothing can match"},
		{"{\"json\":{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}}", "nothing can match"},
		{"{\"json\":{\"pattern\":\"(?=x)\"}}", "look-around"},
		{"{\"json\":{\"pattern\":\"(a\"}}", "a group without its end"},
		{"{\"regex\":\"a{2,1}\"}", "out of order"},
		{"{\"regex\":\"\\\\1\"}", "escape is not supported"},
		{"{\"sequence\":[{\"xml\":1}]}", "a part is expected"},
		{"{\"choice\":[]}", "at least one part"}, {"{\"choice\":3}", "at least one part"},
		{"{\"literal\":3}", "a text is expected"}, {"{\"token\":3}", "a text is expected"}, {"{\"regex\":3}", "a regular expression is"},
		{"{\"repeat\":{\"literal\":\"a\"},\"min\":-1}", "a count is expected"}, {"{\"repeat\":{\"literal\":\"a\"},\"max\":1025}", "a count is"},
		{"{\"repeat\":{\"literal\":\"a\"},\"min\":1.5}", "a count is expected"}, {"{\"repeat\":3}", "a part is expected"},
		{"{\"repeat\":{\"literal\":\"a\"},\"min\":3,\"max\":2}", "nothing can match"},
		{"{\"repeat\":{\"literal\":\"a\"},\"separator\":3}", "a text is expected"},
		{"[1]", "structure"},
	};
	struct world *w = *state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct why why = {0};
		assert_int_not_equal(refusal(w, cases[i][0], &why), ERR_OK);
		if (!strstr(why.text, cases[i][1]))
			fail_msg("%s gives \"%s\", expected \"%s\" in it", cases[i][0], why.text, cases[i][1]);
	}
}

/* Steps are counted, so the same on every machine: 2 million are some 20 ms. */
static void the_cost_of_a_hostile_structure_is_bounded(void **state)
{
	static char large[STRUCTURE_BYTES_MAX + 64];
	struct world *w = *state;
	struct why why = {0};
	assert_int_equal(refusal(w, "{\"regex\":\"((((a{99}){99}){99}){99})\"}", &why), ERR_TOO_LARGE);
	assert_int_equal(refusal(w, "{\"regex\":\"(a|aa|aaa)*(a|b)*a[ab]{400}\"}", &why), ERR_TOO_LARGE);
	assert_int_equal(refusal(w, "{\"regex\":\"(.*a.*){64}\"}", &why), ERR_TOO_LARGE);
	assert_int_equal(refusal(w, "{\"json\":{\"type\":\"array\",\"minItems\":65000,\"items\":{\"maxLength\":65000}}}", &why),
			 ERR_TOO_LARGE);
	assert_int_equal(refusal(w, "{\"repeat\":{\"repeat\":{\"repeat\":{\"literal\":\"a\"},\"max\":1000},\"max\":1000},\"max\":1000}", &why),
			 ERR_TOO_LARGE);
	memset(large, ' ', sizeof(large) - 1);
	assert_int_equal(refusal(w, large, &why), ERR_TOO_LARGE);
	/* 40 rules, each in two ways the next: a million ways to begin. */
	size_t at = (size_t)snprintf(large, sizeof(large), "{\"json\":{\"$ref\":\"#/$defs/0\",\"$defs\":{");
	for (int i = 0; i < 40; i++)
		at += (size_t)snprintf(large + at, sizeof(large) - at,
				       "\"%d\":{\"anyOf\":[{\"items\":{\"$ref\":\"#/$defs/%d\"}},{\"$ref\":\"#/$defs/%d\"},{\"anyOf\":[{\"$ref\":\"#/$defs/%d\"}]}]},",
				       i, i + 1, i + 1, i + 1);
	snprintf(large + at, sizeof(large) - at, "\"40\":{\"type\":\"null\"}}}}");
	assert_int_equal(refusal(w, large, &why), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "too many alternatives"));
}

/* ---- structures of parts */

static const char calls[] =
	"{\"sequence\":[{\"token\":\"<left>\"},{\"choice\":["
	"{\"sequence\":[{\"literal\":\"{\\\"name\\\": \\\"sum\\\", \\\"arguments\\\": \"},"
	"{\"json\":{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]}},{\"literal\":\"}\"}]},"
	"{\"sequence\":[{\"literal\":\"{\\\"name\\\": \\\"say\\\", \\\"arguments\\\": \"},"
	"{\"json\":{\"properties\":{\"t\":{\"type\":\"string\"}},\"required\":[\"t\"]}},{\"literal\":\"}\"}]}]},{\"token\":\"<right>\"}]}";

static bool read_token(struct world *w, const char *name)
{
	uint32_t id;
	uint8_t spelling[TOKEN_SPELLING];
	assert_int_equal(tokenizer_find(w->tokenizer, name, &id), ERR_OK);
	token_trie_spell(id, spelling);
	return matcher_read(&w->matcher, spelling, sizeof(spelling));
}

static void a_call_of_one_of_two_tools_is_forced(void **state)
{
	struct world *w = *state;
	struct grammar *g = compile(w, calls);
	struct mask_cache *cache;
	uint64_t mask[64];
	uint32_t left;
	assert_int_equal(mask_cache_create(g, &cache), ERR_OK);
	assert_int_equal(tokenizer_find(w->tokenizer, "<left>", &left), ERR_OK);
	matcher_begin(&w->matcher, g);
	assert_int_equal(mask_fill(w->maker, cache, &w->matcher, mask), ERR_OK);
	for (uint32_t id = 0; id < w->trie->vocab_size; id++)
		assert_int_equal(allowed(mask, id), id == left);
	assert_true(read_token(w, "<left>"));
	static const char say[] = "{\"name\": \"say\", \"arguments\": {\"t\": \"<right>\"}}";
	assert_true(matcher_read(&w->matcher, (const uint8_t *)say, strlen(say)));
	assert_false(matcher_accepts(&w->matcher));
	assert_true(read_token(w, "<right>"));
	assert_true(matcher_accepts(&w->matcher));
	assert_int_equal(mask_fill(w->maker, cache, &w->matcher, mask), ERR_OK);
	for (size_t i = 0; i < mask_words(w->trie); i++)
		assert_int_equal(mask[i], 0);
	mask_cache_destroy(cache);
	grammar_destroy(g);
}

/* Texts within markup have no "<", bare ones neither that nor a quote around them. */
static void documents_stand_in_markup(void **state)
{
	struct world *w = *state;
	struct grammar *g = compile(w, "{\"sequence\":[{\"json\":{\"type\":\"string\"},\"in_markup\":true},{\"literal\":\"<\"}]}");
	assert_true(accepts(w, g, "\"a\"<"));
	assert_false(reads(w, g, "\"a<"));
	grammar_destroy(g);
	g = compile(w, "{\"json\":{\"type\":\"string\"},\"in_markup\":false}");
	assert_true(accepts(w, g, "\"a<\""));
	grammar_destroy(g);
	g = compile(w, "{\"sequence\":[{\"bare\":{\"maxLength\":2}},{\"token\":\"no such token\"}]}");
	assert_true(accepts(w, g, "abno such token"));
	assert_false(reads(w, g, "<"));
	assert_false(reads(w, g, "abc"));
	grammar_destroy(g);
}

/* 62 levels of JSON, and too many of them. */
static void parts_lie_within_each_other_so_deep(void **state)
{
	for (int over = 0; over < 2; over++) {
		char text[2048] = "";
		struct why why = {0};
		for (int i = 0; i < STRUCTURE_DEPTH_MAX / 2 - 1 + over * STRUCTURE_DEPTH_MAX; i++)
			strcat(text, "{\"choice\":[");
		strcat(text, "{\"literal\":\"a\"}");
		for (int i = 0; i < STRUCTURE_DEPTH_MAX / 2 - 1 + over * STRUCTURE_DEPTH_MAX; i++)
			strcat(text, "]}");
		assert_int_equal(refusal(*state, text, &why), over ? ERR_TOO_LARGE : ERR_OK);
	}
}

static void parts_are_repeated_with_what_stands_between(void **state)
{
	struct world *w = *state;
	struct grammar *g = compile(w, "{\"repeat\":{\"regex\":\"[0-9]+\"},\"min\":1,\"max\":3,\"separator\":\", \"}");
	assert_true(accepts(w, g, "1"));
	assert_true(accepts(w, g, "1, 22, 333"));
	assert_false(accepts(w, g, "1, "));
	assert_false(reads(w, g, "1, 2, 3,"));
	assert_false(accepts(w, g, ""));
	grammar_destroy(g);
	g = compile(w, "{\"repeat\":{\"choice\":[{\"literal\":\"a\"},{\"literal\":\"bc\"}]},\"min\":2}");
	assert_true(accepts(w, g, "abcaaabc"));
	assert_false(accepts(w, g, "bc"));
	grammar_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_are_accepted_exactly_when_jsonschema_says_they_are_valid),
		cmocka_unit_test(a_listed_key_comes_once),
		cmocka_unit_test(half_a_surrogate_pair_is_no_character),
		cmocka_unit_test(white_space_and_numbers_have_an_end),
		cmocka_unit_test(a_mask_allows_exactly_the_tokens_that_can_be_read),
		cmocka_unit_test(a_deep_document_can_be_finished_and_goes_no_deeper),
		cmocka_unit_test(what_is_not_understood_is_named_with_its_place),
		cmocka_unit_test(the_cost_of_a_hostile_structure_is_bounded),
		cmocka_unit_test(a_call_of_one_of_two_tools_is_forced),
		cmocka_unit_test(documents_stand_in_markup),
		cmocka_unit_test(parts_lie_within_each_other_so_deep),
		cmocka_unit_test(parts_are_repeated_with_what_stands_between),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
