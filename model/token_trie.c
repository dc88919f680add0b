#include "model/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer.h"

struct text {
	const uint8_t *bytes;
	uint32_t length;
	uint32_t id;
};

void token_trie_spell(uint32_t id, uint8_t ret_bytes[TOKEN_SPELLING])
{
	ret_bytes[0] = TOKEN_MARK;
	ret_bytes[1] = (uint8_t)(id >> 16);
	ret_bytes[2] = (uint8_t)(id >> 8);
	ret_bytes[3] = (uint8_t)id;
}

enum err token_trie_bytes(const struct tokenizer *tokenizer, uint32_t id, uint8_t spelling[TOKEN_SPELLING],
			  const uint8_t **ret_bytes, size_t *ret_length)
{
	enum err e = tokenizer_token_bytes(tokenizer, id, ret_bytes, ret_length);
	if (e != ERR_OK || !tokenizer_is_added(tokenizer, id))
		return e;
	token_trie_spell(id, spelling);
	*ret_bytes = spelling;
	*ret_length = TOKEN_SPELLING;
	return ERR_OK;
}

static bool may_be_text(const uint8_t *bytes, size_t length)
{
	if (length == 0 || length > TOKEN_BYTES_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (bytes[i] == 0xc0 || bytes[i] == 0xc1 || bytes[i] > 0xf4)
			return false;
	return true;
}

/* By bytes, a beginning first, then by id. */
static int by_text(const void *a, const void *b)
{
	const struct text *x = a, *y = b;
	uint32_t least = x->length < y->length ? x->length : y->length;
	int order = memcmp(x->bytes, y->bytes, least);
	if (order == 0)
		order = (x->length > y->length) - (x->length < y->length);
	return order ? order : (x->id > y->id) - (x->id < y->id);
}

static uint32_t list_texts(const struct tokenizer *tokenizer, uint32_t vocab_size, struct text *texts,
			   uint8_t (*spellings)[TOKEN_SPELLING])
{
	uint32_t count = 0;
	for (uint32_t id = 0; id < vocab_size; id++) {
		const uint8_t *bytes;
		size_t length;
		if (token_trie_bytes(tokenizer, id, spellings[id], &bytes, &length) != ERR_OK)
			continue;
		if (bytes == spellings[id] || may_be_text(bytes, length))
			texts[count++] = (struct text){bytes, (uint32_t)length, id};
	}
	qsort(texts, count, sizeof(*texts), by_text);
	return count;
}

static uint32_t shared(const struct text *a, const struct text *b)
{
	uint32_t n = 0;
	while (n < a->length && n < b->length && a->bytes[n] == b->bytes[n])
		n++;
	return n;
}

static uint32_t count_nodes(const struct text *texts, uint32_t count)
{
	uint32_t nodes = 1;
	for (uint32_t i = 0; i < count; i++)
		nodes += texts[i].length - (i > 0 ? shared(&texts[i - 1], &texts[i]) : 0);
	return nodes;
}

/* Sorted texts walk the tree in order: what the next one does not share is closed. */
static void fill(struct token_trie *trie, const struct text *texts)
{
	uint32_t path[TOKEN_BYTES_MAX + 1] = {0}, depth = 0;
	trie->nodes[0] = (struct token_node){0};
	trie->node_count = 1;
	for (uint32_t i = 0; i < trie->token_count; i++) {
		uint32_t common = i > 0 ? shared(&texts[i - 1], &texts[i]) : 0;
		for (; depth > common; depth--)
			trie->nodes[path[depth]].end = trie->node_count;
		for (; depth < texts[i].length; trie->node_count++) {
			trie->nodes[trie->node_count] = (struct token_node){.byte = texts[i].bytes[depth], .token_first = i};
			path[++depth] = trie->node_count;
		}
		trie->tokens[i] = texts[i].id;
		if (texts[i].length == 1)
			trie->usable[texts[i].bytes[0]] = 1;
	}
	for (uint32_t i = 0; i <= depth; i++)
		trie->nodes[path[i]].end = trie->node_count;
	trie->nodes[trie->node_count] = (struct token_node){.token_first = trie->token_count};
	trie->usable[TOKEN_MARK] = 1;
}

/* So many bytes of a character are missing, the next one from low to high; 0: a character may begin. */
static bool is_text(const struct token_trie *trie, uint32_t place, int missing, uint8_t low, uint8_t high)
{
	if (missing == 0)
		return trie->nodes[place].text;
	for (uint32_t child = place + 1; child < trie->nodes[place].end; child = trie->nodes[child].end)
		if (trie->nodes[child].byte < low || trie->nodes[child].byte > high ||
		    !is_text(trie, child, missing - 1, 0x80, 0xbf))
			return false;
	return true;
}

static bool begins_text(const struct token_trie *trie, uint32_t place)
{
	uint8_t c = trie->nodes[place].byte;
	if (c < 0x80)
		return c >= 0x20 && c != '"' && c != '\\' && is_text(trie, place, 0, 0, 0);
	if (c < 0xc2 || c > 0xf4)
		return false;
	uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	return is_text(trie, place, c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3, low, high);
}

/* From the last to the first: all below a node come before it. */
static void look_below(struct token_trie *trie)
{
	for (uint32_t i = trie->node_count; i-- > 0;) {
		struct token_node *node = &trie->nodes[i];
		node->text = true;
		for (uint32_t child = i + 1; child < node->end; child = trie->nodes[child].end) {
			uint8_t longest = (uint8_t)(trie->nodes[child].below + 1);
			node->below = longest > node->below ? longest : node->below;
			node->text = node->text && begins_text(trie, child);
		}
	}
}

static enum err build(struct token_trie *trie, const struct tokenizer *tokenizer, struct text *texts,
		      uint8_t (*spellings)[TOKEN_SPELLING])
{
	trie->token_count = list_texts(tokenizer, trie->vocab_size, texts, spellings);
	trie->nodes = calloc(count_nodes(texts, trie->token_count) + 1, sizeof(*trie->nodes));
	trie->tokens = calloc(trie->token_count + 1, sizeof(*trie->tokens));
	if (!trie->nodes || !trie->tokens)
		return ERR_NOMEM;
	fill(trie, texts);
	look_below(trie);
	return ERR_OK;
}

enum err token_trie_create(const struct tokenizer *tokenizer, struct token_trie **ret_trie)
{
	struct token_trie *trie = calloc(1, sizeof(*trie));
	if (!trie)
		return ERR_NOMEM;
	trie->vocab_size = tokenizer_vocab_size(tokenizer);
	struct text *texts = calloc(trie->vocab_size + 1u, sizeof(*texts));
	uint8_t(*spellings)[TOKEN_SPELLING] = calloc(trie->vocab_size + 1u, sizeof(*spellings));
	enum err e = texts && spellings ? build(trie, tokenizer, texts, spellings) : ERR_NOMEM;
	free(texts);
	free(spellings);
	if (e != ERR_OK) {
		token_trie_destroy(trie);
		return e;
	}
	*ret_trie = trie;
	return ERR_OK;
}

void token_trie_destroy(struct token_trie *trie)
{
	if (!trie)
		return;
	free(trie->nodes);
	free(trie->tokens);
	free(trie);
}
