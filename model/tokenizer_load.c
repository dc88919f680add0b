/* tokenizer_load - tokenizer.json becomes a struct tokenizer; what it asks for and we lack is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/json_in.h"
#include "model/normalize.h"
#include "model/tokenizer_impl.h"

#define TOKENIZER_JSON_MAX ((size_t)64 << 20)

static enum err load_vocab(struct json_in *in, struct tokenizer *tokenizer)
{
	const json_t *map = json_in_get(in, "vocab");
	if (!json_is_object(map) || json_object_size(map) == 0) {
		json_in_refuse(in, ERR_INVALID, "vocab", "an object of spellings and ids");
		return in->e;
	}
	tokenizer->vocab.text.limit = (size_t)256 << 20;
	const char *spelling;
	json_t *value;
	json_object_foreach((json_t *)map, spelling, value) {
		json_int_t id = json_integer_value(value);
		if (!json_is_integer(value) || id < 0 || id >= VOCAB_IDS_MAX)
			return why_set(in->why, ERR_INVALID, "%s: vocab: \"%.80s\": expected an id below %u", in->file,
				       spelling, VOCAB_IDS_MAX);
		enum err e = vocab_add(&tokenizer->vocab, spelling, strlen(spelling), (uint32_t)id);
		if (e != ERR_OK)
			return why_set(in->why, e, "%s: vocab: \"%.80s\": id %u: %s", in->file, spelling, (uint32_t)id,
				       err_text(e));
	}
	return ERR_OK;
}

/* Every byte that UTF-8 can hold is a token, so that no text can be lost. */
static enum err load_bytes(struct json_in *in, struct tokenizer *tokenizer)
{
	uint32_t ids[256];
	struct buf spelling = {0};
	enum err e = ERR_OK;
	for (int byte = 0; byte < 256 && e == ERR_OK; byte++) {
		char one = (char)byte;
		buf_clear(&spelling);
		e = byte_level_spell(&spelling, &one, 1);
		if (e != ERR_OK)
			break;
		ids[byte] = vocab_find(&tokenizer->vocab, spelling.data, spelling.length);
		bool occurs = byte < 0xc0 || (byte > 0xc1 && byte < 0xf5);
		if (ids[byte] == VOCAB_NONE && occurs)
			e = why_set(in->why, ERR_UNSUPPORTED,
				    "%s: vocab: byte 0x%02x (\"%s\") is no token, expected a byte-level vocabulary",
				    in->file, byte, spelling.data);
		else if (ids[byte] == VOCAB_NONE)
			ids[byte] = 0;
	}
	buf_fini(&spelling);
	return e == ERR_OK ? bpe_create(ids, &tokenizer->bpe) : e;
}

/* "a b", or ["a", "b"] as newer files write it. */
static bool read_merge(const json_t *entry, const char **ret_left, size_t *ret_left_length,
		       const char **ret_right, size_t *ret_right_length)
{
	if (json_array_size(entry) == 2 && json_is_string(json_array_get(entry, 0)) &&
	    json_is_string(json_array_get(entry, 1))) {
		*ret_left = json_string_value(json_array_get(entry, 0));
		*ret_left_length = json_string_length(json_array_get(entry, 0));
		*ret_right = json_string_value(json_array_get(entry, 1));
		*ret_right_length = json_string_length(json_array_get(entry, 1));
		return true;
	}
	const char *text = json_string_value(entry);
	const char *space = text ? strchr(text, ' ') : NULL;
	if (!space || strchr(space + 1, ' '))
		return false;
	*ret_left = text;
	*ret_left_length = (size_t)(space - text);
	*ret_right = space + 1;
	*ret_right_length = strlen(space + 1);
	return true;
}

static enum err load_merge(struct json_in *in, struct tokenizer *tokenizer, size_t index, const json_t *entry)
{
	const char *left, *right;
	size_t left_length, right_length;
	if (!read_merge(entry, &left, &left_length, &right, &right_length))
		return why_set(in->why, ERR_INVALID, "%s: merges[%zu]: expected \"a b\" or [\"a\", \"b\"]", in->file,
			       index);
	char both[2 * 4096];
	if (left_length + right_length > sizeof(both))
		return why_set(in->why, ERR_TOO_LARGE, "%s: merges[%zu]: over %zu bytes", in->file, index, sizeof(both));
	memcpy(both, left, left_length);
	memcpy(both + left_length, right, right_length);
	uint32_t a = vocab_find(&tokenizer->vocab, left, left_length);
	uint32_t b = vocab_find(&tokenizer->vocab, right, right_length);
	uint32_t c = vocab_find(&tokenizer->vocab, both, left_length + right_length);
	if (a == VOCAB_NONE || b == VOCAB_NONE || c == VOCAB_NONE)
		return why_set(in->why, ERR_INVALID, "%s: merges[%zu]: \"%.40s\" and \"%.40s\": both and what they make "
			       "must be in vocab", in->file, index, left, right);
	return bpe_add_merge(tokenizer->bpe, a, b, c);
}

static void refuse_set(struct json_in *in, const char *key)
{
	const json_t *value = json_in_get(in, key);
	if (value && !json_is_false(value) && !(json_is_string(value) && json_string_length(value) == 0))
		json_in_refuse(in, ERR_UNSUPPORTED, key, "null");
}

static enum err load_model(const json_t *root, struct why *why, struct tokenizer *tokenizer)
{
	struct json_in in = {.object = json_object_get(root, "model"), .file = "model", .why = why};
	const char *type = json_in_text(&in, "type");
	if (type && strcmp(type, "BPE") != 0)
		json_in_refuse(&in, ERR_UNSUPPORTED, "type", "\"BPE\"");
	refuse_set(&in, "dropout");
	refuse_set(&in, "continuing_subword_prefix");
	refuse_set(&in, "end_of_word_suffix");
	refuse_set(&in, "byte_fallback");
	tokenizer->ignore_merges = json_in_bool(&in, "ignore_merges", false);
	const json_t *merges = json_in_get(&in, "merges");
	if (!json_is_array(merges))
		json_in_refuse(&in, ERR_INVALID, "merges", "a list");
	if (in.e != ERR_OK)
		return in.e;
	enum err e = load_vocab(&in, tokenizer);
	if (e == ERR_OK)
		e = load_bytes(&in, tokenizer);
	for (size_t i = 0; e == ERR_OK && i < json_array_size(merges); i++)
		e = load_merge(&in, tokenizer, i, json_array_get(merges, i));
	return e;
}

/* null, NFC, or a Sequence of nothing else. */
static enum err load_normalizer(const json_t *normalizer, int depth, struct why *why, struct tokenizer *tokenizer)
{
	if (!normalizer || json_is_null(normalizer))
		return ERR_OK;
	struct json_in in = {.object = normalizer, .file = "normalizer", .why = why};
	const char *type = json_in_text(&in, "type");
	const json_t *list = json_in_get(&in, "normalizers");
	if (type && strcmp(type, "NFC") == 0) {
		tokenizer->nfc = true;
	} else if (type && strcmp(type, "Sequence") == 0 && json_is_array(list) && depth < 4) {
		for (size_t i = 0; in.e == ERR_OK && i < json_array_size(list); i++)
			in.e = load_normalizer(json_array_get(list, i), depth + 1, why, tokenizer);
	} else {
		json_in_refuse(&in, ERR_UNSUPPORTED, "type", "NFC, or a Sequence of it");
	}
	return in.e;
}

static enum err add_token(struct tokenizer *tokenizer, const json_t *entry, struct why *why)
{
	struct json_in in = {.object = entry, .file = "added_tokens", .why = why};
	struct added_token token = {
		.id = json_in_u32(&in, "id", 0, VOCAB_IDS_MAX - 1, NULL),
		.special = json_in_bool(&in, "special", false),
		.lstrip = json_in_bool(&in, "lstrip", false),
		.rstrip = json_in_bool(&in, "rstrip", false),
		.single_word = json_in_bool(&in, "single_word", false),
	};
	const char *content = json_in_text(&in, "content");
	if (!content)
		json_in_refuse(&in, ERR_INVALID, "content", "a string");
	bool normalized = json_in_bool(&in, "normalized", !token.special);
	if (in.e != ERR_OK || content[0] == 0)
		return in.e;
	size_t length = strlen(content);
	bool known = vocab_find(&tokenizer->vocab, content, length) != VOCAB_NONE;
	enum err e = vocab_add(&tokenizer->vocab, content, length, token.id);
	if (e != ERR_OK)
		return why_set(why, e, "added_tokens: \"%.80s\" as id %u: %s", content, token.id, err_text(e));
	if (!known)
		tokenizer->vocab.entries[token.id].added = true;
	tokenizer->vocab.entries[token.id].listed = true;
	tokenizer->vocab.entries[token.id].special = token.special;
	if (!normalized)
		return added_add(&tokenizer->added_raw, content, length, &token);
	struct buf normal = {0};
	e = tokenizer->nfc ? normalize_nfc(&normal, content, length) : buf_append(&normal, content, length);
	if (e == ERR_OK)
		e = added_add(&tokenizer->added_normalized, normal.data, normal.length, &token);
	buf_fini(&normal);
	return e;
}

static enum err load_added(const json_t *list, struct why *why, struct tokenizer *tokenizer)
{
	if (json_array_size(list) > ADDED_MAX)
		return why_set(why, ERR_TOO_LARGE, "added_tokens: over %d tokens", ADDED_MAX);
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < json_array_size(list); i++) {
		e = add_token(tokenizer, json_array_get(list, i), why);
		if (e == ERR_TOO_LARGE)
			why_set(why, e, "added_tokens[%zu]: over %d bytes", i, ADDED_BYTES_MAX);
	}
	return e;
}

static enum err append_affix(struct json_in *in, const char *name, bool behind, struct tokenizer *tokenizer)
{
	const json_t *tokens = json_object_get(in->object, "special_tokens");
	const json_t *ids = json_object_get(json_object_get(tokens, name), "ids");
	uint32_t *list = behind ? tokenizer->suffix : tokenizer->prefix;
	uint32_t *count = behind ? &tokenizer->suffix_count : &tokenizer->prefix_count;
	if (json_array_size(ids) == 0)
		json_in_refuse(in, ERR_INVALID, "special_tokens", "the ids of every token that single names");
	for (size_t i = 0; in->e == ERR_OK && i < json_array_size(ids); i++) {
		const json_t *value = json_array_get(ids, i);
		json_int_t id = json_integer_value(value);
		if (!json_is_integer(value) || id < 0 || id >= VOCAB_IDS_MAX ||
		    !vocab_entry(&tokenizer->vocab, (uint32_t)id))
			json_in_refuse(in, ERR_INVALID, "special_tokens", "ids of the vocabulary");
		else if (*count == TOKENIZER_AFFIX_MAX)
			json_in_refuse(in, ERR_TOO_LARGE, "single", "at most 16 tokens around the text");
		else
			list[(*count)++] = (uint32_t)id;
	}
	return in->e;
}

static enum err load_template(struct json_in *in, struct tokenizer *tokenizer)
{
	const json_t *single = json_in_get(in, "single");
	bool behind = false;
	for (size_t i = 0; in->e == ERR_OK && i < json_array_size(single); i++) {
		const json_t *part = json_array_get(single, i);
		const char *name = json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
		if (json_object_get(part, "Sequence"))
			behind = true;
		else if (name)
			append_affix(in, name, behind, tokenizer);
		else
			json_in_refuse(in, ERR_INVALID, "single", "a list of SpecialToken and Sequence");
	}
	return in->e;
}

/* ByteLevel only trims offsets, which nobody reads here. */
static enum err load_post(const json_t *post, int depth, struct why *why, struct tokenizer *tokenizer)
{
	if (!post || json_is_null(post))
		return ERR_OK;
	struct json_in in = {.object = post, .file = "post_processor", .why = why};
	const char *type = json_in_text(&in, "type");
	const json_t *list = json_in_get(&in, "processors");
	if (type && strcmp(type, "ByteLevel") == 0)
		return in.e;
	if (type && strcmp(type, "TemplateProcessing") == 0)
		return load_template(&in, tokenizer);
	if (!type || strcmp(type, "Sequence") != 0 || !json_is_array(list) || depth >= 4) {
		json_in_refuse(&in, ERR_UNSUPPORTED, "type", "ByteLevel, TemplateProcessing, or a Sequence of them");
		return in.e;
	}
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < json_array_size(list); i++)
		e = load_post(json_array_get(list, i), depth + 1, why, tokenizer);
	return e;
}

static enum err spell_token(struct tokenizer *tokenizer, uint32_t id, struct buf *bytes)
{
	struct vocab_entry *entry = &tokenizer->vocab.entries[id];
	const char *spelling = tokenizer->vocab.text.data + entry->spelling_at;
	buf_clear(bytes);
	enum err e = decoder_spell(&tokenizer->decoder, spelling, entry->spelling_length, bytes);
	entry->is_byte = decoder_byte(&tokenizer->decoder, spelling, entry->spelling_length) >= 0;
	return e == ERR_OK ? vocab_set_bytes(&tokenizer->vocab, id, bytes->data, bytes->length) : e;
}

/* The bytes of every token. */
static enum err spell_vocab(struct tokenizer *tokenizer)
{
	struct buf bytes = {0};
	enum err e = ERR_OK;
	for (uint32_t id = 0; id < tokenizer->vocab.id_limit && e == ERR_OK; id++)
		if (tokenizer->vocab.entries[id].used)
			e = spell_token(tokenizer, id, &bytes);
	buf_fini(&bytes);
	return e;
}

static enum err load_all(const json_t *root, struct why *why, struct tokenizer *tokenizer)
{
	enum err e = load_model(root, why, tokenizer);
	if (e == ERR_OK)
		e = load_normalizer(json_object_get(root, "normalizer"), 0, why, tokenizer);
	if (e == ERR_OK)
		e = pretokenizer_load(&tokenizer->pre, json_object_get(root, "pre_tokenizer"), why);
	if (e == ERR_OK)
		e = decoder_load(&tokenizer->decoder, json_object_get(root, "decoder"), why);
	if (e == ERR_OK)
		e = load_added(json_object_get(root, "added_tokens"), why, tokenizer);
	if (e == ERR_OK)
		e = load_post(json_object_get(root, "post_processor"), 0, why, tokenizer);
	if (e == ERR_OK)
		e = spell_vocab(tokenizer);
	return e;
}

enum err tokenizer_parse(const char *json, size_t length, struct why *why, struct tokenizer **ret_tokenizer)
{
	if (length > TOKENIZER_JSON_MAX)
		return why_set(why, ERR_TOO_LARGE, "tokenizer.json: over %zu bytes", TOKENIZER_JSON_MAX);
	json_t *root = NULL;
	enum err e = json_in_parse(json, length, "tokenizer.json", why, &root);
	if (e != ERR_OK)
		return e;
	struct tokenizer *tokenizer = calloc(1, sizeof(*tokenizer));
	e = tokenizer ? load_all(root, why, tokenizer) : ERR_NOMEM;
	json_decref(root);
	if (e != ERR_OK) {
		why_prefix(why, "tokenizer.json");
		tokenizer_destroy(tokenizer);
		return e;
	}
	*ret_tokenizer = tokenizer;
	return ERR_OK;
}

enum err tokenizer_load(const char *path, struct why *why, struct tokenizer **ret_tokenizer)
{
	char *json;
	size_t length;
	enum err e = file_read(path, TOKENIZER_JSON_MAX, why, &json, &length);
	if (e != ERR_OK)
		return e;
	e = tokenizer_parse(json, length, why, ret_tokenizer);
	if (e != ERR_OK)
		why_prefix(why, "%s", path);
	free(json);
	return e;
}
