#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "model/piece.h"
#include "model/utf8.h"

enum err tokens_add(struct tokens *tokens, uint32_t id)
{
	if (tokens->count == tokens->capacity) {
		size_t capacity = tokens->capacity ? tokens->capacity * 2 : 64;
		uint32_t *ids = realloc(tokens->ids, capacity * sizeof(*ids));
		if (!ids)
			return ERR_NOMEM;
		tokens->ids = ids;
		tokens->capacity = capacity;
	}
	tokens->ids[tokens->count++] = id;
	return ERR_OK;
}

void tokens_clear(struct tokens *tokens)
{
	tokens->count = 0;
}

void tokens_fini(struct tokens *tokens)
{
	if (!tokens)
		return;
	free(tokens->ids);
	*tokens = (struct tokens){0};
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
	if (!tokenizer)
		return;
	added_fini(&tokenizer->added_normalized);
	added_fini(&tokenizer->added_raw);
	pretokenizer_fini(&tokenizer->pre);
	normalizer_fini(&tokenizer->normalizer);
	bpe_destroy(tokenizer->bpe);
	unigram_fini(&tokenizer->unigram);
	vocab_fini(&tokenizer->vocab);
	free(tokenizer);
}

/* One encoding on its way: text > added tokens > normal form > added tokens > pieces > merges or scores. */
struct encoding {
	const struct tokenizer *tokenizer;
	const char *text; /* the whole */
	bool skip_special;
	struct regex_scratch *regex;
	struct piece_scratch piece;
	struct normal_text normal;
	struct tokens *tokens;
};

static enum err take_piece(void *arg, const char *piece, size_t length)
{
	struct encoding *encoding = arg;
	return piece_encode(encoding->tokenizer, &encoding->piece, piece, length, encoding->tokens);
}

static enum err take_normal(void *arg, const struct added_token *token, const char *text, size_t length)
{
	struct encoding *encoding = arg;
	if (token)
		return tokens_add(encoding->tokens, token->id);
	bool from_start = encoding->normal.from_start && text == encoding->normal.text.data;
	return pretokenize(&encoding->tokenizer->pre, encoding->regex, text, length, from_start,
			   (struct piece_sink){take_piece, encoding});
}

static enum err take_raw(void *arg, const struct added_token *token, const char *text, size_t length)
{
	struct encoding *encoding = arg;
	const struct tokenizer *tokenizer = encoding->tokenizer;
	if (token)
		return tokens_add(encoding->tokens, token->id);
	encoding->normal.from_start = text == encoding->text;
	enum err e = normalizer_run(&tokenizer->normalizer, encoding->regex, text, length, &encoding->normal);
	if (e != ERR_OK)
		return e;
	return added_split(&tokenizer->added_normalized, encoding->normal.text.data, encoding->normal.text.length,
			   encoding->skip_special, (struct added_sink){take_normal, encoding});
}

static enum err append_ids(struct tokens *tokens, const uint32_t *ids, uint32_t count)
{
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < count && e == ERR_OK; i++)
		e = tokens_add(tokens, ids[i]);
	return e;
}

static enum err encode_valid(struct encoding *encoding, const char *text, size_t length, bool affixes)
{
	const struct tokenizer *tokenizer = encoding->tokenizer;
	enum err e = ERR_OK;
	encoding->text = text;
	if (affixes)
		e = append_ids(encoding->tokens, tokenizer->prefix, tokenizer->prefix_count);
	if (e == ERR_OK)
		e = added_split(&tokenizer->added_raw, text, length, encoding->skip_special,
				(struct added_sink){take_raw, encoding});
	if (e == ERR_OK && affixes)
		e = append_ids(encoding->tokens, tokenizer->suffix, tokenizer->suffix_count);
	return e;
}

enum err tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
			  const struct tokenizer_encode_options *options, struct tokens *tokens)
{
	if (length > TOKENIZER_TEXT_MAX)
		return ERR_TOO_LARGE;
	struct encoding encoding = {.tokenizer = tokenizer, .tokens = tokens,
				    .skip_special = !options->parse_special};
	struct buf lossy = {0};
	size_t count = tokens->count;
	enum err e = regex_scratch_create(&encoding.regex);
	if (e == ERR_OK && !utf8_is_valid(text, length)) {
		e = utf8_append_lossy(&lossy, text, length);
		text = lossy.data;
		length = lossy.length;
	}
	if (e == ERR_OK)
		e = encode_valid(&encoding, text, length, options->add_special_tokens);
	if (e != ERR_OK)
		tokens->count = count;
	buf_fini(&lossy);
	normal_text_fini(&encoding.normal);
	piece_scratch_fini(&encoding.piece);
	regex_scratch_destroy(encoding.regex);
	return e;
}

uint32_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
	return tokenizer->vocab.id_limit;
}

enum err tokenizer_token_bytes(const struct tokenizer *tokenizer, uint32_t id, const uint8_t **ret_bytes,
			       size_t *ret_length)
{
	const struct vocab_entry *entry = vocab_entry(&tokenizer->vocab, id);
	if (!entry)
		return ERR_NOT_FOUND;
	*ret_bytes = (const uint8_t *)tokenizer->vocab.text.data + entry->bytes_at;
	*ret_length = entry->bytes_length;
	return ERR_OK;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, uint32_t id)
{
	const struct vocab_entry *entry = vocab_entry(&tokenizer->vocab, id);
	return entry && entry->special;
}

bool tokenizer_is_added(const struct tokenizer *tokenizer, uint32_t id)
{
	const struct vocab_entry *entry = vocab_entry(&tokenizer->vocab, id);
	return entry && entry->listed;
}

enum err tokenizer_find(const struct tokenizer *tokenizer, const char *spelling, uint32_t *ret_id)
{
	uint32_t id = vocab_find(&tokenizer->vocab, spelling, strlen(spelling));
	if (id == VOCAB_NONE)
		return ERR_NOT_FOUND;
	*ret_id = id;
	return ERR_OK;
}
