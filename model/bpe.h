/* bpe - merges the symbols of one piece of text into tokens, lowest rank first, leftmost first.
 *
 * Owns the table of merges.  Only this room; read-only after loading, so any thread with its own scratch.
 * O(n log n) in the piece: a linked list of symbols and a heap of the merges that are possible.  A piece may
 * be the whole text, so it is cut first where two symbols meet that no merge ever brings together: what
 * stands on either side merges alone. */
#ifndef MODEL_BPE_H
#define MODEL_BPE_H
#include "model/tokenizer.h"

struct bpe;

/* The symbols pushed since the last cut, and what one encoding reuses.  Zeroed memory is an empty one. */
struct bpe_scratch {
	struct bpe_symbol *symbols; /* [symbol_capacity] */
	struct bpe_merge *heap;     /* [2 * symbol_capacity] */
	size_t heap_count;
	size_t symbol_count;
	size_t symbol_capacity;
};
void bpe_scratch_fini(struct bpe_scratch *scratch);

MUST_USE enum err bpe_create(struct bpe **ret_bpe);
void bpe_destroy(struct bpe *bpe);

/* In order of rank: `left` and `right` become `merged`. A pair that comes again takes the later rank. */
MUST_USE enum err bpe_add_merge(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t merged);
/* Some merge brings together tokens that end with the symbol `left` and begin with the symbol `right`. */
MUST_USE enum err bpe_add_meeting(struct bpe *bpe, uint32_t left, uint32_t right);
/* Which symbols meet is not known: pieces are not cut. */
void bpe_meet_all(struct bpe *bpe);

/* The next symbol of a piece.  Appends the tokens of what no later symbol can change.  ERR_NOMEM. */
MUST_USE enum err bpe_push(const struct bpe *bpe, struct bpe_scratch *scratch, uint32_t symbol,
			   struct tokens *tokens);
/* The piece has ended: appends the tokens of the rest. */
MUST_USE enum err bpe_end(const struct bpe *bpe, struct bpe_scratch *scratch, struct tokens *tokens);
#endif
