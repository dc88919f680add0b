#include "model/mask.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Of one node of the grammar: what tokens do that begin there. */
struct node_mask {
	uint32_t *ids;      /* [id_count] allowed tokens, where they are few; else NULL */
	uint64_t *bits;     /* [words] else */
	uint32_t *returns;  /* [return_count] places in the tree where the rule may be over, with more below */
	uint32_t id_count, return_count;
	uint32_t peak;      /* frames that the deepest of its ways needs above its own */
};

struct mask_cache {
	const struct grammar *grammar;
	const struct token_trie *trie;
	struct node_mask **nodes; /* [node_count] */
	size_t bytes;
	struct matcher matcher;   /* for walks that begin at a node, with nothing below */
	/* Of a walk. */
	struct matcher_way *ways; /* of the places on the way down, one after the other */
	uint64_t *bits;           /* [words] what it allows */
	uint32_t *returns;        /* [trie->node_count] */
	uint32_t return_count;
	bool wants_returns;
};

enum { IDS_FEW = 1024, WAYS_ROOM = MATCHER_WAYS_MAX * (TOKEN_BYTES_MAX + 2) };

static void allow(const struct mask_cache *cache, uint32_t place)
{
	const struct token_trie *trie = cache->trie;
	for (uint32_t i = trie->nodes[place].token_first; i < trie->nodes[place + 1].token_first; i++)
		cache->bits[trie->tokens[i] / 64] |= UINT64_C(1) << trie->tokens[i] % 64;
}

static void note_return(struct mask_cache *cache, const struct matcher *m, uint32_t place,
			const struct matcher_way *ways, uint32_t count)
{
	bool more_below = cache->trie->nodes[place].end > place + 1;
	for (uint32_t i = 0; more_below && i < count; i++) {
		if (!matcher_ends(m, ways[i]))
			continue;
		cache->returns[cache->return_count++] = place;
		return;
	}
}

/* All below a place of the tree, from `count` ways that stand there; further ways are written behind them. */
static void walk(struct mask_cache *cache, struct matcher *m, uint32_t place, struct matcher_way *ways, uint32_t count)
{
	const struct token_node *nodes = cache->trie->nodes;
	struct matcher_way *next = ways + count;
	uint32_t frames = m->frame_count;
	for (uint32_t child = place + 1; child < nodes[place].end; child = nodes[child].end) {
		uint32_t found = 0;
		for (uint32_t i = 0; i < count; i++)
			matcher_step(m, ways[i], nodes[child].byte, next, &found);
		if (found > 0) {
			allow(cache, child);
			if (cache->wants_returns)
				note_return(cache, m, child, next, found);
			walk(cache, m, child, next, found);
		}
		matcher_unwind(m, frames);
	}
}

/* ---- lists of a node */

static void destroy_node_mask(struct node_mask *mask)
{
	if (!mask)
		return;
	free(mask->ids);
	free(mask->bits);
	free(mask->returns);
	free(mask);
}

static void forget(struct mask_cache *cache)
{
	for (uint32_t i = 0; i < cache->grammar->node_count; i++) {
		destroy_node_mask(cache->nodes[i]);
		cache->nodes[i] = NULL;
	}
	cache->bytes = 0;
}

static uint32_t count_bits(const uint64_t *bits, size_t words)
{
	uint32_t count = 0;
	for (size_t i = 0; i < words; i++)
		count += (uint32_t)__builtin_popcountll(bits[i]);
	return count;
}

static void list_bits(const uint64_t *bits, size_t words, uint32_t *ids)
{
	for (size_t i = 0; i < words; i++)
		for (uint64_t rest = bits[i]; rest; rest &= rest - 1)
			*ids++ = (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(rest);
}

/* A copy of the walk's findings. */
static struct node_mask *keep(struct mask_cache *cache)
{
	size_t words = mask_words(cache->trie);
	struct node_mask *mask = calloc(1, sizeof(*mask));
	if (!mask)
		return NULL;
	mask->id_count = count_bits(cache->bits, words);
	mask->return_count = cache->return_count;
	mask->peak = cache->matcher.peak;
	bool few = mask->id_count <= IDS_FEW;
	size_t id_bytes = few ? mask->id_count * sizeof(uint32_t) : words * sizeof(uint64_t);
	void *ids = malloc(id_bytes + 1);
	mask->ids = few ? ids : NULL;
	mask->bits = few ? NULL : ids;
	mask->returns = malloc(cache->return_count * sizeof(uint32_t) + 1);
	if (!ids || !mask->returns) {
		destroy_node_mask(mask);
		return NULL;
	}
	if (few)
		list_bits(cache->bits, words, mask->ids);
	else
		memcpy(mask->bits, cache->bits, id_bytes);
	memcpy(mask->returns, cache->returns, cache->return_count * sizeof(uint32_t));
	cache->bytes += sizeof(*mask) + id_bytes + cache->return_count * sizeof(uint32_t);
	return mask;
}

/* Walks the whole tree from a node with nothing below it. */
static struct node_mask *make_node_mask(struct mask_cache *cache, uint32_t node)
{
	if (cache->bytes > MASK_CACHE_BYTES_MAX)
		forget(cache);
	struct matcher *m = &cache->matcher;
	uint64_t *outer = cache->bits;
	uint64_t *bits = calloc(mask_words(cache->trie) + 1, sizeof(*bits));
	if (!bits)
		return NULL;
	matcher_begin(m, cache->grammar);
	cache->bits = bits;
	cache->return_count = 0;
	cache->wants_returns = true;
	cache->ways[0] = (struct matcher_way){node, 0};
	walk(cache, m, 0, cache->ways, 1);
	cache->wants_returns = false;
	cache->nodes[node] = keep(cache);
	cache->bits = outer;
	free(bits);
	return cache->nodes[node];
}

/* ---- a mask */

static void add_list(const struct mask_cache *cache, const struct node_mask *mask)
{
	size_t words = mask_words(cache->trie);
	if (mask->ids)
		for (uint32_t i = 0; i < mask->id_count; i++)
			cache->bits[mask->ids[i] / 64] |= UINT64_C(1) << mask->ids[i] % 64;
	else
		for (size_t i = 0; i < words; i++)
			cache->bits[i] |= mask->bits[i];
}

static struct matcher_way return_of(const struct matcher *m, struct matcher_way way)
{
	return (struct matcher_way){m->frames[way.frame].node, m->frames[way.frame].parent};
}

/* One way, without those that it returns to at once. */
static enum err add_way(struct mask_cache *cache, struct matcher *m, struct matcher_way way)
{
	struct node_mask *mask = cache->nodes[way.node] ? cache->nodes[way.node] : make_node_mask(cache, way.node);
	if (!mask)
		return ERR_NOMEM;
	if (m->frames[way.frame].depth + mask->peak > GRAMMAR_DEPTH_MAX) {
		/* So near the stack's bound the list may promise too much. */
		cache->ways[0] = way;
		walk(cache, m, 0, cache->ways, 1);
		return ERR_OK;
	}
	add_list(cache, mask);
	for (uint32_t i = 0; way.frame != 0 && i < mask->return_count; i++) {
		cache->ways[0] = return_of(m, way);
		walk(cache, m, mask->returns[i], cache->ways, 1);
	}
	return ERR_OK;
}

struct done {
	struct matcher_way ways[MATCHER_WAYS_MAX];
	uint32_t count;
};

static bool met(struct done *done, struct matcher_way way)
{
	for (uint32_t i = 0; i < done->count; i++)
		if (done->ways[i].node == way.node && done->ways[i].frame == way.frame)
			return true;
	if (done->count < MATCHER_WAYS_MAX)
		done->ways[done->count++] = way;
	return false;
}

enum err mask_fill(struct mask_cache *cache, struct matcher *m, uint64_t *bits)
{
	struct done done = {.count = 0};
	assert(m->grammar == cache->grammar);
	memset(bits, 0, mask_words(cache->trie) * sizeof(*bits));
	cache->bits = bits;
	for (uint32_t i = 0; i < m->way_count; i++) {
		struct matcher_way way = m->ways[i];
		while (!met(&done, way)) {
			enum err e = add_way(cache, m, way);
			if (e != ERR_OK)
				return e;
			if (!cache->grammar->nodes[way.node].final || way.frame == 0)
				break;
			way = return_of(m, way);
		}
	}
	return ERR_OK;
}

/* ---- life */

enum err mask_cache_create(const struct grammar *grammar, const struct token_trie *trie, struct mask_cache **ret_cache)
{
	struct mask_cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return ERR_NOMEM;
	cache->grammar = grammar;
	cache->trie = trie;
	cache->nodes = calloc(grammar->node_count, sizeof(struct node_mask *));
	cache->ways = malloc(WAYS_ROOM * sizeof(*cache->ways));
	cache->returns = malloc(trie->node_count * sizeof(*cache->returns));
	if (!cache->nodes || !cache->ways || !cache->returns) {
		mask_cache_destroy(cache);
		return ERR_NOMEM;
	}
	*ret_cache = cache;
	return ERR_OK;
}

void mask_cache_destroy(struct mask_cache *cache)
{
	if (!cache)
		return;
	if (cache->nodes)
		forget(cache);
	free(cache->nodes);
	free(cache->ways);
	free(cache->returns);
	free(cache);
}
