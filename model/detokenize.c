#include "model/detokenize.h"

#include <string.h>

#include "model/tokenizer_impl.h"
#include "model/utf8.h"

void detokenizer_init(struct detokenizer *d, const struct tokenizer *tokenizer, bool skip_special_tokens)
{
	*d = (struct detokenizer){.tokenizer = tokenizer, .skip_special_tokens = skip_special_tokens,
				  .strip_left = tokenizer->decoder.strip.strip_left};
}

void detokenizer_fini(struct detokenizer *d)
{
	if (!d)
		return;
	buf_fini(&d->run);
	*d = (struct detokenizer){0};
}

/* ---- byte-level: all tokens are one run of bytes */

/* One more byte: what is held becomes a character, or no character, or stays the beginning of one. */
static enum err feed_byte(struct detokenizer *d, uint8_t byte, struct buf *text)
{
	d->held[d->held_length++] = byte;
	while (d->held_length > 0) {
		uint32_t character = 0;
		int n = utf8_step(d->held, d->held_length, &character);
		if (n == 0)
			return ERR_OK;
		enum err e = n > 0 ? buf_append(text, d->held, (size_t)n) : utf8_append(text, 0xfffd);
		if (e != ERR_OK)
			return e;
		uint32_t gone = (uint32_t)(n > 0 ? n : -n);
		d->held_length -= gone;
		memmove(d->held, d->held + gone, d->held_length);
	}
	return ERR_OK;
}

static enum err feed_bytes(struct detokenizer *d, const char *bytes, size_t length, struct buf *text)
{
	enum err e = ERR_OK;
	for (size_t i = 0; i < length && e == ERR_OK; i++)
		e = feed_byte(d, (uint8_t)bytes[i], text);
	return e;
}

/* ---- other models: tokens are text, and some are bytes of a run */

/* Whole characters, less what is to be taken off the start of the text. */
static enum err emit(struct detokenizer *d, const char *piece, size_t length, struct buf *text)
{
	const char *pattern = d->tokenizer->decoder.strip.pattern;
	size_t one = strlen(pattern);
	while (d->strip_left > 0 && length >= one && memcmp(piece, pattern, one) == 0) {
		piece += one;
		length -= one;
		d->strip_left--;
	}
	if (length > 0)
		d->strip_left = 0;
	return buf_append(text, piece, length);
}

static enum err emit_broken(struct detokenizer *d, size_t count, struct buf *text)
{
	enum err e = ERR_OK;
	d->begun = true;
	for (size_t i = 0; i < count && e == ERR_OK; i++)
		e = emit(d, "\xef\xbf\xbd", 3, text);
	return e;
}

/* Drops the run without touching its bytes: a feed that fails behind this takes it back. */
static void forget_run(struct detokenizer *d)
{
	d->run.length = d->run_whole = 0;
	d->run_broken = false;
}

static enum err end_run(struct detokenizer *d, struct buf *text)
{
	size_t length = d->run.length;
	enum err e = ERR_OK;
	if (length > 0 && d->run_whole < length) {
		e = emit_broken(d, length, text);
	} else if (length > 0) {
		struct buf piece = {0};
		e = decoder_spell_run(&d->tokenizer->decoder, d->run.data, length, !d->begun, &piece);
		d->begun = true;
		if (e == ERR_OK)
			e = emit(d, piece.data, piece.length, text);
		buf_fini(&piece);
	}
	forget_run(d);
	return e;
}

/* A run that is broken gives its bytes out at once: nothing that comes can mend it. */
static enum err feed_run(struct detokenizer *d, const char *byte, struct buf *text)
{
	d->begun |= !d->tokenizer->decoder.drops_first_behind;
	if (d->run_broken)
		return emit_broken(d, 1, text);
	enum err e = buf_append(&d->run, byte, 1);
	if (e != ERR_OK)
		return e;
	uint32_t character;
	int n = utf8_step((const uint8_t *)d->run.data + d->run_whole, d->run.length - d->run_whole, &character);
	if (n > 0)
		d->run_whole += (size_t)n;
	if (n >= 0)
		return ERR_OK;
	e = emit_broken(d, d->run.length, text);
	forget_run(d);
	d->run_broken = true;
	return e;
}

static enum err feed_text(struct detokenizer *d, const struct vocab_entry *entry, struct buf *text)
{
	const struct tokenizer *tokenizer = d->tokenizer;
	const char *all = tokenizer->vocab.text.data;
	enum err e = end_run(d, text);
	if (e != ERR_OK)
		return e;
	bool first = !d->begun && tokenizer->decoder.drops_first;
	d->begun = true;
	if (!first)
		return emit(d, all + entry->bytes_at, entry->bytes_length, text);
	struct buf piece = {0};
	e = decoder_spell_first(&tokenizer->decoder, all + entry->shown_at, entry->shown_length, &piece);
	if (e == ERR_OK)
		e = emit(d, piece.data, piece.length, text);
	buf_fini(&piece);
	return e;
}

static enum err feed(struct detokenizer *d, const struct vocab_entry *entry, struct buf *text)
{
	const char *bytes = d->tokenizer->vocab.text.data + entry->bytes_at;
	if (d->tokenizer->decoder.byte_level)
		return feed_bytes(d, bytes, entry->bytes_length, text);
	return entry->is_byte ? feed_run(d, bytes, text) : feed_text(d, entry, text);
}

static void take_back(struct detokenizer *d, struct detokenizer before, struct buf *text, size_t text_length)
{
	before.run.data = d->run.data; /* it may have moved; its bytes are there */
	before.run.capacity = d->run.capacity;
	*d = before;
	text->length = text_length;
	if (text->data)
		text->data[text_length] = 0;
}

enum err detokenizer_feed(struct detokenizer *d, uint32_t id, struct buf *text)
{
	const struct vocab_entry *entry = vocab_entry(&d->tokenizer->vocab, id);
	if (!entry || (d->skip_special_tokens && entry->hidden))
		return ERR_OK;
	struct detokenizer before = *d;
	size_t text_length = text->length;
	enum err e = feed(d, entry, text);
	if (e != ERR_OK)
		take_back(d, before, text, text_length);
	return e;
}

enum err detokenizer_finish(struct detokenizer *d, struct buf *text)
{
	struct detokenizer before = *d;
	size_t text_length = text->length;
	/* What is held of a character is always one maximal subpart. */
	enum err e = d->held_length > 0 ? utf8_append(text, 0xfffd) : end_run(d, text);
	if (e != ERR_OK) {
		take_back(d, before, text, text_length);
		return e;
	}
	detokenizer_init(d, d->tokenizer, d->skip_special_tokens);
	d->run = before.run;
	d->run.length = 0;
	return ERR_OK;
}

enum err detokenize(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
		    bool skip_special_tokens, struct buf *text)
{
	struct detokenizer d;
	detokenizer_init(&d, tokenizer, skip_special_tokens);
	size_t before = text->length;
	enum err e = ERR_OK;
	for (size_t i = 0; i < count && e == ERR_OK; i++)
		e = detokenizer_feed(&d, ids[i], text);
	if (e == ERR_OK)
		e = detokenizer_finish(&d, text);
	if (e != ERR_OK && text->data) {
		text->length = before;
		text->data[before] = 0;
	}
	detokenizer_fini(&d);
	return e;
}
