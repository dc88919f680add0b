/* tool_structure - the structures of answers as a filter, for tests/golden/structure/make.py and random.py.
 *
 * tool_structure TOKENIZER.JSON < lines: {"structure": …, "texts": [text, …]} or {"structure": …, "walks": N, "seed": S}.
 * A line for each: {"error": why}, or the grammar's size and
 *   of each text, [bytes that some whole text begins with, whether it is whole];
 *   or the texts of N walks that take any allowed token until the text may end; each mask is compared with reading. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/rng.h"
#include "model/mask.h"
#include "model/structure.h"
#include "model/tokenizer.h"

enum { WALK_TOKENS_MAX = 400 };

struct tool {
	struct tokenizer *tokenizer;
	struct token_trie *trie;
	struct matcher matcher, other;
	struct mask_maker *maker;
	uint64_t *mask;
	struct rng rng;
	double longest_s;
};

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static json_t *judge(struct tool *tool, const struct grammar *grammar, const json_t *text)
{
	const char *bytes = json_string_value(text);
	size_t length = json_string_length(text), at = 0;
	matcher_begin(&tool->matcher, grammar);
	while (at < length && matcher_read(&tool->matcher, (const uint8_t *)bytes + at, 1))
		at++;
	return json_pack("[I,b]", (json_int_t)at, at == length && matcher_accepts(&tool->matcher));
}

static bool allowed(const struct tool *tool, uint32_t id)
{
	return tool->mask[id / 64] >> id % 64 & 1;
}

/* Of one id: does reading its bytes say what the mask says? */
static bool agrees(struct tool *tool, const struct grammar *grammar, const struct matcher_state *state, uint32_t id)
{
	const uint8_t *bytes;
	size_t length;
	uint8_t mark[TOKEN_SPELLING];
	if (token_trie_bytes(tool->tokenizer, id, mark, &bytes, &length) != ERR_OK || length == 0 || length > TOKEN_BYTES_MAX)
		return !allowed(tool, id);
	matcher_load(&tool->other, grammar, state);
	return matcher_read(&tool->other, bytes, length) == allowed(tool, id);
}

static uint32_t pick(struct tool *tool)
{
	static const char *const closers[] = {"\"", "}", "]", "\"}", "\",", "\"]"};
	uint32_t id, vocab = tool->trie->vocab_size;
	for (size_t i = 0; rng_below(&tool->rng, 5) < 2 && i < sizeof(closers) / sizeof(closers[0]); i++)
		if (tokenizer_find(tool->tokenizer, closers[i], &id) == ERR_OK && allowed(tool, id))
			return id;
	uint32_t start = (uint32_t)rng_below(&tool->rng, vocab);
	for (uint32_t i = 0; i < vocab; i++)
		if (allowed(tool, (start + i) % vocab))
			return (start + i) % vocab;
	return UINT32_MAX;
}

/* NULL: something does not agree, and was said. */
static json_t *walk(struct tool *tool, const struct grammar *grammar, struct mask_cache *cache)
{
	struct matcher *m = &tool->matcher;
	struct matcher_state state = {0};
	struct buf text = {0};
	json_t *result = NULL;
	matcher_begin(m, grammar);
	for (int i = 0;; i++) {
		double start = seconds();
		if (mask_fill(tool->maker, cache, m, tool->mask) != ERR_OK || matcher_save(m, &state) != ERR_OK)
			goto done;
		double took = seconds() - start;
		tool->longest_s = took > tool->longest_s ? took : tool->longest_s;
		for (uint32_t id = i < 3 ? 0 : (uint32_t)rng_below(&tool->rng, 97); id < tool->trie->vocab_size; id += i < 3 ? 1 : 97)
			if (!agrees(tool, grammar, &state, id)) {
				result = json_pack("{s:i,s:o}", "disagrees", (int)id, "text", json_stringn_nocheck(text.data, text.length));
				goto done;
			}
		bool whole = matcher_accepts(m);
		uint32_t id = pick(tool);
		if (i == WALK_TOKENS_MAX || (whole && (id == UINT32_MAX || rng_below(&tool->rng, 3) == 0))) {
			result = whole ? json_stringn_nocheck(text.data ? text.data : "", text.length) : json_null();
			break;
		}
		const uint8_t *bytes;
		size_t length;
		if (id == UINT32_MAX || tokenizer_token_bytes(tool->tokenizer, id, &bytes, &length) != ERR_OK ||
		    !matcher_read(m, bytes, length) || buf_append(&text, bytes, length) != ERR_OK) {
			result = json_pack("{s:s,s:o}", "dead end", "", "text", json_stringn_nocheck(text.data, text.length));
			break;
		}
	}
done:
	matcher_state_fini(&state);
	buf_fini(&text);
	return result ? result : json_null();
}

static json_t *walks(struct tool *tool, const struct grammar *grammar, const json_t *request)
{
	struct mask_cache *cache;
	json_t *results = json_array();
	if (mask_cache_create(grammar, &cache) != ERR_OK)
		return results;
	tool->rng = (struct rng){.seed = (uint64_t)json_integer_value(json_object_get(request, "seed"))};
	for (json_int_t i = json_integer_value(json_object_get(request, "walks")); i > 0; i--)
		json_array_append_new(results, walk(tool, grammar, cache));
	mask_cache_destroy(cache);
	return results;
}

static json_t *answer(struct tool *tool, const json_t *request)
{
	struct structure_tokens tokens = {tool->tokenizer, tool->trie};
	struct why why = {0};
	struct grammar *grammar;
	char *structure = json_dumps(json_object_get(request, "structure"), JSON_ENCODE_ANY);
	double start = seconds();
	enum err e = structure_compile(structure, strlen(structure), &tokens, &why, &grammar);
	double took = seconds() - start;
	free(structure);
	if (e != ERR_OK)
		return json_pack("{s:s,s:f}", "error", why.text, "seconds", took);
	json_t *results = json_array();
	const json_t *texts = json_object_get(request, "texts");
	for (size_t i = 0; i < json_array_size(texts); i++)
		json_array_append_new(results, judge(tool, grammar, json_array_get(texts, i)));
	json_t *said = json_pack("{s:I,s:i,s:f,s:o,s:o}", "steps", (json_int_t)grammar->steps, "nodes", (int)grammar->node_count,
				 "seconds", took, "texts", results, "walks", walks(tool, grammar, request));
	json_object_set_new(said, "longest", json_real(tool->longest_s));
	grammar_destroy(grammar);
	return said;
}

int main(int argc, char **argv)
{
	static struct tool tool;
	static char line[1 << 20];
	struct why why = {0};
	if (argc < 2 || tokenizer_load(argv[1], &why, &tool.tokenizer) != ERR_OK ||
	    token_trie_create(tool.tokenizer, &tool.trie) != ERR_OK || mask_maker_create(tool.trie, &tool.maker) != ERR_OK) {
		fprintf(stderr, "%s\n", argc < 2 ? "usage: tool_structure TOKENIZER.JSON" : why.text);
		return 1;
	}
	tool.mask = calloc(mask_words(tool.trie), sizeof(*tool.mask));
	while (tool.mask && fgets(line, sizeof(line), stdin)) {
		json_error_t error;
		json_t *request = json_loads(line, 0, &error);
		json_t *said = request ? answer(&tool, request) : json_pack("{s:s}", "error", error.text);
		json_dumpf(said, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
		json_decref(said);
		json_decref(request);
	}
	free(tool.mask);
	mask_maker_destroy(tool.maker);
	token_trie_destroy(tool.trie);
	tokenizer_destroy(tool.tokenizer);
	return 0;
}
