/* How texts are cut before they are tokens, expression by expression and behaviour by behaviour, beside the tokenizers library
 * (golden/tokenizer/patterns.py); and tokenizer.json files that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "model/tokenizer.h"
#include "tests/model/golden.h"

static json_t *golden, *plain; /* patterns.json; a tokenizer.json with its vocabulary */

static int setup(void **state)
{
	golden = golden_read("tokenizer/patterns.json");
	if (!golden)
		return -1;
	plain = json_pack("{s:{s:s,s:O,s:[],s:b}, s:{s:s,s:b,s:b}, s:{s:s}, s:n, s:[], s:n}", "model", "type", "BPE", "vocab",
			  json_object_get(golden, "vocab"), "merges", "ignore_merges", true, "pre_tokenizer", "type", "ByteLevel",
			  "add_prefix_space", false, "use_regex", false, "decoder", "type", "ByteLevel", "normalizer", "added_tokens",
			  "post_processor");
	return plain ? 0 : -1;
}

static int teardown(void **state)
{
	json_decref(plain);
	json_decref(golden);
	return 0;
}

static enum err parse(const json_t *json, struct why *why, struct tokenizer **ret_tokenizer)
{
	char *text = json_dumps(json, JSON_COMPACT);
	*ret_tokenizer = NULL;
	enum err e = tokenizer_parse(text, strlen(text), why, ret_tokenizer);
	free(text);
	return e;
}

/* With this step in front of ByteLevel. */
static enum err parse_step(json_t *step, struct why *why, struct tokenizer **ret_tokenizer)
{
	json_t *json = json_copy(plain);
	json_object_set_new(json, "pre_tokenizer",
			    json_pack("{s:s, s:[O, O]}", "type", "Sequence", "pretokenizers", step,
				      json_object_get(plain, "pre_tokenizer")));
	enum err e = parse(json, why, ret_tokenizer);
	json_decref(json);
	return e;
}

static bool cuts_alike(const struct tokenizer *tokenizer, const char *text, const json_t *expected)
{
	struct tokens tokens = {0};
	assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &(struct tokenizer_encode_options){0}, &tokens), ERR_OK);
	bool same = tokens.count == json_array_size(expected);
	for (size_t i = 0; same && i < tokens.count; i++)
		same = tokens.ids[i] == json_integer_value(json_array_get(expected, i));
	tokens_fini(&tokens);
	return same;
}

static bool case_holds(const json_t *one, const json_t *texts)
{
	struct tokenizer *tokenizer;
	struct why why = {0};
	json_t *step = json_object_get(one, "step");
	char *shown = json_dumps(step, JSON_COMPACT);
	bool holds = parse_step(step, &why, &tokenizer) == ERR_OK;
	for (size_t t = 0; holds && t < json_array_size(texts); t++) {
		const char *text = json_string_value(json_array_get(texts, t));
		holds = cuts_alike(tokenizer, text, json_array_get(json_object_get(one, "ids"), t));
		if (!holds)
			why_set(&why, ERR_MISMATCH, "\"%s\" is cut in another way", text);
	}
	if (!holds)
		print_error("%s: %s\n", shown, why.text);
	free(shown);
	tokenizer_destroy(tokenizer);
	return holds;
}

static void every_expression_cuts_as_in_the_library(void **state)
{
	const json_t *cases = json_object_get(golden, "cases"), *texts = json_object_get(golden, "texts");
	size_t held = 0, count = json_array_size(cases);
	for (size_t i = 0; i < count; i++)
		held += case_holds(json_array_get(cases, i), texts);
	assert_true(count > 120);
	assert_int_equal(held, count);
}

static bool holds_id(const struct tokenizer *tokenizer, const char *text, uint32_t id)
{
	struct tokens tokens = {0};
	bool found = false;
	assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &(struct tokenizer_encode_options){.parse_special = true},
					  &tokens), ERR_OK);
	for (size_t i = 0; i < tokens.count; i++)
		found |= tokens.ids[i] == id;
	tokens_fini(&tokens);
	return found;
}

static void a_single_word_stands_between_no_words(void **state)
{
	const json_t *words = json_object_get(golden, "words"), *chars = json_object_get(words, "chars");
	json_t *json = json_copy(plain);
	struct tokenizer *tokenizer;
	struct why why = {0};
	json_object_set_new(json, "added_tokens", json_pack("[{s:i, s:s, s:b, s:b}]", "id", 1999, "content", "<w>", "special", true,
							    "single_word", true));
	if (parse(json, &why, &tokenizer) != ERR_OK)
		fail_msg("%s", why.text);
	for (size_t i = 0; i < json_array_size(chars); i++) {
		char before[16], behind[16];
		const char *one = json_string_value(json_array_get(chars, i));
		const json_t *taken = json_array_get(json_object_get(words, "taken"), i);
		snprintf(before, sizeof(before), "%s<w>", one);
		snprintf(behind, sizeof(behind), "<w>%s", one);
		if (holds_id(tokenizer, before, 1999) != json_is_true(json_array_get(taken, 0)) ||
		    holds_id(tokenizer, behind, 1999) != json_is_true(json_array_get(taken, 1)))
			fail_msg("beside \"%s\" it is another", one);
	}
	assert_true(json_array_size(chars) > 30);
	tokenizer_destroy(tokenizer);
	json_decref(json);
}

static json_t *split(const char *regex)
{
	return json_pack("{s:s, s:{s:s}, s:s}", "type", "Split", "pattern", "Regex", regex, "behavior", "Isolated");
}

/* Each means something else to PCRE2, or nothing. */
static void an_expression_that_has_no_equal_is_refused_by_name(void **state)
{
	static const char *const wrong[][2] = {
		{"[a[b]]", "a class within a class"}, {"[a&&b]", "&& in a class"}, {"[\\W]", "\\W in a class"},
		{"[\\B]", "\\B in a class"}, {"(*FAIL)", "(*"}, {"a{1,2}+", "{n,m}+"}, {"\\p", "\\p without {name}"},
		{"\\pL", "\\p without {name}"}, {"\\p{L", "\\p without {name}"}, {"\\x{41", "\\x{ without its }"},
		{"\\x{0000000041}", "\\x{ without its }"}, {"\\x4", "\\x"}, {"\\xg1", "\\x"}, {"\\u004", "\\u"}, {"\\G", "\\G"},
		{"\\K", "\\K"}, {"\\1", "\\1"}, {"[\\A]", "\\A"}, {"[\\z]", "\\z"}, {"(?<name>a)", "(?<n"}, {"(?m:a)", "(?m:"},
		{"(?#c)", "(?#c"}, {"(?", "(?"}, {"(?P<n>a)", "(?P<"}, {"\\\xc3\xa9", "\\"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct tokenizer *tokenizer;
		struct why why = {0};
		json_t *step = split(wrong[i][0]);
		assert_int_equal(parse_step(step, &why, &tokenizer), ERR_UNSUPPORTED);
		if (!strstr(why.text, wrong[i][1]))
			fail_msg("%s: \"%s\" lacks \"%s\"", wrong[i][0], why.text, wrong[i][1]);
		json_decref(step);
	}
}

static void an_expression_that_is_none_is_refused(void **state)
{
	static const char *const wrong[] = {"(", ")", "[a", "*a", "a{2,1}", "\\p{Nowhere}", "[b-a]", "(?i:a", "\\x{110000}"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct tokenizer *tokenizer;
		struct why why = {0};
		json_t *step = split(wrong[i]);
		if (parse_step(step, &why, &tokenizer) == ERR_OK)
			fail_msg("%s is taken", wrong[i]);
		assert_non_null(strstr(why.text, "regex"));
		json_decref(step);
	}
}

/* `length` times "a" and then `end`, cut by the expression. */
static enum err encode_run(const char *regex, size_t length, const char *end, size_t *ret_count)
{
	struct tokenizer *tokenizer;
	struct tokens tokens = {0};
	struct why why = {0};
	json_t *step = split(regex);
	if (parse_step(step, &why, &tokenizer) != ERR_OK)
		fail_msg("%s", why.text);
	char *text = malloc(length + 8);
	memset(text, 'a', length);
	strcpy(text + length, end);
	enum err e = tokenizer_encode(tokenizer, text, strlen(text), &(struct tokenizer_encode_options){0}, &tokens);
	*ret_count = tokens.count;
	free(text);
	tokens_fini(&tokens);
	tokenizer_destroy(tokenizer);
	json_decref(step);
	return e;
}

static void an_expression_has_more_stack_when_it_needs_it_and_a_bounded_time(void **state)
{
	size_t count;
	assert_int_equal(encode_run("(?:(a)|b)*c", 30000, "c", &count), ERR_OK);
	assert_int_equal(count, 30001);
	assert_int_equal(encode_run("(?:a|aa|aaa)+[y-z]", 200, "c", &count), ERR_UNSUPPORTED);
	assert_int_equal(count, 0);
}

static void an_expression_has_a_length(void **state)
{
	struct tokenizer *tokenizer;
	struct why why = {0};
	char *pattern = calloc(1, 300000);
	memset(pattern, 'a', 299999);
	json_t *step = split(pattern);
	assert_int_equal(parse_step(step, &why, &tokenizer), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "regex: 299999 bytes"));
	json_decref(step);
	free(pattern);
}

/* The plain file with one part of it replaced; the place is named. */
static void changed_is_refused(const char *part, const char *value, const char *words)
{
	struct tokenizer *tokenizer;
	struct why why = {0};
	json_error_t error;
	json_t *json = json_deep_copy(plain), *to = json_loads(value, JSON_DECODE_ANY, &error);
	if (!to)
		fail_msg("%s: %s", value, error.text);
	json_object_set_new(strncmp(part, "model.", 6) == 0 ? json_object_get(json, "model") : json,
			    strncmp(part, "model.", 6) == 0 ? part + 6 : part, to);
	if (parse(json, &why, &tokenizer) == ERR_OK)
		fail_msg("%s %s is taken", part, value);
	assert_null(tokenizer);
	if (!strstr(why.text, words))
		fail_msg("%s %s: \"%s\" lacks \"%s\"", part, value, why.text, words);
	json_decref(json);
}

static void a_part_that_is_wrong_is_refused_by_its_place(void **state)
{
	static const char *const wrong[][3] = {
		{"model", "7", "model"}, {"model", "null", "model"}, {"model.type", "\"Nothing\"", "type"},
		{"model.dropout", "0.5", "dropout"},
		{"model.vocab", "null", "vocab"}, {"model.vocab", "{}", "vocab"}, {"model.vocab", "[]", "vocab"},
		{"model.vocab", "{\"a\":\"0\"}", "vocab"}, {"model.vocab", "{\"a\":-1}", "vocab"},
		{"model.vocab", "{\"a\":2097152}", "vocab"}, {"model.vocab", "{\"a\":0,\"b\":0}", "vocab"},
		{"model.vocab", "{\"a\":0}", "vocab"}, /* a byte that is no token */
		{"model.merges", "null", "merges"}, {"model.merges", "{}", "merges"}, {"model.merges", "[1]", "merges[0]"},
		{"model.merges", "[\"ab\"]", "merges[0]"}, {"model.merges", "[\"a b c\"]", "merges[0]"},
		{"model.merges", "[[\"a\"]]", "merges[0]"}, {"model.merges", "[[\"a\",1]]", "merges[0]"},
		{"model.merges", "[[1,\"a\"]]", "merges[0]"}, {"model.merges", "[\"a nowhere\"]", "merges[0]"},
		{"model.merges", "[\"nowhere a\"]", "merges[0]"}, {"model.merges", "[\"$ %\"]", "merges[0]"},
		{"model.ignore_merges", "1", "ignore_merges"},
		{"normalizer", "{}", "normalizer"}, {"normalizer", "{\"type\":\"Nothing\"}", "normalizer"},
		{"normalizer", "{\"type\":7}", "normalizer"}, {"normalizer", "{\"type\":\"Sequence\"}", "normalizer"},
		{"normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Nothing\"}]}", "normalizer"},
		{"pre_tokenizer", "{}", "pre_tokenizer"}, {"pre_tokenizer", "{\"type\":\"Nothing\"}", "pre_tokenizer"},
		{"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sideways\"}", "behavior"},
		{"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Isolated\"}", "pattern"},
		{"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"String\":1},\"behavior\":\"Isolated\"}", "pattern"},
		{"pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":7}", "pretokenizers"},
		{"decoder", "{\"type\":\"Nothing\"}", "decoder"}, {"decoder", "{\"type\":7}", "decoder"},
		{"added_tokens", "[{}]", "added_tokens"}, {"added_tokens", "[{\"id\":-1,\"content\":\"x\"}]", "added_tokens"},
		{"added_tokens", "[{\"id\":600}]", "added_tokens"}, {"added_tokens", "[{\"id\":600,\"content\":7}]", "added_tokens"},
		{"added_tokens", "[{\"id\":600,\"content\":\"<x>\",\"special\":1}]", "added_tokens"},
		{"added_tokens", "[{\"id\":600,\"content\":\"<x>\"},{\"id\":600,\"content\":\"<y>\"}]", "added_tokens"},
		{"post_processor", "{\"type\":\"Nothing\"}", "post_processor"}, {"post_processor", "{}", "post_processor"},
		{"post_processor", "{\"type\":\"Sequence\",\"processors\":7}", "post_processor"},
		{"post_processor", "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"Nothing\"}]}", "post_processor"},
		{"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{}],\"special_tokens\":{}}", "single"},
		{"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}}],"
				   "\"special_tokens\":{}}", "post_processor"},
		{"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}}],"
				   "\"special_tokens\":{\"<x>\":{\"ids\":[]}}}", "post_processor"},
		{"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}}],"
				   "\"special_tokens\":{\"<x>\":{\"ids\":[\"1\"]}}}", "post_processor"},
		{"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}}],"
				   "\"special_tokens\":{\"<x>\":{\"ids\":[-1]}}}", "post_processor"},
		{"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}}],"
				   "\"special_tokens\":{\"<x>\":{\"ids\":[2097152]}}}", "post_processor"},
		{"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}}],"
				   "\"special_tokens\":{\"<x>\":{\"ids\":[1999999]}}}", "post_processor"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		changed_is_refused(wrong[i][0], wrong[i][1], wrong[i][2]);
}

static void what_is_deeper_or_longer_than_anybody_writes_is_refused(void **state)
{
	static const char *const wraps[][2] = {
		{"normalizer", "{\"type\":\"Sequence\",\"normalizers\":["}, {"pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":["},
		{"post_processor", "{\"type\":\"Sequence\",\"processors\":["}};
	char nested[2048];
	for (size_t i = 0; i < 3; i++) {
		nested[0] = 0;
		for (int depth = 0; depth < 9; depth++)
			strcat(nested, wraps[i][1]);
		for (int depth = 0; depth < 9; depth++)
			strcat(nested, "]}");
		changed_is_refused(wraps[i][0], nested, wraps[i][0]);
	}
	strcpy(nested, "{\"type\":\"Sequence\",\"pretokenizers\":[");
	for (int i = 0; i < 20; i++)
		strcat(nested, "{\"type\":\"Digits\"},");
	strcat(nested, "{\"type\":\"ByteLevel\"}]}");
	changed_is_refused("pre_tokenizer", nested, "at most");
}

/* Ids that the template of the post-processor adds, in front and behind. */
static void a_template_adds_tokens_on_both_sides(void **state)
{
	struct tokenizer *tokenizer;
	struct why why = {0};
	struct tokens tokens = {0};
	json_error_t error;
	json_t *json = json_deep_copy(plain);
	json_object_set_new(json, "post_processor",
			    json_loads("{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
				       "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\",\"type_id\":0}},{\"Sequence\":"
				       "{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"<y>\",\"type_id\":0}}],\"special_tokens\":"
				       "{\"<x>\":{\"id\":\"<x>\",\"ids\":[1,2],\"tokens\":[\"a\",\"b\"]},\"<y>\":{\"id\":\"<y>\",\"ids\":[3],"
				       "\"tokens\":[\"c\"]}}}]}", 0, &error));
	if (parse(json, &why, &tokenizer) != ERR_OK)
		fail_msg("%s", why.text);
	assert_int_equal(tokenizer_encode(tokenizer, "", 0, &(struct tokenizer_encode_options){.add_special_tokens = true}, &tokens),
			 ERR_OK);
	assert_int_equal(tokens.count, 3);
	assert_int_equal(tokens.ids[0], 1);
	assert_int_equal(tokens.ids[1], 2);
	assert_int_equal(tokens.ids[2], 3);
	tokens_fini(&tokens);
	tokenizer_destroy(tokenizer);
	json_decref(json);
}

/* Sequences of one, and what is switched off by null, false or "". */
static void a_file_that_says_little_in_many_words_is_taken(void **state)
{
	static const char *const parts[][2] = {
		{"normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}"},
		{"decoder", "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"}]}"},
		{"post_processor", "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\",\"trim_offsets\":true}]}"},
		{"added_tokens", "[{\"id\":1998,\"content\":\"<n>\",\"normalized\":true},{\"id\":1999,\"content\":\"<w>\",\"special\":true,"
				 "\"lstrip\":true,\"rstrip\":true}]"},
	};
	json_error_t error;
	json_t *json = json_deep_copy(plain), *model = json_object_get(json, "model");
	struct tokenizer *tokenizer;
	struct why why = {0};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		json_object_set_new(json, parts[i][0], json_loads(parts[i][1], 0, &error));
	json_object_set_new(model, "dropout", json_null());
	json_object_set_new(model, "continuing_subword_prefix", json_string(""));
	json_object_set_new(model, "byte_fallback", json_false());
	if (parse(json, &why, &tokenizer) != ERR_OK)
		fail_msg("%s", why.text);
	struct tokens composed = {0}, apart = {0};
	const struct tokenizer_encode_options special = {.parse_special = true};
	assert_int_equal(tokenizer_encode(tokenizer, "\xc3\xa9<n> <w> x", 11, &special, &composed), ERR_OK);
	assert_int_equal(tokenizer_encode(tokenizer, "e\xcc\x81<n> <w> x", 12, &special, &apart), ERR_OK);
	assert_int_equal(apart.count, composed.count);
	assert_memory_equal(apart.ids, composed.ids, composed.count * sizeof(*composed.ids));
	assert_int_equal(composed.ids[composed.count - 2], 1999); /* it took the spaces beside it */
	assert_int_equal(composed.ids[composed.count - 3], 1998);
	tokens_fini(&composed);
	tokens_fini(&apart);
	tokenizer_destroy(tokenizer);
	json_decref(json);
}

static void a_file_that_is_no_tokenizer_is_refused(void **state)
{
	struct tokenizer *tokenizer;
	struct why why = {0};
	assert_int_equal(tokenizer_parse("", 0, &why, &tokenizer), ERR_INVALID);
	assert_int_equal(tokenizer_parse("[]", 2, &why, &tokenizer), ERR_INVALID);
	assert_int_equal(tokenizer_parse("{}", ((size_t)64 << 20) + 1, &why, &tokenizer), ERR_TOO_LARGE);
	assert_int_equal(tokenizer_load("/nowhere/tokenizer.json", &why, &tokenizer), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, "/nowhere/tokenizer.json"));
	assert_int_equal(tokenizer_load(GOLDEN_DIR "/tokenizer/patterns.json", &why, &tokenizer), ERR_INVALID);
	assert_non_null(strstr(why.text, "patterns.json"));
	tokenizer_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_expression_cuts_as_in_the_library),
		cmocka_unit_test(a_single_word_stands_between_no_words),
		cmocka_unit_test(an_expression_that_has_no_equal_is_refused_by_name),
		cmocka_unit_test(an_expression_that_is_none_is_refused),
		cmocka_unit_test(an_expression_has_more_stack_when_it_needs_it_and_a_bounded_time),
		cmocka_unit_test(an_expression_has_a_length),
		cmocka_unit_test(a_part_that_is_wrong_is_refused_by_its_place),
		cmocka_unit_test(what_is_deeper_or_longer_than_anybody_writes_is_refused),
		cmocka_unit_test(a_template_adds_tokens_on_both_sides),
		cmocka_unit_test(a_file_that_says_little_in_many_words_is_taken),
		cmocka_unit_test(a_file_that_is_no_tokenizer_is_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
