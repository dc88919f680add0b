/* token_trie - the tokens of a vocabulary as a tree of bytes: texts that begin alike are looked at once.
 *
 * Nodes lie in the order of their texts, a node before all below it, so a subtree is a range.  Added tokens are no text, but
 * for those that are white space (Gemma's line breaks): their "bytes" here are TOKEN_MARK, which is in no text, and three
 * of their number (token_trie_spell()), so that a grammar can ask for them by name and nothing else ever allows them.
 * Tokens without bytes, of more than TOKEN_BYTES_MAX, or with a byte that UTF-8 never has are left out.
 *
 * Owns:   its arrays, some 12 bytes a node.  Read-only once made: any thread.
 * Bounds: VOCAB_IDS_MAX tokens. */
#ifndef MODEL_TOKEN_TRIE_H
#define MODEL_TOKEN_TRIE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct tokenizer;

enum { TOKEN_MARK = 0xff, TOKEN_SPELLING = 4, TOKEN_BYTES_MAX = 128 };

struct token_node {
	uint32_t end;         /* one past the last node below */
	uint32_t token_first; /* of those that end here; they go on to the next node's first */
	uint8_t byte;
	uint8_t below; /* bytes of the longest text below */
	bool text;     /* all below, read from a character's start, is UTF-8 without controls, quotes and backslashes: the inside
			* of any text of JSON */
};

struct token_trie {
	struct token_node *nodes; /* [node_count + 1]; node 0 is the root, the last one a guard */
	uint32_t node_count;
	uint32_t *tokens;         /* [token_count] ids */
	uint32_t token_count;
	uint32_t vocab_size;
	uint8_t usable[256];      /* bytes that are a token by themselves, and TOKEN_MARK: 1 */
};

MUST_USE enum err token_trie_create(const struct tokenizer *tokenizer, struct token_trie **ret_trie);
void token_trie_destroy(struct token_trie *trie);
void token_trie_spell(uint32_t id, uint8_t ret_bytes[TOKEN_SPELLING]);
/* The bytes of a token as a grammar reads them: its own, or its mark, written into spelling.  ERR_NOT_FOUND: unused id. */
MUST_USE enum err token_trie_bytes(const struct tokenizer *tokenizer, uint32_t id, uint8_t spelling[TOKEN_SPELLING],
				   const uint8_t **ret_bytes, size_t *ret_length);
#endif
