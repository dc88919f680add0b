/* Any bytes as tokenizer.json; one that loads encodes a little text. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct why why;
	struct tokenizer *tokenizer;
	if (length > 1 << 16 || tokenizer_parse((const char *)data, length, &why, &tokenizer) != ERR_OK)
		return 0;
	struct tokens tokens = {0};
	struct tokenizer_encode_options options = {.add_special_tokens = true, .parse_special = true};
	enum err e = tokenizer_encode(tokenizer, "ab 12 \xc3\xa9", strlen("ab 12 \xc3\xa9"), &options, &tokens);
	(void)e;
	tokens_fini(&tokens);
	tokenizer_destroy(tokenizer);
	return 0;
}
