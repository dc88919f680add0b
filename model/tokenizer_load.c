/* tokenizer_load - tokenizer.json becomes a struct tokenizer; what it asks for and we lack is refused. */
#include <stdlib.h>
#include <string.h>

#include "model/json_in.h"
#include "model/tokenizer_impl.h"

#define TOKENIZER_JSON_MAX ((size_t)64 << 20)

/* Looked for in normalized text, as the normalizer writes it. */
static enum err add_normalized(struct tokenizer *tokenizer, const char *content, const struct added_token *token)
{
	struct regex_scratch *scratch = NULL;
	struct normal_text normal = {0};
	enum err e = regex_scratch_create(&scratch);
	if (e == ERR_OK)
		e = normalizer_run(&tokenizer->normalizer, scratch, content, strlen(content), &normal);
	if (e == ERR_OK)
		e = vocab_set_shown(&tokenizer->vocab, token->id, normal.text.data, normal.text.length);
	if (e == ERR_OK && normal.text.length)
		e = added_add(&tokenizer->added_normalized, normal.text.data, normal.text.length, token);
	normal_text_fini(&normal);
	regex_scratch_destroy(scratch);
	return e;
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
	struct vocab_entry *known_as = &tokenizer->vocab.entries[token.id];
	if (known_as->listed)
		return why_set(why, ERR_EXISTS, "added_tokens: \"%.80s\" comes twice", content);
	known_as->listed = true;
	known_as->added = !known;
	known_as->special = token.special;
	return normalized ? add_normalized(tokenizer, content, &token)
			  : added_add(&tokenizer->added_raw, content, length, &token);
}

/* Special tokens first: of those that the normalizer makes equal the first stays. */
static enum err load_added(const json_t *list, struct why *why, struct tokenizer *tokenizer)
{
	size_t count = json_array_size(list);
	if (count > ADDED_MAX)
		return why_set(why, ERR_TOO_LARGE, "added_tokens: over %d tokens", ADDED_MAX);
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < 2 * count; i++) {
		const json_t *entry = json_array_get(list, i % count);
		if (json_is_true(json_object_get(entry, "special")) != (i < count))
			continue;
		e = add_token(tokenizer, entry, why);
		if (e == ERR_TOO_LARGE)
			why_set(why, e, "added_tokens[%zu]: over %d bytes", i % count, ADDED_BYTES_MAX);
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
	bool behind = false, twice = tokenizer->has_template;
	tokenizer->has_template = true;
	for (size_t i = 0; in->e == ERR_OK && i < json_array_size(single); i++) {
		const json_t *part = json_array_get(single, i);
		const char *name = json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
		const char *text = json_string_value(json_object_get(json_object_get(part, "Sequence"), "id"));
		if (name)
			append_affix(in, name, behind, tokenizer);
		else if (!text || strcmp(text, "A") != 0 || behind)
			json_in_refuse(in, ERR_INVALID, "single", "a list of SpecialToken and once Sequence A");
		else
			behind = true;
	}
	if (!behind || twice)
		json_in_refuse(in, ERR_UNSUPPORTED, "single", "once Sequence A, in one TemplateProcessing");
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
	struct vocab *vocab = &tokenizer->vocab;
	struct vocab_entry *entry = &vocab->entries[id];
	const char *shown = vocab->text.data + entry->shown_at;
	uint32_t same = entry->shown_at == entry->spelling_at ? id : vocab_find(vocab, shown, entry->shown_length);
	entry->hidden = same != VOCAB_NONE && vocab->entries[same].special;
	entry->is_byte = decoder_byte(&tokenizer->decoder, shown, entry->shown_length) >= 0;
	buf_clear(bytes);
	enum err e = decoder_spell(&tokenizer->decoder, shown, entry->shown_length, bytes);
	return e == ERR_OK ? vocab_set_bytes(vocab, id, bytes->data, bytes->length) : e;
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
	enum err e = pretokenizer_load(&tokenizer->pre, json_object_get(root, "pre_tokenizer"), why);
	if (e == ERR_OK)
		e = normalizer_load(&tokenizer->normalizer, json_object_get(root, "normalizer"), why);
	if (e == ERR_OK)
		e = tokenizer_load_model(tokenizer, root, why);
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
