#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/rng.h"
#include "model/detokenize.h"
#include "model/tokenizer.h"
#include "tests/model/golden.h"

static const char *const names[] = {"gpt2", "gpt2_prefix_space", "llama3", "qwen2", "splits", "tekken", "o200k",
				    "deepseek_v2", "deepseek_v3", "llama2", "mistral_v3", "phi3", "gemma", "words", "t5",
				    "xlm_roberta", "unigram_bytes"};
#define NAME_COUNT (sizeof(names) / sizeof(names[0]))

static const struct tokenizer_encode_options full = {true, true}, plain = {false, false};

static struct tokenizer *load(const char *name)
{
	char path[4096];
	struct why why = {0};
	struct tokenizer *tokenizer = NULL;
	snprintf(path, sizeof(path), "%s/tokenizer/%s.json", GOLDEN_DIR, name);
	if (tokenizer_load(path, &why, &tokenizer) != ERR_OK)
		print_error("%s\n", why.text);
	assert_non_null(tokenizer);
	return tokenizer;
}

static size_t from_hex(const char *hex, char *bytes)
{
	size_t length = strlen(hex) / 2;
	for (size_t i = 0; i < length; i++) {
		unsigned value;
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &value), 1);
		bytes[i] = (char)value;
	}
	return length;
}

static void assert_decodes(const char *name, const struct tokenizer *tokenizer, const struct tokens *tokens,
			   const json_t *test, const char *key)
{
	struct buf text = {0};
	const json_t *expected = json_object_get(test, key);
	bool skip = strcmp(key, "decoded_skip") == 0;
	assert_int_equal(detokenize(tokenizer, tokens->ids, tokens->count, skip, &text), ERR_OK);
	bool same = text.length == json_string_length(expected) &&
		    (!text.length || memcmp(text.data, json_string_value(expected), text.length) == 0);
	if (!same)
		print_error("%s: %s: \"%s\", expected \"%s\"\n", name, key, text.data, json_string_value(expected));
	assert_true(same);
	buf_fini(&text);
}

static void check_decoding(const char *name, const struct tokenizer *tokenizer, const json_t *test)
{
	struct tokens tokens = {0};
	const json_t *ids = json_object_get(test, "ids");
	for (size_t i = 0; i < json_array_size(ids); i++)
		assert_int_equal(tokens_add(&tokens, (uint32_t)json_integer_value(json_array_get(ids, i))), ERR_OK);
	assert_decodes(name, tokenizer, &tokens, test, "decoded");
	assert_decodes(name, tokenizer, &tokens, test, "decoded_skip");
	tokens_fini(&tokens);
}

static bool ids_equal(const struct tokens *tokens, const json_t *expected)
{
	if (tokens->count != json_array_size(expected))
		return false;
	for (size_t i = 0; i < tokens->count; i++)
		if (tokens->ids[i] != json_integer_value(json_array_get(expected, i)))
			return false;
	return true;
}

static void check_case(const char *name, const struct tokenizer *tokenizer, const json_t *test)
{
	char text[4096];
	const char *hex = json_string_value(json_object_get(test, "hex"));
	size_t length = from_hex(hex, text);
	struct tokens tokens = {0};
	assert_int_equal(tokenizer_encode(tokenizer, text, length, &plain, &tokens), ERR_OK);
	bool same = ids_equal(&tokens, json_object_get(test, "plain"));
	tokens_clear(&tokens);
	assert_int_equal(tokenizer_encode(tokenizer, text, length, &full, &tokens), ERR_OK);
	same = same && ids_equal(&tokens, json_object_get(test, "full"));
	if (!same)
		print_error("%s: %s: other ids\n", name, hex);
	assert_true(same);
	assert_decodes(name, tokenizer, &tokens, test, "decoded");
	assert_decodes(name, tokenizer, &tokens, test, "decoded_skip");
	tokens_fini(&tokens);
}

static void golden_texts_give_the_ids_and_the_text_of_hugging_face(void **state)
{
	for (size_t i = 0; i < NAME_COUNT; i++) {
		char file[64];
		struct tokenizer *tokenizer = load(names[i]);
		snprintf(file, sizeof(file), "tokenizer/%s.cases.json", names[i]);
		json_t *root = golden_read(file);
		const json_t *cases = json_object_get(root, "cases");
		assert_true(json_array_size(cases) > 40);
		for (size_t c = 0; c < json_array_size(cases); c++)
			check_case(names[i], tokenizer, json_array_get(cases, c));
		const json_t *decodings = json_object_get(root, "decodings");
		assert_true(json_array_size(decodings) > 40);
		for (size_t c = 0; c < json_array_size(decodings); c++)
			check_decoding(names[i], tokenizer, json_array_get(decodings, c));
		json_decref(root);
		tokenizer_destroy(tokenizer);
	}
}

static void added_tokens_are_found_only_when_asked_for(void **state)
{
	struct tokenizer *tokenizer = load("gpt2");
	struct tokens tokens = {0};
	uint32_t eot;
	assert_int_equal(tokenizer_find(tokenizer, "<|eot|>", &eot), ERR_OK);
	assert_int_equal(tokenizer_find(tokenizer, "<|none|>", &eot), ERR_NOT_FOUND);
	assert_true(tokenizer_is_special(tokenizer, eot));
	assert_false(tokenizer_is_special(tokenizer, 0));
	assert_int_equal(tokenizer_encode(tokenizer, "<|eot|>", 7, &full, &tokens), ERR_OK);
	assert_int_equal(tokens.count, 1);
	assert_int_equal(tokens.ids[0], eot);
	tokens_clear(&tokens);
	assert_int_equal(tokenizer_encode(tokenizer, "<|eot|>", 7, &plain, &tokens), ERR_OK);
	assert_true(tokens.count > 1);
	const uint8_t *bytes;
	size_t length;
	assert_int_equal(tokenizer_token_bytes(tokenizer, tokenizer_vocab_size(tokenizer), &bytes, &length),
			 ERR_NOT_FOUND);
	tokens_fini(&tokens);
	tokenizer_destroy(tokenizer);
}

static bool is_utf8(const struct buf *text)
{
	json_t *json = json_stringn(text->data ? text->data : "", text->length);
	bool valid = json != NULL;
	json_decref(json);
	return valid;
}

/* Random ids, so that characters are cut in all ways, valid or not. */
static void stream_is_whole_characters_and_joins_to_the_whole(void **state)
{
	struct tokenizer *tokenizer = load("llama3");
	struct rng rng = {.seed = 7};
	for (int round = 0; round < 2000; round++) {
		uint32_t ids[12];
		struct buf whole = {0}, joined = {0};
		struct detokenizer stream;
		detokenizer_init(&stream, tokenizer, round % 2);
		for (size_t i = 0; i < 12; i++) {
			struct buf piece = {0};
			ids[i] = (uint32_t)rng_below(&rng, round % 3 ? 256 : tokenizer_vocab_size(tokenizer) + 1);
			assert_int_equal(detokenizer_feed(&stream, ids[i], &piece), ERR_OK);
			assert_true(is_utf8(&piece));
			assert_int_equal(buf_append(&joined, piece.data, piece.length), ERR_OK);
			buf_fini(&piece);
		}
		assert_int_equal(detokenizer_finish(&stream, &joined), ERR_OK);
		detokenizer_fini(&stream);
		assert_int_equal(detokenize(tokenizer, ids, 12, round % 2, &whole), ERR_OK);
		assert_int_equal(joined.length, whole.length);
		assert_string_equal(joined.data ? joined.data : "", whole.data ? whole.data : "");
		buf_fini(&whole);
		buf_fini(&joined);
	}
	tokenizer_destroy(tokenizer);
}

static void feed_that_finds_no_room_changes_nothing(void **state)
{
	struct tokenizer *tokenizer = load("gpt2");
	struct tokens tokens = {0};
	struct buf text = {.limit = 2};
	struct detokenizer stream;
	assert_int_equal(tokenizer_encode(tokenizer, "abc", 3, &plain, &tokens), ERR_OK);
	detokenizer_init(&stream, tokenizer, false);
	enum err e = ERR_OK;
	size_t before = 0;
	for (size_t i = 0; i < tokens.count && e == ERR_OK; i++) {
		before = text.length;
		e = detokenizer_feed(&stream, tokens.ids[i], &text);
	}
	assert_int_equal(e, ERR_TOO_LARGE);
	assert_int_equal(text.length, before);
	detokenizer_fini(&stream);
	buf_fini(&text);
	tokens_fini(&tokens);
	tokenizer_destroy(tokenizer);
}

/* A megabyte of each of the inputs that a quadratic step anywhere would take minutes for. */
static void long_runs_of_one_kind_take_linear_time(void **state)
{
	static const char *const units[] = {"a", " ", "\n", "\xcc\x80\xcc\x96", "<|eot", "ab", "\xff", " \n", "1", "!"};
	const size_t length = 1 << 20;
	char *text = malloc(length);
	struct tokenizer *tokenizer = load("qwen2");
	for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
		struct tokens tokens = {0};
		struct buf decoded = {0};
		size_t unit = strlen(units[u]), used = length / unit * unit;
		for (size_t i = 0; i < used; i++)
			text[i] = units[u][i % unit];
		assert_int_equal(tokenizer_encode(tokenizer, text, used, &plain, &tokens), ERR_OK);
		assert_int_equal(detokenize(tokenizer, tokens.ids, tokens.count, false, &decoded), ERR_OK);
		if (units[u][0] == '\xff')
			assert_int_equal(decoded.length, 3 * used);
		else
			assert_int_equal(decoded.length, used);
		buf_fini(&decoded);
		tokens_fini(&tokens);
	}
	tokenizer_destroy(tokenizer);
	free(text);
}

static void text_over_the_limit_is_refused_unread(void **state)
{
	struct tokenizer *tokenizer = load("gpt2");
	struct tokens tokens = {0};
	assert_int_equal(tokenizer_encode(tokenizer, "", TOKENIZER_TEXT_MAX + 1, &plain, &tokens), ERR_TOO_LARGE);
	assert_int_equal(tokens.count, 0);
	tokenizer_destroy(tokenizer);
}

struct worker {
	const struct tokenizer *tokenizer;
	uint64_t sum;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	const char *text = "Many threads, one tokenizer: 日本語 <|eot|> it's   1234";
	for (int i = 0; i < 200; i++) {
		struct tokens tokens = {0};
		if (tokenizer_encode(worker->tokenizer, text, strlen(text), &full, &tokens) != ERR_OK)
			return NULL;
		for (size_t t = 0; t < tokens.count; t++)
			worker->sum = rng_mix(worker->sum ^ tokens.ids[t]);
		tokens_fini(&tokens);
	}
	return NULL;
}

static void threads_share_one_tokenizer(void **state)
{
	struct tokenizer *tokenizer = load("llama3");
	struct worker workers[4] = {{tokenizer}, {tokenizer}, {tokenizer}, {tokenizer}};
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 1; i < 4; i++)
		assert_true(workers[i].sum == workers[0].sum && workers[0].sum != 0);
	tokenizer_destroy(tokenizer);
}

/* One change to a good file, and the words that the reason must have. */
static void assert_refused(const json_t *good, const char *path, const char *key, const char *value,
			   const char *expected)
{
	json_t *root = json_deep_copy(good);
	json_t *object = *path ? json_object_get(root, path) : root;
	assert_int_equal(json_object_set_new(object, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
	char *json = json_dumps(root, 0);
	struct why why = {0};
	struct tokenizer *tokenizer = NULL;
	assert_int_not_equal(tokenizer_parse(json, strlen(json), &why, &tokenizer), ERR_OK);
	if (!strstr(why.text, expected))
		print_error("\"%s\" lacks \"%s\"\n", why.text, expected);
	assert_non_null(strstr(why.text, expected));
	free(json);
	json_decref(root);
}

static void what_the_file_asks_for_and_we_lack_is_named(void **state)
{
	json_t *good = golden_read("tokenizer/llama3.json");
	assert_refused(good, "model", "type", "\"WordPiece\"", "model: type is \"WordPiece\"");
	assert_refused(good, "model", "dropout", "0.1", "model: dropout is 0.1");
	assert_refused(good, "model", "end_of_word_suffix", "\"</w>\"", "model: end_of_word_suffix is \"</w>\"");
	assert_refused(good, "model", "vocab", "{\"a\": 0}", "byte 0x00");
	assert_refused(good, "model", "vocab", "{\"a\": 0, \"b\": 0}", "vocab: \"b\"");
	assert_refused(good, "model", "vocab", "{\"a\": 99999999}", "vocab: \"a\"");
	assert_refused(good, "model", "merges", "[\"a b c\"]", "merges[0]");
	assert_refused(good, "model", "merges", "[[\"zz\", \"qq\"]]", "merges[0]");
	assert_refused(good, "", "normalizer", "{\"type\": \"Nmt\"}", "normalizer: type is \"Nmt\"");
	assert_refused(good, "", "pre_tokenizer", "{\"type\": \"UnicodeScripts\"}",
		       "pre_tokenizer: type is \"UnicodeScripts\"");
	assert_refused(good, "", "pre_tokenizer",
		       "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a&&b]\"}, \"behavior\": \"Isolated\"}",
		       "&& in a class");
	assert_refused(good, "", "pre_tokenizer",
		       "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a\"}, \"behavior\": \"Isolated\"}", "regex");
	assert_refused(good, "", "decoder", "{\"type\": \"WordPiece\"}", "decoder: type");
	assert_refused(good, "", "post_processor", "{\"type\": \"BertProcessing\"}", "post_processor: type");
	assert_refused(good, "", "added_tokens", "[{\"id\": 0, \"content\": \"<x>\"}]", "<x>");
	assert_refused(good, "", "added_tokens",
		       "[{\"id\": 999, \"content\": \"<x>\"}, {\"id\": 999, \"content\": \"<x>\"}]", "<x>\" comes twice");
	json_decref(good);
}

static void every_cut_of_a_file_is_refused(void **state)
{
	json_t *good = golden_read("tokenizer/gpt2.json");
	char *json = json_dumps(good, 0);
	struct tokenizer *tokenizer = NULL;
	for (size_t length = 0; length < strlen(json); length += 97)
		assert_int_not_equal(tokenizer_parse(json, length, NULL, &tokenizer), ERR_OK);
	free(json);
	json_decref(good);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_texts_give_the_ids_and_the_text_of_hugging_face),
		cmocka_unit_test(added_tokens_are_found_only_when_asked_for),
		cmocka_unit_test(stream_is_whole_characters_and_joins_to_the_whole),
		cmocka_unit_test(feed_that_finds_no_room_changes_nothing),
		cmocka_unit_test(long_runs_of_one_kind_take_linear_time),
		cmocka_unit_test(text_over_the_limit_is_refused_unread),
		cmocka_unit_test(threads_share_one_tokenizer),
		cmocka_unit_test(what_the_file_asks_for_and_we_lack_is_named),
		cmocka_unit_test(every_cut_of_a_file_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
