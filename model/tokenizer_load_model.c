/* tokenizer_load_model - the model of tokenizer.json: BPE or Unigram, and its vocabulary. */
#include <stdio.h>
#include <string.h>

#include "model/json_in.h"
#include "model/tokenizer_impl.h"
#include "model/utf8.h"

static enum err add_spelling(struct json_in *in, struct tokenizer *tokenizer, const char *spelling, uint32_t id)
{
	enum err e = vocab_add(&tokenizer->vocab, spelling, strlen(spelling), id);
	return e == ERR_OK ? ERR_OK : why_set(in->why, e, "%s: vocab: \"%.80s\": id %u: %s", in->file, spelling, id,
					      err_text(e));
}

/* ---- bytes and the unknown token */

/* Every byte that UTF-8 can hold is a token, so that no text can be lost. */
static enum err find_letters(struct json_in *in, struct tokenizer *tokenizer)
{
	struct buf spelling = {0};
	enum err e = ERR_OK;
	for (int byte = 0; byte < 256 && e == ERR_OK; byte++) {
		uint32_t *id = &tokenizer->byte_ids[byte];
		buf_clear(&spelling);
		e = byte_level_spell(&spelling, &(char){(char)byte}, 1);
		if (e != ERR_OK)
			break;
		*id = vocab_find(&tokenizer->vocab, spelling.data, spelling.length);
		bool occurs = byte < 0xc0 || (byte > 0xc1 && byte < 0xf5);
		if (*id == VOCAB_NONE && occurs)
			e = why_set(in->why, ERR_UNSUPPORTED,
				    "%s: vocab: byte 0x%02x (\"%s\") is no token, expected a byte-level vocabulary",
				    in->file, byte, spelling.data);
		else if (*id == VOCAB_NONE)
			*id = 0;
	}
	buf_fini(&spelling);
	return e;
}

/* True: every byte has its token. */
static bool find_fallbacks(struct tokenizer *tokenizer)
{
	bool all = true;
	for (int byte = 0; byte < 256; byte++) {
		char spelling[8];
		snprintf(spelling, sizeof(spelling), "<0x%02X>", byte);
		tokenizer->byte_ids[byte] = vocab_find(&tokenizer->vocab, spelling, 6);
		all &= tokenizer->byte_ids[byte] != VOCAB_NONE;
	}
	return all;
}

static void find_unknown(struct json_in *in, struct tokenizer *tokenizer, bool needed)
{
	const char *spelling = json_in_text(in, "unk_token");
	if (!spelling)
		return;
	tokenizer->unknown = vocab_find(&tokenizer->vocab, spelling, strlen(spelling));
	if (tokenizer->unknown == VOCAB_NONE && needed)
		json_in_refuse(in, ERR_INVALID, "unk_token", "a token of vocab");
}

/* ---- BPE */

static enum err load_vocab(struct json_in *in, struct tokenizer *tokenizer)
{
	const json_t *map = json_in_get(in, "vocab");
	if (!json_is_object(map) || json_object_size(map) == 0) {
		json_in_refuse(in, ERR_INVALID, "vocab", "an object of spellings and ids");
		return in->e;
	}
	const char *spelling;
	json_t *value;
	json_object_foreach((json_t *)map, spelling, value) {
		json_int_t id = json_integer_value(value);
		if (!json_is_integer(value) || id < 0 || id >= VOCAB_IDS_MAX)
			return why_set(in->why, ERR_INVALID, "%s: vocab: \"%.80s\": expected an id below %u", in->file,
				       spelling, VOCAB_IDS_MAX);
		enum err e = add_spelling(in, tokenizer, spelling, (uint32_t)id);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

struct merge {
	const char *left;
	const char *right;
	size_t left_length;
	size_t right_length;
};

/* "a b", or ["a", "b"] as newer files write it. */
static bool read_merge(const json_t *entry, struct merge *ret_merge)
{
	const json_t *left = json_array_get(entry, 0), *right = json_array_get(entry, 1);
	if (json_array_size(entry) == 2 && json_is_string(left) && json_is_string(right)) {
		*ret_merge = (struct merge){json_string_value(left), json_string_value(right), json_string_length(left),
					    json_string_length(right)};
		return true;
	}
	const char *text = json_string_value(entry);
	const char *space = text ? strchr(text, ' ') : NULL;
	if (!space || strchr(space + 1, ' '))
		return false;
	*ret_merge = (struct merge){text, space + 1, (size_t)(space - text), strlen(space + 1)};
	return true;
}

/* Tokens that stand for a character they do not spell. */
static bool is_stand_in(const struct tokenizer *tokenizer, uint32_t id, const char *spelling, size_t length)
{
	return id == tokenizer->unknown || (length == 6 && memcmp(spelling, "<0x", 3) == 0);
}

/* The characters that the merge brings together: where none does, a piece is cut (bpe.h). */
static enum err note_meeting(struct tokenizer *tokenizer, const struct merge *merge, uint32_t left, uint32_t right)
{
	if (is_stand_in(tokenizer, left, merge->left, merge->left_length) ||
	    is_stand_in(tokenizer, right, merge->right, merge->right_length)) {
		bpe_meet_all(tokenizer->bpe);
		return ERR_OK;
	}
	uint32_t character;
	size_t at = utf8_before(merge->left, merge->left_length, &character);
	int n = utf8_step((const uint8_t *)merge->right, merge->right_length, &character);
	uint32_t last = vocab_find(&tokenizer->vocab, merge->left + at, merge->left_length - at);
	uint32_t first = vocab_find(&tokenizer->vocab, merge->right, (size_t)(n > 0 ? n : 1));
	/* A character that is no token: no text ever comes to this merge. */
	return last == VOCAB_NONE || first == VOCAB_NONE ? ERR_OK : bpe_add_meeting(tokenizer->bpe, last, first);
}

static enum err load_merge(struct json_in *in, struct tokenizer *tokenizer, size_t index, const json_t *entry)
{
	struct merge merge;
	if (!read_merge(entry, &merge))
		return why_set(in->why, ERR_INVALID, "%s: merges[%zu]: expected \"a b\" or [\"a\", \"b\"]", in->file,
			       index);
	char both[2 * 4096];
	size_t length = merge.left_length + merge.right_length;
	if (length > sizeof(both))
		return why_set(in->why, ERR_TOO_LARGE, "%s: merges[%zu]: over %zu bytes", in->file, index, sizeof(both));
	memcpy(both, merge.left, merge.left_length);
	memcpy(both + merge.left_length, merge.right, merge.right_length);
	uint32_t a = vocab_find(&tokenizer->vocab, merge.left, merge.left_length);
	uint32_t b = vocab_find(&tokenizer->vocab, merge.right, merge.right_length);
	uint32_t c = vocab_find(&tokenizer->vocab, both, length);
	if (a == VOCAB_NONE || b == VOCAB_NONE || c == VOCAB_NONE || !merge.left_length || !merge.right_length)
		return why_set(in->why, ERR_INVALID, "%s: merges[%zu]: \"%.40s\" and \"%.40s\": both and what they make "
			       "must be in vocab", in->file, index, merge.left, merge.right);
	enum err e = bpe_add_merge(tokenizer->bpe, a, b, c);
	return e == ERR_OK ? note_meeting(tokenizer, &merge, a, b) : e;
}

static void refuse_set(struct json_in *in, const char *key)
{
	const json_t *value = json_in_get(in, key);
	if (value && json_string_length(value) != 0)
		json_in_refuse(in, ERR_UNSUPPORTED, key, "null");
}

static void read_bpe_options(struct json_in *in, struct tokenizer *tokenizer)
{
	const double none = 0;
	if (json_in_f64(in, "dropout", 0, 1, &none) != 0)
		json_in_refuse(in, ERR_UNSUPPORTED, "dropout", "null: a text has one reading");
	refuse_set(in, "continuing_subword_prefix");
	refuse_set(in, "end_of_word_suffix");
	tokenizer->ignore_merges = json_in_bool(in, "ignore_merges", false);
	tokenizer->byte_fallback = json_in_bool(in, "byte_fallback", false);
	tokenizer->fuse_unknown = json_in_bool(in, "fuse_unk", false);
	if (!json_is_array(json_in_get(in, "merges")))
		json_in_refuse(in, ERR_INVALID, "merges", "a list");
}

static enum err load_symbols(struct json_in *in, struct tokenizer *tokenizer)
{
	if (tokenizer->pre.byte_level)
		return find_letters(in, tokenizer);
	bool all = find_fallbacks(tokenizer);
	find_unknown(in, tokenizer, !tokenizer->byte_fallback || !all);
	return in->e;
}

static enum err load_bpe(struct json_in *in, struct tokenizer *tokenizer)
{
	read_bpe_options(in, tokenizer);
	if (in->e != ERR_OK)
		return in->e;
	enum err e = load_vocab(in, tokenizer);
	if (e == ERR_OK)
		e = bpe_create(&tokenizer->bpe);
	if (e == ERR_OK)
		e = load_symbols(in, tokenizer);
	const json_t *merges = json_in_get(in, "merges");
	for (size_t i = 0; e == ERR_OK && i < json_array_size(merges); i++)
		e = load_merge(in, tokenizer, i, json_array_get(merges, i));
	return e;
}

/* ---- Unigram */

static enum err load_unigram_entry(struct json_in *in, struct tokenizer *tokenizer, size_t id, const json_t *entry)
{
	const char *spelling = json_string_value(json_array_get(entry, 0));
	const json_t *score = json_array_get(entry, 1);
	if (json_array_size(entry) != 2 || !spelling || !json_is_number(score))
		return why_set(in->why, ERR_INVALID, "%s: vocab[%zu]: expected [\"a\", score]", in->file, id);
	enum err e = add_spelling(in, tokenizer, spelling, (uint32_t)id);
	return e == ERR_OK ? unigram_add(&tokenizer->unigram, spelling, strlen(spelling), json_number_value(score)) : e;
}

static enum err load_unigram(struct json_in *in, struct tokenizer *tokenizer)
{
	const json_t *list = json_in_get(in, "vocab");
	size_t count = json_array_size(list);
	if (count == 0 || count > VOCAB_IDS_MAX)
		json_in_refuse(in, ERR_INVALID, "vocab", "a list of spellings and scores, at most 2^21");
	if (tokenizer->pre.byte_level)
		json_in_refuse(in, ERR_UNSUPPORTED, "type", "\"BPE\" behind a ByteLevel pre_tokenizer");
	tokenizer->byte_fallback = json_in_bool(in, "byte_fallback", false);
	tokenizer->unknown = json_in_u32(in, "unk_id", 0, count ? (uint32_t)count - 1 : 0, NULL);
	tokenizer->unigram.unknown = tokenizer->unknown;
	enum err e = in->e;
	for (size_t i = 0; e == ERR_OK && i < count; i++)
		e = load_unigram_entry(in, tokenizer, i, json_array_get(list, i));
	find_fallbacks(tokenizer);
	return e;
}

enum err tokenizer_load_model(struct tokenizer *tokenizer, const json_t *root, struct why *why)
{
	struct json_in in = {.object = json_object_get(root, "model"), .file = "model", .why = why};
	const char *type = json_in_text(&in, "type");
	tokenizer->vocab.text.limit = (size_t)256 << 20;
	tokenizer->unknown = VOCAB_NONE;
	if (in.e == ERR_OK && (!type || strcmp(type, "BPE") == 0))
		return load_bpe(&in, tokenizer);
	if (in.e == ERR_OK && strcmp(type, "Unigram") == 0)
		return load_unigram(&in, tokenizer);
	json_in_refuse(&in, ERR_UNSUPPORTED, "type", "\"BPE\" or \"Unigram\"");
	return in.e;
}
