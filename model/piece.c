#include "model/piece.h"

#include "model/utf8.h"

void piece_scratch_fini(struct piece_scratch *scratch)
{
	bpe_scratch_fini(&scratch->bpe);
	unigram_scratch_fini(&scratch->unigram);
	buf_fini(&scratch->spelling);
}

/* The id in the model's own vocabulary, or VOCAB_NONE. */
static uint32_t find(const struct tokenizer *tokenizer, const char *spelling, size_t length)
{
	uint32_t id = vocab_find(&tokenizer->vocab, spelling, length);
	return id != VOCAB_NONE && tokenizer->vocab.entries[id].added ? VOCAB_NONE : id;
}

static bool falls_back(const struct tokenizer *tokenizer, const char *text, size_t length)
{
	bool all = tokenizer->byte_fallback;
	for (size_t i = 0; i < length && all; i++)
		all = tokenizer->byte_ids[(uint8_t)text[i]] != VOCAB_NONE;
	return all;
}

/* ---- BPE */

static enum err find_whole(const struct tokenizer *tokenizer, struct piece_scratch *scratch, const char *piece,
			   size_t length, uint32_t *ret_id)
{
	if (!tokenizer->pre.byte_level) {
		*ret_id = find(tokenizer, piece, length);
		return ERR_OK;
	}
	buf_clear(&scratch->spelling);
	enum err e = byte_level_spell(&scratch->spelling, piece, length);
	if (e == ERR_OK)
		*ret_id = find(tokenizer, scratch->spelling.data, scratch->spelling.length);
	return e;
}

static enum err push_bytes(const struct tokenizer *tokenizer, struct piece_scratch *scratch, const char *bytes,
			   size_t length, struct tokens *tokens)
{
	enum err e = ERR_OK;
	for (size_t i = 0; i < length && e == ERR_OK; i++)
		e = bpe_push(tokenizer->bpe, &scratch->bpe, tokenizer->byte_ids[(uint8_t)bytes[i]], tokens);
	return e;
}

/* Unknown characters wait for the next known one, also across bytes that stand between them: as the library does. */
static enum err push_unknown(const struct tokenizer *tokenizer, struct piece_scratch *scratch, bool *waits,
			     struct tokens *tokens)
{
	if (!*waits)
		return ERR_OK;
	*waits = false;
	return bpe_push(tokenizer->bpe, &scratch->bpe, tokenizer->unknown, tokens);
}

static enum err push_character(const struct tokenizer *tokenizer, struct piece_scratch *scratch, const char *text,
			       size_t length, bool *waits, struct tokens *tokens)
{
	uint32_t id = find(tokenizer, text, length);
	enum err e = ERR_OK;
	if (id != VOCAB_NONE) {
		e = push_unknown(tokenizer, scratch, waits, tokens);
		return e == ERR_OK ? bpe_push(tokenizer->bpe, &scratch->bpe, id, tokens) : e;
	}
	if (falls_back(tokenizer, text, length))
		return push_bytes(tokenizer, scratch, text, length, tokens);
	if (tokenizer->unknown == VOCAB_NONE)
		return ERR_OK;
	if (!tokenizer->fuse_unknown)
		e = push_unknown(tokenizer, scratch, waits, tokens);
	*waits = true;
	return e;
}

static enum err push_characters(const struct tokenizer *tokenizer, struct piece_scratch *scratch, const char *piece,
				size_t length, struct tokens *tokens)
{
	bool waits = false;
	enum err e = ERR_OK;
	for (size_t at = 0; at < length && e == ERR_OK;) {
		uint32_t character;
		int n = utf8_step((const uint8_t *)piece + at, length - at, &character);
		if (n <= 0)
			return ERR_INVALID;
		e = push_character(tokenizer, scratch, piece + at, (size_t)n, &waits, tokens);
		at += (size_t)n;
	}
	return e == ERR_OK ? push_unknown(tokenizer, scratch, &waits, tokens) : e;
}

static enum err encode_bpe(const struct tokenizer *tokenizer, struct piece_scratch *scratch, const char *piece,
			   size_t length, struct tokens *tokens)
{
	if (tokenizer->ignore_merges && length <= tokenizer->vocab.spelling_longest) {
		uint32_t id = VOCAB_NONE;
		enum err e = find_whole(tokenizer, scratch, piece, length, &id);
		if (e != ERR_OK || id != VOCAB_NONE)
			return e == ERR_OK ? tokens_add(tokens, id) : e;
	}
	enum err e = tokenizer->pre.byte_level ? push_bytes(tokenizer, scratch, piece, length, tokens)
					       : push_characters(tokenizer, scratch, piece, length, tokens);
	return e == ERR_OK ? bpe_end(tokenizer->bpe, &scratch->bpe, tokens) : e;
}

/* ---- Unigram */

struct unigram_run {
	const struct tokenizer *tokenizer;
	struct tokens *tokens;
};

/* Unknown characters that are a token together are that token; otherwise they are bytes, if all of them can be. */
static enum err take_token(void *arg, uint32_t id, const char *text, size_t length)
{
	const struct unigram_run *run = arg;
	const struct tokenizer *tokenizer = run->tokenizer;
	if (id != tokenizer->unknown)
		return tokens_add(run->tokens, id);
	uint32_t whole = find(tokenizer, text, length);
	if (whole != VOCAB_NONE || !falls_back(tokenizer, text, length))
		return tokens_add(run->tokens, whole != VOCAB_NONE ? whole : id);
	enum err e = ERR_OK;
	for (size_t i = 0; i < length && e == ERR_OK; i++)
		e = tokens_add(run->tokens, tokenizer->byte_ids[(uint8_t)text[i]]);
	return e;
}

enum err piece_encode(const struct tokenizer *tokenizer, struct piece_scratch *scratch, const char *piece,
		      size_t length, struct tokens *tokens)
{
	if (tokenizer->bpe)
		return encode_bpe(tokenizer, scratch, piece, length, tokens);
	struct unigram_run run = {tokenizer, tokens};
	return unigram_encode(&tokenizer->unigram, &scratch->unigram, piece, length,
			      (struct unigram_sink){take_token, &run});
}
