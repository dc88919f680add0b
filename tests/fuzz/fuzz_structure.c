/* A structure's text, a zero byte, then choices: each picks one of the tokens that the mask allows.  Something is allowed until
 * the text may end, every allowed token can be read, and making the grammar costs a bounded number of steps. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/mask.h"
#include "model/structure.h"
#include "model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static struct tokenizer *tokenizer;
static struct token_trie *trie;
static struct mask_maker *maker;
static struct matcher matcher;
static uint64_t *mask;

static void make_world(void)
{
	enum err e = tokenizer_load(GOLDEN_DIR "/tokenizer/gpt2.json", NULL, &tokenizer);
	if (e == ERR_OK)
		e = token_trie_create(tokenizer, &trie);
	if (e == ERR_OK)
		e = mask_maker_create(trie, &maker);
	assert(e == ERR_OK);
	mask = calloc(mask_words(trie), sizeof(*mask));
	assert(mask);
}

/* The first allowed token at or behind a place that the byte says; UINT32_MAX: none is. */
static uint32_t choose(uint8_t byte)
{
	uint32_t start = byte * trie->vocab_size / 256;
	for (uint32_t i = 0; i < trie->vocab_size; i++) {
		uint32_t id = (start + i) % trie->vocab_size;
		if (mask[id / 64] >> id % 64 & 1)
			return id;
	}
	return UINT32_MAX;
}

static void walk(const struct grammar *grammar, struct mask_cache *cache, const uint8_t *choices, size_t count)
{
	matcher_begin(&matcher, grammar);
	for (size_t i = 0; i <= count; i++) {
		enum err e = mask_fill(maker, cache, &matcher, mask);
		assert(e == ERR_OK);
		uint32_t id = choose(i < count ? choices[i] : 0);
		assert(id != UINT32_MAX || matcher_accepts(&matcher));
		if (id == UINT32_MAX)
			return;
		const uint8_t *bytes;
		uint8_t spelling[TOKEN_SPELLING];
		size_t length;
		e = token_trie_bytes(tokenizer, id, spelling, &bytes, &length);
		assert(e == ERR_OK && length > 0);
		bool read = matcher_read(&matcher, bytes, length);
		assert(read);
		(void)read;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	if (!tokenizer)
		make_world();
	const struct structure_tokens tokens = {tokenizer, trie};
	const uint8_t *end = memchr(data, 0, length);
	size_t text = end ? (size_t)(end - data) : length;
	struct grammar *grammar;
	struct mask_cache *cache;
	if (structure_compile((const char *)data, text, &tokens, NULL, &grammar) != ERR_OK)
		return 0;
	assert(grammar->steps <= GRAMMAR_STEPS_MAX && grammar->node_count <= GRAMMAR_NODES_MAX);
	enum err e = mask_cache_create(grammar, &cache);
	assert(e == ERR_OK);
	size_t count = length - text > 24 ? 24 : length - text;
	walk(grammar, cache, data + text, count);
	mask_cache_destroy(cache);
	grammar_destroy(grammar);
	return 0;
}
