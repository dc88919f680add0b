/* piece - one piece of text becomes tokens, by the model of the tokenizer.  Only this room. */
#ifndef MODEL_PIECE_H
#define MODEL_PIECE_H
#include "model/tokenizer_impl.h"

/* What one encoding reuses from piece to piece.  Zeroed memory is an empty one. */
struct piece_scratch {
	struct bpe_scratch bpe;
	struct unigram_scratch unigram;
	struct buf spelling;
};
void piece_scratch_fini(struct piece_scratch *scratch);

/* Appends the ids of the piece, which is not empty: with a byte-level pre-tokenizer any bytes, otherwise UTF-8. */
MUST_USE enum err piece_encode(const struct tokenizer *tokenizer, struct piece_scratch *scratch,
			       const char *piece, size_t length, struct tokens *tokens);
#endif
