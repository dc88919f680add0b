/* tool_encode - the tokenizer as a filter, for tests/golden/tokenizer/compare.py.
 *
 * tool_encode TOKENIZER.JSON [plain] < texts: each text is a 4-byte little-endian length and its bytes.
 * Writes per text a 4-byte count and the ids as 4 bytes each, then a 4-byte length and the text that
 * the streaming detokenizer makes of them.
 * tool_encode TOKENIZER.JSON decode < ids: each list is a 4-byte count and the ids.  Writes per list the
 * text with special tokens, and the text without. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/detokenize.h"
#include "model/tokenizer.h"

static void put(const void *data, size_t length)
{
	uint32_t count = (uint32_t)length;
	fwrite(&count, 4, 1, stdout);
	(void)!fwrite(data, 1, length, stdout);
}

static enum err put_decoded(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count, bool skip)
{
	struct buf decoded = {0};
	struct detokenizer d;
	enum err e = ERR_OK;
	detokenizer_init(&d, tokenizer, skip);
	for (size_t i = 0; e == ERR_OK && i < count; i++)
		e = detokenizer_feed(&d, ids[i], &decoded);
	if (e == ERR_OK)
		e = detokenizer_finish(&d, &decoded);
	detokenizer_fini(&d);
	put(decoded.data ? decoded.data : "", decoded.length);
	buf_fini(&decoded);
	return e;
}

static enum err encode(const struct tokenizer *tokenizer, bool plain, const char *text, uint32_t length)
{
	struct tokens tokens = {0};
	struct tokenizer_encode_options options = {!plain, !plain};
	enum err e = tokenizer_encode(tokenizer, text, length, &options, &tokens);
	uint32_t count = (uint32_t)tokens.count;
	fwrite(&count, 4, 1, stdout);
	if (count)
		fwrite(tokens.ids, 4, count, stdout);
	if (e == ERR_OK)
		e = put_decoded(tokenizer, tokens.ids, tokens.count, false);
	tokens_fini(&tokens);
	return e;
}

static enum err decode(const struct tokenizer *tokenizer, const uint32_t *ids, uint32_t count)
{
	enum err e = put_decoded(tokenizer, ids, count, false);
	return e == ERR_OK ? put_decoded(tokenizer, ids, count, true) : e;
}

static enum err answer(const struct tokenizer *tokenizer, const char *mode, uint32_t length)
{
	bool decodes = strcmp(mode, "decode") == 0;
	size_t unit = decodes ? 4 : 1;
	char *data = malloc(length * unit + 1);
	enum err e = data && fread(data, unit, length, stdin) == length ? ERR_OK : ERR_IO;
	if (e == ERR_OK)
		e = decodes ? decode(tokenizer, (const uint32_t *)data, length)
			    : encode(tokenizer, strcmp(mode, "plain") == 0, data, length);
	free(data);
	return e;
}

int main(int argc, char **argv)
{
	struct why why = {0};
	struct tokenizer *tokenizer = NULL;
	if (argc < 2 || tokenizer_load(argv[1], &why, &tokenizer) != ERR_OK) {
		fprintf(stderr, "%s\n", argc < 2 ? "usage: tool_encode TOKENIZER.JSON [plain|decode]" : why.text);
		return 1;
	}
	uint32_t length;
	enum err e = ERR_OK;
	while (e == ERR_OK && fread(&length, 4, 1, stdin) == 1)
		e = answer(tokenizer, argc > 2 ? argv[2] : "", length);
	tokenizer_destroy(tokenizer);
	if (e != ERR_OK)
		fprintf(stderr, "tool_encode: %s\n", err_text(e));
	return e == ERR_OK ? 0 : 1;
}
