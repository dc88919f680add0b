/* The options of tokenizer.json one by one: what a decoder, a normalizer and a table of characters make of a text, and which
 * key is named where an option is malformed or one that we lack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/charsmap.h"
#include "model/decoder.h"
#include "model/normalizer.h"
#include "model/tokenizer.h"

/* A small tokenizer with one part of it replaced. */
static enum err load_with(const char *key, const char *part, struct why *why)
{
	json_t *root = json_loads("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<unk>\":3},\"merges\":[\"a b\"],"
				  "\"unk_token\":\"<unk>\"},\"decoder\":{\"type\":\"Fuse\"}}", 0, NULL);
	json_t *value = json_loads(part, JSON_DECODE_ANY, NULL);
	if (!value)
		fail_msg("%s is no JSON", part);
	if (strcmp(key, "Unigram") == 0) {
		json_object_set_new(value, "type", json_string(key));
		key = "model";
	}
	json_object_set_new(root, key, value);
	char *text = json_dumps(root, 0);
	struct tokenizer *tokenizer = NULL;
	enum err e = tokenizer_parse(text, strlen(text), why, &tokenizer);
	tokenizer_destroy(tokenizer);
	free(text);
	json_decref(root);
	return e;
}

struct refusal {
	const char *part, *words; /* NULL: it is taken */
};

static void are_refused(const char *key, const struct refusal *cases, size_t count)
{
	size_t wrong = 0;
	for (size_t i = 0; i < count; i++) {
		struct why why = {0};
		enum err e = load_with(key, cases[i].part, &why);
		bool good = cases[i].words ? e != ERR_OK && strstr(why.text, cases[i].words) : e == ERR_OK;
		if (!good)
			print_error("%s: %s gives %s \"%s\", expected \"%s\"\n", key, cases[i].part, err_name(e), why.text,
				    cases[i].words ? cases[i].words : "nothing");
		wrong += !good;
	}
	assert_int_equal(wrong, 0);
}
#define ARE_REFUSED(key, cases) are_refused(key, cases, sizeof(cases) / sizeof((cases)[0]))

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"b\"}"
#define STRIP(start, stop) "{\"type\":\"Strip\",\"content\":\" \",\"start\":" start ",\"stop\":" stop "}"
#define SEQUENCE(list, steps) "{\"type\":\"Sequence\",\"" list "\":[" steps "]}"

static void a_wrong_decoder_is_named(void **state)
{
	static const struct refusal cases[] = {
		{"null", "without one no text is known"}, {"3", "without one no text is known"}, {"{}", "type"},
		{"{\"type\":5}", "type"}, {"{\"type\":\"WordPiece\"}", "ByteLevel, Replace"},
		{"{\"type\":\"Sequence\"}", "decoders"}, {"{\"type\":\"Sequence\",\"decoders\":3}", "decoders"},
		{SEQUENCE("decoders", SEQUENCE("decoders", SEQUENCE("decoders", SEQUENCE("decoders", "{\"type\":\"Fuse\"}")))), NULL},
		{SEQUENCE("decoders", SEQUENCE("decoders", SEQUENCE("decoders", SEQUENCE("decoders", SEQUENCE("decoders",
		 SEQUENCE("decoders", "{\"type\":\"Fuse\"}")))))), "nested at most 4 deep"},
		{"{\"type\":\"Replace\",\"content\":\"b\"}", "pattern"},
		{"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"b\"}", "pattern"},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"b\"}", "a string of 1 to 63 bytes"},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}", "content"},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"" X64 "\"}", "a string of at most 63 bytes"},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"" X64 "\"},\"content\":\"\"}", "a string of 1 to 63 bytes"},
		{"{\"type\":\"Metaspace\"}", "replacement"}, {"{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", "one character"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"often\"}", "always, first or never"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}", NULL},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\",\"add_prefix_space\":true}", NULL},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}", "add_prefix_space"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false,\"prepend_scheme\":\"never\"}", NULL},
		{"{\"type\":\"Strip\",\"content\":\"\",\"start\":0,\"stop\":0}", "content"},
		{"{\"type\":\"Strip\",\"content\":\"ab\",\"start\":0,\"stop\":0}", "one character"},
		{"{\"type\":\"Strip\",\"content\":\"a\",\"start\":-1,\"stop\":0}", "start"},
		{"{\"type\":\"Strip\",\"content\":\"a\",\"start\":0}", "stop"},
		{SEQUENCE("decoders", "{\"type\":\"Fuse\"}," REPLACE), "at most one Strip behind Fuse"},
		{SEQUENCE("decoders", "{\"type\":\"Fuse\"}," STRIP("1", "0")), NULL},
		{SEQUENCE("decoders", "{\"type\":\"Fuse\"}," STRIP("1", "0") "," STRIP("1", "0")), "at most one Strip behind Fuse"},
		{SEQUENCE("decoders", "{\"type\":\"Fuse\"}," STRIP("1", "1")), "0 behind Fuse"},
		{SEQUENCE("decoders", REPLACE ",{\"type\":\"ByteLevel\"}"), "nothing but Fuse beside ByteLevel"},
		{SEQUENCE("decoders", "{\"type\":\"ByteFallback\"},{\"type\":\"ByteLevel\"}"), "nothing but Fuse beside ByteLevel"},
		{SEQUENCE("decoders", "{\"type\":\"ByteLevel\"}," REPLACE), "nothing but Fuse beside ByteLevel"},
		{SEQUENCE("decoders", "{\"type\":\"ByteLevel\"},{\"type\":\"ByteLevel\"}"), "nothing but Fuse beside ByteLevel"},
		{SEQUENCE("decoders", "{\"type\":\"ByteLevel\"},{\"type\":\"Fuse\"}"), NULL},
		{SEQUENCE("decoders", "{\"type\":\"ByteFallback\"},{\"type\":\"ByteFallback\"}"), "ByteLevel, Replace"},
		{SEQUENCE("decoders", REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE), NULL},
		{SEQUENCE("decoders", REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE
			  "," REPLACE), "at most 8 steps"},
	};
	ARE_REFUSED("decoder", cases);
}

static void a_decoder_spells_a_token(void **state)
{
	static const struct {
		const char *decoder, *spelling, *expected, *first;
	} cases[] = {
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "_a_b", " a b", "ab"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\"}", "_a_b", " a b", " a b"},
		{REPLACE, "aca", "bcb", "bcb"}, {REPLACE, "c", "c", "c"}, {REPLACE, "", "", ""},
		{STRIP("1", "2"), "  a   ", " a ", " a "}, {STRIP("3", "9"), "  ", "", ""}, {STRIP("0", "0"), " a ", " a ", " a "},
		{STRIP("2", "1"), "a", "a", "a"}, {STRIP("1", "1"), " ", "", ""},
		{SEQUENCE("decoders", REPLACE "," STRIP("1", "0") "," REPLACE), "  a", " b", " b"},
		{SEQUENCE("decoders", "{\"type\":\"ByteFallback\"}," REPLACE), "<0x4a>", "J", "<0x4b>"},
		{SEQUENCE("decoders", "{\"type\":\"ByteFallback\"}," REPLACE), "<0x4G>", "<0x4G>", "<0x4G>"},
		{SEQUENCE("decoders", "{\"type\":\"ByteFallback\"}," REPLACE), "<0xg4>", "<0xg4>", "<0xg4>"},
		{SEQUENCE("decoders", "{\"type\":\"ByteFallback\"}," REPLACE), "<0x41)", "<0x41)", "<0x41)"},
		{SEQUENCE("decoders", "{\"type\":\"ByteFallback\"}," REPLACE), "<1x41>", "<1x41>", "<1x41>"},
		{"{\"type\":\"ByteLevel\"}", "a\xc4\xa0", "a ", "a\xc4\xa0"},
		{"{\"type\":\"ByteLevel\"}", "a\xe2\x82\xac", "a\xe2\x82\xac", "a\xe2\x82\xac"},
		{"{\"type\":\"Fuse\"}", "ab", "ab", "ab"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *config = json_loads(cases[i].decoder, 0, NULL);
		struct decoder decoder = {0};
		struct buf text = {0}, first = {0};
		assert_int_equal(decoder_load(&decoder, config, NULL), ERR_OK);
		assert_int_equal(decoder_spell(&decoder, cases[i].spelling, strlen(cases[i].spelling), &text), ERR_OK);
		assert_int_equal(decoder_spell_first(&decoder, cases[i].spelling, strlen(cases[i].spelling), &first), ERR_OK);
		assert_int_equal(buf_text(&text, ""), ERR_OK);
		assert_int_equal(buf_text(&first, ""), ERR_OK);
		if (text.length != strlen(cases[i].expected) || (text.length && memcmp(text.data, cases[i].expected, text.length) != 0))
			fail_msg("%s of %s is %.*s", cases[i].decoder, cases[i].spelling, (int)text.length, text.data);
		if (first.length != strlen(cases[i].first) || (first.length && memcmp(first.data, cases[i].first, first.length) != 0))
			fail_msg("%s of a first %s is %.*s", cases[i].decoder, cases[i].spelling, (int)first.length, first.data);
		buf_fini(&text);
		buf_fini(&first);
		json_decref(config);
	}
}

#define NFC "{\"type\":\"NFC\"}"
#define NFC4 NFC "," NFC "," NFC "," NFC

static void a_wrong_normalizer_is_named(void **state)
{
	static const struct refusal cases[] = {
		{"null", NULL}, {"{\"type\":\"Nmt\"}", "NFC, NFD, NFKC, NFKD"}, {"{}", "type"}, {"{\"type\":\"Sequence\"}", "normalizers"},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}", "content"},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":5}", "content"},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"b\"}", "pattern"},
		{"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"b\"}", "normalizer"},
		{"{\"type\":\"Replace\",\"content\":\"b\"}", "pattern"},
		{"{\"type\":\"Prepend\"}", "prepend"}, {"{\"type\":\"Prepend\",\"prepend\":1}", "prepend"},
		{"{\"type\":\"Strip\",\"strip_left\":1}", "strip_left"},
		{"{\"type\":\"Precompiled\"}", "precompiled_charsmap"}, {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":1}", "precompiled_charsmap"},
		{"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A!\"}", "expected base64"},
		{"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}", "3 bytes with a table of 0"},
		{SEQUENCE("normalizers", NFC4 "," NFC4 "," NFC4 "," NFC4), NULL},
		{SEQUENCE("normalizers", NFC4 "," NFC4 "," NFC4 "," NFC4 "," NFC), "at most 16 steps"},
	};
	ARE_REFUSED("normalizer", cases);
}

static void a_normalizer_makes_a_text(void **state)
{
	static const struct {
		const char *normalizer, *text, *expected;
		bool from_start;
	} cases[] = {
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"ab\"},\"content\":\"c\"}", "abxab", "cxc", false},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"c\"}", "axa", "cxc", true},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"\"}", "ax", "x", false},
		{"{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"\"}", "axb", "ab", true},
		{"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"^\"},\"content\":\"_\"}", "ab", "_ab", true},
		{"{\"type\":\"Strip\"}", " \t a b \n", "a b", false}, {"{\"type\":\"Strip\"}", "a ", "a", true}, {"{\"type\":\"Strip\"}", "  ", "", false},
		{"{\"type\":\"Strip\",\"strip_left\":false}", " a ", " a", true}, {"{\"type\":\"Strip\",\"strip_right\":false}", " a ", "a ", false},
		{"{\"type\":\"StripAccents\"}", "\xcc\x81" "ab", "ab", false}, {"{\"type\":\"StripAccents\"}", "a\xcc\x81\xe2\x83\x9d" "b", "ab", true},
		{"{\"type\":\"StripAccents\"}", "", "", true}, {"{\"type\":\"StripAccents\"}", "\xcc\x81", "", false},
		{"{\"type\":\"Prepend\",\"prepend\":\"_\"}", "a", "_a", true}, {"{\"type\":\"Prepend\",\"prepend\":\"_\"}", "", "", true},
		{"{\"type\":\"Lowercase\"}", "A\xc4\xb0\xc3\x89", "ai\xcc\x87\xc3\xa9", true},
		{"{\"type\":\"NFD\"}", "\xc3\xa9", "e\xcc\x81", true}, {"{\"type\":\"NFC\"}", "e\xcc\x81", "\xc3\xa9", true},
		{"{\"type\":\"NFKD\"}", "\xef\xac\x81", "fi", true}, {"{\"type\":\"NFKC\"}", "\xef\xac\x81" "e\xcc\x81", "fi\xc3\xa9", true},
	};
	struct regex_scratch *scratch = NULL;
	assert_int_equal(regex_scratch_create(&scratch), ERR_OK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *config = json_loads(cases[i].normalizer, 0, NULL);
		struct normalizer normalizer = {0};
		struct normal_text normal = {.from_start = true};
		assert_int_equal(normalizer_load(&normalizer, config, NULL), ERR_OK);
		assert_int_equal(normalizer_run(&normalizer, scratch, cases[i].text, strlen(cases[i].text), &normal), ERR_OK);
		if (normal.text.length != strlen(cases[i].expected) ||
		    (normal.text.length && memcmp(normal.text.data, cases[i].expected, normal.text.length) != 0))
			fail_msg("%s of %s is %.*s", cases[i].normalizer, cases[i].text, (int)normal.text.length, normal.text.data);
		if (normal.from_start != cases[i].from_start)
			fail_msg("%s of %s: from_start %d", cases[i].normalizer, cases[i].text, normal.from_start);
		normal_text_fini(&normal);
		normalizer_fini(&normalizer);
		json_decref(config);
	}
	regex_scratch_destroy(scratch);
}

static void a_wrong_pretokenizer_is_named(void **state)
{
#define DIGITS "{\"type\":\"Digits\"}"
	static const struct refusal cases[] = {
		{"null", NULL}, {"{\"type\":\"BertPreTokenizer\"}", "Sequence, Split, Digits"},
		{"{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"}}", "behavior"},
		{"{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Gone\"}", "Removed, Isolated"},
		{"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[\"},\"behavior\":\"Removed\"}", "pre_tokenizer"},
		{"{\"type\":\"Split\",\"behavior\":\"Removed\"}", "pattern"},
		{"{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Removed\",\"invert\":3}", "invert"},
		{"{\"type\":\"Metaspace\"}", "replacement"}, {"{\"type\":\"Metaspace\",\"replacement\":\"\"}", "one character"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", "one character"}, {"{\"type\":\"Metaspace\",\"replacement\":\"abcde\"}", "one character"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"often\"}", "always, first or never"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":7}", "prepend_scheme"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}", "add_prefix_space"},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\",\"add_prefix_space\":false}", NULL},
		{"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\",\"split\":false}", NULL},
		{"{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}", NULL}, {"{\"type\":\"Punctuation\"}", NULL},
		{"{\"type\":\"Punctuation\",\"behavior\":\"Kept\"}", "behavior"}, {"{\"type\":\"Digits\",\"individual_digits\":0}", "individual_digits"},
		{SEQUENCE("pretokenizers", DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS), NULL},
		{SEQUENCE("pretokenizers", DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS),
		 "at most 8 steps"},
		{SEQUENCE("pretokenizers", "{\"type\":\"ByteLevel\"}," DIGITS), "nothing behind ByteLevel"},
	};
	ARE_REFUSED("pre_tokenizer", cases);
}

#define MODEL(vocab, merges) "{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}"
#define AB "\"a\":0,\"b\":1,\"ab\":2"

static void a_wrong_model_is_named(void **state)
{
	static const struct refusal cases[] = {
		{"{\"type\":\"WordPiece\"}", "\"BPE\" or \"Unigram\""}, {"{\"type\":3}", "type"}, {"{\"merges\":[],\"vocab\":{\"a\":0}}", NULL},
		{"{\"vocab\":{\"a\":0}}", "merges"}, {"{\"merges\":[]}", "vocab"}, {"{\"merges\":[],\"vocab\":3}", "vocab"},
		{MODEL("", ""), "vocab"}, {MODEL("\"a\":-1", ""), "expected an id below"}, {MODEL("\"a\":2097152", ""), "expected an id below"},
		{MODEL("\"a\":\"0\"", ""), "expected an id below"}, {MODEL("\"a\":0,\"b\":0", ""), "vocab"},
		{MODEL(AB, "3"), "merges[0]: expected"}, {MODEL(AB, "\"ab\""), "merges[0]: expected"}, {MODEL(AB, "\"a b\",\"a b c\""), "merges[1]: expected"},
		{MODEL(AB, "[\"a\"]"), "merges[0]: expected"}, {MODEL(AB, "[\"a\",1]"), "merges[0]: expected"}, {MODEL(AB, "[1,\"b\"]"), "merges[0]: expected"},
		{MODEL(AB, "[\"a\",\"b\",\"\"]"), "merges[0]: expected"},
		{MODEL(AB, "[\"a\",\"b\"]"), NULL}, {MODEL(AB, "\"b a\""), "must be in vocab"}, {MODEL(AB, "\"a c\""), "must be in vocab"},
		{MODEL(AB, "\"c b\""), "must be in vocab"}, {MODEL(AB ",\"\":3", "\" ab\""), "must be in vocab"}, {MODEL(AB ",\"\":3", "\"ab \""), "must be in vocab"},
		{MODEL("\"xa\":0,\"b\":1,\"xab\":2", "\"xa b\""), NULL}, {MODEL("\"a\":0,\"by\":1,\"aby\":2", "\"a by\""), NULL},
		{MODEL("\"a\":0,\"<0x41>\":1,\"a<0x41>\":2", "\"a <0x41>\""), NULL},
		{"{\"vocab\":{" AB "},\"merges\":[],\"dropout\":0.5}", "dropout"}, {"{\"vocab\":{" AB "},\"merges\":[],\"dropout\":2}", "dropout"},
		{"{\"vocab\":{" AB "},\"merges\":[],\"continuing_subword_prefix\":\"##\"}", "continuing_subword_prefix"},
		{"{\"vocab\":{" AB "},\"merges\":[],\"end_of_word_suffix\":\"\"}", NULL},
		{"{\"vocab\":{" AB "},\"merges\":[],\"unk_token\":\"zz\"}", "unk_token"}, {"{\"vocab\":{" AB "},\"merges\":[],\"byte_fallback\":1}", "byte_fallback"},
		{"{\"vocab\":{" AB "},\"merges\":[\"a b\"],\"unk_token\":\"a\"}", NULL},
	};
	static const struct refusal unigrams[] = {
		{"{\"vocab\":[[\"a\",-1],[\"b\",0.5]],\"unk_id\":0}", NULL}, {"{\"vocab\":[],\"unk_id\":0}", "vocab"}, {"{\"unk_id\":0}", "vocab"},
		{"{\"vocab\":[[\"a\",-1]],\"unk_id\":1}", "unk_id"}, {"{\"vocab\":[[\"a\",-1]]}", "unk_id"}, {"{\"vocab\":[3],\"unk_id\":0}", "vocab[0]: expected"},
		{"{\"vocab\":[[\"a\",-1],[\"b\"]],\"unk_id\":0}", "vocab[1]: expected"}, {"{\"vocab\":[[1,-1]],\"unk_id\":0}", "vocab[0]: expected"},
		{"{\"vocab\":[[\"a\",\"b\"]],\"unk_id\":0}", "vocab[0]: expected"}, {"{\"vocab\":[[\"a\",1e101]],\"unk_id\":0}", "its score is"},
		{"{\"vocab\":[[\"a\",1e-101]],\"unk_id\":0}", "its score is"}, {"{\"vocab\":[[\"a\",0],[\"a\",1]],\"unk_id\":0}", "vocab"},
		{"{\"vocab\":[[\"a\",1e20],[\"b\",-1.5e-20],[\"c\",0.1]],\"unk_id\":0}", NULL}, {"{\"vocab\":[[\"a\",0],[\"\",-1]],\"unk_id\":0}", NULL},
	};
	ARE_REFUSED("model", cases);
	ARE_REFUSED("Unigram", unigrams);
}

#define SINGLE(parts, special) "{\"type\":\"TemplateProcessing\",\"single\":[" parts "],\"special_tokens\":{" special "}}"
#define A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define TOKEN "{\"SpecialToken\":{\"id\":\"a\",\"type_id\":0}}"
#define TOKEN4 TOKEN "," TOKEN "," TOKEN "," TOKEN

static void wrong_added_tokens_and_frames_are_named(void **state)
{
	static const struct refusal added[] = {
		{"[{\"id\":9,\"content\":\"<x>\"}]", NULL}, {"[{\"id\":9}]", "content"}, {"[{\"id\":9,\"content\":\"\"}]", NULL},
		{"[{\"id\":-1,\"content\":\"<x>\"}]", "id"}, {"[{\"content\":\"<x>\"}]", "id"}, {"[{\"id\":9,\"content\":\"<x>\",\"special\":1}]", "special"},
		{"[{\"id\":9,\"content\":\"<x>\"},{\"id\":9,\"content\":\"<x>\"}]", "comes twice"}, {"[{\"id\":0,\"content\":\"<x>\"}]", "as id 0"},
		{"[{\"id\":9,\"content\":\"a\"}]", "as id 9"}, {"[{\"id\":9,\"content\":\"<x>\",\"normalized\":\"no\"}]", "normalized"},
	};
	static const struct refusal frames[] = {
		{"null", NULL}, {"{\"type\":\"ByteLevel\"}", NULL}, {"{\"type\":\"RobertaProcessing\"}", "ByteLevel, TemplateProcessing"}, {"{\"type\":5}", "type"},
		{"{\"type\":\"Sequence\"}", "ByteLevel, TemplateProcessing"}, {SINGLE(A, ""), NULL}, {SINGLE("", ""), "once Sequence A"},
		{SINGLE(A "," A, ""), "once Sequence A"}, {SINGLE("{\"Sequence\":{\"id\":\"B\"}}", ""), "once Sequence A"}, {SINGLE("3", ""), "once Sequence A"},
		{SINGLE(TOKEN "," A, ""), "the ids of every token"}, {SINGLE(TOKEN "," A "," TOKEN, "\"a\":{\"ids\":[0]}"), NULL},
		{SINGLE(TOKEN "," A, "\"a\":{\"ids\":[]}"), "the ids of every token"}, {SINGLE(TOKEN "," A, "\"a\":{\"ids\":[77]}"), "ids of the vocabulary"},
		{SINGLE(TOKEN "," A, "\"a\":{\"ids\":[\"0\"]}"), "ids of the vocabulary"}, {SINGLE(TOKEN "," A, "\"a\":{\"ids\":[-1]}"), "ids of the vocabulary"},
		{SINGLE(TOKEN "," A, "\"a\":{\"ids\":[2097152]}"), "ids of the vocabulary"},
		{SINGLE(TOKEN4 "," TOKEN4 "," TOKEN4 "," TOKEN4 "," A, "\"a\":{\"ids\":[0]}"), NULL},
		{SINGLE(A "," TOKEN4 "," TOKEN4 "," TOKEN4 "," TOKEN4 "," TOKEN, "\"a\":{\"ids\":[0]}"), "at most 16 tokens around the text"},
		{SEQUENCE("processors", SINGLE(A, "") "," SINGLE(A, "")), "in one TemplateProcessing"}, {SEQUENCE("processors", "null,3"), "type"},
		{SEQUENCE("processors", SEQUENCE("processors", SEQUENCE("processors", SEQUENCE("processors", SEQUENCE("processors", ""))))), "ByteLevel, TemplateProcessing"},
	};
	ARE_REFUSED("added_tokens", added);
	ARE_REFUSED("post_processor", frames);
}

/* ---- a table of characters: a double array of 128 units at 0, in which "a" leads to a text */

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static enum err load_table(struct charsmap *map, const uint32_t *units, uint32_t count, const char *texts, size_t length,
			   struct why *why)
{
	uint8_t bytes[1024];
	char base64[1400];
	uint32_t size = count * 4, at = 0, n = 0, bits = 0, have = 0;
	for (uint32_t i = 0; i <= count; i++)
		for (uint32_t k = 0; k < 4; k++)
			bytes[n++] = (uint8_t)((i ? units[i - 1] : size) >> 8 * k);
	memcpy(bytes + n, texts, length);
	for (uint32_t i = 0; i < n + length; i++) {
		bits = bits << 8 | bytes[i];
		for (have += 8; have >= 6; have -= 6)
			base64[at++] = letters[bits >> (have - 6) & 63];
	}
	if (have)
		base64[at++] = letters[bits << (6 - have) & 63];
	base64[at++] = '=';
	base64[at] = 0;
	return charsmap_load(map, base64, why);
}

/* "a" becomes what stands at `value` of the texts. */
static void a_becomes(uint32_t leaf, uint32_t value, const char *expected)
{
	static const char texts[] = "x\0\xc3\xa9+";
	uint32_t units[128] = {0};
	struct charsmap map = {0};
	struct buf out = {0};
	struct why why = {0};
	units['a'] = 'a' | 0x100 | (leaf ^ 'a') << 10;
	units[16] = value;
	assert_int_equal(load_table(&map, units, 128, texts, sizeof(texts), &why), ERR_OK);
	assert_int_equal(charsmap_apply(&map, "ab\xe2\x82\xac", 5, &out), ERR_OK);
	assert_int_equal(buf_text(&out, ""), ERR_OK);
	assert_string_equal(out.data, expected);
	buf_fini(&out);
	charsmap_fini(&map);
}

static void a_table_replaces_what_it_has(void **state)
{
	a_becomes(16, 0, "xb\xe2\x82\xac");
	a_becomes(16, 1, "b\xe2\x82\xac");
	a_becomes(16, 2, "\xc3\xa9+b\xe2\x82\xac");
	/* into the middle of a character, behind the texts, outside of the table: as if it were not there */
	a_becomes(16, 3, "ab\xe2\x82\xac");
	a_becomes(16, 600, "ab\xe2\x82\xac");
	a_becomes(1000, 0, "ab\xe2\x82\xac");
}

static void a_wrong_table_is_refused(void **state)
{
	static const char *const cases[][2] = {
		{"", "0 bytes with a table of 0"}, {"AAAAAA==", "4 bytes with a table of 0"}, {"BQAAAAAAAAAA", "9 bytes with a table of 5"},
		{"CAAAAAAAAAA=", "8 bytes with a table of 8"}, {"AgAAAAAAAAAA", "with a table of 2"}, {"a-b", "expected base64"}, {"+/09az*", "expected base64"},
	};
	struct charsmap map = {0};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct why why = {0};
		assert_int_equal(charsmap_load(&map, cases[i][0], &why), ERR_INVALID);
		if (!strstr(why.text, cases[i][1]))
			fail_msg("%s gives \"%s\"", cases[i][0], why.text);
		charsmap_fini(&map);
	}
	struct why why = {0};
	assert_int_equal(load_table(&map, (uint32_t[]){0}, 1, "\xff", 2, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "its replacements are no UTF-8"));
	charsmap_fini(&map);
	struct buf out = {0};
	assert_int_equal(load_table(&map, (uint32_t[]){0}, 1, "", 1, &why), ERR_OK);
	assert_int_equal(charsmap_apply(&map, "a\xff", 2, &out), ERR_INVALID);
	charsmap_fini(&map);
	buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wrong_decoder_is_named),
		cmocka_unit_test(a_decoder_spells_a_token),
		cmocka_unit_test(a_wrong_normalizer_is_named),
		cmocka_unit_test(a_normalizer_makes_a_text),
		cmocka_unit_test(a_wrong_pretokenizer_is_named),
		cmocka_unit_test(a_wrong_model_is_named),
		cmocka_unit_test(wrong_added_tokens_and_frames_are_named),
		cmocka_unit_test(a_table_replaces_what_it_has),
		cmocka_unit_test(a_wrong_table_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
