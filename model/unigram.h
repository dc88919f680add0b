/* unigram - cuts one piece of text into the tokens whose scores add up to the most (Viterbi).
 *
 * What no token covers costs more than the worst of them, character by character; such characters side by
 * side are unknown together.  Of equal sums the one found first stays: the longer token at the end.
 * Only this room; read-only after loading, so any thread with its own scratch.
 * Time: the piece times the longest token at worst; memory 16 bytes per byte of the piece. */
#ifndef MODEL_UNIGRAM_H
#define MODEL_UNIGRAM_H
#include "model/trie.h"

struct unigram {
	struct trie trie; /* to ids */
	double *scores;   /* [score_count], by id */
	size_t score_count;
	size_t score_capacity;
	double score_min;
	uint32_t unknown; /* the id, or TRIE_NONE: such text is an error */
};

/* Ids are added in order from 0.  An empty spelling is never found. */
MUST_USE enum err unigram_add(struct unigram *unigram, const char *spelling, size_t length, double score);
void unigram_fini(struct unigram *unigram);

struct unigram_scratch {
	struct unigram_node *nodes; /* [node_capacity] */
	size_t node_capacity;
};
void unigram_scratch_fini(struct unigram_scratch *scratch);

/* Takes each token in order: its text, and its id or that of the unknown. */
struct unigram_sink {
	enum err (*take)(void *arg, uint32_t id, const char *text, size_t length);
	void *arg;
};

/* Text is valid UTF-8.  ERR_UNSUPPORTED: a character is in no token, and there is no unknown one. */
MUST_USE enum err unigram_encode(const struct unigram *unigram, struct unigram_scratch *scratch,
				 const char *text, size_t length, struct unigram_sink sink);
#endif
