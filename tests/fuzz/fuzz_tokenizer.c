/* Any bytes as tokenizer.json; one that loads encodes a little text of many kinds, and spells that and all of its ids. */
#include <stdlib.h>
#include <string.h>

#include "model/detokenize.h"
#include "model/utf8.h"

static const char text[] = "ab 12 \xc3\xa9  the\tA\xcc\x8a \xef\xac\x81 \xe2\x96\x81\xe6\x97\xa5<s>\r\n\xf0\x9f\x98\x80 <0x41>it's  ";

static void spell(const struct tokenizer *tokenizer, const struct tokens *tokens)
{
	struct buf out = {.limit = 1 << 20};
	struct detokenizer detokenizer;
	detokenizer_init(&detokenizer, tokenizer, false);
	enum err e = ERR_OK;
	for (size_t i = 0; i < tokens->count && e == ERR_OK; i++)
		e = detokenizer_feed(&detokenizer, tokens->ids[i], &out);
	for (uint32_t id = 0; id < tokenizer_vocab_size(tokenizer) && id < 2000 && e == ERR_OK; id++)
		e = detokenizer_feed(&detokenizer, id, &out);
	if (e == ERR_OK)
		e = detokenizer_finish(&detokenizer, &out);
	if (out.length && !utf8_is_valid(out.data, out.length))
		abort();
	detokenizer_fini(&detokenizer);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct why why;
	struct tokenizer *tokenizer;
	if (length > 1 << 16 || tokenizer_parse((const char *)data, length, &why, &tokenizer) != ERR_OK)
		return 0;
	struct tokens tokens = {0};
	struct tokenizer_encode_options options = {.add_special_tokens = true, .parse_special = true};
	enum err e = tokenizer_encode(tokenizer, text, sizeof(text) - 1, &options, &tokens);
	(void)e;
	spell(tokenizer, &tokens);
	tokens_fini(&tokens);
	tokenizer_destroy(tokenizer);
	return 0;
}
