/* tool_encode - the tokenizer as a filter, for tests/golden/tokenizer/compare.py.
 *
 * tool_encode TOKENIZER.JSON [plain] < texts: each text is a 4-byte little-endian length and its bytes.
 * Writes per text a 4-byte count and the ids as 4 bytes each, then a 4-byte length and the text that
 * the streaming detokenizer makes of them. */
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

static enum err answer(const struct tokenizer *tokenizer, const struct tokenizer_encode_options *options,
		       const char *text, uint32_t length)
{
	struct tokens tokens = {0};
	struct buf decoded = {0};
	enum err e = tokenizer_encode(tokenizer, text, length, options, &tokens);
	struct detokenizer d;
	detokenizer_init(&d, tokenizer, false);
	for (size_t i = 0; e == ERR_OK && i < tokens.count; i++)
		e = detokenizer_feed(&d, tokens.ids[i], &decoded);
	if (e == ERR_OK)
		e = detokenizer_finish(&d, &decoded);
	detokenizer_fini(&d);
	uint32_t count = (uint32_t)tokens.count;
	fwrite(&count, 4, 1, stdout);
	if (count)
		fwrite(tokens.ids, 4, count, stdout);
	put(decoded.data ? decoded.data : "", decoded.length);
	buf_fini(&decoded);
	tokens_fini(&tokens);
	return e;
}

int main(int argc, char **argv)
{
	struct why why = {0};
	struct tokenizer *tokenizer = NULL;
	if (argc < 2 || tokenizer_load(argv[1], &why, &tokenizer) != ERR_OK) {
		fprintf(stderr, "%s\n", argc < 2 ? "usage: tool_encode TOKENIZER.JSON [plain]" : why.text);
		return 1;
	}
	bool plain = argc > 2 && strcmp(argv[2], "plain") == 0;
	struct tokenizer_encode_options options = {!plain, !plain};
	uint32_t length;
	enum err e = ERR_OK;
	while (e == ERR_OK && fread(&length, 4, 1, stdin) == 1) {
		char *text = malloc(length + 1u);
		e = text && fread(text, 1, length, stdin) == length ? ERR_OK : ERR_IO;
		if (e == ERR_OK)
			e = answer(tokenizer, &options, text, length);
		free(text);
	}
	tokenizer_destroy(tokenizer);
	if (e != ERR_OK)
		fprintf(stderr, "tool_encode: %s\n", err_text(e));
	return e == ERR_OK ? 0 : 1;
}
