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
	struct node_mask **nodes; /* [node_count] */
	uint8_t *runs;            /* [node_count] characters that may follow whatever they are; RUN_ENDLESS */
	size_t bytes;
};

enum { RUN_ENDLESS = UINT8_MAX };

struct mask_maker {
	const struct token_trie *trie;
	struct mask_cache *cache; /* of the mask being made */
	struct matcher matcher;   /* for walks that begin at a node, with nothing below */
	uint64_t *bits;           /* [words] what a walk allows; the caller's, or own_bits */
	uint64_t *own_bits;
	struct matcher_way *ways; /* of the places on the way down, one after the other */
	uint32_t *returns;        /* [trie->node_count] */
	uint32_t return_count;
	bool wants_returns;
};

enum { IDS_FEW = 1024, WAYS_ROOM = MATCHER_WAYS_MAX * (TOKEN_BYTES_MAX + 2) };

static void allow(const struct mask_maker *maker, uint32_t place)
{
	const struct token_trie *trie = maker->trie;
	for (uint32_t i = trie->nodes[place].token_first; i < trie->nodes[place + 1].token_first; i++)
		maker->bits[trie->tokens[i] / 64] |= UINT64_C(1) << trie->tokens[i] % 64;
}

static void allow_below(struct mask_maker *maker, uint32_t place)
{
	const struct token_trie *trie = maker->trie;
	uint32_t end = trie->nodes[trie->nodes[place].end].token_first;
	for (uint32_t i = trie->nodes[place].token_first; i < end; i++)
		maker->bits[trie->tokens[i] / 64] |= UINT64_C(1) << trie->tokens[i] % 64;
}

/* Where any character leads that stands in a text for itself; UINT32_MAX: not to one place, or more than that may happen. */
static uint32_t after_text(const struct grammar *g, const struct grammar_node *node)
{
	uint32_t plain = 0, target = node->call_count == 1 ? g->calls[node->call_first].target : UINT32_MAX;
	if (node->final || target == UINT32_MAX || g->calls[node->call_first].rule != g->text_tail)
		return UINT32_MAX;
	for (uint32_t i = 0; i < node->edge_count; i++) {
		const struct grammar_edge *edge = &g->edges[node->edge_first + i];
		for (uint32_t c = edge->low; edge->target == target && c <= edge->high; c++)
			plain += c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
	}
	return plain == 0x80 - 0x20 - 2 ? target : UINT32_MAX;
}

/* Nodes of a chain are made in its order. */
static void find_runs(const struct grammar *g, uint8_t *runs)
{
	for (uint32_t i = g->node_count; i-- > 0;) {
		uint32_t target = after_text(g, &g->nodes[i]);
		if (target == i)
			runs[i] = RUN_ENDLESS;
		else if (target != UINT32_MAX && target > i)
			runs[i] = (uint8_t)(runs[target] + (runs[target] < RUN_ENDLESS - 1));
	}
}

/* Is all that stands below a place allowed, because it is text and the way is inside of one that is long enough? */
static bool takes_all(struct mask_maker *maker, struct matcher *m, uint32_t place, struct matcher_way way)
{
	const struct token_node *node = &maker->trie->nodes[place];
	uint32_t depth = m->frames[way.frame].depth + 1; /* of a character that is no ASCII */
	if (!node->text || maker->cache->runs[way.node] < node->below || depth > GRAMMAR_DEPTH_MAX)
		return false;
	m->peak = depth > m->peak ? depth : m->peak;
	return true;
}

static void note_return(struct mask_maker *maker, const struct matcher *m, uint32_t place,
			const struct matcher_way *ways, uint32_t count)
{
	bool more_below = maker->trie->nodes[place].end > place + 1;
	for (uint32_t i = 0; more_below && i < count; i++) {
		if (!matcher_ends(m, ways[i]))
			continue;
		maker->returns[maker->return_count++] = place;
		return;
	}
}

/* All below a place of the tree, from `count` ways that stand there; further ways are written behind them. */
static void walk(struct mask_maker *maker, struct matcher *m, uint32_t place, struct matcher_way *ways, uint32_t count)
{
	const struct token_node *nodes = maker->trie->nodes;
	struct matcher_way *next = ways + count;
	uint32_t frames = m->frame_count;
	for (uint32_t child = place + 1; child < nodes[place].end; child = nodes[child].end) {
		uint32_t found = 0;
		for (uint32_t i = 0; i < count; i++)
			matcher_step(m, ways[i], nodes[child].byte, next, &found);
		if (found == 1 && takes_all(maker, m, child, next[0])) {
			allow_below(maker, child);
		} else if (found > 0) {
			allow(maker, child);
			if (maker->wants_returns)
				note_return(maker, m, child, next, found);
			walk(maker, m, child, next, found);
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
static struct node_mask *keep(const struct mask_maker *maker, struct mask_cache *cache)
{
	size_t words = mask_words(maker->trie);
	struct node_mask *mask = calloc(1, sizeof(*mask));
	if (!mask)
		return NULL;
	mask->id_count = count_bits(maker->bits, words);
	mask->return_count = maker->return_count;
	mask->peak = maker->matcher.peak;
	bool few = mask->id_count <= IDS_FEW;
	size_t id_bytes = few ? mask->id_count * sizeof(uint32_t) : words * sizeof(uint64_t);
	void *ids = malloc(id_bytes + 1);
	mask->ids = few ? ids : NULL;
	mask->bits = few ? NULL : ids;
	mask->returns = malloc(maker->return_count * sizeof(uint32_t) + 1);
	if (!ids || !mask->returns) {
		destroy_node_mask(mask);
		return NULL;
	}
	if (few)
		list_bits(maker->bits, words, mask->ids);
	else
		memcpy(mask->bits, maker->bits, id_bytes);
	memcpy(mask->returns, maker->returns, maker->return_count * sizeof(uint32_t));
	cache->bytes += sizeof(*mask) + id_bytes + maker->return_count * sizeof(uint32_t);
	return mask;
}

/* Walks the whole tree from a node with nothing below it. */
static struct node_mask *make_node_mask(struct mask_maker *maker, struct mask_cache *cache, uint32_t node)
{
	uint64_t *outer = maker->bits;
	if (cache->bytes > MASK_CACHE_BYTES_MAX)
		forget(cache);
	matcher_begin(&maker->matcher, cache->grammar);
	memset(maker->own_bits, 0, mask_words(maker->trie) * sizeof(*maker->own_bits));
	maker->bits = maker->own_bits;
	maker->return_count = 0;
	maker->wants_returns = true;
	maker->ways[0] = (struct matcher_way){node, 0};
	walk(maker, &maker->matcher, 0, maker->ways, 1);
	maker->wants_returns = false;
	cache->nodes[node] = keep(maker, cache);
	maker->bits = outer;
	return cache->nodes[node];
}

/* ---- a mask */

static void add_list(struct mask_maker *maker, const struct node_mask *mask)
{
	size_t words = mask_words(maker->trie);
	for (uint32_t i = 0; mask->ids && i < mask->id_count; i++)
		maker->bits[mask->ids[i] / 64] |= UINT64_C(1) << mask->ids[i] % 64;
	for (size_t i = 0; mask->bits && i < words; i++)
		maker->bits[i] |= mask->bits[i];
}

static struct matcher_way return_of(const struct matcher *m, struct matcher_way way)
{
	return (struct matcher_way){m->frames[way.frame].node, m->frames[way.frame].parent};
}

/* One way, without those that it returns to at once. */
static enum err add_way(struct mask_maker *maker, struct mask_cache *cache, struct matcher *m, struct matcher_way way)
{
	struct node_mask *mask = cache->nodes[way.node];
	if (!mask)
		mask = make_node_mask(maker, cache, way.node);
	if (!mask)
		return ERR_NOMEM;
	if (m->frames[way.frame].depth + mask->peak > GRAMMAR_DEPTH_MAX) {
		/* So near the stack's bound the list may promise too much. */
		maker->ways[0] = way;
		walk(maker, m, 0, maker->ways, 1);
		return ERR_OK;
	}
	add_list(maker, mask);
	for (uint32_t i = 0; way.frame != 0 && i < mask->return_count; i++) {
		maker->ways[0] = return_of(m, way);
		walk(maker, m, mask->returns[i], maker->ways, 1);
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

enum err mask_fill(struct mask_maker *maker, struct mask_cache *cache, struct matcher *m, uint64_t *bits)
{
	struct done done = {.count = 0};
	assert(m->grammar == cache->grammar);
	maker->cache = cache;
	memset(bits, 0, mask_words(maker->trie) * sizeof(*bits));
	maker->bits = bits;
	for (uint32_t i = 0; i < m->way_count; i++) {
		struct matcher_way way = m->ways[i];
		while (!met(&done, way)) {
			enum err e = add_way(maker, cache, m, way);
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

enum err mask_maker_create(const struct token_trie *trie, struct mask_maker **ret_maker)
{
	struct mask_maker *maker = calloc(1, sizeof(*maker));
	if (!maker)
		return ERR_NOMEM;
	maker->trie = trie;
	maker->own_bits = calloc(mask_words(trie) + 1, sizeof(*maker->own_bits));
	maker->ways = malloc(WAYS_ROOM * sizeof(*maker->ways));
	maker->returns = malloc((trie->node_count + 1) * sizeof(*maker->returns));
	if (!maker->own_bits || !maker->ways || !maker->returns) {
		mask_maker_destroy(maker);
		return ERR_NOMEM;
	}
	*ret_maker = maker;
	return ERR_OK;
}

void mask_maker_destroy(struct mask_maker *maker)
{
	if (!maker)
		return;
	free(maker->own_bits);
	free(maker->ways);
	free(maker->returns);
	free(maker);
}

enum err mask_cache_create(const struct grammar *grammar, struct mask_cache **ret_cache)
{
	struct mask_cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return ERR_NOMEM;
	cache->grammar = grammar;
	cache->nodes = calloc(grammar->node_count + 1, sizeof(struct node_mask *));
	cache->runs = calloc(grammar->node_count + 1, sizeof(*cache->runs));
	if (!cache->nodes || !cache->runs) {
		mask_cache_destroy(cache);
		return ERR_NOMEM;
	}
	find_runs(grammar, cache->runs);
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
	free(cache->runs);
	free(cache);
}
