/* bench_mask - how long a mask takes: bench_mask TOKENIZER.JSON [TOKENS]
 *
 * Walks that choose any allowed token, closing what is open with one choice in five, over TOKENS tokens of each structure.
 * First with everything to be found out anew whenever a document begins (cold), then with what was found kept (warm). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "model/mask.h"
#include "model/structure.h"
#include "model/tokenizer.h"

struct bench {
	struct tokenizer *tokenizer;
	struct token_trie *trie;
	struct mask_maker *maker;
	struct matcher matcher;
	struct rng rng;
	uint64_t *mask;
	double *seconds;
	uint32_t count, wanted;
};

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool allowed(const struct bench *b, uint32_t id)
{
	return b->mask[id / 64] >> id % 64 & 1;
}

static uint32_t choose(struct bench *b)
{
	static const char *const closers[] = {"\"", "}", "]"};
	uint32_t id;
	for (size_t i = 0; rng_below(&b->rng, 5) == 0 && i < sizeof(closers) / sizeof(closers[0]); i++)
		if (tokenizer_find(b->tokenizer, closers[i], &id) == ERR_OK && allowed(b, id))
			return id;
	uint32_t start = (uint32_t)rng_below(&b->rng, b->trie->vocab_size);
	for (uint32_t i = 0; i < b->trie->vocab_size; i++)
		if (allowed(b, (start + i) % b->trie->vocab_size))
			return (start + i) % b->trie->vocab_size;
	return UINT32_MAX;
}

/* One document; what a step of the engine does: read the token, make the mask. */
static enum err document(struct bench *b, const struct grammar *grammar, struct mask_cache *cache)
{
	matcher_begin(&b->matcher, grammar);
	const uint8_t *bytes = NULL;
	uint8_t spelling[TOKEN_SPELLING];
	size_t length = 0;
	while (b->count < b->wanted) {
		double start = now_s();
		if (!matcher_read(&b->matcher, bytes, length))
			return ERR_INVALID;
		enum err e = mask_fill(b->maker, cache, &b->matcher, b->mask);
		b->seconds[b->count++] = now_s() - start;
		uint32_t id = e == ERR_OK ? choose(b) : UINT32_MAX;
		if (id == UINT32_MAX || (matcher_accepts(&b->matcher) && rng_below(&b->rng, 3) == 0))
			return e;
		e = token_trie_bytes(b->tokenizer, id, spelling, &bytes, &length);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static enum err measure(struct bench *b, const struct grammar *grammar, bool cold, const char *name)
{
	struct mask_cache *cache = NULL;
	enum err e = mask_cache_create(grammar, &cache);
	for (b->count = 0; b->count < b->wanted && e == ERR_OK;) {
		if (cold) {
			mask_cache_destroy(cache);
			cache = NULL;
			e = mask_cache_create(grammar, &cache);
		}
		if (e == ERR_OK)
			e = document(b, grammar, cache);
	}
	mask_cache_destroy(cache);
	qsort(b->seconds, b->count, sizeof(*b->seconds), by_size);
	printf("| %s | %s | %.1f | %.1f | %.1f |\n", name, cold ? "cold" : "warm", b->seconds[b->count / 2] * 1e6,
	       b->seconds[b->count - b->count / 100 - 1] * 1e6, b->seconds[b->count - 1] * 1e6);
	return e;
}

static const char *const structures[][2] = {
	{"any object", "{\"json\":{\"type\":\"object\"}}"},
	{"person", "{\"json\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\",\"minimum\":0,"
		   "\"maximum\":150},\"email\":{\"type\":\"string\",\"format\":\"email\"},\"tags\":{\"type\":\"array\",\"items\":{\"enum\":"
		   "[\"red\",\"green\",\"blue\"]}}},\"required\":[\"name\",\"age\",\"email\",\"tags\"]}}"},
	{"bounded texts", "{\"json\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":5,\"maxLength\":100}}}"},
	{"tree", "{\"json\":{\"$defs\":{\"N\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"string\"},\"c\":{\"type\":\"array\","
		 "\"items\":{\"$ref\":\"#/$defs/N\"}}},\"required\":[\"v\",\"c\"]}},\"$ref\":\"#/$defs/N\"}}"},
	{"expression", "{\"regex\":\"([A-Z][a-z]+ ){3,9}[0-9]{4}-[0-9]{2}\"}"},
};

static enum err bench_one(struct bench *b, const char *name, const char *text)
{
	const struct structure_tokens tokens = {b->tokenizer, b->trie};
	struct why why = {0};
	struct grammar *grammar;
	double start = now_s();
	enum err e = structure_compile(text, strlen(text), &tokens, &why, &grammar);
	if (e != ERR_OK) {
		fprintf(stderr, "%s: %s\n", name, why.text);
		return e;
	}
	printf("%s: compiled in %.2f ms, %u steps, %u nodes\n", name, (now_s() - start) * 1e3, grammar->steps, grammar->node_count);
	e = measure(b, grammar, true, name);
	if (e == ERR_OK)
		e = measure(b, grammar, false, name);
	grammar_destroy(grammar);
	return e;
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct why why = {0};
	enum err e = argc > 1 ? tokenizer_load(argv[1], &why, &b.tokenizer) : ERR_INVALID;
	double start = now_s();
	if (e == ERR_OK)
		e = token_trie_create(b.tokenizer, &b.trie);
	if (e == ERR_OK)
		e = mask_maker_create(b.trie, &b.maker);
	if (e != ERR_OK) {
		fprintf(stderr, "%s\n", argc > 1 ? why.text : "usage: bench_mask TOKENIZER.JSON [TOKENS]");
		return 1;
	}
	printf("%u tokens, %u nodes, a tree in %.0f ms\n", b.trie->token_count, b.trie->node_count, (now_s() - start) * 1e3);
	b.wanted = argc > 2 ? (uint32_t)atoi(argv[2]) : 3000;
	b.mask = calloc(mask_words(b.trie), sizeof(*b.mask));
	b.seconds = calloc(b.wanted + 1, sizeof(*b.seconds));
	if (!b.mask || !b.seconds)
		return 1;
	printf("| structure | lists | p50 µs | p99 µs | most µs |\n| --- | --- | --: | --: | --: |\n");
	for (size_t i = 0; i < sizeof(structures) / sizeof(structures[0]) && e == ERR_OK; i++)
		e = bench_one(&b, structures[i][0], structures[i][1]);
	free(b.mask);
	free(b.seconds);
	mask_maker_destroy(b.maker);
	token_trie_destroy(b.trie);
	tokenizer_destroy(b.tokenizer);
	return e == ERR_OK ? 0 : 1;
}
