/* detokenize - a stream of token ids becomes a stream of UTF-8, and never half a character.
 *
 * Each feed appends the longest text that no later token can change.  The joined pieces, with what
 * finish appends, are byte for byte the decode of all ids at once: bytes that are no UTF-8 become U+FFFD,
 * one for each maximal subpart.
 * A plain value that borrows the tokenizer; touch it from one thread at a time.
 * Bounds: 3 bytes are held back at most. */
#ifndef MODEL_DETOKENIZE_H
#define MODEL_DETOKENIZE_H
#include "base/buf.h"
#include "model/tokenizer.h"

struct detokenizer {
	const struct tokenizer *tokenizer;
	bool skip_special_tokens;
	uint8_t held[4]; /* the beginning of a character */
	uint32_t held_length;
};

void detokenizer_init(struct detokenizer *detokenizer, const struct tokenizer *tokenizer,
		      bool skip_special_tokens);

/* Ids that the tokenizer does not know add nothing.  Errors are those of the buffer: NOMEM, TOO_LARGE. */
MUST_USE enum err detokenizer_feed(struct detokenizer *detokenizer, uint32_t id, struct buf *text);

/* What is held back becomes U+FFFD; the object is as after init. */
MUST_USE enum err detokenizer_finish(struct detokenizer *detokenizer, struct buf *text);

/* All at once. */
MUST_USE enum err detokenize(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
			     bool skip_special_tokens, struct buf *text);
#endif
