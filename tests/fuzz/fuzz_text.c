/* Any ids as a stream to be spelled: the pieces are always UTF-8, and together what all ids at once give.  And any bytes
 * as a text: tokens and back is the text as a reader of UTF-8 sees it. */
#include <stdlib.h>
#include <string.h>

#include "model/detokenize.h"
#include "model/utf8.h"

static struct tokenizer *tokenizer; /* loaded once */

static void check(enum err e)
{
	if (e != ERR_OK)
		abort();
}

static void spell(const uint8_t *data, size_t length)
{
	uint32_t size = tokenizer_vocab_size(tokenizer);
	struct tokens ids = {0};
	struct buf whole = {0}, pieces = {0};
	struct detokenizer detokenizer;
	for (size_t i = 0; i + 1 < length; i += 2)
		check(tokens_add(&ids, (uint32_t)(data[i] << 8 | data[i + 1]) % (size + 3)));
	detokenizer_init(&detokenizer, tokenizer, length & 1);
	for (size_t i = 0; i < ids.count; i++) {
		size_t from = pieces.length;
		check(detokenizer_feed(&detokenizer, ids.ids[i], &pieces));
		if (pieces.length > from && !utf8_is_valid(pieces.data + from, pieces.length - from))
			abort();
	}
	check(detokenizer_finish(&detokenizer, &pieces));
	detokenizer_fini(&detokenizer);
	check(detokenize(tokenizer, ids.ids, ids.count, length & 1, &whole));
	if (whole.length != pieces.length || (whole.length && memcmp(whole.data, pieces.data, whole.length) != 0))
		abort();
	tokens_fini(&ids);
	buf_fini(&whole);
	buf_fini(&pieces);
}

static void there_and_back(const uint8_t *data, size_t length)
{
	static const struct tokenizer_encode_options plain = {0};
	struct tokens ids = {0};
	struct buf text = {0};
	enum err e = tokenizer_encode(tokenizer, (const char *)data, length, &plain, &ids);
	if (e == ERR_OK)
		check(detokenize(tokenizer, ids.ids, ids.count, false, &text));
	if (e == ERR_OK && utf8_is_valid((const char *)data, length) &&
	    (text.length != length || (length && memcmp(text.data, data, length) != 0)))
		abort();
	tokens_fini(&ids);
	buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct why why;
	if (!tokenizer)
		check(tokenizer_load(TOKENIZER, &why, &tokenizer));
	spell(data, length);
	there_and_back(data, length);
	return 0;
}
