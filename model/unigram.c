#include "model/unigram.h"

#include <assert.h>
#include <stdlib.h>

#include "model/utf8.h"

#define NO              UINT32_MAX
#define UNKNOWN_PENALTY 10.0 /* below the worst score */

/* The best way to the end of a prefix of the text. */
struct unigram_node {
	double score;
	uint32_t id;    /* of its last token */
	uint32_t begin; /* where that begins; NO: there is no way yet. Afterwards, where the next one ends */
};

enum err unigram_add(struct unigram *unigram, const char *spelling, size_t length, double score)
{
	if (unigram->score_count == unigram->score_capacity) {
		size_t capacity = unigram->score_capacity ? unigram->score_capacity * 2 : 1024;
		double *scores = realloc(unigram->scores, capacity * sizeof(*scores));
		if (!scores)
			return ERR_NOMEM;
		unigram->scores = scores;
		unigram->score_capacity = capacity;
	}
	if (unigram->score_count == 0 || score < unigram->score_min)
		unigram->score_min = score;
	uint32_t id = (uint32_t)unigram->score_count;
	unigram->scores[unigram->score_count++] = score;
	return length ? trie_add(&unigram->trie, spelling, length, id) : ERR_OK;
}

void unigram_fini(struct unigram *unigram)
{
	trie_fini(&unigram->trie);
	free(unigram->scores);
	*unigram = (struct unigram){0};
}

void unigram_scratch_fini(struct unigram_scratch *scratch)
{
	free(scratch->nodes);
	*scratch = (struct unigram_scratch){0};
}

static enum err reserve(struct unigram_scratch *scratch, size_t length)
{
	if (length + 1 > scratch->node_capacity) {
		unigram_scratch_fini(scratch);
		scratch->nodes = malloc((length + 1) * sizeof(*scratch->nodes));
		if (!scratch->nodes)
			return ERR_NOMEM;
		scratch->node_capacity = length + 1;
	}
	for (size_t i = 0; i <= length; i++)
		scratch->nodes[i] = (struct unigram_node){.begin = NO};
	return ERR_OK;
}

static void offer(struct unigram_node *nodes, size_t begin, size_t end, uint32_t id, double score)
{
	double sum = score + nodes[begin].score;
	if (nodes[end].begin == NO || sum > nodes[end].score)
		nodes[end] = (struct unigram_node){.score = sum, .id = id, .begin = (uint32_t)begin};
}

/* All tokens that begin at `at`; true if one is exactly the character there. */
static bool offer_tokens(const struct unigram *unigram, struct unigram_node *nodes, const char *text,
			 size_t length, size_t at, size_t character_length)
{
	bool single = false;
	uint32_t node = 0;
	for (size_t end = at; end < length;) {
		node = trie_step(&unigram->trie, node, (uint8_t)text[end++]);
		if (!node)
			break;
		uint32_t id = trie_value(&unigram->trie, node);
		if (id == TRIE_NONE)
			continue;
		offer(nodes, at, end, id, unigram->scores[id]);
		single |= end - at == character_length;
	}
	return single;
}

static enum err find_best(const struct unigram *unigram, struct unigram_node *nodes, const char *text, size_t length)
{
	double unknown_score = unigram->score_min - UNKNOWN_PENALTY;
	for (size_t at = 0; at < length;) {
		uint32_t character;
		int n = utf8_step((const uint8_t *)text + at, length - at, &character);
		if (n <= 0)
			return ERR_INVALID;
		if (!offer_tokens(unigram, nodes, text, length, at, (size_t)n)) {
			if (unigram->unknown == TRIE_NONE)
				return ERR_UNSUPPORTED;
			offer(nodes, at, at + (size_t)n, unigram->unknown, unknown_score);
		}
		at += (size_t)n;
	}
	return ERR_OK;
}

/* From the end to the start: each node on the best way learns where the token behind it ends. */
static void turn_around(struct unigram_node *nodes, size_t length)
{
	uint32_t end = (uint32_t)length, next_end = NO, next_id = NO;
	for (;;) {
		uint32_t begin = nodes[end].begin, id = nodes[end].id;
		nodes[end].begin = next_end;
		nodes[end].id = next_id;
		next_end = end;
		next_id = id;
		if (end == 0)
			break;
		end = begin;
	}
}

enum err unigram_encode(const struct unigram *unigram, struct unigram_scratch *scratch, const char *text,
			size_t length, struct unigram_sink sink)
{
	if (length >= NO)
		return ERR_TOO_LARGE;
	enum err e = reserve(scratch, length);
	struct unigram_node *nodes = scratch->nodes;
	if (e == ERR_OK)
		e = find_best(unigram, nodes, text, length);
	if (e != ERR_OK)
		return e;
	turn_around(nodes, length);
	for (size_t at = 0; at < length && e == ERR_OK;) {
		size_t end = nodes[at].begin;
		uint32_t id = nodes[at].id;
		while (id == unigram->unknown && end < length && nodes[end].id == id)
			end = nodes[end].begin;
		e = sink.take(sink.arg, id, text + at, end - at);
		at = end;
	}
	return e;
}
