#include "model/trie.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

struct trie_link {
	uint32_t node;
	uint32_t child; /* 0: a free place */
	uint8_t byte;
};

static struct trie_link *find(const struct trie *trie, uint32_t node, uint8_t byte)
{
	size_t mask = trie->link_capacity - 1;
	size_t at = (size_t)rng_mix((uint64_t)node << 8 | byte) & mask;
	for (;; at = (at + 1) & mask) {
		struct trie_link *link = &trie->links[at];
		if (link->child == 0 || (link->node == node && link->byte == byte))
			return link;
	}
}

static enum err grow_links(struct trie *trie)
{
	if ((size_t)trie->node_count * 2 < trie->link_capacity)
		return ERR_OK;
	struct trie larger = {.link_capacity = trie->link_capacity ? trie->link_capacity * 2 : 256};
	larger.links = calloc(larger.link_capacity, sizeof(*larger.links));
	if (!larger.links)
		return ERR_NOMEM;
	for (size_t i = 0; i < trie->link_capacity; i++)
		if (trie->links[i].child)
			*find(&larger, trie->links[i].node, trie->links[i].byte) = trie->links[i];
	free(trie->links);
	trie->links = larger.links;
	trie->link_capacity = larger.link_capacity;
	return ERR_OK;
}

/* Room for one more node. */
static enum err grow(struct trie *trie)
{
	if (trie->node_count == trie->node_capacity) {
		uint32_t capacity = trie->node_capacity ? trie->node_capacity * 2 : 64;
		uint32_t *values = realloc(trie->values, capacity * sizeof(*values));
		if (!values)
			return ERR_NOMEM;
		trie->values = values;
		trie->node_capacity = capacity;
	}
	if (trie->node_count == 0)
		trie->values[trie->node_count++] = TRIE_NONE;
	return grow_links(trie);
}

static enum err add_child(struct trie *trie, uint32_t node, uint8_t byte, uint32_t *ret_child)
{
	enum err e = grow(trie);
	if (e != ERR_OK)
		return e;
	uint32_t child = trie->node_count++;
	trie->values[child] = TRIE_NONE;
	*find(trie, node, byte) = (struct trie_link){.node = node, .child = child, .byte = byte};
	*ret_child = child;
	return ERR_OK;
}

uint32_t trie_step(const struct trie *trie, uint32_t node, uint8_t byte)
{
	return trie->link_capacity ? find(trie, node, byte)->child : 0;
}

enum err trie_add(struct trie *trie, const char *text, size_t length, uint32_t value)
{
	assert(length > 0 && value != TRIE_NONE);
	uint32_t node = 0;
	for (size_t i = 0; i < length; i++) {
		uint32_t child = trie_step(trie, node, (uint8_t)text[i]);
		enum err e = child ? ERR_OK : add_child(trie, node, (uint8_t)text[i], &child);
		if (e != ERR_OK)
			return e;
		node = child;
	}
	if (trie->values[node] == TRIE_NONE)
		trie->values[node] = value;
	return ERR_OK;
}

void trie_fini(struct trie *trie)
{
	free(trie->links);
	free(trie->values);
	*trie = (struct trie){0};
}
