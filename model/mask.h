/* mask - which tokens may come next, as bits.
 *
 * What a token does to the top of a stack depends on the node there alone, until it returns below: so each node has a
 * list, made when it is first met, of the tokens that stay within its rule, and of the places in the tree of tokens where
 * the rule may end; only what lies below those is walked again, with the stack as it is.  (The idea is XGrammar's: context-
 * independent tokens, arXiv 2411.15100 section 3.1.)
 *
 * Owns:   a cache the lists of one grammar; a maker the room of a walk.  One thread at a time.
 * Bounds: MASK_CACHE_BYTES_MAX of lists; all of a grammar's are forgotten and made again when they come to more.
 * Rules:  1 a token is allowed exactly when matcher_read() of its bytes would succeed;
 *         2 what is cached never shows but in time. */
#ifndef MODEL_MASK_H
#define MODEL_MASK_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "model/matcher.h"
#include "model/token_trie.h"

#define MASK_CACHE_BYTES_MAX ((size_t)4 << 20)

struct mask_maker;
struct mask_cache;

MUST_USE enum err mask_maker_create(const struct token_trie *trie, struct mask_maker **ret_maker);
void mask_maker_destroy(struct mask_maker *maker);
/* Of one maker's trie, always. */
MUST_USE enum err mask_cache_create(const struct grammar *grammar, struct mask_cache **ret_cache);
void mask_cache_destroy(struct mask_cache *cache);

/* Words of a mask: one bit for each id below trie->vocab_size. */
static inline size_t mask_words(const struct token_trie *trie)
{
	return (trie->vocab_size + 63u) / 64;
}

/* bits: [mask_words()].  The matcher must be of the cache's grammar, and is left as it was. */
MUST_USE enum err mask_fill(struct mask_maker *maker, struct mask_cache *cache, struct matcher *matcher, uint64_t *bits);
#endif
