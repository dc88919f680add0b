/* Any ids as a stream to be spelled: the pieces are always UTF-8, and together what all ids at once give.  And any bytes
 * as a text: tokens and back is the text as a reader of UTF-8 sees it, where the kind of tokenizer loses nothing. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "model/detokenize.h"
#include "model/utf8.h"

static struct {
	const char *file;
	bool lossless;
	struct tokenizer *tokenizer; /* loaded once */
} kinds[] = {
	{GOLDEN_DIR "/tokenizer/gpt2.json", true, NULL},	  {GOLDEN_DIR "/tokenizer/gemma.json", true, NULL},
	{GOLDEN_DIR "/tokenizer/deepseek_v2.json", true, NULL}, {GOLDEN_DIR "/tokenizer/llama2.json", true, NULL},
	{GOLDEN_DIR "/tokenizer/mistral_v3.json", false, NULL}, {GOLDEN_DIR "/tokenizer/words.json", false, NULL},
	{GOLDEN_DIR "/tokenizer/t5.json", false, NULL},	  {GOLDEN_DIR "/tokenizer/unigram_bytes.json", false, NULL},
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static void check(enum err e)
{
	if (e != ERR_OK)
		abort();
}

static void spell(const struct tokenizer *tokenizer, const uint8_t *data, size_t length)
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

/* U+2581 stands for a space in some kinds, so that it comes back as one; two tokens take spaces beside them. */
static bool comes_back(const uint8_t *data, size_t length)
{
	static const char *const lossy[] = {"\xe2\x96\x81", "<left>", "<right>"};
	bool back = utf8_is_valid((const char *)data, length);
	for (size_t i = 0; i < sizeof(lossy) / sizeof(lossy[0]) && back; i++)
		back = !memmem(data, length, lossy[i], strlen(lossy[i]));
	return back;
}

static void there_and_back(size_t kind, const uint8_t *data, size_t length)
{
	static const struct tokenizer_encode_options plain = {0};
	struct tokens ids = {0};
	struct buf text = {0};
	check(tokenizer_encode(kinds[kind].tokenizer, (const char *)data, length, &plain, &ids));
	check(detokenize(kinds[kind].tokenizer, ids.ids, ids.count, false, &text));
	if (kinds[kind].lossless && comes_back(data, length) &&
	    (text.length != length || (length && memcmp(text.data, data, length) != 0)))
		abort();
	tokens_fini(&ids);
	buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct why why;
	size_t kind = length ? data[0] % KIND_COUNT : 0;
	if (!kinds[kind].tokenizer)
		check(tokenizer_load(kinds[kind].file, &why, &kinds[kind].tokenizer));
	if (length == 0)
		return 0;
	spell(kinds[kind].tokenizer, data + 1, length - 1);
	there_and_back(kind, data + 1, length - 1);
	return 0;
}
