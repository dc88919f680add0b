#include "model/detokenize.h"

#include <string.h>

#include "model/utf8.h"

void detokenizer_init(struct detokenizer *detokenizer, const struct tokenizer *tokenizer,
		      bool skip_special_tokens)
{
	*detokenizer = (struct detokenizer){.tokenizer = tokenizer, .skip_special_tokens = skip_special_tokens};
}

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

enum err detokenizer_feed(struct detokenizer *d, uint32_t id, struct buf *text)
{
	const uint8_t *bytes;
	size_t length;
	if (tokenizer_token_bytes(d->tokenizer, id, &bytes, &length) != ERR_OK)
		return ERR_OK;
	if (d->skip_special_tokens && tokenizer_is_special(d->tokenizer, id))
		return ERR_OK;
	struct detokenizer before = *d;
	size_t text_length = text->length;
	for (size_t i = 0; i < length; i++) {
		enum err e = feed_byte(d, bytes[i], text);
		if (e != ERR_OK) {
			*d = before;
			text->length = text_length;
			return e;
		}
	}
	return ERR_OK;
}

enum err detokenizer_finish(struct detokenizer *d, struct buf *text)
{
	/* What is held is always one maximal subpart. */
	enum err e = d->held_length > 0 ? utf8_append(text, 0xfffd) : ERR_OK;
	if (e == ERR_OK)
		d->held_length = 0;
	return e;
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
	return e;
}
