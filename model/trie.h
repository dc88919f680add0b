/* trie - byte strings and a number for each, found as the prefixes of a text.
 *
 * Nodes are linked by one hash table keyed by (node, byte), so that a step costs the same however many
 * children a node has.  Zeroed memory is an empty trie.  Only this room; read-only once filled. */
#ifndef MODEL_TRIE_H
#define MODEL_TRIE_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define TRIE_NONE UINT32_MAX

struct trie {
	struct trie_link *links; /* [link_capacity], a power of two */
	size_t link_capacity;
	uint32_t *values; /* [node_capacity]: TRIE_NONE where no string ends; node 0 is the root */
	uint32_t node_count;
	uint32_t node_capacity;
};

/* Of equal strings the first stays.  The string is not empty; value is not TRIE_NONE. */
MUST_USE enum err trie_add(struct trie *trie, const char *text, size_t length, uint32_t value);
void trie_fini(struct trie *trie);

/* The node behind `node` (0: the root) by one byte; 0: there is none. */
uint32_t trie_step(const struct trie *trie, uint32_t node, uint8_t byte);
/* TRIE_NONE, or the number of the string that ends here. */
static inline uint32_t trie_value(const struct trie *trie, uint32_t node)
{
	return trie->values[node];
}
#endif
