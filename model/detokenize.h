/* detokenize - a stream of token ids becomes a stream of UTF-8, and never half a character.
 *
 * Each feed appends the longest text that no later token can change.  The joined pieces, with what finish
 * appends, are byte for byte the decode of all ids at once, as the Hugging Face library gives it.  Bytes
 * that are no UTF-8 become U+FFFD: in byte-level models one for each maximal subpart; with byte fallback
 * one for each byte of a run of bytes that is no text as a whole, so that a run waits for its end.
 * Owns the run; borrows the tokenizer; touch it from one thread at a time.
 * Bounds: held back are 3 bytes, or the bytes of one run, which are fewer than the tokens fed. */
#ifndef MODEL_DETOKENIZE_H
#define MODEL_DETOKENIZE_H
#include "base/buf.h"
#include "model/tokenizer.h"

struct detokenizer {
	const struct tokenizer *tokenizer;
	bool skip_special_tokens;
	bool begun;           /* a token has been spelled */
	uint32_t strip_left;  /* so many characters may yet be taken off the start of the text */
	uint8_t held[4];      /* the beginning of a character */
	uint32_t held_length;
	struct buf run;       /* bytes that are text up to run_whole, and the beginning of a character */
	size_t run_whole;
	bool run_broken;      /* the run is no text: its bytes have been given out as U+FFFD */
};

void detokenizer_init(struct detokenizer *detokenizer, const struct tokenizer *tokenizer,
		      bool skip_special_tokens);
void detokenizer_fini(struct detokenizer *detokenizer);

/* Ids that the tokenizer does not know add nothing.  Errors are those of the buffer, NOMEM, TOO_LARGE: all is
 * as before then. */
MUST_USE enum err detokenizer_feed(struct detokenizer *detokenizer, uint32_t id, struct buf *text);

/* Appends what is held back; the object is as after init. */
MUST_USE enum err detokenizer_finish(struct detokenizer *detokenizer, struct buf *text);

/* All at once. */
MUST_USE enum err detokenize(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
			     bool skip_special_tokens, struct buf *text);
#endif
