/* bpe - merges the bytes of one piece of text into tokens, lowest rank first, leftmost first.
 *
 * Owns the table of merges.  Only this room; read-only after loading, so any thread with its own scratch.
 * O(n log n) in the piece: a linked list of symbols and a heap of the merges that are possible. */
#ifndef MODEL_BPE_H
#define MODEL_BPE_H
#include "model/tokenizer.h"

struct bpe;

/* What one encoding reuses from piece to piece.  Zeroed memory is an empty one. */
struct bpe_scratch {
	struct bpe_symbol *symbols; /* [symbol_capacity] */
	struct bpe_merge *heap;     /* [2 * symbol_capacity] */
	size_t heap_count;
	size_t symbol_capacity;
};
void bpe_scratch_fini(struct bpe_scratch *scratch);

/* byte_ids: the token of each single byte. */
MUST_USE enum err bpe_create(const uint32_t byte_ids[256], struct bpe **ret_bpe);
void bpe_destroy(struct bpe *bpe);

/* In order of rank: `left` and `right` become `merged`. A pair that comes again takes the later rank. */
MUST_USE enum err bpe_add_merge(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t merged);

/* Appends the ids of the piece.  ERR_NOMEM. */
MUST_USE enum err bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *piece,
			     size_t length, struct tokens *tokens);
#endif
